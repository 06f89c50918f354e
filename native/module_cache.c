/* Python: Cache, File and release. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "module.h"

#define HUGE_PAGE ((uintptr_t)2 << 20)

/* ---- Cache ---- */

typedef struct {
    PyObject_HEAD
    struct zipfs_cache *cache;
} CacheObject;

static PyTypeObject *cache_type;

static int cache_init(CacheObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"budget", "jobs", "ahead_size", "drop_source", NULL};
    struct zipfs_cache_options options = {.jobs = 0};
    uint64_t budget, ahead_size = 0;
    int drop_source = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&|I$O&p:Cache", names, zipfs_as_u64, &budget, &options.jobs,
                                     zipfs_as_u64, &ahead_size, &drop_source))
        return -1;
    options.budget = budget;
    options.ahead_max = ahead_size;
    options.drop_source = drop_source;
    enum zipfs_status status = self->cache ? ZIPFS_BAD_ARGUMENT : zipfs_cache_create(&options, &self->cache);
    if (status != ZIPFS_OK)
        zipfs_raise(status, "Cache");
    return status == ZIPFS_OK ? 0 : -1;
}

static void cache_dealloc(CacheObject *self) {
    zipfs_cache_free(self->cache);
    zipfs_free_object((PyObject *)self);
}

/* Whether there is a cache; ValueError when there is none. */
static bool has_cache(CacheObject *self) {
    if (!self->cache)
        zipfs_raise(ZIPFS_BAD_ARGUMENT, "Cache");
    return self->cache;
}

static bool set_count(PyObject *dict, const char *name, uint64_t count) {
    PyObject *value = PyLong_FromUnsignedLongLong(count);
    bool is_set = value && PyDict_SetItemString(dict, name, value) == 0;
    Py_XDECREF(value);
    return is_set;
}

#define SET(name) is_set = is_set && set_count(dict, #name, stats.name);

static PyObject *cache_stats(CacheObject *self, PyObject *unused) {
    (void)unused;
    struct zipfs_stats stats;
    if (!has_cache(self))
        return NULL;
    zipfs_cache_stats(self->cache, &stats);
    PyObject *dict = PyDict_New();
    bool is_set = dict;
    ZIPFS_FILE_COUNTERS(SET)
    ZIPFS_CACHE_COUNTERS(SET)
    if (!is_set)
        Py_CLEAR(dict);
    return dict;
}

static PyObject *cache_report(CacheObject *self, PyObject *unused) {
    (void)unused;
    char *text;
    if (!has_cache(self))
        return NULL;
    enum zipfs_status status = zipfs_cache_report(self->cache, &text);
    if (status != ZIPFS_OK)
        return zipfs_raise(status, "Cache");
    PyObject *bytes = PyBytes_FromString(text);
    free(text);
    return bytes;
}

static PyObject *cache_trim(CacheObject *self, PyObject *unused) {
    (void)unused;
    if (!has_cache(self))
        return NULL;
    WITHOUT_GIL(zipfs_cache_trim(self->cache));
    Py_RETURN_NONE;
}

