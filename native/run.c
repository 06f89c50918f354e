/* One run: head, tail and planes to plain bytes, and back. */
#include "run.h"

#include <string.h>

#include "blocks.h"
#include "common.h"
#include "palette.h"
#include "sparse.h"

/* ---- decoding ---- */

struct plan {
    const struct zipfs_layout_info *info;
    uint32_t layout;
    size_t n;           /* elements */
    const uint8_t *src;      /* plane records */
    uint8_t *dst;            /* the first element; when checking, of each tile */
    const uint8_t *expected; /* checking: what the elements must be, else NULL */
};

/* Finds the planes' data and opens each plane. */
static enum zipfs_status open_planes(struct zipfs_codec *codec, const struct plan *plan, size_t src_size) {
    const struct zipfs_layout_info *info = plan->info;
    size_t offset = (size_t)ZIPFS_PLANE_RECORD * info->num_fields;
    uint64_t total = offset;
    for (unsigned f = 0; f < info->num_fields; f++)
        total += zipfs_load32(plan->src + ZIPFS_PLANE_RECORD * f + 4);
    if (total != src_size)
        return ZIPFS_BAD_RUNS;
    /* BYTES has no elements to merge: its contents may go to their place at once. */
    uint8_t *contents = plan->layout == ZIPFS_BYTES ? plan->dst : codec->contents, *room = codec->room;
    for (unsigned f = 0; f < info->num_fields; f++) {
        const uint8_t *record = plan->src + ZIPFS_PLANE_RECORD * f;
        bool is_joint = info->is_joint && f == 0;
        struct zipfs_stored_plane stored = {.bits = info->bits[f],
                                            .shift = is_joint ? zipfs_joint_shift(info) % 16 : 0,
                                            .coding = record[0],
                                            .src = plan->src + offset,
                                            .src_size = zipfs_load32(record + 4)};
        if (record[1] || record[2] || record[3])
            return ZIPFS_RESERVED_NOT_ZERO;
        if (is_joint && stored.coding != ZIPFS_RANS)
            return ZIPFS_UNKNOWN_CODING;
        enum zipfs_status status = zipfs_plane_open(codec, &codec->planes[f], &stored, plan->n, contents, &room);
        if (status)
            return status;
        offset += stored.src_size;
        contents += stored.coding == ZIPFS_ZSTD ? plan->n : 0;
    }
    return ZIPFS_OK;
}

static enum zipfs_status decode_bytes(struct zipfs_codec *codec, const struct plan *plan) {
    struct zipfs_plane *plane = &codec->planes[0];
    switch (plane->coding) {
    case ZIPFS_RAW: memcpy(plan->dst, plane->data, plan->n); break;
    case ZIPFS_CONST: memset(plan->dst, plane->tile[0], plan->n); break;
    case ZIPFS_RANS:
        if (!codec->kernels->rans_decode(&plane->rans, plan->dst, plan->n))
            return ZIPFS_BAD_RANS;
        break;
    case ZIPFS_SHORT:
        if (!codec->kernels->short_decode(&plane->shorts, plan->dst, plan->n))
            return ZIPFS_BAD_PLANE;
        break;
    default: break; /* ZSTD is there already */
    }
    return zipfs_plane_finish(plane);
}

/* Bytes to prefetch while `size` bytes of the chunk are decoded. */
static size_t share_of_ahead(const struct zipfs_codec *codec, size_t size) {
    return size * codec->ahead_size / codec->plain_size;
}

/* The same in whole cache lines, the nearest number of them: loops would round up, to twice as much as there is where a
 * step is little more than a line; the memory can give no more than the loop takes. */
static size_t lines_of_ahead(const struct zipfs_codec *codec, size_t size) {
    enum { LINE = 64 };
    return (share_of_ahead(codec, size) + LINE / 2) / LINE * LINE;
}

/* Do values of the first plane go to elements at once? */
static bool is_fused(const struct zipfs_codec *codec, const struct plan *plan) {
    return plan->info->is_joint ||
           (codec->planes[0].coding == ZIPFS_SHORT && codec->kernels->short_merge[plan->layout]);
}

/* Merges fields, of which the first is still to be decoded where that is fused. */
static enum zipfs_status merge(struct zipfs_codec *codec, const struct plan *plan, const uint8_t *const *values,
                               uint8_t *dst, size_t n) {
    const struct zipfs_kernels *kernels = codec->kernels;
    struct zipfs_plane *first = &codec->planes[0];
    if (plan->info->is_joint)
        return kernels->joint_merge[plan->layout](&first->rans, values, dst, n) ? ZIPFS_OK : ZIPFS_BAD_RANS;
    if (is_fused(codec, plan))
        return kernels->short_merge[plan->layout](&first->shorts, values, dst, n) ? ZIPFS_OK : ZIPFS_BAD_PLANE;
    kernels->merge[plan->layout](values, dst, n);
    return ZIPFS_OK;
}

