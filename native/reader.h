/* The container reader, for file.c; the rest is in zipfs.h. */
#ifndef ZIPFS_READER_H
#define ZIPFS_READER_H

#include "zipfs.h"

/* The descriptor, which stays the reader's. */
int zipfs_reader_fd(const struct zipfs_reader *reader);

#endif
