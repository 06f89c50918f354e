/* Worker threads: every part once, several callers, no workers at all, after a fork; large reads through them. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "sample.h"
#include "workers.h"

enum { NUM_PARTS = 500, NUM_CALLERS = 6 };

#ifdef __SANITIZE_THREAD__ /* ThreadSanitizer does not support threads in a child */
enum { FORKS = false };
#else
enum { FORKS = true };
#endif

static void count_part(void *context, size_t index) {
    _Atomic unsigned char *done = context;
    usleep(index % 50 == 0 ? 200 : 0);
    done[index]++;
}

static void run_all(struct zipfs_workers *workers) {
    static _Thread_local _Atomic unsigned char done[NUM_PARTS];
    memset((void *)done, 0, sizeof done);
    zipfs_workers_run(workers, NUM_PARTS, count_part, (void *)done);
    for (size_t i = 0; i < NUM_PARTS; i++)
        CHECK_EQUAL(done[i], 1);
}

static void *caller(void *workers) {
    for (int i = 0; i < 5; i++)
        run_all(workers);
    return NULL;
}

static void test_parts(unsigned max_threads) {
    struct zipfs_workers *workers;
    CHECK_EQUAL(zipfs_workers_create(max_threads, &workers), ZIPFS_OK);
    zipfs_workers_run(workers, 0, count_part, NULL);
    pthread_t threads[NUM_CALLERS];
    for (int i = 0; i < NUM_CALLERS; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, caller, workers), 0);
    for (int i = 0; i < NUM_CALLERS; i++)
        pthread_join(threads[i], NULL);
    zipfs_workers_free(workers);
}

/* Two parts that wait for each other end only when two threads run them. */
static void meet(void *context, size_t index) {
    (void)index;
    pthread_barrier_wait(context);
}

static void test_parts_run_at_once(void) {
    struct zipfs_workers *workers;
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, 2);
    CHECK_EQUAL(zipfs_workers_create(1, &workers), ZIPFS_OK);
    alarm(20);
    zipfs_workers_run(workers, 2, meet, &barrier);
    alarm(0);
    zipfs_workers_free(workers);
    pthread_barrier_destroy(&barrier);
}

/* A child has no workers and starts its own. */
static void test_fork(void) {
    struct zipfs_workers *workers;
    CHECK_EQUAL(zipfs_workers_create(2, &workers), ZIPFS_OK);
    for (int i = 0; i < (FORKS ? 20 : 0); i++) {
        run_all(workers);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            alarm(20);
            run_all(workers);
            zipfs_workers_free(workers);
            _exit(0);
        }
        int status;
        CHECK_EQUAL(waitpid(child, &status, 0), child);
        CHECK_EQUAL(status, 0);
    }
    run_all(workers);
    zipfs_workers_free(workers);
}

struct shared_file {
    struct zipfs_file *file;
    const struct sample *sample;
    uint64_t seed;
    _Atomic bool *stop;
};

/* Many small reads in sequence, ahead of which chunks are decoded, or one of up to 3 MiB: parts of chunks, whole chunks,
 * and on workers. */
static void read_somewhere(const struct shared_file *shared, uint64_t *state, uint8_t *dst) {
    size_t offset = random_below(state, shared->sample->plain_size - (3 << 20));
    size_t size = random_below(state, random_below(state, 2) ? 3 << 20 : 100000);
    size_t block = random_below(state, 4) ? size : 64 << 10;
    for (size_t done = 0; done < size; done += block) {
        size_t want = size - done < block ? size - done : block;
        CHECK_EQUAL(zipfs_file_pread(shared->file, dst + done, want, offset + done), want);
    }
    CHECK(memcmp(dst, shared->sample->plain + offset, size) == 0);
}

static void *read_until_stopped(void *context) {
    struct shared_file *shared = context;
    uint8_t *dst = malloc(3 << 20);
    CHECK(dst);
    while (!*shared->stop)
        read_somewhere(shared, &shared->seed, dst);
    free(dst);
    return NULL;
}

static void read_in_child(struct shared_file *shared) {
    static uint8_t dst[3 << 20];
    alarm(60);
    for (int i = 0; i < 20; i++)
        read_somewhere(shared, &shared->seed, dst);
    zipfs_file_unref(shared->file);
    _exit(0);
}

static void fork_and_read(struct shared_file *shared) {
    int status;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0)
        read_in_child(shared);
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
}

/* A child of a process whose threads read at that time reads on: no lock is taken, no chunk is anybody's.
 * (ThreadSanitizer does not support that: there they read without forks.) */
static void test_fork_while_others_read(void) {
    enum { NUM_READERS = 3, NUM_FORKS = 15 };
    struct sample sample;
    struct zipfs_cache *cache;
    _Atomic bool stop = false;
    pthread_t threads[NUM_READERS];
    struct shared_file shared[NUM_READERS + 1] = {{.sample = &sample, .stop = &stop}};
    const struct zipfs_cache_options options = {.budget = 4 << 20, .jobs = 2, .ahead_max = 2 << 20};
    sample_make(&sample, (6 << 20) + 4321, 18, 4);
    CHECK_EQUAL(zipfs_cache_create(&options, &cache), ZIPFS_OK);
    CHECK_EQUAL(zipfs_file_open(cache, sample_fd(sample.bytes, sample.size), "s", false, &shared[0].file), ZIPFS_OK);
    zipfs_cache_free(cache);
    for (int i = 0; i < NUM_READERS; i++) {
        shared[i + 1] = shared[0];
        shared[i + 1].seed = i + 1;
        CHECK_EQUAL(pthread_create(&threads[i], NULL, read_until_stopped, &shared[i + 1]), 0);
    }
    for (int i = 0; i < NUM_FORKS; i++) {
        usleep(FORKS ? 3000 : 100000);
        if (FORKS)
            fork_and_read(&shared[0]);
    }
    stop = true;
    for (int i = 0; i < NUM_READERS; i++)
        pthread_join(threads[i], NULL);
    zipfs_file_unref(shared[0].file);
    sample_free(&sample);
}

