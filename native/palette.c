/*
 * Elements of at most 256 different values: codebooks, quantised weights that were converted back, packed codes. Their
 * numbers in the order of frequency, the ranks, are a run of their own. Bytes whose 256 values all occur, too many for
 * one symbol each, come within 0.4 % of their entropy by groups; 4 or 8 in a group, since more symbols lose more by the
 * probabilities of 8 bits than they win.
 */
#include "palette.h"

#include <string.h>

#include "common.h"
#include "noise.h"
#include "run.h"

enum {
    MAX_VALUES = 256,
    MIN = 2048, /* elements; below, the table costs what it saves */
    BUCKETS = 1024,
    MIN_GAIN = 128, /* bytes that shrink by less than one part of this many stay RAW, which decodes faster */
};

/* ---- decoding ---- */

/* Indices to elements of two bytes or more, whose values are in `table`, a byte of all after the other, the highest
 * first. The indices stand at the end of dst: elements may take their place, as they are no longer needed then. */
static void expand(struct zipfs_codec *codec, uint8_t (*table)[MAX_VALUES], unsigned width, const uint8_t *indices,
                   uint8_t *dst, size_t n) {
    uint32_t layout = width == 2 ? ZIPFS_I16 : width == 4 ? ZIPFS_I32 : ZIPFS_I64;
    for (size_t i = 0; i < n; i += ZIPFS_TILE) {
        size_t count = zipfs_min(n - i, ZIPFS_TILE);
        const uint8_t *planes[ZIPFS_MAX_WIDTH];
        for (unsigned b = 0; b < width; b++) {
            codec->kernels->look_up(table[b], indices + i, codec->planes[b].tile, count);
            planes[b] = codec->planes[b].tile;
        }
        codec->kernels->merge[layout](planes, dst + i * width, count);
    }
}

enum zipfs_status zipfs_palette_decode(struct zipfs_codec *codec, const struct zipfs_run *run, const uint8_t *src,
                                       uint8_t *dst) {
    struct zipfs_wrapped w;
    uint8_t table[ZIPFS_MAX_WIDTH][MAX_VALUES] = {{0}};
    enum zipfs_status status = zipfs_run_unwrap(run, src, dst, &w);
    if (status)
        return status;
    size_t num_values = src[1] + 1u, table_size = num_values * w.width;
    if (w.src_size < table_size)
        return ZIPFS_BAD_RUNS;
    for (size_t i = 0; i < num_values; i++)
        for (unsigned b = 0; b < w.width; b++)
            table[b][i] = w.src[i * w.width + w.width - 1 - b];
    uint8_t *indices = w.dst + w.n * (w.width - 1);
    size_t used;
    status = zipfs_run_decode_inner(codec, w.src + table_size, w.src_size - table_size, 1, w.n, indices, &used);
    if (status)
        return status;
    if (table_size + used != w.src_size)
        return ZIPFS_BAD_RUNS;
    if (w.width == 1)
        codec->kernels->look_up(table[0], indices, w.dst, w.n);
    else
        expand(codec, table, w.width, indices, w.dst, w.n);
    return ZIPFS_OK;
}

/* ---- encoding ---- */

struct palette {
    unsigned num_values;
    uint64_t value[MAX_VALUES];
    uint32_t count[MAX_VALUES];
    uint16_t number_in[BUCKETS]; /* of elements of two bytes or more: a value's number + 1, 0 where there is none */
};

static uint64_t load_element(const uint8_t *src, unsigned width) {
    return width == 2 ? zipfs_load16(src) : width == 4 ? zipfs_load32(src) : zipfs_load64(src);
}

/* The bucket where a value is or would be; at most a quarter of them is in use. */
static unsigned bucket_of(const struct palette *palette, uint64_t value) {
    unsigned bucket = (unsigned)(value * UINT64_C(0x9e3779b97f4a7c15) >> 54);
    while (palette->number_in[bucket] && palette->value[palette->number_in[bucket] - 1] != value)
        bucket = (bucket + 1) % BUCKETS;
    return bucket;
}

/* Numbers the values in the order of their first appearance, to `numbers`. False when there are too many. */
static bool number_elements(struct palette *palette, const uint8_t *src, unsigned width, size_t n, uint8_t *numbers) {
    for (size_t i = 0; i < n; i++) {
        uint64_t value = load_element(src + i * width, width);
        unsigned bucket = bucket_of(palette, value);
        if (!palette->number_in[bucket]) {
            if (palette->num_values == MAX_VALUES)
                return false;
            palette->value[palette->num_values] = value;
            palette->number_in[bucket] = (uint16_t)++palette->num_values;
        }
        numbers[i] = (uint8_t)(palette->number_in[bucket] - 1);
    }
    return true;
}

/* Numbers of values by frequency. */
static void rank_values(const struct palette *palette, uint8_t rank_ret[MAX_VALUES]) {
    for (unsigned v = 0; v < palette->num_values; v++) {
        unsigned i = v;
        for (; i > 0 && palette->count[rank_ret[i - 1]] < palette->count[v]; i--)
            rank_ret[i] = rank_ret[i - 1];
        rank_ret[i] = (uint8_t)v;
    }
}

/* How indices are coded: as bytes with a symbol for each of few, or cut into the rank of a group, which is coded, and
 * the place in the group, which is not, as neighbours are about equally frequent. */
enum form { BYTES, GROUPS_OF_4, GROUPS_OF_8, NUM_FORMS };
static const struct {
    uint32_t layout;
    unsigned place_bits, num_lanes; /* but for elements of two bytes: others save less, or decode fast enough */
} forms[NUM_FORMS] = {{ZIPFS_BYTES, 0, 64}, {ZIPFS_F8_E4M3_JOINT, 2, 128}, {ZIPFS_F8_E5M2, 3, 64}};

