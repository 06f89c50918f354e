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

const struct zipfs_kernels zipfs_kernels_avx2 = {
    .name = "avx2",
    .hash = zipfs_hash_avx2,
    .histogram = zipfs_histogram_avx2,
    .rans_numbers = zipfs_rans_numbers_scalar,
    .expand = zipfs_expand_scalar,
    .gather = gather,
    LAYOUT_LOOPS,
    ENCODE_LOOPS,
    ELEMENT_LOOPS,
    SHORT_LOOPS,
};

#endif
