/* Arrays that grow. */
#ifndef ZIPFS_GROW_H
#define ZIPFS_GROW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

/* Makes *array hold `wanted` elements or more, its contents kept. false: no memory, and nothing has changed. */
static inline bool zipfs_grow(void **array, size_t *capacity, size_t wanted, size_t element_size) {
    if (wanted <= *capacity)
        return true;
    size_t larger = wanted + wanted / 2 + 32;
    void *moved = realloc(*array, larger * element_size);
    if (!moved)
        return false;
    *array = moved;
    *capacity = larger;
    return true;
}

#endif
