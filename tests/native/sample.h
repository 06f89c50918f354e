/* Containers made in memory, for tests that need good ones and broken ones. */
#ifndef ZIPFS_TEST_SAMPLE_H
#define ZIPFS_TEST_SAMPLE_H

#include <stddef.h>
#include <stdint.h>

#include "layout.h"
#include "zipfs.h"

/* An element whose exponent falls off like that of trained weights; a small number where the layout is no float's. */
uint64_t sample_weight(const struct zipfs_layout_info *info, uint64_t *state);

struct sample {
    uint8_t *plain;
    size_t plain_size;
    uint8_t *bytes; /* the container */
    size_t size;
    struct zipfs_header header;
};

/* A container of plain_size bytes that look like BF16 weights, with stretches of noise and of zeros, from a seed. */
void sample_make(struct sample *sample, size_t plain_size, uint32_t chunk_log2, uint64_t seed);
/* The same, whose bytes from `distance` on repeat those before and are copies of them wherever they may be. */
void sample_make_copies(struct sample *sample, size_t plain_size, uint32_t chunk_log2, uint64_t seed, size_t distance);
/* A container of num_chunks chunks of zeros: small, with as many pages as a test needs. `plain` is NULL. */
void sample_make_zeros(struct sample *sample, uint64_t num_chunks, uint32_t chunk_log2);
void sample_free(struct sample *sample);

/* A descriptor of an anonymous file with these bytes. */
int sample_fd(const uint8_t *bytes, size_t size);

/* After a change of header, page or root: makes the checksum right again, so that the rule behind it is reached. */
void sample_sign_header(struct sample *sample);
void sample_sign_page(struct sample *sample, uint64_t page);
void sample_sign_root(struct sample *sample);

/* Where entry `number` lies in the container. */
uint8_t *sample_entry(struct sample *sample, uint64_t number);

#endif
