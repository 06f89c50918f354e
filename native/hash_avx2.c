/*
 * XXH3-64 with 256-bit vectors. The whole header is compiled for AVX2, since xxHash chooses its vector width when it
 * is compiled; nothing of it is visible outside but the one function, which cpu.c only calls where the CPU can run it.
 */
#include "kernels.h"

#ifdef __x86_64__
#include <immintrin.h>
#include <stdlib.h>
#include <string.h>

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2")
#endif

#define XXH_VECTOR 2 /* XXH_AVX2 */
#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t zipfs_hash_avx2(const uint8_t *src, size_t src_size, uint64_t seed) {
    uint64_t hash = XXH3_64bits_withSeed(src, src_size, seed);
    _mm256_zeroupper(); /* gcc 12 leaves it out here, and SSE code that follows then runs at a quarter of its speed */
    return hash;
}

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
