/*
 * Decoding rANS with AVX2. The states are kept in groups of 32, and each group as two vectors of bytes: the low byte of
 * every state is its slot, and "below 256" is "high byte zero".
 *
 *   slot -> symbol        up to 16 symbols: the number of starts that are not above the slot, a compare each;
 *                         else a table of 256 bytes as 16 rows of 16, a shuffle each, then a tree of blends
 *   symbol -> freq etc.   one, two or four shuffles, by the number of symbols
 *   renormalisation       high = low; low = the next coded bytes, dealt out by a shuffle whose index counts the
 *                         hungry lanes
 *
 * The loop is bound by the number of instructions (about 100 for 32 values); groups are independent, so that one hides
 * another's latency.
 */
#ifndef __clang__
#pragma GCC optimize("O3") /* unrolls the loops over rows, which must not be loops: 2.5 times as fast */
#endif

#include "kernels.h"

#if 0
#include "rans_avx2.h"

struct tables {
    const struct zipfs_rans_decoder *decoder;
    __m256i escape; /* its symbol in each byte; 255 when there is none */
    /* start - 1 of symbols 1 to 15, less 128 to be compared as signed bytes; 127 where there is no symbol */
    __m256i below[ROW - 1];
};

TARGET static void make_tables(const struct zipfs_rans_decoder *decoder, struct tables *t) {
    const struct zipfs_rans_table *table = &decoder->table;
    t->decoder = decoder;
    t->escape = bytes(table->has_escape ? table->num_symbols - 1u : 255);
    for (unsigned s = 1; s < ROW; s++)
        t->below[s - 1] = bytes(s < table->num_symbols ? (table->start[s] - 1u) ^ 0x80 : 0x7f);
}

/* The symbols of 32 slots; the table has up to `limit` symbols: 8, 16, 32 or 64. */
STEP __m256i symbols_of(const struct tables *t, unsigned limit, __m256i slot) {
    if (limit > ROW)
        return look_up(t->decoder->symbol, 16, slot);
    __m256i signed_slot = _mm256_xor_si256(slot, bytes(0x80)), even = _mm256_setzero_si256(), odd = even;
    for (unsigned s = 0; s + 1 < limit; s += 2) {
        even = _mm256_sub_epi8(even, _mm256_cmpgt_epi8(signed_slot, t->below[s]));
        if (s + 2 < limit)
            odd = _mm256_sub_epi8(odd, _mm256_cmpgt_epi8(signed_slot, t->below[s + 1]));
    }
    return _mm256_add_epi8(even, odd);
}

/* The next bytes of src in the chosen lanes: chosen is all ones or zero in each byte, and `mask` its top bits.
 * Reads 32 bytes. */
STEP __m256i deal(const uint8_t *src, __m256i chosen, uint32_t mask) {
    /* minus the chosen lanes so far, in each half */
    __m256i count = _mm256_add_epi8(chosen, _mm256_slli_si256(chosen, 1));
    count = _mm256_add_epi8(count, _mm256_slli_si256(count, 2));
    count = _mm256_add_epi8(count, _mm256_slli_si256(count, 4));
    count = _mm256_add_epi8(count, _mm256_slli_si256(count, 8));
    const uint8_t *second = src + _mm_popcnt_u32(mask & 0xffff);
    __m256i x = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)src));
    x = _mm256_inserti128_si256(x, _mm_loadu_si128((const __m128i *)second), 1);
    return _mm256_shuffle_epi8(x, _mm256_xor_si256(count, bytes(0xff)));
}

/* As deal, from what is left of a stream; false when that is too little. */
STEP bool take(const uint8_t **src, const uint8_t *end, __m256i chosen, uint32_t mask, __m256i *dealt_ret) {
    size_t left = (size_t)(end - *src), count = (size_t)_mm_popcnt_u32(mask);
    if (ZIPFS_LIKELY(left >= GROUP)) {
        *dealt_ret = deal(*src, chosen, mask);
    } else {
        uint8_t buffer[GROUP] = {0};
        if (count > left)
            return false;
        memcpy(buffer, *src, left);
        *dealt_ret = deal(buffer, chosen, mask);
    }
    *src += count;
    return true;
}

