/* Broken payloads with right checksums through every kernel: no crash, no byte beyond a buffer, and all kernels of one
 * mind. The first byte of the input picks a good payload, or none; the rest edits it, four bytes an edit, or is the
 * payload itself. */
#include <string.h>

#include "check.h"
#include "codec.h"
#include "common.h"
#include "cpu.h"
#include "guarded.h"

enum {
    CHUNK_LOG2 = 16,
    PLAIN = 20000,
    NUMBER = 5, /* of the chunk */
    NUM_PLAIN_LAYOUTS = ZIPFS_BF16_JOINT,
    NUM_PAYLOADS = ZIPFS_NUM_LAYOUTS + 4, /* one of each layout, text, blocks, and short codes */
    BLOCKS_PAYLOAD = NUM_PAYLOADS - 2,
    SHORT_PAYLOAD = NUM_PAYLOADS - 1, /* of BF16 */
};

struct payload {
    size_t plain_size, size;
    uint8_t bytes[PLAIN];
};

static struct payload payloads[NUM_PAYLOADS];
static struct zipfs_codec *codec;
static const struct zipfs_kernels *usable[ZIPFS_MAX_KERNELS];
static size_t num_usable;
static struct guarded src_memory, dst_memory;

/* Bytes that are small and skewed, so that every layout finds planes for RANS. */
static void fill_skewed(uint8_t *plain, uint64_t *state) {
    for (size_t i = 0; i < PLAIN; i++)
        plain[i] = (uint8_t)__builtin_ctzll(random_u64(state) | 1 << 9) * 16;
}

/* Elements from byte 3 on with few exponents, all else noise, and one element in a hundred an outlier. */
static void fill_weights(uint8_t *plain, const struct zipfs_layout_info *info, unsigned num_exponents,
                         uint64_t *state) {
    unsigned below = 8u * info->width - info->exponent_bits;
    for (size_t i = 3; i + info->width <= PLAIN; i += info->width) {
        uint64_t y = random_u64(state), exponent = random_below(state, num_exponents) + 2;
        if (random_below(state, 100))
            y = exponent << below | (y & ((UINT64_C(1) << below) - 1));
        uint64_t x = zipfs_layout_unrotate(info, y & (UINT64_MAX >> (64 - 8 * info->width)));
        memcpy(plain + i, &x, info->width);
    }
}

static void fill_text(uint8_t *plain) {
    for (size_t i = 0; i < PLAIN; i++)
        plain[i] = (uint8_t) "\"model.layers.7.mlp.down_proj.weight\": {} "[(i * i >> 9) % 42];
}

static uint32_t block_format(const char *name) {
    uint32_t layout = ZIPFS_FIRST_BLOCK_FORMAT;
    while (strcmp(zipfs_block_format_name(layout), name))
        layout++;
    return layout;
}

/* Blocks of Q4_K from byte 3 on: scales of few values, others that are skewed and do not repeat. */
static void fill_blocks(uint8_t *plain, uint64_t *state) {
    for (size_t i = 0; i < PLAIN; i++)
        plain[i] = (uint8_t)((i + 144 - 3) % 144 < 4 ? i % 144 + random_below(state, 3)
                                                     : random_u64(state) & random_u64(state));
}

static bool has_run_of(const struct payload *payload, uint32_t layout) {
    struct zipfs_run runs[ZIPFS_MAX_RUNS];
    size_t num_runs;
    CHECK_EQUAL(zipfs_chunk_runs(payload->bytes, payload->size, payload->plain_size, runs, &num_runs), ZIPFS_OK);
    while (num_runs > 0 && runs[num_runs - 1].layout != layout)
        num_runs--;
    return num_runs > 0;
}

/* Of the first plane of the last run. */
static unsigned last_coding(const struct payload *payload) {
    struct zipfs_run runs[ZIPFS_MAX_RUNS];
    size_t num_runs;
    CHECK_EQUAL(zipfs_chunk_runs(payload->bytes, payload->size, payload->plain_size, runs, &num_runs), ZIPFS_OK);
    const struct zipfs_run *run = &runs[num_runs - 1];
    size_t tail = (run->plain_size - run->phase) % zipfs_layout_info(run->layout)->width;
    return payload->bytes[payload->size - run->stored_size + run->phase + tail];
}

/* The dtype of a joint layout; of others, themselves. */
static uint32_t dtype_of(uint32_t layout) {
    for (uint32_t plain = 0; plain < NUM_PLAIN_LAYOUTS; plain++)
        if (layout >= NUM_PLAIN_LAYOUTS && zipfs_layout_info(plain)->joint == layout)
            return plain;
    return layout % NUM_PLAIN_LAYOUTS;
}

/* A payload of elements of the layout, with joint runs where it is a joint one; of text for numbers beyond. Every fourth
 * has copies. */
