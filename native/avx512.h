/* Steps of loops_*.h with AVX-512: F, BW, VL, VBMI and VBMI2. */
#ifndef ZIPFS_AVX512_H
#define ZIPFS_AVX512_H

#include <immintrin.h>
#include <stdbool.h>

#include "common.h"

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,popcnt,bmi2")))
#define STEP TARGET static inline __attribute__((always_inline))

enum { GROUP = 64 };

typedef __m512i vec;

STEP vec load(const void *src) {
    return _mm512_loadu_si512(src);
}

STEP void store(void *dst, vec x) {
    _mm512_storeu_si512(dst, x);
}

STEP vec bytes(unsigned x) {
    return _mm512_set1_epi8((char)x);
}

STEP vec both(vec a, vec b) {
    return _mm512_and_si512(a, b);
}

STEP vec add(vec a, vec b) {
    return _mm512_add_epi8(a, b);
}

STEP vec subtract(vec a, vec b) {
    return _mm512_sub_epi8(a, b);
}

STEP vec differing(vec a, vec b) {
    return _mm512_xor_si512(a, b);
}

/* x | (y & mask), where x has none of these bits. */
STEP vec add_bits(vec x, vec y, unsigned mask) {
    return _mm512_ternarylogic_epi32(x, y, bytes(mask), 0xf8);
}

/* Bits of `mask` from a, the others from b. */
STEP vec choose(vec mask, vec a, vec b) {
    return _mm512_ternarylogic_epi32(mask, a, b, 0xca);
}

/* Shifts of bytes; bits that cross into a neighbour are the caller's to mask. */
STEP vec up(vec x, unsigned count) {
    return _mm512_slli_epi16(x, count);
}

STEP vec down(vec x, unsigned count) {
    return _mm512_srli_epi16(x, count);
}

/* ---- choices of lanes ---- */

typedef __mmask64 chosen;

STEP chosen where_equal(vec a, vec b) {
    return _mm512_cmpeq_epi8_mask(a, b);
}

STEP chosen where_at_least(vec a, vec b) {
    return _mm512_cmpge_epu8_mask(a, b);
}

STEP void store_bits(uint8_t *dst, chosen lanes) {
    zipfs_store64(dst, lanes);
}

STEP size_t count_of(chosen lanes) {
    return (size_t)__builtin_popcountll(lanes);
}

/* Chosen lanes from a, the others from b. */
STEP vec blend(chosen lanes, vec a, vec b) {
    return _mm512_mask_mov_epi8(b, lanes, a);
}

/* Zero in the chosen lanes. */
STEP vec without(chosen lanes, vec x) {
    return blend(lanes, bytes(0), x);
}

/* The next bytes of src to the chosen lanes of x. The form that loads is the faster one on Zen 5. */
STEP vec deal(chosen lanes, vec x, const uint8_t *src) {
    return _mm512_mask_expand_epi8(x, lanes, load(src));
}

/* The lowest `count` lanes. */
STEP chosen first(size_t count) {
    return count >= GROUP ? ~(chosen)0 : ((chosen)1 << count) - 1;
}

/* Puts the chosen bytes in front of *end, the lowest lane first. */
STEP void put_in_front(uint8_t **end, chosen lanes, vec x) {
    *end -= count_of(lanes);
    _mm512_mask_storeu_epi8(*end, _bzhi_u64(~UINT64_C(0), (unsigned)count_of(lanes)),
                            _mm512_maskz_compress_epi8(lanes, x));
}

/* ---- tables ---- */

struct table64 {
    vec part;
};

STEP struct table64 load_table64(const uint8_t table[64]) {
    return (struct table64){load(table)};
}

STEP vec look_up(const struct table64 *t, unsigned rows, vec index) {
    (void)rows;
    return _mm512_permutexvar_epi8(index, t->part);
}

/* Indices need not be made ready for several tables. */
struct places {
    vec index;
};

STEP struct places places_of(vec index, unsigned rows) {
    (void)rows;
    return (struct places){index};
}

STEP vec look_up_at(const struct table64 *t, unsigned rows, const struct places *p) {
    return look_up(t, rows, p->index);
}

/* Of 256 bytes, sparse or not: two permutes of 128 bytes and a blend, or one permute where the upper half is one and
 * the same value. */
struct sparse_table {
    vec part[4];
    bool is_half;
};

