/* What the source holds: attributes, and the headers of containers, remembered in a table of small sets, in one of
 * which each file has a place. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "grow.h"
#include "io.h"
#include "zipfs.h"

enum { SET_SIZE = 4, NUM_SETS = 1 << 15 }; /* 7 MiB, of which the kernel gives what is touched */

/* All zeros: free, as no file has inode 0. */
struct place {
    uint64_t dev, ino, size;
    int64_t mtime_ns, ctime_ns;
    uint64_t plain_size;
    uint32_t chunk_size;
    uint32_t status;
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

/* Where this file is remembered, in whichever version; else a free place, else one that is taken from another. */
static struct place *place_of(struct place *set, const struct stat *st) {
    struct place *best = &set[st->st_ctim.tv_nsec % SET_SIZE];
    for (int i = 0; i < SET_SIZE; i++) {
        if (set[i].ino == st->st_ino && set[i].dev == st->st_dev)
            return &set[i];
        if (set[i].ino == 0)
            best = &set[i];
    }
    return best;
}

static bool recall(struct zipfs_headers *headers, struct zipfs_found *found) {
    const struct stat *st = &found->st;
    pthread_mutex_lock(&headers->lock);
    const struct place *place = place_of(set_of(headers, st), st);
    bool known = place->ino == st->st_ino && place->dev == st->st_dev && place->size == (uint64_t)st->st_size
                 && place->mtime_ns == to_ns(st->st_mtim) && place->ctime_ns == to_ns(st->st_ctim);
    if (known) {
        found->status = place->status;
        found->plain_size = place->plain_size;
        found->chunk_size = place->chunk_size;
    }
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
        .plain_size = found->plain_size,
        .chunk_size = (uint32_t)found->chunk_size,
        .status = found->status,
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
    if (!S_ISREG(found->st.st_mode))
        return -ENOENT;
    ssize_t got = pread_full(fd, head, sizeof head, 0);
    if (got < 0)
        return (int)got;
    found->status = zipfs_header_parse(head, (size_t)got, (uint64_t)found->st.st_size, &header);
    if (found->status == ZIPFS_OK) {
        found->plain_size = header.plain_size;
        found->chunk_size = (uint64_t)1 << header.chunk_log2;
    }
    return 0;
}

/* Finds out whether the regular file at path is a container. found->st is that of the file that was read, then. */
static int look_into(struct zipfs_headers *headers, int dir_fd, const char *path, struct zipfs_found *found) {
    if (recall(headers, found))
        return 0;
    int fd = zipfs_open_beneath(dir_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    if (fd == -EACCES || fd == -EPERM) /* nobody can read it through us under any name */
        return 0;
    if (fd < 0)
        return fd;
    atomic_fetch_add(&headers->num_reads, 1);
    int error = read_header(fd, found);
    close(fd);
    if (!error)
        remember(headers, found);
    return error;
}

int zipfs_find_beneath(struct zipfs_headers *headers, int dir_fd, const char *path, struct zipfs_found *found_ret) {
    struct zipfs_found found = {.status = ZIPFS_BAD_MAGIC};
    int error = zipfs_stat_beneath(dir_fd, path, &found.st);
    if (!error && S_ISREG(found.st.st_mode))
        error = look_into(headers, dir_fd, path, &found);
    if (!error)
        *found_ret = found;
    return error;
}

/* ---- scans ---- */

/* Entries that the folder itself tells to be of no kind that is served need no look. */
static bool may_be_served(const struct dirent *entry) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
        return false;
    return entry->d_type == DT_UNKNOWN || entry->d_type == DT_REG || entry->d_type == DT_DIR
           || entry->d_type == DT_LNK;
}

static bool has_suffix(const char *name, const char *suffix) {
    size_t name_size = strlen(name), suffix_size = strlen(suffix);
    return name_size > suffix_size && strcmp(name + name_size - suffix_size, suffix) == 0;
}

/* false: the entry is not to be shown. */
static bool look_at(struct zipfs_headers *headers, int folder_fd, const char *name, const char *suffix,
                    struct zipfs_found *found) {
    if (fstatat(folder_fd, name, &found->st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0)
        return false;
    if (S_ISREG(found->st.st_mode) && has_suffix(name, suffix))
        return look_into(headers, folder_fd, name, found) != -ENOENT;
    return S_ISREG(found->st.st_mode) || S_ISDIR(found->st.st_mode) || S_ISLNK(found->st.st_mode);
}

static bool add(struct zipfs_scan *scan, const char *name, const struct zipfs_found *found) {
    size_t name_size = strlen(name) + 1;
    if (!zipfs_grow((void **)&scan->entries, &scan->max_entries, scan->num_entries + 1, sizeof *scan->entries)
        || !zipfs_grow((void **)&scan->names, &scan->names_capacity, scan->names_size + name_size, 1))
        return false;
    memcpy(scan->names + scan->names_size, name, name_size);
    scan->entries[scan->num_entries] = *found;
    scan->entries[scan->num_entries++].name_offset = scan->names_size;
    scan->names_size += name_size;
    return true;
}

static int scan_folder(struct zipfs_headers *headers, DIR *folder, const char *suffix, struct zipfs_scan *scan) {
    struct dirent *entry;
    while (errno = 0, (entry = readdir(folder))) {
        struct zipfs_found found = {.status = ZIPFS_BAD_MAGIC};
        if (!may_be_served(entry) || !look_at(headers, dirfd(folder), entry->d_name, suffix, &found))
            continue;
        if (!add(scan, entry->d_name, &found))
            return -ENOMEM;
    }
    return -errno;
}

int zipfs_scan_beneath(struct zipfs_headers *headers, int dir_fd, const char *path, const char *suffix,
                       struct zipfs_scan *scan_ret) {
    int fd = zipfs_open_beneath(dir_fd, path, O_RDONLY | O_DIRECTORY | O_NONBLOCK);
    if (fd < 0)
        return fd;
    DIR *folder = fdopendir(fd);
    if (!folder) {
        int error = -errno;
        close(fd);
        return error;
    }
    *scan_ret = (struct zipfs_scan){0};
    int error = scan_folder(headers, folder, suffix, scan_ret);
    closedir(folder);
    if (error)
        zipfs_scan_free(scan_ret);
    return error;
}

void zipfs_scan_free(struct zipfs_scan *scan) {
    free(scan->entries);
    free(scan->names);
}
