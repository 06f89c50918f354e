/* The RANS loops alone, on every kernel: each length around lanes and vectors, escapes at both ends, all buffers at the
 * edges of accessible memory. Planes are put together here, from what the encoding loops leave behind. */
#include <string.h>

#include "check.h"
#include "common.h"
#include "cpu.h"
#include "guarded.h"
#include "rans.h"

enum { MAX_N = 600, PLANE = 8192, MAX_WIDTH = 4, NUM_STYLES = 6, NUM_JOINT = ZIPFS_NUM_LAYOUTS - ZIPFS_BF16_JOINT };

static const struct zipfs_kernels *usable[ZIPFS_MAX_KERNELS];
static size_t num_usable;
static struct guarded codes_memory, coded_memory, escaped_memory, plane_memory, room_memory, dst_memory,
    rest_memory[MAX_WIDTH];

/* From two equally likely codes to mostly escapes, of which more than 60 are far; rare codes stand first and last. */
static void fill(uint8_t *codes, size_t n, unsigned style, uint64_t *state) {
    for (size_t i = 0; i < n; i++) {
        uint64_t x = random_u64(state);
        switch (style) {
        case 0: codes[i] = 100 + (x & 1); break;
        case 1: codes[i] = (uint8_t)(100 + __builtin_ctzll(x | 1 << 20)); break;
        case 2: codes[i] = (uint8_t)(x % 60 * 3); break;
        case 3: codes[i] = x % 97 ? 7 : (uint8_t)(x >> 40); break;
        case 4: codes[i] = x % 3 ? 7 : (uint8_t)(x >> 40); break;
        default: codes[i] = (uint8_t)x; break;
        }
    }
    codes[0] = 250;
    codes[n - 1] = 251;
}

/* ---- planes ---- */

/* What a code stands for in a field of `bits` bits. */
static unsigned value_of(unsigned code, unsigned bits) {
    return bits > 8 ? code << (bits - 8) | (code & 3) : code & ((1u << bits) - 1);
}

static uint8_t *put_value(uint8_t *dst, unsigned code, unsigned bits) {
    unsigned value = value_of(code, bits);
    *dst++ = (uint8_t)value;
    if (bits > 8)
        *dst++ = (uint8_t)(value >> 8);
    return dst;
}

static unsigned number_of(const struct zipfs_rans_table *table, unsigned code) {
    unsigned i = 0;
    while (i < table->num_near && table->near[i] != code)
        i++;
    return i;
}

/* Nibbles of the escapes, then far values. Returns the end. */
static uint8_t *write_escapes(const struct zipfs_rans_encoder *encoder, const uint8_t *codes, size_t n, unsigned bits,
                              size_t *num_nibbles_ret, size_t *num_far_ret, uint8_t *dst) {
    static uint8_t far[2 * MAX_N];
    uint8_t *far_end = far;
    size_t num = 0;
    memset(dst, 0, 5 * n / 2 + 1);
    for (size_t i = 0; encoder->table.has_escape && i < n; i++) {
        if (!(encoder->escaped[i / 64] >> i % 64 & 1))
            continue;
        unsigned number = number_of(&encoder->table, codes[i]);
        if (number == encoder->table.num_near)
            far_end = put_value(far_end, codes[i], bits);
        if (encoder->table.num_near == 0)
            continue;
        for (; number >= 15; number -= 15, num++)
            dst[num / 2] |= (uint8_t)(15 << num % 2 * 4);
        dst[num / 2] |= (uint8_t)(number << num % 2 * 4);
        num++;
    }
    *num_nibbles_ret = num;
    *num_far_ret = (size_t)(far_end - far) / (bits > 8 ? 2 : 1);
    memcpy(dst + (num + 1) / 2, far, (size_t)(far_end - far));
    return dst + (num + 1) / 2 + (far_end - far);
}

