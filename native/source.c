#include "source.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <sys/uio.h>

#include "common.h"
#include "io.h"

/* Bytes that are only to be in memory go to one small place again and again, which stays in the processor's caches. */
enum { SCRATCH_SIZE = 64 << 10, MAX_PARTS = 64, WARM_SIZE = 8 << 20, LARGE_PAGE = 4 << 20 };

void zipfs_source_init(struct zipfs_source *source, int fd) {
    source->fd = fd;
}

/* What is in memory of a range, from its start: bytes read, 0 or more. */
static size_t read_present(struct zipfs_source *source, const struct iovec *parts, int num_parts, uint64_t offset) {
    ssize_t got = preadv2(source->fd, parts, num_parts, (off_t)offset, RWF_NOWAIT);
    return got > 0 ? (size_t)got : 0;
}

size_t zipfs_source_read_present(struct zipfs_source *source, uint8_t *dst, size_t size, uint64_t offset) {
    struct iovec part = {dst, size};
    return read_present(source, &part, 1, offset);
}

enum zipfs_status zipfs_source_read_rest(struct zipfs_source *source, uint8_t *dst, size_t size, uint64_t offset) {
    atomic_store_explicit(&source->warm_size, 0, memory_order_relaxed);
    atomic_store_explicit(&source->is_cold, true, memory_order_relaxed);
    return pread_exact(source->fd, dst, size, offset);
}

bool zipfs_source_is_cold(const struct zipfs_source *source) {
    return atomic_load_explicit(&source->is_cold, memory_order_relaxed);
}

/* Not posix_fadvise(WILLNEED): that fills the system's cache with single pages, which cost four times as much to make,
 * and to read later, as the large ones of a read (Linux 6.18, ext4). */
void zipfs_source_fetch(struct zipfs_source *source, uint64_t offset, uint64_t size) {
    uint8_t scratch[SCRATCH_SIZE];
    struct iovec parts[MAX_PARTS];
    int num_parts = 0;
    for (uint64_t rest = size; rest > 0 && num_parts < MAX_PARTS; num_parts++) {
        size_t part_size = rest < SCRATCH_SIZE ? rest : SCRATCH_SIZE;
        parts[num_parts] = (struct iovec){scratch, part_size};
        rest -= part_size;
    }
    if (read_present(source, parts, num_parts, offset) < size) {
        atomic_store_explicit(&source->warm_size, 0, memory_order_relaxed);
        (void)!preadv(source->fd, parts, num_parts, (off_t)offset); /* an error is for those who need the bytes */
    } else if (atomic_fetch_add_explicit(&source->warm_size, size, memory_order_relaxed) + size >= WARM_SIZE) {
        atomic_store_explicit(&source->is_cold, false, memory_order_relaxed);
    }
}

void zipfs_source_drop(struct zipfs_source *source, uint64_t offset, uint64_t size) {
    uint64_t overlap = offset < LARGE_PAGE ? offset : LARGE_PAGE;
    offset -= overlap;
    size += overlap;
    posix_fadvise(source->fd, (off_t)offset, (off_t)size, POSIX_FADV_DONTNEED);
}
