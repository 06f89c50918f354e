#include "container.h"

#include "common.h"

static const uint8_t MAGIC[8] = {0x89, 'Z', 'I', 'P', 'F', 'S', '\r', '\n'};

enum {
    VERSION = 1,
    FLAG_SHA256 = 1,
    FEATURE_COPIES = 1,
    SECTIONS_OFFSET = 96,
    SECTION_SIZE = 24,
    SECTIONS_MIN = 3,
    SECTIONS_MAX = 6,
    CHECKSUM_OFFSET = 248,
    SECTION_OPTIONAL = 1,
    ENTRY_SIZE = 32,
    PAGE_HEAD = 32,
    ROOT_SEED = 1,
};
enum section_kind { PAYLOADS = 1, PAGES = 2, ROOT = 3, SEGMENTS = 4, BASES = 5 };

#define PLAIN_SIZE_MAX ((uint64_t)1 << 50)

static bool all_zero(const uint8_t *src, size_t size) {
    uint8_t bits = 0;
    for (size_t i = 0; i < size; i++)
        bits |= src[i];
    return bits == 0;
}

/* ---- header ---- */

/* A section entry as it stands in the header. */
struct section {
    uint32_t kind, flags, reserved;
    uint64_t offset, size;
};

static struct section load_section(const uint8_t *src) {
    return (struct section){zipfs_load16(src), zipfs_load16(src + 2), zipfs_load32(src + 4), zipfs_load64(src + 8),
                            zipfs_load64(src + 16)};
}

/* Checks what can be said of section `index` alone and of its place among the kinds. */
static enum zipfs_status check_section_kind(const struct section *section, unsigned index, bool segments_seen) {
    if (section->kind == BASES)
        return ZIPFS_UNKNOWN_FEATURE;
    bool known = section->kind >= PAYLOADS && section->kind <= SEGMENTS;
    if (!known && !(section->flags & SECTION_OPTIONAL))
        return ZIPFS_UNKNOWN_FEATURE;
    if ((section->flags & ~(uint32_t)SECTION_OPTIONAL) || section->reserved)
        return ZIPFS_RESERVED_NOT_ZERO;
    if (index < SECTIONS_MIN) /* payloads, pages, root come first, and are not optional */
        return section->kind == index + 1 && section->flags == 0 ? ZIPFS_OK : ZIPFS_BAD_SECTIONS;
    if (!known)
        return ZIPFS_OK;
    bool allowed = section->kind == SEGMENTS && section->flags == SECTION_OPTIONAL && !segments_seen;
    return allowed ? ZIPFS_OK : ZIPFS_BAD_SECTIONS;
}

static void keep_section(const struct section *section, struct zipfs_header *header) {
    switch (section->kind) {
    case PAYLOADS:
        header->payloads_offset = section->offset;
        header->payloads_size = section->size;
        break;
    case PAGES:
        header->pages_offset = section->offset;
        header->pages_size = section->size;
        break;
    case ROOT:
        header->root_offset = section->offset;
        header->root_size = section->size;
        break;
    case SEGMENTS:
        header->segments_offset = section->offset;
        header->segments_size = section->size;
        break;
    default: break; /* unknown and optional */
    }
}

static enum zipfs_status parse_sections(const uint8_t *src, unsigned num_sections, struct zipfs_header *header) {
    uint64_t end = ZIPFS_HEADER_SIZE;
    bool segments_seen = false;
    for (unsigned i = 0; i < num_sections; i++) {
        struct section section = load_section(src + SECTIONS_OFFSET + i * SECTION_SIZE);
        enum zipfs_status status = check_section_kind(&section, i, segments_seen);
        if (status != ZIPFS_OK)
            return status;
        if (section.offset != end || section.size > header->container_size - end)
            return ZIPFS_BAD_SECTIONS;
        end += section.size;
        segments_seen |= section.kind == SEGMENTS;
        keep_section(&section, header);
    }
    if (end != header->container_size)
        return ZIPFS_BAD_SECTIONS;
    uint64_t num_pages = zipfs_num_pages(header);
    if (header->pages_size != PAGE_HEAD * num_pages + ENTRY_SIZE * header->num_chunks
        || header->root_size != 8 * (num_pages + 2))
        return ZIPFS_BAD_SECTIONS;
    if (header->root_size > ZIPFS_ROOT_SIZE_MAX)
        return ZIPFS_TOO_LARGE;
    const uint8_t *unused = src + SECTIONS_OFFSET + num_sections * SECTION_SIZE;
    return all_zero(unused, src + CHECKSUM_OFFSET - unused) ? ZIPFS_OK : ZIPFS_RESERVED_NOT_ZERO;
}

