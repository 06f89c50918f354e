/* An open file, as file.c, fetch.c and stream.c share it. */
#ifndef ZIPFS_FILE_H
#define ZIPFS_FILE_H

#include "cache.h"
#include "damage.h"
#include "stream.h"

struct zipfs_file {
    _Atomic unsigned refs, num_openers;
    _Atomic uint64_t num_reads, num_served;
    struct zipfs_cache *cache;
    struct zipfs_record *record; /* in the cache */
    struct zipfs_counters *counters;
    struct zipfs_pool *pool;
    uint64_t size;
    struct zipfs_reader *reader;       /* NULL: passed through */
    const struct zipfs_header *header; /* NULL: passed through */
    int fd;                            /* the reader's, or our own */
    struct zipfs_source source;        /* on fd */
    bool drops_source, decodes_ahead, keeps_shared;
    struct zipfs_stream stream;
    struct zipfs_damage damage;
};

#endif