static size_t write_plane(const struct zipfs_rans_encoder *encoder, const uint8_t *coded_end, const uint8_t *codes,
                          size_t n, unsigned bits, uint8_t *plane) {
    const struct zipfs_rans_table *table = &encoder->table;
    uint8_t *dst = plane + ZIPFS_RANS_HEADER;
    size_t num_nibbles, num_far, coded_size = (size_t)(coded_end - encoder->coded);
    memcpy(dst, table->freq, table->num_symbols);
    dst += table->num_symbols;
    for (unsigned s = 0; s < table->num_symbols; s++)
        dst = put_value(dst, table->has_escape && s == table->num_symbols - 1u ? 0 : table->value[s], bits);
    for (unsigned i = 0; i < table->num_near; i++)
        dst = put_value(dst, table->near[i], bits);
    memcpy(dst, encoder->state, 2u * encoder->num_lanes);
    dst += 2u * encoder->num_lanes;
    memcpy(dst, encoder->coded, coded_size);
    dst = write_escapes(encoder, codes, n, bits, &num_nibbles, &num_far, dst + coded_size);
    plane[0] = table->num_symbols;
    plane[1] = table->has_escape;
    plane[2] = (uint8_t)(encoder->num_lanes / 64);
    plane[3] = table->num_near;
    zipfs_store32(plane + 4, (uint32_t)coded_size);
    zipfs_store32(plane + 8, (uint32_t)num_nibbles);
    zipfs_store32(plane + 12, (uint32_t)num_far);
    CHECK((size_t)(dst - plane) <= PLANE);
    return (size_t)(dst - plane);
}

static unsigned bits_of_codes(const uint8_t *codes, size_t n) {
    unsigned all = 0;
    for (size_t i = 0; i < n; i++)
        all |= codes[i];
    return all < 64 ? 6 : 8;
}

/* Encodes codes into a plane of a field of `bits` bits, with a table that has symbols for them. Returns its size. */
static size_t encode_with(const struct zipfs_rans_table *table, const struct zipfs_kernels *kernels,
                          const uint8_t *codes, size_t n, unsigned num_lanes, unsigned bits, uint8_t *plane) {
    struct zipfs_rans_encoder encoder;
    uint8_t *src = guarded_at(&codes_memory, n, true);
    memcpy(src, codes, n);
    zipfs_rans_encoder_init(&encoder, table, bits_of_codes(codes, n), num_lanes);
    uint8_t *coded_end = guarded_at(&coded_memory, n + ZIPFS_RANS_CODED_ROOM, n / 2 % 2) + n + ZIPFS_RANS_CODED_ROOM;
    size_t num_words = (n + 63) / 64;
    encoder.coded = coded_end;
    encoder.escaped = (uint64_t *)guarded_at(&escaped_memory, 8 * num_words, n / 2 % 2);
    kernels->rans_encode(&encoder, src, n);
    CHECK((size_t)(coded_end - encoder.coded) <= n + ZIPFS_RANS_MAX_LANES);
    CHECK(!table->has_escape || n % 64 == 0 || encoder.escaped[num_words - 1] >> n % 64 == 0);
    return write_plane(&encoder, coded_end, codes, n, bits, plane);
}

/* Encodes codes, which are not all equal, into a plane. Returns its size. */
static size_t encode(const struct zipfs_kernels *kernels, const uint8_t *codes, size_t n, unsigned num_lanes,
                     unsigned bits, uint8_t *plane) {
    struct zipfs_rans_counts counts = {.num_codes = 256, .n = n, .complete = true};
    struct zipfs_rans_table table;
    kernels->histogram(codes, n, counts.count);
    zipfs_rans_choose(&counts, bits, &table);
    return encode_with(&table, kernels, codes, n, num_lanes, bits, plane);
}

/* ---- decoding ---- */

/* Where a stream that is decoded in two calls is cut: a multiple of 256. */
static size_t first_part(size_t n) {
    return n > 256 ? n / 512 * 256 + 256 : n;
}

/* Opens the plane, which lies at the upper or at the lower end of its memory, and so do the escapes. */
static void open_plane(struct zipfs_rans_decoder *decoder, const struct zipfs_kernels *kernels, const uint8_t *plane,
                       size_t size, size_t n, unsigned bits, unsigned shift, bool upper) {
    uint8_t *src = guarded_at(&plane_memory, size, upper);
    memcpy(src, plane, size);
    size_t room_size = zipfs_rans_room(n, bits, shift);
    uint8_t *room = guarded_at(&room_memory, room_size + n + ZIPFS_RANS_MAX_LANES, upper), *room_end = room;
    const uint8_t *readable_end = upper ? src + size : src + plane_memory.capacity;
    CHECK_EQUAL(zipfs_rans_open(src, size, readable_end, n, bits, shift, kernels, &room_end, decoder), ZIPFS_OK);
    CHECK(room_end >= room && room_end <= room + room_size);
}

