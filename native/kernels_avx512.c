/* Kernels for AVX-512 with F, BW, VL, VBMI and VBMI2: fields and elements, packed bits. rANS is in rans_avx512.c, XXH3
 * in hash_avx512.c. */
#ifndef __clang__
#pragma GCC optimize("O3") /* keeps the counts of a pass in registers */
#endif

#include "kernels.h"

#ifdef __x86_64__
#include "avx512.h"
#include "common.h"

/* ---- counting ---- */

/* Compares with each code, 16 at a time, and counts in bytes: counting in memory takes three times as long, since equal
 * neighbours wait for each other. At most 255 groups. */
TARGET static void count_few(const uint8_t *codes, size_t n, size_t every, uint32_t count[64]) {
    enum { AT_ONCE = 16 };
    for (unsigned c = 0; c < 64; c += AT_ONCE) {
        __m512i counts[AT_ONCE];
        for (unsigned k = 0; k < AT_ONCE; k++)
            counts[k] = _mm512_setzero_si512();
        for (size_t i = 0; i < n; i += GROUP * every) {
            __m512i x = _mm512_mask_loadu_epi8(bytes(255), first(n - i), codes + i);
            for (unsigned k = 0; k < AT_ONCE; k++)
                counts[k] = _mm512_mask_sub_epi8(counts[k], _mm512_cmpeq_epi8_mask(x, bytes(c + k)), counts[k],
                                                 bytes(255));
        }
        for (unsigned k = 0; k < AT_ONCE; k++)
            count[c + k] += (uint32_t)_mm512_reduce_add_epi64(_mm512_sad_epu8(counts[k], _mm512_setzero_si512()));
    }
}

static void count_codes(const uint8_t *codes, size_t n, size_t every, uint32_t count_ret[64]) {
    size_t most = 255 * GROUP * every;
    memset(count_ret, 0, 64 * sizeof count_ret[0]);
    for (; n > most; n -= most, codes += most)
        count_few(codes, most, every, count_ret);
    count_few(codes, n, every, count_ret);
}

/* ---- packed bits: `bits` is a constant wherever it matters, so that the tables below are too ---- */

/* Eight values fill `bits` bytes: spread those over a quadword, shift each value to its byte. */
STEP void unpack_as(const uint8_t *src, unsigned bits, uint8_t *values, size_t n) {
    const __m512i mask = bytes((1u << bits) - 1);
    for (size_t i = 0; i < n; i += GROUP) {
        size_t count = zipfs_min(n - i, GROUP), size = (count * bits + 7) / 8;
        __m512i x = spread_bits(_mm512_maskz_loadu_epi8(first(size), src), bits);
        _mm512_mask_storeu_epi8(values + i, first(count), _mm512_and_si512(x, mask));
        src += size;
    }
}

/* 64 values to the first 8 * bits bytes. Joins neighbours twice by multiply-add, then the halves of each quadword, then
 * the bytes that are in use. */
STEP __m512i pack_64(__m512i values, unsigned bits) {
    uint8_t used[64];
    for (unsigned i = 0; i < 64; i++)
        used[i] = (uint8_t)((i / bits * 8 + i % bits) & 63);
    __m512i x = _mm512_maddubs_epi16(values, _mm512_set1_epi16((short)(1 | 1 << (bits + 8))));
    x = _mm512_madd_epi16(x, _mm512_set1_epi32((int)(1 | UINT32_C(1) << (2 * bits + 16))));
    const __m512i low_half = _mm512_set1_epi64(0xffffffff);
    x = _mm512_or_si512(_mm512_and_si512(x, low_half),
                        _mm512_srli_epi64(_mm512_andnot_si512(low_half, x), 32 - 4 * bits));
    return _mm512_permutexvar_epi8(load(used), x);
}

STEP void pack_as(const uint8_t *values, unsigned bits, uint8_t *dst, size_t n) {
    for (size_t i = 0; i < n; i += GROUP) {
        size_t count = zipfs_min(n - i, GROUP), size = (count * bits + 7) / 8;
        __m512i x = pack_64(_mm512_maskz_loadu_epi8(first(count), values + i), bits);
        _mm512_mask_storeu_epi8(dst, first(size), x);
        dst += size;
    }
}

TARGET static void unpack(const uint8_t *src, unsigned bits, uint8_t *values, size_t n) {
    switch (bits) {
    case 1: unpack_as(src, 1, values, n); break;
    case 2: unpack_as(src, 2, values, n); break;
    case 3: unpack_as(src, 3, values, n); break;
    case 4: unpack_as(src, 4, values, n); break;
    case 5: unpack_as(src, 5, values, n); break;
    default: unpack_as(src, 6, values, n);
    }
}

