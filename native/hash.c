/* XXH3-64 for any CPU: the header-only form, since the library call of a distribution is no faster and may be absent.
 */
#ifndef __clang__
#pragma GCC optimize("O3") /* 35 GB/s instead of 19 */
#endif

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "kernels.h"

uint64_t zipfs_hash_scalar(const uint8_t *src, size_t src_size, uint64_t seed) {
    return XXH3_64bits_withSeed(src, src_size, seed);
}
