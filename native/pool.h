/* What decoding threads share: a bounded number of codecs, which is the limit on concurrent decodes, and source buffers. */
#ifndef ZIPFS_POOL_H
#define ZIPFS_POOL_H

#include "zipfs.h"

struct zipfs_pool;

/* At most `jobs` (1 or more) decodes at one time. */
enum zipfs_status zipfs_pool_create(unsigned jobs, struct zipfs_pool **pool_ret);
void zipfs_pool_free(struct zipfs_pool *pool); /* everything is given back; NULL is allowed */

/* Waits until fewer than `jobs` codecs are out and lends one for chunks of chunk_log2. Hold it for a decode alone:
 * no lock, no read and no other wait under it. */
enum zipfs_status zipfs_pool_take_codec(struct zipfs_pool *pool, uint32_t chunk_log2, struct zipfs_codec **codec_ret);
void zipfs_pool_give_codec(struct zipfs_pool *pool, struct zipfs_codec *codec);

/* A buffer for stored bytes. Never waits; the pool keeps a few that were given back. */
struct zipfs_buffer {
    struct zipfs_buffer *next;
    size_t capacity;
    uint8_t *data;
};
enum zipfs_status zipfs_pool_take_buffer(struct zipfs_pool *pool, size_t size, struct zipfs_buffer **buffer_ret);
void zipfs_pool_give_buffer(struct zipfs_pool *pool, struct zipfs_buffer *buffer);

#endif
