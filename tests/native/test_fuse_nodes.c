/* The table of inodes: versions, lookups and forgets, against a model, by many threads. The listing of a folder. */
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

#include "check.h"
#include "fuse_listing.h"
#include "fuse_nodes.h"

enum { NUM_PATHS = 50, NUM_VERSIONS = 4, NUM_STEPS = 20000, NUM_THREADS = 4 };

static struct zipfs_version make_version(int number) {
    return (struct zipfs_version){.dev = 1, .ino = 7, .mode = S_IFREG | 0644, .size = 10, .ctime_ns = number,
                                  .is_container = true};
}

static void test_versions(void) {
    struct zipfs_nodes *nodes = zipfs_nodes_create();
    CHECK(nodes);
    struct zipfs_version version = make_version(1), other = make_version(1), read_back;
    uint64_t number = zipfs_nodes_enter(nodes, "a", &version);
    other.atime_ns = 99;
    CHECK_EQUAL(zipfs_nodes_enter(nodes, "a", &other), number);
    CHECK(zipfs_nodes_enter(nodes, "b", &version) != number);
    struct zipfs_node *node = zipfs_nodes_pin(nodes, number, &read_back);
    CHECK(node && strcmp(zipfs_node_path(node), "a") == 0);
    CHECK_EQUAL(read_back.atime_ns, 99);
#define IS_ANOTHER(field, value) \
    other = version; \
    other.field = (value); \
    CHECK(zipfs_nodes_enter(nodes, "a", &other) != number)
    IS_ANOTHER(dev, 2);
    IS_ANOTHER(ino, 8);
    IS_ANOTHER(stored_size, 8);
    IS_ANOTHER(mtime_ns, 8);
    IS_ANOTHER(ctime_ns, 8);
    IS_ANOTHER(mode, S_IFREG | 0600);
    IS_ANOTHER(uid, 8);
    IS_ANOTHER(gid, 8);
    IS_ANOTHER(is_container, false);
    zipfs_nodes_forget(nodes, number, 2);
    CHECK(zipfs_nodes_pin(nodes, number, NULL) == node); /* pinned */
    zipfs_nodes_unpin(nodes, node);
    zipfs_nodes_unpin(nodes, node);
    CHECK(!zipfs_nodes_pin(nodes, number, NULL));
    zipfs_nodes_free(nodes);
}

/* What is passed through stays one node while its contents change, but not when who may read it does. */
static void test_changes_in_place(void) {
    struct zipfs_nodes *nodes = zipfs_nodes_create();
    struct zipfs_version version = {.dev = 1, .ino = 7, .mode = S_IFREG | 0644, .stored_size = 1};
    uint64_t number = zipfs_nodes_enter(nodes, "a", &version);
    struct zipfs_node *node = zipfs_nodes_pin(nodes, number, NULL);
    version.atime_ns = 8;
    CHECK_EQUAL(zipfs_nodes_enter(nodes, "a", &version), number);
    CHECK(!zipfs_node_has_changed(nodes, node));
    version.stored_size = version.mtime_ns = version.ctime_ns = 2;
    CHECK_EQUAL(zipfs_nodes_enter(nodes, "a", &version), number);
    CHECK(zipfs_node_has_changed(nodes, node));
    struct zipfs_version newer = version, closed = version;
    newer.stored_size = 3;
    zipfs_nodes_update(nodes, node, &newer);
    closed.mode = S_IFREG | 0600;
    zipfs_nodes_update(nodes, node, &closed);
    CHECK(closed.stored_size == 3 && closed.mode == (S_IFREG | 0644));
    closed.mode = S_IFREG | 0600;
    CHECK(zipfs_nodes_enter(nodes, "a", &closed) != number);
    zipfs_nodes_unpin(nodes, node);
    zipfs_nodes_free(nodes);
}

/* Who opens a node that is open gets the same file, and the last to close it gets that back. */
static void test_open_files(void) {
    struct zipfs_nodes *nodes = zipfs_nodes_create();
    struct zipfs_version version = make_version(1);
    uint64_t number = zipfs_nodes_enter(nodes, "a", &version);
    struct zipfs_node *node = zipfs_nodes_pin(nodes, number, NULL);
    int files[3];
    bool is_first;
    CHECK(zipfs_node_open(nodes, node, &files[0], &is_first) == &files[0] && is_first);
    CHECK(zipfs_node_open(nodes, node, &files[1], &is_first) == &files[0] && !is_first);
    CHECK(zipfs_node_open(nodes, node, &files[0], &is_first) == &files[0] && !is_first);
    zipfs_nodes_unpin(nodes, node);
    zipfs_nodes_forget(nodes, number, 1);
    CHECK(zipfs_nodes_pin(nodes, number, NULL) == node); /* it is open */
    CHECK(!zipfs_node_close(nodes, node) && !zipfs_node_close(nodes, node));
    CHECK(zipfs_node_close(nodes, node) == &files[0]);
    CHECK(zipfs_node_open(nodes, node, &files[2], &is_first) == &files[2] && is_first);
    CHECK(zipfs_node_close(nodes, node) == &files[2]);
    zipfs_nodes_unpin(nodes, node);
    CHECK(!zipfs_nodes_pin(nodes, number, NULL));
    zipfs_nodes_free(nodes);
}

