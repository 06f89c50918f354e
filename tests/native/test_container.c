/* Header, root, pages and reader: good ones are read, and each rule of docs/format.md sections 2 and 3 is told by its
 * name. */
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "common.h"
#include "container.h"
#include "sample.h"

enum { CHUNK_LOG2 = 16, NUM_CHUNKS = 260 }; /* three pages, the last one short */

static struct sample sample;

static enum zipfs_status parse(void) {
    struct zipfs_header header;
    return zipfs_header_parse(sample.bytes, ZIPFS_HEADER_SIZE, sample.size, &header);
}

/* What the parser says of a header with a field of `width` bytes changed, signed. The old bytes are put back. */
static enum zipfs_status with_field(size_t offset, size_t width, uint64_t value) {
    uint8_t old[ZIPFS_HEADER_SIZE];
    memcpy(old, sample.bytes, sizeof old);
    memcpy(sample.bytes + offset, &value, width);
    sample_sign_header(&sample);
    enum zipfs_status status = parse();
    memcpy(sample.bytes, old, sizeof old);
    return status;
}

static void test_header_rules(void) {
    CHECK_EQUAL(parse(), ZIPFS_OK);
    static const struct {
        size_t offset, width;
        uint64_t value;
        enum zipfs_status status;
    } cases[] = {
        {0, 1, 0x88, ZIPFS_BAD_MAGIC},        {8, 2, 2, ZIPFS_BAD_VERSION},
        {10, 2, 264, ZIPFS_BAD_HEADER},       {12, 4, 2, ZIPFS_RESERVED_NOT_ZERO},
        {16, 8, 2, ZIPFS_UNKNOWN_FEATURE},    {16, 8, (uint64_t)1 << 63, ZIPFS_UNKNOWN_FEATURE},
        {24, 8, UINT64_MAX, ZIPFS_OK},        {32, 8, ((uint64_t)1 << 50) + 1, ZIPFS_TOO_LARGE},
        {32, 8, UINT64_MAX, ZIPFS_TOO_LARGE}, {40, 8, 1000, ZIPFS_BAD_HEADER},
        {40, 8, UINT64_MAX, ZIPFS_TRUNCATED}, {48, 1, 15, ZIPFS_BAD_HEADER},
        {48, 1, 23, ZIPFS_BAD_HEADER},        {49, 1, 3, ZIPFS_BAD_HEADER},
        {50, 2, 2, ZIPFS_BAD_SECTIONS},       {50, 2, 7, ZIPFS_BAD_SECTIONS},
        {50, 2, 4, ZIPFS_UNKNOWN_FEATURE},    {52, 4, 0, ZIPFS_OK},
        {56, 8, 1, ZIPFS_RESERVED_NOT_ZERO},  {95, 1, 1, ZIPFS_RESERVED_NOT_ZERO},
        {96, 2, 2, ZIPFS_BAD_SECTIONS},       {98, 2, 1, ZIPFS_BAD_SECTIONS},
        {98, 2, 2, ZIPFS_RESERVED_NOT_ZERO},  {100, 4, 1, ZIPFS_RESERVED_NOT_ZERO},
        {104, 8, 255, ZIPFS_BAD_SECTIONS},    {112, 8, UINT64_MAX, ZIPFS_BAD_SECTIONS},
        {120, 2, 9, ZIPFS_UNKNOWN_FEATURE},   {120, 2, 5, ZIPFS_UNKNOWN_FEATURE},
        {136, 8, 32, ZIPFS_BAD_SECTIONS},     {168, 2, 4, ZIPFS_RESERVED_NOT_ZERO},
        {240, 8, 1, ZIPFS_RESERVED_NOT_ZERO}, {32, 8, ((uint64_t)NUM_CHUNKS << CHUNK_LOG2) + 1, ZIPFS_BAD_SECTIONS},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum zipfs_status status = with_field(cases[i].offset, cases[i].width, cases[i].value);
        if (status != cases[i].status)
            fprintf(stderr, "case %zu: %s, not %s\n", i, zipfs_status_name(status), zipfs_status_name(cases[i].status));
        CHECK(status == cases[i].status);
    }
}

