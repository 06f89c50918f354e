/* Hand-built chunk payloads: the worked example of docs/format.md section 5.1, and one broken stream per rule of
 * sections 4 and 5, each with a right checksum, each told by its name on every kernel. */
#include <string.h>

#include "check.h"
#include "codec.h"
#include "common.h"
#include "cpu.h"
#include "guarded.h"

enum { CHUNK_LOG2 = 16, PLAIN = 264, EXAMPLE = 303, PAYLOAD = 16 + EXAMPLE };

static struct zipfs_codec *codec;
static const struct zipfs_kernels *usable[ZIPFS_MAX_KERNELS];
static size_t num_usable;
static struct guarded payload_memory, dst_memory;

/* Decodes a payload of kind runs on one kernel; the payload ends where memory ends. */
static enum zipfs_status decode_on(size_t kernel, const uint8_t *payload, size_t size, size_t plain_size,
                                   uint8_t **dst_ret) {
    uint8_t *src = guarded_at(&payload_memory, size, true);
    *dst_ret = guarded_at(&dst_memory, plain_size, true);
    memcpy(src, payload, size);
    memset(*dst_ret, 0xa5, plain_size);
    codec->kernels = usable[kernel];
    struct zipfs_entry entry = {(uint32_t)size, ZIPFS_KIND_RUNS, zipfs_hash(src, size, 7), 0};
    return zipfs_decode_chunk(codec, 7, &entry, src, *dst_ret, plain_size);
}

static void expect(const uint8_t *payload, size_t size, size_t plain_size, enum zipfs_status expected, int line) {
    for (size_t k = 0; k < num_usable; k++) {
        uint8_t *dst;
        enum zipfs_status status = decode_on(k, payload, size, plain_size, &dst);
        if (status != expected) {
            fprintf(stderr, "line %d on %s: %s, expected %s\n", line, usable[k]->name, zipfs_status_name(status),
                    zipfs_status_name(expected));
            exit(1);
        }
    }
}

#define EXPECT(payload, size, plain_size, status) expect(payload, size, plain_size, status, __LINE__)

/* ---- the example: 131 elements BF16, a near and a far escape, phase 1, a tail of one byte ---- */

enum { /* offsets in the payload */
       RUN = 4,
       HEAD = 16,
       PLANES = 18,
       RANS = 34,
       FREQ = RANS + 16,
       VALUE = FREQ + 3,
       NEAR = VALUE + 3,
       STATES = NEAR + 1,
       CODED = STATES + 256,
       ESCAPES = CODED + 3,
       FAR = ESCAPES + 1,
       LAST = FAR + 1,
};

static void make_example(uint8_t payload[PAYLOAD], uint8_t plain[PLAIN]) {
    static const uint8_t begin[] = {
        1, 0, 0, 0, 1, 1, 0, 0, 8, 1, 0, 0, 0x2f, 1, 0, 0,          /* one run: BF16, phase 1, 264 bytes in 303 */
        0xaa, 0xbb, 2, 0, 0, 0, 0x1c, 1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, /* head, tail, plane records */
        3, 1, 2, 1, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0xfe, 1, 1, 0x7f, 0x80, 0, 0x70, 0xfe, 1, 3, 2, 3, 2,
    };
    static const uint8_t end[] = {2, 0, 0, 0x10, 0x60, 0x80};
    memcpy(payload, begin, sizeof begin);
    for (size_t i = 0; i < 125; i++)
        zipfs_store16(payload + sizeof begin + 2 * i, 260);
    memcpy(payload + PAYLOAD - sizeof end, end, sizeof end);
    plain[0] = 0xaa;
    for (size_t i = 0; i < 131; i++)
        zipfs_store16(plain + 1 + 2 * i, i == 0 ? 0xc000 : i == 129 ? 0xb800 : i == 130 ? 0xb000 : 0xbf80);
    plain[PLAIN - 1] = 0xbb;
}

/* The example and a run of 1000 zeros, without which the payload would be larger than its chunk. */
enum { SIZE = PAYLOAD + 12 + 9, TOTAL = PLAIN + 1000, SHIFT = 12 /* of all behind the run table */ };

