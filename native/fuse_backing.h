/* Files that the kernel reads by itself ("passthrough", Linux 6.9 and later, for root): what a mount passes through is
 * then as fast as in the source, mapped or read, and is cached once. libfuse knows of it from 3.17 on; here it is agreed
 * on below libfuse, so that 3.14 does. Any thread. */
#ifndef ZIPFS_FUSE_BACKING_H
#define ZIPFS_FUSE_BACKING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

/* What the kernel and a session have agreed on. All zeros before. */
struct zipfs_backing {
    int device_fd;          /* of the session */
    bool is_asked;          /* the session's INIT is looked after */
    bool is_offered;        /* by the kernel; while is_settled is not set */
    atomic_bool is_settled; /* INIT was answered */
    atomic_bool is_agreed;  /* and the kernel has not refused since */
};

/* Has the session, which is mounted and not served yet, ask for it, where that may be of use. */
void zipfs_backing_negotiate(struct zipfs_backing *backing, struct fuse_session *fuse);

/* Whether the kernel reads by itself; waits until it has the answer to INIT, which is on its way. */
bool zipfs_backing_await(struct zipfs_backing *backing);

/* An id for the file that fd, which stays the caller's, is open on. 0: the kernel does not read it by itself. */
int32_t zipfs_backing_open(struct zipfs_backing *backing, int fd);
/* Who has opened a file by the id reads on. 0 is allowed. */
void zipfs_backing_close(struct zipfs_backing *backing, int32_t id);

/* As fuse_reply_open(), of a file that the kernel reads by `id`, unless that is 0. All who have a node open at a time
 * must have been given the same. */
int zipfs_backing_reply_open(fuse_req_t request, const struct fuse_file_info *info, int32_t id);

#endif
