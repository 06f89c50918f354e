/* Counts, entropies and code lengths for the guess. Integer arithmetic only, so that every machine guesses alike. */
#include "guess_score.h"

#include <pthread.h>
#include <string.h>

#include "common.h"
#include "rans.h"

const struct zipfs_hypothesis zipfs_hypotheses[ZIPFS_NUM_HYPOTHESES] = {
    {ZIPFS_BYTES, 0}, {ZIPFS_BF16, 0}, {ZIPFS_BF16, 1}, {ZIPFS_F16, 0}, {ZIPFS_F16, 1}, {ZIPFS_F32, 0},
    {ZIPFS_F32, 1},   {ZIPFS_F32, 2},  {ZIPFS_F32, 3},  {ZIPFS_F64, 0}, {ZIPFS_F64, 1}, {ZIPFS_F64, 2},
    {ZIPFS_F64, 3},   {ZIPFS_F64, 4},  {ZIPFS_F64, 5},  {ZIPFS_F64, 6}, {ZIPFS_F64, 7},
};

enum role { ROLE_BYTE, ROLE_PAIR, ROLE_NONE };

/* What the byte at a residue is: a field of its own, the lower byte of a pair, or the upper one, which the pair's cost
 * covers. */
static enum role role_of(unsigned hypothesis, unsigned residue) {
    unsigned layout = zipfs_hypotheses[hypothesis].layout, phase = zipfs_hypotheses[hypothesis].phase;
    unsigned width = layout == ZIPFS_BF16 ? 2 : layout == ZIPFS_F32 ? 4 : layout == ZIPFS_F64 ? 8 : 0;
    if (!width)
        return ROLE_BYTE;
    unsigned place = (residue + 8 - phase) % width;
    return place + 2 == width ? ROLE_PAIR : place + 1 == width ? ROLE_NONE : ROLE_BYTE;
}

/* Residues that share their counts: all that are equal modulo this. */
static unsigned period_of(unsigned hypothesis) {
    static const uint8_t periods[] = {
        [ZIPFS_BYTES] = 1, [ZIPFS_BF16] = 2, [ZIPFS_F16] = 2, [ZIPFS_F32] = 4, [ZIPFS_F64] = 8};
    return periods[zipfs_hypotheses[hypothesis].layout];
}

/* The upper byte of F16 holds fields of 5 and 3 bits, of which the second is sign and mantissa. */
static bool is_top_of_f16(unsigned hypothesis, unsigned residue) {
    return zipfs_hypotheses[hypothesis].layout == ZIPFS_F16 && (residue & 1) != zipfs_hypotheses[hypothesis].phase;
}

static unsigned f16_exponent(unsigned byte) {
    return byte >> 2 & 31;
}

static unsigned f16_middle(unsigned byte) {
    return (byte >> 5 & 4) | (byte & 3);
}

/* ---- counts ---- */

void zipfs_sample_add(struct zipfs_sample *sample, const uint8_t *src, size_t offset, size_t size) {
    sample->size += size;
    for (size_t i = offset; i < offset + size; i += 8) {
        unsigned low = src[i];
        for (unsigned r = 0; r < 8; r++) {
            unsigned high = src[i + r + 1];
            sample->byte[r][low]++;
            sample->exponent[r][(high << 1 & 0xfe) | low >> 7]++;
            sample->rest[r][(high & 0x80) | (low & 0x7f)]++;
            sample->exponent64[r][(high << 4 & 0xf0) | low >> 4]++;
            low = high;
        }
    }
}

/* Adds up the counts of the residues that equal `residue` modulo `period`. */
static void gather(const uint16_t counts[8][256], unsigned residue, unsigned period, uint16_t sum_ret[256]) {
    memcpy(sum_ret, counts[residue % period], 256 * sizeof sum_ret[0]);
    for (unsigned r = residue % period + period; r < 8; r += period)
        for (unsigned v = 0; v < 256; v++)
            sum_ret[v] = (uint16_t)(sum_ret[v] + counts[r][v]);
}

/* ---- entropies ---- */

static uint32_t weighted_log[ZIPFS_SAMPLE_MAX + 1]; /* c * log2(c), in units of 2^-15 bits, so that all fit */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void fill_weighted_log(void) {
    for (uint32_t c = 1; c <= ZIPFS_SAMPLE_MAX; c++)
        weighted_log[c] = (uint32_t)((uint64_t)c * zipfs_log2(c) >> 1);
}

