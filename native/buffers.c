#include "buffers.h"

#include <stdlib.h>

enum { GRANULE = 1 << 16, ALIGN = 4096 };

void zipfs_buffers_init(struct zipfs_buffers *buffers, unsigned max_kept) {
    *buffers = (struct zipfs_buffers){.max_kept = max_kept};
    pthread_mutex_init(&buffers->lock, NULL);
}

static void free_buffer(struct zipfs_buffer *buffer) {
    free(buffer->data);
    free(buffer);
}

void zipfs_buffers_clear(struct zipfs_buffers *buffers) {
    while (buffers->kept) {
        struct zipfs_buffer *next = buffers->kept->next;
        free_buffer(buffers->kept);
        buffers->kept = next;
    }
    pthread_mutex_destroy(&buffers->lock);
}

static struct zipfs_buffer *new_buffer(size_t size) {
    struct zipfs_buffer *buffer = malloc(sizeof *buffer);
    if (!buffer)
        return NULL;
    buffer->capacity = (size + GRANULE - 1) / GRANULE * GRANULE;
    buffer->data = aligned_alloc(ALIGN, buffer->capacity);
    if (!buffer->data) {
        free(buffer);
        return NULL;
    }
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
        free_buffer(buffer);
        buffer = NULL;
    }
    if (!buffer && !(buffer = new_buffer(size)))
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
        free_buffer(buffer);
}
