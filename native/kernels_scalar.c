/* The portable kernels: the reference that the others must match bit for bit. */
#ifndef __clang__
/* Vectors where the compiler finds them: BF16 decodes at 1.21 GB/s instead of 0.81 (Zen 5). */
#pragma GCC optimize("O3")
#endif

#include <string.h>

#include "common.h"
#include "kernels.h"

/* Four tables, since equal neighbours would wait for each other's count. At most 65535 values, so that the tables
 * are small: those of a sample would take longer to clear and to add up. */
void zipfs_add_histogram(const uint8_t *values, size_t n, uint32_t sum[256]) {
    uint16_t count[4][256];
    memset(count, 0, sizeof count);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t x = zipfs_load64(values + i);
        for (unsigned k = 0; k < 8; k++)
            count[k & 3][x >> 8 * k & 255]++;
    }
    for (; i < n; i++)
        count[0][values[i]]++;
    for (unsigned v = 0; v < 256; v++)
        sum[v] += (uint32_t)count[0][v] + count[1][v] + count[2][v] + count[3][v];
}

void zipfs_histogram_scalar(const uint8_t *values, size_t n, uint32_t count_ret[256]) {
    enum { AT_ONCE = 65528 };
    memset(count_ret, 0, 256 * sizeof count_ret[0]);
    for (; n > AT_ONCE; n -= AT_ONCE, values += AT_ONCE)
        zipfs_add_histogram(values, AT_ONCE, count_ret);
    zipfs_add_histogram(values, n, count_ret);
}

void zipfs_count_codes(const uint8_t *codes, size_t n, uint32_t count_ret[64]) {
    uint32_t count[256];
    zipfs_histogram_scalar(codes, n, count);
    memcpy(count_ret, count, 64 * sizeof count[0]);
}

/* ---- packed bits ---- */

/* `bits` is a constant wherever these are used. Eight values fill `bits` bytes: their halves are moved to a doubleword
 * each, the halves of those to words, and then to bytes. */

static inline uint64_t mask_of(unsigned bits) {
    return (UINT64_C(1) << bits) - 1;
}

/* In each unit of `wide` bits, moves the bits from `narrow` on up to half its width, or back down. */
static inline uint64_t move_up(uint64_t x, unsigned narrow, unsigned wide) {
    uint64_t low = mask_of(narrow) * (~UINT64_C(0) / (wide == 64 ? ~UINT64_C(0) : mask_of(wide)));
    return (x & low) | (x & low << narrow) << (wide / 2 - narrow);
}

static inline uint64_t move_down(uint64_t x, unsigned narrow, unsigned wide) {
    uint64_t low = mask_of(narrow) * (~UINT64_C(0) / (wide == 64 ? ~UINT64_C(0) : mask_of(wide)));
    return (x & low) | (x >> (wide / 2 - narrow) & low << narrow);
}

static inline uint64_t to_bytes(uint64_t packed, unsigned bits) {
    return move_up(move_up(move_up(packed, 4 * bits, 64), 2 * bits, 32), bits, 16);
}

static inline uint64_t from_bytes(uint64_t values, unsigned bits) {
    return move_down(move_down(move_down(values, bits, 16), 2 * bits, 32), 4 * bits, 64);
}

/* Up to seven bytes, without a detour through memory. */
static inline uint64_t load_bytes(const uint8_t *src, size_t size) {
    uint64_t x = 0;
    unsigned at = 0;
    if (size & 4) {
        x = zipfs_load32(src);
        at = 4;
    }
    if (size & 2) {
        x |= (uint64_t)zipfs_load16(src + at) << 8 * at;
        at += 2;
    }
    return size & 1 ? x | (uint64_t)src[at] << 8 * at : x;
}

static inline void unpack_as(const uint8_t *src, unsigned bits, uint8_t *values, size_t n) {
    for (; n >= 8; n -= 8, values += 8, src += bits)
        zipfs_store64(values, to_bytes(load_bytes(src, bits), bits));
    uint64_t x = to_bytes(load_bytes(src, (n * bits + 7) / 8), bits);
    memcpy(values, &x, n);
}

