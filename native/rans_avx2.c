/*
 * Decoding rANS with AVX2. The states are kept in groups of 32, and each group as two vectors of bytes: the low byte of
 * every state is its slot, and "below 256" is "high byte zero".
 *
 *   slot -> symbol        by blocks of 8 slots: the symbol of the block's first slot, and a bit for each other slot that
 *                         begins a symbol, of which those up to the slot are counted
 *   symbol -> freq etc.   a shuffle for each 16 symbols
 *   renormalisation       high = low; low = the next coded bytes, dealt out by a shuffle whose index counts the
 *                         hungry lanes
 *
 * The loop is bound by the number of instructions; groups are independent, so that one hides another's latency.
 */
#ifndef __clang__
#pragma GCC optimize("O3") /* unrolls the loops over rows, which must not be loops */
#endif

#include "kernels.h"

#ifdef __x86_64__
#include "common.h"
#include "rans_avx2.h"

enum { BLOCK = 8, NUM_BLOCKS = 256 / BLOCK };

struct tables {
    __m256i base[2];   /* of each block of slots, 16 in a row: the first slot's symbol */
    __m256i begins[2]; /* bit k: slot k + 1 of the block begins a symbol */
    struct symbol_table freq, start, low, high;
    __m256i escape; /* its symbol in each byte */
};

/* Where the streams have been read to. */
struct cursors {
    const uint8_t *coded, *escape_low, *escape_high;
};

TARGET static void make_tables(const struct zipfs_rans_decoder *decoder, struct tables *t) {
    uint8_t base[NUM_BLOCKS], begins[NUM_BLOCKS];
    for (unsigned b = 0; b < NUM_BLOCKS; b++)
        base[b] = decoder->symbol[BLOCK * b];
    for (unsigned slot = 0; slot < 256; slot += GROUP) {
        __m256i symbol = load(decoder->symbol + slot), next = _mm256_srli_epi64(symbol, 8);
        uint32_t begin = ~top_bits(_mm256_cmpeq_epi8(symbol, next)) & 0x7f7f7f7f;
        memcpy(begins + slot / BLOCK, &begin, sizeof begin);
    }
    for (unsigned r = 0; r < 2; r++) {
        t->base[r] = row(base + ROW * r);
        t->begins[r] = row(begins + ROW * r);
    }
    load_symbol_table(decoder->table.freq, &t->freq);
    load_symbol_table(decoder->table.start, &t->start);
    load_symbol_table(decoder->pattern_low, &t->low);
    load_symbol_table(decoder->pattern_high, &t->high);
    t->escape = bytes(decoder->table.num_symbols - 1u);
}

STEP __m256i symbols_of(const struct tables *t, __m256i slot) {
    const __m256i up_to = _mm256_setr_epi8(0, 1, 3, 7, 15, 31, 63, 127, 0, 1, 3, 7, 15, 31, 63, 127, 0, 1, 3, 7, 15, 31,
                                           63, 127, 0, 1, 3, 7, 15, 31, 63, 127);
    const __m256i ones = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2,
                                          2, 3, 2, 3, 3, 4);
    __m256i block = _mm256_and_si256(down(slot, 3), bytes(15)), within = _mm256_and_si256(slot, bytes(7));
    __m256i base = _mm256_blendv_epi8(_mm256_shuffle_epi8(t->base[0], block), _mm256_shuffle_epi8(t->base[1], block),
                                      slot);
    __m256i begins = _mm256_blendv_epi8(_mm256_shuffle_epi8(t->begins[0], block),
                                        _mm256_shuffle_epi8(t->begins[1], block), slot);
    begins = _mm256_and_si256(begins, _mm256_shuffle_epi8(up_to, within));
    __m256i few = _mm256_shuffle_epi8(ones, begins);
    __m256i more = _mm256_shuffle_epi8(ones, _mm256_and_si256(down(begins, 4), bytes(7)));
    return _mm256_add_epi8(base, _mm256_add_epi8(few, more));
}

/* The next bytes of a stream in the chosen lanes. Reads 32 bytes. */
struct deal {
    __m256i chosen, index;
    unsigned first_half, both; /* how many are chosen */
};

