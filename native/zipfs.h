/*
 * zipfs: the public interface of the native library.
 *
 * What it does: codes and decodes the chunks of containers (docs/format.md), reads containers and plain files through a
 * cache of decoded chunks, and serves the read operation of a mount. It knows nothing of Python, of folders or of FUSE
 * sessions.
 *
 * Rules that hold everywhere:
 *  - Functions return ZIPFS_OK or the reason of failure; results go through parameters that end in `_ret`, which are
 *    untouched unless the text says otherwise when the call fails. Output buffers hold undefined bytes after a failure.
 *  - `src` buffers are never written to and never read beyond their size; `dst` buffers never written beyond theirs.
 *  - Sizes and offsets are in bytes. Ranges are half-open.
 *  - A container is untrusted input: any bytes give ZIPFS_OK or an error, in bounded time and memory.
 */
#ifndef ZIPFS_H
#define ZIPFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#define ZIPFS_API __attribute__((visibility("default")))

/* Why a call failed. The names are those of docs/format.md; zipfs_status_name() gives them as text ("BAD_MAGIC"). */
enum zipfs_status {
    ZIPFS_OK = 0,
    /* the caller or the system */
    ZIPFS_IO,        /* pread failed; errno holds the reason */
    ZIPFS_NO_MEMORY,
    ZIPFS_NO_SPACE,  /* dst_capacity is too small */
    ZIPFS_BAD_ARGUMENT,
    ZIPFS_BAD_KERNEL, /* ZIPFS_KERNEL names a kernel that is unknown, not built, or beyond this CPU */
    /* the container: docs/format.md sections 2 to 8 */
    ZIPFS_TRUNCATED,
    ZIPFS_FIRST_FORMAT_ERROR = ZIPFS_TRUNCATED,
    ZIPFS_BAD_MAGIC,
    ZIPFS_BAD_VERSION,
    ZIPFS_BAD_HEADER,
    ZIPFS_HEADER_CHECKSUM,
    ZIPFS_RESERVED_NOT_ZERO,
    ZIPFS_UNKNOWN_FEATURE,
    ZIPFS_TOO_LARGE,
    ZIPFS_BAD_SECTIONS,
    ZIPFS_ROOT_CHECKSUM,
    ZIPFS_BAD_ROOT,
    ZIPFS_PAGE_CHECKSUM,
    ZIPFS_BAD_PAGE,
    ZIPFS_CHUNK_CHECKSUM,
    ZIPFS_PLAIN_CHECKSUM,
    ZIPFS_BAD_RUNS,
    ZIPFS_UNKNOWN_LAYOUT,
    ZIPFS_UNKNOWN_CODING,
    ZIPFS_BAD_PLANE,
    ZIPFS_BAD_RANS,
    ZIPFS_BAD_ZSTD,
    ZIPFS_BAD_SEGMENTS,
    ZIPFS_BAD_COPY,   /* section 8 */
    ZIPFS_BAD_TARGET, /* a chunk that this one copies from cannot be had */
    ZIPFS_NUM_STATUS
};

ZIPFS_API const char *zipfs_status_name(enum zipfs_status status); /* never NULL */

/* ---- kernels ----------------------------------------------------------------------------------------------------- */

/* The kernel in use: "scalar", "neon", "avx2" or "avx512" (F, BW, VL, VBMI, VBMI2). Chosen once, at the first use: the
 * best that this CPU runs, or the one that the environment variable ZIPFS_KERNEL names. NULL when that demand cannot
 * be met; every codec call then returns ZIPFS_BAD_KERNEL. Any thread. */
ZIPFS_API const char *zipfs_kernel(void);

enum { ZIPFS_MAX_KERNELS = 4 };

/* One of the kernels that there are. */
struct zipfs_kernel_info {
    const char *name;
    bool built;        /* into this library: false where it is for another kind of CPU */
    const char *lacks; /* a feature that it needs and this CPU lacks; NULL when it runs here, or is not built */
};

/* All kernels, best first. Any thread. */
ZIPFS_API void zipfs_kernel_list(struct zipfs_kernel_info info_ret[ZIPFS_MAX_KERNELS]);

/* ---- the codec: one chunk at a time ------------------------------------------------------------------------------ */

