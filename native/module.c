/* The extension zipfs._native (contract: zipfs/_native.pyi): exceptions, small functions, what module_*.c share. */
#include "module.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>

static PyObject *format_error;

/* ---- shared with the other files ---- */

/* FormatError(status, where) with the attribute status. */
static PyObject *raise_format_error(enum zipfs_status status, const char *where) {
    PyObject *name = PyUnicode_FromString(zipfs_status_name(status));
    PyObject *error = name ? PyObject_CallFunction(format_error, "Os", name, where) : NULL;
    if (error && PyObject_SetAttrString(error, "status", name) == 0)
        PyErr_SetObject(format_error, error);
    Py_XDECREF(error);
    Py_XDECREF(name);
    return NULL;
}

PyObject *zipfs_raise(enum zipfs_status status, const char *where) {
    switch (status) {
    case ZIPFS_IO: return PyErr_SetFromErrno(PyExc_OSError);
    case ZIPFS_NO_MEMORY: return PyErr_NoMemory();
    case ZIPFS_NO_SPACE:
    case ZIPFS_BAD_ARGUMENT: return PyErr_Format(PyExc_ValueError, "%s: %s", where, zipfs_status_name(status));
    case ZIPFS_BAD_KERNEL:
        return PyErr_Format(PyExc_RuntimeError,
                            "ZIPFS_KERNEL demands a kernel that is unknown, not built or beyond this CPU");
    default: return raise_format_error(status, where);
    }
}

PyObject *zipfs_raise_chunk(enum zipfs_status status, uint64_t number) {
    int error = errno;
    char where[40];
    snprintf(where, sizeof where, "chunk %llu", (unsigned long long)number);
    errno = error;
    return zipfs_raise(status, where);
}

int zipfs_as_u64(PyObject *object, void *value_ret) {
    unsigned long long value = PyLong_AsUnsignedLongLong(object);
    if (value == (unsigned long long)-1 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_OverflowError))
            PyErr_SetString(PyExc_ValueError, "expected an integer of 0 to 2**64 - 1");
        return 0;
    }
    *(uint64_t *)value_ret = value;
    return 1;
}

void zipfs_free_object(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

PyObject *zipfs_return_self(PyObject *self, PyObject *unused) {
    (void)unused;
    return Py_NewRef(self);
}

int zipfs_add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **type_ret) {
    PyObject *type = PyType_FromSpec(spec);
    if (!type)
        return -1;
    if (type_ret)
        *type_ret = (PyTypeObject *)type; /* borrowed from the module, which lives as long as the process */
    if (PyModule_AddType(module, (PyTypeObject *)type) < 0) {
        Py_DECREF(type);
        return -1;
    }
    Py_DECREF(type);
    return 0;
}

/* ---- functions ---- */

static PyObject *py_kernel(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    const char *name = zipfs_kernel();
    return name ? PyUnicode_FromString(name) : zipfs_raise(ZIPFS_BAD_KERNEL, "");
}

static PyObject *py_kernels(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    struct zipfs_kernel_info infos[ZIPFS_MAX_KERNELS];
    zipfs_kernel_list(infos);
    PyObject *list = PyList_New(ZIPFS_MAX_KERNELS);
    for (size_t i = 0; list && i < ZIPFS_MAX_KERNELS; i++) {
        PyObject *tuple = Py_BuildValue("sNz", infos[i].name, PyBool_FromLong(infos[i].built), infos[i].lacks);
        if (!tuple)
            Py_CLEAR(list);
        else
            PyList_SetItem(list, i, tuple);
    }
    return list;
}

static PyObject *py_hash(PyObject *module, PyObject *args, PyObject *kwargs) {
    (void)module;
    static char *names[] = {"data", "seed", NULL};
    Py_buffer data;
    uint64_t seed = 0, hash;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y*|O&:hash", names, &data, zipfs_as_u64, &seed))
        return NULL;
    WITHOUT_GIL(hash = zipfs_hash(data.buf, data.len, seed));
    PyBuffer_Release(&data);
    return PyLong_FromUnsignedLongLong(hash);
}

static PyObject *py_fuse_read_address(PyObject *module, PyObject *args) {
    (void)module;
    int major;
    if (!PyArg_ParseTuple(args, "i:fuse_read_address", &major))
        return NULL;
    if (major != 2 && major != 3)
        return PyErr_Format(PyExc_ValueError, "libfuse_major must be 2 or 3, not %d", major);
    return PyLong_FromVoidPtr(major == 2 ? (void *)zipfs_fuse2_read : (void *)zipfs_fuse3_read);
}

static PyObject *py_log_to_fd(PyObject *module, PyObject *args) {
    (void)module;
    int fd;
    if (!PyArg_ParseTuple(args, "i:log_to_fd", &fd))
        return NULL;
    zipfs_log_to_fd(fd);
    Py_RETURN_NONE;
}

static PyObject *py_log(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *line;
    if (!PyArg_ParseTuple(args, "O&:log", PyUnicode_FSConverter, &line))
        return NULL;
    const char *text = PyBytes_AsString(line);
    WITHOUT_GIL(zipfs_log(text));
    Py_DECREF(line);
    Py_RETURN_NONE;
}

static PyObject *py_tune_malloc(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    mallopt(M_MMAP_THRESHOLD, 32 << 20); /* the most that glibc takes */
    mallopt(M_TRIM_THRESHOLD, 64 << 20);
    mallopt(M_TOP_PAD, 1 << 20);
    mallopt(M_ARENA_MAX, 1); /* threads take the buffer that was freed last, which is still in the processor's caches */
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"kernel", py_kernel, METH_NOARGS, "Name of the kernel in use."},
    {"kernels", py_kernels, METH_NOARGS, "(name, built, lacks) of each kernel, best first."},
    {"hash", (PyCFunction)(void (*)(void))py_hash, METH_VARARGS | METH_KEYWORDS, "XXH3-64."},
    {"fuse_read_address", py_fuse_read_address, METH_VARARGS, "Address of the C read operation for libfuse 2 or 3."},
    {"log_to_fd", py_log_to_fd, METH_VARARGS, "Where damage is told; -1 for syslog."},
    {"log", py_log, METH_VARARGS, "Writes one line to the log."},
    {"tune_malloc", py_tune_malloc, METH_NOARGS, "Keeps freed reply buffers on the heap."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "zipfs._native",
    .m_doc = "Codec, containers, cache and read path of zipfs in C.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__native(void) {
    PyObject *module = PyModule_Create(&module_def);
    if (!module)
        return NULL;
    format_error = PyErr_NewExceptionWithDoc(
        "zipfs._native.FormatError",
        "A container breaks a rule of docs/format.md. args: (status, where). Attribute: status.", NULL, NULL);
    if (!format_error || PyModule_AddObjectRef(module, "FormatError", format_error) < 0 || zipfs_add_codec(module) < 0
        || zipfs_add_container(module) < 0 || zipfs_add_cache(module) < 0 || zipfs_add_source(module) < 0) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