TARGET static void pack(const uint8_t *values, unsigned bits, uint8_t *dst, size_t n) {
    switch (bits) {
    case 1: pack_as(values, 1, dst, n); break;
    case 2: pack_as(values, 2, dst, n); break;
    case 3: pack_as(values, 3, dst, n); break;
    case 4: pack_as(values, 4, dst, n); break;
    case 5: pack_as(values, 5, dst, n); break;
    default: pack_as(values, 6, dst, n);
    }
}

/* ---- elements: vectors of 64 field bytes to elements, and back ---- */

/* Stores 64 quadwords whose bytes are b[0], the lowest, to b[7]. */
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

/* ---- joint layouts ---- */

/* Codes of 64 elements, whose exponent is a byte and whose upper mantissa bits are the two lowest of `mantissa`. */
STEP __m512i joint_codes(const struct table256 *rows, __m512i exponent, __m512i mantissa) {
    __m512i row = look_up(rows, exponent);
    __m512i code = choose(bytes(3), mantissa, up(row, 2));
    return _mm512_mask_mov_epi8(code, _mm512_cmpge_epu8_mask(row, bytes(16)), bytes(64));
}

/* Exponent and upper mantissa bits of the two top bytes of BF16 and F32, and sign above the 5 next mantissa bits. */
STEP __m512i split_joint_8(const struct table256 *rows, __m512i high, __m512i low, __m512i *rest_ret) {
    __m512i exponent = choose(bytes(0xfe), up(high, 1), _mm512_and_si512(down(low, 7), bytes(1)));
    *rest_ret = choose(bytes(0x1f), low, _mm512_and_si512(down(high, 2), bytes(0x20)));
    return joint_codes(rows, exponent, down(low, 5));
}

/* These return the codes of 64 elements from i on, and their second field. */
STEP __m512i split_joint_bf16_64(const struct table256 *rows, const uint8_t *src, uint8_t *const *planes, size_t i,
                                 __m512i *rest_ret) {
    (void)planes;
    __m512i b[2];
    load_words(src + 2 * i, b);
    return split_joint_8(rows, b[1], b[0], rest_ret);
}

STEP __m512i split_joint_f32_64(const struct table256 *rows, const uint8_t *src, uint8_t *const *planes, size_t i,
                                __m512i *rest_ret) {
    __m512i b[4];
    load_doublewords(src + 4 * i, b);
    store(planes[2] + i, b[1]);
    store(planes[3] + i, b[0]);
    return split_joint_8(rows, b[3], b[2], rest_ret);
}

STEP __m512i split_joint_f16_64(const struct table256 *rows, const uint8_t *src, uint8_t *const *planes, size_t i,
                                __m512i *rest_ret) {
    __m512i b[2];
    load_words(src + 2 * i, b);
    store(planes[2] + i, b[0]);
    *rest_ret = _mm512_and_si512(down(b[1], 7), bytes(1));
    return joint_codes(rows, _mm512_and_si512(down(b[1], 2), bytes(31)), b[1]);
}

STEP __m512i split_joint_e4m3_64(const struct table256 *rows, const uint8_t *src, uint8_t *const *planes, size_t i,
                                 __m512i *rest_ret) {
    (void)planes;
    __m512i x = load(src + i);
    *rest_ret = choose(bytes(1), x, _mm512_and_si512(down(x, 6), bytes(2)));
    return joint_codes(rows, _mm512_and_si512(down(x, 3), bytes(15)), down(x, 1));
}

STEP __m512i split_joint_e5m2_64(const struct table256 *rows, const uint8_t *src, uint8_t *const *planes, size_t i,
                                 __m512i *rest_ret) {
    (void)planes;
    __m512i x = load(src + i);
    *rest_ret = _mm512_and_si512(down(x, 7), bytes(1));
    return joint_codes(rows, _mm512_and_si512(down(x, 2), bytes(31)), x);
}

/* Loops over whole groups; the portable kernel does the rest. Packed fields are stored as whole vectors, of which the
 * next one covers the surplus: planes[1] has room for n bytes. */
