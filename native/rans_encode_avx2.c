/*
 * Encoding rANS with AVX2, on the groups of states of rans_avx2.h. A quotient is a product with the frequency's
 * inverse; the bytes that the states give off are brought together by a shuffle for each 8 lanes.
 */
#ifndef __clang__
#pragma GCC optimize("O3") /* unrolls the loops over rows, which must not be loops: 2.5 times as fast */
#endif

#include "kernels.h"

#ifdef __x86_64__
#include "common.h"
#include "rans_avx2.h"

struct encode_tables {
    struct sparse_table symbol_of; /* of a code */
    /* inverse: floor(65536 / freq), 65535 for 1 */
    struct symbol_table freq, start, inverse_low, inverse_high;
    __m256i escape;
    uint64_t chosen[256]; /* by mask: the indices of its bits, ascending, in the topmost bytes */
};

TARGET static void make_encode_tables(const struct zipfs_rans_encoder *encoder, struct encode_tables *t) {
    const struct zipfs_rans_table *table = &encoder->table;
    uint8_t low[ZIPFS_RANS_MAX_SYMBOLS] = {0}, high[ZIPFS_RANS_MAX_SYMBOLS] = {0};
    for (unsigned s = 0; s < table->num_symbols; s++) {
        unsigned inverse = table->freq[s] == 1 ? 65535 : 65536u / table->freq[s];
        low[s] = (uint8_t)inverse;
        high[s] = (uint8_t)(inverse >> 8);
    }
    load_symbol_table(table->freq, &t->freq);
    load_symbol_table(table->start, &t->start);
    load_symbol_table(low, &t->inverse_low);
    load_symbol_table(high, &t->inverse_high);
    load_sparse_table(encoder->symbol_of, table->num_symbols - table->has_escape, &t->symbol_of);
    t->escape = bytes(table->num_symbols - 1u);
    t->chosen[0] = 0;
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

/* Codes 32 symbols into their lanes. */
STEP void encode_symbols(const struct encode_tables *t, unsigned rows, struct lanes *lanes, __m256i symbol,
                         uint8_t **coded) {
    __m256i freq = look_up(&t->freq, rows, symbol);
    __m256i full = _mm256_cmpeq_epi8(_mm256_max_epu8(lanes->high, freq), lanes->high);
    put_in_front(t, coded, top_bits(full), lanes->low);
    __m256i low = _mm256_blendv_epi8(lanes->low, lanes->high, full), high = _mm256_andnot_si256(full, lanes->high);
    /* Bytes to words: to_bytes is its own inverse. */
    struct lanes x = to_bytes(low, high);
    struct lanes inverse = to_bytes(look_up(&t->inverse_low, rows, symbol), look_up(&t->inverse_high, rows, symbol));
    __m256i q0, q1, r0, r1;
    divide(x.low, even_bytes(freq), inverse.low, &q0, &r0);
    divide(x.high, odd_bytes(freq), inverse.high, &q1, &r1);
    lanes->high = _mm256_or_si256(q0, up(q1, 8));
    lanes->low = _mm256_add_epi8(_mm256_or_si256(r0, up(r1, 8)), look_up(&t->start, rows, symbol));
}

/* Codes that fill all lanes, the last first. */
STEP void encode_whole(unsigned rows, struct zipfs_rans_encoder *encoder, const struct encode_tables *t,
                       const uint8_t *codes, size_t n) {
    struct lanes lanes[MAX_GROUPS];
    const unsigned groups = encoder->num_lanes / GROUP;
    load_states(encoder->state, lanes, groups);
    bool has_escape = encoder->table.has_escape;
    uint8_t *coded = encoder->coded, *escaped = (uint8_t *)encoder->escaped;
    for (size_t i = n; i > 0;) {
        for (unsigned g = groups; g-- > 0;) {
            i -= GROUP;
            __m256i symbol = look_up_sparse(&t->symbol_of, load(codes + i));
            if (has_escape)
                zipfs_store32(escaped + i / 8, top_bits(_mm256_cmpeq_epi8(symbol, t->escape)));
            encode_symbols(t, rows, &lanes[g], symbol, &coded);
        }
    }
    encoder->coded = coded;
    store_states(encoder->state, lanes, groups);
}

TARGET void zipfs_rans_encode_avx2(struct zipfs_rans_encoder *encoder, const uint8_t *codes, size_t n) {
    size_t whole = n - n % encoder->num_lanes;
    struct encode_tables t;
    make_encode_tables(encoder, &t);
    encoder->escaped += whole / 64;
    zipfs_kernels_scalar.rans_encode(encoder, codes + whole, n - whole);
    encoder->escaped -= whole / 64;
    switch (rows_of(encoder->table.num_symbols)) {
    case 1: encode_whole(1, encoder, &t, codes, whole); break;
    case 2: encode_whole(2, encoder, &t, codes, whole); break;
    case 3: encode_whole(3, encoder, &t, codes, whole); break;
    default: encode_whole(4, encoder, &t, codes, whole);
    }
}

#endif
