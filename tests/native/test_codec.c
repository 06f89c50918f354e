/* Chunks through the encoder and back, on every kernel: equal payloads, equal bytes, no byte touched beyond any buffer.
 */
#include <string.h>
#include <sys/mman.h>

#include "check.h"
#include "codec.h"
#include "common.h"
#include "cpu.h"
#include "guarded.h"
#include "run.h"
#include "sample.h"

enum { CHUNK_LOG2 = 16, CHUNK = 1 << CHUNK_LOG2, NUM_PLAIN_LAYOUTS = ZIPFS_BF16_JOINT /* those of segments */ };

static uint64_t seed;
static struct zipfs_codec *codec;
static const struct zipfs_kernels *usable[ZIPFS_MAX_KERNELS];
static size_t num_usable;
static struct guarded src_memory, dst_memory, payload_memory, joint_memory[4];

/* ---- data ---- */

enum data { WEIGHTS, NOISE, ZEROS, SPARSE, TEXT, SPECIALS, FEW, PRUNED, MIXED, NUM_DATA };

static void fill(uint8_t *dst, size_t size, enum data data, uint32_t layout, uint64_t *state) {
    static const char text[] =
        "{\"weight_map\": {\"model.layers.0.mlp.up_proj.weight\": \"model-00001-of-00004.safetensors\"}} ";
    const struct zipfs_layout_info *info = zipfs_layout_info(layout);
    for (size_t i = 0; i < size; i++) {
        uint64_t x = random_u64(state);
        switch (data) {
        case NOISE: dst[i] = (uint8_t)x; break;
        case ZEROS: dst[i] = 0; break;
        case SPARSE: dst[i] = x % 50 ? 0 : (uint8_t)(x >> 32); break;
        case TEXT: dst[i] = (uint8_t)text[(i + x % 7 % 2) % (sizeof text - 1)]; break;
        case SPECIALS: dst[i] = x >> 16 & 1 ? 0xff : (uint8_t)(x % 3 * 0x7f); break; /* NaN, infinity, subnormal */
        default: break;
        }
    }
    for (size_t i = 0; data == WEIGHTS && i + info->width <= size; i += info->width) {
        uint64_t x = sample_weight(info, state);
        memcpy(dst + i, &x, info->width);
    }
    for (size_t i = 0; data == FEW && i < size; i++) /* 150 elements */
        dst[i] = (uint8_t)(i % info->width * 77 + random_below(state, i % info->width ? 1 : 150));
    for (size_t i = 0; data == PRUNED && i + info->width <= size; i += info->width) {
        uint64_t x = random_below(state, 2) ? sample_weight(info, state) : 0;
        memcpy(dst + i, &x, info->width);
    }
    for (size_t i = 0; data == MIXED && i < size; i += 5000)
        fill(dst + i, zipfs_min(5000, size - i), (enum data)(random_u64(state) % MIXED), layout, state);
}

/* ---- one chunk on all kernels ---- */

struct encoded {
    struct zipfs_entry entry;
    uint8_t bytes[CHUNK];
};

static void encode(const uint8_t *src, size_t size, uint64_t number, enum zipfs_level level,
                   const struct zipfs_segment *segments, size_t num_segments, bool upper, struct encoded *encoded) {
    uint8_t *dst = guarded_at(&payload_memory, size, upper);
    CHECK_EQUAL(zipfs_encode_chunk(codec, level, number, src, size, segments, num_segments, dst, size, &encoded->entry),
                ZIPFS_OK);
    CHECK(encoded->entry.stored_size <= size);
    CHECK((encoded->entry.kind == ZIPFS_KIND_STORED) == (encoded->entry.stored_size == size));
    memcpy(encoded->bytes, dst, encoded->entry.stored_size);
}

static void decode(const struct encoded *encoded, uint64_t number, const uint8_t *plain, size_t size, bool upper) {
    uint8_t *payload = guarded_at(&payload_memory, encoded->entry.stored_size, upper);
    uint8_t *dst = guarded_at(&dst_memory, size, upper);
    memcpy(payload, encoded->bytes, encoded->entry.stored_size);
    memset(dst, 0xa5, size);
    CHECK_EQUAL(zipfs_decode_chunk(codec, number, &encoded->entry, payload, dst, size), ZIPFS_OK);
    CHECK(!memcmp(dst, plain, size));
}

