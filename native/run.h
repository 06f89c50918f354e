/* Runs: a stretch of a chunk in one layout (docs/format.md section 4.2). */
#ifndef ZIPFS_RUN_H
#define ZIPFS_RUN_H

#include "codec.h"

enum { ZIPFS_PLANE_RECORD = 8 };

/* Decodes the payload of a run, whose sizes come from its record, into run->plain_size bytes. */
enum zipfs_status zipfs_run_decode(struct zipfs_codec *codec, const struct zipfs_run *run, const uint8_t *src,
                                   uint8_t *dst);

/* How to encode a run. */
struct zipfs_recipe {
    uint32_t layout, phase;
    const uint8_t *row; /* of each exponent, for joint layouts: joint.h */
    bool lz;            /* try zstd on every plane of whole bytes */
};

/* Encodes plain bytes. Returns the size of the payload, SIZE_MAX when it exceeds capacity. is_noise_ret: at least half
 * of each element is noise that no coding can shrink. */
size_t zipfs_run_encode(struct zipfs_codec *codec, const struct zipfs_recipe *recipe, const uint8_t *src,
                        size_t src_size, uint8_t *dst, size_t capacity, bool *is_noise_ret);

#endif
