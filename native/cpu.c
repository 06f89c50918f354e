/* Chooses the kernel table, once per process. */
#include "cpu.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const struct zipfs_kernels *chosen;
static pthread_once_t once = PTHREAD_ONCE_INIT;

#ifdef __x86_64__
#define LACKING(feature) \
    if (!__builtin_cpu_supports(feature)) \
        return feature;

/* All that the kernel's functions are compiled for: a virtual machine may hide any of it. */
static const char *lacks_avx512(void) {
    /* The compiler's runtime also asks the operating system whether it keeps the wide registers. */
    __builtin_cpu_init();
    LACKING("avx2")
    LACKING("avx512f")
    LACKING("avx512bw")
    LACKING("avx512vl")
    LACKING("avx512vbmi")
    LACKING("avx512vbmi2")
    LACKING("popcnt")
    LACKING("bmi2")
    return NULL;
}

static const char *lacks_avx2(void) {
    __builtin_cpu_init();
    LACKING("avx2")
    LACKING("popcnt")
    return NULL;
}
#endif

static const char *lacks_nothing(void) {
    return NULL;
}

/* Every kernel, best first; `kernels` is NULL where it is not built, `lacks` names a feature that this CPU lacks. */
static const struct candidate {
    const char *name;
    const struct zipfs_kernels *kernels;
    const char *(*lacks)(void);
} candidates[ZIPFS_MAX_KERNELS] = {
#ifdef __x86_64__
    {"avx512", &zipfs_kernels_avx512, lacks_avx512},
    {"avx2", &zipfs_kernels_avx2, lacks_avx2},
#else
    {"avx512", NULL, NULL},
    {"avx2", NULL, NULL},
#endif
#ifdef __aarch64__
    {"neon", &zipfs_kernels_neon, lacks_nothing},
#else
    {"neon", NULL, NULL},
#endif
    {"scalar", &zipfs_kernels_scalar, lacks_nothing},
};

void zipfs_kernel_list(struct zipfs_kernel_info info_ret[ZIPFS_MAX_KERNELS]) {
    for (size_t i = 0; i < ZIPFS_MAX_KERNELS; i++) {
        const struct candidate *candidate = &candidates[i];
        bool built = candidate->kernels != NULL;
        info_ret[i] = (struct zipfs_kernel_info){candidate->name, built, built ? candidate->lacks() : NULL};
    }
}

size_t zipfs_kernels_usable(const struct zipfs_kernels *usable_ret[ZIPFS_MAX_KERNELS]) {
    size_t count = 0;
    for (size_t i = 0; i < ZIPFS_MAX_KERNELS; i++)
        if (candidates[i].kernels && !candidates[i].lacks())
            usable_ret[count++] = candidates[i].kernels;
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
