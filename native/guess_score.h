/*
 * Hypotheses about bytes of unknown layout, and what each would cost. Internal to the guess.
 *
 * A hypothesis is a layout and where its elements begin, in offsets of the chunk modulo 8. All counts are kept per
 * offset modulo 8 (a residue): the byte there, and for the pair of bytes that begins there the exponent and the rest of
 * a word in BF16, which also is the upper half of F32, and the lowest 8 exponent bits of an F64 that ends there.
 */
#ifndef ZIPFS_GUESS_SCORE_H
#define ZIPFS_GUESS_SCORE_H

#include <stddef.h>
#include <stdint.h>

#include "zipfs.h"

enum { ZIPFS_NUM_HYPOTHESES = 17, ZIPFS_SAMPLE_MAX = 8192 };

struct zipfs_hypothesis {
    uint32_t layout, phase;
};

extern const struct zipfs_hypothesis zipfs_hypotheses[ZIPFS_NUM_HYPOTHESES];

struct zipfs_sample {
    size_t size; /* bytes counted, at most ZIPFS_SAMPLE_MAX */
    uint16_t byte[8][256], exponent[8][256], rest[8][256], exponent64[8][256];
};

/* Counts the bytes [offset, offset + size) of src; reads one byte more. offset and size are multiples of 8. */
void zipfs_sample_add(struct zipfs_sample *sample, const uint8_t *src, size_t offset, size_t size);
/* Bits per byte under each hypothesis, in units of 2^-16. */
void zipfs_sample_costs(const struct zipfs_sample *sample, uint32_t cost_ret[ZIPFS_NUM_HYPOTHESES]);

/* Are nearly all bytes ASCII, with few zeros? */
bool zipfs_sample_is_text(const struct zipfs_sample *sample);

/* Code lengths under one hypothesis as a sample teaches them, in units of 2^-8 bits. */
struct zipfs_lengths {
    uint8_t role[8]; /* of each residue */
    uint16_t byte[8][256], exponent[8][256], rest[8][256];
};
void zipfs_lengths_learn(const struct zipfs_sample *sample, unsigned hypothesis, struct zipfs_lengths *lengths_ret);
/* Cost of the byte at src[offset], with all that belongs to it; reads one byte more. */
uint32_t zipfs_lengths_at(const struct zipfs_lengths *lengths, const uint8_t *src, size_t offset);

#endif