static inline void pack_as(const uint8_t *values, unsigned bits, uint8_t *dst, size_t n) {
    for (; n >= 8; n -= 8, values += 8, dst += bits) {
        uint64_t x = from_bytes(zipfs_load64(values), bits);
        memcpy(dst, &x, bits);
    }
    uint64_t x = 0;
    memcpy(&x, values, n);
    x = from_bytes(x, bits);
    memcpy(dst, &x, (n * bits + 7) / 8);
}

static void unpack(const uint8_t *src, unsigned bits, uint8_t *values, size_t n) {
    switch (bits) {
    case 1: unpack_as(src, 1, values, n); break;
    case 2: unpack_as(src, 2, values, n); break;
    case 3: unpack_as(src, 3, values, n); break;
    case 4: unpack_as(src, 4, values, n); break;
    case 5: unpack_as(src, 5, values, n); break;
    default: unpack_as(src, 6, values, n);
    }
}

static void pack(const uint8_t *values, unsigned bits, uint8_t *dst, size_t n) {
    switch (bits) {
    case 1: pack_as(values, 1, dst, n); break;
    case 2: pack_as(values, 2, dst, n); break;
    case 3: pack_as(values, 3, dst, n); break;
    case 4: pack_as(values, 4, dst, n); break;
    case 5: pack_as(values, 5, dst, n); break;
    default: pack_as(values, 6, dst, n);
    }
}

/* ---- tables and bitmaps ---- */

static void look_up(const uint8_t table[256], const uint8_t *src, uint8_t *dst, size_t n) {
    for (size_t i = 0; i < n; i++)
        dst[i] = table[src[i]];
}

/* width is a constant. Without branches on the bits, since nobody can predict them: for a zero, any readable bytes are
 * loaded. */
static inline void expand(const uint8_t *bits, const uint8_t *src, unsigned width, uint8_t *dst, size_t n) {
    for (size_t i = 0; i < n; i++) {
        unsigned bit = bits[i / 8] >> i % 8 & 1;
        uint64_t x = 0;
        memcpy(&x, dst + ((src - dst) & -(ptrdiff_t)bit), width);
        x &= 0u - (uint64_t)bit;
        memcpy(dst + i * width, &x, width);
        src += bit * width;
    }
}

void zipfs_expand_scalar(const uint8_t *bits, const uint8_t *src, unsigned width, uint8_t *dst, size_t n) {
    switch (width) {
    case 1: expand(bits, src, 1, dst, n); break;
    case 2: expand(bits, src, 2, dst, n); break;
    case 4: expand(bits, src, 4, dst, n); break;
    default: expand(bits, src, 8, dst, n);
    }
}

static inline unsigned load_element(const uint8_t *src, unsigned width) {
    return width == 1 ? src[0] : width == 2 ? zipfs_load16(src) : zipfs_load32(src);
}

/* width is a constant. Of 64 elements one or two are chosen as a rule: four are taken without asking, since nobody can
 * predict how many there are. */
static inline size_t gather_as(const uint64_t *chosen, const uint8_t *src, unsigned width, unsigned shift,
                               unsigned mask, size_t n, uint16_t *values_ret) {
    size_t num = 0;
    for (size_t i = 0; i < n; i += 64, src += 64 * width) {
        uint64_t left = chosen[i / 64], last = UINT64_C(1) << (zipfs_min(n - i, 64) - 1);
#pragma GCC unroll 4
        for (unsigned k = 0; k < 4; k++, left &= left - 1) {
            values_ret[num] =
                (uint16_t)(load_element(src + width * (unsigned)__builtin_ctzll(left | last), width) >> shift & mask);
            num += left != 0;
        }
        for (; left; left &= left - 1)
            values_ret[num++] =
                (uint16_t)(load_element(src + width * (unsigned)__builtin_ctzll(left), width) >> shift & mask);
    }
    return num;
}

static size_t gather(const uint64_t *chosen, const uint8_t *src, unsigned width, unsigned shift, unsigned bits,
                     size_t n, uint16_t *values_ret) {
    unsigned mask = (1u << bits) - 1;
    return width == 1   ? gather_as(chosen, src, 1, shift, mask, n, values_ret)
           : width == 2 ? gather_as(chosen, src, 2, shift, mask, n, values_ret)
                        : gather_as(chosen, src, 4, shift, mask, n, values_ret);
}