/* What the estimate below misses of 8 bits when n values of 256 are equally likely, in units of 2^-16, by log2(n);
 * measured. */
static const uint32_t missed[] = {262144, 262144, 262144, 262144, 210000, 161000, 105800, 58700, 24260, 6380, 855, 135};

/*
 * Bits per value, in units of 2^-16. A small sample shows too little entropy: Miller and Madow's correction is added,
 * and what it misses of flat values, weighted so that it counts for nearly flat ones alone.
 */
static uint32_t entropy(const uint16_t *count, unsigned num_values, uint32_t n, uint32_t most) {
    uint64_t sum = 0;
    uint32_t different = 0;
    for (unsigned v = 0; v < num_values; v++) {
        sum += weighted_log[count[v]];
        different += count[v] > 0;
    }
    uint64_t bits = 2 * (weighted_log[n] - sum) / n + (uint64_t)(different - 1) * 47274 / n; /* 2^16 / (2 ln 2) */
    unsigned log_n = 31u - (unsigned)__builtin_clz(n);
    if (num_values == 256 && log_n < sizeof missed / sizeof missed[0]) {
        uint64_t flat = bits * bits >> 22; /* (bits / 8)^2, in units of 2^-16 */
        bits += missed[log_n] * (flat * flat >> 16) >> 16;
    }
    return bits < most ? (uint32_t)bits : most;
}

enum { EIGHT_BITS = 8 << 16 };

static uint32_t f16_top_entropy(const uint16_t count[256], uint32_t n) {
    uint16_t exponent[32] = {0}, middle[8] = {0};
    for (unsigned v = 0; v < 256; v++) {
        exponent[f16_exponent(v)] = (uint16_t)(exponent[f16_exponent(v)] + count[v]);
        middle[f16_middle(v)] = (uint16_t)(middle[f16_middle(v)] + count[v]);
    }
    return entropy(exponent, 32, n, 5 << 16) + entropy(middle, 8, n, 3 << 16);
}

/* Exponents that are none do not merely fail to shrink: among true ones they become escapes, of 16 bits. */
static uint32_t exponent_cost(uint32_t bits) {
    return bits < 5 << 16 ? bits : bits + (bits - (5 << 16)) / 3 * 8;
}

/* The upper two bytes of F64: 3 and 8 bits of exponent, and 5 bits that look flat in all data worth the name. */
static uint32_t f64_pair_entropy(const struct zipfs_sample *sample, unsigned r) {
    uint16_t top[8] = {0};
    const uint16_t *high = sample->byte[(r + 1) % 8];
    uint32_t n = (uint32_t)(sample->size / 8);
    for (unsigned v = 0; v < 256; v++)
        top[v >> 4 & 7] = (uint16_t)(top[v >> 4 & 7] + high[v]);
    return entropy(top, 8, n, 3 << 16) + exponent_cost(entropy(sample->exponent64[r], 256, n, EIGHT_BITS)) + (5 << 16);
}

/* A lower plane of floats shrinks by the zeros in it. What else may look compressible there is the exponent of a
 * narrower layout. */
static uint32_t plane_cost(const uint16_t count[256], uint32_t n, uint32_t bits) {
    return bits < 1 << 16 || count[0] >= n / 16 ? bits : EIGHT_BITS;
}

/* Entropies of bytes and pairs by period (1, 2, 4, 8: index 0 to 3) and residue: what hypotheses share is worked out
 * once. */
struct entropies {
    uint32_t byte[4][8], pair[4][8]; /* byte with period 1 alone is that of the layout BYTES */
};

static void work_out(const struct zipfs_sample *sample, struct entropies *e) {
    uint16_t count[256];
    for (unsigned k = 0; k < 4; k++) {
        unsigned period = 1u << k;
        uint32_t n = (uint32_t)(sample->size / period);
        for (unsigned r = 0; r < period; r++) {
            gather(sample->byte, r, period, count);
            e->byte[k][r] = entropy(count, 256, n, EIGHT_BITS);
            if (period > 1)
                e->byte[k][r] = plane_cost(count, n, e->byte[k][r]);
            if (period == 1 || period == 8)
                continue;
            gather(sample->exponent, r, period, count);
            e->pair[k][r] = exponent_cost(entropy(count, 256, n, EIGHT_BITS));
            gather(sample->rest, r, period, count);
            e->pair[k][r] += entropy(count, 256, n, EIGHT_BITS);
        }
    }
}

