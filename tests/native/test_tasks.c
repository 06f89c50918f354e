/* Tasks of worker threads: steps until there is no more to do, posts that come meanwhile, cancelling, forks. */
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "workers.h"

enum { TIMEOUT_S = 20 };

struct counting {
    struct zipfs_task task; /* first */
    _Atomic int steps, wanted;
    _Atomic int inside, most;
    unsigned delay_us;
};

static bool count_step(struct zipfs_task *task) {
    struct counting *counting = (struct counting *)task;
    int inside = ++counting->inside;
    if (inside > counting->most)
        counting->most = inside;
    usleep(counting->delay_us);
    counting->inside--;
    return ++counting->steps < counting->wanted;
}

static void await_steps(struct counting *counting, int steps) {
    while (counting->steps < steps)
        usleep(100);
}

static struct zipfs_workers *new_workers(unsigned max_threads) {
    struct zipfs_workers *workers;
    CHECK_EQUAL(zipfs_workers_create(max_threads, &workers), ZIPFS_OK);
    return workers;
}

static void test_steps(void) {
    struct zipfs_workers *workers = new_workers(3);
    struct counting one = {.task.step = count_step, .wanted = 50}, other = one;
    zipfs_workers_post(workers, &one.task);
    zipfs_workers_post(workers, &one.task);
    zipfs_workers_post(workers, &other.task);
    await_steps(&one, 50);
    await_steps(&other, 50);
    zipfs_workers_cancel(workers, &one.task);
    zipfs_workers_cancel(workers, &other.task);
    CHECK(one.steps <= 51 && other.steps == 50); /* the second post may have come after the last step */
    CHECK_EQUAL(one.most, 1);
    zipfs_workers_free(workers);
}

/* What is posted during the last step is not lost. */
static void test_posts_during_a_step(void) {
    struct zipfs_workers *workers = new_workers(1);
    struct counting counting = {.task.step = count_step, .delay_us = 20000};
    zipfs_workers_post(workers, &counting.task);
    while (counting.inside == 0)
        usleep(100);
    zipfs_workers_post(workers, &counting.task);
    await_steps(&counting, 2);
    zipfs_workers_cancel(workers, &counting.task);
    CHECK_EQUAL(counting.steps, 2);
    zipfs_workers_free(workers);
}

static void test_cancelling(void) {
    struct zipfs_workers *workers = new_workers(2);
    struct counting counting = {.task.step = count_step, .wanted = 1 << 30, .delay_us = 1000};
    for (int i = 0; i < 20; i++) {
        zipfs_workers_post(workers, &counting.task);
        await_steps(&counting, counting.steps + (i % 2));
        zipfs_workers_cancel(workers, &counting.task);
        int steps = counting.steps;
        usleep(3000);
        CHECK_EQUAL(counting.steps, steps);
    }
    zipfs_workers_free(workers);
}

static void count_part(void *context, size_t index) {
    (void)index;
    ++*(_Atomic int *)context;
}

/* Parts of large requests do not wait for tasks, nor tasks for threads that there are not. */
static void test_beside_parts(void) {
    struct zipfs_workers *workers = new_workers(1);
    struct counting counting = {.task.step = count_step, .wanted = 1 << 30, .delay_us = 1000};
    _Atomic int parts = 0;
    zipfs_workers_post(workers, &counting.task);
    zipfs_workers_run(workers, 100, count_part, (void *)&parts);
    CHECK_EQUAL(parts, 100);
    await_steps(&counting, counting.steps + 2);
    zipfs_workers_cancel(workers, &counting.task);
    zipfs_workers_free(workers);
    workers = new_workers(0);
    zipfs_workers_post(workers, &counting.task);
    zipfs_workers_cancel(workers, &counting.task);
    zipfs_workers_free(workers);
}

/* The child of a fork during a step: the step is no concern of its, and its own posts are done. */
static void test_fork(void) {
#ifdef __SANITIZE_THREAD__
    return; /* which does not support that */
#endif
    struct zipfs_workers *workers = new_workers(1);
    struct counting counting = {.task.step = count_step, .wanted = 1 << 30, .delay_us = 5000};
    zipfs_workers_post(workers, &counting.task);
    await_steps(&counting, 1);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        alarm(TIMEOUT_S);
        zipfs_workers_cancel(workers, &counting.task);
        counting.steps = 0;
        zipfs_workers_post(workers, &counting.task);
        await_steps(&counting, 3);
        zipfs_workers_cancel(workers, &counting.task);
        _exit(0);
    }
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
    zipfs_workers_cancel(workers, &counting.task);
    zipfs_workers_free(workers);
}

int main(void) {
    alarm(3 * TIMEOUT_S);
    test_steps();
    test_posts_during_a_step();
    test_cancelling();
    test_beside_parts();
    test_fork();
    return 0;
}
