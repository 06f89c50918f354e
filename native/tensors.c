#include "tensors.h"

#include <stdlib.h>

#include "common.h"
#include "io.h"
#include "zstd_frame.h"

enum {
    SECTION_HEAD = 16, /* checksum, table_size */
    TABLE_HEAD = 8,
    RECORD_HEAD = 28, /* before name, dtype and shape */
    CHECKSUM_SEED = 2,
    TABLE_MAX = 8 << 20,
};

struct zipfs_tensors {
    size_t num_bounds;
    uint64_t bounds[]; /* where tensors begin and end, ascending */
};

/* Parses the records of a table. NULL: it breaks a rule, or there is no memory. */
static struct zipfs_tensors *parse(const uint8_t *table, size_t size, uint64_t plain_size) {
    size_t num = zipfs_load32(table), at = TABLE_HEAD;
    if (num > size / RECORD_HEAD)
        return NULL;
    struct zipfs_tensors *tensors = malloc(sizeof *tensors + 2 * num * sizeof *tensors->bounds);
    if (!tensors)
        return NULL;
    tensors->num_bounds = 0;
    for (uint64_t last = 0; num > 0; num--) {
        if (size - at < RECORD_HEAD)
            break;
        const uint8_t *record = table + at;
        uint64_t start = zipfs_load64(record), length = zipfs_load64(record + 8);
        size_t rest = zipfs_load16(record + 24) + record[26] + (size_t)8 * record[27];
        if (start < last || start > plain_size || length > plain_size - start || rest > size - at - RECORD_HEAD)
            break;
        tensors->bounds[tensors->num_bounds++] = start;
        tensors->bounds[tensors->num_bounds++] = last = start + length;
        at += RECORD_HEAD + rest;
    }
    if (num == 0 && at == size)
        return tensors;
    free(tensors);
    return NULL;
}

/* The table out of its section. NULL as above; else to be free()d. */
static uint8_t *unpack(const uint8_t *section, size_t size, size_t *table_size_ret) {
    uint64_t table_size = zipfs_load64(section + 8);
    if (zipfs_hash(section + 8, size - 8, CHECKSUM_SEED) != zipfs_load64(section) || table_size < TABLE_HEAD
        || table_size > TABLE_MAX)
        return NULL;
    uint8_t *table = malloc(table_size);
    ZSTD_DCtx *dctx = ZSTD_createDCtx();
    enum zipfs_status status = ZIPFS_NO_MEMORY;
    if (table && dctx)
        status = zstd_frame_decompress(dctx, section + SECTION_HEAD, size - SECTION_HEAD, table, table_size);
    ZSTD_freeDCtx(dctx);
    *table_size_ret = table_size;
    if (status == ZIPFS_OK)
        return table;
    free(table);
    return NULL;
}

struct zipfs_tensors *zipfs_tensors_read(int fd, const struct zipfs_header *header) {
    size_t size = header->segments_size, table_size;
    if (size <= SECTION_HEAD || header->segments_size > TABLE_MAX)
        return NULL;
    struct zipfs_tensors *tensors = NULL;
    uint8_t *section = malloc(size), *table = NULL;
    if (section && pread_exact(fd, section, size, header->segments_offset) == ZIPFS_OK)
        table = unpack(section, size, &table_size);
    if (table)
        tensors = parse(table, table_size, header->plain_size);
    free(table);
    free(section);
    return tensors;
}

void zipfs_tensors_free(struct zipfs_tensors *tensors) {
    free(tensors);
}

uint64_t zipfs_tensors_end(const struct zipfs_tensors *tensors, uint64_t offset, uint64_t file_size) {
    size_t low = 0, high = tensors ? tensors->num_bounds : 0, num = high;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (tensors->bounds[middle] <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low < num ? tensors->bounds[low] : file_size;
}
