/* pread that finishes. */
#ifndef ZIPFS_IO_H
#define ZIPFS_IO_H

#include <errno.h>
#include <unistd.h>

#include "zipfs.h"

/* Reads until size bytes or the end of the file. Returns the count, or -errno. */
static inline ssize_t pread_full(int fd, uint8_t *dst, size_t size, uint64_t offset) {
    size_t done = 0;
    while (done < size) {
        ssize_t got = pread(fd, dst + done, size - done, (off_t)(offset + done));
        if (got == 0)
            break;
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        done += got;
    }
    return done;
}

/* Reads exactly size bytes: IO with errno, or TRUNCATED where the file ends before. */
static inline enum zipfs_status pread_exact(int fd, uint8_t *dst, size_t size, uint64_t offset) {
    ssize_t got = pread_full(fd, dst, size, offset);
    if (got < 0) {
        errno = (int)-got;
        return ZIPFS_IO;
    }
    return (size_t)got == size ? ZIPFS_OK : ZIPFS_TRUNCATED;
}

#endif
