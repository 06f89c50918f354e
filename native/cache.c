/* See cache.h. One lock guards table, list and budget; nothing is decoded, read or allocated (but nodes) under it. */
#include "cache.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "common.h"
#include "pages.h"
#include "waiting.h"

enum { BUFFER_ALIGN = 4096, BUCKETS_MIN = 64, BUCKETS_MAX = 1 << 20, SPARES_MAX = 4, JOBS_MAX = 1024 };

/* After so many more reads of a file, what was decoded ahead of one of its readers is not expected to be read. */
enum { STALE_READS = 256 };

enum node_state { LOADING, READY, FAILED };

/* A chunk that is held, being loaded, or (out of the table) still pinned by somebody. */
struct node {
    struct zipfs_chunk chunk; /* first: a pinned chunk is its node */
    uint8_t *buffer;
    size_t capacity;
    struct zipfs_record *record;
    uint64_t number;
    struct node *hash_next;
    struct node *prev, *next; /* in a list while READY and held; next also chains spares */
    unsigned pins;            /* readers and waiters */
    enum node_state state;
    bool charged;        /* counted in held_bytes: stays after the last pin is gone */
    bool overdrawn;      /* counted in overdraft_bytes instead */
    bool is_ahead;       /* decoded ahead, and nobody has asked for it yet */
    uint64_t born_reads; /* of its file, when it was decoded ahead */
    int error;
    pthread_cond_t loaded;
};

struct zipfs_cache {
    pthread_mutex_t lock;
    struct zipfs_cache_options options;
    size_t held_bytes, ahead_bytes, overdraft_bytes;
    struct node **buckets;
    size_t bucket_mask;
    struct node list;    /* circular: list.next is the least recently used */
    struct node ahead;   /* the same of those that are ahead */
    struct node *spares; /* nodes with a buffer, for the next misses; last used first */
    unsigned num_spares;
    struct zipfs_pool *pool;
    _Atomic unsigned refs;
    struct zipfs_records records;
    _Atomic uint64_t num_evictions;
};

/* ---- making and freeing ---- */

static size_t num_buckets(size_t budget) {
    size_t num = BUCKETS_MIN;
    while (num < BUCKETS_MAX && num << ZIPFS_CHUNK_LOG2_MIN < budget)
        num *= 2;
    return num;
}

/* One per CPU that this process may use. */
static unsigned default_jobs(void) {
    cpu_set_t cpus;
    int num_cpus = sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? CPU_COUNT(&cpus) : 0;
    return num_cpus > 0 ? num_cpus : 1;
}

enum zipfs_status zipfs_cache_create(const struct zipfs_cache_options *options, struct zipfs_cache **cache_ret) {
    if (options->jobs > JOBS_MAX)
        return ZIPFS_BAD_ARGUMENT;
    struct zipfs_cache *cache = calloc(1, sizeof *cache);
    if (!cache)
        return ZIPFS_NO_MEMORY;
    size_t num = num_buckets(options->budget);
    cache->options = *options;
    cache->options.jobs = options->jobs ? options->jobs : default_jobs();
    cache->buckets = calloc(num, sizeof *cache->buckets);
    if (!cache->buckets || zipfs_pool_create(cache->options.jobs, &cache->pool) != ZIPFS_OK) {
        free(cache->buckets);
        free(cache);
        return ZIPFS_NO_MEMORY;
    }
    cache->bucket_mask = num - 1;
    cache->list.prev = cache->list.next = &cache->list;
    cache->ahead.prev = cache->ahead.next = &cache->ahead;
    atomic_init(&cache->refs, 1);
    pthread_mutex_init(&cache->lock, NULL);
    zipfs_records_init(&cache->records);
    *cache_ret = cache;
    return ZIPFS_OK;
}

static void free_node(struct node *node) {
    pthread_cond_destroy(&node->loaded);
    zipfs_pages_free(node->buffer, node->capacity);
    free(node);
}

static void free_chain(struct node *node) {
    while (node) {
        struct node *next = node->next;
        free_node(node);
        node = next;
    }
}

void zipfs_cache_ref(struct zipfs_cache *cache) {
    atomic_fetch_add(&cache->refs, 1);
}

void zipfs_cache_free(struct zipfs_cache *cache) {
    if (!cache || atomic_fetch_sub(&cache->refs, 1) != 1)
        return;
    free_chain(cache->spares); /* every file has dropped its chunks, so the lists are empty */
    zipfs_pool_free(cache->pool);
    zipfs_records_clear(&cache->records);
    pthread_mutex_destroy(&cache->lock);
    free(cache->buckets);
    free(cache);
}

