/* See fuse_resident.h. The copies are unlinked files of a tmpfs that is mounted nowhere, in huge pages where there are
 * any. One thread makes them, at low priority, reading through the file as any reader does. */
#include "fuse_resident.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum {
    STEP = 1 << 20, /* larger reads take the threads of others too */
    BUCKET_BITS = 10,
    NUM_BUCKETS = 1 << BUCKET_BITS,
    MIN_SIZE = 1 << 20, /* what is smaller loads as fast as it can be opened */
    FRESH_S = 60,       /* a copy that was opened since makes no room: it would come and go with each load */
    LOOK_EVERY_S = 2,   /* at what may go, while there are copies */
    SPARE_PART = 16,    /* of all memory, that is left to others */
    NICENESS = 10,
    MAX_WAITING = 256,
};

/* A complete copy. The lowest bits of its number are those of its bucket. */
struct copy {
    struct copy *next;
    uint64_t number;
    struct zipfs_version version;
    int32_t backing_id;
    size_t num_open;
    int64_t used_at_s;
    int64_t forgotten_at_s; /* 0: not since it was looked up */
};

/* A file that is to be copied, and the node that serves it now. */
struct job {
    struct job *next;
    uint64_t node_number;
    struct zipfs_version version;
    struct zipfs_file *file;
};

struct zipfs_residents {
    struct zipfs_residents_options options;
    int tmpfs_fd;
    uint8_t *buffer; /* of the thread */
    pthread_t thread;
    bool is_running; /* of who starts and stops */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_ending; /* under the lock, as all that follows */
    struct job *first, *last;
    unsigned num_waiting;
    struct copy *copies[NUM_BUCKETS]; /* by the inode number of the container */
    uint64_t num_copies, size, last_number;
};

/* ---- the machine ---- */

static int64_t now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

/* Bytes that can be had without harm: what the system has, and is free, less a part of all for others. Negative where
 * less is free than that part. */
static int64_t spare_memory(void) {
    char line[128];
    int64_t total = 0, available = 0;
    FILE *info = fopen("/proc/meminfo", "re");
    while (info && fgets(line, sizeof line, info)) {
        sscanf(line, "MemTotal: %" SCNd64, &total);
        if (sscanf(line, "MemAvailable: %" SCNd64, &available) == 1)
            break;
    }
    if (info)
        fclose(info);
    return (available - total / SPARE_PART) * 1024;
}

