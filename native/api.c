#include "api.h"

#include "waiting.h"

const struct zipfs_api zipfs_api = {
    .size = ZIPFS_API_SIZE,
    .log = zipfs_log,
    .on_wait = zipfs_on_wait,
    .file_unref = zipfs_file_unref,
    .file_fd = zipfs_file_fd,
    .file_join = zipfs_file_join,
    .file_leave = zipfs_file_leave,
    .file_read = zipfs_file_read,
    .file_put = zipfs_file_put,
};
