/* A payload of every layout with its bits flipped, one at a time, and cut to every length, under right checksums, on
 * every kernel: an error or a decoded chunk, all kernels of one mind, and no byte touched beyond the payload or the chunk. */
#include <string.h>

#include "check.h"
#include "codec.h"
#include "common.h"
#include "cpu.h"
#include "guarded.h"

enum { CHUNK_LOG2 = 16, CHUNK = 1 << CHUNK_LOG2, MIN_JOINT = 2048 /* elements */, TAIL = 1500, EVERY_BIT = 1200 /* bytes */ };

static struct zipfs_codec *codec;
static const struct zipfs_kernels *usable[ZIPFS_MAX_KERNELS];
static size_t num_usable;
static struct guarded payload_memory, dst_memory;

/* Elements of few exponents, with an outlier now and then, or small integers; then zeros. */
static void fill(uint8_t *plain, size_t n, const struct zipfs_layout_info *info, uint64_t *state) {
    unsigned bits = 8u * info->width, below = bits - info->exponent_bits;
    for (size_t i = 0; i < n; i++) {
        uint64_t y = random_u64(state) >> (64 - bits), exponent = random_below(state, 1 + random_below(state, 12));
        if (!info->exponent_bits)
            y &= random_below(state, 50) ? 0x1f : 0xff;
        else if (random_below(state, 100))
            y = (exponent + 2) << below | (y & ((UINT64_C(1) << below) - 1));
        y = zipfs_layout_unrotate(info, y);
        memcpy(plain + i * info->width, &y, info->width);
    }
    memset(plain + n * info->width, 0, TAIL);
}

/* What a payload decodes to on a kernel: its status, or the hash of the chunk. */
static uint64_t outcome(size_t kernel, const uint8_t *payload, size_t size, size_t plain_size) {
    uint8_t *src = guarded_at(&payload_memory, size, true), *dst = guarded_at(&dst_memory, plain_size, true);
    memcpy(src, payload, size);
    codec->kernels = usable[kernel];
    struct zipfs_entry entry = {(uint32_t)size, ZIPFS_KIND_RUNS, zipfs_hash(src, size, 0), 0};
    enum zipfs_status status = zipfs_decode_chunk(codec, 0, &entry, src, dst, plain_size);
    return status ? (uint64_t)status : zipfs_hash(dst, plain_size, 0);
}

/* The outcome on all kernels. */
static uint64_t common_outcome(const uint8_t *payload, size_t size, size_t plain_size) {
    uint64_t first = outcome(0, payload, size, plain_size);
    for (size_t k = 1; k < num_usable; k++)
        CHECK(outcome(k, payload, size, plain_size) == first);
    return first;
}

static bool has_run_of(const uint8_t *payload, size_t size, size_t plain_size, uint32_t layout) {
    struct zipfs_run runs[ZIPFS_MAX_RUNS];
    size_t num_runs;
    CHECK_EQUAL(zipfs_chunk_runs(payload, size, plain_size, runs, &num_runs), ZIPFS_OK);
    while (num_runs > 0 && runs[num_runs - 1].layout != layout)
        num_runs--;
    return num_runs > 0;
}

/* n elements of a dtype, which the encoder gives this layout on this level; integers and plain elements of a byte may become
 * BYTES. Of long payloads, which end in noise, the head is flipped in full. */
static void test_layout(uint32_t dtype, uint32_t layout, enum zipfs_level level, size_t n, uint64_t *state) {
    static uint8_t plain[CHUNK], payload[CHUNK];
    const struct zipfs_layout_info *info = zipfs_layout_info(dtype);
    size_t plain_size = n * info->width + TAIL;
    struct zipfs_segment segment = {0, n * info->width, dtype};
    struct zipfs_entry entry;
    fill(plain, n, info, state);
    CHECK_EQUAL(zipfs_encode_chunk(codec, level, 0, plain, plain_size, &segment, 1, payload, plain_size, &entry),
                ZIPFS_OK);
    CHECK_EQUAL(entry.kind, ZIPFS_KIND_RUNS);
    bool may_be_bytes = !info->exponent_bits || (info->width == 1 && layout == dtype);
    CHECK(may_be_bytes || has_run_of(payload, entry.stored_size, plain_size, layout));
    CHECK(common_outcome(payload, entry.stored_size, plain_size) == zipfs_hash(plain, plain_size, 0));
    for (size_t bit = 0; bit < 8 * (size_t)entry.stored_size; bit += bit < 8 * EVERY_BIT ? 1 : 19) {
        payload[bit / 8] ^= (uint8_t)(1 << bit % 8);
        common_outcome(payload, entry.stored_size, plain_size);
        payload[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t size = 1; size < entry.stored_size; size += size < EVERY_BIT ? 1 : 5)
        CHECK_EQUAL(common_outcome(payload, size, plain_size), ZIPFS_BAD_RUNS);
}

int main(void) {
    uint64_t state = 2026;
    num_usable = zipfs_kernels_usable(usable);
    CHECK_EQUAL(zipfs_codec_create(CHUNK_LOG2, &codec), ZIPFS_OK);
    guarded_make(&payload_memory, CHUNK);
    guarded_make(&dst_memory, CHUNK);
    for (uint32_t layout = ZIPFS_BYTES; layout < ZIPFS_BF16_JOINT; layout++) {
        const struct zipfs_layout_info *info = zipfs_layout_info(layout);
        test_layout(layout, layout, ZIPFS_LEVEL_FAST, info->width < 4 ? MIN_JOINT - 1 : 600, &state);
        if (info->joint)
            test_layout(layout, info->joint, ZIPFS_LEVEL_DEFAULT, info->width == 1 ? 2 * MIN_JOINT : MIN_JOINT, &state);
    }
    guarded_free(&payload_memory);
    guarded_free(&dst_memory);
    zipfs_codec_free(codec);
    return 0;
}