/* What follows every encoding, on the payload and plain bytes that decode() left: a bit of any run that differs is
 * found. */
static void check_runs(const struct encoded *encoded, size_t size, uint64_t *state) {
    const uint8_t *payload = guarded_at(&payload_memory, encoded->entry.stored_size, true);
    uint8_t *plain = guarded_at(&dst_memory, size, true);
    struct zipfs_run runs[ZIPFS_MAX_RUNS];
    size_t num_runs;
    if (encoded->entry.kind != ZIPFS_KIND_RUNS)
        return;
    CHECK_EQUAL(zipfs_chunk_runs(payload, encoded->entry.stored_size, size, runs, &num_runs), ZIPFS_OK);
    payload += 4 + ZIPFS_RUN_RECORD * num_runs;
    for (size_t i = 0; i < num_runs; i++) {
        size_t edge = random_below(state, 4), last = runs[i].plain_size - 1,
               at = edge == 0 ? 0 : edge == 1 ? last : random_below(state, runs[i].plain_size);
        CHECK_EQUAL(zipfs_run_check(codec, &runs[i], payload, plain), ZIPFS_OK);
        plain[at] ^= (uint8_t)(1 << random_below(state, 8));
        CHECK_EQUAL(zipfs_run_check(codec, &runs[i], payload, plain), ZIPFS_PLAIN_CHECKSUM);
        payload += runs[i].stored_size;
        plain += runs[i].plain_size;
    }
}

/* Encodes plain on every kernel, demands one payload, and decodes it on every kernel. Returns its size. */
static size_t round_trip(const uint8_t *plain, size_t size, uint64_t number, enum zipfs_level level,
                         const struct zipfs_segment *segments, size_t num_segments) {
    static struct encoded encoded[ZIPFS_MAX_KERNELS];
    uint64_t check_state = seed + size;
    for (size_t k = 0; k < num_usable; k++) {
        bool upper = (size + k) % 2;
        uint8_t *src = guarded_at(&src_memory, size, upper);
        memcpy(src, plain, size);
        CHECK_EQUAL(mprotect(src_memory.map, src_memory.capacity, PROT_READ), 0);
        codec->kernels = usable[k];
        encode(src, size, number, level, segments, num_segments, upper, &encoded[k]);
        CHECK_EQUAL(mprotect(src_memory.map, src_memory.capacity, PROT_READ | PROT_WRITE), 0);
        CHECK_EQUAL(encoded[k].entry.stored_size, encoded[0].entry.stored_size);
        CHECK(encoded[k].entry.stored_hash == encoded[0].entry.stored_hash);
        CHECK(encoded[k].entry.plain_hash == zipfs_hash_scalar(plain, size, 0));
        CHECK(!memcmp(encoded[k].bytes, encoded[0].bytes, encoded[0].entry.stored_size));
    }
    for (size_t k = 0; k < num_usable; k++) {
        codec->kernels = usable[k];
        decode(&encoded[0], number, plain, size, false);
        decode(&encoded[0], number, plain, size, true);
        check_runs(&encoded[0], size, &check_state);
    }
    return encoded[0].entry.stored_size;
}

/* ---- tests ---- */

static void test_layouts_phases_lengths(void) {
    static const size_t lengths[] = {1,   2,   3,    7,    8,    9,    63,   64,    127,       129,
                                     255, 257, 1023, 1024, 1025, 4099, 8192, 20001, CHUNK - 1, CHUNK};
    static uint8_t plain[CHUNK];
    uint64_t state = seed;
    for (uint32_t layout = 0; layout < NUM_PLAIN_LAYOUTS; layout++)
        for (uint32_t phase = 0; phase < zipfs_layout_info(layout)->width; phase++)
            for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
                size_t size = lengths[i];
                enum data data = (enum data)((i + phase + layout) % NUM_DATA);
                fill(plain, size, i % 2 ? WEIGHTS : data, layout, &state);
                /* The segment begins in the chunk before, so that its elements are at this phase here. */
                struct zipfs_segment segment = {CHUNK + phase - zipfs_layout_info(layout)->width, CHUNK, layout};
                round_trip(plain, size, 1, ZIPFS_LEVEL_DEFAULT, &segment, 1);
            }
}

