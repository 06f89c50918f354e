/* See fuse_stats.h. The kernel keeps none of it: its size is 0, as in /proc, and reads come here whatever it says. */
#include "fuse_stats.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuse_nodes.h"

enum { STATS_INO = 0x7A697066 }; /* as good as any */

static const char STATS_NAME[] = ".zipfs-stats";
static const double VALID_S = 1;

bool zipfs_is_stats(fuse_ino_t parent, const char *name) {
    return parent == ZIPFS_ROOT_NODE && strcmp(name, STATS_NAME) == 0;
}

static struct stat attributes(void) {
    struct stat st = {
        .st_ino = STATS_INO, .st_mode = S_IFREG | 0400, .st_nlink = 1, .st_uid = geteuid(), .st_gid = getegid()};
    return st;
}

void zipfs_stats_lookup(fuse_req_t request) {
    struct fuse_entry_param entry = {
        .ino = ZIPFS_STATS_NODE, .attr = attributes(), .attr_timeout = VALID_S, .entry_timeout = VALID_S};
    fuse_reply_entry(request, &entry);
}

void zipfs_stats_getattr(fuse_req_t request) {
    struct stat st = attributes();
    fuse_reply_attr(request, &st, VALID_S);
}

void zipfs_stats_open(fuse_req_t request, struct fuse_file_info *info) {
    const struct zipfs_served *served = fuse_req_userdata(request);
    char *text;
    int error = served->tree.stats(served->tree.context, &text);
    if (error) {
        fuse_reply_err(request, error);
        return;
    }
    info->fh = (uintptr_t)text;
    info->direct_io = true;
    if (fuse_reply_open(request, info) != 0)
        free(text);
}

/* The reply is of a copy: who has got it may close the file before it has returned here. */
void zipfs_stats_read(fuse_req_t request, size_t size, off_t offset, const struct fuse_file_info *info) {
    const char *text = (const char *)(uintptr_t)info->fh;
    size_t text_size = strlen(text), start = (size_t)offset < text_size ? (size_t)offset : text_size;
    char *part = strndup(text + start, size);
    if (part)
        fuse_reply_buf(request, part, strlen(part));
    else
        fuse_reply_err(request, ENOMEM);
    free(part);
}

void zipfs_stats_release(fuse_req_t request, struct fuse_file_info *info) {
    free((char *)(uintptr_t)info->fh);
    fuse_reply_err(request, 0);
}
