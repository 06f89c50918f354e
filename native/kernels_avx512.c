/* Kernels for AVX-512 with F, BW, VL, VBMI and VBMI2: fields and elements, packed bits. rANS is in rans_avx512.c, XXH3
 * in hash_avx512.c. */
#include "kernels.h"

#ifdef __x86_64__
#include <immintrin.h>

#include "common.h"

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2")))
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

/* ---- packed bits ---- */

/* Eight values fill `bits` bytes: spread those over a quadword, shift each value to its byte. */
TARGET static void unpack(const uint8_t *src, unsigned bits, uint8_t *values, size_t n) {
    uint8_t spread[64], shift[64];
    for (unsigned i = 0; i < 64; i++) {
        spread[i] = (uint8_t)((i / 8 * bits + i % 8) & 63);
        shift[i] = (uint8_t)(i % 8 * bits);
    }
    const __m512i index = load(spread), shifts = load(shift), mask = _mm512_set1_epi8((char)((1u << bits) - 1));
    for (size_t i = 0; i < n; i += GROUP) {
        size_t count = zipfs_min(n - i, GROUP), size = (count * bits + 7) / 8;
        __m512i x = _mm512_maskz_loadu_epi8(size >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << size) - 1, src);
        x = _mm512_and_si512(_mm512_multishift_epi64_epi8(shifts, _mm512_permutexvar_epi8(index, x)), mask);
        _mm512_mask_storeu_epi8(values + i, count >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << count) - 1, x);
        src += size;
    }
}

/* Joins neighbours twice by multiply-add, then the halves of each quadword, then the bytes that are in use. */
TARGET static void pack(const uint8_t *values, unsigned bits, uint8_t *dst, size_t n) {
    const __m512i pair = _mm512_set1_epi16((short)(1 | 1 << (bits + 8)));
    const __m512i quad = _mm512_set1_epi32((int)(1 | UINT32_C(1) << (2 * bits + 16)));
    uint8_t used[64];
    for (unsigned i = 0; i < 64; i++)
        used[i] = (uint8_t)((i / bits * 8 + i % bits) & 63);
    const __m512i index = load(used), low_half = _mm512_set1_epi64(0xffffffff);
    for (size_t i = 0; i < n; i += GROUP) {
        size_t count = zipfs_min(n - i, GROUP), size = (count * bits + 7) / 8;
        __m512i x = _mm512_maskz_loadu_epi8(count >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << count) - 1, values + i);
        x = _mm512_madd_epi16(_mm512_maddubs_epi16(x, pair), quad);
        x = _mm512_or_si512(_mm512_and_si512(x, low_half),
                            _mm512_srli_epi64(_mm512_andnot_si512(low_half, x), 32 - 4 * bits));
        x = _mm512_permutexvar_epi8(index, x);
        _mm512_mask_storeu_epi8(dst, size >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << size) - 1, x);
        dst += size;
    }
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

/* Stores 64 words (doublewords, quadwords) whose bytes are b[0], the lowest, to b[1] (b[3], b[7]). */
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

