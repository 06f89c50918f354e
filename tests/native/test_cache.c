/* The chunk cache alone, with a loader of the test: single flight, errors, the budget, what is larger than it. */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "cache.h"
#include "check.h"

enum { SIZE = 65536, COST = SIZE + ZIPFS_CHUNK_OVERHEAD, NUM_THREADS = 10, NUM_FILES = 20 };

/* A loader that fills with a byte, counts its calls, and can be told to be slow or to fail. */
struct loader {
    _Atomic int calls;
    int value, error;
    unsigned delay_us;
};

static int load(void *context, uint8_t *dst) {
    struct loader *loader = context;
    loader->calls++;
    usleep(loader->delay_us);
    memset(dst, loader->value, SIZE);
    return loader->error;
}

static struct zipfs_stats stats_of(struct zipfs_cache *cache) {
    struct zipfs_stats stats;
    zipfs_cache_stats(cache, &stats);
    return stats;
}

/* The files of a test's cache, by small numbers; NULL: closed. */
static struct zipfs_record *files[NUM_FILES + 1];

static struct zipfs_cache *new_cache(size_t budget) {
    struct zipfs_cache *cache;
    const struct zipfs_cache_options options = {.budget = budget, .jobs = 2, .ahead_max = budget};
    CHECK_EQUAL(zipfs_cache_create(&options, &cache), ZIPFS_OK);
    for (int i = 1; i <= NUM_FILES; i++)
        CHECK((files[i] = zipfs_cache_open_record(cache, "file")));
    return cache;
}

static void close_file(struct zipfs_cache *cache, int file) {
    zipfs_cache_close_record(cache, files[file]);
    files[file] = NULL;
}

static void free_cache(struct zipfs_cache *cache) {
    for (int i = 1; i <= NUM_FILES; i++)
        if (files[i])
            close_file(cache, i);
    CHECK_EQUAL(stats_of(cache).cache_bytes, 0);
    zipfs_cache_free(cache);
}

/* Gets a chunk, checks its bytes, puts it back; tells whether it was loaded for that. */
static bool use(struct zipfs_cache *cache, int file, uint64_t number, enum zipfs_use use) {
    struct loader loader = {.value = (int)(number % 251)};
    const struct zipfs_chunk *chunk;
    CHECK_EQUAL(zipfs_cache_get(cache, files[file], number, SIZE, SIZE, use, load, &loader, &chunk), 0);
    CHECK_EQUAL(chunk->size, SIZE);
    CHECK(chunk->data[0] == number % 251 && chunk->data[SIZE - 1] == number % 251);
    zipfs_cache_put(cache, chunk);
    return loader.calls > 0;
}

static bool touch(struct zipfs_cache *cache, int file, uint64_t number) {
    return use(cache, file, number, ZIPFS_USE_AGAIN);
}

/* ---- ten threads, one decode ---- */

struct crowd {
    struct zipfs_cache *cache;
    struct loader *loader;
    pthread_barrier_t barrier;
    int outcome;
};

static void *one_of_crowd(void *context) {
    struct crowd *crowd = context;
    pthread_barrier_wait(&crowd->barrier);
    const struct zipfs_chunk *chunk;
    int error = zipfs_cache_get(crowd->cache, files[1], 5, SIZE, SIZE, ZIPFS_USE_AGAIN, load, crowd->loader, &chunk);
    CHECK_EQUAL(error, crowd->outcome);
    if (!error) {
        CHECK_EQUAL(chunk->data[SIZE / 2], crowd->loader->value);
        zipfs_cache_put(crowd->cache, chunk);
    }
    return NULL;
}

static void run_crowd(struct zipfs_cache *cache, struct loader *loader) {
    struct crowd crowd = {.cache = cache, .loader = loader, .outcome = loader->error};
    pthread_t threads[NUM_THREADS];
    pthread_barrier_init(&crowd.barrier, NULL, NUM_THREADS);
    for (int i = 0; i < NUM_THREADS; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, one_of_crowd, &crowd), 0);
    for (int i = 0; i < NUM_THREADS; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&crowd.barrier);
}