STEP struct deal deal_to(__m256i chosen) {
    /* minus the chosen lanes so far, in each half */
    const __m256i carry = _mm256_setr_epi8(-1, -1, -1, -1, -1, -1, -1, -1, 7, 7, 7, 7, 7, 7, 7, 7, -1, -1, -1, -1, -1,
                                           -1, -1, -1, 7, 7, 7, 7, 7, 7, 7, 7);
    __m256i count = _mm256_add_epi8(chosen, _mm256_slli_epi64(chosen, 8));
    count = _mm256_add_epi8(count, _mm256_slli_epi64(count, 16));
    count = _mm256_add_epi8(count, _mm256_slli_epi64(count, 32));
    count = _mm256_add_epi8(count, _mm256_shuffle_epi8(count, carry));
    uint32_t mask = top_bits(chosen);
    return (struct deal){chosen, _mm256_xor_si256(count, bytes(0xff)), (unsigned)_mm_popcnt_u32(mask & 0xffff),
                         (unsigned)_mm_popcnt_u32(mask)};
}

/* x with dealt bytes in the chosen lanes. */
STEP __m256i take(const struct deal *deal, const uint8_t *src, __m256i x) {
    __m256i dealt = _mm256_shuffle_epi8(halves(src, src + deal->first_half), deal->index);
    return _mm256_blendv_epi8(x, dealt, deal->chosen);
}

/* Advances 32 states up to the renormalisation. Returns the lanes that ask for a byte, and the symbols. */
STEP __m256i advance(const struct tables *t, unsigned rows, struct lanes *lanes, __m256i *symbol_ret) {
    __m256i slot = lanes->low, symbol = symbols_of(t, slot);
    __m256i freq = look_up(&t->freq, rows, symbol);
    __m256i place = _mm256_sub_epi8(slot, look_up(&t->start, rows, symbol));
    __m256i even = _mm256_mullo_epi16(even_bytes(freq), even_bytes(lanes->high));
    __m256i odd = _mm256_mullo_epi16(odd_bytes(freq), odd_bytes(lanes->high));
    *lanes = to_bytes(_mm256_add_epi16(even, even_bytes(place)), _mm256_add_epi16(odd, odd_bytes(place)));
    *symbol_ret = symbol;
    return _mm256_cmpeq_epi8(lanes->high, _mm256_setzero_si256());
}

/* What a stream has, so that its loop need not ask; a kernel for each, made by the compiler from one loop. */
enum sink { SINK_VALUES, SINK_BF16, SINK_F16, SINK_F32, SINK_E4M3, SINK_E5M2 };

STEP bool is_wide(enum sink sink) {
    return sink == SINK_BF16 || sink == SINK_F16 || sink == SINK_F32;
}

/* 32 patterns where 32 bytes may be read from all streams: whether they are theirs is the caller's care. */
STEP void step(enum sink sink, const struct tables *t, unsigned rows, struct lanes *lanes, struct cursors *at,
               bool has_escape, __m256i *low_ret, __m256i *high_ret) {
    __m256i symbol;
    struct deal hungry = deal_to(advance(t, rows, lanes, &symbol));
    lanes->high = _mm256_blendv_epi8(lanes->high, lanes->low, hungry.chosen);
    lanes->low = take(&hungry, at->coded, lanes->low);
    at->coded += hungry.both;
    if (sink != SINK_F16) /* whose patterns have no low byte */
        *low_ret = look_up(&t->low, rows, symbol);
    if (is_wide(sink))
        *high_ret = look_up(&t->high, rows, symbol);
    if (has_escape) {
        struct deal escaped = deal_to(_mm256_cmpeq_epi8(symbol, t->escape));
        if (sink != SINK_F16)
            *low_ret = take(&escaped, at->escape_low, *low_ret);
        if (is_wide(sink))
            *high_ret = take(&escaped, at->escape_high, *high_ret);
        at->escape_low += escaped.both;
        at->escape_high += escaped.both;
    }
}

/* 32 values of 6 bits, packed in 24 bytes, to a byte each; their upper bits are not cleared. Four values of three bytes
 * go to a doubleword, of which the upper word is moved up by 4 bits, then the upper byte of each word by 2. */
STEP __m256i load_packed_6(const uint8_t *src) {
    const __m256i index = _mm256_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1, 4, 5, 6, -1, 7, 8, 9,
                                           -1, 10, 11, 12, -1, 13, 14, 15, -1);
    __m256i x = _mm256_shuffle_epi8(halves(src, src + 8), index);
    x = _mm256_blend_epi16(x, _mm256_slli_epi32(x, 4), 0xaa);
    return alternate(x, up(x, 2));
}

/* x | (y & mask) */
STEP __m256i add_bits(__m256i x, __m256i y, unsigned mask) {
    return _mm256_or_si256(x, _mm256_and_si256(y, bytes(mask)));
}

