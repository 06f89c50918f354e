#include "sample.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "common.h"
#include "container.h"

uint64_t sample_weight(const struct zipfs_layout_info *info, uint64_t *state) {
    uint64_t y = random_u64(state);
    if (!info->exponent_bits)
        return y & 0xffff & y >> 20;
    unsigned below = 8u * info->width - info->exponent_bits; /* sign and mantissa */
    uint64_t bias = (UINT64_C(1) << (info->exponent_bits - 1)) - 1,
             drop = (uint64_t)__builtin_ctzll(random_u64(state) | 1 << 20);
    uint64_t exponent = bias > drop ? bias - drop : 0;
    return zipfs_layout_unrotate(info, exponent << below | (y & ((UINT64_C(1) << below) - 1)));
}

/* BF16 around 0.02: few exponents, random mantissas; every fourth stretch of 64 KiB is noise, every fifth zeros. */
static void fill_plain(uint8_t *plain, size_t size, uint64_t seed) {
    for (size_t i = 0; i < size; i++) {
        uint64_t x = random_u64(&seed);
        size_t stretch = i >> 16;
        if (stretch % 5 == 4)
            plain[i] = 0;
        else if (stretch % 4 == 3)
            plain[i] = x;
        else
            plain[i] = i % 2 ? 0x3c + (x % 3 == 0) - (x % 7 == 0) + (x & 0x80) : x;
    }
}

/* Appends the pages and the root of `entries` to the container. */
static void append_index(struct sample *sample, const struct zipfs_entry *entries) {
    struct zipfs_header *h = &sample->header;
    uint8_t *page = sample->bytes + h->pages_offset, *root = sample->bytes + h->root_offset;
    uint64_t offset = h->payloads_offset;
    for (uint64_t i = 0; i < h->num_chunks; i++) {
        uint64_t number = i / ZIPFS_PAGE_ENTRIES;
        if (i % ZIPFS_PAGE_ENTRIES == 0) {
            zipfs_store64(root + 8 * number, offset);
            zipfs_store64(page + ZIPFS_PAGE_SIZE * number + 8, number);
            zipfs_store32(page + ZIPFS_PAGE_SIZE * number + 16, zipfs_page_entries(h, number));
        }
        uint8_t *entry = sample_entry(sample, i);
        zipfs_store64(entry, offset);
        zipfs_store32(entry + 8, entries[i].stored_size);
        entry[12] = entries[i].kind;
        zipfs_store64(entry + 16, entries[i].stored_hash);
        zipfs_store64(entry + 24, entries[i].plain_hash);
        offset += entries[i].stored_size;
    }
    zipfs_store64(root + 8 * zipfs_num_pages(h), offset);
    for (uint64_t i = 0; i < zipfs_num_pages(h); i++)
        sample_sign_page(sample, i);
    sample_sign_root(sample);
}

/* Lays the sections out behind the payloads. */
static void place_sections(struct zipfs_header *h, size_t payloads_size) {
    uint64_t num_pages = zipfs_num_pages(h);
    h->payloads_offset = ZIPFS_HEADER_SIZE;
    h->payloads_size = payloads_size;
    h->pages_offset = h->payloads_offset + payloads_size;
    h->pages_size = 32 * num_pages + 32 * h->num_chunks;
    h->root_offset = h->pages_offset + h->pages_size;
    h->root_size = 8 * (num_pages + 2);
    h->container_size = h->root_offset + h->root_size;
}

void sample_make(struct sample *sample, size_t plain_size, uint32_t chunk_log2, uint64_t seed) {
    sample_make_copies(sample, plain_size, chunk_log2, seed, plain_size);
}

/* What chunk `number` may copy of the bytes [distance, 2 * distance): targets lie before the chunk. */
static struct zipfs_copies copies_of(const struct sample *sample, uint64_t number, size_t distance) {
    struct zipfs_copies copies = {.num = 0};
    uint64_t base = number << sample->header.chunk_log2, end = base + zipfs_chunk_size(&sample->header, number);
    uint64_t start = zipfs_max(base, distance);
    end = zipfs_min(zipfs_min(end, 2 * distance), base + distance);
    if (start < end)
        copies = (struct zipfs_copies){1, {{(uint32_t)(start - base), (uint32_t)(end - start), start - distance}}};
    return copies;
}

