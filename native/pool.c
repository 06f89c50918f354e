#include "pool.h"

#include <pthread.h>
#include <stdlib.h>

#include "common.h"

enum { BUFFER_GRANULE = 1 << 16, BUFFER_ALIGN = 4096 };

struct zipfs_pool {
    pthread_mutex_t lock;
    pthread_cond_t seat_freed;
    unsigned jobs;
    struct zipfs_seat *seats;
    struct zipfs_buffer *buffers; /* free ones, last used first */
    unsigned num_buffers;
    struct zipfs_workers *workers;
};

enum zipfs_status zipfs_pool_create(unsigned jobs, struct zipfs_pool **pool_ret) {
    struct zipfs_pool *pool = calloc(1, sizeof *pool);
    struct zipfs_seat *seats = calloc(jobs, sizeof *seats);
    if (!pool || !seats || zipfs_workers_create(jobs - 1, &pool->workers) != ZIPFS_OK) {
        free(pool);
        free(seats);
        return ZIPFS_NO_MEMORY;
    }
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->seat_freed, NULL);
    pool->jobs = jobs;
    pool->seats = seats;
    *pool_ret = pool;
    return ZIPFS_OK;
}

static void free_buffer(struct zipfs_buffer *buffer) {
    free(buffer->data);
    free(buffer);
}

void zipfs_pool_free(struct zipfs_pool *pool) {
    if (!pool)
        return;
    zipfs_workers_free(pool->workers);
    for (unsigned i = 0; i < pool->jobs; i++)
        zipfs_codec_free(pool->seats[i].codec);
    while (pool->buffers) {
        struct zipfs_buffer *next = pool->buffers->next;
        free_buffer(pool->buffers);
        pool->buffers = next;
    }
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

enum zipfs_status zipfs_pool_take_seat(struct zipfs_pool *pool, uint32_t chunk_log2, struct zipfs_seat **seat_ret) {
    struct zipfs_seat *seat;
    pthread_mutex_lock(&pool->lock);
    while (!(seat = free_seat(pool, chunk_log2)))
        pthread_cond_wait(&pool->seat_freed, &pool->lock);
    seat->taken = true;
    pthread_mutex_unlock(&pool->lock);
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

static struct zipfs_buffer *new_buffer(size_t size) {
    struct zipfs_buffer *buffer = malloc(sizeof *buffer);
    if (!buffer)
        return NULL;
    buffer->capacity = (size + BUFFER_GRANULE - 1) / BUFFER_GRANULE * BUFFER_GRANULE;
    buffer->data = aligned_alloc(BUFFER_ALIGN, buffer->capacity);
    if (!buffer->data) {
        free(buffer);
        return NULL;
    }
    return buffer;
}

enum zipfs_status zipfs_pool_take_buffer(struct zipfs_pool *pool, size_t size, struct zipfs_buffer **buffer_ret) {
    pthread_mutex_lock(&pool->lock);
    struct zipfs_buffer *buffer = pool->buffers;
    if (buffer) {
        pool->buffers = buffer->next;
        pool->num_buffers--;
    }
    pthread_mutex_unlock(&pool->lock);
    if (buffer && buffer->capacity < size) {
        free_buffer(buffer);
        buffer = NULL;
    }
    if (!buffer && !(buffer = new_buffer(size)))
        return ZIPFS_NO_MEMORY;
    *buffer_ret = buffer;
    return ZIPFS_OK;
}

void zipfs_pool_give_buffer(struct zipfs_pool *pool, struct zipfs_buffer *buffer) {
    pthread_mutex_lock(&pool->lock);
    bool keep = pool->num_buffers < pool->jobs + 2; /* one per decode, and a few for threads that read meanwhile */
    if (keep) {
        buffer->next = pool->buffers;
        pool->buffers = buffer;
        pool->num_buffers++;
    }
    pthread_mutex_unlock(&pool->lock);
    if (!keep)
        free_buffer(buffer);
}

struct zipfs_workers *zipfs_pool_workers(struct zipfs_pool *pool) {
    return pool->workers;
}
