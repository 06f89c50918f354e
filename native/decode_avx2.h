/*
 * The rANS decoder of AVX2, where loops_decode.h is that of others. The states are kept in groups of 32, and each group
 * as two vectors of bytes: the low byte of every state is its slot, and "below 256" is "high byte zero".
 *
 *   slot -> symbol        by blocks of 8 slots: the symbol of the block's first slot, and a bit for each other slot
 *                         that begins a symbol, of which those up to the slot are counted
 *   symbol -> freq etc.   a shuffle for each 16 symbols
 *   renormalisation       high = low; low = the next coded bytes, dealt out by a shuffle whose index counts the
 *                         hungry lanes
 *   escapes               their places are noted, and their patterns added to the elements later
 *
 * A group takes about 100 instructions, each of which waits for the one before. So all groups go through one stage
 * before any goes on to the next: else the CPU sees two of them at a time only, which takes 1.5 times as long (Zen 5).
 */
enum { BLOCK = 8, NUM_BLOCKS = 256 / BLOCK };

struct tables {
    __m256i base[2];   /* of each block of slots, 16 in a row: the first slot's symbol */
    __m256i begins[2]; /* bit k: slot k + 1 of the block begins a symbol */
    struct table64 freq, start, low, high;
    __m256i escape; /* its symbol in each byte */
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
    t->freq = load_table64(decoder->table.freq);
    t->start = load_table64(decoder->table.start);
    t->low = load_table64(decoder->pattern_low);
    t->high = load_table64(decoder->pattern_high);
    t->escape = bytes(decoder->table.num_symbols - 1u);
}

STEP __m256i symbols_of(const struct tables *t, __m256i slot) {
    const __m256i up_to = _mm256_setr_epi8(0, 1, 3, 7, 15, 31, 63, 127, 0, 1, 3, 7, 15, 31, 63, 127, 0, 1, 3, 7, 15, 31,
                                           63, 127, 0, 1, 3, 7, 15, 31, 63, 127);
    const __m256i ones = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2,
                                          2, 3, 2, 3, 3, 4);
    __m256i within = both(slot, bytes(BLOCK - 1));
    struct places block = places_within(both(down(slot, 3), bytes(NUM_BLOCKS - 1)), 2);
    __m256i base = look_up_rows(t->base, 2, &block), begins = look_up_rows(t->begins, 2, &block);
    begins = _mm256_and_si256(begins, _mm256_shuffle_epi8(up_to, within));
    __m256i few = _mm256_shuffle_epi8(ones, begins);
    __m256i more = _mm256_shuffle_epi8(ones, _mm256_and_si256(down(begins, 4), bytes(7)));
    return _mm256_add_epi8(base, _mm256_add_epi8(few, more));
}

/* ---- stages ---- */

/* The states of all lanes, and the symbols of their slots. */
struct work {
    unsigned groups;
    struct lanes lanes[MAX_GROUPS];
    __m256i symbol[MAX_GROUPS];
};

STEP void find_symbols(const struct tables *t, struct work *w) {
#pragma GCC unroll 2
    for (unsigned g = 0; g < w->groups; g++)
        w->symbol[g] = symbols_of(t, w->lanes[g].low);
}

/* Up to the renormalisation. */
STEP void advance(const struct tables *t, unsigned rows, struct work *w) {
    const __m256i odd_mask = _mm256_set1_epi16((short)0xff00);
#pragma GCC unroll 2
    for (unsigned g = 0; g < w->groups; g++) {
        __m256i symbol = w->symbol[g];
        struct places p = places_within(symbol, rows);
        __m256i slot = w->lanes[g].low, high = w->lanes[g].high, freq = look_up_rows(t->freq.row, rows, &p);
        __m256i place = _mm256_sub_epi8(slot, look_up_rows(t->start.row, rows, &p));
        __m256i even = _mm256_mullo_epi16(even_bytes(freq), even_bytes(high));
        __m256i odd = _mm256_mulhi_epu16(_mm256_and_si256(freq, odd_mask), _mm256_and_si256(high, odd_mask));
        w->lanes[g] = to_bytes(_mm256_add_epi16(even, even_bytes(place)), _mm256_add_epi16(odd, odd_bytes(place)));
    }
}

/* Gives the next byte to each state that is below 256. Reads 32 bytes for each group: whether they are the stream's is
 * the caller's care. Returns the first byte that was not given. */
STEP const uint8_t *renormalise(struct work *w, const uint8_t *coded) {
#pragma GCC unroll 2
    for (unsigned g = 0; g < w->groups; g++) {
        struct lanes *x = &w->lanes[g];
        __m256i hungry = _mm256_cmpeq_epi8(x->high, _mm256_setzero_si256());
        __m256i index = _mm256_xor_si256(count_chosen(hungry), bytes(0xff));
        uint32_t mask = top_bits(hungry);
        __m256i dealt = _mm256_shuffle_epi8(halves(coded, coded + _mm_popcnt_u32(mask & 0xffff)), index);
        x->high = _mm256_or_si256(x->high, both(x->low, hungry)); /* it is zero there */
        x->low = _mm256_blendv_epi8(x->low, dealt, hungry);
        coded += _mm_popcnt_u32(mask);
    }
    return coded;
}

/* Puts the patterns of all lanes, whose first element is i, and tells which are escapes; their pattern is zero. */
STEP void put_patterns(enum sink sink, const struct tables *t, unsigned rows, const struct work *w,
                       const uint8_t *const *planes, uint8_t *dst, size_t i, uint32_t *escaped_ret) {
#pragma GCC unroll 2
    for (unsigned g = 0; g < w->groups; g++) {
        __m256i symbol = w->symbol[g];
        struct places p = places_within(symbol, rows);
        __m256i low = _mm256_setzero_si256(), high = _mm256_setzero_si256();
        if (sink != SINK_F16) /* whose patterns have no low byte */
            low = look_up_rows(t->low.row, rows, &p);
        if (is_wide(sink))
            high = look_up_rows(t->high.row, rows, &p);
        escaped_ret[g] = top_bits(_mm256_cmpeq_epi8(symbol, t->escape));
        put(sink, low, high, planes, dst, i + GROUP * g);
    }
}