struct opening {
    struct zipfs_cache *cache;
    const struct sample *sample;
    _Atomic bool stop;
};

/* The names differ at their ends only, so that looking for one takes long. */
static void open_and_close(const struct opening *opening, int number) {
    struct zipfs_file *file;
    char name[4000], byte;
    snprintf(name, sizeof name, "%0*d", (int)sizeof name - 1, number);
    int fd = sample_fd(opening->sample->bytes, opening->sample->size);
    CHECK_EQUAL(zipfs_file_open(opening->cache, fd, name, false, &file), ZIPFS_OK);
    CHECK_EQUAL(zipfs_file_pread(file, &byte, 1, 0), 1); /* those without a read are not remembered */
    zipfs_file_unref(file);
}

static void *open_until_stopped(void *context) {
    struct opening *opening = context;
    for (int i = 0; !opening->stop; i++)
        open_and_close(opening, i);
    return NULL;
}

static void fork_and_open(const struct opening *opening) {
    int status;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        alarm(20);
        open_and_close(opening, 1);
        _exit(0);
    }
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
}

/* A child of a process whose threads open files at that time can open some itself. */
static void test_fork_while_others_open(void) {
    enum { NUM_OPENERS = 3, NUM_FORKS = 20 };
    struct sample sample;
    struct opening opening = {.sample = &sample};
    pthread_t threads[NUM_OPENERS];
    sample_make(&sample, 4321, 16, 4);
    CHECK_EQUAL(zipfs_cache_create(&(struct zipfs_cache_options){.jobs = 1}, &opening.cache), ZIPFS_OK);
    for (int i = 0; i < 100; i++)
        open_and_close(&opening, i);
    for (int i = 0; i < NUM_OPENERS; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, open_until_stopped, &opening), 0);
    for (int i = 0; i < NUM_FORKS; i++)
        FORKS ? fork_and_open(&opening) : (void)usleep(10000);
    opening.stop = true;
    for (int i = 0; i < NUM_OPENERS; i++)
        pthread_join(threads[i], NULL);
    zipfs_cache_free(opening.cache);
    sample_free(&sample);
}

static void test_damage_in_a_large_read(struct sample *sample, struct zipfs_cache *cache, uint8_t *dst) {
    struct zipfs_file *file;
    int log_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    zipfs_log_to_fd(log_fd);
    sample->bytes[sample->header.pages_offset - 1] ^= 1; /* the last payload */
    CHECK_EQUAL(zipfs_file_open(cache, sample_fd(sample->bytes, sample->size), "sample", false, &file), ZIPFS_OK);
    CHECK_EQUAL(zipfs_file_pread(file, dst, sample->plain_size, 0), -EIO);
    size_t good = (sample->header.num_chunks - 1) << sample->header.chunk_log2;
    CHECK_EQUAL(zipfs_file_pread(file, dst, good, 0), good);
    CHECK(memcmp(dst, sample->plain, good) == 0);
    zipfs_file_unref(file);
    zipfs_log_to_fd(STDERR_FILENO);
    close(log_fd);
}

static void test_large_reads(uint32_t chunk_log2) {
    struct sample sample;
    struct zipfs_cache *cache;
    struct zipfs_file *file;
    uint64_t state = chunk_log2;
    sample_make(&sample, (9 << 20) + 4321, chunk_log2, 4);
    uint8_t *dst = malloc(sample.plain_size + 1);
    CHECK(dst);
    CHECK_EQUAL(zipfs_cache_create(&(struct zipfs_cache_options){.budget = 8 << 20, .jobs = 3}, &cache), ZIPFS_OK);
    CHECK_EQUAL(zipfs_file_open(cache, sample_fd(sample.bytes, sample.size), "sample", false, &file), ZIPFS_OK);
    for (int i = 0; i < 30; i++) {
        size_t offset = i ? random_below(&state, sample.plain_size - (3 << 20)) : 0, rest = sample.plain_size - offset;
        size_t size = i ? (2 << 20) + random_below(&state, 7 << 20) : sample.plain_size;
        size_t want = size < rest ? size : rest;
        memset(dst, 0x5a, sample.plain_size + 1);
        CHECK_EQUAL(zipfs_file_pread(file, dst, size, offset), want);
        CHECK(memcmp(dst, sample.plain + offset, want) == 0);
        CHECK_EQUAL(dst[want], 0x5a);
    }
    zipfs_file_unref(file);
    test_damage_in_a_large_read(&sample, cache, dst);
    zipfs_cache_free(cache);
    free(dst);
    sample_free(&sample);
}

int main(void) {
    test_parts(0);
    test_parts(3);
    test_parts_run_at_once();
    test_fork();
    test_fork_while_others_read();
    test_fork_while_others_open();
    test_large_reads(16);
    test_large_reads(18);
    test_large_reads(22);
    return 0;
}
