/* Steps of loops_*.h with AVX2 and POPCNT. Whoever uses them asks the compiler for O3, since the loops over rows and
 * rounds must not stay loops. */
#ifndef ZIPFS_AVX2_H
#define ZIPFS_AVX2_H

#include <immintrin.h>
#include <stdbool.h>

#include "common.h"
#include "eights.h"

#define TARGET __attribute__((target("avx2,popcnt")))
#define STEP TARGET static inline __attribute__((always_inline))

enum {
    GROUP = 32,
    ROW = 16, /* entries that one shuffle looks up */
    ROWS = 4, /* of a table of 64 entries */
};

typedef __m256i vec;

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

STEP __m256i both(__m256i a, __m256i b) {
    return _mm256_and_si256(a, b);
}

STEP __m256i add(__m256i a, __m256i b) {
    return _mm256_add_epi8(a, b);
}

STEP __m256i differing(__m256i a, __m256i b) {
    return _mm256_xor_si256(a, b);
}

/* x | (y & mask), where x has none of these bits. */
STEP __m256i add_bits(__m256i x, __m256i y, unsigned mask) {
    return _mm256_or_si256(x, _mm256_and_si256(y, bytes(mask)));
}

/* Shifts of bytes; bits that cross into a neighbour are the caller's to mask. */
STEP __m256i up(__m256i x, unsigned count) {
    return _mm256_slli_epi16(x, (int)count);
}

STEP __m256i down(__m256i x, unsigned count) {
    return _mm256_srli_epi16(x, (int)count);
}

/* ---- choices of lanes: 255 where one is chosen, else 0 ---- */

typedef struct {
    __m256i ones;
} chosen;

STEP chosen where_equal(__m256i a, __m256i b) {
    return (chosen){_mm256_cmpeq_epi8(a, b)};
}

STEP chosen where_at_least(__m256i a, __m256i b) {
    return (chosen){_mm256_cmpeq_epi8(_mm256_max_epu8(a, b), a)};
}

STEP void store_bits(uint8_t *dst, chosen lanes) {
    zipfs_store32(dst, top_bits(lanes.ones));
}

/* Chosen lanes from a, the others from b. */
STEP __m256i blend(chosen lanes, __m256i a, __m256i b) {
    return _mm256_blendv_epi8(b, a, lanes.ones);
}

/* Zero in the chosen lanes. */
STEP __m256i without(chosen lanes, __m256i x) {
    return _mm256_andnot_si256(lanes.ones, x);
}

/* Puts the bytes of the chosen lanes in front of *end, the lowest lane first. Each store is of 8 bytes for 8 lanes, and
 * may touch bytes before those that count: there is room, since a stream has a byte for each lane that is to come. */
STEP void put_in_front(uint8_t **end, chosen lanes, __m256i x) {
    uint32_t mask = top_bits(lanes.ones);
    __m256i index = _mm256_set_epi64x((long long)given_by[mask >> 24], (long long)given_by[mask >> 16 & 255],
                                      (long long)given_by[mask >> 8 & 255], (long long)given_by[mask & 255]);
    x = _mm256_shuffle_epi8(x, _mm256_add_epi8(index, _mm256_set_epi64x(0x0808080808080808, 0, 0x0808080808080808, 0)));
    __m128i low = _mm256_castsi256_si128(x), high = _mm256_extracti128_si256(x, 1);
    uint8_t *p = *end;
    _mm_storeh_pi((__m64 *)(void *)(p - 8), _mm_castsi128_ps(high));
    p -= _mm_popcnt_u32(mask >> 24);
    _mm_storel_epi64((__m128i *)(p - 8), high);
    p -= _mm_popcnt_u32(mask >> 16 & 255);
    _mm_storeh_pi((__m64 *)(void *)(p - 8), _mm_castsi128_ps(low));
    p -= _mm_popcnt_u32(mask >> 8 & 255);
    _mm_storel_epi64((__m128i *)(p - 8), low);
    *end = p - _mm_popcnt_u32(mask & 255);
}

/* How many lanes of the lower half of a vector up to each are chosen, and of the upper one, in negative numbers. */
STEP __m256i count_chosen(__m256i ones) {
    const __m256i carry = _mm256_setr_epi8(-1, -1, -1, -1, -1, -1, -1, -1, 7, 7, 7, 7, 7, 7, 7, 7, -1, -1, -1, -1, -1,
                                           -1, -1, -1, 7, 7, 7, 7, 7, 7, 7, 7);
    __m256i count = _mm256_add_epi8(ones, _mm256_slli_epi64(ones, 8));
    count = _mm256_add_epi8(count, _mm256_slli_epi64(count, 16));
    count = _mm256_add_epi8(count, _mm256_slli_epi64(count, 32));
    return _mm256_add_epi8(count, _mm256_shuffle_epi8(count, carry));
}

