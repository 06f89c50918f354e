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
    const __m256i even_mask = _mm256_set1_epi16(0xff);
    return (struct lanes){_mm256_or_si256(_mm256_and_si256(even, even_mask), up(odd, 8)),
                          _mm256_or_si256(_mm256_andnot_si256(even_mask, odd), down(even, 8))};
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

/* Indices of 32 symbols into each row: a shuffle takes bytes above 127, which those of other rows become, for zero. */
struct places {
    __m256i row[MAX_ROWS];
};

STEP struct places find_places(unsigned rows, __m256i symbol) {
    struct places places;
    for (unsigned r = 0; r < rows; r++)
        places.row[r] = _mm256_adds_epu8(_mm256_xor_si256(symbol, bytes(ROW * r)), bytes(128 - ROW));
    return places;
}

STEP __m256i look_up(const struct symbol_table *t, unsigned rows, const struct places *places) {
    __m256i x = _mm256_shuffle_epi8(t->row[0], places->row[0]);
    for (unsigned r = 1; r < rows; r++)
        x = _mm256_or_si256(x, _mm256_shuffle_epi8(t->row[r], places->row[r]));
    return x;
}

#endif
