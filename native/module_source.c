/* Python: the source folder, and the table of functions for zipfs._fuse. */
#include <errno.h>
#include <stdlib.h>

#include "api.h"
#include "module.h"

/* (dev, ino, mode, nlink, uid, gid, size, blocks, blksize, atime_ns, mtime_ns, ctime_ns) */
static PyObject *stat_tuple(const struct stat *st, uint64_t size, uint64_t num_blocks, uint64_t block_size) {
#define NS(time) ((long long)(time).tv_sec * 1000000000 + (time).tv_nsec)
    return Py_BuildValue("(KKIKIIKKKLLL)", (unsigned long long)st->st_dev, (unsigned long long)st->st_ino,
                         (unsigned)st->st_mode, (unsigned long long)st->st_nlink, (unsigned)st->st_uid,
                         (unsigned)st->st_gid, (unsigned long long)size, (unsigned long long)num_blocks,
                         (unsigned long long)block_size, NS(st->st_atim), NS(st->st_mtim), NS(st->st_ctim));
#undef NS
}

/* (of the source, as shown, is_container) */
static PyObject *found_tuple(const struct zipfs_found *found) {
    const struct stat *st = &found->st;
    return Py_BuildValue(
        "(NNN)", stat_tuple(st, (uint64_t)st->st_size, (uint64_t)st->st_blocks, (uint64_t)st->st_blksize),
        stat_tuple(st, found->size, found->num_blocks, found->block_size), PyBool_FromLong(found->is_container));
}

static PyObject *raise_errno(int error, const char *path) {
    errno = error;
    return PyErr_SetFromErrnoWithFilename(PyExc_OSError, path);
}

static PyObject *py_open_beneath(PyObject *module, PyObject *args) {
    (void)module;
    int dir_fd, flags, fd;
    const char *path;
    if (!PyArg_ParseTuple(args, "iyi:open_beneath", &dir_fd, &path, &flags))
        return NULL;
    WITHOUT_GIL(fd = zipfs_open_beneath(dir_fd, path, flags));
    return fd >= 0 ? PyLong_FromLong(fd) : raise_errno(-fd, path);
}

/* ---- Headers ---- */

typedef struct {
    PyObject_HEAD
    struct zipfs_headers *headers;
} HeadersObject;

static int headers_init(HeadersObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, ":Headers", names))
        return -1;
    enum zipfs_status status = self->headers ? ZIPFS_BAD_ARGUMENT : zipfs_headers_create(&self->headers);
    if (status != ZIPFS_OK)
        zipfs_raise(status, "Headers");
    return status == ZIPFS_OK ? 0 : -1;
}

static void headers_dealloc(HeadersObject *self) {
    zipfs_headers_free(self->headers);
    zipfs_free_object((PyObject *)self);
}

static PyObject *headers_find(HeadersObject *self, PyObject *args) {
    int dir_fd, error;
    const char *path, *suffix;
    struct zipfs_found found;
    if (!PyArg_ParseTuple(args, "iyy:find", &dir_fd, &path, &suffix))
        return NULL;
    if (!self->headers)
        return zipfs_raise(ZIPFS_BAD_ARGUMENT, "Headers");
    WITHOUT_GIL(error = zipfs_find_beneath(self->headers, dir_fd, path, suffix, &found));
    return error ? raise_errno(-error, path) : found_tuple(&found);
}

static void free_scan(PyObject *capsule) {
    struct zipfs_scan *scan = PyCapsule_GetPointer(capsule, ZIPFS_SCAN_CAPSULE);
    zipfs_scan_free(scan);
    free(scan);
}

/* hidden NULL: what is there, not what is shown. */
static int scan_folder(struct zipfs_headers *headers, int dir_fd, const char *path, const char *suffix,
                       const char *hidden, struct zipfs_scan *scan) {
    int error = zipfs_scan_beneath(headers, dir_fd, path, suffix, scan);
    if (error || !hidden)
        return error;
    error = zipfs_scan_show(scan, suffix, hidden);
    if (error)
        zipfs_scan_free(scan);
    return error;
}

static PyObject *headers_scan(HeadersObject *self, PyObject *args) {
    int dir_fd, error;
    const char *path, *suffix, *hidden = NULL;
    if (!PyArg_ParseTuple(args, "iyy|y:scan", &dir_fd, &path, &suffix, &hidden))
        return NULL;
    if (!self->headers)
        return zipfs_raise(ZIPFS_BAD_ARGUMENT, "Headers");
    struct zipfs_scan *scan = calloc(1, sizeof *scan);
    if (!scan)
        return PyErr_NoMemory();
    WITHOUT_GIL(error = scan_folder(self->headers, dir_fd, path, suffix, hidden, scan));
    if (error) {
        free(scan);
        return raise_errno(-error, path);
    }
    PyObject *capsule = PyCapsule_New(scan, ZIPFS_SCAN_CAPSULE, free_scan);
    if (!capsule) {
        zipfs_scan_free(scan);
        free(scan);
    }
    return capsule;
}

static PyObject *py_entries(PyObject *module, PyObject *capsule) {
    (void)module;
    const struct zipfs_scan *scan = PyCapsule_GetPointer(capsule, ZIPFS_SCAN_CAPSULE);
    PyObject *list = scan ? PyList_New(scan->num_entries) : NULL;
    for (size_t i = 0; list && i < scan->num_entries; i++) {
        const struct zipfs_found *found = &scan->entries[i];
        PyObject *item = Py_BuildValue("(yN)", scan->names + found->name_offset, found_tuple(found));
        if (!item || PyList_SetItem(list, i, item) < 0)
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *headers_get_num_reads(HeadersObject *self, void *unused) {
    (void)unused;
    return PyLong_FromUnsignedLongLong(self->headers ? zipfs_headers_num_reads(self->headers) : 0);
}

static PyMethodDef headers_methods[] = {
    {"find", (PyCFunction)headers_find, METH_VARARGS, "What is at a path."},
    {"scan", (PyCFunction)headers_scan, METH_VARARGS, "What a folder holds."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef headers_getset[] = {
    {"num_reads", (getter)headers_get_num_reads, NULL, "Files whose header was read so far.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot headers_slots[] = {
    {Py_tp_doc, "What the source holds, and which of it are containers."},
    {Py_tp_init, headers_init},
    {Py_tp_dealloc, headers_dealloc},
    {Py_tp_methods, headers_methods},
    {Py_tp_getset, headers_getset},
    {0, NULL},
};

static PyType_Spec headers_spec = {"zipfs._native.Headers", sizeof(HeadersObject), 0, Py_TPFLAGS_DEFAULT,
                                   headers_slots};

/* ---- the module ---- */

static PyMethodDef functions[] = {
    {"open_beneath", py_open_beneath, METH_VARARGS, "openat2 beneath dir_fd without symlinks."},
    {"entries", py_entries, METH_O, "What a scan found."},
    {NULL, NULL, 0, NULL},
};

int zipfs_add_source(PyObject *module) {
    PyObject *capsule = PyCapsule_New((void *)&zipfs_api, ZIPFS_API_CAPSULE, NULL);
    int result = capsule ? PyModule_AddObjectRef(module, "api", capsule) : -1;
    Py_XDECREF(capsule);
    if (result < 0 || zipfs_add_type(module, &headers_spec, NULL) < 0)
        return -1;
    return PyModule_AddFunctions(module, functions);
}
