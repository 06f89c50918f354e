/* Broken containers through a reader and through the read path: nothing may crash, and what is accepted must be
 * consistent. The input edits a good container, one of many pages or one with copies; in half of the cases payloads,
 * pages, root and header are signed anew, so that the rules behind the checksums are reached. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "common.h"
#include "container.h"
#include "sample.h"

/* Few chunks are decoded: fuzz_chunk.c is about payloads. */
enum { MAX_CHUNKS = 300, DECODED_CHUNKS = 3, CHUNK_LOG2 = 16 };

/* Makes the hashes of the payloads of a page right, where they lie in the file. */
static void sign_payloads(uint8_t *bytes, size_t size, const struct zipfs_header *header, uint64_t page) {
    for (size_t i = 0; i < zipfs_page_entries(header, page); i++) {
        uint8_t *entry = bytes + header->pages_offset + ZIPFS_PAGE_SIZE * page + 32 + 32 * i;
        uint64_t offset = zipfs_load64(entry), stored_size = zipfs_load32(entry + 8);
        if (offset <= size && stored_size <= size - offset)
            zipfs_store64(entry + 16, zipfs_hash(bytes + offset, stored_size, page * ZIPFS_PAGE_ENTRIES + i));
    }
}

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
        sign_payloads(bytes, size, &header, i);
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
    CHECK_EQUAL(zipfs_cache_create(&(struct zipfs_cache_options){.budget = 100000, .jobs = 1}, &cache), ZIPFS_OK);
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

/* One edit from 8 bytes: where (header, index, anywhere, the last payload, or a new size of the file), how wide, and
 * what. Returns the size. */
static size_t edit(const struct sample *sample, uint8_t *bytes, size_t size, const uint8_t *how) {
    size_t where = zipfs_load32(how + 4), index_offset = sample->header.pages_offset;
    switch (how[0] & 3) {
    case 0: where %= ZIPFS_HEADER_SIZE; break;
    case 1: where = index_offset + where % (sample->size - index_offset); break;
    case 2: where %= sample->size; break;
    default:
        if (how[1] < 64)
            return where % (sample->size + 64);
        where = index_offset - 1 - where % 32;
    }
    size_t width = (size_t)1 << (how[0] >> 2 & 3);
    for (size_t i = 0; i < width && where + i < sample->size; i++)
        bytes[where + i] = how[0] & 16 ? bytes[where + i] ^ how[2] : i == 0 ? how[2] : how[0] & 32 ? 0xff : how[3];
    return size;
}

/* Chunk 1 ends in a copy of the first half of chunk 0, and chunk 2 is one of what follows, across their border. */
static void make_samples(struct sample samples[2]) {
    sample_make_zeros(&samples[0], 130, CHUNK_LOG2);
    sample_make_copies(&samples[1], 3 << CHUNK_LOG2, CHUNK_LOG2, 4, (3 << CHUNK_LOG2) / 2);
    CHECK_EQUAL(zipfs_load32(sample_entry(&samples[1], 2) + 8), 32); /* the last payload: a table and a copy */
}

/* The input is a list of edits; the lowest bit of its size says whether the checksums are made right afterwards, the
 * next one which container they are made to. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct sample samples[2];
    static int log_fd = -1;
    if (log_fd < 0) {
        zipfs_log_to_fd(log_fd = open("/dev/null", O_WRONLY | O_CLOEXEC));
        make_samples(samples);
    }
    const struct sample *sample = &samples[size >> 1 & 1];
    uint8_t *bytes = calloc(1, sample->size + 64);
    CHECK(bytes);
    memcpy(bytes, sample->bytes, sample->size);
    size_t new_size = sample->size;
    for (size_t i = 0; i + EDIT_SIZE <= size && i < 8 * EDIT_SIZE; i += EDIT_SIZE)
        new_size = edit(sample, bytes, new_size, data + i);
    if (size & 1)
        sign(bytes, new_size);
    try_container(sample_fd(bytes, new_size));
    free(bytes);
    return 0;
}