/* ---- rANS ---- */

enum { NO_ESCAPE = 256 };

static void make_slots(struct zipfs_rans_decoder *decoder) {
    const struct zipfs_rans_table *table = &decoder->table;
    for (unsigned slot = 0; slot < 256; slot++) {
        unsigned s = decoder->symbol[slot];
        decoder->slot_freq[slot] = table->freq[s];
        decoder->slot_place[slot] = slot - table->start[s];
        decoder->slot_pattern[slot] = (uint16_t)(decoder->pattern_low[s] | decoder->pattern_high[s] << 8);
    }
    decoder->has_slots = true;
}

/* The first slot of the escape, which has the last ones. */
static unsigned escape_start(const struct zipfs_rans_table *table) {
    return table->has_escape ? table->start[table->num_symbols - 1] : NO_ESCAPE;
}

/* The next escaped pattern. False when there is none. */
static inline bool take_escape(struct zipfs_rans_escapes *escapes, uint16_t *pattern_ret) {
    if (escapes->low == escapes->low_end)
        return false;
    *pattern_ret = (uint16_t)(*escapes->low++ | *escapes->high++ << 8);
    return true;
}

/* The state that follows x, before renormalisation. */
static inline uint32_t next_state(const struct zipfs_rans_decoder *decoder, uint32_t x) {
    return decoder->slot_freq[x & 255] * (x >> 8) + decoder->slot_place[x & 255];
}

/* One group of lanes where more coded bytes are left than lanes: every state looks at the next byte, and takes it or
 * not without a branch, since nobody can predict which. */
static bool decode_whole_group(struct zipfs_rans_decoder *decoder, unsigned escape, uint16_t *restrict patterns) {
    const uint8_t *coded = decoder->coded;
    uint16_t *restrict state = decoder->state;
    const unsigned num_lanes = decoder->num_lanes;
    bool complete = true;
#pragma GCC unroll 4
    for (unsigned lane = 0; lane < num_lanes; lane++) {
        uint32_t x = state[lane], slot = x & 255;
        patterns[lane] = decoder->slot_pattern[slot];
        if (ZIPFS_UNLIKELY(slot >= escape))
            complete &= take_escape(&decoder->escapes, &patterns[lane]);
        x = next_state(decoder, x);
        uint32_t hungry = 0u - (x < 256), refilled = x << 8 | *coded; /* all ones or none */
        coded += hungry & 1;
        state[lane] = (uint16_t)(x ^ ((x ^ refilled) & hungry));
    }
    decoder->coded = coded;
    return complete;
}

/* One group of lanes near the end of the stream, of which the first `used` give values. */
static bool decode_last_group(struct zipfs_rans_decoder *decoder, unsigned escape, uint16_t *patterns, size_t used) {
    for (unsigned lane = 0; lane < decoder->num_lanes; lane++) {
        uint32_t x = decoder->state[lane];
        patterns[lane] = decoder->slot_pattern[x & 255];
        if ((x & 255) >= escape && lane < used && !take_escape(&decoder->escapes, &patterns[lane]))
            return false;
        x = next_state(decoder, x);
        if (x < 256) {
            if (decoder->coded == decoder->coded_end)
                return false;
            x = x << 8 | *decoder->coded++;
        }
        decoder->state[lane] = (uint16_t)x;
    }
    return true;
}

/* The next patterns: of a whole group, or of the `left` last ones. */
static bool decode_group(struct zipfs_rans_decoder *decoder, unsigned escape, size_t left, uint16_t *patterns) {
    bool whole = left >= decoder->num_lanes && (size_t)(decoder->coded_end - decoder->coded) > decoder->num_lanes;
    return whole ? decode_whole_group(decoder, escape, patterns)
                 : decode_last_group(decoder, escape, patterns, zipfs_min(left, decoder->num_lanes));
}

