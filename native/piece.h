/* Pieces of a plan: which run each becomes. */
#ifndef ZIPFS_PIECE_H
#define ZIPFS_PIECE_H

#include "codec.h"
#include "plan.h"

/* Lets a piece be stored as it is when it is noise; src is the start of the chunk. */
void zipfs_piece_mark_noise(const struct zipfs_kernels *kernels, const uint8_t *src, struct zipfs_piece *piece);

/* Encodes a piece, which begins at src, in the way that promises to be smallest, and sets its layout to the choice.
 * Returns the size, SIZE_MAX when it exceeds capacity. */
size_t zipfs_piece_encode(struct zipfs_codec *codec, struct zipfs_piece *piece, const uint8_t *src, uint8_t *dst,
                          size_t capacity);

/* Encodes a piece as one run of bytes, with a palette or without, when that is smaller than the `size` bytes in dst.
 * lz: bytes that repeat may get zstd without a probe. Returns the size that is left. */
size_t zipfs_piece_improve(struct zipfs_codec *codec, struct zipfs_piece *piece, const uint8_t *src, bool lz,
                           uint8_t *dst, size_t size, size_t capacity);

#endif
