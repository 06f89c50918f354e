/* The chunk cache, as file.c and the tests use it: single flight, least recently used out, bounded by bytes.
 * struct zipfs_cache itself and its public part are in zipfs.h. */
#ifndef ZIPFS_CACHE_H
#define ZIPFS_CACHE_H

#include "pool.h"
#include "records.h"
#include "zipfs.h"

/* What a held chunk costs besides its buffer: its node, its share of the hash table, malloc's rounding. */
enum { ZIPFS_CHUNK_OVERHEAD = 512 };

/* A pinned chunk: data[0 .. size) stays as it is until it is put back. Lent memory is another reader's, who waits for
 * that, perhaps while others wait for what it has claimed: put it back before anything else is done. */
struct zipfs_chunk {
    const uint8_t *data;
    size_t size;
    bool is_lent;
};

/* Decodes into dst; 0 or -errno. Called without any lock, by one thread per chunk at a time. */
typedef int (*zipfs_load_fn)(void *context, uint8_t *dst);

/* For a file that is opened; its size is to be filled in. NULL: no memory. */
struct zipfs_record *zipfs_cache_open_record(struct zipfs_cache *cache, const char *name);
/* Forgets the chunks of a file that nobody reads any more. */
void zipfs_cache_close_record(struct zipfs_cache *cache, struct zipfs_record *record);

/* AGAIN: a chunk that is wanted is likely to be wanted again, so it becomes the most recently used. PASSING: streams go
 * by, and chunks go in the order in which they came, so that the last of several readers can be as far behind the first
 * as the budget reaches. */
enum zipfs_use { ZIPFS_USE_AGAIN, ZIPFS_USE_PASSING };

/*
 * Pins chunk `number` of the file of `record`, which has `size` plain bytes. If it is not held, one caller loads it and
 * all others who ask meanwhile wait for that. A failure goes to all of them and is forgotten. capacity is the buffer to
 * allocate (size or more): equal capacities let evicted buffers be used again. Returns 0 or -errno.
 */
int zipfs_cache_get(struct zipfs_cache *cache, struct zipfs_record *record, uint64_t number, size_t size,
                    size_t capacity, enum zipfs_use use, zipfs_load_fn load, void *context,
                    const struct zipfs_chunk **chunk_ret);
void zipfs_cache_put(struct zipfs_cache *cache, const struct zipfs_chunk *chunk);

/* Holds a chunk that nobody has asked for yet, unless it is held or being loaded already. false: there is no room for
 * it in what may be held ahead, or in the budget. A chunk whose load fails is forgotten: whoever asks tries again. */
bool zipfs_cache_load_ahead(struct zipfs_cache *cache, struct zipfs_record *record, uint64_t number, size_t size,
                            size_t capacity, zipfs_load_fn load, void *context);

/*
 * For readers that decode a whole chunk into their own memory. MINE: this thread is to decode the chunk and then to
 * call zipfs_cache_publish; threads that ask meanwhile wait for that. HELD: *chunk_ret is pinned. BUSY: another thread
 * is at it, and `wait` is false. A thread may wait only when it has published all that it claimed.
 */
enum zipfs_claim { ZIPFS_CLAIM_MINE, ZIPFS_CLAIM_HELD, ZIPFS_CLAIM_BUSY };
enum zipfs_claim zipfs_cache_claim(struct zipfs_cache *cache, struct zipfs_record *record, uint64_t number, bool wait,
                                   const struct zipfs_chunk **chunk_ret);
/* Lends the decoded bytes to those who wait, until they have copied them, or tells them the error. Nothing is kept. */
void zipfs_cache_publish(struct zipfs_cache *cache, const struct zipfs_chunk *claimed, const uint8_t *data, size_t size,
                         int error);

void zipfs_cache_print_files(struct zipfs_cache *cache, FILE *out); /* as zipfs_records_print */
const struct zipfs_cache_options *zipfs_cache_options(const struct zipfs_cache *cache); /* jobs is not 0 */
struct zipfs_pool *zipfs_cache_pool(struct zipfs_cache *cache);
/* The cache lives until its creator freed it and every file that holds a reference gave it back. */
void zipfs_cache_ref(struct zipfs_cache *cache);

#endif