/* A tmpfs of `size` bytes that has no place in the tree; -errno. */
static int make_tmpfs(uint64_t size) {
    char text[32];
    int fd = fsopen("tmpfs", FSOPEN_CLOEXEC);
    if (fd < 0)
        return -errno;
    snprintf(text, sizeof text, "%" PRIu64, size);
    fsconfig(fd, FSCONFIG_SET_STRING, "huge", "always", 0); /* a kernel without them has none */
    int mount_fd = -1;
    if (fsconfig(fd, FSCONFIG_SET_STRING, "size", text, 0) == 0 && fsconfig(fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
        mount_fd = fsmount(fd, FSMOUNT_CLOEXEC, 0);
    int error = errno;
    close(fd);
    return mount_fd < 0 ? -error : mount_fd;
}

static int open_unlinked(int tmpfs_fd) {
    return openat(tmpfs_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

/* ---- the list; the lock is held ---- */

static bool is_of(const struct copy *copy, const struct zipfs_version *version) {
    const struct zipfs_version *own = &copy->version;
    return own->dev == version->dev && own->ino == version->ino && own->stored_size == version->stored_size
           && own->mtime_ns == version->mtime_ns && own->ctime_ns == version->ctime_ns;
}

static struct copy **bucket_of(struct zipfs_residents *residents, uint64_t number) {
    return &residents->copies[number & (NUM_BUCKETS - 1)];
}

static struct copy **find_number(struct zipfs_residents *residents, uint64_t number) {
    struct copy **link = bucket_of(residents, number);
    while (*link && (*link)->number != number)
        link = &(*link)->next;
    return link;
}

static struct copy *find_version(struct zipfs_residents *residents, const struct zipfs_version *version) {
    struct copy *copy = *bucket_of(residents, version->ino);
    while (copy && !is_of(copy, version))
        copy = copy->next;
    return copy;
}

static void remove_copy(struct zipfs_residents *residents, struct copy **link) {
    struct copy *copy = *link;
    *link = copy->next;
    residents->num_copies--;
    residents->size -= copy->version.size;
    zipfs_backing_close(residents->options.backing, copy->backing_id); /* and with it the memory */
    free(copy);
}

/* Takes the copy away that was not open for longest, for `idle_s` seconds at least. false: there is none. */
static bool remove_oldest(struct zipfs_residents *residents, int64_t idle_s) {
    struct copy **oldest = NULL;
    for (unsigned i = 0; i < NUM_BUCKETS; i++)
        for (struct copy **link = &residents->copies[i]; *link; link = &(*link)->next)
            if ((*link)->num_open == 0 && now_s() - (*link)->used_at_s >= idle_s
                && (!oldest || (*link)->used_at_s <= (*oldest)->used_at_s))
                oldest = link;
    if (oldest)
        remove_copy(residents, oldest);
    return oldest;
}

static void remove_forgotten(struct zipfs_residents *residents) {
    for (unsigned i = 0; i < NUM_BUCKETS; i++)
        for (struct copy **link = &residents->copies[i]; *link;)
            if ((*link)->num_open == 0 && (*link)->forgotten_at_s
                && now_s() - (*link)->forgotten_at_s >= LOOK_EVERY_S)
                remove_copy(residents, link);
            else
                link = &(*link)->next;
}

/* ---- copying ---- */

/* Lets copies go until there is room for so many bytes more. false: there is none. */
static bool make_room(struct zipfs_residents *residents, uint64_t size) {
    bool has_room = false, has_gone = true;
    while (!has_room && has_gone) {
        bool is_spare = spare_memory() >= (int64_t)size;
        pthread_mutex_lock(&residents->lock);
        has_room = is_spare && residents->size + size <= residents->options.budget;
        has_gone = has_room || remove_oldest(residents, FRESH_S);
        pthread_mutex_unlock(&residents->lock);
    }
    return has_room;
}

static bool is_ending(struct zipfs_residents *residents) {
    pthread_mutex_lock(&residents->lock);
    bool is_ending = residents->is_ending;
    pthread_mutex_unlock(&residents->lock);
    return is_ending;
}

/* The whole file to fd. false: it cannot be read or written, or there is no time. */
static bool copy_file(struct zipfs_residents *residents, struct zipfs_file *file, uint64_t size, int fd) {
    uint64_t offset = 0;
    while (offset < size && !is_ending(residents)) {
        ssize_t got = residents->options.api->file_pread(file, residents->buffer, STEP, offset);
        if (got <= 0 || write(fd, residents->buffer, (size_t)got) != got)
            return false;
        offset += (uint64_t)got;
    }
    return offset == size;
}

/* Puts a complete copy in the list. */
static void add_copy(struct zipfs_residents *residents, struct copy *copy) {
    pthread_mutex_lock(&residents->lock);
    struct copy **bucket = bucket_of(residents, copy->version.ino);
    copy->number = ++residents->last_number << BUCKET_BITS | (copy->version.ino & (NUM_BUCKETS - 1));
    copy->used_at_s = now_s();
    copy->next = *bucket;
    *bucket = copy;
    residents->num_copies++;
    residents->size += copy->version.size;
    pthread_mutex_unlock(&residents->lock);
}

static void make_copy(struct zipfs_residents *residents, const struct job *job) {
    pthread_mutex_lock(&residents->lock);
    bool is_wanted = !find_version(residents, &job->version);
    pthread_mutex_unlock(&residents->lock);
    struct copy *copy = is_wanted && make_room(residents, job->version.size) ? calloc(1, sizeof *copy) : NULL;
    int fd = copy ? open_unlinked(residents->tmpfs_fd) : -1;
    if (fd >= 0 && copy_file(residents, job->file, job->version.size, fd))
        copy->backing_id = zipfs_backing_open(residents->options.backing, fd);
    if (fd >= 0)
        close(fd);
    if (!copy || !copy->backing_id) {
        free(copy);
        return;
    }
    copy->version = job->version;
    add_copy(residents, copy);
    /* Who opens it next gets another node; the kernel's pages of this one are of use to who has it open, and no more. */
    if (!zipfs_nodes_is_open(residents->options.nodes, job->node_number))
        fuse_lowlevel_notify_inval_inode(residents->options.fuse, job->node_number, 0, 0);
}

/* ---- the thread ---- */

/* Lets copies go that the kernel has forgotten, and one if memory runs out. */
static void look_around(struct zipfs_residents *residents) {
    bool is_short = spare_memory() < 0;
    pthread_mutex_lock(&residents->lock);
    remove_forgotten(residents);
    if (is_short)
        remove_oldest(residents, 0);
    pthread_mutex_unlock(&residents->lock);
}

/* Waits until there is something to do, or, while there are copies, it is time to look around. Takes what there is to
 * do, if anything. false: nothing more will come. */
static bool await_job(struct zipfs_residents *residents, struct job **job_ret) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += LOOK_EVERY_S;
    pthread_mutex_lock(&residents->lock);
    int error = 0;
    while (!residents->first && !residents->is_ending && !error)
        error = residents->num_copies ? pthread_cond_timedwait(&residents->changed, &residents->lock, &until)
                                      : pthread_cond_wait(&residents->changed, &residents->lock);
    *job_ret = residents->first;
    if (*job_ret) {
        residents->first = (*job_ret)->next;
        residents->num_waiting--;
    }
    bool is_ending = residents->is_ending;
    pthread_mutex_unlock(&residents->lock);
    return !is_ending;
}

static void free_job(struct zipfs_residents *residents, struct job *job) {
    residents->options.api->file_unref(job->file);
    free(job);
}

static void *run(void *context) {
    struct zipfs_residents *residents = context;
    struct job *job;
    setpriority(PRIO_PROCESS, 0, NICENESS); /* of this thread: Linux */
    while (await_job(residents, &job)) {
        if (job) {
            make_copy(residents, job);
            free_job(residents, job);
        }
        look_around(residents);
    }
    if (job)
        free_job(residents, job);
    return NULL;
}

/* ---- public ---- */

struct zipfs_residents *zipfs_residents_create(const struct zipfs_residents_options *options) {
    struct zipfs_residents *residents = calloc(1, sizeof *residents);
    if (!residents || !(residents->buffer = malloc(STEP))) {
        free(residents);
        return NULL;
    }
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&residents->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&residents->lock, NULL);
    residents->options = *options;
    residents->tmpfs_fd = -1;
    return residents;
}

/* Whether the kernel reads files of the tmpfs by itself. */
static bool can_back(struct zipfs_residents *residents) {
    int fd = open_unlinked(residents->tmpfs_fd);
    int32_t id = fd < 0 ? 0 : zipfs_backing_open(residents->options.backing, fd);
    zipfs_backing_close(residents->options.backing, id);
    if (fd >= 0)
        close(fd);
    return id;
}

int zipfs_residents_start(struct zipfs_residents *residents) {
    if (!zipfs_backing_await(residents->options.backing))
        return EOPNOTSUPP;
    residents->tmpfs_fd = make_tmpfs(residents->options.budget);
    if (residents->tmpfs_fd < 0 || !can_back(residents))
        return EOPNOTSUPP;
    sigset_t blocked, old;
    sigfillset(&blocked);
    pthread_sigmask(SIG_SETMASK, &blocked, &old);
    int error = pthread_create(&residents->thread, NULL, run, residents);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    residents->is_running = error == 0;
    return error;
}

bool zipfs_residents_stop(struct zipfs_residents *residents, unsigned timeout_s) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += timeout_s;
    pthread_mutex_lock(&residents->lock);
    residents->is_ending = true;
    pthread_cond_signal(&residents->changed);
    pthread_mutex_unlock(&residents->lock);
    if (residents->is_running && pthread_timedjoin_np(residents->thread, NULL, &until) == 0)
        residents->is_running = false;
    return !residents->is_running;
}

void zipfs_residents_free(struct zipfs_residents *residents) {
    if (!residents)
        return;
    for (struct job *job = residents->first, *next; job; job = next) {
        next = job->next;
        free_job(residents, job);
    }
    for (unsigned i = 0; i < NUM_BUCKETS; i++)
        for (struct copy *copy = residents->copies[i], *next; copy; copy = next) {
            next = copy->next;
            free(copy);
        }
    if (residents->tmpfs_fd >= 0)
        close(residents->tmpfs_fd);
    pthread_cond_destroy(&residents->changed);
    pthread_mutex_destroy(&residents->lock);
    free(residents->buffer);
    free(residents);
}

void zipfs_residents_note(struct zipfs_residents *residents, uint64_t number, const struct zipfs_version *version,
                          struct zipfs_file *file) {
    struct job *job = version->size >= MIN_SIZE && version->size <= residents->options.budget ? malloc(sizeof *job)
                                                                                              : NULL;
    if (!job)
        return;
    *job = (struct job){.node_number = number, .version = *version, .file = file};
    residents->options.api->file_ref(file);
    pthread_mutex_lock(&residents->lock);
    bool is_welcome = residents->num_waiting < MAX_WAITING;
    if (is_welcome) {
        *(residents->first ? &residents->last->next : &residents->first) = job;
        residents->last = job;
        residents->num_waiting++;
        pthread_cond_signal(&residents->changed);
    }
    pthread_mutex_unlock(&residents->lock);
    if (!is_welcome)
        free_job(residents, job);
}

uint64_t zipfs_residents_find(struct zipfs_residents *residents, const struct zipfs_version *version) {
    pthread_mutex_lock(&residents->lock);
    struct copy *copy = find_version(residents, version);
    uint64_t number = copy ? copy->number : 0;
    if (copy)
        copy->forgotten_at_s = 0;
    pthread_mutex_unlock(&residents->lock);
    return number;
}

int32_t zipfs_residents_take(struct zipfs_residents *residents, uint64_t number) {
    pthread_mutex_lock(&residents->lock);
    struct copy *copy = *find_number(residents, number);
    int32_t id = copy ? copy->backing_id : 0;
    if (id) {
        copy->num_open++;
        copy->used_at_s = now_s();
    }
    pthread_mutex_unlock(&residents->lock);
    return id;
}

void zipfs_residents_give(struct zipfs_residents *residents, uint64_t number) {
    pthread_mutex_lock(&residents->lock);
    struct copy **link = find_number(residents, number);
    (*link)->used_at_s = now_s();
    (*link)->num_open--;
    pthread_mutex_unlock(&residents->lock);
}

void zipfs_residents_forget(struct zipfs_residents *residents, uint64_t number) {
    pthread_mutex_lock(&residents->lock);
    struct copy *copy = *find_number(residents, number);
    if (copy)
        copy->forgotten_at_s = now_s();
    pthread_mutex_unlock(&residents->lock);
}

void zipfs_residents_count(struct zipfs_residents *residents, uint64_t *num_ret, uint64_t *size_ret) {
    pthread_mutex_lock(&residents->lock);
    *num_ret = residents->num_copies;
    *size_ret = residents->size;
    pthread_mutex_unlock(&residents->lock);
}
