/* A mount of a tree in memory: what the kernel makes of its answers, two versions of one path, requests that wait, and
 * its end while files are open. Only where this process may mount. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <semaphore.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "check.h"
#include "fuse_session.h"
#include "sample.h"

enum { CHUNK_LOG2 = 16, NUM_NAMES = 3000, NUM_READERS = 4, NUM_STUCK = 3, SKIPPED = 77 };

/* The tree: ".", "many" with empty files, "weights" in version 1 or 2, "link", of which some requests get no answer until
 * they may go on. */
static struct sample samples[2];
static struct zipfs_cache *cache;
static struct zipfs_file *files[2];
static _Atomic int present; /* the version of "weights" */
static _Atomic int num_lookups, num_to_wait;
static sem_t may_go_on;

static struct zipfs_version folder_version(uint64_t ino) {
    return (struct zipfs_version){.dev = 1, .ino = ino, .mode = S_IFDIR | 0755, .num_links = 2, .block_size = 4096};
}

static struct zipfs_version file_version(int version) {
    return (struct zipfs_version){
        .dev = 1, .ino = 10, .stored_size = samples[version].size, .size = samples[version].plain_size,
        .num_blocks = 8, .mtime_ns = -1, .ctime_ns = version, .mode = S_IFREG | 0644, .num_links = 1,
        .block_size = 65536, .is_container = true,
    };
}

static int tree_lookup(void *context, const char *path, struct zipfs_version *version_ret) {
    (void)context;
    num_lookups++;
    if (strcmp(path, ".") == 0)
        *version_ret = folder_version(2);
    else if (strcmp(path, "many") == 0)
        *version_ret = folder_version(3);
    else if (strcmp(path, "weights") == 0)
        *version_ret = file_version(present);
    else if (strcmp(path, "link") == 0)
        *version_ret = (struct zipfs_version){.dev = 1, .ino = 11, .mode = S_IFLNK | 0777, .num_links = 1, .size = 7};
    else
        return ENOENT;
    return 0;
}

static int tree_list(void *context, const char *path, struct zipfs_listing *listing) {
    (void)context;
    char name[32] = "weights";
    struct zipfs_version version = file_version(present);
    int count = strcmp(path, "many") == 0 ? NUM_NAMES : 1;
    for (int i = 0; i < count; i++) {
        if (count > 1) {
            snprintf(name, sizeof name, "file %d", i);
            version = (struct zipfs_version){.dev = 1, .ino = 1000 + i, .mode = S_IFREG | 0600, .num_links = 1};
        }
        if (!zipfs_listing_add(listing, name, &version))
            return ENOMEM;
    }
    return 0;
}

static int tree_readlink(void *context, const char *path, char *dst, size_t capacity) {
    (void)context, (void)path;
    CHECK(capacity > 8);
    if (num_to_wait > 0) {
        num_to_wait--;
        sem_wait(&may_go_on);
    }
    strcpy(dst, "weights");
    return 0;
}

static int tree_open(void *context, const char *path, const struct zipfs_version *version,
                     struct zipfs_file **file_ret) {
    (void)context, (void)path;
    if (version->ctime_ns != present)
        return ESTALE;
    zipfs_file_ref(files[present]);
    *file_ret = files[present];
    return 0;
}

static int tree_statfs(void *context, struct statvfs *statvfs_ret) {
    (void)context;
    *statvfs_ret = (struct statvfs){.f_bsize = 4096, .f_frsize = 4096, .f_blocks = 12345, .f_namemax = 255};
    return 0;
}

static int tree_stats(void *context, char **text_ret) {
    (void)context;
    *text_ret = strdup("{}");
    return *text_ret ? 0 : ENOMEM;
}

static const struct zipfs_session_tree tree = {NULL,      tree_lookup, tree_list, tree_readlink,
                                               tree_open, tree_statfs, tree_stats};

/* ---- through the kernel ---- */

static char mountpoint[] = "/tmp/zipfs-test-XXXXXX";

