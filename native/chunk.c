/*
 * One chunk: the run table, the choice between stored and runs, both hashes, and the check that follows every encoding.
 *
 *   encode   segments -> plan (plan.c, guess.c, divide.c) -> runs (run.c) -> planes (plane.c, rans.c) -> payload,
 *            which is decoded again and compared
 *   decode   payload -> hash -> run table -> runs -> planes -> plain bytes
 */
#include <stdlib.h>
#include <string.h>

#include "codec.h"
#include "common.h"
#include "cpu.h"
#include "divide.h"
#include "plan.h"
#include "run.h"
#include "zstd_frame.h"

enum { TABLE_FIXED = 4, RUN_RECORD = 12 };

/* ---- scratch memory ---- */

static void free_encoder(struct zipfs_encoder *encoder) {
    if (!encoder)
        return;
    ZSTD_freeCCtx(encoder->cctx);
    free(encoder->fields);
    free(encoder->coded);
    free(encoder->escapes);
    free(encoder->trial);
    free(encoder->check);
    free(encoder->counts);
    free(encoder);
}

void zipfs_codec_free(struct zipfs_codec *codec) {
    if (!codec)
        return;
    free_encoder(codec->encoder);
    ZSTD_freeDCtx(codec->dctx);
    free(codec->contents);
    free(codec);
}

enum zipfs_status zipfs_codec_create(uint32_t chunk_log2, struct zipfs_codec **codec_ret) {
    if (chunk_log2 < ZIPFS_CHUNK_LOG2_MIN || chunk_log2 > ZIPFS_CHUNK_LOG2_MAX)
        return ZIPFS_BAD_ARGUMENT;
    if (!zipfs_kernels())
        return ZIPFS_BAD_KERNEL;
    struct zipfs_codec *codec = calloc(1, sizeof *codec);
    if (!codec)
        return ZIPFS_NO_MEMORY;
    codec->kernels = zipfs_kernels();
    codec->chunk_size = (size_t)1 << chunk_log2;
    codec->dctx = ZSTD_createDCtx();
    codec->contents = malloc(codec->chunk_size);
    if (!codec->dctx || !codec->contents) {
        zipfs_codec_free(codec);
        return ZIPFS_NO_MEMORY;
    }
    *codec_ret = codec;
    return ZIPFS_OK;
}

static enum zipfs_status ensure_encoder(struct zipfs_codec *codec) {
    if (codec->encoder)
        return ZIPFS_OK;
    struct zipfs_encoder *encoder = calloc(1, sizeof *encoder);
    if (!encoder)
        return ZIPFS_NO_MEMORY;
    size_t size = codec->chunk_size;
    encoder->cctx = ZSTD_createCCtx();
    encoder->fields = malloc(ZIPFS_FIELDS_PER_BYTE * size);
    encoder->coded = malloc(size + ZIPFS_RANS_MAX_LANES);
    encoder->escapes = malloc(size);
    encoder->trial = malloc(size);
    encoder->check = malloc(size);
    encoder->counts = malloc((size / ZIPFS_DIVIDE_WINDOW + 1) * sizeof encoder->counts[0]);
    if (!encoder->cctx || !encoder->fields || !encoder->coded || !encoder->escapes || !encoder->trial ||
        !encoder->check || !encoder->counts) {
        free_encoder(encoder);
        return ZIPFS_NO_MEMORY;
    }
    codec->encoder = encoder;
    return ZIPFS_OK;
}

/* ---- decoding ---- */

enum zipfs_status zipfs_chunk_runs(const uint8_t *src, size_t src_size, size_t plain_size,
                                   struct zipfs_run runs_ret[ZIPFS_MAX_RUNS], size_t *num_runs_ret) {
    if (src_size < TABLE_FIXED || src[0] < 1 || src[0] > ZIPFS_MAX_RUNS)
        return ZIPFS_BAD_RUNS;
    size_t num_runs = src[0];
    uint64_t plain = 0, stored = TABLE_FIXED + RUN_RECORD * num_runs;
    if (src_size < stored)
        return ZIPFS_BAD_RUNS;
    if (src[1] || src[2] || src[3])
        return ZIPFS_RESERVED_NOT_ZERO;
    for (size_t i = 0; i < num_runs; i++) {
        const uint8_t *record = src + TABLE_FIXED + RUN_RECORD * i;
        if (record[0] == 240 || record[0] == 241) /* references, docs/format.md section 8 */
            return ZIPFS_UNKNOWN_FEATURE;
        if (!zipfs_layout_info(record[0]))
            return ZIPFS_UNKNOWN_LAYOUT;
        if (record[2] || record[3])
            return ZIPFS_RESERVED_NOT_ZERO;
        runs_ret[i] = (struct zipfs_run){record[0], record[1], zipfs_load32(record + 4), zipfs_load32(record + 8)};
        plain += runs_ret[i].plain_size;
        stored += runs_ret[i].stored_size;
    }
    if (plain != plain_size || stored != src_size)
        return ZIPFS_BAD_RUNS;
    *num_runs_ret = num_runs;
    return ZIPFS_OK;
}