static PyMethodDef cache_methods[] = {
    {"stats", (PyCFunction)cache_stats, METH_NOARGS, "Counters by name."},
    {"report", (PyCFunction)cache_report, METH_NOARGS, "Settings, counters and files as JSON."},
    {"trim", (PyCFunction)cache_trim, METH_NOARGS, "Gives back memory that is held for later."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot cache_slots[] = {
    {Py_tp_doc, "Decoded chunks, LRU by bytes, for Files."},
    {Py_tp_init, cache_init},
    {Py_tp_dealloc, cache_dealloc},
    {Py_tp_methods, cache_methods},
    {0, NULL},
};

static PyType_Spec cache_spec = {"zipfs._native.Cache", sizeof(CacheObject), 0, Py_TPFLAGS_DEFAULT, cache_slots};

/* ---- File ---- */

typedef struct {
    PyObject_HEAD
    struct zipfs_file *file; /* NULL: closed */
    PyObject *header;
    unsigned long long size;
} FileObject;

static int file_init(FileObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"cache", "fd", "name", "plain", NULL};
    CacheObject *cache;
    int fd, plain = 0;
    PyObject *name;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!iO&|p:File", names, cache_type, &cache, &fd,
                                     PyUnicode_FSConverter, &name, &plain))
        return -1;
    enum zipfs_status status = ZIPFS_BAD_ARGUMENT;
    const char *text = PyBytes_AsString(name);
    if (!self->header && !self->file && cache->cache) /* never opened before, nor closed */
        WITHOUT_GIL(status = zipfs_file_open(cache->cache, fd, text, plain, &self->file));
    Py_DECREF(name);
    if (status != ZIPFS_OK) {
        zipfs_raise(status, "container");
        return -1;
    }
    const struct zipfs_header *header = zipfs_file_header(self->file);
    self->size = zipfs_file_size(self->file);
    self->header = header ? zipfs_header_dict(header) : Py_NewRef(Py_None);
    return self->header ? 0 : -1;
}

/* A reference for the time without the GIL, so that another thread may close; NULL with ValueError when closed. */
static struct zipfs_file *file_begin(FileObject *self) {
    if (!self->file)
        PyErr_SetString(PyExc_ValueError, "the File is closed");
    else
        zipfs_file_ref(self->file);
    return self->file;
}

static PyObject *raise_errno(ssize_t error) {
    errno = (int)-error;
    return PyErr_SetFromErrno(PyExc_OSError);
}

static ssize_t pread_and_unref(struct zipfs_file *file, void *dst, size_t size, uint64_t offset) {
    ssize_t got;
    WITHOUT_GIL(got = zipfs_file_pread(file, dst, size, offset); zipfs_file_unref(file));
    return got;
}

/* New memory of large results in huge pages, where it holds whole ones: faulting in small ones takes longer than
 * decoding (64 MiB of BF16, 2 cores: 6-7 GB/s instead of 2.9). Advice: what it says does not matter. */
static void advise_huge_pages(char *start, size_t size) {
    uintptr_t first = ((uintptr_t)start + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
    uintptr_t end = ((uintptr_t)start + size) & ~(HUGE_PAGE - 1);
    if (end > first)
        (void)madvise((void *)first, end - first, MADV_HUGEPAGE);
}

static PyObject *file_pread(FileObject *self, PyObject *args) {
    Py_ssize_t size;
    uint64_t offset;
    if (!PyArg_ParseTuple(args, "nO&:pread", &size, zipfs_as_u64, &offset))
        return NULL;
    if (size < 0)
        return PyErr_Format(PyExc_ValueError, "size is negative");
    if (self->header && self->header != Py_None) { /* never allocate more than a container can give */
        uint64_t rest = offset < self->size ? self->size - offset : 0;
        size = (uint64_t)size < rest ? size : (Py_ssize_t)rest;
    }
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, size);
    struct zipfs_file *file = bytes ? file_begin(self) : NULL;
    if (!file) {
        Py_XDECREF(bytes);
        return NULL;
    }
    advise_huge_pages(PyBytes_AsString(bytes), size);
    ssize_t got = pread_and_unref(file, PyBytes_AsString(bytes), size, offset);
    if (got == size)
        return bytes;
    PyObject *result = got < 0 ? raise_errno(got) : PyBytes_FromStringAndSize(PyBytes_AsString(bytes), got);
    Py_DECREF(bytes);
    return result;
}

static PyObject *file_pread_into(FileObject *self, PyObject *args) {
    Py_buffer dst;
    uint64_t offset;
    if (!PyArg_ParseTuple(args, "w*O&:pread_into", &dst, zipfs_as_u64, &offset))
        return NULL;
    struct zipfs_file *file = file_begin(self);
    ssize_t got = file ? pread_and_unref(file, dst.buf, dst.len, offset) : 0;
    PyBuffer_Release(&dst);
    if (!file)
        return NULL;
    return got < 0 ? raise_errno(got) : PyLong_FromSsize_t(got);
}

