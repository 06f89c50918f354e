/* Short codes: the loops of every kernel against the text of docs/format.md section 4.2, value by value, with no byte
 * touched beyond any buffer; and the level that uses them. */
#include <string.h>

#include "check.h"
#include "codec.h"
#include "common.h"
#include "cpu.h"
#include "guarded.h"
#include "run.h"

enum { CHUNK_LOG2 = 16, CHUNK = 1 << CHUNK_LOG2, MOST = 9000 /* values */, NUM_CODES = ZIPFS_SHORT_ESCAPE };

static struct zipfs_codec *codec;
static const struct zipfs_kernels *usable[ZIPFS_MAX_KERNELS];
static size_t num_usable;
static struct guarded plane_memory, values_memory, dst_memory, room_memory;

/* ---- planes, bit by bit ---- */

struct plane {
    size_t n, size;
    uint8_t values[MOST];
    uint8_t bytes[NUM_CODES + 2 * MOST];
};

static size_t codes_size(size_t n) {
    return (3 * n + 7) / 8;
}

/* A plane of n values, of which one in `rarity` is escaped. */
static void make_plane(struct plane *plane, size_t n, unsigned rarity, uint64_t *state) {
    uint8_t *codes = plane->bytes + NUM_CODES, *escapes = codes + codes_size(n);
    memset(plane, 0, sizeof *plane);
    plane->n = n;
    for (unsigned c = 0; c < NUM_CODES; c++)
        plane->bytes[c] = (uint8_t)random_u64(state);
    for (size_t i = 0; i < n; i++) {
        unsigned code = random_below(state, rarity) ? (unsigned)random_below(state, NUM_CODES) : ZIPFS_SHORT_ESCAPE;
        for (unsigned k = 0; k < 3; k++)
            codes[(3 * i + k) / 8] |= (uint8_t)((code >> k & 1) << (3 * i + k) % 8);
        if (code == ZIPFS_SHORT_ESCAPE)
            *escapes++ = plane->values[i] = (uint8_t)random_u64(state);
        else
            plane->values[i] = plane->bytes[code];
    }
    plane->size = (size_t)(escapes - plane->bytes);
}

/* Opens a plane of `size` bytes, with `behind` readable ones behind it where memory ends. */
static enum zipfs_status open_plane(const struct plane *plane, size_t size, size_t behind,
                                    struct zipfs_short_decoder *decoder) {
    uint8_t *src = guarded_at(&plane_memory, size + behind, true),
            *room = guarded_at(&room_memory, plane->n + ZIPFS_SHORT_READABLE, true);
    memcpy(src, plane->bytes, size);
    memset(src + size, 0x5a, behind);
    return zipfs_short_open(src, size, src + size + behind, plane->n, 8, &room, decoder);
}

/* Decodes in steps of `step` values, to the end of memory; false when escapes ran out. */
static bool decode(const struct zipfs_kernels *kernels, struct zipfs_short_decoder *decoder, size_t n, size_t step) {
    for (size_t i = 0; i < n; i += step) {
        size_t used = zipfs_min(n - i, step);
        uint8_t *dst = guarded_at(&dst_memory, used, true);
        if (!kernels->short_decode(decoder, dst, used))
            return false;
        memcpy(guarded_at(&values_memory, n, true) + i, dst, used);
    }
    return true;
}

static void test_decoding(void) {
    static const size_t steps[] = {8, 64, 104, 4096, MOST}, behinds[] = {0, 1, 63, 64, 300};
    static struct plane plane;
    uint64_t state = 31;
    for (size_t n = 1; n <= MOST; n += 1 + n / 8 + random_below(&state, 5))
        for (unsigned rarity = 1; rarity <= 256; rarity *= 4) {
            make_plane(&plane, n, rarity, &state);
            size_t step = steps[random_below(&state, 5)], behind = behinds[random_below(&state, 5)];
            for (size_t k = 0; k < num_usable; k++) {
                struct zipfs_short_decoder decoder;
                CHECK_EQUAL(open_plane(&plane, plane.size, behind, &decoder), ZIPFS_OK);
                CHECK(decode(usable[k], &decoder, n, step));
                CHECK_EQUAL(zipfs_short_finish(&decoder), ZIPFS_OK);
                CHECK(!memcmp(guarded_at(&values_memory, n, true), plane.values, n));
            }
        }
}

