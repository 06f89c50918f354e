/* The operations of a mount. Names, folders and opens ask the tree; attributes of containers are answered from their
 * nodes, which never change; reads go straight to the file. */
#include "fuse_operations.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "fuse_stats.h"

enum {
    MAX_BACKGROUND = 64,
    UNKNOWN_INO = 0xffffffff, /* as libfuse's own */
    MIN_ENTRY_SIZE = 128,     /* of a name with attributes in a reply */
};

static const double VALID_S = 0.9;        /* what the kernel may believe of names, folders and what is no container: a
                                           * change shows within a second */
static const double SETTLED_S = 3;        /* after which a file is no longer being written; clocks differ a little */
static const double LONG_VALID_S = 86400; /* and of a container, whose next version is another node */
static const double WANTED_S = 10;        /* for how long one look at a file lets expect others */

static struct zipfs_served *served_by(fuse_req_t request) {
    return fuse_req_userdata(request);
}

/* ---- time ---- */

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static bool is_within(double seconds, int64_t since_ns) {
    return (double)(now_ns() - since_ns) < seconds * 1e9;
}

/* ---- nodes ---- */

static struct timespec to_timespec(int64_t ns) {
    int64_t seconds = ns / 1000000000, rest = ns % 1000000000;
    return (struct timespec){.tv_sec = seconds - (rest < 0), .tv_nsec = rest + (rest < 0 ? 1000000000 : 0)};
}

static struct stat to_stat(const struct zipfs_version *version) {
    return (struct stat){
        .st_ino = version->ino,
        .st_mode = version->mode,
        .st_nlink = version->num_links,
        .st_uid = version->uid,
        .st_gid = version->gid,
        .st_size = (off_t)version->size,
        .st_blocks = (blkcnt_t)version->num_blocks,
        .st_blksize = version->block_size,
        .st_atim = to_timespec(version->atime_ns),
        .st_mtim = to_timespec(version->mtime_ns),
        .st_ctim = to_timespec(version->ctime_ns),
    };
}

/* What is being written has none: of two answers on their way the kernel may keep the older, and a file that is opened
 * once it is whole would end where it ended then. */
static double validity(const struct zipfs_version *version) {
    if (version->is_container)
        return LONG_VALID_S;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    double unchanged_s = (double)now.tv_sec - (double)version->ctime_ns / 1e9;
    return S_ISREG(version->mode) && unchanged_s < SETTLED_S ? 0 : VALID_S;
}

/* What the kernel is told of a version of path; counts as a lookup of its node. ino 0: no memory. */
static struct fuse_entry_param enter(struct zipfs_served *served, const char *path,
                                     const struct zipfs_version *version) {
    struct zipfs_version shown = *version;
    if (served->residents && version->is_container)
        shown.copy = zipfs_residents_find(served->residents, version);
    return (struct fuse_entry_param){
        .ino = zipfs_nodes_enter(served->nodes, path, &shown),
        .attr = to_stat(version),
        .attr_timeout = validity(version),
        .entry_timeout = VALID_S,
    };
}

/* The path of `name` in the folder. ENAMETOOLONG when it has no place. */
static int join_path(const char *folder, const char *name, char dst[PATH_MAX]) {
    size_t folder_size = strcmp(folder, ".") == 0 ? 0 : strlen(folder) + 1, name_size = strlen(name) + 1;
    if (folder_size + name_size > PATH_MAX)
        return ENAMETOOLONG;
    if (folder_size > 0) {
        memcpy(dst, folder, folder_size - 1);
        dst[folder_size - 1] = '/';
    }
    memcpy(dst + folder_size, name, name_size);
    return 0;
}

static void forget(struct zipfs_served *served, fuse_ino_t number, uint64_t num_lookups) {
    uint64_t copy = zipfs_nodes_forget(served->nodes, number, num_lookups);
    if (copy)
        zipfs_residents_forget(served->residents, copy);
}

