/* Python: Codec, chunk_runs, LAYOUTS and the zstd frames. */
#include <stdlib.h>

#include "module.h"
#include "zstd_frame.h"

PyTypeObject *zipfs_codec_type;

enum { ZSTD_LEVEL = 3 };

bool zipfs_codec_begin(CodecObject *self) {
    if (!self->codec || self->busy) {
        PyErr_SetString(PyExc_RuntimeError, "a Codec serves one thread at a time");
        return false;
    }
    self->busy = true;
    return true;
}

void zipfs_codec_end(CodecObject *self) {
    self->busy = false;
}

static int codec_init(CodecObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"chunk_log2", NULL};
    unsigned chunk_log2;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "I:Codec", names, &chunk_log2))
        return -1;
    if (chunk_log2 < ZIPFS_CHUNK_LOG2_MIN || chunk_log2 > ZIPFS_CHUNK_LOG2_MAX || self->codec) {
        PyErr_Format(PyExc_ValueError, "chunk_log2 must be %d to %d", ZIPFS_CHUNK_LOG2_MIN, ZIPFS_CHUNK_LOG2_MAX);
        return -1;
    }
    enum zipfs_status status = zipfs_codec_create(chunk_log2, &self->codec);
    if (status != ZIPFS_OK) {
        zipfs_raise(status, "Codec");
        return -1;
    }
    self->chunk_log2 = chunk_log2;
    return 0;
}

static void codec_dealloc(CodecObject *self) {
    zipfs_codec_free(self->codec);
    zipfs_free_object((PyObject *)self);
}

/* ---- encode ---- */

/* Plain bytes [offset, offset + size), which lie in one chunk, are those from `target`. */
struct copy_record {
    uint64_t offset, size, target;
};

struct encode_job {
    struct zipfs_codec *codec;
    size_t chunk_size;
    uint64_t number;
    int level;
    const uint8_t *src;
    size_t src_size;
    const struct zipfs_segment *segments;
    size_t num_segments;
    const struct copy_record *copies;
    size_t num_copies;
    uint8_t *dst;
    struct zipfs_entry *entries;
    size_t num_chunks;
};

/* Takes the records of the job's next chunk, `size` bytes at plain offset `base`, off the list. False: they do not fit
 * the chunk. */
static bool take_copies(struct encode_job *job, uint64_t base, size_t size, struct zipfs_copies *copies) {
    copies->num = 0;
    for (; job->num_copies && job->copies->offset < base + size; job->copies++, job->num_copies--) {
        const struct copy_record *record = job->copies;
        if (copies->num == ZIPFS_MAX_COPIES || record->offset < base || record->size > size)
            return false;
        copies->list[copies->num++] =
            (struct zipfs_copy){(uint32_t)(record->offset - base), (uint32_t)record->size, record->target};
    }
    return true;
}

/* Encodes all chunks of the job; on failure job->number is the chunk's. */
static enum zipfs_status encode_chunks(struct encode_job *job) {
    uint8_t *dst = job->dst;
    for (size_t i = 0; i < job->num_chunks; i++, job->number++) {
        size_t start = i * job->chunk_size;
        size_t rest = job->src_size - start;
        size_t size = rest < job->chunk_size ? rest : job->chunk_size;
        struct zipfs_copies copies;
        if (!take_copies(job, job->number * job->chunk_size, size, &copies))
            return ZIPFS_BAD_ARGUMENT;
        enum zipfs_status status =
            zipfs_encode_chunk_copies(job->codec, job->level, job->number, job->src + start, size, job->segments,
                                      job->num_segments, &copies, dst, size, &job->entries[i]);
        if (status != ZIPFS_OK)
            return status;
        dst += job->entries[i].stored_size;
    }
    return job->num_copies ? ZIPFS_BAD_ARGUMENT : ZIPFS_OK;
}

static PyObject *entry_tuple(const struct zipfs_entry *entry) {
    return Py_BuildValue("IIKK", (unsigned)entry->stored_size, (unsigned)entry->kind,
                         (unsigned long long)entry->stored_hash, (unsigned long long)entry->plain_hash);
}