/* Escapes that are missing are missed, on every kernel; those that are left, at the end. */
static void test_wrong_counts(void) {
    static struct plane plane;
    uint64_t state = 32;
    for (size_t n = 1; n <= MOST; n += 1 + n / 3)
        for (unsigned rarity = 1; rarity <= 64; rarity *= 4) {
            make_plane(&plane, n, rarity, &state);
            size_t num_escapes = plane.size - NUM_CODES - codes_size(n);
            for (size_t k = 0; k < num_usable; k++) {
                struct zipfs_short_decoder decoder;
                size_t cut = num_escapes ? 1 + random_below(&state, num_escapes) : 0;
                if (cut) {
                    CHECK_EQUAL(open_plane(&plane, plane.size - cut, k % 2 * 64, &decoder), ZIPFS_OK);
                    CHECK(!decode(usable[k], &decoder, n, k % 2 ? 64 : MOST));
                }
                if (num_escapes == n)
                    continue;
                plane.bytes[plane.size] = 1;
                CHECK_EQUAL(open_plane(&plane, plane.size + 1, 64, &decoder), ZIPFS_OK);
                CHECK(decode(usable[k], &decoder, n, 512));
                CHECK_EQUAL(zipfs_short_finish(&decoder), ZIPFS_BAD_PLANE);
            }
        }
}

static void test_sizes(void) {
    static struct plane plane;
    uint64_t state = 33;
    struct zipfs_short_decoder decoder;
    make_plane(&plane, 100, 4, &state);
    for (size_t size = 0; size < NUM_CODES + codes_size(100); size++)
        CHECK_EQUAL(open_plane(&plane, size, 64, &decoder), ZIPFS_BAD_PLANE);
    CHECK_EQUAL(open_plane(&plane, NUM_CODES + codes_size(100) + 101, 64, &decoder), ZIPFS_BAD_PLANE);
    for (unsigned bit = 4; bit < 8; bit++) { /* 100 codes leave four bits */
        make_plane(&plane, 100, 4, &state);
        plane.bytes[NUM_CODES + codes_size(100) - 1] |= (uint8_t)(1 << bit);
        CHECK_EQUAL(open_plane(&plane, plane.size, 64, &decoder), ZIPFS_RESERVED_NOT_ZERO);
    }
}

/* Codes and escapes of one value after the other. */
static void test_encoding(void) {
    static uint8_t codes[MOST], expected[MOST];
    static uint64_t escaped[MOST / 64 + 1];
    uint64_t state = 34;
    for (size_t n = 1; n <= MOST; n += 1 + n / 8 + random_below(&state, 5)) {
        uint8_t code_of[256], *values = guarded_at(&values_memory, n, true);
        for (unsigned v = 0; v < 256; v++)
            code_of[v] = (uint8_t)zipfs_min(random_below(&state, 12), ZIPFS_SHORT_ESCAPE);
        for (size_t i = 0; i < n; i++)
            codes[i] = code_of[values[i] = (uint8_t)random_u64(&state)];
        zipfs_kernels_scalar.pack(codes, 3, expected, n);
        for (size_t k = 0; k < num_usable; k++) {
            uint8_t *dst = guarded_at(&dst_memory, codes_size(n), true);
            usable[k]->short_encode(code_of, values, n, dst, escaped);
            CHECK(!memcmp(dst, expected, codes_size(n)));
            for (size_t i = 0; i < n; i++)
                CHECK_EQUAL(escaped[i / 64] >> i % 64 & 1, codes[i] == ZIPFS_SHORT_ESCAPE);
        }
    }
}

/* ---- chunks ---- */

/* Elements of seven exponents, of which a few have any. */
static void fill(uint8_t *plain, size_t size, size_t phase, const struct zipfs_layout_info *info, uint64_t *state) {
    unsigned below = 8u * info->width - info->exponent_bits;
    for (size_t i = 0; i < size; i++)
        plain[i] = (uint8_t)random_u64(state);
    for (size_t i = phase; i + info->width <= size; i += info->width) {
        uint64_t y = random_u64(state) >> (64 - 8 * info->width);
        if (random_below(state, 50))
            y = (100 + random_below(state, 7)) << below | (y & ((UINT64_C(1) << below) - 1));
        y = zipfs_layout_unrotate(info, y);
        memcpy(plain + i, &y, info->width);
    }
}