static void op_lookup(fuse_req_t request, fuse_ino_t parent, const char *name) {
    struct zipfs_served *served = served_by(request);
    if (zipfs_is_stats(parent, name)) {
        zipfs_stats_lookup(request);
        return;
    }
    struct zipfs_node *folder = zipfs_nodes_pin(served->nodes, parent, NULL);
    struct zipfs_version version;
    char path[PATH_MAX];
    int error = folder ? join_path(zipfs_node_path(folder), name, path) : ESTALE;
    if (folder)
        zipfs_nodes_unpin(served->nodes, folder);
    if (!error)
        error = served->tree.lookup(served->tree.context, path, &version);
    if (!error && !S_ISDIR(version.mode))
        atomic_store(&served->looked_at_ns, now_ns());
    struct fuse_entry_param entry = {.ino = 0};
    if (!error && (entry = enter(served, path, &version)).ino == 0)
        error = ENOMEM;
    if (error)
        fuse_reply_err(request, error);
    else if (fuse_reply_entry(request, &entry) != 0) /* the caller is gone */
        forget(served, entry.ino, 1);
}

static void op_forget(fuse_req_t request, fuse_ino_t number, uint64_t num_lookups) {
    forget(served_by(request), number, num_lookups);
    fuse_reply_none(request);
}

static void op_forget_multi(fuse_req_t request, size_t count, struct fuse_forget_data *forgets) {
    for (size_t i = 0; i < count; i++)
        forget(served_by(request), forgets[i].ino, forgets[i].nlookup);
    fuse_reply_none(request);
}

/* What changes while it stays the same node is looked up: folders and what is passed through. The root is known by
 * number alone. */
static void refresh(struct zipfs_served *served, struct zipfs_node *node, fuse_ino_t number,
                    struct zipfs_version *version) {
    struct zipfs_version present;
    if (served->tree.lookup(served->tree.context, zipfs_node_path(node), &present) != 0)
        return; /* it is gone and stays what it was */
    if (number != ZIPFS_ROOT_NODE)
        zipfs_nodes_update(served->nodes, node, &present);
    *version = present;
}

static void op_getattr(fuse_req_t request, fuse_ino_t number, struct fuse_file_info *info) {
    (void)info;
    if (number == ZIPFS_STATS_NODE) {
        zipfs_stats_getattr(request);
        return;
    }
    struct zipfs_served *served = served_by(request);
    struct zipfs_version version;
    struct zipfs_node *node = zipfs_nodes_pin(served->nodes, number, &version);
    if (!node) {
        fuse_reply_err(request, ESTALE);
        return;
    }
    if (!version.is_container)
        refresh(served, node, number, &version);
    zipfs_nodes_unpin(served->nodes, node);
    struct stat st = to_stat(&version);
    fuse_reply_attr(request, &st, validity(&version));
}

static void op_readlink(fuse_req_t request, fuse_ino_t number) {
    struct zipfs_served *served = served_by(request);
    struct zipfs_node *node = zipfs_nodes_pin(served->nodes, number, NULL);
    char target[PATH_MAX];
    int error = node ? served->tree.readlink(served->tree.context, zipfs_node_path(node), target, sizeof target)
                     : ESTALE;
    if (node)
        zipfs_nodes_unpin(served->nodes, node);
    if (error)
        fuse_reply_err(request, error);
    else
        fuse_reply_readlink(request, target);
}

/* ---- files ---- */

/* The file that is to serve who opens the node of a container, instead of `file`, which was opened for that. */
static struct zipfs_file *share_file(struct zipfs_served *served, struct zipfs_node *node, struct zipfs_file *file) {
    bool is_first;
    struct zipfs_file *shared = zipfs_node_open(served->nodes, node, file, &is_first);
    if (!is_first)
        served->api->file_unref(file);
    served->api->file_join(shared);
    return shared;
}

/* The id by which the kernel reads what is passed through, the same for all who have the node open; 0: it asks. */
static int32_t share_backing(struct zipfs_served *served, struct zipfs_node *node, struct zipfs_file *file) {
    bool is_first;
    int32_t id = zipfs_backing_open(&served->backing, served->api->file_fd(file));
    void *shared = zipfs_node_open(served->nodes, node, (void *)(intptr_t)id, &is_first);
    if (!is_first)
        zipfs_backing_close(&served->backing, id);
    return (int32_t)(intptr_t)shared;
}

