#include "stream.h"

#include <stddef.h>

#include "common.h"
#include "container.h"
#include "fetch.h"
#include "reader.h"

enum {
    SOURCE_FIRST = 3 << 20, /* more than the kernel reads around a single page that is touched */
    SOURCE_MOST = 16 << 20,
    SOURCE_STEP = 1 << 20,
    DECODE_MOST = 1 << 20,  /* but two chunks or more: further ahead they leave the processor's caches before use */
    LIKELY_SHARE = 20,      /* beyond a tensor's end, at most this part of what was read */
    AROUND_MAX = 512 << 10, /* 128 KiB are its window, and two threads at one mapping have come to 380 KiB */
    DROP_STEP = 16 << 20,
    DROP_DISTANCE = 8 << 20, /* what threads of one reader may still be at */
    ALONE_MAX = 16 << 20,    /* what is kept for the only reader: others may be about to begin */
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
    /* Readers may be faster. */
    uint64_t start = cursor->source_next > cursor->next ? cursor->source_next : cursor->next;
    start = (start + chunk_size - 1) & ~(chunk_size - 1); /* they are at the chunk before */
    cursor->source_next = start + (chunk_size > SOURCE_STEP ? chunk_size : SOURCE_STEP);
    return (struct range){start, cursor->source_next < file->size ? cursor->source_next : file->size};
}

