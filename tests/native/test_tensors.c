/* The segment table as the read path takes it: where tensors end; tables that break a rule are as good as none. */
#include "tensors.h"

#include <string.h>
#include <unistd.h>

#include "check.h"
#include "common.h"
#include "sample.h"
#include "zstd_frame.h"

enum { PLAIN_SIZE = 1000000, RECORD_SIZE = 28 + 3 + 4 + 16, CAPACITY = 4096 };

/* A table of records {start, length} with a name, a dtype and two dimensions each. */
static size_t make_table(uint8_t *table, const uint64_t (*segments)[2], size_t num) {
    memset(table, 0, 8 + num * RECORD_SIZE);
    table[0] = (uint8_t)num;
    for (size_t i = 0; i < num; i++) {
        uint8_t *record = table + 8 + i * RECORD_SIZE;
        zipfs_store64(record, segments[i][0]);
        zipfs_store64(record + 8, segments[i][1]);
        zipfs_store16(record + 24, 3);
        record[26] = 4;
        record[27] = 2;
    }
    return 8 + num * RECORD_SIZE;
}

/* Reads the table from a file that holds its section alone. flip: a byte of the section to change, -1: none. */
static struct zipfs_tensors *read_table(const uint8_t *table, size_t size, long flip) {
    uint8_t section[16 + CAPACITY];
    size_t frame_size;
    ZSTD_CCtx *cctx = ZSTD_createCCtx();
    CHECK_EQUAL(zstd_frame_compress(cctx, 3, table, size, section + 16, CAPACITY, &frame_size), ZIPFS_OK);
    ZSTD_freeCCtx(cctx);
    zipfs_store64(section + 8, size);
    zipfs_store64(section, zipfs_hash(section + 8, 8 + frame_size, 2));
    if (flip >= 0)
        section[flip % (16 + frame_size)] ^= 1;
    const struct zipfs_header header = {.plain_size = PLAIN_SIZE, .segments_size = 16 + frame_size};
    int fd = sample_fd(section, 16 + frame_size);
    struct zipfs_tensors *tensors = zipfs_tensors_read(fd, &header);
    close(fd);
    return tensors;
}

static void test_ends(void) {
    static const uint64_t segments[][2] = {{100, 900}, {1000, 0}, {1000, 500}, {2000, PLAIN_SIZE - 2000}};
    static const uint64_t ends[][2] = {{0, 100},      {99, 100},    {100, 1000}, {999, 1000},
                                       {1000, 1500},  {1499, 1500}, {1500, 2000}, {2000, PLAIN_SIZE},
                                       {PLAIN_SIZE - 1, PLAIN_SIZE}};
    uint8_t table[CAPACITY];
    struct zipfs_tensors *tensors = read_table(table, make_table(table, segments, 4), -1);
    CHECK(tensors);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        CHECK_EQUAL(zipfs_tensors_end(tensors, ends[i][0], PLAIN_SIZE), ends[i][1]);
    zipfs_tensors_free(tensors);
    CHECK_EQUAL(zipfs_tensors_end(NULL, 5, PLAIN_SIZE), PLAIN_SIZE);
}

static void test_broken_rules(void) {
    static const uint64_t overlap[][2] = {{0, 10}, {9, 10}}, beyond[][2] = {{PLAIN_SIZE - 5, 6}},
                          wraps[][2] = {{10, UINT64_MAX - 5}}, good[][2] = {{0, 10}, {10, 10}};
    uint8_t table[CAPACITY];
    CHECK(!read_table(table, make_table(table, overlap, 2), -1));
    CHECK(!read_table(table, make_table(table, beyond, 1), -1));
    CHECK(!read_table(table, make_table(table, wraps, 1), -1));
    size_t size = make_table(table, good, 2);
    CHECK(!read_table(table, size - 1, -1));
    CHECK(!read_table(table, size + 1, -1));
    table[3] = 0xff; /* the number of segments */
    CHECK(!read_table(table, size, -1));
    table[3] = 0;
    table[0] = 3;
    CHECK(!read_table(table, size, -1));
    table[0] = 2;
    for (long flip = 0; flip < 64; flip++)
        CHECK(!read_table(table, size, flip));
    struct zipfs_tensors *tensors = read_table(table, size, -1);
    CHECK(tensors);
    zipfs_tensors_free(tensors);
}

int main(void) {
    const struct zipfs_header none = {.plain_size = PLAIN_SIZE};
    CHECK(!zipfs_tensors_read(-1, &none));
    test_ends();
    test_broken_rules();
    return 0;
}