/* Takes back what the node shares, and the file unless that is it. */
static void close_file(struct zipfs_served *served, fuse_ino_t number, struct zipfs_file *file) {
    struct zipfs_version version;
    struct zipfs_node *node = zipfs_nodes_pin(served->nodes, number, &version);
    if (node && version.is_container) {
        served->api->file_leave(file);
        file = zipfs_node_close(served->nodes, node);
        if (version.copy)
            zipfs_residents_give(served->residents, version.copy);
    } else if (node) {
        zipfs_backing_close(&served->backing, (int32_t)(intptr_t)zipfs_node_close(served->nodes, node));
    }
    if (node)
        zipfs_nodes_unpin(served->nodes, node);
    if (file)
        served->api->file_unref(file);
}

static void op_open(fuse_req_t request, fuse_ino_t number, struct fuse_file_info *info) {
    struct zipfs_served *served = served_by(request);
    if ((info->flags & O_ACCMODE) != O_RDONLY || info->flags & O_TRUNC) {
        fuse_reply_err(request, EROFS);
        return;
    }
    if (number == ZIPFS_STATS_NODE) {
        zipfs_stats_open(request, info);
        return;
    }
    struct zipfs_version version;
    struct zipfs_node *node = zipfs_nodes_pin(served->nodes, number, &version);
    struct zipfs_file *file = NULL;
    int error = node ? served->tree.open(served->tree.context, zipfs_node_path(node), &version, &file) : ESTALE;
    bool has_changed = node && zipfs_node_has_changed(served->nodes, node);
    int32_t backing_id = 0;
    if (!error && version.copy && !(backing_id = zipfs_residents_take(served->residents, version.copy))) {
        served->api->file_unref(file);
        error = ESTALE; /* the copy went; at this, Linux looks the name up anew */
    }
    if (!error && version.is_container)
        file = share_file(served, node, file);
    else if (!error) /* the file stays: its node may have another version by the next open */
        backing_id = share_backing(served, node, file);
    if (node)
        zipfs_nodes_unpin(served->nodes, node);
    if (error) {
        fuse_reply_err(request, error);
        return;
    }
    info->fh = (uintptr_t)file;
    info->keep_cache = !has_changed;
    if (zipfs_backing_reply_open(request, info, backing_id) != 0)
        close_file(served, number, file);
}

static void op_release(fuse_req_t request, fuse_ino_t number, struct fuse_file_info *info) {
    if (number == ZIPFS_STATS_NODE) {
        zipfs_stats_release(request, info);
        return;
    }
    close_file(served_by(request), number, (struct zipfs_file *)(uintptr_t)info->fh);
    fuse_reply_err(request, 0);
}

static void note_whole(struct zipfs_served *served, fuse_ino_t number, struct zipfs_file *file) {
    struct zipfs_version version;
    struct zipfs_node *node = zipfs_nodes_pin(served->nodes, number, &version);
    if (!node)
        return;
    zipfs_nodes_unpin(served->nodes, node);
    if (version.is_container && !version.copy)
        zipfs_residents_note(served->residents, number, &version, file);
}

static void op_read(fuse_req_t request, fuse_ino_t number, size_t size, off_t offset, struct fuse_file_info *info) {
    struct zipfs_served *served = served_by(request);
    if (number == ZIPFS_STATS_NODE) {
        zipfs_stats_read(request, size, offset, info);
        return;
    }
    void *buffer = zipfs_replies_take(served->replies);
    if (!buffer) {
        fuse_reply_err(request, ENOMEM);
        return;
    }
    struct zipfs_file *file = (struct zipfs_file *)(uintptr_t)info->fh;
    struct zipfs_slices slices;
    struct iovec parts[ZIPFS_SLICES_MAX];
    ssize_t got = served->api->file_read(file, buffer, size < ZIPFS_REPLY_SIZE ? size : ZIPFS_REPLY_SIZE,
                                         (uint64_t)offset, &slices);
    if (got < 0) {
        fuse_reply_err(request, (int)-got);
    } else {
        for (unsigned i = 0; i < slices.num_slices; i++)
            parts[i] = (struct iovec){(void *)slices.slices[i].data, slices.slices[i].size};
        fuse_reply_iov(request, parts, (int)slices.num_slices);
        if (served->residents && served->api->file_has_served(file, (size_t)got))
            note_whole(served, number, file);
        served->api->file_put(file, &slices);
    }
    zipfs_replies_give(served->replies, buffer);
}

