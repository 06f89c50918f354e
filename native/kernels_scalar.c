/* The portable kernels: the reference that the others must match bit for bit. */
#include "kernels.h"

const struct zipfs_kernels zipfs_kernels_scalar = {
    .name = "scalar",
    .hash = zipfs_hash_scalar,
};
