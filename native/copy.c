#include "copy.h"

#include <errno.h>
#include <string.h>

#include "common.h"
#include "container.h"
#include "reader.h"

static enum zipfs_status decode_payload(struct zipfs_copier *copier, const struct zipfs_entry *entry,
                                        const uint8_t *payload, size_t size) {
    struct zipfs_seat *seat = NULL;
    struct zipfs_codec *codec = copier->codec;
    if (!codec) {
        uint32_t chunk_log2 = zipfs_reader_header(copier->reader)->chunk_log2;
        enum zipfs_status status = zipfs_pool_take_seat(copier->pool, chunk_log2, &seat);
        if (status != ZIPFS_OK)
            return status;
        codec = seat->codec;
    }
    enum zipfs_status status = zipfs_decode_chunk_copies(codec, copier->number, entry, payload, copier->plain->data,
                                                         size, &copier->copies);
    if (seat)
        zipfs_pool_give_seat(copier->pool, seat);
    return status;
}

/* Makes copier->plain hold chunk `number`, but for what that one copies itself. */
static enum zipfs_status decode_target(struct zipfs_copier *copier, uint64_t number) {
    if (copier->is_valid && copier->number == number)
        return ZIPFS_OK;
    const struct zipfs_header *header = zipfs_reader_header(copier->reader);
    struct zipfs_entry entry;
    struct zipfs_buffer *payload;
    enum zipfs_status status = ZIPFS_OK;
    if (!copier->plain)
        status = zipfs_buffers_take(copier->buffers, (size_t)1 << header->chunk_log2, &copier->plain);
    if (status == ZIPFS_OK)
        status = zipfs_reader_payload(copier->reader, copier->buffers, number, &payload, &entry);
    if (status != ZIPFS_OK)
        return status;
    size_t size = zipfs_chunk_size(header, number);
    copier->number = number;
    status = decode_payload(copier, &entry, payload->data, size);
    zipfs_buffers_give(copier->buffers, payload);
    copier->is_valid = status == ZIPFS_OK;
    copier->num_decoded += copier->is_valid;
    copier->bytes_decoded += copier->is_valid ? size : 0;
    copier->stored_bytes_read += entry.stored_size;
    return status;
}

/* Does [start, end) of a chunk touch one of its own copies? */
static bool touches(const struct zipfs_copies *copies, size_t start, size_t end) {
    for (size_t i = 0; i < copies->num; i++)
        if (start < (size_t)copies->list[i].at + copies->list[i].size && copies->list[i].at < end)
            return true;
    return false;
}

static enum zipfs_status fill_one(struct zipfs_copier *copier, uint64_t number, const struct zipfs_copy *copy,
                                  uint8_t *dst, uint64_t *failed_ret) {
    uint32_t chunk_log2 = zipfs_reader_header(copier->reader)->chunk_log2;
    uint64_t limit = number << chunk_log2, at = copy->target;
    *failed_ret = number;
    if (at > limit || copy->size > limit - at)
        return ZIPFS_BAD_COPY;
    for (uint64_t end = at + copy->size; at < end;) {
        uint64_t target = at >> chunk_log2, start = target << chunk_log2, stop = (target + 1) << chunk_log2;
        stop = zipfs_min(stop, end);
        enum zipfs_status status = decode_target(copier, target);
        if (status != ZIPFS_OK) {
            *failed_ret = target;
            return status;
        }
        if (touches(&copier->copies, at - start, stop - start))
            return ZIPFS_BAD_COPY;
        memcpy(dst, copier->plain->data + (at - start), stop - at);
        dst += stop - at;
        at = stop;
    }
    return ZIPFS_OK;
}

enum zipfs_status zipfs_copier_fill(struct zipfs_copier *copier, uint64_t number, const struct zipfs_copies *copies,
                                    uint8_t *dst, uint64_t *failed_ret) {
    enum zipfs_status status = ZIPFS_OK;
    for (size_t i = 0; i < copies->num && status == ZIPFS_OK; i++)
        status = fill_one(copier, number, &copies->list[i], dst + copies->list[i].at, failed_ret);
    return status;
}

void zipfs_copier_finish(struct zipfs_copier *copier) {
    int error = errno;
    if (copier->plain)
        zipfs_buffers_give(copier->buffers, copier->plain);
    copier->plain = NULL;
    errno = error;
}
