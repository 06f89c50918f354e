/* Groups of 32 rANS states as vectors of bytes, for decoding and encoding with AVX2; look-ups by shuffles. */
#ifndef ZIPFS_RANS_AVX2_H
#define ZIPFS_RANS_AVX2_H

#include "avx2.h"
#include "rans.h"

enum {
    MAX_ROWS = ZIPFS_RANS_MAX_SYMBOLS / ROW,
    MAX_GROUPS = ZIPFS_RANS_MAX_LANES / GROUP,
};

struct lanes {
    __m256i low, high; /* of 32 states */
};

/* The low bytes of two vectors of words, and the high ones: word i of each to bytes 2 * i and 2 * i + 1. */
STEP struct lanes to_bytes(__m256i even, __m256i odd) {
    return (struct lanes){alternate(even, up(odd, 8)), alternate(down(even, 8), odd)};
}

STEP void load_states(const uint16_t *state, struct lanes *lanes, unsigned groups) {
    for (unsigned g = 0; g < groups; g++)
        unzip(load(state + GROUP * g), load(state + GROUP * g + GROUP / 2), &lanes[g].low, &lanes[g].high);
}

STEP void store_states(uint16_t *state, const struct lanes *lanes, unsigned groups) {
    for (unsigned g = 0; g < groups; g++) {
        __m256i words[2];
        zip(lanes[g].low, lanes[g].high, words);
        store(state + GROUP * g, words[0]);
        store(state + GROUP * g + GROUP / 2, words[1]);
    }
}

STEP unsigned rows_of(unsigned num_symbols) {
    return (num_symbols + ROW - 1) / ROW;
}

/* Something of each symbol. */
struct symbol_table {
    __m256i row[MAX_ROWS];
};

STEP void load_symbol_table(const uint8_t table[ZIPFS_RANS_MAX_SYMBOLS], struct symbol_table *t) {
    for (unsigned r = 0; r < MAX_ROWS; r++)
        t->row[r] = row(table + ROW * r);
}

/* Entries of the first `rows` rows by 32 symbols. Bit 4 of a symbol tells rows 0 and 1 apart, bit 5 pairs of rows; a
 * blend looks at the top bit of each byte. */
STEP __m256i look_up(const struct symbol_table *t, unsigned rows, __m256i symbol) {
    __m256i found[MAX_ROWS];
    for (unsigned r = 0; r < rows; r++)
        found[r] = _mm256_shuffle_epi8(t->row[r], symbol);
    if (rows > 1)
        found[0] = _mm256_blendv_epi8(found[0], found[1], up(symbol, 3));
    if (rows > 3)
        found[2] = _mm256_blendv_epi8(found[2], found[3], up(symbol, 3));
    return rows > 2 ? _mm256_blendv_epi8(found[0], found[2], up(symbol, 2)) : found[0];
}

#endif
