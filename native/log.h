/* Log lines of the read path, for the other C files; zipfs_log() in zipfs.h is the public way. */
#ifndef ZIPFS_LOG_H
#define ZIPFS_LOG_H

/* Formats one line (cut at 4 KiB) and logs it. Any thread. */
void zipfs_logf(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
