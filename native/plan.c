/* Runs from segments: intersection with the chunk, joining of neighbours, at most 64 runs. */
#include "plan.h"

#include <string.h>

#include "blocks.h"
#include "common.h"
#include "divide.h"
#include "guess.h"

/* Below this size a run's own table and records cost more than a fitting layout saves. */
enum { TINY = 64 };

static uint32_t width_of(uint32_t layout) {
    const struct zipfs_block_format *format = zipfs_block_format(layout);
    return format ? format->width : zipfs_layout_info(layout)->width;
}

/* Do the elements of b continue the grid of those of a? A large piece of few values stays alone, since others that join
 * it, were they a dozen, would bring an escape along that takes a slot of 256 from it: 0.15 % of 16 values. */
static bool same_grid(const struct zipfs_piece *a, const struct zipfs_piece *b) {
    return a->layout == b->layout && !a->is_few && !b->is_few && (a->layout != ZIPFS_BYTES || a->is_gap == b->is_gap) &&
           (a->offset + a->phase) % width_of(a->layout) == (b->offset + b->phase) % width_of(b->layout);
}

static void set_bytes(struct zipfs_piece *piece) {
    piece->layout = ZIPFS_BYTES;
    piece->phase = 0;
}

/* Lets a piece begin `size` bytes earlier, on the same grid. */
static void extend_down(struct zipfs_piece *piece, size_t size) {
    piece->phase = (uint32_t)((piece->phase + size) % width_of(piece->layout));
    piece->offset -= size;
    piece->size += size;
}

static void drop(struct zipfs_plan *plan, size_t i) {
    plan->num_pieces--;
    memmove(&plan->pieces[i], &plan->pieces[i + 1], (plan->num_pieces - i) * sizeof plan->pieces[0]);
}

/* Joins pieces i and i + 1 when they are one grid, or both so small that a common run of bytes is cheaper. */
static bool join(struct zipfs_plan *plan, size_t i, size_t tiny) {
    struct zipfs_piece *a = &plan->pieces[i], *b = a + 1;
    if (!same_grid(a, b)) {
        if (a->size >= tiny || b->size >= tiny)
            return false;
        set_bytes(a);
    }
    a->size += b->size;
    drop(plan, i + 1);
    return true;
}

static void join_all(struct zipfs_plan *plan, size_t tiny) {
    for (size_t i = 0; i + 1 < plan->num_pieces;)
        i += !join(plan, i, tiny);
}

/* Adds what is still smaller than `tiny` to the piece before it, or to the next one. */
static void absorb(struct zipfs_plan *plan, size_t tiny) {
    for (size_t i = 0; i < plan->num_pieces && plan->num_pieces > 1;) {
        size_t size = plan->pieces[i].size;
        if (size >= tiny) {
            i++;
            continue;
        }
        if (i > 0)
            plan->pieces[i - 1].size += size;
        else
            extend_down(&plan->pieces[1], size);
        drop(plan, i);
    }
    join_all(plan, 0);
}

static void reduce(struct zipfs_plan *plan, size_t most) {
    for (size_t tiny = TINY; plan->num_pieces > most; tiny *= 2) {
        join_all(plan, tiny);
        absorb(plan, tiny);
    }
}

void zipfs_plan_push(struct zipfs_plan *plan, uint32_t layout, uint32_t phase, size_t offset, size_t size) {
    if (!size)
        return;
    if (plan->num_pieces == sizeof plan->pieces / sizeof plan->pieces[0])
        reduce(plan, ZIPFS_MAX_RUNS);
    plan->pieces[plan->num_pieces++] =
        (struct zipfs_piece){layout, phase, offset, size, plan->is_in_gap, false, plan->is_few};
    if (plan->num_pieces > 1)
        join(plan, plan->num_pieces - 2, TINY);
}

