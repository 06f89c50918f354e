/*
 * Quantised weights come in blocks: a scale or two, and the codes of some dozen weights. Each part of all blocks is a
 * run of its own: scales are floats whose exponents hardly vary, codes have another distribution than either.
 */
#include "blocks.h"

#include <string.h>

#include "common.h"
#include "noise.h"
#include "run.h"

enum { FIXED = 4 };

/* ---- formats ---- */

/* Of GGUF (ggml-common.h), in the order of its numbers. Not all its types: blocks of more than 256 bytes, and those
 * that no file holds, are left to the guess. */
static const struct zipfs_block_format formats[] = {
    {"Q4_0", 18, 2, {{2, ZIPFS_F16}, {16, ZIPFS_BYTES}}},
    {"Q4_1", 20, 2, {{4, ZIPFS_F16}, {16, ZIPFS_BYTES}}},
    {"Q5_0", 22, 3, {{2, ZIPFS_F16}, {4, ZIPFS_BYTES}, {16, ZIPFS_BYTES}}},
    {"Q5_1", 24, 3, {{4, ZIPFS_F16}, {4, ZIPFS_BYTES}, {16, ZIPFS_BYTES}}},
    {"Q8_0", 34, 2, {{2, ZIPFS_F16}, {32, ZIPFS_BYTES}}},
    {"Q2_K", 84, 3, {{16, ZIPFS_BYTES}, {64, ZIPFS_BYTES}, {4, ZIPFS_F16}}},
    {"Q3_K", 110, 4, {{32, ZIPFS_BYTES}, {64, ZIPFS_BYTES}, {12, ZIPFS_BYTES}, {2, ZIPFS_F16}}},
    {"Q4_K", 144, 3, {{4, ZIPFS_F16}, {12, ZIPFS_BYTES}, {128, ZIPFS_BYTES}}},
    {"Q5_K", 176, 4, {{4, ZIPFS_F16}, {12, ZIPFS_BYTES}, {32, ZIPFS_BYTES}, {128, ZIPFS_BYTES}}},
    {"Q6_K", 210, 4, {{128, ZIPFS_BYTES}, {64, ZIPFS_BYTES}, {16, ZIPFS_BYTES}, {2, ZIPFS_F16}}},
    {"IQ2_XXS", 66, 2, {{2, ZIPFS_F16}, {64, ZIPFS_BYTES}}},
    {"IQ2_XS", 74, 3, {{2, ZIPFS_F16}, {64, ZIPFS_BYTES}, {8, ZIPFS_BYTES}}},
    {"IQ3_XXS", 98, 3, {{2, ZIPFS_F16}, {64, ZIPFS_BYTES}, {32, ZIPFS_BYTES}}},
    {"IQ1_S", 50, 3, {{2, ZIPFS_F16}, {32, ZIPFS_BYTES}, {16, ZIPFS_BYTES}}},
    {"IQ4_NL", 18, 2, {{2, ZIPFS_F16}, {16, ZIPFS_BYTES}}},
    {"IQ3_S", 110, 5, {{2, ZIPFS_F16}, {64, ZIPFS_BYTES}, {8, ZIPFS_BYTES}, {32, ZIPFS_BYTES}, {4, ZIPFS_BYTES}}},
    {"IQ2_S", 82, 5, {{2, ZIPFS_F16}, {32, ZIPFS_BYTES}, {32, ZIPFS_BYTES}, {8, ZIPFS_BYTES}, {8, ZIPFS_BYTES}}},
    {"IQ4_XS", 136, 3, {{2, ZIPFS_F16}, {6, ZIPFS_BYTES}, {128, ZIPFS_BYTES}}},
    {"IQ1_M", 56, 3, {{32, ZIPFS_BYTES}, {16, ZIPFS_BYTES}, {8, ZIPFS_BYTES}}},
    {"TQ1_0", 54, 3, {{48, ZIPFS_BYTES}, {4, ZIPFS_BYTES}, {2, ZIPFS_F16}}},
    {"TQ2_0", 66, 2, {{64, ZIPFS_BYTES}, {2, ZIPFS_F16}}},
    {"MXFP4", 17, 2, {{1, ZIPFS_BYTES}, {16, ZIPFS_BYTES}}},
    {"NVFP4", 36, 2, {{4, ZIPFS_BYTES}, {32, ZIPFS_BYTES}}},
};

const struct zipfs_block_format *zipfs_block_format(uint32_t layout) {
    uint32_t i = layout - ZIPFS_FIRST_BLOCK_FORMAT;
    return layout >= ZIPFS_FIRST_BLOCK_FORMAT && i < sizeof formats / sizeof formats[0] ? &formats[i] : NULL;
}

const char *zipfs_block_format_name(uint32_t layout) {
    const struct zipfs_block_format *format = zipfs_block_format(layout);
    return format ? format->name : NULL;
}

/* ---- blocks and their parts ---- */