/* Advances 32 states up to the renormalisation. Returns the lanes that ask for a byte, and the symbols. */
STEP __m256i advance(const struct tables *t, unsigned limit, struct lanes *lanes, __m256i *symbol_ret) {
    const struct zipfs_rans_table *table = &t->decoder->table;
    const unsigned rows = rows_of(limit);
    __m256i slot = lanes->low, symbol = symbols_of(t, limit, slot);
    __m256i freq = look_up(table->freq, rows, symbol);
    __m256i place = _mm256_sub_epi8(slot, look_up(table->start, rows, symbol));
    __m256i even = _mm256_mullo_epi16(even_bytes(freq), even_bytes(lanes->high));
    __m256i odd = _mm256_mullo_epi16(odd_bytes(freq), odd_bytes(lanes->high));
    *lanes = to_bytes(_mm256_add_epi16(even, even_bytes(place)), _mm256_add_epi16(odd, odd_bytes(place)));
    *symbol_ret = symbol;
    return _mm256_cmpeq_epi8(lanes->high, _mm256_setzero_si256());
}

/* Gives the hungry lanes their bytes. */
STEP void renormalise(struct lanes *lanes, __m256i hungry, __m256i dealt) {
    lanes->high = _mm256_blendv_epi8(lanes->high, lanes->low, hungry);
    lanes->low = _mm256_blendv_epi8(lanes->low, dealt, hungry);
}

/* The values of 32 symbols. False when the escapes ran out. */
STEP bool values_of(const struct tables *t, unsigned limit, __m256i symbol, __m256i used, const uint8_t **escapes,
                    __m256i *values_ret) {
    *values_ret = look_up(t->decoder->table.value, rows_of(limit), symbol);
    __m256i escaped = _mm256_and_si256(_mm256_cmpeq_epi8(symbol, t->escape), used), dealt;
    uint32_t mask = top_bits(escaped);
    if (ZIPFS_LIKELY(!mask))
        return true;
    if (!take(escapes, t->decoder->escapes_end, escaped, mask, &dealt))
        return false;
    *values_ret = _mm256_blendv_epi8(*values_ret, dealt, escaped);
    return true;
}

/* Where values go: a kernel for each, made by the compiler from one loop. */
enum sink { SINK_VALUES, SINK_BF16, SINK_F32 };

STEP void interleave_words(__m256i a, __m256i b, __m256i ret[2]) {
    __m256i low = _mm256_unpacklo_epi16(a, b), high = _mm256_unpackhi_epi16(a, b);
    ret[0] = _mm256_permute2x128_si256(low, high, 0x20);
    ret[1] = _mm256_permute2x128_si256(low, high, 0x31);
}

/* Bits of `mask` from a, the others from b. */
STEP __m256i choose(__m256i mask, __m256i a, __m256i b) {
    return _mm256_or_si256(_mm256_and_si256(mask, a), _mm256_andnot_si256(mask, b));
}

/* Puts 32 values, those of elements i to i + 32, where they belong. */
STEP void put(enum sink sink, __m256i values, const uint8_t *const *planes, uint8_t *dst, size_t i) {
    if (sink == SINK_VALUES) {
        store(dst + i, values);
        return;
    }
    const __m256i top_bit = bytes(0x80);
    __m256i rest = load(planes[1] + i), top[2];
    __m256i high = choose(top_bit, rest, _mm256_srli_epi16(values, 1));
    __m256i low = choose(top_bit, _mm256_slli_epi16(values, 7), rest);
    interleave(low, high, top);
    if (sink == SINK_BF16) {
        store(dst + 2 * i, top[0]);
        store(dst + 2 * i + 32, top[1]);
        return;
    }
    __m256i bottom[2], x[2];
    interleave(load(planes[3] + i), load(planes[2] + i), bottom);
    for (unsigned half = 0; half < 2; half++) {
        interleave_words(bottom[half], top[half], x);
        store(dst + 4 * i + 64 * half, x[0]);
        store(dst + 4 * i + 64 * half + 32, x[1]);
    }
}