static void test_all_data_and_levels(void) {
    static uint8_t plain[CHUNK];
    uint64_t state = seed + 1;
    for (int data = 0; data < NUM_DATA; data++)
        for (uint32_t layout = 0; layout <= NUM_PLAIN_LAYOUTS; layout++)
            for (int level = ZIPFS_LEVEL_FAST; level <= ZIPFS_LEVEL_MAX; level++) {
                size_t size = level == ZIPFS_LEVEL_MAX ? CHUNK / 4 : CHUNK - random_below(&state, 10);
                uint32_t known = layout < NUM_PLAIN_LAYOUTS ? layout : (uint32_t)ZIPFS_GUESS;
                fill(plain, size, (enum data)data, layout % NUM_PLAIN_LAYOUTS, &state);
                struct zipfs_segment segment = {0, size, known};
                size_t stored = round_trip(plain, size, 0, (enum zipfs_level)level, &segment, 1);
                if (data == ZEROS)
                    CHECK(stored <= 4 + 12 + 8 * 9 + 9 + 7);
                if (data == NOISE)
                    CHECK_EQUAL(stored, size);
            }
}

/* Many tensors of odd sizes, gaps between them: at most 64 runs, and every byte comes back. */
static void test_many_segments(void) {
    static uint8_t plain[CHUNK];
    static struct zipfs_segment segments[4000];
    static struct encoded encoded;
    uint64_t state = seed + 2;
    for (size_t mean = 4; mean < 40000; mean *= 3) {
        size_t count = 0;
        for (uint64_t at = 0; at < 3 * CHUNK && count < 4000; count++) {
            uint64_t gap = random_below(&state, 3) ? 0 : random_below(&state, mean);
            segments[count] = (struct zipfs_segment){at + gap, random_below(&state, 2 * mean),
                                                     (uint32_t)random_below(&state, NUM_PLAIN_LAYOUTS)};
            at = segments[count].offset + segments[count].size;
        }
        fill(plain, CHUNK, MIXED, ZIPFS_F32, &state);
        round_trip(plain, CHUNK, 1, ZIPFS_LEVEL_DEFAULT, segments, count);
        fill(plain, CHUNK, WEIGHTS, ZIPFS_BF16, &state);
        round_trip(plain, CHUNK, 1, ZIPFS_LEVEL_DEFAULT, segments, count);
        encode(plain, CHUNK, 1, ZIPFS_LEVEL_DEFAULT, segments, count, true, &encoded);
        struct zipfs_run runs[ZIPFS_MAX_RUNS];
        size_t num_runs;
        if (encoded.entry.kind == ZIPFS_KIND_RUNS)
            CHECK_EQUAL(zipfs_chunk_runs(encoded.bytes, encoded.entry.stored_size, CHUNK, runs, &num_runs), ZIPFS_OK);
    }
}

static void test_arguments(void) {
    static uint8_t plain[CHUNK], dst[CHUNK];
    struct zipfs_entry entry;
    struct zipfs_codec *none;
    struct zipfs_segment overlap[] = {{0, 100, ZIPFS_BF16}, {50, 100, ZIPFS_BF16}}, unknown = {0, 100, 77};
    struct zipfs_segment joint = {0, 100, ZIPFS_BF16_JOINT};
    struct zipfs_segment beyond = {UINT64_MAX - 5, 100, ZIPFS_BF16}, huge = {10, UINT64_MAX - 5, ZIPFS_BF16};
    CHECK_EQUAL(zipfs_codec_create(15, &none), ZIPFS_BAD_ARGUMENT);
    CHECK_EQUAL(zipfs_codec_create(23, &none), ZIPFS_BAD_ARGUMENT);
    CHECK_EQUAL(zipfs_encode_chunk(codec, ZIPFS_LEVEL_DEFAULT, 0, plain, 0, NULL, 0, dst, CHUNK, &entry),
                ZIPFS_BAD_ARGUMENT);
    CHECK_EQUAL(zipfs_encode_chunk(codec, ZIPFS_LEVEL_DEFAULT, 0, plain, CHUNK + 1, NULL, 0, dst, CHUNK, &entry),
                ZIPFS_BAD_ARGUMENT);
    CHECK_EQUAL(zipfs_encode_chunk(codec, ZIPFS_LEVEL_DEFAULT, UINT64_MAX, plain, 10, NULL, 0, dst, CHUNK, &entry),
                ZIPFS_BAD_ARGUMENT);
    CHECK_EQUAL(zipfs_encode_chunk(codec, ZIPFS_LEVEL_DEFAULT, 0, plain, 10, NULL, 0, dst, 9, &entry), ZIPFS_NO_SPACE);
    CHECK_EQUAL(zipfs_encode_chunk(codec, (enum zipfs_level)3, 0, plain, 10, NULL, 0, dst, 10, &entry),
                ZIPFS_BAD_ARGUMENT);
    CHECK_EQUAL(zipfs_encode_chunk(codec, ZIPFS_LEVEL_DEFAULT, 0, plain, 400, overlap, 2, dst, 400, &entry),
                ZIPFS_BAD_ARGUMENT);
    CHECK_EQUAL(zipfs_encode_chunk(codec, ZIPFS_LEVEL_DEFAULT, 0, plain, 400, &unknown, 1, dst, 400, &entry),
                ZIPFS_BAD_ARGUMENT);
    CHECK_EQUAL(zipfs_encode_chunk(codec, ZIPFS_LEVEL_DEFAULT, 0, plain, 400, &joint, 1, dst, 400, &entry),
                ZIPFS_BAD_ARGUMENT);
    CHECK_EQUAL(zipfs_encode_chunk(codec, ZIPFS_LEVEL_DEFAULT, 0, plain, 400, &beyond, 1, dst, 400, &entry), ZIPFS_OK);
    CHECK_EQUAL(zipfs_encode_chunk(codec, ZIPFS_LEVEL_DEFAULT, 0, plain, 400, &huge, 1, dst, 400, &entry),
                ZIPFS_BAD_ARGUMENT);
}