static void make_base(uint8_t base[SIZE], uint8_t plain[TOTAL]) {
    static const uint8_t record[] = {0, 0, 0, 0, 0xe8, 3, 0, 0, 9, 0, 0, 0}, zeros[] = {1, 0, 0, 0, 1, 0, 0, 0, 0};
    uint8_t payload[PAYLOAD];
    memset(plain, 0, TOTAL);
    make_example(payload, plain);
    memcpy(base, payload, HEAD);
    base[0] = 2;
    memcpy(base + HEAD, record, SHIFT);
    memcpy(base + HEAD + SHIFT, payload + HEAD, EXAMPLE);
    memcpy(base + HEAD + SHIFT + EXAMPLE, zeros, sizeof zeros);
}

static void test_example(void) {
    uint8_t base[SIZE], plain[TOTAL], *dst;
    make_base(base, plain);
    for (size_t k = 0; k < num_usable; k++) {
        CHECK_EQUAL(decode_on(k, base, SIZE, TOTAL, &dst), ZIPFS_OK);
        CHECK(!memcmp(dst, plain, TOTAL));
    }
}

/* ---- broken ones: one change each ---- */

static void test_one_byte(void) {
    static const struct {
        size_t offset;
        uint8_t value;
        enum zipfs_status status;
    } cases[] = {
        {0, 0, ZIPFS_BAD_RUNS},
        {0, 65, ZIPFS_BAD_RUNS},
        {0, 1, ZIPFS_BAD_RUNS},
        {1, 1, ZIPFS_RESERVED_NOT_ZERO},
        {RUN, 10, ZIPFS_BAD_PLANE}, /* joint: values of two bytes */
        {RUN, 15, ZIPFS_UNKNOWN_LAYOUT},
        {RUN, 239, ZIPFS_UNKNOWN_LAYOUT},
        {RUN, 240, ZIPFS_UNKNOWN_FEATURE},
        {RUN, 241, ZIPFS_UNKNOWN_FEATURE},
        {RUN + 1, 2, ZIPFS_BAD_RUNS},
        {RUN + 1, 0, ZIPFS_BAD_RUNS},
        {RUN + 2, 1, ZIPFS_RESERVED_NOT_ZERO},
        {RUN + 3, 128, ZIPFS_RESERVED_NOT_ZERO},
        {RUN + 4, 9, ZIPFS_BAD_RUNS},
        {RUN + 7, 255, ZIPFS_BAD_RUNS},
        {RUN + 8, 0x30, ZIPFS_BAD_RUNS},
        {RUN + 11, 255, ZIPFS_BAD_RUNS},
        {PLANES + SHIFT, 4, ZIPFS_BAD_PLANE},
        {PLANES + SHIFT, 5, ZIPFS_UNKNOWN_CODING},
        {PLANES + SHIFT, 255, ZIPFS_UNKNOWN_CODING},
        {PLANES + SHIFT, 0, ZIPFS_BAD_PLANE},
        {PLANES + SHIFT, 1, ZIPFS_BAD_PLANE},
        {PLANES + SHIFT, 3, ZIPFS_BAD_ZSTD},
        {PLANES + SHIFT + 1, 1, ZIPFS_RESERVED_NOT_ZERO},
        {PLANES + SHIFT + 4, 0x1d, ZIPFS_BAD_RUNS},
        {PLANES + SHIFT + 7, 0xff, ZIPFS_BAD_RUNS},
        {PLANES + SHIFT + 8, 2, ZIPFS_BAD_PLANE},
        {RANS + SHIFT, 1, ZIPFS_BAD_RANS},
        {RANS + SHIFT, 0, ZIPFS_BAD_RANS},
        {RANS + SHIFT, 65, ZIPFS_BAD_RANS},
        {RANS + SHIFT, 4, ZIPFS_BAD_PLANE},
        {RANS + SHIFT + 1, 2, ZIPFS_BAD_RANS},
        {RANS + SHIFT + 1, 0, ZIPFS_BAD_RANS},
        {RANS + SHIFT + 2, 0, ZIPFS_BAD_RANS},
        {RANS + SHIFT + 2, 3, ZIPFS_BAD_RANS},
        {RANS + SHIFT + 2, 128, ZIPFS_BAD_RANS},
        {RANS + SHIFT + 2, 1, ZIPFS_BAD_PLANE},
        {RANS + SHIFT + 2, 4, ZIPFS_BAD_PLANE},
        {RANS + SHIFT + 3, 0, ZIPFS_BAD_RANS}, /* no nibbles then */
        {RANS + SHIFT + 3, 2, ZIPFS_BAD_PLANE},
        {RANS + SHIFT + 3, 61, ZIPFS_BAD_RANS},
        {RANS + SHIFT + 4, 4, ZIPFS_BAD_PLANE},
        {RANS + SHIFT + 7, 255, ZIPFS_BAD_PLANE},
        {RANS + SHIFT + 8, 0, ZIPFS_BAD_RANS}, /* fewer than far values */
        {RANS + SHIFT + 8, 3, ZIPFS_BAD_PLANE},
        {RANS + SHIFT + 9, 2, ZIPFS_BAD_PLANE},
        {RANS + SHIFT + 9, 3, ZIPFS_BAD_RANS}, /* more than 5 for each element */
        {RANS + SHIFT + 11, 255, ZIPFS_BAD_RANS},
        {RANS + SHIFT + 12, 0, ZIPFS_BAD_PLANE},
        {RANS + SHIFT + 12, 2, ZIPFS_BAD_PLANE},
        {RANS + SHIFT + 12, 3, ZIPFS_BAD_RANS},
        {RANS + SHIFT + 15, 255, ZIPFS_BAD_RANS},
        {FREQ + SHIFT, 0xff, ZIPFS_BAD_RANS},
        {FREQ + SHIFT, 0xfd, ZIPFS_BAD_RANS},
        {FREQ + SHIFT + 1, 0, ZIPFS_BAD_RANS},
        {VALUE + SHIFT + 2, 1, ZIPFS_BAD_RANS},
        {STATES + SHIFT + 1, 0, ZIPFS_BAD_RANS},
        {STATES + SHIFT, 0xfd, ZIPFS_BAD_RANS},
        {STATES + SHIFT + 1, 2, ZIPFS_BAD_RANS},
        {STATES + SHIFT + 255, 3, ZIPFS_BAD_RANS},
        {CODED + SHIFT, 3, ZIPFS_BAD_RANS},
        {CODED + SHIFT + 2, 1, ZIPFS_BAD_RANS},
        {ESCAPES + SHIFT, 0x20, ZIPFS_BAD_RANS}, /* the second of one near value */
        {ESCAPES + SHIFT, 0xe0, ZIPFS_BAD_RANS},
        {ESCAPES + SHIFT, 0xf0, ZIPFS_BAD_RANS}, /* within a number */
        {ESCAPES + SHIFT, 0x1f, ZIPFS_BAD_RANS}, /* the number 16 */
        {ESCAPES + SHIFT, 0x00, ZIPFS_BAD_RANS}, /* a far value is left */
        {ESCAPES + SHIFT, 0x11, ZIPFS_BAD_RANS}, /* one is missing */
        {ESCAPES + SHIFT, 0x01, ZIPFS_OK},       /* the other way round */
        {VALUE + SHIFT, 0x11, ZIPFS_OK},
        {NEAR + SHIFT, 0x11, ZIPFS_OK},
        {FAR + SHIFT, 0x11, ZIPFS_OK},
        {HEAD + SHIFT, 0, ZIPFS_OK},
    };
    uint8_t base[SIZE], payload[SIZE], plain[TOTAL];
    make_base(base, plain);
    EXPECT(base, SIZE, TOTAL, ZIPFS_OK);
    EXPECT(base, SIZE, TOTAL + 1, ZIPFS_BAD_RUNS);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        memcpy(payload, base, SIZE);
        payload[cases[i].offset] = cases[i].value;
        for (size_t k = 0; k < num_usable; k++) {
            uint8_t *dst;
            enum zipfs_status status = decode_on(k, payload, SIZE, TOTAL, &dst);
            if (status != cases[i].status) {
                fprintf(stderr, "byte %zu = %u on %s: %s, expected %s\n", cases[i].offset, cases[i].value,
                        usable[k]->name, zipfs_status_name(status), zipfs_status_name(cases[i].status));
                exit(1);
            }
        }
    }
}