enum zipfs_kind { ZIPFS_KIND_STORED = 0, ZIPFS_KIND_RUNS = 1, ZIPFS_KIND_CONSTANT = 2 };
/*
 * How hard the encoder looks. All levels decode alike, but for what zstd takes.
 *  FAST     float runs get rANS, constant or raw planes, and exponents of 8 bits short codes where those take little
 *           more, which decode fastest; zstd runs at level 1, for bytes and integers that repeat; guessed borders are
 *           good to 8 KiB.
 *  DEFAULT  zstd at level 3, 5 for text; float planes and runs get it too where a sample promises a gain; guessed
 *           borders are good to a few bytes.
 *  MAX      every coding of every plane is tried in full, and plain zstd on every run and on the whole chunk, at level
 *           19. Slow.
 * The first two store what samples show to be noise as it is.
 */
enum zipfs_level { ZIPFS_LEVEL_FAST = 0, ZIPFS_LEVEL_DEFAULT = 1, ZIPFS_LEVEL_MAX = 2 };
enum { ZIPFS_CHUNK_LOG2_MIN = 16, ZIPFS_CHUNK_LOG2_MAX = 22, ZIPFS_MAX_RUNS = 64, ZIPFS_MAX_COPIES = 8 };

/* docs/format.md section 4.1. GUESS is no layout of the format: it asks the encoder to find one. */
enum zipfs_layout {
    ZIPFS_BYTES = 0, ZIPFS_BF16 = 1, ZIPFS_F16 = 2, ZIPFS_F32 = 3, ZIPFS_F64 = 4,
    ZIPFS_F8_E4M3 = 5, ZIPFS_F8_E5M2 = 6, ZIPFS_I16 = 7, ZIPFS_I32 = 8, ZIPFS_I64 = 9,
    /* The encoder's own choice where they pay; no segment has one. */
    ZIPFS_BF16_JOINT = 10, ZIPFS_F16_JOINT = 11, ZIPFS_F32_JOINT = 12,
    ZIPFS_F8_E4M3_JOINT = 13, ZIPFS_F8_E5M2_JOINT = 14,
    ZIPFS_NUM_LAYOUTS,
    /* Runs that wrap others. */
    ZIPFS_PALETTE = 242, ZIPFS_SPARSE = 243, ZIPFS_BLOCKS = 244,
    ZIPFS_GUESS = 255,
    /* From here on, no layouts of the format either: segments of blocks, which become BLOCKS runs where that pays. */
    ZIPFS_FIRST_BLOCK_FORMAT = 256
};

/* The dtype that the layout stands for, such as Q4_K; NULL when it is no block format. They are numbered without
 * gaps. */
ZIPFS_API const char *zipfs_block_format_name(uint32_t layout);

/* A range of the plain file whose elements start at `offset` and have one layout. Ranges outside all are GUESSed. */
struct zipfs_segment {
    uint64_t offset;
    uint64_t size;
    uint32_t layout; /* enum zipfs_layout */
};

/* The layout of runs without elements (docs/format.md section 8): plain bytes [at, at + size) of the chunk are those of
 * the file from plain offset `target`. */
enum { ZIPFS_COPY = 240 };
struct zipfs_copy {
    uint32_t at, size;
    uint64_t target;
};

/* The copies of one chunk, ascending and without overlap. */
struct zipfs_copies {
    size_t num;
    struct zipfs_copy list[ZIPFS_MAX_COPIES];
};

/* What the index holds of a chunk, without its offset. */
struct zipfs_entry {
    uint32_t stored_size;
    uint32_t kind;
    uint64_t stored_hash;
    uint64_t plain_hash;
};

/* Has an entry, of a chunk of plain_size bytes, a known kind and a size that this kind allows? */
bool zipfs_entry_fits(const struct zipfs_entry *entry, size_t plain_size);

/* Scratch memory of one encoding or decoding thread: a chunk, six more after the first encoding, and zstd's own. For
 * one thread at a time. */
struct zipfs_codec;
ZIPFS_API enum zipfs_status zipfs_codec_create(uint32_t chunk_log2, struct zipfs_codec **codec_ret);
ZIPFS_API void zipfs_codec_free(struct zipfs_codec *codec); /* NULL is allowed */