static void test_single_flight(size_t budget) {
    struct zipfs_cache *cache = new_cache(budget);
    struct loader loader = {.value = 7, .delay_us = 200000};
    run_crowd(cache, &loader);
    CHECK_EQUAL(loader.calls, 1);
    struct zipfs_stats stats = stats_of(cache);
    CHECK_EQUAL(stats.cache_misses, 1);
    CHECK_EQUAL(stats.cache_hits + stats.cache_waits, NUM_THREADS - 1);
    CHECK_EQUAL(stats.cache_bytes, budget >= COST ? COST : 0);
    CHECK_EQUAL(touch(cache, 1, 7), 1);
    close_file(cache, 1);
    CHECK_EQUAL(stats_of(cache).cache_bytes, 0);
    free_cache(cache);
}

/* All waiters get the error; the next reader tries again. */
static void test_errors_are_not_kept(void) {
    struct zipfs_cache *cache = new_cache(10 * COST);
    struct loader loader = {.value = 7, .delay_us = 200000, .error = -EIO};
    run_crowd(cache, &loader);
    CHECK_EQUAL(loader.calls, 1);
    CHECK_EQUAL(stats_of(cache).cache_bytes, 0);
    const struct zipfs_chunk *chunk;
    CHECK_EQUAL(zipfs_cache_claim(cache, files[1], 5, false, &chunk), ZIPFS_CLAIM_MINE);
    zipfs_cache_publish(cache, chunk, NULL, 0, -EIO);
    CHECK(touch(cache, 1, 5));
    CHECK(!touch(cache, 1, 5));
    close_file(cache, 1);
    CHECK_EQUAL(stats_of(cache).cache_bytes, 0);
    free_cache(cache);
}

/* ---- ahead of readers ---- */

struct crowded {
    struct zipfs_cache *cache;
    pthread_t threads[NUM_THREADS];
};

static void *want_ahead(void *cache) {
    CHECK(!touch(cache, 1, 5));
    return NULL;
}

/* A loader at whose end everybody waits for the chunk, though so much was read meanwhile that it seems to have been
 * decoded for nothing. */
static int load_for_crowd(void *context, uint8_t *dst) {
    struct crowded *crowded = context;
    for (int i = 0; i < NUM_THREADS; i++)
        CHECK_EQUAL(pthread_create(&crowded->threads[i], NULL, want_ahead, crowded->cache), 0);
    while (stats_of(crowded->cache).cache_waits < NUM_THREADS)
        usleep(100);
    ZIPFS_COUNT(files[1]->counters.reads, 1000);
    memset(dst, 5, SIZE);
    return 0;
}

/* What was decoded ahead and has waiters, who are yet to wake up, makes no room for the next. */
static void test_stale_chunks_with_waiters_stay(void) {
    for (int round = 0; round < 20; round++) {
        struct zipfs_cache *cache = new_cache(2 * COST);
        struct crowded crowded = {.cache = cache};
        struct loader next = {.value = 6};
        zipfs_cache_load_ahead(cache, files[1], 5, SIZE, SIZE, load_for_crowd, &crowded);
        zipfs_cache_load_ahead(cache, files[1], 6, SIZE, SIZE, load, &next);
        for (int i = 0; i < NUM_THREADS; i++)
            pthread_join(crowded.threads[i], NULL);
        free_cache(cache);
    }
}

/* ---- chunks decoded into the memory of a reader ---- */

struct claimant {
    struct zipfs_cache *cache;
    int whole;
    _Atomic int *copies;
    int outcome;
};

static void *wait_for_claim(void *context) {
    struct claimant *claimant = context;
    const struct zipfs_chunk *chunk = NULL;
    struct loader loader = {.value = 9};
    if (claimant->whole) {
        enum zipfs_claim claim = zipfs_cache_claim(claimant->cache, files[1], 5, true, &chunk);
        CHECK_EQUAL(claim, claimant->outcome ? ZIPFS_CLAIM_MINE : ZIPFS_CLAIM_HELD);
        if (claimant->outcome)
            zipfs_cache_publish(claimant->cache, chunk, NULL, 0, -EIO);
    } else {
        CHECK_EQUAL(zipfs_cache_get(claimant->cache, files[1], 5, SIZE, SIZE, ZIPFS_USE_AGAIN, load, &loader, &chunk),
                    claimant->outcome);
    }
    CHECK_EQUAL(loader.calls, 0);
    if (!claimant->outcome) {
        usleep(50000);
        CHECK(chunk->data[0] == 7 && chunk->data[SIZE - 1] == 7);
        ++*claimant->copies;
        zipfs_cache_put(claimant->cache, chunk);
    }
    return NULL;
}