static bool rans_decode(struct zipfs_rans_decoder *decoder, uint8_t *values, size_t n) {
    if (!decoder->has_slots)
        make_slots(decoder);
    unsigned escape = escape_start(&decoder->table);
    for (size_t i = 0; i < n; i += decoder->num_lanes) {
        uint16_t patterns[ZIPFS_RANS_MAX_LANES];
        if (!decode_group(decoder, escape, n - i, patterns))
            return false;
        for (size_t k = 0, used = zipfs_min(n - i, decoder->num_lanes); k < used; k++)
            values[i + k] = (uint8_t)patterns[k];
    }
    return true;
}

/* Without branches on what a nibble is, since nobody can predict that. */
size_t zipfs_rans_numbers_scalar(const uint8_t *nibbles, size_t num_nibbles, uint8_t *numbers, size_t most) {
    size_t num = 0;
    unsigned base = 0;
    for (size_t i = 0; i < num_nibbles; i++) {
        unsigned nibble = nibbles[i / 2] >> 4 * (i % 2) & 15, more = nibble == ZIPFS_RANS_MORE;
        numbers[num] = (uint8_t)(base + nibble);
        num += !more;
        base = (base + ZIPFS_RANS_MORE) * more;
        if (ZIPFS_UNLIKELY(base > 60 || num > most))
            return SIZE_MAX;
    }
    return base ? SIZE_MAX : num;
}

static void rans_patterns(const uint8_t *numbers, size_t n, const uint8_t table[64], uint8_t *dst) {
    for (size_t i = 0; i < n; i++)
        dst[i] = table[numbers[i]];
}

/* A quotient is a product with the inverse, exact for a state, which has 16 bits, and a frequency, which has 8. */
static void rans_encode(struct zipfs_rans_encoder *encoder, const uint8_t *codes, size_t n) {
    const struct zipfs_rans_table *table = &encoder->table;
    unsigned escape = table->has_escape ? table->num_symbols - 1u : NO_ESCAPE;
    size_t num_lanes = encoder->num_lanes, padded = (n + num_lanes - 1) / num_lanes * num_lanes;
    uint32_t inverse[ZIPFS_RANS_MAX_SYMBOLS];
    memcpy(inverse, encoder->inverse, sizeof inverse);
    if (table->has_escape)
        memset(encoder->escaped, 0, (n + 63) / 64 * sizeof encoder->escaped[0]);
    uint8_t *coded = encoder->coded;
    for (size_t i = padded; i-- > 0;) {
        unsigned s = i < n ? encoder->symbol_of[codes[i]] : 0;
        uint16_t *state = &encoder->state[i & (num_lanes - 1)];
        uint32_t x = *state, f = table->freq[s], full = x >= f << 8;
        coded[-1] = (uint8_t)x; /* there is room for a byte of every lane that is to come */
        coded -= full;
        x >>= 8 * full;
        uint32_t quotient = (uint32_t)((uint64_t)x * inverse[s] >> 24);
        *state = (uint16_t)(x + quotient * (256 - f) + table->start[s]);
        if (ZIPFS_UNLIKELY(s == escape) && i < n)
            encoder->escaped[i / 64] |= UINT64_C(1) << i % 64;
    }
    encoder->coded = coded;
}

/* ---- short codes ---- */

/* Every value looks at the next escape and takes it or not without a branch. Of n escapes at most, all are readable. */
static bool short_decode(struct zipfs_short_decoder *decoder, uint8_t *values, size_t n) {
    const uint8_t *codes = decoder->codes, *escapes = decoder->escapes, *escapes_end = decoder->escapes_end;
    uint8_t value[ZIPFS_SHORT_ESCAPE + 1];
    memcpy(value, decoder->value, sizeof value);
    for (size_t i = 0; i < n; i += 8, codes += ZIPFS_SHORT_BITS) {
        size_t used = zipfs_min(n - i, 8);
        uint32_t x = 0;
        for (unsigned k = 0; k < (used * ZIPFS_SHORT_BITS + 7) / 8; k++)
            x |= (uint32_t)codes[k] << 8 * k;
        if (ZIPFS_UNLIKELY(escapes > escapes_end))
            return false;
        for (unsigned k = 0; k < used; k++, x >>= ZIPFS_SHORT_BITS) {
            unsigned code = x & ZIPFS_SHORT_ESCAPE, escaped = code == ZIPFS_SHORT_ESCAPE;
            values[i + k] = escaped ? *escapes : value[code];
            escapes += escaped;
        }
    }
    decoder->codes = codes;
    decoder->escapes = escapes;
    return escapes <= escapes_end;
}