/*
 * Encodes chunk `number` (its plain bytes are src, from plain offset `number << chunk_log2`), decodes the result again
 * and compares it with src. `segments` is sorted by offset, without overlap, and may reach beyond the chunk on both
 * sides. dst needs src_size bytes: a payload is never larger than its chunk. The same input, level and libzstd give the
 * same payload with every kernel. entry_ret receives sizes, kind and both hashes.
 */
ZIPFS_API enum zipfs_status zipfs_encode_chunk(struct zipfs_codec *codec, enum zipfs_level level, uint64_t number,
                                               const uint8_t *src, size_t src_size,
                                               const struct zipfs_segment *segments, size_t num_segments,
                                               uint8_t *dst, size_t dst_capacity, struct zipfs_entry *entry_ret);

/* The same for a chunk that repeats earlier bytes of its file: each of `copies` becomes a COPY run. The caller answers
 * for their targets: that src holds the same bytes, and that they touch no copies. BAD_ARGUMENT for copies that break a
 * rule of section 8 here. A chunk that would need more than 64 runs is encoded without copies. */
ZIPFS_API enum zipfs_status zipfs_encode_chunk_copies(struct zipfs_codec *codec, enum zipfs_level level,
                                                      uint64_t number, const uint8_t *src, size_t src_size,
                                                      const struct zipfs_segment *segments, size_t num_segments,
                                                      const struct zipfs_copies *copies, uint8_t *dst,
                                                      size_t dst_capacity, struct zipfs_entry *entry_ret);

/* Decodes the payload src of chunk `number` into exactly dst_size plain bytes, checking stored_hash first
 * (CHUNK_CHECKSUM). plain_hash is not checked. A payload with copies is rejected (UNKNOWN_FEATURE). */
ZIPFS_API enum zipfs_status zipfs_decode_chunk(struct zipfs_codec *codec, uint64_t number,
                                               const struct zipfs_entry *entry, const uint8_t *src, uint8_t *dst,
                                               size_t dst_size);

/* The same for a payload that may hold copies: their ranges of dst are left as they are, and copies_ret, which is set
 * whatever the outcome, says which those are and where their bytes are to be had. */
ZIPFS_API enum zipfs_status zipfs_decode_chunk_copies(struct zipfs_codec *codec, uint64_t number,
                                                      const struct zipfs_entry *entry, const uint8_t *src,
                                                      uint8_t *dst, size_t dst_size,
                                                      struct zipfs_copies *copies_ret);

/* One run of a payload of kind runs, as its record says it; for `info` and for tests. */
struct zipfs_run { uint32_t layout, phase, plain_size, stored_size; };
ZIPFS_API enum zipfs_status zipfs_chunk_runs(const uint8_t *src, size_t src_size, size_t plain_size,
                                             struct zipfs_run runs_ret[ZIPFS_MAX_RUNS], size_t *num_runs_ret);

ZIPFS_API uint64_t zipfs_hash(const uint8_t *src, size_t src_size, uint64_t seed); /* XXH3-64 */

/* ---- containers -------------------------------------------------------------------------------------------------- */

struct zipfs_header {
    uint64_t plain_size, container_size, num_chunks;
    uint32_t chunk_log2, level, zstd_version;
    bool has_sha256;
    bool has_copies; /* chunks may hold COPY runs */
    uint8_t sha256[32];
    uint64_t payloads_offset, payloads_size, pages_offset, pages_size, root_offset, root_size;
    uint64_t segments_offset, segments_size; /* 0, 0 when there is no table */
};

enum { ZIPFS_HEADER_SIZE = 256, ZIPFS_PAGE_SIZE = 4096, ZIPFS_PAGE_ENTRIES = 127 };

/* Parses and checks the 256 bytes of a header; file_size is what fstat says. Does no I/O. Any thread. */
ZIPFS_API enum zipfs_status zipfs_header_parse(const uint8_t *src, size_t src_size, uint64_t file_size,
                                               struct zipfs_header *header_ret);
/* Writes the 256 bytes of a header whose fields (but num_chunks) the caller filled in. BAD_ARGUMENT when a reader would
 * refuse it: sections must be contiguous, and so on. */
ZIPFS_API enum zipfs_status zipfs_header_write(const struct zipfs_header *header, uint8_t dst[ZIPFS_HEADER_SIZE]);