/* One thread decodes a whole chunk, others want it meanwhile, wholly or in part: they get its bytes, which stay until
 * all have copied. */
static void test_claims(int outcome) {
    struct zipfs_cache *cache = new_cache(10 * COST);
    static uint8_t dst[SIZE];
    const struct zipfs_chunk *chunk, *other;
    _Atomic int copies = 0;
    pthread_t threads[NUM_THREADS];
    struct claimant claimants[NUM_THREADS];
    CHECK_EQUAL(zipfs_cache_claim(cache, files[1], 5, true, &chunk), ZIPFS_CLAIM_MINE);
    CHECK_EQUAL(zipfs_cache_claim(cache, files[1], 5, false, &other), ZIPFS_CLAIM_BUSY);
    for (int i = 0; i < NUM_THREADS; i++) {
        claimants[i] = (struct claimant){cache, outcome ? 0 : i % 2, &copies, outcome};
        CHECK_EQUAL(pthread_create(&threads[i], NULL, wait_for_claim, &claimants[i]), 0);
    }
    while (stats_of(cache).cache_waits < NUM_THREADS)
        usleep(1000);
    memset(dst, 7, SIZE);
    zipfs_cache_publish(cache, chunk, dst, SIZE, outcome);
    CHECK_EQUAL(copies, outcome ? 0 : NUM_THREADS);
    memset(dst, 8, SIZE);
    for (int i = 0; i < NUM_THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQUAL(stats_of(cache).cache_bytes, 0);
    CHECK_EQUAL(zipfs_cache_claim(cache, files[1], 5, false, &chunk), ZIPFS_CLAIM_MINE);
    zipfs_cache_publish(cache, chunk, dst, SIZE, 0);
    free_cache(cache);
}

/* ---- the budget ---- */

static void test_least_recently_used_goes_first(void) {
    struct zipfs_cache *cache = new_cache(3 * COST);
    for (int i = 0; i < 3; i++)
        CHECK(touch(cache, 1, i));
    CHECK_EQUAL(stats_of(cache).cache_bytes, 3 * COST);
    CHECK(!touch(cache, 1, 0)); /* now 1 is the oldest */
    CHECK(touch(cache, 1, 3));
    CHECK_EQUAL(stats_of(cache).cache_evictions, 1);
    CHECK(!touch(cache, 1, 0) && !touch(cache, 1, 2) && !touch(cache, 1, 3));
    CHECK(touch(cache, 1, 1));
    CHECK(touch(cache, 2, 1)); /* another file's chunk of that number */
    CHECK_EQUAL(stats_of(cache).cache_bytes, 3 * COST);
    close_file(cache, 1);
    CHECK_EQUAL(stats_of(cache).cache_bytes, COST);
    CHECK(!touch(cache, 2, 1));
    close_file(cache, 2);
    CHECK_EQUAL(stats_of(cache).cache_bytes, 0);
    free_cache(cache);
}

/* Readers behind the first one do not keep chunks from going in the order in which they came. */
static void test_streams_pass(void) {
    struct zipfs_cache *cache = new_cache(3 * COST);
    for (int i = 0; i < 3; i++)
        CHECK(use(cache, 1, i, ZIPFS_USE_PASSING));
    for (int i = 0; i < 3; i++)
        CHECK(!use(cache, 1, i / 2, ZIPFS_USE_PASSING));
    CHECK(use(cache, 1, 3, ZIPFS_USE_PASSING));
    CHECK(!use(cache, 1, 1, ZIPFS_USE_PASSING) && !use(cache, 1, 2, ZIPFS_USE_PASSING));
    CHECK(use(cache, 1, 0, ZIPFS_USE_PASSING));
    free_cache(cache);
}

/* More chunks than the table has buckets: none is taken for another. */
static void test_files_are_apart(void) {
    enum { CHUNKS_EACH = 10 };
    struct zipfs_cache *cache = new_cache(NUM_FILES * CHUNKS_EACH * COST);
    for (int round = 0; round < 2; round++)
        for (int file = 1; file <= NUM_FILES; file++)
            for (uint64_t number = 0; number < CHUNKS_EACH; number++)
                CHECK_EQUAL(touch(cache, file, number), round == 0);
    for (int file = 1; file <= NUM_FILES; file++) {
        CHECK_EQUAL(stats_of(cache).cache_bytes, (NUM_FILES + 1 - file) * CHUNKS_EACH * COST);
        close_file(cache, file);
    }
    free_cache(cache);
}

/* Too large for the budget: served while pinned, then gone. The same where pinned chunks fill the budget. */
static void test_served_but_not_kept(void) {
    struct zipfs_cache *cache = new_cache(COST - 1);
    CHECK(touch(cache, 1, 1) && touch(cache, 1, 1));
    CHECK_EQUAL(stats_of(cache).cache_bytes, 0);
    free_cache(cache);
    cache = new_cache(COST);
    struct loader loader = {.value = 1};
    const struct zipfs_chunk *pinned;
    CHECK_EQUAL(zipfs_cache_get(cache, files[1], 1, SIZE, SIZE, ZIPFS_USE_AGAIN, load, &loader, &pinned), 0);
    CHECK(touch(cache, 1, 2) && touch(cache, 1, 2));
    CHECK_EQUAL(stats_of(cache).cache_evictions, 0);
    CHECK_EQUAL(pinned->data[0], 1);
    zipfs_cache_put(cache, pinned);
    CHECK(!touch(cache, 1, 1));
    CHECK(touch(cache, 1, 2) && !touch(cache, 1, 2));
    close_file(cache, 1);
    free_cache(cache);
}

static uintptr_t buffer_of(struct zipfs_cache *cache, uint64_t number, size_t size) {
    struct loader loader = {.value = 1};
    const struct zipfs_chunk *chunk;
    CHECK_EQUAL(zipfs_cache_get(cache, files[1], number, size, size, ZIPFS_USE_AGAIN, load, &loader, &chunk), 0);
    uintptr_t buffer = (uintptr_t)chunk->data;
    zipfs_cache_put(cache, chunk);
    return buffer;
}

/* Buffers of sizes that came by once do not keep out those that are asked for again and again. */
static void test_spares_of_other_sizes_leave(void) {
    struct zipfs_cache *cache = new_cache(0);
    for (size_t i = 1; i <= 10; i++)
        buffer_of(cache, i, SIZE + 4096 * i);
    uintptr_t first = buffer_of(cache, 0, SIZE);
    void *taken = aligned_alloc(4096, SIZE); /* where the buffer was, had it been freed */
    CHECK(buffer_of(cache, 0, SIZE) == first);
    free(taken);
    free_cache(cache);
}

/* ---- everything at once ---- */

struct storm {
    struct zipfs_cache *cache;
    uint64_t seed;
};

struct idling {
    struct zipfs_cache *cache;
    struct zipfs_pool *pool; /* NULL: that of the cache */
    _Atomic bool stop;
};

/* What a daemon does that thinks that nobody reads. */
static void *trim_all(void *context) {
    struct idling *idling = context;
    while (!idling->stop) {
        if (idling->pool) {
            zipfs_pool_trim(idling->pool);
        } else {
            zipfs_cache_trim(idling->cache);
            stats_of(idling->cache);
        }
        usleep(200);
    }
    return NULL;
}

/* A whole chunk in the way of read_whole(): copied from another thread or decoded here. */
static void storm_whole(struct zipfs_cache *cache, uint64_t number, int error) {
    uint8_t *dst = malloc(SIZE);
    const struct zipfs_chunk *chunk;
    CHECK(dst);
    if (zipfs_cache_claim(cache, files[1], number, true, &chunk) == ZIPFS_CLAIM_HELD) {
        memcpy(dst, chunk->data, chunk->size);
        zipfs_cache_put(cache, chunk);
    } else {
        memset(dst, (int)number, SIZE);
        zipfs_cache_publish(cache, chunk, dst, SIZE, error);
    }
    CHECK(dst[0] == number && dst[SIZE - 1] == number);
    free(dst);
}

static void *stormer(void *context) {
    struct storm *storm = context;
    uint64_t state = storm->seed;
    for (int i = 0; i < 3000; i++) {
        uint64_t number = random_below(&state, 12);
        int error = random_below(&state, 10) ? 0 : -EIO;
        if (random_below(&state, 2)) {
            storm_whole(storm->cache, number, error);
            continue;
        }
        const struct zipfs_chunk *chunk;
        struct loader loader = {.value = (int)number, .error = error};
        if (random_below(&state, 4) == 0)
            zipfs_cache_load_ahead(storm->cache, files[1], number, SIZE, SIZE, load, &loader);
        if (zipfs_cache_get(storm->cache, files[1], number, SIZE, SIZE, random_below(&state, 2), load, &loader, &chunk)
            == 0) {
            CHECK(chunk->data[0] == number && chunk->data[SIZE - 1] == number);
            zipfs_cache_put(storm->cache, chunk);
        }
    }
    return NULL;
}

static void test_storm(void) {
    struct zipfs_cache *cache = new_cache(5 * COST);
    pthread_t threads[NUM_THREADS], trimmer;
    struct storm storms[NUM_THREADS];
    struct idling idling = {.cache = cache};
    CHECK_EQUAL(pthread_create(&trimmer, NULL, trim_all, &idling), 0);
    for (int i = 0; i < NUM_THREADS; i++) {
        storms[i] = (struct storm){cache, i + 1};
        CHECK_EQUAL(pthread_create(&threads[i], NULL, stormer, &storms[i]), 0);
    }
    for (int i = 0; i < NUM_THREADS; i++)
        pthread_join(threads[i], NULL);
    idling.stop = true;
    pthread_join(trimmer, NULL);
    CHECK(stats_of(cache).cache_bytes <= 5 * COST);
    CHECK(stats_of(cache).cache_evictions > 0);
    close_file(cache, 1);
    CHECK_EQUAL(stats_of(cache).cache_bytes, 0);
    free_cache(cache);
}

/* ---- the limit on work ---- */

struct gate {
    struct zipfs_pool *pool;
    _Atomic int inside, most;
};

static void *through_gate(void *context) {
    struct gate *gate = context;
    for (int i = 0; i < 20; i++) {
        struct zipfs_seat *seat;
        if (i % 4) {
            CHECK_EQUAL(zipfs_pool_take_seat(gate->pool, 16 + i % 3, &seat), ZIPFS_OK);
            CHECK(seat->codec && seat->chunk_log2 >= 16u + i % 3);
        } else {
            seat = zipfs_pool_take_any_seat(gate->pool);
        }
        int now = ++gate->inside, most = gate->most;
        while (now > most && !atomic_compare_exchange_weak(&gate->most, &most, now))
            ;
        usleep(500);
        gate->inside--;
        zipfs_pool_give_seat(gate->pool, seat);
    }
    return NULL;
}

static void test_jobs(void) {
    struct gate gate = {0};
    CHECK_EQUAL(zipfs_pool_create(3, &gate.pool), ZIPFS_OK);
    pthread_t threads[NUM_THREADS], trimmer;
    struct idling idling = {.pool = gate.pool};
    CHECK_EQUAL(pthread_create(&trimmer, NULL, trim_all, &idling), 0);
    for (int i = 0; i < NUM_THREADS; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, through_gate, &gate), 0);
    for (int i = 0; i < NUM_THREADS; i++)
        pthread_join(threads[i], NULL);
    idling.stop = true;
    pthread_join(trimmer, NULL);
    CHECK_EQUAL(gate.most, 3);
    zipfs_pool_free(gate.pool);
}

int main(void) {
    test_single_flight(10 * COST);
    test_single_flight(0);
    test_errors_are_not_kept();
    test_claims(0);
    test_claims(-EIO);
    test_stale_chunks_with_waiters_stay();
    test_least_recently_used_goes_first();
    test_streams_pass();
    test_files_are_apart();
    test_served_but_not_kept();
    test_spares_of_other_sizes_leave();
    test_storm();
    test_jobs();
    return 0;
}