/* Planes of few values, of more and more rare ones, and of a kind that changes half-way. */
static void test_histogram(void) {
    static uint8_t values[40000];
    static const size_t lengths[] = {16383, 16384, 20479, 20480, 40000};
    uint64_t state = seed + 4;
    for (unsigned rare = 0; rare <= 8; rare++) {
        for (size_t i = 0; i < sizeof values; i++) {
            unsigned common = (unsigned)__builtin_ctzll(random_u64(&state) | 1 << 20) * (rare % 3);
            bool is_rare = random_below(&state, 1000) < (i < 25000 ? rare * rare : 300);
            values[i] = (uint8_t)(is_rare ? random_u64(&state) : 110 + common);
        }
        for (size_t k = 0; k < num_usable; k++)
            for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++) {
                uint32_t count[256], expected[256] = {0};
                for (size_t i = 0; i < lengths[l]; i++)
                    expected[values[i]]++;
                usable[k]->histogram(values, lengths[l], count);
                CHECK(!memcmp(count, expected, sizeof count));
            }
    }
}

/* Packed bits that begin or end where memory does. */
static void test_packed_at_edges(void) {
    static uint8_t values[300];
    uint64_t state = seed + 5;
    for (size_t k = 0; k < num_usable; k++)
        for (size_t n = 1; n < sizeof values; n++)
            for (unsigned bits = 1; bits <= 6; bits++) {
                for (size_t i = 0; i < n; i++)
                    values[i] = (uint8_t)(random_u64(&state) & ((1u << bits) - 1));
                uint8_t *packed = guarded_at(&payload_memory, (n * bits + 7) / 8, true);
                uint8_t *unpacked = guarded_at(&dst_memory, n, true);
                usable[k]->pack(values, bits, packed, n);
                usable[k]->unpack(packed, bits, unpacked, n);
                CHECK(!memcmp(unpacked, values, n));
            }
}

