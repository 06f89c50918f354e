/* Decoding planes tile by tile; choosing a coding for a plane and encoding it. */
#include "plane.h"

#include <string.h>

#include "codec.h"
#include "common.h"
#include "zstd_frame.h"

/* ---- decoding ---- */

static size_t raw_size(size_t n, unsigned bits) {
    return (n * bits + 7) / 8;
}

static enum zipfs_status open_raw(struct zipfs_plane *plane, const uint8_t *src, size_t src_size, size_t n) {
    if (src_size != raw_size(n, plane->bits))
        return ZIPFS_BAD_PLANE;
    unsigned used = n * plane->bits % 8;
    if (used && src[src_size - 1] >> used)
        return ZIPFS_RESERVED_NOT_ZERO;
    plane->data = src;
    return ZIPFS_OK;
}

static enum zipfs_status open_const(struct zipfs_plane *plane, const uint8_t *src, size_t src_size, size_t n) {
    if (src_size != 1 || src[0] >> plane->bits)
        return ZIPFS_BAD_PLANE;
    memset(plane->tile, src[0], zipfs_min(n, ZIPFS_TILE));
    return ZIPFS_OK;
}

enum zipfs_status zipfs_plane_open(struct zipfs_codec *codec, struct zipfs_plane *plane, unsigned bits, unsigned coding,
                                   const uint8_t *src, size_t src_size, size_t n, uint8_t *contents) {
    plane->coding = coding;
    plane->bits = bits;
    plane->data = contents;
    switch (coding) {
    case ZIPFS_RAW: return open_raw(plane, src, src_size, n);
    case ZIPFS_CONST: return open_const(plane, src, src_size, n);
    case ZIPFS_RANS: return zipfs_rans_open(src, src_size, n, bits, &plane->rans);
    case ZIPFS_ZSTD: return bits == 8 ? zstd_frame_decompress(codec->dctx, src, src_size, contents, n) : ZIPFS_BAD_ZSTD;
    default: return ZIPFS_UNKNOWN_CODING;
    }
}

enum zipfs_status zipfs_plane_next(const struct zipfs_kernels *kernels, struct zipfs_plane *plane, size_t n,
                                   const uint8_t **values_ret) {
    *values_ret = plane->tile;
    if (plane->coding == ZIPFS_CONST)
        return ZIPFS_OK;
    if (plane->coding == ZIPFS_RANS)
        return kernels->rans_decode(&plane->rans, plane->tile, n) ? ZIPFS_OK : ZIPFS_BAD_RANS;
    if (plane->bits == 8)
        *values_ret = plane->data;
    else
        kernels->unpack(plane->data, plane->bits, plane->tile, n);
    plane->data += raw_size(n, plane->bits);
    return ZIPFS_OK;
}

enum zipfs_status zipfs_plane_finish(const struct zipfs_plane *plane) {
    return plane->coding == ZIPFS_RANS ? zipfs_rans_finish(&plane->rans) : ZIPFS_OK;
}

/* ---- choosing ---- */

enum {
    SAMPLE_PIECES = 16,
    SAMPLE_PIECE = 256,
    SAMPLE = SAMPLE_PIECES * SAMPLE_PIECE,
    SAMPLE_MIN = 4 * SAMPLE, /* shorter planes are counted in full */
    LZ_SAMPLE = 8192,
};

/* Do pieces from all over the plane show that only RAW is worth trying? A sample seems less random than its plane,
 * which errs on the safe side. With 8 bits the 64 symbols of RANS gain nothing on values that are nearly flat. */
static bool looks_flat(const struct zipfs_kernels *kernels, const uint8_t *values, size_t n, unsigned bits) {
    if (n < SAMPLE_MIN)
        return false;
    uint8_t sample[SAMPLE];
    uint32_t count[256];
    for (size_t i = 0; i < SAMPLE_PIECES; i++)
        memcpy(sample + i * SAMPLE_PIECE, values + n / SAMPLE_PIECES * i, SAMPLE_PIECE);
    kernels->histogram(sample, SAMPLE, count);
    uint64_t slack = bits == 8 ? SAMPLE / 64 : SAMPLE / 1024;
    return zipfs_entropy(count, SAMPLE) + slack >= raw_size(SAMPLE, bits);
}

/* Does zstd make clearly less of a stretch in the middle than the plane's encoding of `size` bytes does on average? */
static bool looks_lz(struct zipfs_codec *codec, const uint8_t *values, size_t n, size_t size) {
    size_t stretch = zipfs_min(n, LZ_SAMPLE), limit = (size_t)((uint64_t)size * stretch / n), lz_size;
    return !zstd_frame_compress(codec->encoder->cctx, 1, values + (n - stretch) / 2, stretch, codec->encoder->coded,
                                limit - limit / 64, &lz_size);
}

