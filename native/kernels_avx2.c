/* Kernels for AVX2: fields and elements, packed bits. rANS, XXH3 and the histogram are in other files *_avx2.c. */
#ifndef __clang__
#pragma GCC optimize("O3") /* unrolls the rounds of store_elements and load_elements */
#endif

#include "kernels.h"

#ifdef __x86_64__
#include "avx2.h"
#include "common.h"

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

/* What packing 32 values to 4 * bits bytes takes: neighbours are joined twice by multiply-add, then the halves of each
 * quadword, then the bytes in use of both quadwords of a half. */
struct packer {
    unsigned bits;
    __m256i pair, quad, index;
    __m128i distance;
};

STEP struct packer make_packer(unsigned bits) {
    uint8_t used[32];
    for (unsigned i = 0; i < 32; i++) {
        unsigned k = i % 16;
        used[i] = (uint8_t)(k < 2 * bits ? k / bits * 8 + k % bits : 0x80);
    }
    return (struct packer){bits, _mm256_set1_epi16((short)(1 | 1 << (bits + 8))),
                           _mm256_set1_epi32((int)(1 | UINT32_C(1) << (2 * bits + 16))), load(used),
                           _mm_cvtsi32_si128((int)(32 - 4 * bits))};
}

/* Stores 16 + 2 * bits bytes, of which those behind the packed values are of no use. */
STEP void store_packed(const struct packer *p, __m256i values, uint8_t *dst) {
    const __m256i low_half = _mm256_set1_epi64x(0xffffffff);
    __m256i x = _mm256_madd_epi16(_mm256_maddubs_epi16(values, p->pair), p->quad);
    x = _mm256_or_si256(_mm256_and_si256(x, low_half), _mm256_srl_epi64(_mm256_andnot_si256(low_half, x), p->distance));
    x = _mm256_shuffle_epi8(x, p->index);
    _mm_storeu_si128((__m128i *)dst, _mm256_castsi256_si128(x));
    _mm_storeu_si128((__m128i *)(dst + 2 * p->bits), _mm256_extracti128_si256(x, 1));
}

TARGET static void pack(const uint8_t *values, unsigned bits, uint8_t *dst, size_t n) {
    const struct packer packer = make_packer(bits);
    size_t i = 0;
    /* Stores stay within the plane; the next ones replace what they write too much. */
    for (; (n - i) * bits / 8 >= 2 * bits + 16; i += GROUP, dst += 4 * bits)
        store_packed(&packer, load(values + i), dst);
    zipfs_kernels_scalar.pack(values + i, bits, dst, n - i);
}

/* ---- fields and elements, 32 at a time ---- */

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

/* ---- joint layouts ---- */

/* Codes of 32 elements, whose exponent is a byte and whose upper mantissa bits are the two lowest of `mantissa`. */
STEP __m256i joint_codes(const struct sparse_table *rows, __m256i exponent, __m256i mantissa) {
    __m256i row = look_up_sparse(rows, exponent); /* 16 where there is none, so that 64 is its code */
    __m256i escaped = _mm256_cmpeq_epi8(row, bytes(16));
    return _mm256_or_si256(up(row, 2), _mm256_andnot_si256(escaped, _mm256_and_si256(mantissa, bytes(3))));
}

/* Exponent and upper mantissa bits of the two top bytes of BF16 and F32, and sign above the 5 next mantissa bits. */
STEP __m256i split_joint_8(const struct sparse_table *rows, __m256i high, __m256i low, __m256i *rest_ret) {
    __m256i exponent = choose(bytes(0xfe), up(high, 1), _mm256_and_si256(down(low, 7), bytes(1)));
    *rest_ret = choose(bytes(0x1f), low, _mm256_and_si256(down(high, 2), bytes(0x20)));
    return joint_codes(rows, exponent, down(low, 5));
}

/* These return the codes of 32 elements from i on, and their second field. */
STEP __m256i split_joint_bf16_32(const struct sparse_table *rows, const uint8_t *src, uint8_t *const *planes, size_t i,
                                 __m256i *rest_ret) {
    (void)planes;
    __m256i b[2];
    load_elements(src + 2 * i, b, 2);
    return split_joint_8(rows, b[1], b[0], rest_ret);
}

STEP __m256i split_joint_f32_32(const struct sparse_table *rows, const uint8_t *src, uint8_t *const *planes, size_t i,
                                __m256i *rest_ret) {
    __m256i b[4];
    load_elements(src + 4 * i, b, 4);
    store(planes[2] + i, b[1]);
    store(planes[3] + i, b[0]);
    return split_joint_8(rows, b[3], b[2], rest_ret);
}

STEP __m256i split_joint_f16_32(const struct sparse_table *rows, const uint8_t *src, uint8_t *const *planes, size_t i,
                                __m256i *rest_ret) {
    __m256i b[2];
    load_elements(src + 2 * i, b, 2);
    store(planes[2] + i, b[0]);
    *rest_ret = _mm256_and_si256(down(b[1], 7), bytes(1));
    return joint_codes(rows, _mm256_and_si256(down(b[1], 2), bytes(31)), b[1]);
}

