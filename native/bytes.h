/* Loads and stores of little-endian integers at any alignment. */
#ifndef ZIPFS_BYTES_H
#define ZIPFS_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "zipfs is built for little-endian machines only"
#endif

static inline uint16_t load_u16(const uint8_t *src) {
    uint16_t value;
    memcpy(&value, src, sizeof value);
    return value;
}

static inline uint32_t load_u32(const uint8_t *src) {
    uint32_t value;
    memcpy(&value, src, sizeof value);
    return value;
}

static inline uint64_t load_u64(const uint8_t *src) {
    uint64_t value;
    memcpy(&value, src, sizeof value);
    return value;
}

static inline void store_u16(uint8_t *dst, uint16_t value) {
    memcpy(dst, &value, sizeof value);
}

static inline void store_u32(uint8_t *dst, uint32_t value) {
    memcpy(dst, &value, sizeof value);
}

static inline void store_u64(uint8_t *dst, uint64_t value) {
    memcpy(dst, &value, sizeof value);
}

/* Are all bytes zero? For reserved fields, which are short. */
static inline bool all_zero(const uint8_t *src, size_t size) {
    uint8_t bits = 0;
    for (size_t i = 0; i < size; i++)
        bits |= src[i];
    return bits == 0;
}

#endif