/* An open container. Any number of threads may use one reader at once. */
struct zipfs_reader;
/* Reads and checks header and root (two preads). Takes ownership of fd on success only. */
ZIPFS_API enum zipfs_status zipfs_reader_open(int fd, struct zipfs_reader **reader_ret);
ZIPFS_API void zipfs_reader_free(struct zipfs_reader *reader); /* closes fd; NULL is allowed */
ZIPFS_API const struct zipfs_header *zipfs_reader_header(const struct zipfs_reader *reader);
/* Looks an entry up, reading and checking its page when needed. */
ZIPFS_API enum zipfs_status zipfs_reader_entry(struct zipfs_reader *reader, uint64_t number, uint64_t *offset_ret,
                                               struct zipfs_entry *entry_ret);
/* Reads and decodes chunk `number` into dst, which takes the chunk's plain size, and the chunks that it copies from
 * (two at most for each copy; BAD_TARGET when one of them fails). check_plain: plain_hash as well. */
ZIPFS_API enum zipfs_status zipfs_reader_chunk(struct zipfs_reader *reader, struct zipfs_codec *codec, uint64_t number,
                                               bool check_plain, uint8_t *dst, size_t dst_size);
/* Reads the payload of chunk `number` and checks its stored_hash, without decoding. */
ZIPFS_API enum zipfs_status zipfs_reader_check(struct zipfs_reader *reader, struct zipfs_codec *codec, uint64_t number);

/* ---- cache and files: the read path ------------------------------------------------------------------------------ */

/* Counters of a file, or of all files, since they were first opened. Each is exact on its own, a set of them is no
 * snapshot. Bytes are plain bytes unless they are called stored. */
#define ZIPFS_FILE_COUNTERS(X) \
    X(reads)                /* requests */ \
    X(bytes_read)           /* what they got */ \
    X(bytes_passed)         /* of these, from files that are no containers */ \
    X(errors)               /* requests answered with an error */ \
    X(chunks_decoded) \
    X(bytes_decoded) \
    X(stored_bytes_read) \
    X(decode_ns)            /* of all threads together */ \
    X(cache_hits)           /* chunks that were held when a reader wanted them, */ \
    X(cache_waits)          /* that somebody else was decoding, */ \
    X(cache_misses)         /* or that the reader decoded: into the cache, */ \
    X(chunks_direct)        /* or into its own memory */ \
    X(ahead_chunks)         /* chunks decoded before anybody asked, and their bytes: */ \
    X(ahead_bytes) \
    X(ahead_used_bytes)     /* those of chunks that were read afterwards, */ \
    X(ahead_wasted_bytes)   /* and of those that were let go before */ \
    X(source_ahead_bytes)   /* stored bytes that the system was asked for before they were needed */ \
    X(source_dropped_bytes) /* stored bytes that were dropped from the system's cache */

/* What is there of all files together, now but for the evictions. */
#define ZIPFS_CACHE_COUNTERS(X) \
    X(cache_evictions) \
    X(cache_bytes)         /* chunks held or being decoded for the cache; these count in the budget: */ \
    X(ahead_held_bytes)    /* of these, decoded ahead and not asked for yet */ \
    X(source_buffer_bytes) /* buffers for stored bytes, used and kept for use */ \
    X(overdraft_bytes)     /* chunks that readers need though the budget has no room for them */

#define ZIPFS_COUNTER_FIELD(name) uint64_t name;
struct zipfs_file_stats {
    ZIPFS_FILE_COUNTERS(ZIPFS_COUNTER_FIELD)
};
struct zipfs_stats {
    ZIPFS_FILE_COUNTERS(ZIPFS_COUNTER_FIELD)
    ZIPFS_CACHE_COUNTERS(ZIPFS_COUNTER_FIELD)
};

/*
 * Decoded chunks, least recently used first out, and the limit on threads at work. `budget` counts what is held for
 * hits (chunk buffers plus a fixed overhead each), what is decoded ahead, and the buffers for stored bytes; a chunk
 * that has no room in it is served and not kept. `jobs` (at most 1024) is the most threads that decode, or copy large
 * replies, at one time, 0: one per CPU; those that wait for the disk do not count. One cache serves all files of a
 * mount.
 */
