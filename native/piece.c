/* Choosing the run for a piece by what samples of it promise, and encoding it. */
#include "piece.h"

#include <string.h>

#include "blocks.h"
#include "common.h"
#include "joint.h"
#include "noise.h"
#include "palette.h"
#include "run.h"
#include "sparse.h"
#include "zstd_frame.h"

void zipfs_piece_mark_noise(const struct zipfs_kernels *kernels, const uint8_t *src, struct zipfs_piece *piece) {
    const struct zipfs_layout_info *info = zipfs_layout_info(piece->layout);
    const uint8_t *first = src + piece->offset + piece->phase;
    size_t size = piece->size - piece->phase;
    if (info ? zipfs_is_noise(kernels, first, size, info->width)
             : zipfs_blocks_are_noise(kernels, piece->layout, first, size))
        *piece = (struct zipfs_piece){
            .layout = ZIPFS_BYTES, .offset = piece->offset, .size = piece->size, .is_noise = true};
}

/* Does zstd, on a sample taken as plain bytes, beat what its layout made of the whole run? */
static bool bytes_promise(struct zipfs_codec *codec, const uint8_t *src, size_t src_size, size_t size) {
    enum { SAMPLE = 8192 };
    struct zipfs_encoder *encoder = codec->encoder;
    size_t sample = zipfs_min(src_size, SAMPLE), sample_size;
    return zipfs_repeats_nearby(src, src_size) &&
           !zstd_frame_compress(encoder->cctx, 1, src + (src_size - sample) / 2, sample, encoder->coded, sample,
                                &sample_size) &&
           (uint64_t)sample_size * src_size < (uint64_t)size * sample;
}

/* Encodes bytes as a palette of as many at a time as give at most 256 values: scales and codes of few values have a
 * lower entropy by eights, fours or pairs, and decode faster. SIZE_MAX where it gains nothing. */
static size_t encode_palette(struct zipfs_codec *codec, const uint8_t *src, size_t src_size, uint8_t *dst,
                             size_t capacity) {
    size_t size = SIZE_MAX;
    for (unsigned width = 8; width > 0 && size == SIZE_MAX; width /= 2)
        size = zipfs_palette_encode(codec, width, 0, src, src_size, dst, capacity);
    return size;
}

size_t zipfs_piece_improve(struct zipfs_codec *codec, struct zipfs_piece *piece, const uint8_t *src, bool lz,
                           uint8_t *dst, size_t size, size_t capacity) {
    bool is_noise;
    uint8_t *trial = codec->encoder->trial;
    size_t limit = size == SIZE_MAX ? capacity : size - 1,
           bytes_size = encode_palette(codec, src, piece->size, trial, limit);
    if (bytes_size != SIZE_MAX) {
        memcpy(dst, trial, size = bytes_size);
        *piece = (struct zipfs_piece){.layout = ZIPFS_PALETTE, .offset = piece->offset, .size = piece->size};
        limit = zipfs_below(size, codec->encoder->effort.exhaustive);
    }
    struct zipfs_recipe recipe = {.layout = ZIPFS_BYTES, .lz = lz ? ZIPFS_LZ_REPEATS : ZIPFS_LZ_PROBE};
    bytes_size = zipfs_run_encode(codec, &recipe, src, piece->size, trial, limit, &is_noise);
    if (bytes_size == SIZE_MAX)
        return size;
    memcpy(dst, trial, bytes_size);
    *piece = (struct zipfs_piece){.layout = ZIPFS_BYTES, .offset = piece->offset, .size = piece->size};
    return bytes_size;
}

/* Encodes a piece of floats in the joint layout when a sample promises a gain; SIZE_MAX when not. */
static size_t encode_joint(struct zipfs_codec *codec, const struct zipfs_piece *piece, const uint8_t *src,
                           uint8_t *dst, size_t capacity, bool *is_noise_ret) {
    const struct zipfs_layout_info *info = zipfs_layout_info(piece->layout);
    uint8_t row[256];
    if (!info->joint || !zipfs_joint_promises(codec, piece->layout, src + piece->phase,
                                              (piece->size - piece->phase) / info->width, row))
        return SIZE_MAX;
    struct zipfs_recipe recipe = {.layout = info->joint, .phase = piece->phase, .row = row};
    return zipfs_run_encode(codec, &recipe, src, piece->size, dst, capacity, is_noise_ret);
}

/* Encodes a piece in its layout or the joint one, and sets its layout to the choice. */
static size_t encode_elements(struct zipfs_codec *codec, struct zipfs_piece *piece, const uint8_t *src, uint8_t *dst,
                              size_t capacity, bool *is_noise_ret) {
    size_t size = encode_joint(codec, piece, src, dst, capacity, is_noise_ret);
    if (size != SIZE_MAX) {
        piece->layout = zipfs_layout_info(piece->layout)->joint;
        return size;
    }
    struct zipfs_recipe recipe = {.layout = piece->layout, .phase = piece->phase};
    return zipfs_run_encode(codec, &recipe, src, piece->size, dst, capacity, is_noise_ret);
}

