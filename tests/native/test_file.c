/* The read path against the plain bytes: random ranges, tiny caches, threads; damage, its log lines; fuse_read. */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "common.h"
#include "container.h"
#include "sample.h"
#include "waiting.h"

enum { CHUNK_LOG2 = 16, NUM_THREADS = 8, NUM_READS = 100 };

static struct sample sample;

static struct zipfs_cache *new_cache(size_t budget) {
    struct zipfs_cache *cache;
    CHECK_EQUAL(zipfs_cache_create(&(struct zipfs_cache_options){.budget = budget, .jobs = 2}, &cache), ZIPFS_OK);
    return cache;
}

static struct zipfs_file *open_sample(struct zipfs_cache *cache) {
    struct zipfs_file *file;
    CHECK_EQUAL(zipfs_file_open(cache, sample_fd(sample.bytes, sample.size), "sample", false, &file), ZIPFS_OK);
    CHECK_EQUAL(zipfs_file_size(file), sample.plain_size);
    CHECK_EQUAL(zipfs_file_header(file)->num_chunks, sample.header.num_chunks);
    return file;
}

static struct zipfs_stats stats_of(struct zipfs_cache *cache) {
    struct zipfs_stats stats;
    zipfs_cache_stats(cache, &stats);
    return stats;
}

/* ---- random ranges ---- */

struct reader_job {
    struct zipfs_file *file;
    uint64_t seed;
};

/* A range near chunk borders half of the time, with lengths of all sizes. */
static void random_range(uint64_t *state, size_t *offset_ret, size_t *size_ret) {
    static const size_t sizes[] = {1, 2, 511, 4096, 65535, 65536, 65537, 131072, 300000, 1 << 20};
    size_t offset = random_below(state, sample.plain_size + 10);
    if (random_below(state, 2))
        offset = (offset >> CHUNK_LOG2 << CHUNK_LOG2) + random_below(state, 3) - (offset > 65536);
    *offset_ret = offset;
    *size_ret = sizes[random_below(state, sizeof sizes / sizeof *sizes)] + random_below(state, 2);
}

/* Reads in slices, and gathers them in dst. */
static ssize_t read_in_slices(struct zipfs_file *file, uint8_t *dst, size_t size, size_t offset) {
    static __thread uint8_t buffer[ZIPFS_SLICES_SIZE_MAX];
    struct zipfs_slices slices;
    ssize_t got = zipfs_file_read(file, buffer, size, offset, &slices);
    size_t gathered = 0;
    for (unsigned i = 0; got >= 0 && i < slices.num_slices; i++) {
        const struct zipfs_slice *slice = &slices.slices[i];
        CHECK(slice->held || (slice->data >= buffer && slice->data + slice->size <= buffer + size));
        memcpy(dst + gathered, slice->data, slice->size);
        gathered += slice->size;
    }
    if (got < 0)
        return got;
    zipfs_file_put(file, &slices);
    CHECK_EQUAL(gathered, got);
    return got;
}

static void *read_randomly(void *context) {
    struct reader_job *job = context;
    uint64_t state = job->seed;
    uint8_t *dst = malloc((1 << 20) + 64);
    CHECK(dst);
    for (int i = 0; i < NUM_READS; i++) {
        size_t offset, size;
        random_range(&state, &offset, &size);
        size_t rest = offset < sample.plain_size ? sample.plain_size - offset : 0, want = size < rest ? size : rest;
        dst[want] = 0xa5; /* nothing may be written behind the end */
        bool in_slices = size <= ZIPFS_SLICES_SIZE_MAX && random_below(&state, 2);
        ssize_t got = in_slices ? read_in_slices(job->file, dst, size, offset)
                                : zipfs_file_pread(job->file, dst, size, offset);
        if (got != (ssize_t)want || memcmp(dst, sample.plain + offset, want) != 0) {
            fprintf(stderr, "seed %llu: read %zu at %zu gave %zd\n", (unsigned long long)job->seed, size, offset, got);
            exit(1);
        }
        CHECK_EQUAL(dst[want], 0xa5);
    }
    free(dst);
    return NULL;
}

