/* Zstandard frames in the one form that containers hold (docs/format.md section 4.2, coding ZSTD): content size in the
 * header, Single_Segment_flag set, no dictionary id, no checksum. */
#ifndef ZIPFS_ZSTD_FRAME_H
#define ZIPFS_ZSTD_FRAME_H

#include <zstd.h>

#include "zipfs.h"

/* In place of a level: for numbers of few values where what comes again is long or nothing. Level 13 finds as much in
 * three times the time, level 3 next to nothing. */
enum { ZSTD_FRAME_RANKS = 1000 };

/* Compresses src into one frame. NO_SPACE when it does not fit; dst_capacity is deliberately usable as a limit.
 * size_ret: the frame's size. Resets the context's parameters. */
enum zipfs_status zstd_frame_compress(ZSTD_CCtx *cctx, int level, const uint8_t *src, size_t src_size, uint8_t *dst,
                                      size_t dst_capacity, size_t *size_ret);

/* Checks that src is exactly one frame of that form with dst_size bytes of content, and decodes it; else BAD_ZSTD. */
enum zipfs_status zstd_frame_decompress(ZSTD_DCtx *dctx, const uint8_t *src, size_t src_size, uint8_t *dst,
                                        size_t dst_size);

#endif