static void test_header_checksum_and_sizes(void) {
    struct zipfs_header header;
    for (size_t i = 8; i < ZIPFS_HEADER_SIZE; i++) {
        sample.bytes[i] ^= 1;
        CHECK_EQUAL(parse(), i < 10 ? ZIPFS_BAD_VERSION : ZIPFS_HEADER_CHECKSUM);
        sample.bytes[i] ^= 1;
    }
    CHECK_EQUAL(zipfs_header_parse(sample.bytes, 0, 0, &header), ZIPFS_BAD_MAGIC);
    CHECK_EQUAL(zipfs_header_parse(sample.bytes, 7, 7, &header), ZIPFS_BAD_MAGIC);
    for (size_t size = 8; size < ZIPFS_HEADER_SIZE; size++)
        CHECK_EQUAL(zipfs_header_parse(sample.bytes, size, size, &header), ZIPFS_TRUNCATED);
    CHECK_EQUAL(zipfs_header_parse(sample.bytes, ZIPFS_HEADER_SIZE, sample.size - 1, &header), ZIPFS_TRUNCATED);
    CHECK_EQUAL(zipfs_header_parse(sample.bytes, ZIPFS_HEADER_SIZE, sample.size + 1, &header), ZIPFS_BAD_HEADER);
}

/* Sections of another kind: optional ones are skipped after the root alone, a second segment table is refused. */
static enum zipfs_status with_sections(const uint16_t *kinds, const uint16_t *flags, unsigned num) {
    uint8_t old[ZIPFS_HEADER_SIZE];
    memcpy(old, sample.bytes, sizeof old);
    uint64_t end = sample.size;
    zipfs_store64(sample.bytes + 40, sample.size + 16 * num);
    zipfs_store16(sample.bytes + 50, 3 + num);
    for (unsigned i = 0; i < num; i++, end += 16) {
        uint8_t *section = sample.bytes + 96 + 24 * (3 + i);
        zipfs_store16(section, kinds[i]);
        zipfs_store16(section + 2, flags[i]);
        zipfs_store64(section + 8, end);
        zipfs_store64(section + 16, 16);
    }
    sample_sign_header(&sample);
    struct zipfs_header header;
    enum zipfs_status status = zipfs_header_parse(sample.bytes, ZIPFS_HEADER_SIZE, sample.size + 16 * num, &header);
    if (status == ZIPFS_OK)
        CHECK(header.segments_size == 16 || header.segments_size == 0);
    memcpy(sample.bytes, old, sizeof old);
    return status;
}

static void test_sections(void) {
    CHECK_EQUAL(with_sections((uint16_t[]){4}, (uint16_t[]){1}, 1), ZIPFS_OK);
    CHECK_EQUAL(with_sections((uint16_t[]){4}, (uint16_t[]){0}, 1), ZIPFS_BAD_SECTIONS);
    CHECK_EQUAL(with_sections((uint16_t[]){77, 4, 78}, (uint16_t[]){1, 1, 1}, 3), ZIPFS_OK);
    CHECK_EQUAL(with_sections((uint16_t[]){77}, (uint16_t[]){0}, 1), ZIPFS_UNKNOWN_FEATURE);
    CHECK_EQUAL(with_sections((uint16_t[]){5}, (uint16_t[]){1}, 1), ZIPFS_UNKNOWN_FEATURE);
    CHECK_EQUAL(with_sections((uint16_t[]){4, 4}, (uint16_t[]){1, 1}, 2), ZIPFS_BAD_SECTIONS);
    CHECK_EQUAL(with_sections((uint16_t[]){3}, (uint16_t[]){0}, 1), ZIPFS_BAD_SECTIONS);
}