/* Which of 32 bytes, to which the bytes of `src` are dealt by an index, have the bits of `bit`. */
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

/* Puts 32 patterns, those of elements i to i + 32, where they belong, with the rest of their elements. */
STEP void put(enum sink sink, __m256i low, __m256i high, const uint8_t *const *planes, uint8_t *dst, size_t i) {
    switch (sink) {
    case SINK_VALUES: store(dst + i, low); return;
    case SINK_E5M2: store(dst + i, add_signs(low, planes[1] + i / 8)); return;
    case SINK_E4M3: store(dst + i, add_pairs(low, planes[1] + i / 4)); return;
    case SINK_F16: {
        __m256i b[2] = {load(planes[2] + i), add_signs(high, planes[1] + i / 8)};
        store_elements(dst + 2 * i, b, 2);
        return;
    }
    default: break;
    }
    __m256i rest = load_packed_6(planes[1] + i / 8 * 6);
    low = add_bits(low, rest, 0x1f);
    high = add_bits(high, up(rest, 2), 0x80);
    if (sink == SINK_BF16) {
        __m256i b[2] = {low, high};
        store_elements(dst + 2 * i, b, 2);
    } else {
        __m256i b[4] = {load(planes[3] + i), load(planes[2] + i), low, high};
        store_elements(dst + 4 * i, b, 4);
    }
}

/* Decodes whole groups of all lanes while all that a step may read is readable, from element i on; returns the element
 * that it got to. */
STEP size_t decode_groups(enum sink sink, struct zipfs_rans_decoder *decoder, const uint8_t *const *planes,
                          uint8_t *dst, size_t i, size_t n, unsigned rows, bool has_escape) {
    struct tables t;
    struct lanes lanes[MAX_GROUPS];
    struct cursors at = {decoder->coded, decoder->escapes.low, decoder->escapes.high};
    const uint8_t *coded_end = decoder->coded_end, *readable_end = decoder->readable_end,
                  *escape_end = decoder->escapes.low_end;
    const size_t all = decoder->num_lanes;
    make_tables(decoder, &t);
    load_states(decoder->state, lanes, decoder->num_lanes / GROUP);
    while (i + all <= n && at.coded <= coded_end && (size_t)(readable_end - at.coded) >= all &&
           (!has_escape || at.escape_low <= escape_end)) {
        for (struct lanes *x = lanes; x < lanes + all / GROUP; x++, i += GROUP) {
            __m256i low = _mm256_setzero_si256(), high = _mm256_setzero_si256();
            step(sink, &t, rows, x, &at, has_escape, &low, &high);
            put(sink, low, high, planes, dst, i);
        }
    }
    store_states(decoder->state, lanes, decoder->num_lanes / GROUP);
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
    unsigned rows = rows_of(decoder->table.num_symbols);
    bool has_escape = decoder->table.has_escape;
    size_t i = 0, whole = n / decoder->num_lanes * decoder->num_lanes;
    while (i < whole) {
        make_readable(decoder);
        if (rows == 1)
            i = decode_groups(sink, decoder, planes, dst, i, n, 1, has_escape);
        else if (rows == 2)
            i = decode_groups(sink, decoder, planes, dst, i, n, 2, has_escape);
        else if (rows == 3)
            i = decode_groups(sink, decoder, planes, dst, i, n, 3, has_escape);
        else
            i = decode_groups(sink, decoder, planes, dst, i, n, 4, has_escape);
        if (decoder->coded > decoder->coded_end || decoder->escapes.low > decoder->escapes.low_end)
            return false;
    }
    *done_ret = i;
    return true;
}

TARGET bool zipfs_rans_decode_avx2(struct zipfs_rans_decoder *decoder, uint8_t *values, size_t n) {
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

JOINT_MERGE(zipfs_joint_merge_bf16_avx2, SINK_BF16, ZIPFS_BF16_JOINT, 2, 6, 2)
JOINT_MERGE(zipfs_joint_merge_f16_avx2, SINK_F16, ZIPFS_F16_JOINT, 2, 1, 3)
JOINT_MERGE(zipfs_joint_merge_f32_avx2, SINK_F32, ZIPFS_F32_JOINT, 4, 6, 4)
JOINT_MERGE(zipfs_joint_merge_e4m3_avx2, SINK_E4M3, ZIPFS_F8_E4M3_JOINT, 1, 2, 2)
JOINT_MERGE(zipfs_joint_merge_e5m2_avx2, SINK_E5M2, ZIPFS_F8_E5M2_JOINT, 1, 1, 2)

#endif
