/* The histogram with AVX2. Exponents have few different values: comparing with each of them is faster than counting in
 * memory. Planes that turn out to be of another kind are left to the portable loop. */
#ifndef __clang__
#pragma GCC optimize("O3") /* keeps the counts of a pass in registers */
#endif

#include "kernels.h"

#ifdef __x86_64__
#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx2")))
#define STEP TARGET static inline __attribute__((always_inline))

enum {
    GROUP = 32,         /* values in a vector */
    COUNT_BLOCK = 4096, /* less than 256 vectors, since counts are kept in bytes */
    COUNT_MIN = 4 * COUNT_BLOCK,
    COMMON = 16, /* values that are counted by comparing */
    PER_PASS = COMMON / 2,
};

/* Chooses the values that are most frequent by `count`; returns how many of them, and the sum of their counts. */
static unsigned find_common(const uint32_t count[256], uint8_t common_ret[COMMON], size_t *covered_ret) {
    uint8_t seen[256];
    unsigned num_seen = 0, num_common = 0;
    for (unsigned v = 0; v < 256; v++) {
        seen[num_seen] = (uint8_t)v;
        num_seen += count[v] > 0;
    }
    *covered_ret = 0;
    for (; num_common < COMMON && num_seen; num_common++) {
        unsigned best = 0;
        for (unsigned i = 1; i < num_seen; i++)
            best = count[seen[i]] > count[seen[best]] ? i : best;
        common_ret[num_common] = seen[best];
        *covered_ret += count[seen[best]];
        seen[best] = seen[--num_seen];
    }
    return num_common;
}

STEP uint32_t sum_of_bytes(__m256i x) {
    __m256i sums = _mm256_sad_epu8(x, _mm256_setzero_si256());
    __m128i sum = _mm_add_epi64(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    return (uint32_t)(_mm_extract_epi64(sum, 0) + _mm_extract_epi64(sum, 1));
}

/* Counts PER_PASS values in a block; `found` tells the places of all values that were looked for. */
STEP void count_pass(const uint8_t *values, const __m256i *sought, __m256i *found, uint32_t count_ret[PER_PASS]) {
    __m256i count[PER_PASS];
    for (unsigned k = 0; k < PER_PASS; k++)
        count[k] = _mm256_setzero_si256();
    for (size_t i = 0; i < COUNT_BLOCK / GROUP; i++) {
        __m256i x = _mm256_loadu_si256((const __m256i *)(values + GROUP * i)), any = found[i];
        for (unsigned k = 0; k < PER_PASS; k++) {
            __m256i equal = _mm256_cmpeq_epi8(x, sought[k]);
            count[k] = _mm256_sub_epi8(count[k], equal);
            any = _mm256_or_si256(any, equal);
        }
        found[i] = any;
    }
    for (unsigned k = 0; k < PER_PASS; k++)
        count_ret[k] = sum_of_bytes(count[k]);
}

/* Adds the counts of a block in which most values are among the common ones; others are counted one by one. */
TARGET static void count_block(const uint8_t *values, const __m256i *sought, const uint8_t *common, unsigned num_common,
                               uint32_t *count) {
    __m256i found[COUNT_BLOCK / GROUP];
    uint32_t common_count[COMMON];
    memset(found, 0, sizeof found);
    size_t total = 0;
    count_pass(values, sought, found, common_count);
    if (num_common > PER_PASS)
        count_pass(values, sought + PER_PASS, found, common_count + PER_PASS);
    for (unsigned k = 0; k < num_common; k++)
        total += common_count[k];
    if (total < COUNT_BLOCK / 16 * 15) {
        uint32_t all[256];
        zipfs_histogram_scalar(values, COUNT_BLOCK, all);
        for (unsigned v = 0; v < 256; v++)
            count[v] += all[v];
        return;
    }
    for (unsigned k = 0; k < num_common; k++)
        count[common[k]] += common_count[k];
    for (size_t i = 0; i < COUNT_BLOCK / GROUP && total < COUNT_BLOCK; i++)
        for (uint32_t rest = ~(uint32_t)_mm256_movemask_epi8(found[i]); rest; rest &= rest - 1, total++)
            count[values[GROUP * i + (unsigned)__builtin_ctz(rest)]]++;
}

TARGET void zipfs_histogram_avx2(const uint8_t *values, size_t n, uint32_t count_ret[256]) {
    uint8_t common[COMMON] = {0};
    __m256i sought[COMMON];
    size_t covered, i = COUNT_BLOCK;
    zipfs_histogram_scalar(values, n < COUNT_MIN ? n : COUNT_BLOCK, count_ret);
    if (n < COUNT_MIN)
        return;
    unsigned num_common = find_common(count_ret, common, &covered);
    for (unsigned k = 0; k < COMMON; k++) /* values beyond the last are sought again, and that count is not used */
        sought[k] = _mm256_set1_epi8((char)common[k < num_common ? k : 0]);
    for (; covered >= COUNT_BLOCK / 64 * 63 && n - i >= COUNT_BLOCK; i += COUNT_BLOCK)
        count_block(values + i, sought, common, num_common, count_ret);
    uint32_t rest[256];
    zipfs_histogram_scalar(values + i, n - i, rest);
    for (unsigned v = 0; v < 256; v++)
        count_ret[v] += rest[v];
}

#endif