static void test_root_too_large(void) {
    struct zipfs_header h = {.plain_size = (uint64_t)1 << 50, .chunk_log2 = 16, .num_chunks = (uint64_t)1 << 34};
    uint64_t num_pages = zipfs_num_pages(&h);
    h.payloads_offset = 256, h.payloads_size = 1;
    h.pages_offset = 257, h.pages_size = 32 * num_pages + 32 * h.num_chunks;
    h.root_offset = h.pages_offset + h.pages_size, h.root_size = 8 * (num_pages + 2);
    h.container_size = h.root_offset + h.root_size;
    uint8_t bytes[ZIPFS_HEADER_SIZE];
    CHECK_EQUAL(zipfs_header_write(&h, bytes), ZIPFS_BAD_ARGUMENT); /* writes the bytes, then refuses them */
    struct zipfs_header header;
    CHECK_EQUAL(zipfs_header_parse(bytes, sizeof bytes, h.container_size, &header), ZIPFS_TOO_LARGE);
}

/* Opens the sample's bytes; on success looks up `number` and gives that status. */
static enum zipfs_status entry_status(uint64_t number) {
    int fd = sample_fd(sample.bytes, sample.size);
    struct zipfs_reader *reader;
    enum zipfs_status status = zipfs_reader_open(fd, &reader);
    if (status != ZIPFS_OK) {
        close(fd);
        return status;
    }
    uint64_t offset;
    struct zipfs_entry entry;
    status = zipfs_reader_entry(reader, number, &offset, &entry);
    zipfs_reader_free(reader);
    return status;
}

static void test_root_rules(void) {
    uint8_t *root = sample.bytes + sample.header.root_offset;
    uint64_t bounds[4];
    memcpy(bounds, root, sizeof bounds);
    for (unsigned i = 0; i < 4; i++) {
        zipfs_store64(root + 8 * i, bounds[i] + 1);
        CHECK_EQUAL(entry_status(0), ZIPFS_ROOT_CHECKSUM);
        sample_sign_root(&sample);
        /* an inner bound that still ascends is found wrong by the pages on both sides of it */
        bool outer = i == 0 || i == 3;
        CHECK_EQUAL(entry_status(outer ? 0 : ZIPFS_PAGE_ENTRIES * i), outer ? ZIPFS_BAD_ROOT : ZIPFS_BAD_PAGE);
        if (!outer)
            CHECK_EQUAL(entry_status(ZIPFS_PAGE_ENTRIES * i - 1), ZIPFS_BAD_PAGE);
        memcpy(root, bounds, sizeof bounds);
    }
    zipfs_store64(root + 16, bounds[1]);
    sample_sign_root(&sample);
    CHECK_EQUAL(entry_status(0), ZIPFS_BAD_ROOT);
    memcpy(root, bounds, sizeof bounds);
    sample_sign_root(&sample);
    CHECK_EQUAL(entry_status(0), ZIPFS_OK);
}

static enum zipfs_status with_entry(uint64_t number, size_t offset, size_t width, uint64_t value) {
    uint8_t *entry = sample_entry(&sample, number);
    uint64_t page = number / ZIPFS_PAGE_ENTRIES;
    uint8_t old[32];
    memcpy(old, entry, sizeof old);
    memcpy(entry + offset, &value, width);
    CHECK_EQUAL(entry_status(number), ZIPFS_PAGE_CHECKSUM);
    CHECK_EQUAL(entry_status((page + 1) % 3 * ZIPFS_PAGE_ENTRIES), ZIPFS_OK); /* other pages stay readable */
    sample_sign_page(&sample, page);
    enum zipfs_status status = entry_status(number);
    memcpy(entry, old, sizeof old);
    sample_sign_page(&sample, page);
    return status;
}

