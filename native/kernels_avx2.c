/* Kernels for AVX2. XXH3 and the histogram are in other files *_avx2.c. */
#ifndef __clang__
#pragma GCC optimize("O3") /* unrolls the loops over rows and rounds */
#endif

#include "kernels.h"

#ifdef __x86_64__
#include "avx2.h"

enum { FEW_REGISTERS = 1 };

#include "loops_layouts.h"
#include "loops_encode.h"
#include "loops_elements.h"
#include "loops_short.h"
#include "decode_avx2.h"

/* ---- escapes ---- */

/* 16 nibbles, one in each byte. */
STEP __m128i spread_nibbles(const uint8_t *src) {
    __m128i packed = _mm_loadl_epi64((const __m128i *)(const void *)src);
    __m128i x = _mm_unpacklo_epi8(packed, _mm_srli_epi16(packed, 4));
    return _mm_and_si128(x, _mm_set1_epi8(15));
}

/* 255 in byte i where bit i of 16 is set, else 0. */
STEP __m128i spread_ones(unsigned mask) {
    const __m128i bit = _mm_set1_epi64x((long long)0x8040201008040201);
    __m128i eights = _mm_shuffle_epi8(_mm_cvtsi32_si128((int)mask), _mm_set_epi64x(0x0101010101010101, 0));
    return _mm_cmpeq_epi8(_mm_and_si128(eights, bit), bit);
}

/* Those of 8 bytes whose bits are set to dst; writes 8. Returns their number. */
STEP size_t pick_eight(__m128i x, unsigned chosen, uint8_t *dst) {
    unsigned count = (unsigned)_mm_popcnt_u32(chosen);
    uint64_t index = given_by[chosen] >> (64 - 8 * count) % 64;
    _mm_storel_epi64((__m128i *)(void *)dst, _mm_shuffle_epi8(x, _mm_cvtsi64_si128((long long)index)));
    return count;
}

/* 16 nibbles at a time: each is added to 15 for every nibble of 15 right before it, of which there are four at most.
 * Nibble by nibble it was 6 % of the time that BF16 takes. */
TARGET static size_t rans_numbers(const uint8_t *nibbles, size_t num_nibbles, uint8_t *numbers, size_t most) {
    enum { NIBBLES = 16, OFTEN = 2, LONGEST = 4 };
    const __m128i mores = _mm_set1_epi8(ZIPFS_RANS_MORE);
    size_t num = 0;
    uint64_t more = 0; /* bit 32 + k: nibble k is 15; below, those of the nibbles before */
    for (size_t i = 0; i < num_nibbles; i += NIBBLES) {
        size_t left = num_nibbles - i;
        uint8_t last[NIBBLES / 2] = {0};
        if (left < NIBBLES)
            memcpy(last, nibbles + i / 2, (left + 1) / 2);
        __m128i x = spread_nibbles(left < NIBBLES ? last : nibbles + i / 2);
        unsigned used = left < NIBBLES ? (1u << left) - 1 : 0xffff;
        unsigned more_here = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(x, mores)) & used;
        more = more >> NIBBLES | (uint64_t)more_here << 32;
        unsigned run = 0xffff;
        for (unsigned k = 1; k <= OFTEN || ZIPFS_UNLIKELY(run); k++) {
            run &= (unsigned)(more >> (32 - k));
            if (k > LONGEST && (run & used))
                return SIZE_MAX;
            x = _mm_add_epi8(x, _mm_and_si128(mores, spread_ones(run)));
        }
        unsigned chosen = used & ~more_here;
        if ((size_t)_mm_popcnt_u32(chosen) > most - num)
            return SIZE_MAX;
        num += pick_eight(x, chosen & 255, numbers + num);
        num += pick_eight(_mm_srli_si128(x, 8), chosen >> 8, numbers + num);
    }
    bool within = num_nibbles && more >> (32 + (num_nibbles - 1) % NIBBLES) & 1;
    return within ? SIZE_MAX : num;
}

const struct zipfs_kernels zipfs_kernels_avx2 = {
    .name = "avx2",
    .hash = zipfs_hash_avx2,
    .histogram = zipfs_histogram_avx2,
    .rans_numbers = rans_numbers,
    .expand = zipfs_expand_scalar,
    .gather = gather,
    LAYOUT_LOOPS,
    ENCODE_LOOPS,
    ELEMENT_LOOPS,
    SHORT_LOOPS,
};

#endif
