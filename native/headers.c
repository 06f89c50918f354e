/* What the source holds at a path: attributes, and the headers of containers, remembered in a table of small sets, in
 * one of which each file has a place. */
#include "headers.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "acl.h"
#include "io.h"

enum { SET_SIZE = 4, NUM_SETS = 1 << 16 }; /* 14 MiB, of which the kernel gives what is touched; 100,000 files fit */
enum { DAMAGED_BLOCK_SIZE = 4096 };

/* All zeros: free, as no file has inode 0. */
struct place {
    uint64_t dev, ino, size;
    int64_t mtime_ns, ctime_ns;
    uint64_t plain_size;
    uint32_t chunk_size; /* 0: no container */
};

struct zipfs_headers {
    pthread_mutex_t lock;
    _Atomic uint64_t num_reads;
    struct place places[NUM_SETS][SET_SIZE];
};

enum zipfs_status zipfs_headers_create(struct zipfs_headers **headers_ret) {
    struct zipfs_headers *headers = calloc(1, sizeof *headers);
    if (!headers)
        return ZIPFS_NO_MEMORY;
    pthread_mutex_init(&headers->lock, NULL);
    *headers_ret = headers;
    return ZIPFS_OK;
}

void zipfs_headers_free(struct zipfs_headers *headers) {
    if (!headers)
        return;
    pthread_mutex_destroy(&headers->lock);
    free(headers);
}

uint64_t zipfs_headers_num_reads(struct zipfs_headers *headers) {
    return atomic_load(&headers->num_reads);
}

/* ---- the table ---- */

static int64_t to_ns(struct timespec time) {
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static struct place *set_of(struct zipfs_headers *headers, const struct stat *st) {
    uint64_t x = (st->st_ino + st->st_dev * 0x9E3779B97F4A7C15u) * 0xD6E8FEB86659FD93u;
    return headers->places[(x >> 32) % NUM_SETS];
}

static bool is_of_file(const struct place *place, const struct stat *st) {
    return place->ino == st->st_ino && place->dev == st->st_dev;
}

/* Where this file is remembered, in whichever version; else a free place, else one that is taken from another. */
static struct place *place_of(struct place *set, const struct stat *st) {
    struct place *best = &set[st->st_ctim.tv_nsec % SET_SIZE];
    for (int i = 0; i < SET_SIZE; i++) {
        if (is_of_file(&set[i], st))
            return &set[i];
        if (set[i].ino == 0)
            best = &set[i];
    }
    return best;
}

/* Sets what is shown of the file. chunk_size 0: it is no container. The blocks are those of the stored bytes, so that
 * `du` shows what is saved; but none would tell of a hole. */
static void set_shown(struct zipfs_found *found, uint64_t plain_size, uint64_t chunk_size) {
    const struct stat *st = &found->st;
    found->is_container = chunk_size > 0;
    found->size = found->is_container ? plain_size : (uint64_t)st->st_size;
    found->block_size = found->is_container ? chunk_size : (uint64_t)st->st_blksize;
    found->num_blocks = (uint64_t)st->st_blocks;
    if (S_ISREG(st->st_mode) && found->size > 0 && found->num_blocks == 0)
        found->num_blocks = 1;
}

bool zipfs_is_known(struct zipfs_headers *headers, const struct stat *st) {
    pthread_mutex_lock(&headers->lock);
    bool known = is_of_file(place_of(set_of(headers, st), st), st);
    pthread_mutex_unlock(&headers->lock);
    return known;
}

static bool recall(struct zipfs_headers *headers, struct zipfs_found *found) {
    const struct stat *st = &found->st;
    pthread_mutex_lock(&headers->lock);
    const struct place *place = place_of(set_of(headers, st), st);
    bool known = is_of_file(place, st) && place->size == (uint64_t)st->st_size
                 && place->mtime_ns == to_ns(st->st_mtim) && place->ctime_ns == to_ns(st->st_ctim);
    if (known)
        set_shown(found, place->plain_size, place->chunk_size);
    pthread_mutex_unlock(&headers->lock);
    return known;
}

static void remember(struct zipfs_headers *headers, const struct zipfs_found *found) {
    const struct stat *st = &found->st;
    pthread_mutex_lock(&headers->lock);
    *place_of(set_of(headers, st), st) = (struct place){
        .dev = st->st_dev,
        .ino = st->st_ino,
        .size = (uint64_t)st->st_size,
        .mtime_ns = to_ns(st->st_mtim),
        .ctime_ns = to_ns(st->st_ctim),
        .plain_size = found->size,
        .chunk_size = found->is_container ? (uint32_t)found->block_size : 0,
    };
    pthread_mutex_unlock(&headers->lock);
}

/* ---- headers ---- */

/* Of what is open now, which may be another file than was found. */
static int read_header(int fd, struct zipfs_found *found) {
    uint8_t head[ZIPFS_HEADER_SIZE];
    struct zipfs_header header;
    if (fstat(fd, &found->st) < 0)
        return -errno;
    zipfs_apply_acl(fd, &found->st);
    if (!S_ISREG(found->st.st_mode))
        return -ENOENT;
    ssize_t got = pread_full(fd, head, sizeof head, 0);
    if (got < 0)
        return (int)got;
    uint64_t size = (uint64_t)found->st.st_size;
    enum zipfs_status status = zipfs_header_parse(head, (size_t)got, size, &header);
    if (status == ZIPFS_OK)
        set_shown(found, header.plain_size, (uint64_t)1 << header.chunk_log2);
    else if (status == ZIPFS_BAD_MAGIC)
        set_shown(found, 0, 0);
    else /* only the stored size is left to show */
        set_shown(found, size, DAMAGED_BLOCK_SIZE);
    return 0;
}

int zipfs_read_header(struct zipfs_headers *headers, int dir_fd, const char *path, struct zipfs_found *found) {
    int fd = zipfs_open_beneath(dir_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return fd;
    atomic_fetch_add(&headers->num_reads, 1);
    int error = read_header(fd, found);
    close(fd);
    if (!error)
        remember(headers, found);
    return error;
}

int zipfs_look_into(struct zipfs_headers *headers, int dir_fd, const char *path, const char *suffix,
                    struct zipfs_found *found) {
    set_shown(found, 0, 0);
    if (!S_ISREG(found->st.st_mode) || !zipfs_has_suffix(path, suffix) || recall(headers, found))
        return 0;
    int error = zipfs_read_header(headers, dir_fd, path, found);
    return error == -EACCES || error == -EPERM ? 0 : error; /* nobody can read it through us under any name */
}

bool zipfs_has_suffix(const char *path, const char *suffix) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    size_t name_size = strlen(name), suffix_size = strlen(suffix);
    return name_size > suffix_size && strcmp(name + name_size - suffix_size, suffix) == 0;
}

int zipfs_find_beneath(struct zipfs_headers *headers, int dir_fd, const char *path, const char *suffix,
                       struct zipfs_found *found_ret) {
    struct zipfs_found found = {0};
    int error = zipfs_stat_beneath(dir_fd, path, &found.st);
    if (!error)
        error = zipfs_look_into(headers, dir_fd, path, suffix, &found);
    if (!error)
        *found_ret = found;
    return error;
}