static void test_page_rules(void) {
    uint8_t *page = sample.bytes + sample.header.pages_offset + ZIPFS_PAGE_SIZE;
    struct {
        size_t offset;
        enum zipfs_status status;
    } heads[] = {
        {8, ZIPFS_BAD_PAGE}, {16, ZIPFS_BAD_PAGE}, {20, ZIPFS_RESERVED_NOT_ZERO}, {31, ZIPFS_RESERVED_NOT_ZERO}};
    for (unsigned i = 0; i < 4; i++) {
        page[heads[i].offset] ^= 4;
        sample_sign_page(&sample, 1);
        CHECK_EQUAL(entry_status(130), heads[i].status);
        page[heads[i].offset] ^= 4;
    }
    sample_sign_page(&sample, 1);
    uint32_t size = zipfs_load32(sample_entry(&sample, 130) + 8);
    CHECK_EQUAL(with_entry(130, 0, 8, zipfs_load64(sample_entry(&sample, 130)) + 1), ZIPFS_BAD_PAGE);
    CHECK_EQUAL(with_entry(130, 8, 4, size - 1), ZIPFS_BAD_PAGE);
    CHECK_EQUAL(with_entry(130, 8, 4, 0), ZIPFS_BAD_PAGE);
    CHECK_EQUAL(with_entry(130, 8, 4, UINT32_MAX), ZIPFS_BAD_PAGE);
    CHECK_EQUAL(with_entry(130, 12, 1, 3), ZIPFS_BAD_PAGE);
    CHECK_EQUAL(with_entry(130, 12, 1, zipfs_load32(sample_entry(&sample, 130) + 8) == 65536 ? 1 : 0), ZIPFS_BAD_PAGE);
    CHECK_EQUAL(with_entry(130, 15, 1, 1), ZIPFS_RESERVED_NOT_ZERO);
    CHECK_EQUAL(with_entry(NUM_CHUNKS - 1, 8, 4, 2), ZIPFS_BAD_PAGE);
}

static void test_reader(void) {
    struct zipfs_reader *reader;
    struct zipfs_codec *codec;
    CHECK_EQUAL(zipfs_reader_open(sample_fd(sample.bytes, sample.size), &reader), ZIPFS_OK);
    CHECK_EQUAL(zipfs_codec_create(CHUNK_LOG2, &codec), ZIPFS_OK);
    static uint8_t dst[1 << CHUNK_LOG2];
    for (uint64_t i = 0; i < NUM_CHUNKS; i++) {
        size_t size = zipfs_chunk_size(&sample.header, i);
        CHECK_EQUAL(zipfs_reader_check(reader, codec, i), ZIPFS_OK);
        CHECK_EQUAL(zipfs_reader_chunk(reader, codec, i, true, dst, size), ZIPFS_OK);
        CHECK(memcmp(dst, sample.plain + (i << CHUNK_LOG2), size) == 0);
    }
    CHECK_EQUAL(zipfs_reader_chunk(reader, codec, 0, true, dst, sizeof dst - 1), ZIPFS_BAD_ARGUMENT);
    CHECK_EQUAL(zipfs_reader_check(reader, codec, NUM_CHUNKS), ZIPFS_BAD_ARGUMENT);
    CHECK_EQUAL(zipfs_reader_check(reader, codec, UINT64_MAX), ZIPFS_BAD_ARGUMENT);
    zipfs_codec_free(codec);
    zipfs_reader_free(reader);
}