const struct zipfs_cache_options *zipfs_cache_options(const struct zipfs_cache *cache) {
    return &cache->options;
}

struct zipfs_pool *zipfs_cache_pool(struct zipfs_cache *cache) {
    return cache->pool;
}

/* ---- what is counted ---- */

struct held_stats {
    ZIPFS_CACHE_COUNTERS(ZIPFS_COUNTER_FIELD)
};

static struct held_stats held_stats(struct zipfs_cache *cache) {
    struct held_stats stats = {.cache_evictions = ZIPFS_COUNTED(cache->num_evictions)};
    pthread_mutex_lock(&cache->lock);
    stats.cache_bytes = cache->held_bytes;
    stats.ahead_held_bytes = cache->ahead_bytes;
    stats.overdraft_bytes = cache->overdraft_bytes;
    stats.source_buffer_bytes = zipfs_buffers_bytes(zipfs_pool_buffers(cache->pool));
    pthread_mutex_unlock(&cache->lock);
    return stats;
}

void zipfs_cache_stats(struct zipfs_cache *cache, struct zipfs_stats *stats_ret) {
    struct zipfs_file_stats files;
    zipfs_records_sum(&cache->records, &files);
    struct held_stats held = held_stats(cache);
#define FROM_FILES(name) .name = files.name,
#define FROM_CACHE(name) .name = held.name,
    *stats_ret = (struct zipfs_stats){ZIPFS_FILE_COUNTERS(FROM_FILES) ZIPFS_CACHE_COUNTERS(FROM_CACHE)};
#undef FROM_FILES
#undef FROM_CACHE
}

void zipfs_cache_print_files(struct zipfs_cache *cache, FILE *out) {
    zipfs_records_print(&cache->records, out);
}

struct zipfs_record *zipfs_cache_open_record(struct zipfs_cache *cache, const char *name) {
    return zipfs_records_open(&cache->records, name);
}

/* ---- table and list; the lock is held in all of these ---- */

static struct node **bucket_of(struct zipfs_cache *cache, const struct zipfs_record *record, uint64_t number) {
    uint64_t x = (number + record->file * 0x9E3779B97F4A7C15u) * 0xD6E8FEB86659FD93u;
    return &cache->buckets[(x >> 32) & cache->bucket_mask];
}

static struct node *find(struct zipfs_cache *cache, const struct zipfs_record *record, uint64_t number) {
    struct node *node = *bucket_of(cache, record, number);
    while (node && (node->record != record || node->number != number))
        node = node->hash_next;
    return node;
}

static void insert(struct zipfs_cache *cache, struct node *node) {
    struct node **bucket = bucket_of(cache, node->record, node->number);
    node->hash_next = *bucket;
    *bucket = node;
}

static void remove_from_table(struct zipfs_cache *cache, struct node *node) {
    struct node **link = bucket_of(cache, node->record, node->number);
    while (*link != node)
        link = &(*link)->hash_next;
    *link = node->hash_next;
}

static void list_append(struct node *list, struct node *node) {
    node->prev = list->prev;
    node->next = list;
    node->prev->next = node->next->prev = node;
}

static void list_remove(struct node *node) {
    node->prev->next = node->next;
    node->next->prev = node->prev;
}

static size_t cost(const struct node *node) {
    return node->capacity + ZIPFS_CHUNK_OVERHEAD;
}

static void charge(struct zipfs_cache *cache, struct node *node) {
    node->charged = true;
    cache->held_bytes += cost(node);
}

static void discharge(struct zipfs_cache *cache, struct node *node) {
    node->charged = false;
    cache->held_bytes -= cost(node);
}

static void overdraw(struct zipfs_cache *cache, struct node *node) {
    node->overdrawn = true;
    cache->overdraft_bytes += cost(node);
}

static void set_ahead(struct zipfs_cache *cache, struct node *node, bool is_ahead) {
    if (node->is_ahead != is_ahead)
        cache->ahead_bytes += is_ahead ? cost(node) : -cost(node);
    node->is_ahead = is_ahead;
}

static void push(struct node **chain, struct node *node) {
    node->next = *chain;
    *chain = node;
}

/* Keeps an unused node and its buffer for the next miss; *garbage receives what is to be freed unlocked. The oldest
 * spare makes room: those of a capacity that nobody asks for must not stay. */
