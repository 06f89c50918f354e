/* The RANS coding of one plane (docs/format.md section 5): tables, parsing, choice of a table. The loops are kernels.
 */
#ifndef ZIPFS_RANS_H
#define ZIPFS_RANS_H

#include "zipfs.h"

struct zipfs_kernels;

enum {
    ZIPFS_RANS_MAX_LANES = 256,
    ZIPFS_RANS_MAX_SYMBOLS = 64,
    ZIPFS_RANS_MAX_NEAR = 60,
    ZIPFS_RANS_MORE = 15, /* the nibble that adds 15 to the number that follows */
    ZIPFS_RANS_MAX_VALUES = 1024, /* of the widest field, 10 bits */
    ZIPFS_RANS_HEADER = 16,       /* bytes before the table */
    /* Bytes that an encoder needs before the first place of coded ones, besides one for each code. */
    ZIPFS_RANS_CODED_ROOM = 2 * ZIPFS_RANS_MAX_LANES,
};

/* Symbols 0 to num_symbols - 1; the rest of each array is zero. With has_escape the last symbol is the escape. */
struct zipfs_rans_table {
    uint8_t num_symbols, num_near;
    bool has_escape;
    uint8_t freq[ZIPFS_RANS_MAX_SYMBOLS];
    uint8_t start[ZIPFS_RANS_MAX_SYMBOLS];
    uint16_t value[ZIPFS_RANS_MAX_SYMBOLS];
    uint16_t near[ZIPFS_RANS_MAX_NEAR];
};

/* Escaped values in their order, resolved to patterns before decoding begins, so that loops need not look at
 * nibbles: a byte of each value's pattern in `low`, the other in `high` where patterns are wide. At least
 * ZIPFS_RANS_MAX_LANES bytes of room follow the end of both. */
struct zipfs_rans_escapes {
    const uint8_t *low, *high;
    const uint8_t *low_end;
};

/* A stream that is being decoded. The pointers move, the ends stay. Values come out as patterns: shifted to where they
 * stand in an element. */
struct zipfs_rans_decoder {
    struct zipfs_rans_table table;
    uint8_t symbol[256]; /* of each slot */
    uint8_t pattern_low[ZIPFS_RANS_MAX_SYMBOLS], pattern_high[ZIPFS_RANS_MAX_SYMBOLS];
    /* The scalar kernel's form of the table, made when has_slots is false: of each slot its symbol's frequency, the place
     * within the symbol, and the pattern. */
    uint32_t slot_freq[256], slot_place[256];
    uint16_t slot_pattern[256];
    bool has_slots;
    unsigned num_lanes; /* 64, 128 or 256 */
    uint16_t state[ZIPFS_RANS_MAX_LANES];
    const uint8_t *coded, *coded_end;
    const uint8_t *readable_end; /* loops may read ahead of what they use, up to here */
    struct zipfs_rans_escapes escapes;
    /* Loops that have time to spare prefetch `ahead_step` bytes from `ahead` with each group of lanes. In a container
     * the next chunk's payload lies there: BF16 that comes from RAM decodes at 18 instead of 12 GB/s (Zen 5). */
    const uint8_t *ahead;
    size_t ahead_step;
    uint8_t tail[2 * ZIPFS_RANS_MAX_LANES]; /* the end of the coded bytes, when nothing readable follows it */
};

/* A stream that is being encoded, from its last code to its first. A code is a byte that stands for a value. */
struct zipfs_rans_encoder {
    struct zipfs_rans_table table; /* of codes, then of values: zipfs_rans_translate */
    uint8_t symbol_of[256];        /* of each code */
    uint32_t inverse[ZIPFS_RANS_MAX_SYMBOLS]; /* 2^24 / freq of each symbol, rounded up */
    unsigned code_bits;            /* 8, or 6: codes are below 64, or at least 128 and escapes */
    unsigned num_lanes;
    uint16_t state[ZIPFS_RANS_MAX_LANES];
    uint8_t *coded;    /* moves down; n + ZIPFS_RANS_CODED_ROOM bytes lie before its first place */
    uint64_t *escaped; /* bit i % 64 of word i / 64: code i is the escape. Written when there is one. */
    /* Loops may prefetch `ahead_step` bytes from `ahead` with each group of lanes: where the payload is to be copied
     * to, which the CPU would else wait for. */
    const uint8_t *ahead;
    size_t ahead_step;
};

