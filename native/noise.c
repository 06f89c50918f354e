#include "noise.h"

#include <string.h>

#include "common.h"

enum {
    PIECES = 16,
    PIECE = 256,
    SAMPLE = PIECES * PIECE,
    MIN = 4 * SAMPLE, /* what is shorter is tried in full */
    REPEAT = 8,       /* bytes that count as a repetition: fewer come again by chance where values are few */
    STRETCH = SAMPLE,
    TABLE_LOG2 = 12,
    GRID = 256,   /* bytes between the places that are remembered of all bytes */
    WINDOWS = 32, /* from the first to the last byte, of WINDOW places that are looked up each: what repeats for long is
                   * met on the grid in one of four, and bytes that are all equal in each */
    WINDOW = 64,
};

static void take_sample(const uint8_t *src, size_t n, uint8_t sample_ret[SAMPLE]) {
    for (size_t i = 0; i < PIECES; i++)
        memcpy(sample_ret + i * PIECE, src + n / PIECES * i, PIECE);
}

static uint64_t entropy_of(const struct zipfs_kernels *kernels, const uint8_t sample[SAMPLE]) {
    uint32_t count[256];
    kernels->histogram(sample, SAMPLE, count);
    return zipfs_entropy(count, SAMPLE);
}

uint64_t zipfs_sampled_entropy(const struct zipfs_kernels *kernels, const uint8_t *values, size_t n) {
    uint8_t sample[SAMPLE];
    if (n < MIN)
        return 0;
    take_sample(values, n, sample);
    return entropy_of(kernels, sample) * n / SAMPLE;
}

/* ---- repetitions: hash tables of places, as in the search of an LZ codec, for a part of them ---- */

static unsigned slot_of(uint64_t bytes) {
    return (unsigned)(bytes * UINT64_C(0x9e3779b97f4a7c15) >> (64 - TABLE_LOG2));
}

bool zipfs_repeats_nearby(const uint8_t *src, size_t n) {
    uint16_t place[1 << TABLE_LOG2] = {0};
    size_t stretch = zipfs_min(n, STRETCH), found = 0;
    src += (n - stretch) / 2;
    for (size_t i = 1; i + REPEAT <= stretch; i++) {
        uint64_t bytes = zipfs_load64(src + i);
        uint16_t *at = &place[slot_of(bytes)];
        found += zipfs_load64(src + *at) == bytes;
        *at = (uint16_t)i;
    }
    return found * 128 >= stretch;
}

static bool repeats_far(const uint8_t *src, size_t n) {
    uint32_t place[1 << TABLE_LOG2] = {0};
    for (size_t i = 0; i + REPEAT <= n; i += GRID)
        place[slot_of(zipfs_load64(src + i))] = (uint32_t)i;
    for (size_t w = 0; w < WINDOWS; w++) {
        size_t first = (n - WINDOW - REPEAT) / (WINDOWS - 1) * w;
        for (size_t i = first; i < first + WINDOW; i++) {
            uint64_t bytes = zipfs_load64(src + i);
            uint32_t at = place[slot_of(bytes)];
            if (at != i && zipfs_load64(src + at) == bytes)
                return true;
        }
    }
    return false;
}

bool zipfs_repeats(const uint8_t *src, size_t n) {
    return n < MIN || zipfs_repeats_nearby(src, n) || repeats_far(src, n);
}

/* ---- noise ---- */

/* The top bytes of a few elements, by the number of pairs of equal ones: what has none to spare is seldom noise. */
static bool top_is_flat(const uint8_t *src, size_t size, unsigned width) {
    enum { FEW = 16, NUM = FEW * PIECES, EXPECTED = NUM * NUM / 256 + NUM };
    uint16_t count[256] = {0};
    uint32_t sum = 0;
    for (size_t p = 0; p < PIECES; p++) {
        const uint8_t *top = src + size / PIECES / width * p * width + width - 1;
        for (size_t i = 0; i < FEW; i++)
            sum += 2u * count[top[i * width]]++ + 1; /* n * n, one by one */
    }
    return sum <= EXPECTED + EXPECTED / 8;
}

/* Are most of the words in a sample different? */
static bool words_are_many(const uint8_t sample[SAMPLE]) {
    uint64_t seen[65536 / 64] = {0};
    size_t num = 0;
    for (size_t i = 0; i < SAMPLE; i += 2) {
        unsigned word = zipfs_load16(sample + i);
        num += ~seen[word / 64] >> word % 64 & 1;
        seen[word / 64] |= UINT64_C(1) << word % 64;
    }
    return num >= SAMPLE / 2 - SAMPLE / 8;
}

bool zipfs_is_noise(const struct zipfs_kernels *kernels, const uint8_t *src, size_t size, unsigned width) {
    uint8_t sample[SAMPLE];
    if (size < MIN * width || !top_is_flat(src, size, width))
        return false;
    take_sample(src, size, sample);
    return entropy_of(kernels, sample) + SAMPLE / 128 >= SAMPLE && words_are_many(sample) &&
           !repeats_far(src, size);
}