static const char *at(const char *name) {
    static __thread char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", mountpoint, name);
    return path;
}

static struct zipfs_session *start_session(void) {
    const struct zipfs_session_options options = {mountpoint, "ro,fsname=zipfs,subtype=zipfs", 1, 6, 0};
    struct zipfs_session *session;
    CHECK_EQUAL(zipfs_session_create(&options, &zipfs_api, &tree, &session), 0);
    if (zipfs_session_start(session) != 0) {
        zipfs_session_free(session);
        rmdir(mountpoint);
        exit(SKIPPED);
    }
    return session;
}

static void check_contents(int fd, int version) {
    const struct sample *sample = &samples[version];
    uint8_t *dst = malloc(sample->plain_size + 1);
    CHECK(dst);
    size_t done = 0;
    for (ssize_t got; (got = pread(fd, dst + done, sample->plain_size + 1 - done, (off_t)done)) > 0;)
        done += (size_t)got;
    CHECK_EQUAL(done, sample->plain_size);
    CHECK(memcmp(dst, sample->plain, done) == 0);
    free(dst);
}

static void test_attributes(void) {
    struct stat st;
    CHECK_EQUAL(stat(at("weights"), &st), 0);
    CHECK_EQUAL(st.st_size, samples[0].plain_size);
    CHECK(st.st_ino == 10 && st.st_mode == (S_IFREG | 0644) && st.st_blocks == 8 && st.st_blksize == 65536);
    CHECK(st.st_mtim.tv_sec == -1 && st.st_mtim.tv_nsec == 999999999);
    CHECK_EQUAL(stat(at("nothing"), &st), -1);
    CHECK_EQUAL(errno, ENOENT);
    CHECK_EQUAL(stat(mountpoint, &st), 0);
    CHECK_EQUAL(st.st_ino, 2);
    char target[16] = "", value[16] = "";
    CHECK_EQUAL(readlink(at("link"), target, sizeof target), 7);
    CHECK(strcmp(target, "weights") == 0);
    int fd = open(at(".zipfs-stats"), O_RDONLY);
    CHECK_EQUAL(read(fd, value, sizeof value), 2);
    CHECK(strcmp(value, "{}") == 0);
    close(fd);
    CHECK_EQUAL(getxattr(mountpoint, "user.other", value, sizeof value), -1);
    CHECK_EQUAL(errno, ENODATA);
    struct statvfs fs;
    CHECK_EQUAL(statvfs(mountpoint, &fs), 0);
    CHECK_EQUAL(fs.f_blocks, 12345);
}

/* Until somebody looks at a file, a listing makes no nodes. */
static void test_names(struct zipfs_session *session) {
    DIR *folder = opendir(at("many"));
    CHECK(folder);
    int count = 0;
    while (readdir(folder))
        count++;
    CHECK_EQUAL(count, NUM_NAMES + 2);
    CHECK_EQUAL(zipfs_session_num_nodes(session), 2);
    closedir(folder);
}

/* A listing of many requests tells the attributes of all, each name once. */
static void test_listing(struct zipfs_session *session) {
    static bool seen[NUM_NAMES];
    DIR *folder = opendir(at("many"));
    CHECK(folder);
    for (struct dirent *entry; (entry = readdir(folder));) {
        int number;
        if (sscanf(entry->d_name, "file %d", &number) != 1)
            continue;
        CHECK(!seen[number] && entry->d_ino == 1000 + (unsigned)number && entry->d_type == DT_REG);
        seen[number] = true;
    }
    num_lookups = 0;
    struct stat st;
    for (int i = 0; i < NUM_NAMES; i++) {
        CHECK(seen[i]);
        char name[32];
        snprintf(name, sizeof name, "many/file %d", i);
        CHECK_EQUAL(stat(at(name), &st), 0);
        CHECK_EQUAL(st.st_ino, 1000 + i);
    }
    CHECK(num_lookups < 10);
    CHECK(zipfs_session_num_nodes(session) > NUM_NAMES);
    closedir(folder);
}