/* Every length of payload and every bit flipped: an error or a decoded chunk, never beyond the guard pages. */
static void test_cut_and_flipped(void) {
    uint8_t base[SIZE], payload[SIZE], plain[TOTAL], *dst;
    make_base(base, plain);
    for (size_t size = 1; size < SIZE; size++)
        EXPECT(base, size, TOTAL, ZIPFS_BAD_RUNS);
    for (size_t bit = 0; bit < 8 * SIZE; bit++) {
        enum zipfs_status status[ZIPFS_MAX_KERNELS];
        memcpy(payload, base, SIZE);
        payload[bit / 8] ^= (uint8_t)(1 << bit % 8);
        for (size_t k = 0; k < num_usable; k++)
            status[k] = decode_on(k, payload, SIZE, TOTAL, &dst);
        for (size_t k = 1; k < num_usable; k++)
            CHECK_EQUAL(status[k], status[0]);
    }
}

/* ---- single planes: one run of n elements and one plane of each coding under test ---- */

struct builder {
    uint8_t bytes[4096];
    size_t size;
};

static void put(struct builder *b, const void *bytes, size_t size) {
    memcpy(b->bytes + b->size, bytes, size);
    b->size += size;
}

/* Begins a run of F16 with n elements whose plane 1 (3 bits) has this coding and data; planes 0 and 2 are CONST 0. */
static void make_f16(struct builder *b, size_t n, uint8_t coding, const void *data, uint32_t data_size) {
    uint8_t head[16] = {1, 0, 0, 0, ZIPFS_F16};
    uint8_t records[24] = {ZIPFS_CONST, 0, 0, 0, 1, 0, 0, 0, coding, 0, 0, 0, 0, 0, 0, 0, ZIPFS_CONST, 0, 0, 0, 1};
    zipfs_store32(head + 8, (uint32_t)(2 * n));
    zipfs_store32(head + 12, 24 + 2 + data_size);
    zipfs_store32(records + 12, data_size);
    b->size = 0;
    put(b, head, 16);
    put(b, records, 24);
    put(b, "", 1);
    put(b, data, data_size);
    put(b, "", 1);
}