STEP size_t count_of(chosen lanes) {
    return (size_t)_mm_popcnt_u32(top_bits(lanes.ones));
}

/* The next bytes of src to the chosen lanes of x. Reads 32 bytes at most. */
STEP __m256i deal(chosen lanes, __m256i x, const uint8_t *src) {
    const uint8_t *upper = src + _mm_popcnt_u32(top_bits(lanes.ones) & 0xffff);
    __m256i index = _mm256_xor_si256(count_chosen(lanes.ones), bytes(0xff));
    return _mm256_blendv_epi8(x, _mm256_shuffle_epi8(halves(src, upper), index), lanes.ones);
}

/* ---- tables of 64 bytes ---- */

struct table64 {
    __m256i row[ROWS];
};

STEP struct table64 load_table64(const uint8_t table[64]) {
    struct table64 t;
    for (unsigned r = 0; r < ROWS; r++)
        t.row[r] = row(table + ROW * r);
    return t;
}

/* Entries of the first `rows` rows by 32 indices. Bit 4 of an index tells rows 0 and 1 apart, bit 5 pairs of rows; a
 * blend looks at the top bit of each byte. */
STEP __m256i look_up(const struct table64 *t, unsigned rows, __m256i index) {
    __m256i found[ROWS];
    for (unsigned r = 0; r < rows; r++)
        found[r] = _mm256_shuffle_epi8(t->row[r], index);
    if (rows > 1)
        found[0] = _mm256_blendv_epi8(found[0], found[1], up(index, 3));
    if (rows > 3)
        found[2] = _mm256_blendv_epi8(found[2], found[3], up(index, 3));
    return rows > 2 ? _mm256_blendv_epi8(found[0], found[2], up(index, 2)) : found[0];
}

/* Indices made ready for several tables: 128 or more wherever the entry is in another row, which a shuffle takes for
 * zero. So rows need no blends, which are three instructions on Intel's cores. */
struct places {
    __m256i in_row[ROWS];
};

STEP struct places places_of(__m256i index, unsigned rows) {
    struct places p = {{index}};
    for (unsigned r = 0; rows > 1 && r < rows; r++)
        p.in_row[r] = _mm256_adds_epu8(_mm256_sub_epi8(index, bytes(ROW * r)), bytes(0x70));
    return p;
}

/* The same with less work for indices that are all in the first `rows` rows. */
STEP struct places places_within(__m256i index, unsigned rows) {
    struct places p;
    for (unsigned r = 0; r + 1 < rows; r++)
        p.in_row[r] = add(r ? _mm256_xor_si256(index, bytes(ROW * r)) : index, bytes(0x80 - ROW));
    p.in_row[rows - 1] = _mm256_sub_epi8(index, bytes(ROW * (rows - 1)));
    return p;
}

STEP __m256i look_up_rows(const __m256i *row, unsigned rows, const struct places *p) {
    __m256i found = _mm256_shuffle_epi8(row[0], p->in_row[0]);
    for (unsigned r = 1; r < rows; r++)
        found = _mm256_or_si256(found, _mm256_shuffle_epi8(row[r], p->in_row[r]));
    return found;
}

/* Zero for indices from 128 on, where rows are several. */
STEP __m256i look_up_at(const struct table64 *t, unsigned rows, const struct places *p) {
    return look_up_rows(t->row, rows, p);
}

/* ---- tables of 256 bytes of which most rows are one and the same value ---- */

struct sparse_table {
    unsigned num_rows;
    __m256i row[256 / ROW], upper[256 / ROW]; /* with the upper four bits of their indices */
    __m256i other;                            /* the entry of all other rows */
    __m256i first[2];                         /* rows 0 and 1, whatever they hold: all that 5 bits need */
};

STEP struct sparse_table load_sparse_table(const uint8_t table[256], unsigned other) {
    struct sparse_table t;
    t.other = bytes(other);
    t.num_rows = 0;
    t.first[0] = row(table);
    t.first[1] = row(table + ROW);
    for (unsigned r = 0; r < 256 / ROW; r++) {
        __m256i x = row(table + ROW * r);
        if (top_bits(_mm256_cmpeq_epi8(x, t.other)) == UINT32_MAX)
            continue;
        t.row[t.num_rows] = x;
        t.upper[t.num_rows++] = bytes(ROW * r);
    }
    return t;
}

