/*
 * rANS with AVX-512 VBMI2. The states are kept in one, two or four groups of 64, and each group as two vectors of bytes:
 * the low byte of every state is its slot, so one look-up serves 64 lanes, and "below 256" is "high byte zero".
 *
 *   slot -> symbol        two 128-byte permutes, one blend
 *   symbol -> freq etc.   one 64-byte permute each
 *   renormalisation       high = low; low = the next coded bytes, dealt out by one expand
 *                         (its memory form is the faster one on Zen 5)
 *
 * One group waits for its own results: BF16 decodes, in cache, at 12 GB/s with one group, 23 with two and 36 with four
 * (Zen 5), which is why streams have up to 256 lanes, and why merging the values with the other planes in the same loop
 * costs little. Escapes are dealt out like coded bytes, without asking whether there are any: with some in most groups
 * a branch would be mispredicted.
 */
#ifndef __clang__
#pragma GCC optimize("O3") /* keeps the states of all groups in registers */
#endif

#include "kernels.h"

#ifdef __x86_64__
#include "avx512.h"
#include "common.h"

enum { MAX_GROUPS = ZIPFS_RANS_MAX_LANES / GROUP };

static const uint64_t EVEN = 0x5555555555555555u;

struct lanes {
    __m512i low, high; /* of 64 states */
};

STEP void load_states(const uint16_t *state, struct lanes *lanes, unsigned groups) {
    for (unsigned g = 0; g < groups; g++) {
        __m512i a = load(state + GROUP * g), b = load(state + GROUP * g + 32);
        lanes[g].low = unzip8(a, b, false);
        lanes[g].high = unzip8(a, b, true);
    }
}

STEP void store_states(uint16_t *state, const struct lanes *lanes, unsigned groups) {
    for (unsigned g = 0; g < groups; g++) {
        store(state + GROUP * g, zip8(lanes[g].low, lanes[g].high, false));
        store(state + GROUP * g + 32, zip8(lanes[g].low, lanes[g].high, true));
    }
}

/* ---- decoding ---- */

struct tables {
    struct table256 symbol; /* of a slot */
    __m512i freq, start, low, high;
    __m512i escape; /* its symbol in each byte */
};

/* Where the streams have been read to. */
struct cursors {
    const uint8_t *coded, *escape_low, *escape_high;
};

STEP struct tables load_tables(const struct zipfs_rans_decoder *decoder) {
    struct tables t;
    t.symbol = load_table256(decoder->symbol);
    t.freq = load(decoder->table.freq);
    t.start = load(decoder->table.start);
    t.low = load(decoder->pattern_low);
    t.high = load(decoder->pattern_high);
    t.escape = bytes(decoder->table.num_symbols - 1u);
    return t;
}

