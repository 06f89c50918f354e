#include "fuse_listing.h"

#include <string.h>

#include "grow.h"

struct entry {
    size_t name_offset;
    struct zipfs_version version;
};

struct zipfs_listing {
    struct entry *entries;
    size_t num_entries, max_entries;
    char *names; /* each with its NUL */
    size_t names_size, names_capacity;
};

struct zipfs_listing *zipfs_listing_create(void) {
    return calloc(1, sizeof(struct zipfs_listing));
}

void zipfs_listing_clear(struct zipfs_listing *listing) {
    free(listing->entries);
    free(listing->names);
    *listing = (struct zipfs_listing){0};
}

void zipfs_listing_free(struct zipfs_listing *listing) {
    if (!listing)
        return;
    zipfs_listing_clear(listing);
    free(listing);
}

bool zipfs_listing_add(struct zipfs_listing *listing, const char *name, const struct zipfs_version *version) {
    size_t name_size = strlen(name) + 1;
    if (!zipfs_grow((void **)&listing->entries, &listing->max_entries, listing->num_entries + 1, sizeof(struct entry))
        || !zipfs_grow((void **)&listing->names, &listing->names_capacity, listing->names_size + name_size, 1))
        return false;
    memcpy(listing->names + listing->names_size, name, name_size);
    listing->entries[listing->num_entries++] = (struct entry){listing->names_size, *version};
    listing->names_size += name_size;
    return true;
}

size_t zipfs_listing_count(const struct zipfs_listing *listing) {
    return listing->num_entries;
}

struct zipfs_listed zipfs_listing_get(const struct zipfs_listing *listing, size_t index) {
    const struct entry *entry = &listing->entries[index];
    return (struct zipfs_listed){listing->names + entry->name_offset, entry->version};
}
