/*
 * rANS with AVX-512 VBMI2. The states are kept in one or two groups of 64, and each group as two vectors of bytes: the
 * low byte of every state is its slot, so one look-up serves 64 lanes, and "below 256" is "high byte zero".
 *
 *   slot -> symbol        two 128-byte permutes, one blend
 *   symbol -> freq etc.   one 64-byte permute each
 *   renormalisation       high = low; low = the next coded bytes, dealt out by one expand
 *                         (its memory form is the faster one on Zen 5)
 *
 * The loop is bound by the latency of that chain (about 40 cycles for 128 values), so merging the values with the other
 * planes in the same loop costs next to nothing: rans_merge_*.
 */
#include "kernels.h"

#ifdef __x86_64__
#include <immintrin.h>

#include "common.h"

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,popcnt,bmi2")))
#define STEP TARGET static inline __attribute__((always_inline))

enum { GROUP = 64 };

static const uint64_t EVEN = 0x5555555555555555u;

struct tables {
    __m512i symbol[4]; /* of 256 slots */
    __m512i freq, start, value;
    __m512i escape; /* its symbol in each byte */
};

struct lanes {
    __m512i low, high; /* of 64 states */
};

STEP __m512i load(const void *src) {
    return _mm512_loadu_si512(src);
}

STEP __mmask64 first(size_t count) {
    return count >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << count) - 1;
}

/* Byte 2 * i (odd: 2 * i + 1) of the 128 bytes a, b. */
STEP __m512i every_second(__m512i a, __m512i b, bool odd) {
    uint8_t index[64];
    for (unsigned i = 0; i < 64; i++)
        index[i] = (uint8_t)(2 * i + odd);
    return _mm512_permutex2var_epi8(a, load(index), b);
}

STEP void load_states(const uint16_t *state, struct lanes lanes[2], unsigned groups) {
    for (unsigned g = 0; g < groups; g++) {
        __m512i a = load(state + GROUP * g), b = load(state + GROUP * g + 32);
        lanes[g].low = every_second(a, b, false);
        lanes[g].high = every_second(a, b, true);
    }
}

/* a[0] b[0] a[1] b[1] ... for the lower (upper: upper) 32 bytes of a and b. */
STEP __m512i interleave(__m512i a, __m512i b, bool upper) {
    uint8_t index[64];
    for (unsigned i = 0; i < 64; i++)
        index[i] = (uint8_t)(i / 2 + 32 * upper + 64 * (i % 2));
    return _mm512_permutex2var_epi8(a, load(index), b);
}

STEP void store_states(uint16_t *state, const struct lanes lanes[2], unsigned groups) {
    for (unsigned g = 0; g < groups; g++) {
        _mm512_storeu_si512(state + GROUP * g, interleave(lanes[g].low, lanes[g].high, false));
        _mm512_storeu_si512(state + GROUP * g + 32, interleave(lanes[g].low, lanes[g].high, true));
    }
}

/* ---- decoding ---- */

STEP struct tables load_tables(const struct zipfs_rans_decoder *decoder) {
    struct tables t;
    for (unsigned i = 0; i < 4; i++)
        t.symbol[i] = load(decoder->symbol + 64 * i);
    t.freq = load(decoder->table.freq);
    t.start = load(decoder->table.start);
    t.value = load(decoder->table.value);
    t.escape = _mm512_set1_epi8((char)(decoder->table.num_symbols - 1));
    return t;
}