/* A folder stays the same node when its contents, its times and its mode change. */
static void test_folders(void) {
    struct zipfs_nodes *nodes = zipfs_nodes_create();
    struct zipfs_version folder = {.dev = 1, .ino = 7, .mode = S_IFDIR | 0755, .mtime_ns = 1};
    uint64_t number = zipfs_nodes_enter(nodes, "a", &folder);
    folder.mtime_ns = folder.ctime_ns = 2;
    folder.mode = S_IFDIR | 0700;
    CHECK_EQUAL(zipfs_nodes_enter(nodes, "a", &folder), number);
    folder.ino = 8;
    CHECK(zipfs_nodes_enter(nodes, "a", &folder) != number);
    zipfs_nodes_forget(nodes, ZIPFS_ROOT_NODE, 1000);
    struct zipfs_node *root = zipfs_nodes_pin(nodes, ZIPFS_ROOT_NODE, NULL);
    CHECK(root && strcmp(zipfs_node_path(root), ".") == 0);
    zipfs_nodes_unpin(nodes, root);
    zipfs_nodes_free(nodes);
}

/* Enters and forgets at random; a node is there exactly while it has lookups. */
static void check_steps(struct zipfs_nodes *nodes, uint64_t seed, char prefix) {
    static __thread uint64_t numbers[NUM_PATHS][NUM_VERSIONS], lookups[NUM_PATHS][NUM_VERSIONS];
    uint64_t state = seed;
    for (int step = 0; step < NUM_STEPS; step++) {
        int path = (int)random_below(&state, NUM_PATHS), v = (int)random_below(&state, NUM_VERSIONS);
        char name[16] = {prefix, (char)('A' + path)};
        struct zipfs_version version = make_version(v);
        uint64_t *number = &numbers[path][v], *count = &lookups[path][v];
        if (random_below(&state, 2)) {
            uint64_t entered = zipfs_nodes_enter(nodes, name, &version);
            CHECK(*count == 0 ? entered != *number : entered == *number);
            *number = entered;
            ++*count;
        } else if (*count > 0) {
            uint64_t gone = 1 + random_below(&state, *count);
            zipfs_nodes_forget(nodes, *number, gone);
            *count -= gone;
        }
        struct zipfs_node *node = *number ? zipfs_nodes_pin(nodes, *number, NULL) : NULL;
        CHECK((node != NULL) == (*count > 0));
        if (node)
            zipfs_nodes_unpin(nodes, node);
    }
    for (int path = 0; path < NUM_PATHS; path++)
        for (int v = 0; v < NUM_VERSIONS; v++)
            if (lookups[path][v] > 0)
                zipfs_nodes_forget(nodes, numbers[path][v], lookups[path][v]);
}

struct job {
    struct zipfs_nodes *nodes;
    int index;
};

static void *run_job(void *context) {
    const struct job *job = context;
    check_steps(job->nodes, 100 + (uint64_t)job->index, (char)('0' + job->index));
    return NULL;
}

static void test_threads(void) {
    struct zipfs_nodes *nodes = zipfs_nodes_create();
    pthread_t threads[NUM_THREADS];
    struct job jobs[NUM_THREADS];
    for (int i = 0; i < NUM_THREADS; i++) {
        jobs[i] = (struct job){nodes, i};
        CHECK_EQUAL(pthread_create(&threads[i], NULL, run_job, &jobs[i]), 0);
    }
    for (int i = 0; i < NUM_THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQUAL(zipfs_nodes_count(nodes), 1);
    zipfs_nodes_free(nodes);
}

static void test_listing(void) {
    struct zipfs_listing *listing = zipfs_listing_create();
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 1000; i++) {
            char name[32];
            snprintf(name, sizeof name, "name %d", i * i);
            struct zipfs_version version = make_version(i);
            CHECK(zipfs_listing_add(listing, name, &version));
        }
        CHECK_EQUAL(zipfs_listing_count(listing), 1000);
        struct zipfs_listed last = zipfs_listing_get(listing, 999);
        CHECK(strcmp(last.name, "name 998001") == 0 && last.version.ctime_ns == 999);
        CHECK(strcmp(zipfs_listing_get(listing, 0).name, "name 0") == 0);
        zipfs_listing_clear(listing);
        CHECK_EQUAL(zipfs_listing_count(listing), 0);
    }
    zipfs_listing_free(listing);
}

int main(void) {
    test_versions();
    test_changes_in_place();
    test_folders();
    test_open_files();
    test_threads();
    test_listing();
    return 0;
}