/* Every loop of a kernel against the portable one, at lengths around its vectors. */
static void test_loops(void) {
    static uint8_t values[1000], packed[2][1000], out[2][8000], planes[2][ZIPFS_MAX_FIELDS][1000];
    uint64_t state = seed + 3;
    const struct zipfs_kernels *a = &zipfs_kernels_scalar;
    for (size_t k = 0; k < num_usable; k++)
        for (size_t n = 0; n < 300; n++) {
            for (unsigned bits = 1; bits <= 6; bits++) {
                for (size_t i = 0; i < n; i++)
                    values[i] = (uint8_t)(random_u64(&state) & ((1u << bits) - 1));
                memset(packed, 0x5a, sizeof packed);
                a->pack(values, bits, packed[0], n);
                usable[k]->pack(values, bits, packed[1], n);
                CHECK(!memcmp(packed[0], packed[1], sizeof packed[0]));
                memset(out, 0x5a, sizeof out);
                usable[k]->unpack(packed[0], bits, out[1], n);
                CHECK(!memcmp(out[1], values, n) && out[1][n] == 0x5a);
            }
            for (uint32_t layout = 1; layout < NUM_PLAIN_LAYOUTS; layout++) {
                const struct zipfs_layout_info *info = zipfs_layout_info(layout);
                uint8_t *fields[2][ZIPFS_MAX_FIELDS];
                fill(out[0], n * info->width, NOISE, layout, &state);
                memset(planes, 0, sizeof planes);
                for (unsigned f = 0; f < info->num_fields; f++)
                    fields[0][f] = planes[0][f], fields[1][f] = planes[1][f];
                a->split[layout](out[0], fields[0], n);
                usable[k]->split[layout](out[0], fields[1], n);
                CHECK(!memcmp(planes[0], planes[1], sizeof planes[0]));
                memset(out[1], 0x5a, sizeof out[1]);
                usable[k]->merge[layout]((const uint8_t *const *)fields[0], out[1], n);
                CHECK(!memcmp(out[0], out[1], n * info->width) && out[1][n * info->width] == 0x5a);
            }
        }
}

/* Fields as docs/format.md section 4.1 cuts them, worked out bit by bit. */
static void test_fields(void) {
    uint64_t state = seed + 4;
    for (uint32_t layout = 1; layout < NUM_PLAIN_LAYOUTS; layout++) {
        const struct zipfs_layout_info *info = zipfs_layout_info(layout);
        uint8_t planes[ZIPFS_MAX_FIELDS][1], *fields[ZIPFS_MAX_FIELDS];
        for (unsigned f = 0; f < info->num_fields; f++)
            fields[f] = planes[f];
        for (unsigned round = 0; round < 100; round++) {
            uint64_t x = random_u64(&state) >> (64 - 8 * info->width), y = zipfs_layout_rotate(info, x);
            unsigned position = 8u * info->width;
            CHECK(zipfs_layout_unrotate(info, y) == x);
            zipfs_kernels_scalar.split[layout]((const uint8_t *)&x, fields, 1);
            for (unsigned f = 0; f < info->num_fields; f++) {
                position -= info->bits[f];
                CHECK_EQUAL(planes[f][0], y >> position & ((1u << info->bits[f]) - 1));
            }
            CHECK_EQUAL(position, 0);
        }
    }
    CHECK(zipfs_layout_rotate(zipfs_layout_info(ZIPFS_BF16), 0xbf80) == 0x7f80); /* -1.0: exponent 7f, then the sign */
    CHECK(zipfs_layout_rotate(zipfs_layout_info(ZIPFS_BF16_JOINT), 0xb830) == (0x70 << 8 | 1 << 6 | 1 << 5 | 0x10));
}

/* The first fields of about one in `part` of the joint elements at src, one by one. */
static void check_gather(const struct zipfs_kernels *kernels, uint32_t layout, const uint8_t *src, size_t n,
                         size_t part, uint64_t *state) {
    static uint16_t expected[1000], values[1000 + 64];
    const struct zipfs_layout_info *info = zipfs_layout_info(layout);
    size_t num = 0, words = (n + 63) / 64;
    uint64_t *chosen = (uint64_t *)guarded_at(&payload_memory, 8 * words, true);
    memset(chosen, 0, 8 * words);
    for (size_t i = 0; i < n; i++) {
        uint64_t x = 0;
        memcpy(&x, src + i * info->width, info->width);
        if (random_below(state, part))
            continue;
        chosen[i / 64] |= UINT64_C(1) << i % 64;
        expected[num++] = (uint16_t)(zipfs_layout_rotate(info, x) >> (8u * info->width - info->bits[0]));
    }
    CHECK_EQUAL(kernels->gather(chosen, src, info->width, zipfs_joint_shift(info), info->bits[0], n, values), num);
    CHECK(!memcmp(values, expected, num * sizeof values[0]));
}

