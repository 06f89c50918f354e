/*
 * A tensor, or a part of one, has its own scale, and so its own distribution of exponents. Where neighbours in a piece
 * differ enough, each gets a run of its own: 0.3 % of a chunk of weights is won where two tensors meet. The same goes
 * for bytes of few values, which may be the scales of several tensors: 10 % of a chunk of E8M0.
 */
#include "divide.h"

#include <string.h>

#include "common.h"

enum {
    WINDOW = ZIPFS_DIVIDE_WINDOW,
    SAMPLE = 512, /* elements in the middle of a window that are counted; the last window may lack a few bytes at its
                   * end */
    MAX_WINDOWS = (1 << ZIPFS_CHUNK_LOG2_MAX) / WINDOW,
    FEW = 16, /* values of bytes; text and other bytes that repeat had better stay together */
    RUN_COST = 768, /* bytes: run and plane records and a table with its states, and doubts about the sample */
};

/* The field that tells scales apart: the lowest 8 exponent bits. */
static unsigned exponent_field(uint32_t layout) {
    return layout == ZIPFS_F64;
}

/* Fills encoder->counts: row w holds the exponents in the windows before window w. */
static void count_windows(struct zipfs_codec *codec, const struct zipfs_piece *piece, const uint8_t *src,
                          size_t num_windows) {
    const struct zipfs_layout_info *info = zipfs_layout_info(piece->layout);
    uint8_t *planes[ZIPFS_MAX_FIELDS];
    for (unsigned f = 0; f < info->num_fields; f++)
        planes[f] = codec->encoder->fields + f * SAMPLE;
    uint32_t(*counts)[256] = codec->encoder->counts;
    memset(counts[0], 0, sizeof counts[0]);
    for (size_t w = 0; w < num_windows; w++) {
        const uint8_t *window =
            src + piece->phase + w * WINDOW + (WINDOW - SAMPLE * info->width) / 2 / info->width * info->width;
        uint32_t *count = counts[w + 1];
        const uint8_t *values = window;
        if (piece->layout != ZIPFS_BYTES) {
            codec->kernels->split[piece->layout](window, planes, SAMPLE);
            values = planes[exponent_field(piece->layout)];
        }
        zipfs_add_histogram(values, SAMPLE, memcpy(count, counts[w], sizeof counts[w]));
    }
}

/* What cuts are found by. */
struct windows {
    uint32_t (*counts)[256];
    unsigned width;
    unsigned num_seen; /* values that occur at all: costs are asked for often, and most of 256 do not */
    uint8_t seen[256];
};

/* Bytes that the exponents of windows [first, last) take with a table of their own. */
static uint64_t cost(const struct windows *windows, size_t first, size_t last) {
    uint32_t count[256];
    for (unsigned i = 0; i < windows->num_seen; i++) {
        unsigned v = windows->seen[i];
        count[i] = windows->counts[last][v] - windows->counts[first][v];
    }
    return zipfs_entropy_of(count, windows->num_seen, SAMPLE * (last - first)) * (WINDOW / windows->width) / SAMPLE;
}

/* Marks the best cuts in windows [first, last): cut[w] means one before window w. */
static void find_cuts(const struct windows *windows, size_t first, size_t last, bool *cut) {
    uint64_t whole = cost(windows, first, last), least = whole;
    size_t best = 0;
    for (size_t w = first + 1; w < last; w++) {
        uint64_t divided = cost(windows, first, w) + cost(windows, w, last) + RUN_COST;
        if (divided < least) {
            least = divided;
            best = w;
        }
    }
    if (!best)
        return;
    cut[best] = true;
    find_cuts(windows, first, best, cut);
    find_cuts(windows, best, last, cut);
}

/* Adds bytes [start, end) of a piece to a plan. */
static void append(struct zipfs_plan *plan, const struct zipfs_piece *piece, size_t start, size_t end) {
    struct zipfs_piece *part = &plan->pieces[plan->num_pieces++];
    *part = *piece;
    part->phase = start ? 0 : piece->phase;
    part->offset += start;
    part->size = end - start;
}

static void divide_piece(struct zipfs_codec *codec, const uint8_t *src, const struct zipfs_piece *piece,
                         struct zipfs_plan *plan) {
    const struct zipfs_layout_info *info = zipfs_layout_info(piece->layout);
    size_t num_windows = piece->size / WINDOW, start = 0;
    bool cut[MAX_WINDOWS + 1] = {false};
    bool is_known = info && (info->exponent_bits || piece->layout == ZIPFS_BYTES);
    if (num_windows >= 2 && !piece->is_noise && is_known) {
        count_windows(codec, piece, src + piece->offset, num_windows);
        struct windows windows = {.counts = codec->encoder->counts, .width = info->width};
        for (unsigned v = 0; v < 256; v++) {
            windows.seen[windows.num_seen] = (uint8_t)v;
            windows.num_seen += windows.counts[num_windows][v] > 0;
        }
        if (info->exponent_bits || (windows.num_seen > 1 && windows.num_seen <= FEW))
            find_cuts(&windows, 0, num_windows, cut);
    }
    for (size_t w = 1; w < num_windows; w++) {
        if (!cut[w])
            continue;
        size_t end = piece->phase + w * WINDOW;
        append(plan, piece, start, end);
        start = end;
    }
    append(plan, piece, start, piece->size);
}

void zipfs_plan_divide(struct zipfs_codec *codec, const uint8_t *src, struct zipfs_plan *plan) {
    struct zipfs_plan divided;
    divided.num_pieces = 0;
    /* A piece gives one more for each window at most, and all windows of the pieces fit into a chunk. */
    _Static_assert(ZIPFS_MAX_RUNS + MAX_WINDOWS <= sizeof divided.pieces / sizeof divided.pieces[0], "overflow");
    for (size_t i = 0; i < plan->num_pieces; i++)
        divide_piece(codec, src, &plan->pieces[i], &divided);
    if (divided.num_pieces <= ZIPFS_MAX_RUNS)
        *plan = divided;
}
