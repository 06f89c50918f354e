#include "fetch.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common.h"
#include "container.h"
#include "copy.h"
#include "log.h"
#include "reader.h"
#include "waiting.h"

/* Stored bytes per pread, so that they are still in L2 when they are decoded, with place for what they become: O_DIRECT
 * reads are 1.04 times as fast as with 1 MiB (quartiles 1.03 to 1.07; L2 of 1 MiB). */
enum { BATCH_BYTES = 512 << 10 };

/* Logs the failure of a chunk, once, and gives the errno for its readers. `culprit` is the chunk that `status` is
 * about: this one, or one that it copies from. errno holds the reason of ZIPFS_IO. */
static int fail_copies(struct zipfs_file *file, uint64_t number, uint64_t culprit, enum zipfs_status status) {
    int io_error = errno;
    char where[64] = "";
    if (culprit != number)
        snprintf(where, sizeof where, " in chunk %" PRIu64 ", which it copies from", culprit);
    enum zipfs_told told = zipfs_damage_note(&file->damage, number);
    uint64_t start = number << file->header->chunk_log2;
    const char *reason = status == ZIPFS_IO ? strerrordesc_np(io_error) : zipfs_status_name(status);
    if (told != ZIPFS_TOLD)
        zipfs_logf("%s: chunk %" PRIu64 ", plain bytes %" PRIu64 " to %" PRIu64 ": %s%s%s", file->record->name, number,
                   start, start + zipfs_chunk_size(file->header, number), reason ? reason : "I/O error", where,
                   told == ZIPFS_TELL_LAST ? " (further damaged chunks of this file are not told)" : "");
    return status == ZIPFS_NO_MEMORY ? -ENOMEM : -EIO;
}

static int fail_chunk(struct zipfs_file *file, uint64_t number, enum zipfs_status status) {
    return fail_copies(file, number, number, status);
}

