/* See cache.h. One lock guards table, list and budget; nothing is decoded, read or allocated (but nodes) under it. */
#include "cache.h"

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "common.h"

enum { BUFFER_ALIGN = 4096, BUCKETS_MIN = 64, BUCKETS_MAX = 1 << 20, SPARES_MAX = 4, JOBS_MAX = 1024 };

enum node_state { LOADING, READY, FAILED };

/* A chunk that is held, being loaded, or (out of the table) still pinned by somebody. */
struct node {
    struct zipfs_chunk chunk; /* first: a pinned chunk is its node */
    uint8_t *buffer;
    size_t capacity;
    uint64_t file, number;
    struct node *hash_next;
    struct node *prev, *next; /* in the list while READY, held and unpinned; next also chains spares */
    unsigned pins;            /* readers and waiters */
    enum node_state state;
    bool charged; /* counted in held_bytes: stays after the last pin is gone */
    int error;
    pthread_cond_t loaded;
};

struct zipfs_cache {
    pthread_mutex_t lock;
    struct zipfs_cache_options options;
    size_t held_bytes;
    struct node **buckets;
    size_t bucket_mask;
    struct node list;    /* circular: list.next is the least recently used */
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
    atomic_init(&cache->refs, 1);
    pthread_mutex_init(&cache->lock, NULL);
    zipfs_records_init(&cache->records);
    *cache_ret = cache;
    return ZIPFS_OK;
}

