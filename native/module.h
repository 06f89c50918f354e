/* What the files of the Python extension share. Only module*.c include this, and with it Python.h. */
#ifndef ZIPFS_MODULE_H
#define ZIPFS_MODULE_H

#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include "zipfs.h"

/* Python threads run while C works. `statement` must not touch Python objects. errno survives. */
#define WITHOUT_GIL(statement) \
    do { \
        Py_BEGIN_ALLOW_THREADS; \
        statement; \
        Py_END_ALLOW_THREADS; \
    } while (0)

/* Scratch memory of one thread; `busy` guards against two. */
typedef struct {
    PyObject_HEAD
    struct zipfs_codec *codec;
    uint32_t chunk_log2;
    bool busy;
} CodecObject;

extern PyTypeObject *zipfs_codec_type;

/* Marks the codec as in use; RuntimeError when it is. */
bool zipfs_codec_begin(CodecObject *self);
void zipfs_codec_end(CodecObject *self);

/* Raises what a status means; `where` goes into the message ("chunk 7"). Returns NULL. */
PyObject *zipfs_raise(enum zipfs_status status, const char *where);
PyObject *zipfs_raise_chunk(enum zipfs_status status, uint64_t number);

/* Converter for "O&": an int of 0 to 2^64 - 1, ValueError otherwise. */
int zipfs_as_u64(PyObject *object, void *value_ret);

PyObject *zipfs_header_dict(const struct zipfs_header *header);

/* tp_dealloc's end for our heap types, and __enter__. */
void zipfs_free_object(PyObject *self);
PyObject *zipfs_return_self(PyObject *self, PyObject *unused);

/* Each file adds its types and functions to the module; -1 with an exception set. */
int zipfs_add_codec(PyObject *module);
int zipfs_add_container(PyObject *module);
int zipfs_add_cache(PyObject *module);
int zipfs_add_source(PyObject *module);
int zipfs_add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **type_ret);

#endif