static void test_random_reads(size_t budget) {
    struct zipfs_cache *cache = new_cache(budget);
    struct zipfs_file *file = open_sample(cache);
    pthread_t threads[NUM_THREADS];
    struct reader_job jobs[NUM_THREADS];
    for (int i = 0; i < NUM_THREADS; i++) {
        jobs[i] = (struct reader_job){file, budget + i};
        CHECK_EQUAL(pthread_create(&threads[i], NULL, read_randomly, &jobs[i]), 0);
    }
    for (int i = 0; i < NUM_THREADS; i++)
        pthread_join(threads[i], NULL);
    struct zipfs_stats stats = stats_of(cache);
    CHECK_EQUAL(stats.reads, NUM_THREADS * NUM_READS);
    CHECK_EQUAL(stats.errors, 0);
    CHECK(stats.cache_bytes <= budget);
    zipfs_file_unref(file);
    CHECK_EQUAL(stats_of(cache).cache_bytes, 0);
    zipfs_cache_free(cache);
}

/* What the cache holds is lent, not copied; what it does not, is in the buffer; of more than 1 MiB is nothing. */
static void test_slices(void) {
    static uint8_t buffer[ZIPFS_SLICES_SIZE_MAX];
    struct zipfs_slices slices;
    struct zipfs_cache *cache = new_cache(8 * 65536); /* too small to keep whole chunks for others */
    struct zipfs_file *file = open_sample(cache);
    CHECK_EQUAL(zipfs_file_read(file, buffer, 1000, 65536, &slices), 1000);
    CHECK(slices.num_slices == 1 && slices.slices[0].held);
    zipfs_file_put(file, &slices);
    CHECK_EQUAL(zipfs_file_read(file, buffer, 4 * 65536, 0, &slices), 4 * 65536);
    CHECK_EQUAL(slices.num_slices, 3); /* chunk 0, chunk 1 as it is held, chunks 2 and 3 */
    CHECK(!slices.slices[0].held && slices.slices[1].held && !slices.slices[2].held);
    CHECK(slices.slices[0].data == buffer && slices.slices[2].size == 2 * 65536);
    zipfs_file_put(file, &slices);
    CHECK_EQUAL(zipfs_file_read(file, buffer, sizeof buffer + 1, 0, &slices), -EINVAL);
    CHECK_EQUAL(zipfs_file_read(file, buffer, 10, sample.plain_size, &slices), 0);
    CHECK_EQUAL(slices.num_slices, 0);
    zipfs_file_put(file, &slices);
    zipfs_file_unref(file);
    CHECK_EQUAL(stats_of(cache).cache_bytes, 0);
    zipfs_cache_free(cache);
}

/* A mount's reader has its bytes, and may close the file, before what was lent for the reply comes back. */
static void test_closed_before_slices_come_back(void) {
    static uint8_t buffer[65536];
    struct zipfs_slices slices;
    struct zipfs_cache *cache = new_cache(4 << 20);
    struct zipfs_file *file = open_sample(cache);
    zipfs_cache_free(cache); /* the file's is the last reference */
    zipfs_file_join(file);
    CHECK_EQUAL(zipfs_file_read(file, buffer, sizeof buffer, 65536, &slices), sizeof buffer);
    zipfs_file_unref(file);
    CHECK(slices.seat && slices.slices[0].held);
    CHECK(memcmp(slices.slices[0].data, sample.plain + 65536, sizeof buffer) == 0);
    zipfs_file_put(file, &slices);
}

struct waiting {
    struct zipfs_file *file;
    _Atomic bool has_read;
};

