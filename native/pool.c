#include "pool.h"

#include <pthread.h>
#include <stdlib.h>

#include "common.h"

/* Kept besides one for each decode: for threads that read from the disk meanwhile. */
enum { BUFFERS_MORE = 6 };

struct zipfs_pool {
    pthread_mutex_t lock;
    pthread_cond_t seat_freed;
    unsigned jobs, num_waiting;
    struct zipfs_seat *seats;
    struct zipfs_buffers buffers;
    struct zipfs_workers *workers, *source_workers;
};

enum zipfs_status zipfs_pool_create(unsigned jobs, struct zipfs_pool **pool_ret) {
    struct zipfs_pool *pool = calloc(1, sizeof *pool);
    struct zipfs_seat *seats = calloc(jobs, sizeof *seats);
    if (!pool || !seats || zipfs_workers_create(jobs - 1, &pool->workers) != ZIPFS_OK
        || zipfs_workers_create(1, &pool->source_workers) != ZIPFS_OK) {
        if (pool)
            zipfs_workers_free(pool->workers);
        free(pool);
        free(seats);
        return ZIPFS_NO_MEMORY;
    }
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->seat_freed, NULL);
    zipfs_buffers_init(&pool->buffers, jobs + BUFFERS_MORE);
    pool->jobs = jobs;
    pool->seats = seats;
    *pool_ret = pool;
    return ZIPFS_OK;
}

void zipfs_pool_free(struct zipfs_pool *pool) {
    if (!pool)
        return;
    zipfs_workers_free(pool->workers);
    zipfs_workers_free(pool->source_workers);
    for (unsigned i = 0; i < pool->jobs; i++)
        zipfs_codec_free(pool->seats[i].codec);
    zipfs_buffers_clear(&pool->buffers);
    pthread_cond_destroy(&pool->seat_freed);
    pthread_mutex_destroy(&pool->lock);
    free(pool->seats);
    free(pool);
}

/* The best free seat: one whose codec fits, else one without a codec, else any; NULL when all are taken. */
static struct zipfs_seat *free_seat(struct zipfs_pool *pool, uint32_t chunk_log2) {
    struct zipfs_seat *best = NULL;
    for (unsigned i = 0; i < pool->jobs; i++) {
        struct zipfs_seat *seat = &pool->seats[i];
        if (seat->taken)
            continue;
        if (seat->codec && seat->chunk_log2 >= chunk_log2)
            return seat;
        if (!best || (best->codec && !seat->codec))
            best = seat;
    }
    return best;
}

/* Makes the seat's codec fit; the seat is taken by this thread. */
static enum zipfs_status fit_codec(struct zipfs_seat *seat, uint32_t chunk_log2) {
    if (seat->codec && seat->chunk_log2 >= chunk_log2)
        return ZIPFS_OK;
    zipfs_codec_free(seat->codec);
    seat->codec = NULL;
    seat->chunk_log2 = chunk_log2;
    return zipfs_codec_create(chunk_log2, &seat->codec);
}

/* Waits for a free seat, one whose codec fits if there is one. */
static struct zipfs_seat *take(struct zipfs_pool *pool, uint32_t chunk_log2) {
    struct zipfs_seat *seat;
    pthread_mutex_lock(&pool->lock);
    pool->num_waiting++;
    while (!(seat = free_seat(pool, chunk_log2)))
        pthread_cond_wait(&pool->seat_freed, &pool->lock);
    pool->num_waiting--;
    seat->taken = true;
    pthread_mutex_unlock(&pool->lock);
    return seat;
}

struct zipfs_seat *zipfs_pool_take_any_seat(struct zipfs_pool *pool) {
    return take(pool, 0);
}

enum zipfs_status zipfs_pool_take_seat(struct zipfs_pool *pool, uint32_t chunk_log2, struct zipfs_seat **seat_ret) {
    struct zipfs_seat *seat = take(pool, chunk_log2);
    enum zipfs_status status = fit_codec(seat, chunk_log2);
    if (status != ZIPFS_OK)
        zipfs_pool_give_seat(pool, seat);
    else
        *seat_ret = seat;
    return status;
}

void zipfs_pool_give_seat(struct zipfs_pool *pool, struct zipfs_seat *seat) {
    pthread_mutex_lock(&pool->lock);
    seat->taken = false;
    pthread_cond_signal(&pool->seat_freed);
    pthread_mutex_unlock(&pool->lock);
}

bool zipfs_pool_is_free(struct zipfs_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    bool is_free = pool->num_waiting == 0 && free_seat(pool, 0);
    pthread_mutex_unlock(&pool->lock);
    return is_free;
}

void zipfs_pool_trim(struct zipfs_pool *pool) {
    zipfs_buffers_trim(&pool->buffers);
    pthread_mutex_lock(&pool->lock);
    for (unsigned i = 0; i < pool->jobs; i++) {
        struct zipfs_seat *seat = &pool->seats[i];
        if (seat->taken)
            continue;
        zipfs_codec_free(seat->codec);
        seat->codec = NULL;
    }
    pthread_mutex_unlock(&pool->lock);
}

struct zipfs_buffers *zipfs_pool_buffers(struct zipfs_pool *pool) {
    return &pool->buffers;
}

struct zipfs_workers *zipfs_pool_workers(struct zipfs_pool *pool) {
    return pool->workers;
}

struct zipfs_workers *zipfs_pool_source_workers(struct zipfs_pool *pool) {
    return pool->source_workers;
}