struct zipfs_cache_options {
    size_t budget;
    unsigned jobs;
    size_t ahead_max; /* bytes decoded ahead of sequential readers, of all files together; 0: none */
    bool drop_source; /* drop the source from the system's cache behind sequential readers */
};
struct zipfs_cache;
ZIPFS_API enum zipfs_status zipfs_cache_create(const struct zipfs_cache_options *options,
                                               struct zipfs_cache **cache_ret);
/* Open files keep the cache until they are closed. NULL is allowed. */
ZIPFS_API void zipfs_cache_free(struct zipfs_cache *cache);
ZIPFS_API void zipfs_cache_stats(struct zipfs_cache *cache, struct zipfs_stats *stats_ret);
/* The options, the counters, and those of each file that is open or was lately, up to a limit, as one JSON object,
 * NUL-terminated, to be free()d. Bytes of names that are no UTF-8 become lone surrogates, as in Python. */
ZIPFS_API enum zipfs_status zipfs_cache_report(struct zipfs_cache *cache, char **text_ret);
/* Gives back all memory that is held for later. For those who see that nobody reads. */
ZIPFS_API void zipfs_cache_trim(struct zipfs_cache *cache);

/* Where read errors are told, once per damaged chunk of an open file. */

/* fd 2 and the like: lines are written whole, with a newline; -1: syslog(LOG_ERR). */
ZIPFS_API void zipfs_log_to_fd(int fd);
ZIPFS_API void zipfs_log(const char *line);

/* One version of one file of the source: a container (decoded) or any other file (passed through). Any number of
 * threads may read at once, and a forked child may read on: a fork waits for the reads under way. Reference counted. */
struct zipfs_file;
/* Opens a container (ZIPFS_FORMAT errors as zipfs_reader_open) or, with plain set, a file that is passed through.
 * Takes ownership of fd on success. `name` is copied, for log lines. The count starts at 1. */
ZIPFS_API enum zipfs_status zipfs_file_open(struct zipfs_cache *cache, int fd, const char *name, bool plain,
                                            struct zipfs_file **file_ret);
ZIPFS_API void zipfs_file_ref(struct zipfs_file *file);
ZIPFS_API void zipfs_file_unref(struct zipfs_file *file); /* the last one closes fd and drops its cached chunks */
/* One has opened a mounted file, or closed it. What is read from its start is kept for others, as far as three quarters
 * of the budget, while several have it open; 16 MiB of it while one has. */
ZIPFS_API void zipfs_file_join(struct zipfs_file *file);
ZIPFS_API void zipfs_file_leave(struct zipfs_file *file);
ZIPFS_API uint64_t zipfs_file_size(const struct zipfs_file *file); /* plain size */
ZIPFS_API int zipfs_file_fd(const struct zipfs_file *file);        /* of the source; the file's */
/* Counts bytes that readers of a mount have got. true once: when they come to all of the file but a sixteenth. */
ZIPFS_API bool zipfs_file_has_served(struct zipfs_file *file, size_t size);
/* Reads begun so far, of this version alone. */
ZIPFS_API uint64_t zipfs_file_num_reads(const struct zipfs_file *file);
/* Counters of all versions that were open under this name one after the other, as long as the cache remembers. */
ZIPFS_API void zipfs_file_stats(const struct zipfs_file *file, struct zipfs_file_stats *stats_ret);
ZIPFS_API const struct zipfs_header *zipfs_file_header(const struct zipfs_file *file); /* NULL for a plain one */
/*
 * Reads up to size plain bytes at offset; fewer only at the end of the file. Returns the count, or -errno (-EIO for
 * damage, which is logged once per chunk). Chunks that lie wholly inside the request are decoded straight into dst,
 * unless several readers are at the same; others go through the cache. Each is decoded once for all threads that want
 * it at that time. A request of 2 MiB or more is decoded on up to `jobs` threads.
 */
ZIPFS_API ssize_t zipfs_file_pread(struct zipfs_file *file, void *dst, size_t size, uint64_t offset);

/* Plain bytes as they came: slices in order, each in the reader's buffer, or in a chunk that the cache holds for it;
 * and the right to copy them, if they are many: one of the cache's `jobs`. */