static enum zipfs_status decode_tile(struct zipfs_codec *codec, const struct plan *plan, size_t first, size_t n) {
    const uint8_t *values[ZIPFS_MAX_FIELDS] = {NULL};
    bool is_joint = plan->info->is_joint;
    for (unsigned f = is_fused(codec, plan); f < plan->info->num_fields; f++) {
        enum zipfs_status status = is_joint && f == 1
                                       ? zipfs_plane_next_packed(codec, &codec->planes[f], n, &values[f])
                                       : zipfs_plane_next(codec->kernels, &codec->planes[f], n, &values[f]);
        if (status)
            return status;
    }
    size_t at = first * plan->info->width;
    uint8_t *dst = plan->expected ? plan->dst : plan->dst + at;
    enum zipfs_status status = merge(codec, plan, values, dst, n);
    if (status)
        return status;
    bool differs = plan->expected && memcmp(dst, plan->expected + at, n * plan->info->width);
    return differs ? ZIPFS_PLAIN_CHECKSUM : ZIPFS_OK;
}

/* Elements to decode at a time: a tile, so that what is decoded is still in the cache when it is merged; more where all
 * other planes are read in place. */
static size_t elements_at_once(const struct zipfs_codec *codec, const struct plan *plan) {
    bool in_place = is_fused(codec, plan);
    for (unsigned f = 1; f < plan->info->num_fields; f++)
        in_place &= codec->planes[f].coding == ZIPFS_RAW;
    size_t width = plan->expected ? plan->info->width : 1; /* what is to be compared had better be in the L1 cache */
    return in_place ? 4 * ZIPFS_TILE / width : ZIPFS_TILE;
}

/* Tells the loop that decodes the first coded plane what to prefetch. */
static void share_ahead(struct zipfs_codec *codec, const struct plan *plan) {
    size_t width = plan->info->width;
    for (unsigned f = 0; f < plan->info->num_fields; f++) {
        struct zipfs_plane *plane = &codec->planes[f];
        if (plane->coding == ZIPFS_RANS) {
            plane->rans.ahead = codec->ahead;
            plane->rans.ahead_step = lines_of_ahead(codec, plane->rans.num_lanes * width);
        } else if (plane->coding == ZIPFS_SHORT) {
            plane->shorts.ahead = codec->ahead;
            plane->shorts.ahead_step = lines_of_ahead(codec, ZIPFS_SHORT_AT_ONCE * width);
        } else {
            continue;
        }
        codec->ahead += share_of_ahead(codec, plan->n * width);
        return;
    }
}

static enum zipfs_status decode_elements(struct zipfs_codec *codec, const struct plan *plan) {
    share_ahead(codec, plan);
    if (plan->layout == ZIPFS_BYTES)
        return decode_bytes(codec, plan);
    enum zipfs_status status = ZIPFS_OK;
    size_t step = elements_at_once(codec, plan);
    for (size_t i = 0; i < plan->n && !status; i += step)
        status = decode_tile(codec, plan, i, zipfs_min(plan->n - i, step));
    for (unsigned f = 0; f < plan->info->num_fields && !status; f++)
        status = zipfs_plane_finish(&codec->planes[f]);
    return status;
}

/* A run of elements; `expected` as in struct plan. */
static enum zipfs_status decode_fields(struct zipfs_codec *codec, const struct zipfs_run *run, const uint8_t *src,
                                       uint8_t *dst, const uint8_t *expected) {
    const struct zipfs_layout_info *info = zipfs_layout_info(run->layout);
    if (!info)
        return ZIPFS_UNKNOWN_LAYOUT;
    if (run->phase >= info->width || run->plain_size < run->phase + info->width)
        return ZIPFS_BAD_RUNS;
    size_t n = (run->plain_size - run->phase) / info->width, tail = (run->plain_size - run->phase) % info->width;
    if (run->stored_size < run->phase + tail + (size_t)ZIPFS_PLANE_RECORD * info->num_fields)
        return ZIPFS_BAD_RUNS;
    struct plan plan = {info, run->layout, n, src + run->phase + tail, dst + run->phase, NULL};
    if (!expected) {
        memcpy(dst, src, run->phase);
        memcpy(dst + run->plain_size - tail, src + run->phase, tail);
    } else if (memcmp(src, expected, run->phase) ||
               memcmp(src + run->phase, expected + run->plain_size - tail, tail)) {
        return ZIPFS_PLAIN_CHECKSUM;
    } else {
        plan.expected = expected + run->phase;
    }
    enum zipfs_status status = open_planes(codec, &plan, run->stored_size - run->phase - tail);
    return status ? status : decode_elements(codec, &plan);
}

