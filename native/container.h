/* The fixed structures of a container (docs/format.md sections 2 and 3): sizes and checks. No I/O, no state. */
#ifndef ZIPFS_CONTAINER_H
#define ZIPFS_CONTAINER_H

#include "zipfs.h"

/* The largest root that is accepted: what a reader keeps in memory per open container. */
#define ZIPFS_ROOT_SIZE_MAX ((uint64_t)64 << 20)

static inline uint64_t zipfs_num_pages(const struct zipfs_header *header) {
    return (header->num_chunks + ZIPFS_PAGE_ENTRIES - 1) / ZIPFS_PAGE_ENTRIES;
}

/* Plain bytes of chunk `number`, which must exist. */
static inline size_t zipfs_chunk_size(const struct zipfs_header *header, uint64_t number) {
    uint64_t rest = header->plain_size - (number << header->chunk_log2);
    uint64_t full = (uint64_t)1 << header->chunk_log2;
    return rest < full ? rest : full;
}

/* Entries in page `page`, which must exist, and the page's size. */
static inline size_t zipfs_page_entries(const struct zipfs_header *header, uint64_t page) {
    uint64_t rest = header->num_chunks - page * ZIPFS_PAGE_ENTRIES;
    return rest < ZIPFS_PAGE_ENTRIES ? rest : ZIPFS_PAGE_ENTRIES;
}

static inline size_t zipfs_page_size(const struct zipfs_header *header, uint64_t page) {
    return 32 + 32 * zipfs_page_entries(header, page);
}

/* Checks the root section, whose size header_parse has checked. */
enum zipfs_status zipfs_root_check(const struct zipfs_header *header, const uint8_t *root);

/* Checks page `page` (zipfs_page_size bytes) between its two bounds, with every rule of its entries. */
enum zipfs_status zipfs_page_check(const struct zipfs_header *header, const uint8_t *root, uint64_t page,
                                   const uint8_t *src);

/* Entry `index` of a checked page. */
void zipfs_page_entry(const uint8_t *page, size_t index, uint64_t *offset_ret, struct zipfs_entry *entry_ret);

#endif