static void test_planes(void) {
    struct builder b;
    uint8_t raw[100] = {0};
    make_f16(&b, 101, ZIPFS_RAW, raw, 38); /* 303 bits */
    EXPECT(b.bytes, b.size, 202, ZIPFS_OK);
    raw[37] = 0x80; /* the one bit that is not in use */
    make_f16(&b, 101, ZIPFS_RAW, raw, 38);
    EXPECT(b.bytes, b.size, 202, ZIPFS_RESERVED_NOT_ZERO);
    make_f16(&b, 101, ZIPFS_RAW, raw, 37);
    EXPECT(b.bytes, b.size, 202, ZIPFS_BAD_PLANE);
    make_f16(&b, 101, ZIPFS_CONST, "\x07", 1);
    EXPECT(b.bytes, b.size, 202, ZIPFS_OK);
    make_f16(&b, 101, ZIPFS_CONST, "\x08", 1); /* four bits */
    EXPECT(b.bytes, b.size, 202, ZIPFS_BAD_PLANE);
    make_f16(&b, 101, ZIPFS_CONST, "\x07\x07", 2);
    EXPECT(b.bytes, b.size, 202, ZIPFS_BAD_PLANE);
    make_f16(&b, 101, ZIPFS_ZSTD, raw, 30); /* not for fields of 3 bits */
    EXPECT(b.bytes, b.size, 202, ZIPFS_BAD_ZSTD);
    make_f16(&b, 101, ZIPFS_RANS, raw, 15); /* shorter than its header */
    EXPECT(b.bytes, b.size, 202, ZIPFS_BAD_PLANE);
}