enum zipfs_status zipfs_run_decode(struct zipfs_codec *codec, const struct zipfs_run *run, const uint8_t *src,
                                   uint8_t *dst) {
    if (run->layout == ZIPFS_PALETTE)
        return zipfs_palette_decode(codec, run, src, dst);
    if (run->layout == ZIPFS_SPARSE)
        return zipfs_sparse_decode(codec, run, src, dst);
    if (run->layout == ZIPFS_BLOCKS)
        return zipfs_blocks_decode(codec, run, src, dst);
    return decode_fields(codec, run, src, dst, NULL);
}

/* A tile at a time, which stays in the cache, where that can be. */
enum zipfs_status zipfs_run_check(struct zipfs_codec *codec, const struct zipfs_run *run, const uint8_t *src,
                                  const uint8_t *expected) {
    uint8_t *check = codec->encoder->check;
    if (zipfs_layout_info(run->layout) && run->layout != ZIPFS_BYTES)
        return decode_fields(codec, run, src, check, expected);
    enum zipfs_status status = zipfs_run_decode(codec, run, src, check);
    if (status)
        return status;
    return memcmp(check, expected, run->plain_size) ? ZIPFS_PLAIN_CHECKSUM : ZIPFS_OK;
}

enum zipfs_status zipfs_run_unwrap(const struct zipfs_run *run, const uint8_t *src, uint8_t *dst,
                                   struct zipfs_wrapped *ret) {
    if (run->stored_size < ZIPFS_WRAP_FIXED)
        return ZIPFS_BAD_RUNS;
    unsigned width = src[0];
    if ((width != 1 && width != 2 && width != 4 && width != 8) || run->phase >= width ||
        run->plain_size < run->phase + width)
        return ZIPFS_BAD_RUNS;
    size_t n = (run->plain_size - run->phase) / width, tail = (run->plain_size - run->phase) % width;
    if (src[2] || src[3])
        return ZIPFS_RESERVED_NOT_ZERO;
    src += ZIPFS_WRAP_FIXED;
    if (run->stored_size - ZIPFS_WRAP_FIXED < run->phase + tail)
        return ZIPFS_BAD_RUNS;
    memcpy(dst, src, run->phase);
    memcpy(dst + run->plain_size - tail, src + run->phase, tail);
    *ret = (struct zipfs_wrapped){.width = width,
                                  .n = n,
                                  .src = src + run->phase + tail,
                                  .src_size = run->stored_size - ZIPFS_WRAP_FIXED - run->phase - tail,
                                  .dst = dst + run->phase};
    return ZIPFS_OK;
}

enum zipfs_status zipfs_run_decode_inner(struct zipfs_codec *codec, const uint8_t *src, size_t src_size, unsigned width,
                                         size_t n, uint8_t *dst, size_t *used_ret) {
    if (src_size < ZIPFS_RUN_RECORD)
        return ZIPFS_BAD_RUNS;
    struct zipfs_run run = {src[0], src[1], zipfs_load32(src + 4), zipfs_load32(src + 8)};
    const struct zipfs_layout_info *info = zipfs_layout_info(run.layout);
    if (!info)
        return ZIPFS_UNKNOWN_LAYOUT;
    if (src[2] || src[3])
        return ZIPFS_RESERVED_NOT_ZERO;
    if (info->width != width || run.phase || run.plain_size != n * width ||
        run.stored_size > src_size - ZIPFS_RUN_RECORD)
        return ZIPFS_BAD_RUNS;
    *used_ret = ZIPFS_RUN_RECORD + run.stored_size;
    return zipfs_run_decode(codec, &run, src + ZIPFS_RUN_RECORD, dst);
}

/* ---- encoding ---- */

/* Room for the fields of n elements. */
static void place_planes(struct zipfs_codec *codec, const struct zipfs_layout_info *info, size_t n,
                         uint8_t **planes_ret) {
    for (unsigned f = 0; f < info->num_fields; f++)
        planes_ret[f] = codec->encoder->fields + f * n;
}

/* The second field of a joint layout, which is noise, or the run would not be joint. */
static size_t store_packed(const uint8_t *packed, size_t n, unsigned bits, uint8_t *dst, size_t capacity) {
    size_t size = (n * bits + 7) / 8;
    if (size > capacity)
        return SIZE_MAX;
    memcpy(dst, packed, size);
    return size;
}

/* Is the first field an exponent that fills a byte? */
static bool is_exponent(const struct zipfs_layout_info *info) {
    return info->exponent_bits == 8 && !info->is_joint;
}

