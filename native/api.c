#include "api.h"

#include "waiting.h"

const struct zipfs_api zipfs_api = {
    .size = ZIPFS_API_SIZE,
    .log = zipfs_log,
    .on_wait = zipfs_on_wait,
    .file_ref = zipfs_file_ref,
    .file_unref = zipfs_file_unref,
    .file_fd = zipfs_file_fd,
    .file_join = zipfs_file_join,
    .file_leave = zipfs_file_leave,
    .file_read = zipfs_file_read,
    .file_pread = zipfs_file_pread,
    .file_has_served = zipfs_file_has_served,
    .file_put = zipfs_file_put,
};
