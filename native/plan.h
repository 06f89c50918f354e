/* Planning: which runs a chunk is cut into before it is encoded. */
#ifndef ZIPFS_PLAN_H
#define ZIPFS_PLAN_H

#include "codec.h"

/* A run to be: `size` plain bytes from `offset` in the chunk, whose first whole element begins `phase` bytes later. */
struct zipfs_piece {
    uint32_t layout, phase;
    size_t offset, size;
    bool is_gap;   /* of bytes that no segment covers, which are unlike those of a segment */
    bool is_noise; /* found so before encoding: stored as it is */
    bool is_few;   /* large, and by a sample of few values */
};

/* A growing list of pieces that cover a chunk from its start without gaps. When it fills up, the smallest pieces join
 * their neighbours. */
struct zipfs_plan {
    struct zipfs_piece pieces[4 * ZIPFS_MAX_RUNS];
    size_t num_pieces;
    size_t borders[4 * ZIPFS_MAX_RUNS]; /* offsets in the chunk where segments begin, for divide.c; not all of them */
    size_t num_borders;
    bool is_in_gap; /* what is appended now lies there */
    bool is_few;    /* what is appended now is that */
};

/* Cuts the chunk at src, whose first byte is plain byte `base`, by the segments; what none covers, and segments of
 * layout GUESS, are guessed. The plan has at most 64 pieces, each with one whole element or more. BAD_ARGUMENT: the
 * segments break their contract. */
enum zipfs_status zipfs_plan_chunk(struct zipfs_codec *codec, const uint8_t *src, size_t src_size, uint64_t base,
                                   const struct zipfs_segment *segments, size_t num_segments, struct zipfs_plan *plan);

/* Appends a piece that follows the last one; for guess.c. */
void zipfs_plan_push(struct zipfs_plan *plan, uint32_t layout, uint32_t phase, size_t offset, size_t size);

#endif
