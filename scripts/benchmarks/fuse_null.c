/*
 * The ceiling of a FUSE mount that fetches stored bytes: a low-level libfuse3 server with one file, named "file", whose
 * every read preads the stored share of the request from SOURCE and then replies from memory. It decodes nothing.
 *
 *   fuse_null MOUNTPOINT FILE_SIZE SOURCE STORED_SHARE THREADS
 *
 * FILE_SIZE in bytes; STORED_SHARE of a container is its stored size over its plain size, 0: the bare transport. Stays
 * in the foreground; SIGTERM unmounts. The readahead window is left to the caller, as for any mount.
 */
#define _GNU_SOURCE
#define FUSE_USE_VERSION 312
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_NODE = FUSE_ROOT_ID + 1, MAX_REQUEST = 1 << 20, REPLY_POOL = 256 << 20 };
static const double FOREVER = 1e9; /* seconds */

static struct {
    off_t size;
    int source;
    off_t source_size;
    double share;
    const uint8_t *replies; /* REPLY_POOL bytes; reads at offset o are answered from o modulo REPLY_POOL */
} served;

static __thread uint8_t stored[MAX_REQUEST];

static struct stat attributes_of(fuse_ino_t node)
{
    struct stat st = {.st_ino = node, .st_nlink = 1};
    if (node == FILE_NODE) {
        st.st_mode = S_IFREG | 0444;
        st.st_size = served.size;
    } else {
        st.st_mode = S_IFDIR | 0555;
    }
    return st;
}

static void null_init(void *user, struct fuse_conn_info *connection)
{
    (void)user;
    connection->max_write = MAX_REQUEST; /* libfuse derives the largest read from it too */
    connection->max_background = 64;
    connection->congestion_threshold = 48;
    connection->want &= ~(unsigned)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
}

static void null_lookup(fuse_req_t request, fuse_ino_t parent, const char *name)
{
    if (parent != FUSE_ROOT_ID || strcmp(name, "file") != 0) {
        fuse_reply_err(request, ENOENT);
        return;
    }
    const struct fuse_entry_param entry = {
        .ino = FILE_NODE, .attr = attributes_of(FILE_NODE), .attr_timeout = FOREVER, .entry_timeout = FOREVER};
    fuse_reply_entry(request, &entry);
}

static void null_getattr(fuse_req_t request, fuse_ino_t node, struct fuse_file_info *file)
{
    (void)file;
    const struct stat st = attributes_of(node);
    fuse_reply_attr(request, &st, FOREVER);
}

static void null_open(fuse_req_t request, fuse_ino_t node, struct fuse_file_info *file)
{
    (void)node;
    file->keep_cache = 1;
    fuse_reply_open(request, file);
}

/* Fetches what a container would hold of [offset, offset + size). */
static int fetch_stored(size_t size, off_t offset)
{
    const size_t wanted = (size_t)(served.share * (double)size);
    if (!wanted) return 0;
    const off_t last = served.source_size - (off_t)wanted;
    const off_t at = (off_t)(served.share * (double)offset);
    return pread(served.source, stored, wanted, at < last ? at : last) < 0 ? errno : 0;
}

static void null_read(fuse_req_t request, fuse_ino_t node, size_t size, off_t offset, struct fuse_file_info *file)
{
    (void)node, (void)file;
    if (offset >= served.size || size > MAX_REQUEST) {
        fuse_reply_buf(request, NULL, 0);
        return;
    }
    if ((off_t)size > served.size - offset) size = (size_t)(served.size - offset);
    const int error = fetch_stored(size, offset);
    if (error) {
        fuse_reply_err(request, error);
        return;
    }
    off_t at = offset % REPLY_POOL;
    if (at + (off_t)size > REPLY_POOL) at = REPLY_POOL - (off_t)size;
    fuse_reply_buf(request, (const char *)served.replies + at, size);
}

static const uint8_t *make_replies(void)
{
    uint8_t *replies = malloc(REPLY_POOL);
    for (size_t i = 0; replies && i < REPLY_POOL; i++) replies[i] = (uint8_t)(i * 0x9E3779B1u >> 13);
    return replies;
}

static int serve(const char *program, const char *mountpoint, unsigned threads)
{
    static const struct fuse_lowlevel_ops operations = {
        .init = null_init, .lookup = null_lookup, .getattr = null_getattr, .open = null_open, .read = null_read};
    char *options[] = {(char *)program, (char *)"-oro,fsname=fuse_null"};
    struct fuse_args arguments = FUSE_ARGS_INIT(2, options);
    struct fuse_session *session = fuse_session_new(&arguments, &operations, sizeof operations, NULL);
    if (!session || fuse_set_signal_handlers(session) || fuse_session_mount(session, mountpoint)) return EXIT_FAILURE;
    struct fuse_loop_config *config = fuse_loop_cfg_create();
    fuse_loop_cfg_set_max_threads(config, threads);
    fuse_session_loop_mt(session, config);
    fuse_session_unmount(session);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: fuse_null MOUNTPOINT FILE_SIZE SOURCE STORED_SHARE THREADS\n");
        return 2;
    }
    served.size = (off_t)strtoll(argv[2], NULL, 10);
    served.source = open(argv[3], O_RDONLY | O_CLOEXEC);
    served.share = strtod(argv[4], NULL);
    if (served.source < 0 || (served.source_size = lseek(served.source, 0, SEEK_END)) < MAX_REQUEST) {
        fprintf(stderr, "fuse_null: %s: no readable file of 1 MiB or more\n", argv[3]);
        return EXIT_FAILURE;
    }
    if (!(served.replies = make_replies())) return EXIT_FAILURE;
    return serve(argv[0], argv[1], (unsigned)strtoul(argv[5], NULL, 10));
}