STEP __m256i look_up_sparse(const struct sparse_table *t, __m256i index, unsigned bits) {
    if (bits <= 4)
        return _mm256_shuffle_epi8(t->first[0], index);
    if (bits == 5)
        return _mm256_blendv_epi8(_mm256_shuffle_epi8(t->first[0], index), _mm256_shuffle_epi8(t->first[1], index),
                                  up(index, 3));
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

/* ---- packed bits: `bits` is 1 to 6, and a constant, so that the tables below are too ---- */

/* Loads 4 * bits bytes, or 16 where there are more. */
STEP __m128i load_short(const uint8_t *src, unsigned bits) {
    switch (bits) {
    case 1: return _mm_cvtsi32_si128((int)zipfs_load32(src));
    case 2: return _mm_loadl_epi64((const __m128i *)src);
    case 3: return _mm_insert_epi32(_mm_loadl_epi64((const __m128i *)src), (int)zipfs_load32(src + 8), 2);
    default: return _mm_loadu_si128((const __m128i *)src);
    }
}

/* 32 values of `bits` bits, packed in 4 * bits bytes, to a byte each; their upper bits are not cleared. Each value's
 * byte and the next one go to a word, which is shifted up so far that the value begins at bit 8. */
STEP __m256i load_packed_any(const uint8_t *src, unsigned bits) {
    const unsigned from = bits < 4 ? 0 : 4 * bits - 16; /* of the upper half */
    uint8_t place[2][32];
    uint16_t factor[16];
    for (unsigned i = 0; i < 32; i++) {
        unsigned offset = i / 2 % 8 * bits, first = i / 16 * bits + offset / 8;
        place[0][i] = (uint8_t)(first + i % 2);
        place[1][i] = (uint8_t)(2 * bits - from + first + i % 2);
    }
    for (unsigned i = 0; i < 16; i++) /* in a loop of its own, or gcc leaves it for run time */
        factor[i] = (uint16_t)(1 << (8 - i % 8 * bits % 8));
    __m256i half[2] = {_mm256_broadcastsi128_si256(load_short(src, bits)),
                       _mm256_broadcastsi128_si256(load_short(src + from, bits))};
    for (unsigned h = 0; h < 2; h++) {
        half[h] = _mm256_shuffle_epi8(half[h], load(place[h]));
        half[h] = _mm256_srli_epi16(_mm256_mullo_epi16(half[h], load(factor)), 8);
    }
    return _mm256_permute4x64_epi64(_mm256_packus_epi16(half[0], half[1]), 0xd8);
}

/* The same for 6 bits. Four values of three bytes
 * go to a doubleword, of which the upper word is moved up by 4 bits, then the upper byte of each word by 2. */
STEP __m256i load_packed_6(const uint8_t *src) {
    const __m256i index = _mm256_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1, 4, 5, 6, -1, 7, 8, 9,
                                           -1, 10, 11, 12, -1, 13, 14, 15, -1);
    __m256i x = _mm256_shuffle_epi8(halves(src, src + 8), index);
    x = _mm256_blend_epi16(x, _mm256_slli_epi32(x, 4), 0xaa);
    return alternate(x, up(x, 2));
}

STEP __m256i load_packed(const uint8_t *src, unsigned bits) {
    return bits == 6 ? load_packed_6(src) : load_packed_any(src, bits);
}

/* Stores 32 values in 4 * bits bytes. Neighbours are joined twice by multiply-add, then the
 * halves of each quadword, then the bytes in use of both quadwords of a half. */
STEP size_t packed_size(unsigned bits) {
    return bits == 1 ? 4 : 16 + 2 * bits;
}

STEP void store_packed(uint8_t *dst, __m256i values, unsigned bits) {
    if (bits == 1) {
        zipfs_store32(dst, top_bits(up(values, 7)));
        return;
    }
    const __m256i low_half = _mm256_set1_epi64x(0xffffffff);
    uint8_t used[32];
    for (unsigned i = 0; i < 32; i++)
        used[i] = (uint8_t)(i % 16 < 2 * bits ? i % 16 / bits * 8 + i % 16 % bits : 0x80);
    __m256i x = _mm256_maddubs_epi16(values, _mm256_set1_epi16((short)(1 | 1 << (bits + 8))));
    x = _mm256_madd_epi16(x, _mm256_set1_epi32((int)(1 | UINT32_C(1) << (2 * bits + 16))));
    x = _mm256_or_si256(_mm256_and_si256(x, low_half),
                        _mm256_srli_epi64(_mm256_andnot_si256(low_half, x), (int)(32 - 4 * bits)));
    x = _mm256_shuffle_epi8(x, load(used));
    _mm_storeu_si128((__m128i *)dst, _mm256_castsi256_si128(x));
    _mm_storeu_si128((__m128i *)(dst + 2 * bits), _mm256_extracti128_si256(x, 1));
}

