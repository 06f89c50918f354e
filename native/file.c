/* The read path: a byte range of a plain file, from whole chunks decoded straight into the caller's buffer, chunks held
 * by the cache, and parts of chunks through the cache. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cache.h"
#include "common.h"
#include "container.h"
#include "copy.h"
#include "io.h"
#include "log.h"
#include "pool.h"
#include "reader.h"

enum {
    BATCH_CHUNKS = 64,
    BATCH_BYTES = 1 << 20, /* stored bytes per pread, so that they are still in L2 when they are decoded */
    DAMAGE_MAX = 1000,     /* chunks told about one by one, per open file */
    PART_SIZE = 1 << 20,   /* what one thread reads of a large request; a power of two */
    LARGE_SIZE = 2 << 20,  /* larger than any request of FUSE, which has its own threads */
};

/* Which chunks were found damaged, so that each is told once. */
struct damage {
    pthread_mutex_t lock;
    uint64_t *numbers;
    size_t num_numbers, capacity;
    uint64_t num_repeats;
};

struct zipfs_file {
    _Atomic unsigned refs;
    _Atomic uint64_t num_reads;
    struct zipfs_cache *cache;
    struct zipfs_record *record; /* in the cache */
    struct zipfs_counters *counters;
    struct zipfs_pool *pool;
    uint64_t size;
    struct zipfs_reader *reader;       /* NULL: passed through */
    const struct zipfs_header *header; /* NULL: passed through */
    int fd;                            /* the reader's, or our own */
    struct damage damage;
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
    file->record = zipfs_cache_open_record(cache, name);
    enum zipfs_status status = file->record ? open_source(file, fd, plain) : ZIPFS_NO_MEMORY;
    if (status != ZIPFS_OK) {
        if (file->record)
            zipfs_cache_close_record(cache, file->record);
        free(file);
        return status;
    }
    file->record->size = file->size;
    zipfs_cache_ref(cache);
    file->cache = cache;
    file->counters = &file->record->counters;
    file->pool = zipfs_cache_pool(cache);
    atomic_init(&file->refs, 1);
    pthread_mutex_init(&file->damage.lock, NULL);
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
    zipfs_reading_begin();
    zipfs_cache_close_record(file->cache, file->record);
    zipfs_reading_end();
    if (file->reader) {
        zipfs_reader_free(file->reader);
    } else {
        close(file->fd);
    }
    zipfs_cache_free(file->cache);
    pthread_mutex_destroy(&file->damage.lock);
    free(file->damage.numbers);
    free(file);
}

