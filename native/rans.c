/* Tables of the RANS coding: parsing them with every check, and choosing them by exact cost. */
#include "rans.h"

#include <pthread.h>
#include <string.h>

#include "common.h"

/* ---- decoding ---- */

static enum zipfs_status parse_table(const uint8_t *freq, const uint8_t *value, unsigned bits,
                                     struct zipfs_rans_decoder *decoder) {
    struct zipfs_rans_table *table = &decoder->table;
    unsigned sum = 0;
    for (unsigned s = 0; s < table->num_symbols; s++) {
        if (!freq[s] || sum + freq[s] > 256 || value[s] >> bits)
            return ZIPFS_BAD_RANS;
        memset(decoder->symbol + sum, (int)s, freq[s]);
        table->start[s] = (uint8_t)sum;
        sum += freq[s];
    }
    if (sum != 256 || (table->has_escape && value[table->num_symbols - 1]))
        return ZIPFS_BAD_RANS;
    memcpy(table->freq, freq, table->num_symbols);
    memcpy(table->value, value, table->num_symbols);
    return ZIPFS_OK;
}

static enum zipfs_status check_escapes(const uint8_t *escapes, size_t num_escapes, unsigned bits) {
    uint8_t seen = 0;
    for (size_t i = 0; bits < 8 && i < num_escapes; i++)
        seen |= escapes[i];
    return seen >> bits ? ZIPFS_BAD_RANS : ZIPFS_OK;
}

enum zipfs_status zipfs_rans_open(const uint8_t *src, size_t src_size, size_t n, unsigned bits,
                                  struct zipfs_rans_decoder *decoder) {
    if (src_size < ZIPFS_RANS_HEADER)
        return ZIPFS_BAD_PLANE;
    size_t num_symbols = src[0], coded_size = zipfs_load32(src + 4), num_escapes = zipfs_load32(src + 8);
    if (num_symbols < 2 || num_symbols > ZIPFS_RANS_MAX_SYMBOLS || src[1] > 1)
        return ZIPFS_BAD_RANS;
    unsigned num_lanes = src[2];
    if (num_lanes != 64 && num_lanes != 128)
        return ZIPFS_BAD_RANS;
    if (src[3])
        return ZIPFS_RESERVED_NOT_ZERO;
    if (num_escapes > (src[1] ? n : 0))
        return ZIPFS_BAD_RANS;
    if (zipfs_rans_fixed(num_lanes) + 2 * num_symbols + coded_size + num_escapes != src_size)
        return ZIPFS_BAD_PLANE;
    memset(&decoder->table, 0, sizeof decoder->table);
    decoder->table.num_symbols = (uint8_t)num_symbols;
    decoder->table.has_escape = src[1];
    decoder->has_slots = false;
    decoder->num_lanes = num_lanes;
    const uint8_t *freq = src + ZIPFS_RANS_HEADER;
    enum zipfs_status status = parse_table(freq, freq + num_symbols, bits, decoder);
    if (status)
        return status;
    const uint8_t *states = freq + 2 * num_symbols;
    memcpy(decoder->state, states, 2u * num_lanes);
    bool low = false;
    for (unsigned lane = 0; lane < num_lanes; lane++)
        low |= decoder->state[lane] < 256;
    if (low)
        return ZIPFS_BAD_RANS;
    decoder->coded = states + 2u * num_lanes;
    decoder->coded_end = decoder->escapes = decoder->coded + coded_size;
    decoder->escapes_end = decoder->escapes + num_escapes;
    return check_escapes(decoder->escapes, num_escapes, bits);
}

enum zipfs_status zipfs_rans_finish(const struct zipfs_rans_decoder *decoder) {
    bool done = decoder->coded == decoder->coded_end && decoder->escapes == decoder->escapes_end;
    for (unsigned lane = 0; lane < decoder->num_lanes; lane++)
        done &= decoder->state[lane] == 256;
    return done ? ZIPFS_OK : ZIPFS_BAD_RANS;
}

/* ---- choosing a table ---- */

enum { ONE_BIT = 1 << 16 }; /* costs are in units of 2^-16 bits */

static uint32_t slot_cost[257];      /* of one symbol with that frequency */
static uint32_t log2_of_256_to[257]; /* log2(256 + i) */
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* log2(x), by squaring, one bit at a time. */
static uint32_t log2_exact(uint32_t x) {
    unsigned whole = 31u - (unsigned)__builtin_clz(x);
    uint64_t mantissa = (uint64_t)x << (31 - whole); /* in [2^31, 2^32) */
    uint32_t result = whole << 16;
    for (uint32_t bit = ONE_BIT >> 1; bit; bit >>= 1) {
        mantissa = mantissa * mantissa >> 31;
        if (mantissa >> 32) {
            mantissa >>= 1;
            result += bit;
        }
    }
    return result;
}