static void *read_and_tell(void *context) {
    struct waiting *waiting = context;
    uint8_t dst[100];
    CHECK_EQUAL(zipfs_file_pread(waiting->file, dst, sizeof dst, 5 * 65536), sizeof dst);
    waiting->has_read = true;
    return NULL;
}

/* With one job, who copies a large reply is the only one at work; a small one is no work. */
static void test_copying_is_work(void) {
    static uint8_t buffer[65536];
    for (int is_large = 0; is_large < 2; is_large++) {
        struct zipfs_cache_options options = {.budget = 4 << 20, .jobs = 1};
        struct zipfs_cache *cache;
        CHECK_EQUAL(zipfs_cache_create(&options, &cache), ZIPFS_OK);
        struct waiting waiting = {.file = open_sample(cache)};
        struct zipfs_slices slices;
        pthread_t thread;
        size_t size = is_large ? sizeof buffer : 4096;
        CHECK_EQUAL(zipfs_file_read(waiting.file, buffer, size, 65536, &slices), (ssize_t)size);
        CHECK_EQUAL(pthread_create(&thread, NULL, read_and_tell, &waiting), 0);
        for (int i = 0; is_large ? i < 50 : !waiting.has_read; i++)
            usleep(1000);
        CHECK_EQUAL(waiting.has_read, !is_large);
        zipfs_file_put(waiting.file, &slices);
        pthread_join(thread, NULL);
        zipfs_file_unref(waiting.file);
        zipfs_cache_free(cache);
    }
}

/* ---- how often chunks are decoded ---- */

/* Requests smaller than a chunk decode each chunk once, aligned whole ones too, and leave nothing in the cache. */
static void test_decodes_once(void) {
    static uint8_t dst[1 << 20];
    struct zipfs_cache *cache = new_cache(4 << 20);
    struct zipfs_file *file = open_sample(cache);
    for (size_t offset = 0; offset < sample.plain_size; offset += 20000)
        CHECK(zipfs_file_pread(file, dst, 20000, offset) > 0);
    CHECK_EQUAL(stats_of(cache).chunks_decoded, sample.header.num_chunks);
    CHECK_EQUAL(stats_of(cache).bytes_decoded, sample.plain_size);
    CHECK_EQUAL(stats_of(cache).stored_bytes_read, sample.header.payloads_size);
    zipfs_file_unref(file);
    file = open_sample(cache);
    for (size_t offset = 0; offset < sample.plain_size; offset += sizeof dst)
        CHECK(zipfs_file_pread(file, dst, sizeof dst, offset) > 0);
    CHECK_EQUAL(stats_of(cache).chunks_decoded, 2 * sample.header.num_chunks);
    CHECK_EQUAL(stats_of(cache).cache_bytes, 0);
    zipfs_file_unref(file);
    zipfs_cache_free(cache);
}

/* While several have a mount's file open, chunks of who reads it from its start stay, as far as the cache reaches. */
static void test_kept_for_followers(void) {
    static uint8_t buffer[ZIPFS_SLICES_SIZE_MAX];
    struct zipfs_slices slices;
    for (int holds_all = 0; holds_all < 2; holds_all++) {
        struct zipfs_cache *cache = new_cache(holds_all ? 4 * sample.plain_size : 32 * 65536);
        struct zipfs_file *file = open_sample(cache);
        zipfs_file_join(file);
        zipfs_file_join(file);
        for (int reader = 0; reader < 3; reader++)
            for (size_t offset = 0; offset < sample.plain_size; offset += sizeof buffer) {
                CHECK(zipfs_file_read(file, buffer, sizeof buffer, offset, &slices) > 0);
                zipfs_file_put(file, &slices);
            }
        CHECK_EQUAL(stats_of(cache).chunks_decoded == sample.header.num_chunks, holds_all);
        CHECK(stats_of(cache).cache_bytes > 0);
        zipfs_file_unref(file);
        zipfs_cache_free(cache);
    }
}

/* ---- damage ---- */

