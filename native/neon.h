/*
 * Steps of loops_*.h with NEON, which every AArch64 CPU has. A vector here is four registers, 64 bytes:
 * a table of 64 bytes is what one TBL looks up, and tables are loaded once for 64 values.
 */
#ifndef ZIPFS_NEON_H
#define ZIPFS_NEON_H

#include <arm_neon.h>
#include <stdbool.h>

#include "common.h"
#include "eights.h"

#define TARGET
#define STEP static inline __attribute__((always_inline))

enum { GROUP = 64, PART = 16, PARTS = GROUP / PART, EIGHTS = GROUP / 8 };

typedef struct {
    uint8x16_t part[PARTS];
} vec;

/* Returns a vector from an expression of its parts p. */
#define EACH_PART(expression)                                                                                          \
    do {                                                                                                               \
        vec result_;                                                                                                   \
        for (unsigned p = 0; p < PARTS; p++)                                                                           \
            result_.part[p] = (expression);                                                                            \
        return result_;                                                                                                \
    } while (0)

STEP vec load(const void *src) {
    EACH_PART(vld1q_u8((const uint8_t *)src + PART * p));
}

STEP void store(void *dst, vec x) {
    for (unsigned p = 0; p < PARTS; p++)
        vst1q_u8((uint8_t *)dst + PART * p, x.part[p]);
}

STEP vec bytes(unsigned x) {
    EACH_PART(vdupq_n_u8((uint8_t)x));
}

STEP vec both(vec a, vec b) {
    EACH_PART(vandq_u8(a.part[p], b.part[p]));
}

STEP vec add(vec a, vec b) {
    EACH_PART(vaddq_u8(a.part[p], b.part[p]));
}

STEP vec subtract(vec a, vec b) {
    EACH_PART(vsubq_u8(a.part[p], b.part[p]));
}

/* x | (y & mask), where x has none of these bits. */
STEP vec add_bits(vec x, vec y, unsigned mask) {
    EACH_PART(vbslq_u8(vdupq_n_u8((uint8_t)mask), y.part[p], x.part[p]));
}

/* Bits of `mask` from a, the others from b. */
STEP vec choose(vec mask, vec a, vec b) {
    EACH_PART(vbslq_u8(mask.part[p], a.part[p], b.part[p]));
}

/* Shifts of bytes. */
STEP vec up(vec x, unsigned count) {
    EACH_PART(vshlq_u8(x.part[p], vdupq_n_s8((int8_t)count)));
}

STEP vec down(vec x, unsigned count) {
    EACH_PART(vshlq_u8(x.part[p], vdupq_n_s8((int8_t)-(int)count)));
}

/* ---- choices of lanes ---- */

typedef struct {
    vec ones;      /* 255 where a lane is chosen, else 0 */
    uint64_t bits; /* a bit for each lane */
} chosen;

STEP chosen make_chosen(vec ones) {
    const uint8x16_t weights = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201));
    uint8x16_t pairs[2], x[PARTS];
    for (unsigned p = 0; p < PARTS; p++)
        x[p] = vandq_u8(ones.part[p], weights);
    for (unsigned i = 0; i < 2; i++)
        pairs[i] = vpaddq_u8(x[2 * i], x[2 * i + 1]);
    uint8x16_t quads = vpaddq_u8(pairs[0], pairs[1]), octets = vpaddq_u8(quads, quads);
    return (chosen){ones, vgetq_lane_u64(vreinterpretq_u64_u8(octets), 0)};
}

STEP vec ones_where_equal(vec a, vec b) {
    EACH_PART(vceqq_u8(a.part[p], b.part[p]));
}

STEP vec ones_where_at_least(vec a, vec b) {
    EACH_PART(vcgeq_u8(a.part[p], b.part[p]));
}

STEP chosen where_equal(vec a, vec b) {
    return make_chosen(ones_where_equal(a, b));
}

STEP chosen where_at_least(vec a, vec b) {
    return make_chosen(ones_where_at_least(a, b));
}

STEP void store_bits(uint8_t *dst, chosen lanes) {
    zipfs_store64(dst, lanes.bits);
}

