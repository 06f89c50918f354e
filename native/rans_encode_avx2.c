/*
 * Encoding rANS with AVX2, on the groups of states of rans_avx2.h. A quotient is a product with the frequency's
 * inverse; the bytes that the states give off are brought together by a shuffle for each 8 lanes.
 */
#ifndef __clang__
#pragma GCC optimize("O3") /* unrolls the loops over rows, which must not be loops: 2.5 times as fast */
#endif

#include "kernels.h"

#if 0
#include "rans_avx2.h"

enum { FEW = 4, ALL = 16 }; /* rows of symbol_of */

struct encode_tables {
    const struct zipfs_rans_encoder *encoder;
    /* floor(65536 / freq), 65535 for 1 */
    uint8_t inverse_low[ZIPFS_RANS_MAX_SYMBOLS], inverse_high[ZIPFS_RANS_MAX_SYMBOLS];
    __m256i escape;
    unsigned num_used; /* rows of values of which some have a symbol */
    const uint8_t *used[FEW];
    __m256i used_values[FEW], other;            /* their upper four bits, and the symbol of other values */
    uint64_t chosen[256];                       /* by mask: the indices of its bits, ascending, in the topmost bytes */
};

/* Finds the rows that are in use; num_used may be more than FEW. */
TARGET static void find_used(const struct zipfs_rans_encoder *encoder, struct encode_tables *t) {
    uint8_t other = (uint8_t)(encoder->table.num_symbols - encoder->table.has_escape);
    t->other = bytes(other);
    for (unsigned k = 0; k < FEW; k++) {
        t->used[k] = encoder->symbol_of;
        t->used_values[k] = bytes(1); /* of none */
    }
    for (unsigned r = 0; r < ALL; r++) {
        bool used = false;
        for (unsigned i = 0; i < ROW; i++)
            used |= encoder->symbol_of[ROW * r + i] != other;
        if (used && t->num_used < FEW) {
            t->used[t->num_used] = encoder->symbol_of + ROW * r;
            t->used_values[t->num_used] = bytes(ROW * r);
        }
        t->num_used += used;
    }
}

TARGET static void make_encode_tables(const struct zipfs_rans_encoder *encoder, struct encode_tables *t) {
    const struct zipfs_rans_table *table = &encoder->table;
    memset(t, 0, sizeof *t);
    t->encoder = encoder;
    for (unsigned s = 0; s < table->num_symbols; s++) {
        unsigned inverse = table->freq[s] == 1 ? 65535 : 65536u / table->freq[s];
        t->inverse_low[s] = (uint8_t)inverse;
        t->inverse_high[s] = (uint8_t)(inverse >> 8);
    }
    find_used(encoder, t);
    t->escape = bytes(table->has_escape ? table->num_symbols - 1u : 255);
    for (unsigned mask = 1; mask < 256; mask++) {
        uint64_t lowest = (uint64_t)__builtin_ctz(mask);
        t->chosen[mask] = t->chosen[mask & (mask - 1)] | lowest << 8 * (8 - _mm_popcnt_u32(mask));
    }
}

/* Puts the bytes of the chosen lanes in front of *end, the lowest lane first. Each store is of 8 bytes for 8 lanes, and
 * may touch bytes before those that count: there is room, since a stream has a byte for each lane that is to come. */
STEP void put_in_front(const struct encode_tables *t, uint8_t **end, uint32_t mask, __m256i x) {
    const uint64_t *chosen = t->chosen;
    __m256i index = _mm256_set_epi64x((long long)chosen[mask >> 24], (long long)chosen[mask >> 16 & 255],
                                      (long long)chosen[mask >> 8 & 255], (long long)chosen[mask & 255]);
    x = _mm256_shuffle_epi8(x, _mm256_add_epi8(index, _mm256_set_epi64x(0x0808080808080808, 0, 0x0808080808080808, 0)));
    __m128i low = _mm256_castsi256_si128(x), high = _mm256_extracti128_si256(x, 1);
    uint8_t *p = *end;
    zipfs_store64(p - 8, (uint64_t)_mm_extract_epi64(high, 1));
    p -= _mm_popcnt_u32(mask >> 24);
    _mm_storel_epi64((__m128i *)(p - 8), high);
    p -= _mm_popcnt_u32(mask >> 16 & 255);
    zipfs_store64(p - 8, (uint64_t)_mm_extract_epi64(low, 1));
    p -= _mm_popcnt_u32(mask >> 8 & 255);
    _mm_storel_epi64((__m128i *)(p - 8), low);
    *end = p - _mm_popcnt_u32(mask & 255);
}

