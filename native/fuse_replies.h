/* Buffers for replies to reads. The one that was given back last goes out first: it is still in the processor's caches,
 * while the kernel wakes the threads in turn. Any thread. */
#ifndef ZIPFS_FUSE_REPLIES_H
#define ZIPFS_FUSE_REPLIES_H

#include "zipfs.h"

enum { ZIPFS_REPLY_SIZE = ZIPFS_SLICES_SIZE_MAX }; /* the largest read of the kernel */

struct zipfs_replies;

struct zipfs_replies *zipfs_replies_create(void); /* NULL: no memory */
void zipfs_replies_free(struct zipfs_replies *replies); /* all are given back; NULL is allowed */
/* A page-aligned buffer of ZIPFS_REPLY_SIZE bytes for this thread. NULL: no memory. */
void *zipfs_replies_take(struct zipfs_replies *replies);
void zipfs_replies_give(struct zipfs_replies *replies, void *buffer);

#endif
