/* See fuse_backing.h. Messages and numbers are those of include/uapi/linux/fuse.h, protocol 7.40, of which the headers of
 * many systems do not know yet. */
#include "fuse_backing.h"

#include <errno.h>
#include <linux/fuse.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "fuse_operations.h"

enum {
    HAS_FLAGS2 = 1 << 30,      /* FUSE_INIT_EXT */
    IN_FLAGS2 = 1 << 5,        /* FUSE_PASSTHROUGH, from bit 32 on */
    IN_OPEN_FLAGS = 1 << 7,    /* FOPEN_PASSTHROUGH */
    MAX_STACK_DEPTH = 1,       /* files of an overlay come from here, so that an overlay can lie on the mount */
};

struct backing_map {
    int32_t fd;
    uint32_t flags;
    uint64_t padding;
};
#define BACKING_OPEN _IOW(229, 1, struct backing_map)
#define BACKING_CLOSE _IOW(229, 2, uint32_t)

struct init_request {
    struct fuse_in_header header;
    uint32_t major, minor, max_readahead, flags, flags2;
};

struct init_reply {
    uint32_t major, minor, max_readahead, flags;
    uint16_t max_background, congestion_threshold;
    uint32_t max_write, time_gran;
    uint16_t max_pages, map_alignment;
    uint32_t flags2, max_stack_depth;
};

struct open_reply {
    uint64_t fh;
    uint32_t flags;
    int32_t backing_id;
};

static struct zipfs_backing *backing_of(void *user_data) {
    struct zipfs_served *served = user_data;
    return &served->backing;
}

/* The first request is INIT, and there is no other until it is answered. */
static ssize_t read_request(int fd, void *buffer, size_t size, void *user_data) {
    struct zipfs_backing *backing = backing_of(user_data);
    const struct init_request *init = buffer;
    ssize_t got = read(fd, buffer, size);
    if (!atomic_load_explicit(&backing->is_settled, memory_order_acquire) && got >= (ssize_t)sizeof *init)
        backing->is_offered = (init->flags & HAS_FLAGS2) && (init->flags2 & IN_FLAGS2);
    return got;
}

/* The first reply: the kernel takes no file before it has it. */
static ssize_t write_first(struct zipfs_backing *backing, int fd, const struct iovec *parts, int count) {
    bool is_wanted = backing->is_offered && count == 2 && parts[1].iov_len >= sizeof(struct init_reply);
    if (is_wanted) {
        struct init_reply *init = parts[1].iov_base;
        init->flags |= HAS_FLAGS2;
        init->flags2 |= IN_FLAGS2;
        init->max_stack_depth = MAX_STACK_DEPTH;
    }
    ssize_t written = writev(fd, parts, count);
    atomic_store(&backing->is_agreed, is_wanted && written > 0);
    atomic_store_explicit(&backing->is_settled, true, memory_order_release);
    return written;
}

static ssize_t write_reply(int fd, struct iovec *parts, int count, void *user_data) {
    struct zipfs_backing *backing = backing_of(user_data);
    return atomic_load_explicit(&backing->is_settled, memory_order_acquire) ? writev(fd, parts, count)
                                                                             : write_first(backing, fd, parts, count);
}

void zipfs_backing_negotiate(struct zipfs_backing *backing, struct fuse_session *fuse) {
    backing->device_fd = fuse_session_fd(fuse);
    if (geteuid() != 0) /* the kernel would refuse each file */
        return;
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 14)
    static const struct fuse_custom_io io = {.read = read_request, .writev = write_reply};
    backing->is_asked = fuse_session_custom_io(fuse, &io, backing->device_fd) == 0;
#endif
}

bool zipfs_backing_await(struct zipfs_backing *backing) {
    const struct timespec moment = {.tv_nsec = 100000};
    while (backing->is_asked && !atomic_load_explicit(&backing->is_settled, memory_order_acquire))
        nanosleep(&moment, NULL);
    return atomic_load(&backing->is_agreed);
}

int32_t zipfs_backing_open(struct zipfs_backing *backing, int fd) {
    struct backing_map map = {.fd = fd};
    if (!atomic_load_explicit(&backing->is_agreed, memory_order_relaxed))
        return 0;
    int id = ioctl(backing->device_fd, BACKING_OPEN, &map);
    if (id < 0 && errno == EPERM) /* root of a namespace, and no more */
        atomic_store(&backing->is_agreed, false);
    return id > 0 ? id : 0;
}

void zipfs_backing_close(struct zipfs_backing *backing, int32_t id) {
    uint32_t closed = (uint32_t)id;
    if (id)
        ioctl(backing->device_fd, BACKING_CLOSE, &closed);
}

int zipfs_backing_reply_open(fuse_req_t request, const struct fuse_file_info *info, int32_t id) {
    struct open_reply reply = {.fh = info->fh, .flags = IN_OPEN_FLAGS, .backing_id = id};
    return id ? fuse_reply_buf(request, (const char *)&reply, sizeof reply) : fuse_reply_open(request, info);
}