static void *read_whole(void *context) {
    int fd = open(at("weights"), O_RDONLY | (context ? O_DIRECT : 0));
    CHECK(fd >= 0);
    for (int i = 0; i < 3; i++) {
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        if (!context)
            check_contents(fd, 0);
        void *page = aligned_alloc(4096, 4096);
        CHECK_EQUAL(pread(fd, page, 4096, 65536 + 4096 * i), 4096);
        CHECK(memcmp(page, samples[0].plain + 65536 + 4096 * i, 4096) == 0);
        free(page);
    }
    close(fd);
    return NULL;
}

static void test_readers(void) {
    pthread_t threads[NUM_READERS];
    for (int i = 0; i < NUM_READERS; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, read_whole, i % 2 ? &threads : NULL), 0);
    for (int i = 0; i < NUM_READERS; i++)
        pthread_join(threads[i], NULL);
}

/* An old version is read on while the new one is open, also after it was replaced under the eyes of the kernel. */
static void test_versions(void) {
    int old = open(at("weights"), O_RDONLY);
    CHECK(old >= 0);
    present = 1;
    int new = open(at("weights"), O_RDONLY); /* the kernel still believes in the old one and is told otherwise */
    CHECK(new >= 0);
    struct stat st;
    check_contents(new, 1);
    check_contents(old, 0);
    CHECK(fstat(old, &st) == 0 && (size_t)st.st_size == samples[0].plain_size);
    CHECK(fstat(new, &st) == 0 && (size_t)st.st_size == samples[1].plain_size);
    close(new);
    close(old);
    present = 0;
}

static void *follow(void *context) {
    char target[16];
    CHECK_EQUAL(readlink(at("link"), target, sizeof target), 7);
    return context;
}

/* One thread is to wait for requests, but while three wait for something else, others are served. */
static void test_waiting_requests(void) {
    pthread_t threads[NUM_STUCK];
    CHECK_EQUAL(sem_init(&may_go_on, 0, 0), 0);
    num_to_wait = NUM_STUCK;
    for (int i = 0; i < NUM_STUCK; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, follow, NULL), 0);
    while (num_to_wait > 0)
        usleep(1000);
    test_attributes();
    test_readers();
    for (int i = 0; i < NUM_STUCK; i++)
        sem_post(&may_go_on);
    for (int i = 0; i < NUM_STUCK; i++)
        pthread_join(threads[i], NULL);
    test_attributes();
}

int main(void) {
    for (int i = 0; i < 2; i++) {
        sample_make(&samples[i], (20 << CHUNK_LOG2) - 1234 * (i + 1), CHUNK_LOG2, 5 + (uint64_t)i);
        if (!cache)
            CHECK_EQUAL(zipfs_cache_create(&(struct zipfs_cache_options){.budget = 1 << 20, .jobs = 2}, &cache), ZIPFS_OK);
        int fd = sample_fd(samples[i].bytes, samples[i].size);
        CHECK_EQUAL(zipfs_file_open(cache, fd, "x", false, &files[i]), ZIPFS_OK);
    }
    CHECK(mkdtemp(mountpoint));
    struct zipfs_session *session = start_session();
    test_names(session);
    test_attributes();
    test_listing(session);
    test_readers();
    test_waiting_requests();
    test_versions();
    int fd = open(at("weights"), O_RDONLY);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); /* its inode may be the one that was read above */
    CHECK(zipfs_session_stop(session));           /* although it is open */
    char byte;
    CHECK_EQUAL(pread(fd, &byte, 1, 700000), -1);
    CHECK(errno == ENOTCONN || errno == ECONNABORTED);
    close(fd);
    zipfs_session_free(session);
    CHECK_EQUAL(rmdir(mountpoint), 0);
    for (int i = 0; i < 2; i++) {
        zipfs_file_unref(files[i]);
        sample_free(&samples[i]);
    }
    zipfs_cache_free(cache);
    return 0;
}
