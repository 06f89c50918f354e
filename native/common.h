/* Small helpers of every file: little-endian loads and stores at any alignment, minimum and maximum. */
#ifndef ZIPFS_COMMON_H
#define ZIPFS_COMMON_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "zipfs is built for little-endian machines only"
#endif

#define ZIPFS_LIKELY(x) __builtin_expect(!!(x), 1)
#define ZIPFS_UNLIKELY(x) __builtin_expect(!!(x), 0)

static inline size_t zipfs_min(size_t a, size_t b) {
    return a < b ? a : b;
}

static inline size_t zipfs_max(size_t a, size_t b) {
    return a > b ? a : b;
}

static inline uint16_t zipfs_load16(const uint8_t *src) {
    uint16_t x;
    memcpy(&x, src, sizeof x);
    return x;
}

static inline uint32_t zipfs_load32(const uint8_t *src) {
    uint32_t x;
    memcpy(&x, src, sizeof x);
    return x;
}

static inline uint64_t zipfs_load64(const uint8_t *src) {
    uint64_t x;
    memcpy(&x, src, sizeof x);
    return x;
}

static inline void zipfs_store16(uint8_t *dst, uint16_t x) {
    memcpy(dst, &x, sizeof x);
}

static inline void zipfs_store32(uint8_t *dst, uint32_t x) {
    memcpy(dst, &x, sizeof x);
}

static inline void zipfs_store64(uint8_t *dst, uint64_t x) {
    memcpy(dst, &x, sizeof x);
}

#endif
