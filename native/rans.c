/* Tables of the RANS coding: parsing them with every check, and choosing them by exact cost. */
#include "rans.h"

#include <pthread.h>
#include <string.h>

#include "common.h"
#include "kernels.h"

/* ---- decoding ---- */

/* A plane whose sizes have been checked, cut into its parts. */
struct parts {
    size_t num_symbols, num_near, coded_size, num_nibbles, num_far, value_size;
    unsigned num_lanes;
    const uint8_t *freq, *values, *near, *states, *coded, *nibbles, *far;
};

static enum zipfs_status find_parts(const uint8_t *src, size_t src_size, size_t n, unsigned bits, struct parts *p) {
    if (src_size < ZIPFS_RANS_HEADER)
        return ZIPFS_BAD_PLANE;
    bool has_escape = src[1];
    *p = (struct parts){.num_symbols = src[0], .num_near = src[3], .value_size = bits > 8 ? 2 : 1,
                        .coded_size = zipfs_load32(src + 4), .num_nibbles = zipfs_load32(src + 8),
                        .num_far = zipfs_load32(src + 12), .num_lanes = 64u * src[2]};
    if (p->num_symbols < 2 || p->num_symbols > ZIPFS_RANS_MAX_SYMBOLS || src[1] > 1 ||
        (src[2] != 1 && src[2] != 2 && src[2] != 4) || p->num_near > (has_escape ? ZIPFS_RANS_MAX_NEAR : 0) ||
        p->num_nibbles > 5 * (uint64_t)(p->num_near ? n : 0) ||
        p->num_far > (p->num_near ? p->num_nibbles : has_escape ? n : 0))
        return ZIPFS_BAD_RANS;
    p->freq = src + ZIPFS_RANS_HEADER;
    p->values = p->freq + p->num_symbols;
    p->near = p->values + p->value_size * p->num_symbols;
    p->states = p->near + p->value_size * p->num_near;
    size_t fixed = (size_t)(p->states - src) + 2u * p->num_lanes;
    if ((uint64_t)fixed + p->coded_size + (p->num_nibbles + 1) / 2 + p->value_size * p->num_far != src_size)
        return ZIPFS_BAD_PLANE;
    p->coded = src + fixed;
    p->nibbles = p->coded + p->coded_size;
    p->far = p->nibbles + (p->num_nibbles + 1) / 2;
    return ZIPFS_OK;
}

/* Value i of a list; sets *bad when it does not fit the field. */
static unsigned load_value(const uint8_t *list, size_t i, unsigned bits, bool *bad) {
    unsigned value = bits > 8 ? zipfs_load16(list + 2 * i) : list[i];
    *bad |= value >> bits != 0;
    return value;
}

static enum zipfs_status parse_table(const struct parts *p, bool has_escape, unsigned bits, unsigned shift,
                                     struct zipfs_rans_decoder *decoder) {
    struct zipfs_rans_table *table = &decoder->table;
    memset(table, 0, sizeof *table);
    memset(decoder->pattern_low, 0, sizeof decoder->pattern_low);
    memset(decoder->pattern_high, 0, sizeof decoder->pattern_high);
    table->num_symbols = (uint8_t)p->num_symbols;
    table->num_near = (uint8_t)p->num_near;
    table->has_escape = has_escape;
    unsigned sum = 0;
    bool bad = false;
    for (size_t s = 0; s < p->num_symbols; s++) {
        if (!p->freq[s] || sum + p->freq[s] > 256)
            return ZIPFS_BAD_RANS;
        memset(decoder->symbol + sum, (int)s, p->freq[s]);
        table->freq[s] = p->freq[s];
        table->start[s] = (uint8_t)sum;
        sum += p->freq[s];
        table->value[s] = (uint16_t)load_value(p->values, s, bits, &bad);
        decoder->pattern_low[s] = (uint8_t)(table->value[s] << shift);
        decoder->pattern_high[s] = (uint8_t)(table->value[s] << shift >> 8);
    }
    for (size_t i = 0; i < p->num_near; i++)
        table->near[i] = (uint16_t)load_value(p->near, i, bits, &bad);
    bad |= sum != 256 || (has_escape && table->value[p->num_symbols - 1]);
    return bad ? ZIPFS_BAD_RANS : ZIPFS_OK;
}