/* The checks that come before any field: is this a whole header of our version? */
static enum zipfs_status check_frame(const uint8_t *src, size_t src_size, uint64_t file_size) {
    if (src_size < sizeof MAGIC || memcmp(src, MAGIC, sizeof MAGIC) != 0)
        return ZIPFS_BAD_MAGIC;
    if (src_size < ZIPFS_HEADER_SIZE || file_size < ZIPFS_HEADER_SIZE)
        return ZIPFS_TRUNCATED;
    if (zipfs_load16(src + 8) != VERSION)
        return ZIPFS_BAD_VERSION;
    if (zipfs_load64(src + CHECKSUM_OFFSET) != zipfs_hash(src, CHECKSUM_OFFSET, 0))
        return ZIPFS_HEADER_CHECKSUM;
    return ZIPFS_OK;
}

static enum zipfs_status parse_sizes(const uint8_t *src, uint64_t file_size, struct zipfs_header *header) {
    header->plain_size = zipfs_load64(src + 32);
    if (header->plain_size > PLAIN_SIZE_MAX)
        return ZIPFS_TOO_LARGE;
    header->container_size = zipfs_load64(src + 40);
    if (file_size != header->container_size)
        return file_size < header->container_size ? ZIPFS_TRUNCATED : ZIPFS_BAD_HEADER;
    header->chunk_log2 = src[48];
    header->level = src[49];
    if (header->chunk_log2 < ZIPFS_CHUNK_LOG2_MIN || header->chunk_log2 > ZIPFS_CHUNK_LOG2_MAX
        || header->level > ZIPFS_LEVEL_MAX)
        return ZIPFS_BAD_HEADER;
    uint64_t chunk_size = (uint64_t)1 << header->chunk_log2;
    header->num_chunks = (header->plain_size + chunk_size - 1) >> header->chunk_log2;
    return ZIPFS_OK;
}

enum zipfs_status zipfs_header_parse(const uint8_t *src, size_t src_size, uint64_t file_size,
                                     struct zipfs_header *header_ret) {
    enum zipfs_status status = check_frame(src, src_size, file_size);
    if (status != ZIPFS_OK)
        return status;
    struct zipfs_header header = {0};
    uint32_t flags = zipfs_load32(src + 12);
    if (zipfs_load16(src + 10) != ZIPFS_HEADER_SIZE)
        return ZIPFS_BAD_HEADER;
    if (flags & ~(uint32_t)FLAG_SHA256)
        return ZIPFS_RESERVED_NOT_ZERO;
    uint64_t features = zipfs_load64(src + 16);
    if (features & ~(uint64_t)FEATURE_COPIES)
        return ZIPFS_UNKNOWN_FEATURE;
    header.has_copies = features & FEATURE_COPIES;
    if ((status = parse_sizes(src, file_size, &header)) != ZIPFS_OK)
        return status;
    unsigned num_sections = zipfs_load16(src + 50);
    if (num_sections < SECTIONS_MIN || num_sections > SECTIONS_MAX)
        return ZIPFS_BAD_SECTIONS;
    header.zstd_version = zipfs_load32(src + 52);
    header.has_sha256 = flags & FLAG_SHA256;
    memcpy(header.sha256, src + 64, sizeof header.sha256);
    if (!all_zero(src + 56, 8) || (!header.has_sha256 && !all_zero(header.sha256, sizeof header.sha256)))
        return ZIPFS_RESERVED_NOT_ZERO;
    if ((status = parse_sections(src, num_sections, &header)) != ZIPFS_OK)
        return status;
    *header_ret = header;
    return ZIPFS_OK;
}

static void store_section(uint8_t *dst, unsigned kind, uint64_t offset, uint64_t size) {
    zipfs_store16(dst, kind);
    zipfs_store16(dst + 2, kind == SEGMENTS ? SECTION_OPTIONAL : 0);
    zipfs_store64(dst + 8, offset);
    zipfs_store64(dst + 16, size);
}