static void retire(struct zipfs_cache *cache, struct node *node, struct node **garbage) {
    cache->overdraft_bytes -= node->overdrawn ? cost(node) : 0;
    node->overdrawn = false;
    push(node->buffer ? &cache->spares : garbage, node);
    cache->num_spares += node->buffer != NULL;
    if (cache->num_spares <= SPARES_MAX)
        return;
    struct node **last = &cache->spares;
    while ((*last)->next)
        last = &(*last)->next;
    push(garbage, *last);
    *last = NULL;
    cache->num_spares--;
}

/* Lets a chunk of a list go. */
static void evict(struct zipfs_cache *cache, struct node *node, struct node **garbage) {
    if (node->is_ahead)
        ZIPFS_COUNT(node->record->counters.ahead_wasted_bytes, node->chunk.size);
    set_ahead(cache, node, false);
    list_remove(node);
    remove_from_table(cache, node);
    discharge(cache, node);
    retire(cache, node, garbage);
}

static struct node *first_unpinned(struct node *list) {
    struct node *node = list->next;
    while (node != list && node->pins > 0)
        node = node->next;
    return node != list ? node : NULL;
}

/* What can be let go first: the least recently used chunk, else one that is ahead; NULL when all is pinned. */
static struct node *first_victim(struct zipfs_cache *cache) {
    struct node *victim = first_unpinned(&cache->list);
    return victim ? victim : first_unpinned(&cache->ahead);
}

/* Evicts until bytes more fit into the budget. Pinned chunks stay, so it may fail. */
static bool make_room(struct zipfs_cache *cache, size_t bytes, struct node **garbage) {
    size_t others = cache->overdraft_bytes + zipfs_buffers_bytes(zipfs_pool_buffers(cache->pool));
    size_t budget = cache->options.budget > others ? cache->options.budget - others : 0;
    struct node *victim;
    if (bytes > budget)
        return false;
    while (cache->held_bytes + bytes > budget && (victim = first_victim(cache))) {
        evict(cache, victim, garbage);
        ZIPFS_COUNT(cache->num_evictions, 1);
    }
    return cache->held_bytes + bytes <= budget;
}

/* A spare of that capacity, or NULL. */
static struct node *take_spare(struct zipfs_cache *cache, size_t capacity) {
    for (struct node **link = &cache->spares; *link; link = &(*link)->next) {
        struct node *node = *link;
        if (node->capacity != capacity)
            continue;
        *link = node->next;
        cache->num_spares--;
        return node;
    }
    return NULL;
}

/* ---- getting chunks ---- */

static struct node *new_node(size_t capacity) {
    struct node *node = calloc(1, sizeof *node);
    if (!node)
        return NULL;
    node->capacity = capacity;
    pthread_cond_init(&node->loaded, NULL);
    return node;
}

/* Makes a held chunk the most recently used. */
static void touch(struct zipfs_cache *cache, struct node *node) {
    list_remove(node);
    list_append(&cache->list, node);
}

/* Waits for a node that is being loaded, pinned by the caller; lock held. Returns its outcome. */
static int await(struct zipfs_cache *cache, struct zipfs_record *record, struct node *node) {
    if (node->state == LOADING) {
        ZIPFS_COUNT(record->counters.cache_waits, 1);
        zipfs_about_to_wait();
        while (node->state == LOADING)
            pthread_cond_wait(&node->loaded, &cache->lock);
    } else {
        ZIPFS_COUNT(record->counters.cache_hits, 1);
    }
    if (node->is_ahead) {
        ZIPFS_COUNT(record->counters.ahead_used_bytes, node->chunk.size);
        touch(cache, node);
    }
    set_ahead(cache, node, false);
    return node->state == READY ? 0 : node->error;
}

/* Takes one pin away. With the last one, a chunk that is not held retires. Lock held. */
static void unpin(struct zipfs_cache *cache, struct node *node, struct node **garbage) {
    if (--node->pins == 1 && node->chunk.is_lent)
        pthread_cond_broadcast(&node->loaded);
    if (node->pins == 0 && !node->charged)
        retire(cache, node, garbage);
}

/* Enters a node for a chunk that this thread is going to load: pinned. Lock held. */
static struct node *enter(struct zipfs_cache *cache, struct zipfs_record *record, uint64_t number, size_t size,
                          size_t capacity) {
    struct node *node = take_spare(cache, capacity);
    if (!node && !(node = new_node(capacity)))
        return NULL;
    node->record = record;
    node->number = number;
    node->chunk.size = size;
    node->state = LOADING;
    node->pins = 1;
    node->error = 0;
    insert(cache, node);
    return node;
}