/* ---- escapes ---- */

enum { MAX_NOTED = 256 };

/* Elements whose patterns are still to be added; they hold that of the escape, which is zero. */
struct noted {
    size_t num;
    uint32_t element[MAX_NOTED + ZIPFS_RANS_MAX_LANES + 64];
};

/* Notes the elements from i on whose bits are set: four at once, without asking whether there are as many, since nobody
 * can predict that. */
STEP void note(struct noted *noted, uint64_t mask, size_t i) {
    uint32_t *element = noted->element + noted->num;
    noted->num += (size_t)_mm_popcnt_u64(mask);
    do {
        for (unsigned k = 0; k < 4; k++, mask &= mask - 1)
            *element++ = (uint32_t)i + (uint32_t)__builtin_ctzll(mask | UINT64_C(1) << 63);
    } while (ZIPFS_UNLIKELY(mask));
}

STEP void note_escapes(struct noted *noted, const uint32_t escaped[MAX_GROUPS], unsigned groups, size_t i) {
    for (unsigned g = 0; g < groups; g += 2)
        note(noted, escaped[g] | (uint64_t)escaped[g + 1] << 32, i + GROUP * g);
}

STEP void add16(uint8_t *dst, unsigned x) {
    zipfs_store16(dst, (uint16_t)(zipfs_load16(dst) | x));
}

/* Adds the patterns of escapes. False when there are fewer. */
STEP bool add_escapes(enum sink sink, struct noted *noted, struct zipfs_rans_escapes *escapes, uint8_t *dst) {
    const uint8_t *low = escapes->low, *high = escapes->high;
    if (noted->num > (size_t)(escapes->low_end - low))
        return false;
    for (size_t k = 0; k < noted->num; k++) {
        size_t i = noted->element[k];
        switch (sink) {
        case SINK_BF16: add16(dst + 2 * i, low[k] | (unsigned)high[k] << 8); break;
        case SINK_F32: add16(dst + 4 * i + 2, low[k] | (unsigned)high[k] << 8); break;
        case SINK_F16: dst[2 * i + 1] |= high[k]; break;
        default: dst[i] |= low[k];
        }
    }
    escapes->low += noted->num;
    escapes->high += noted->num;
    noted->num = 0;
    return true;
}

/* ---- streams ---- */

/* Decodes whole groups of all lanes while all that a step may read is readable, from element *i on, which moves. False
 * when escapes ran out. */
STEP bool decode_groups(enum sink sink, struct zipfs_rans_decoder *decoder, const uint8_t *const *planes, uint8_t *dst,
                        size_t *i, size_t n, unsigned rows) {
    struct tables t;
    struct work w = {.groups = decoder->num_lanes / GROUP};
    struct noted noted = {.num = 0};
    const uint8_t *coded = decoder->coded, *coded_end = decoder->coded_end, *readable_end = decoder->readable_end,
                  *ahead = decoder->ahead;
    const size_t all = decoder->num_lanes;
    /* Copied, since the compiler must take dst for an alias of what it does not know to be its own. */
    const uint8_t *copies[4];
    for (unsigned f = 0; f < num_planes(sink); f++)
        copies[f] = planes[f];
    make_tables(decoder, &t);
    load_states(decoder->state, w.lanes, w.groups);
    bool complete = true;
    for (; *i + all <= n && coded <= coded_end && (size_t)(readable_end - coded) >= all && complete; *i += all) {
        uint32_t escaped[MAX_GROUPS];
        find_symbols(&t, &w);
        advance(&t, rows, &w);
        coded = renormalise(&w, coded);
        put_patterns(sink, &t, rows, &w, copies, dst, *i, escaped);
        if (decoder->table.has_escape)
            note_escapes(&noted, escaped, w.groups, *i);
        if (ZIPFS_UNLIKELY(noted.num > MAX_NOTED))
            complete = add_escapes(sink, &noted, &decoder->escapes, dst);
        for (const uint8_t *ahead_end = ahead + decoder->ahead_step; ahead < ahead_end; ahead += 64)
            __builtin_prefetch(ahead, 0, 2);
    }
    store_states(decoder->state, w.lanes, w.groups);
    decoder->coded = coded;
    decoder->ahead = ahead;
    return complete && add_escapes(sink, &noted, &decoder->escapes, dst);
}

/* All whole groups; the portable kernel does the rest. False when a stream ran out. */
STEP bool decode_whole(enum sink sink, struct zipfs_rans_decoder *decoder, const uint8_t *const *planes, uint8_t *dst,
                       size_t n, size_t *done_ret) {
    size_t whole = n / decoder->num_lanes * decoder->num_lanes;
    for (*done_ret = 0; *done_ret < whole;) {
        bool complete;
        make_readable(decoder);
        switch (rows_of(decoder->table.num_symbols)) {
        case 1: complete = decode_groups(sink, decoder, planes, dst, done_ret, n, 1); break;
        case 2: complete = decode_groups(sink, decoder, planes, dst, done_ret, n, 2); break;
        case 3: complete = decode_groups(sink, decoder, planes, dst, done_ret, n, 3); break;
        default: complete = decode_groups(sink, decoder, planes, dst, done_ret, n, 4);
        }
        if (!complete || decoder->coded > decoder->coded_end)
            return false;
    }
    return true;
}