/* The byte that the layout of a form cuts into group and place. Floats have the highest bit of the place on top. */
static uint8_t index_of(enum form form, unsigned rank) {
    unsigned bits = forms[form].place_bits;
    if (!bits)
        return (uint8_t)rank;
    unsigned low = (1u << (bits - 1)) - 1;
    return (uint8_t)((rank >> (bits - 1) & 1) << 7 | rank >> bits << (bits - 1) | (rank & low));
}

/* Bytes that the indices take. */
static uint64_t cost_of(const struct palette *palette, const uint8_t *rank, enum form form, size_t n) {
    struct zipfs_rans_counts counts = {.num_codes = MAX_VALUES, .n = n, .complete = true};
    struct zipfs_rans_table chosen;
    unsigned bits = forms[form].place_bits;
    for (unsigned r = 0; r < palette->num_values; r++)
        counts.count[r >> bits] += palette->count[rank[r]];
    if (!counts.count[1]) /* all in one group: nothing to code */
        return 8 * n;
    return zipfs_rans_choose(&counts, 8 - bits, &chosen) / 8 + n * bits / 8;
}

/* Writes the values, each at its index; returns the size. */
static size_t write_table(const struct palette *palette, const uint8_t index[MAX_VALUES], unsigned width,
                          uint8_t *dst) {
    unsigned num = 0;
    for (unsigned v = 0; v < palette->num_values; v++)
        num = (unsigned)zipfs_max(num, index[v] + 1u);
    memset(dst, 0, num * width);
    for (unsigned v = 0; v < palette->num_values; v++)
        memcpy(dst + index[v] * width, &palette->value[v], width);
    return num * width;
}

/* Finds values and their numbers; false when they are too many, one, or all even. Elements of a byte
 * are numbers already. */
static bool find_values(struct zipfs_codec *codec, const uint8_t *src, unsigned width, size_t n,
                        struct palette *palette) {
    uint8_t *numbers = codec->encoder->check;
    if (width > 1) {
        if (!number_elements(palette, src, width, n, numbers) || palette->num_values < 2)
            return false;
        codec->kernels->histogram(numbers, n, palette->count);
        return true;
    }
    if (zipfs_sampled_entropy(codec->kernels, src, n) + n / 64 > n)
        return false;
    codec->kernels->histogram(src, n, palette->count);
    palette->num_values = MAX_VALUES;
    for (unsigned v = 0; v < MAX_VALUES; v++)
        palette->value[v] = v;
    return true;
}

/* Do ranks tell something about the next ones? Of classes of ranks, each twice as many as the one before, at least 1/32
 * bit: scales that follow each other do; weights, whatever their rows' scales are, tell a thousandth. */
static enum zipfs_lz search_of(const uint8_t *ranks, size_t n) {
    uint32_t first[256] = {0}, second[256] = {0}, both[256] = {0};
    unsigned last = 31u - (unsigned)__builtin_clz(ranks[0] + 1u);
    for (size_t i = 1; i < n; i++) {
        unsigned next = 31u - (unsigned)__builtin_clz(ranks[i] + 1u);
        both[16 * last + next]++;
        last = next;
    }
    for (unsigned c = 0; c < 256; c++) {
        first[c / 16] += both[c];
        second[c % 16] += both[c];
    }
    uint64_t apart = zipfs_entropy(first, n - 1) + zipfs_entropy(second, n - 1), together = zipfs_entropy(both, n - 1);
    return apart > together + n / (8 * 32) ? ZIPFS_LZ_RANKS : ZIPFS_LZ_PROBE;
}

size_t zipfs_palette_encode(struct zipfs_codec *codec, unsigned width, size_t phase, const uint8_t *src,
                            size_t src_size, uint8_t *dst, size_t capacity) {
    struct palette palette = {.num_values = 0};
    size_t n = (src_size - phase) / width;
    uint8_t *indices = codec->encoder->check, rank[MAX_VALUES], index[MAX_VALUES] = {0}, row[256];
    if (n < MIN || capacity < ZIPFS_WRAP_FIXED + 2 * ZIPFS_MAX_WIDTH + MAX_VALUES * width ||
        !find_values(codec, src + phase, width, n, &palette))
        return SIZE_MAX;
    rank_values(&palette, rank);
    enum form form = BYTES;
    uint64_t least = cost_of(&palette, rank, form, n);
    for (unsigned f = form + 1; f < NUM_FORMS; f++) {
        uint64_t cost = cost_of(&palette, rank, f, n);
        form = cost < least ? f : form;
        least = zipfs_min(cost, least);
    }
    if (width == 1 && (form == BYTES || least + n / MIN_GAIN > n))
        return SIZE_MAX;
    for (unsigned r = 0; r < palette.num_values; r++)
        index[rank[r]] = index_of(form, r);
    codec->kernels->look_up(index, width == 1 ? src : indices, indices, n);
    for (unsigned e = 0; e < 256; e++)
        row[e] = e < 16 ? (uint8_t)e : 255;
    size_t size = zipfs_run_wrap(width, phase, src, src_size, dst),
           table_size = write_table(&palette, index, width, dst + size);
    dst[1] = (uint8_t)(table_size / width - 1);
    size += table_size;
    struct zipfs_recipe recipe = {
        .layout = forms[form].layout,
        .row = row,
        .num_lanes = width == 2 ? 0 : forms[form].num_lanes,
        .lz = form == BYTES && codec->encoder->effort.probes ? search_of(indices, n) : ZIPFS_LZ_PROBE};
    size_t inner = zipfs_run_encode_inner(codec, &recipe, indices, n, dst + size, capacity - size);
    return inner == SIZE_MAX ? SIZE_MAX : size + inner;
}
