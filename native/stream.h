/* What an open file does ahead of its sequential readers, and behind them: it has stored bytes read before they are
 * needed, where the disk is slow, has chunks decoded for readers who wait for each answer before they ask again, has
 * chunks kept where several read the same, and lets the system drop what was used. */
#ifndef ZIPFS_STREAM_H
#define ZIPFS_STREAM_H

#include <pthread.h>

#include "cursors.h"
#include "source.h"
#include "tensors.h"
#include "workers.h"

struct zipfs_file;

struct zipfs_stream {
    pthread_mutex_t lock;
    struct zipfs_cursors cursors; /* under the lock */
    struct zipfs_task source_task, decode_task;
    struct zipfs_tensors *tensors; /* under the lock; NULL also where there is no table */
    bool knows_tensors;
    unsigned num_inside; /* reads under way */
};

void zipfs_stream_init(struct zipfs_stream *stream); /* zero to start from */
/* Ends what is under way; nobody reads. */
void zipfs_stream_end(struct zipfs_file *file);

/* Called before a read of [offset, offset + size), which lies in the file, and after it; between zipfs_reading_begin()
 * and end. Returns whether others are likely to read the same soon, so that it should be kept. */
bool zipfs_stream_begin(struct zipfs_file *file, uint64_t offset, size_t size);
void zipfs_stream_finish(struct zipfs_file *file);

#endif
