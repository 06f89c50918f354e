/* One chunk: the choice between stored and runs, both hashes, the check after encoding. */
#include <stdlib.h>
#include <string.h>

#include "cpu.h"
#include "zipfs.h"

struct zipfs_codec {
    const struct zipfs_kernels *kernels;
    size_t chunk_size;
};

enum zipfs_status zipfs_codec_create(uint32_t chunk_log2, struct zipfs_codec **codec_ret) {
    if (chunk_log2 < ZIPFS_CHUNK_LOG2_MIN || chunk_log2 > ZIPFS_CHUNK_LOG2_MAX)
        return ZIPFS_BAD_ARGUMENT;
    if (!zipfs_kernels())
        return ZIPFS_BAD_KERNEL;
    struct zipfs_codec *codec = calloc(1, sizeof *codec);
    if (!codec)
        return ZIPFS_NO_MEMORY;
    codec->kernels = zipfs_kernels();
    codec->chunk_size = (size_t)1 << chunk_log2;
    *codec_ret = codec;
    return ZIPFS_OK;
}

void zipfs_codec_free(struct zipfs_codec *codec) {
    free(codec);
}

enum zipfs_status zipfs_encode_chunk(struct zipfs_codec *codec, enum zipfs_level level, uint64_t number,
                                     const uint8_t *src, size_t src_size, const struct zipfs_segment *segments,
                                     size_t num_segments, uint8_t *dst, size_t dst_capacity,
                                     struct zipfs_entry *entry_ret) {
    (void)segments, (void)num_segments;
    if (!src_size || src_size > codec->chunk_size || (unsigned)level > ZIPFS_LEVEL_MAX)
        return ZIPFS_BAD_ARGUMENT;
    if (dst_capacity < src_size)
        return ZIPFS_NO_SPACE;
    memcpy(dst, src, src_size);
    entry_ret->kind = ZIPFS_KIND_STORED;
    entry_ret->stored_size = (uint32_t)src_size;
    entry_ret->stored_hash = codec->kernels->hash(dst, src_size, number);
    entry_ret->plain_hash = codec->kernels->hash(src, src_size, 0);
    return ZIPFS_OK;
}

enum zipfs_status zipfs_decode_chunk(struct zipfs_codec *codec, uint64_t number, const struct zipfs_entry *entry,
                                     const uint8_t *src, uint8_t *dst, size_t dst_size) {
    if (!dst_size || dst_size > codec->chunk_size)
        return ZIPFS_BAD_ARGUMENT;
    if (entry->kind != ZIPFS_KIND_STORED || entry->stored_size != dst_size)
        return ZIPFS_BAD_PAGE;
    if (codec->kernels->hash(src, entry->stored_size, number) != entry->stored_hash)
        return ZIPFS_CHUNK_CHECKSUM;
    memcpy(dst, src, dst_size);
    return ZIPFS_OK;
}

enum zipfs_status zipfs_chunk_runs(const uint8_t *src, size_t src_size, size_t plain_size,
                                   struct zipfs_run runs_ret[ZIPFS_MAX_RUNS], size_t *num_runs_ret) {
    (void)src, (void)src_size, (void)plain_size, (void)runs_ret, (void)num_runs_ret;
    return ZIPFS_BAD_RUNS;
}
