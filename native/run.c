/* One run: head, tail and planes to plain bytes, and back. */
#include "run.h"

#include <string.h>

#include "common.h"

/* ---- decoding ---- */

struct plan {
    const struct zipfs_layout_info *info;
    uint32_t layout;
    size_t n;           /* elements */
    const uint8_t *src; /* plane records */
    uint8_t *dst;       /* the first element */
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
    uint8_t *contents = plan->layout == ZIPFS_BYTES ? plan->dst : codec->contents;
    for (unsigned f = 0; f < info->num_fields; f++) {
        const uint8_t *record = plan->src + ZIPFS_PLANE_RECORD * f;
        size_t size = zipfs_load32(record + 4);
        if (record[1] || record[2] || record[3])
            return ZIPFS_RESERVED_NOT_ZERO;
        enum zipfs_status status = zipfs_plane_open(codec, &codec->planes[f], info->bits[f], record[0],
                                                    plan->src + offset, size, plan->n, contents);
        if (status)
            return status;
        offset += size;
        contents += record[0] == ZIPFS_ZSTD ? plan->n : 0;
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
    default: break; /* ZSTD is there already */
    }
    return zipfs_plane_finish(plane);
}

static enum zipfs_status decode_tile(struct zipfs_codec *codec, const struct plan *plan, size_t first, size_t n) {
    const struct zipfs_kernels *kernels = codec->kernels;
    const uint8_t *values[ZIPFS_MAX_FIELDS];
    bool fused = kernels->rans_merge[plan->layout] && codec->planes[0].coding == ZIPFS_RANS;
    for (unsigned f = fused; f < plan->info->num_fields; f++) {
        enum zipfs_status status = zipfs_plane_next(kernels, &codec->planes[f], n, &values[f]);
        if (status)
            return status;
    }
    uint8_t *dst = plan->dst + first * plan->info->width;
    if (fused)
        return kernels->rans_merge[plan->layout](&codec->planes[0].rans, values, dst, n) ? ZIPFS_OK : ZIPFS_BAD_RANS;
    kernels->merge[plan->layout](values, dst, n);
    return ZIPFS_OK;
}

static enum zipfs_status decode_elements(struct zipfs_codec *codec, const struct plan *plan) {
    if (plan->layout == ZIPFS_BYTES)
        return decode_bytes(codec, plan);
    enum zipfs_status status = ZIPFS_OK;
    for (size_t i = 0; i < plan->n && !status; i += ZIPFS_TILE)
        status = decode_tile(codec, plan, i, zipfs_min(plan->n - i, ZIPFS_TILE));
    for (unsigned f = 0; f < plan->info->num_fields && !status; f++)
        status = zipfs_plane_finish(&codec->planes[f]);
    return status;
}

enum zipfs_status zipfs_run_decode(struct zipfs_codec *codec, const struct zipfs_run *run, const uint8_t *src,
                                   uint8_t *dst) {
    const struct zipfs_layout_info *info = zipfs_layout_info(run->layout);
    if (!info)
        return ZIPFS_UNKNOWN_LAYOUT;
    if (run->phase >= info->width || run->plain_size < run->phase + info->width)
        return ZIPFS_BAD_RUNS;
    size_t n = (run->plain_size - run->phase) / info->width, tail = (run->plain_size - run->phase) % info->width;
    if (run->stored_size < run->phase + tail + (size_t)ZIPFS_PLANE_RECORD * info->num_fields)
        return ZIPFS_BAD_RUNS;
    memcpy(dst, src, run->phase);
    memcpy(dst + run->plain_size - tail, src + run->phase, tail);
    struct plan plan = {info, run->layout, n, src + run->phase + tail, dst + run->phase};
    enum zipfs_status status = open_planes(codec, &plan, run->stored_size - run->phase - tail);
    return status ? status : decode_elements(codec, &plan);
}

/* ---- encoding ---- */

/* Cuts the elements into fields; planes_ret points at each. BYTES needs no cut. */
static void split(struct zipfs_codec *codec, uint32_t layout, const uint8_t *src, size_t n,
                  const uint8_t **planes_ret) {
    const struct zipfs_layout_info *info = zipfs_layout_info(layout);
    uint8_t *planes[ZIPFS_MAX_FIELDS];
    planes_ret[0] = src;
    if (layout == ZIPFS_BYTES)
        return;
    for (unsigned f = 0; f < info->num_fields; f++)
        planes_ret[f] = planes[f] = codec->encoder->fields + f * n;
    codec->kernels->split[layout](src, planes, n);
}

size_t zipfs_run_encode(struct zipfs_codec *codec, uint32_t layout, uint32_t phase, const uint8_t *src, size_t src_size,
                        bool lz, uint8_t *dst, size_t capacity, bool *is_noise_ret) {
    const struct zipfs_layout_info *info = zipfs_layout_info(layout);
    size_t n = (src_size - phase) / info->width, tail = (src_size - phase) % info->width;
    size_t records = phase + tail, size = records + (size_t)ZIPFS_PLANE_RECORD * info->num_fields;
    if (size > capacity)
        return SIZE_MAX;
    memcpy(dst, src, phase);
    memcpy(dst + phase, src + src_size - tail, tail);
    memset(dst + records, 0, size - records);
    const uint8_t *planes[ZIPFS_MAX_FIELDS];
    split(codec, layout, src + phase, n, planes);
    unsigned noisy_bits = 0;
    for (unsigned f = 0; f < info->num_fields; f++) {
        unsigned coding;
        bool is_noise = false;
        size_t plane_size = capacity - size
                                ? zipfs_plane_encode(codec, info->bits[f], zipfs_rans_lanes(info->width), planes[f], n,
                                                     lz, dst + size, capacity - size, &coding, &is_noise)
                                : SIZE_MAX;
        if (plane_size == SIZE_MAX)
            return SIZE_MAX;
        dst[records + ZIPFS_PLANE_RECORD * f] = (uint8_t)coding;
        zipfs_store32(dst + records + ZIPFS_PLANE_RECORD * f + 4, (uint32_t)plane_size);
        size += plane_size;
        noisy_bits += is_noise ? info->bits[f] : 0;
    }
    *is_noise_ret = noisy_bits >= 4u * info->width;
    return size;
}
