/* Runs of few distinct values: a table of them, and indices (docs/format.md section 4.3). */
#ifndef ZIPFS_PALETTE_H
#define ZIPFS_PALETTE_H

#include "codec.h"

/* As zipfs_run_decode. */
enum zipfs_status zipfs_palette_decode(struct zipfs_codec *codec, const struct zipfs_run *run, const uint8_t *src,
                                       uint8_t *dst);

/* Encodes src_size plain bytes, whose first whole element of `width` bytes begins at `phase`. Returns the size of the
 * payload; SIZE_MAX when it exceeds capacity, or when there are more than 256 values, or when nothing is to be won. */
size_t zipfs_palette_encode(struct zipfs_codec *codec, unsigned width, size_t phase, const uint8_t *src,
                            size_t src_size, uint8_t *dst, size_t capacity);

#endif
