/*
 * One chunk: the run table, the choice between stored and runs, both hashes, and the check that follows every encoding.
 *
 *   encode   segments -> plan (plan.c, guess.c, divide.c) -> runs (piece.c, run.c) -> planes (plane.c, rans.c)
 *            -> payload, which is decoded again and compared
 *   decode   payload -> hash -> run table -> runs -> planes -> plain bytes
 *
 * What a COPY run says is found and checked here; its bytes are fetched by copy.c.
 */
#include <stdlib.h>
#include <string.h>

#include "codec.h"
#include "common.h"
#include "cpu.h"
#include "divide.h"
#include "noise.h"
#include "piece.h"
#include "plan.h"
#include "run.h"

enum { TABLE_FIXED = 4, COPY_SIZE = 16, XOR = 241 };

/* ---- scratch memory ---- */

static void free_encoder(struct zipfs_encoder *encoder) {
    if (!encoder)
        return;
    ZSTD_freeCCtx(encoder->cctx);
    free(encoder->fields);
    free(encoder->coded);
    free(encoder->escaped);
    free(encoder->values);
    free(encoder->nibbles);
    free(encoder->far);
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
    free(codec->part);
    free(codec->room);
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
    codec->part = malloc(codec->chunk_size);
    codec->room = malloc(ZIPFS_ROOM_PER_BYTE * codec->chunk_size + ZIPFS_ROOM_FIXED);
    if (!codec->dctx || !codec->contents || !codec->part || !codec->room) {
        zipfs_codec_free(codec);
        return ZIPFS_NO_MEMORY;
    }
    *codec_ret = codec;
    return ZIPFS_OK;
}

/* For vectors: malloc leaves 16 bytes in front, and then each load and store of 64 bytes touches two lines of the cache.
 */
static uint8_t *make_buffer(size_t size) {
    return aligned_alloc(64, (size + 63) / 64 * 64);
}

