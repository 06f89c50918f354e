/* The file under a container or a passed-through file, and what the system keeps of it in memory. */
#ifndef ZIPFS_SOURCE_H
#define ZIPFS_SOURCE_H

#include "zipfs.h"

struct zipfs_source {
    int fd;
    _Atomic bool is_cold;       /* a read had to wait for the disk lately */
    _Atomic uint64_t warm_size; /* what was read ahead since, without waiting */
};

void zipfs_source_init(struct zipfs_source *source, int fd); /* fd stays the caller's */

/* Reads what the system has in memory of a range, from its start, and never waits. Returns its size. */
size_t zipfs_source_read_present(struct zipfs_source *source, uint8_t *dst, size_t size, uint64_t offset);
/* As pread_exact, of what was not in memory, which is noted. */
enum zipfs_status zipfs_source_read_rest(struct zipfs_source *source, uint8_t *dst, size_t size, uint64_t offset);

/* Whether it pays to read ahead. */
bool zipfs_source_is_cold(const struct zipfs_source *source);
/* Reads a range of 4 MiB at most so that the system has it in memory, in one request, and waits for that. When there
 * was nothing to wait for in the last 8 MiB, the source is not cold any more. */
void zipfs_source_fetch(struct zipfs_source *source, uint64_t offset, uint64_t size);
/* Lets the system forget a range, and what it kept of the range before, as it forgets its larger pages as a whole. */
void zipfs_source_drop(struct zipfs_source *source, uint64_t offset, uint64_t size);

#endif