static enum zipfs_status decode_runs(struct zipfs_codec *codec, const uint8_t *src, size_t src_size, uint8_t *dst,
                                     size_t dst_size) {
    struct zipfs_run runs[ZIPFS_MAX_RUNS];
    size_t num_runs;
    enum zipfs_status status = zipfs_chunk_runs(src, src_size, dst_size, runs, &num_runs);
    if (status)
        return status;
    src += TABLE_FIXED + RUN_RECORD * num_runs;
    for (size_t i = 0; i < num_runs && !status; i++) {
        status = zipfs_run_decode(codec, &runs[i], src, dst);
        src += runs[i].stored_size;
        dst += runs[i].plain_size;
    }
    return status;
}

enum zipfs_status zipfs_decode_chunk(struct zipfs_codec *codec, uint64_t number, const struct zipfs_entry *entry,
                                     const uint8_t *src, uint8_t *dst, size_t dst_size) {
    if (!dst_size || dst_size > codec->chunk_size)
        return ZIPFS_BAD_ARGUMENT;
    bool stored = entry->kind == ZIPFS_KIND_STORED;
    if (entry->kind > ZIPFS_KIND_RUNS || (stored ? entry->stored_size != dst_size : entry->stored_size >= dst_size))
        return ZIPFS_BAD_PAGE;
    if (codec->kernels->hash(src, entry->stored_size, number) != entry->stored_hash)
        return ZIPFS_CHUNK_CHECKSUM;
    if (!stored)
        return decode_runs(codec, src, entry->stored_size, dst, dst_size);
    memcpy(dst, src, dst_size);
    return ZIPFS_OK;
}

/* ---- encoding ---- */

static struct zipfs_effort effort_of(enum zipfs_level level) {
    switch (level) {
    case ZIPFS_LEVEL_FAST: return (struct zipfs_effort){.zstd_level = 1};
    case ZIPFS_LEVEL_MAX: return (struct zipfs_effort){.zstd_level = 19, .probes = true, .exhaustive = true};
    default: return (struct zipfs_effort){.zstd_level = 3, .probes = true};
    }
}

static bool is_float(uint32_t layout) {
    return zipfs_layout_info(layout)->exponent_bits > 0;
}

/* Does zstd, on a sample taken as plain bytes, beat what its layout made of the whole run? */
static bool bytes_promise(struct zipfs_codec *codec, const uint8_t *src, size_t src_size, size_t size) {
    enum { SAMPLE = 8192 };
    struct zipfs_encoder *encoder = codec->encoder;
    size_t sample = zipfs_min(src_size, SAMPLE), sample_size;
    return !zstd_frame_compress(encoder->cctx, 1, src + (src_size - sample) / 2, sample, encoder->coded, sample,
                                &sample_size) &&
           (uint64_t)sample_size * src_size < (uint64_t)size * sample;
}

/* Encodes src as one run of BYTES when that is smaller than the `size` bytes in dst. Returns the size that is left. */
static size_t improve_by_bytes(struct zipfs_codec *codec, struct zipfs_piece *piece, const uint8_t *src, bool lz,
                               uint8_t *dst, size_t size, size_t capacity) {
    bool is_noise;
    size_t limit = size == SIZE_MAX ? capacity : size - 1;
    size_t bytes_size =
        zipfs_run_encode(codec, ZIPFS_BYTES, 0, src, piece->size, lz, codec->encoder->trial, limit, &is_noise);
    if (bytes_size == SIZE_MAX)
        return size;
    memcpy(dst, codec->encoder->trial, bytes_size);
    piece->layout = ZIPFS_BYTES;
    piece->phase = 0;
    return bytes_size;
}

/* Encodes one piece in its layout or as BYTES, and sets its layout to the choice. */
static size_t encode_piece(struct zipfs_codec *codec, struct zipfs_piece *piece, const uint8_t *src, uint8_t *dst,
                           size_t capacity) {
    const struct zipfs_effort *effort = &codec->encoder->effort;
    bool is_noise = false, bytes = piece->layout == ZIPFS_BYTES;
    size_t size =
        zipfs_run_encode(codec, piece->layout, piece->phase, src, piece->size, bytes, dst, capacity, &is_noise);
    if (bytes)
        return size;
    bool lz = !is_float(piece->layout) || effort->exhaustive ||
              (effort->probes && !is_noise && size != SIZE_MAX && bytes_promise(codec, src, piece->size, size));
    /* Elements of one byte have little to lose by whole symbols; a run that does not shrink had better be without
     * planes. */
    if (lz || size >= piece->size || zipfs_layout_info(piece->layout)->width == 1)
        size = improve_by_bytes(codec, piece, src, lz, dst, size, capacity);
    return size;
}

