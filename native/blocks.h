/* Runs of blocks of a fixed size, whose parts are coded apart (docs/format.md section 4.4). */
#ifndef ZIPFS_BLOCKS_H
#define ZIPFS_BLOCKS_H

#include "codec.h"
#include "plan.h"

enum { ZIPFS_MAX_BLOCK = 256, ZIPFS_MAX_PARTS = 8 };

/* A format of quantised weights: what lies behind what in a block. */
struct zipfs_block_format {
    const char *name; /* of the dtype */
    uint16_t width;   /* bytes of a block: the sum of the parts */
    uint8_t num_parts;
    struct {
        uint8_t size, layout;
    } parts[ZIPFS_MAX_PARTS];
};

/* NULL when no format has this number (see enum zipfs_layout). */
const struct zipfs_block_format *zipfs_block_format(uint32_t layout);

/* Do samples show that blocks of a format, whose first begins at src, can't be made smaller by 1/128, neither part by
 * part nor as a whole? False for few bytes. */
bool zipfs_blocks_are_noise(const struct zipfs_kernels *kernels, uint32_t layout, const uint8_t *src, size_t size);

/* As zipfs_run_decode. */
enum zipfs_status zipfs_blocks_decode(struct zipfs_codec *codec, const struct zipfs_run *run, const uint8_t *src,
                                      uint8_t *dst);

/* Encodes a piece whose layout is a format, each part by encode_part, which returns SIZE_MAX when the part exceeds the
 * capacity and else sets the layout of the piece to its choice. Returns the size, SIZE_MAX when it exceeds capacity. */
typedef size_t zipfs_encode_part(struct zipfs_codec *codec, struct zipfs_piece *part, const uint8_t *src, uint8_t *dst,
                                 size_t capacity);
size_t zipfs_blocks_encode(struct zipfs_codec *codec, const struct zipfs_piece *piece, const uint8_t *src, uint8_t *dst,
                           size_t capacity, zipfs_encode_part *encode_part);

#endif
