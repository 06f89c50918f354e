/* The threads that serve a session. About as many as may be at work wait for requests: a reader's come several at a
 * time, each wakes a thread, and those that find the processors taken would only be in the way (O_DIRECT reads are 1.5
 * times as fast as with ten on two cores). Spare ones take over while all of those wait for something else. */
#ifndef ZIPFS_FUSE_THREADS_H
#define ZIPFS_FUSE_THREADS_H

#include <stdbool.h>

#include "api.h"
#include "fuse_operations.h"

struct zipfs_threads;

/* num_ready threads, and spare ones, started when they are needed, up to max_threads in all. NULL: no memory. */
struct zipfs_threads *zipfs_threads_create(struct fuse_session *fuse, const struct zipfs_api *api, unsigned num_ready,
                                           unsigned max_threads);
void zipfs_threads_free(struct zipfs_threads *threads); /* none runs; NULL is allowed */

/* Starts to serve, until the session exits or is unmounted; then the last thread calls on_end(context). They have all
 * signals blocked but ZIPFS_SESSION_SIGNAL, which must have a handler. Once. Returns an errno. */
int zipfs_threads_start(struct zipfs_threads *threads, void (*on_end)(void *context), void *context);
/* Has the session exit, and waits for the threads. false: after timeout_ms one is still at a request. */
bool zipfs_threads_stop(struct zipfs_threads *threads, unsigned timeout_ms);

#endif