/* Writes the payload of a plan; returns its size, SIZE_MAX when it exceeds capacity. */
static size_t encode_plan(struct zipfs_codec *codec, struct zipfs_plan *plan, const uint8_t *src, uint8_t *dst,
                          size_t capacity) {
    size_t size = TABLE_FIXED + RUN_RECORD * plan->num_pieces;
    if (size > capacity)
        return SIZE_MAX;
    memset(dst, 0, size);
    dst[0] = (uint8_t)plan->num_pieces;
    for (size_t i = 0; i < plan->num_pieces; i++) {
        struct zipfs_piece *piece = &plan->pieces[i];
        uint8_t *record = dst + TABLE_FIXED + RUN_RECORD * i;
        size_t run_size = encode_piece(codec, piece, src + piece->offset, dst + size, capacity - size);
        if (run_size == SIZE_MAX)
            return SIZE_MAX;
        record[0] = (uint8_t)piece->layout;
        record[1] = (uint8_t)piece->phase;
        zipfs_store32(record + 4, (uint32_t)piece->size);
        zipfs_store32(record + 8, (uint32_t)run_size);
        size += run_size;
    }
    return size;
}

/* Could one run over the whole chunk beat several? LZ matches reach across runs; that pays where most bytes are no
 * floats. */
static bool one_run_promises(const struct zipfs_codec *codec, const struct zipfs_plan *plan, size_t src_size) {
    size_t other = 0;
    for (size_t i = 0; i < plan->num_pieces; i++)
        other += is_float(plan->pieces[i].layout) ? 0 : plan->pieces[i].size;
    return plan->num_pieces > 1 && (codec->encoder->effort.exhaustive || 2 * other >= src_size);
}

static size_t encode_as_one_run(struct zipfs_codec *codec, const uint8_t *src, size_t src_size, uint8_t *dst,
                                size_t size, size_t capacity) {
    struct zipfs_piece whole = {ZIPFS_BYTES, 0, 0, src_size};
    size_t head = TABLE_FIXED + RUN_RECORD;
    if (size <= head || capacity <= head)
        return size;
    size_t run_size = improve_by_bytes(codec, &whole, src, true, dst + head, size == SIZE_MAX ? SIZE_MAX : size - head,
                                       capacity - head);
    if (run_size == SIZE_MAX || run_size + head == size)
        return size;
    memset(dst, 0, head);
    dst[0] = 1;
    zipfs_store32(dst + TABLE_FIXED + 4, (uint32_t)src_size);
    zipfs_store32(dst + TABLE_FIXED + 8, (uint32_t)run_size);
    return run_size + head;
}

static enum zipfs_status encode_payload(struct zipfs_codec *codec, uint64_t base, const uint8_t *src, size_t src_size,
                                        const struct zipfs_segment *segments, size_t num_segments, uint8_t *dst,
                                        struct zipfs_entry *entry_ret) {
    struct zipfs_plan plan;
    enum zipfs_status status = zipfs_plan_chunk(codec, src, src_size, base, segments, num_segments, &plan);
    if (status)
        return status;
    zipfs_plan_divide(codec, src, &plan);
    bool one_run = one_run_promises(codec, &plan, src_size);
    size_t size = encode_plan(codec, &plan, src, dst, src_size - 1);
    if (one_run)
        size = encode_as_one_run(codec, src, src_size, dst, size, src_size - 1);
    entry_ret->kind = size == SIZE_MAX ? ZIPFS_KIND_STORED : ZIPFS_KIND_RUNS;
    if (size == SIZE_MAX)
        memcpy(dst, src, size = src_size);
    entry_ret->stored_size = (uint32_t)size;
    return ZIPFS_OK;
}

enum zipfs_status zipfs_encode_chunk(struct zipfs_codec *codec, enum zipfs_level level, uint64_t number,
                                     const uint8_t *src, size_t src_size, const struct zipfs_segment *segments,
                                     size_t num_segments, uint8_t *dst, size_t dst_capacity,
                                     struct zipfs_entry *entry_ret) {
    if (!src_size || src_size > codec->chunk_size || (unsigned)level > ZIPFS_LEVEL_MAX ||
        number > UINT64_MAX / codec->chunk_size - 1)
        return ZIPFS_BAD_ARGUMENT;
    if (dst_capacity < src_size)
        return ZIPFS_NO_SPACE;
    enum zipfs_status status = ensure_encoder(codec);
    if (status)
        return status;
    codec->encoder->effort = effort_of(level);
    struct zipfs_entry entry;
    status = encode_payload(codec, number * codec->chunk_size, src, src_size, segments, num_segments, dst, &entry);
    if (status)
        return status;
    entry.stored_hash = codec->kernels->hash(dst, entry.stored_size, number);
    entry.plain_hash = codec->kernels->hash(src, src_size, 0);
    /* A mismatch would be a defect of this library: it must end here, as an error, and never in a container. */
    if (zipfs_decode_chunk(codec, number, &entry, dst, codec->encoder->check, src_size) ||
        memcmp(codec->encoder->check, src, src_size))
        return ZIPFS_PLAIN_CHECKSUM;
    *entry_ret = entry;
    return ZIPFS_OK;
}
