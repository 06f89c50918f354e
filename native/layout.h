/* Layouts: how elements are cut into fields (docs/format.md section 4.1). */
#ifndef ZIPFS_LAYOUT_H
#define ZIPFS_LAYOUT_H

#include "common.h"
#include "zipfs.h"

enum { ZIPFS_MAX_FIELDS = 9, ZIPFS_MAX_WIDTH = 8, ZIPFS_JOINT_MANTISSA = 2 };

enum {
    ZIPFS_JOINT_ROWS = 16,   /* exponents whose values may have symbols of their own */
    ZIPFS_JOINT_NO_ROW = 32, /* what others have for a row */
};

struct zipfs_layout_info {
    uint8_t width; /* bytes of an element */
    uint8_t num_fields;
    uint8_t bits[ZIPFS_MAX_FIELDS]; /* of each field, top first */
    uint8_t exponent_bits;          /* 0: not a float, its sign stays where it is */
    bool is_joint;                  /* the first field holds the exponent and the upper mantissa bits */
    uint8_t joint;                  /* the joint layout of the same dtype, 0 where there is none */
};

/* NULL when no layout of format version 1 has this id. */
const struct zipfs_layout_info *zipfs_layout_info(uint32_t layout);

bool zipfs_layout_is_float(uint32_t layout); /* block formats are none */

/* Moves the sign of an element below its first field, and back. Elements are little-endian words of `width` bytes. */
uint64_t zipfs_layout_rotate(const struct zipfs_layout_info *info, uint64_t x);
uint64_t zipfs_layout_unrotate(const struct zipfs_layout_info *info, uint64_t y);

/* Bits of an element below the first field of a joint layout, the sign not counted: where its values stand. */
static inline unsigned zipfs_joint_shift(const struct zipfs_layout_info *info) {
    return 8u * info->width - 1 - info->bits[0];
}

#endif
