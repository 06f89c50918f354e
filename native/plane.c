/* Decoding planes tile by tile; choosing a coding for a plane and encoding it. */
#include "plane.h"

#include <string.h>

#include "codec.h"
#include "common.h"
#include "noise.h"
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

enum zipfs_status zipfs_plane_open(struct zipfs_codec *codec, struct zipfs_plane *plane,
                                   const struct zipfs_stored_plane *stored, size_t n, uint8_t *contents,
                                   uint8_t **room) {
    const uint8_t *src = stored->src;
    size_t src_size = stored->src_size;
    plane->coding = stored->coding;
    plane->bits = stored->bits;
    plane->data = contents;
    switch (stored->coding) {
    case ZIPFS_RAW: return open_raw(plane, src, src_size, n);
    case ZIPFS_CONST: return open_const(plane, src, src_size, n);
    case ZIPFS_RANS:
        return zipfs_rans_open(src, src_size, codec->payload_end, n, stored->bits, stored->shift, codec->kernels, room,
                               &plane->rans);
    case ZIPFS_ZSTD:
        return stored->bits == 8 ? zstd_frame_decompress(codec->dctx, src, src_size, contents, n) : ZIPFS_BAD_ZSTD;
    case ZIPFS_SHORT:
        return zipfs_short_open(src, src_size, codec->payload_end, n, stored->bits, room, &plane->shorts);
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
    if (plane->coding == ZIPFS_SHORT)
        return kernels->short_decode(&plane->shorts, plane->tile, n) ? ZIPFS_OK : ZIPFS_BAD_PLANE;
    if (plane->bits == 8)
        *values_ret = plane->data;
    else
        kernels->unpack(plane->data, plane->bits, plane->tile, n);
    plane->data += raw_size(n, plane->bits);
    return ZIPFS_OK;
}

enum zipfs_status zipfs_plane_next_packed(struct zipfs_codec *codec, struct zipfs_plane *plane, size_t n,
                                          const uint8_t **packed_ret) {
    if (plane->coding == ZIPFS_RAW) {
        *packed_ret = plane->data;
        plane->data += raw_size(n, plane->bits);
        return ZIPFS_OK;
    }
    const uint8_t *values;
    enum zipfs_status status = zipfs_plane_next(codec->kernels, plane, n, &values);
    if (status)
        return status;
    codec->kernels->pack(values, plane->bits, codec->packed, n);
    *packed_ret = codec->packed;
    return ZIPFS_OK;
}

enum zipfs_status zipfs_plane_finish(const struct zipfs_plane *plane) {
    switch (plane->coding) {
    case ZIPFS_RANS: return zipfs_rans_finish(&plane->rans);
    case ZIPFS_SHORT: return zipfs_short_finish(&plane->shorts);
    default: return ZIPFS_OK;
    }
}

/* ---- choosing ---- */

enum { LEAST_GAIN = 64 }; /* the part of flat values of 8 bits below which 64 symbols gain nothing */

/* Does zstd make clearly less of a stretch in the middle than the plane's encoding of `size` bytes does on average? */
static bool looks_lz(struct zipfs_codec *codec, const uint8_t *values, size_t n, size_t size) {
    enum { STRETCH = 8192 };
    size_t stretch = zipfs_min(n, STRETCH), limit = (size_t)((uint64_t)size * stretch / n), lz_size;
    return !zstd_frame_compress(codec->encoder->cctx, 1, values + (n - stretch) / 2, stretch, codec->encoder->coded,
                                limit - limit / 64, &lz_size);
}

static uint8_t *put_value(uint8_t *dst, unsigned value, unsigned bits) {
    *dst++ = (uint8_t)value;
    if (bits > 8)
        *dst++ = (uint8_t)(value >> 8);
    return dst;
}

/* Makes the most frequent of the escaped values the near ones; returns how many of all are near. */
static size_t choose_near(const uint16_t *values, size_t num, unsigned bits, struct zipfs_rans_table *table) {
    uint32_t counts[4][ZIPFS_RANS_MAX_VALUES], *count = counts[0]; /* equal neighbours need not wait */
    for (unsigned k = 0; k < 4; k++)
        memset(counts[k], 0, sizeof counts[k][0] << bits);
    size_t i = 0;
    for (; i + 4 <= num; i += 4)
        for (unsigned k = 0; k < 4; k++)
            counts[k][values[i + k]]++;
    for (; i < num; i++)
        count[values[i]]++;
    for (unsigned v = 0; v < 1u << bits; v++)
        count[v] += counts[1][v] + counts[2][v] + counts[3][v];
    table->num_near = 0;
    for (unsigned v = 0; v < 1u << bits; v++) {
        unsigned most = ZIPFS_RANS_MAX_NEAR, i = table->num_near;
        if (!count[v] || (i == most && count[table->near[i - 1]] >= count[v]))
            continue;
        i -= i == most;
        for (; i > 0 && count[table->near[i - 1]] < count[v]; i--)
            table->near[i] = table->near[i - 1];
        table->near[i] = (uint16_t)v;
        table->num_near = (uint8_t)zipfs_min(table->num_near + 1u, most);
    }
    size_t num_near = 0;
    for (unsigned i = 0; i < table->num_near; i++)
        num_near += count[table->near[i]];
    return num_near;
}

/* A number as nibbles, a byte each from the lowest byte on, and how many of them in the highest byte. */
static uint64_t nibbles_of(unsigned number) {
    const uint64_t all_more = UINT64_C(0x0f0f0f0f0f);
    unsigned more = number / ZIPFS_RANS_MORE;
    return (all_more & ((UINT64_C(1) << 8 * more) - 1)) | (uint64_t)(number % ZIPFS_RANS_MORE) << 8 * more |
           (uint64_t)(more + 1) << 56;
}

/* Numbers of the escaped values as nibbles, packed in encoder->nibbles; returns how many. Each takes one to five,
 * without branches, since nobody can predict which. */
static size_t put_nibbles(const struct zipfs_kernels *kernels, struct zipfs_encoder *encoder, const uint16_t *values,
                          size_t num, unsigned bits) {
    const struct zipfs_rans_table *table = &encoder->rans.table;
    uint64_t nibbles[ZIPFS_RANS_MAX_VALUES], far = nibbles_of(table->num_near);
    for (unsigned v = 0; v < 1u << bits; v++)
        nibbles[v] = far;
    for (unsigned i = 0; i < table->num_near; i++)
        nibbles[table->near[i]] = nibbles_of(i);
    uint8_t *unpacked = encoder->nibbles + encoder->nibbles_capacity;
    size_t num_nibbles = 0;
    for (size_t i = 0; i < num; i++) {
        uint64_t x = nibbles[values[i]];
        zipfs_store64(unpacked + num_nibbles, x);
        num_nibbles += x >> 56;
    }
    kernels->pack(unpacked, 4, encoder->nibbles, num_nibbles);
    return num_nibbles;
}

/* Escaped values that are not near ones, to encoder->far; returns how many. */
static size_t put_far(struct zipfs_encoder *encoder, const uint16_t *values, size_t num, unsigned bits) {
    const struct zipfs_rans_table *table = &encoder->rans.table;
    bool is_near[ZIPFS_RANS_MAX_VALUES] = {false};
    uint8_t *far = encoder->far;
    size_t num_far = 0;
    for (unsigned i = 0; i < table->num_near; i++)
        is_near[table->near[i]] = true;
    for (size_t i = 0; i < num; i++)
        if (ZIPFS_UNLIKELY(!is_near[values[i]])) {
            far = put_value(far, values[i], bits);
            num_far++;
        }
    return num_far;
}

/* Writes the escapes that the last encoding met to encoder->nibbles and ->far; returns the number of nibbles. */
static size_t put_escapes(const struct zipfs_kernels *kernels, struct zipfs_encoder *encoder, const uint16_t *values,
                          size_t num, unsigned bits, size_t *num_far_ret) {
    struct zipfs_rans_table *table = &encoder->rans.table;
    bool all_near = table->num_near && choose_near(values, num, bits, table) == num;
    *num_far_ret = all_near ? 0 : put_far(encoder, values, num, bits);
    return table->num_near ? put_nibbles(kernels, encoder, values, num, bits) : 0;
}

/* Writes a plane from what encoding left behind, and the values that were escaped. */
static size_t write_rans(struct zipfs_codec *codec, unsigned bits, const uint8_t *coded_end, const uint16_t *escaped,
                         size_t num_escaped, uint8_t *dst, size_t capacity) {
    struct zipfs_encoder *encoder = codec->encoder;
    const struct zipfs_rans_encoder *rans = &encoder->rans;
    const struct zipfs_rans_table *table = &rans->table;
    size_t num_nibbles = 0, num_far = 0, coded_size = (size_t)(coded_end - rans->coded);
    if (table->has_escape)
        num_nibbles = put_escapes(codec->kernels, encoder, escaped, num_escaped, bits, &num_far);
    size_t value_size = bits > 8 ? 2 : 1, states_size = 2u * rans->num_lanes, nibbles_size = (num_nibbles + 1) / 2;
    size_t size = ZIPFS_RANS_HEADER + table->num_symbols + value_size * (table->num_symbols + table->num_near) +
                  states_size + coded_size + nibbles_size + value_size * num_far;
    if (size > capacity)
        return SIZE_MAX;
    dst[0] = table->num_symbols;
    dst[1] = table->has_escape;
    dst[2] = (uint8_t)(rans->num_lanes / 64);
    dst[3] = table->num_near;
    zipfs_store32(dst + 4, (uint32_t)coded_size);
    zipfs_store32(dst + 8, (uint32_t)num_nibbles);
    zipfs_store32(dst + 12, (uint32_t)num_far);
    dst += ZIPFS_RANS_HEADER;
    memcpy(dst, table->freq, table->num_symbols);
    dst += table->num_symbols;
    for (unsigned s = 0; s < table->num_symbols; s++)
        dst = put_value(dst, table->value[s], bits);
    for (unsigned i = 0; i < table->num_near; i++)
        dst = put_value(dst, table->near[i], bits);
    memcpy(dst, rans->state, states_size);
    memcpy(dst += states_size, rans->coded, coded_size);
    memcpy(dst += coded_size, encoder->nibbles, nibbles_size);
    memcpy(dst + nibbles_size, encoder->far, value_size * num_far);
    return size;
}

/* Readies the encoder for n codes; returns the end of what it will write. */
static const uint8_t *begin_rans(struct zipfs_encoder *encoder, const struct zipfs_rans_table *table,
                                 unsigned code_bits, unsigned num_lanes, size_t n) {
    struct zipfs_rans_encoder *rans = &encoder->rans;
    zipfs_rans_encoder_init(rans, table, code_bits, num_lanes);
    rans->coded = encoder->coded + n + ZIPFS_RANS_CODED_ROOM;
    rans->escaped = encoder->escaped;
    return rans->coded;
}

/* Codes that are values. */
static size_t encode_rans(struct zipfs_codec *codec, const struct zipfs_rans_table *table, unsigned bits,
                          unsigned num_lanes, const uint8_t *values, size_t n, uint8_t *dst, size_t capacity) {
    struct zipfs_encoder *encoder = codec->encoder;
    const uint8_t *coded_end = begin_rans(encoder, table, 8, num_lanes, n);
    codec->kernels->rans_encode(&encoder->rans, values, n);
    size_t num = 0;
    if (table->has_escape)
        num = codec->kernels->gather(encoder->escaped, values, 1, 0, bits, n, encoder->values);
    return write_rans(codec, bits, coded_end, encoder->values, num, dst, capacity);
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
    size_t limit = size == SIZE_MAX ? capacity : zipfs_below(size, codec->encoder->effort.exhaustive), lz_size;
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

/* Is a sample in the middle printable ASCII, and not all of it letters? */
static bool is_text(const uint8_t *values, size_t n) {
    enum { STRETCH = 4096 };
    size_t stretch = zipfs_min(n, STRETCH), letters = 0, others = 0;
    values += (n - stretch) / 2;
    for (size_t i = 0; i < stretch; i++) {
        letters += values[i] > '@' && values[i] <= '~';
        others += values[i] == '\n' || (values[i] >= ' ' && values[i] <= '@');
    }
    return (letters + others) * 32 >= stretch * 31 && others * 32 >= stretch;
}

static int level_of(const struct zipfs_effort *effort, enum zipfs_lz lz, const uint8_t *values, size_t n) {
    if (lz == ZIPFS_LZ_RANKS)
        return ZSTD_FRAME_RANKS;
    return is_text(values, n) ? effort->text_level : effort->zstd_level;
}

size_t zipfs_plane_encode(struct zipfs_codec *codec, unsigned bits, unsigned num_lanes, const uint8_t *values, size_t n,
                          enum zipfs_lz lz, uint8_t *dst, size_t capacity, unsigned *coding_ret,
                          bool *is_noise_ret) {
    const struct zipfs_kernels *kernels = codec->kernels;
    const struct zipfs_effort *effort = &codec->encoder->effort;
    size_t size = SIZE_MAX, raw = raw_size(n, bits), room = zipfs_min(raw, capacity);
    if (n > 1 && !memcmp(values, values + 1, n - 1)) {
        *coding_ret = ZIPFS_CONST;
        *is_noise_ret = false;
        dst[0] = values[0];
        return 1;
    }
    bool flat = !effort->exhaustive &&
                zipfs_sampled_entropy(kernels, values, n) + n / (bits == 8 ? LEAST_GAIN : 1024) >= room;
    if (!flat) {
        struct zipfs_rans_counts counts = {.num_codes = 256, .n = n, .complete = true,
                                           .thorough = effort->exhaustive};
        struct zipfs_rans_table table;
        size_t fixed = ZIPFS_RANS_HEADER + 2u * num_lanes;
        kernels->histogram(values, n, counts.count);
        *coding_ret = ZIPFS_RANS;
        if (zipfs_entropy(counts.count, n) + fixed < room && /* which is quick to see */
            zipfs_rans_choose(&counts, bits, &table) / 8 + fixed < room) {
            size = encode_rans(codec, &table, bits, num_lanes, values, n, dst, zipfs_min(capacity, raw - 1));
        }
    }
    if (size == SIZE_MAX) {
        *coding_ret = ZIPFS_RAW;
        size = encode_raw(kernels, bits, values, n, dst, capacity);
    }
    bool try_lz = bits == 8 && (effort->exhaustive || lz == ZIPFS_LZ_RANKS ||
                                (lz == ZIPFS_LZ_REPEATS && zipfs_repeats(values, n)) ||
                                (lz == ZIPFS_LZ_PROBE && effort->probes && (!flat || zipfs_repeats_nearby(values, n)) &&
                                 looks_lz(codec, values, n, zipfs_min(size, capacity))));
    *is_noise_ret = flat && !try_lz;
    if (!try_lz)
        return size;
    int level = level_of(effort, lz, values, n);
    return effort->exhaustive ? improve_by_best_zstd(codec, values, n, dst, size, capacity, coding_ret)
                              : improve_by_zstd(codec, level, values, n, dst, size, capacity, coding_ret);
}

/* ---- the first field of a joint layout ---- */

enum {
    GROUP = 64,
    SAMPLE = 16384, /* codes that are counted: it takes an eighth of the time, and loses less than 0.01 % */
    TILE = 16384,   /* codes that are made and encoded at a time, so that they stay in the L1 cache */
    SPILL = 64,     /* bytes that joint_split may write behind the second fields */
};

/* Groups of 64 elements of which one is counted. Longer pieces at longer distances lose 0.05 %, since neighbours are
 * alike. */
static size_t count_every(size_t n, bool exhaustive) {
    return exhaustive ? 1 : zipfs_max(n / SAMPLE, 1);
}

/* Copies the groups that are counted; returns how many elements they have. */
static size_t take_groups(const uint8_t *src, size_t n, size_t width, size_t every, uint8_t *dst) {
    size_t num = 0;
    for (size_t first = 0; first < n; first += GROUP * every) {
        size_t used = zipfs_min(n - first, GROUP);
        memcpy(dst + num * width, src + first * width, used * width);
        num += used;
    }
    return num;
}

/* Counts codes, of all elements or of a sample, and chooses a table of codes. Of all, it leaves them in planes[0]. */
static void choose_joint(struct zipfs_codec *codec, const struct zipfs_joint *joint, size_t every,
                         struct zipfs_rans_table *table_ret) {
    const struct zipfs_layout_info *info = zipfs_layout_info(joint->layout);
    struct zipfs_rans_counts counts = {.num_codes = 64, .n = joint->n, .complete = every == 1,
                                       .thorough = codec->encoder->effort.exhaustive};
    const uint8_t *src = joint->src;
    if (every > 1) {
        counts.n = take_groups(src, joint->n, info->width, every, codec->encoder->coded);
        src = codec->encoder->coded;
    }
    codec->kernels->joint_split[joint->layout](src, joint->row, joint->planes[0], joint->planes, counts.n);
    zipfs_count_codes(joint->planes[0], counts.n, counts.count);
    zipfs_rans_choose(&counts, info->bits[0], table_ret);
}

/* Makes the codes of elements [start, end), in planes[0], and their further fields. What follows is there already. */
static void split_tile(struct zipfs_codec *codec, const struct zipfs_joint *joint, size_t start, size_t end) {
    const struct zipfs_layout_info *info = zipfs_layout_info(joint->layout);
    uint8_t *planes[ZIPFS_MAX_FIELDS], spill[SPILL];
    for (unsigned f = 1; f < info->num_fields; f++)
        planes[f] = joint->planes[f] + (f == 1 ? start * info->bits[1] / 8 : start);
    uint8_t *behind = joint->planes[1] + (end * info->bits[1] + 7) / 8;
    memcpy(spill, behind, SPILL);
    codec->kernels->joint_split[joint->layout](joint->src + start * info->width, joint->row, joint->planes[0], planes,
                                               end - start);
    memcpy(behind, spill, SPILL);
}

/* Encodes tile by tile from the last one on; returns where in encoder->values the escaped ones begin. */
static uint16_t *encode_tiles(struct zipfs_codec *codec, const struct zipfs_joint *joint) {
    struct zipfs_encoder *encoder = codec->encoder;
    struct zipfs_rans_encoder *rans = &encoder->rans;
    const struct zipfs_layout_info *info = zipfs_layout_info(joint->layout);
    uint16_t *values = encoder->values + joint->n, found[TILE + 64];
    for (size_t end = joint->n, start; end > 0; end = start) {
        start = (end - 1) / TILE * TILE;
        split_tile(codec, joint, start, end);
        rans->escaped = encoder->escaped + start / 64;
        codec->kernels->rans_encode(rans, joint->planes[0], end - start);
        if (!rans->table.has_escape)
            continue;
        size_t num = codec->kernels->gather(rans->escaped, joint->src + start * info->width, info->width,
                                            zipfs_joint_shift(info), info->bits[0], end - start, found);
        memcpy(values -= num, found, num * sizeof found[0]);
    }
    return values;
}

/* The same of codes that are there already, of a short run. */
static uint16_t *encode_codes(struct zipfs_codec *codec, const struct zipfs_joint *joint) {
    struct zipfs_encoder *encoder = codec->encoder;
    const struct zipfs_layout_info *info = zipfs_layout_info(joint->layout);
    codec->kernels->rans_encode(&encoder->rans, joint->planes[0], joint->n);
    size_t num = 0;
    if (encoder->rans.table.has_escape)
        num = codec->kernels->gather(encoder->escaped, joint->src, info->width, zipfs_joint_shift(info), info->bits[0],
                                     joint->n, encoder->values);
    return memmove(encoder->values + joint->n - num, encoder->values, num * sizeof encoder->values[0]);
}

size_t zipfs_plane_encode_joint(struct zipfs_codec *codec, const struct zipfs_joint *joint, unsigned num_lanes,
                                uint8_t *dst, size_t capacity) {
    const struct zipfs_layout_info *info = zipfs_layout_info(joint->layout);
    struct zipfs_rans_encoder *rans = &codec->encoder->rans;
    struct zipfs_rans_table table;
    size_t n = joint->n, every = count_every(n, codec->encoder->effort.exhaustive);
    choose_joint(codec, joint, every, &table);
    const uint8_t *coded_end = begin_rans(codec->encoder, &table, 6, num_lanes, n);
    rans->ahead = dst; /* payloads take about 11/16 of the plain bytes */
    rans->ahead_step = num_lanes * info->width * 11 / 16;
    const uint16_t *escaped = every > 1 ? encode_tiles(codec, joint) : encode_codes(codec, joint);
    uint16_t value_of[64] = {0};
    for (unsigned e = 0; e < 1u << info->exponent_bits; e++)
        for (unsigned m = 0; joint->row[e] < ZIPFS_JOINT_ROWS && m < 4; m++)
            value_of[4 * joint->row[e] + m] = (uint16_t)(4 * e + m);
    for (unsigned s = 0; s + table.has_escape < table.num_symbols; s++)
        rans->table.value[s] = value_of[table.value[s]];
    return write_rans(codec, info->bits[0], coded_end, escaped, (size_t)(codec->encoder->values + n - escaped), dst,
                      capacity);
}