/* Encodes a piece without its zeros when a sample promises that they are many; SIZE_MAX when not. */
static size_t encode_sparse(struct zipfs_codec *codec, const struct zipfs_piece *piece, const uint8_t *src,
                            uint8_t *dst, size_t capacity) {
    unsigned width = zipfs_layout_info(piece->layout)->width;
    uint8_t *values = codec->encoder->check, *bitmap = codec->encoder->trial;
    size_t n = (piece->size - piece->phase) / width,
           num = zipfs_sparse_part(src + piece->phase, width, n, bitmap, values);
    if (!num || capacity < ZIPFS_WRAP_FIXED + 2 * ZIPFS_MAX_WIDTH + ZIPFS_RUN_RECORD)
        return SIZE_MAX;
    bool is_noise;
    struct zipfs_piece inner = {.layout = piece->layout, .size = num * width};
    size_t size = zipfs_run_wrap(width, piece->phase, src, piece->size, dst);
    uint8_t *record = dst + size;
    size += ZIPFS_RUN_RECORD;
    size_t values_size = encode_elements(codec, &inner, values, dst + size, capacity - size, &is_noise);
    if (values_size == SIZE_MAX)
        return SIZE_MAX;
    zipfs_run_record(inner.layout, 0, inner.size, values_size, record);
    size += values_size;
    struct zipfs_recipe recipe = {.layout = ZIPFS_BYTES, .lz = ZIPFS_LZ_REPEATS};
    size_t bitmap_size = zipfs_run_encode_inner(codec, &recipe, bitmap, (n + 7) / 8, dst + size, capacity - size);
    return bitmap_size == SIZE_MAX ? SIZE_MAX : size + bitmap_size;
}

/* Encodes a piece of wide elements that are few values, or often zero; SIZE_MAX when they are neither. */
static size_t encode_wrapped(struct zipfs_codec *codec, struct zipfs_piece *piece, const uint8_t *src, uint8_t *dst,
                             size_t capacity) {
    unsigned width = zipfs_layout_info(piece->layout)->width;
    if (width == 1)
        return SIZE_MAX;
    size_t size = zipfs_palette_encode(codec, width, piece->phase, src, piece->size, dst, capacity);
    if (size != SIZE_MAX) {
        piece->layout = ZIPFS_PALETTE;
        return size;
    }
    size = encode_sparse(codec, piece, src, dst, capacity);
    if (size != SIZE_MAX)
        piece->layout = ZIPFS_SPARSE;
    return size;
}

static size_t encode_noise(struct zipfs_codec *codec, const struct zipfs_piece *piece, const uint8_t *src, uint8_t *dst,
                           size_t capacity) {
    bool is_noise;
    struct zipfs_recipe recipe = {.layout = ZIPFS_BYTES};
    return capacity < piece->size ? SIZE_MAX
                                  : zipfs_run_encode(codec, &recipe, src, piece->size, dst, capacity, &is_noise);
}

/* Encodes a piece of blocks part by part, or as bytes where that is smaller or saves nothing. */
static size_t encode_blocks(struct zipfs_codec *codec, struct zipfs_piece *piece, const uint8_t *src, uint8_t *dst,
                            size_t capacity) {
    const struct zipfs_effort *effort = &codec->encoder->effort;
    size_t worthwhile = zipfs_below(piece->size, effort->exhaustive);
    size_t size = zipfs_blocks_encode(codec, piece, src, dst, zipfs_min(capacity, worthwhile), zipfs_piece_encode);
    if (size != SIZE_MAX)
        piece->layout = ZIPFS_BLOCKS;
    if (size == SIZE_MAX || effort->exhaustive || (effort->probes && bytes_promise(codec, src, piece->size, size)))
        size = zipfs_piece_improve(codec, piece, src, true, dst, size, capacity);
    return size;
}

size_t zipfs_piece_encode(struct zipfs_codec *codec, struct zipfs_piece *piece, const uint8_t *src, uint8_t *dst,
                          size_t capacity) {
    const struct zipfs_effort *effort = &codec->encoder->effort;
    uint32_t layout = piece->layout;
    bool is_noise = false;
    if (piece->is_noise)
        return encode_noise(codec, piece, src, dst, capacity);
    if (layout == ZIPFS_BYTES)
        return zipfs_piece_improve(codec, piece, src, true, dst, SIZE_MAX, capacity);
    if (zipfs_block_format(layout))
        return encode_blocks(codec, piece, src, dst, capacity);
    size_t size = encode_wrapped(codec, piece, src, dst, capacity);
    if (size == SIZE_MAX)
        size = encode_elements(codec, piece, src, dst, capacity, &is_noise);
    bool lz = !zipfs_layout_is_float(layout) || effort->exhaustive ||
              (effort->probes && !is_noise && size != SIZE_MAX && bytes_promise(codec, src, piece->size, size));
    /* Elements of one byte have little to lose by whole symbols; a run that does not shrink had better be without
     * planes. */
    if (lz || size >= piece->size || (zipfs_layout_info(layout)->width == 1 && piece->layout == layout))
        size = zipfs_piece_improve(codec, piece, src, lz, dst, size, capacity);
    return size;
}
