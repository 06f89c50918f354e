#include "workers.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

/* One call of zipfs_workers_run, on its caller's stack; listed while it has parts that nobody took. */
struct run {
    void (*part)(void *context, size_t index);
    void *context;
    size_t num_parts, num_taken, num_done;
    pthread_cond_t done;
    struct run *next;
};

struct zipfs_workers {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct run *runs;         /* oldest first */
    struct zipfs_task *tasks; /* that which is to go on next first */
    pthread_cond_t step_done;
    unsigned generation; /* of this process: a child has none of the steps that were running */
    pthread_t *threads;
    unsigned max_threads, num_threads;
    bool stop;
    struct zipfs_workers *next; /* in `all` */
};

/* ---- forks: a program may fork (data loaders do) while threads read and workers are on their way to sleep ---- */

/* Held by readers; a fork comes before those who have not begun, or it might never come. */
static pthread_rwlock_t reading = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
static pthread_mutex_t all_lock = PTHREAD_MUTEX_INITIALIZER;
static struct zipfs_workers *all;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

void zipfs_reading_begin(void) {
    pthread_rwlock_rdlock(&reading);
}

void zipfs_reading_end(void) {
    pthread_rwlock_unlock(&reading);
}

static void before_fork(void) {
    pthread_rwlock_wrlock(&reading); /* first: who reads needs the other locks to come to an end */
    pthread_mutex_lock(&all_lock);
    for (struct zipfs_workers *workers = all; workers; workers = workers->next)
        pthread_mutex_lock(&workers->lock);
}

static void after_fork_in_parent(void) {
    for (struct zipfs_workers *workers = all; workers; workers = workers->next)
        pthread_mutex_unlock(&workers->lock);
    pthread_mutex_unlock(&all_lock);
    pthread_rwlock_unlock(&reading);
}

/* The child has none of the threads; a condition that they wait for cannot be used any more, nor a lock that knows its
 * owner by a thread's number. */
static void after_fork_in_child(void) {
    for (struct zipfs_workers *workers = all; workers; workers = workers->next) {
        workers->num_threads = 0;
        workers->runs = NULL;
        workers->generation++;
        pthread_cond_init(&workers->wake, NULL);
        pthread_cond_init(&workers->step_done, NULL);
        pthread_mutex_init(&workers->lock, NULL);
    }
    pthread_mutex_init(&all_lock, NULL);
    reading = (pthread_rwlock_t)PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
}