/* ---- batches ---- */

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
static void check_stored(struct zipfs_file *file, struct zipfs_batch *batch) {
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
static void fill_copies(struct zipfs_file *file, struct zipfs_batch *batch, const struct zipfs_copies *copies) {
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

/* Decodes all chunks of the batch, damaged ones or not; what they copy is left to be filled in. */
static void decode_runs(struct zipfs_file *file, struct zipfs_batch *batch, struct zipfs_codec *codec,
                        const uint8_t *src, struct zipfs_copies *copies) {
    uint8_t *dst = batch->dst;
    uint64_t start_ns = now_ns();
    for (unsigned i = 0; i < batch->num_chunks; i++) {
        uint64_t number = batch->first + i;
        const struct zipfs_entry *entry = &batch->entries[i];
        size_t plain_size = zipfs_chunk_size(file->header, number);
        enum zipfs_status status = decode_one(file, codec, number, entry, src, dst, &copies[i]);
        if (status == ZIPFS_OK)
            count_decoded(file, plain_size, entry->stored_size);
        else
            batch->errors[i] = fail_chunk(file, number, status);
        src += entry->stored_size;
        dst += plain_size;
    }
    ZIPFS_COUNT(file->counters->decode_ns, now_ns() - start_ns);
}

/* Reads the payloads of the batch to dst. The seat is held while that is work, but not while the disk is waited for;
 * afterwards it may be another one, or NULL where there was no memory for it. */
static enum zipfs_status read_payloads(struct zipfs_file *file, const struct zipfs_batch *batch, uint8_t *dst,
                                       struct zipfs_seat **seat) {
    size_t done = zipfs_source_read_present(&file->source, dst, batch->stored_size, batch->offset);
    if (ZIPFS_LIKELY(done == batch->stored_size))
        return ZIPFS_OK;
    zipfs_pool_give_seat(file->pool, *seat);
    *seat = NULL;
    zipfs_about_to_wait();
    enum zipfs_status status =
        zipfs_source_read_rest(&file->source, dst + done, batch->stored_size - done, batch->offset + done);
    return status == ZIPFS_OK ? zipfs_pool_take_seat(file->pool, file->header->chunk_log2, seat) : status;
}

/* Reads the payloads to src, which is the place of the plain bytes where they are stored, and decodes them. */
static enum zipfs_status read_and_decode(struct zipfs_file *file, struct zipfs_batch *batch, uint8_t *src) {
    struct zipfs_copies copies[ZIPFS_BATCH_CHUNKS]; /* not touched, and so for nothing, where the container has none */
    struct zipfs_seat *seat;
    bool stored = src == batch->dst;
    enum zipfs_status status = zipfs_pool_take_seat(file->pool, file->header->chunk_log2, &seat);
    if (status == ZIPFS_OK)
        status = read_payloads(file, batch, src, &seat);
    if (status != ZIPFS_OK)
        return status;
    if (stored)
        check_stored(file, batch);
    else
        decode_runs(file, batch, seat->codec, src, copies);
    zipfs_pool_give_seat(file->pool, seat);
    if (!stored && file->header->has_copies)
        fill_copies(file, batch, copies);
    return ZIPFS_OK;
}

/* Reads and decodes the payloads of the batch. Returns how the read went; what fails after it is in batch->errors. */
static enum zipfs_status fetch_batch(struct zipfs_file *file, struct zipfs_batch *batch) {
    bool stored = batch->entries[0].kind == ZIPFS_KIND_STORED;
    struct zipfs_buffers *buffers = zipfs_pool_buffers(file->pool);
    struct zipfs_buffer *buffer = NULL;
    enum zipfs_status status = stored ? ZIPFS_OK : zipfs_buffers_take(buffers, batch->stored_size, &buffer);
    if (status == ZIPFS_OK)
        status = read_and_decode(file, batch, stored ? batch->dst : buffer->data);
    int error = errno;
    if (buffer)
        zipfs_buffers_give(buffers, buffer);
    errno = error;
    return status;
}

/* Fetches the chunks one by one, so that a read error is told of the right ones. */
static void fetch_singly(struct zipfs_file *file, struct zipfs_batch *batch) {
    struct zipfs_batch one = {.first = batch->first, .dst = batch->dst, .num_chunks = 1, .offset = batch->offset};
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

void zipfs_batch_flush(struct zipfs_file *file, struct zipfs_batch *batch) {
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

static bool joins(const struct zipfs_batch *batch, uint64_t number, const struct zipfs_entry *entry) {
    return batch->num_chunks > 0 && batch->num_chunks < ZIPFS_BATCH_CHUNKS && number == batch->first + batch->num_chunks
           && batch->entries[0].kind == entry->kind && batch->stored_size + entry->stored_size <= BATCH_BYTES;
}

/* Payloads of neighbours are contiguous (docs/format.md section 3). */
void zipfs_batch_add(struct zipfs_file *file, struct zipfs_batch *batch, uint64_t number, uint8_t *dst,
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
        zipfs_batch_flush(file, batch);
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

/* ---- single chunks, for the cache ---- */

struct load {
    struct zipfs_file *file;
    uint64_t number;
};

static int load_chunk(void *context, uint8_t *dst) {
    const struct load *load = context;
    struct zipfs_batch batch = {.num_chunks = 0};
    zipfs_batch_add(load->file, &batch, load->number, dst, NULL);
    zipfs_batch_flush(load->file, &batch);
    return batch.error;
}

/* The buffer that a chunk gets in the cache: all of a file have the same, so that they can be used again. */
static size_t capacity_of(const struct zipfs_file *file, uint64_t number) {
    const struct zipfs_header *header = file->header;
    return header->num_chunks > 1 ? (size_t)1 << header->chunk_log2 : zipfs_chunk_size(header, number);
}

int zipfs_fetch_chunk(struct zipfs_file *file, uint64_t number, enum zipfs_use use,
                      const struct zipfs_chunk **chunk_ret) {
    struct load load = {file, number};
    return zipfs_cache_get(file->cache, file->record, number, zipfs_chunk_size(file->header, number),
                           capacity_of(file, number), use, load_chunk, &load, chunk_ret);
}

bool zipfs_fetch_ahead(struct zipfs_file *file, uint64_t number) {
    struct load load = {file, number};
    return zipfs_cache_load_ahead(file->cache, file->record, number, zipfs_chunk_size(file->header, number),
                                  capacity_of(file, number), load_chunk, &load);
}
