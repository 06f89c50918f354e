/* The RANS coding of one plane (docs/format.md section 5): tables, parsing, choice of a table. The loops are kernels.
 */
#ifndef ZIPFS_RANS_H
#define ZIPFS_RANS_H

#include "zipfs.h"

enum {
    ZIPFS_RANS_MAX_LANES = 128,
    ZIPFS_RANS_MAX_SYMBOLS = 64,
    ZIPFS_RANS_HEADER = 12, /* bytes before the table */
};

/* Symbols 0 to num_symbols - 1; the rest of each array is zero. With has_escape the last symbol is the escape. */
struct zipfs_rans_table {
    uint8_t num_symbols;
    bool has_escape;
    uint8_t freq[ZIPFS_RANS_MAX_SYMBOLS];
    uint8_t start[ZIPFS_RANS_MAX_SYMBOLS];
    uint8_t value[ZIPFS_RANS_MAX_SYMBOLS];
};

/* A stream that is being decoded. The pointers move, the ends stay. */
struct zipfs_rans_decoder {
    struct zipfs_rans_table table;
    uint8_t symbol[256]; /* of each slot */
    uint32_t slots[256]; /* the scalar kernel's form of the table, made when has_slots is false */
    bool has_slots;
    unsigned num_lanes; /* 64 or 128 */
    uint16_t state[ZIPFS_RANS_MAX_LANES];
    const uint8_t *coded, *coded_end;
    const uint8_t *escapes, *escapes_end;
};

/* A stream that is being encoded, from its last element to its first: both pointers move down. */
struct zipfs_rans_encoder {
    struct zipfs_rans_table table;
    uint8_t symbol_of[256]; /* of each value */
    unsigned num_lanes;
    uint16_t state[ZIPFS_RANS_MAX_LANES];
    uint8_t *coded;   /* n + 128 bytes lie before its first place */
    uint8_t *escapes; /* n bytes */
};

/* Bytes of a plane besides its table (2 a symbol) and its streams. */
static inline size_t zipfs_rans_fixed(unsigned num_lanes) {
    return ZIPFS_RANS_HEADER + 2u * num_lanes;
}

/* Lanes for elements of `width` bytes: size against speed. The states of 128 lanes cost 0.04 points of F32 in chunks of
 * 256 KiB, more than its lead over ZipNN. 64 lanes decode F32 at 0.83 and F32 of BF16 at 0.78 of the speed of 128 with
 * AVX-512, which is bound by latency (10.5 and 15.2 GB/s on Zen 5, medians of 11 pairs, 64 MiB); AVX2 and scalar differ
 * by 2 % at most. */
static inline unsigned zipfs_rans_lanes(unsigned width) {
    return width >= 4 ? 64 : 128;
}

/* Parses a plane of n values of `bits` bits. The decoder points into src. BAD_PLANE, BAD_RANS or RESERVED_NOT_ZERO. */
enum zipfs_status zipfs_rans_open(const uint8_t *src, size_t src_size, size_t n, unsigned bits,
                                  struct zipfs_rans_decoder *decoder);
/* After the last value: is every state back at 256, and has every byte been used? */
enum zipfs_status zipfs_rans_finish(const struct zipfs_rans_decoder *decoder);

/* Chooses symbols and frequencies for n values (at least two different ones) with these counts. Returns the size of the
 * plane in bytes that follows from them, good to a few bytes. Integer arithmetic only: equal everywhere. */
uint64_t zipfs_rans_choose(const uint32_t count[256], size_t n, unsigned num_lanes, struct zipfs_rans_table *table_ret);
/* Readies an encoder for a table; the caller sets the two pointers. */
void zipfs_rans_encoder_init(struct zipfs_rans_encoder *encoder, const struct zipfs_rans_table *table,
                             unsigned num_lanes);
/* Writes everything before the coded bytes; returns its size. */
size_t zipfs_rans_write_header(const struct zipfs_rans_encoder *encoder, size_t coded_size, size_t num_escapes,
                               uint8_t *dst);

/* Bytes that n values with these counts take at their order-0 entropy. Integer arithmetic only. */
uint64_t zipfs_entropy(const uint32_t count[256], size_t n);
/* log2(x) in units of 2^-16, x at least 1. */
uint32_t zipfs_log2(uint32_t x);

#endif