/* The same for a reader: charged if there is room. */
static struct node *enter_wanted(struct zipfs_cache *cache, struct zipfs_record *record, uint64_t number, size_t size,
                                 size_t capacity, struct node **garbage) {
    bool room = make_room(cache, capacity + ZIPFS_CHUNK_OVERHEAD, garbage);
    struct node *node = enter(cache, record, number, size, capacity);
    if (!node)
        return NULL;
    if (room)
        charge(cache, node);
    else
        overdraw(cache, node);
    ZIPFS_COUNT(record->counters.cache_misses, 1);
    return node;
}

/* Runs the loader; no lock held. The buffer belongs to this thread until the node is settled. */
static int load_node(struct node *node, zipfs_load_fn load, void *context) {
    if (!node->buffer && !(node->buffer = zipfs_pages_alloc(node->capacity)))
        return -ENOMEM;
    node->chunk.data = node->buffer;
    return load(context, node->buffer);
}

/* Publishes the outcome. A failed chunk, and one that the budget has no room for, leaves the table; its pins stay
 * valid. Lock held. */
static void settle(struct zipfs_cache *cache, struct node *node, int error) {
    node->state = error ? FAILED : READY;
    node->error = error;
    if (error && node->charged)
        discharge(cache, node);
    if (error)
        set_ahead(cache, node, false);
    if (node->charged)
        list_append(node->is_ahead ? &cache->ahead : &cache->list, node);
    else
        remove_from_table(cache, node);
    pthread_cond_broadcast(&node->loaded);
}

static size_t round_up(size_t capacity) {
    return (capacity + BUFFER_ALIGN - 1) / BUFFER_ALIGN * BUFFER_ALIGN;
}

int zipfs_cache_get(struct zipfs_cache *cache, struct zipfs_record *record, uint64_t number, size_t size,
                    size_t capacity, enum zipfs_use use, zipfs_load_fn load, void *context,
                    const struct zipfs_chunk **chunk_ret) {
    struct node *garbage = NULL;
    int error;
    capacity = round_up(capacity);
    pthread_mutex_lock(&cache->lock);
    struct node *node = find(cache, record, number);
    if (node) {
        node->pins++;
        error = await(cache, record, node);
        if (node->charged && use == ZIPFS_USE_AGAIN)
            touch(cache, node);
    } else if ((node = enter_wanted(cache, record, number, size, capacity, &garbage))) {
        pthread_mutex_unlock(&cache->lock);
        error = load_node(node, load, context);
        pthread_mutex_lock(&cache->lock);
        settle(cache, node, error);
    } else {
        error = -ENOMEM;
    }
    if (error && node)
        unpin(cache, node, &garbage);
    pthread_mutex_unlock(&cache->lock);
    free_chain(garbage);
    if (!error)
        *chunk_ret = &node->chunk;
    return error;
}

void zipfs_cache_put(struct zipfs_cache *cache, const struct zipfs_chunk *chunk) {
    struct node *node = (struct node *)chunk;
    struct node *garbage = NULL;
    pthread_mutex_lock(&cache->lock);
    unpin(cache, node, &garbage);
    pthread_mutex_unlock(&cache->lock);
    free_chain(garbage);
}

/* ---- chunks that nobody has asked for yet ---- */

/* Whether a chunk more may be held ahead, after one was let go whose reader is gone. Lock held. */
static bool make_room_ahead(struct zipfs_cache *cache, size_t bytes, struct node **garbage) {
    size_t most = zipfs_min(cache->options.ahead_max, cache->options.budget / 2);
    struct node *oldest = first_unpinned(&cache->ahead); /* who waits for the others has yet to wake up */
    if (cache->ahead_bytes + bytes > most && oldest
        && ZIPFS_COUNTED(oldest->record->counters.reads) - oldest->born_reads > STALE_READS)
        evict(cache, oldest, garbage);
    return cache->ahead_bytes + bytes <= most && make_room(cache, bytes, garbage);
}

/* Enters a node for a chunk that is ahead; NULL when there is no room. Lock held. */
static struct node *enter_ahead(struct zipfs_cache *cache, struct zipfs_record *record, uint64_t number, size_t size,
                                size_t capacity, struct node **garbage) {
    if (!make_room_ahead(cache, capacity + ZIPFS_CHUNK_OVERHEAD, garbage))
        return NULL;
    struct node *node = enter(cache, record, number, size, capacity);
    if (!node)
        return NULL;
    node->born_reads = ZIPFS_COUNTED(record->counters.reads);
    charge(cache, node);
    set_ahead(cache, node, true);
    ZIPFS_COUNT(record->counters.ahead_chunks, 1);
    ZIPFS_COUNT(record->counters.ahead_bytes, size);
    return node;
}