static bool read_ahead(struct zipfs_task *task) {
    struct zipfs_file *file = (struct zipfs_file *)((char *)task - offsetof(struct zipfs_file, stream.source_task));
    struct zipfs_stream *stream = &file->stream;
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

/* ---- chunks, ahead of readers ---- */

static bool wants_chunks(const struct zipfs_cursor *cursor) {
    return cursor->decode_next < cursor->decode_end;
}

/* The first chunk border at or after an offset. */
static uint64_t next_border(const struct zipfs_file *file, uint64_t offset) {
    uint64_t chunk_size = (uint64_t)1 << file->header->chunk_log2;
    return (offset + chunk_size - 1) & ~(chunk_size - 1);
}

/* How far it is likely that the stream goes on: to the end of the tensor that is being read, or a little of what it has
 * read already, so that little is decoded for nothing. The kernel reads a little around what it is asked for, which is
 * no sign that a second tensor is wanted. */
static uint64_t likely_end(const struct zipfs_file *file, const struct zipfs_cursor *cursor) {
    const struct zipfs_tensors *tensors = file->stream.tensors;
    uint64_t first_end = zipfs_tensors_end(tensors, cursor->start + AROUND_MAX, file->size);
    if (cursor->next <= first_end + AROUND_MAX)
        return first_end;
    uint64_t tensor_end = zipfs_tensors_end(tensors, cursor->next - 1, file->size);
    uint64_t little_end = cursor->next + cursor->covered / LIKELY_SHARE;
    uint64_t end = tensor_end > little_end ? tensor_end : little_end;
    return end < file->size ? end : file->size;
}

/* Decides how far chunks are to be decoded ahead of a reader whose requests are of `size`. Only where they are parts of
 * chunks, which go through the cache anyway, and where one comes after the other: readers that have several under way
 * keep the threads busy themselves. Lock held. Returns whether there is something to do. */
static bool plan_decoding(struct zipfs_file *file, struct zipfs_cursor *cursor, size_t size) {
    uint64_t chunk_size = (uint64_t)1 << file->header->chunk_log2;
    uint64_t most = 2 * chunk_size > DECODE_MOST ? 2 * chunk_size : DECODE_MOST;
    if (!file->decodes_ahead || file->stream.num_inside > 1 || size >= chunk_size)
        return false;
    uint64_t window = zipfs_cursor_window(cursor, chunk_size, most);
    if (window == 0)
        return false;
    if (!file->stream.knows_tensors)
        return true;
    uint64_t end = cursor->next + window, likely = likely_end(file, cursor), border = next_border(file, cursor->next);
    cursor->decode_end = end < likely ? end : likely;
    if (cursor->decode_next < border)
        cursor->decode_next = border;
    return wants_chunks(cursor);
}

/* The border of the next chunk to decode for the stream that was read last; the file's size: none. Lock held. */
static uint64_t take_chunk(struct zipfs_file *file) {
    struct zipfs_cursor *cursor = zipfs_cursors_find(&file->stream.cursors, wants_chunks);
    if (!cursor || !zipfs_pool_is_free(file->pool))
        return file->size;
    uint64_t border = next_border(file, cursor->next), start = cursor->decode_next;
    start = start > border ? start : border; /* readers may be faster */
    if (start >= cursor->decode_end)
        return file->size;
    cursor->decode_next = start + ((uint64_t)1 << file->header->chunk_log2);
    return start;
}

/* There was no room for a chunk: the stream's next read brings it up again. */
static void put_chunk_back(struct zipfs_file *file, uint64_t start) {
    uint64_t end = start + ((uint64_t)1 << file->header->chunk_log2);
    pthread_mutex_lock(&file->stream.lock);
    for (int i = 0; i < ZIPFS_MAX_CURSORS; i++)
        if (file->stream.cursors.list[i].decode_next == end)
            file->stream.cursors.list[i].decode_next = start;
    pthread_mutex_unlock(&file->stream.lock);
}

static void learn_tensors(struct zipfs_file *file) {
    struct zipfs_tensors *tensors = zipfs_tensors_read(file->fd, file->header);
    pthread_mutex_lock(&file->stream.lock);
    file->stream.tensors = tensors;
    file->stream.knows_tensors = true;
    pthread_mutex_unlock(&file->stream.lock);
}

static bool decode_next(struct zipfs_file *file) {
    pthread_mutex_lock(&file->stream.lock);
    bool knows_tensors = file->stream.knows_tensors;
    uint64_t start = take_chunk(file);
    pthread_mutex_unlock(&file->stream.lock);
    if (!knows_tensors)
        learn_tensors(file);
    if (start >= file->size)
        return false;
    if (zipfs_fetch_ahead(file, start >> file->header->chunk_log2))
        return true;
    put_chunk_back(file, start);
    return false;
}

static bool decode_ahead(struct zipfs_task *task) {
    struct zipfs_file *file = (struct zipfs_file *)((char *)task - offsetof(struct zipfs_file, stream.decode_task));
    zipfs_reading_begin();
    bool has_more = decode_next(file);
    zipfs_reading_end();
    return has_more;
}

void zipfs_stream_init(struct zipfs_stream *stream) {
    pthread_mutex_init(&stream->lock, NULL);
    stream->source_task.step = read_ahead;
    stream->decode_task.step = decode_ahead;
}

void zipfs_stream_end(struct zipfs_file *file) {
    zipfs_workers_cancel(zipfs_pool_source_workers(file->pool), &file->stream.source_task);
    zipfs_workers_cancel(zipfs_pool_workers(file->pool), &file->stream.decode_task);
    zipfs_tensors_free(file->stream.tensors);
    pthread_mutex_destroy(&file->stream.lock);
}

/* ---- the source, behind readers ---- */

/* What can be dropped: chunks that lie well behind the reader and in front of no other, in large steps. Lock held. */
static struct range plan_drop(struct zipfs_file *file, struct zipfs_cursor *cursor) {
    struct range none = {0, 0};
    bool at_end = cursor->next == file->size;
    uint64_t distance = cursor->next < DROP_DISTANCE ? cursor->next : DROP_DISTANCE;
    uint64_t chunk_size = (uint64_t)1 << file->header->chunk_log2;
    uint64_t end = at_end ? file->size : (cursor->next - distance) & ~(chunk_size - 1);
    uint64_t start = cursor->drop_next;
    if (zipfs_cursor_window(cursor, DROP_STEP, 1) == 0 || end <= start || (end - start < DROP_STEP && !at_end))
        return none;
    if (zipfs_cursors_has_other(&file->stream.cursors, cursor, start, end))
        return none;
    cursor->drop_next = end;
    return (struct range){start, end};
}

/* ---- reads ---- */

/* Whether what a stream reads now is likely to be read again while the cache has it: readers follow, or have the
 * file open, or are about to, as processes that load a model do not begin at one instant. Lock held. */
static bool is_shared(const struct zipfs_file *file, const struct zipfs_cursor *cursor) {
    size_t budget = zipfs_cache_options(file->cache)->budget;
    uint64_t distance = budget - budget / 4; /* the rest is for other files, and for what is being decoded */
    unsigned num_openers = atomic_load_explicit(&file->num_openers, memory_order_relaxed);
    uint64_t kept_end = num_openers > 1 ? distance : num_openers == 1 ? zipfs_min(distance, ALONE_MAX) : 0;
    if (!file->keeps_shared)
        return false;
    return cursor->next <= kept_end || zipfs_cursors_is_shared(&file->stream.cursors, cursor, distance);
}

bool zipfs_stream_begin(struct zipfs_file *file, uint64_t offset, size_t size) {
    struct range drop = {0, 0};
    pthread_mutex_lock(&file->stream.lock);
    file->stream.num_inside++;
    struct zipfs_cursor *cursor = zipfs_cursors_note(&file->stream.cursors, offset, size);
    bool reads_ahead = plan_source(file, cursor), decodes_ahead = plan_decoding(file, cursor, size);
    bool keeps = is_shared(file, cursor);
    if (file->drops_source)
        drop = plan_drop(file, cursor);
    pthread_mutex_unlock(&file->stream.lock);
    if (reads_ahead)
        zipfs_workers_post(zipfs_pool_source_workers(file->pool), &file->stream.source_task);
    if (decodes_ahead)
        zipfs_workers_post(zipfs_pool_workers(file->pool), &file->stream.decode_task);
    if (drop.start < drop.end) {
        drop = stored_range(file, drop);
        zipfs_source_drop(&file->source, drop.start, drop.end - drop.start);
        ZIPFS_COUNT(file->counters->source_dropped_bytes, drop.end - drop.start);
    }
    return keeps;
}

void zipfs_stream_finish(struct zipfs_file *file) {
    pthread_mutex_lock(&file->stream.lock);
    file->stream.num_inside--;
    pthread_mutex_unlock(&file->stream.lock);
}
