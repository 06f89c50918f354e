/* Pruned weights, gradients of embeddings: where elements that are zero stand is told by a bitmap, so that the others
 * are coded as if they stood alone. */
#include "sparse.h"

#include <string.h>

#include "common.h"
#include "run.h"

enum {
    SAMPLE_PIECES = 16,
    SAMPLE_PIECE = 256,
    MIN = 2 * SAMPLE_PIECES * SAMPLE_PIECE, /* elements; below, the bitmap costs what it saves */
};

/* ---- decoding ---- */

static size_t count_ones(const uint8_t *bits, size_t size) {
    size_t num = 0, i = 0;
    for (; i + 8 <= size; i += 8)
        num += (size_t)__builtin_popcountll(zipfs_load64(bits + i));
    for (; i < size; i++)
        num += (size_t)__builtin_popcount(bits[i]);
    return num;
}

enum zipfs_status zipfs_sparse_decode(struct zipfs_codec *codec, const struct zipfs_run *run, const uint8_t *src,
                                      uint8_t *dst) {
    struct zipfs_wrapped w;
    enum zipfs_status status = zipfs_run_unwrap(run, src, dst, &w);
    if (status)
        return status;
    if (src[1])
        return ZIPFS_RESERVED_NOT_ZERO;
    if (w.src_size < ZIPFS_RUN_RECORD)
        return ZIPFS_BAD_RUNS;
    size_t num = zipfs_load32(w.src + 4) / w.width, bitmap_size = (w.n + 7) / 8, used, bitmap_used;
    if (num > w.n || num == 0)
        return ZIPFS_BAD_RUNS;
    uint8_t *bitmap = codec->contents, *values = w.dst + (w.n - num) * w.width;
    status = zipfs_run_decode_inner(codec, w.src, w.src_size, w.width, num, values, &used);
    if (!status)
        status = zipfs_run_decode_inner(codec, w.src + used, w.src_size - used, 1, bitmap_size, bitmap, &bitmap_used);
    if (status)
        return status;
    if (used + bitmap_used != w.src_size || count_ones(bitmap, bitmap_size) != num)
        return ZIPFS_BAD_RUNS;
    if (w.n % 8 && bitmap[bitmap_size - 1] >> w.n % 8)
        return ZIPFS_RESERVED_NOT_ZERO;
    codec->kernels->expand(bitmap, values, w.width, w.dst, w.n);
    return ZIPFS_OK;
}

/* ---- encoding ---- */

static bool is_zero(const uint8_t *element, unsigned width) {
    static const uint8_t zero[ZIPFS_MAX_WIDTH];
    return !memcmp(element, zero, width);
}

/* Are one in 16 elements zero, in pieces from all over the run? */
static bool promises(const uint8_t *src, unsigned width, size_t n) {
    size_t zeros = 0;
    for (size_t i = 0; i < SAMPLE_PIECES; i++)
        for (size_t k = 0; k < SAMPLE_PIECE; k++)
            zeros += is_zero(src + (n / SAMPLE_PIECES * i + k) * width, width);
    return zeros >= SAMPLE_PIECES * SAMPLE_PIECE / 16;
}

/* width is a constant. */
static inline size_t part(const uint8_t *src, unsigned width, size_t n, uint8_t *bitmap, uint8_t *values) {
    size_t num = 0;
    memset(bitmap, 0, (n + 7) / 8);
    for (size_t i = 0; i < n; i++) {
        bool one = !is_zero(src + i * width, width);
        memcpy(values + num * width, src + i * width, width);
        bitmap[i / 8] |= (uint8_t)(one << i % 8);
        num += one;
    }
    return num;
}

size_t zipfs_sparse_part(const uint8_t *src, unsigned width, size_t n, uint8_t *bitmap, uint8_t *values) {
    if (width == 1 || n < MIN || !promises(src, width, n))
        return 0;
    return width == 2   ? part(src, 2, n, bitmap, values)
           : width == 4 ? part(src, 4, n, bitmap, values)
                        : part(src, 8, n, bitmap, values);
}
