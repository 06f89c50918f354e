/* The RANS loops alone, on every kernel: each length around lanes and vectors, escapes at both ends, all buffers at the
 * edges of accessible memory. */
#include <string.h>

#include "check.h"
#include "common.h"
#include "cpu.h"
#include "guarded.h"
#include "rans.h"

enum { MAX_N = 400, PLANE = 4096, MAX_WIDTH = 4, NUM_STYLES = 5 };

static const struct zipfs_kernels *usable[ZIPFS_MAX_KERNELS];
static size_t num_usable;
static struct guarded values_memory, coded_memory, escapes_memory, plane_memory, dst_memory, rest_memory[3];

/* From two equally likely values to mostly escapes; rare values stand first and last. */
static void fill(uint8_t *values, size_t n, unsigned style, uint64_t *state) {
    for (size_t i = 0; i < n; i++) {
        uint64_t x = random_u64(state);
        switch (style) {
        case 0: values[i] = 100 + (x & 1); break;
        case 1: values[i] = (uint8_t)(100 + __builtin_ctzll(x | 1 << 20)); break;
        case 2: values[i] = (uint8_t)(x % 60 * 3); break;
        case 3: values[i] = x % 97 ? 7 : (uint8_t)(x >> 40); break;
        default: values[i] = (uint8_t)x; break;
        }
    }
    values[0] = 250;
    values[n - 1] = 251;
}

/* Encodes values into a plane with a table that has symbols for them. Returns its size. */
static size_t encode_with(const struct zipfs_rans_table *table, const struct zipfs_kernels *kernels,
                          const uint8_t *values, size_t n, unsigned num_lanes, uint8_t *plane) {
    struct zipfs_rans_encoder encoder;
    uint8_t *src = guarded_at(&values_memory, n, true);
    memcpy(src, values, n);
    zipfs_rans_encoder_init(&encoder, table, num_lanes);
    uint8_t *coded_end = guarded_at(&coded_memory, n + ZIPFS_RANS_MAX_LANES, n / 2 % 2) + n + ZIPFS_RANS_MAX_LANES;
    uint8_t *escapes_end = guarded_at(&escapes_memory, n, n / 2 % 2) + n;
    encoder.coded = coded_end;
    encoder.escapes = escapes_end;
    kernels->rans_encode(&encoder, src, n);
    size_t coded_size = (size_t)(coded_end - encoder.coded), num_escapes = (size_t)(escapes_end - encoder.escapes);
    CHECK(coded_size <= n + ZIPFS_RANS_MAX_LANES && num_escapes <= n);
    size_t size = zipfs_rans_write_header(&encoder, coded_size, num_escapes, plane);
    memcpy(plane + size, encoder.coded, coded_size);
    memcpy(plane + size + coded_size, encoder.escapes, num_escapes);
    return size + coded_size + num_escapes;
}

/* Encodes values, which are not all equal, into a plane. Returns its size. */
static size_t encode(const struct zipfs_kernels *kernels, const uint8_t *values, size_t n, unsigned num_lanes,
                     uint8_t *plane) {
    uint32_t count[256];
    struct zipfs_rans_table table;
    kernels->histogram(values, n, count);
    zipfs_rans_choose(count, n, num_lanes, &table);
    return encode_with(&table, kernels, values, n, num_lanes, plane);
}

/* Where a stream that is decoded in two calls is cut: a multiple of 128. */
static size_t first_part(size_t n) {
    return n > 128 ? n / 256 * 128 + 128 : n;
}

static void check_values(const struct zipfs_kernels *kernels, const uint8_t *src, size_t size, const uint8_t *values,
                         size_t n, bool upper) {
    static struct zipfs_rans_decoder decoder;
    uint8_t *dst = guarded_at(&dst_memory, n, upper);
    size_t first = first_part(n);
    CHECK_EQUAL(zipfs_rans_open(src, size, n, 8, &decoder), ZIPFS_OK);
    CHECK(kernels->rans_decode(&decoder, dst, first));
    CHECK(first == n || kernels->rans_decode(&decoder, dst + first, n - first));
    CHECK_EQUAL(zipfs_rans_finish(&decoder), ZIPFS_OK);
    CHECK(!memcmp(dst, values, n));
}

