/*
 * Within one exponent the density of trained weights falls, so the upper mantissa bits are not quite even: coding two
 * of them with the exponent saves 0.4 % of a chunk of BF16 or F16, and 0.8 % of F8. That needs few exponents and a
 * rest of each element that is noise; runs of any other kind stay with plain fields, which have more codings.
 */
#include "joint.h"

#include <string.h>

#include "common.h"

enum {
    SAMPLE_PIECES = 16,
    SAMPLE_PIECE = 256,
    SAMPLE = SAMPLE_PIECES * SAMPLE_PIECE,
    MIN = 2048, /* elements; below, the larger table costs what it saves */
};

/* Copies pieces from all over the run, or all of a short one; returns the number of elements. */
static size_t take_sample(const uint8_t *src, size_t n, size_t width, uint8_t *dst) {
    if (n <= SAMPLE) {
        memcpy(dst, src, n * width);
        return n;
    }
    for (size_t i = 0; i < SAMPLE_PIECES; i++)
        memcpy(dst + i * SAMPLE_PIECE * width, src + n / SAMPLE_PIECES * i * width, SAMPLE_PIECE * width);
    return SAMPLE;
}

/* Gives rows to the most frequent exponents of `bits` bits; returns how many elements have one of them. */
static size_t choose_rows(const uint32_t count[256], unsigned bits, uint8_t row_ret[256]) {
    size_t covered = 0;
    memset(row_ret, ZIPFS_JOINT_NO_ROW, 256);
    for (unsigned r = 0; r < ZIPFS_JOINT_ROWS; r++) {
        unsigned best = 256;
        for (unsigned e = 0; e < 1u << bits; e++)
            if (count[e] && row_ret[e] == ZIPFS_JOINT_NO_ROW && (best == 256 || count[e] > count[best]))
                best = e;
        if (best == 256)
            break;
        row_ret[best] = (uint8_t)r;
        covered += count[best];
    }
    return covered;
}

/* Is what the joint first field leaves of the second plain one, sign and `bits` - 3 mantissa bits, noise? */
static bool rest_is_noise(const uint32_t count[256], size_t n, unsigned bits) {
    uint32_t folded[256] = {0};
    unsigned low_bits = bits - 1 - ZIPFS_JOINT_MANTISSA;
    for (unsigned v = 0; v < 1u << bits; v++)
        folded[v >> (bits - 1) << low_bits | (v & ((1u << low_bits) - 1))] += count[v];
    return zipfs_entropy(folded, n) + n / 128 >= (uint64_t)n * (low_bits + 1) / 8;
}

bool zipfs_joint_promises(struct zipfs_codec *codec, uint32_t layout, const uint8_t *src, size_t n,
                          uint8_t row_ret[256]) {
    const struct zipfs_layout_info *info = zipfs_layout_info(layout);
    if (n < MIN)
        return false;
    uint8_t sample[SAMPLE * 4], *planes[ZIPFS_MAX_FIELDS];
    uint32_t exponents[256], rests[256];
    n = take_sample(src, n, info->width, sample);
    for (unsigned f = 0; f < info->num_fields; f++)
        planes[f] = codec->encoder->fields + f * n;
    codec->kernels->split[layout](sample, planes, n);
    codec->kernels->histogram(planes[0], n, exponents);
    codec->kernels->histogram(planes[1], n, rests);
    if (codec->encoder->effort.short_codes && info->bits[0] == 8 && zipfs_short_pays(exponents, n, row_ret))
        return false;
    size_t covered = choose_rows(exponents, info->bits[0], row_ret);
    return covered >= n - n / 64 && zipfs_entropy(exponents, n) >= n / 16 && rest_is_noise(rests, n, info->bits[1]);
}
