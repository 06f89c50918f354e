/* The file that tells what the mount has counted: in its root, found by name alone, of the daemon's owner, with
 * contents of the moment at which it is opened. */
#ifndef ZIPFS_FUSE_STATS_H
#define ZIPFS_FUSE_STATS_H

#include "fuse_operations.h"

/* Its node, beyond all others. */
#define ZIPFS_STATS_NODE UINT64_MAX

bool zipfs_is_stats(fuse_ino_t parent, const char *name);

/* As the operations of those names. */
void zipfs_stats_lookup(fuse_req_t request);
void zipfs_stats_getattr(fuse_req_t request);
void zipfs_stats_open(fuse_req_t request, struct fuse_file_info *info);
void zipfs_stats_read(fuse_req_t request, size_t size, off_t offset, const struct fuse_file_info *info);
void zipfs_stats_release(fuse_req_t request, struct fuse_file_info *info);

#endif