bool zipfs_cache_load_ahead(struct zipfs_cache *cache, struct zipfs_record *record, uint64_t number, size_t size,
                            size_t capacity, zipfs_load_fn load, void *context) {
    struct node *garbage = NULL, *node = NULL;
    capacity = round_up(capacity);
    pthread_mutex_lock(&cache->lock);
    bool is_there = find(cache, record, number);
    if (!is_there)
        node = enter_ahead(cache, record, number, size, capacity, &garbage);
    pthread_mutex_unlock(&cache->lock);
    free_chain(garbage);
    if (!node)
        return is_there;
    int error = load_node(node, load, context);
    garbage = NULL;
    pthread_mutex_lock(&cache->lock);
    settle(cache, node, error);
    unpin(cache, node, &garbage);
    pthread_mutex_unlock(&cache->lock);
    free_chain(garbage);
    return true;
}

/* ---- chunks that are decoded into the memory of a reader ---- */

/* Enters a node without a buffer. NULL: there is no memory for it, and nobody will wait. Lock held. */
static struct node *enter_claim(struct zipfs_cache *cache, struct zipfs_record *record, uint64_t number) {
    struct node *node = new_node(0);
    if (!node)
        return NULL;
    node->record = record;
    node->number = number;
    node->state = LOADING;
    node->pins = 1;
    node->chunk.is_lent = true;
    insert(cache, node);
    return node;
}

enum zipfs_claim zipfs_cache_claim(struct zipfs_cache *cache, struct zipfs_record *record, uint64_t number, bool wait,
                                   const struct zipfs_chunk **chunk_ret) {
    struct node *garbage = NULL, *node;
    enum zipfs_claim claim = ZIPFS_CLAIM_HELD;
    pthread_mutex_lock(&cache->lock);
    while ((node = find(cache, record, number))) {
        if (node->state == LOADING && !wait) {
            claim = ZIPFS_CLAIM_BUSY;
            break;
        }
        node->pins++;
        if (await(cache, record, node) == 0)
            break;
        unpin(cache, node, &garbage); /* it failed for another thread: try for ourselves */
    }
    if (!node) {
        claim = ZIPFS_CLAIM_MINE;
        ZIPFS_COUNT(record->counters.chunks_direct, 1);
        node = enter_claim(cache, record, number);
    }
    pthread_mutex_unlock(&cache->lock);
    free_chain(garbage);
    if (claim != ZIPFS_CLAIM_BUSY)
        *chunk_ret = node ? &node->chunk : NULL;
    return claim;
}

void zipfs_cache_publish(struct zipfs_cache *cache, const struct zipfs_chunk *claimed, const uint8_t *data, size_t size,
                         int error) {
    struct node *node = (struct node *)claimed, *garbage = NULL;
    if (!node)
        return;
    pthread_mutex_lock(&cache->lock);
    node->chunk = (struct zipfs_chunk){.data = data, .size = size, .is_lent = true};
    settle(cache, node, error);
    while (node->pins > 1)
        pthread_cond_wait(&node->loaded, &cache->lock);
    unpin(cache, node, &garbage);
    pthread_mutex_unlock(&cache->lock);
    free_chain(garbage);
}

/* ---- letting go ---- */

/* Evicts what a list has of a file, or all, but for what is pinned. Lock held. */
static void evict_list(struct zipfs_cache *cache, struct node *list, const struct zipfs_record *record,
                       struct node **garbage) {
    for (struct node *node = list->next, *next; node != list; node = next) {
        next = node->next;
        if (node->pins == 0 && (!record || node->record == record))
            evict(cache, node, garbage);
    }
}

void zipfs_cache_close_record(struct zipfs_cache *cache, struct zipfs_record *record) {
    struct node *garbage = NULL;
    pthread_mutex_lock(&cache->lock);
    evict_list(cache, &cache->list, record, &garbage);
    evict_list(cache, &cache->ahead, record, &garbage);
    pthread_mutex_unlock(&cache->lock);
    free_chain(garbage);
    zipfs_records_close(&cache->records, record);
}

void zipfs_cache_trim(struct zipfs_cache *cache) {
    struct node *garbage = NULL;
    pthread_mutex_lock(&cache->lock);
    evict_list(cache, &cache->list, NULL, &garbage);
    evict_list(cache, &cache->ahead, NULL, &garbage);
    struct node *spares = cache->spares;
    cache->spares = NULL;
    cache->num_spares = 0;
    pthread_mutex_unlock(&cache->lock);
    free_chain(garbage);
    free_chain(spares);
    zipfs_pool_trim(cache->pool);
    malloc_trim(0);
}
