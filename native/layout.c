/* The table of layouts, and the position of the sign. */
#include "layout.h"

static const struct zipfs_layout_info layouts[ZIPFS_NUM_LAYOUTS] = {
    [ZIPFS_BYTES] = {1, 1, {8}, 0, false, 0},
    [ZIPFS_BF16] = {2, 2, {8, 8}, 8, false, ZIPFS_BF16_JOINT},
    [ZIPFS_F16] = {2, 3, {5, 3, 8}, 5, false, ZIPFS_F16_JOINT},
    [ZIPFS_F32] = {4, 4, {8, 8, 8, 8}, 8, false, ZIPFS_F32_JOINT},
    [ZIPFS_F64] = {8, 9, {3, 8, 5, 8, 8, 8, 8, 8, 8}, 11, false, 0},
    [ZIPFS_F8_E4M3] = {1, 2, {4, 4}, 4, false, ZIPFS_F8_E4M3_JOINT},
    [ZIPFS_F8_E5M2] = {1, 2, {5, 3}, 5, false, ZIPFS_F8_E5M2_JOINT},
    [ZIPFS_I16] = {2, 2, {8, 8}, 0, false, 0},
    [ZIPFS_I32] = {4, 4, {8, 8, 8, 8}, 0, false, 0},
    [ZIPFS_I64] = {8, 8, {8, 8, 8, 8, 8, 8, 8, 8}, 0, false, 0},
    [ZIPFS_BF16_JOINT] = {2, 2, {10, 6}, 8, true, 0},
    [ZIPFS_F16_JOINT] = {2, 3, {7, 1, 8}, 5, true, 0},
    [ZIPFS_F32_JOINT] = {4, 4, {10, 6, 8, 8}, 8, true, 0},
    [ZIPFS_F8_E4M3_JOINT] = {1, 2, {6, 2}, 4, true, 0},
    [ZIPFS_F8_E5M2_JOINT] = {1, 2, {7, 1}, 5, true, 0},
};

const struct zipfs_layout_info *zipfs_layout_info(uint32_t layout) {
    return layout < ZIPFS_NUM_LAYOUTS ? &layouts[layout] : NULL;
}

bool zipfs_layout_is_float(uint32_t layout) {
    const struct zipfs_layout_info *info = zipfs_layout_info(layout);
    return info && info->exponent_bits > 0;
}

/* Bits above the sign once it has been moved. */
static unsigned above_sign(const struct zipfs_layout_info *info) {
    return info->exponent_bits + (info->is_joint ? ZIPFS_JOINT_MANTISSA : 0u);
}

uint64_t zipfs_layout_rotate(const struct zipfs_layout_info *info, uint64_t x) {
    if (!info->exponent_bits)
        return x;
    unsigned top = 8u * info->width - 1, low_bits = top - above_sign(info);
    uint64_t low = (UINT64_C(1) << low_bits) - 1, high_mask = (UINT64_C(1) << above_sign(info)) - 1;
    uint64_t sign = x >> top & 1, high = x >> low_bits & high_mask;
    return high << (low_bits + 1) | sign << low_bits | (x & low);
}

uint64_t zipfs_layout_unrotate(const struct zipfs_layout_info *info, uint64_t y) {
    if (!info->exponent_bits)
        return y;
    unsigned top = 8u * info->width - 1, low_bits = top - above_sign(info);
    uint64_t low = (UINT64_C(1) << low_bits) - 1;
    uint64_t sign = y >> low_bits & 1, high = y >> (low_bits + 1);
    return sign << top | high << low_bits | (y & low);
}
