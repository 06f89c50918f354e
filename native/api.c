#include "api.h"

const struct zipfs_api zipfs_api = {
    .size = sizeof zipfs_api,
    .log = zipfs_log,
    .file_unref = zipfs_file_unref,
    .file_pread = zipfs_file_pread,
};
