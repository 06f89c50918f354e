/* Planes: one field of all elements of a run, in one of five codings (docs/format.md section 4.2). */
#ifndef ZIPFS_PLANE_H
#define ZIPFS_PLANE_H

#include "kernels.h"

enum zipfs_coding { ZIPFS_RAW = 0, ZIPFS_CONST = 1, ZIPFS_RANS = 2, ZIPFS_ZSTD = 3, ZIPFS_SHORT = 4 };

/* Values are decoded a tile at a time, so that they are still in the L1 cache when they are merged. A multiple of 256.
 */
enum { ZIPFS_TILE = 4096 };

/* A plane that is being decoded. */
struct zipfs_plane {
    uint32_t coding, bits;
    const uint8_t *data; /* RAW and ZSTD: what comes next */
    struct zipfs_rans_decoder rans;
    struct zipfs_short_decoder shorts;
    uint8_t tile[ZIPFS_TILE];
};

struct zipfs_codec;

/* A plane as it is stored. */
struct zipfs_stored_plane {
    unsigned bits, shift; /* of its values; shift is 0 but in the first field of a joint layout (rans.h, patterns) */
    unsigned coding;
    const uint8_t *src;
    size_t src_size;
};

/* Checks all that can be checked before decoding. contents: room for n bytes, used by ZSTD alone. room: for the escapes
 * of RANS and SHORT; moves behind them. */
enum zipfs_status zipfs_plane_open(struct zipfs_codec *codec, struct zipfs_plane *plane,
                                   const struct zipfs_stored_plane *stored, size_t n, uint8_t *contents,
                                   uint8_t **room);
/* Points values_ret at the next n values: a full tile, or what remains. Valid until the next call. */
enum zipfs_status zipfs_plane_next(const struct zipfs_kernels *kernels, struct zipfs_plane *plane, size_t n,
                                   const uint8_t **values_ret);
/* The same, packed as in a RAW plane; n is a multiple of 8 but at the end. */
enum zipfs_status zipfs_plane_next_packed(struct zipfs_codec *codec, struct zipfs_plane *plane, size_t n,
                                          const uint8_t **packed_ret);
enum zipfs_status zipfs_plane_finish(const struct zipfs_plane *plane);

/* The most that zstd may make of what takes `size` bytes without it: 1/128 less, as it decodes ten times slower. */
static inline size_t zipfs_below(size_t size, bool exhaustive) {
    return size - 1 - (exhaustive ? 0 : size / 128);
}

/* Where to try zstd on a plane. */
enum zipfs_lz {
    ZIPFS_LZ_PROBE,   /* where it is good at a sample */
    ZIPFS_LZ_REPEATS, /* where bytes repeat */
    ZIPFS_LZ_RANKS,   /* ZSTD_FRAME_RANKS */
};

/*
 * Encodes n values in the coding that measures smallest. Returns the size; SIZE_MAX when it exceeds capacity.
 * coding_ret: the choice. is_noise_ret: RAW was chosen from samples alone, which also showed no LZ matches.
 */
size_t zipfs_plane_encode(struct zipfs_codec *codec, unsigned bits, unsigned num_lanes, const uint8_t *values, size_t n,
                          enum zipfs_lz lz, uint8_t *dst, size_t capacity, unsigned *coding_ret, bool *is_noise_ret);

/* n elements of a joint layout that are to be encoded, by these rows (joint.h). */
struct zipfs_joint {
    uint32_t layout;
    const uint8_t *row, *src;
    size_t n;
    uint8_t *const *planes; /* as joint_split has them, and room for codes in the first: n bytes each */
};

/* Encodes the first field, and fills the other planes. Always RANS; returns the size, SIZE_MAX when it exceeds
 * capacity. */
size_t zipfs_plane_encode_joint(struct zipfs_codec *codec, const struct zipfs_joint *joint, unsigned num_lanes,
                                uint8_t *dst, size_t capacity);

#endif
