#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "acl.h"
#include "zipfs.h"

enum { MAX_ATTEMPTS = 16 };

/* glibc has no wrapper. EAGAIN means that a rename raced with the walk and that beneath could not be decided: walk
 * again. */
int zipfs_open_beneath(int dir_fd, const char *path, int flags) {
    struct open_how how = {
        .flags = (unsigned)flags | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
    };
    for (int attempt = 0;; attempt++) {
        long fd = syscall(SYS_openat2, dir_fd, path, &how, sizeof how);
        if (fd >= 0)
            return (int)fd;
        if (errno != EINTR && (errno != EAGAIN || attempt >= MAX_ATTEMPTS))
            return -errno;
    }
}

int zipfs_stat_beneath(int dir_fd, const char *path, struct stat *st_ret) {
    int fd = zipfs_open_beneath(dir_fd, path, O_PATH | O_NOFOLLOW);
    if (fd < 0)
        return fd;
    int error = fstat(fd, st_ret) == 0 ? 0 : -errno;
    if (!error)
        zipfs_apply_acl_at(fd, "", st_ret);
    close(fd);
    return error;
}
