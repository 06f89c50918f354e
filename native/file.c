/* The read path: a byte range of a plain file, from whole chunks decoded straight into the caller's buffer, chunks held
 * by the cache, and parts of chunks through the cache. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common.h"
#include "container.h"
#include "fetch.h"
#include "io.h"
#include "log.h"
#include "reader.h"
#include "waiting.h"

enum {
    PART_SIZE = 1 << 20,  /* what one thread reads of a large request; a power of two */
    SHARED_CHUNKS = 16,   /* a smaller cache cannot keep them for long enough */
    WORK_SIZE = 64 << 10, /* copying less is over before it could be in the way */
    LARGE_SIZE = 2 << 20, /* larger than any request of FUSE, which has its own threads */
};

/* ---- opening and closing ---- */

static enum zipfs_status open_source(struct zipfs_file *file, int fd, bool plain) {
    if (plain) {
        struct stat st;
        if (fstat(fd, &st) < 0)
            return ZIPFS_IO;
        file->size = st.st_size;
    } else {
        enum zipfs_status status = zipfs_reader_open(fd, &file->reader);
        if (status != ZIPFS_OK)
            return status;
        file->header = zipfs_reader_header(file->reader);
        file->size = file->header->plain_size;
    }
    file->fd = fd;
    return ZIPFS_OK;
}

enum zipfs_status zipfs_file_open(struct zipfs_cache *cache, int fd, const char *name, bool plain,
                                  struct zipfs_file **file_ret) {
    struct zipfs_file *file = calloc(1, sizeof *file);
    if (!file)
        return ZIPFS_NO_MEMORY;
    zipfs_reading_begin(); /* the record's lock: a child of a fork meanwhile could open nothing */
    file->record = zipfs_cache_open_record(cache, name);
    enum zipfs_status status = file->record ? open_source(file, fd, plain) : ZIPFS_NO_MEMORY;
    if (status != ZIPFS_OK && file->record)
        zipfs_cache_close_record(cache, file->record);
    zipfs_reading_end();
    if (status != ZIPFS_OK) {
        free(file);
        return status;
    }
    file->record->size = file->size;
    zipfs_cache_ref(cache);
    file->cache = cache;
    file->counters = &file->record->counters;
    file->pool = zipfs_cache_pool(cache);
    atomic_init(&file->refs, 1);
    zipfs_source_init(&file->source, file->fd);
    const struct zipfs_cache_options *options = zipfs_cache_options(cache);
    file->drops_source = options->drop_source;
    file->decodes_ahead = options->ahead_max > 0;
    file->keeps_shared = file->header && options->budget >> file->header->chunk_log2 >= SHARED_CHUNKS;
    zipfs_stream_init(&file->stream);
    zipfs_damage_init(&file->damage);
    *file_ret = file;
    return ZIPFS_OK;
}

void zipfs_file_ref(struct zipfs_file *file) {
    atomic_fetch_add_explicit(&file->refs, 1, memory_order_relaxed);
}