/* Chosen lanes from a, the others from b. */
STEP vec blend(chosen lanes, vec a, vec b) {
    return choose(lanes.ones, a, b);
}

/* Zero in the chosen lanes. */
STEP vec without(chosen lanes, vec x) {
    EACH_PART(vbicq_u8(x.part[p], lanes.ones.part[p]));
}

STEP vec differing(vec a, vec b) {
    EACH_PART(veorq_u8(a.part[p], b.part[p]));
}

/* Byte e: how many of the lanes 0 to 8 * e + 7 are chosen. */
STEP uint64_t counts_up_to(chosen lanes) {
    uint64_t counts = vget_lane_u64(vreinterpret_u64_u8(vcnt_u8(vreinterpret_u8_u64(vdup_n_u64(lanes.bits)))), 0);
    return counts * 0x0101010101010101;
}

STEP size_t count_of(chosen lanes) {
    return counts_up_to(lanes) >> 56;
}

/* ---- tables ---- */

struct table64 {
    uint8x16x4_t rows;
};

STEP struct table64 load_table64(const uint8_t table[64]) {
    return (struct table64){vld1q_u8_x4(table)};
}

/* One look-up takes as many registers as there are rows in use. */
STEP uint8x16_t look_up_part(const struct table64 *t, unsigned rows, uint8x16_t index) {
    const uint8x16_t *row = t->rows.val;
    switch (rows) {
    case 1: return vqtbl1q_u8(row[0], index);
    case 2: return vqtbl2q_u8((uint8x16x2_t){{row[0], row[1]}}, index);
    case 3: return vqtbl3q_u8((uint8x16x3_t){{row[0], row[1], row[2]}}, index);
    default: return vqtbl4q_u8(t->rows, index);
    }
}

STEP vec look_up(const struct table64 *t, unsigned rows, vec index) {
    EACH_PART(look_up_part(t, rows, index.part[p]));
}

/* Indices need not be made ready for several tables. */
struct places {
    vec index;
};

STEP struct places places_of(vec index, unsigned rows) {
    (void)rows;
    return (struct places){index};
}

STEP vec look_up_at(const struct table64 *t, unsigned rows, const struct places *p) {
    return look_up(t, rows, p->index);
}

/* ---- tables of 256 bytes of which most quarters are one and the same value ---- */

struct sparse_table {
    unsigned num_parts;
    struct table64 part[4];
    uint8x16_t first[4]; /* index of each part */
    uint8x16_t other;    /* the entry of all other parts */
};

STEP struct sparse_table load_sparse_table(const uint8_t table[256], unsigned other) {
    struct sparse_table t = {.num_parts = 0, .other = vdupq_n_u8((uint8_t)other)};
    for (unsigned i = 0; i < 256; i += 64) {
        if (~where_equal(load(table + i), bytes(other)).bits) {
            t.first[t.num_parts] = vdupq_n_u8((uint8_t)i);
            t.part[t.num_parts++] = load_table64(table + i);
        }
    }
    return t;
}

/* An index beyond a part leaves what there is. */
STEP vec look_up_sparse(const struct sparse_table *t, vec index, unsigned bits) {
    (void)bits;
    vec found;
    for (unsigned p = 0; p < PARTS; p++)
        found.part[p] = t->other;
    for (unsigned i = 0; i < t->num_parts; i++)
        for (unsigned p = 0; p < PARTS; p++)
            found.part[p] = vqtbx4q_u8(found.part[p], t->part[i].rows, vsubq_u8(index.part[p], t->first[i]));
    return found;
}

/* ---- slots: by blocks of eight, the first one's symbol and the number of symbols that begin up to a slot ---- */

enum { BLOCK = 8, NUM_BLOCKS = 256 / BLOCK };

struct slots {
    uint8x16x2_t base;   /* of each block: the symbol of its first slot */
    uint8x16x2_t begins; /* bit k: slot k + 1 of the block begins a symbol */
};

STEP vec next_in_block(vec x) {
    EACH_PART(vreinterpretq_u8_u64(vshrq_n_u64(vreinterpretq_u64_u8(x.part[p]), 8)));
}