/* ---- joint layouts ---- */

/* Puts the second field, sign above mantissa bits, where it belongs in an element of `width` bits. */
static inline unsigned spread_sign(unsigned x, unsigned bits, unsigned width) {
    return (x >> (bits - 1)) << (width - 1) | (x & ((1u << (bits - 1)) - 1));
}

/* These merge n elements from `first` on, whose patterns and second fields are p and x. Pointers are restricted, or the
 * compiler must take dst for an alias of them and finds no vectors. */

static inline void merge_joint_bf16(const uint16_t *restrict p, const uint8_t *restrict x, const uint8_t *const *planes,
                                    size_t first, uint8_t *restrict dst, size_t n) {
    (void)planes;
    for (size_t i = 0; i < n; i++)
        zipfs_store16(dst + 2 * (first + i), (uint16_t)(p[i] | spread_sign(x[i], 6, 16)));
}

static inline void merge_joint_f16(const uint16_t *restrict p, const uint8_t *restrict x, const uint8_t *const *planes,
                                   size_t first, uint8_t *restrict dst, size_t n) {
    const uint8_t *restrict low = planes[2] + first;
    for (size_t i = 0; i < n; i++)
        zipfs_store16(dst + 2 * (first + i), (uint16_t)(p[i] | x[i] << 15 | low[i]));
}

static inline void merge_joint_f32(const uint16_t *restrict p, const uint8_t *restrict x, const uint8_t *const *planes,
                                   size_t first, uint8_t *restrict dst, size_t n) {
    const uint8_t *restrict b1 = planes[2] + first, *restrict b0 = planes[3] + first;
    for (size_t i = 0; i < n; i++) {
        uint32_t top = p[i] | spread_sign(x[i], 6, 16);
        zipfs_store32(dst + 4 * (first + i), top << 16 | (uint32_t)b1[i] << 8 | b0[i]);
    }
}

static inline void merge_joint_e4m3(const uint16_t *restrict p, const uint8_t *restrict x, const uint8_t *const *planes,
                                    size_t first, uint8_t *restrict dst, size_t n) {
    (void)planes;
    for (size_t i = 0; i < n; i++)
        dst[first + i] = (uint8_t)(p[i] | spread_sign(x[i], 2, 8));
}

static inline void merge_joint_e5m2(const uint16_t *restrict p, const uint8_t *restrict x, const uint8_t *const *planes,
                                    size_t first, uint8_t *restrict dst, size_t n) {
    (void)planes;
    for (size_t i = 0; i < n; i++)
        dst[first + i] = (uint8_t)(p[i] | x[i] << 7);
}

/* Loops over groups of lanes. */
#define JOINT_MERGE(name, bits, merge)                                                                                 \
    static bool name(struct zipfs_rans_decoder *decoder, const uint8_t *const *planes, uint8_t *dst, size_t n) {       \
        if (!decoder->has_slots)                                                                                       \
            make_slots(decoder);                                                                                       \
        unsigned escape = escape_start(&decoder->table);                                                               \
        for (size_t first = 0; first < n; first += decoder->num_lanes) {                                               \
            uint16_t patterns[ZIPFS_RANS_MAX_LANES];                                                                   \
            uint8_t fields[ZIPFS_RANS_MAX_LANES];                                                                      \
            size_t used = zipfs_min(n - first, decoder->num_lanes);                                                    \
            if (!decode_group(decoder, escape, n - first, patterns))                                                   \
                return false;                                                                                          \
            unpack_as(planes[1] + first * (bits) / 8, bits, fields, used);                                             \
            merge(patterns, fields, planes, first, dst, used);                                                         \
        }                                                                                                              \
        return true;                                                                                                   \
    }

