#include "buffers.h"

#include <stdlib.h>

#include "pages.h"

enum { GRANULE = 1 << 16 };

void zipfs_buffers_init(struct zipfs_buffers *buffers, unsigned max_kept) {
    *buffers = (struct zipfs_buffers){.max_kept = max_kept};
    pthread_mutex_init(&buffers->lock, NULL);
}

static void free_buffer(struct zipfs_buffers *buffers, struct zipfs_buffer *buffer) {
    atomic_fetch_sub_explicit(&buffers->bytes, buffer->capacity, memory_order_relaxed);
    zipfs_pages_free(buffer->data, buffer->capacity);
    free(buffer);
}

void zipfs_buffers_trim(struct zipfs_buffers *buffers) {
    pthread_mutex_lock(&buffers->lock);
    struct zipfs_buffer *kept = buffers->kept;
    buffers->kept = NULL;
    buffers->num_kept = 0;
    pthread_mutex_unlock(&buffers->lock);
    while (kept) {
        struct zipfs_buffer *next = kept->next;
        free_buffer(buffers, kept);
        kept = next;
    }
}

void zipfs_buffers_clear(struct zipfs_buffers *buffers) {
    zipfs_buffers_trim(buffers);
    pthread_mutex_destroy(&buffers->lock);
}

static struct zipfs_buffer *new_buffer(struct zipfs_buffers *buffers, size_t size) {
    struct zipfs_buffer *buffer = malloc(sizeof *buffer);
    if (!buffer)
        return NULL;
    buffer->capacity = (size + GRANULE - 1) / GRANULE * GRANULE;
    buffer->data = zipfs_pages_alloc(buffer->capacity);
    if (!buffer->data) {
        free(buffer);
        return NULL;
    }
    atomic_fetch_add_explicit(&buffers->bytes, buffer->capacity, memory_order_relaxed);
    return buffer;
}

enum zipfs_status zipfs_buffers_take(struct zipfs_buffers *buffers, size_t size, struct zipfs_buffer **buffer_ret) {
    pthread_mutex_lock(&buffers->lock);
    struct zipfs_buffer *buffer = buffers->kept;
    if (buffer) {
        buffers->kept = buffer->next;
        buffers->num_kept--;
    }
    pthread_mutex_unlock(&buffers->lock);
    if (buffer && buffer->capacity < size) {
        free_buffer(buffers, buffer);
        buffer = NULL;
    }
    if (!buffer && !(buffer = new_buffer(buffers, size)))
        return ZIPFS_NO_MEMORY;
    *buffer_ret = buffer;
    return ZIPFS_OK;
}

void zipfs_buffers_give(struct zipfs_buffers *buffers, struct zipfs_buffer *buffer) {
    pthread_mutex_lock(&buffers->lock);
    bool keep = buffers->num_kept < buffers->max_kept;
    if (keep) {
        buffer->next = buffers->kept;
        buffers->kept = buffer;
        buffers->num_kept++;
    }
    pthread_mutex_unlock(&buffers->lock);
    if (!keep)
        free_buffer(buffers, buffer);
}
