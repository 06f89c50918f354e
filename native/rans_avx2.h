/* What decoding and encoding of rANS with AVX2 share: groups of states as vectors of bytes, and look-ups by shuffles.
 * The files that use it ask the compiler for O3, since the loops over rows must not stay loops. */
#ifndef ZIPFS_RANS_AVX2_H
#define ZIPFS_RANS_AVX2_H

#include <immintrin.h>

#include "common.h"
#include "rans.h"

#define TARGET __attribute__((target("avx2,popcnt")))
#define STEP TARGET static inline __attribute__((always_inline))

enum {
    GROUP = 32,
    ROW = 16, /* entries that one shuffle looks up */
    MAX_GROUPS = ZIPFS_RANS_MAX_LANES / GROUP,
};

struct lanes {
    __m256i low, high; /* of 32 states */
};

STEP __m256i load(const void *src) {
    return _mm256_loadu_si256(src);
}

STEP void store(void *dst, __m256i x) {
    _mm256_storeu_si256(dst, x);
}

STEP __m256i row(const uint8_t *src) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)src));
}

STEP __m256i bytes(unsigned x) {
    return _mm256_set1_epi8((char)x);
}

/* Even bytes from a, odd ones from b. */
STEP __m256i alternate(__m256i a, __m256i b) {
    return _mm256_blendv_epi8(a, b, _mm256_set1_epi16((short)0xff00));
}

/* The low bytes of two vectors of words, and the high ones: word i of each to bytes 2 * i and 2 * i + 1. */
STEP struct lanes to_bytes(__m256i even, __m256i odd) {
    return (struct lanes){alternate(even, _mm256_slli_epi16(odd, 8)), alternate(_mm256_srli_epi16(even, 8), odd)};
}

STEP __m256i even_bytes(__m256i x) {
    return _mm256_and_si256(x, _mm256_set1_epi16(0xff));
}

STEP __m256i odd_bytes(__m256i x) {
    return _mm256_srli_epi16(x, 8);
}

/* a[0] b[0] a[1] b[1] ... */
STEP void interleave(__m256i a, __m256i b, __m256i ret[2]) {
    __m256i low = _mm256_unpacklo_epi8(a, b), high = _mm256_unpackhi_epi8(a, b);
    ret[0] = _mm256_permute2x128_si256(low, high, 0x20);
    ret[1] = _mm256_permute2x128_si256(low, high, 0x31);
}

STEP void load_states(const uint16_t *state, struct lanes *lanes, unsigned groups) {
    for (unsigned g = 0; g < groups; g++) {
        __m256i a = load(state + GROUP * g), b = load(state + GROUP * g + GROUP / 2);
        __m256i low = _mm256_packus_epi16(even_bytes(a), even_bytes(b));
        __m256i high = _mm256_packus_epi16(odd_bytes(a), odd_bytes(b));
        lanes[g].low = _mm256_permute4x64_epi64(low, 0xd8);
        lanes[g].high = _mm256_permute4x64_epi64(high, 0xd8);
    }
}

STEP void store_states(uint16_t *state, const struct lanes *lanes, unsigned groups) {
    for (unsigned g = 0; g < groups; g++) {
        __m256i words[2];
        interleave(lanes[g].low, lanes[g].high, words);
        store(state + GROUP * g, words[0]);
        store(state + GROUP * g + GROUP / 2, words[1]);
    }
}

/* Rows that hold `limit` symbols. */
STEP unsigned rows_of(unsigned limit) {
    return limit <= ROW ? 1 : limit / ROW;
}

/* Entries of a table of `rows` rows (1, 2, 4 or 16), by an index in each byte. */
STEP __m256i look_up(const uint8_t *table, unsigned rows, __m256i index) {
    /* A shuffle takes a set top bit for zero; only the largest table has indices of more than 6 bits. */
    __m256i place = rows == 16 ? _mm256_and_si256(index, bytes(15)) : index;
    __m256i found[16];
    for (unsigned i = 0; i < rows; i++)
        found[i] = _mm256_shuffle_epi8(row(table + ROW * i), place);
    /* Bit 4 of the index tells rows 0 and 1 apart, and so on; the blend looks at the top bit of each byte. */
    for (unsigned bit = 4, left = rows; left > 1; bit++, left /= 2) {
        __m256i upper = _mm256_slli_epi16(index, (int)(7 - bit));
        for (unsigned i = 0; i < left / 2; i++)
            found[i] = _mm256_blendv_epi8(found[2 * i], found[2 * i + 1], upper);
    }
    return found[0];
}

STEP uint32_t top_bits(__m256i x) {
    return (uint32_t)_mm256_movemask_epi8(x);
}

#endif
