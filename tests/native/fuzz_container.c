/* Broken containers through a reader and through the read path: nothing may crash, and what is accepted must be
 * consistent. The input edits a good container; in half of the cases header, root and pages are signed anew, so that
 * the rules behind the checksums are reached. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "common.h"
#include "container.h"
#include "sample.h"

/* Few chunks are decoded, all zeros: fuzz_chunk.c is about payloads. */
enum { MAX_CHUNKS = 300, DECODED_CHUNKS = 3 };

/* Makes the checksums of whatever seems to be there right. */
static void sign(uint8_t *bytes, size_t size) {
    struct zipfs_header header;
    if (size < ZIPFS_HEADER_SIZE)
        return;
    zipfs_store64(bytes + 248, zipfs_hash(bytes, 248, 0));
    if (zipfs_header_parse(bytes, ZIPFS_HEADER_SIZE, size, &header) != ZIPFS_OK)
        return;
    uint8_t *root = bytes + header.root_offset;
    zipfs_store64(root + header.root_size - 8, zipfs_hash(root, header.root_size - 8, 1));
    for (uint64_t i = 0; i < zipfs_num_pages(&header); i++) {
        uint8_t *page = bytes + header.pages_offset + ZIPFS_PAGE_SIZE * i;
        zipfs_store64(page, zipfs_hash(page + 8, zipfs_page_size(&header, i) - 8, i));
    }
}

static void read_entries(struct zipfs_reader *reader) {
    const struct zipfs_header *header = zipfs_reader_header(reader);
    struct zipfs_codec *codec;
    CHECK_EQUAL(zipfs_codec_create(header->chunk_log2, &codec), ZIPFS_OK);
    uint8_t *dst = malloc((size_t)1 << header->chunk_log2);
    CHECK(dst);
    for (uint64_t i = 0; i < header->num_chunks && i < MAX_CHUNKS; i++) {
        uint64_t offset;
        struct zipfs_entry entry;
        if (zipfs_reader_entry(reader, i, &offset, &entry) != ZIPFS_OK)
            continue;
        CHECK(offset >= header->payloads_offset && entry.stored_size >= 1);
        CHECK(offset + entry.stored_size <= header->payloads_offset + header->payloads_size);
        if (i >= DECODED_CHUNKS && i + DECODED_CHUNKS < header->num_chunks)
            continue;
        enum zipfs_status status = zipfs_reader_chunk(reader, codec, i, true, dst, zipfs_chunk_size(header, i));
        if (status == ZIPFS_OK)
            CHECK_EQUAL(zipfs_reader_check(reader, codec, i), ZIPFS_OK);
    }
    free(dst);
    zipfs_codec_free(codec);
}

static void read_file(int fd) {
    struct zipfs_cache *cache;
    struct zipfs_file *file;
    CHECK_EQUAL(zipfs_cache_create(100000, 1, &cache), ZIPFS_OK);
    if (zipfs_file_open(cache, fd, "fuzz", false, &file) == ZIPFS_OK) {
        static uint8_t dst[150000];
        uint64_t size = zipfs_file_size(file);
        for (uint64_t offset = 0; offset < size && offset < 3 * sizeof dst; offset += sizeof dst) {
            ssize_t got = zipfs_file_pread(file, dst, sizeof dst, offset);
            CHECK(got < 0 || (uint64_t)got == (size - offset < sizeof dst ? size - offset : sizeof dst));
        }
        zipfs_file_unref(file);
    } else {
        close(fd);
    }
    zipfs_cache_free(cache);
}

/* Takes ownership of fd. */
static void try_container(int fd) {
    int reader_fd = dup(fd);
    struct zipfs_reader *reader;
    CHECK(reader_fd >= 0);
    if (zipfs_reader_open(reader_fd, &reader) == ZIPFS_OK) {
        read_entries(reader);
        zipfs_reader_free(reader);
    } else {
        close(reader_fd);
    }
    read_file(fd);
}

/* ---- edits of a good container ---- */

enum { EDIT_SIZE = 8 };

/* One edit from 8 bytes: where (header, index, anywhere, or a new size of the file), how wide, and what. Returns the
 * size. */
static size_t edit(const struct sample *sample, uint8_t *bytes, size_t size, const uint8_t *how) {
    size_t where = zipfs_load32(how + 4), index_offset = sample->header.pages_offset;
    switch (how[0] & 3) {
    case 0: where %= ZIPFS_HEADER_SIZE; break;
    case 1: where = index_offset + where % (sample->size - index_offset); break;
    case 2: where %= sample->size; break;
    default: return how[1] < 64 ? where % (sample->size + 64) : size;
    }
    size_t width = (size_t)1 << (how[0] >> 2 & 3);
    for (size_t i = 0; i < width && where + i < sample->size; i++)
        bytes[where + i] = how[0] & 16 ? bytes[where + i] ^ how[2] : i == 0 ? how[2] : how[0] & 32 ? 0xff : how[3];
    return size;
}

/* The input is a list of edits; the lowest bit of its size says whether the checksums are made right afterwards. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct sample sample;
    static int log_fd = -1;
    if (log_fd < 0) {
        zipfs_log_to_fd(log_fd = open("/dev/null", O_WRONLY | O_CLOEXEC));
        sample_make_zeros(&sample, 130, 16);
    }
    uint8_t *bytes = calloc(1, sample.size + 64);
    CHECK(bytes);
    memcpy(bytes, sample.bytes, sample.size);
    size_t new_size = sample.size;
    for (size_t i = 0; i + EDIT_SIZE <= size && i < 8 * EDIT_SIZE; i += EDIT_SIZE)
        new_size = edit(&sample, bytes, new_size, data + i);
    if (size & 1)
        sign(bytes, new_size);
    try_container(sample_fd(bytes, new_size));
    free(bytes);
    return 0;
}
