/* The state of one coding thread, shared by chunk.c, run.c and plane.c. */
#ifndef ZIPFS_CODEC_H
#define ZIPFS_CODEC_H

#include <zstd.h>

#include "kernels.h"
#include "plane.h"

/* What a level means, in one place. */
struct zipfs_effort {
    int zstd_level, text_level;
    bool probes;     /* look for LZ matches in float planes, refine guesses */
    bool short_codes; /* for exponents, where they pay: decoding is fastest then */
    bool exhaustive; /* encode every candidate in full and keep the smallest */
};

/* Buffers that only encoding needs, made by the first encoding. */
struct zipfs_encoder {
    ZSTD_CCtx *cctx;
    struct zipfs_effort effort;
    struct zipfs_rans_encoder rans;
    uint8_t *fields;         /* the fields of a run, a byte each: FIELDS_PER_BYTE per plain byte */
    uint8_t *coded;          /* rANS bytes, written from the end; the same room takes trial frames of zstd */
    uint64_t *escaped;       /* a bit for each code of a plane */
    uint16_t *values;        /* that are escapes: chunk_size + 64 */
    size_t nibbles_capacity; /* packed: NIBBLES_PER_BYTE; as many bytes follow them */
    uint8_t *nibbles, *far;  /* escapes as they are stored; far: chunk_size bytes */
    uint8_t *trial;          /* a second encoding of a run or chunk, to compare */
    uint8_t *check;          /* a run as decoded again, or the tile of one */
    uint32_t (*counts)[256]; /* of the windows of a chunk and one more, for divide.c */
};

struct zipfs_codec {
    const struct zipfs_kernels *kernels;
    size_t chunk_size;
    ZSTD_DCtx *dctx;
    uint8_t *contents; /* of ZSTD planes: chunk_size bytes */
    uint8_t *part;     /* of all blocks of a run: chunk_size bytes */
    uint8_t *room;     /* for the escapes of the planes of a run:
                        * ZIPFS_ROOM_PER_BYTE * chunk_size + ZIPFS_ROOM_FIXED bytes */
    size_t plain_size; /* of the chunk that is being decoded */
    const uint8_t *payload_end;
    /* To be prefetched meanwhile: what the caller is likely to want next. */
    const uint8_t *ahead;
    size_t ahead_size;
    uint8_t packed[ZIPFS_TILE]; /* the second field of a joint layout, where it was not RAW */
    struct zipfs_plane planes[ZIPFS_MAX_FIELDS];
    struct zipfs_encoder *encoder;
};

enum {
    ZIPFS_NIBBLES_PER_BYTE = 6, /* a value that is a byte has a number below 61: five nibbles at most */
    ZIPFS_FIELDS_PER_BYTE = 2, /* most of any layout: F8 has two fields a byte */
    /* Patterns of escapes take a byte a value, those of a joint layout's first field two where an element has two;
     * their numbers another one. */
    ZIPFS_ROOM_PER_BYTE = 3,
    ZIPFS_ROOM_FIXED = 3 * ZIPFS_MAX_FIELDS * ZIPFS_RANS_MAX_LANES,
};

#endif
