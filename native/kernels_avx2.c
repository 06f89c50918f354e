/* Kernels for AVX2: fields and elements, packed bits. rANS, XXH3 and the histogram are in other files *_avx2.c. */
#ifndef __clang__
#pragma GCC optimize("O3") /* unrolls the rounds of store_elements and load_elements */
#endif

#include "kernels.h"

#ifdef __x86_64__
#include <immintrin.h>

#include "common.h"

#define TARGET __attribute__((target("avx2")))
#define STEP TARGET static inline __attribute__((always_inline))

enum { GROUP = 32 }; /* values in a vector */

STEP __m256i load(const void *src) {
    return _mm256_loadu_si256(src);
}

STEP void store(void *dst, __m256i x) {
    _mm256_storeu_si256(dst, x);
}

/* Bits of `mask` from a, the others from b. */
STEP __m256i choose(__m256i mask, __m256i a, __m256i b) {
    return _mm256_or_si256(_mm256_and_si256(mask, a), _mm256_andnot_si256(mask, b));
}

/* ---- packed bits ---- */

/* Eight values fill `bits` bytes. Each value's byte and the next one go to a word, which is shifted up so far that the
 * value begins at bit 8. */
TARGET static void unpack(const uint8_t *src, unsigned bits, uint8_t *values, size_t n) {
    uint8_t place[32];
    uint16_t factor[16];
    for (unsigned i = 0; i < 32; i++) {
        unsigned offset = i / 2 % 8 * bits, first = i / 16 * bits + offset / 8;
        place[i] = (uint8_t)(first + i % 2);
        factor[i / 2] = (uint16_t)(1 << (8 - offset % 8));
    }
    const __m256i index = load(place), factors = load(factor), mask = _mm256_set1_epi8((char)((1u << bits) - 1));
    size_t i = 0;
    /* Both loads of 16 bytes lie within the plane. */
    for (; (n - i) * bits / 8 >= 2 * bits + 16; i += GROUP, src += 4 * bits) {
        __m256i x = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)src));
        __m256i y = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(src + 2 * bits)));
        x = _mm256_srli_epi16(_mm256_mullo_epi16(_mm256_shuffle_epi8(x, index), factors), 8);
        y = _mm256_srli_epi16(_mm256_mullo_epi16(_mm256_shuffle_epi8(y, index), factors), 8);
        x = _mm256_permute4x64_epi64(_mm256_packus_epi16(x, y), 0xd8);
        store(values + i, _mm256_and_si256(x, mask));
    }
    zipfs_kernels_scalar.unpack(src, bits, values + i, n - i);
}

/* Joins neighbours twice by multiply-add, then the halves of each quadword, then the bytes in use of both quadwords of
 * a half. */
TARGET static void pack(const uint8_t *values, unsigned bits, uint8_t *dst, size_t n) {
    const __m256i pair = _mm256_set1_epi16((short)(1 | 1 << (bits + 8)));
    const __m256i quad = _mm256_set1_epi32((int)(1 | UINT32_C(1) << (2 * bits + 16)));
    uint8_t used[32];
    for (unsigned i = 0; i < 32; i++) {
        unsigned k = i % 16;
        used[i] = (uint8_t)(k < 2 * bits ? k / bits * 8 + k % bits : 0x80);
    }
    const __m256i index = load(used), low_half = _mm256_set1_epi64x(0xffffffff);
    const __m128i up = _mm_cvtsi32_si128((int)(32 - 4 * bits));
    size_t i = 0;
    /* Both stores of 16 bytes lie within the plane; the next ones replace what they write too much. */
    for (; (n - i) * bits / 8 >= 2 * bits + 16; i += GROUP, dst += 4 * bits) {
        __m256i x = _mm256_madd_epi16(_mm256_maddubs_epi16(load(values + i), pair), quad);
        x = _mm256_or_si256(_mm256_and_si256(x, low_half), _mm256_srl_epi64(_mm256_andnot_si256(low_half, x), up));
        x = _mm256_shuffle_epi8(x, index);
        _mm_storeu_si128((__m128i *)dst, _mm256_castsi256_si128(x));
        _mm_storeu_si128((__m128i *)(dst + 2 * bits), _mm256_extracti128_si256(x, 1));
    }
    zipfs_kernels_scalar.pack(values + i, bits, dst, n - i);
}

