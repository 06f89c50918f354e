/* What every C test needs: CHECK, and a seeded generator. */
#ifndef ZIPFS_TEST_CHECK_H
#define ZIPFS_TEST_CHECK_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* Ends the test with file, line and the condition that does not hold. */
#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            exit(1); \
        } \
    } while (0)

/* The same for two integers, which are shown. */
#define CHECK_EQUAL(a, b) \
    do { \
        long long a_ = (long long)(a), b_ = (long long)(b); \
        if (a_ != b_) { \
            fprintf(stderr, "%s:%d: %s is %lld, %s is %lld\n", __FILE__, __LINE__, #a, a_, #b, b_); \
            exit(1); \
        } \
    } while (0)

/* SplitMix64 (Steele, Lea, Flood 2014): the next value of the sequence that starts from *state. */
static inline uint64_t random_u64(uint64_t *state) {
    uint64_t x = *state += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

/* A value below `bound`, which is not 0; the bias does not matter to a test. */
static inline uint64_t random_below(uint64_t *state, uint64_t bound) {
    return random_u64(state) % bound;
}

#endif
