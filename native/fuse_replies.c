/* See fuse_replies.h. Two buffers make a block, which is a huge page where the kernel gives one: translating addresses
 * takes 7 % of a read otherwise. */
#include "fuse_replies.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { BLOCK_SIZE = 2 * ZIPFS_REPLY_SIZE, MAX_WARM = 16 };

struct block {
    struct block *next;
    void *data;
};

/* Lies at the start of a buffer that nobody uses. */
struct kept {
    struct kept *next;
};

struct zipfs_replies {
    pthread_mutex_t lock;
    struct kept *kept; /* last given first */
    unsigned num_kept;
    struct block *blocks;
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
    for (struct block *block = replies->blocks, *next; block; block = next) {
        next = block->next;
        free(block->data);
        free(block);
    }
    pthread_mutex_destroy(&replies->lock);
    free(replies);
}

/* Lock held. */
static void keep(struct zipfs_replies *replies, void *buffer) {
    struct kept *kept = buffer;
    kept->next = replies->kept;
    replies->kept = kept;
    replies->num_kept++;
}

/* Keeps one more pair of buffers. Lock held; it happens once for two threads. */
static void add_block(struct zipfs_replies *replies) {
    struct block *block = malloc(sizeof *block);
    uint8_t *data = block ? aligned_alloc(BLOCK_SIZE, BLOCK_SIZE) : NULL;
    if (!data) {
        free(block);
        return;
    }
    madvise(data, BLOCK_SIZE, MADV_HUGEPAGE);
    *block = (struct block){replies->blocks, data};
    replies->blocks = block;
    keep(replies, data + ZIPFS_REPLY_SIZE);
    keep(replies, data);
}

void *zipfs_replies_take(struct zipfs_replies *replies) {
    pthread_mutex_lock(&replies->lock);
    if (!replies->kept)
        add_block(replies);
    struct kept *kept = replies->kept;
    if (kept) {
        replies->kept = kept->next;
        replies->num_kept--;
    }
    pthread_mutex_unlock(&replies->lock);
    return kept;
}

void zipfs_replies_give(struct zipfs_replies *replies, void *buffer) {
    pthread_mutex_lock(&replies->lock);
    if (replies->num_kept >= MAX_WARM) /* after a rush: the memory goes back, the addresses stay */
        madvise(buffer, ZIPFS_REPLY_SIZE, MADV_DONTNEED);
    keep(replies, buffer);
    pthread_mutex_unlock(&replies->lock);
}
