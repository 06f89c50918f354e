/* Layouts: how elements are cut into fields (docs/format.md section 4.1). */
#ifndef ZIPFS_LAYOUT_H
#define ZIPFS_LAYOUT_H

#include "zipfs.h"

enum { ZIPFS_MAX_FIELDS = 9, ZIPFS_MAX_WIDTH = 8 };

struct zipfs_layout_info {
    uint8_t width; /* bytes of an element */
    uint8_t num_fields;
    uint8_t bits[ZIPFS_MAX_FIELDS]; /* of each field, top first */
    uint8_t exponent_bits;          /* 0: not a float, its sign stays where it is */
};

/* NULL when no layout of format version 1 has this id. */
const struct zipfs_layout_info *zipfs_layout_info(uint32_t layout);

/* Moves the sign of an element below its exponent, and back. Elements are little-endian words of `width` bytes. */
uint64_t zipfs_layout_rotate(const struct zipfs_layout_info *info, uint64_t x);
uint64_t zipfs_layout_unrotate(const struct zipfs_layout_info *info, uint64_t y);

#endif