/* Puts the far values in their places, which are those of the number num_near. */
static bool resolve_far(const struct parts *p, const uint8_t *numbers, size_t num, unsigned bits, unsigned shift,
                        uint8_t *low, uint8_t *high) {
    bool bad = false;
    size_t num_far = 0;
    const uint8_t *end = numbers + num, *at = numbers;
    for (; (at = memchr(at, (int)p->num_near, (size_t)(end - at))); at++, num_far++) {
        if (num_far == p->num_far)
            return false;
        unsigned pattern = load_value(p->far, num_far, bits, &bad) << shift;
        high[at - numbers] = (uint8_t)(pattern >> 8);
        low[at - numbers] = (uint8_t)pattern; /* after `high`, which is the same place where patterns are a byte */
    }
    return !bad && num_far == p->num_far;
}

/* Is one of these numbers, which are below 128, above `most`? Eight at a time. */
static bool any_above(const uint8_t *numbers, size_t num, unsigned most) {
    const uint64_t ones = 0x0101010101010101;
    uint64_t above = 0;
    size_t i = 0;
    for (; i + 8 <= num; i += 8)
        above |= zipfs_load64(numbers + i) + ones * (127 - most);
    for (; i < num; i++)
        above |= numbers[i] + (127 - most);
    return above & ones << 7;
}

/* Turns nibbles, near and far values into patterns. */
static enum zipfs_status resolve_escapes(const struct parts *p, size_t n, unsigned bits, unsigned shift,
                                         const struct zipfs_kernels *kernels, uint8_t **room,
                                         struct zipfs_rans_decoder *decoder) {
    size_t most = p->num_near ? zipfs_min(n, p->num_nibbles) : p->num_far, part = most + ZIPFS_RANS_MAX_LANES;
    bool wide = zipfs_rans_is_wide(bits, shift);
    uint8_t *low = *room, *high = wide ? low + part : low, *numbers = high + part;
    uint8_t near_low[64] = {0}, near_high[64] = {0};
    for (size_t i = 0; i < p->num_near; i++) {
        unsigned pattern = (unsigned)decoder->table.near[i] << shift;
        near_low[i] = (uint8_t)pattern;
        near_high[i] = (uint8_t)(pattern >> 8);
    }
    size_t num = p->num_far;
    if (p->num_near)
        num = kernels->rans_numbers(p->nibbles, p->num_nibbles, numbers, most);
    else
        memset(numbers, 0, num);
    if (num == SIZE_MAX)
        return ZIPFS_BAD_RANS;
    if (any_above(numbers, num, (unsigned)p->num_near))
        return ZIPFS_BAD_RANS;
    kernels->rans_patterns(numbers, num, near_low, low);
    if (wide)
        kernels->rans_patterns(numbers, num, near_high, high);
    if (!resolve_far(p, numbers, num, bits, shift, low, high))
        return ZIPFS_BAD_RANS;
    if (p->num_nibbles % 2 && p->nibbles[p->num_nibbles / 2] >> 4)
        return ZIPFS_RESERVED_NOT_ZERO;
    decoder->escapes = (struct zipfs_rans_escapes){low, high, low + num};
    *room += wide ? 2 * part : part;
    return ZIPFS_OK;
}

enum zipfs_status zipfs_rans_open(const uint8_t *src, size_t src_size, const uint8_t *readable_end, size_t n,
                                  unsigned bits, unsigned shift, const struct zipfs_kernels *kernels, uint8_t **room,
                                  struct zipfs_rans_decoder *decoder) {
    struct parts p;
    enum zipfs_status status = find_parts(src, src_size, n, bits, &p);
    if (!status)
        status = parse_table(&p, src[1], bits, shift, decoder);
    if (!status)
        status = resolve_escapes(&p, n, bits, shift, kernels, room, decoder);
    if (status)
        return status;
    decoder->has_slots = false;
    decoder->num_lanes = p.num_lanes;
    decoder->coded = p.coded;
    decoder->coded_end = p.coded + p.coded_size;
    decoder->readable_end = readable_end;
    decoder->ahead = readable_end; /* of no use, but a pointer */
    decoder->ahead_step = 0;
    memcpy(decoder->state, p.states, 2u * p.num_lanes);
    bool low = false;
    for (unsigned lane = 0; lane < p.num_lanes; lane++)
        low |= decoder->state[lane] < 256;
    return low ? ZIPFS_BAD_RANS : ZIPFS_OK;
}

