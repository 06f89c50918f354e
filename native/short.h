/* The SHORT coding of one plane (docs/format.md section 4.2): codes of three bits for seven values, and a byte more for
 * each of the others. It takes more room than rANS, and its loops do little but load and store. */
#ifndef ZIPFS_SHORT_H
#define ZIPFS_SHORT_H

#include "zipfs.h"

struct zipfs_codec;

enum {
    ZIPFS_SHORT_BITS = 3,
    ZIPFS_SHORT_ESCAPE = 7,    /* the code of values that have none; it is also the number of those that have one */
    ZIPFS_SHORT_AT_ONCE = 64,
    ZIPFS_SHORT_READABLE = 64, /* bytes that loops may read from the end of the escapes on */
};

/* A plane that is being decoded. The pointers move, the end stays. */
struct zipfs_short_decoder {
    uint8_t value[64]; /* of each code; the rest is zero */
    const uint8_t *codes, *escapes, *escapes_end;
    /* Loops prefetch `ahead_step` bytes from `ahead` with each ZIPFS_SHORT_AT_ONCE values, as in rans.h. */
    const uint8_t *ahead;
    size_t ahead_step;
};

/* Parses a plane of n values of `bits` bits, at most 8. The decoder points into src, and into *room where too little of
 * what lies behind src is readable; room moves behind what was written there, n + ZIPFS_SHORT_READABLE bytes at most.
 * BAD_PLANE or RESERVED_NOT_ZERO. */
enum zipfs_status zipfs_short_open(const uint8_t *src, size_t src_size, const uint8_t *readable_end, size_t n,
                                   unsigned bits, uint8_t **room, struct zipfs_short_decoder *decoder);
/* After the last value: has every escape been used? */
static inline enum zipfs_status zipfs_short_finish(const struct zipfs_short_decoder *decoder) {
    return decoder->escapes == decoder->escapes_end ? ZIPFS_OK : ZIPFS_BAD_PLANE;
}

/* Are short codes of n values with these counts worth their speed: at most 2/3 of a bit a value more than the entropy,
 * and smaller than the values? value_ret: those that get codes. Integer arithmetic only. */
bool zipfs_short_pays(const uint32_t count[256], size_t n, uint8_t value_ret[ZIPFS_SHORT_ESCAPE]);

/* Encodes n values where that pays. Returns the size; SIZE_MAX when it does not, or exceeds capacity. */
size_t zipfs_short_encode(struct zipfs_codec *codec, const uint8_t *values, size_t n, uint8_t *dst, size_t capacity);

#endif
