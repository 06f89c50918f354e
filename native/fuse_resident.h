/* Containers that are kept as whole plain files in memory, where the kernel reads them by itself (fuse_backing.h), so
 * that loading one again is as fast as from a plain file in the page cache: FUSE caches in single pages, of which a
 * `read` makes a third of that speed, and a mapping a twentieth. A file gets here in the background, once about all of
 * it was read; it goes when the kernel forgets it, when another needs the room, or when the machine runs out of memory.
 * Any thread. */
#ifndef ZIPFS_FUSE_RESIDENT_H
#define ZIPFS_FUSE_RESIDENT_H

#include "api.h"
#include "fuse_backing.h"
#include "fuse_nodes.h"

struct zipfs_residents;

struct zipfs_residents_options {
    uint64_t budget; /* bytes of plain files */
    const struct zipfs_api *api;
    struct zipfs_backing *backing;
    struct zipfs_nodes *nodes;
    struct fuse_session *fuse;
};

/* All of them stay the caller's until the residents are freed. NULL: no memory. */
struct zipfs_residents *zipfs_residents_create(const struct zipfs_residents_options *options);
/* Once the session is agreed on. Returns an errno: EOPNOTSUPP where the kernel, or who runs this, cannot have it so. */
int zipfs_residents_start(struct zipfs_residents *residents);
/* Before the session's threads end. false: after timeout_s the thread still waits for the source. */
bool zipfs_residents_stop(struct zipfs_residents *residents, unsigned timeout_s);
void zipfs_residents_free(struct zipfs_residents *residents); /* stopped; NULL is allowed */

/* About all of the file, which serves node `number`, was read: it is worth a copy. */
void zipfs_residents_note(struct zipfs_residents *residents, uint64_t number, const struct zipfs_version *version,
                          struct zipfs_file *file);

/* The number of the copy of that version, which no other copy ever has, for a look-up of the kernel; 0: none is
 * complete. */
uint64_t zipfs_residents_find(struct zipfs_residents *residents, const struct zipfs_version *version);
/* The id by which the kernel reads a copy, which stays until it is given back. 0: it is gone. */
int32_t zipfs_residents_take(struct zipfs_residents *residents, uint64_t copy);
void zipfs_residents_give(struct zipfs_residents *residents, uint64_t copy);
/* The kernel has forgotten a node of the copy. If it does not look it up again within seconds, as it does where it
 * forgets just the number, it wants the memory back. */
void zipfs_residents_forget(struct zipfs_residents *residents, uint64_t copy);

/* Complete copies, and their bytes. */
void zipfs_residents_count(struct zipfs_residents *residents, uint64_t *num_ret, uint64_t *size_ret);

#endif