STEP void store_signs(uint8_t *dst, __m256i x) {
    zipfs_store32(dst, top_bits(x));
}

/* Which bytes have the bits of `bit`. */
STEP __m256i has_bit(__m256i x, __m256i bit) {
    return _mm256_cmpeq_epi8(_mm256_and_si256(x, bit), bit);
}

/* The signs of 32 elements, a bit each, as the top bits of bytes that are added to x. */
STEP __m256i add_signs(__m256i x, const uint8_t *src) {
    const __m256i index = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3,
                                           3, 3, 3, 3, 3, 3);
    __m256i signs = _mm256_shuffle_epi8(_mm256_set1_epi32((int)zipfs_load32(src)), index);
    return add_bits(x, has_bit(signs, _mm256_set1_epi64x((long long)0x8040201008040201)), 0x80);
}

/* A mantissa bit and the sign of 32 elements, two bits each. */
STEP __m256i add_pairs(__m256i x, const uint8_t *src) {
    const __m256i index = _mm256_setr_epi8(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 6, 6,
                                           6, 6, 7, 7, 7, 7);
    __m256i pairs = _mm256_shuffle_epi8(_mm256_set1_epi64x((long long)zipfs_load64(src)), index);
    x = add_bits(x, has_bit(pairs, _mm256_set1_epi32(0x40100401)), 1);
    return add_bits(x, has_bit(pairs, _mm256_set1_epi32((int)0x80200802)), 0x80);
}

/* ---- states of 16 bits as two vectors of bytes ---- */

struct lanes {
    __m256i low, high;
};

/* The low bytes of two vectors of words, and the high ones: word i of each to bytes 2 * i and 2 * i + 1. */
STEP struct lanes to_bytes(__m256i even, __m256i odd) {
    return (struct lanes){_mm256_or_si256(even_bytes(even), up(odd, 8)),
                          _mm256_or_si256(odd_bytes(even), _mm256_andnot_si256(_mm256_set1_epi16(0xff), odd))};
}

STEP void load_lanes(const uint16_t *state, struct lanes *lanes) {
    unzip(load(state), load(state + GROUP / 2), &lanes->low, &lanes->high);
}

STEP void store_lanes(uint16_t *state, const struct lanes *lanes) {
    __m256i words[2];
    zip(lanes->low, lanes->high, words);
    store(state, words[0]);
    store(state + GROUP / 2, words[1]);
}

/* x / freq - 1 and x % freq of words, for quotients of 1 and more: the product with the inverse is the quotient or one
 * less. */
STEP void divide_words(__m256i x, __m256i freq, __m256i inverse, __m256i *less_ret, __m256i *rest_ret) {
    __m256i quotient = _mm256_mulhi_epu16(x, inverse);
    __m256i rest = _mm256_sub_epi16(x, _mm256_mullo_epi16(quotient, freq));
    *less_ret = _mm256_add_epi16(quotient, _mm256_cmpgt_epi16(freq, rest));
    *rest_ret = _mm256_min_epu16(rest, _mm256_sub_epi16(rest, freq)); /* the difference wraps where it is too much */
}

/* high: the quotients of the states by freq, low: the rests; both must fit a byte, and quotients are 1 at least.
 * inverse: floor(65536 / freq), 65535 for 1. */
STEP struct lanes divide(struct lanes x, __m256i freq, struct lanes inverse) {
    const __m256i none = _mm256_setzero_si256();
    __m256i q0, q1, r0, r1;
    divide_words(_mm256_unpacklo_epi8(x.low, x.high), _mm256_unpacklo_epi8(freq, none),
                 _mm256_unpacklo_epi8(inverse.low, inverse.high), &q0, &r0);
    divide_words(_mm256_unpackhi_epi8(x.low, x.high), _mm256_unpackhi_epi8(freq, none),
                 _mm256_unpackhi_epi8(inverse.low, inverse.high), &q1, &r1);
    return (struct lanes){_mm256_packus_epi16(r0, r1), _mm256_add_epi8(_mm256_packus_epi16(q0, q1), bytes(1))};
}

#endif