/* What was logged since the call before; log_fd is an anonymous file. */
static const char *logged(int log_fd) {
    static char text[8192];
    ssize_t size = pread(log_fd, text, sizeof text - 1, 0);
    CHECK(size >= 0);
    text[size] = '\0';
    CHECK_EQUAL(ftruncate(log_fd, 0), 0);
    CHECK_EQUAL(lseek(log_fd, 0, SEEK_SET), 0);
    return text;
}

static void test_damage(void) {
    int log_fd = memfd_create("log", MFD_CLOEXEC);
    zipfs_log_to_fd(log_fd);
    static uint8_t dst[1 << 20];
    uint8_t *payload = sample.bytes + zipfs_load64(sample_entry(&sample, 6)) + 20;
    *payload ^= 0x10;
    struct zipfs_cache *cache = new_cache(4 << 20);
    struct zipfs_file *file = open_sample(cache);
    *payload ^= 0x10;
    CHECK_EQUAL(zipfs_file_pread(file, dst, 1 << 20, 0), -EIO);
    CHECK(strcmp(logged(log_fd), "sample: chunk 6, plain bytes 393216 to 458752: CHUNK_CHECKSUM\n") == 0);
    CHECK_EQUAL(zipfs_file_pread(file, dst, 100, 400000), -EIO);
    CHECK_EQUAL(zipfs_file_pread(file, dst, 100, 393216 - 50), -EIO);
    CHECK(strcmp(logged(log_fd), "") == 0);
    CHECK_EQUAL(stats_of(cache).errors, 3);
    /* every byte of the others */
    CHECK_EQUAL(zipfs_file_pread(file, dst, 393216, 0), 393216);
    CHECK(memcmp(dst, sample.plain, 393216) == 0);
    CHECK_EQUAL(zipfs_file_pread(file, dst, 100000, 458752), 100000);
    CHECK(memcmp(dst, sample.plain + 458752, 100000) == 0);
    zipfs_file_unref(file);
    CHECK(strcmp(logged(log_fd), "sample: 2 more reads of damaged chunks failed\n") == 0);
    zipfs_cache_free(cache);
    zipfs_log_to_fd(STDERR_FILENO);
    close(log_fd);
}

/* The file shrinks while it is open: what is left is readable, and the log names the chunks that are gone, not their
 * neighbours. */
static void test_truncated_while_open(void) {
    int log_fd = memfd_create("log", MFD_CLOEXEC);
    zipfs_log_to_fd(log_fd);
    static uint8_t dst[1 << 20];
    struct zipfs_cache *cache = new_cache(0);
    struct zipfs_file *file;
    int fd = sample_fd(sample.bytes, sample.size);
    CHECK_EQUAL(zipfs_file_open(cache, fd, "sample", false, &file), ZIPFS_OK);
    CHECK_EQUAL(zipfs_file_pread(file, dst, 10, 0), 10); /* the page is known from here on */
    CHECK_EQUAL(ftruncate(fd, zipfs_load64(sample_entry(&sample, 2)) + 1), 0);
    CHECK_EQUAL(zipfs_file_pread(file, dst, 3 << 16, 0), -EIO);
    CHECK(strcmp(logged(log_fd), "sample: chunk 2, plain bytes 131072 to 196608: TRUNCATED\n") == 0);
    CHECK_EQUAL(zipfs_file_pread(file, dst, 2 << 16, 0), 2 << 16);
    CHECK(memcmp(dst, sample.plain, 2 << 16) == 0);
    zipfs_file_unref(file);
    zipfs_cache_free(cache);
    zipfs_log_to_fd(STDERR_FILENO);
    close(log_fd);
}

/* ---- copies ---- */

enum { DISTANCE = (17 << CHUNK_LOG2) + 77 };

