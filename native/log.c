#include "log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "zipfs.h"

enum { LINE_MAX_SIZE = 4096 };

static _Atomic int log_fd = STDERR_FILENO;

void zipfs_log_to_fd(int fd) {
    if (fd < 0)
        openlog("zipfs", LOG_PID, LOG_DAEMON);
    atomic_store(&log_fd, fd);
}

/* Copies a line without control characters (a newline in a file's name must not forge a line). Returns its size. */
static size_t clean_line(const char *line, char *dst, size_t dst_capacity) {
    size_t size = 0;
    for (; line[size] != '\0' && size < dst_capacity; size++) {
        unsigned char c = line[size];
        dst[size] = c < 0x20 || c == 0x7f ? '?' : c;
    }
    return size;
}

void zipfs_log(const char *line) {
    char text[LINE_MAX_SIZE + 1];
    size_t size = clean_line(line, text, LINE_MAX_SIZE - 1);
    int fd = atomic_load(&log_fd);
    if (fd < 0) {
        syslog(LOG_ERR, "%.*s", (int)size, text);
        return;
    }
    text[size] = '\n';
    /* One write: lines of threads do not mix. A log that cannot be written is nobody's failure. */
    ssize_t written = write(fd, text, size + 1);
    (void)written;
}

void zipfs_logf(const char *format, ...) {
    char line[LINE_MAX_SIZE];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    zipfs_log(line);
}