/* n pieces of `size` bytes, src_step and dst_step apart. Inlined, so that a constant size is one. */
static inline void copy_all(const uint8_t *src, size_t src_step, uint8_t *dst, size_t dst_step, size_t size, size_t n) {
    for (size_t i = 0; i < n; i++)
        memcpy(dst + i * dst_step, src + i * src_step, size);
}

static void copy_parts(const uint8_t *src, size_t src_step, uint8_t *dst, size_t dst_step, size_t size, size_t n) {
    switch (size) {
    case 2: copy_all(src, src_step, dst, dst_step, 2, n); break;
    case 4: copy_all(src, src_step, dst, dst_step, 4, n); break;
    case 8: copy_all(src, src_step, dst, dst_step, 8, n); break;
    case 12: copy_all(src, src_step, dst, dst_step, 12, n); break;
    case 16: copy_all(src, src_step, dst, dst_step, 16, n); break;
    case 32: copy_all(src, src_step, dst, dst_step, 32, n); break;
    case 64: copy_all(src, src_step, dst, dst_step, 64, n); break;
    case 128: copy_all(src, src_step, dst, dst_step, 128, n); break;
    default: copy_all(src, src_step, dst, dst_step, size, n); break;
    }
}

/* ---- noise ---- */

enum {
    NOISE_MIN = 1 << 14, /* bytes; what is shorter is tried in full */
    GROUPS = 16, /* of neighbours, all over the blocks, that are sampled */
    GROUP = 128, /* bytes that each gives of a part that is half of a block or more; smaller ones have less to gain */
    MAX_WORDS = 512,
    HEAD = 8, /* bytes of a part that tell whether it repeats */
};

/* One part of n blocks, `step` apart. */
struct part {
    const uint8_t *src;
    size_t step, size, n;
    bool is_float;
};

/* Bits, in units of 2^-16, by which a byte is shorter than 8 at its order-0 entropy, and a little more: by how often
 * two of n are equal, which a few tell without bias. */
static uint32_t gain_of(const uint32_t count[256], size_t n) {
    uint32_t sum = 0, num = (uint32_t)n;
    for (unsigned v = 0; v < 256; v++)
        sum += count[v] * count[v];
    uint32_t num_pairs = num * (num - 1), num_equal = sum - num;
    return num_equal <= num_pairs / 256 ? 0 : zipfs_log2(num_equal) + (8u << 16) - zipfs_log2(num_pairs);
}

/* The same for both bytes of the F16 elements in a sample, on average. */
static uint32_t gain_of_floats(const uint8_t *sample, size_t n) {
    uint32_t low[256] = {0}, high[256] = {0};
    for (size_t i = 0; i < n; i++) {
        low[sample[2 * i]]++;
        high[sample[2 * i + 1]]++;
    }
    return (gain_of(low, n) + gain_of(high, n)) / 2;
}

/* Bits, in units of 2^-16, by which a part of a block may become shorter by a table; UINT32_MAX where it repeats. */
static uint32_t possible_gain(const struct zipfs_kernels *kernels, const struct part *part) {
    uint8_t sample[GROUPS * ZIPFS_MAX_BLOCK];
    uint32_t count[256];
    bool is_small = part->size < HEAD || 8 * part->size < part->step;
    size_t group = 2 * part->size >= part->step ? GROUP : is_small ? GROUP / 4 : GROUP / 2,
           num = zipfs_min(part->n / GROUPS, zipfs_max(group / part->size, 1)), size = GROUPS * num * part->size;
    for (size_t g = 0; g < GROUPS; g++)
        copy_parts(part->src + part->n / GROUPS * g * part->step, part->step, sample + size / GROUPS * g, part->size,
                   part->size, num);
    if (!zipfs_words_are_many(sample, zipfs_min(size / 2, MAX_WORDS)) ||
        (!is_small && zipfs_heads_repeat(part->src, part->step, part->n)))
        return UINT32_MAX;
    if (part->is_float)
        return (uint32_t)part->size * gain_of_floats(sample, size / 2);
    kernels->histogram(sample, size, count);
    return (uint32_t)part->size * gain_of(count, size);
}

bool zipfs_blocks_are_noise(const struct zipfs_kernels *kernels, uint32_t layout, const uint8_t *src, size_t size) {
    const struct zipfs_block_format *format = zipfs_block_format(layout);
    uint32_t width = format->width, left = (8u << 16) / 128 * width; /* of what zipfs_below wants */
    if (size < NOISE_MIN)
        return false;
    for (size_t p = 0; p < format->num_parts; p++) {
        struct part part = {src, width, format->parts[p].size, size / width, format->parts[p].layout == ZIPFS_F16};
        uint32_t gain = possible_gain(kernels, &part);
        if (gain > left)
            return false;
        left -= gain;
        src += part.size;
    }
    return true;
}

/* ---- decoding ---- */