/* ---- folders ---- */

/* An open folder. What it held is taken down when it is read from its start. */
struct folder {
    pthread_mutex_t lock;
    bool is_listed;
    int64_t listed_at_ns;
    struct zipfs_listing *listing;
};

/* A reply that is being filled, and the nodes that it tells the kernel of. */
struct reply {
    fuse_req_t request;
    char *data;
    size_t size, capacity;
    uint64_t *numbers;
    size_t num_numbers;
};

static struct folder *folder_of(const struct fuse_file_info *info) {
    return (struct folder *)(uintptr_t)info->fh;
}

static void free_folder(struct folder *folder) {
    zipfs_listing_free(folder->listing);
    pthread_mutex_destroy(&folder->lock);
    free(folder);
}

static void op_opendir(fuse_req_t request, fuse_ino_t number, struct fuse_file_info *info) {
    (void)number;
    struct folder *folder = calloc(1, sizeof *folder);
    if (!folder || !(folder->listing = zipfs_listing_create())) {
        free(folder);
        fuse_reply_err(request, ENOMEM);
        return;
    }
    pthread_mutex_init(&folder->lock, NULL);
    info->fh = (uintptr_t)folder;
    if (fuse_reply_open(request, info) != 0)
        free_folder(folder);
}

static void op_releasedir(fuse_req_t request, fuse_ino_t number, struct fuse_file_info *info) {
    (void)number;
    free_folder(folder_of(info));
    fuse_reply_err(request, 0);
}

static int list_folder(struct zipfs_served *served, const char *path, struct folder *folder) {
    zipfs_listing_clear(folder->listing);
    folder->listed_at_ns = now_ns();
    int error = served->tree.list(served->tree.context, path, folder->listing);
    folder->is_listed = error == 0;
    return error;
}

/* Adds "." or "..", of which the kernel takes the name alone. */
static bool add_dot(struct reply *reply, const char *name, uint64_t ino, bool plus, off_t next) {
    struct fuse_entry_param entry = {.attr = {.st_ino = ino, .st_mode = S_IFDIR}};
    size_t rest = reply->capacity - reply->size;
    char *dst = reply->data + reply->size;
    size_t needed = plus ? fuse_add_direntry_plus(reply->request, dst, rest, name, &entry, next)
                         : fuse_add_direntry(reply->request, dst, rest, name, &entry.attr, next);
    reply->size += needed <= rest ? needed : 0;
    return needed <= rest;
}

static bool add_name(struct reply *reply, const struct zipfs_listed *listed, off_t next) {
    struct stat st = {.st_ino = listed->version.ino, .st_mode = listed->version.mode};
    size_t rest = reply->capacity - reply->size;
    size_t needed = fuse_add_direntry(reply->request, reply->data + reply->size, rest, listed->name, &st, next);
    reply->size += needed <= rest ? needed : 0;
    return needed <= rest;
}

/* Adds a name with its attributes, which counts as a lookup, or without them. */
static bool add_entry(struct zipfs_served *served, const char *folder_path, struct reply *reply,
                      const struct zipfs_listed *listed, bool with_attributes, off_t next) {
    size_t rest = reply->capacity - reply->size;
    char path[PATH_MAX];
    if (fuse_add_direntry_plus(reply->request, NULL, 0, listed->name, NULL, 0) > rest)
        return false;
    struct fuse_entry_param entry = {.attr = {.st_ino = listed->version.ino, .st_mode = listed->version.mode}};
    if (with_attributes && join_path(folder_path, listed->name, path) == 0)
        entry = enter(served, path, &listed->version);
    if (entry.ino != 0)
        reply->numbers[reply->num_numbers++] = entry.ino;
    reply->size += fuse_add_direntry_plus(reply->request, reply->data + reply->size, rest, listed->name, &entry, next);
    return true;
}