static PyObject *entry_list(const struct zipfs_entry *entries, size_t num_entries) {
    PyObject *list = PyList_New(num_entries);
    for (size_t i = 0; list && i < num_entries; i++) {
        PyObject *tuple = entry_tuple(&entries[i]);
        if (!tuple)
            Py_CLEAR(list);
        else
            PyList_SetItem(list, i, tuple);
    }
    return list;
}

static PyObject *run_encode(CodecObject *self, struct encode_job *job) {
    job->codec = self->codec;
    job->chunk_size = (size_t)1 << self->chunk_log2;
    job->num_chunks = (job->src_size + job->chunk_size - 1) >> self->chunk_log2;
    job->entries = malloc((job->num_chunks + 1) * sizeof *job->entries);
    if (!job->entries)
        return PyErr_NoMemory();
    PyObject *result = NULL;
    if (zipfs_codec_begin(self)) {
        enum zipfs_status status;
        WITHOUT_GIL(status = encode_chunks(job));
        zipfs_codec_end(self);
        result = status == ZIPFS_OK ? entry_list(job->entries, job->num_chunks)
                                    : zipfs_raise_chunk(status, job->number);
    }
    free(job->entries);
    return result;
}

/* Is it an array of aligned records? */
static bool holds_records(const Py_buffer *buffer, size_t record_size) {
    return buffer->len % (Py_ssize_t)record_size == 0 && (uintptr_t)buffer->buf % 8 == 0;
}

static const char *encode_mistake(const Py_buffer *src, const Py_buffer *segments, const Py_buffer *copies,
                                  const Py_buffer *dst, int level) {
    if (!holds_records(segments, sizeof(struct zipfs_segment)))
        return "segments must be aligned records of the form <QQII";
    if (!holds_records(copies, sizeof(struct copy_record)))
        return "copies must be aligned records of the form <QQQ";
    if (dst->len < src->len)
        return "dst must have the size of src at least";
    if (level < ZIPFS_LEVEL_FAST || level > ZIPFS_LEVEL_MAX)
        return "level must be 0, 1 or 2";
    return NULL;
}

static PyObject *codec_encode(CodecObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"src", "number", "segments", "level", "dst", "copies", NULL};
    Py_buffer src, segments, dst, copies = {.buf = NULL};
    uint64_t number;
    int level;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y*O&y*iw*|y*:encode", names, &src, zipfs_as_u64, &number, &segments,
                                     &level, &dst, &copies))
        return NULL;
    PyObject *result = NULL;
    const char *mistake = encode_mistake(&src, &segments, &copies, &dst, level);
    if (mistake) {
        PyErr_SetString(PyExc_ValueError, mistake);
    } else {
        struct encode_job job = {
            .number = number,
            .level = level,
            .src = src.buf,
            .src_size = src.len,
            .segments = segments.buf,
            .num_segments = segments.len / sizeof(struct zipfs_segment),
            .copies = copies.buf,
            .num_copies = copies.len / sizeof(struct copy_record),
            .dst = dst.buf,
        };
        result = run_encode(self, &job);
    }
    PyBuffer_Release(&src);
    PyBuffer_Release(&segments);
    PyBuffer_Release(&dst);
    if (copies.obj)
        PyBuffer_Release(&copies);
    return result;
}

/* ---- decode ---- */

/* (at, size, target) of each. */
static PyObject *copy_list(const struct zipfs_copies *copies) {
    PyObject *list = PyList_New(copies->num);
    for (size_t i = 0; list && i < copies->num; i++) {
        const struct zipfs_copy *copy = &copies->list[i];
        PyObject *tuple = Py_BuildValue("IIK", copy->at, copy->size, (unsigned long long)copy->target);
        if (!tuple)
            Py_CLEAR(list);
        else
            PyList_SetItem(list, i, tuple);
    }
    return list;
}

