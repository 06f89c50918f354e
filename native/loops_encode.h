/*
 * Groups of rANS states, and the encoder of one kernel, to be included where its steps are defined. Each group of GROUP
 * lanes is kept as two vectors of bytes, the low and the high ones of the states.
 *
 * Steps beside those of loops_layouts.h:
 *   add                           of bytes
 *   load_table64 look_up          tables of 64 bytes, of which the first 16 * rows matter
 *   places_of look_up_at          the same in two parts, of which the first serves all tables
 *   load_lanes store_lanes        GROUP states and their bytes
 *   where_equal store_bits        lanes by comparison; as bits, GROUP / 8 bytes
 *   without                       zero in chosen lanes
 *   differing                     bits that are in one and not in the other
 *   put_in_front                  bytes of chosen lanes to a stream that grows downwards; may write one for each lane
 *   divide                        of the states in struct lanes
 *
 * FEW_REGISTERS: tables fill them, so loops are made for each number of rows; else for each number of groups, which
 * stay in registers.
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

struct encode_tables {
    struct sparse_table symbol_of; /* of a code */
    struct table64 few;            /* of a code below 64, exclusive or that of escapes: `other` */
    struct table64 freq, start;
    struct table64 inverse_low, inverse_high; /* floor(65536 / freq), 65535 for 1, as bytes */
    vec escape, other;
};

STEP void load_encode_tables(const struct zipfs_rans_encoder *encoder, struct encode_tables *t) {
    const struct zipfs_rans_table *table = &encoder->table;
    uint8_t low[ZIPFS_RANS_MAX_SYMBOLS] = {0}, high[ZIPFS_RANS_MAX_SYMBOLS] = {0}, few[64];
    unsigned other = table->num_symbols - table->has_escape;
    for (unsigned s = 0; s < table->num_symbols; s++) {
        unsigned inverse = (unsigned)zipfs_min(encoder->inverse[s] >> 8, 65535);
        low[s] = (uint8_t)inverse;
        high[s] = (uint8_t)(inverse >> 8);
    }
    for (unsigned c = 0; c < 64; c++)
        few[c] = (uint8_t)(encoder->symbol_of[c] ^ other);
    t->symbol_of = load_sparse_table(encoder->symbol_of, other);
    t->few = load_table64(few);
    t->other = bytes(other);
    t->freq = load_table64(table->freq);
    t->start = load_table64(table->start);
    t->inverse_low = load_table64(low);
    t->inverse_high = load_table64(high);
    t->escape = bytes(table->num_symbols - 1u);
}

/* Few codes need one table of 64, in which those from 128 on are found as zero. */
STEP vec symbols_of_codes(const struct encode_tables *t, vec codes, unsigned code_bits) {
    if (!FEW_REGISTERS || code_bits > 6)
        return look_up_sparse(&t->symbol_of, codes, code_bits);
    struct places places = places_of(codes, MAX_ROWS);
    return differing(look_up_at(&t->few, MAX_ROWS, &places), t->other);
}

/* Codes a group of symbols into its lanes. */
STEP void encode_symbols(const struct encode_tables *t, unsigned rows, struct lanes *lanes, vec symbol,
                         uint8_t **coded) {
    struct places places = places_of(symbol, rows);
    vec freq = look_up_at(&t->freq, rows, &places);
    chosen full = where_at_least(lanes->high, freq);
    put_in_front(coded, full, lanes->low);
    struct lanes x = {blend(full, lanes->high, lanes->low), without(full, lanes->high)};
    struct lanes inverse = {look_up_at(&t->inverse_low, rows, &places), look_up_at(&t->inverse_high, rows, &places)};
    *lanes = divide(x, freq, inverse);
    lanes->low = add(lanes->low, look_up_at(&t->start, rows, &places));
}

/* Codes that fill all lanes, the last first. */
STEP void encode_groups(struct zipfs_rans_encoder *encoder, const uint8_t *codes, size_t n, unsigned groups,
                        unsigned rows, unsigned code_bits) {
    struct encode_tables t;
    struct lanes lanes[MAX_GROUPS];
    load_encode_tables(encoder, &t);
    load_states(encoder->state, lanes, groups);
    bool has_escape = encoder->table.has_escape;
    uint8_t *coded = encoder->coded, *escaped = (uint8_t *)encoder->escaped;
    const uint8_t *ahead = encoder->ahead;
    const size_t ahead_step = encoder->ahead_step;
    for (size_t at = n; at > 0;) {
#pragma GCC unroll GROUPS_AT_ONCE
        for (unsigned g = groups; g-- > 0;) {
            at -= GROUP;
            vec symbol = symbols_of_codes(&t, load(codes + at), code_bits);
            if (has_escape)
                store_bits(escaped + at / 8, where_equal(symbol, t.escape));
            encode_symbols(&t, rows, &lanes[g], symbol, &coded);
        }
        for (const uint8_t *ahead_end = ahead + ahead_step; ahead < ahead_end; ahead += 64)
            __builtin_prefetch(ahead, 1, 2);
    }
    store_states(encoder->state, lanes, groups);
    encoder->ahead = ahead;
    encoder->coded = coded;
}