static void prepare_for_forks(void) {
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

/* ---- making and freeing ---- */

enum zipfs_status zipfs_workers_create(unsigned max_threads, struct zipfs_workers **workers_ret) {
    struct zipfs_workers *workers = calloc(1, sizeof *workers);
    pthread_t *threads = calloc(max_threads + 1, sizeof *threads);
    if (!workers || !threads) {
        free(workers);
        free(threads);
        return ZIPFS_NO_MEMORY;
    }
    workers->threads = threads;
    workers->max_threads = max_threads;
    pthread_mutex_init(&workers->lock, NULL);
    workers->generation = 1;
    pthread_cond_init(&workers->wake, NULL);
    pthread_cond_init(&workers->step_done, NULL);
    pthread_once(&fork_once, prepare_for_forks);
    pthread_mutex_lock(&all_lock);
    workers->next = all;
    all = workers;
    pthread_mutex_unlock(&all_lock);
    *workers_ret = workers;
    return ZIPFS_OK;
}

static void forget(struct zipfs_workers *workers) {
    pthread_mutex_lock(&all_lock);
    struct zipfs_workers **link = &all;
    while (*link != workers)
        link = &(*link)->next;
    *link = workers->next;
    pthread_mutex_unlock(&all_lock);
}

void zipfs_workers_free(struct zipfs_workers *workers) {
    if (!workers)
        return;
    pthread_mutex_lock(&workers->lock);
    workers->stop = true;
    pthread_cond_broadcast(&workers->wake);
    pthread_mutex_unlock(&workers->lock);
    for (unsigned i = 0; i < workers->num_threads; i++)
        pthread_join(workers->threads[i], NULL);
    forget(workers);
    pthread_cond_destroy(&workers->wake);
    pthread_cond_destroy(&workers->step_done);
    pthread_mutex_destroy(&workers->lock);
    free(workers->threads);
    free(workers);
}

/* ---- running ---- */

/* Takes the next part of a run, unlisting the run with its last one. Lock held. */
static size_t take_part(struct zipfs_workers *workers, struct run *run) {
    size_t index = run->num_taken++;
    if (run->num_taken == run->num_parts) {
        struct run **link = &workers->runs;
        while (*link != run)
            link = &(*link)->next;
        *link = run->next;
    }
    return index;
}

/* Takes and does one part. Lock held, but not during the part. */
static void do_part(struct zipfs_workers *workers, struct run *run) {
    size_t index = take_part(workers, run);
    pthread_mutex_unlock(&workers->lock);
    run->part(run->context, index);
    pthread_mutex_lock(&workers->lock);
    if (++run->num_done == run->num_parts)
        pthread_cond_signal(&run->done);
}

/* ---- tasks; the lock is held in all of these, but not during a step ---- */

static void list_task(struct zipfs_workers *workers, struct zipfs_task *task) {
    struct zipfs_task **link = &workers->tasks;
    while (*link)
        link = &(*link)->next;
    *link = task;
    task->next = NULL;
    task->is_listed = true;
}

static void unlist_task(struct zipfs_workers *workers, struct zipfs_task *task) {
    struct zipfs_task **link = &workers->tasks;
    while (*link != task)
        link = &(*link)->next;
    *link = task->next;
    task->is_listed = false;
}

static void do_step(struct zipfs_workers *workers, struct zipfs_task *task) {
    unlist_task(workers, task);
    task->runner = workers->generation;
    task->is_wanted = false;
    pthread_mutex_unlock(&workers->lock);
    bool has_more = task->step(task);
    pthread_mutex_lock(&workers->lock);
    task->runner = 0;
    if ((has_more || task->is_wanted) && !task->is_cancelled)
        list_task(workers, task);
    pthread_cond_broadcast(&workers->step_done);
}

static void *work(void *context) {
    struct zipfs_workers *workers = context;
    pthread_mutex_lock(&workers->lock);
    while (!workers->stop) {
        if (workers->runs)
            do_part(workers, workers->runs);
        else if (workers->tasks)
            do_step(workers, workers->tasks);
        else
            pthread_cond_wait(&workers->wake, &workers->lock);
    }
    pthread_mutex_unlock(&workers->lock);
    return NULL;
}

/* Starts what is missing of `wanted` threads; with fewer it goes on. Signals are for the threads of the program. Lock
 * held. */
static void start_threads(struct zipfs_workers *workers, size_t wanted) {
    sigset_t blocked, old;
    sigfillset(&blocked);
    pthread_sigmask(SIG_SETMASK, &blocked, &old);
    while (workers->num_threads < workers->max_threads && workers->num_threads < wanted
           && pthread_create(&workers->threads[workers->num_threads], NULL, work, workers) == 0)
        workers->num_threads++;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void zipfs_workers_run(struct zipfs_workers *workers, size_t num_parts, void (*part)(void *context, size_t index),
                       void *context) {
    struct run run = {.part = part, .context = context, .num_parts = num_parts};
    if (num_parts == 0)
        return;
    pthread_cond_init(&run.done, NULL);
    pthread_mutex_lock(&workers->lock);
    start_threads(workers, num_parts - 1);
    struct run **link = &workers->runs;
    while (*link)
        link = &(*link)->next;
    *link = &run;
    pthread_cond_broadcast(&workers->wake);
    while (run.num_taken < num_parts)
        do_part(workers, &run);
    while (run.num_done < num_parts)
        pthread_cond_wait(&run.done, &workers->lock);
    pthread_mutex_unlock(&workers->lock);
    pthread_cond_destroy(&run.done);
}

void zipfs_workers_post(struct zipfs_workers *workers, struct zipfs_task *task) {
    pthread_mutex_lock(&workers->lock);
    if (task->runner == workers->generation) {
        task->is_wanted = true;
    } else if (!task->is_listed && workers->max_threads > 0) {
        list_task(workers, task);
        start_threads(workers, 1);
        pthread_cond_signal(&workers->wake);
    }
    pthread_mutex_unlock(&workers->lock);
}

void zipfs_workers_cancel(struct zipfs_workers *workers, struct zipfs_task *task) {
    pthread_mutex_lock(&workers->lock);
    if (task->is_listed)
        unlist_task(workers, task);
    task->is_cancelled = true;
    while (task->runner == workers->generation)
        pthread_cond_wait(&workers->step_done, &workers->lock);
    task->is_cancelled = false;
    pthread_mutex_unlock(&workers->lock);
}