static size_t encode_rans(struct zipfs_codec *codec, const struct zipfs_rans_table *table, unsigned num_lanes,
                          const uint8_t *values, size_t n, uint8_t *dst, size_t capacity) {
    struct zipfs_encoder *encoder = codec->encoder;
    struct zipfs_rans_encoder *rans = &encoder->rans;
    uint8_t *coded_end = encoder->coded + n + ZIPFS_RANS_MAX_LANES, *escapes_end = encoder->escapes + n;
    zipfs_rans_encoder_init(rans, table, num_lanes);
    rans->coded = coded_end;
    rans->escapes = escapes_end;
    codec->kernels->rans_encode(rans, values, n);
    size_t coded_size = (size_t)(coded_end - rans->coded), num_escapes = (size_t)(escapes_end - rans->escapes);
    size_t size = zipfs_rans_fixed(num_lanes) + 2u * table->num_symbols + coded_size + num_escapes;
    if (size > capacity)
        return SIZE_MAX;
    dst += zipfs_rans_write_header(rans, coded_size, num_escapes, dst);
    memcpy(dst, rans->coded, coded_size);
    memcpy(dst + coded_size, rans->escapes, num_escapes);
    return size;
}

static size_t encode_raw(const struct zipfs_kernels *kernels, unsigned bits, const uint8_t *values, size_t n,
                         uint8_t *dst, size_t capacity) {
    size_t size = raw_size(n, bits);
    if (size > capacity)
        return SIZE_MAX;
    if (bits == 8)
        memcpy(dst, values, n);
    else
        kernels->pack(values, bits, dst, n);
    return size;
}

/* Replaces an encoding of `size` bytes in dst by a smaller one of zstd; returns the size that is left. */
static size_t improve_by_zstd(struct zipfs_codec *codec, int level, const uint8_t *values, size_t n, uint8_t *dst,
                              size_t size, size_t capacity, unsigned *coding_ret) {
    size_t limit = size == SIZE_MAX ? capacity : size - 1, lz_size;
    if (zstd_frame_compress(codec->encoder->cctx, level, values, n, codec->encoder->coded, limit, &lz_size))
        return size;
    memcpy(dst, codec->encoder->coded, lz_size);
    *coding_ret = ZIPFS_ZSTD;
    return lz_size;
}

/* The same on the highest level, unless the quick one stays so far behind that the long search is in vain. */
static size_t improve_by_best_zstd(struct zipfs_codec *codec, const uint8_t *values, size_t n, uint8_t *dst,
                                   size_t size, size_t capacity, unsigned *coding_ret) {
    size_t quick = improve_by_zstd(codec, 3, values, n, dst, size, capacity, coding_ret),
           limit = zipfs_min(quick, capacity), lz_size;
    if (quick == size && zstd_frame_compress(codec->encoder->cctx, 3, values, n, codec->encoder->coded,
                                             zipfs_min(limit + limit / 16, n - 1), &lz_size))
        return size;
    return improve_by_zstd(codec, codec->encoder->effort.zstd_level, values, n, dst, quick, capacity, coding_ret);
}

size_t zipfs_plane_encode(struct zipfs_codec *codec, unsigned bits, unsigned num_lanes, const uint8_t *values, size_t n,
                          bool lz, uint8_t *dst, size_t capacity, unsigned *coding_ret, bool *is_noise_ret) {
    const struct zipfs_kernels *kernels = codec->kernels;
    const struct zipfs_effort *effort = &codec->encoder->effort;
    size_t size = SIZE_MAX, raw = raw_size(n, bits);
    bool flat = !effort->exhaustive && looks_flat(kernels, values, n, bits);
    if (!flat) {
        uint32_t count[256];
        struct zipfs_rans_table table;
        kernels->histogram(values, n, count);
        if (count[values[0]] == n) {
            *coding_ret = ZIPFS_CONST;
            dst[0] = values[0];
            return 1;
        }
        *coding_ret = ZIPFS_RANS;
        if (zipfs_entropy(count, n) + zipfs_rans_fixed(num_lanes) < raw && /* which is quick to see */
            zipfs_rans_choose(count, n, num_lanes, &table) < raw)
            size = encode_rans(codec, &table, num_lanes, values, n, dst, zipfs_min(capacity, raw - 1));
    }
    if (size == SIZE_MAX) {
        *coding_ret = ZIPFS_RAW;
        size = encode_raw(kernels, bits, values, n, dst, capacity);
    }
    bool try_lz = bits == 8 && (lz || effort->exhaustive ||
                                (effort->probes && looks_lz(codec, values, n, zipfs_min(size, capacity))));
    *is_noise_ret = flat && !try_lz;
    if (!try_lz)
        return size;
    return effort->exhaustive ? improve_by_best_zstd(codec, values, n, dst, size, capacity, coding_ret)
                              : improve_by_zstd(codec, effort->zstd_level, values, n, dst, size, capacity, coding_ret);
}
