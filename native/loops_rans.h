/*
 * The rANS loops of one kernel, to be included where its steps are defined (neon.h, for one). The states are kept in
 * groups of GROUP lanes, and each group as two vectors of bytes: the low byte of every state is its slot, so one look-up
 * serves all lanes of the group, and "below 256" is "high byte zero".
 *
 *   slot -> symbol        whatever is quick here
 *   symbol -> freq etc.   tables of 64 bytes
 *   renormalisation       high = low; low = the next coded bytes, dealt out to the lanes that ask for one
 *
 * Groups do not wait for each other, which is why streams have up to 256 lanes. Escapes are dealt out like coded bytes,
 * without asking whether there are any: with some in most groups a branch would be mispredicted.
 *
 * Steps beside those of loops_layouts.h:
 *   add subtract                  of bytes
 *   load_table64 look_up          tables of 64 bytes, of which the first 16 * rows matter
 *   load_slots symbols_of         the symbols of slots; they ascend by one, from 0
 *   load_lanes store_lanes        GROUP states and their bytes
 *   where_equal store_bits count_of
 *                                 lanes by comparison; as bits, GROUP / 8 bytes; their number
 *   deal                          bytes of a stream to chosen lanes; may read GROUP bytes
 *   put_in_front                  bytes of chosen lanes to a stream that grows downwards; may write a byte for each lane
 *   multiply_add divide           of the states in struct lanes
 *   add_signs add_pairs           a bit for each lane to the top bits of bytes; two bits, to the lowest and the top bit
 *
 * FEW_REGISTERS: tables fill them, so loops are made for each number of rows; else for each number of groups, which stay
 * in registers.
 */

enum { MAX_GROUPS = ZIPFS_RANS_MAX_LANES / GROUP, MAX_ROWS = ZIPFS_RANS_MAX_SYMBOLS / 16,
       GROUPS_AT_ONCE = FEW_REGISTERS ? 1 : MAX_GROUPS };

static inline unsigned rows_of(unsigned num_symbols) {
    return (num_symbols + 15) / 16;
}

STEP void load_states(const uint16_t *state, struct lanes *lanes, unsigned groups) {
    for (unsigned g = 0; g < groups; g++)
        load_lanes(state + GROUP * g, &lanes[g]);
}

STEP void store_states(uint16_t *state, const struct lanes *lanes, unsigned groups) {
    for (unsigned g = 0; g < groups; g++)
        store_lanes(state + GROUP * g, &lanes[g]);
}

/* ---- decoding ---- */

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

/* What a stream has, so that its loop need not ask; a loop for each, made by the compiler from one. */
enum sink { SINK_VALUES, SINK_BF16, SINK_F16, SINK_F32, SINK_E4M3, SINK_E5M2 };

STEP bool is_wide(enum sink sink) {
    return sink == SINK_BF16 || sink == SINK_F16 || sink == SINK_F32;
}

STEP unsigned num_planes(enum sink sink) {
    return sink == SINK_VALUES ? 0 : sink == SINK_F32 ? 4 : sink == SINK_F16 ? 3 : 2;
}

/* The patterns of a group where GROUP bytes may be read from all streams: whether they are theirs is the caller's care. */
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

/* Puts the patterns of a group from element i on where they belong, with the rest of their elements. */
STEP void put(enum sink sink, vec low, vec high, const uint8_t *const *planes, uint8_t *dst, size_t i) {
    switch (sink) {
    case SINK_VALUES: store(dst + i, low); return;
    case SINK_E5M2: store(dst + i, add_signs(low, planes[1] + i / 8)); return;
    case SINK_E4M3: store(dst + i, add_pairs(low, planes[1] + i / 4)); return;
    case SINK_F16: {
        vec b[2] = {load(planes[2] + i), add_signs(high, planes[1] + i / 8)};
        store_elements(dst + 2 * i, b, 2);
        return;
    }
    default: break;
    }
    vec rest = load_packed(planes[1] + i / 8 * 6, 6);
    low = choose(bytes(0x1f), rest, low);
    high = choose(bytes(0x80), up(rest, 2), high);
    if (sink == SINK_BF16) {
        vec b[2] = {low, high};
        store_elements(dst + 2 * i, b, 2);
    } else {
        vec b[4] = {load(planes[3] + i), load(planes[2] + i), low, high};
        store_elements(dst + 4 * i, b, 4);
    }
}