static void fill_tables(void) {
    for (uint32_t f = 1; f <= 256; f++)
        slot_cost[f] = 8 * ONE_BIT - log2_exact(f);
    for (uint32_t i = 0; i <= 256; i++)
        log2_of_256_to[i] = log2_exact(256 + i);
}

/* Interpolated between exact values. */
uint32_t zipfs_log2(uint32_t x) {
    pthread_once(&once, fill_tables);
    unsigned whole = 31u - (unsigned)__builtin_clz(x);
    uint32_t mantissa = (uint32_t)((uint64_t)x << (31 - whole)) << 1; /* without the leading 1 */
    uint32_t low = log2_of_256_to[mantissa >> 24], high = log2_of_256_to[(mantissa >> 24) + 1];
    return low + (uint32_t)((uint64_t)(high - low) * (mantissa & 0xffffff) >> 24) + (whole << 16) - 8 * ONE_BIT;
}

uint64_t zipfs_entropy(const uint32_t count[256], size_t n) {
    uint64_t cost = 0;
    uint32_t total = zipfs_log2((uint32_t)n);
    for (unsigned v = 0; v < 256; v++)
        if (count[v])
            cost += (uint64_t)count[v] * (total - zipfs_log2(count[v]));
    return cost / (8 * ONE_BIT);
}

static uint64_t gain(uint32_t weight, unsigned freq) {
    return (uint64_t)weight * (slot_cost[freq] - slot_cost[freq + 1]);
}

static unsigned best_to_raise(const uint32_t *weight, const uint16_t *freq, unsigned k) {
    unsigned best = 0;
    for (unsigned s = 1; s < k; s++)
        if (gain(weight[s], freq[s]) > gain(weight[best], freq[best]))
            best = s;
    return best;
}

/* The symbol that loses least by one slot less; k when all have one slot only. */
static unsigned best_to_lower(const uint32_t *weight, const uint16_t *freq, unsigned k) {
    unsigned best = k;
    for (unsigned s = 0; s < k; s++)
        if (freq[s] > 1 && (best == k || gain(weight[s], freq[s] - 1u) < gain(weight[best], freq[best] - 1u)))
            best = s;
    return best;
}

/* Shares 256 slots out so that the cost is least: one slot at a time where it pays most, which is optimal for a concave
 * gain. Returns the cost. */
static uint64_t quantise(const uint32_t *weight, unsigned k, size_t n, uint16_t *freq) {
    unsigned sum = 0;
    for (unsigned s = 0; s < k; s++) {
        uint64_t share = (uint64_t)weight[s] * 256 / n;
        freq[s] = (uint16_t)(share ? share : 1);
        sum += freq[s];
    }
    for (; sum < 256; sum++)
        freq[best_to_raise(weight, freq, k)]++;
    for (; sum > 256; sum--)
        freq[best_to_lower(weight, freq, k)]--;
    for (;;) {
        unsigned up = best_to_raise(weight, freq, k), down = best_to_lower(weight, freq, k);
        if (down == k || up == down || gain(weight[up], freq[up]) <= gain(weight[down], freq[down] - 1u))
            break;
        freq[up]++;
        freq[down]--;
    }
    uint64_t cost = 0;
    for (unsigned s = 0; s < k; s++)
        cost += (uint64_t)weight[s] * slot_cost[freq[s]];
    return cost;
}

struct candidates {
    unsigned num_values; /* different ones */
    uint8_t value[256];  /* most frequent first */
    uint32_t weight[256];
    size_t n;
};

struct choice {
    unsigned num_explicit; /* symbols besides the escape */
    bool has_escape;
    uint16_t freq[ZIPFS_RANS_MAX_SYMBOLS];
    uint64_t cost;
};

static void sort_values(const uint32_t count[256], size_t n, struct candidates *c) {
    c->num_values = 0;
    c->n = n;
    for (unsigned v = 0; v < 256; v++) {
        if (!count[v])
            continue;
        unsigned i = c->num_values++;
        for (; i > 0 && c->weight[i - 1] < count[v]; i--) {
            c->weight[i] = c->weight[i - 1];
            c->value[i] = c->value[i - 1];
        }
        c->weight[i] = count[v];
        c->value[i] = (uint8_t)v;
    }
}