/* Advances 64 states up to the renormalisation. Returns the lanes that ask for a byte, and the symbols. */
STEP __mmask64 advance(const struct tables *t, struct lanes *lanes, __m512i *symbol_ret) {
    const __m512i low_bytes = _mm512_set1_epi16(0xff);
    __m512i slot = lanes->low, symbol = look_up(&t->symbol, slot);
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

/* What a stream has, so that its loop need not ask; a kernel for each, made by the compiler from one loop. */
enum sink { SINK_VALUES, SINK_BF16, SINK_F16, SINK_F32, SINK_E4M3, SINK_E5M2 };

STEP bool is_wide(enum sink sink) {
    return sink == SINK_BF16 || sink == SINK_F16 || sink == SINK_F32;
}

STEP unsigned num_planes(enum sink sink) {
    return sink == SINK_VALUES ? 0 : sink == SINK_F32 ? 4 : sink == SINK_F16 ? 3 : 2;
}

/* 64 patterns where 64 bytes may be read from all streams: whether they are theirs is the caller's care. */
STEP void step(enum sink sink, const struct tables *t, struct lanes *lanes, struct cursors *at, bool has_escape,
               __m512i *low_ret, __m512i *high_ret) {
    __m512i symbol;
    __mmask64 hungry = advance(t, lanes, &symbol);
    lanes->high = _mm512_mask_mov_epi8(lanes->high, hungry, lanes->low);
    lanes->low = _mm512_mask_expand_epi8(lanes->low, hungry, load(at->coded));
    at->coded += __builtin_popcountll(hungry);
    __mmask64 escaped = has_escape ? _mm512_cmpeq_epi8_mask(symbol, t->escape) : 0;
    if (sink != SINK_F16) { /* whose patterns have no low byte */
        *low_ret = _mm512_permutexvar_epi8(symbol, t->low);
        if (has_escape)
            *low_ret = _mm512_mask_expand_epi8(*low_ret, escaped, load(at->escape_low));
    }
    if (is_wide(sink)) {
        *high_ret = _mm512_permutexvar_epi8(symbol, t->high);
        if (has_escape)
            *high_ret = _mm512_mask_expand_epi8(*high_ret, escaped, load(at->escape_high));
    }
    if (has_escape) {
        at->escape_low += __builtin_popcountll(escaped);
        at->escape_high += __builtin_popcountll(escaped);
    }
}

STEP __m512i load_packed(const uint8_t *src, unsigned bits) {
    return spread_bits(_mm512_maskz_loadu_epi8(first(8 * bits), src), bits);
}

/* The signs of 64 elements, a bit each, as the top bits of bytes that are added to x. */
STEP __m512i add_signs(__m512i x, const uint8_t *src) {
    uint64_t signs;
    memcpy(&signs, src, sizeof signs);
    return _mm512_ternarylogic_epi32(x, _mm512_movm_epi8(signs), bytes(0x80), 0xf8);
}

/* x | (y & mask) */
STEP __m512i add_bits(__m512i x, __m512i y, unsigned mask) {
    return _mm512_ternarylogic_epi32(x, y, bytes(mask), 0xf8);
}

/* Puts 64 patterns, those of elements i to i + 64, where they belong, with the rest of their elements. */
STEP void put(enum sink sink, __m512i low, __m512i high, const uint8_t *const *planes, uint8_t *dst, size_t i) {
    __m512i rest;
    switch (sink) {
    case SINK_VALUES: store(dst + i, low); return;
    case SINK_E5M2: store(dst + i, add_signs(low, planes[1] + i / 8)); return;
    case SINK_E4M3:
        rest = load_packed(planes[1] + i / 4, 2);
        store(dst + i, add_bits(add_bits(low, rest, 1), up(rest, 6), 0x80));
        return;
    case SINK_F16: {
        __m512i b[2] = {load(planes[2] + i), add_signs(high, planes[1] + i / 8)};
        store_words(dst + 2 * i, b);
        return;
    }
    default: break;
    }
    rest = load_packed(planes[1] + i / 8 * 6, 6);
    low = add_bits(low, rest, 0x1f);
    high = add_bits(high, up(rest, 2), 0x80);
    if (sink == SINK_BF16) {
        __m512i b[2] = {low, high};
        store_words(dst + 2 * i, b);
    } else {
        __m512i b[4] = {load(planes[3] + i), load(planes[2] + i), low, high};
        store_doublewords(dst + 4 * i, b);
    }
}

/* Decodes whole groups of all lanes while all that a step may read is readable, from element i on; returns the element
 * that it got to. */
STEP size_t decode_groups(enum sink sink, struct zipfs_rans_decoder *decoder, const uint8_t *const *planes,
                          uint8_t *dst, size_t i, size_t n, unsigned groups, bool has_escape) {
    const struct tables t = load_tables(decoder);
    struct lanes lanes[MAX_GROUPS];
    struct cursors at = {decoder->coded, decoder->escapes.low, decoder->escapes.high};
    const uint8_t *coded_end = decoder->coded_end, *readable_end = decoder->readable_end,
                  *escape_end = decoder->escapes.low_end;
    const uint8_t *ahead = decoder->ahead;
    const size_t all = groups * GROUP;
    /* Copied, since the compiler must take dst for an alias of what it does not know to be its own. */
    const uint8_t *copies[4];
    for (unsigned f = 0; f < num_planes(sink); f++)
        copies[f] = planes[f];
    load_states(decoder->state, lanes, groups);
    while (i + all <= n && at.coded <= coded_end && (size_t)(readable_end - at.coded) >= all &&
           (!has_escape || at.escape_low <= escape_end)) {
#pragma GCC unroll 4
        for (unsigned g = 0; g < groups; g++) {
            __m512i low = _mm512_setzero_si512(), high = _mm512_setzero_si512();
            step(sink, &t, &lanes[g], &at, has_escape, &low, &high);
            put(sink, low, high, copies, dst, i + GROUP * g);
        }
        const uint8_t *ahead_end = ahead + decoder->ahead_step;
        for (; ahead < ahead_end; ahead += 64)
            __builtin_prefetch(ahead, 0, 2);
        i += all;
    }
    store_states(decoder->state, lanes, groups);
    decoder->ahead = ahead;
    decoder->coded = at.coded;
    decoder->escapes.low = at.escape_low;
    decoder->escapes.high = at.escape_high;
    return i;
}

/* Moves the last coded bytes to where more can be read, when no more can where they are. */
static void make_readable(struct zipfs_rans_decoder *decoder) {
    if (decoder->readable_end - decoder->coded >= ZIPFS_RANS_MAX_LANES)
        return;
    size_t left = (size_t)(decoder->coded_end - decoder->coded);
    memcpy(decoder->tail, decoder->coded, left);
    memset(decoder->tail + left, 0, sizeof decoder->tail - left);
    decoder->coded = decoder->tail;
    decoder->coded_end = decoder->tail + left;
    decoder->readable_end = decoder->tail + sizeof decoder->tail;
}

/* All whole groups; the portable kernel does the rest. False when a stream ran out. */
STEP bool decode_whole(enum sink sink, struct zipfs_rans_decoder *decoder, const uint8_t *const *planes, uint8_t *dst,
                       size_t n, size_t *done_ret) {
    unsigned groups = decoder->num_lanes / GROUP;
    bool has_escape = decoder->table.has_escape;
    size_t i = 0, whole = n / decoder->num_lanes * decoder->num_lanes;
    while (i < whole) {
        make_readable(decoder);
        if (groups == 4)
            i = has_escape ? decode_groups(sink, decoder, planes, dst, i, n, 4, true)
                           : decode_groups(sink, decoder, planes, dst, i, n, 4, false);
        else if (groups == 2)
            i = decode_groups(sink, decoder, planes, dst, i, n, 2, has_escape);
        else
            i = decode_groups(sink, decoder, planes, dst, i, n, 1, has_escape);
        if (decoder->coded > decoder->coded_end || decoder->escapes.low > decoder->escapes.low_end)
            return false;
    }
    *done_ret = i;
    return true;
}

TARGET bool zipfs_rans_decode_avx512(struct zipfs_rans_decoder *decoder, uint8_t *values, size_t n) {
    size_t done;
    return decode_whole(SINK_VALUES, decoder, NULL, values, n, &done) &&
           (done == n || zipfs_kernels_scalar.rans_decode(decoder, values + done, n - done));
}

/* bits: of the second field. */
#define JOINT_MERGE(name, sink, layout, width, bits, num_fields)                                                       \
    TARGET bool name(struct zipfs_rans_decoder *decoder, const uint8_t *const *planes, uint8_t *dst, size_t n) {       \
        size_t done;                                                                                                   \
        if (!decode_whole(sink, decoder, planes, dst, n, &done))                                                       \
            return false;                                                                                              \
        if (done == n)                                                                                                 \
            return true;                                                                                               \
        const uint8_t *rest[4] = {NULL, planes[1] + done * (bits) / 8};                                                \
        for (unsigned f = 2; f < (num_fields); f++)                                                                    \
            rest[f] = planes[f] + done;                                                                                \
        return zipfs_kernels_scalar.joint_merge[layout](decoder, rest, dst + (width) * done, n - done);                \
    }

JOINT_MERGE(zipfs_joint_merge_bf16_avx512, SINK_BF16, ZIPFS_BF16_JOINT, 2, 6, 2)
JOINT_MERGE(zipfs_joint_merge_f16_avx512, SINK_F16, ZIPFS_F16_JOINT, 2, 1, 3)
JOINT_MERGE(zipfs_joint_merge_f32_avx512, SINK_F32, ZIPFS_F32_JOINT, 4, 6, 4)
JOINT_MERGE(zipfs_joint_merge_e4m3_avx512, SINK_E4M3, ZIPFS_F8_E4M3_JOINT, 1, 2, 2)
JOINT_MERGE(zipfs_joint_merge_e5m2_avx512, SINK_E5M2, ZIPFS_F8_E5M2_JOINT, 1, 1, 2)

/* ---- escapes ---- */

/* 64 nibbles at a time: each is added to 15 for every nibble of 15 right before it, of which there are four at most. */
TARGET size_t zipfs_rans_numbers_avx512(const uint8_t *nibbles, size_t num_nibbles, uint8_t *numbers, size_t most) {
    size_t num = 0;
    uint64_t before = 0; /* which of the 64 nibbles before are 15 */
    for (size_t i = 0; i < num_nibbles; i += GROUP) {
        __mmask64 used = first(num_nibbles - i);
        __m512i x = spread_bits(_mm512_maskz_loadu_epi8(first((num_nibbles - i + 1) / 2) & 0xffffffff, nibbles + i / 2), 4);
        x = _mm512_and_si512(x, bytes(15));
        uint64_t more = _mm512_mask_cmpeq_epi8_mask(used, x, bytes(ZIPFS_RANS_MORE)), run = ~UINT64_C(0);
        for (unsigned k = 1; k <= 4; k++) {
            run &= more << k | before >> (64 - k);
            x = _mm512_mask_add_epi8(x, run, x, bytes(ZIPFS_RANS_MORE));
        }
        run &= more << 5 | before >> 59;
        size_t count = (size_t)__builtin_popcountll(used & ~more);
        if ((run & used) || count > most - num)
            return SIZE_MAX;
        store(numbers + num, _mm512_maskz_compress_epi8(used & ~more, x));
        num += count;
        before = more;
    }
    bool within = num_nibbles && before >> ((num_nibbles - 1) % 64) & 1;
    return within ? SIZE_MAX : num;
}

TARGET void zipfs_rans_patterns_avx512(const uint8_t *numbers, size_t n, const uint8_t table[64], uint8_t *dst) {
    const __m512i t = load(table);
    for (size_t i = 0; i < n; i += GROUP)
        store(dst + i, _mm512_permutexvar_epi8(_mm512_maskz_loadu_epi8(first(n - i), numbers + i), t));
}

/* ---- encoding ---- */

struct encode_tables {
    struct table256 symbol_of; /* of a code */
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
    t.symbol_of = load_table256(encoder->symbol_of);
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

/* Puts the chosen bytes in front of *end, the lowest lane first. A whole vector is stored, whose surplus is overwritten
 * by what comes next: GROUP bytes before the first ones must be there. */
STEP void put_in_front(uint8_t **end, __mmask64 chosen, __m512i x) {
    uint8_t lane[64];
    for (unsigned i = 0; i < 64; i++)
        lane[i] = (uint8_t)i;
    unsigned count = (unsigned)__builtin_popcountll(chosen);
    __m512i index = _mm512_add_epi8(load(lane), bytes(count)); /* modulo 64: to the end of the vector */
    store(*end - GROUP, _mm512_permutexvar_epi8(index, _mm512_maskz_compress_epi8(chosen, x)));
    *end -= count;
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

/* Codes that begin a group of all lanes, `used` of 64; lanes beyond get symbol 0. Returns which are escapes. */
STEP uint64_t encode_step(const struct encode_tables *t, struct lanes *lanes, const uint8_t *codes, __mmask64 used,
                          uint8_t **coded) {
    __m512i symbol = _mm512_maskz_mov_epi8(used, look_up(&t->symbol_of, _mm512_maskz_loadu_epi8(used, codes)));
    encode_symbols(t, lanes, symbol, coded);
    return _mm512_mask_cmpeq_epi8_mask(used, symbol, t->escape);
}

STEP void encode_groups(struct zipfs_rans_encoder *encoder, const uint8_t *codes, size_t n, unsigned groups) {
    const struct encode_tables t = load_encode_tables(encoder);
    struct lanes lanes[MAX_GROUPS];
    load_states(encoder->state, lanes, groups);
    bool has_escape = encoder->table.has_escape;
    uint8_t *coded = encoder->coded;
    for (size_t all = (n + encoder->num_lanes - 1) / encoder->num_lanes; all-- > 0;) {
#pragma GCC unroll 4
        for (unsigned g = groups; g-- > 0;) {
            size_t word = all * groups + g, at = word * GROUP;
            uint64_t escaped = encode_step(&t, &lanes[g], codes + at, at < n ? first(n - at) : 0, &coded);
            if (has_escape && at < n)
                encoder->escaped[word] = escaped;
        }
    }
    store_states(encoder->state, lanes, groups);
    encoder->coded = coded;
}

TARGET void zipfs_rans_encode_avx512(struct zipfs_rans_encoder *encoder, const uint8_t *codes, size_t n) {
    switch (encoder->num_lanes / GROUP) {
    case 4: encode_groups(encoder, codes, n, 4); break;
    case 2: encode_groups(encoder, codes, n, 2); break;
    default: encode_groups(encoder, codes, n, 1);
    }
}

#endif
