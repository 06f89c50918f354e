/* Short codes: parsing, choice of the values that have codes, encoding. The decoding loops are kernels. */
#include "short.h"

#include <string.h>

#include "codec.h"
#include "common.h"

enum { NUM_CODES = ZIPFS_SHORT_ESCAPE };

static size_t codes_size(size_t n) {
    return (n * ZIPFS_SHORT_BITS + 7) / 8;
}

/* ---- decoding ---- */

/* Do all bytes fit a field of `bits` bits? */
static bool fit(const uint8_t *values, size_t n, unsigned bits) {
    unsigned all = 0;
    for (size_t i = 0; i < n; i++)
        all |= values[i];
    return !(all >> bits);
}

enum zipfs_status zipfs_short_open(const uint8_t *src, size_t src_size, const uint8_t *readable_end, size_t n,
                                   unsigned bits, uint8_t **room, struct zipfs_short_decoder *decoder) {
    size_t before = NUM_CODES + codes_size(n), num_escapes = src_size - before;
    if (src_size < before || num_escapes > n)
        return ZIPFS_BAD_PLANE;
    const uint8_t *escapes = src + before;
    if (bits < 8 && (!fit(src, NUM_CODES, bits) || !fit(escapes, num_escapes, bits)))
        return ZIPFS_BAD_PLANE;
    unsigned used = n * ZIPFS_SHORT_BITS % 8;
    if (used && escapes[-1] >> used)
        return ZIPFS_RESERVED_NOT_ZERO;
    if (readable_end - (escapes + num_escapes) < ZIPFS_SHORT_READABLE) {
        memcpy(*room, escapes, num_escapes);
        memset(*room + num_escapes, 0, ZIPFS_SHORT_READABLE);
        escapes = *room;
        *room += num_escapes + ZIPFS_SHORT_READABLE;
    }
    memset(decoder, 0, sizeof *decoder);
    memcpy(decoder->value, src, NUM_CODES);
    decoder->codes = src + NUM_CODES;
    decoder->escapes = escapes;
    decoder->escapes_end = escapes + num_escapes;
    decoder->ahead = src; /* of no use, but a pointer */
    return ZIPFS_OK;
}

/* ---- encoding ---- */

enum { PIECES = 16, PIECE = 1024 };

/* Counts pieces from all over the values, or all of a few; returns how many values these are. */
static size_t count_sample(const struct zipfs_kernels *kernels, const uint8_t *values, size_t n,
                           uint32_t count_ret[256]) {
    uint32_t count[256];
    if (n <= PIECES * PIECE) {
        kernels->histogram(values, n, count_ret);
        return n;
    }
    memset(count_ret, 0, 256 * sizeof count_ret[0]);
    for (size_t i = 0; i < PIECES; i++) {
        kernels->histogram(values + n / PIECES * i, PIECE, count);
        for (unsigned v = 0; v < 256; v++)
            count_ret[v] += count[v];
    }
    return PIECES * PIECE;
}

/* Gives codes to the most frequent values, the lowest first where they are equally frequent; returns how many of those
 * that were counted have none. */
static size_t choose_values(const uint32_t count[256], size_t n, uint8_t value_ret[NUM_CODES]) {
    bool has_code[256] = {false};
    size_t num_escapes = n;
    for (unsigned c = 0; c < NUM_CODES; c++) {
        unsigned best = 0;
        while (has_code[best])
            best++;
        for (unsigned v = best; v < 256; v++)
            if (!has_code[v] && count[v] > count[best])
                best = v;
        has_code[best] = true;
        value_ret[c] = (uint8_t)best;
        num_escapes -= count[best];
    }
    return num_escapes;
}

bool zipfs_short_pays(const uint32_t count[256], size_t n, uint8_t value_ret[ZIPFS_SHORT_ESCAPE]) {
    size_t size = codes_size(n) + choose_values(count, n, value_ret);
    return size < n && size <= zipfs_entropy(count, n) + n / 12;
}

size_t zipfs_short_encode(struct zipfs_codec *codec, const uint8_t *values, size_t n, uint8_t *dst, size_t capacity) {
    struct zipfs_encoder *encoder = codec->encoder;
    size_t before = NUM_CODES + codes_size(n);
    uint32_t count[256];
    uint8_t code_of[256];
    size_t num_counted = count_sample(codec->kernels, values, n, count);
    if (before > capacity || !zipfs_short_pays(count, num_counted, dst))
        return SIZE_MAX;
    memset(code_of, ZIPFS_SHORT_ESCAPE, sizeof code_of);
    for (unsigned c = 0; c < NUM_CODES; c++)
        code_of[dst[c]] = (uint8_t)c;
    codec->kernels->short_encode(code_of, values, n, dst + NUM_CODES, encoder->escaped);
    size_t num_escapes = codec->kernels->gather(encoder->escaped, values, 1, 0, 8, n, encoder->values);
    if (num_escapes > capacity - before)
        return SIZE_MAX;
    for (size_t i = 0; i < num_escapes; i++)
        dst[before + i] = (uint8_t)encoder->values[i];
    return before + num_escapes;
}
