/*
 * A mount served through libfuse's low-level interface. Names and attributes come from a tree, by callbacks; bytes come
 * from zipfs_file_read(), without any callback. Knows nothing of Python.
 *
 * The session's threads have all signals blocked but ZIPFS_SESSION_SIGNAL, which wakes them.
 */
#ifndef ZIPFS_FUSE_SESSION_H
#define ZIPFS_FUSE_SESSION_H

#include <signal.h>
#include <sys/statvfs.h>

#include "api.h"
#include "fuse_listing.h"

#define ZIPFS_SESSION_SIGNAL SIGUSR1

/* What is served. Paths are relative, "." for the root. Each function returns 0 or an errno; many threads call them at
 * once, and those of one path too. */
struct zipfs_session_tree {
    void *context;
    /* The present version of path. */
    int (*lookup)(void *context, const char *path, struct zipfs_version *version_ret);
    /* Adds all that the folder shows, without "." and "..". */
    int (*list)(void *context, const char *path, struct zipfs_listing *listing);
    /* The target of a symlink with its NUL, which needs `capacity` bytes at most. */
    int (*readlink)(void *context, const char *path, char *dst, size_t capacity);
    /* The bytes of that very version, with a reference for the caller; ESTALE when path is of another one by now. */
    int (*open)(void *context, const char *path, const struct zipfs_version *version, struct zipfs_file **file_ret);
    int (*statfs)(void *context, struct statvfs *statvfs_ret);
    /* What the file of fuse_stats.h holds, NUL-terminated, to be free()d. */
    int (*stats)(void *context, char **text_ret);
};

struct zipfs_session_options {
    const char *mountpoint;
    const char *mount_options; /* as after mount's -o */
    unsigned num_ready, max_threads; /* threads that wait for requests, and with those that wait for other things */
    uint64_t resident_size; /* bytes of memory for whole files (fuse_resident.h), 0: none */
};

struct zipfs_session;

/* Copies options and tree; what they point to and the api stay the caller's, until the session is freed, but for the
 * strings. 0 or an errno; what libfuse has to say is on stderr. */
int zipfs_session_create(const struct zipfs_session_options *options, const struct zipfs_api *api,
                         const struct zipfs_session_tree *tree, struct zipfs_session **session_ret);
/* Mounts, starts to serve and returns when the kernel and the session have agreed on how. From then on libfuse tells
 * the log what it has to say. EOPNOTSUPP: resident_size demands what this system does not give. Once. */
int zipfs_session_start(struct zipfs_session *session);
/* A descriptor that becomes readable when the session has ended: it was unmounted, or something failed. */
int zipfs_session_fd(const struct zipfs_session *session);
/* Ends the session, whether or not files are open, and unmounts. false: a request is stuck, and with it a thread; the
 * process had better exit. */
bool zipfs_session_stop(struct zipfs_session *session);
/* After a stop that returned true, or without a start. NULL is allowed. */
void zipfs_session_free(struct zipfs_session *session);

size_t zipfs_session_num_nodes(struct zipfs_session *session);
/* Whether the kernel reads by itself what is passed through. After the start. */
bool zipfs_session_passes_through(const struct zipfs_session *session);
/* Files that are kept whole in memory, and their bytes. */
void zipfs_session_count_residents(const struct zipfs_session *session, uint64_t *num_ret, uint64_t *size_ret);

#endif
