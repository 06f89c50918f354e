/* Names of status values, as docs/format.md writes them. */
#include "zipfs.h"

#define NAME(status) [ZIPFS_##status] = #status

static const char *const names[ZIPFS_NUM_STATUS] = {
    NAME(OK),
    NAME(IO),
    NAME(NO_MEMORY),
    NAME(NO_SPACE),
    NAME(BAD_ARGUMENT),
    NAME(BAD_KERNEL),
    NAME(TRUNCATED),
    NAME(BAD_MAGIC),
    NAME(BAD_VERSION),
    NAME(BAD_HEADER),
    NAME(HEADER_CHECKSUM),
    NAME(RESERVED_NOT_ZERO),
    NAME(UNKNOWN_FEATURE),
    NAME(TOO_LARGE),
    NAME(BAD_SECTIONS),
    NAME(ROOT_CHECKSUM),
    NAME(BAD_ROOT),
    NAME(PAGE_CHECKSUM),
    NAME(BAD_PAGE),
    NAME(CHUNK_CHECKSUM),
    NAME(PLAIN_CHECKSUM),
    NAME(BAD_RUNS),
    NAME(UNKNOWN_LAYOUT),
    NAME(UNKNOWN_CODING),
    NAME(BAD_PLANE),
    NAME(BAD_RANS),
    NAME(BAD_ZSTD),
    NAME(BAD_SEGMENTS),
    NAME(BAD_COPY),
    NAME(BAD_TARGET),
};

const char *zipfs_status_name(enum zipfs_status status) {
    if ((unsigned)status >= ZIPFS_NUM_STATUS || !names[status])
        return "UNKNOWN_STATUS";
    return names[status];
}
