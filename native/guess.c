/*
 * Finds layout and phase where no segment says them, and where they change.
 *
 * Most chunks are of one kind; that is seen at a glance (is_noise, is_uniform). Otherwise:
 *
 *   windows of 8 KiB -> sample -> cost under each hypothesis -> cheapest sequence (a change has its price) -> stretches
 *   -> each border moved to the byte where the code lengths of its two sides say it is
 */
#include "guess.h"

#include <limits.h>

#include "common.h"
#include "guess_score.h"

enum {
    WINDOW = 8192,
    PIECE = 2048,          /* a sample is a piece from each half of the window */
    MIN_REGION = 2048,     /* what is shorter is BYTES */
    CHANGE_COST = 400 * 8, /* bits: the tables and records of one more run */
    MAX_WINDOWS = (1 << ZIPFS_CHUNK_LOG2_MAX) / WINDOW + 1,
};

/* The bytes in question; offsets are those of the chunk. One byte behind `end` may not be there, so samples end before
 * it. */
struct region {
    const uint8_t *src;
    size_t start, end;
    size_t num_windows;
};

static size_t window_start(const struct region *region, size_t window) {
    return window < region->num_windows ? zipfs_max(region->start, (region->start / WINDOW + window) * WINDOW)
                                        : region->end;
}

/* Counts up to two pieces of the bytes [start, end). */
static void sample_range(const struct region *region, size_t start, size_t end, struct zipfs_sample *sample) {
    memset(sample, 0, sizeof *sample);
    start = (start + 7) / 8 * 8;
    end = (end - 1) / 8 * 8;
    if (end <= start)
        return;
    if (end - start <= 2 * PIECE) {
        zipfs_sample_add(sample, region->src, start, end - start);
        return;
    }
    zipfs_sample_add(sample, region->src, start + ((end - start) / 4 - PIECE / 2 + 7) / 8 * 8, PIECE);
    zipfs_sample_add(sample, region->src, start + ((end - start) / 4 * 3 - PIECE / 2 + 7) / 8 * 8, PIECE);
}

/* What LZ and simplicity are worth is put in favour of BYTES: 1/32, and a quarter where the bytes look like text. */
static void handicap(const struct zipfs_sample *sample, uint32_t cost[ZIPFS_NUM_HYPOTHESES]) {
    cost[0] -= cost[0] / (zipfs_sample_is_text(sample) ? 4 : 32);
}

/* Costs of a window in bits. */
static void window_costs(const struct region *region, size_t window, uint64_t cost_ret[ZIPFS_NUM_HYPOTHESES]) {
    size_t start = window_start(region, window), end = window_start(region, window + 1);
    struct zipfs_sample sample;
    uint32_t per_byte[ZIPFS_NUM_HYPOTHESES] = {0};
    sample_range(region, start, end, &sample);
    if (sample.size)
        zipfs_sample_costs(&sample, per_byte);
    handicap(&sample, per_byte);
    for (unsigned h = 0; h < ZIPFS_NUM_HYPOTHESES; h++)
        cost_ret[h] = (uint64_t)per_byte[h] * (end - start) >> 16;
}

static unsigned cheapest(const uint64_t cost[ZIPFS_NUM_HYPOTHESES]) {
    unsigned best = 0;
    for (unsigned h = 1; h < ZIPFS_NUM_HYPOTHESES; h++)
        if (cost[h] < cost[best])
            best = h;
    return best;
}

/* The cheapest hypothesis for each window, changes paid for (Viterbi's algorithm). came[w][h]: the best predecessor of
 * h. */
static void choose_hypotheses(const struct region *region, uint8_t (*came)[ZIPFS_NUM_HYPOTHESES],
                              uint8_t *hypothesis_ret) {
    uint64_t total[ZIPFS_NUM_HYPOTHESES], cost[ZIPFS_NUM_HYPOTHESES];
    window_costs(region, 0, total);
    for (size_t w = 1; w < region->num_windows; w++) {
        unsigned best = cheapest(total);
        uint64_t changed = total[best] + CHANGE_COST;
        window_costs(region, w, cost);
        for (unsigned h = 0; h < ZIPFS_NUM_HYPOTHESES; h++) {
            came[w][h] = (uint8_t)(changed < total[h] ? best : h);
            total[h] = zipfs_min(changed, total[h]) + cost[h];
        }
    }
    unsigned h = cheapest(total);
    for (size_t w = region->num_windows; w-- > 0; h = w ? came[w][h] : h)
        hypothesis_ret[w] = (uint8_t)h;
}

