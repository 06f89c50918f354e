/* The state of one coding thread, shared by chunk.c, run.c and plane.c. */
#ifndef ZIPFS_CODEC_H
#define ZIPFS_CODEC_H

#include <zstd.h>

#include "kernels.h"
#include "plane.h"

/* What a level means, in one place. */
struct zipfs_effort {
    int zstd_level;
    bool probes;     /* look for LZ matches in float planes, refine guesses */
    bool exhaustive; /* encode every candidate in full and keep the smallest */
};

/* Buffers that only encoding needs, made by the first encoding. */
struct zipfs_encoder {
    ZSTD_CCtx *cctx;
    struct zipfs_effort effort;
    struct zipfs_rans_encoder rans;
    uint8_t *fields;         /* the fields of a run, a byte each: FIELDS_PER_BYTE per plain byte */
    uint8_t *coded;          /* rANS bytes, written from the end; the same room takes trial frames of zstd */
    uint8_t *escapes;        /* written from the end */
    uint8_t *trial;          /* a second encoding of a run or chunk, to compare */
    uint8_t *check;          /* the chunk as decoded again */
    uint32_t (*counts)[256]; /* of the windows of a chunk and one more, for divide.c */
};

struct zipfs_codec {
    const struct zipfs_kernels *kernels;
    size_t chunk_size;
    ZSTD_DCtx *dctx;
    uint8_t *contents; /* of ZSTD planes: chunk_size bytes */
    struct zipfs_plane planes[ZIPFS_MAX_FIELDS];
    struct zipfs_encoder *encoder;
};

enum { ZIPFS_FIELDS_PER_BYTE = 2 }; /* most of any layout: F8 has two fields a byte */

#endif
