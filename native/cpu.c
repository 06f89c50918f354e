/* Chooses the kernel table, once per process. */
#include "cpu.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const struct zipfs_kernels *chosen;
static pthread_once_t once = PTHREAD_ONCE_INIT;

#ifdef __x86_64__
/* All that the kernel's functions are compiled for: a virtual machine may hide any of it. */
static bool has_avx512(void) {
    /* The compiler's runtime also asks the operating system whether it keeps the wide registers. */
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi") &&
           __builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("popcnt") && __builtin_cpu_supports("bmi2");
}

static bool has_avx2(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt");
}
#endif

size_t zipfs_kernels_usable(const struct zipfs_kernels *usable_ret[ZIPFS_MAX_KERNELS]) {
    size_t count = 0;
#ifdef __x86_64__
    if (has_avx512())
        usable_ret[count++] = &zipfs_kernels_avx512;
    if (has_avx2())
        usable_ret[count++] = &zipfs_kernels_avx2;
#endif
    usable_ret[count++] = &zipfs_kernels_scalar;
    return count;
}

static void choose(void) {
    const struct zipfs_kernels *usable[ZIPFS_MAX_KERNELS];
    size_t count = zipfs_kernels_usable(usable);
    const char *demand = getenv("ZIPFS_KERNEL");
    if (!demand || !*demand) {
        chosen = usable[0];
        return;
    }
    for (size_t i = 0; i < count; i++)
        if (!strcmp(demand, usable[i]->name))
            chosen = usable[i];
}

const struct zipfs_kernels *zipfs_kernels(void) {
    pthread_once(&once, choose);
    return chosen;
}

const char *zipfs_kernel(void) {
    const struct zipfs_kernels *kernels = zipfs_kernels();
    return kernels ? kernels->name : NULL;
}

uint64_t zipfs_hash(const uint8_t *src, size_t src_size, uint64_t seed) {
    const struct zipfs_kernels *kernels = zipfs_kernels();
    return (kernels ? kernels->hash : zipfs_hash_scalar)(src, src_size, seed);
}