uint64_t zipfs_file_size(const struct zipfs_file *file) {
    return file->size;
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

/* ---- failures ---- */

enum told { TELL, TELL_LAST, TOLD };

/* Notes a failed chunk: is it to be told, told as the last one, or was it told already? */
static enum told note_damage(struct damage *damage, uint64_t number) {
    for (size_t i = 0; i < damage->num_numbers; i++)
        if (damage->numbers[i] == number)
            return TOLD;
    if (damage->num_numbers >= DAMAGE_MAX)
        return TOLD;
    if (damage->num_numbers == damage->capacity) {
        size_t capacity = damage->capacity ? 4 * damage->capacity : 16;
        uint64_t *numbers = realloc(damage->numbers, capacity * sizeof *numbers);
        if (!numbers)
            return TELL;
        damage->numbers = numbers;
        damage->capacity = capacity;
    }
    damage->numbers[damage->num_numbers++] = number;
    return damage->num_numbers == DAMAGE_MAX ? TELL_LAST : TELL;
}

/* Logs the failure of a chunk, once, and gives the errno for its readers. `culprit` is the chunk that `status` is
 * about: this one, or one that it copies from. errno holds the reason of ZIPFS_IO. */
static int fail_copies(struct zipfs_file *file, uint64_t number, uint64_t culprit, enum zipfs_status status) {
    int io_error = errno;
    char where[64] = "";
    if (culprit != number)
        snprintf(where, sizeof where, " in chunk %" PRIu64 ", which it copies from", culprit);
    struct damage *damage = &file->damage;
    pthread_mutex_lock(&damage->lock);
    enum told told = note_damage(damage, number);
    damage->num_repeats += told == TOLD;
    pthread_mutex_unlock(&damage->lock);
    uint64_t start = number << file->header->chunk_log2;
    const char *reason = status == ZIPFS_IO ? strerrordesc_np(io_error) : zipfs_status_name(status);
    if (told != TOLD)
        zipfs_logf("%s: chunk %" PRIu64 ", plain bytes %" PRIu64 " to %" PRIu64 ": %s%s%s", file->record->name, number, start,
                   start + zipfs_chunk_size(file->header, number), reason ? reason : "I/O error", where,
                   told == TELL_LAST ? " (further damaged chunks of this file are not told)" : "");
    return status == ZIPFS_NO_MEMORY ? -ENOMEM : -EIO;
}

static int fail_chunk(struct zipfs_file *file, uint64_t number, enum zipfs_status status) {
    return fail_copies(file, number, number, status);
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
    for (unsigned i = 0; i < slices->num_slices; i++)
        if (slices->slices[i].held)
            zipfs_cache_put(file->cache, slices->slices[i].held);
}

/* ---- whole chunks ---- */

/* Neighbouring chunks that one pread fetches and that are decoded to consecutive places of dst. */
struct batch {
    uint64_t first;
    uint8_t *dst;
    unsigned num_chunks;
    uint64_t offset;    /* of the first payload in the container */
    size_t stored_size; /* of all payloads */
    struct zipfs_entry entries[BATCH_CHUNKS];
    const struct zipfs_chunk *claims[BATCH_CHUNKS]; /* to be published; NULL: nobody waits */
    int errors[BATCH_CHUNKS];
    int error; /* of any chunk that went through this batch */
};

static void count_decoded(struct zipfs_file *file, size_t plain_size, size_t stored_size) {
    ZIPFS_COUNT(file->counters->chunks_decoded, 1);
    ZIPFS_COUNT(file->counters->bytes_decoded, plain_size);
    ZIPFS_COUNT(file->counters->stored_bytes_read, stored_size);
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Stored chunks are their plain bytes: src is dst. */
static void check_stored(struct zipfs_file *file, struct batch *batch) {
    const uint8_t *src = batch->dst;
    for (unsigned i = 0; i < batch->num_chunks; i++) {
        const struct zipfs_entry *entry = &batch->entries[i];
        if (zipfs_hash(src, entry->stored_size, batch->first + i) == entry->stored_hash)
            count_decoded(file, entry->stored_size, entry->stored_size);
        else
            batch->errors[i] = fail_chunk(file, batch->first + i, ZIPFS_CHUNK_CHECKSUM);
        src += entry->stored_size;
    }
}

/* Decodes a payload; copies is left alone where the container has none. */
static enum zipfs_status decode_one(struct zipfs_file *file, struct zipfs_codec *codec, uint64_t number,
                                    const struct zipfs_entry *entry, const uint8_t *src, uint8_t *dst,
                                    struct zipfs_copies *copies) {
    size_t plain_size = zipfs_chunk_size(file->header, number);
    if (ZIPFS_LIKELY(!file->header->has_copies))
        return zipfs_decode_chunk(codec, number, entry, src, dst, plain_size);
    return zipfs_decode_chunk_copies(codec, number, entry, src, dst, plain_size, copies);
}

/* Fills the copies of the chunks that were decoded. No seat is held: it reads. */
static void fill_copies(struct zipfs_file *file, struct batch *batch, const struct zipfs_copies *copies) {
    struct zipfs_copier copier = {
        .reader = file->reader, .buffers = zipfs_pool_buffers(file->pool), .pool = file->pool};
    uint8_t *dst = batch->dst;
    for (unsigned i = 0; i < batch->num_chunks; i++) {
        uint64_t number = batch->first + i, culprit = number;
        enum zipfs_status status = ZIPFS_OK;
        if (!batch->errors[i])
            status = zipfs_copier_fill(&copier, number, &copies[i], dst, &culprit);
        if (status != ZIPFS_OK)
            batch->errors[i] = fail_copies(file, number, culprit, status);
        dst += zipfs_chunk_size(file->header, number);
    }
    zipfs_copier_finish(&copier);
    ZIPFS_COUNT(file->counters->chunks_decoded, copier.num_decoded);
    ZIPFS_COUNT(file->counters->bytes_decoded, copier.bytes_decoded);
    ZIPFS_COUNT(file->counters->stored_bytes_read, copier.stored_bytes_read);
}

/* Decodes all chunks of the batch, damaged ones or not. */
static void decode_runs(struct zipfs_file *file, struct batch *batch, const uint8_t *src) {
    struct zipfs_copies copies[BATCH_CHUNKS]; /* not touched, and so for nothing, where the container has none */
    struct zipfs_seat *seat = NULL;
    enum zipfs_status no_seat = zipfs_pool_take_seat(file->pool, file->header->chunk_log2, &seat);
    uint8_t *dst = batch->dst;
    uint64_t start_ns = now_ns();
    for (unsigned i = 0; i < batch->num_chunks; i++) {
        uint64_t number = batch->first + i;
        const struct zipfs_entry *entry = &batch->entries[i];
        size_t plain_size = zipfs_chunk_size(file->header, number);
        enum zipfs_status status = seat ? decode_one(file, seat->codec, number, entry, src, dst, &copies[i]) : no_seat;
        if (status == ZIPFS_OK)
            count_decoded(file, plain_size, entry->stored_size);
        else
            batch->errors[i] = fail_chunk(file, number, status);
        src += entry->stored_size;
        dst += plain_size;
    }
    ZIPFS_COUNT(file->counters->decode_ns, now_ns() - start_ns);
    if (seat)
        zipfs_pool_give_seat(file->pool, seat);
    if (file->header->has_copies)
        fill_copies(file, batch, copies);
}

/* Reads and decodes the payloads of the batch. Returns how the read went; what fails after it is in batch->errors. */
static enum zipfs_status fetch_batch(struct zipfs_file *file, struct batch *batch) {
    bool stored = batch->entries[0].kind == ZIPFS_KIND_STORED;
    struct zipfs_buffers *buffers = zipfs_pool_buffers(file->pool);
    struct zipfs_buffer *buffer = NULL;
    enum zipfs_status status = stored ? ZIPFS_OK : zipfs_buffers_take(buffers, batch->stored_size, &buffer);
    if (status == ZIPFS_OK)
        status = pread_exact(file->fd, stored ? batch->dst : buffer->data, batch->stored_size, batch->offset);
    if (status == ZIPFS_OK && stored)
        check_stored(file, batch);
    else if (status == ZIPFS_OK)
        decode_runs(file, batch, buffer->data);
    int error = errno;
    if (buffer)
        zipfs_buffers_give(buffers, buffer);
    errno = error;
    return status;
}

/* Fetches the chunks one by one, so that a read error is told of the right ones. */
static void fetch_singly(struct zipfs_file *file, struct batch *batch) {
    struct batch one = {.first = batch->first, .dst = batch->dst, .num_chunks = 1, .offset = batch->offset};
    for (unsigned i = 0; i < batch->num_chunks; i++, one.first++) {
        one.entries[0] = batch->entries[i];
        one.stored_size = batch->entries[i].stored_size;
        one.errors[0] = 0;
        enum zipfs_status status = fetch_batch(file, &one);
        batch->errors[i] = status == ZIPFS_OK ? one.errors[0] : fail_chunk(file, one.first, status);
        one.dst += zipfs_chunk_size(file->header, one.first);
        one.offset += one.stored_size;
    }
}

/* Reads and decodes the batch, gives the chunks to those who wait for them, and empties it. */
static void flush_batch(struct zipfs_file *file, struct batch *batch) {
    const uint8_t *data = batch->dst;
    if (batch->num_chunks == 0)
        return;
    if (fetch_batch(file, batch) != ZIPFS_OK)
        fetch_singly(file, batch);
    for (unsigned i = 0; i < batch->num_chunks; i++) {
        size_t size = zipfs_chunk_size(file->header, batch->first + i);
        zipfs_cache_publish(file->cache, batch->claims[i], data, size, batch->errors[i]);
        batch->error = batch->errors[i] ? batch->errors[i] : batch->error;
        data += size;
    }
    batch->num_chunks = 0;
}

static bool joins(const struct batch *batch, uint64_t number, const struct zipfs_entry *entry) {
    return batch->num_chunks > 0 && batch->num_chunks < BATCH_CHUNKS && number == batch->first + batch->num_chunks
           && batch->entries[0].kind == entry->kind && batch->stored_size + entry->stored_size <= BATCH_BYTES;
}

/* Adds a chunk to the batch, flushing first what it cannot join. Payloads of neighbours are contiguous (docs/format.md
 * section 3). */
static void add_to_batch(struct zipfs_file *file, struct batch *batch, uint64_t number, uint8_t *dst,
                         const struct zipfs_chunk *claim) {
    uint64_t offset;
    struct zipfs_entry entry;
    enum zipfs_status status = zipfs_reader_entry(file->reader, number, &offset, &entry);
    if (status != ZIPFS_OK) {
        batch->error = fail_chunk(file, number, status);
        zipfs_cache_publish(file->cache, claim, NULL, 0, batch->error);
        return;
    }
    if (!joins(batch, number, &entry))
        flush_batch(file, batch);
    unsigned i = batch->num_chunks++;
    if (i == 0) {
        batch->first = number;
        batch->dst = dst;
        batch->offset = offset;
        batch->stored_size = 0;
    }
    batch->entries[i] = entry;
    batch->claims[i] = claim;
    batch->errors[i] = 0;
    batch->stored_size += entry.stored_size;
}

/* Chunks [first, end), each wholly wanted. Those that the cache holds, or that another thread is decoding, are
 * delivered. */
static int read_whole(struct zipfs_file *file, uint64_t first, uint64_t end, uint8_t *dst,
                      struct zipfs_slices *slices) {
    struct batch batch = {.num_chunks = 0};
    for (uint64_t number = first; number < end && !batch.error; number++) {
        const struct zipfs_chunk *chunk;
        enum zipfs_claim claim = zipfs_cache_claim(file->cache, file->record, number, false, &chunk);
        if (claim == ZIPFS_CLAIM_BUSY) { /* others may wait for ours */
            flush_batch(file, &batch);
            claim = zipfs_cache_claim(file->cache, file->record, number, true, &chunk);
        }
        size_t size = zipfs_chunk_size(file->header, number);
        if (claim == ZIPFS_CLAIM_HELD) {
            deliver(file, slices, dst, chunk, 0, size);
        } else {
            add_to_batch(file, &batch, number, dst, chunk);
            add_slice(slices, dst, size, NULL);
        }
        dst += size;
    }
    flush_batch(file, &batch);
    return batch.error;
}

/* ---- parts of chunks ---- */

struct load {
    struct zipfs_file *file;
    uint64_t number;
};

static int load_chunk(void *context, uint8_t *dst) {
    const struct load *load = context;
    struct batch batch = {.num_chunks = 0};
    add_to_batch(load->file, &batch, load->number, dst, NULL);
    flush_batch(load->file, &batch);
    return batch.error;
}

static int read_part(struct zipfs_file *file, uint64_t number, size_t start, size_t size, uint8_t *dst,
                     struct zipfs_slices *slices) {
    const struct zipfs_header *header = file->header;
    size_t chunk_size = zipfs_chunk_size(header, number);
    size_t capacity = header->num_chunks > 1 ? (size_t)1 << header->chunk_log2 : chunk_size;
    struct load load = {file, number};
    const struct zipfs_chunk *chunk;
    int error = zipfs_cache_get(file->cache, file->record, number, chunk_size, capacity, load_chunk, &load, &chunk);
    if (error)
        return error;
    deliver(file, slices, dst, chunk, start, size);
    return 0;
}

/* ---- requests ---- */

/* Plain bytes [offset, offset + size), which lie in the file, to dst, or to where the slices say. */
static int read_range(struct zipfs_file *file, uint8_t *dst, size_t size, uint64_t offset,
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
            error = read_whole(file, number, last, dst, slices);
        } else {
            stop = start + zipfs_chunk_size(header, number);
            stop = stop < end ? stop : end;
            error = read_part(file, number, offset - start, stop - offset, dst, slices);
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
    _Atomic int error;
};

static void read_large_part(void *context, size_t index) {
    struct large_read *large = context;
    uint64_t start = (large->offset / large->part_size + index) * large->part_size;
    uint64_t end = start + large->part_size;
    start = start > large->offset ? start : large->offset;
    end = end < large->end ? end : large->end;
    int error = read_range(large->file, large->dst + (start - large->offset), end - start, start, NULL);
    if (error)
        atomic_store(&large->error, error);
}

/* The same as read_range, on all the threads that the pool gives. */
static int read_large(struct zipfs_file *file, uint8_t *dst, size_t size, uint64_t offset) {
    uint64_t chunk_size = (uint64_t)1 << file->header->chunk_log2;
    struct large_read large = {
        .file = file,
        .dst = dst,
        .offset = offset,
        .end = offset + size,
        .part_size = chunk_size > PART_SIZE ? chunk_size : PART_SIZE,
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
    int error = size >= LARGE_SIZE ? read_large(file, dst, size, offset)
                                   : read_range(file, dst, size, offset, slices);
    return error ? error : (ssize_t)size;
}

static ssize_t read_plain(struct zipfs_file *file, uint8_t *dst, size_t size, uint64_t offset,
                          struct zipfs_slices *slices) {
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
    ssize_t got = read_request(file, buffer, size, offset, slices_ret);
    if (got < 0)
        zipfs_file_put(file, slices_ret);
    return got;
}