STEP struct slots load_slots(const uint8_t symbol[256]) {
    uint8_t base[NUM_BLOCKS], begins[NUM_BLOCKS];
    for (unsigned b = 0; b < NUM_BLOCKS; b++)
        base[b] = symbol[BLOCK * b];
    for (unsigned slot = 0; slot < 256; slot += GROUP) {
        vec symbols = load(symbol + slot);
        uint64_t begin = ~where_equal(symbols, next_in_block(symbols)).bits & 0x7f7f7f7f7f7f7f7f;
        memcpy(begins + slot / BLOCK, &begin, sizeof begin);
    }
    return (struct slots){vld1q_u8_x2(base), vld1q_u8_x2(begins)};
}

STEP uint8x16_t symbols_of_part(const struct slots *slots, uint8x16_t slot) {
    const uint8x16_t up_to = {0, 1, 3, 7, 15, 31, 63, 127};
    uint8x16_t block = vshrq_n_u8(slot, 3), within = vandq_u8(slot, vdupq_n_u8(BLOCK - 1));
    uint8x16_t begins = vandq_u8(vqtbl2q_u8(slots->begins, block), vqtbl1q_u8(up_to, within));
    return vaddq_u8(vqtbl2q_u8(slots->base, block), vcntq_u8(begins));
}

STEP vec symbols_of(const struct slots *slots, vec slot) {
    EACH_PART(symbols_of_part(slots, slot.part[p]));
}

/* ---- chosen lanes and streams, eight lanes at a time ---- */

/* The next bytes of src to the chosen lanes of x. Reads 64 bytes at most. */
STEP vec deal(chosen lanes, vec x, const uint8_t *src) {
    uint64_t before = counts_up_to(lanes) << 8; /* byte e: how many are chosen before eight e */
    uint8x8_t dealt[EIGHTS];
    for (unsigned e = 0; e < EIGHTS; e++) {
        uint8x8_t old = e % 2 ? vget_high_u8(x.part[e / 2]) : vget_low_u8(x.part[e / 2]);
        uint8x8_t next = vld1_u8(src + (before >> 8 * e & 255)), none = vdup_n_u8(0);
        uint8x8_t index = vreinterpret_u8_u64(vld1_u64(&taken_by[lanes.bits >> 8 * e & 255]));
        dealt[e] = vqtbx1_u8(old, vcombine_u8(next, none), index);
    }
    EACH_PART(vcombine_u8(dealt[2 * p], dealt[2 * p + 1]));
}

/* Puts the chosen bytes in front of *end, the lowest lane first. Each store is of eight bytes, and may touch bytes
 * before those that count: there is room, since a stream has a byte for each lane that is to come. */
STEP void put_in_front(uint8_t **end, chosen lanes, vec x) {
    uint64_t counts = counts_up_to(lanes);
    uint8_t *begin = *end - (counts >> 56);
    for (unsigned e = EIGHTS; e-- > 0;) {
        uint8x8_t from = e % 2 ? vget_high_u8(x.part[e / 2]) : vget_low_u8(x.part[e / 2]), none = vdup_n_u8(0);
        uint8x8_t index = vreinterpret_u8_u64(vld1_u64(&given_by[lanes.bits >> 8 * e & 255]));
        vst1_u8(begin + (counts >> 8 * e & 255) - 8, vqtbl1_u8(vcombine_u8(from, none), index));
    }
    *end = begin;
}

/* ---- states of 16 bits as two vectors of bytes ---- */

struct lanes {
    vec low, high;
};

STEP void load_lanes(const uint16_t *state, struct lanes *lanes) {
    for (unsigned p = 0; p < PARTS; p++) {
        uint8x16x2_t x = vld2q_u8((const uint8_t *)(state + PART * p));
        lanes->low.part[p] = x.val[0];
        lanes->high.part[p] = x.val[1];
    }
}

STEP void store_lanes(uint16_t *state, const struct lanes *lanes) {
    for (unsigned p = 0; p < PARTS; p++) {
        uint8x16x2_t x = {{lanes->low.part[p], lanes->high.part[p]}};
        vst2q_u8((uint8_t *)(state + PART * p), x);
    }
}

