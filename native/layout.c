/* The table of layouts, and the position of the sign. */
#include "layout.h"

static const struct zipfs_layout_info layouts[ZIPFS_NUM_LAYOUTS] = {
    [ZIPFS_BYTES] = {1, 1, {8}, 0},
    [ZIPFS_BF16] = {2, 2, {8, 8}, 8},
    [ZIPFS_F16] = {2, 3, {5, 3, 8}, 5},
    [ZIPFS_F32] = {4, 4, {8, 8, 8, 8}, 8},
    [ZIPFS_F64] = {8, 9, {3, 8, 5, 8, 8, 8, 8, 8, 8}, 11},
    [ZIPFS_F8_E4M3] = {1, 2, {4, 4}, 4},
    [ZIPFS_F8_E5M2] = {1, 2, {5, 3}, 5},
    [ZIPFS_I16] = {2, 2, {8, 8}, 0},
    [ZIPFS_I32] = {4, 4, {8, 8, 8, 8}, 0},
    [ZIPFS_I64] = {8, 8, {8, 8, 8, 8, 8, 8, 8, 8}, 0},
};

const struct zipfs_layout_info *zipfs_layout_info(uint32_t layout) {
    return layout < ZIPFS_NUM_LAYOUTS ? &layouts[layout] : NULL;
}

uint64_t zipfs_layout_rotate(const struct zipfs_layout_info *info, uint64_t x) {
    if (!info->exponent_bits)
        return x;
    unsigned top = 8u * info->width - 1, mantissa = top - info->exponent_bits;
    uint64_t low = (UINT64_C(1) << mantissa) - 1, exponent_mask = (UINT64_C(1) << info->exponent_bits) - 1;
    uint64_t sign = x >> top & 1, exponent = x >> mantissa & exponent_mask;
    return exponent << (mantissa + 1) | sign << mantissa | (x & low);
}

uint64_t zipfs_layout_unrotate(const struct zipfs_layout_info *info, uint64_t y) {
    if (!info->exponent_bits)
        return y;
    unsigned top = 8u * info->width - 1, mantissa = top - info->exponent_bits;
    uint64_t low = (UINT64_C(1) << mantissa) - 1;
    uint64_t sign = y >> mantissa & 1, exponent = y >> (mantissa + 1);
    return sign << top | exponent << mantissa | (y & low);
}