static void free_node(struct node *node) {
    pthread_cond_destroy(&node->loaded);
    free(node->buffer);
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
    cache->list.prev->next = NULL; /* every file has dropped its chunks, so the list is empty; freed all the same */
    if (cache->list.next != &cache->list)
        free_chain(cache->list.next);
    free_chain(cache->spares);
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

enum zipfs_status zipfs_cache_report(struct zipfs_cache *cache, char **text_ret) {
    const struct zipfs_cache_options *options = &cache->options;
    struct zipfs_stats stats;
    zipfs_cache_stats(cache, &stats);
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return ZIPFS_NO_MEMORY;
    fprintf(out, "{\"settings\": {\"cache_size\": %zu, \"jobs\": %u, ", options->budget, options->jobs);
    fprintf(out, "\"ahead_size\": %zu, \"drop_source_cache\": %s},\n", options->ahead_max,
            options->drop_source ? "true" : "false");
    fputs("\"total\": {", out);
    const char *separator = "";
#define PRINT(name) fprintf(out, "%s\"" #name "\": %" PRIu64, separator, stats.name), separator = ", ";
    ZIPFS_FILE_COUNTERS(PRINT)
    ZIPFS_CACHE_COUNTERS(PRINT)
#undef PRINT
    fputs("},\n\"files\": ", out);
    zipfs_records_print(&cache->records, out);
    fputs("}\n", out);
    bool is_whole = !ferror(out);
    if (fclose(out) != 0 || !is_whole) {
        free(text);
        return ZIPFS_NO_MEMORY;
    }
    *text_ret = text;
    return ZIPFS_OK;
}

struct zipfs_record *zipfs_cache_open_record(struct zipfs_cache *cache, const char *name) {
    return zipfs_records_open(&cache->records, name);
}

/* ---- table and list; the lock is held in all of these ---- */

static struct node **bucket_of(struct zipfs_cache *cache, uint64_t file, uint64_t number) {
    uint64_t x = (number + file * 0x9E3779B97F4A7C15u) * 0xD6E8FEB86659FD93u;
    return &cache->buckets[(x >> 32) & cache->bucket_mask];
}

static struct node *find(struct zipfs_cache *cache, uint64_t file, uint64_t number) {
    struct node *node = *bucket_of(cache, file, number);
    while (node && (node->file != file || node->number != number))
        node = node->hash_next;
    return node;
}

static void insert(struct zipfs_cache *cache, struct node *node) {
    struct node **bucket = bucket_of(cache, node->file, node->number);
    node->hash_next = *bucket;
    *bucket = node;
}

static void remove_from_table(struct zipfs_cache *cache, struct node *node) {
    struct node **link = bucket_of(cache, node->file, node->number);
    while (*link != node)
        link = &(*link)->hash_next;
    *link = node->hash_next;
}

static void list_append(struct zipfs_cache *cache, struct node *node) {
    node->prev = cache->list.prev;
    node->next = &cache->list;
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

static void push(struct node **chain, struct node *node) {
    node->next = *chain;
    *chain = node;
}

/* Keeps an unused node and its buffer for the next miss; *garbage receives what is to be freed unlocked. The oldest
 * spare makes room: those of a capacity that nobody asks for must not stay. */
static void retire(struct zipfs_cache *cache, struct node *node, struct node **garbage) {
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

/* Lets the least recently used chunk go; it is unpinned. */
static void evict(struct zipfs_cache *cache, struct node *node, struct node **garbage) {
    list_remove(node);
    remove_from_table(cache, node);
    discharge(cache, node);
    retire(cache, node, garbage);
}

/* Evicts until bytes more fit into the budget. Pinned chunks stay, so it may fail. */
static bool make_room(struct zipfs_cache *cache, size_t bytes, struct node **garbage) {
    if (bytes > cache->options.budget)
        return false;
    while (cache->held_bytes + bytes > cache->options.budget && cache->list.next != &cache->list) {
        evict(cache, cache->list.next, garbage);
        ZIPFS_COUNT(cache->num_evictions, 1);
    }
    return cache->held_bytes + bytes <= cache->options.budget;
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

/* Waits for a node that is being loaded, pinned by the caller; lock held. Returns its outcome. */
static int await(struct zipfs_cache *cache, struct zipfs_record *record, struct node *node) {
    if (node->state == LOADING) {
        ZIPFS_COUNT(record->counters.cache_waits, 1);
        while (node->state == LOADING)
            pthread_cond_wait(&node->loaded, &cache->lock);
    } else {
        ZIPFS_COUNT(record->counters.cache_hits, 1);
    }
    return node->state == READY ? 0 : node->error;
}

static void pin(struct node *node) {
    if (node->pins++ == 0)
        list_remove(node);
}

/* Takes one pin away. The last one makes a held chunk the most recently used, and retires any other. Lock held. */
static void unpin(struct zipfs_cache *cache, struct node *node, struct node **garbage) {
    if (--node->pins == 1 && node->chunk.is_lent)
        pthread_cond_broadcast(&node->loaded);
    if (node->pins > 0)
        return;
    if (node->charged)
        list_append(cache, node);
    else
        retire(cache, node, garbage);
}

/* Enters a node for a chunk that this thread is going to load: pinned, charged if there is room. Lock held. */
static struct node *enter(struct zipfs_cache *cache, struct zipfs_record *record, uint64_t number, size_t size,
                          size_t capacity, struct node **garbage) {
    bool room = make_room(cache, capacity + ZIPFS_CHUNK_OVERHEAD, garbage);
    struct node *node = take_spare(cache, capacity);
    if (!node && !(node = new_node(capacity)))
        return NULL;
    node->file = record->file;
    node->number = number;
    node->chunk.size = size;
    node->state = LOADING;
    node->pins = 1;
    node->error = 0;
    if (room)
        charge(cache, node);
    insert(cache, node);
    ZIPFS_COUNT(record->counters.cache_misses, 1);
    return node;
}

/* Runs the loader; no lock held. The buffer belongs to this thread until the node is settled. */
static int load_node(struct node *node, zipfs_load_fn load, void *context) {
    if (!node->buffer && !(node->buffer = aligned_alloc(BUFFER_ALIGN, node->capacity)))
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
    if (!node->charged)
        remove_from_table(cache, node);
    pthread_cond_broadcast(&node->loaded);
}

int zipfs_cache_get(struct zipfs_cache *cache, struct zipfs_record *record, uint64_t number, size_t size,
                    size_t capacity, zipfs_load_fn load, void *context, const struct zipfs_chunk **chunk_ret) {
    struct node *garbage = NULL;
    int error;
    capacity = (capacity + BUFFER_ALIGN - 1) / BUFFER_ALIGN * BUFFER_ALIGN;
    pthread_mutex_lock(&cache->lock);
    struct node *node = find(cache, record->file, number);
    if (node) {
        pin(node);
        error = await(cache, record, node);
    } else if ((node = enter(cache, record, number, size, capacity, &garbage))) {
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

/* ---- chunks that are decoded into the memory of a reader ---- */

/* Enters a node without a buffer. NULL: there is no memory for it, and nobody will wait. Lock held. */
static struct node *enter_claim(struct zipfs_cache *cache, struct zipfs_record *record, uint64_t number) {
    struct node *node = new_node(0);
    if (!node)
        return NULL;
    node->file = record->file;
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
    while ((node = find(cache, record->file, number))) {
        if (node->state == LOADING && !wait) {
            claim = ZIPFS_CLAIM_BUSY;
            break;
        }
        pin(node);
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

void zipfs_cache_close_record(struct zipfs_cache *cache, struct zipfs_record *record) {
    struct node *garbage = NULL;
    pthread_mutex_lock(&cache->lock);
    for (struct node *node = cache->list.next, *next; node != &cache->list; node = next) {
        next = node->next;
        if (node->file == record->file)
            evict(cache, node, &garbage);
    }
    pthread_mutex_unlock(&cache->lock);
    free_chain(garbage);
    zipfs_records_close(&cache->records, record);
}

void zipfs_cache_trim(struct zipfs_cache *cache) {
    struct node *garbage = NULL;
    pthread_mutex_lock(&cache->lock);
    while (cache->list.next != &cache->list)
        evict(cache, cache->list.next, &garbage);
    while (cache->spares) {
        struct node *spare = cache->spares;
        cache->spares = spare->next;
        push(&garbage, spare);
    }
    cache->num_spares = 0;
    pthread_mutex_unlock(&cache->lock);
    free_chain(garbage);
    malloc_trim(0);
}
