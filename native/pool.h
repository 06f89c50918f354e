/* What decoding threads share: codecs, whose number is the limit on concurrent decodes, buffers and workers. */
#ifndef ZIPFS_POOL_H
#define ZIPFS_POOL_H

#include "buffers.h"
#include "workers.h"
#include "zipfs.h"

struct zipfs_pool;

/* At most `jobs` (1 or more) threads at work at one time: reading from memory, decoding, copying. */
enum zipfs_status zipfs_pool_create(unsigned jobs, struct zipfs_pool **pool_ret);
void zipfs_pool_free(struct zipfs_pool *pool); /* everything is given back; NULL is allowed */

/* A place to work at; there are `jobs` of them. */
struct zipfs_seat {
    struct zipfs_codec *codec;
    uint32_t chunk_log2; /* the largest chunks that the codec is for */
    bool taken;
};

/* Waits for a free seat and lends it, with a codec for chunks of chunk_log2. Hold it for work alone: no lock, no wait
 * for the disk and no other wait meanwhile. */
enum zipfs_status zipfs_pool_take_seat(struct zipfs_pool *pool, uint32_t chunk_log2, struct zipfs_seat **seat_ret);
/* The same without a codec, for work that needs none. */
struct zipfs_seat *zipfs_pool_take_any_seat(struct zipfs_pool *pool);
void zipfs_pool_give_seat(struct zipfs_pool *pool, struct zipfs_seat *seat);

/* Whether a decode could begin now, without keeping another from it. */
bool zipfs_pool_is_free(struct zipfs_pool *pool);

/* Lets codecs and buffers go that nobody uses. */
void zipfs_pool_trim(struct zipfs_pool *pool);

/* Buffers for stored bytes. */
struct zipfs_buffers *zipfs_pool_buffers(struct zipfs_pool *pool);

/* The threads for large requests, jobs - 1 of them. */
struct zipfs_workers *zipfs_pool_workers(struct zipfs_pool *pool);

/* The thread that waits for disks. */
struct zipfs_workers *zipfs_pool_source_workers(struct zipfs_pool *pool);

#endif