/* What joint_split makes of n elements at src, element by element from the fields of section 4.1. */
static void check_joint_split(const struct zipfs_kernels *kernels, uint32_t layout, const uint8_t *src, size_t n,
                              const uint8_t row[256]) {
    static uint8_t expected[ZIPFS_MAX_FIELDS][1000], seconds[1000];
    const struct zipfs_layout_info *info = zipfs_layout_info(layout);
    uint8_t *planes[ZIPFS_MAX_FIELDS], *codes = guarded_at(&payload_memory, n, true);
    for (size_t i = 0; i < n; i++) {
        uint64_t x = 0;
        memcpy(&x, src + i * info->width, info->width);
        uint64_t y = zipfs_layout_rotate(info, x);
        unsigned position = 8u * info->width - info->bits[0], first = (unsigned)(y >> position);
        expected[0][i] = (uint8_t)(4 * row[first >> 2] + (first & 3));
        for (unsigned f = 1; f < info->num_fields; f++) {
            position -= info->bits[f];
            expected[f][i] = (uint8_t)(y >> position & ((1u << info->bits[f]) - 1));
        }
    }
    memcpy(seconds, expected[1], n);
    zipfs_kernels_scalar.pack(seconds, info->bits[1], expected[1], n);
    for (unsigned f = 1; f < info->num_fields; f++)
        planes[f] = guarded_at(&joint_memory[f], n, true);
    kernels->joint_split[layout](src, row, codes, planes, n);
    CHECK(!memcmp(codes, expected[0], n));
    CHECK(!memcmp(planes[1], expected[1], (n * info->bits[1] + 7) / 8));
    for (unsigned f = 2; f < info->num_fields; f++)
        CHECK(!memcmp(planes[f], expected[f], n));
}

static void test_joint_split(void) {
    uint64_t state = seed + 7;
    uint8_t row[256];
    for (size_t k = 0; k < num_usable; k++)
        for (size_t n = 1; n < 300; n++)
            for (uint32_t layout = NUM_PLAIN_LAYOUTS; layout < ZIPFS_NUM_LAYOUTS; layout++) {
                size_t size = n * zipfs_layout_info(layout)->width;
                uint8_t *src = guarded_at(&src_memory, size, true);
                fill(src, size, NOISE, layout, &state);
                for (unsigned e = 0; e < 256; e++)
                    row[e] = random_below(&state, 3) ? (uint8_t)random_below(&state, 16) : ZIPFS_JOINT_NO_ROW;
                if (usable[k]->joint_split[layout])
                    check_joint_split(usable[k], layout, src, n, row);
                for (size_t part = 1; part <= 64; part *= 8)
                    check_gather(usable[k], layout, src, n, part, &state);
            }
}

/* Tables of 256 and bitmaps, at the edges of accessible memory; values to expand stand at the end of the elements. */
static void test_tables_and_bitmaps(void) {
    uint64_t state = seed + 9;
    static uint8_t table[256], bits[64], expected[8 * 300], values[8 * 300];
    for (size_t k = 0; k < num_usable; k++)
        for (size_t n = 1; n < 300; n++) {
            uint8_t *src = guarded_at(&src_memory, n, true), *dst = guarded_at(&dst_memory, n, true);
            fill(table, sizeof table, NOISE, ZIPFS_BYTES, &state);
            fill(src, n, NOISE, ZIPFS_BYTES, &state);
            usable[k]->look_up(table, src, dst, n);
            for (size_t i = 0; i < n; i++)
                CHECK_EQUAL(dst[i], table[src[i]]);
            for (unsigned width = 1; width <= 8; width *= 2) {
                size_t num = 0;
                uint64_t density = random_below(&state, 4);
                memset(bits, 0, sizeof bits);
                memset(expected, 0, sizeof expected);
                fill(values, sizeof values, NOISE, ZIPFS_BYTES, &state);
                for (size_t i = 0; i < n; i++) {
                    if (density < 3 && random_below(&state, 3) >= density)
                        continue;
                    bits[i / 8] |= (uint8_t)(1 << i % 8);
                    memcpy(expected + i * width, values + num++ * width, width);
                }
                dst = guarded_at(&dst_memory, n * width, true);
                memcpy(dst + (n - num) * width, values, num * width);
                uint8_t *bitmap = guarded_at(&src_memory, (n + 7) / 8, true);
                memcpy(bitmap, bits, (n + 7) / 8);
                usable[k]->expand(bitmap, dst + (n - num) * width, width, dst, n);
                CHECK(!memcmp(dst, expected, n * width));
            }
        }
}

