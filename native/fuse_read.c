/* The read operation of libfuse's high-level interface. libfuse's threads call it: it must never touch Python. */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "zipfs.h"

/* Where struct fuse_file_info holds fh, on 64-bit targets: before libfuse 3 an unsigned long fh_old came first. */
enum { FH_OFFSET_FUSE2 = 24, FH_OFFSET_FUSE3 = 16 };

static int fuse_read(char *dst, size_t size, off_t offset, const void *file_info, size_t fh_offset) {
    uint64_t handle;
    memcpy(&handle, (const char *)file_info + fh_offset, sizeof handle);
    if (handle == 0)
        return -EBADF;
    if (offset < 0)
        return -EINVAL;
    ssize_t got = zipfs_file_pread((struct zipfs_file *)(uintptr_t)handle, dst, size > INT_MAX ? INT_MAX : size,
                                   offset);
    return (int)got;
}

int zipfs_fuse2_read(const char *path, char *dst, size_t size, off_t offset, void *file_info) {
    (void)path;
    return fuse_read(dst, size, offset, file_info, FH_OFFSET_FUSE2);
}

int zipfs_fuse3_read(const char *path, char *dst, size_t size, off_t offset, void *file_info) {
    (void)path;
    return fuse_read(dst, size, offset, file_info, FH_OFFSET_FUSE3);
}
