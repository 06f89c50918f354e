/* How the headers of containers are found; for scans of folders. */
#ifndef ZIPFS_HEADERS_H
#define ZIPFS_HEADERS_H

#include "zipfs.h"

/* Whether the last component of path ends in the suffix, and is longer. */
bool zipfs_has_suffix(const char *path, const char *suffix);
/* Whether some version of the file with the device and inode of st is remembered. */
bool zipfs_is_known(struct zipfs_headers *headers, const struct stat *st);
/* Fills what found->st leaves open, for what is at path; a file that is opened for that may be another one by now, and
 * found->st becomes that one's. 0 or -errno: ENOENT when it is no regular file any more. */
int zipfs_look_into(struct zipfs_headers *headers, int dir_fd, const char *path, const char *suffix,
                    struct zipfs_found *found);
/* The same of a regular file of which nothing is known: without a look at what is remembered, nor at found. */
int zipfs_read_header(struct zipfs_headers *headers, int dir_fd, const char *path, struct zipfs_found *found);

#endif