/* An encoder of its own, from the text of section 5, element by element: symbols of values below 8 that occur in
 * `values`, all others behind an escape, near values first. */
struct rans_model {
    uint8_t num_symbols, num_near, freq[4], value[4], near[3]; /* the last symbol is the escape */
};

static unsigned index_of(const uint8_t *values, unsigned count, uint8_t value) {
    unsigned i = 0;
    while (i < count && values[i] != value)
        i++;
    return i;
}

static void put_number(uint8_t *nibbles, size_t *num_nibbles, unsigned number) {
    for (; number >= 15; number -= 15, ++*num_nibbles)
        nibbles[*num_nibbles / 2] |= (uint8_t)(15 << *num_nibbles % 2 * 4);
    nibbles[*num_nibbles / 2] |= (uint8_t)(number << *num_nibbles % 2 * 4);
    ++*num_nibbles;
}

/* Encodes num_coded values, a multiple of num_lanes, of which the escapes of the first n get a number. */
static uint32_t make_rans(const struct rans_model *model, unsigned num_lanes, const uint8_t *values, size_t num_coded,
                          size_t n, uint8_t *plane) {
    uint8_t coded[1280], nibbles[512] = {0}, far[1024];
    uint16_t state[256];
    unsigned k = model->num_symbols, escape = k - 1u;
    size_t num_nibbles = 0, num_far = 0, at = sizeof coded;
    for (unsigned lane = 0; lane < num_lanes; lane++)
        state[lane] = 256;
    for (size_t i = num_coded; i-- > 0;) {
        unsigned s = index_of(model->value, escape, values[i]), start = 0, x = state[i % num_lanes];
        for (unsigned before = 0; before < s; before++)
            start += model->freq[before];
        if (x >= 256u * model->freq[s]) {
            coded[--at] = (uint8_t)x;
            x >>= 8;
        }
        state[i % num_lanes] = (uint16_t)(256 * (x / model->freq[s]) + x % model->freq[s] + start);
    }
    for (size_t i = 0; i < n; i++) {
        if (index_of(model->value, escape, values[i]) < escape)
            continue;
        unsigned near = index_of(model->near, model->num_near, values[i]);
        if (near == model->num_near)
            far[num_far++] = values[i];
        if (model->num_near > 0)
            put_number(nibbles, &num_nibbles, near);
    }
    struct builder b = {.size = 16};
    b.bytes[0] = (uint8_t)k;
    b.bytes[1] = 1;
    b.bytes[2] = (uint8_t)(num_lanes / 64);
    b.bytes[3] = model->num_near;
    zipfs_store32(b.bytes + 4, (uint32_t)(sizeof coded - at));
    zipfs_store32(b.bytes + 8, (uint32_t)num_nibbles);
    zipfs_store32(b.bytes + 12, (uint32_t)num_far);
    put(&b, model->freq, k);
    put(&b, model->value, k);
    put(&b, model->near, model->num_near);
    put(&b, state, 2 * num_lanes);
    put(&b, coded + at, sizeof coded - at);
    put(&b, nibbles, (num_nibbles + 1) / 2);
    put(&b, far, num_far);
    memcpy(plane, b.bytes, b.size);
    return (uint32_t)b.size;
}

static void check_f16(const uint8_t *plane, uint32_t size, const uint8_t *values, size_t n) {
    struct builder b;
    uint8_t *dst;
    make_f16(&b, n, ZIPFS_RANS, plane, size);
    for (size_t k = 0; k < num_usable; k++) {
        CHECK_EQUAL(decode_on(k, b.bytes, b.size, 2 * n, &dst), ZIPFS_OK);
        for (size_t i = 0; i < n; i++)
            CHECK_EQUAL(zipfs_load16(dst + 2 * i), (values[i] & 4) << 13 | (values[i] & 3) << 8);
    }
}

/* A plane of 3 bits with one change: bytes at the offset, fields of the header added to. */
struct change {
    size_t offset;
    int value; /* -1: the byte stays */
    int coded, nibbles, far, size;
};