static uint32_t cost_of(const struct zipfs_sample *sample, const struct entropies *e, unsigned hypothesis) {
    unsigned period = period_of(hypothesis), k = (unsigned)__builtin_ctz(period);
    uint32_t total = 0;
    for (unsigned r = 0; r < period; r++) {
        if (is_top_of_f16(hypothesis, r)) {
            uint16_t count[256];
            gather(sample->byte, r, period, count);
            total += f16_top_entropy(count, (uint32_t)(sample->size / period));
        } else if (role_of(hypothesis, r) == ROLE_PAIR && period == 8) {
            total += f64_pair_entropy(sample, r);
        } else if (role_of(hypothesis, r) == ROLE_BYTE) {
            total += e->byte[k][r];
        } else if (role_of(hypothesis, r) == ROLE_PAIR) {
            total += e->pair[k][r];
        }
    }
    /* Of hypotheses that explain the bytes alike the narrow one is the likelier: 1/64 for each doubling. */
    return total / period + total / period / 64 * (k ? k - 1 : 0);
}

void zipfs_sample_costs(const struct zipfs_sample *sample, uint32_t cost_ret[ZIPFS_NUM_HYPOTHESES]) {
    pthread_once(&once, fill_weighted_log);
    struct entropies e;
    work_out(sample, &e);
    for (unsigned h = 0; h < ZIPFS_NUM_HYPOTHESES; h++)
        cost_ret[h] = cost_of(sample, &e, h);
}

bool zipfs_sample_is_text(const struct zipfs_sample *sample) {
    size_t beyond = 0;
    for (unsigned r = 0; r < 8; r++)
        for (unsigned v = 128; v < 256; v++)
            beyond += sample->byte[r][v];
    return beyond * 32 < sample->size && sample->byte[0][0] * 32u < sample->size / 8;
}

/* ---- code lengths ---- */

static void learn(const uint16_t *count, unsigned num_values, uint16_t *lengths) {
    uint32_t n = 0;
    for (unsigned v = 0; v < num_values; v++)
        n += 4u * count[v] + 1; /* a quarter for what was not seen */
    for (unsigned v = 0; v < num_values; v++)
        lengths[v] = (uint16_t)((zipfs_log2(n) - zipfs_log2(4u * count[v] + 1)) >> 8);
}

static void learn_f16_top(const uint16_t count[256], uint16_t lengths[256]) {
    uint16_t exponent[32] = {0}, middle[8] = {0}, exponent_length[32], middle_length[8];
    for (unsigned v = 0; v < 256; v++) {
        exponent[f16_exponent(v)] = (uint16_t)(exponent[f16_exponent(v)] + count[v]);
        middle[f16_middle(v)] = (uint16_t)(middle[f16_middle(v)] + count[v]);
    }
    learn(exponent, 32, exponent_length);
    learn(middle, 8, middle_length);
    for (unsigned v = 0; v < 256; v++)
        lengths[v] = (uint16_t)(exponent_length[f16_exponent(v)] + middle_length[f16_middle(v)]);
}

void zipfs_lengths_learn(const struct zipfs_sample *sample, unsigned hypothesis, struct zipfs_lengths *lengths_ret) {
    unsigned period = period_of(hypothesis);
    uint16_t count[256];
    for (unsigned r = 0; r < 8; r++) {
        lengths_ret->role[r] = (uint8_t)role_of(hypothesis, r);
        gather(sample->byte, r, period, count);
        if (is_top_of_f16(hypothesis, r))
            learn_f16_top(count, lengths_ret->byte[r]);
        else
            learn(count, 256, lengths_ret->byte[r]);
        if (lengths_ret->role[r] != ROLE_PAIR)
            continue;
        gather(sample->exponent, r, period, count);
        learn(count, 256, lengths_ret->exponent[r]);
        gather(sample->rest, r, period, count);
        learn(count, 256, lengths_ret->rest[r]);
    }
}

uint32_t zipfs_lengths_at(const struct zipfs_lengths *lengths, const uint8_t *src, size_t offset) {
    unsigned r = offset & 7, low = src[offset], high = src[offset + 1];
    switch (lengths->role[r]) {
    case ROLE_BYTE: return lengths->byte[r][low];
    case ROLE_PAIR:
        return lengths->exponent[r][(high << 1 & 0xfe) | low >> 7] + lengths->rest[r][(high & 0x80) | (low & 0x7f)];
    default: return 0;
    }
}
