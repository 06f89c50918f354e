/* The container reader, for file.c and copy.c; the rest is in zipfs.h. */
#ifndef ZIPFS_READER_H
#define ZIPFS_READER_H

#include "buffers.h"
#include "zipfs.h"

/* The descriptor, which stays the reader's. */
int zipfs_reader_fd(const struct zipfs_reader *reader);

/* Reads the payload of chunk `number` into one of `buffers`, to which the caller gives it back. */
enum zipfs_status zipfs_reader_payload(struct zipfs_reader *reader, struct zipfs_buffers *buffers, uint64_t number,
                                       struct zipfs_buffer **payload_ret, struct zipfs_entry *entry_ret);

#endif