STEP void encode_by_rows(struct zipfs_rans_encoder *encoder, const uint8_t *codes, size_t n, unsigned code_bits) {
    unsigned groups = encoder->num_lanes / GROUP;
    switch (rows_of(encoder->table.num_symbols)) {
    case 1: encode_groups(encoder, codes, n, groups, 1, code_bits); break;
    case 2: encode_groups(encoder, codes, n, groups, 2, code_bits); break;
    case 3: encode_groups(encoder, codes, n, groups, 3, code_bits); break;
    default: encode_groups(encoder, codes, n, groups, 4, code_bits);
    }
}

STEP void encode_by_groups(struct zipfs_rans_encoder *encoder, const uint8_t *codes, size_t n, unsigned code_bits) {
    switch (encoder->num_lanes / GROUP) {
    case 1: encode_groups(encoder, codes, n, 1, MAX_ROWS, code_bits); break;
    case 2: encode_groups(encoder, codes, n, 2, MAX_ROWS, code_bits); break;
    default: encode_groups(encoder, codes, n, 4, MAX_ROWS, code_bits);
    }
}

/* The portable kernel does what is behind the last whole group. */
TARGET static void rans_encode(struct zipfs_rans_encoder *encoder, const uint8_t *codes, size_t n) {
    size_t whole = n - n % encoder->num_lanes;
    encoder->escaped += whole / 64;
    if (whole < n)
        zipfs_kernels_scalar.rans_encode(encoder, codes + whole, n - whole);
    encoder->escaped -= whole / 64;
    if (FEW_REGISTERS && encoder->code_bits == 6)
        encode_by_rows(encoder, codes, whole, 6);
    else if (FEW_REGISTERS)
        encode_by_rows(encoder, codes, whole, 8);
    else if (encoder->code_bits == 6)
        encode_by_groups(encoder, codes, whole, 6);
    else
        encode_by_groups(encoder, codes, whole, 8);
}

TARGET static void rans_patterns(const uint8_t *numbers, size_t n, const uint8_t table[64], uint8_t *dst) {
    const struct table64 t = load_table64(table);
    size_t i = 0;
    for (; i + GROUP <= n; i += GROUP)
        store(dst + i, look_up(&t, MAX_ROWS, load(numbers + i)));
    zipfs_kernels_scalar.rans_patterns(numbers + i, n - i, table, dst + i);
}

/* Of 64 elements one or two are chosen as a rule: three are taken without asking, since nobody can predict how many
 * there are. src begins with the word that has the bits. */
STEP size_t gather_words(const uint64_t *chosen, const uint8_t *src, unsigned width, size_t n, uint16_t *values_ret) {
    size_t num = 0;
    for (size_t i = 0; i < n; i += 64, src += 64 * width) {
        uint64_t left = chosen[i / 64], last = UINT64_C(1) << (zipfs_min(n - i, 64) - 1);
        uint16_t *value = values_ret + num;
        num += (size_t)__builtin_popcountll(left);
        do {
#pragma GCC unroll 3
            for (unsigned k = 0; k < 3; k++, left &= left - 1) {
                const uint8_t *element = src + width * (unsigned)__builtin_ctzll(left | last);
                *value++ = width == 1 ? *element : zipfs_load16(element);
            }
        } while (ZIPFS_UNLIKELY(left));
    }
    return num;
}

STEP void shift_words(uint16_t *words, size_t num, unsigned shift, unsigned bits) {
    unsigned mask = (1u << bits) - 1;
    for (size_t i = 0; i < num; i++)
        words[i] = (uint16_t)(words[i] >> shift & mask);
}

TARGET static size_t gather(const uint64_t *chosen, const uint8_t *src, unsigned width, unsigned shift, unsigned bits,
                            size_t n, uint16_t *values_ret) {
    src += shift / 16 * 2;
    size_t num = width == 1   ? gather_words(chosen, src, 1, n, values_ret)
                 : width == 2 ? gather_words(chosen, src, 2, n, values_ret)
                              : gather_words(chosen, src, 4, n, values_ret);
    shift_words(values_ret, num, shift % 16, bits);
    return num;
}

/* Their places in a table of kernels. */
#define ENCODE_LOOPS .rans_encode = rans_encode, .rans_patterns = rans_patterns
