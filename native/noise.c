#include "noise.h"

#include <string.h>

#include "common.h"

enum {
    PIECES = 16,
    SAMPLE = PIECES * 256,
    MIN = 4 * SAMPLE,       /* what is shorter is tried in full */
    GLANCE = SAMPLE / 2,    /* is enough for noise */
    NOISE_MIN = 2 * GLANCE, /* and what is shorter than this */
    REPEAT = 8,             /* bytes that count as a repetition: fewer come again by chance where values are few */
    STRETCH = SAMPLE,
    TABLE_LOG2 = 12,
    GRID = 256, /* bytes between the places that are remembered of all bytes */
    WINDOWS = 32,
    HEADS_GRID = 8, /* blocks between those whose heads are remembered */
    HEADS_MIN_STEP = 16,
};

static void take_sample(const uint8_t *src, size_t n, uint8_t *sample_ret, size_t size) {
    for (size_t i = 0; i < PIECES; i++)
        memcpy(sample_ret + size / PIECES * i, src + n / PIECES * i, size / PIECES);
}

uint64_t zipfs_sampled_entropy(const struct zipfs_kernels *kernels, const uint8_t *values, size_t n) {
    uint8_t sample[SAMPLE];
    uint32_t count[256];
    if (n < MIN)
        return 0;
    take_sample(values, n, sample, SAMPLE);
    kernels->histogram(sample, SAMPLE, count);
    return zipfs_entropy(count, SAMPLE) * n / SAMPLE;
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

/* Does what lies at n places, `step` bytes apart, repeat? One place in `grid` is remembered, and `window` neighbours
 * are looked up in each of WINDOWS stretches from the first to the last: so many that fill a grid have all places
 * between two of it, and so meet what repeats for that long. */
static inline bool repeats_at(const uint8_t *src, size_t step, size_t n, size_t grid, size_t window) {
    uint16_t place[1 << TABLE_LOG2] = {0}; /* on the grid */
    for (size_t i = 0; i * grid * step + REPEAT <= n * step; i++)
        place[slot_of(zipfs_load64(src + i * grid * step))] = (uint16_t)i;
    for (size_t w = 0; w < WINDOWS; w++) {
        size_t first = (n - 2 * grid) / (WINDOWS - 1) * w / grid * grid + w % (grid / window) * window;
        for (size_t i = first; i < first + window; i++) {
            uint64_t bytes = zipfs_load64(src + i * step);
            size_t at = place[slot_of(bytes)] * grid;
            if (at != i && zipfs_load64(src + at * step) == bytes)
                return true;
        }
    }
    return false;
}

bool zipfs_repeats_far(const uint8_t *src, size_t n) {
    _Static_assert((1 << ZIPFS_CHUNK_LOG2_MAX) / GRID <= UINT16_MAX, "overflow");
    return repeats_at(src, 1, n, GRID, GRID / 8);
}

bool zipfs_heads_repeat(const uint8_t *src, size_t step, size_t n) {
    _Static_assert((1 << ZIPFS_CHUNK_LOG2_MAX) / HEADS_MIN_STEP / HEADS_GRID <= UINT16_MAX, "overflow");
    return n < 2 * HEADS_GRID || repeats_at(src, step, n, HEADS_GRID, HEADS_GRID);
}

bool zipfs_repeats(const uint8_t *src, size_t n) {
    return n < MIN || zipfs_repeats_nearby(src, n) || zipfs_repeats_far(src, n);
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
    return sum <= EXPECTED + EXPECTED / 4;
}

/* Are bytes about as frequent as each other? Their sum of squares is that of a chi-square of 355, for 255 that noise
 * has: 4.4 standard deviations more, and a gain of 1/200 that is given up. */
static bool bytes_are_even(const struct zipfs_kernels *kernels, const uint8_t sample[GLANCE]) {
    uint32_t count[256], sum = 0;
    kernels->histogram(sample, GLANCE, count);
    for (unsigned v = 0; v < 256; v++)
        sum += count[v] * count[v];
    return sum <= GLANCE / 256 * (GLANCE + 355);
}

bool zipfs_words_are_many(const uint8_t *words, size_t n) {
    bool seen[4096] = {false};
    size_t num = 0;
    for (size_t i = 0; i < n; i++) {
        bool *at = &seen[zipfs_load16(words + 2 * i) * 40503u >> 4 & 4095];
        num += !*at;
        *at = true;
    }
    return num >= n - n / 8;
}

bool zipfs_is_noise(const struct zipfs_kernels *kernels, const uint8_t *src, size_t size, unsigned width) {
    uint8_t sample[GLANCE];
    if (size < NOISE_MIN || !top_is_flat(src, size, width))
        return false;
    take_sample(src, size, sample, GLANCE);
    return bytes_are_even(kernels, sample) && zipfs_words_are_many(sample, GLANCE / 4) && !zipfs_repeats_far(src, size);
}