static PyObject *codec_decode(CodecObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"payload", "number", "entry", "dst", "copies", NULL};
    Py_buffer payload, dst;
    uint64_t number, stored_size, kind, stored_hash, plain_hash;
    int with_copies = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y*O&(O&O&O&O&)w*|p:decode", names, &payload, zipfs_as_u64,
                                     &number, zipfs_as_u64, &stored_size, zipfs_as_u64, &kind, zipfs_as_u64,
                                     &stored_hash, zipfs_as_u64, &plain_hash, &dst, &with_copies))
        return NULL;
    PyObject *result = NULL;
    if (stored_size != (uint64_t)payload.len || stored_size > UINT32_MAX || kind > ZIPFS_KIND_CONSTANT) {
        PyErr_SetString(PyExc_ValueError, "entry does not fit the payload");
    } else if ((uint64_t)dst.len > (uint64_t)1 << self->chunk_log2) {
        PyErr_SetString(PyExc_ValueError, "dst is larger than the codec's chunks");
    } else if (zipfs_codec_begin(self)) {
        struct zipfs_entry entry = {stored_size, kind, stored_hash, plain_hash};
        struct zipfs_copies copies = {.num = 0};
        enum zipfs_status status;
        if (with_copies)
            WITHOUT_GIL(status = zipfs_decode_chunk_copies(self->codec, number, &entry, payload.buf, dst.buf, dst.len,
                                                           &copies));
        else
            WITHOUT_GIL(status = zipfs_decode_chunk(self->codec, number, &entry, payload.buf, dst.buf, dst.len));
        zipfs_codec_end(self);
        result = status == ZIPFS_OK ? copy_list(&copies) : zipfs_raise_chunk(status, number);
    }
    PyBuffer_Release(&payload);
    PyBuffer_Release(&dst);
    return result;
}

static PyMethodDef codec_methods[] = {
    {"encode", (PyCFunction)(void (*)(void))codec_encode, METH_VARARGS | METH_KEYWORDS, "Encodes consecutive chunks."},
    {"decode", (PyCFunction)(void (*)(void))codec_decode, METH_VARARGS | METH_KEYWORDS, "Decodes one chunk into dst."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot codec_slots[] = {
    {Py_tp_doc, "Scratch memory for one thread at a time."},
    {Py_tp_init, codec_init},
    {Py_tp_dealloc, codec_dealloc},
    {Py_tp_methods, codec_methods},
    {0, NULL},
};

static PyType_Spec codec_spec = {"zipfs._native.Codec", sizeof(CodecObject), 0, Py_TPFLAGS_DEFAULT, codec_slots};

/* ---- functions ---- */

static PyObject *run_list(const struct zipfs_run *runs, size_t num_runs) {
    PyObject *list = PyList_New(num_runs);
    for (size_t i = 0; list && i < num_runs; i++) {
        const struct zipfs_run *run = &runs[i];
        PyObject *tuple = Py_BuildValue("IIII", run->layout, run->phase, run->plain_size, run->stored_size);
        if (!tuple)
            Py_CLEAR(list);
        else
            PyList_SetItem(list, i, tuple);
    }
    return list;
}

static PyObject *py_chunk_runs(PyObject *module, PyObject *args) {
    (void)module;
    Py_buffer payload;
    uint64_t plain_size;
    if (!PyArg_ParseTuple(args, "y*O&:chunk_runs", &payload, zipfs_as_u64, &plain_size))
        return NULL;
    struct zipfs_run runs[ZIPFS_MAX_RUNS];
    size_t num_runs;
    enum zipfs_status status = zipfs_chunk_runs(payload.buf, payload.len, plain_size, runs, &num_runs);
    PyBuffer_Release(&payload);
    return status == ZIPFS_OK ? run_list(runs, num_runs) : zipfs_raise(status, "chunk_runs");
}

/* Compresses into malloc'ed memory of *size_ret bytes. */
static enum zipfs_status compress_frame(const Py_buffer *data, uint8_t **frame_ret, size_t *size_ret) {
    size_t capacity = ZSTD_compressBound(data->len);
    uint8_t *frame = malloc(capacity);
    ZSTD_CCtx *cctx = ZSTD_createCCtx();
    enum zipfs_status status = ZIPFS_NO_MEMORY;
    if (frame && cctx)
        status = zstd_frame_compress(cctx, ZSTD_LEVEL, data->buf, data->len, frame, capacity, size_ret);
    ZSTD_freeCCtx(cctx);
    *frame_ret = frame;
    return status;
}

static PyObject *py_zstd_compress(PyObject *module, PyObject *args) {
    (void)module;
    Py_buffer data;
    if (!PyArg_ParseTuple(args, "y*:zstd_compress", &data))
        return NULL;
    uint8_t *frame;
    size_t size;
    enum zipfs_status status;
    WITHOUT_GIL(status = compress_frame(&data, &frame, &size));
    PyBuffer_Release(&data);
    PyObject *result = status == ZIPFS_OK ? PyBytes_FromStringAndSize((char *)frame, size)
                                          : zipfs_raise(status, "zstd_compress");
    free(frame);
    return result;
}

static enum zipfs_status decompress_frame(const Py_buffer *frame, uint8_t *dst, size_t size) {
    ZSTD_DCtx *dctx = ZSTD_createDCtx();
    enum zipfs_status status = dctx ? zstd_frame_decompress(dctx, frame->buf, frame->len, dst, size) : ZIPFS_NO_MEMORY;
    ZSTD_freeDCtx(dctx);
    return status;
}

static PyObject *py_zstd_decompress(PyObject *module, PyObject *args) {
    (void)module;
    Py_buffer frame;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "y*n:zstd_decompress", &frame, &size))
        return NULL;
    PyObject *result = size >= 0 ? PyBytes_FromStringAndSize(NULL, size)
                                 : PyErr_Format(PyExc_ValueError, "size is negative");
    if (result) {
        enum zipfs_status status;
        WITHOUT_GIL(status = decompress_frame(&frame, (uint8_t *)PyBytes_AsString(result), size));
        if (status != ZIPFS_OK) {
            Py_DECREF(result);
            result = zipfs_raise(status, "zstd_decompress");
        }
    }
    PyBuffer_Release(&frame);
    return result;
}