/* Advances 64 states up to the renormalisation. Returns the lanes that ask for a byte, and the symbols. */
STEP __mmask64 advance(const struct tables *t, struct lanes *lanes, __m512i *symbol_ret) {
    const __m512i low_bytes = _mm512_set1_epi16(0xff);
    __m512i slot = lanes->low;
    __m512i lower = _mm512_permutex2var_epi8(t->symbol[0], slot, t->symbol[1]);
    __m512i upper = _mm512_permutex2var_epi8(t->symbol[2], slot, t->symbol[3]);
    __m512i symbol = _mm512_mask_mov_epi8(lower, _mm512_movepi8_mask(slot), upper);
    __m512i freq = _mm512_permutexvar_epi8(symbol, t->freq);
    __m512i place = _mm512_sub_epi8(slot, _mm512_permutexvar_epi8(symbol, t->start));
    __m512i even = _mm512_mullo_epi16(_mm512_and_si512(freq, low_bytes), _mm512_and_si512(lanes->high, low_bytes));
    __m512i odd = _mm512_mullo_epi16(_mm512_srli_epi16(freq, 8), _mm512_srli_epi16(lanes->high, 8));
    even = _mm512_add_epi16(even, _mm512_and_si512(place, low_bytes));
    odd = _mm512_add_epi16(odd, _mm512_srli_epi16(place, 8));
    lanes->low = _mm512_mask_mov_epi8(even, ~EVEN, _mm512_slli_epi16(odd, 8));
    lanes->high = _mm512_mask_mov_epi8(odd, EVEN, _mm512_srli_epi16(even, 8));
    *symbol_ret = symbol;
    return _mm512_testn_epi8_mask(lanes->high, lanes->high);
}

/* Gives the hungry lanes their bytes, the first of `coded`. */
STEP void renormalise(struct lanes *lanes, __mmask64 hungry, __m512i coded) {
    lanes->high = _mm512_mask_mov_epi8(lanes->high, hungry, lanes->low);
    lanes->low = _mm512_mask_expand_epi8(lanes->low, hungry, coded);
}

/* 64 values where 64 bytes may be read from both streams: whether they are there is the caller's care. */
STEP __m512i step_fast(const struct tables *t, struct lanes *lanes, const uint8_t **coded, const uint8_t **escapes,
                       bool has_escape) {
    __m512i symbol;
    __mmask64 hungry = advance(t, lanes, &symbol);
    renormalise(lanes, hungry, load(*coded));
    *coded += __builtin_popcountll(hungry);
    __m512i values = _mm512_permutexvar_epi8(symbol, t->value);
    if (has_escape) {
        __mmask64 escaped = _mm512_cmpeq_epi8_mask(symbol, t->escape);
        values = _mm512_mask_expand_epi8(values, escaped, load(*escapes));
        *escapes += __builtin_popcountll(escaped);
    }
    return values;
}

/* 64 values of which `used` are wanted, reading nothing beyond the ends. False when a stream ran out. */
STEP bool step_careful(const struct tables *t, struct lanes *lanes, struct zipfs_rans_decoder *d, size_t used,
                       __m512i *values_ret) {
    __m512i symbol;
    __mmask64 hungry = advance(t, lanes, &symbol);
    size_t left = (size_t)(d->coded_end - d->coded), count = (size_t)__builtin_popcountll(hungry);
    if (count > left)
        return false;
    renormalise(lanes, hungry, _mm512_maskz_loadu_epi8(first(left), d->coded));
    d->coded += count;
    *values_ret = _mm512_permutexvar_epi8(symbol, t->value);
    if (!d->table.has_escape)
        return true;
    __mmask64 escaped = _mm512_cmpeq_epi8_mask(symbol, t->escape) & first(used);
    left = (size_t)(d->escapes_end - d->escapes);
    count = (size_t)__builtin_popcountll(escaped);
    if (count > left)
        return false;
    *values_ret = _mm512_mask_expand_epi8(*values_ret, escaped, _mm512_maskz_loadu_epi8(first(left), d->escapes));
    d->escapes += count;
    return true;
}

/* Where values go: a kernel for each, made by the compiler from one loop. */
enum sink { SINK_VALUES, SINK_BF16, SINK_F32 };

/* Bits of `mask` from a, the others from b. */
STEP __m512i choose(__m512i mask, __m512i a, __m512i b) {
    return _mm512_ternarylogic_epi32(mask, a, b, 0xca);
}