STEP struct sparse_table load_sparse_table(const uint8_t table[256], unsigned other) {
    struct sparse_table t;
    for (unsigned i = 0; i < 4; i++)
        t.part[i] = load(table + 64 * i);
    t.is_half = (where_equal(t.part[2], bytes(other)) & where_equal(t.part[3], bytes(other))) == ~(chosen)0;
    return t;
}

STEP vec look_up_sparse(const struct sparse_table *t, vec index, unsigned bits) {
    if (bits <= 5)
        return _mm512_permutexvar_epi8(index, t->part[0]);
    if (bits == 6) /* or at least 128 */
        return _mm512_mask_mov_epi8(_mm512_permutexvar_epi8(index, t->part[0]), _mm512_movepi8_mask(index), t->part[2]);
    vec lower = _mm512_permutex2var_epi8(t->part[0], index, t->part[1]);
    if (t->is_half)
        return _mm512_mask_mov_epi8(lower, _mm512_movepi8_mask(index), t->part[2]);
    vec upper = _mm512_permutex2var_epi8(t->part[2], index, t->part[3]);
    return _mm512_mask_mov_epi8(lower, _mm512_movepi8_mask(index), upper);
}

struct slots {
    struct sparse_table symbol;
};

STEP struct slots load_slots(const uint8_t symbol[256]) {
    struct slots slots = {load_sparse_table(symbol, 0)};
    slots.symbol.is_half = false;
    return slots;
}

STEP vec symbols_of(const struct slots *slots, vec slot) {
    return look_up_sparse(&slots->symbol, slot, 8);
}

/* ---- packed bits: `bits` is a constant wherever it matters, so that the tables below are too ---- */

/* 64 values of `bits` bits, packed in the first bytes of x, to a byte each; their upper bits are not cleared. Eight
 * values fill `bits` bytes: those are spread over a quadword, and each value is shifted to its byte. */
STEP vec spread_bits(vec x, unsigned bits) {
    uint8_t spread[64], shift[64];
    for (unsigned i = 0; i < 64; i++) {
        spread[i] = (uint8_t)((i / 8 * bits + i % 8) & 63);
        shift[i] = (uint8_t)(i % 8 * bits);
    }
    return _mm512_multishift_epi64_epi8(load(shift), _mm512_permutexvar_epi8(load(spread), x));
}

STEP vec load_packed(const uint8_t *src, unsigned bits) {
    return spread_bits(_mm512_maskz_loadu_epi8(first(8 * bits), src), bits);
}

/* 64 values to the first 8 * bits bytes. Joins neighbours twice by multiply-add, then the halves of each quadword, then
 * the bytes that are in use. */
STEP vec pack_group(vec values, unsigned bits) {
    uint8_t used[64];
    for (unsigned i = 0; i < 64; i++)
        used[i] = (uint8_t)((i / bits * 8 + i % bits) & 63);
    vec x = _mm512_maddubs_epi16(values, _mm512_set1_epi16((short)(1 | 1 << (bits + 8))));
    x = _mm512_madd_epi16(x, _mm512_set1_epi32((int)(1 | UINT32_C(1) << (2 * bits + 16))));
    const vec low_half = _mm512_set1_epi64(0xffffffff);
    x = _mm512_or_si512(_mm512_and_si512(x, low_half),
                        _mm512_srli_epi64(_mm512_andnot_si512(low_half, x), 32 - 4 * bits));
    return _mm512_permutexvar_epi8(load(used), x);
}

STEP size_t packed_size(unsigned bits) {
    return GROUP / 8 * bits;
}

STEP void store_packed(uint8_t *dst, vec values, unsigned bits) {
    if (bits == 1)
        zipfs_store64(dst, _mm512_movepi8_mask(up(values, 7)));
    else
        _mm512_mask_storeu_epi8(dst, first(packed_size(bits)), pack_group(values, bits));
}

STEP void store_signs(uint8_t *dst, vec x) {
    zipfs_store64(dst, _mm512_movepi8_mask(x));
}

/* Sets the top bits of bytes where the bits of src, one for each lane, say so. */
STEP vec add_signs(vec x, const uint8_t *src) {
    return _mm512_ternarylogic_epi32(x, _mm512_movm_epi8(zipfs_load64(src)), bytes(0x80), 0xf8);
}

