/* The operations that libfuse calls, and what they share with the session. */
#ifndef ZIPFS_FUSE_OPERATIONS_H
#define ZIPFS_FUSE_OPERATIONS_H

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include <stdatomic.h>

#include "fuse_backing.h"
#include "fuse_replies.h"
#include "fuse_resident.h"
#include "fuse_session.h"

/* The user data of every request. */
struct zipfs_served {
    const struct zipfs_api *api;
    struct zipfs_session_tree tree;
    struct zipfs_nodes *nodes;
    struct zipfs_replies *replies;
    struct zipfs_backing backing;
    struct zipfs_residents *residents; /* NULL: there are none */
    _Atomic int64_t looked_at_ns; /* when something that is no folder was looked up last; of the monotonic clock */
    void (*on_init)(struct zipfs_served *served); /* the kernel and libfuse have agreed */
};

extern const struct fuse_lowlevel_ops zipfs_fuse_operations;

#endif
