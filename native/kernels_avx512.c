/* Kernels for AVX-512 with F, BW, VL, VBMI and VBMI2. */
#include "kernels.h"

#ifdef __x86_64__
const struct zipfs_kernels zipfs_kernels_avx512 = {
    .name = "avx512",
    .hash = zipfs_hash_avx512,
};

#endif