/* The coding of the first plane of the last run, which begins behind a gap. */
static unsigned first_coding(const uint8_t *payload, size_t size, size_t plain_size, uint32_t layout) {
    struct zipfs_run runs[ZIPFS_MAX_RUNS];
    size_t num_runs;
    CHECK_EQUAL(zipfs_chunk_runs(payload, size, plain_size, runs, &num_runs), ZIPFS_OK);
    const struct zipfs_run *run = &runs[num_runs - 1];
    CHECK_EQUAL(run->layout, layout);
    size_t tail = (run->plain_size - run->phase) % zipfs_layout_info(layout)->width;
    return payload[size - run->stored_size + run->phase + tail];
}

static void check_chunk(uint32_t layout, size_t size, size_t phase, uint64_t *state) {
    static uint8_t first[CHUNK];
    const struct zipfs_layout_info *info = zipfs_layout_info(layout);
    struct zipfs_segment segment = {phase, size - phase, layout};
    struct zipfs_entry entry, first_entry = {0};
    uint8_t *src = guarded_at(&values_memory, size, true);
    fill(src, size, phase, info, state);
    for (size_t k = 0; k < num_usable; k++) {
        uint8_t *payload = guarded_at(&plane_memory, size, true);
        codec->kernels = usable[k];
        CHECK_EQUAL(zipfs_encode_chunk(codec, ZIPFS_LEVEL_FAST, 0, src, size, &segment, 1, payload, size, &entry),
                    ZIPFS_OK);
        if (k == 0) {
            first_entry = entry;
            memcpy(first, payload, entry.stored_size);
        }
        CHECK(entry.stored_hash == first_entry.stored_hash && entry.stored_size == first_entry.stored_size);
    }
    if (first_entry.kind == ZIPFS_KIND_STORED)
        return;
    if (size > 4000)
        CHECK_EQUAL(first_coding(first, first_entry.stored_size, size, layout), ZIPFS_SHORT);
    for (size_t k = 0; k < num_usable; k++) {
        uint8_t *payload = guarded_at(&plane_memory, first_entry.stored_size, true),
                *dst = guarded_at(&dst_memory, size, true);
        memcpy(payload, first, first_entry.stored_size);
        codec->kernels = usable[k];
        CHECK_EQUAL(zipfs_decode_chunk(codec, 0, &first_entry, payload, dst, size), ZIPFS_OK);
        CHECK(!memcmp(dst, src, size));
    }
}

static void test_chunks(void) {
    static const uint32_t layouts[] = {ZIPFS_BF16, ZIPFS_F32};
    uint64_t state = 35;
    for (unsigned i = 0; i < 2; i++)
        for (size_t size = 8; size <= CHUNK; size += 1 + size / 2 + random_below(&state, 7))
            for (size_t phase = 0; phase < zipfs_layout_info(layouts[i])->width; phase++)
                check_chunk(layouts[i], size, phase, &state);
}

/* Where short codes would take more than a bit a value beyond the entropy, or more than the values as they are. */
static void test_worth(void) {
    uint32_t even[256], few[256] = {[9] = 1000, [10] = 1000}, seven[256] = {0};
    uint8_t value[NUM_CODES];
    static const uint8_t expected[NUM_CODES] = {51, 53, 55, 50, 52, 54, 56};
    for (unsigned v = 0; v < 256; v++)
        even[v] = 10;
    for (unsigned v = 50; v < 57; v++)
        seven[v] = 1000 + v % 2;
    CHECK(!zipfs_short_pays(even, 2560, value));
    CHECK(!zipfs_short_pays(few, 2000, value));
    CHECK(zipfs_short_pays(seven, 7003, value));
    CHECK(!memcmp(value, expected, NUM_CODES));
}

int main(void) {
    num_usable = zipfs_kernels_usable(usable);
    CHECK_EQUAL(zipfs_codec_create(CHUNK_LOG2, &codec), ZIPFS_OK);
    guarded_make(&plane_memory, CHUNK);
    guarded_make(&values_memory, CHUNK);
    guarded_make(&dst_memory, CHUNK);
    guarded_make(&room_memory, CHUNK);
    test_decoding();
    test_wrong_counts();
    test_sizes();
    test_encoding();
    test_chunks();
    test_worth();
    guarded_free(&plane_memory);
    guarded_free(&values_memory);
    guarded_free(&dst_memory);
    guarded_free(&room_memory);
    zipfs_codec_free(codec);
    return 0;
}
