/* Python: header_parse, header_write and Reader. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#include "container.h"
#include "module.h"

/* ---- headers as dicts ---- */

PyObject *zipfs_header_dict(const struct zipfs_header *header) {
    PyObject *sha256 = header->has_sha256 ? PyBytes_FromStringAndSize((const char *)header->sha256, 32)
                                          : Py_NewRef(Py_None);
    if (!sha256)
        return NULL;
#define U64(name) #name, (unsigned long long)header->name
    return Py_BuildValue("{sK sK sK sK sK sK sK sK sK sK sK sK sK sK sN sN}", U64(plain_size), U64(container_size),
                         U64(num_chunks), U64(chunk_log2), U64(level), U64(zstd_version), U64(payloads_offset),
                         U64(payloads_size), U64(pages_offset), U64(pages_size), U64(root_offset), U64(root_size),
                         U64(segments_offset), U64(segments_size), "sha256", sha256,
                         "has_copies", PyBool_FromLong(header->has_copies));
#undef U64
}

/* Reads fields[name] into *value_ret; `fallback` NULL: the key must be there. */
static bool get_u64(PyObject *fields, const char *name, const uint64_t *fallback, uint64_t *value_ret) {
    PyObject *item = PyDict_GetItemString(fields, name); /* borrowed */
    if (item)
        return zipfs_as_u64(item, value_ret);
    if (!fallback)
        PyErr_SetString(PyExc_KeyError, name);
    else
        *value_ret = *fallback;
    return fallback;
}

static bool get_u32(PyObject *fields, const char *name, const uint64_t *fallback, uint32_t *value_ret) {
    uint64_t value;
    if (!get_u64(fields, name, fallback, &value))
        return false;
    if (value > UINT32_MAX) {
        PyErr_Format(PyExc_ValueError, "%s is too large", name);
        return false;
    }
    *value_ret = value;
    return true;
}

static bool get_sha256(PyObject *fields, struct zipfs_header *header) {
    PyObject *item = PyDict_GetItemString(fields, "sha256"); /* borrowed */
    header->has_sha256 = item && item != Py_None;
    if (!header->has_sha256)
        return true;
    char *digest;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(item, &digest, &size) < 0)
        return false;
    if (size != sizeof header->sha256) {
        PyErr_SetString(PyExc_ValueError, "sha256 must have 32 bytes");
        return false;
    }
    memcpy(header->sha256, digest, size);
    return true;
}

static PyObject *py_header_write(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *fields;
    if (!PyArg_ParseTuple(args, "O:header_write", &fields))
        return NULL;
    if (!PyDict_Check(fields))
        return PyErr_Format(PyExc_TypeError, "fields must be a dict");
    struct zipfs_header h = {0};
    const uint64_t none = 0, zstd_version = ZSTD_versionNumber();
    uint64_t has_copies;
    if (!get_u64(fields, "plain_size", NULL, &h.plain_size)
        || !get_u64(fields, "container_size", NULL, &h.container_size)
        || !get_u32(fields, "chunk_log2", NULL, &h.chunk_log2) || !get_u32(fields, "level", NULL, &h.level)
        || !get_u32(fields, "zstd_version", &zstd_version, &h.zstd_version)
        || !get_u64(fields, "payloads_offset", NULL, &h.payloads_offset)
        || !get_u64(fields, "payloads_size", NULL, &h.payloads_size)
        || !get_u64(fields, "pages_offset", NULL, &h.pages_offset)
        || !get_u64(fields, "pages_size", NULL, &h.pages_size) || !get_u64(fields, "root_offset", NULL, &h.root_offset)
        || !get_u64(fields, "root_size", NULL, &h.root_size)
        || !get_u64(fields, "segments_offset", &none, &h.segments_offset)
        || !get_u64(fields, "segments_size", &none, &h.segments_size)
        || !get_u64(fields, "has_copies", &none, &has_copies) || !get_sha256(fields, &h))
        return NULL;
    h.has_copies = has_copies != 0;
    uint8_t dst[ZIPFS_HEADER_SIZE];
    enum zipfs_status status = zipfs_header_write(&h, dst);
    return status == ZIPFS_OK ? PyBytes_FromStringAndSize((char *)dst, sizeof dst)
                              : zipfs_raise(status, "header_write");
}

static PyObject *py_header_parse(PyObject *module, PyObject *args) {
    (void)module;
    Py_buffer data;
    uint64_t file_size;
    if (!PyArg_ParseTuple(args, "y*O&:header_parse", &data, zipfs_as_u64, &file_size))
        return NULL;
    struct zipfs_header header;
    enum zipfs_status status = zipfs_header_parse(data.buf, data.len, file_size, &header);
    PyBuffer_Release(&data);
    return status == ZIPFS_OK ? zipfs_header_dict(&header) : zipfs_raise(status, "header");
}

/* ---- Reader ---- */

/* close() while another thread reads only marks: the last user frees. The GIL guards the fields. */
typedef struct {
    PyObject_HEAD
    struct zipfs_reader *reader;
    PyObject *header;
    unsigned users;
    bool closed;
} ReaderObject;

static int reader_init(ReaderObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"fd", NULL};
    int fd;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "i:Reader", names, &fd))
        return -1;
    if (self->reader || self->header) {
        PyErr_SetString(PyExc_RuntimeError, "the Reader was opened already");
        return -1;
    }
    int own_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (own_fd < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    enum zipfs_status status;
    WITHOUT_GIL(status = zipfs_reader_open(own_fd, &self->reader));
    if (status != ZIPFS_OK) {
        int error = errno;
        close(own_fd);
        errno = error;
        zipfs_raise(status, "container");
        return -1;
    }
    self->header = zipfs_header_dict(zipfs_reader_header(self->reader));
    return self->header ? 0 : -1;
}