/* The best table with the num_explicit most frequent values as symbols, and an escape for others. */
static void evaluate(const struct candidates *c, unsigned num_explicit, struct choice *choice_ret) {
    uint32_t weight[ZIPFS_RANS_MAX_SYMBOLS];
    size_t rest = c->n;
    for (unsigned s = 0; s < num_explicit; s++) {
        weight[s] = c->weight[s];
        rest -= weight[s];
    }
    choice_ret->num_explicit = num_explicit;
    choice_ret->has_escape = rest > 0;
    unsigned k = num_explicit;
    if (rest)
        weight[k++] = (uint32_t)rest;
    choice_ret->cost = quantise(weight, k, c->n, choice_ret->freq) + (uint64_t)8 * ONE_BIT * (rest + 2 * k);
}

/* Values that fill less than a quarter of a slot are seldom worth one: begin there and walk while it gets cheaper. */
static void search(const struct candidates *c, struct choice *best) {
    unsigned most = c->num_values <= ZIPFS_RANS_MAX_SYMBOLS ? c->num_values : ZIPFS_RANS_MAX_SYMBOLS - 1, first = 1;
    while (first < most && (uint64_t)c->weight[first] * 1024 > c->n)
        first++;
    unsigned least = c->num_values == 2 ? 2 : 1; /* two symbols at least: one and the escape, or both */
    first = (unsigned)zipfs_max(first, least);
    evaluate(c, first, best);
    struct choice other;
    for (unsigned s = first; s-- > least;) {
        evaluate(c, s, &other);
        if (other.cost >= best->cost)
            break;
        *best = other;
    }
    for (unsigned s = first + 1; best->num_explicit == s - 1 && s <= most; s++) {
        evaluate(c, s, &other);
        if (other.cost < best->cost)
            *best = other;
    }
}

uint64_t zipfs_rans_choose(const uint32_t count[256], size_t n, unsigned num_lanes,
                           struct zipfs_rans_table *table_ret) {
    pthread_once(&once, fill_tables);
    struct candidates candidates;
    struct choice best;
    sort_values(count, n, &candidates);
    search(&candidates, &best);
    memset(table_ret, 0, sizeof *table_ret);
    table_ret->num_symbols = (uint8_t)(best.num_explicit + best.has_escape);
    table_ret->has_escape = best.has_escape;
    unsigned sum = 0;
    for (unsigned s = 0; s < table_ret->num_symbols; s++) {
        table_ret->freq[s] = (uint8_t)best.freq[s];
        table_ret->start[s] = (uint8_t)sum;
        table_ret->value[s] = s < best.num_explicit ? candidates.value[s] : 0;
        sum += best.freq[s];
    }
    return best.cost / (8 * ONE_BIT) + zipfs_rans_fixed(num_lanes);
}

/* ---- encoding ---- */

void zipfs_rans_encoder_init(struct zipfs_rans_encoder *encoder, const struct zipfs_rans_table *table,
                             unsigned num_lanes) {
    encoder->table = *table;
    encoder->num_lanes = num_lanes;
    unsigned num_explicit = table->num_symbols - table->has_escape;
    memset(encoder->symbol_of, (int)num_explicit, sizeof encoder->symbol_of);
    for (unsigned s = 0; s < num_explicit; s++)
        encoder->symbol_of[table->value[s]] = (uint8_t)s;
    for (unsigned lane = 0; lane < num_lanes; lane++)
        encoder->state[lane] = 256;
}

size_t zipfs_rans_write_header(const struct zipfs_rans_encoder *encoder, size_t coded_size, size_t num_escapes,
                               uint8_t *dst) {
    const struct zipfs_rans_table *table = &encoder->table;
    size_t k = table->num_symbols;
    dst[0] = table->num_symbols;
    dst[1] = table->has_escape;
    dst[2] = (uint8_t)encoder->num_lanes;
    dst[3] = 0;
    zipfs_store32(dst + 4, (uint32_t)coded_size);
    zipfs_store32(dst + 8, (uint32_t)num_escapes);
    memcpy(dst + ZIPFS_RANS_HEADER, table->freq, k);
    memcpy(dst + ZIPFS_RANS_HEADER + k, table->value, k);
    memcpy(dst + ZIPFS_RANS_HEADER + 2 * k, encoder->state, 2u * encoder->num_lanes);
    return zipfs_rans_fixed(encoder->num_lanes) + 2 * k;
}
