/* Buffers for replies to reads. The one that was given back last goes out first: it is still in the processor's caches,
 * while the kernel wakes the threads in turn. */
#include <pthread.h>
#include <stdlib.h>

#include "fuse_replies.h"

enum { ALIGN = 4096, MAX_KEPT = 16 };

struct zipfs_replies {
    pthread_mutex_t lock;
    void *kept[MAX_KEPT];
    unsigned num_kept;
};

struct zipfs_replies *zipfs_replies_create(void) {
    struct zipfs_replies *replies = calloc(1, sizeof *replies);
    if (replies)
        pthread_mutex_init(&replies->lock, NULL);
    return replies;
}

void zipfs_replies_free(struct zipfs_replies *replies) {
    if (!replies)
        return;
    while (replies->num_kept > 0)
        free(replies->kept[--replies->num_kept]);
    pthread_mutex_destroy(&replies->lock);
    free(replies);
}

void *zipfs_replies_take(struct zipfs_replies *replies) {
    void *buffer = NULL;
    pthread_mutex_lock(&replies->lock);
    if (replies->num_kept > 0)
        buffer = replies->kept[--replies->num_kept];
    pthread_mutex_unlock(&replies->lock);
    return buffer ? buffer : aligned_alloc(ALIGN, ZIPFS_REPLY_SIZE);
}

void zipfs_replies_give(struct zipfs_replies *replies, void *buffer) {
    pthread_mutex_lock(&replies->lock);
    bool keep = replies->num_kept < MAX_KEPT;
    if (keep)
        replies->kept[replies->num_kept++] = buffer;
    pthread_mutex_unlock(&replies->lock);
    if (!keep)
        free(buffer);
}
