/* The choice of joint layouts, which code exponents together with the upper mantissa bits. */
#ifndef ZIPFS_JOINT_H
#define ZIPFS_JOINT_H

#include "codec.h"

/* Does a sample of n elements at src, of a layout that has a joint one, promise that the joint one is smaller? Then
 * row_ret holds the row of each exponent, below ZIPFS_JOINT_ROWS for those that are frequent, else
 * ZIPFS_JOINT_NO_ROW. */
bool zipfs_joint_promises(struct zipfs_codec *codec, uint32_t layout, const uint8_t *src, size_t n,
                          uint8_t row_ret[256]);

#endif