/* As put, for the first `used` values; a plane may end behind them. */
STEP void put_careful(enum sink sink, __m256i values, const uint8_t *const *planes, uint8_t *dst, size_t i,
                      size_t used) {
    static const unsigned widths[] = {1, 2, 4};
    uint8_t buffer[4][GROUP], result[4 * GROUP];
    const uint8_t *const copies[4] = {buffer[0], buffer[1], buffer[2], buffer[3]};
    for (unsigned f = 1; f < widths[sink]; f++) {
        memset(buffer[f], 0, GROUP);
        memcpy(buffer[f], planes[f] + i, used);
    }
    put(sink, values, copies, result, 0);
    memcpy(dst + widths[sink] * i, result, widths[sink] * used);
}

/* Ones in the first `count` bytes. */
STEP __m256i first(size_t count) {
    uint8_t ones[GROUP];
    for (size_t i = 0; i < GROUP; i++)
        ones[i] = i < count ? 0xff : 0;
    return load(ones);
}

STEP bool decode_up_to(unsigned limit, enum sink sink, struct zipfs_rans_decoder *decoder, const uint8_t *const *planes,
                       uint8_t *dst, size_t n) {
    const unsigned groups = decoder->num_lanes / GROUP;
    struct tables t;
    struct lanes lanes[MAX_GROUPS];
    make_tables(decoder, &t);
    load_states(decoder->state, lanes, groups);
    const uint8_t *coded = decoder->coded, *coded_end = decoder->coded_end, *escapes = decoder->escapes;
    __m256i symbol, values, dealt;
    size_t i = 0;
    for (unsigned g = 0; i + GROUP <= n && (size_t)(coded_end - coded) >= GROUP; i += GROUP, g = (g + 1) % groups) {
        struct lanes x = lanes[g];
        __m256i hungry = advance(&t, limit, &x, &symbol);
        uint32_t mask = top_bits(hungry);
        renormalise(&x, hungry, deal(coded, hungry, mask));
        coded += _mm_popcnt_u32(mask);
        lanes[g] = x;
        if (!values_of(&t, limit, symbol, bytes(255), &escapes, &values))
            return false;
        put(sink, values, planes, dst, i);
    }
    for (; i < n || i / GROUP % groups; i += GROUP) {
        struct lanes *x = &lanes[i / GROUP % groups];
        size_t used = i < n ? zipfs_min(n - i, GROUP) : 0;
        __m256i hungry = advance(&t, limit, x, &symbol);
        if (!take(&coded, coded_end, hungry, top_bits(hungry), &dealt))
            return false;
        renormalise(x, hungry, dealt);
        if (!values_of(&t, limit, symbol, first(used), &escapes, &values))
            return false;
        if (used)
            put_careful(sink, values, planes, dst, i, used);
    }
    decoder->coded = coded;
    decoder->escapes = escapes;
    store_states(decoder->state, lanes, groups);
    return true;
}

STEP bool decode(enum sink sink, struct zipfs_rans_decoder *decoder, const uint8_t *const *planes, uint8_t *dst,
                 size_t n) {
    unsigned num_symbols = decoder->table.num_symbols;
    return num_symbols <= 8    ? decode_up_to(8, sink, decoder, planes, dst, n)
           : num_symbols <= 16 ? decode_up_to(16, sink, decoder, planes, dst, n)
           : num_symbols <= 32 ? decode_up_to(32, sink, decoder, planes, dst, n)
                               : decode_up_to(64, sink, decoder, planes, dst, n);
}

TARGET bool zipfs_rans_decode_avx2(struct zipfs_rans_decoder *decoder, uint8_t *values, size_t n) {
    return decode(SINK_VALUES, decoder, NULL, values, n);
}

TARGET bool zipfs_rans_merge_bf16_avx2(struct zipfs_rans_decoder *decoder, const uint8_t *const *planes, uint8_t *dst,
                                       size_t n) {
    return decode(SINK_BF16, decoder, planes, dst, n);
}

TARGET bool zipfs_rans_merge_f32_avx2(struct zipfs_rans_decoder *decoder, const uint8_t *const *planes, uint8_t *dst,
                                      size_t n) {
    return decode(SINK_F32, decoder, planes, dst, n);
}

#endif