/* Fills the reply from entry `start` on. Entries 0 and 1 are the folder and its parent; an offset is that of the next
 * entry. Attributes come with names as long as they are news: those of folders always, as who lists many folders goes
 * into them; those of others if files are looked at these days, as a lookup each costs `ls -l` much more, while a node
 * each costs `find`, which wants none, half of its time. */
static void fill(struct zipfs_served *served, const char *path, uint64_t ino, const struct folder *folder,
                 struct reply *reply, size_t start, bool plus) {
    size_t count = zipfs_listing_count(folder->listing) + 2;
    bool is_news = plus && is_within(VALID_S, folder->listed_at_ns), fits = true;
    bool are_looked_at = is_within(WANTED_S, atomic_load(&served->looked_at_ns));
    for (size_t i = start; i < count && fits; i++) {
        off_t next = (off_t)i + 1;
        if (i < 2) {
            fits = add_dot(reply, i == 0 ? "." : "..", i == 0 ? ino : UNKNOWN_INO, plus, next);
            continue;
        }
        struct zipfs_listed listed = zipfs_listing_get(folder->listing, i - 2);
        bool with_attributes = is_news && (are_looked_at || S_ISDIR(listed.version.mode));
        fits = plus ? add_entry(served, path, reply, &listed, with_attributes, next) : add_name(reply, &listed, next);
    }
}

/* Answers from entry `start` of the folder, which is listed anew at its start. Returns an errno, or 0 when it has
 * answered. */
static int reply_folder(struct zipfs_served *served, struct reply *reply, fuse_ino_t number, struct folder *folder,
                        size_t start, bool plus) {
    struct zipfs_version version;
    struct zipfs_node *node = zipfs_nodes_pin(served->nodes, number, &version);
    if (!node)
        return ESTALE;
    if (number == ZIPFS_ROOT_NODE)
        refresh(served, node, number, &version);
    pthread_mutex_lock(&folder->lock);
    int error = start == 0 || !folder->is_listed ? list_folder(served, zipfs_node_path(node), folder) : 0;
    if (!error)
        fill(served, zipfs_node_path(node), version.ino, folder, reply, start, plus);
    pthread_mutex_unlock(&folder->lock);
    zipfs_nodes_unpin(served->nodes, node);
    if (error)
        return error;
    if (fuse_reply_buf(reply->request, reply->data, reply->size) != 0) /* the caller is gone */
        for (size_t i = 0; i < reply->num_numbers; i++)
            forget(served, reply->numbers[i], 1);
    return 0;
}

static void read_folder(fuse_req_t request, fuse_ino_t number, size_t size, off_t offset, struct fuse_file_info *info,
                        bool plus) {
    struct reply reply = {
        .request = request,
        .data = malloc(size),
        .capacity = size,
        .numbers = malloc((size / MIN_ENTRY_SIZE + 1) * sizeof *reply.numbers),
    };
    int error = ENOMEM;
    if (reply.data && reply.numbers)
        error = reply_folder(served_by(request), &reply, number, folder_of(info), (size_t)offset, plus);
    if (error)
        fuse_reply_err(request, error);
    free(reply.data);
    free(reply.numbers);
}

static void op_readdir(fuse_req_t request, fuse_ino_t number, size_t size, off_t offset, struct fuse_file_info *info) {
    read_folder(request, number, size, offset, info, false);
}

static void op_readdirplus(fuse_req_t request, fuse_ino_t number, size_t size, off_t offset,
                           struct fuse_file_info *info) {
    read_folder(request, number, size, offset, info, true);
}

/* ---- the rest ---- */

static void op_statfs(fuse_req_t request, fuse_ino_t number) {
    (void)number;
    struct zipfs_served *served = served_by(request);
    struct statvfs source;
    int error = served->tree.statfs(served->tree.context, &source);
    if (error)
        fuse_reply_err(request, error);
    else
        fuse_reply_statfs(request, &source);
}

/* Programs that list folders ask for access lists and labels of each file, until they are told that there are none. */
static bool is_of_users(const char *attribute) {
    return strncmp(attribute, "system.", 7) != 0 && strncmp(attribute, "security.", 9) != 0;
}