enum zipfs_status zipfs_rans_finish(const struct zipfs_rans_decoder *decoder) {
    bool done = decoder->coded == decoder->coded_end && decoder->escapes.low == decoder->escapes.low_end;
    for (unsigned lane = 0; lane < decoder->num_lanes; lane++)
        done &= decoder->state[lane] == 256;
    return done ? ZIPFS_OK : ZIPFS_BAD_RANS;
}

/* ---- choosing a table ---- */

enum { ONE_BIT = 1 << 16 }; /* costs are in units of 2^-16 bits */

static uint32_t slot_cost[257];      /* of one symbol with that frequency */
static uint32_t log2_of_256_to[257]; /* log2(256 + i) */
static uint32_t visits[257];         /* of the slots below this one, in units of 2^-24 of all */
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
    uint64_t often[257] = {0};
    for (uint32_t slot = 0; slot < 256; slot++) {
        often[slot + 1] = often[slot];
        for (uint32_t high = 1; high < 256; high++)
            often[slot + 1] += (UINT64_C(1) << 33) / (512 * high + 2 * slot + 1);
    }
    for (uint32_t slot = 0; slot <= 256; slot++)
        visits[slot] = (uint32_t)((7 * ((often[slot] << 24) / often[256]) + 3 * ((uint64_t)slot << 16)) / 10);
}

/* Interpolated between exact values. */
static uint32_t log2_of(uint32_t x) {
    unsigned whole = 31u - (unsigned)__builtin_clz(x);
    uint32_t mantissa = (uint32_t)((uint64_t)x << (31 - whole)) << 1; /* without the leading 1 */
    uint32_t low = log2_of_256_to[mantissa >> 24], high = log2_of_256_to[(mantissa >> 24) + 1];
    return low + (uint32_t)((uint64_t)(high - low) * (mantissa & 0xffffff) >> 24) + (whole << 16) - 8 * ONE_BIT;
}

uint32_t zipfs_log2(uint32_t x) {
    pthread_once(&once, fill_tables);
    return log2_of(x);
}

uint64_t zipfs_entropy(const uint32_t count[256], size_t n) {
    return zipfs_entropy_of(count, 256, n);
}

uint64_t zipfs_entropy_of(const uint32_t *count, unsigned num_counts, size_t n) {
    pthread_once(&once, fill_tables);
    uint64_t cost = 0;
    uint32_t total = log2_of((uint32_t)n);
    for (unsigned v = 0; v < num_counts; v++)
        if (count[v])
            cost += (uint64_t)count[v] * (total - log2_of(count[v]));
    return cost / (8 * ONE_BIT);
}

static uint64_t gain(uint32_t weight, unsigned freq) {
    return (uint64_t)weight * (slot_cost[freq] - slot_cost[freq + 1]);
}