static void expect_changed(const uint8_t *plane, uint32_t size, size_t n, struct change change, int line) {
    struct builder b;
    uint8_t broken[2048] = {0};
    memcpy(broken, plane, size);
    if (change.value >= 0)
        broken[change.offset] = (uint8_t)change.value;
    zipfs_store32(broken + 4, zipfs_load32(broken + 4) + (uint32_t)change.coded);
    zipfs_store32(broken + 8, zipfs_load32(broken + 8) + (uint32_t)change.nibbles);
    zipfs_store32(broken + 12, zipfs_load32(broken + 12) + (uint32_t)change.far);
    make_f16(&b, n, ZIPFS_RANS, broken, size + (uint32_t)change.size);
    expect(b.bytes, b.size, 2 * n, ZIPFS_BAD_RANS, line);
}

#define EXPECT_CHANGED(...) expect_changed(plane, size, 1000, (struct change){__VA_ARGS__}, __LINE__)

/* 1000 values of 3 bits, and what fills the last group: symbols 1 and 2, a near 5, a far 6. */
static void test_rans_plane(unsigned num_lanes) {
    static const struct rans_model model = {3, 1, {128, 64, 64}, {1, 2, 0}, {5}};
    uint8_t plane[2048], values[1024];
    uint64_t state = 7;
    for (size_t i = 0; i < 1024; i++)
        values[i] = i < 1000 ? (uint8_t)"\1\1\2\5\6"[random_below(&state, 5)] : 1;
    uint32_t size = make_rans(&model, num_lanes, values, (1000 + num_lanes - 1) / num_lanes * num_lanes, 1000, plane);
    uint32_t coded_size = zipfs_load32(plane + 4), num_far = zipfs_load32(plane + 12);
    size_t near = 16 + 6, coded = near + 1 + 2 * num_lanes, nibbles = coded + coded_size, far = size - num_far;
    CHECK(coded_size > 0 && zipfs_load32(plane + 8) % 2 == 0);
    check_f16(plane, size, values, 1000);
    EXPECT_CHANGED(.offset = 16 + 3, .value = 8);   /* a symbol of four bits */
    EXPECT_CHANGED(.offset = near, .value = 8);     /* a near value of four bits */
    EXPECT_CHANGED(.offset = far, .value = 8);      /* a far value of four bits */
    EXPECT_CHANGED(.offset = size - 1, .value = 8); /* the last of them */
    EXPECT_CHANGED(.offset = size, .value = 5, .far = 1, .size = 1); /* a far value that nobody takes */
    EXPECT_CHANGED(.value = -1, .far = -1, .size = -1);              /* one is missing */
    EXPECT_CHANGED(.offset = nibbles, .value = 0x02);                /* the number of no near value */
    EXPECT_CHANGED(.offset = far, .value = 0, .nibbles = 2, .far = -1); /* a far value becomes two near ones */
    /* The first two nibbles become a coded byte that nobody takes, and the last coded byte two nibbles. */
    EXPECT_CHANGED(.value = -1, .coded = 1, .nibbles = -2);
    EXPECT_CHANGED(.offset = nibbles - 1, .value = 0, .coded = -1, .nibbles = 2);
}

/* Beyond the last element lanes go on and take coded bytes, but an escape there takes no number. */
static void test_escapes_beyond_the_end(unsigned num_lanes) {
    static const struct rans_model model = {2, 0, {128, 128}, {1, 0}, {0}};
    uint8_t plane[2048], values[1024];
    size_t n = 1024 - num_lanes + 7;
    for (size_t i = 0; i < 1024; i++)
        values[i] = i % 3 ? 1 : 6;
    uint32_t size = make_rans(&model, num_lanes, values, 1024, n, plane);
    check_f16(plane, size, values, n);
    size = make_rans(&model, num_lanes, values, 1024, n + 3, plane); /* one escape more */
    struct builder b;
    make_f16(&b, n, ZIPFS_RANS, plane, size);
    EXPECT(b.bytes, b.size, 2 * n, ZIPFS_BAD_RANS);
}