/* Coded size against the entropy of a skewed plane: the tables must be near what 8-bit probabilities allow. */
static void test_ratio(void) {
    static uint8_t plain[CHUNK];
    uint64_t state = seed + 5;
    struct zipfs_segment segment = {0, CHUNK, ZIPFS_BF16};
    for (size_t i = 0; i < CHUNK; i += 2) { /* exponents of 1/2, 1/4, 1/8 ...: 2 bits each */
        unsigned exponent = 120u - (unsigned)__builtin_ctzll(random_u64(&state)), rest = (unsigned)random_u64(&state);
        zipfs_store16(plain + i, (uint16_t)((rest & 0x80) << 8 | exponent << 7 | (rest & 0x7f)));
    }
    size_t stored = round_trip(plain, CHUNK, 0, ZIPFS_LEVEL_DEFAULT, &segment, 1), ideal = CHUNK / 2 * 10 / 8;
    CHECK(stored > ideal && stored < ideal + 550);
}

/* Two scales in one tensor: a run for each, at every phase, and each as small as it would be alone. */
static void test_divided(void) {
    static uint8_t plain[CHUNK];
    static struct encoded encoded;
    uint64_t state = seed + 6;
    struct zipfs_run runs[ZIPFS_MAX_RUNS];
    size_t num_runs;
    for (uint32_t phase = 0; phase < 4; phase++) {
        struct zipfs_segment segment = {CHUNK - 4 + phase, CHUNK + 4, ZIPFS_F32};
        fill(plain, CHUNK, NOISE, ZIPFS_F32, &state);
        for (size_t i = phase; i + 4 <= CHUNK; i += 4) {
            uint32_t exponent = (i < CHUNK / 2 ? 120u : 60u) - (uint32_t)__builtin_ctzll(random_u64(&state) | 1 << 9);
            zipfs_store32(plain + i, (zipfs_load32(plain + i) & 0x807fffff) | exponent << 23);
        }
        size_t stored = round_trip(plain, CHUNK, 1, ZIPFS_LEVEL_DEFAULT, &segment, 1);
        CHECK(stored < CHUNK / 4 * (24 + 2) / 8 + 800);
        encode(plain, CHUNK, 1, ZIPFS_LEVEL_DEFAULT, &segment, 1, true, &encoded);
        CHECK_EQUAL(zipfs_chunk_runs(encoded.bytes, encoded.entry.stored_size, CHUNK, runs, &num_runs), ZIPFS_OK);
        CHECK_EQUAL(num_runs, 2);
        CHECK_EQUAL(runs[0].plain_size, CHUNK / 2 + phase);
        CHECK_EQUAL(runs[1].phase, 0);
    }
}

/* Two tensors of unlike scales in one grid are divided just where the second begins, which is on no grid of windows. */
static void test_divided_at_a_border(void) {
    static uint8_t plain[CHUNK];
    static struct encoded encoded;
    uint64_t state = seed + 11;
    struct zipfs_run runs[ZIPFS_MAX_RUNS];
    size_t num_runs;
    for (size_t border = CHUNK / 2 - 22002; border < CHUNK / 2 + 24000; border += 11000) {
        struct zipfs_segment segments[] = {{CHUNK, border, ZIPFS_BF16}, {CHUNK + border, CHUNK - border, ZIPFS_BF16}};
        for (size_t i = 0; i < CHUNK; i += 2) {
            unsigned rest = (unsigned)random_u64(&state);
            unsigned exponent = (i < border ? 120u : 60u) - (unsigned)__builtin_ctzll(random_u64(&state) | 1 << 9);
            zipfs_store16(plain + i, (uint16_t)((rest & 0x80) << 8 | exponent << 7 | (rest & 0x7f)));
        }
        size_t stored = round_trip(plain, CHUNK, 1, ZIPFS_LEVEL_DEFAULT, segments, 2);
        CHECK(stored < CHUNK / 2 * (8 + 2) / 8 + 1000);
        encode(plain, CHUNK, 1, ZIPFS_LEVEL_DEFAULT, segments, 2, true, &encoded);
        CHECK_EQUAL(zipfs_chunk_runs(encoded.bytes, encoded.entry.stored_size, CHUNK, runs, &num_runs), ZIPFS_OK);
        CHECK_EQUAL(num_runs, 2);
        CHECK_EQUAL(runs[0].plain_size, border);
    }
}

