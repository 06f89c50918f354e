/* COPY runs (docs/format.md section 8): fetching the bytes that a decoded chunk takes from earlier ones. */
#ifndef ZIPFS_COPY_H
#define ZIPFS_COPY_H

#include "buffers.h"
#include "pool.h"
#include "zipfs.h"

/*
 * Decodes the chunks that hold the targets, one at a time, and keeps the latest: neighbours copy from neighbours. So
 * BF16 that is copied is read at 0.9 of the speed of other BF16 in requests of 1 MiB, at 0.65 in single chunks of 256
 * KiB (medians of 40 pairs on a busy 2-core EPYC, AVX-512). It goes past the cache: a thread that waited for another
 * chunk while others wait for its own could wait for ever.
 * One thread at a time; starts with reader, buffers and codec or pool filled in, all else zero.
 */
struct zipfs_copier {
    struct zipfs_reader *reader;
    struct zipfs_buffers *buffers;
    struct zipfs_codec *codec; /* NULL: a seat of `pool` for each decode */
    struct zipfs_pool *pool;
    uint64_t num_decoded, bytes_decoded, stored_bytes_read; /* so far */
    struct zipfs_buffer *plain;                             /* the latest target's bytes; NULL before the first */
    bool is_valid;                                          /* `plain` holds what it should */
    uint64_t number;                                        /* of that chunk */
    struct zipfs_copies copies;                             /* of that chunk: the ranges that `plain` lacks */
};

/* Fills the copies of chunk `number` in dst, its decoded bytes. failed_ret receives the number of the chunk at fault
 * when the call fails: this one, or one that it copies from. */
enum zipfs_status zipfs_copier_fill(struct zipfs_copier *copier, uint64_t number, const struct zipfs_copies *copies,
                                    uint8_t *dst, uint64_t *failed_ret);
/* Gives the buffer back; errno stays. */
void zipfs_copier_finish(struct zipfs_copier *copier);

#endif
