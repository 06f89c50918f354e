/* Large buffers as pages of their own: what is freed leaves the process at once, and no other size is in its way. Those
 * who need many keep them for the next use, as each new page costs a fault. */
#ifndef ZIPFS_PAGES_H
#define ZIPFS_PAGES_H

#include <stdint.h>
#include <sys/mman.h>

/* NULL: no memory. */
static inline uint8_t *zipfs_pages_alloc(size_t size) {
    void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return pages == MAP_FAILED ? NULL : (uint8_t *)pages;
}

static inline void zipfs_pages_free(uint8_t *pages, size_t size) {
    if (pages)
        munmap(pages, size);
}

#endif
