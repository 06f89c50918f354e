/* Kernels for NEON. xxHash and the compiler find their own vectors for hashing and counting. */
#ifndef __clang__
#pragma GCC optimize("O3") /* unrolls the loops over the parts of a vector, which must not stay loops */
#endif

#include "kernels.h"

#ifdef __aarch64__
#include "neon.h"

enum { FEW_REGISTERS = 1 };

#include "loops_layouts.h"
#include "loops_encode.h"
#include "loops_elements.h"
#include "loops_short.h"
#include "loops_decode.h"

const struct zipfs_kernels zipfs_kernels_neon = {
    .name = "neon",
    .hash = zipfs_hash_scalar,
    .histogram = zipfs_histogram_scalar,
    .rans_numbers = zipfs_rans_numbers_scalar,
    .expand = zipfs_expand_scalar,
    .gather = gather,
    LAYOUT_LOOPS,
    ENCODE_LOOPS,
    ELEMENT_LOOPS,
    SHORT_LOOPS,
};

#endif
