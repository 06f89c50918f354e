/* Kernels for AVX-512 with F, BW, VL, VBMI and VBMI2: in cache, BF16 decodes at 12 GB/s with one group of lanes, 23
 * with two and 36 with four (Zen 5). XXH3 is in hash_avx512.c. */
#ifndef __clang__
#pragma GCC optimize("O3") /* unrolls loops over bytes of elements, and keeps them in registers */
#endif

#include "kernels.h"

#ifdef __x86_64__
#include "avx512.h"

enum { FEW_REGISTERS = 0 };

#include "loops_layouts.h"
#include "loops_encode.h"
#include "loops_elements.h"
#include "loops_short.h"
#include "loops_decode.h"

/* ---- escapes ---- */

/* 64 nibbles at a time: each is added to 15 for every nibble of 15 right before it, of which there are four at most. */
TARGET static size_t rans_numbers(const uint8_t *nibbles, size_t num_nibbles, uint8_t *numbers, size_t most) {
    size_t num = 0;
    uint64_t before = 0; /* which of the 64 nibbles before are 15 */
    for (size_t i = 0; i < num_nibbles; i += GROUP) {
        __mmask64 used = first(num_nibbles - i);
        vec x = spread_bits(_mm512_maskz_loadu_epi8(first((num_nibbles - i + 1) / 2) & 0xffffffff, nibbles + i / 2), 4);
        x = _mm512_and_si512(x, bytes(15));
        uint64_t more = _mm512_mask_cmpeq_epi8_mask(used, x, bytes(ZIPFS_RANS_MORE)), run = ~UINT64_C(0);
        for (unsigned k = 1; k <= 4; k++) {
            run &= more << k | before >> (64 - k);
            x = _mm512_mask_add_epi8(x, run, x, bytes(ZIPFS_RANS_MORE));
        }
        run &= more << 5 | before >> 59;
        size_t count = (size_t)__builtin_popcountll(used & ~more);
        if ((run & used) || count > most - num)
            return SIZE_MAX;
        store(numbers + num, _mm512_maskz_compress_epi8(used & ~more, x));
        num += count;
        before = more;
    }
    bool within = num_nibbles && before >> ((num_nibbles - 1) % 64) & 1;
    return within ? SIZE_MAX : num;
}

/* Elements of a byte as words, 32 of them at most: there are seldom more. */
STEP size_t gather_bytes(uint64_t chosen, vec elements, uint16_t *dst) {
    vec x = _mm512_maskz_compress_epi8(chosen, elements);
    store(dst, _mm512_cvtepu8_epi16(_mm512_castsi512_si256(x)));
    if (ZIPFS_UNLIKELY(count_of(chosen) > 32))
        store(dst + 32, _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(x, 1)));
    return count_of(chosen);
}

/* Wider elements are too much to load for the few that are chosen. */
TARGET static size_t gather_some(const uint64_t *chosen, const uint8_t *src, unsigned width, unsigned shift,
                                 unsigned bits, size_t n, uint16_t *values_ret) {
    if (width > 1)
        return gather(chosen, src, width, shift, bits, n, values_ret);
    size_t num = 0, i = 0;
    for (; i + GROUP <= n; i += GROUP)
        num += gather_bytes(chosen[i / GROUP], load(src + i), values_ret + num);
    if (i < n)
        num += gather_bytes(chosen[i / GROUP], _mm512_maskz_loadu_epi8(first(n - i), src + i), values_ret + num);
    shift_words(values_ret, num, shift, bits);
    return num;
}

/* ---- bitmaps ---- */

/* Words and doublewords, a vector at a time where a whole one of src can be read. */
TARGET static void expand(const uint8_t *bits, const uint8_t *src, unsigned width, uint8_t *dst, size_t n) {
    const uint8_t *dst_end = dst + n * width;
    size_t i = 0;
    if (width == 2)
        for (; i + 32 <= n && dst_end - src >= 64; i += 32) {
            uint32_t mask = zipfs_load32(bits + i / 8);
            store(dst + 2 * i, _mm512_maskz_expand_epi16(mask, load(src)));
            src += 2 * (size_t)__builtin_popcount(mask);
        }
    if (width == 4)
        for (; i + 16 <= n && dst_end - src >= 64; i += 16) {
            uint16_t mask = zipfs_load16(bits + i / 8);
            store(dst + 4 * i, _mm512_maskz_expand_epi32(mask, load(src)));
            src += 4 * (size_t)__builtin_popcount(mask);
        }
    zipfs_kernels_scalar.expand(bits + i / 8, src, width, dst + i * width, n - i);
}

const struct zipfs_kernels zipfs_kernels_avx512 = {
    .name = "avx512",
    .hash = zipfs_hash_avx512,
    .histogram = zipfs_histogram_avx2,
    .rans_numbers = rans_numbers,
    .expand = expand,
    .gather = gather_some,
    LAYOUT_LOOPS,
    ENCODE_LOOPS,
    ELEMENT_LOOPS,
    SHORT_LOOPS,
};

#endif