/* A plane of 60000 bytes whose stream ends early, and with it the payload: nothing is read behind it. */
static void test_streams_that_run_dry(void) {
    enum { N = 60000, FIXED = 16 + 4 + 256 };
    for (unsigned of_escapes = 0; of_escapes < 2; of_escapes++)
        for (uint32_t left = 0; left < 300; left += 37) {
            struct builder b = {.size = 0};
            uint8_t head[24] = {1, 0, 0, 0, ZIPFS_BYTES}, rans[20] = {2, 1, 2, 0}, state[2] = {0, 1};
            zipfs_store32(head + 8, N);
            zipfs_store32(head + 12, 8 + FIXED + left);
            head[16] = ZIPFS_RANS;
            zipfs_store32(head + 20, FIXED + left);
            zipfs_store32(rans + (of_escapes ? 12 : 4), left); /* far values, without near ones */
            memcpy(rans + 16, of_escapes ? "\1\377" : "\377\1",
                   2); /* nearly all slots are the escape, or nearly none */
            memcpy(rans + 18, "\5\0", 2);
            if (of_escapes)
                state[0] = 1; /* stays at the escape: 255 * 1 + 1 - 1 = 255 takes a byte, of which there are none */
            put(&b, head, 24);
            put(&b, rans, 20);
            for (unsigned lane = 0; lane < 128; lane++)
                put(&b, state, 2);
            for (uint32_t i = 0; i < left; i++)
                put(&b, "", 1);
            EXPECT(b.bytes, b.size, N, ZIPFS_BAD_RANS);
        }
}

static void test_entry(void) {
    uint8_t bytes[200] = {0}, dst[200];
    struct zipfs_entry entry = {200, ZIPFS_KIND_STORED, zipfs_hash(bytes, 200, 3), 0};
    CHECK_EQUAL(zipfs_decode_chunk(codec, 3, &entry, bytes, dst, 200), ZIPFS_OK);
    CHECK_EQUAL(zipfs_decode_chunk(codec, 4, &entry, bytes, dst, 200), ZIPFS_CHUNK_CHECKSUM);
    CHECK_EQUAL(zipfs_decode_chunk(codec, 3, &entry, bytes, dst, 199), ZIPFS_BAD_PAGE);
    CHECK_EQUAL(zipfs_decode_chunk(codec, 3, &entry, bytes, dst, 0), ZIPFS_BAD_ARGUMENT);
    CHECK_EQUAL(zipfs_decode_chunk(codec, 3, &entry, bytes, dst, (1 << CHUNK_LOG2) + 1), ZIPFS_BAD_ARGUMENT);
    entry.kind = 2;
    CHECK_EQUAL(zipfs_decode_chunk(codec, 3, &entry, bytes, dst, 200), ZIPFS_BAD_PAGE);
}

static void test_names(void) {
    for (unsigned i = 0; i < ZIPFS_NUM_STATUS; i++)
        CHECK(strcmp(zipfs_status_name((enum zipfs_status)i), "UNKNOWN_STATUS"));
    CHECK(!strcmp(zipfs_status_name(ZIPFS_BAD_RANS), "BAD_RANS"));
    CHECK(!strcmp(zipfs_status_name(ZIPFS_NUM_STATUS), "UNKNOWN_STATUS"));
}

int main(void) {
    num_usable = zipfs_kernels_usable(usable);
    CHECK_EQUAL(zipfs_codec_create(CHUNK_LOG2, &codec), ZIPFS_OK);
    guarded_make(&payload_memory, 1 << CHUNK_LOG2);
    guarded_make(&dst_memory, 1 << CHUNK_LOG2);
    test_names();
    test_entry();
    test_example();
    test_one_byte();
    test_cut_and_flipped();
    test_planes();
    for (unsigned num_lanes = 64; num_lanes <= 256; num_lanes *= 2) {
        test_rans_plane(num_lanes);
        test_escapes_beyond_the_end(num_lanes);
    }
    test_streams_that_run_dry();
    guarded_free(&payload_memory);
    guarded_free(&dst_memory);
    zipfs_codec_free(codec);
    return 0;
}
