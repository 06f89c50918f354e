/*
 * The kernel interface: the inner loops of the codec as a table of functions. cpu.c chooses one table per process; all tables
 * give the same results, bit for bit. Portable code (plane.c, run.c, ...) calls loops through the table only.
 */
#ifndef ZIPFS_KERNELS_H
#define ZIPFS_KERNELS_H

#include "layout.h"
#include "zipfs.h"

struct zipfs_kernels {
    const char *name;
    uint64_t (*hash)(const uint8_t *src, size_t src_size, uint64_t seed); /* XXH3-64 */
};

extern const struct zipfs_kernels zipfs_kernels_scalar;
#ifdef __x86_64__
extern const struct zipfs_kernels zipfs_kernels_avx512; /* only where zipfs_cpu_has_avx512() */
#endif

uint64_t zipfs_hash_scalar(const uint8_t *src, size_t src_size, uint64_t seed);
uint64_t zipfs_hash_avx512(const uint8_t *src, size_t src_size, uint64_t seed);

#endif