/* Exponents, and sign with the top 7 mantissa bits, to the two top bytes of BF16 or F32. */
STEP void place_sign(__m512i exponent, __m512i rest, __m512i *high_ret, __m512i *low_ret) {
    const __m512i top_bit = _mm512_set1_epi8((char)0x80);
    *high_ret = choose(top_bit, rest, _mm512_srli_epi16(exponent, 1));
    *low_ret = choose(top_bit, _mm512_slli_epi16(exponent, 7), rest);
}

STEP __m512i interleave_words(__m512i a, __m512i b, bool upper) {
    uint16_t index[32];
    for (unsigned i = 0; i < 32; i++)
        index[i] = (uint16_t)(i / 2 + 16 * upper + 32 * (i % 2));
    return _mm512_permutex2var_epi16(a, load(index), b);
}

/* Puts 64 values, those of elements i to i + 64, where they belong. */
STEP void put(enum sink sink, __m512i values, const uint8_t *const *planes, uint8_t *dst, size_t i) {
    if (sink == SINK_VALUES) {
        _mm512_storeu_si512(dst + i, values);
        return;
    }
    __m512i high, low;
    place_sign(values, load(planes[1] + i), &high, &low);
    __m512i top[2] = {interleave(low, high, false), interleave(low, high, true)};
    if (sink == SINK_BF16) {
        _mm512_storeu_si512(dst + 2 * i, top[0]);
        _mm512_storeu_si512(dst + 2 * i + 64, top[1]);
        return;
    }
    __m512i b1 = load(planes[2] + i), b0 = load(planes[3] + i);
    for (unsigned half = 0; half < 2; half++) {
        __m512i bottom = interleave(b0, b1, half);
        _mm512_storeu_si512(dst + 4 * i + 128 * half, interleave_words(bottom, top[half], false));
        _mm512_storeu_si512(dst + 4 * i + 128 * half + 64, interleave_words(bottom, top[half], true));
    }
}