/* Decodes the inner run of `size` plain bytes that begins at src. used_ret: the size of its record and payload. */
static enum zipfs_status decode_part(struct zipfs_codec *codec, const uint8_t *src, size_t src_size, size_t size,
                                     uint8_t *dst, size_t *used_ret) {
    if (src_size < ZIPFS_RUN_RECORD)
        return ZIPFS_BAD_RUNS;
    struct zipfs_run run = {src[0], src[1], zipfs_load32(src + 4), zipfs_load32(src + 8)};
    if (!zipfs_layout_info(run.layout) && run.layout != ZIPFS_PALETTE && run.layout != ZIPFS_SPARSE)
        return ZIPFS_UNKNOWN_LAYOUT;
    if (src[2] || src[3])
        return ZIPFS_RESERVED_NOT_ZERO;
    if (run.phase || run.plain_size != size || run.stored_size > src_size - ZIPFS_RUN_RECORD)
        return ZIPFS_BAD_RUNS;
    *used_ret = ZIPFS_RUN_RECORD + run.stored_size;
    return zipfs_run_decode(codec, &run, src + ZIPFS_RUN_RECORD, dst);
}

enum zipfs_status zipfs_blocks_decode(struct zipfs_codec *codec, const struct zipfs_run *run, const uint8_t *src,
                                      uint8_t *dst) {
    if (run->stored_size < FIXED)
        return ZIPFS_BAD_RUNS;
    size_t width = src[0] + 1u, num_parts = src[1], sum = 0;
    if (num_parts < 1 || num_parts > ZIPFS_MAX_PARTS || run->phase >= width || run->plain_size < run->phase + width)
        return ZIPFS_BAD_RUNS;
    if (src[2] || src[3])
        return ZIPFS_RESERVED_NOT_ZERO;
    size_t n = (run->plain_size - run->phase) / width, tail = (run->plain_size - run->phase) % width;
    if (run->stored_size < FIXED + num_parts + run->phase + tail)
        return ZIPFS_BAD_RUNS;
    const uint8_t *end = src + run->stored_size, *sizes = src + FIXED;
    for (size_t p = 0; p < num_parts; p++)
        sum += sizes[p] + 1u;
    if (sum != width)
        return ZIPFS_BAD_RUNS;
    src = sizes + num_parts;
    memcpy(dst, src, run->phase);
    memcpy(dst + run->plain_size - tail, src + run->phase, tail);
    src += run->phase + tail;
    dst += run->phase;
    for (size_t p = 0; p < num_parts; p++) {
        size_t size = sizes[p] + 1u, used;
        enum zipfs_status status = decode_part(codec, src, (size_t)(end - src), n * size, codec->part, &used);
        if (status)
            return status;
        copy_parts(codec->part, size, dst, width, size, n);
        dst += size;
        src += used;
    }
    return src == end ? ZIPFS_OK : ZIPFS_BAD_RUNS;
}

/* ---- encoding ---- */

size_t zipfs_blocks_encode(struct zipfs_codec *codec, const struct zipfs_piece *piece, const uint8_t *src, uint8_t *dst,
                           size_t capacity, zipfs_encode_part *encode_part) {
    const struct zipfs_block_format *format = zipfs_block_format(piece->layout);
    size_t n = (piece->size - piece->phase) / format->width, tail = (piece->size - piece->phase) % format->width,
           size = FIXED + format->num_parts;
    if (capacity < size + piece->phase + tail)
        return SIZE_MAX;
    dst[0] = (uint8_t)(format->width - 1);
    dst[1] = format->num_parts;
    dst[2] = dst[3] = 0;
    for (size_t p = 0; p < format->num_parts; p++)
        dst[FIXED + p] = (uint8_t)(format->parts[p].size - 1);
    memcpy(dst + size, src, piece->phase);
    memcpy(dst + size + piece->phase, src + piece->size - tail, tail);
    size += piece->phase + tail;
    src += piece->phase;
    for (size_t p = 0; p < format->num_parts; p++) {
        size_t part_size = format->parts[p].size;
        struct zipfs_piece part = {.layout = format->parts[p].layout, .size = n * part_size};
        if (capacity - size < ZIPFS_RUN_RECORD)
            return SIZE_MAX;
        copy_parts(src, format->width, codec->part, part_size, part_size, n);
        part.is_noise = part.layout == ZIPFS_BYTES && !codec->encoder->effort.exhaustive &&
                        zipfs_is_noise(codec->kernels, codec->part, part.size, 1);
        size_t stored =
            encode_part(codec, &part, codec->part, dst + size + ZIPFS_RUN_RECORD, capacity - size - ZIPFS_RUN_RECORD);
        if (stored == SIZE_MAX)
            return SIZE_MAX;
        zipfs_run_record(part.layout, part.phase, part.size, stored, dst + size);
        size += ZIPFS_RUN_RECORD + stored;
        src += part_size;
    }
    return size;
}
