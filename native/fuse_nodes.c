/* See fuse_nodes.h. Two hash tables, by number and by path and version, that grow and shrink with what they hold. */
#include "fuse_nodes.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { BUCKETS_MIN = 64 };

struct zipfs_node {
    uint64_t number;
    uint64_t num_lookups; /* what the kernel was told, less what it forgot */
    unsigned num_pins;
    size_t num_open;
    void *shared; /* unless num_open is 0 */
    bool has_changed;
    struct zipfs_node *by_number_next, *by_version_next;
    struct zipfs_version version;
    char path[];
};

/* ---- versions ---- */

static bool has_same_contents(const struct zipfs_version *one, const struct zipfs_version *other) {
    return one->stored_size == other->stored_size && one->mtime_ns == other->mtime_ns
           && one->ctime_ns == other->ctime_ns;
}

/* Whether both are versions of one node. The kernel decides by a node's mode and owner who may open it, and may not yet
 * know of a change, so these never change. */
static bool is_same_node(const struct zipfs_version *one, const struct zipfs_version *other) {
    if (one->dev != other->dev || one->ino != other->ino || (one->mode & S_IFMT) != (other->mode & S_IFMT))
        return false;
    if (S_ISDIR(one->mode))
        return true;
    return one->mode == other->mode && one->uid == other->uid && one->gid == other->gid
           && one->is_container == other->is_container
           && (!one->is_container || (one->copy == other->copy && has_same_contents(one, other)));
}

struct zipfs_nodes {
    pthread_mutex_t lock;
    struct zipfs_node **by_number, **by_version;
    size_t num_buckets, num_nodes;
    uint64_t last_number;
};

/* ---- tables; the lock is held ---- */

static uint64_t hash_version(const char *path, const struct zipfs_version *version) {
    uint64_t hash = 0xCBF29CE484222325u ^ version->ino; /* FNV-1a (Fowler, Noll, Vo 1991) */
    for (const char *c = path; *c != '\0'; c++)
        hash = (hash ^ (uint8_t)*c) * 0x100000001B3u;
    return hash ^ hash >> 32;
}

static struct zipfs_node **number_bucket(struct zipfs_nodes *nodes, uint64_t number) {
    return &nodes->by_number[number & (nodes->num_buckets - 1)];
}

static struct zipfs_node **version_bucket(struct zipfs_nodes *nodes, const char *path,
                                          const struct zipfs_version *version) {
    return &nodes->by_version[hash_version(path, version) & (nodes->num_buckets - 1)];
}

static void insert(struct zipfs_nodes *nodes, struct zipfs_node *node) {
    struct zipfs_node **bucket = number_bucket(nodes, node->number);
    node->by_number_next = *bucket;
    *bucket = node;
    bucket = version_bucket(nodes, node->path, &node->version);
    node->by_version_next = *bucket;
    *bucket = node;
}

static void remove_node(struct zipfs_nodes *nodes, struct zipfs_node *node) {
    struct zipfs_node **link = number_bucket(nodes, node->number);
    while (*link != node)
        link = &(*link)->by_number_next;
    *link = node->by_number_next;
    link = version_bucket(nodes, node->path, &node->version);
    while (*link != node)
        link = &(*link)->by_version_next;
    *link = node->by_version_next;
}

/* Fits the tables to the number of nodes. Without memory they stay as they are, which costs time alone. */
static void resize(struct zipfs_nodes *nodes) {
    size_t num_old = nodes->num_buckets, num = num_old;
    if (nodes->num_nodes > num_old)
        num *= 2;
    else if (nodes->num_nodes < num_old / 8 && num_old > BUCKETS_MIN)
        num /= 2;
    if (num == num_old)
        return;
    struct zipfs_node **by_number = calloc(num, sizeof *by_number), **by_version = calloc(num, sizeof *by_version);
    if (!by_number || !by_version) {
        free(by_number);
        free(by_version);
        return;
    }
    struct zipfs_node **old = nodes->by_number;
    free(nodes->by_version);
    nodes->by_number = by_number;
    nodes->by_version = by_version;
    nodes->num_buckets = num;
    for (size_t i = 0; i < num_old; i++)
        for (struct zipfs_node *node = old[i], *next; node; node = next) {
            next = node->by_number_next;
            insert(nodes, node);
        }
    free(old);
}

static struct zipfs_node *find_number(struct zipfs_nodes *nodes, uint64_t number) {
    struct zipfs_node *node = *number_bucket(nodes, number);
    while (node && node->number != number)
        node = node->by_number_next;
    return node;
}

static struct zipfs_node *find_version(struct zipfs_nodes *nodes, const char *path,
                                       const struct zipfs_version *version) {
    struct zipfs_node *node = *version_bucket(nodes, path, version);
    while (node && !(is_same_node(&node->version, version) && strcmp(node->path, path) == 0))
        node = node->by_version_next;
    return node;
}

static struct zipfs_node *add_node(struct zipfs_nodes *nodes, const char *path, const struct zipfs_version *version) {
    size_t path_size = strlen(path) + 1;
    struct zipfs_node *node = malloc(sizeof *node + path_size);
    if (!node)
        return NULL;
    *node = (struct zipfs_node){.number = ++nodes->last_number, .version = *version};
    memcpy(node->path, path, path_size);
    insert(nodes, node);
    nodes->num_nodes++;
    resize(nodes);
    return node;
}

static void set_version(struct zipfs_node *node, const struct zipfs_version *version) {
    node->has_changed |= !has_same_contents(&node->version, version);
    node->version = *version;
}