/* The low (high) bytes of 16 words. */
STEP uint8x16_t low_bytes(uint16x8_t a, uint16x8_t b) {
    return vuzp1q_u8(vreinterpretq_u8_u16(a), vreinterpretq_u8_u16(b));
}

STEP uint8x16_t high_bytes(uint16x8_t a, uint16x8_t b) {
    return vuzp2q_u8(vreinterpretq_u8_u16(a), vreinterpretq_u8_u16(b));
}

/* a * b + c of bytes, as words. */
STEP struct lanes multiply_add(vec a, vec b, vec c) {
    struct lanes x;
    for (unsigned p = 0; p < PARTS; p++) {
        uint16x8_t lower = vmull_u8(vget_low_u8(a.part[p]), vget_low_u8(b.part[p]));
        uint16x8_t upper = vmull_high_u8(a.part[p], b.part[p]);
        lower = vaddw_u8(lower, vget_low_u8(c.part[p]));
        upper = vaddw_high_u8(upper, c.part[p]);
        x.low.part[p] = low_bytes(lower, upper);
        x.high.part[p] = high_bytes(lower, upper);
    }
    return x;
}

/* x / freq and x % freq of words: the product with the inverse is the quotient or one less. */
STEP void divide_words(uint16x8_t x, uint16x8_t freq, uint16x8_t inverse, uint16x8_t *quotient_ret,
                       uint16x8_t *rest_ret) {
    uint32x4_t lower = vmull_u16(vget_low_u16(x), vget_low_u16(inverse)), upper = vmull_high_u16(x, inverse);
    uint16x8_t quotient = vuzp2q_u16(vreinterpretq_u16_u32(lower), vreinterpretq_u16_u32(upper));
    uint16x8_t rest = vmlsq_u16(x, quotient, freq), low = vcgeq_u16(rest, freq);
    *quotient_ret = vsubq_u16(quotient, low);
    *rest_ret = vsubq_u16(rest, vandq_u16(low, freq));
}

/* high: the quotients of the states by freq, low: the rests; both must fit a byte. inverse: floor(65536 / freq), 65535
 * for 1. */
STEP struct lanes divide(struct lanes x, vec freq, struct lanes inverse) {
    struct lanes result;
    for (unsigned p = 0; p < PARTS; p++) {
        uint16x8_t quotient[2], rest[2];
        uint8x16_t low = x.low.part[p], high = x.high.part[p], none = vdupq_n_u8(0);
        uint8x16_t inverse_low = inverse.low.part[p], inverse_high = inverse.high.part[p];
        divide_words(vreinterpretq_u16_u8(vzip1q_u8(low, high)), vreinterpretq_u16_u8(vzip1q_u8(freq.part[p], none)),
                     vreinterpretq_u16_u8(vzip1q_u8(inverse_low, inverse_high)), &quotient[0], &rest[0]);
        divide_words(vreinterpretq_u16_u8(vzip2q_u8(low, high)), vreinterpretq_u16_u8(vzip2q_u8(freq.part[p], none)),
                     vreinterpretq_u16_u8(vzip2q_u8(inverse_low, inverse_high)), &quotient[1], &rest[1]);
        result.high.part[p] = low_bytes(quotient[0], quotient[1]);
        result.low.part[p] = low_bytes(rest[0], rest[1]);
    }
    return result;
}

/* ---- packed bits: `bits` is 1 to 6 ---- */

#define SIXTEEN(term, b, i)                                                                                            \
    term(b, i), term(b, (i) + 1), term(b, (i) + 2), term(b, (i) + 3), term(b, (i) + 4), term(b, (i) + 5),              \
        term(b, (i) + 6), term(b, (i) + 7), term(b, (i) + 8), term(b, (i) + 9), term(b, (i) + 10), term(b, (i) + 11),  \
        term(b, (i) + 12), term(b, (i) + 13), term(b, (i) + 14), term(b, (i) + 15)