/* The first segment that ends behind `base`. */
static size_t first_segment(const struct zipfs_segment *segments, size_t num_segments, uint64_t base) {
    size_t low = 0, high = num_segments;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (segments[middle].offset + segments[middle].size <= base)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Is a quarter of some elements from all over a large piece equal to others of them? Zeros, which many tensors have,
 * count for nothing. */
static bool has_few_values(const uint8_t *src, unsigned width, size_t size) {
    enum { MIN = 1 << 15, NUM = 32 };
    static const uint8_t zero[ZIPFS_MAX_WIDTH];
    const uint8_t *seen[NUM];
    size_t step = size / NUM / width * width;
    unsigned num_seen = 0, num = 0;
    for (size_t i = 0; size >= MIN && i < NUM; i++) {
        const uint8_t *element = src + i * step;
        unsigned s = 0;
        if (!memcmp(element, zero, width))
            continue;
        while (s < num_seen && memcmp(element, seen[s], width))
            s++;
        seen[s] = element;
        num_seen += s == num_seen;
        num++;
    }
    return 4 * num_seen <= 3 * num && num > 0;
}

/* Notes that a segment begins here, unless another has just done so. */
static void push_border(struct zipfs_plan *plan, size_t start) {
    size_t num = plan->num_borders;
    bool is_close = num && start < plan->borders[num - 1] + ZIPFS_DIVIDE_MIN;
    if (!is_close && num < sizeof plan->borders / sizeof plan->borders[0])
        plan->borders[plan->num_borders++] = start;
}

static enum zipfs_status push_segment(struct zipfs_codec *codec, struct zipfs_plan *plan, const uint8_t *src,
                                      uint64_t base, const struct zipfs_segment *segment, size_t start, size_t end) {
    if (segment->layout == ZIPFS_GUESS) {
        zipfs_guess(codec, src, start, end, plan);
        return ZIPFS_OK;
    }
    const struct zipfs_layout_info *info = zipfs_layout_info(segment->layout);
    if (info ? info->is_joint : !zipfs_block_format(segment->layout))
        return ZIPFS_BAD_ARGUMENT;
    uint64_t width = width_of(segment->layout), done = base + start - segment->offset;
    size_t phase = (width - done % width) % width, size = end - start;
    push_border(plan, start);
    plan->is_few = info && width > 1 && size > phase &&
                   has_few_values(src + start + phase, (unsigned)width, size - phase);
    zipfs_plan_push(plan, segment->layout, (uint32_t)phase, start, size);
    plan->is_few = false;
    return ZIPFS_OK;
}

static void push_gap(struct zipfs_codec *codec, const uint8_t *src, size_t start, size_t end, struct zipfs_plan *plan) {
    plan->is_in_gap = true;
    zipfs_guess(codec, src, start, end, plan);
    plan->is_in_gap = false;
}

enum zipfs_status zipfs_plan_chunk(struct zipfs_codec *codec, const uint8_t *src, size_t src_size, uint64_t base,
                                   const struct zipfs_segment *segments, size_t num_segments, struct zipfs_plan *plan) {
    plan->num_pieces = plan->num_borders = 0;
    plan->is_in_gap = plan->is_few = false;
    size_t done = 0; /* planned so far */
    for (size_t i = first_segment(segments, num_segments, base); i < num_segments; i++) {
        const struct zipfs_segment *segment = &segments[i];
        uint64_t end = segment->offset + segment->size;
        if (segment->offset >= base + src_size)
            break;
        size_t start = segment->offset > base ? (size_t)(segment->offset - base) : 0;
        size_t stop = end < base + src_size ? (size_t)(end - base) : src_size;
        if (end < segment->offset || start < done || stop < start)
            return ZIPFS_BAD_ARGUMENT;
        if (start > done)
            push_gap(codec, src, done, start, plan);
        enum zipfs_status status = push_segment(codec, plan, src, base, segment, start, stop);
        if (status)
            return status;
        done = stop;
    }
    if (done < src_size)
        push_gap(codec, src, done, src_size, plan);
    join_all(plan, TINY);
    absorb(plan, TINY);
    reduce(plan, ZIPFS_MAX_RUNS);
    for (size_t i = 0; i < plan->num_pieces; i++)
        if (plan->pieces[i].size < plan->pieces[i].phase + width_of(plan->pieces[i].layout))
            set_bytes(&plan->pieces[i]);
    return ZIPFS_OK;
}