/* ---- interleaving: vectors of 32 field bytes to vectors of elements, and back ---- */

/* a[0] b[0] a[1] b[1] ... */
STEP void zip(__m256i a, __m256i b, __m256i ret[2]) {
    __m256i low = _mm256_unpacklo_epi8(a, b), high = _mm256_unpackhi_epi8(a, b);
    ret[0] = _mm256_permute2x128_si256(low, high, 0x20);
    ret[1] = _mm256_permute2x128_si256(low, high, 0x31);
}

/* The even bytes of two vectors, and the odd ones. */
STEP void unzip(__m256i a, __m256i b, __m256i *even_ret, __m256i *odd_ret) {
    const __m256i low_bytes = _mm256_set1_epi16(0xff);
    __m256i even = _mm256_packus_epi16(_mm256_and_si256(a, low_bytes), _mm256_and_si256(b, low_bytes));
    __m256i odd = _mm256_packus_epi16(_mm256_srli_epi16(a, 8), _mm256_srli_epi16(b, 8));
    *even_ret = _mm256_permute4x64_epi64(even, 0xd8);
    *odd_ret = _mm256_permute4x64_epi64(odd, 0xd8);
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

/* ---- the sign of floats, 32 elements at a time ---- */

/* Shifts of bytes; bits that cross into a neighbour are the caller's to mask. */
STEP __m256i up(__m256i x, unsigned count) {
    return _mm256_slli_epi16(x, (int)count);
}

STEP __m256i down(__m256i x, unsigned count) {
    return _mm256_srli_epi16(x, (int)count);
}

STEP __m256i bytes(unsigned x) {
    return _mm256_set1_epi8((char)x);
}

/* Exponent and sign | 7 bits to the two top bytes of BF16 and F32. */
STEP void join_8(__m256i exponent, __m256i rest, __m256i *high, __m256i *low) {
    *high = choose(bytes(0x80), rest, down(exponent, 1));
    *low = choose(bytes(0x80), up(exponent, 7), rest);
}

STEP void part_8(__m256i high, __m256i low, __m256i *exponent, __m256i *rest) {
    *exponent = choose(bytes(0xfe), up(high, 1), _mm256_and_si256(down(low, 7), bytes(1)));
    *rest = choose(bytes(0x80), high, low);
}

/* Loops over whole groups of 32; the portable kernel does the rest. body sees i, planes and dst or src. */
#define MERGE(name, layout, width, num_fields, body)                                                                   \
    TARGET static void name(const uint8_t *const *planes, uint8_t *dst, size_t n) {                                    \
        size_t i = 0;                                                                                                  \
        for (; i + GROUP <= n; i += GROUP)                                                                             \
            body;                                                                                                      \
        const uint8_t *rest[num_fields];                                                                               \
        for (unsigned f = 0; f < num_fields; f++)                                                                      \
            rest[f] = planes[f] + i;                                                                                   \
        zipfs_kernels_scalar.merge[layout](rest, dst + width * i, n - i);                                              \
    }

#define SPLIT(name, layout, width, num_fields, body)                                                                   \
    TARGET static void name(const uint8_t *src, uint8_t *const *planes, size_t n) {                                    \
        size_t i = 0;                                                                                                  \
        for (; i + GROUP <= n; i += GROUP)                                                                             \
            body;                                                                                                      \
        uint8_t *rest[num_fields];                                                                                     \
        for (unsigned f = 0; f < num_fields; f++)                                                                      \
            rest[f] = planes[f] + i;                                                                                   \
        zipfs_kernels_scalar.split[layout](src + width * i, rest, n - i);                                              \
    }

STEP void merge_bf16_32(const uint8_t *const *planes, uint8_t *dst, size_t i) {
    __m256i b[2];
    join_8(load(planes[0] + i), load(planes[1] + i), &b[1], &b[0]);
    store_elements(dst, b, 2);
}

STEP void split_bf16_32(const uint8_t *src, uint8_t *const *planes, size_t i) {
    __m256i b[2], exponent, rest;
    load_elements(src, b, 2);
    part_8(b[1], b[0], &exponent, &rest);
    store(planes[0] + i, exponent);
    store(planes[1] + i, rest);
}

STEP void merge_f16_32(const uint8_t *const *planes, uint8_t *dst, size_t i) {
    __m256i exponent = load(planes[0] + i), middle = load(planes[1] + i);
    __m256i top = choose(bytes(0x80), up(middle, 5), up(exponent, 2));
    __m256i b[2] = {load(planes[2] + i), choose(bytes(3), middle, top)};
    store_elements(dst, b, 2);
}

STEP void split_f16_32(const uint8_t *src, uint8_t *const *planes, size_t i) {
    __m256i b[2];
    load_elements(src, b, 2);
    store(planes[0] + i, _mm256_and_si256(down(b[1], 2), bytes(31)));
    store(planes[1] + i, choose(bytes(3), b[1], _mm256_and_si256(down(b[1], 5), bytes(4))));
    store(planes[2] + i, b[0]);
}

STEP void merge_f32_32(const uint8_t *const *planes, uint8_t *dst, size_t i) {
    __m256i b[4] = {load(planes[3] + i), load(planes[2] + i)};
    join_8(load(planes[0] + i), load(planes[1] + i), &b[3], &b[2]);
    store_elements(dst, b, 4);
}

STEP void split_f32_32(const uint8_t *src, uint8_t *const *planes, size_t i) {
    __m256i b[4], exponent, rest;
    load_elements(src, b, 4);
    part_8(b[3], b[2], &exponent, &rest);
    store(planes[0] + i, exponent);
    store(planes[1] + i, rest);
    store(planes[2] + i, b[1]);
    store(planes[3] + i, b[0]);
}

/* y = 3 8 5 bits of exponent and sign and mantissa, then 6 bytes; x has the sign on top and 7 4 exponent bits in the
 * top bytes. */
STEP void merge_f64_32(const uint8_t *const *planes, uint8_t *dst, size_t i) {
    __m256i e_high = load(planes[0] + i), e_low = load(planes[1] + i), rest = load(planes[2] + i), b[8];
    for (unsigned k = 0; k < 6; k++)
        b[k] = load(planes[8 - k] + i);
    __m256i top = choose(bytes(0x70), up(e_high, 4), _mm256_and_si256(down(e_low, 4), bytes(0x0f)));
    b[7] = choose(bytes(0x80), up(rest, 3), top);
    b[6] = choose(bytes(0xf0), up(e_low, 4), rest);
    store_elements(dst, b, 8);
}

STEP void split_f64_32(const uint8_t *src, uint8_t *const *planes, size_t i) {
    __m256i b[8];
    load_elements(src, b, 8);
    store(planes[0] + i, _mm256_and_si256(down(b[7], 4), bytes(7)));
    store(planes[1] + i, choose(bytes(0xf0), up(b[7], 4), down(b[6], 4)));
    store(planes[2] + i, choose(bytes(0x0f), b[6], _mm256_and_si256(down(b[7], 3), bytes(0x10))));
    for (unsigned k = 0; k < 6; k++)
        store(planes[8 - k] + i, b[k]);
}

STEP void merge_e4m3_32(const uint8_t *const *planes, uint8_t *dst, size_t i) {
    __m256i rest = load(planes[1] + i);
    __m256i top = choose(bytes(0x80), up(rest, 4), up(load(planes[0] + i), 3));
    store(dst, choose(bytes(7), rest, top));
}

STEP void split_e4m3_32(const uint8_t *src, uint8_t *const *planes, size_t i) {
    __m256i x = load(src);
    store(planes[0] + i, _mm256_and_si256(down(x, 3), bytes(15)));
    store(planes[1] + i, choose(bytes(7), x, _mm256_and_si256(down(x, 4), bytes(8))));
}

STEP void merge_e5m2_32(const uint8_t *const *planes, uint8_t *dst, size_t i) {
    __m256i rest = load(planes[1] + i);
    __m256i top = choose(bytes(0x80), up(rest, 5), up(load(planes[0] + i), 2));
    store(dst, choose(bytes(3), rest, top));
}

STEP void split_e5m2_32(const uint8_t *src, uint8_t *const *planes, size_t i) {
    __m256i x = load(src);
    store(planes[0] + i, _mm256_and_si256(down(x, 2), bytes(31)));
    store(planes[1] + i, choose(bytes(3), x, _mm256_and_si256(down(x, 5), bytes(4))));
}

STEP void merge_integers_32(const uint8_t *const *planes, uint8_t *dst, size_t i, unsigned width) {
    __m256i b[8];
    for (unsigned k = 0; k < width; k++)
        b[k] = load(planes[width - 1 - k] + i);
    store_elements(dst, b, width);
}

STEP void split_integers_32(const uint8_t *src, uint8_t *const *planes, size_t i, unsigned width) {
    __m256i b[8];
    load_elements(src, b, width);
    for (unsigned k = 0; k < width; k++)
        store(planes[width - 1 - k] + i, b[k]);
}

MERGE(merge_bf16, ZIPFS_BF16, 2, 2, merge_bf16_32(planes, dst + 2 * i, i))
SPLIT(split_bf16, ZIPFS_BF16, 2, 2, split_bf16_32(src + 2 * i, planes, i))
MERGE(merge_f16, ZIPFS_F16, 2, 3, merge_f16_32(planes, dst + 2 * i, i))
SPLIT(split_f16, ZIPFS_F16, 2, 3, split_f16_32(src + 2 * i, planes, i))
MERGE(merge_f32, ZIPFS_F32, 4, 4, merge_f32_32(planes, dst + 4 * i, i))
SPLIT(split_f32, ZIPFS_F32, 4, 4, split_f32_32(src + 4 * i, planes, i))
MERGE(merge_f64, ZIPFS_F64, 8, 9, merge_f64_32(planes, dst + 8 * i, i))
SPLIT(split_f64, ZIPFS_F64, 8, 9, split_f64_32(src + 8 * i, planes, i))
MERGE(merge_e4m3, ZIPFS_F8_E4M3, 1, 2, merge_e4m3_32(planes, dst + i, i))
SPLIT(split_e4m3, ZIPFS_F8_E4M3, 1, 2, split_e4m3_32(src + i, planes, i))
MERGE(merge_e5m2, ZIPFS_F8_E5M2, 1, 2, merge_e5m2_32(planes, dst + i, i))
SPLIT(split_e5m2, ZIPFS_F8_E5M2, 1, 2, split_e5m2_32(src + i, planes, i))
MERGE(merge_i16, ZIPFS_I16, 2, 2, merge_integers_32(planes, dst + 2 * i, i, 2))
SPLIT(split_i16, ZIPFS_I16, 2, 2, split_integers_32(src + 2 * i, planes, i, 2))
MERGE(merge_i32, ZIPFS_I32, 4, 4, merge_integers_32(planes, dst + 4 * i, i, 4))
SPLIT(split_i32, ZIPFS_I32, 4, 4, split_integers_32(src + 4 * i, planes, i, 4))
MERGE(merge_i64, ZIPFS_I64, 8, 8, merge_integers_32(planes, dst + 8 * i, i, 8))
SPLIT(split_i64, ZIPFS_I64, 8, 8, split_integers_32(src + 8 * i, planes, i, 8))

const struct zipfs_kernels zipfs_kernels_avx2 = {
    .name = "avx2",
    .hash = zipfs_hash_avx2,
    .histogram = zipfs_histogram_avx2,
    .count_codes = zipfs_count_codes_scalar,
    .unpack = unpack,
    .pack = pack,
    .rans_decode = zipfs_rans_decode_scalar,
    .rans_numbers = zipfs_rans_numbers_scalar,
    .rans_patterns = zipfs_rans_patterns_scalar,
    .rans_encode = zipfs_rans_encode_scalar,
    .merge = {NULL, merge_bf16, merge_f16, merge_f32, merge_f64, merge_e4m3, merge_e5m2, merge_i16, merge_i32,
              merge_i64},
    .split = {NULL, split_bf16, split_f16, split_f32, split_f64, split_e4m3, split_e5m2, split_i16, split_i32,
              split_i64},
};

#endif
