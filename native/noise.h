/* What cannot be made smaller, told from samples: finding out must cost little beside storing it. */
#ifndef ZIPFS_NOISE_H
#define ZIPFS_NOISE_H

#include "kernels.h"

/* The bytes that n values take at their order-0 entropy, as pieces from all over them have it: a little less than it
 * is, since a sample seems less random than its whole. 0 for few values, which are better counted. */
uint64_t zipfs_sampled_entropy(const struct zipfs_kernels *kernels, const uint8_t *values, size_t n);

/* Do bytes repeat, 8 or more at a time, so that zstd may find something? Nearby: in a stretch in the middle, in one
 * place of 128. Far: at any distance, for long; of 1 KiB or more. Else both; true for few bytes. */
bool zipfs_repeats_nearby(const uint8_t *src, size_t n);
bool zipfs_repeats_far(const uint8_t *src, size_t n);
bool zipfs_repeats(const uint8_t *src, size_t n);

/* The same for blocks, as far as their first 8 bytes tell: n of them, `step` bytes apart, 16 or more.
 * True for few. */
bool zipfs_heads_repeat(const uint8_t *src, size_t step, size_t n);

/* Are most of n words of two bytes, a sample, different? By 12 bits of a hash, of which 6 % of 512 are equal by
 * chance. */
bool zipfs_words_are_many(const uint8_t *words, size_t n);

/* Are elements of `width` bytes noise: the first of them, their bytes as a whole and as words, without repetitions? No
 * coding makes them smaller by one part in 64. False for few bytes. */
bool zipfs_is_noise(const struct zipfs_kernels *kernels, const uint8_t *src, size_t size, unsigned width);

#endif