static PyMethodDef functions[] = {
    {"chunk_runs", py_chunk_runs, METH_VARARGS, "The runs of a payload of kind runs."},
    {"zstd_compress", py_zstd_compress, METH_VARARGS, "One frame of level 3 in the container's form."},
    {"zstd_decompress", py_zstd_decompress, METH_VARARGS, "The inverse."},
    {NULL, NULL, 0, NULL},
};

static int add_layouts(PyObject *module) {
    PyObject *layouts = Py_BuildValue("{si si si si si si si si si si si}", "BYTES", ZIPFS_BYTES, "BF16", ZIPFS_BF16,
                                      "F16", ZIPFS_F16, "F32", ZIPFS_F32, "F64", ZIPFS_F64, "F8_E4M3", ZIPFS_F8_E4M3,
                                      "F8_E5M2", ZIPFS_F8_E5M2, "I16", ZIPFS_I16, "I32", ZIPFS_I32, "I64", ZIPFS_I64,
                                      "GUESS", ZIPFS_GUESS);
    const char *name;
    for (uint32_t i = ZIPFS_FIRST_BLOCK_FORMAT; layouts && (name = zipfs_block_format_name(i)); i++) {
        PyObject *number = PyLong_FromUnsignedLong(i);
        if (!number || PyDict_SetItemString(layouts, name, number) < 0)
            Py_CLEAR(layouts);
        Py_XDECREF(number);
    }
    int result = layouts ? PyModule_AddObjectRef(module, "LAYOUTS", layouts) : -1;
    Py_XDECREF(layouts);
    return result;
}

int zipfs_add_codec(PyObject *module) {
    if (zipfs_add_type(module, &codec_spec, &zipfs_codec_type) < 0 || add_layouts(module) < 0)
        return -1;
    return PyModule_AddFunctions(module, functions);
}
