/*
 * The rANS decoder of one kernel, to be included where its steps are defined and after loops_elements.h. The
 * states are kept in groups of GROUP lanes, and each group as two vectors of bytes: the low byte of every state is its
 * slot, so one look-up serves all lanes of the group, and "below 256" is "high byte zero".
 *
 *   slot -> symbol        whatever is quick here
 *   symbol -> freq etc.   tables of 64 bytes
 *   renormalisation       high = low; low = the next coded bytes, dealt out to the lanes that ask for one
 *
 * Groups do not wait for each other, which is why streams have up to 256 lanes. Escapes are dealt out like coded bytes,
 * without asking whether there are any: with some in most groups a branch would be mispredicted.
 *
 * Steps beside those of loops_elements.h and loops_encode.h:
 *   subtract                      of bytes
 *   load_slots symbols_of         the symbols of slots; they ascend by one, from 0
 *   count_of                      the number of chosen lanes
 *   deal                          bytes of a stream to chosen lanes; may read GROUP bytes
 *   multiply_add                  of bytes, to words in struct lanes
 */

struct tables {
    struct slots slots;
    struct table64 freq, start, low, high;
    vec escape; /* its symbol in each byte */
};

/* Where the streams have been read to. */
struct cursors {
    const uint8_t *coded, *escape_low, *escape_high;
};

STEP struct tables load_tables(const struct zipfs_rans_decoder *decoder) {
    struct tables t;
    t.slots = load_slots(decoder->symbol);
    t.freq = load_table64(decoder->table.freq);
    t.start = load_table64(decoder->table.start);
    t.low = load_table64(decoder->pattern_low);
    t.high = load_table64(decoder->pattern_high);
    t.escape = bytes(decoder->table.num_symbols - 1u);
    return t;
}

/* Advances a group, which takes its bytes from at->coded, and returns its symbols. */
STEP vec advance(const struct tables *t, unsigned rows, struct lanes *lanes, struct cursors *at) {
    vec slot = lanes->low, symbol = symbols_of(&t->slots, slot);
    vec place = subtract(slot, look_up(&t->start, rows, symbol));
    *lanes = multiply_add(look_up(&t->freq, rows, symbol), lanes->high, place);
    chosen hungry = where_equal(lanes->high, bytes(0));
    lanes->high = blend(hungry, lanes->low, lanes->high);
    lanes->low = deal(hungry, lanes->low, at->coded);
    at->coded += count_of(hungry);
    return symbol;
}

/* The patterns of a group where GROUP bytes may be read from all streams: whether they are theirs is the caller's
 * care. */
STEP void decode_group(enum sink sink, const struct tables *t, unsigned rows, struct lanes *lanes, struct cursors *at,
                       bool has_escape, vec *low_ret, vec *high_ret) {
    vec symbol = advance(t, rows, lanes, at);
    if (sink != SINK_F16) /* whose patterns have no low byte */
        *low_ret = look_up(&t->low, rows, symbol);
    if (is_wide(sink))
        *high_ret = look_up(&t->high, rows, symbol);
    if (!has_escape)
        return;
    chosen escaped = where_equal(symbol, t->escape);
    if (sink != SINK_F16)
        *low_ret = deal(escaped, *low_ret, at->escape_low);
    if (is_wide(sink))
        *high_ret = deal(escaped, *high_ret, at->escape_high);
    at->escape_low += count_of(escaped);
    at->escape_high += count_of(escaped);
}

/* Decodes whole groups of all lanes while all that they may read is readable, from element i on; returns the element
 * that it got to. */
STEP size_t decode_groups(enum sink sink, struct zipfs_rans_decoder *decoder, const uint8_t *const *planes,
                          uint8_t *dst, size_t i, size_t n, unsigned groups, unsigned rows,
                          bool has_escape) {
    const struct tables t = load_tables(decoder);
    struct lanes lanes[MAX_GROUPS];
    struct cursors at = {decoder->coded, decoder->escapes.low, decoder->escapes.high};
    const uint8_t *coded_end = decoder->coded_end, *readable_end = decoder->readable_end,
                  *escape_end = decoder->escapes.low_end, *ahead = decoder->ahead;
    const size_t all = groups * GROUP, ahead_step = decoder->ahead_step;
    /* Copied, since the compiler must take dst for an alias of what it does not know to be its own. */
    const uint8_t *copies[4];
    for (unsigned f = 0; f < num_planes(sink); f++)
        copies[f] = planes[f];
    load_states(decoder->state, lanes, groups);
    while (i + all <= n && at.coded <= coded_end && (size_t)(readable_end - at.coded) >= all &&
           (!has_escape || at.escape_low <= escape_end)) {
#pragma GCC unroll GROUPS_AT_ONCE
        for (unsigned g = 0; g < groups; g++) {
            vec low = bytes(0), high = bytes(0);
            decode_group(sink, &t, rows, &lanes[g], &at, has_escape, &low, &high);
            put(sink, low, high, copies, dst, i + GROUP * g);
        }
        for (const uint8_t *ahead_end = ahead + ahead_step; ahead < ahead_end; ahead += 64)
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

STEP size_t decode_by_rows(enum sink sink, struct zipfs_rans_decoder *decoder, const uint8_t *const *planes,
                           uint8_t *dst, size_t i, size_t n) {
    unsigned groups = decoder->num_lanes / GROUP;
    bool has_escape = decoder->table.has_escape;
    switch (rows_of(decoder->table.num_symbols)) {
    case 1: return decode_groups(sink, decoder, planes, dst, i, n, groups, 1, has_escape);
    case 2: return decode_groups(sink, decoder, planes, dst, i, n, groups, 2, has_escape);
    case 3: return decode_groups(sink, decoder, planes, dst, i, n, groups, 3, has_escape);
    default: return decode_groups(sink, decoder, planes, dst, i, n, groups, 4, has_escape);
    }
}

STEP size_t decode_by_groups(enum sink sink, struct zipfs_rans_decoder *decoder, const uint8_t *const *planes,
                             uint8_t *dst, size_t i, size_t n) {
    bool has_escape = decoder->table.has_escape;
    switch (decoder->num_lanes / GROUP) {
    case 1: return decode_groups(sink, decoder, planes, dst, i, n, 1, MAX_ROWS, has_escape);
    case 2: return decode_groups(sink, decoder, planes, dst, i, n, 2, MAX_ROWS, has_escape);
    default:
        return has_escape ? decode_groups(sink, decoder, planes, dst, i, n, 4, MAX_ROWS, true)
                          : decode_groups(sink, decoder, planes, dst, i, n, 4, MAX_ROWS, false);
    }
}

STEP bool decode_whole(enum sink sink, struct zipfs_rans_decoder *decoder, const uint8_t *const *planes, uint8_t *dst,
                       size_t n, size_t *done_ret) {
    size_t i = 0, whole = n / decoder->num_lanes * decoder->num_lanes;
    while (i < whole) {
        make_readable(decoder);
        i = FEW_REGISTERS ? decode_by_rows(sink, decoder, planes, dst, i, n)
                          : decode_by_groups(sink, decoder, planes, dst, i, n);
        if (decoder->coded > decoder->coded_end || decoder->escapes.low > decoder->escapes.low_end)
            return false;
    }
    *done_ret = i;
    return true;
}