enum zipfs_status zipfs_header_write(const struct zipfs_header *header, uint8_t dst[ZIPFS_HEADER_SIZE]) {
    if (header->chunk_log2 > ZIPFS_CHUNK_LOG2_MAX || header->level > ZIPFS_LEVEL_MAX)
        return ZIPFS_BAD_ARGUMENT;
    bool has_segments = header->segments_size != 0;
    memset(dst, 0, ZIPFS_HEADER_SIZE);
    memcpy(dst, MAGIC, sizeof MAGIC);
    zipfs_store16(dst + 8, VERSION);
    zipfs_store16(dst + 10, ZIPFS_HEADER_SIZE);
    zipfs_store32(dst + 12, header->has_sha256 ? FLAG_SHA256 : 0);
    zipfs_store64(dst + 16, header->has_copies ? FEATURE_COPIES : 0);
    zipfs_store64(dst + 32, header->plain_size);
    zipfs_store64(dst + 40, header->container_size);
    dst[48] = header->chunk_log2;
    dst[49] = header->level;
    zipfs_store16(dst + 50, SECTIONS_MIN + has_segments);
    zipfs_store32(dst + 52, header->zstd_version);
    if (header->has_sha256)
        memcpy(dst + 64, header->sha256, sizeof header->sha256);
    uint8_t *sections = dst + SECTIONS_OFFSET;
    store_section(sections, PAYLOADS, header->payloads_offset, header->payloads_size);
    store_section(sections + SECTION_SIZE, PAGES, header->pages_offset, header->pages_size);
    store_section(sections + 2 * SECTION_SIZE, ROOT, header->root_offset, header->root_size);
    if (has_segments)
        store_section(sections + 3 * SECTION_SIZE, SEGMENTS, header->segments_offset, header->segments_size);
    zipfs_store64(dst + CHECKSUM_OFFSET, zipfs_hash(dst, CHECKSUM_OFFSET, 0));
    /* What a reader would refuse is not written: one list of rules for both. */
    struct zipfs_header parsed;
    if (zipfs_header_parse(dst, ZIPFS_HEADER_SIZE, header->container_size, &parsed) != ZIPFS_OK)
        return ZIPFS_BAD_ARGUMENT;
    return ZIPFS_OK;
}

/* ---- root and pages ---- */

enum zipfs_status zipfs_root_check(const struct zipfs_header *header, const uint8_t *root) {
    uint64_t num_pages = zipfs_num_pages(header);
    uint64_t bounds_size = 8 * (num_pages + 1);
    if (zipfs_load64(root + bounds_size) != zipfs_hash(root, bounds_size, ROOT_SEED))
        return ZIPFS_ROOT_CHECKSUM;
    if (zipfs_load64(root) != header->payloads_offset
        || zipfs_load64(root + 8 * num_pages) != header->payloads_offset + header->payloads_size)
        return ZIPFS_BAD_ROOT;
    for (uint64_t i = 0; i < num_pages; i++)
        if (zipfs_load64(root + 8 * i) >= zipfs_load64(root + 8 * (i + 1)))
            return ZIPFS_BAD_ROOT;
    return ZIPFS_OK;
}

void zipfs_page_entry(const uint8_t *page, size_t index, uint64_t *offset_ret, struct zipfs_entry *entry_ret) {
    const uint8_t *src = page + PAGE_HEAD + ENTRY_SIZE * index;
    *offset_ret = zipfs_load64(src);
    *entry_ret = (struct zipfs_entry){zipfs_load32(src + 8), src[12], zipfs_load64(src + 16), zipfs_load64(src + 24)};
}

enum zipfs_status zipfs_page_check(const struct zipfs_header *header, const uint8_t *root, uint64_t page,
                                   const uint8_t *src) {
    size_t num_entries = zipfs_page_entries(header, page);
    if (zipfs_load64(src) != zipfs_hash(src + 8, zipfs_page_size(header, page) - 8, page))
        return ZIPFS_PAGE_CHECKSUM;
    if (zipfs_load64(src + 8) != page || zipfs_load32(src + 16) != num_entries)
        return ZIPFS_BAD_PAGE;
    if (!all_zero(src + 20, 12))
        return ZIPFS_RESERVED_NOT_ZERO;
    /* No overflow below: 127 chunks of at most 4 MiB past a checked bound. */
    uint64_t end = zipfs_load64(root + 8 * page);
    for (size_t i = 0; i < num_entries; i++) {
        uint64_t offset;
        struct zipfs_entry entry;
        zipfs_page_entry(src, i, &offset, &entry);
        size_t plain_size = zipfs_chunk_size(header, page * ZIPFS_PAGE_ENTRIES + i);
        if (offset != end || !zipfs_entry_fits(&entry, plain_size))
            return ZIPFS_BAD_PAGE;
        if (!all_zero(src + PAGE_HEAD + ENTRY_SIZE * i + 13, 3))
            return ZIPFS_RESERVED_NOT_ZERO;
        end += entry.stored_size;
    }
    return end == zipfs_load64(root + 8 * (page + 1)) ? ZIPFS_OK : ZIPFS_BAD_PAGE;
}