JOINT_MERGE(joint_merge_bf16, 6, merge_joint_bf16)
JOINT_MERGE(joint_merge_f16, 1, merge_joint_f16)
JOINT_MERGE(joint_merge_f32, 6, merge_joint_f32)
JOINT_MERGE(joint_merge_e4m3, 2, merge_joint_e4m3)
JOINT_MERGE(joint_merge_e5m2, 1, merge_joint_e5m2)

/* Loops over tiles, since the second field is packed; body sees element i, and sets its upper bits `top` (sign,
 * exponent and all mantissa bits of the first two fields) and further planes. */
#define JOINT_SPLIT(name, exponent_bits, bits, body)                                                                   \
    static void name(const uint8_t *src, const uint8_t row[256], uint8_t *codes, uint8_t *const *planes, size_t n) {   \
        enum { TILE = 256, LOW = (bits) - 1 };                                                                         \
        for (size_t first = 0; first < n; first += TILE) {                                                             \
            uint8_t fields[TILE];                                                                                      \
            size_t used = zipfs_min(n - first, TILE);                                                                  \
            for (size_t k = 0; k < used; k++) {                                                                        \
                size_t i = first + k;                                                                                  \
                unsigned top;                                                                                          \
                body;                                                                                                  \
                unsigned exponent = top >> (LOW + 2) & ((1u << (exponent_bits)) - 1);                                  \
                codes[i] = (uint8_t)(row[exponent] << 2 | (top >> LOW & 3));                                           \
                fields[k] = (uint8_t)((top >> (LOW + 2 + (exponent_bits)) << LOW) | (top & ((1u << LOW) - 1)));        \
            }                                                                                                          \
            pack_as(fields, bits, planes[1] + first * (bits) / 8, used);                                               \
        }                                                                                                              \
    }

JOINT_SPLIT(joint_split_bf16, 8, 6, top = zipfs_load16(src + 2 * i))
JOINT_SPLIT(joint_split_f16, 5, 1, {
    top = src[2 * i + 1];
    planes[2][i] = src[2 * i];
})
JOINT_SPLIT(joint_split_f32, 8, 6, {
    top = zipfs_load16(src + 4 * i + 2);
    planes[2][i] = src[4 * i + 1];
    planes[3][i] = src[4 * i];
})
JOINT_SPLIT(joint_split_e4m3, 4, 2, top = src[i])
JOINT_SPLIT(joint_split_e5m2, 5, 1, top = src[i])

/* ---- fields and elements ---- */

/* Pointers are copied first, since the compiler must take dst for an alias of everything that it does not know to be
 * its own. */

static void merge_bf16(const uint8_t *const *planes, uint8_t *dst, size_t n) {
    const uint8_t *restrict exponent = planes[0], *restrict rest = planes[1];
    for (size_t i = 0; i < n; i++) {
        unsigned low = rest[i];
        zipfs_store16(dst + 2 * i, (uint16_t)((low & 0x80) << 8 | (unsigned)exponent[i] << 7 | (low & 0x7f)));
    }
}

static void split_bf16(const uint8_t *src, uint8_t *const *planes, size_t n) {
    uint8_t *restrict exponent = planes[0], *restrict rest = planes[1];
    for (size_t i = 0; i < n; i++) {
        unsigned x = zipfs_load16(src + 2 * i);
        exponent[i] = (uint8_t)(x >> 7);
        rest[i] = (uint8_t)((x >> 8 & 0x80) | (x & 0x7f));
    }
}

static void merge_f16(const uint8_t *const *planes, uint8_t *dst, size_t n) {
    const uint8_t *restrict exponent = planes[0], *restrict middle = planes[1], *restrict low = planes[2];
    for (size_t i = 0; i < n; i++) {
        unsigned m = middle[i];
        zipfs_store16(dst + 2 * i, (uint16_t)((m & 4) << 13 | (unsigned)exponent[i] << 10 | (m & 3) << 8 | low[i]));
    }
}

static void split_f16(const uint8_t *src, uint8_t *const *planes, size_t n) {
    uint8_t *restrict exponent = planes[0], *restrict middle = planes[1], *restrict low = planes[2];
    for (size_t i = 0; i < n; i++) {
        unsigned x = zipfs_load16(src + 2 * i);
        exponent[i] = x >> 10 & 31;
        middle[i] = (uint8_t)((x >> 13 & 4) | (x >> 8 & 3));
        low[i] = (uint8_t)x;
    }
}