/* Lanes for a run of n elements. More are faster, with AVX-512 12, 23 and 36 GB/s of BF16 from 64, 128 and 256 (Zen 5,
 * in cache), since the loop waits for its own results; each costs two bytes, 256 of them 0.1 % of a chunk. F16, which
 * has least to save, and wide elements, of which a chunk has fewer, take fewer. fewest: size is all that counts. */
static inline unsigned zipfs_rans_lanes(uint32_t layout, size_t n, bool fewest) {
    unsigned lanes = 128;
    if (layout == ZIPFS_BF16_JOINT || layout == ZIPFS_F8_E4M3_JOINT || layout == ZIPFS_F8_E5M2_JOINT)
        lanes = 256;
    if (layout == ZIPFS_F64 || layout == ZIPFS_I64)
        lanes = 64;
    if (fewest)
        lanes = 64;
    while (lanes > 64 && n < 256u * lanes)
        lanes /= 2;
    return lanes;
}

/* Parses a plane of n values of `bits` bits, whose patterns are the values shifted by `shift`. Loops may read to
 * readable_end, which lies at or behind the plane's end. The decoder points into src and into *room, where the escapes
 * are resolved and which moves behind them: by zipfs_rans_room bytes at most, but n + ZIPFS_RANS_MAX_LANES more are
 * written to. BAD_PLANE, BAD_RANS or RESERVED_NOT_ZERO. */
enum zipfs_status zipfs_rans_open(const uint8_t *src, size_t src_size, const uint8_t *readable_end, size_t n,
                                  unsigned bits, unsigned shift, const struct zipfs_kernels *kernels, uint8_t **room,
                                  struct zipfs_rans_decoder *decoder);
static inline bool zipfs_rans_is_wide(unsigned bits, unsigned shift) {
    return bits + shift > 8;
}
static inline size_t zipfs_rans_room(size_t n, unsigned bits, unsigned shift) {
    return (n + ZIPFS_RANS_MAX_LANES) * (zipfs_rans_is_wide(bits, shift) ? 2u : 1u);
}
/* After the last value: is every state back at 256, and has every byte been used? */
enum zipfs_status zipfs_rans_finish(const struct zipfs_rans_decoder *decoder);

/* What an encoder may give symbols to. */
struct zipfs_rans_counts {
    uint32_t count[256];  /* of each code */
    unsigned num_codes;   /* codes from here on stand for no certain value: always escapes */
    size_t n;             /* codes that were counted */
    bool complete;        /* all codes were counted; else any code may still come, as an escape */
    bool thorough;        /* look at more tables */
};

/* Chooses symbols and frequencies for codes (at least two different ones). Returns the bits that follow from them for
 * counts->n values of `bits` bits: table, coded bytes and escapes, without states and header. Integer arithmetic only:
 * equal everywhere. num_near says whether near values pay; which they are, the escapes will tell. */
uint64_t zipfs_rans_choose(const struct zipfs_rans_counts *counts, unsigned bits, struct zipfs_rans_table *table_ret);
/* Readies an encoder for a table of codes; the caller sets the two pointers. */
void zipfs_rans_encoder_init(struct zipfs_rans_encoder *encoder, const struct zipfs_rans_table *table,
                             unsigned code_bits, unsigned num_lanes);

/* log2(x) in units of 2^-16, x at least 1. */
uint32_t zipfs_log2(uint32_t x);
/* Bytes that n values with these counts take at their order-0 entropy. Integer arithmetic only. */
uint64_t zipfs_entropy(const uint32_t count[256], size_t n);
uint64_t zipfs_entropy_of(const uint32_t *count, unsigned num_counts, size_t n); /* fewer counts */

#endif