static bool drop_if_unused(struct zipfs_nodes *nodes, struct zipfs_node *node) {
    if (node->num_lookups > 0 || node->num_pins > 0 || node->num_open > 0)
        return false;
    remove_node(nodes, node);
    free(node);
    nodes->num_nodes--;
    resize(nodes);
    return true;
}

/* ---- public ---- */

struct zipfs_nodes *zipfs_nodes_create(void) {
    struct zipfs_nodes *nodes = calloc(1, sizeof *nodes);
    if (!nodes)
        return NULL;
    pthread_mutex_init(&nodes->lock, NULL);
    nodes->num_buckets = BUCKETS_MIN;
    nodes->by_number = calloc(BUCKETS_MIN, sizeof *nodes->by_number);
    nodes->by_version = calloc(BUCKETS_MIN, sizeof *nodes->by_version);
    nodes->last_number = ZIPFS_ROOT_NODE - 1;
    struct zipfs_node *root = nodes->by_number && nodes->by_version ? add_node(nodes, ".", &(struct zipfs_version){0})
                                                                    : NULL;
    if (!root) {
        zipfs_nodes_free(nodes);
        return NULL;
    }
    root->num_lookups = 1; /* the kernel knows it unasked and never forgets it */
    return nodes;
}

void zipfs_nodes_free(struct zipfs_nodes *nodes) {
    if (!nodes)
        return;
    for (size_t i = 0; nodes->by_number && i < nodes->num_buckets; i++)
        for (struct zipfs_node *node = nodes->by_number[i], *next; node; node = next) {
            next = node->by_number_next;
            free(node);
        }
    free(nodes->by_number);
    free(nodes->by_version);
    pthread_mutex_destroy(&nodes->lock);
    free(nodes);
}

uint64_t zipfs_nodes_enter(struct zipfs_nodes *nodes, const char *path, const struct zipfs_version *version) {
    pthread_mutex_lock(&nodes->lock);
    struct zipfs_node *node = find_version(nodes, path, version);
    if (node)
        set_version(node, version);
    else
        node = add_node(nodes, path, version);
    uint64_t number = node ? node->number : 0;
    if (node)
        node->num_lookups++;
    pthread_mutex_unlock(&nodes->lock);
    return number;
}

uint64_t zipfs_nodes_forget(struct zipfs_nodes *nodes, uint64_t number, uint64_t num_lookups) {
    uint64_t copy = 0;
    if (number == ZIPFS_ROOT_NODE)
        return 0;
    pthread_mutex_lock(&nodes->lock);
    struct zipfs_node *node = find_number(nodes, number);
    if (node) {
        node->num_lookups -= num_lookups < node->num_lookups ? num_lookups : node->num_lookups;
        uint64_t own = node->version.copy;
        copy = drop_if_unused(nodes, node) ? own : 0;
    }
    pthread_mutex_unlock(&nodes->lock);
    return copy;
}

struct zipfs_node *zipfs_nodes_pin(struct zipfs_nodes *nodes, uint64_t number, struct zipfs_version *version_ret) {
    pthread_mutex_lock(&nodes->lock);
    struct zipfs_node *node = find_number(nodes, number);
    if (node)
        node->num_pins++;
    if (node && version_ret)
        *version_ret = node->version;
    pthread_mutex_unlock(&nodes->lock);
    return node;
}

void zipfs_nodes_unpin(struct zipfs_nodes *nodes, struct zipfs_node *node) {
    pthread_mutex_lock(&nodes->lock);
    node->num_pins--;
    drop_if_unused(nodes, node);
    pthread_mutex_unlock(&nodes->lock);
}

void zipfs_nodes_update(struct zipfs_nodes *nodes, struct zipfs_node *node, struct zipfs_version *version) {
    pthread_mutex_lock(&nodes->lock);
    if (is_same_node(&node->version, version))
        set_version(node, version);
    *version = node->version;
    pthread_mutex_unlock(&nodes->lock);
}

bool zipfs_node_has_changed(struct zipfs_nodes *nodes, struct zipfs_node *node) {
    pthread_mutex_lock(&nodes->lock);
    bool has_changed = node->has_changed;
    pthread_mutex_unlock(&nodes->lock);
    return has_changed;
}

void *zipfs_node_open(struct zipfs_nodes *nodes, struct zipfs_node *node, void *shared, bool *is_first_ret) {
    pthread_mutex_lock(&nodes->lock);
    *is_first_ret = node->num_open++ == 0;
    if (*is_first_ret)
        node->shared = shared;
    shared = node->shared;
    pthread_mutex_unlock(&nodes->lock);
    return shared;
}

void *zipfs_node_close(struct zipfs_nodes *nodes, struct zipfs_node *node) {
    pthread_mutex_lock(&nodes->lock);
    void *shared = --node->num_open == 0 ? node->shared : NULL;
    pthread_mutex_unlock(&nodes->lock);
    return shared;
}

bool zipfs_nodes_is_open(struct zipfs_nodes *nodes, uint64_t number) {
    pthread_mutex_lock(&nodes->lock);
    struct zipfs_node *node = find_number(nodes, number);
    bool is_open = node && node->num_open > 0;
    pthread_mutex_unlock(&nodes->lock);
    return is_open;
}

const char *zipfs_node_path(const struct zipfs_node *node) {
    return node->path;
}

size_t zipfs_nodes_count(struct zipfs_nodes *nodes) {
    pthread_mutex_lock(&nodes->lock);
    size_t count = nodes->num_nodes;
    pthread_mutex_unlock(&nodes->lock);
    return count;
}