STEP __m256i split_joint_e4m3_32(const struct sparse_table *rows, const uint8_t *src, uint8_t *const *planes, size_t i,
                                 __m256i *rest_ret) {
    (void)planes;
    __m256i x = load(src + i);
    *rest_ret = choose(bytes(1), x, _mm256_and_si256(down(x, 6), bytes(2)));
    return joint_codes(rows, _mm256_and_si256(down(x, 3), bytes(15)), down(x, 1));
}

STEP __m256i split_joint_e5m2_32(const struct sparse_table *rows, const uint8_t *src, uint8_t *const *planes, size_t i,
                                 __m256i *rest_ret) {
    (void)planes;
    __m256i x = load(src + i);
    *rest_ret = _mm256_and_si256(down(x, 7), bytes(1));
    return joint_codes(rows, _mm256_and_si256(down(x, 2), bytes(31)), x);
}

/* Rows for look_up_sparse: those that there are not become 16. */
TARGET static struct sparse_table joint_rows(const uint8_t row[256]) {
    uint8_t rows[256];
    struct sparse_table t;
    for (unsigned e = 0; e < 256; e += GROUP)
        store(rows + e, _mm256_min_epu8(load(row + e), bytes(16)));
    load_sparse_table(rows, 16, &t);
    return t;
}

/* Loops over whole groups; the portable kernel does the rest. planes[1] has room for n bytes, and so for what
 * store_packed writes too much, but in the last group. */
#define JOINT_SPLIT(name, layout, width, bits, num_fields, step)                                                       \
    TARGET static void name(const uint8_t *src, const uint8_t row[256], uint8_t *codes, uint8_t *const *planes,        \
                            size_t n) {                                                                                \
        const struct sparse_table rows = joint_rows(row);                                                              \
        const struct packer packer = make_packer(bits);                                                                \
        size_t i = 0;                                                                                                  \
        for (; i + 2 * GROUP <= n; i += GROUP) {                                                                       \
            __m256i rest;                                                                                              \
            store(codes + i, step(&rows, src, planes, i, &rest));                                                      \
            if ((bits) == 1)                                                                                           \
                zipfs_store32(planes[1] + i / 8, top_bits(up(rest, 7)));                                               \
            else                                                                                                       \
                store_packed(&packer, rest, planes[1] + i / 8 * (bits));                                               \
        }                                                                                                              \
        uint8_t *others[4] = {planes[0], planes[1] + i / 8 * (bits)};                                                  \
        for (unsigned f = 2; f < (num_fields); f++)                                                                    \
            others[f] = planes[f] + i;                                                                                 \
        zipfs_kernels_scalar.joint_split[layout](src + (width) * i, row, codes + i, others, n - i);                    \
    }

JOINT_SPLIT(joint_split_bf16, ZIPFS_BF16_JOINT, 2, 6, 2, split_joint_bf16_32)
JOINT_SPLIT(joint_split_f16, ZIPFS_F16_JOINT, 2, 1, 3, split_joint_f16_32)
JOINT_SPLIT(joint_split_f32, ZIPFS_F32_JOINT, 4, 6, 4, split_joint_f32_32)
JOINT_SPLIT(joint_split_e4m3, ZIPFS_F8_E4M3_JOINT, 1, 2, 2, split_joint_e4m3_32)
JOINT_SPLIT(joint_split_e5m2, ZIPFS_F8_E5M2_JOINT, 1, 1, 2, split_joint_e5m2_32)

const struct zipfs_kernels zipfs_kernels_avx2 = {
    .name = "avx2",
    .hash = zipfs_hash_avx2,
    .histogram = zipfs_histogram_avx2,
    .count_codes = zipfs_count_codes_scalar,
    .unpack = unpack,
    .pack = pack,
    .look_up = zipfs_look_up_scalar,
    .expand = zipfs_expand_scalar,
    .rans_decode = zipfs_rans_decode_avx2,
    .rans_numbers = zipfs_rans_numbers_scalar,
    .rans_patterns = zipfs_rans_patterns_scalar,
    .rans_encode = zipfs_rans_encode_avx2,
    .merge = {NULL, merge_bf16, merge_f16, merge_f32, merge_f64, merge_e4m3, merge_e5m2, merge_i16, merge_i32,
              merge_i64},
    .split = {NULL, split_bf16, split_f16, split_f32, split_f64, split_e4m3, split_e5m2, split_i16, split_i32,
              split_i64},
    .joint_merge = {[ZIPFS_BF16_JOINT] = zipfs_joint_merge_bf16_avx2, zipfs_joint_merge_f16_avx2,
                    zipfs_joint_merge_f32_avx2, zipfs_joint_merge_e4m3_avx2, zipfs_joint_merge_e5m2_avx2},
    .joint_split = {[ZIPFS_BF16_JOINT] = joint_split_bf16, joint_split_f16, joint_split_f32, joint_split_e4m3,
                    joint_split_e5m2},
};

#endif