size_t zipfs_run_encode(struct zipfs_codec *codec, const struct zipfs_recipe *recipe, const uint8_t *src,
                        size_t src_size, uint8_t *dst, size_t capacity, bool *is_noise_ret) {
    const struct zipfs_layout_info *info = zipfs_layout_info(recipe->layout);
    size_t phase = recipe->phase, n = (src_size - phase) / info->width, tail = (src_size - phase) % info->width;
    size_t records = phase + tail, size = records + (size_t)ZIPFS_PLANE_RECORD * info->num_fields;
    if (size > capacity)
        return SIZE_MAX;
    memcpy(dst, src, phase);
    memcpy(dst + phase, src + src_size - tail, tail);
    memset(dst + records, 0, size - records);
    uint8_t *planes[ZIPFS_MAX_FIELDS];
    place_planes(codec, info, n, planes);
    if (!info->is_joint && recipe->layout != ZIPFS_BYTES)
        codec->kernels->split[recipe->layout](src + phase, planes, n);
    bool exhaustive = codec->encoder->effort.exhaustive;
    unsigned noisy_bits = 0, num_lanes = recipe->num_lanes && !exhaustive
                                             ? recipe->num_lanes
                                             : zipfs_rans_lanes(recipe->layout, n, exhaustive);
    for (unsigned f = 0; f < info->num_fields; f++) {
        unsigned coding = f == 0 ? ZIPFS_RANS : ZIPFS_RAW, bits = info->bits[f];
        bool is_noise = info->is_joint && f == 1;
        const uint8_t *values = recipe->layout == ZIPFS_BYTES ? src : planes[f]; /* BYTES needs no cut */
        size_t left = capacity - size, plane_size;
        if (f == 0 && is_exponent(info) && codec->encoder->effort.short_codes &&
            (plane_size = zipfs_short_encode(codec, values, n, dst + size, left)) != SIZE_MAX)
            coding = ZIPFS_SHORT;
        else if (info->is_joint && f == 0)
            plane_size = zipfs_plane_encode_joint(
                codec, &(struct zipfs_joint){recipe->layout, recipe->row, src + phase, n, planes}, num_lanes,
                dst + size, left);
        else if (info->is_joint && f == 1)
            plane_size = store_packed(values, n, bits, dst + size, left);
        else
            plane_size = left ? zipfs_plane_encode(codec, bits, num_lanes, values, n, recipe->lz, dst + size, left,
                                                   &coding, &is_noise)
                              : SIZE_MAX;
        if (plane_size == SIZE_MAX)
            return SIZE_MAX;
        dst[records + ZIPFS_PLANE_RECORD * f] = (uint8_t)coding;
        zipfs_store32(dst + records + ZIPFS_PLANE_RECORD * f + 4, (uint32_t)plane_size);
        size += plane_size;
        noisy_bits += is_noise ? bits : 0;
    }
    *is_noise_ret = noisy_bits >= 4u * info->width;
    return size;
}

void zipfs_run_record(uint32_t layout, size_t phase, size_t plain_size, size_t stored_size, uint8_t *dst) {
    dst[0] = (uint8_t)layout;
    dst[1] = (uint8_t)phase;
    dst[2] = dst[3] = 0;
    zipfs_store32(dst + 4, (uint32_t)plain_size);
    zipfs_store32(dst + 8, (uint32_t)stored_size);
}

size_t zipfs_run_wrap(unsigned width, size_t phase, const uint8_t *src, size_t src_size, uint8_t *dst) {
    size_t tail = (src_size - phase) % width;
    dst[0] = (uint8_t)width;
    dst[1] = dst[2] = dst[3] = 0;
    memcpy(dst + ZIPFS_WRAP_FIXED, src, phase);
    memcpy(dst + ZIPFS_WRAP_FIXED + phase, src + src_size - tail, tail);
    return ZIPFS_WRAP_FIXED + phase + tail;
}

size_t zipfs_run_encode_inner(struct zipfs_codec *codec, const struct zipfs_recipe *recipe, const uint8_t *src,
                              size_t src_size, uint8_t *dst, size_t capacity) {
    bool is_noise;
    if (capacity < ZIPFS_RUN_RECORD)
        return SIZE_MAX;
    size_t size = zipfs_run_encode(codec, recipe, src, src_size, dst + ZIPFS_RUN_RECORD, capacity - ZIPFS_RUN_RECORD,
                                   &is_noise);
    if (size == SIZE_MAX)
        return SIZE_MAX;
    zipfs_run_record(recipe->layout, recipe->phase, src_size, size, dst);
    return ZIPFS_RUN_RECORD + size;
}