#define JOINT_SPLIT(name, layout, width, bits, num_fields, step)                                                       \
    TARGET static void name(const uint8_t *src, const uint8_t row[256], uint8_t *codes, uint8_t *const *planes,        \
                            size_t n) {                                                                                \
        const struct table256 rows = load_table256(row);                                                               \
        size_t i = 0;                                                                                                  \
        for (; i + 4 * GROUP <= n; i += GROUP) {                                                                       \
            __m512i rest;                                                                                              \
            store(codes + i, step(&rows, src, planes, i, &rest));                                                      \
            store(planes[1] + i / 8 * (bits), pack_64(rest, bits));                                                    \
        }                                                                                                              \
        uint8_t *others[4] = {planes[0], planes[1] + i / 8 * (bits)};                                                  \
        for (unsigned f = 2; f < (num_fields); f++)                                                                    \
            others[f] = planes[f] + i;                                                                                 \
        zipfs_kernels_scalar.joint_split[layout](src + (width) * i, row, codes + i, others, n - i);                    \
    }

JOINT_SPLIT(joint_split_bf16, ZIPFS_BF16_JOINT, 2, 6, 2, split_joint_bf16_64)
JOINT_SPLIT(joint_split_f16, ZIPFS_F16_JOINT, 2, 1, 3, split_joint_f16_64)
JOINT_SPLIT(joint_split_f32, ZIPFS_F32_JOINT, 4, 6, 4, split_joint_f32_64)
JOINT_SPLIT(joint_split_e4m3, ZIPFS_F8_E4M3_JOINT, 1, 2, 2, split_joint_e4m3_64)
JOINT_SPLIT(joint_split_e5m2, ZIPFS_F8_E5M2_JOINT, 1, 1, 2, split_joint_e5m2_64)

/* ---- tables and bitmaps ---- */

TARGET static void look_up_all(const uint8_t table[256], const uint8_t *src, uint8_t *dst, size_t n) {
    const struct table256 t = load_table256(table);
    size_t i = 0;
    for (; i + GROUP <= n; i += GROUP)
        store(dst + i, look_up(&t, load(src + i)));
    zipfs_kernels_scalar.look_up(table, src + i, dst + i, n - i);
}

/* Words and doublewords, a vector at a time where a whole one of src can be read. */
TARGET static void expand(const uint8_t *bits, const uint8_t *src, unsigned width, uint8_t *dst, size_t n) {
    const uint8_t *dst_end = dst + n * width;
    size_t i = 0;
    if (width == 2)
        for (; i + 32 <= n && dst_end - src >= 64; i += 32) {
            uint32_t mask = zipfs_load32(bits + i / 8);
            store(dst + 2 * i, _mm512_maskz_expand_epi16(mask, load(src)));
            src += 2 * (size_t)__builtin_popcount(mask);
        }
    if (width == 4)
        for (; i + 16 <= n && dst_end - src >= 64; i += 16) {
            uint16_t mask = zipfs_load16(bits + i / 8);
            store(dst + 4 * i, _mm512_maskz_expand_epi32(mask, load(src)));
            src += 4 * (size_t)__builtin_popcount(mask);
        }
    zipfs_kernels_scalar.expand(bits + i / 8, src, width, dst + i * width, n - i);
}

const struct zipfs_kernels zipfs_kernels_avx512 = {
    .name = "avx512",
    .hash = zipfs_hash_avx512,
    .histogram = zipfs_histogram_avx2,
    .count_codes = count_codes,
    .unpack = unpack,
    .pack = pack,
    .look_up = look_up_all,
    .expand = expand,
    .rans_decode = zipfs_rans_decode_avx512,
    .rans_numbers = zipfs_rans_numbers_avx512,
    .rans_patterns = zipfs_rans_patterns_avx512,
    .rans_encode = zipfs_rans_encode_avx512,
    .merge = {NULL, merge_bf16, merge_f16, merge_f32, merge_f64, merge_e4m3, merge_e5m2, merge_i16, merge_i32,
              merge_i64},
    .split = {NULL, split_bf16, split_f16, split_f32, split_f64, split_e4m3, split_e5m2, split_i16, split_i32,
              split_i64},
    .joint_merge = {[ZIPFS_BF16_JOINT] = zipfs_joint_merge_bf16_avx512, zipfs_joint_merge_f16_avx512,
                    zipfs_joint_merge_f32_avx512, zipfs_joint_merge_e4m3_avx512, zipfs_joint_merge_e5m2_avx512},
    .joint_split = {[ZIPFS_BF16_JOINT] = joint_split_bf16, joint_split_f16, joint_split_f32, joint_split_e4m3,
                    joint_split_e5m2},
};

#endif