static void op_getxattr(fuse_req_t request, fuse_ino_t number, const char *name, size_t size) {
    (void)number, (void)size;
    fuse_reply_err(request, is_of_users(name) ? ENODATA : EOPNOTSUPP);
}

static void op_listxattr(fuse_req_t request, fuse_ino_t number, size_t size) {
    (void)number;
    if (size == 0)
        fuse_reply_xattr(request, 0);
    else
        fuse_reply_buf(request, NULL, 0);
}

static void op_init(void *user_data, struct fuse_conn_info *connection) {
    struct zipfs_served *served = user_data;
    connection->max_write = ZIPFS_REPLY_SIZE; /* libfuse derives the largest read from it too */
    connection->max_background = MAX_BACKGROUND;
    connection->congestion_threshold = MAX_BACKGROUND * 3 / 4;
    /* Whether a node's bytes change is for opens to tell, not for the kernel to guess from times; and which attributes
     * come with a listing, for fill(). */
    connection->want &= ~(unsigned)(FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_SPLICE_READ
                                    | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
    connection->want |= connection->capable & FUSE_CAP_PARALLEL_DIROPS; /* heeded from libfuse 3.17 on */
    served->on_init(served);
}

/* ---- writes: the mount is read-only to the kernel too; these answer should somebody remount it writable ---- */

static void refuse(fuse_req_t request) {
    fuse_reply_err(request, EROFS);
}

static void op_setattr(fuse_req_t request, fuse_ino_t number, struct stat *st, int mask, struct fuse_file_info *info) {
    (void)number, (void)st, (void)mask, (void)info;
    refuse(request);
}

static void op_mknod(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode, dev_t device) {
    (void)parent, (void)name, (void)mode, (void)device;
    refuse(request);
}

static void op_mkdir(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode) {
    (void)parent, (void)name, (void)mode;
    refuse(request);
}

static void op_remove(fuse_req_t request, fuse_ino_t parent, const char *name) {
    (void)parent, (void)name;
    refuse(request);
}

static void op_symlink(fuse_req_t request, const char *target, fuse_ino_t parent, const char *name) {
    (void)target, (void)parent, (void)name;
    refuse(request);
}

static void op_rename(fuse_req_t request, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
                      const char *new_name, unsigned flags) {
    (void)parent, (void)name, (void)new_parent, (void)new_name, (void)flags;
    refuse(request);
}

static void op_link(fuse_req_t request, fuse_ino_t number, fuse_ino_t new_parent, const char *new_name) {
    (void)number, (void)new_parent, (void)new_name;
    refuse(request);
}

static void op_create(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode,
                      struct fuse_file_info *info) {
    (void)parent, (void)name, (void)mode, (void)info;
    refuse(request);
}

static void op_setxattr(fuse_req_t request, fuse_ino_t number, const char *name, const char *value, size_t size,
                        int flags) {
    (void)number, (void)name, (void)value, (void)size, (void)flags;
    refuse(request);
}

static void op_removexattr(fuse_req_t request, fuse_ino_t number, const char *name) {
    (void)number, (void)name;
    refuse(request);
}

const struct fuse_lowlevel_ops zipfs_fuse_operations = {
    .init = op_init,
    .lookup = op_lookup,
    .forget = op_forget,
    .forget_multi = op_forget_multi,
    .getattr = op_getattr,
    .readlink = op_readlink,
    .open = op_open,
    .read = op_read,
    .release = op_release,
    .opendir = op_opendir,
    .readdir = op_readdir,
    .readdirplus = op_readdirplus,
    .releasedir = op_releasedir,
    .statfs = op_statfs,
    .getxattr = op_getxattr,
    .listxattr = op_listxattr,
    .setattr = op_setattr,
    .mknod = op_mknod,
    .mkdir = op_mkdir,
    .unlink = op_remove,
    .rmdir = op_remove,
    .symlink = op_symlink,
    .rename = op_rename,
    .link = op_link,
    .create = op_create,
    .setxattr = op_setxattr,
    .removexattr = op_removexattr,
};
