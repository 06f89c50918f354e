/* Steps that the AVX-512 kernels share: F, BW, VL, VBMI and VBMI2. */
#ifndef ZIPFS_AVX512_H
#define ZIPFS_AVX512_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,popcnt,bmi2")))
#define STEP TARGET static inline __attribute__((always_inline))

enum { GROUP = 64 }; /* values in a vector */

STEP __m512i load(const void *src) {
    return _mm512_loadu_si512(src);
}

STEP void store(void *dst, __m512i x) {
    _mm512_storeu_si512(dst, x);
}

/* Bits of `mask` from a, the others from b. */
STEP __m512i choose(__m512i mask, __m512i a, __m512i b) {
    return _mm512_ternarylogic_epi32(mask, a, b, 0xca);
}

/* The lowest `count` bytes of a vector, as a mask. */
STEP __mmask64 first(size_t count) {
    return count >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << count) - 1;
}

/* A table of 256 bytes in four vectors, looked up 64 times. */
struct table256 {
    __m512i part[4];
};

STEP struct table256 load_table256(const uint8_t table[256]) {
    struct table256 t;
    for (unsigned i = 0; i < 4; i++)
        t.part[i] = load(table + 64 * i);
    return t;
}

STEP __m512i look_up(const struct table256 *t, __m512i index) {
    __m512i lower = _mm512_permutex2var_epi8(t->part[0], index, t->part[1]);
    __m512i upper = _mm512_permutex2var_epi8(t->part[2], index, t->part[3]);
    return _mm512_mask_mov_epi8(lower, _mm512_movepi8_mask(index), upper);
}

/* 64 values of `bits` bits, packed in the first bytes of x, to a byte each; their upper bits are not cleared. Eight
 * values fill `bits` bytes: those are spread over a quadword, and each value is shifted to its byte. */
STEP __m512i spread_bits(__m512i x, unsigned bits) {
    uint8_t spread[64], shift[64];
    for (unsigned i = 0; i < 64; i++) {
        spread[i] = (uint8_t)((i / 8 * bits + i % 8) & 63);
        shift[i] = (uint8_t)(i % 8 * bits);
    }
    return _mm512_multishift_epi64_epi8(load(shift), _mm512_permutexvar_epi8(load(spread), x));
}

/* Shifts of bytes; bits that cross into a neighbour are the caller's to mask. */
STEP __m512i up(__m512i x, unsigned count) {
    return _mm512_slli_epi16(x, count);
}

STEP __m512i down(__m512i x, unsigned count) {
    return _mm512_srli_epi16(x, count);
}

STEP __m512i bytes(unsigned x) {
    return _mm512_set1_epi8((char)x);
}

/* ---- interleaving: vectors of 64 field bytes to vectors of elements, and back ---- */

/* a[0] b[0] a[1] b[1] ... of the lower or upper halves, in units of 1, 2 and 4 bytes. */
STEP __m512i zip8(__m512i a, __m512i b, bool upper) {
    uint8_t index[64];
    for (unsigned i = 0; i < 64; i++)
        index[i] = (uint8_t)(i / 2 + 32 * upper + 64 * (i % 2));
    return _mm512_permutex2var_epi8(a, load(index), b);
}

STEP __m512i zip16(__m512i a, __m512i b, bool upper) {
    uint16_t index[32];
    for (unsigned i = 0; i < 32; i++)
        index[i] = (uint16_t)(i / 2 + 16 * upper + 32 * (i % 2));
    return _mm512_permutex2var_epi16(a, load(index), b);
}

STEP __m512i zip32(__m512i a, __m512i b, bool upper) {
    uint32_t index[16];
    for (unsigned i = 0; i < 16; i++)
        index[i] = i / 2 + 8 * upper + 16 * (i % 2);
    return _mm512_permutex2var_epi32(a, load(index), b);
}

/* Every second unit of the two vectors, from the first or the second on. */
STEP __m512i unzip8(__m512i a, __m512i b, bool odd) {
    uint8_t index[64];
    for (unsigned i = 0; i < 64; i++)
        index[i] = (uint8_t)(2 * i + odd);
    return _mm512_permutex2var_epi8(a, load(index), b);
}

STEP __m512i unzip16(__m512i a, __m512i b, bool odd) {
    uint16_t index[32];
    for (unsigned i = 0; i < 32; i++)
        index[i] = (uint16_t)(2 * i + odd);
    return _mm512_permutex2var_epi16(a, load(index), b);
}

STEP __m512i unzip32(__m512i a, __m512i b, bool odd) {
    uint32_t index[16];
    for (unsigned i = 0; i < 16; i++)
        index[i] = 2 * i + odd;
    return _mm512_permutex2var_epi32(a, load(index), b);
}

/* Stores 64 words (doublewords) whose bytes are b[0], the lowest, to b[1] (b[3]); and loads them. */
STEP void store_words(uint8_t *dst, const __m512i *b) {
    store(dst, zip8(b[0], b[1], false));
    store(dst + 64, zip8(b[0], b[1], true));
}

STEP void store_doublewords(uint8_t *dst, const __m512i *b) {
    for (unsigned half = 0; half < 2; half++) {
        __m512i low = zip8(b[0], b[1], half), high = zip8(b[2], b[3], half);
        store(dst + 128 * half, zip16(low, high, false));
        store(dst + 128 * half + 64, zip16(low, high, true));
    }
}

STEP void load_words(const uint8_t *src, __m512i *b) {
    __m512i x0 = load(src), x1 = load(src + 64);
    b[0] = unzip8(x0, x1, false);
    b[1] = unzip8(x0, x1, true);
}

STEP void load_doublewords(const uint8_t *src, __m512i *b) {
    __m512i low[2], high[2];
    for (unsigned half = 0; half < 2; half++) {
        __m512i x0 = load(src + 128 * half), x1 = load(src + 128 * half + 64);
        low[half] = unzip16(x0, x1, false);
        high[half] = unzip16(x0, x1, true);
    }
    b[0] = unzip8(low[0], low[1], false);
    b[1] = unzip8(low[0], low[1], true);
    b[2] = unzip8(high[0], high[1], false);
    b[3] = unzip8(high[0], high[1], true);
}

#endif
