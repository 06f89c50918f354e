/* Reading and decoding whole chunks of an open file: neighbours together, with one pread. */
#ifndef ZIPFS_FETCH_H
#define ZIPFS_FETCH_H

#include "file.h"

enum { ZIPFS_BATCH_CHUNKS = 64 };

/* Neighbouring chunks that one pread fetches and that are decoded to consecutive places of dst. Starts with num_chunks
 * and error 0. For one thread. */
struct zipfs_batch {
    uint64_t first;
    uint8_t *dst;
    unsigned num_chunks;
    uint64_t offset;    /* of the first payload in the container */
    size_t stored_size; /* of all payloads */
    struct zipfs_entry entries[ZIPFS_BATCH_CHUNKS];
    const struct zipfs_chunk *claims[ZIPFS_BATCH_CHUNKS]; /* to be published; NULL: nobody waits */
    int errors[ZIPFS_BATCH_CHUNKS];
    int error; /* of any chunk that went through this batch */
};

/* Adds a chunk, flushing first what it cannot join. `claim` is published when it is decoded, or NULL. */
void zipfs_batch_add(struct zipfs_file *file, struct zipfs_batch *batch, uint64_t number, uint8_t *dst,
                     const struct zipfs_chunk *claim);
/* Reads and decodes the batch, gives the chunks to those who wait for them, and empties it. batch->error is then 0, or
 * -errno of a chunk that went through it; each failed chunk was logged once. */
void zipfs_batch_flush(struct zipfs_file *file, struct zipfs_batch *batch);

/* Gets a chunk into the cache before anybody asks. false: there is no room for it. */
bool zipfs_fetch_ahead(struct zipfs_file *file, uint64_t number);

/* Pins a chunk that is in the cache, or decodes it into the cache. 0 or -errno. */
int zipfs_fetch_chunk(struct zipfs_file *file, uint64_t number, enum zipfs_use use,
                      const struct zipfs_chunk **chunk_ret);

#endif
