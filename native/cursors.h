/* Sequential streams among the reads of one file. Several readers may be at it at once, and threads bring the parts of
 * one stream in any order. Pure bookkeeping: no lock, no I/O, no clock. Offsets are plain. */
#ifndef ZIPFS_CURSORS_H
#define ZIPFS_CURSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ZIPFS_MAX_CURSORS = 16 };

/* A stream, or what may become one: reads that lie close to one another and move on. What was done ahead of it or
 * behind it is kept here by those who do it; all of that starts where the stream does. */
struct zipfs_cursor {
    uint64_t start;       /* of its first read */
    uint64_t next;        /* the end of its furthest read */
    uint64_t covered;     /* bytes read in between: at most next - start */
    uint64_t source_next; /* the source was read up to here */
    uint64_t source_end;  /* and is to be read up to here */
    uint64_t decode_next; /* chunks were decoded up to here */
    uint64_t decode_end;  /* and are to be decoded up to here */
    uint64_t shared_next; /* `next` when something was read again that had been read before; 0: never */
    uint64_t drop_next;   /* the source's pages were dropped up to here */
    uint64_t last_used;   /* when, in reads of this file; 0: free */
};

/* Zero to start from. */
struct zipfs_cursors {
    struct zipfs_cursor list[ZIPFS_MAX_CURSORS];
    uint64_t num_reads;
};

/* The stream that a read of [offset, offset + size) belongs to, with it taken into account. A read far from all streams
 * starts a new one, in place of the shortest that there is, or of one that was not used for long: so far seeks end what
 * is done ahead, and random reads do not push out a stream among them. */
struct zipfs_cursor *zipfs_cursors_note(struct zipfs_cursors *cursors, uint64_t offset, size_t size);

/* How far beyond `next` it is worth to go for this stream: nothing before more than `first` bytes were read in
 * sequence, then as much as was read so far, up to `most`. */
uint64_t zipfs_cursor_window(const struct zipfs_cursor *cursor, uint64_t first, uint64_t most);

/* Whether what this stream reads now is likely to be read again soon: several readers are at the same, side by side or
 * behind one another, by `distance` at most. */
bool zipfs_cursors_is_shared(const struct zipfs_cursors *cursors, const struct zipfs_cursor *cursor, uint64_t distance);

/* The stream that was read last among those for which `wants` holds; NULL when there is none. */
struct zipfs_cursor *zipfs_cursors_find(struct zipfs_cursors *cursors, bool (*wants)(const struct zipfs_cursor *));

/* Whether another stream is about to read in [start, end). */
bool zipfs_cursors_has_other(const struct zipfs_cursors *cursors, const struct zipfs_cursor *cursor, uint64_t start,
                             uint64_t end);

#endif
