/* Steps that the AVX2 kernels share. The files that use them ask the compiler for O3, since the loops over rows and
 * rounds must not stay loops. */
#ifndef ZIPFS_AVX2_H
#define ZIPFS_AVX2_H

#include <immintrin.h>

#define TARGET __attribute__((target("avx2,popcnt")))
#define STEP TARGET static inline __attribute__((always_inline))

enum {
    GROUP = 32, /* values in a vector */
    ROW = 16,   /* entries that one shuffle looks up */
};

STEP __m256i load(const void *src) {
    return _mm256_loadu_si256(src);
}

STEP void store(void *dst, __m256i x) {
    _mm256_storeu_si256(dst, x);
}

/* 16 bytes in both halves: a row that one shuffle looks up. */
STEP __m256i row(const uint8_t *src) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)src));
}

STEP __m256i halves(const uint8_t *low, const uint8_t *high) {
    __m256i x = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)low));
    return _mm256_inserti128_si256(x, _mm_loadu_si128((const __m128i *)high), 1);
}

STEP __m256i bytes(unsigned x) {
    return _mm256_set1_epi8((char)x);
}

STEP uint32_t top_bits(__m256i x) {
    return (uint32_t)_mm256_movemask_epi8(x);
}

/* Bits of `mask` from a, the others from b. */
STEP __m256i choose(__m256i mask, __m256i a, __m256i b) {
    return _mm256_or_si256(_mm256_and_si256(mask, a), _mm256_andnot_si256(mask, b));
}

/* Shifts of bytes; bits that cross into a neighbour are the caller's to mask. */
STEP __m256i up(__m256i x, unsigned count) {
    return _mm256_slli_epi16(x, (int)count);
}

STEP __m256i down(__m256i x, unsigned count) {
    return _mm256_srli_epi16(x, (int)count);
}

/* ---- tables of 256 bytes of which most rows are one and the same value ---- */

struct sparse_table {
    unsigned num_rows;
    __m256i row[256 / ROW], upper[256 / ROW]; /* with the upper four bits of their indices */
    __m256i other;                            /* the entry of all other rows */
};

TARGET static inline void load_sparse_table(const uint8_t table[256], unsigned other, struct sparse_table *t) {
    t->other = bytes(other);
    t->num_rows = 0;
    for (unsigned r = 0; r < 256 / ROW; r++) {
        __m256i x = row(table + ROW * r);
        if (top_bits(_mm256_cmpeq_epi8(x, t->other)) == UINT32_MAX)
            continue;
        t->row[t->num_rows] = x;
        t->upper[t->num_rows++] = bytes(ROW * r);
    }
}

STEP __m256i look_up_sparse(const struct sparse_table *t, __m256i index) {
    __m256i place = _mm256_and_si256(index, bytes(15)), upper = _mm256_and_si256(index, bytes(0xf0)), x = t->other;
    for (unsigned r = 0; r < t->num_rows; r++)
        x = _mm256_blendv_epi8(x, _mm256_shuffle_epi8(t->row[r], place), _mm256_cmpeq_epi8(upper, t->upper[r]));
    return x;
}

/* ---- bytes and words ---- */

STEP __m256i even_bytes(__m256i x) {
    return _mm256_and_si256(x, _mm256_set1_epi16(0xff));
}

STEP __m256i odd_bytes(__m256i x) {
    return _mm256_srli_epi16(x, 8);
}

/* Even bytes from a, odd ones from b. */
STEP __m256i alternate(__m256i a, __m256i b) {
    return _mm256_blendv_epi8(a, b, _mm256_set1_epi16((short)0xff00));
}

/* a[0] b[0] a[1] b[1] ... */
STEP void zip(__m256i a, __m256i b, __m256i ret[2]) {
    __m256i low = _mm256_unpacklo_epi8(a, b), high = _mm256_unpackhi_epi8(a, b);
    ret[0] = _mm256_permute2x128_si256(low, high, 0x20);
    ret[1] = _mm256_permute2x128_si256(low, high, 0x31);
}

/* The even bytes of two vectors, and the odd ones. */
STEP void unzip(__m256i a, __m256i b, __m256i *even_ret, __m256i *odd_ret) {
    *even_ret = _mm256_permute4x64_epi64(_mm256_packus_epi16(even_bytes(a), even_bytes(b)), 0xd8);
    *odd_ret = _mm256_permute4x64_epi64(_mm256_packus_epi16(odd_bytes(a), odd_bytes(b)), 0xd8);
}

/* Stores 32 elements of `width` (2, 4 or 8) bytes, whose bytes are b[0], the lowest, to b[width - 1]: every round of
 * zips brings the bytes of an element together that lie half the width apart. */
STEP void store_elements(uint8_t *dst, const __m256i *b, unsigned width) {
    __m256i from[8], to[8];
    for (unsigned k = 0; k < width; k++)
        from[k] = b[k];
    for (unsigned round = 1; round < width; round *= 2) {
        for (unsigned k = 0; k < width / 2; k++)
            zip(from[k], from[k + width / 2], &to[2 * k]);
        for (unsigned k = 0; k < width; k++)
            from[k] = to[k];
    }
    for (unsigned k = 0; k < width; k++)
        store(dst + GROUP * k, from[k]);
}

STEP void load_elements(const uint8_t *src, __m256i *b, unsigned width) {
    __m256i from[8];
    for (unsigned k = 0; k < width; k++)
        b[k] = load(src + GROUP * k);
    for (unsigned round = 1; round < width; round *= 2) {
        for (unsigned k = 0; k < width; k++)
            from[k] = b[k];
        for (unsigned k = 0; k < width / 2; k++)
            unzip(from[2 * k], from[2 * k + 1], &b[k], &b[k + width / 2]);
    }
}

#endif
