/* Small helpers of the codec. */
#ifndef ZIPFS_COMMON_H
#define ZIPFS_COMMON_H

#include <stddef.h>

#define ZIPFS_LIKELY(x) __builtin_expect(!!(x), 1)
#define ZIPFS_UNLIKELY(x) __builtin_expect(!!(x), 0)

static inline size_t zipfs_min(size_t a, size_t b) {
    return a < b ? a : b;
}

static inline size_t zipfs_max(size_t a, size_t b) {
    return a > b ? a : b;
}

#endif