/* Noise beside weights is a run of plain bytes, whatever its layout; what only looks like noise is found out. */
static void test_noise(void) {
    enum { HALF = CHUNK / 2 };
    static uint8_t plain[CHUNK];
    static struct encoded encoded;
    uint64_t state = seed + 8;
    struct zipfs_run runs[ZIPFS_MAX_RUNS];
    size_t num_runs;
    struct zipfs_segment halves[] = {{0, HALF, ZIPFS_BF16}, {HALF, HALF, ZIPFS_I16}}, whole = {0, CHUNK, ZIPFS_I16};
    fill(plain, HALF, WEIGHTS, ZIPFS_BF16, &state);
    fill(plain + HALF, HALF, NOISE, ZIPFS_BF16, &state);
    round_trip(plain, CHUNK, 0, ZIPFS_LEVEL_DEFAULT, halves, 2);
    encode(plain, CHUNK, 0, ZIPFS_LEVEL_DEFAULT, halves, 2, true, &encoded);
    CHECK_EQUAL(zipfs_chunk_runs(encoded.bytes, encoded.entry.stored_size, CHUNK, runs, &num_runs), ZIPFS_OK);
    CHECK(num_runs == 2 && runs[0].layout == ZIPFS_BF16_JOINT && runs[1].layout == ZIPFS_BYTES);
    CHECK_EQUAL(runs[1].stored_size, HALF + ZIPFS_PLANE_RECORD);
    fill(plain, CHUNK, NOISE, ZIPFS_I16, &state);
    CHECK_EQUAL(round_trip(plain, CHUNK, 0, ZIPFS_LEVEL_DEFAULT, &whole, 1), CHUNK);
    CHECK_EQUAL(round_trip(plain, CHUNK, 0, ZIPFS_LEVEL_DEFAULT, halves, 2), CHUNK);
    memcpy(plain + HALF + 777, plain + 100, HALF - 777); /* at a distance that is no multiple of anything */
    CHECK(round_trip(plain, CHUNK, 0, ZIPFS_LEVEL_DEFAULT, &whole, 1) < CHUNK / 100 * 52);
    CHECK(round_trip(plain, CHUNK, 0, ZIPFS_LEVEL_DEFAULT, halves, 2) < CHUNK / 100 * 52);
    fill(plain, CHUNK, NOISE, ZIPFS_I16, &state);
    memset(plain + CHUNK / 32 * 27, 0, CHUNK / 20); /* between pieces of any sample of 16 */
    CHECK(round_trip(plain, CHUNK, 0, ZIPFS_LEVEL_DEFAULT, &whole, 1) < CHUNK / 100 * 96);
    for (size_t i = 0; i < CHUNK; i += 2) /* bytes that are even, but each twice */
        plain[i] = plain[i + 1] = (uint8_t)random_u64(&state);
    CHECK(round_trip(plain, CHUNK, 0, ZIPFS_LEVEL_DEFAULT, &whole, 1) < CHUNK / 100 * 52);
}

int main(void) {
    const char *demand = getenv("ZIPFS_TEST_SEED");
    seed = demand ? strtoull(demand, NULL, 0) : 2026;
    printf("seed %llu\n", (unsigned long long)seed);
    num_usable = zipfs_kernels_usable(usable);
    for (size_t k = 0; k < num_usable; k++)
        printf("kernel %s\n", usable[k]->name);
    CHECK_EQUAL(zipfs_codec_create(CHUNK_LOG2, &codec), ZIPFS_OK);
    guarded_make(&src_memory, CHUNK);
    guarded_make(&dst_memory, CHUNK);
    guarded_make(&payload_memory, CHUNK);
    for (unsigned f = 1; f < 4; f++)
        guarded_make(&joint_memory[f], 300);
    test_fields();
    test_joint_split();
    test_histogram();
    test_packed_at_edges();
    test_tables_and_bitmaps();
    test_loops();
    test_arguments();
    test_ratio();
    test_divided();
    test_divided_at_a_border();
    test_noise();
    test_layouts_phases_lengths();
    test_all_data_and_levels();
    test_many_segments();
    guarded_free(&src_memory);
    guarded_free(&dst_memory);
    guarded_free(&payload_memory);
    for (unsigned f = 1; f < 4; f++)
        guarded_free(&joint_memory[f]);
    zipfs_codec_free(codec);
    return 0;
}