void zipfs_file_unref(struct zipfs_file *file) {
    if (atomic_fetch_sub_explicit(&file->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (file->damage.num_repeats > 0)
        zipfs_logf("%s: %" PRIu64 " more reads of damaged chunks failed", file->record->name, file->damage.num_repeats);
    zipfs_stream_end(file);
    zipfs_reading_begin();
    zipfs_cache_close_record(file->cache, file->record);
    zipfs_reading_end();
    if (file->reader) {
        zipfs_reader_free(file->reader);
    } else {
        close(file->fd);
    }
    zipfs_cache_free(file->cache);
    zipfs_damage_clear(&file->damage);
    free(file);
}

void zipfs_file_join(struct zipfs_file *file) {
    atomic_fetch_add_explicit(&file->num_openers, 1, memory_order_relaxed);
}

void zipfs_file_leave(struct zipfs_file *file) {
    atomic_fetch_sub_explicit(&file->num_openers, 1, memory_order_relaxed);
}

uint64_t zipfs_file_size(const struct zipfs_file *file) {
    return file->size;
}

int zipfs_file_fd(const struct zipfs_file *file) {
    return file->fd;
}

bool zipfs_file_has_served(struct zipfs_file *file, size_t size) {
    uint64_t before = atomic_fetch_add_explicit(&file->num_served, size, memory_order_relaxed);
    uint64_t about_all = file->size - file->size / 16;
    return before < about_all && before + size >= about_all;
}

uint64_t zipfs_file_num_reads(const struct zipfs_file *file) {
    return atomic_load_explicit(&file->num_reads, memory_order_relaxed);
}

void zipfs_file_stats(const struct zipfs_file *file, struct zipfs_file_stats *stats_ret) {
    zipfs_counters_get(file->counters, stats_ret);
}

const struct zipfs_header *zipfs_file_header(const struct zipfs_file *file) {
    return file->header;
}

/* ---- slices ---- */

/* NULL where all bytes go to the caller's memory. */
static void add_slice(struct zipfs_slices *slices, const uint8_t *data, size_t size, const struct zipfs_chunk *held) {
    if (!slices)
        return;
    struct zipfs_slice *last = slices->num_slices > 0 ? &slices->slices[slices->num_slices - 1] : NULL;
    if (last && !held && !last->held && last->data + last->size == data)
        last->size += size;
    else
        slices->slices[slices->num_slices++] = (struct zipfs_slice){data, size, held};
}

/* Gives the reader a part of a pinned chunk: the chunk itself, or a copy at dst. */
static void deliver(struct zipfs_file *file, struct zipfs_slices *slices, uint8_t *dst, const struct zipfs_chunk *chunk,
                    size_t start, size_t size) {
    if (slices && !chunk->is_lent) {
        add_slice(slices, chunk->data + start, size, chunk);
        return;
    }
    memcpy(dst, chunk->data + start, size);
    zipfs_cache_put(file->cache, chunk);
    add_slice(slices, dst, size, NULL);
}

void zipfs_file_put(struct zipfs_file *file, const struct zipfs_slices *slices) {
    if (slices->seat)
        zipfs_pool_give_seat(file->pool, slices->seat);
    for (unsigned i = 0; i < slices->num_slices; i++)
        if (slices->slices[i].held)
            zipfs_cache_put(file->cache, slices->slices[i].held);
    zipfs_file_unref(file);
}

/* ---- chunks ---- */

static int read_part(struct zipfs_file *file, uint64_t number, size_t start, size_t size, enum zipfs_use use,
                     uint8_t *dst, struct zipfs_slices *slices) {
    const struct zipfs_chunk *chunk;
    int error = zipfs_fetch_chunk(file, number, use, &chunk);
    if (error)
        return error;
    deliver(file, slices, dst, chunk, start, size);
    return 0;
}

/* Chunks [first, end), each wholly wanted. Those that the cache holds, or that another thread is decoding, are
 * delivered. */
static int read_whole(struct zipfs_file *file, uint64_t first, uint64_t end, uint8_t *dst,
                      struct zipfs_slices *slices) {
    struct zipfs_batch batch = {.num_chunks = 0};
    for (uint64_t number = first; number < end && !batch.error; number++) {
        const struct zipfs_chunk *chunk;
        enum zipfs_claim claim = zipfs_cache_claim(file->cache, file->record, number, false, &chunk);
        if (claim == ZIPFS_CLAIM_BUSY) { /* others may wait for ours */
            zipfs_batch_flush(file, &batch);
            claim = zipfs_cache_claim(file->cache, file->record, number, true, &chunk);
        }
        size_t size = zipfs_chunk_size(file->header, number);
        if (claim == ZIPFS_CLAIM_HELD) {
            deliver(file, slices, dst, chunk, 0, size);
        } else {
            zipfs_batch_add(file, &batch, number, dst, chunk);
            add_slice(slices, dst, size, NULL);
        }
        dst += size;
    }
    zipfs_batch_flush(file, &batch);
    return batch.error;
}

/* The same by way of the cache, which keeps them for other readers. */
static int read_shared(struct zipfs_file *file, uint64_t first, uint64_t end, uint8_t *dst,
                       struct zipfs_slices *slices) {
    int error = 0;
    for (uint64_t number = first; number < end && !error; number++) {
        size_t size = zipfs_chunk_size(file->header, number);
        error = read_part(file, number, 0, size, ZIPFS_USE_PASSING, dst, slices);
        dst += size;
    }
    return error;
}

/* ---- requests ---- */

/* Plain bytes [offset, offset + size), which lie in the file, to dst, or to where the slices say. is_shared: chunks go
 * through the cache. */
static int read_range(struct zipfs_file *file, uint8_t *dst, size_t size, uint64_t offset, bool is_shared,
                      struct zipfs_slices *slices) {
    const struct zipfs_header *header = file->header;
    uint64_t end = offset + size;
    while (offset < end) {
        uint64_t number = offset >> header->chunk_log2;
        uint64_t start = number << header->chunk_log2;
        /* The chunks before `last` are wanted to their ends. */
        uint64_t last = end == header->plain_size ? header->num_chunks : end >> header->chunk_log2;
        uint64_t stop;
        int error;
        if (offset == start && number < last) {
            stop = last == header->num_chunks ? end : last << header->chunk_log2;
            error = (is_shared ? read_shared : read_whole)(file, number, last, dst, slices);
        } else {
            stop = start + zipfs_chunk_size(header, number);
            stop = stop < end ? stop : end;
            error = read_part(file, number, offset - start, stop - offset, ZIPFS_USE_AGAIN, dst, slices);
        }
        if (error)
            return error;
        dst += stop - offset;
        offset = stop;
    }
    return 0;
}

/* A large request in parts that end at multiples of their size, so that no chunk is cut. */
struct large_read {
    struct zipfs_file *file;
    uint8_t *dst;
    uint64_t offset, end;
    uint64_t part_size;
    bool is_shared;
    _Atomic int error;
};

static void read_large_part(void *context, size_t index) {
    struct large_read *large = context;
    uint64_t start = (large->offset / large->part_size + index) * large->part_size;
    uint64_t end = start + large->part_size;
    start = start > large->offset ? start : large->offset;
    end = end < large->end ? end : large->end;
    int error =
        read_range(large->file, large->dst + (start - large->offset), end - start, start, large->is_shared, NULL);
    if (error)
        atomic_store(&large->error, error);
}

/* The same as read_range, on all the threads that the pool gives. */
static int read_large(struct zipfs_file *file, uint8_t *dst, size_t size, uint64_t offset, bool is_shared) {
    uint64_t chunk_size = (uint64_t)1 << file->header->chunk_log2;
    struct large_read large = {
        .file = file,
        .dst = dst,
        .offset = offset,
        .end = offset + size,
        .part_size = chunk_size > PART_SIZE ? chunk_size : PART_SIZE,
        .is_shared = is_shared,
    };
    size_t num_parts = (large.end - 1) / large.part_size - offset / large.part_size + 1;
    zipfs_workers_run(zipfs_pool_workers(file->pool), num_parts, read_large_part, &large);
    return large.error;
}

static ssize_t read_container(struct zipfs_file *file, uint8_t *dst, size_t size, uint64_t offset,
                              struct zipfs_slices *slices) {
    if (offset >= file->size)
        return 0;
    if (size > file->size - offset)
        size = file->size - offset;
    bool is_shared = zipfs_stream_begin(file, offset, size);
    int error = size >= LARGE_SIZE ? read_large(file, dst, size, offset, is_shared)
                                   : read_range(file, dst, size, offset, is_shared, slices);
    zipfs_stream_finish(file);
    return error ? error : (ssize_t)size;
}

static ssize_t read_plain(struct zipfs_file *file, uint8_t *dst, size_t size, uint64_t offset,
                          struct zipfs_slices *slices) {
    zipfs_about_to_wait();
    ssize_t got = pread_full(file->fd, dst, size, offset);
    if (got > 0)
        add_slice(slices, dst, (size_t)got, NULL);
    return got;
}

/* slices NULL: all goes to dst. */
static ssize_t read_request(struct zipfs_file *file, uint8_t *dst, size_t size, uint64_t offset,
                            struct zipfs_slices *slices) {
    if (size > SSIZE_MAX || offset > INT64_MAX)
        return -EINVAL;
    atomic_fetch_add_explicit(&file->num_reads, 1, memory_order_relaxed);
    zipfs_reading_begin();
    ssize_t got = file->reader ? read_container(file, dst, size, offset, slices)
                               : read_plain(file, dst, size, offset, slices);
    zipfs_reading_end();
    ZIPFS_COUNT(file->counters->reads, 1);
    if (got < 0) {
        ZIPFS_COUNT(file->counters->errors, 1);
        return got;
    }
    ZIPFS_COUNT(file->counters->bytes_read, got);
    if (!file->reader)
        ZIPFS_COUNT(file->counters->bytes_passed, got);
    return got;
}

ssize_t zipfs_file_pread(struct zipfs_file *file, void *dst, size_t size, uint64_t offset) {
    return read_request(file, dst, size, offset, NULL);
}

ssize_t zipfs_file_read(struct zipfs_file *file, void *buffer, size_t size, uint64_t offset,
                        struct zipfs_slices *slices_ret) {
    if (size > ZIPFS_SLICES_SIZE_MAX)
        return -EINVAL;
    slices_ret->num_slices = 0;
    slices_ret->seat = NULL;
    zipfs_file_ref(file); /* who has got the bytes may close the file before they are given back */
    ssize_t got = read_request(file, buffer, size, offset, slices_ret);
    if (got < 0)
        zipfs_file_put(file, slices_ret);
    else if (got >= WORK_SIZE)
        slices_ret->seat = zipfs_pool_take_any_seat(file->pool);
    return got;
}