static void merge_f32(const uint8_t *const *planes, uint8_t *dst, size_t n) {
    const uint8_t *restrict exponent = planes[0], *restrict high = planes[1], *restrict b1 = planes[2],
                            *restrict b0 = planes[3];
    for (size_t i = 0; i < n; i++) {
        uint32_t h = high[i], top = (h & 0x80) << 8 | (uint32_t)exponent[i] << 7 | (h & 0x7f);
        zipfs_store32(dst + 4 * i, top << 16 | (uint32_t)b1[i] << 8 | b0[i]);
    }
}

static void split_f32(const uint8_t *src, uint8_t *const *planes, size_t n) {
    uint8_t *restrict exponent = planes[0], *restrict high = planes[1], *restrict b1 = planes[2],
                      *restrict b0 = planes[3];
    for (size_t i = 0; i < n; i++) {
        uint32_t x = zipfs_load32(src + 4 * i);
        exponent[i] = (uint8_t)(x >> 23);
        high[i] = (uint8_t)((x >> 24 & 0x80) | (x >> 16 & 0x7f));
        b1[i] = (uint8_t)(x >> 8);
        b0[i] = (uint8_t)x;
    }
}

static void merge_f64(const uint8_t *const *planes, uint8_t *dst, size_t n) {
    const struct zipfs_layout_info *info = zipfs_layout_info(ZIPFS_F64);
    for (size_t i = 0; i < n; i++) {
        uint64_t y = 0;
        for (unsigned f = 0; f < info->num_fields; f++)
            y = y << info->bits[f] | planes[f][i];
        zipfs_store64(dst + 8 * i, zipfs_layout_unrotate(info, y));
    }
}

static void split_f64(const uint8_t *src, uint8_t *const *planes, size_t n) {
    const struct zipfs_layout_info *info = zipfs_layout_info(ZIPFS_F64);
    for (size_t i = 0; i < n; i++) {
        uint64_t y = zipfs_layout_rotate(info, zipfs_load64(src + 8 * i));
        for (unsigned f = info->num_fields; f-- > 0; y >>= info->bits[f])
            planes[f][i] = (uint8_t)(y & ((1u << info->bits[f]) - 1));
    }
}

static void merge_e4m3(const uint8_t *const *planes, uint8_t *dst, size_t n) {
    for (size_t i = 0; i < n; i++)
        dst[i] = (uint8_t)((planes[1][i] & 8) << 4 | planes[0][i] << 3 | (planes[1][i] & 7));
}

static void split_e4m3(const uint8_t *src, uint8_t *const *planes, size_t n) {
    for (size_t i = 0; i < n; i++) {
        planes[0][i] = src[i] >> 3 & 15;
        planes[1][i] = (uint8_t)((src[i] >> 4 & 8) | (src[i] & 7));
    }
}

static void merge_e5m2(const uint8_t *const *planes, uint8_t *dst, size_t n) {
    for (size_t i = 0; i < n; i++)
        dst[i] = (uint8_t)((planes[1][i] & 4) << 5 | planes[0][i] << 2 | (planes[1][i] & 3));
}

static void split_e5m2(const uint8_t *src, uint8_t *const *planes, size_t n) {
    for (size_t i = 0; i < n; i++) {
        planes[0][i] = src[i] >> 2 & 31;
        planes[1][i] = (uint8_t)((src[i] >> 5 & 4) | (src[i] & 3));
    }
}

static inline void merge_integers(const uint8_t *const *planes, uint8_t *dst, size_t n, unsigned width) {
    for (size_t i = 0; i < n; i++)
        for (unsigned f = 0; f < width; f++)
            dst[width * i + width - 1 - f] = planes[f][i];
}

static inline void split_integers(const uint8_t *src, uint8_t *const *planes, size_t n, unsigned width) {
    for (size_t i = 0; i < n; i++)
        for (unsigned f = 0; f < width; f++)
            planes[f][i] = src[width * i + width - 1 - f];
}

