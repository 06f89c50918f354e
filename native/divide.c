/*
 * A tensor, or a part of one, has its own scale, and so its own distribution of exponents. Where neighbours in a piece
 * differ enough, each gets a run of its own: 0.3 % of a chunk of weights is won where two tensors meet. The same goes
 * for bytes of few values, which may be the scales of several tensors: 10 % of a chunk of E8M0.
 * Where a tensor is known to begin, a cut lies just there, so that tensors take the same room wherever they lie.
 */
#include "divide.h"

#include <string.h>

#include "common.h"

enum {
    WINDOW = 1 << 15, /* bytes between the places that may be cut inside of a tensor */
    MIN = ZIPFS_DIVIDE_MIN,
    STEP = 64, /* plain bytes for each element of a window that is counted */
    SAMPLE = WINDOW / STEP,
    MAX_WINDOWS = (1 << ZIPFS_CHUNK_LOG2_MAX) / MIN,
    FEW = 16, /* values of bytes; text and other bytes that repeat had better stay together */
    RUN_COST = 768, /* bytes: run and plane records and a table with its states, and doubts about the sample */
};

/* The windows of a piece: edges[w] is where window w begins, in bytes from the first element; edges[num] is the piece's
 * size, so that the last one may lack a few bytes at its end, which are not counted. */
struct windows {
    size_t num, edges[MAX_WINDOWS + 1];
};

/* The first border of segments, from the piece's first element, that is `least` bytes or more behind it. */
static size_t next_border(const struct zipfs_plan *plan, const struct zipfs_piece *piece, unsigned width,
                          size_t least) {
    size_t first = piece->offset + piece->phase;
    for (size_t i = 0; i < plan->num_borders; i++)
        if (plan->borders[i] >= first + least)
            return (plan->borders[i] - first) / width * width;
    return SIZE_MAX;
}

/* Windows begin where tensors do, and else every WINDOW bytes; none is smaller than MIN. */
static void set_windows(const struct zipfs_plan *plan, const struct zipfs_piece *piece, unsigned width,
                        struct windows *windows) {
    size_t end = piece->size, at = 0;
    for (windows->num = 0;;) {
        windows->edges[windows->num++] = at;
        size_t border = next_border(plan, piece, width, at + MIN);
        if (border < at + WINDOW + WINDOW / 2 && border + MIN <= end)
            at = border;
        else if (at + 2 * WINDOW <= end)
            at += WINDOW;
        else
            break;
    }
    windows->edges[windows->num] = end;
}

/* The field that tells scales apart: the lowest 8 exponent bits. */
static unsigned exponent_field(uint32_t layout) {
    return layout == ZIPFS_F64;
}

/* Fills encoder->counts: row w holds the exponents in the windows before window w. Those in the middle of a window are
 * counted, as many as its size demands. */
static void count_windows(struct zipfs_codec *codec, const struct zipfs_piece *piece, const uint8_t *src,
                          const struct windows *windows) {
    const struct zipfs_layout_info *info = zipfs_layout_info(piece->layout);
    uint8_t *planes[ZIPFS_MAX_FIELDS];
    for (unsigned f = 0; f < info->num_fields; f++)
        planes[f] = codec->encoder->fields + f * SAMPLE;
    uint32_t(*counts)[256] = codec->encoder->counts;
    memset(counts[0], 0, sizeof counts[0]);
    for (size_t w = 0; w < windows->num; w++) {
        size_t size = windows->edges[w + 1] - windows->edges[w];
        if (size > WINDOW)
            size = WINDOW;
        size_t n = size / STEP;
        size_t before = (size - n * info->width) / 2 / info->width * info->width;
        const uint8_t *window = src + piece->phase + windows->edges[w] + before;
        const uint8_t *values = window;
        if (piece->layout != ZIPFS_BYTES) {
            codec->kernels->split[piece->layout](window, planes, n);
            values = planes[exponent_field(piece->layout)];
        }
        zipfs_add_histogram(values, n, memcpy(counts[w + 1], counts[w], sizeof counts[w]));
    }
}

/* What cuts are found by. */
struct counted {
    uint32_t (*counts)[256];
    unsigned width;
    unsigned num_seen; /* values that occur at all: costs are asked for often, and most of 256 do not */
    uint8_t seen[256];
};

static struct counted look_at_counts(uint32_t (*counts)[256], unsigned width, size_t num_windows) {
    struct counted counted = {.counts = counts, .width = width};
    for (unsigned v = 0; v < 256; v++) {
        counted.seen[counted.num_seen] = (uint8_t)v;
        counted.num_seen += counts[num_windows][v] > 0;
    }
    return counted;
}

/* Bytes that the exponents of windows [first, last) take with a table of their own. */
static uint64_t cost(const struct counted *counted, size_t first, size_t last) {
    uint32_t count[256];
    size_t n = 0;
    for (unsigned i = 0; i < counted->num_seen; i++) {
        unsigned v = counted->seen[i];
        n += count[i] = counted->counts[last][v] - counted->counts[first][v];
    }
    return zipfs_entropy_of(count, counted->num_seen, n) * STEP / counted->width;
}

/* Marks the best cuts in windows [first, last): cut[w] means one before window w. */
static void find_cuts(const struct counted *counted, size_t first, size_t last, bool *cut) {
    uint64_t whole = cost(counted, first, last), least = whole;
    size_t best = 0;
    for (size_t w = first + 1; w < last; w++) {
        uint64_t divided = cost(counted, first, w) + cost(counted, w, last) + RUN_COST;
        if (divided < least) {
            least = divided;
            best = w;
        }
    }
    if (!best)
        return;
    cut[best] = true;
    find_cuts(counted, first, best, cut);
    find_cuts(counted, best, last, cut);
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
                         const struct zipfs_plan *plan, struct zipfs_plan *divided) {
    const struct zipfs_layout_info *info = zipfs_layout_info(piece->layout);
    struct windows windows = {.num = 0};
    size_t start = 0;
    bool cut[MAX_WINDOWS + 1] = {false};
    bool is_known = info && (info->exponent_bits || piece->layout == ZIPFS_BYTES);
    if (piece->size >= 2 * MIN && !piece->is_noise && is_known)
        set_windows(plan, piece, info->width, &windows);
    if (windows.num >= 2) {
        count_windows(codec, piece, src + piece->offset, &windows);
        struct counted counted = look_at_counts(codec->encoder->counts, info->width, windows.num);
        if (info->exponent_bits || (counted.num_seen > 1 && counted.num_seen <= FEW))
            find_cuts(&counted, 0, windows.num, cut);
    }
    for (size_t w = 1; w < windows.num && divided->num_pieces < ZIPFS_MAX_RUNS; w++) {
        if (!cut[w])
            continue;
        size_t end = piece->phase + windows.edges[w];
        append(divided, piece, start, end);
        start = end;
    }
    append(divided, piece, start, piece->size);
}

void zipfs_plan_divide(struct zipfs_codec *codec, const uint8_t *src, struct zipfs_plan *plan) {
    struct zipfs_plan divided;
    divided.num_pieces = divided.num_borders = 0;
    for (size_t i = 0; i < plan->num_pieces; i++) {
        if (divided.num_pieces + (plan->num_pieces - i) > ZIPFS_MAX_RUNS)
            return; /* too many, so the pieces stay as they are */
        divide_piece(codec, src, &plan->pieces[i], plan, &divided);
    }
    if (divided.num_pieces <= ZIPFS_MAX_RUNS)
        *plan = divided;
}
