#include "zstd_frame.h"

#include <zstd_errors.h>

#include "common.h"

enum { FRAME_MAGIC_SIZE = 4, DESCRIPTOR_SINGLE_SEGMENT = 0x20 };

/* The smallest window that holds size bytes: with it (and the content size) libzstd sets Single_Segment_flag. */
static int window_log(size_t size) {
    int log = 10;
    while (log < 30 && ((size_t)1 << log) < size)
        log++;
    return log;
}

static void set_effort(ZSTD_CCtx *cctx, int level) {
    if (level != ZSTD_FRAME_RANKS) {
        ZSTD_CCtx_setParameter(cctx, ZSTD_c_compressionLevel, level);
        return;
    }
    ZSTD_CCtx_setParameter(cctx, ZSTD_c_strategy, ZSTD_btultra);
    ZSTD_CCtx_setParameter(cctx, ZSTD_c_minMatch, 6);
    ZSTD_CCtx_setParameter(cctx, ZSTD_c_targetLength, 32);
    ZSTD_CCtx_setParameter(cctx, ZSTD_c_searchLog, 4);
    ZSTD_CCtx_setParameter(cctx, ZSTD_c_chainLog, 14);
    ZSTD_CCtx_setParameter(cctx, ZSTD_c_hashLog, 14);
}

enum zipfs_status zstd_frame_compress(ZSTD_CCtx *cctx, int level, const uint8_t *src, size_t src_size, uint8_t *dst,
                                      size_t dst_capacity, size_t *size_ret) {
    ZSTD_CCtx_reset(cctx, ZSTD_reset_session_and_parameters);
    set_effort(cctx, level);
    ZSTD_CCtx_setParameter(cctx, ZSTD_c_windowLog, window_log(src_size));
    ZSTD_CCtx_setParameter(cctx, ZSTD_c_contentSizeFlag, 1);
    ZSTD_CCtx_setParameter(cctx, ZSTD_c_checksumFlag, 0);
    ZSTD_CCtx_setParameter(cctx, ZSTD_c_dictIDFlag, 0);
    size_t size = ZSTD_compress2(cctx, dst, dst_capacity, src, src_size);
    if (ZSTD_isError(size))
        return ZSTD_getErrorCode(size) == ZSTD_error_dstSize_tooSmall ? ZIPFS_NO_SPACE : ZIPFS_NO_MEMORY;
    *size_ret = size;
    return ZIPFS_OK;
}

/* Reads Frame_Content_Size (RFC 8878 section 3.1.1.1) where the descriptor is the one that we demand. */
static bool content_size(const uint8_t *src, size_t src_size, uint64_t *size_ret) {
    if (src_size <= FRAME_MAGIC_SIZE || zipfs_load32(src) != ZSTD_MAGICNUMBER)
        return false;
    uint8_t descriptor = src[FRAME_MAGIC_SIZE];
    const uint8_t *field = src + FRAME_MAGIC_SIZE + 1;
    size_t field_size = (size_t)1 << (descriptor >> 6);
    if ((descriptor & 0x3f) != DESCRIPTOR_SINGLE_SEGMENT || src_size < FRAME_MAGIC_SIZE + 1 + field_size)
        return false;
    switch (field_size) {
    case 1: *size_ret = field[0]; break;
    case 2: *size_ret = zipfs_load16(field) + 256u; break;
    case 4: *size_ret = zipfs_load32(field); break;
    default: *size_ret = zipfs_load64(field); break;
    }
    return true;
}

enum zipfs_status zstd_frame_decompress(ZSTD_DCtx *dctx, const uint8_t *src, size_t src_size, uint8_t *dst,
                                        size_t dst_size) {
    uint64_t size;
    if (!content_size(src, src_size, &size) || size != dst_size)
        return ZIPFS_BAD_ZSTD;
    /* ZSTD_decompressDCtx would go on with further frames. */
    if (ZSTD_findFrameCompressedSize(src, src_size) != src_size)
        return ZIPFS_BAD_ZSTD;
    ZSTD_DCtx_reset(dctx, ZSTD_reset_session_and_parameters);
    size_t got = ZSTD_decompressDCtx(dctx, dst, dst_size, src, src_size);
    if (ZSTD_isError(got))
        return ZSTD_getErrorCode(got) == ZSTD_error_memory_allocation ? ZIPFS_NO_MEMORY : ZIPFS_BAD_ZSTD;
    return got == dst_size ? ZIPFS_OK : ZIPFS_BAD_ZSTD;
}