#define BY_BITS(row, term)                                                                                             \
    {{row(term, 1)}, {row(term, 2)}, {row(term, 3)}, {row(term, 4)}, {row(term, 5)}, {row(term, 6)}}
#define ROW_OF_16(term, b) SIXTEEN(term, b, 0)
#define ROW_OF_64(term, b) SIXTEEN(term, b, 0), SIXTEEN(term, b, 16), SIXTEEN(term, b, 32), SIXTEEN(term, b, 48)

/* The byte in which value i begins, and how far from its lowest bit, downwards. */
#define BYTE_OF(b, i) ((i) * (b) / 8)
#define SHIFT_OF(b, i) (-((i) * (b) % 8))
/* Of groups of 8 bytes, the first b: the place of byte i of them all, 8 * b of which matter. */
#define USED(b, i) (((i) / (b) * 8 + (i) % (b)) & 63)
static const uint8_t byte_of[6][PART] = BY_BITS(ROW_OF_16, BYTE_OF);
static const int8_t shift_of[6][PART] = BY_BITS(ROW_OF_16, SHIFT_OF);
static const uint8_t used_of[6][GROUP] = BY_BITS(ROW_OF_64, USED);

/* 64 values of `bits` bits, packed in 8 * bits bytes, to a byte each; their upper bits are not cleared. 16 values
 * fill 2 * bits bytes, and none spans more than two. */
STEP vec load_packed(const uint8_t *src, unsigned bits) {
    const int8x16_t shift = vld1q_s8(shift_of[bits - 1]);
    vec values;
    for (unsigned p = 0; p < PARTS; p++) {
        unsigned at = 2 * bits * p, last = bits == 1 ? 0 : 8 * bits - PART, from = at < last ? at : last;
        uint8x16_t x = bits == 1 ? vcombine_u8(vld1_u8(src), vdup_n_u8(0)) : vld1q_u8(src + from);
        uint8x16_t place = vaddq_u8(vld1q_u8(byte_of[bits - 1]), vdupq_n_u8((uint8_t)(at - from)));
        values.part[p] = vshlq_u8(vqtbl1q_u8(x, place), shift);
        if (8 % bits) {
            uint8x16_t next = vqtbl1q_u8(x, vaddq_u8(place, vdupq_n_u8(1)));
            values.part[p] = vorrq_u8(values.part[p], vshlq_u8(next, vaddq_s8(shift, vdupq_n_s8(8))));
        }
    }
    return values;
}

/* Joins neighbours of `bits` bits, in 8, 16 and 32 bits each; returns those of 8 values at the bottom of 64. */
STEP uint8x16_t join_eight(uint8x16_t x, unsigned bits) {
    uint16x8_t pairs = vreinterpretq_u16_u8(x);
    pairs = vbslq_u16(vdupq_n_u16((uint16_t)((1u << bits) - 1)), pairs,
                      vshlq_u16(pairs, vdupq_n_s16((int16_t)((int)bits - 8))));
    uint32x4_t fours = vreinterpretq_u32_u16(pairs);
    fours = vbslq_u32(vdupq_n_u32((1u << 2 * bits) - 1), fours, vshlq_u32(fours, vdupq_n_s32(2 * (int)bits - 16)));
    uint64x2_t eights = vreinterpretq_u64_u32(fours);
    eights = vbslq_u64(vdupq_n_u64((UINT64_C(1) << 4 * bits) - 1), eights,
                       vshlq_u64(eights, vdupq_n_s64(4 * (int)bits - 32)));
    return vreinterpretq_u8_u64(eights);
}

/* Stores 64 values in 8 * bits bytes. */
STEP size_t packed_size(unsigned bits) {
    return GROUP / 8 * bits;
}

STEP void store_packed(uint8_t *dst, vec values, unsigned bits) {
    struct table64 joined;
    for (unsigned p = 0; p < PARTS; p++)
        joined.rows.val[p] = join_eight(values.part[p], bits);
    uint8_t packed[GROUP];
    store(packed, look_up(&joined, PARTS, load(used_of[bits - 1])));
    memcpy(dst, packed, packed_size(bits));
}

