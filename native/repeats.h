/* Do bytes repeat? What tells cheaply that zstd has nothing to find. */
#ifndef ZIPFS_REPEATS_H
#define ZIPFS_REPEATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ZIPFS_REPEAT = 8 }; /* bytes that count as a repetition: fewer come again by chance where values are few */

/* In a stretch in the middle: does one in 128 places hold bytes that an earlier one holds? */
bool zipfs_repeats_nearby(const uint8_t *src, size_t n);

/* The same, or long repetitions at any distance. */
bool zipfs_repeats(const uint8_t *src, size_t n);

#endif
