/* The inodes that the kernel knows of a mount. A container has one for each version of its path, so that no two
 * versions ever share pages, a size or permissions. What is passed through changes in place, as in the source: a file
 * stays one node while it is the same file with the same permissions (a log that grows all day must not leave a node
 * for each of its lengths), a folder while it is the same folder. A node lives as long as the kernel remembers it. Any
 * thread may call anything. */
#ifndef ZIPFS_FUSE_NODES_H
#define ZIPFS_FUSE_NODES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One version of what the source holds at a path, and the attributes that the mount shows of it. Times in ns. */
struct zipfs_version {
    uint64_t dev, ino, stored_size; /* of the source; with mode, owner, mtime and ctime they tell versions apart */
    uint64_t size, num_blocks;      /* of the plain file */
    int64_t atime_ns, mtime_ns, ctime_ns;
    uint32_t mode, num_links, uid, gid, block_size;
    bool is_container;
    uint64_t copy; /* of fuse_resident.h, from which it is served; 0: none */
};

enum { ZIPFS_ROOT_NODE = 1 };

struct zipfs_nodes;
struct zipfs_node;

/* With the root alone, whose path is "." and whose version is all zeros. NULL: no memory. */
struct zipfs_nodes *zipfs_nodes_create(void);
void zipfs_nodes_free(struct zipfs_nodes *nodes); /* nothing is pinned; NULL is allowed */

/* The number of the node that this version of path belongs to, which is made if there is none, and counts one more
 * lookup of it. Its version becomes this one. 0: no memory. Numbers are never used twice. */
uint64_t zipfs_nodes_enter(struct zipfs_nodes *nodes, const char *path, const struct zipfs_version *version);
/* Takes so many lookups back; the node goes with the last one. Returns the copy that it was served from, if it has gone
 * with this call, else 0. */
uint64_t zipfs_nodes_forget(struct zipfs_nodes *nodes, uint64_t number, uint64_t num_lookups);

/* The node of that number, which stays until it is unpinned, and its version unless version_ret is NULL. NULL: the
 * kernel was never told of such a node. */
struct zipfs_node *zipfs_nodes_pin(struct zipfs_nodes *nodes, uint64_t number, struct zipfs_version *version_ret);
void zipfs_nodes_unpin(struct zipfs_nodes *nodes, struct zipfs_node *node);
const char *zipfs_node_path(const struct zipfs_node *node);

/* Makes `version` the node's if it belongs to it. `version` becomes the node's. */
void zipfs_nodes_update(struct zipfs_nodes *nodes, struct zipfs_node *node, struct zipfs_version *version);
/* Whether the node has had other contents before: the kernel may have pages of them. */
bool zipfs_node_has_changed(struct zipfs_nodes *nodes, struct zipfs_node *node);

/* One thing serves all who have a node open at a time: of a container the file, so that no chunk is decoded for each of
 * them, of what is passed through the id of fuse_backing.h, be it 0. Counts one more who has the node open, which stays
 * until all have closed it. Returns what serves: for the first of them `shared`, which becomes the node's; for others,
 * with *is_first_ret false, that of the first, and they keep theirs. */
void *zipfs_node_open(struct zipfs_nodes *nodes, struct zipfs_node *node, void *shared, bool *is_first_ret);
/* Takes that back. Returns what has served if nobody has the node open now, else NULL. */
void *zipfs_node_close(struct zipfs_nodes *nodes, struct zipfs_node *node);

bool zipfs_nodes_is_open(struct zipfs_nodes *nodes, uint64_t number); /* at this moment; no if there is no such node */
size_t zipfs_nodes_count(struct zipfs_nodes *nodes);

#endif
