#include "stream.h"

#include <stddef.h>

#include "container.h"
#include "file.h"
#include "reader.h"

enum {
    SOURCE_FIRST = 3 << 20, /* more than the kernel reads around a single page that is touched */
    SOURCE_MOST = 16 << 20,
    SOURCE_STEP = 1 << 20,
    DROP_STEP = 16 << 20,
    DROP_DISTANCE = 8 << 20, /* what threads of one reader may still be at */
};

/* Half-open, plain bytes; empty where start is end. */
struct range {
    uint64_t start, end;
};

/* Where the payloads of the chunks in a plain range lie in the container. Empty where the index cannot be read. */
static struct range stored_range(struct zipfs_file *file, struct range plain) {
    struct range stored = {0, 0};
    struct zipfs_entry entry;
    uint64_t first = plain.start >> file->header->chunk_log2, last = (plain.end - 1) >> file->header->chunk_log2;
    if (zipfs_reader_entry(file->reader, first, &stored.start, &entry) != ZIPFS_OK
        || zipfs_reader_entry(file->reader, last, &stored.end, &entry) != ZIPFS_OK)
        return (struct range){0, 0};
    stored.end += entry.stored_size;
    return stored;
}

/* ---- the source, ahead of readers ---- */

static bool wants_source(const struct zipfs_cursor *cursor) {
    return cursor->source_next < cursor->source_end;
}

/* Decides how far the source is to be read ahead. A step is worth a quarter of the window, so that requests are few.
 * Lock held. Returns whether there is something to do. */
static bool plan_source(struct zipfs_file *file, struct zipfs_cursor *cursor) {
    uint64_t window = zipfs_cursor_window(cursor, SOURCE_FIRST, SOURCE_MOST);
    uint64_t end = cursor->next + window < file->size ? cursor->next + window : file->size;
    if (window == 0 || !zipfs_source_is_cold(&file->source))
        return false;
    if (cursor->source_next < cursor->next)
        cursor->source_next = cursor->next;
    if (end > cursor->source_end && (end - cursor->source_end >= window / 4 || end == file->size))
        cursor->source_end = end;
    return wants_source(cursor);
}

/* Takes the next step of the stream that was read last: whole chunks. Empty: there is nothing to do. Lock held. */
static struct range take_source(struct zipfs_file *file) {
    uint64_t chunk_size = (uint64_t)1 << file->header->chunk_log2;
    struct zipfs_cursor *cursor = zipfs_cursors_find(&file->stream.cursors, wants_source);
    if (!cursor)
        return (struct range){0, 0};
    uint64_t start = cursor->source_next > cursor->next ? cursor->source_next : cursor->next; /* readers may be faster */
    start = (start + chunk_size - 1) & ~(chunk_size - 1); /* they are at the chunk before */
    cursor->source_next = start + (chunk_size > SOURCE_STEP ? chunk_size : SOURCE_STEP);
    return (struct range){start, cursor->source_next < file->size ? cursor->source_next : file->size};
}

static bool read_ahead(struct zipfs_task *task) {
    struct zipfs_stream *stream = (struct zipfs_stream *)((char *)task - offsetof(struct zipfs_stream, source_task));
    struct zipfs_file *file = (struct zipfs_file *)((char *)stream - offsetof(struct zipfs_file, stream));
    struct range stored = {0, 0};
    zipfs_reading_begin(); /* not for the read, which may take long and holds nothing */
    pthread_mutex_lock(&stream->lock);
    struct range step = take_source(file);
    pthread_mutex_unlock(&stream->lock);
    if (step.start < step.end)
        stored = stored_range(file, step);
    zipfs_reading_end();
    if (stored.start < stored.end)
        zipfs_source_fetch(&file->source, stored.start, stored.end - stored.start);
    ZIPFS_COUNT(file->counters->source_ahead_bytes, stored.end - stored.start);
    return step.start < step.end;
}

void zipfs_stream_init(struct zipfs_stream *stream) {
    pthread_mutex_init(&stream->lock, NULL);
    stream->source_task.step = read_ahead;
}

void zipfs_stream_end(struct zipfs_file *file) {
    zipfs_workers_cancel(zipfs_pool_source_workers(file->pool), &file->stream.source_task);
    pthread_mutex_destroy(&file->stream.lock);
}

/* ---- the source, behind readers ---- */

/* What can be dropped: the chunks that lie well behind the reader and in front of no other, in large steps. Lock held. */
static struct range plan_drop(struct zipfs_file *file, struct zipfs_cursor *cursor) {
    struct range none = {0, 0};
    bool at_end = cursor->next == file->size;
    uint64_t distance = cursor->next < DROP_DISTANCE ? cursor->next : DROP_DISTANCE;
    uint64_t end = at_end ? file->size : (cursor->next - distance) >> file->header->chunk_log2 << file->header->chunk_log2;
    uint64_t start = cursor->drop_next;
    if (zipfs_cursor_window(cursor, DROP_STEP, 1) == 0 || end <= start || (end - start < DROP_STEP && !at_end))
        return none;
    if (zipfs_cursors_has_other(&file->stream.cursors, cursor, start, end))
        return none;
    cursor->drop_next = end;
    return (struct range){start, end};
}

/* ---- reads ---- */

void zipfs_stream_note(struct zipfs_file *file, uint64_t offset, size_t size) {
    struct range drop = {0, 0};
    pthread_mutex_lock(&file->stream.lock);
    struct zipfs_cursor *cursor = zipfs_cursors_note(&file->stream.cursors, offset, size);
    bool reads_ahead = plan_source(file, cursor);
    if (file->drops_source)
        drop = plan_drop(file, cursor);
    pthread_mutex_unlock(&file->stream.lock);
    if (reads_ahead)
        zipfs_workers_post(zipfs_pool_source_workers(file->pool), &file->stream.source_task);
    if (drop.start < drop.end) {
        drop = stored_range(file, drop);
        zipfs_source_drop(&file->source, drop.start, drop.end - drop.start);
        ZIPFS_COUNT(file->counters->source_dropped_bytes, drop.end - drop.start);
    }
}