static void check_values(const struct zipfs_kernels *kernels, const uint8_t *plane, size_t size, const uint8_t *values,
                         size_t n, bool upper) {
    static struct zipfs_rans_decoder decoder;
    uint8_t *dst = guarded_at(&dst_memory, n, upper);
    size_t first = first_part(n);
    open_plane(&decoder, kernels, plane, size, n, 8, 0, upper);
    CHECK(kernels->rans_decode(&decoder, dst, first));
    CHECK(first == n || kernels->rans_decode(&decoder, dst + first, n - first));
    CHECK_EQUAL(zipfs_rans_finish(&decoder), ZIPFS_OK);
    CHECK(!memcmp(dst, values, n));
}

/* Field f of the joint element i, from planes of values but for the packed second one. */
static uint64_t field_of(const struct zipfs_layout_info *info, uint8_t *const *planes, unsigned f, size_t i) {
    uint64_t x = 0;
    if (f > 1)
        return planes[f][i];
    for (unsigned bit = 0; bit < info->bits[f]; bit++)
        x |= (uint64_t)(planes[f][(i * info->bits[f] + bit) / 8] >> (i * info->bits[f] + bit) % 8 & 1) << bit;
    return x;
}

/* The loop that decodes and merges at once, against the text of section 4.1. */
static void check_joint(const struct zipfs_kernels *kernels, uint32_t layout, const uint8_t *plane, size_t size,
                        const uint8_t *codes, size_t n, bool upper) {
    static struct zipfs_rans_decoder decoder;
    const struct zipfs_layout_info *info = zipfs_layout_info(layout);
    const uint8_t *planes[MAX_WIDTH] = {NULL}, *later[MAX_WIDTH] = {NULL};
    uint8_t *rest[MAX_WIDTH] = {NULL}, *dst = guarded_at(&dst_memory, n * info->width, upper);
    size_t first = first_part(n);
    uint64_t state = n;
    for (unsigned f = 1; f < info->num_fields; f++) {
        size_t bits = n * info->bits[f], rest_size = (bits + 7) / 8;
        planes[f] = rest[f] = guarded_at(&rest_memory[f], rest_size, upper);
        later[f] = rest[f] + first * info->bits[f] / 8;
        for (size_t i = 0; i < rest_size; i++)
            rest[f][i] = (uint8_t)random_u64(&state);
        if (bits % 8)
            rest[f][rest_size - 1] &= (uint8_t)((1u << bits % 8) - 1);
    }
    open_plane(&decoder, kernels, plane, size, n, info->bits[0], zipfs_joint_shift(info) % 16, upper);
    CHECK(kernels->joint_merge[layout](&decoder, planes, dst, first));
    CHECK(first == n || kernels->joint_merge[layout](&decoder, later, dst + info->width * first, n - first));
    CHECK_EQUAL(zipfs_rans_finish(&decoder), ZIPFS_OK);
    for (size_t i = 0; i < n; i++) {
        uint64_t y = value_of(codes[i], info->bits[0]), x = 0;
        for (unsigned f = 1; f < info->num_fields; f++)
            y = y << info->bits[f] | field_of(info, rest, f, i);
        memcpy(&x, dst + i * info->width, info->width);
        CHECK(x == zipfs_layout_unrotate(info, y));
    }
}

/* ---- tests ---- */

static void check(const uint8_t *codes, size_t n, unsigned num_lanes, uint32_t joint) {
    static uint8_t planes[ZIPFS_MAX_KERNELS][PLANE], joint_planes[ZIPFS_MAX_KERNELS][PLANE];
    size_t size = 0, joint_size = 0;
    for (size_t k = 0; k < num_usable; k++) {
        size = encode(usable[k], codes, n, num_lanes, 8, planes[k]);
        joint_size = encode(usable[k], codes, n, num_lanes, zipfs_layout_info(joint)->bits[0], joint_planes[k]);
        CHECK(!memcmp(planes[k], planes[0], size));
        CHECK(!memcmp(joint_planes[k], joint_planes[0], joint_size));
    }
    for (size_t k = 0; k < num_usable; k++)
        for (int upper = 0; upper < 2; upper++) {
            check_values(usable[k], planes[0], size, codes, n, upper);
            if (usable[k]->joint_merge[joint])
                check_joint(usable[k], joint, joint_planes[0], joint_size, codes, n, upper);
        }
}