static PyObject *file_handle(FileObject *self, PyObject *unused) {
    (void)unused;
    struct zipfs_file *file = file_begin(self);
    return file ? PyLong_FromVoidPtr(file) : NULL;
}

static PyObject *file_stats(FileObject *self, PyObject *unused) {
    (void)unused;
    struct zipfs_file *file = file_begin(self);
    if (!file)
        return NULL;
    struct zipfs_file_stats stats;
    zipfs_file_stats(file, &stats);
    zipfs_file_unref(file);
    PyObject *dict = PyDict_New();
    bool is_set = dict;
    ZIPFS_FILE_COUNTERS(SET)
    if (!is_set)
        Py_CLEAR(dict);
    return dict;
}

static PyObject *file_get_num_reads(FileObject *self, void *unused) {
    (void)unused;
    return PyLong_FromUnsignedLongLong(self->file ? zipfs_file_num_reads(self->file) : 0);
}

static PyObject *file_close(FileObject *self, PyObject *unused) {
    (void)unused;
    struct zipfs_file *file = self->file;
    self->file = NULL;
    if (file)
        WITHOUT_GIL(zipfs_file_unref(file));
    Py_RETURN_NONE;
}

static void file_dealloc(FileObject *self) {
    if (self->file)
        zipfs_file_unref(self->file);
    Py_XDECREF(self->header);
    zipfs_free_object((PyObject *)self);
}

static PyMethodDef file_methods[] = {
    {"pread", (PyCFunction)file_pread, METH_VARARGS, "Up to size plain bytes at offset."},
    {"pread_into", (PyCFunction)file_pread_into, METH_VARARGS, "Fills dst from offset; returns the count."},
    {"handle", (PyCFunction)file_handle, METH_NOARGS, "Address for fuse_file_info.fh, with a reference."},
    {"stats", (PyCFunction)file_stats, METH_NOARGS, "Counters by name."},
    {"close", (PyCFunction)file_close, METH_NOARGS, "Gives the File's reference back; a second time does nothing."},
    {"__enter__", zipfs_return_self, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)file_close, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef file_members[] = {
    {"size", T_ULONGLONG, offsetof(FileObject, size), READONLY, "Plain size in bytes."},
    {"header", T_OBJECT_EX, offsetof(FileObject, header), READONLY, "Fields of the header; None for a plain file."},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef file_getset[] = {
    {"num_reads", (getter)file_get_num_reads, NULL, "Reads so far, also those through handles.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot file_slots[] = {
    {Py_tp_doc, "A container or another file, read through a Cache."},
    {Py_tp_init, file_init},
    {Py_tp_dealloc, file_dealloc},
    {Py_tp_methods, file_methods},
    {Py_tp_members, file_members},
    {Py_tp_getset, file_getset},
    {0, NULL},
};

static PyType_Spec file_spec = {"zipfs._native.File", sizeof(FileObject), 0, Py_TPFLAGS_DEFAULT, file_slots};

static PyObject *py_release(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *handle;
    if (!PyArg_ParseTuple(args, "O:release", &handle))
        return NULL;
    struct zipfs_file *file = PyLong_AsVoidPtr(handle);
    if (PyErr_Occurred())
        return NULL;
    if (!file)
        return PyErr_Format(PyExc_ValueError, "handle is 0");
    WITHOUT_GIL(zipfs_file_unref(file));
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"release", py_release, METH_VARARGS, "Gives back a reference made by File.handle()."},
    {NULL, NULL, 0, NULL},
};

int zipfs_add_cache(PyObject *module) {
    if (zipfs_add_type(module, &cache_spec, &cache_type) < 0 || zipfs_add_type(module, &file_spec, NULL) < 0)
        return -1;
    return PyModule_AddFunctions(module, functions);
}