/* The loop that decodes and merges at once, against the portable merge. */
static void check_merge(const struct zipfs_kernels *kernels, uint32_t layout, const uint8_t *src, size_t size,
                        const uint8_t *values, size_t n, bool upper) {
    static struct zipfs_rans_decoder decoder;
    static uint8_t expected[MAX_N * MAX_WIDTH];
    const uint8_t *planes[MAX_WIDTH] = {values}, *later[MAX_WIDTH] = {NULL};
    unsigned width = zipfs_layout_info(layout)->width;
    size_t first = first_part(n);
    uint64_t state = n;
    for (unsigned f = 1; f < width; f++) {
        uint8_t *rest = guarded_at(&rest_memory[f - 1], n, upper);
        for (size_t i = 0; i < n; i++)
            rest[i] = (uint8_t)random_u64(&state);
        planes[f] = rest;
        later[f] = rest + first;
    }
    zipfs_kernels_scalar.merge[layout](planes, expected, n);
    planes[0] = NULL;
    uint8_t *dst = guarded_at(&dst_memory, n * width, upper);
    CHECK_EQUAL(zipfs_rans_open(src, size, n, 8, &decoder), ZIPFS_OK);
    CHECK(kernels->rans_merge[layout](&decoder, planes, dst, first));
    CHECK(first == n || kernels->rans_merge[layout](&decoder, later, dst + width * first, n - first));
    CHECK_EQUAL(zipfs_rans_finish(&decoder), ZIPFS_OK);
    CHECK(!memcmp(dst, expected, n * width));
}

static void check(const uint8_t *values, size_t n, unsigned num_lanes) {
    static uint8_t planes[ZIPFS_MAX_KERNELS][PLANE];
    size_t size = 0;
    for (size_t k = 0; k < num_usable; k++) {
        size = encode(usable[k], values, n, num_lanes, planes[k]);
        CHECK(!memcmp(planes[k], planes[0], size));
    }
    for (size_t k = 0; k < num_usable; k++)
        for (int upper = 0; upper < 2; upper++) {
            uint8_t *src = guarded_at(&plane_memory, size, upper);
            memcpy(src, planes[0], size);
            check_values(usable[k], src, size, values, n, upper);
            for (uint32_t layout = 0; layout < ZIPFS_NUM_LAYOUTS; layout++)
                if (usable[k]->rans_merge[layout])
                    check_merge(usable[k], layout, src, size, values, n, upper);
        }
}

/* Tables that no writer chooses: every value costs a byte of one stream, so that the encoder uses all its room. */
static void check_full_streams(size_t n, unsigned num_lanes, bool escaped) {
    static uint8_t planes[ZIPFS_MAX_KERNELS][PLANE], values[MAX_N];
    const struct zipfs_rans_table table = {
        .num_symbols = 2, .has_escape = escaped, .freq = {1, 255}, .start = {0, 1}, .value = {7, escaped ? 0 : 8}};
    memset(values, escaped ? 9 : 7, n);
    for (size_t k = 0; k < num_usable; k++) {
        size_t size = encode_with(&table, usable[k], values, n, num_lanes, planes[k]);
        CHECK(!memcmp(planes[k], planes[0], size));
        check_values(usable[k], planes[0], size, values, n, true);
    }
}

int main(void) {
    const char *demand = getenv("ZIPFS_TEST_SEED");
    uint64_t state = demand ? strtoull(demand, NULL, 0) : 2026;
    static uint8_t values[MAX_N];
    printf("seed %llu\n", (unsigned long long)state);
    num_usable = zipfs_kernels_usable(usable);
    guarded_make(&values_memory, MAX_N);
    guarded_make(&coded_memory, MAX_N + ZIPFS_RANS_MAX_LANES);
    guarded_make(&escapes_memory, MAX_N);
    guarded_make(&plane_memory, PLANE);
    guarded_make(&dst_memory, MAX_N * MAX_WIDTH);
    for (unsigned f = 0; f < 3; f++)
        guarded_make(&rest_memory[f], MAX_N);
    for (size_t n = 2; n < MAX_N; n++)
        for (unsigned num_lanes = 64; num_lanes <= 128; num_lanes += 64)
            for (unsigned style = 0; style < NUM_STYLES; style++) {
                fill(values, n, style, &state);
                check(values, n, num_lanes);
            }
    for (size_t n = 1; n < MAX_N; n++)
        for (unsigned choice = 0; choice < 4; choice++)
            check_full_streams(n, choice & 1 ? 64 : 128, choice & 2);
    return 0;
}
