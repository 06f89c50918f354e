/* Broken payloads with right checksums through every kernel: no crash, no byte beyond a buffer, and all kernels of one
 * mind. The first byte of the input picks a good payload, or none; the rest edits it, four bytes an edit, or is the
 * payload itself. */
#include <string.h>

#include "check.h"
#include "codec.h"
#include "common.h"
#include "cpu.h"
#include "guarded.h"

enum { CHUNK_LOG2 = 16, NUM_PAYLOADS = 12, PLAIN = 20000 };

struct payload {
    size_t plain_size, size;
    uint8_t bytes[PLAIN];
};

static struct payload payloads[NUM_PAYLOADS];
static struct zipfs_codec *codec;
static const struct zipfs_kernels *usable[ZIPFS_MAX_KERNELS];
static size_t num_usable;
static struct guarded src_memory, dst_memory;

/* Bytes that are small and skewed, so that every layout finds planes for RANS, and text, for ZSTD. Every fourth has
 * copies. */
static void make_payload(struct payload *payload, uint32_t layout, uint64_t *state) {
    static uint8_t plain[PLAIN];
    payload->plain_size = layout < ZIPFS_NUM_LAYOUTS ? PLAIN : PLAIN / 2;
    for (size_t i = 0; i < payload->plain_size; i++)
        plain[i] = (uint8_t)__builtin_ctzll(random_u64(state) | 1 << 9) * 16;
    if (layout >= ZIPFS_NUM_LAYOUTS)
        for (size_t i = 0; i < payload->plain_size; i++)
            plain[i] = (uint8_t) "\"model.layers.7.mlp.down_proj.weight\": {} "[(i * i >> 9) % 42];
    struct zipfs_segment segments[] = {{3, PLAIN / 2, layout % ZIPFS_NUM_LAYOUTS},
                                       {3 + PLAIN / 2, PLAIN, (layout + 1) % ZIPFS_NUM_LAYOUTS}};
    struct zipfs_copies copies = {layout % 4 == 3 ? 2 : 0, {{100, 999, 1}, {1099, 1, 70000}}};
    struct zipfs_entry entry;
    CHECK_EQUAL(zipfs_encode_chunk_copies(codec, ZIPFS_LEVEL_DEFAULT, 5, plain, payload->plain_size, segments, 2,
                                          &copies, payload->bytes, PLAIN, &entry),
                ZIPFS_OK);
    CHECK_EQUAL(entry.kind, ZIPFS_KIND_RUNS);
    payload->size = entry.stored_size;
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
    place = bytes[1] & 0x40 ? size - 1 - place % zipfs_min(size, 400) : place % zipfs_min(size, 400);
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
    struct zipfs_entry entry = {(uint32_t)src_size, ZIPFS_KIND_RUNS, zipfs_hash(src, src_size, 5), 0};
    enum zipfs_status first = ZIPFS_OK;
    uint64_t hash = 0;
    for (size_t k = 0; k < num_usable; k++) {
        codec->kernels = usable[k];
        struct zipfs_copies copies;
        enum zipfs_status status = zipfs_decode_chunk_copies(codec, 5, &entry, src, dst, plain_size, &copies);
        check_copies(&copies, plain_size);
        if (copies.num)
            CHECK(zipfs_decode_chunk(codec, 5, &entry, src, dst, plain_size) != ZIPFS_OK);
        uint64_t plain_hash = status ? 0 : zipfs_hash(dst, plain_size, 0);
        CHECK(k == 0 || (status == first && plain_hash == hash));
        first = status;
        hash = plain_hash;
    }
    return 0;
}