/* Tables that no writer chooses: every code costs a byte of one stream, so that the encoder uses all its room, and
 * escapes take most nibbles. */
static void check_full_streams(size_t n, unsigned num_lanes, bool escaped) {
    static uint8_t planes[ZIPFS_MAX_KERNELS][PLANE], codes[MAX_N];
    struct zipfs_rans_table table = {
        .num_symbols = 2, .has_escape = escaped, .freq = {1, 255}, .start = {0, 1}, .value = {7, escaped ? 0 : 8}};
    table.num_near = escaped ? n % (ZIPFS_RANS_MAX_NEAR + 1) : 0;
    for (unsigned i = 0; i < table.num_near; i++)
        table.near[i] = (uint16_t)(9 + i);
    memset(codes, escaped ? 8 + table.num_near : 7, n);
    for (size_t k = 0; k < num_usable; k++) {
        size_t size = encode_with(&table, usable[k], codes, n, num_lanes, 8, planes[k]);
        CHECK(!memcmp(planes[k], planes[0], size));
        check_values(usable[k], planes[0], size, codes, n, true);
    }
}

/* ---- numbers of escapes ---- */

/* Random nibbles, of which one in `rarity` is made a 15: all kernels find the same numbers, or an error, and find one
 * where there is room for one number fewer. */
static void check_numbers(size_t num_nibbles, unsigned rarity, uint64_t *state) {
    uint8_t *nibbles = guarded_at(&coded_memory, (num_nibbles + 1) / 2, true), expected[MAX_N + 64];
    for (size_t i = 0; i < (num_nibbles + 1) / 2; i++) {
        uint64_t x = random_u64(state);
        unsigned low = x % rarity ? x >> 8 & 15 : 15, high = (x >> 16) % rarity ? x >> 12 & 15 : 15;
        nibbles[i] = (uint8_t)(low | high << 4);
    }
    size_t num = zipfs_rans_numbers_scalar(nibbles, num_nibbles, expected, num_nibbles);
    for (size_t k = 0; k < num_usable; k++) {
        size_t most = num == SIZE_MAX ? num_nibbles : num;
        uint8_t *numbers = guarded_at(&plane_memory, most + 64, true);
        CHECK(usable[k]->rans_numbers(nibbles, num_nibbles, numbers, most) == num);
        if (num == SIZE_MAX || !num)
            continue;
        CHECK(!memcmp(numbers, expected, num));
        CHECK(usable[k]->rans_numbers(nibbles, num_nibbles, numbers, num - 1) == SIZE_MAX);
    }
}

int main(void) {
    const char *demand = getenv("ZIPFS_TEST_SEED");
    uint64_t state = demand ? strtoull(demand, NULL, 0) : 2026;
    static uint8_t codes[MAX_N];
    printf("seed %llu\n", (unsigned long long)state);
    num_usable = zipfs_kernels_usable(usable);
    guarded_make(&codes_memory, MAX_N);
    guarded_make(&coded_memory, MAX_N + ZIPFS_RANS_CODED_ROOM);
    guarded_make(&escaped_memory, MAX_N);
    guarded_make(&plane_memory, PLANE);
    guarded_make(&room_memory, 3 * (MAX_N + ZIPFS_RANS_MAX_LANES));
    guarded_make(&dst_memory, MAX_N * MAX_WIDTH);
    for (unsigned f = 1; f < MAX_WIDTH; f++)
        guarded_make(&rest_memory[f], MAX_N);
    for (size_t n = 2; n < MAX_N; n++)
        for (unsigned num_lanes = 64; num_lanes <= ZIPFS_RANS_MAX_LANES; num_lanes *= 2)
            for (unsigned style = 0; style < NUM_STYLES; style++) {
                fill(codes, n, style, &state);
                check(codes, n, num_lanes, ZIPFS_BF16_JOINT + (uint32_t)(n + style) % NUM_JOINT);
            }
    for (size_t n = 1; n < MAX_N; n++)
        for (unsigned choice = 0; choice < 6; choice++)
            check_full_streams(n, 64u << choice / 2, choice % 2);
    for (size_t n = 0; n < MAX_N; n++)
        for (unsigned rarity = 2; rarity <= 1024; rarity *= 4)
            check_numbers(n, rarity, &state);
    return 0;
}