/* Decodes whole groups of all lanes while all that they may read is readable, from element i on; returns the element that
 * it got to. */
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

/* All whole groups; the portable kernel does the rest. False when a stream ran out. */
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

TARGET static bool rans_decode(struct zipfs_rans_decoder *decoder, uint8_t *values, size_t n) {
    size_t done;
    return decode_whole(SINK_VALUES, decoder, NULL, values, n, &done) &&
           (done == n || zipfs_kernels_scalar.rans_decode(decoder, values + done, n - done));
}

/* bits: of the second field. */
#define JOINT_MERGE(name, sink, layout, width, bits)                                                                   \
    TARGET static bool name(struct zipfs_rans_decoder *decoder, const uint8_t *const *planes, uint8_t *dst,            \
                            size_t n) {                                                                                \
        size_t done;                                                                                                   \
        if (!decode_whole(sink, decoder, planes, dst, n, &done))                                                       \
            return false;                                                                                              \
        if (done == n)                                                                                                 \
            return true;                                                                                               \
        const uint8_t *rest[4] = {NULL, planes[1] + done / 8 * (bits)};                                                \
        for (unsigned f = 2; f < num_planes(sink); f++)                                                                \
            rest[f] = planes[f] + done;                                                                                \
        return zipfs_kernels_scalar.joint_merge[layout](decoder, rest, dst + (width) * done, n - done);                \
    }

JOINT_MERGE(joint_merge_bf16, SINK_BF16, ZIPFS_BF16_JOINT, 2, 6)
JOINT_MERGE(joint_merge_f16, SINK_F16, ZIPFS_F16_JOINT, 2, 1)
JOINT_MERGE(joint_merge_f32, SINK_F32, ZIPFS_F32_JOINT, 4, 6)
JOINT_MERGE(joint_merge_e4m3, SINK_E4M3, ZIPFS_F8_E4M3_JOINT, 1, 2)
JOINT_MERGE(joint_merge_e5m2, SINK_E5M2, ZIPFS_F8_E5M2_JOINT, 1, 1)

/* ---- encoding ---- */

struct encode_tables {
    struct sparse_table symbol_of; /* of a code */
    struct table64 freq, start;
    struct table64 inverse_low, inverse_high; /* floor(65536 / freq), 65535 for 1, as bytes */
    vec escape;
};

STEP void load_encode_tables(const struct zipfs_rans_encoder *encoder, struct encode_tables *t) {
    const struct zipfs_rans_table *table = &encoder->table;
    uint8_t low[ZIPFS_RANS_MAX_SYMBOLS] = {0}, high[ZIPFS_RANS_MAX_SYMBOLS] = {0};
    for (unsigned s = 0; s < table->num_symbols; s++) {
        unsigned inverse = table->freq[s] == 1 ? 65535 : 65536u / table->freq[s];
        low[s] = (uint8_t)inverse;
        high[s] = (uint8_t)(inverse >> 8);
    }
    t->symbol_of = load_sparse_table(encoder->symbol_of, table->num_symbols - table->has_escape);
    t->freq = load_table64(table->freq);
    t->start = load_table64(table->start);
    t->inverse_low = load_table64(low);
    t->inverse_high = load_table64(high);
    t->escape = bytes(table->num_symbols - 1u);
}