/* As put, for the first `used` values; a plane may end behind them. */
STEP void put_careful(enum sink sink, __m512i values, const uint8_t *const *planes, uint8_t *dst, size_t i,
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

STEP size_t decode_fast(enum sink sink, struct zipfs_rans_decoder *decoder, const struct tables *t,
                        struct lanes lanes[2], const uint8_t *const *planes, uint8_t *dst, size_t n, unsigned groups,
                        bool has_escape) {
    const uint8_t *coded = decoder->coded, *coded_end = decoder->coded_end;
    const uint8_t *escapes = decoder->escapes, *escapes_end = decoder->escapes_end;
    struct lanes a = lanes[0], b = lanes[1];
    size_t i = 0;
    const size_t step = groups * GROUP;
    /* As many bytes of each stream are there as the steps of all groups can take. */
    while (i + step <= n && (size_t)(coded_end - coded) >= step &&
           (!has_escape || (size_t)(escapes_end - escapes) >= step)) {
        put(sink, step_fast(t, &a, &coded, &escapes, has_escape), planes, dst, i);
        if (groups == 2)
            put(sink, step_fast(t, &b, &coded, &escapes, has_escape), planes, dst, i + GROUP);
        i += step;
    }
    lanes[0] = a;
    lanes[1] = b;
    decoder->coded = coded;
    decoder->escapes = escapes;
    return i;
}

STEP bool decode_groups(enum sink sink, struct zipfs_rans_decoder *decoder, const uint8_t *const *planes, uint8_t *dst,
                        size_t n, unsigned groups) {
    struct tables t = load_tables(decoder);
    struct lanes lanes[2] = {{_mm512_setzero_si512(), _mm512_setzero_si512()},
                             {_mm512_setzero_si512(), _mm512_setzero_si512()}};
    load_states(decoder->state, lanes, groups);
    size_t i = decoder->table.has_escape ? decode_fast(sink, decoder, &t, lanes, planes, dst, n, groups, true)
                                         : decode_fast(sink, decoder, &t, lanes, planes, dst, n, groups, false);
    for (; i < n; i += groups * GROUP) {
        for (unsigned g = 0; g < groups; g++) {
            size_t at = i + GROUP * g, used = at < n ? zipfs_min(n - at, GROUP) : 0;
            __m512i values;
            if (!step_careful(&t, &lanes[g], decoder, used, &values))
                return false;
            if (used == GROUP)
                put(sink, values, planes, dst, at);
            else if (used)
                put_careful(sink, values, planes, dst, at, used);
        }
    }
    store_states(decoder->state, lanes, groups);
    return true;
}

STEP bool decode(enum sink sink, struct zipfs_rans_decoder *decoder, const uint8_t *const *planes, uint8_t *dst,
                 size_t n) {
    return decoder->num_lanes == GROUP ? decode_groups(sink, decoder, planes, dst, n, 1)
                                       : decode_groups(sink, decoder, planes, dst, n, 2);
}

TARGET bool zipfs_rans_decode_avx512(struct zipfs_rans_decoder *decoder, uint8_t *values, size_t n) {
    return decode(SINK_VALUES, decoder, NULL, values, n);
}

TARGET bool zipfs_rans_merge_bf16_avx512(struct zipfs_rans_decoder *decoder, const uint8_t *const *planes, uint8_t *dst,
                                         size_t n) {
    return decode(SINK_BF16, decoder, planes, dst, n);
}

TARGET bool zipfs_rans_merge_f32_avx512(struct zipfs_rans_decoder *decoder, const uint8_t *const *planes, uint8_t *dst,
                                        size_t n) {
    return decode(SINK_F32, decoder, planes, dst, n);
}

/* ---- encoding ---- */

struct encode_tables {
    __m512i symbol_of[4]; /* of 256 values */
    __m512i freq, start;
    __m512i inverse_low, inverse_high; /* floor(65536 / freq), 65535 for 1, as bytes */
    __m512i escape;
};

STEP struct encode_tables load_encode_tables(const struct zipfs_rans_encoder *encoder) {
    struct encode_tables t;
    uint8_t low[64] = {0}, high[64] = {0};
    for (unsigned s = 0; s < encoder->table.num_symbols; s++) {
        unsigned freq = encoder->table.freq[s], inverse = freq == 1 ? 65535 : 65536 / freq;
        low[s] = (uint8_t)inverse;
        high[s] = (uint8_t)(inverse >> 8);
    }
    for (unsigned i = 0; i < 4; i++)
        t.symbol_of[i] = load(encoder->symbol_of + 64 * i);
    t.freq = load(encoder->table.freq);
    t.start = load(encoder->table.start);
    t.inverse_low = load(low);
    t.inverse_high = load(high);
    t.escape = _mm512_set1_epi8((char)(encoder->table.num_symbols - 1));
    return t;
}

/* x / freq and x % freq of words: the product with the inverse is the quotient or one less. */
STEP void divide(__m512i x, __m512i freq, __m512i inverse, __m512i *quotient_ret, __m512i *rest_ret) {
    __m512i quotient = _mm512_mulhi_epu16(x, inverse);
    __m512i rest = _mm512_sub_epi16(x, _mm512_mullo_epi16(quotient, freq));
    __mmask32 low = _mm512_cmpge_epu16_mask(rest, freq);
    *quotient_ret = _mm512_mask_add_epi16(quotient, low, quotient, _mm512_set1_epi16(1));
    *rest_ret = _mm512_mask_sub_epi16(rest, low, rest, freq);
}

/* The even (odd) bytes of a pair of vectors as words. */
STEP __m512i even_words(__m512i low, __m512i high) {
    return _mm512_mask_mov_epi8(low, ~EVEN, _mm512_slli_epi16(high, 8));
}

STEP __m512i odd_words(__m512i low, __m512i high) {
    return _mm512_mask_mov_epi8(high, EVEN, _mm512_srli_epi16(low, 8));
}

/* Puts the chosen bytes in front of *end, the lowest lane first. */
STEP void put_in_front(uint8_t **end, __mmask64 chosen, __m512i bytes) {
    size_t count = (size_t)__builtin_popcountll(chosen);
    *end -= count;
    _mm512_mask_storeu_epi8(*end, first(count), _mm512_maskz_compress_epi8(chosen, bytes));
}

/* Codes 64 symbols into their lanes. */
STEP void encode_symbols(const struct encode_tables *t, struct lanes *lanes, __m512i symbol, uint8_t **coded) {
    const __m512i low_bytes = _mm512_set1_epi16(0xff);
    __m512i freq = _mm512_permutexvar_epi8(symbol, t->freq), start = _mm512_permutexvar_epi8(symbol, t->start);
    __mmask64 full = _mm512_cmpge_epu8_mask(lanes->high, freq);
    put_in_front(coded, full, lanes->low);
    __m512i low = _mm512_mask_mov_epi8(lanes->low, full, lanes->high);
    __m512i high = _mm512_maskz_mov_epi8(~full, lanes->high);
    __m512i inverse_low = _mm512_permutexvar_epi8(symbol, t->inverse_low);
    __m512i inverse_high = _mm512_permutexvar_epi8(symbol, t->inverse_high);
    __m512i q0, q1, r0, r1;
    divide(even_words(low, high), _mm512_and_si512(freq, low_bytes), even_words(inverse_low, inverse_high), &q0, &r0);
    divide(odd_words(low, high), _mm512_srli_epi16(freq, 8), odd_words(inverse_low, inverse_high), &q1, &r1);
    lanes->high = _mm512_or_si512(q0, _mm512_slli_epi16(q1, 8));
    lanes->low = _mm512_add_epi8(_mm512_or_si512(r0, _mm512_slli_epi16(r1, 8)), start);
}

STEP __m512i symbols_of(const struct encode_tables *t, __m512i values) {
    __m512i lower = _mm512_permutex2var_epi8(t->symbol_of[0], values, t->symbol_of[1]);
    __m512i upper = _mm512_permutex2var_epi8(t->symbol_of[2], values, t->symbol_of[3]);
    return _mm512_mask_mov_epi8(lower, _mm512_movepi8_mask(values), upper);
}

/* Codes up to 64 values; lanes beyond them get symbol 0. */
STEP void encode_step(const struct encode_tables *t, struct lanes *lanes, const uint8_t *values, __mmask64 used,
                      bool has_escape, uint8_t **coded, uint8_t **escapes) {
    __m512i v = _mm512_maskz_loadu_epi8(used, values);
    __m512i symbol = _mm512_maskz_mov_epi8(used, symbols_of(t, v));
    if (has_escape)
        put_in_front(escapes, _mm512_mask_cmpeq_epi8_mask(used, symbol, t->escape), v);
    encode_symbols(t, lanes, symbol, coded);
}

TARGET void zipfs_rans_encode_avx512(struct zipfs_rans_encoder *encoder, const uint8_t *values, size_t n) {
    struct encode_tables t = load_encode_tables(encoder);
    struct lanes lanes[2];
    unsigned num_groups = encoder->num_lanes / GROUP;
    load_states(encoder->state, lanes, num_groups);
    bool has_escape = encoder->table.has_escape;
    uint8_t *coded = encoder->coded, *escapes = encoder->escapes;
    size_t steps = (n + encoder->num_lanes - 1) / encoder->num_lanes * num_groups;
    for (size_t g = steps; g-- > 0;) {
        size_t at = g * GROUP;
        encode_step(&t, &lanes[g % num_groups], values + at, at < n ? first(n - at) : 0, has_escape, &coded, &escapes);
    }
    store_states(encoder->state, lanes, num_groups);
    encoder->coded = coded;
    encoder->escapes = escapes;
}

#endif