/* Of two bits of src for each lane, puts the lower one into the lowest bits of bytes and the upper one on top. */
STEP vec add_pairs(vec x, const uint8_t *src) {
    vec pairs = load_packed(src, 2);
    return add_bits(add_bits(x, pairs, 1), up(pairs, 6), 0x80);
}

/* ---- interleaving: vectors of 64 field bytes to vectors of elements, and back ---- */

/* a[0] b[0] a[1] b[1] ... of the lower or upper halves, in units of 1, 2 and 4 bytes. */
STEP vec zip8(vec a, vec b, bool upper) {
    uint8_t index[64];
    for (unsigned i = 0; i < 64; i++)
        index[i] = (uint8_t)(i / 2 + 32 * upper + 64 * (i % 2));
    return _mm512_permutex2var_epi8(a, load(index), b);
}

STEP vec zip16(vec a, vec b, bool upper) {
    uint16_t index[32];
    for (unsigned i = 0; i < 32; i++)
        index[i] = (uint16_t)(i / 2 + 16 * upper + 32 * (i % 2));
    return _mm512_permutex2var_epi16(a, load(index), b);
}

STEP vec zip32(vec a, vec b, bool upper) {
    uint32_t index[16];
    for (unsigned i = 0; i < 16; i++)
        index[i] = i / 2 + 8 * upper + 16 * (i % 2);
    return _mm512_permutex2var_epi32(a, load(index), b);
}

/* Every second unit of the two vectors, from the first or the second on. */
STEP vec unzip8(vec a, vec b, bool odd) {
    uint8_t index[64];
    for (unsigned i = 0; i < 64; i++)
        index[i] = (uint8_t)(2 * i + odd);
    return _mm512_permutex2var_epi8(a, load(index), b);
}

STEP vec unzip16(vec a, vec b, bool odd) {
    uint16_t index[32];
    for (unsigned i = 0; i < 32; i++)
        index[i] = (uint16_t)(2 * i + odd);
    return _mm512_permutex2var_epi16(a, load(index), b);
}

STEP vec unzip32(vec a, vec b, bool odd) {
    uint32_t index[16];
    for (unsigned i = 0; i < 16; i++)
        index[i] = 2 * i + odd;
    return _mm512_permutex2var_epi32(a, load(index), b);
}

/* Stores 64 words (doublewords) whose bytes are b[0], the lowest, to b[1] (b[3]); and loads them. */
STEP void store_words(uint8_t *dst, const vec *b) {
    store(dst, zip8(b[0], b[1], false));
    store(dst + 64, zip8(b[0], b[1], true));
}

STEP void store_doublewords(uint8_t *dst, const vec *b) {
    for (unsigned half = 0; half < 2; half++) {
        vec low = zip8(b[0], b[1], half), high = zip8(b[2], b[3], half);
        store(dst + 128 * half, zip16(low, high, false));
        store(dst + 128 * half + 64, zip16(low, high, true));
    }
}

STEP void load_words(const uint8_t *src, vec *b) {
    vec x0 = load(src), x1 = load(src + 64);
    b[0] = unzip8(x0, x1, false);
    b[1] = unzip8(x0, x1, true);
}

STEP void load_doublewords(const uint8_t *src, vec *b) {
    vec low[2], high[2];
    for (unsigned half = 0; half < 2; half++) {
        vec x0 = load(src + 128 * half), x1 = load(src + 128 * half + 64);
        low[half] = unzip16(x0, x1, false);
        high[half] = unzip16(x0, x1, true);
    }
    b[0] = unzip8(low[0], low[1], false);
    b[1] = unzip8(low[0], low[1], true);
    b[2] = unzip8(high[0], high[1], false);
    b[3] = unzip8(high[0], high[1], true);
}

/* Stores 64 quadwords whose bytes are b[0], the lowest, to b[7]. */
STEP void store_quadwords(uint8_t *dst, const vec *b) {
    for (unsigned half = 0; half < 2; half++) {
        vec w0 = zip8(b[0], b[1], half), w1 = zip8(b[2], b[3], half), w2 = zip8(b[4], b[5], half),
                w3 = zip8(b[6], b[7], half);
        for (unsigned quarter = 0; quarter < 2; quarter++) {
            vec low = zip16(w0, w1, quarter), high = zip16(w2, w3, quarter);
            store(dst + 256 * half + 128 * quarter, zip32(low, high, false));
            store(dst + 256 * half + 128 * quarter + 64, zip32(low, high, true));
        }
    }
}

