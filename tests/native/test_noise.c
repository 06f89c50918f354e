/* What counts as noise among blocks of quantised weights: random bits in every format, and nothing that has more to gain
 * than a chunk that is stored as it is may give up. */
#include <string.h>

#include "blocks.h"
#include "check.h"
#include "common.h"
#include "cpu.h"

enum { SIZE = 1 << 18, TRIALS = 20 };

static const struct zipfs_kernels *usable[ZIPFS_MAX_KERNELS];
static size_t num_usable;
static uint64_t state;
static uint8_t blocks[SIZE + 8];

static void fill(void) {
    for (size_t i = 0; i < SIZE; i += 8)
        zipfs_store64(blocks + i, random_u64(&state));
}

/* By every kernel, which must agree. */
static bool is_noise(uint32_t layout, size_t size) {
    bool result = zipfs_blocks_are_noise(usable[0], layout, blocks, size);
    for (size_t k = 1; k < num_usable; k++)
        CHECK_EQUAL(zipfs_blocks_are_noise(usable[k], layout, blocks, size), result);
    return result;
}

/* The same change to one part of all blocks. */
static void narrow(uint8_t *part, size_t size, unsigned width) {
    for (size_t i = 0; i < size; i += width)
        part[i] &= 0x1f;
}

static void double_bytes(uint8_t *part, size_t size, unsigned width) {
    for (size_t i = width; i < size; i += 2)
        part[i] = part[i - 1];
}

static void change(uint32_t layout, size_t at, size_t size, unsigned width,
                   void (*to_part)(uint8_t *part, size_t size, unsigned width)) {
    size_t step = zipfs_block_format(layout)->width;
    fill();
    for (size_t i = 0; i + step <= SIZE; i += step)
        to_part(blocks + i + at, size, width);
}

static void repeat(uint32_t layout, size_t at, size_t size) {
    size_t step = zipfs_block_format(layout)->width, half = SIZE / step / 2;
    fill();
    for (size_t i = 0; i < half; i++)
        memcpy(blocks + (half + i) * step + at, blocks + i * step + at, size);
}

/* Random bits are noise but for one chunk in a hundred, and not when they are few. */
static void test_random_bits(uint32_t layout) {
    unsigned num = 0;
    for (unsigned t = 0; t < TRIALS; t++) {
        fill();
        num += is_noise(layout, SIZE - t);
        num += is_noise(layout, SIZE / 4 + t);
    }
    CHECK(num >= 2 * TRIALS - 6);
    CHECK(!is_noise(layout, (1 << 14) - 1));
}

/* Three bits less in a byte of BYTES, or in the lower byte of F16. */
static void test_parts(uint32_t layout) {
    const struct zipfs_block_format *format = zipfs_block_format(layout);
    for (size_t p = 0, at = 0; p < format->num_parts; at += format->parts[p++].size) {
        size_t size = format->parts[p].size, width = format->parts[p].layout == ZIPFS_F16 ? 2 : 1;
        change(layout, at, size, (unsigned)width, narrow);
        bool gains = 128 * 3 * size > 8 * width * format->width;
        if (gains || 4 * 128 * 3 * size < 8 * width * format->width) /* between, a sample may seem to be either */
            CHECK_EQUAL(is_noise(layout, SIZE), !gains);
        if (size % 2 == 0) {
            change(layout, at, size, 1, double_bytes);
            CHECK(!is_noise(layout, SIZE));
        }
        if (size < 8 || 8 * size < format->width)
            continue;
        repeat(layout, at, size);
        CHECK(!is_noise(layout, SIZE));
    }
}

int main(void) {
    const char *demand = getenv("ZIPFS_TEST_SEED");
    state = demand ? strtoull(demand, NULL, 0) : 2026;
    printf("seed %llu\n", (unsigned long long)state);
    num_usable = zipfs_kernels_usable(usable);
    for (uint32_t layout = ZIPFS_FIRST_BLOCK_FORMAT; zipfs_block_format(layout); layout++) {
        test_random_bits(layout);
        test_parts(layout);
    }
    return 0;
}