/* Codes a group of symbols into its lanes. */
STEP void encode_symbols(const struct encode_tables *t, unsigned rows, struct lanes *lanes, vec symbol,
                         uint8_t **coded) {
    vec freq = look_up(&t->freq, rows, symbol);
    chosen full = where_at_least(lanes->high, freq);
    put_in_front(coded, full, lanes->low);
    struct lanes x = {blend(full, lanes->high, lanes->low), blend(full, bytes(0), lanes->high)};
    struct lanes inverse = {look_up(&t->inverse_low, rows, symbol), look_up(&t->inverse_high, rows, symbol)};
    *lanes = divide(x, freq, inverse);
    lanes->low = add(lanes->low, look_up(&t->start, rows, symbol));
}

/* Codes that fill all lanes, the last first. */
STEP void encode_groups(struct zipfs_rans_encoder *encoder, const uint8_t *codes, size_t n, unsigned groups,
                        unsigned rows) {
    struct encode_tables t;
    struct lanes lanes[MAX_GROUPS];
    load_encode_tables(encoder, &t);
    load_states(encoder->state, lanes, groups);
    bool has_escape = encoder->table.has_escape;
    uint8_t *coded = encoder->coded, *escaped = (uint8_t *)encoder->escaped;
    for (size_t at = n; at > 0;) {
#pragma GCC unroll GROUPS_AT_ONCE
        for (unsigned g = groups; g-- > 0;) {
            at -= GROUP;
            vec symbol = look_up_sparse(&t.symbol_of, load(codes + at));
            if (has_escape)
                store_bits(escaped + at / 8, where_equal(symbol, t.escape));
            encode_symbols(&t, rows, &lanes[g], symbol, &coded);
        }
    }
    store_states(encoder->state, lanes, groups);
    encoder->coded = coded;
}

STEP void encode_by_rows(struct zipfs_rans_encoder *encoder, const uint8_t *codes, size_t n) {
    unsigned groups = encoder->num_lanes / GROUP;
    switch (rows_of(encoder->table.num_symbols)) {
    case 1: encode_groups(encoder, codes, n, groups, 1); break;
    case 2: encode_groups(encoder, codes, n, groups, 2); break;
    case 3: encode_groups(encoder, codes, n, groups, 3); break;
    default: encode_groups(encoder, codes, n, groups, 4);
    }
}

STEP void encode_by_groups(struct zipfs_rans_encoder *encoder, const uint8_t *codes, size_t n) {
    switch (encoder->num_lanes / GROUP) {
    case 1: encode_groups(encoder, codes, n, 1, MAX_ROWS); break;
    case 2: encode_groups(encoder, codes, n, 2, MAX_ROWS); break;
    default: encode_groups(encoder, codes, n, 4, MAX_ROWS);
    }
}

/* The portable kernel does what is behind the last whole group. */
TARGET static void rans_encode(struct zipfs_rans_encoder *encoder, const uint8_t *codes, size_t n) {
    size_t whole = n - n % encoder->num_lanes;
    encoder->escaped += whole / 64;
    zipfs_kernels_scalar.rans_encode(encoder, codes + whole, n - whole);
    encoder->escaped -= whole / 64;
    if (FEW_REGISTERS)
        encode_by_rows(encoder, codes, whole);
    else
        encode_by_groups(encoder, codes, whole);
}

/* ---- escapes ---- */

TARGET static void rans_patterns(const uint8_t *numbers, size_t n, const uint8_t table[64], uint8_t *dst) {
    const struct table64 t = load_table64(table);
    size_t i = 0;
    for (; i + GROUP <= n; i += GROUP)
        store(dst + i, look_up(&t, MAX_ROWS, load(numbers + i)));
    zipfs_kernels_scalar.rans_patterns(numbers + i, n - i, table, dst + i);
}

/* Their places in a table of kernels. */
#define RANS_LOOPS                                                                                                     \
    .rans_decode = rans_decode, .rans_encode = rans_encode, .rans_patterns = rans_patterns,                            \
    .joint_merge = {[ZIPFS_BF16_JOINT] = joint_merge_bf16, joint_merge_f16, joint_merge_f32, joint_merge_e4m3,         \
                    joint_merge_e5m2}
