/* Threads that help with large requests: started at the first need (so after a daemon's fork), idle otherwise. */
#ifndef ZIPFS_WORKERS_H
#define ZIPFS_WORKERS_H

#include "zipfs.h"

struct zipfs_workers;

/* At most max_threads threads besides the callers; 0 is allowed. */
enum zipfs_status zipfs_workers_create(unsigned max_threads, struct zipfs_workers **workers_ret);
void zipfs_workers_free(struct zipfs_workers *workers); /* nothing runs; NULL is allowed */

/*
 * Calls part(context, i) for every i below num_parts, on this thread and on those that are idle, and returns when all
 * calls have. It needs no worker to make progress: none are left in a forked child, and new ones are started there.
 */
void zipfs_workers_run(struct zipfs_workers *workers, size_t num_parts, void (*part)(void *context, size_t index),
                       void *context);

/* A fork waits until no thread is between these two, so that the child finds all locks free and no chunk half decoded.
 * Never nested; for those who hold a zipfs_workers, and with it the handlers of forks. */
void zipfs_reading_begin(void);
void zipfs_reading_end(void);

#endif