/* The border of two stretches, known to lie in [from, to): where the bytes before cost least on the left, those behind
 * on the right. */
static size_t find_border(const struct region *region, const struct zipfs_lengths *left,
                          const struct zipfs_lengths *right, size_t from, size_t to) {
    int64_t difference = 0, least = 0;
    size_t border = from;
    for (size_t i = from; i + 1 < to; i++) {
        difference +=
            (int64_t)zipfs_lengths_at(left, region->src, i) - (int64_t)zipfs_lengths_at(right, region->src, i);
        if (difference < least) {
            least = difference;
            border = i + 1;
        }
    }
    return border;
}

/* Refines the border before window w: the windows next to it may hold it, those one further on teach what each side
 * looks like. */
static size_t refine(const struct region *region, const uint8_t *hypothesis, size_t w) {
    struct zipfs_sample sample;
    struct zipfs_lengths left, right;
    size_t before = w >= 2 && hypothesis[w - 2] == hypothesis[w - 1] ? w - 2 : w - 1;
    size_t after = w + 1 < region->num_windows && hypothesis[w + 1] == hypothesis[w] ? w + 1 : w;
    sample_range(region, window_start(region, before), window_start(region, before + 1), &sample);
    zipfs_lengths_learn(&sample, hypothesis[w - 1], &left);
    sample_range(region, window_start(region, after), window_start(region, after + 1), &sample);
    zipfs_lengths_learn(&sample, hypothesis[w], &right);
    return find_border(region, &left, &right, window_start(region, w - 1), window_start(region, w + 1));
}

static void push(struct zipfs_plan *plan, unsigned hypothesis, size_t start, size_t end) {
    const struct zipfs_hypothesis *h = &zipfs_hypotheses[hypothesis];
    size_t width = zipfs_layout_info(h->layout)->width;
    zipfs_plan_push(plan, h->layout, (uint32_t)((h->phase + 8 - start % 8) % width), start, end - start);
}

static void push_all(struct zipfs_codec *codec, const struct region *region, const uint8_t *hypothesis,
                     struct zipfs_plan *plan) {
    size_t start = region->start;
    for (size_t w = 1; w < region->num_windows; w++) {
        if (hypothesis[w] == hypothesis[w - 1])
            continue;
        size_t border = window_start(region, w);
        if (codec->encoder->effort.probes)
            border = zipfs_max(start, refine(region, hypothesis, w));
        push(plan, hypothesis[w - 1], start, border);
        start = border;
    }
    push(plan, hypothesis[region->num_windows - 1], start, region->end);
}

enum {
    GLANCE = 512, /* bytes of a window that a glance takes in */
    GLANCE_MIN_WINDOWS = 4,
    GLANCE_WINDOWS = 16, /* that teach what to expect */
};

static size_t glance_at(const struct region *region, size_t window) {
    size_t start = window_start(region, window), end = window_start(region, window + 1);
    return (start + (end - start) / 2) / 8 * 8 - GLANCE / 2;
}

/* Do the same few bytes come about as often at all places modulo `period` that are equal modulo `step`? Both are powers
 * of two. By pairs of equal ones, of which exponents have many more than mantissas. */
static bool is_flat_modulo(const uint8_t *src, unsigned period, unsigned step) {
    uint16_t count[8][256] = {{0}};
    unsigned pairs[8] = {0};
    for (size_t i = 0; i < GLANCE; i++)
        pairs[i & (period - 1)] += count[i & (period - 1)][src[i]]++;
    for (unsigned first = 0; first < step; first++) {
        unsigned least = UINT_MAX, most = 0;
        for (unsigned r = first; r < period; r += step) {
            least = pairs[r] < least ? pairs[r] : least;
            most = pairs[r] > most ? pairs[r] : most;
        }
        if (most > 3 * least + GLANCE / 16)
            return false;
    }
    return true;
}

/* Is there no sign of wider elements in any window but the first and the last? */
static bool are_bytes(const struct region *region) {
    for (size_t w = 1; w + 1 < region->num_windows; w++)
        for (unsigned period = 2; period <= 8; period *= 2)
            if (!is_flat_modulo(region->src + glance_at(region, w), period, 1))
                return false;
    return true;
}

