/*
 * The kernel interface: the inner loops of the codec as a table of functions. cpu.c chooses one table per process; all
 * tables give the same results, bit for bit. Portable code (plane.c, run.c, ...) reaches loops through the table only.
 *
 * "Values" are the fields of consecutive elements, one per byte. No function reads or writes beyond what its counts
 * say.
 */
#ifndef ZIPFS_KERNELS_H
#define ZIPFS_KERNELS_H

#include "layout.h"
#include "rans.h"
#include "short.h"
#include "zipfs.h"

struct zipfs_kernels {
    const char *name;

    uint64_t (*hash)(const uint8_t *src, size_t src_size, uint64_t seed); /* XXH3-64 */
    void (*histogram)(const uint8_t *values, size_t n, uint32_t count_ret[256]);

    /* RAW planes of fields of 1 to 6 bits. unpack may start at any multiple of 8 values. */
    void (*unpack)(const uint8_t *src, unsigned bits, uint8_t *values, size_t n);
    void (*pack)(const uint8_t *values, unsigned bits, uint8_t *dst, size_t n); /* unused bits become 0 */

    /* dst[i] = table[src[i]]; dst may be src. */
    void (*look_up)(const uint8_t table[256], const uint8_t *src, uint8_t *dst, size_t n);
    /* n elements of 1, 2, 4 or 8 bytes: the next one of src where a bit is set, else zero. src holds as many as bits
     * are set; they are the end of dst. */
    void (*expand)(const uint8_t *bits, const uint8_t *src, unsigned width, uint8_t *dst, size_t n);

    /* The next n values of a stream whose patterns are a byte: n is a multiple of 256 but in the last call, which ends
     * with a complete group. False when coded bytes or escapes ran out; the stream is of no use then. */
    bool (*rans_decode)(struct zipfs_rans_decoder *decoder, uint8_t *values, size_t n);
    /* The numbers of escapes that a list of nibbles holds, for at most `most` of them: SIZE_MAX when there are more,
     * when one is above 74, or when the list ends within one. `numbers` has room for most + 64. */
    size_t (*rans_numbers)(const uint8_t *nibbles, size_t num_nibbles, uint8_t *numbers, size_t most);
    /* dst[i] = table[numbers[i]]; numbers are below 64. dst has room for n + 64 bytes. */
    void (*rans_patterns)(const uint8_t *numbers, size_t n, const uint8_t table[64], uint8_t *dst);
    /* The last n codes of a stream that are still to be encoded, in reverse: whole groups of lanes but in the first
     * call. `escaped` is that of the first of them. */
    void (*rans_encode)(struct zipfs_rans_encoder *encoder, const uint8_t *codes, size_t n);
    /* Bits [shift, shift + bits) of each element of 1, 2 or 4 bytes whose bit in `chosen` is set; returns how many.
     * values_ret has room for 64 more. */
    size_t (*gather)(const uint64_t *chosen, const uint8_t *src, unsigned width, unsigned shift, unsigned bits,
                     size_t n, uint16_t *values_ret);

    /* The next n values of short codes: n is a multiple of 8 but in the last call. False when escapes ran out; the
     * plane is of no use then. */
    bool (*short_decode)(struct zipfs_short_decoder *decoder, uint8_t *values, size_t n);
    /* Codes of n values, packed in dst as in a RAW plane of 3 bits, and a bit for each that is the escape. */
    void (*short_encode)(const uint8_t code_of[256], const uint8_t *values, size_t n, uint8_t *dst, uint64_t *escaped);
    /* As short_decode, and at once to elements of BF16 or F32. planes[0] is not used. */
    bool (*short_merge[ZIPFS_NUM_LAYOUTS])(struct zipfs_short_decoder *decoder, const uint8_t *const *planes,
                                           uint8_t *dst, size_t n);

    /* Joint layouts, whose first field is coded by rANS: as rans_decode, and at once to elements. planes[0] is not
     * used, planes[1] is the second field packed as in a RAW plane, further planes are values. */
    bool (*joint_merge[ZIPFS_NUM_LAYOUTS])(struct zipfs_rans_decoder *decoder, const uint8_t *const *planes,
                                           uint8_t *dst, size_t n);
    /* Elements to planes[1 ...] as above, and to codes: 4 * row[exponent] + upper mantissa bits, where rows are below 16,
     * or ZIPFS_JOINT_NO_ROW. All outputs have room for n bytes. */
    void (*joint_split[ZIPFS_NUM_LAYOUTS])(const uint8_t *src, const uint8_t row[256], uint8_t *codes,
                                           uint8_t *const *planes, size_t n);

    /* Fields to elements and back, by layout; not for joint ones, nor for BYTES, whose only plane is the elements. */
    void (*merge[ZIPFS_NUM_LAYOUTS])(const uint8_t *const *planes, uint8_t *dst, size_t n);
    void (*split[ZIPFS_NUM_LAYOUTS])(const uint8_t *src, uint8_t *const *planes, size_t n);
};

extern const struct zipfs_kernels zipfs_kernels_scalar;
#ifdef __x86_64__
extern const struct zipfs_kernels zipfs_kernels_avx2;   /* AVX2, POPCNT */
extern const struct zipfs_kernels zipfs_kernels_avx512; /* F, BW, VL, VBMI, VBMI2 */
#endif
#ifdef __aarch64__
extern const struct zipfs_kernels zipfs_kernels_neon;
#endif

/* Counts the codes that are below 64. */
void zipfs_count_codes(const uint8_t *codes, size_t n, uint32_t count_ret[64]);

/* Loops that tables share. */
uint64_t zipfs_hash_scalar(const uint8_t *src, size_t src_size, uint64_t seed);
uint64_t zipfs_hash_avx2(const uint8_t *src, size_t src_size, uint64_t seed);
uint64_t zipfs_hash_avx512(const uint8_t *src, size_t src_size, uint64_t seed);
void zipfs_histogram_scalar(const uint8_t *values, size_t n, uint32_t count_ret[256]);
void zipfs_add_histogram(const uint8_t *values, size_t n, uint32_t sum[256]); /* to what is there; n at most 65535 */
void zipfs_histogram_avx2(const uint8_t *values, size_t n, uint32_t count_ret[256]);
void zipfs_expand_scalar(const uint8_t *bits, const uint8_t *src, unsigned width, uint8_t *dst, size_t n);
size_t zipfs_rans_numbers_scalar(const uint8_t *nibbles, size_t num_nibbles, uint8_t *numbers, size_t most);

#endif