/* A chunk that copies costs two chunks more at most, and neighbours in one request share theirs. */
static void test_copies_decode(void) {
    static uint8_t dst[4 << CHUNK_LOG2];
    struct zipfs_cache *cache = new_cache(0);
    struct zipfs_file *file = open_sample(cache);
    CHECK_EQUAL(zipfs_file_pread(file, dst, 100, 20 << CHUNK_LOG2), 100);
    CHECK(memcmp(dst, sample.plain + (20 << CHUNK_LOG2), 100) == 0);
    CHECK_EQUAL(stats_of(cache).chunks_decoded, 3);
    CHECK_EQUAL(zipfs_file_pread(file, dst, sizeof dst, 20 << CHUNK_LOG2), sizeof dst);
    CHECK(memcmp(dst, sample.plain + (20 << CHUNK_LOG2), sizeof dst) == 0);
    CHECK_EQUAL(stats_of(cache).chunks_decoded, 3 + 4 + 5);
    CHECK_EQUAL(stats_of(cache).bytes_decoded, (3 + 4 + 5) << CHUNK_LOG2);
    zipfs_file_unref(file);
    zipfs_cache_free(cache);
}

/* Chunks 19 and 20 copy from chunk 2: reading them fails, and the log says why. */
static void test_copies_damage(void) {
    int log_fd = memfd_create("log", MFD_CLOEXEC);
    zipfs_log_to_fd(log_fd);
    static uint8_t dst[1 << 20];
    uint8_t *payload = sample.bytes + zipfs_load64(sample_entry(&sample, 2)) + 20;
    *payload ^= 0x10;
    struct zipfs_cache *cache = new_cache(4 << 20);
    struct zipfs_file *file = open_sample(cache);
    *payload ^= 0x10;
    static const char line[] = "sample: chunk 20, plain bytes 1310720 to 1376256: CHUNK_CHECKSUM in chunk 2, which it "
                               "copies from\n";
    CHECK_EQUAL(zipfs_file_pread(file, dst, 100, 20 << CHUNK_LOG2), -EIO);
    CHECK(strcmp(logged(log_fd), line) == 0);
    CHECK_EQUAL(zipfs_file_pread(file, dst, 10 << CHUNK_LOG2, 20 << CHUNK_LOG2), -EIO);
    CHECK(strcmp(logged(log_fd), "") == 0);
    CHECK_EQUAL(zipfs_file_pread(file, dst, 10 << CHUNK_LOG2, 21 << CHUNK_LOG2), 10 << CHUNK_LOG2);
    CHECK(memcmp(dst, sample.plain + (21 << CHUNK_LOG2), 10 << CHUNK_LOG2) == 0);
    CHECK_EQUAL(zipfs_file_pread(file, dst, 3 << CHUNK_LOG2, 0), -EIO);
    CHECK(strcmp(logged(log_fd), "sample: chunk 2, plain bytes 131072 to 196608: CHUNK_CHECKSUM\n") == 0);
    zipfs_file_unref(file);
    zipfs_cache_free(cache);
    zipfs_log_to_fd(STDERR_FILENO);
    close(log_fd);
}

/* ---- other files, and FUSE ---- */

static void test_pass_through(void) {
    struct zipfs_cache *cache = new_cache(0);
    struct zipfs_file *file;
    static uint8_t dst[70000];
    CHECK_EQUAL(zipfs_file_open(cache, sample_fd(sample.plain, 66000), "plain\nfile", true, &file), ZIPFS_OK);
    zipfs_cache_free(cache); /* its files keep it alive */
    CHECK_EQUAL(zipfs_file_size(file), 66000);
    CHECK(zipfs_file_header(file) == NULL);
    CHECK_EQUAL(zipfs_file_pread(file, dst, 70000, 1000), 65000);
    CHECK(memcmp(dst, sample.plain + 1000, 65000) == 0);
    CHECK_EQUAL(zipfs_file_pread(file, dst, 10, 66000), 0);
    CHECK_EQUAL(zipfs_file_pread(file, dst, 10, UINT64_MAX), -EINVAL);
    CHECK_EQUAL(stats_of(cache).bytes_passed, 65000);
    zipfs_file_unref(file);
}

