#include "cursors.h"

/* How far from a stream's end a read may be to belong to it, in reads of its size: as many as threads may have
 * overtaken one another, within bounds. */
enum { REACH_READS = 8, REACH_MIN = 64 << 10, REACH_MAX = 8 << 20 };

/* How much of a stream shows that it is one. */
enum { STREAM_MIN = 1 << 20 };

/* A stream that was not read for so many reads of its file has ended. */
enum { ENDED_READS = 256 };

static uint64_t reach_of(size_t size) {
    uint64_t reach = size < REACH_MAX ? (uint64_t)size * REACH_READS : REACH_MAX;
    return reach < REACH_MIN ? REACH_MIN : reach > REACH_MAX ? REACH_MAX : reach;
}

static uint64_t distance(uint64_t one, uint64_t other) {
    return one > other ? one - other : other - one;
}

/* The stream whose end is nearest to offset, within reach; NULL when there is none. */
static struct zipfs_cursor *nearest(struct zipfs_cursors *cursors, uint64_t offset, uint64_t reach) {
    struct zipfs_cursor *best = NULL;
    for (int i = 0; i < ZIPFS_MAX_CURSORS; i++) {
        struct zipfs_cursor *cursor = &cursors->list[i];
        if (cursor->last_used == 0 || distance(cursor->next, offset) > reach)
            continue;
        if (!best || distance(cursor->next, offset) < distance(best->next, offset))
            best = cursor;
    }
    return best;
}

/* What would be lost with a stream; nothing if it seems to have ended. */
static uint64_t value_of(const struct zipfs_cursors *cursors, const struct zipfs_cursor *cursor) {
    return cursors->num_reads - cursor->last_used < ENDED_READS ? cursor->covered : 0;
}

/* Whether it is one, and goes on, beyond a chance. */
static bool is_stream(const struct zipfs_cursors *cursors, const struct zipfs_cursor *cursor) {
    return value_of(cursors, cursor) >= STREAM_MIN;
}

static struct zipfs_cursor *least_valuable(struct zipfs_cursors *cursors) {
    struct zipfs_cursor *least = &cursors->list[0];
    for (int i = 1; i < ZIPFS_MAX_CURSORS; i++) {
        struct zipfs_cursor *cursor = &cursors->list[i];
        uint64_t value = value_of(cursors, cursor), least_value = value_of(cursors, least);
        if (value < least_value || (value == least_value && cursor->last_used < least->last_used))
            least = cursor;
    }
    return least;
}

struct zipfs_cursor *zipfs_cursors_note(struct zipfs_cursors *cursors, uint64_t offset, size_t size) {
    uint64_t end = offset + size;
    struct zipfs_cursor *cursor = nearest(cursors, offset, reach_of(size));
    if (!cursor) {
        cursor = least_valuable(cursors);
        *cursor = (struct zipfs_cursor){
            .start = offset, .next = offset, .source_next = offset, .decode_next = offset, .drop_next = offset};
    }
    bool is_covered = cursor->covered > 0 && cursor->covered == cursor->next - cursor->start;
    if (is_covered && offset >= cursor->start && end <= cursor->next) /* not what was overtaken: it was read before */
        cursor->shared_next = cursor->next;
    cursor->start = offset < cursor->start ? offset : cursor->start;
    cursor->next = end > cursor->next ? end : cursor->next;
    uint64_t covered = cursor->covered + size, span = cursor->next - cursor->start;
    cursor->covered = covered < span ? covered : span;
    cursor->last_used = ++cursors->num_reads;
    return cursor;
}

uint64_t zipfs_cursor_window(const struct zipfs_cursor *cursor, uint64_t first, uint64_t most) {
    uint64_t span = cursor->next - cursor->start;
    bool is_sequential = cursor->covered >= span - span / 4;
    if (!is_sequential || cursor->covered <= first)
        return 0;
    return cursor->covered < most ? cursor->covered : most;
}

bool zipfs_cursors_is_shared(const struct zipfs_cursors *cursors, const struct zipfs_cursor *cursor,
                             uint64_t distance) {
    if (cursor->shared_next > 0 && cursor->next - cursor->shared_next < distance)
        return true;
    for (int i = 0; i < ZIPFS_MAX_CURSORS; i++) {
        const struct zipfs_cursor *other = &cursors->list[i];
        if (other == cursor || other->covered < STREAM_MIN) /* one that rests counts: it may follow from afar */
            continue;
        if (other->next < cursor->next + REACH_MAX && cursor->next < other->next + distance)
            return true;
    }
    return false;
}

struct zipfs_cursor *zipfs_cursors_find(struct zipfs_cursors *cursors, bool (*wants)(const struct zipfs_cursor *)) {
    struct zipfs_cursor *last = NULL;
    for (int i = 0; i < ZIPFS_MAX_CURSORS; i++) {
        struct zipfs_cursor *cursor = &cursors->list[i];
        if (cursor->last_used > 0 && wants(cursor) && (!last || cursor->last_used > last->last_used))
            last = cursor;
    }
    return last;
}

bool zipfs_cursors_has_other(const struct zipfs_cursors *cursors, const struct zipfs_cursor *cursor, uint64_t start,
                             uint64_t end) {
    for (int i = 0; i < ZIPFS_MAX_CURSORS; i++) {
        const struct zipfs_cursor *other = &cursors->list[i];
        if (other != cursor && is_stream(cursors, other) && start <= other->next && other->next < end)
            return true;
    }
    return false;
}