STEP void store_signs(uint8_t *dst, vec x) {
    zipfs_store64(dst, where_at_least(x, bytes(0x80)).bits);
}

/* Sets the top bits of bytes where the bits of src, one for each lane, say so. */
STEP vec add_signs(vec x, const uint8_t *src) {
    vec signs = load_packed(src, 1);
    EACH_PART(vorrq_u8(x.part[p], vshlq_n_u8(signs.part[p], 7)));
}

/* Of two bits of src for each lane, puts the lower one into the lowest bits of bytes and the upper one on top. */
STEP vec add_pairs(vec x, const uint8_t *src) {
    vec pairs = load_packed(src, 2);
    return add_bits(add_bits(x, pairs, 1), up(pairs, 6), 0x80);
}

/* ---- elements: vectors of field bytes to words and wider, lowest byte first, and back ---- */

STEP void store_words(uint8_t *dst, const vec *b) {
    for (unsigned p = 0; p < PARTS; p++) {
        uint8x16x2_t x = {{b[0].part[p], b[1].part[p]}};
        vst2q_u8(dst + 2 * PART * p, x);
    }
}

STEP void load_words(const uint8_t *src, vec *b) {
    for (unsigned p = 0; p < PARTS; p++) {
        uint8x16x2_t x = vld2q_u8(src + 2 * PART * p);
        for (unsigned k = 0; k < 2; k++)
            b[k].part[p] = x.val[k];
    }
}

STEP void store_doublewords(uint8_t *dst, const vec *b) {
    for (unsigned p = 0; p < PARTS; p++) {
        uint8x16x4_t x = {{b[0].part[p], b[1].part[p], b[2].part[p], b[3].part[p]}};
        vst4q_u8(dst + 4 * PART * p, x);
    }
}

STEP void load_doublewords(const uint8_t *src, vec *b) {
    for (unsigned p = 0; p < PARTS; p++) {
        uint8x16x4_t x = vld4q_u8(src + 4 * PART * p);
        for (unsigned k = 0; k < 4; k++)
            b[k].part[p] = x.val[k];
    }
}

/* Four words of each quadword; their bytes are two vectors. */
STEP void store_quadwords(uint8_t *dst, const vec *b) {
    for (unsigned p = 0; p < PARTS; p++) {
        uint16x8x4_t lower, upper;
        for (unsigned k = 0; k < 4; k++) {
            lower.val[k] = vreinterpretq_u16_u8(vzip1q_u8(b[2 * k].part[p], b[2 * k + 1].part[p]));
            upper.val[k] = vreinterpretq_u16_u8(vzip2q_u8(b[2 * k].part[p], b[2 * k + 1].part[p]));
        }
        vst4q_u16((uint16_t *)(dst + 8 * PART * p), lower);
        vst4q_u16((uint16_t *)(dst + 8 * PART * p + 4 * PART), upper);
    }
}

STEP void load_quadwords(const uint8_t *src, vec *b) {
    for (unsigned p = 0; p < PARTS; p++) {
        uint16x8x4_t lower = vld4q_u16((const uint16_t *)(src + 8 * PART * p));
        uint16x8x4_t upper = vld4q_u16((const uint16_t *)(src + 8 * PART * p + 4 * PART));
        for (unsigned k = 0; k < 4; k++) {
            b[2 * k].part[p] = low_bytes(lower.val[k], upper.val[k]);
            b[2 * k + 1].part[p] = high_bytes(lower.val[k], upper.val[k]);
        }
    }
}

/* GROUP elements of `width` bytes: 2, 4 or 8. */
STEP void store_elements(uint8_t *dst, const vec *b, unsigned width) {
    switch (width) {
    case 2: store_words(dst, b); break;
    case 4: store_doublewords(dst, b); break;
    default: store_quadwords(dst, b);
    }
}

STEP void load_elements(const uint8_t *src, vec *b, unsigned width) {
    switch (width) {
    case 2: load_words(src, b); break;
    case 4: load_doublewords(src, b); break;
    default: load_quadwords(src, b);
    }
}

#endif