STEP void load_quadwords(const uint8_t *src, vec *b) {
    vec half[2][4];
    for (unsigned i = 0; i < 4; i++) {
        vec x0 = load(src + 128 * i), x1 = load(src + 128 * i + 64);
        half[0][i] = unzip32(x0, x1, false);
        half[1][i] = unzip32(x0, x1, true);
    }
    for (unsigned h = 0; h < 2; h++) {
        vec w0[2], w1[2];
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

/* GROUP elements of `width` bytes: 2, 4 or 8. */
STEP void store_elements(uint8_t *dst, const vec *b, unsigned width) {
    switch (width) {
    case 2: store_words(dst, b); break;
    case 4: store_doublewords(dst, b); break;
    default: store_quadwords(dst, b);
    }
}

STEP void load_elements(const uint8_t *src, vec *b, unsigned width) {
    switch (width) {
    case 2: load_words(src, b); break;
    case 4: load_doublewords(src, b); break;
    default: load_quadwords(src, b);
    }
}

/* ---- states of 16 bits as two vectors of bytes ---- */

struct lanes {
    vec low, high;
};

STEP void load_lanes(const uint16_t *state, struct lanes *lanes) {
    vec a = load(state), b = load(state + GROUP / 2);
    lanes->low = unzip8(a, b, false);
    lanes->high = unzip8(a, b, true);
}

STEP void store_lanes(uint16_t *state, const struct lanes *lanes) {
    store(state, zip8(lanes->low, lanes->high, false));
    store(state + GROUP / 2, zip8(lanes->low, lanes->high, true));
}

static const uint64_t EVEN = 0x5555555555555555u;

/* a * b + c of bytes, as words. With masks where shifts would do, since Intel's CPUs have one unit for those. */
STEP struct lanes multiply_add(vec a, vec b, vec c) {
    const vec low_bytes = _mm512_set1_epi16(0xff), high_bytes = _mm512_set1_epi16((short)0xff00);
    vec even = _mm512_mullo_epi16(both(a, low_bytes), both(b, low_bytes));
    vec odd = _mm512_mulhi_epu16(both(a, high_bytes), both(b, high_bytes));
    even = _mm512_add_epi16(even, both(c, low_bytes));
    odd = _mm512_add_epi16(odd, _mm512_srli_epi16(c, 8));
    vec swapped = _mm512_shldi_epi16(odd, odd, 8);
    return (struct lanes){blend(EVEN, even, swapped), _mm512_shrdi_epi16(even, swapped, 8)};
}

/* x / freq and x % freq of words: the product with the inverse is the quotient or one less. */
STEP void divide_words(vec x, vec freq, vec inverse, vec *quotient_ret, vec *rest_ret) {
    vec quotient = _mm512_mulhi_epu16(x, inverse);
    vec rest = _mm512_sub_epi16(x, _mm512_mullo_epi16(quotient, freq));
    __mmask32 low = _mm512_cmpge_epu16_mask(rest, freq);
    *quotient_ret = _mm512_mask_add_epi16(quotient, low, quotient, _mm512_set1_epi16(1));
    *rest_ret = _mm512_mask_sub_epi16(rest, low, rest, freq);
}

/* The even (odd) bytes of a pair of vectors as words. */
STEP vec even_words(vec low, vec high) {
    return _mm512_mask_mov_epi8(low, ~EVEN, _mm512_slli_epi16(high, 8));
}

STEP vec odd_words(vec low, vec high) {
    return _mm512_mask_mov_epi8(high, EVEN, _mm512_srli_epi16(low, 8));
}

/* high: the quotients of the states by freq, low: the rests; both must fit a byte. inverse: floor(65536 / freq), 65535
 * for 1. */
STEP struct lanes divide(struct lanes x, vec freq, struct lanes inverse) {
    vec q0, q1, r0, r1;
    divide_words(even_words(x.low, x.high), both(freq, _mm512_set1_epi16(0xff)),
                 even_words(inverse.low, inverse.high), &q0, &r0);
    divide_words(odd_words(x.low, x.high), _mm512_srli_epi16(freq, 8), odd_words(inverse.low, inverse.high), &q1, &r1);
    return (struct lanes){_mm512_or_si512(r0, _mm512_slli_epi16(r1, 8)),
                          _mm512_or_si512(q0, _mm512_slli_epi16(q1, 8))};
}

#endif
