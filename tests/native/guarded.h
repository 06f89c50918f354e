/* Buffers whose ends are the ends of mapped memory: one byte too far, on either side, ends the test with a signal. */
#ifndef ZIPFS_TEST_GUARDED_H
#define ZIPFS_TEST_GUARDED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct guarded {
    uint8_t *map;
    size_t capacity; /* a multiple of the page size */
};

void guarded_make(struct guarded *guarded, size_t capacity);
void guarded_free(struct guarded *guarded);
/* `size` bytes, at the upper end of the mapping or at its lower end; size is at most the capacity. */
uint8_t *guarded_at(const struct guarded *guarded, size_t size, bool upper);

#endif