static enum zipfs_status ensure_encoder(struct zipfs_codec *codec) {
    if (codec->encoder)
        return ZIPFS_OK;
    struct zipfs_encoder *encoder = calloc(1, sizeof *encoder);
    if (!encoder)
        return ZIPFS_NO_MEMORY;
    size_t size = codec->chunk_size;
    encoder->cctx = ZSTD_createCCtx();
    encoder->fields = make_buffer(ZIPFS_FIELDS_PER_BYTE * size);
    encoder->coded = make_buffer(size + ZIPFS_RANS_CODED_ROOM);
    encoder->escaped = malloc((size + 63) / 64 * sizeof encoder->escaped[0]);
    encoder->values = malloc((size + 64) * sizeof encoder->values[0]);
    encoder->nibbles_capacity = ZIPFS_NIBBLES_PER_BYTE / 2 * size;
    encoder->nibbles = malloc(encoder->nibbles_capacity + ZIPFS_NIBBLES_PER_BYTE * size);
    encoder->far = malloc(size);
    encoder->trial = make_buffer(size);
    encoder->check = make_buffer(size);
    encoder->counts = malloc((size / ZIPFS_DIVIDE_MIN + 1) * sizeof encoder->counts[0]);
    if (!encoder->cctx || !encoder->fields || !encoder->coded || !encoder->escaped || !encoder->values ||
        !encoder->nibbles || !encoder->far || !encoder->trial || !encoder->check || !encoder->counts) {
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
    uint64_t plain = 0, stored = TABLE_FIXED + ZIPFS_RUN_RECORD * num_runs;
    if (src_size < stored)
        return ZIPFS_BAD_RUNS;
    if (src[1] || src[2] || src[3])
        return ZIPFS_RESERVED_NOT_ZERO;
    for (size_t i = 0; i < num_runs; i++) {
        const uint8_t *record = src + TABLE_FIXED + ZIPFS_RUN_RECORD * i;
        if (record[0] == XOR)
            return ZIPFS_UNKNOWN_FEATURE;
        if (record[0] != ZIPFS_COPY && record[0] != ZIPFS_PALETTE && record[0] != ZIPFS_SPARSE &&
            record[0] != ZIPFS_BLOCKS && !zipfs_layout_info(record[0]))
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

/* Notes the COPY run that begins `at` bytes into the chunk; src is its payload. */
static enum zipfs_status note_copy(const struct zipfs_run *run, const uint8_t *src, size_t at,
                                   struct zipfs_copies *copies) {
    if (!copies)
        return ZIPFS_UNKNOWN_FEATURE;
    if (run->phase || !run->plain_size || run->stored_size != COPY_SIZE || copies->num == ZIPFS_MAX_COPIES)
        return ZIPFS_BAD_COPY;
    if (zipfs_load32(src)) /* another base than this file */
        return ZIPFS_UNKNOWN_FEATURE;
    if (zipfs_load32(src + 4))
        return ZIPFS_RESERVED_NOT_ZERO;
    copies->list[copies->num++] = (struct zipfs_copy){(uint32_t)at, run->plain_size, zipfs_load64(src + 8)};
    return ZIPFS_OK;
}

/* Decodes to dst or, when `expected` is not NULL, decodes and compares. */
static enum zipfs_status decode_runs(struct zipfs_codec *codec, const uint8_t *src, size_t src_size, uint8_t *dst,
                                     size_t dst_size, const uint8_t *expected, struct zipfs_copies *copies) {
    struct zipfs_run runs[ZIPFS_MAX_RUNS];
    size_t num_runs;
    enum zipfs_status status = zipfs_chunk_runs(src, src_size, dst_size, runs, &num_runs);
    if (status)
        return status;
    codec->plain_size = dst_size;
    codec->payload_end = src + src_size;
    codec->ahead = expected ? expected + dst_size : codec->payload_end;
    codec->ahead_size = expected ? dst_size : src_size;
    src += TABLE_FIXED + ZIPFS_RUN_RECORD * num_runs;
    for (size_t i = 0, at = 0; i < num_runs && !status; i++) {
        if (ZIPFS_UNLIKELY(runs[i].layout == ZIPFS_COPY))
            status = note_copy(&runs[i], src, at, copies);
        else
            status = expected ? zipfs_run_check(codec, &runs[i], src, expected + at)
                              : zipfs_run_decode(codec, &runs[i], src, dst + at);
        src += runs[i].stored_size;
        at += runs[i].plain_size;
    }
    return status;
}

bool zipfs_entry_fits(const struct zipfs_entry *entry, size_t plain_size) {
    switch (entry->kind) {
    case ZIPFS_KIND_STORED: return entry->stored_size == plain_size;
    case ZIPFS_KIND_RUNS: return entry->stored_size >= 1 && entry->stored_size < plain_size;
    case ZIPFS_KIND_CONSTANT: return entry->stored_size == 1;
    default: return false;
    }
}

/* copies NULL: there must be none. */
static enum zipfs_status decode(struct zipfs_codec *codec, uint64_t number, const struct zipfs_entry *entry,
                                const uint8_t *src, uint8_t *dst, size_t dst_size, struct zipfs_copies *copies) {
    if (!dst_size || dst_size > codec->chunk_size)
        return ZIPFS_BAD_ARGUMENT;
    if (!zipfs_entry_fits(entry, dst_size))
        return ZIPFS_BAD_PAGE;
    if (codec->kernels->hash(src, entry->stored_size, number) != entry->stored_hash)
        return ZIPFS_CHUNK_CHECKSUM;
    if (entry->kind == ZIPFS_KIND_RUNS)
        return decode_runs(codec, src, entry->stored_size, dst, dst_size, NULL, copies);
    if (entry->kind == ZIPFS_KIND_CONSTANT)
        memset(dst, src[0], dst_size);
    else
        memcpy(dst, src, dst_size);
    return ZIPFS_OK;
}

enum zipfs_status zipfs_decode_chunk(struct zipfs_codec *codec, uint64_t number, const struct zipfs_entry *entry,
                                     const uint8_t *src, uint8_t *dst, size_t dst_size) {
    return decode(codec, number, entry, src, dst, dst_size, NULL);
}

enum zipfs_status zipfs_decode_chunk_copies(struct zipfs_codec *codec, uint64_t number, const struct zipfs_entry *entry,
                                            const uint8_t *src, uint8_t *dst, size_t dst_size,
                                            struct zipfs_copies *copies_ret) {
    copies_ret->num = 0;
    return decode(codec, number, entry, src, dst, dst_size, copies_ret);
}

/* ---- encoding ---- */

static const struct zipfs_copies no_copies = {.num = 0};

static struct zipfs_effort effort_of(enum zipfs_level level) {
    switch (level) {
    case ZIPFS_LEVEL_FAST: return (struct zipfs_effort){.zstd_level = 1, .text_level = 1, .short_codes = true};
    case ZIPFS_LEVEL_MAX: return (struct zipfs_effort){.zstd_level = 19, .probes = true, .exhaustive = true};
    default: return (struct zipfs_effort){.zstd_level = 3, .text_level = 5, .probes = true};
    }
}

static size_t encode_copy(const struct zipfs_copy *copy, uint8_t *dst, size_t capacity) {
    if (capacity < COPY_SIZE)
        return SIZE_MAX;
    memset(dst, 0, COPY_SIZE);
    zipfs_store64(dst + 8, copy->target);
    return COPY_SIZE;
}

static size_t size_of_noise(const struct zipfs_plan *plan) {
    size_t size = 0;
    for (size_t i = 0; i < plan->num_pieces; i++)
        size += plan->pieces[i].is_noise ? plan->pieces[i].size : 0;
    return size;
}

/* Writes the payload of a plan, whose pieces of layout COPY are `copies`; returns its size, SIZE_MAX when it exceeds
 * capacity. */
static size_t encode_plan(struct zipfs_codec *codec, struct zipfs_plan *plan, const struct zipfs_copy *copies,
                          const uint8_t *src, uint8_t *dst, size_t capacity) {
    size_t size = TABLE_FIXED + ZIPFS_RUN_RECORD * plan->num_pieces;
    if (size + size_of_noise(plan) > capacity)
        return SIZE_MAX;
    memset(dst, 0, size);
    dst[0] = (uint8_t)plan->num_pieces;
    for (size_t i = 0; i < plan->num_pieces; i++) {
        struct zipfs_piece *piece = &plan->pieces[i];
        uint8_t *record = dst + TABLE_FIXED + ZIPFS_RUN_RECORD * i;
        size_t run_size = piece->layout == ZIPFS_COPY
                              ? encode_copy(copies++, dst + size, capacity - size)
                              : zipfs_piece_encode(codec, piece, src + piece->offset, dst + size, capacity - size);
        if (run_size == SIZE_MAX)
            return SIZE_MAX;
        zipfs_run_record(piece->layout, piece->phase, piece->size, run_size, record);
        size += run_size;
    }
    return size;
}

/* Could one run over the whole chunk beat several? LZ matches reach across runs; that pays where most bytes are no
 * floats, and in noise where a piece repeats another. */
static bool one_run_promises(const struct zipfs_codec *codec, const struct zipfs_plan *plan, const uint8_t *src,
                             size_t src_size) {
    size_t other = 0;
    if (plan->num_pieces == 1)
        return false;
    if (size_of_noise(plan) == src_size)
        return zipfs_repeats_far(src, src_size);
    for (size_t i = 0; i < plan->num_pieces; i++)
        other += zipfs_layout_is_float(plan->pieces[i].layout) ? 0 : plan->pieces[i].size;
    return codec->encoder->effort.exhaustive || 2 * other >= src_size;
}

static size_t encode_as_one_run(struct zipfs_codec *codec, const uint8_t *src, size_t src_size, uint8_t *dst,
                                size_t size, size_t capacity) {
    struct zipfs_piece whole = {.layout = ZIPFS_BYTES, .size = src_size};
    size_t head = TABLE_FIXED + ZIPFS_RUN_RECORD;
    if (size <= head || capacity <= head)
        return size;
    size_t run_size = zipfs_piece_improve(codec, &whole, src, true, dst + head,
                                          size == SIZE_MAX ? SIZE_MAX : size - head, capacity - head);
    if (run_size == SIZE_MAX || run_size + head == size)
        return size;
    memset(dst, 0, head);
    dst[0] = 1;
    zipfs_run_record(whole.layout, whole.phase, src_size, run_size, dst + TABLE_FIXED);
    return run_size + head;
}

/* One chunk to encode, at plain offset `base`. */
struct job {
    const uint8_t *src;
    size_t src_size;
    uint64_t base;
    const struct zipfs_segment *segments;
    size_t num_segments;
};

/* Plans bytes [start, end) of the chunk behind the pieces that are there already. */
static enum zipfs_status plan_part(struct zipfs_codec *codec, const struct job *job, size_t start, size_t end,
                                   struct zipfs_plan *plan) {
    struct zipfs_plan part;
    enum zipfs_status status = zipfs_plan_chunk(codec, job->src + start, end - start, job->base + start, job->segments,
                                                job->num_segments, &part);
    if (status)
        return status;
    if (!codec->encoder->effort.exhaustive)
        for (size_t i = 0; i < part.num_pieces; i++)
            zipfs_piece_mark_noise(codec->kernels, job->src + start, &part.pieces[i]);
    zipfs_plan_divide(codec, job->src + start, &part);
    for (size_t i = 0; i < part.num_pieces; i++) {
        part.pieces[i].offset += start;
        plan->pieces[plan->num_pieces++] = part.pieces[i];
    }
    return ZIPFS_OK;
}

/* Plans the copies and what lies between them. More than 64 pieces: as far as it came. */
static enum zipfs_status plan_all(struct zipfs_codec *codec, const struct job *job, const struct zipfs_copies *copies,
                                  struct zipfs_plan *plan) {
    _Static_assert(2 * ZIPFS_MAX_RUNS + 1 <= sizeof plan->pieces / sizeof plan->pieces[0], "overflow");
    enum zipfs_status status = ZIPFS_OK;
    size_t done = 0;
    plan->num_pieces = 0;
    for (size_t i = 0; i <= copies->num && !status && plan->num_pieces <= ZIPFS_MAX_RUNS; i++) {
        const struct zipfs_copy *copy = i < copies->num ? &copies->list[i] : NULL;
        size_t end = copy ? copy->at : job->src_size;
        if (end > done)
            status = plan_part(codec, job, done, end, plan);
        if (copy) {
            plan->pieces[plan->num_pieces++] =
                (struct zipfs_piece){.layout = ZIPFS_COPY, .offset = copy->at, .size = copy->size};
            done = copy->at + copy->size;
        }
    }
    return status;
}

static bool is_constant(const uint8_t *src, size_t src_size) {
    return !memcmp(src, src + 1, src_size - 1);
}

static enum zipfs_status encode_payload(struct zipfs_codec *codec, const struct job *job,
                                        const struct zipfs_copies *copies, uint8_t *dst,
                                        struct zipfs_entry *entry_ret) {
    const uint8_t *src = job->src;
    size_t src_size = job->src_size;
    struct zipfs_plan plan;
    enum zipfs_status status = plan_all(codec, job, copies, &plan);
    if (status)
        return status;
    if (src_size > 1 && is_constant(src, src_size)) {
        dst[0] = src[0];
        entry_ret->kind = ZIPFS_KIND_CONSTANT;
        entry_ret->stored_size = 1;
        return ZIPFS_OK;
    }
    if (plan.num_pieces > ZIPFS_MAX_RUNS)
        return encode_payload(codec, job, &no_copies, dst, entry_ret);
    bool one_run = !copies->num && one_run_promises(codec, &plan, src, src_size);
    size_t size = encode_plan(codec, &plan, copies->list, src, dst, src_size - 1);
    if (one_run)
        size = encode_as_one_run(codec, src, src_size, dst, size, src_size - 1);
    entry_ret->kind = size == SIZE_MAX ? ZIPFS_KIND_STORED : ZIPFS_KIND_RUNS;
    if (size == SIZE_MAX)
        memcpy(dst, src, size = src_size);
    entry_ret->stored_size = (uint32_t)size;
    return ZIPFS_OK;
}

/* Are the copies in order, in the chunk and from what lies before it? */
static bool copies_fit(const struct zipfs_copies *copies, uint64_t base, size_t src_size) {
    if (copies->num > ZIPFS_MAX_COPIES)
        return false;
    size_t done = 0;
    for (size_t i = 0; i < copies->num; i++) {
        const struct zipfs_copy *copy = &copies->list[i];
        if (copy->at < done || copy->at > src_size || !copy->size || copy->size > src_size - copy->at ||
            copy->target > base || copy->size > base - copy->target)
            return false;
        done = copy->at + copy->size;
    }
    return true;
}

/* Does the payload decode to src? What it copies the caller answers for. */
static bool decodes_to(struct zipfs_codec *codec, const struct zipfs_entry *entry, const uint8_t *payload,
                       const struct zipfs_copies *copies, const uint8_t *src, size_t src_size) {
    struct zipfs_copies found = {.num = 0};
    if (!zipfs_entry_fits(entry, src_size))
        return false;
    if (entry->kind == ZIPFS_KIND_STORED)
        return !memcmp(payload, src, src_size);
    if (entry->kind == ZIPFS_KIND_CONSTANT)
        return is_constant(src, src_size) && payload[0] == src[0];
    if (decode_runs(codec, payload, entry->stored_size, NULL, src_size, src, &found))
        return false;
    return !found.num ||
           (found.num == copies->num && !memcmp(found.list, copies->list, found.num * sizeof found.list[0]));
}

enum zipfs_status zipfs_encode_chunk(struct zipfs_codec *codec, enum zipfs_level level, uint64_t number,
                                     const uint8_t *src, size_t src_size, const struct zipfs_segment *segments,
                                     size_t num_segments, uint8_t *dst, size_t dst_capacity,
                                     struct zipfs_entry *entry_ret) {
    return zipfs_encode_chunk_copies(codec, level, number, src, src_size, segments, num_segments, &no_copies, dst,
                                     dst_capacity, entry_ret);
}

enum zipfs_status zipfs_encode_chunk_copies(struct zipfs_codec *codec, enum zipfs_level level, uint64_t number,
                                            const uint8_t *src, size_t src_size, const struct zipfs_segment *segments,
                                            size_t num_segments, const struct zipfs_copies *copies, uint8_t *dst,
                                            size_t dst_capacity, struct zipfs_entry *entry_ret) {
    if (!src_size || src_size > codec->chunk_size || (unsigned)level > ZIPFS_LEVEL_MAX ||
        number > UINT64_MAX / codec->chunk_size - 1 || !copies_fit(copies, number * codec->chunk_size, src_size))
        return ZIPFS_BAD_ARGUMENT;
    if (dst_capacity < src_size)
        return ZIPFS_NO_SPACE;
    enum zipfs_status status = ensure_encoder(codec);
    if (status)
        return status;
    codec->encoder->effort = effort_of(level);
    struct zipfs_entry entry;
    struct job job = {src, src_size, number * codec->chunk_size, segments, num_segments};
    entry.plain_hash = codec->kernels->hash(src, src_size, 0); /* first: samples then find the bytes in the cache */
    status = encode_payload(codec, &job, copies, dst, &entry);
    if (status)
        return status;
    entry.stored_hash = codec->kernels->hash(dst, entry.stored_size, number);
    /* A mismatch would be a defect of this library: it must end here, as an error, and never in a container. */
    if (!decodes_to(codec, &entry, dst, copies, src, src_size))
        return ZIPFS_PLAIN_CHECKSUM;
    *entry_ret = entry;
    return ZIPFS_OK;
}