struct zipfs_chunk;
struct zipfs_seat;
struct zipfs_slice {
    const uint8_t *data;
    size_t size;
    const struct zipfs_chunk *held; /* NULL: in the buffer */
};
enum { ZIPFS_SLICES_SIZE_MAX = 1 << 20, ZIPFS_SLICES_MAX = (ZIPFS_SLICES_SIZE_MAX >> ZIPFS_CHUNK_LOG2_MIN) + 1 };
struct zipfs_slices {
    unsigned num_slices;
    struct zipfs_seat *seat; /* NULL: none is needed */
    struct zipfs_slice slices[ZIPFS_SLICES_MAX];
};
/* As zipfs_file_pread, of ZIPFS_SLICES_SIZE_MAX bytes at most, but what the cache holds is not copied. `buffer` takes
 * size bytes, of which any may be overwritten. After success, the slices, be they none, are to be given back by
 * zipfs_file_put(), soon and before this thread reads again: what is held cannot make room, and others may wait
 * for the right to work. They keep the file: it may be closed meanwhile. */
ZIPFS_API ssize_t zipfs_file_read(struct zipfs_file *file, void *buffer, size_t size, uint64_t offset,
                                  struct zipfs_slices *slices_ret);
ZIPFS_API void zipfs_file_put(struct zipfs_file *file, const struct zipfs_slices *slices);

/* The read operation of libfuse's high-level interface, for both layouts of struct fuse_file_info: fh is a struct
 * zipfs_file *, at byte 24 in libfuse 2.9 and at byte 16 in libfuse 3 (64-bit targets). `path` is not used. */
ZIPFS_API int zipfs_fuse2_read(const char *path, char *dst, size_t size, off_t offset, void *file_info);
ZIPFS_API int zipfs_fuse3_read(const char *path, char *dst, size_t size, off_t offset, void *file_info);

/* ---- the source folder ------------------------------------------------------------------------------------------- */

/* openat2(dir_fd, path, flags | O_CLOEXEC) that never leaves dir_fd and follows no symlink anywhere. Returns a
 * descriptor or -errno. */
ZIPFS_API int zipfs_open_beneath(int dir_fd, const char *path, int flags);
/* The attributes of what path is, of a symlink its own; the mode grants nobody but the owner what an access list of the
 * file denies to anybody. 0 or -errno. */
ZIPFS_API int zipfs_stat_beneath(int dir_fd, const char *path, struct stat *st_ret);

/* What tells a folder's containers from other files, remembered by the identity of each version (device, inode, size,
 * mtime, ctime), so that a header is read once; versions push each other out when there are many. Any thread. */
struct zipfs_headers;
ZIPFS_API enum zipfs_status zipfs_headers_create(struct zipfs_headers **headers_ret);
ZIPFS_API void zipfs_headers_free(struct zipfs_headers *headers); /* NULL is allowed */
ZIPFS_API uint64_t zipfs_headers_num_reads(struct zipfs_headers *headers); /* files whose header was read so far */

/* A file, folder or symlink of the source, and what is shown of it. */
struct zipfs_found {
    struct stat st; /* of the source, its mode as above */
    bool is_container;
    uint64_t size, num_blocks, block_size; /* as shown; of a container whose header breaks a rule, the stored size */
    size_t name_offset;                    /* of a scan: in names, where each ends with its NUL */
};
/* What is at path, of a symlink the link itself; only a regular file is looked at for a header, whose name ends with
 * `suffix` and is longer. What may not be read is no container. 0 or -errno. */
ZIPFS_API int zipfs_find_beneath(struct zipfs_headers *headers, int dir_fd, const char *path, const char *suffix,
                                 struct zipfs_found *found_ret);

/* The files, folders and symlinks of a folder, unsorted. */
struct zipfs_scan {
    struct zipfs_found *entries;
    size_t num_entries, max_entries;
    char *names;
    size_t names_size, names_capacity;
};
/* The same of all that a folder holds. What goes away meanwhile is left out. 0 or -errno; the scan is to be freed after
 * success. */
ZIPFS_API int zipfs_scan_beneath(struct zipfs_headers *headers, int dir_fd, const char *path, const char *suffix,
                                 struct zipfs_scan *scan_ret);
/* Makes the scan that of what is shown: containers lose the suffix, and go where that is the name of something that is
 * shown itself; so does what is shown as `hidden`, which may be empty. Once. 0 or -errno. */
ZIPFS_API int zipfs_scan_show(struct zipfs_scan *scan, const char *suffix, const char *hidden);
ZIPFS_API void zipfs_scan_free(struct zipfs_scan *scan);

#endif