void sample_make_copies(struct sample *sample, size_t plain_size, uint32_t chunk_log2, uint64_t seed, size_t distance) {
    memset(sample, 0, sizeof *sample);
    size_t chunk_size = (size_t)1 << chunk_log2, num_chunks = (plain_size + chunk_size - 1) >> chunk_log2;
    struct zipfs_header *h = &sample->header;
    h->plain_size = sample->plain_size = plain_size;
    h->num_chunks = num_chunks;
    h->chunk_log2 = chunk_log2;
    h->level = ZIPFS_LEVEL_DEFAULT;
    sample->plain = malloc(plain_size + 1);
    sample->bytes = calloc(1, ZIPFS_HEADER_SIZE + plain_size + 64 * num_chunks + 64);
    struct zipfs_entry *entries = calloc(num_chunks + 1, sizeof *entries);
    struct zipfs_codec *codec;
    CHECK(sample->plain && sample->bytes && entries);
    CHECK_EQUAL(zipfs_codec_create(chunk_log2, &codec), ZIPFS_OK);
    fill_plain(sample->plain, plain_size, seed);
    for (size_t i = distance; i < plain_size; i++)
        sample->plain[i] = sample->plain[i - distance];
    h->has_copies = distance < plain_size;
    struct zipfs_segment segment = {0, plain_size, ZIPFS_BF16};
    uint8_t *dst = sample->bytes + ZIPFS_HEADER_SIZE;
    for (size_t i = 0; i < num_chunks; i++) {
        size_t size = zipfs_chunk_size(h, i);
        struct zipfs_copies copies = copies_of(sample, i, distance);
        CHECK_EQUAL(zipfs_encode_chunk_copies(codec, ZIPFS_LEVEL_DEFAULT, i, sample->plain + i * chunk_size, size,
                                              &segment, 1, &copies, dst, size, &entries[i]),
                    ZIPFS_OK);
        dst += entries[i].stored_size;
    }
    zipfs_codec_free(codec);
    /* Encoding leaves any bytes in the rest of its room; reserved ones of the index are not written. */
    memset(dst, 0, (size_t)(sample->bytes + ZIPFS_HEADER_SIZE + plain_size + 64 * num_chunks + 64 - dst));
    place_sections(h, dst - sample->bytes - ZIPFS_HEADER_SIZE);
    append_index(sample, entries);
    free(entries);
    CHECK_EQUAL(zipfs_header_write(h, sample->bytes), ZIPFS_OK);
    sample->size = h->container_size;
}

void sample_make_zeros(struct sample *sample, uint64_t num_chunks, uint32_t chunk_log2) {
    memset(sample, 0, sizeof *sample);
    size_t chunk_size = (size_t)1 << chunk_log2;
    struct zipfs_header *h = &sample->header;
    h->plain_size = sample->plain_size = num_chunks << chunk_log2;
    h->num_chunks = num_chunks;
    h->chunk_log2 = chunk_log2;
    uint8_t *zeros = calloc(1, chunk_size), *payload = malloc(chunk_size);
    struct zipfs_entry entry, *entries = calloc(num_chunks, sizeof *entries);
    struct zipfs_codec *codec;
    CHECK(zeros && payload && entries);
    CHECK_EQUAL(zipfs_codec_create(chunk_log2, &codec), ZIPFS_OK);
    CHECK_EQUAL(
        zipfs_encode_chunk(codec, ZIPFS_LEVEL_DEFAULT, 0, zeros, chunk_size, NULL, 0, payload, chunk_size, &entry),
        ZIPFS_OK);
    zipfs_codec_free(codec);
    place_sections(h, num_chunks * entry.stored_size);
    sample->bytes = calloc(1, h->container_size);
    CHECK(sample->bytes);
    for (uint64_t i = 0; i < num_chunks; i++) {
        memcpy(sample->bytes + ZIPFS_HEADER_SIZE + i * entry.stored_size, payload, entry.stored_size);
        entries[i] = entry;
        entries[i].stored_hash = zipfs_hash(payload, entry.stored_size, i);
    }
    append_index(sample, entries);
    free(entries);
    free(payload);
    free(zeros);
    CHECK_EQUAL(zipfs_header_write(h, sample->bytes), ZIPFS_OK);
    sample->size = h->container_size;
}

void sample_free(struct sample *sample) {
    free(sample->plain);
    free(sample->bytes);
}

int sample_fd(const uint8_t *bytes, size_t size) {
    int fd = memfd_create("sample", MFD_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_EQUAL(pwrite(fd, bytes, size, 0), size);
    return fd;
}

void sample_sign_header(struct sample *sample) {
    zipfs_store64(sample->bytes + 248, zipfs_hash(sample->bytes, 248, 0));
}

void sample_sign_page(struct sample *sample, uint64_t page) {
    uint8_t *src = sample->bytes + sample->header.pages_offset + ZIPFS_PAGE_SIZE * page;
    zipfs_store64(src, zipfs_hash(src + 8, zipfs_page_size(&sample->header, page) - 8, page));
}

void sample_sign_root(struct sample *sample) {
    uint8_t *src = sample->bytes + sample->header.root_offset;
    size_t size = sample->header.root_size - 8;
    zipfs_store64(src + size, zipfs_hash(src, size, 1));
}

uint8_t *sample_entry(struct sample *sample, uint64_t number) {
    uint64_t page = number / ZIPFS_PAGE_ENTRIES, index = number % ZIPFS_PAGE_ENTRIES;
    return sample->bytes + sample->header.pages_offset + ZIPFS_PAGE_SIZE * page + 32 + 32 * index;
}