static void merge_i16(const uint8_t *const *planes, uint8_t *dst, size_t n) {
    merge_integers(planes, dst, n, 2);
}

static void split_i16(const uint8_t *src, uint8_t *const *planes, size_t n) {
    split_integers(src, planes, n, 2);
}

static void merge_i32(const uint8_t *const *planes, uint8_t *dst, size_t n) {
    merge_integers(planes, dst, n, 4);
}

static void split_i32(const uint8_t *src, uint8_t *const *planes, size_t n) {
    split_integers(src, planes, n, 4);
}

static void merge_i64(const uint8_t *const *planes, uint8_t *dst, size_t n) {
    merge_integers(planes, dst, n, 8);
}

static void split_i64(const uint8_t *src, uint8_t *const *planes, size_t n) {
    split_integers(src, planes, n, 8);
}

static void short_encode(const uint8_t code_of[256], const uint8_t *values, size_t n, uint8_t *dst,
                         uint64_t *escaped) {
    for (size_t first = 0; first < n; first += 64) {
        uint8_t codes[64];
        size_t used = zipfs_min(n - first, 64);
        uint64_t mask = 0;
        for (size_t k = 0; k < used; k++) {
            codes[k] = code_of[values[first + k]];
            mask |= (uint64_t)(codes[k] == ZIPFS_SHORT_ESCAPE) << k;
        }
        escaped[first / 64] = mask;
        pack_as(codes, ZIPFS_SHORT_BITS, dst + first / 8 * ZIPFS_SHORT_BITS, used);
    }
}

/* A tile at a time, since what is decoded is merged at once. */
#define SHORT_MERGE(name, merge, width, num_fields)                                                                    \
    static bool name(struct zipfs_short_decoder *decoder, const uint8_t *const *given, uint8_t *dst, size_t n) {       \
        uint8_t values[256];                                                                                           \
        const uint8_t *planes[num_fields] = {values};                                                                  \
        for (size_t i = 0; i < n; i += sizeof values) {                                                                \
            size_t used = zipfs_min(n - i, sizeof values);                                                             \
            if (!short_decode(decoder, values, used))                                                                  \
                return false;                                                                                          \
            for (unsigned f = 1; f < (num_fields); f++)                                                                \
                planes[f] = given[f] + i;                                                                              \
            merge(planes, dst + (width) * i, used);                                                                    \
        }                                                                                                              \
        return decoder->escapes <= decoder->escapes_end;                                                               \
    }

SHORT_MERGE(short_merge_bf16, merge_bf16, 2, 2)
SHORT_MERGE(short_merge_f32, merge_f32, 4, 4)

const struct zipfs_kernels zipfs_kernels_scalar = {
    .name = "scalar",
    .hash = zipfs_hash_scalar,
    .histogram = zipfs_histogram_scalar,
    .unpack = unpack,
    .pack = pack,
    .look_up = look_up,
    .expand = zipfs_expand_scalar,
    .rans_decode = rans_decode,
    .rans_numbers = zipfs_rans_numbers_scalar,
    .rans_patterns = rans_patterns,
    .rans_encode = rans_encode,
    .gather = gather,
    .short_encode = short_encode,
    .short_decode = short_decode,
    .short_merge = {[ZIPFS_BF16] = short_merge_bf16, [ZIPFS_F32] = short_merge_f32},
    .joint_merge = {[ZIPFS_BF16_JOINT] = joint_merge_bf16, joint_merge_f16, joint_merge_f32, joint_merge_e4m3,
                    joint_merge_e5m2},
    .joint_split = {[ZIPFS_BF16_JOINT] = joint_split_bf16, joint_split_f16, joint_split_f32, joint_split_e4m3,
                    joint_split_e5m2},
    .merge = {NULL, merge_bf16, merge_f16, merge_f32, merge_f64, merge_e4m3, merge_e5m2, merge_i16, merge_i32,
              merge_i64},
    .split = {NULL, split_bf16, split_f16, split_f32, split_f64, split_e4m3, split_e5m2, split_i16, split_i32,
              split_i64},
};