static int num_waits;

static void note_wait(void) {
    num_waits++;
}

/* Who serves others with this thread is told that the disk may have to be waited for. */
static void test_waits_are_told(void) {
    struct zipfs_cache *cache = new_cache(0);
    struct zipfs_file *file;
    uint8_t dst[100];
    CHECK_EQUAL(zipfs_file_open(cache, sample_fd(sample.plain, sample.plain_size), "plain", true, &file), ZIPFS_OK);
    zipfs_on_wait(note_wait);
    CHECK_EQUAL(zipfs_file_pread(file, dst, 100, 777), 100);
    zipfs_on_wait(NULL);
    CHECK_EQUAL(zipfs_file_pread(file, dst, 100, 777), 100);
    CHECK_EQUAL(num_waits, 1);
    zipfs_file_unref(file);
    zipfs_cache_free(cache);
}

static void test_fuse_read(void) {
    struct zipfs_cache *cache = new_cache(1 << 20);
    struct zipfs_file *file = open_sample(cache);
    uint8_t dst[100];
    uint64_t info[8] = {0}; /* struct fuse_file_info: fh is word 2 in libfuse 3, word 3 in libfuse 2 */
    CHECK_EQUAL(zipfs_fuse3_read("/x", (char *)dst, 100, 777, info), -EBADF);
    info[2] = (uintptr_t)file;
    CHECK_EQUAL(zipfs_fuse2_read("/x", (char *)dst, 100, 777, info), -EBADF);
    CHECK_EQUAL(zipfs_fuse3_read("/x", (char *)dst, 100, 777, info), 100);
    CHECK(memcmp(dst, sample.plain + 777, 100) == 0);
    info[3] = info[2];
    info[2] = 0;
    CHECK_EQUAL(zipfs_fuse2_read(NULL, (char *)dst, 100, 70000, info), 100);
    CHECK(memcmp(dst, sample.plain + 70000, 100) == 0);
    CHECK_EQUAL(zipfs_fuse2_read(NULL, (char *)dst, 100, -1, info), -EINVAL);
    CHECK_EQUAL(zipfs_fuse2_read(NULL, (char *)dst, 100, sample.plain_size - 1, info), 1);
    zipfs_file_unref(file);
    zipfs_cache_free(cache);
}

static void test_not_a_container(void) {
    struct zipfs_cache *cache = new_cache(0);
    struct zipfs_file *file;
    int fd = sample_fd(sample.bytes, sample.size - 1);
    CHECK_EQUAL(zipfs_file_open(cache, fd, "cut", false, &file), ZIPFS_TRUNCATED);
    CHECK_EQUAL(close(fd), 0); /* a failed open leaves the descriptor to the caller */
    zipfs_cache_free(cache);
}

int main(void) {
    sample_make(&sample, (40 << CHUNK_LOG2) - 4321, CHUNK_LOG2, 2);
    test_random_reads(0);
    test_random_reads(100000);
    test_random_reads(1 << 20);
    test_random_reads(1 << 30);
    test_slices();
    test_closed_before_slices_come_back();
    test_copying_is_work();
    test_decodes_once();
    test_kept_for_followers();
    test_damage();
    test_truncated_while_open();
    test_pass_through();
    test_waits_are_told();
    test_fuse_read();
    test_not_a_container();
    sample_free(&sample);
    sample_make_copies(&sample, (40 << CHUNK_LOG2) - 4321, CHUNK_LOG2, 3, DISTANCE);
    CHECK(sample.size < 20 << CHUNK_LOG2); /* as many bytes as without the second half */
    test_random_reads(0);
    test_random_reads(1 << 20);
    test_copies_decode();
    test_copies_damage();
    sample_free(&sample);
    return 0;
}
