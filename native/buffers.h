/* Buffers for stored bytes that are used again: mapping new pages for each payload costs more than decoding it. */
#ifndef ZIPFS_BUFFERS_H
#define ZIPFS_BUFFERS_H

#include <pthread.h>
#include <stdatomic.h>

#include "zipfs.h"

struct zipfs_buffer {
    uint8_t *data;
    size_t capacity;
    struct zipfs_buffer *next;
};

/* Any number of buffers may be out; at most max_kept are kept of those that came back. */
struct zipfs_buffers {
    pthread_mutex_t lock;
    struct zipfs_buffer *kept; /* last used first */
    unsigned num_kept, max_kept;
    _Atomic size_t bytes; /* of all buffers, kept or out */
};

void zipfs_buffers_init(struct zipfs_buffers *buffers, unsigned max_kept);
void zipfs_buffers_clear(struct zipfs_buffers *buffers); /* all have come back */
void zipfs_buffers_trim(struct zipfs_buffers *buffers);  /* keeps none */

static inline size_t zipfs_buffers_bytes(const struct zipfs_buffers *buffers) {
    return atomic_load_explicit(&buffers->bytes, memory_order_relaxed);
}

/* A buffer of size bytes or more. Never waits. */
enum zipfs_status zipfs_buffers_take(struct zipfs_buffers *buffers, size_t size, struct zipfs_buffer **buffer_ret);
void zipfs_buffers_give(struct zipfs_buffers *buffers, struct zipfs_buffer *buffer);

#endif