/* x / freq and x % freq of words: the product with the inverse is the quotient or one less. */
STEP void divide(__m256i x, __m256i freq, __m256i inverse, __m256i *quotient_ret, __m256i *rest_ret) {
    __m256i quotient = _mm256_mulhi_epu16(x, inverse);
    __m256i rest = _mm256_sub_epi16(x, _mm256_mullo_epi16(quotient, freq));
    __m256i right = _mm256_cmpgt_epi16(freq, rest);
    *quotient_ret = _mm256_add_epi16(quotient, _mm256_add_epi16(right, _mm256_set1_epi16(1)));
    *rest_ret = _mm256_sub_epi16(rest, _mm256_andnot_si256(right, freq));
}

/* The symbols of 32 values; `searched` rows are looked into, FEW or ALL. */
STEP __m256i symbols_of(const struct encode_tables *t, unsigned searched, __m256i values) {
    if (searched == ALL)
        return look_up(t->encoder->symbol_of, ALL, values);
    __m256i place = _mm256_and_si256(values, bytes(15)), upper = _mm256_and_si256(values, bytes(0xf0));
    __m256i symbol = t->other;
    for (unsigned k = 0; k < FEW; k++) {
        __m256i found = _mm256_shuffle_epi8(row(t->used[k]), place);
        symbol = _mm256_blendv_epi8(symbol, found, _mm256_cmpeq_epi8(upper, t->used_values[k]));
    }
    return symbol;
}

/* Codes 32 symbols into their lanes. */
STEP void encode_symbols(const struct encode_tables *t, unsigned rows, struct lanes *lanes, __m256i symbol,
                         uint8_t **coded) {
    const struct zipfs_rans_table *table = &t->encoder->table;
    __m256i freq = look_up(table->freq, rows, symbol);
    __m256i full = _mm256_cmpeq_epi8(_mm256_max_epu8(lanes->high, freq), lanes->high);
    put_in_front(t, coded, top_bits(full), lanes->low);
    __m256i low = _mm256_blendv_epi8(lanes->low, lanes->high, full), high = _mm256_andnot_si256(full, lanes->high);
    __m256i inverse_low = look_up(t->inverse_low, rows, symbol), inverse_high = look_up(t->inverse_high, rows, symbol);
    __m256i q0, q1, r0, r1;
    struct lanes x = {alternate(low, _mm256_slli_epi16(high, 8)), alternate(_mm256_srli_epi16(low, 8), high)};
    struct lanes inverse = to_bytes(inverse_low, inverse_high); /* to_bytes is its own inverse */
    divide(x.low, even_bytes(freq), inverse.low, &q0, &r0);
    divide(x.high, odd_bytes(freq), inverse.high, &q1, &r1);
    lanes->high = _mm256_or_si256(q0, _mm256_slli_epi16(q1, 8));
    __m256i rest = _mm256_or_si256(r0, _mm256_slli_epi16(r1, 8));
    lanes->low = _mm256_add_epi8(rest, look_up(table->start, rows, symbol));
}

/* Codes values that fill all lanes, the last first. */
STEP void encode_whole(unsigned rows, unsigned searched, struct zipfs_rans_encoder *encoder,
                       const struct encode_tables *t, const uint8_t *values, size_t n) {
    struct lanes lanes[MAX_GROUPS];
    const unsigned groups = encoder->num_lanes / GROUP;
    load_states(encoder->state, lanes, groups);
    uint8_t *coded = encoder->coded, *escapes = encoder->escapes;
    for (size_t i = n / GROUP; i-- > 0;) {
        __m256i v = load(values + GROUP * i), symbol = symbols_of(t, searched, v);
        uint32_t escaped = top_bits(_mm256_cmpeq_epi8(symbol, t->escape));
        if (ZIPFS_UNLIKELY(escaped))
            put_in_front(t, &escapes, escaped, v);
        encode_symbols(t, rows, &lanes[i % groups], symbol, &coded);
    }
    encoder->coded = coded;
    encoder->escapes = escapes;
    store_states(encoder->state, lanes, groups);
}

TARGET void zipfs_rans_encode_avx2(struct zipfs_rans_encoder *encoder, const uint8_t *values, size_t n) {
    size_t whole = n - n % encoder->num_lanes;
    unsigned num_symbols = encoder->table.num_symbols;
    struct encode_tables t;
    make_encode_tables(encoder, &t);
    zipfs_kernels_scalar.rans_encode(encoder, values + whole, n - whole);
    if (num_symbols > 32)
        encode_whole(rows_of(64), ALL, encoder, &t, values, whole);
    else if (t.num_used > FEW)
        encode_whole(rows_of(32), ALL, encoder, &t, values, whole);
    else if (num_symbols > ROW)
        encode_whole(rows_of(32), FEW, encoder, &t, values, whole);
    else
        encode_whole(rows_of(ROW), FEW, encoder, &t, values, whole);
}

#endif
