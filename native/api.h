/* How the extension zipfs._fuse reaches the library inside the extension zipfs._native: through a table of functions
 * that _native offers as a capsule. So a process has one copy of the library's state (kernel, log, cache, forks), and
 * _native needs no libfuse. Both extensions are built together; `size` tells when they were not. */
#ifndef ZIPFS_API_TABLE_H
#define ZIPFS_API_TABLE_H

#include "zipfs.h"

#define ZIPFS_API_CAPSULE "zipfs._native.api"
#define ZIPFS_SCAN_CAPSULE "zipfs._native.scan" /* of a struct zipfs_scan, which goes with it */

/* The functions of zipfs.h of those names. */
struct zipfs_api {
    size_t size; /* ZIPFS_API_SIZE */
    void (*log)(const char *line);
    void (*on_wait)(void (*about_to_wait)(void));
    void (*file_ref)(struct zipfs_file *file);
    void (*file_unref)(struct zipfs_file *file);
    int (*file_fd)(const struct zipfs_file *file);
    void (*file_join)(struct zipfs_file *file);
    void (*file_leave)(struct zipfs_file *file);
    ssize_t (*file_read)(struct zipfs_file *file, void *buffer, size_t size, uint64_t offset,
                         struct zipfs_slices *slices_ret);
    ssize_t (*file_pread)(struct zipfs_file *file, void *dst, size_t size, uint64_t offset);
    bool (*file_has_served)(struct zipfs_file *file, size_t size);
    void (*file_put)(struct zipfs_file *file, const struct zipfs_slices *slices);
};

/* Of all that both extensions know the inside of. */
#define ZIPFS_API_SIZE \
    (sizeof(struct zipfs_api) + 1000 * sizeof(struct zipfs_slices) + 1000000 * sizeof(struct zipfs_scan))

extern const struct zipfs_api zipfs_api;

#endif