static void make_payload(struct payload *payload, uint32_t layout, uint64_t *state) {
    static uint8_t plain[PLAIN];
    bool is_joint = layout >= NUM_PLAIN_LAYOUTS && layout < ZIPFS_NUM_LAYOUTS;
    payload->plain_size = layout < ZIPFS_NUM_LAYOUTS ? PLAIN : PLAIN / 2;
    fill_skewed(plain, state);
    /* A joint layout wants few exponents, but too many for bytes with a symbol each. */
    if (is_joint)
        fill_weights(plain, zipfs_layout_info(dtype_of(layout)),
                     zipfs_layout_info(layout)->exponent_bits == 4 ? 10 : 14, state);
    if (layout >= ZIPFS_NUM_LAYOUTS)
        fill_text(plain);
    if (layout == BLOCKS_PAYLOAD)
        fill_blocks(plain, state);
    if (layout == SHORT_PAYLOAD)
        fill_weights(plain, zipfs_layout_info(ZIPFS_BF16), 7, state);
    uint64_t start = ((uint64_t)NUMBER << CHUNK_LOG2) + 3;
    struct zipfs_segment segments[] = {{start, PLAIN / 2, dtype_of(layout)},
                                       {start + PLAIN / 2, PLAIN, dtype_of(is_joint ? layout : layout + 1)}};
    if (layout == BLOCKS_PAYLOAD)
        segments[0].layout = segments[1].layout = block_format("Q4_K");
    if (layout == SHORT_PAYLOAD)
        segments[0].layout = segments[1].layout = ZIPFS_BF16;
    struct zipfs_copies copies = {layout % 4 == 3 ? 2 : 0, {{100, 999, 1}, {1099, 1, 70000}}};
    struct zipfs_entry entry;
    /* The fast level does not think of zstd for floats. */
    enum zipfs_level level = is_joint || layout == SHORT_PAYLOAD ? ZIPFS_LEVEL_FAST : ZIPFS_LEVEL_DEFAULT;
    CHECK_EQUAL(zipfs_encode_chunk_copies(codec, level, NUMBER, plain, payload->plain_size, segments, 2, &copies,
                                          payload->bytes, PLAIN, &entry),
                ZIPFS_OK);
    CHECK_EQUAL(entry.kind, ZIPFS_KIND_RUNS);
    payload->size = entry.stored_size;
    CHECK(!is_joint || has_run_of(payload, layout));
    CHECK(layout != SHORT_PAYLOAD || last_coding(payload) == ZIPFS_SHORT);
    CHECK(layout != BLOCKS_PAYLOAD || has_run_of(payload, ZIPFS_BLOCKS));
}

static void start(void) {
    uint64_t state = 99;
    num_usable = zipfs_kernels_usable(usable);
    CHECK_EQUAL(zipfs_codec_create(CHUNK_LOG2, &codec), ZIPFS_OK);
    guarded_make(&src_memory, 1 << CHUNK_LOG2);
    guarded_make(&dst_memory, 1 << CHUNK_LOG2);
    for (uint32_t i = 0; i < NUM_PAYLOADS; i++)
        make_payload(&payloads[i], i, &state);
}

/* An edit: a place, counted from the start or from the end of the payload, and one or two bytes to write there. */
static void edit(uint8_t *src, size_t size, const uint8_t *bytes) {
    size_t place = zipfs_load16(bytes) & 0x3fff;
    size_t reach = bytes[1] & 0x20 ? size : zipfs_min(size, 400);
    place = bytes[1] & 0x40 ? size - 1 - place % reach : place % reach;
    src[place] = bytes[2];
    if (bytes[1] & 0x80 && place + 1 < size)
        src[place + 1] = bytes[3];
}

static void check_copies(const struct zipfs_copies *copies, size_t plain_size) {
    size_t end = 0;
    CHECK(copies->num <= ZIPFS_MAX_COPIES);
    for (size_t i = 0; i < copies->num; i++) {
        CHECK(copies->list[i].at >= end && copies->list[i].size >= 1);
        end = (size_t)copies->list[i].at + copies->list[i].size;
    }
    CHECK(end <= plain_size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!codec)
        start();
    if (size < 2)
        return 0;
    const struct payload *payload = &payloads[data[0] % NUM_PAYLOADS];
    bool whole = data[0] >= 250;
    size_t src_size = whole ? size - 1 : payload->size, plain_size = whole ? 1000u + data[1] : payload->plain_size;
    uint8_t *src = guarded_at(&src_memory, src_size, true), *dst = guarded_at(&dst_memory, plain_size, true);
    memcpy(src, whole ? data + 1 : payload->bytes, src_size);
    for (size_t i = 1; !whole && i + 4 <= size; i += 4)
        edit(src, src_size, data + i);
    struct zipfs_entry entry = {(uint32_t)src_size, ZIPFS_KIND_RUNS, zipfs_hash(src, src_size, NUMBER), 0};
    enum zipfs_status first = ZIPFS_OK;
    uint64_t hash = 0;
    for (size_t k = 0; k < num_usable; k++) {
        codec->kernels = usable[k];
        struct zipfs_copies copies;
        enum zipfs_status status = zipfs_decode_chunk_copies(codec, NUMBER, &entry, src, dst, plain_size, &copies);
        check_copies(&copies, plain_size);
        if (copies.num)
            CHECK(zipfs_decode_chunk(codec, NUMBER, &entry, src, dst, plain_size) != ZIPFS_OK);
        uint64_t plain_hash = status ? 0 : zipfs_hash(dst, plain_size, 0);
        CHECK(k == 0 || (status == first && plain_hash == hash));
        first = status;
        hash = plain_hash;
    }
    return 0;
}