/* A payload changed, a plain hash changed (page signed), a file cut short after it was opened. */
static void test_reader_damage(void) {
    struct zipfs_codec *codec;
    CHECK_EQUAL(zipfs_codec_create(CHUNK_LOG2, &codec), ZIPFS_OK);
    static uint8_t dst[1 << CHUNK_LOG2];
    uint8_t *payload = sample.bytes + zipfs_load64(sample_entry(&sample, 7));
    uint8_t *plain_hash = sample_entry(&sample, 9) + 24;
    *payload ^= 1;
    *plain_hash ^= 1;
    sample_sign_page(&sample, 0);
    int fd = sample_fd(sample.bytes, sample.size);
    struct zipfs_reader *reader;
    CHECK_EQUAL(zipfs_reader_open(fd, &reader), ZIPFS_OK);
    CHECK_EQUAL(zipfs_reader_check(reader, codec, 7), ZIPFS_CHUNK_CHECKSUM);
    CHECK_EQUAL(zipfs_reader_chunk(reader, codec, 7, false, dst, sizeof dst), ZIPFS_CHUNK_CHECKSUM);
    CHECK_EQUAL(zipfs_reader_chunk(reader, codec, 8, true, dst, sizeof dst), ZIPFS_OK);
    CHECK_EQUAL(zipfs_reader_chunk(reader, codec, 9, false, dst, sizeof dst), ZIPFS_OK);
    CHECK_EQUAL(zipfs_reader_chunk(reader, codec, 9, true, dst, sizeof dst), ZIPFS_PLAIN_CHECKSUM);
    CHECK_EQUAL(ftruncate(fd, sample.header.pages_offset - 10), 0);
    CHECK_EQUAL(zipfs_reader_check(reader, codec, 8), ZIPFS_OK); /* its page is known */
    CHECK_EQUAL(zipfs_reader_check(reader, codec, 200), ZIPFS_TRUNCATED);
    zipfs_reader_free(reader);
    *payload ^= 1;
    *plain_hash ^= 1;
    sample_sign_page(&sample, 0);
    zipfs_codec_free(codec);
}

/* Files of no and of one chunk have short pages and roots. */
static void test_small(void) {
    static const size_t sizes[] = {0, 1, 65535, 65536, 65537};
    for (unsigned i = 0; i < 5; i++) {
        struct sample small;
        sample_make(&small, sizes[i], CHUNK_LOG2, i);
        struct zipfs_reader *reader;
        CHECK_EQUAL(zipfs_reader_open(sample_fd(small.bytes, small.size), &reader), ZIPFS_OK);
        CHECK_EQUAL(zipfs_reader_header(reader)->plain_size, sizes[i]);
        uint64_t offset;
        struct zipfs_entry entry;
        CHECK_EQUAL(zipfs_reader_entry(reader, 0, &offset, &entry), sizes[i] ? ZIPFS_OK : ZIPFS_BAD_ARGUMENT);
        zipfs_reader_free(reader);
        sample_free(&small);
    }
}

/* More pages than a reader keeps: those that share a slot take turns. */
static void test_many_pages(void) {
    enum { NUM_PAGES = 140 };
    struct sample many;
    struct zipfs_reader *reader;
    sample_make_zeros(&many, NUM_PAGES * ZIPFS_PAGE_ENTRIES - 5, CHUNK_LOG2);
    CHECK_EQUAL(zipfs_reader_open(sample_fd(many.bytes, many.size), &reader), ZIPFS_OK);
    uint64_t state = 6, offset, stored_size = zipfs_load32(sample_entry(&many, 0) + 8);
    struct zipfs_entry entry;
    for (int i = 0; i < 1000; i++) {
        uint64_t number = random_below(&state, many.header.num_chunks);
        CHECK_EQUAL(zipfs_reader_entry(reader, number, &offset, &entry), ZIPFS_OK);
        CHECK_EQUAL(offset, ZIPFS_HEADER_SIZE + number * stored_size);
    }
    zipfs_reader_free(reader);
    sample_free(&many);
}

int main(void) {
    sample_make(&sample, ((size_t)NUM_CHUNKS << CHUNK_LOG2) - 12345, CHUNK_LOG2, 1);
    test_header_rules();
    test_header_checksum_and_sizes();
    test_sections();
    test_root_too_large();
    test_root_rules();
    test_page_rules();
    test_reader();
    test_reader_damage();
    test_small();
    test_many_pages();
    sample_free(&sample);
    return 0;
}
