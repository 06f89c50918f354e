/* What an open file does ahead of its sequential readers, and behind them: it has stored bytes read before
 * they are needed, where the disk is slow, and lets the system drop those that were used. */
#ifndef ZIPFS_STREAM_H
#define ZIPFS_STREAM_H

#include <pthread.h>

#include "cursors.h"
#include "source.h"
#include "workers.h"

struct zipfs_file;

struct zipfs_stream {
    pthread_mutex_t lock;
    struct zipfs_cursors cursors; /* under the lock */
    struct zipfs_task source_task;
};

void zipfs_stream_init(struct zipfs_stream *stream); /* zero to start from */
/* Ends what is under way; nobody reads. */
void zipfs_stream_end(struct zipfs_file *file);

/* Called before a read of [offset, offset + size), which lies in the file; between zipfs_reading_begin() and end. */
void zipfs_stream_note(struct zipfs_file *file, uint64_t offset, size_t size);

#endif
