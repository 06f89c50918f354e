/* Threads that help with large requests, and do what is not urgent meanwhile: started at the first need (so after a
 * daemon's fork), idle otherwise. */
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

/* Something that is not urgent, in steps. Embedded in what it is about; zero but for `step` to start from. */
struct zipfs_task {
    bool (*step)(struct zipfs_task *task); /* one small step; returns whether there is more to do now */
    struct zipfs_task *next;
    bool is_listed, is_wanted, is_cancelled; /* under the lock of the workers */
    unsigned runner;
};

/* Sees to it that the task's steps are called from now on until one returns false, by one thread at a time, after the
 * parts of large requests. Does nothing where there are no threads to be had. */
void zipfs_workers_post(struct zipfs_workers *workers, struct zipfs_task *task);
/* Returns when no step is running; none will run before the next post. Not from a step. */
void zipfs_workers_cancel(struct zipfs_workers *workers, struct zipfs_task *task);

/* A fork waits until no thread is between these two, so that the child finds all locks free and no chunk half decoded.
 * Never nested; for those who hold a zipfs_workers, and with it the handlers of forks. */
void zipfs_reading_begin(void);
void zipfs_reading_end(void);

#endif