static size_t taught_at(const struct region *region, size_t i) {
    return glance_at(region, 1 + (region->num_windows - 2) * i / GLANCE_WINDOWS);
}

/* Is there no sign of elements that are wider than `width`? What fits a mixture of F32 and BF16 best may be F16, which
 * both fit about as well. */
static bool are_no_wider(const struct region *region, unsigned width) {
    for (size_t i = 0; i < GLANCE_WINDOWS; i++)
        if (!is_flat_modulo(region->src + taught_at(region, i), 8, width))
            return false;
    return true;
}

/* Is one hypothesis as good in each window (but the last, which may be short) as in samples from all over the region?
 * Of elements, where the code lengths that those teach fit to 1/8. Bytes are looked at for elements, since the code
 * lengths of noise fit floats in it as well. */
static bool is_uniform(const struct region *region, unsigned *hypothesis_ret) {
    size_t num_windows = region->num_windows - 1;
    uint32_t costs[ZIPFS_NUM_HYPOTHESES], spent[MAX_WINDOWS];
    struct zipfs_sample sample = {0};
    struct zipfs_lengths lengths;
    for (size_t i = 0; i < GLANCE_WINDOWS; i++)
        zipfs_sample_add(&sample, region->src, taught_at(region, i), GLANCE);
    zipfs_sample_costs(&sample, costs);
    handicap(&sample, costs);
    unsigned best = 0;
    for (unsigned h = 1; h < ZIPFS_NUM_HYPOTHESES; h++)
        best = costs[h] < costs[best] ? h : best;
    *hypothesis_ret = best;
    if (!best)
        return are_bytes(region);
    if (costs[best] > (8u << 16) / 16 * 15) /* bits of a byte: mostly noise, perhaps with a few elements in it */
        return false;
    if (!are_no_wider(region, zipfs_layout_info(zipfs_hypotheses[best].layout)->width))
        return false;
    zipfs_lengths_learn(&sample, best, &lengths);
    uint64_t total = 0;
    for (size_t w = 1; w < num_windows; w++) {
        size_t at = glance_at(region, w);
        spent[w] = 0;
        for (size_t i = at; i < at + GLANCE; i++)
            spent[w] += zipfs_lengths_at(&lengths, region->src, i);
        total += spent[w];
    }
    uint64_t mean = total / (num_windows - 1), tolerance = mean / 8;
    for (size_t w = 1; w < num_windows; w++)
        if (spent[w] > mean + tolerance || spent[w] + tolerance < mean)
            return false;
    return true;
}

/* Does every bit of the quadwords in all windows change, and is every two neighbours' difference now 0, now 1? Then no
 * layout is worth looking for: exponents have bits that stay, or that change together where a power of two is passed.
 * Of 24 quadwords of noise, one bit in 2^23 stays. */
static bool is_noise(const struct region *region) {
    enum { SIZE = 24 * 8 };
    for (size_t w = 1; w + 1 < region->num_windows; w++) {
        const uint8_t *src = region->src + glance_at(region, w);
        uint64_t all = UINT64_MAX, some = 0, all_differ = UINT64_MAX, some_differ = 0;
        for (size_t i = 0; i < SIZE; i += 8) {
            uint64_t x = zipfs_load64(src + i), differ = x ^ x >> 1;
            all &= x;
            some |= x;
            all_differ &= differ;
            some_differ |= differ;
        }
        if (all | all_differ | ~some | ~some_differ)
            return false;
    }
    return true;
}

void zipfs_guess(struct zipfs_codec *codec, const uint8_t *src, size_t start, size_t end, struct zipfs_plan *plan) {
    uint8_t hypothesis[MAX_WINDOWS], came[MAX_WINDOWS][ZIPFS_NUM_HYPOTHESES];
    if (end - start < MIN_REGION ||
        !memcmp(src + start, src + start + 1, end - start - 1)) { /* short, or all bytes equal */
        zipfs_plan_push(plan, ZIPFS_BYTES, 0, start, end - start);
        return;
    }
    struct region region = {src, start, end, (end - 1) / WINDOW - start / WINDOW + 1};
    if (region.num_windows >= GLANCE_MIN_WINDOWS) {
        unsigned h = 0;
        if (is_noise(&region) || is_uniform(&region, &h)) {
            push(plan, h, start, end);
            return;
        }
    }
    choose_hypotheses(&region, came, hypothesis);
    push_all(codec, &region, hypothesis, plan);
}
