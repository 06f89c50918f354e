/* Runs: a stretch of a chunk in one layout (docs/format.md section 4.2). */
#ifndef ZIPFS_RUN_H
#define ZIPFS_RUN_H

#include "codec.h"

enum { ZIPFS_PLANE_RECORD = 8, ZIPFS_RUN_RECORD = 12 };

/* Decodes the payload of a run, whose sizes come from its record, into run->plain_size bytes. */
enum zipfs_status zipfs_run_decode(struct zipfs_codec *codec, const struct zipfs_run *run, const uint8_t *src,
                                   uint8_t *dst);

/* Does the payload of a run decode to these plain bytes? An error of decoding, or PLAIN_CHECKSUM. */
enum zipfs_status zipfs_run_check(struct zipfs_codec *codec, const struct zipfs_run *run, const uint8_t *src,
                                  const uint8_t *expected);

/* How to encode a run. */
struct zipfs_recipe {
    uint32_t layout, phase;
    const uint8_t *row; /* of each exponent, for joint layouts: joint.h */
    unsigned num_lanes; /* 0: as the layout has them */
    enum zipfs_lz lz;
};

/* Encodes plain bytes. Returns the size of the payload, SIZE_MAX when it exceeds capacity. is_noise_ret: at least half
 * of each element is noise that no coding can shrink. */
size_t zipfs_run_encode(struct zipfs_codec *codec, const struct zipfs_recipe *recipe, const uint8_t *src,
                        size_t src_size, uint8_t *dst, size_t capacity, bool *is_noise_ret);

void zipfs_run_record(uint32_t layout, size_t phase, size_t plain_size, size_t stored_size, uint8_t *dst);

/* ---- runs that wrap others: palette.c, sparse.c ---- */

/* The elements of a wrapping run. */
struct zipfs_wrapped {
    unsigned width;
    size_t n;           /* elements */
    const uint8_t *src; /* decoding: what follows the plain bytes before and behind the elements */
    size_t src_size;
    uint8_t *dst;       /* decoding: the first element */
};

enum { ZIPFS_WRAP_FIXED = 4 };

/* Checks the sizes of a wrapping run, and decodes the bytes before and behind its elements. */
enum zipfs_status zipfs_run_unwrap(const struct zipfs_run *run, const uint8_t *src, uint8_t *dst,
                                   struct zipfs_wrapped *ret);
/* Decodes the inner run of n elements of `width` bytes that begins at src. used_ret: the size of its record and
 * payload. */
enum zipfs_status zipfs_run_decode_inner(struct zipfs_codec *codec, const uint8_t *src, size_t src_size, unsigned width,
                                         size_t n, uint8_t *dst, size_t *used_ret);

/* Writes the fixed part of a wrapping run, and the plain bytes before and behind its elements; returns their size, at
 * most ZIPFS_WRAP_FIXED + 2 * ZIPFS_MAX_WIDTH. */
size_t zipfs_run_wrap(unsigned width, size_t phase, const uint8_t *src, size_t src_size, uint8_t *dst);
/* Encodes an inner run, with its record; returns its size, SIZE_MAX when it exceeds capacity. */
size_t zipfs_run_encode_inner(struct zipfs_codec *codec, const struct zipfs_recipe *recipe, const uint8_t *src,
                              size_t src_size, uint8_t *dst, size_t capacity);

#endif
