/* Tables of all choices among eight lanes, for steps that take lanes to streams and back. */
#ifndef ZIPFS_EIGHTS_H
#define ZIPFS_EIGHTS_H

#include <stdint.h>

#define BIT(m, i) ((m) >> (i) & 1)
#define ONES_BELOW(m, i) ((unsigned)__builtin_popcount((m) & ((1u << (i)) - 1)))
#define EIGHT(term, m)                                                                                                 \
    (term(m, 0) | term(m, 1) | term(m, 2) | term(m, 3) | term(m, 4) | term(m, 5) | term(m, 6) | term(m, 7))
#define ROWS4(term, m) EIGHT(term, m), EIGHT(term, (m) + 1), EIGHT(term, (m) + 2), EIGHT(term, (m) + 3)
#define ROWS16(term, m) ROWS4(term, m), ROWS4(term, (m) + 4), ROWS4(term, (m) + 8), ROWS4(term, (m) + 12)
#define ROWS64(term, m) ROWS16(term, m), ROWS16(term, (m) + 16), ROWS16(term, (m) + 32), ROWS16(term, (m) + 48)
#define ROWS256(term) {ROWS64(term, 0u), ROWS64(term, 64u), ROWS64(term, 128u), ROWS64(term, 192u)}

/* Which byte of a stream lane i takes, in byte i; 255 when it takes none. */
#define TAKEN(m, i) ((uint64_t)(BIT(m, i) ? ONES_BELOW(m, i) : 255) << 8 * (i))
static const uint64_t taken_by[256] = ROWS256(TAKEN);

/* The chosen lanes in ascending order, in the topmost bytes. */
#define GIVEN(m, i) ((uint64_t)(BIT(m, i) ? (i) : 0) << (64 - 8 * (ONES_BELOW(m, 8) - ONES_BELOW(m, i))) % 64)
static const uint64_t given_by[256] = ROWS256(GIVEN);

#endif