STEP void store_quadwords(uint8_t *dst, const __m512i *b) {
    for (unsigned half = 0; half < 2; half++) {
        __m512i w0 = zip8(b[0], b[1], half), w1 = zip8(b[2], b[3], half), w2 = zip8(b[4], b[5], half),
                w3 = zip8(b[6], b[7], half);
        for (unsigned quarter = 0; quarter < 2; quarter++) {
            __m512i low = zip16(w0, w1, quarter), high = zip16(w2, w3, quarter);
            store(dst + 256 * half + 128 * quarter, zip32(low, high, false));
            store(dst + 256 * half + 128 * quarter + 64, zip32(low, high, true));
        }
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

STEP void load_quadwords(const uint8_t *src, __m512i *b) {
    __m512i half[2][4];
    for (unsigned i = 0; i < 4; i++) {
        __m512i x0 = load(src + 128 * i), x1 = load(src + 128 * i + 64);
        half[0][i] = unzip32(x0, x1, false);
        half[1][i] = unzip32(x0, x1, true);
    }
    for (unsigned h = 0; h < 2; h++) {
        __m512i w0[2], w1[2];
        for (unsigned i = 0; i < 2; i++) {
            w0[i] = unzip16(half[h][2 * i], half[h][2 * i + 1], false);
            w1[i] = unzip16(half[h][2 * i], half[h][2 * i + 1], true);
        }
        b[4 * h] = unzip8(w0[0], w0[1], false);
        b[4 * h + 1] = unzip8(w0[0], w0[1], true);
        b[4 * h + 2] = unzip8(w1[0], w1[1], false);
        b[4 * h + 3] = unzip8(w1[0], w1[1], true);
    }
}

/* ---- the sign of floats, 64 elements at a time ---- */

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

/* Exponent and sign | 7 bits to the two top bytes of BF16 and F32. */
STEP void join_8(__m512i exponent, __m512i rest, __m512i *high, __m512i *low) {
    *high = choose(bytes(0x80), rest, down(exponent, 1));
    *low = choose(bytes(0x80), up(exponent, 7), rest);
}

STEP void part_8(__m512i high, __m512i low, __m512i *exponent, __m512i *rest) {
    *exponent = choose(bytes(0xfe), up(high, 1), _mm512_and_si512(down(low, 7), bytes(1)));
    *rest = choose(bytes(0x80), high, low);
}

/* Loops over whole groups of 64; the portable kernel does the rest. body sees i, planes and dst or src. */
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

STEP void merge_bf16_64(const uint8_t *const *planes, uint8_t *dst, size_t i) {
    __m512i b[2];
    join_8(load(planes[0] + i), load(planes[1] + i), &b[1], &b[0]);
    store_words(dst, b);
}

STEP void split_bf16_64(const uint8_t *src, uint8_t *const *planes, size_t i) {
    __m512i b[2], exponent, rest;
    load_words(src, b);
    part_8(b[1], b[0], &exponent, &rest);
    store(planes[0] + i, exponent);
    store(planes[1] + i, rest);
}

STEP void merge_f16_64(const uint8_t *const *planes, uint8_t *dst, size_t i) {
    __m512i exponent = load(planes[0] + i), middle = load(planes[1] + i);
    __m512i top = choose(bytes(0x80), up(middle, 5), up(exponent, 2));
    __m512i b[2] = {load(planes[2] + i), choose(bytes(3), middle, top)};
    store_words(dst, b);
}

STEP void split_f16_64(const uint8_t *src, uint8_t *const *planes, size_t i) {
    __m512i b[2];
    load_words(src, b);
    store(planes[0] + i, _mm512_and_si512(down(b[1], 2), bytes(31)));
    store(planes[1] + i, choose(bytes(3), b[1], _mm512_and_si512(down(b[1], 5), bytes(4))));
    store(planes[2] + i, b[0]);
}

STEP void merge_f32_64(const uint8_t *const *planes, uint8_t *dst, size_t i) {
    __m512i b[4] = {load(planes[3] + i), load(planes[2] + i)};
    join_8(load(planes[0] + i), load(planes[1] + i), &b[3], &b[2]);
    store_doublewords(dst, b);
}

STEP void split_f32_64(const uint8_t *src, uint8_t *const *planes, size_t i) {
    __m512i b[4], exponent, rest;
    load_doublewords(src, b);
    part_8(b[3], b[2], &exponent, &rest);
    store(planes[0] + i, exponent);
    store(planes[1] + i, rest);
    store(planes[2] + i, b[1]);
    store(planes[3] + i, b[0]);
}

/* y = 3 8 5 bits of exponent and sign and mantissa, then 6 bytes; x has the sign on top and 7 4 exponent bits in the
 * top bytes. */
STEP void merge_f64_64(const uint8_t *const *planes, uint8_t *dst, size_t i) {
    __m512i e_high = load(planes[0] + i), e_low = load(planes[1] + i), rest = load(planes[2] + i), b[8];
    for (unsigned k = 0; k < 6; k++)
        b[k] = load(planes[8 - k] + i);
    __m512i top = choose(bytes(0x70), up(e_high, 4), _mm512_and_si512(down(e_low, 4), bytes(0x0f)));
    b[7] = choose(bytes(0x80), up(rest, 3), top);
    b[6] = choose(bytes(0xf0), up(e_low, 4), rest);
    store_quadwords(dst, b);
}

STEP void split_f64_64(const uint8_t *src, uint8_t *const *planes, size_t i) {
    __m512i b[8];
    load_quadwords(src, b);
    store(planes[0] + i, _mm512_and_si512(down(b[7], 4), bytes(7)));
    store(planes[1] + i, choose(bytes(0xf0), up(b[7], 4), down(b[6], 4)));
    store(planes[2] + i, choose(bytes(0x0f), b[6], _mm512_and_si512(down(b[7], 3), bytes(0x10))));
    for (unsigned k = 0; k < 6; k++)
        store(planes[8 - k] + i, b[k]);
}

STEP void merge_e4m3_64(const uint8_t *const *planes, uint8_t *dst, size_t i) {
    __m512i rest = load(planes[1] + i);
    __m512i top = choose(bytes(0x80), up(rest, 4), up(load(planes[0] + i), 3));
    store(dst, choose(bytes(7), rest, top));
}

STEP void split_e4m3_64(const uint8_t *src, uint8_t *const *planes, size_t i) {
    __m512i x = load(src);
    store(planes[0] + i, _mm512_and_si512(down(x, 3), bytes(15)));
    store(planes[1] + i, choose(bytes(7), x, _mm512_and_si512(down(x, 4), bytes(8))));
}

STEP void merge_e5m2_64(const uint8_t *const *planes, uint8_t *dst, size_t i) {
    __m512i rest = load(planes[1] + i);
    __m512i top = choose(bytes(0x80), up(rest, 5), up(load(planes[0] + i), 2));
    store(dst, choose(bytes(3), rest, top));
}

STEP void split_e5m2_64(const uint8_t *src, uint8_t *const *planes, size_t i) {
    __m512i x = load(src);
    store(planes[0] + i, _mm512_and_si512(down(x, 2), bytes(31)));
    store(planes[1] + i, choose(bytes(3), x, _mm512_and_si512(down(x, 5), bytes(4))));
}

STEP void merge_integers_64(const uint8_t *const *planes, uint8_t *dst, size_t i, unsigned width) {
    __m512i b[8];
    for (unsigned k = 0; k < width; k++)
        b[k] = load(planes[width - 1 - k] + i);
    if (width == 2)
        store_words(dst, b);
    else if (width == 4)
        store_doublewords(dst, b);
    else
        store_quadwords(dst, b);
}

STEP void split_integers_64(const uint8_t *src, uint8_t *const *planes, size_t i, unsigned width) {
    __m512i b[8];
    if (width == 2)
        load_words(src, b);
    else if (width == 4)
        load_doublewords(src, b);
    else
        load_quadwords(src, b);
    for (unsigned k = 0; k < width; k++)
        store(planes[width - 1 - k] + i, b[k]);
}

MERGE(merge_bf16, ZIPFS_BF16, 2, 2, merge_bf16_64(planes, dst + 2 * i, i))
SPLIT(split_bf16, ZIPFS_BF16, 2, 2, split_bf16_64(src + 2 * i, planes, i))
MERGE(merge_f16, ZIPFS_F16, 2, 3, merge_f16_64(planes, dst + 2 * i, i))
SPLIT(split_f16, ZIPFS_F16, 2, 3, split_f16_64(src + 2 * i, planes, i))
MERGE(merge_f32, ZIPFS_F32, 4, 4, merge_f32_64(planes, dst + 4 * i, i))
SPLIT(split_f32, ZIPFS_F32, 4, 4, split_f32_64(src + 4 * i, planes, i))
MERGE(merge_f64, ZIPFS_F64, 8, 9, merge_f64_64(planes, dst + 8 * i, i))
SPLIT(split_f64, ZIPFS_F64, 8, 9, split_f64_64(src + 8 * i, planes, i))
MERGE(merge_e4m3, ZIPFS_F8_E4M3, 1, 2, merge_e4m3_64(planes, dst + i, i))
SPLIT(split_e4m3, ZIPFS_F8_E4M3, 1, 2, split_e4m3_64(src + i, planes, i))
MERGE(merge_e5m2, ZIPFS_F8_E5M2, 1, 2, merge_e5m2_64(planes, dst + i, i))
SPLIT(split_e5m2, ZIPFS_F8_E5M2, 1, 2, split_e5m2_64(src + i, planes, i))
MERGE(merge_i16, ZIPFS_I16, 2, 2, merge_integers_64(planes, dst + 2 * i, i, 2))
SPLIT(split_i16, ZIPFS_I16, 2, 2, split_integers_64(src + 2 * i, planes, i, 2))
MERGE(merge_i32, ZIPFS_I32, 4, 4, merge_integers_64(planes, dst + 4 * i, i, 4))
SPLIT(split_i32, ZIPFS_I32, 4, 4, split_integers_64(src + 4 * i, planes, i, 4))
MERGE(merge_i64, ZIPFS_I64, 8, 8, merge_integers_64(planes, dst + 8 * i, i, 8))
SPLIT(split_i64, ZIPFS_I64, 8, 8, split_integers_64(src + 8 * i, planes, i, 8))

const struct zipfs_kernels zipfs_kernels_avx512 = {
    .name = "avx512",
    .hash = zipfs_hash_avx512,
    .histogram = zipfs_histogram_avx2,
    .unpack = unpack,
    .pack = pack,
    .rans_decode = zipfs_rans_decode_avx512,
    .rans_encode = zipfs_rans_encode_avx512,
    .merge = {NULL, merge_bf16, merge_f16, merge_f32, merge_f64, merge_e4m3, merge_e5m2, merge_i16, merge_i32,
              merge_i64},
    .split = {NULL, split_bf16, split_f16, split_f32, split_f64, split_e4m3, split_e5m2, split_i16, split_i32,
              split_i64},
    .rans_merge = {[ZIPFS_BF16] = zipfs_rans_merge_bf16_avx512, [ZIPFS_F32] = zipfs_rans_merge_f32_avx512},
};

#endif
