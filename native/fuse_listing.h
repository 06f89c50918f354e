/* What a folder held at one moment, for the readers of one open folder. */
#ifndef ZIPFS_FUSE_LISTING_H
#define ZIPFS_FUSE_LISTING_H

#include "fuse_nodes.h"

struct zipfs_listed {
    const char *name; /* valid until the listing changes */
    struct zipfs_version version;
};

struct zipfs_listing;

struct zipfs_listing *zipfs_listing_create(void); /* NULL: no memory */
void zipfs_listing_free(struct zipfs_listing *listing); /* NULL is allowed */
void zipfs_listing_clear(struct zipfs_listing *listing);
/* Copies name and version to the end. false: no memory. */
bool zipfs_listing_add(struct zipfs_listing *listing, const char *name, const struct zipfs_version *version);
size_t zipfs_listing_count(const struct zipfs_listing *listing);
struct zipfs_listed zipfs_listing_get(const struct zipfs_listing *listing, size_t index); /* index < count */

#endif
