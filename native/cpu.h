/* What this CPU can run, and the kernel table that follows from it. */
#ifndef ZIPFS_CPU_H
#define ZIPFS_CPU_H

#include "kernels.h"

/* The kernels in use, chosen at the first call: the best that this CPU runs, or what ZIPFS_KERNEL names. NULL when
 * that name is unknown, not built or beyond this CPU. Any thread. */
const struct zipfs_kernels *zipfs_kernels(void);

/* Every table that this CPU runs, best first; for tests. */
size_t zipfs_kernels_usable(const struct zipfs_kernels *usable_ret[ZIPFS_MAX_KERNELS]);

#endif