static unsigned largest(const uint64_t *value, unsigned k) {
    unsigned best = 0;
    uint64_t most = value[0];
    for (unsigned s = 1; s < k; s++)
        if (value[s] > most) {
            most = value[s];
            best = s;
        }
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

/* Low slots are visited more often than high ones: a state x comes with a frequency of about 1 / x, which would make
 * slot 0 a fifth more frequent than slot 255; tables made for 0.7 of that are best by trial, from 16 to 50 symbols. To
 * be visited as often as it occurs, a symbol wants so many slots where it stands: its weight, corrected. That saves up
 * to 0.05 % of the coded bytes, of 0.25 that this coder loses. */
static void correct_weights(const uint32_t *weight, unsigned k, size_t n, uint32_t *corrected_ret) {
    uint64_t sum = 0, place = 0;
    for (unsigned s = 0, slot = 0; s < k; s++) {
        sum += weight[s];
        uint32_t part = (uint32_t)((sum << 24) / n);
        while (slot < 255 && visits[slot + 1] <= part)
            slot++;
        uint64_t next = (((uint64_t)slot << 24) +
                         ((uint64_t)(part - visits[slot]) << 24) / (visits[slot + 1] - visits[slot])) * n >> 32;
        corrected_ret[s] = (uint32_t)(next - place);
        place = next;
    }
}

/* Shares 256 slots out so that the cost is least: one slot at a time where it pays most, which is optimal for a concave
 * gain. Returns the cost. Two symbols at least, so that none has all slots. */
static uint64_t quantise(const uint32_t *true_weight, unsigned k, size_t n, uint16_t *freq) {
    uint32_t weight[ZIPFS_RANS_MAX_SYMBOLS];
    uint64_t by_one_more[ZIPFS_RANS_MAX_SYMBOLS];
    unsigned sum = 0;
    correct_weights(true_weight, k, n, weight);
    for (unsigned s = 0; s < k; s++) {
        uint64_t share = (uint64_t)weight[s] * 256 / n;
        freq[s] = (uint16_t)(share ? share : 1);
        sum += freq[s];
    }
    for (; sum > 256; sum--)
        freq[best_to_lower(weight, freq, k)]--;
    for (unsigned s = 0; s < k; s++)
        by_one_more[s] = gain(weight[s], freq[s]);
    for (; sum < 256; sum++) {
        unsigned up = largest(by_one_more, k);
        by_one_more[up] = gain(weight[up], ++freq[up]);
    }
    for (;;) {
        unsigned up = largest(by_one_more, k), down = best_to_lower(weight, freq, k);
        if (down == k || up == down || by_one_more[up] <= gain(weight[down], freq[down] - 1u))
            break;
        by_one_more[up] = gain(weight[up], ++freq[up]);
        by_one_more[down] = gain(weight[down], --freq[down]);
    }
    uint64_t cost = 0;
    for (unsigned s = 0, start = 0; s < k; start += freq[s], s++)
        cost += (uint64_t)true_weight[s] * (24 * ONE_BIT - log2_of(visits[start + freq[s]] - visits[start]));
    return cost;
}

/* The codes that occur, most frequent first; returns how many. */
static unsigned sort_codes(const struct zipfs_rans_counts *counts, uint8_t code_ret[256]) {
    unsigned num = 0;
    for (unsigned c = 0; c < counts->num_codes; c++) {
        if (!counts->count[c])
            continue;
        unsigned i = num++;
        for (; i > 0 && counts->count[code_ret[i - 1]] < counts->count[c]; i--)
            code_ret[i] = code_ret[i - 1];
        code_ret[i] = (uint8_t)c;
    }
    return num;
}

/* A candidate: the `explicit` most frequent codes as symbols, the next `num_near` near, others far. */
struct choice {
    unsigned explicit, num_near;
    bool has_escape;
    uint16_t freq[ZIPFS_RANS_MAX_SYMBOLS];
    uint64_t bits;
};

struct candidates {
    const struct zipfs_rans_counts *counts;
    unsigned num_codes, most; /* that occur, and that may be explicit */
    uint8_t code[256];        /* most frequent first */
    unsigned value_bits;
};

static uint32_t count_of(const struct candidates *c, unsigned i) {
    return c->counts->count[c->code[i]];
}

static void evaluate(const struct candidates *c, unsigned explicit, bool with_near, struct choice *choice_ret) {
    uint32_t weight[ZIPFS_RANS_MAX_SYMBOLS];
    uint64_t rest = c->counts->n, nibbles = 0;
    for (unsigned s = 0; s < explicit; s++)
        rest -= weight[s] = count_of(c, s);
    *choice_ret = (struct choice){.explicit = explicit, .has_escape = rest || !c->counts->complete};
    unsigned k = explicit, num_near = 0;
    uint64_t far = rest;
    if (choice_ret->has_escape)
        weight[k++] = (uint32_t)rest;
    for (unsigned i = explicit; with_near && i < c->num_codes && num_near < ZIPFS_RANS_MAX_NEAR; i++, num_near++) {
        nibbles += (uint64_t)count_of(c, i) * (1 + num_near / ZIPFS_RANS_MORE);
        far -= count_of(c, i);
    }
    if (num_near)
        nibbles += far * (1 + num_near / ZIPFS_RANS_MORE);
    choice_ret->num_near = num_near;
    choice_ret->bits = quantise(weight, k, c->counts->n, choice_ret->freq) / ONE_BIT + 4 * nibbles +
                       c->value_bits * (far + num_near) + (8 + c->value_bits) * k;
}

/* How many codes are at least one in `parts`. */
static unsigned count_frequent(const struct candidates *c, unsigned parts) {
    unsigned num = 0;
    while (num < c->most && (uint64_t)count_of(c, num) * parts >= c->counts->n && count_of(c, num) >= 4)
        num++;
    return num ? num : 1;
}

/* Without near values: walks while it gets cheaper. Best for values that are nearly even but for a few. */
static void search_far(const struct candidates *c, struct choice *best) {
    unsigned least = c->num_codes == 2 ? 2 : 1, first = (unsigned)zipfs_max(count_frequent(c, 1024), least);
    struct choice other;
    evaluate(c, first, false, &other);
    if (other.bits < best->bits)
        *best = other;
    for (unsigned s = first; s-- > least;) {
        evaluate(c, s, false, &other);
        if (other.bits >= best->bits)
            break;
        *best = other;
    }
    for (unsigned s = first + 1; s <= c->most; s++) {
        evaluate(c, s, false, &other);
        if (other.bits >= best->bits)
            break;
        *best = other;
    }
}

enum { DOUBT = 128 }; /* bits: a cost that is estimated may be wrong by some bytes */

/* With near values: some more or fewer symbols than the rule says. */
static void search_near(const struct candidates *c, struct choice *best) {
    unsigned first = best->explicit, reach = 4;
    struct choice other;
    for (unsigned s = first > reach ? first - reach : 1; s <= first + reach && s <= c->most; s++) {
        evaluate(c, s, true, &other);
        if (other.bits + DOUBT < best->bits)
            *best = other;
    }
}

/* A code that fills two thirds of a slot is worth one: rarer ones cost less as near values, by what their slots give to
 * the others. Of a part of the codes no more is known, and they are the steep ones of joint layouts. */
uint64_t zipfs_rans_choose(const struct zipfs_rans_counts *counts, unsigned bits, struct zipfs_rans_table *table_ret) {
    pthread_once(&once, fill_tables);
    struct candidates c = {.counts = counts, .value_bits = bits > 8 ? 16 : 8};
    c.num_codes = sort_codes(counts, c.code);
    uint64_t counted = 0;
    for (unsigned i = 0; i < c.num_codes; i++)
        counted += count_of(&c, i);
    bool all_fit = counts->complete && counted == counts->n && c.num_codes <= ZIPFS_RANS_MAX_SYMBOLS;
    c.most = all_fit ? c.num_codes : (unsigned)zipfs_min(c.num_codes, ZIPFS_RANS_MAX_SYMBOLS - 1);
    struct choice best;
    evaluate(&c, count_frequent(&c, 384), true, &best);
    if (counts->thorough)
        search_near(&c, &best);
    if (counts->complete)
        search_far(&c, &best);
    memset(table_ret, 0, sizeof *table_ret);
    table_ret->num_symbols = (uint8_t)(best.explicit + best.has_escape);
    table_ret->has_escape = best.has_escape;
    table_ret->num_near = (uint8_t)best.num_near;
    for (unsigned s = 0, sum = 0; s < table_ret->num_symbols; sum += best.freq[s], s++) {
        table_ret->freq[s] = (uint8_t)best.freq[s];
        table_ret->start[s] = (uint8_t)sum;
        table_ret->value[s] = s < best.explicit ? c.code[s] : 0;
    }
    return best.bits;
}

/* ---- encoding ---- */

void zipfs_rans_encoder_init(struct zipfs_rans_encoder *encoder, const struct zipfs_rans_table *table,
                             unsigned code_bits, unsigned num_lanes) {
    encoder->table = *table;
    encoder->code_bits = code_bits;
    encoder->num_lanes = num_lanes;
    encoder->ahead = (const uint8_t *)encoder; /* of no use, but a pointer */
    encoder->ahead_step = 0;
    unsigned explicit = table->num_symbols - table->has_escape;
    memset(encoder->symbol_of, (int)explicit, sizeof encoder->symbol_of);
    for (unsigned s = 0; s < explicit; s++)
        encoder->symbol_of[table->value[s]] = (uint8_t)s;
    memset(encoder->inverse, 0, sizeof encoder->inverse);
    for (unsigned s = 0; s < table->num_symbols; s++)
        encoder->inverse[s] = ((1u << 24) + table->freq[s] - 1u) / table->freq[s];
    for (unsigned lane = 0; lane < num_lanes; lane++)
        encoder->state[lane] = 256;
}
