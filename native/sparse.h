/* Runs of which many elements are zero: a bitmap, and the other elements (docs/format.md section 4.3). */
#ifndef ZIPFS_SPARSE_H
#define ZIPFS_SPARSE_H

#include "codec.h"

/* As zipfs_run_decode. */
enum zipfs_status zipfs_sparse_decode(struct zipfs_codec *codec, const struct zipfs_run *run, const uint8_t *src,
                                      uint8_t *dst);

/* Parts n elements of `width` bytes: a bit for each, set where it is not zero, and those that are not, for which there
 * is room for n. Returns how many they are; 0 when a sample promises no gain. */
size_t zipfs_sparse_part(const uint8_t *src, unsigned width, size_t n, uint8_t *bitmap, uint8_t *values);

#endif
