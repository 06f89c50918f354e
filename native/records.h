/* What is counted of each file that is open or was lately, and what the report tells of it. Any thread. */
#ifndef ZIPFS_RECORDS_H
#define ZIPFS_RECORDS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "zipfs.h"

/* struct zipfs_file_stats as atomics; relaxed: each counter is exact on its own. */
#define ZIPFS_ATOMIC_FIELD(name) _Atomic uint64_t name;
struct zipfs_counters {
    ZIPFS_FILE_COUNTERS(ZIPFS_ATOMIC_FIELD)
};

#define ZIPFS_COUNT(counter, n) atomic_fetch_add_explicit(&(counter), (n), memory_order_relaxed)
#define ZIPFS_COUNTED(counter) atomic_load_explicit(&(counter), memory_order_relaxed)

/* Of one open file. Those who count need no lock. */
struct zipfs_record {
    struct zipfs_counters counters;
    uint64_t file; /* its number in the cache, never used twice */
    _Atomic uint64_t size;
    bool is_open;
    struct zipfs_record *prev, *next;
    char name[];
};

/* Lists are circular; what came last is first. */
struct zipfs_records {
    pthread_mutex_t lock;
    struct zipfs_record open, closed;
    unsigned num_closed;
    uint64_t last_file;
    struct zipfs_counters gone; /* of files that are not listed any more */
};

void zipfs_records_init(struct zipfs_records *records);
void zipfs_records_clear(struct zipfs_records *records); /* every file is closed */

/* A record for a file that is opened; it goes on with the counters of one that was closed under the same name. NULL: no
 * memory. */
struct zipfs_record *zipfs_records_open(struct zipfs_records *records, const char *name);
/* Nobody counts any more. The record is kept for the report if there was a read, until there are many. */
void zipfs_records_close(struct zipfs_records *records, struct zipfs_record *record);

void zipfs_counters_get(const struct zipfs_counters *counters, struct zipfs_file_stats *stats_ret);
/* The sums over all files there ever were. */
void zipfs_records_sum(struct zipfs_records *records, struct zipfs_file_stats *stats_ret);
/* Writes the list of files as JSON. */
void zipfs_records_print(struct zipfs_records *records, FILE *out);

#endif