static bool reader_begin(ReaderObject *self) {
    if (!self->reader || self->closed) {
        PyErr_SetString(PyExc_ValueError, "the Reader is closed");
        return false;
    }
    self->users++;
    return true;
}

static void free_if_done(ReaderObject *self) {
    if (!self->closed || self->users > 0 || !self->reader)
        return;
    zipfs_reader_free(self->reader);
    self->reader = NULL;
}

static void reader_end(ReaderObject *self) {
    self->users--;
    free_if_done(self);
}

static PyObject *reader_close(ReaderObject *self, PyObject *unused) {
    (void)unused;
    self->closed = true;
    free_if_done(self);
    Py_RETURN_NONE;
}

static void reader_dealloc(ReaderObject *self) {
    zipfs_reader_free(self->reader);
    Py_XDECREF(self->header);
    zipfs_free_object((PyObject *)self);
}

static PyObject *reader_entry(ReaderObject *self, PyObject *args) {
    uint64_t number, offset;
    struct zipfs_entry entry;
    enum zipfs_status status;
    if (!PyArg_ParseTuple(args, "O&:entry", zipfs_as_u64, &number) || !reader_begin(self))
        return NULL;
    WITHOUT_GIL(status = zipfs_reader_entry(self->reader, number, &offset, &entry));
    reader_end(self);
    if (status != ZIPFS_OK)
        return zipfs_raise_chunk(status, number);
    return Py_BuildValue("K(IIKK)", (unsigned long long)offset, (unsigned)entry.stored_size, (unsigned)entry.kind,
                         (unsigned long long)entry.stored_hash, (unsigned long long)entry.plain_hash);
}

/* Starts using reader and codec together. */
static bool both_begin(ReaderObject *self, CodecObject *codec) {
    if (!reader_begin(self))
        return false;
    if (codec->chunk_log2 < zipfs_reader_header(self->reader)->chunk_log2)
        PyErr_SetString(PyExc_ValueError, "the Codec is made for smaller chunks");
    else if (zipfs_codec_begin(codec))
        return true;
    reader_end(self);
    return false;
}

static void both_end(ReaderObject *self, CodecObject *codec) {
    zipfs_codec_end(codec);
    reader_end(self);
}

static PyObject *reader_read_chunk(ReaderObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"codec", "number", "dst", "check_plain", NULL};
    CodecObject *codec;
    uint64_t number;
    Py_buffer dst;
    int check_plain = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O&w*|p:read_chunk", names, zipfs_codec_type, &codec, zipfs_as_u64,
                                     &number, &dst, &check_plain))
        return NULL;
    PyObject *result = NULL;
    if (both_begin(self, codec)) {
        enum zipfs_status status;
        WITHOUT_GIL(status = zipfs_reader_chunk(self->reader, codec->codec, number, check_plain, dst.buf, dst.len));
        both_end(self, codec);
        result = status == ZIPFS_OK ? Py_NewRef(Py_None) : zipfs_raise_chunk(status, number);
    }
    PyBuffer_Release(&dst);
    return result;
}

static PyObject *reader_check_chunk(ReaderObject *self, PyObject *args) {
    CodecObject *codec;
    uint64_t number;
    if (!PyArg_ParseTuple(args, "O!O&:check_chunk", zipfs_codec_type, &codec, zipfs_as_u64, &number)
        || !both_begin(self, codec))
        return NULL;
    enum zipfs_status status;
    WITHOUT_GIL(status = zipfs_reader_check(self->reader, codec->codec, number));
    both_end(self, codec);
    if (status != ZIPFS_OK)
        return zipfs_raise_chunk(status, number);
    Py_RETURN_NONE;
}

static PyMethodDef reader_methods[] = {
    {"entry", (PyCFunction)reader_entry, METH_VARARGS, "(offset, entry) of a chunk."},
    {"read_chunk", (PyCFunction)(void (*)(void))reader_read_chunk, METH_VARARGS | METH_KEYWORDS,
     "Decodes a chunk into dst."},
    {"check_chunk", (PyCFunction)reader_check_chunk, METH_VARARGS, "Checks a payload's stored_hash."},
    {"close", (PyCFunction)reader_close, METH_NOARGS, "Closes the container; a second time does nothing."},
    {"__enter__", zipfs_return_self, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)reader_close, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef reader_members[] = {
    {"header", T_OBJECT_EX, offsetof(ReaderObject, header), READONLY, "The fields of the header."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot reader_slots[] = {
    {Py_tp_doc, "An open container, without a cache."},
    {Py_tp_init, reader_init},
    {Py_tp_dealloc, reader_dealloc},
    {Py_tp_methods, reader_methods},
    {Py_tp_members, reader_members},
    {0, NULL},
};

static PyType_Spec reader_spec = {"zipfs._native.Reader", sizeof(ReaderObject), 0, Py_TPFLAGS_DEFAULT, reader_slots};

static PyMethodDef functions[] = {
    {"header_parse", py_header_parse, METH_VARARGS, "The fields of a header."},
    {"header_write", py_header_write, METH_VARARGS, "The 256 bytes of a header."},
    {NULL, NULL, 0, NULL},
};

int zipfs_add_container(PyObject *module) {
    if (zipfs_add_type(module, &reader_spec, NULL) < 0)
        return -1;
    return PyModule_AddFunctions(module, functions);
}
