/* See fuse_threads.h. */
#include "fuse_threads.h"

#include <errno.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "fuse_session.h"

enum { WAKE_EVERY_MS = 20 };

struct zipfs_threads {
    struct fuse_session *fuse;
    const struct zipfs_api *api;
    void (*on_end)(void *context);
    void *context;
    unsigned num_ready, max_threads;
    pthread_mutex_t lock;
    pthread_cond_t wanted, ended;
    unsigned num_active; /* wait for a request, or work at one; under the lock, as all that follows */
    unsigned num_idle;   /* spare threads that wait until they are wanted */
    unsigned num_running, num_threads, num_begun;
    pthread_t ids[];
};

static _Thread_local struct zipfs_threads *active_in; /* where this thread is counted in num_active */

static void *run(void *context);

/* Lock held. Returns an errno; without one more, the others go on. */
static int start_one(struct zipfs_threads *threads) {
    sigset_t blocked, old;
    if (threads->num_threads == threads->max_threads)
        return EAGAIN;
    sigfillset(&blocked);
    pthread_sigmask(SIG_SETMASK, &blocked, &old);
    int error = pthread_create(&threads->ids[threads->num_threads], NULL, run, threads);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    threads->num_threads += error == 0;
    threads->num_running += error == 0;
    return error;
}

/* This thread is about to wait for something else than a request. */
static void step_aside(void) {
    struct zipfs_threads *threads = active_in;
    if (!threads)
        return;
    active_in = NULL;
    pthread_mutex_lock(&threads->lock);
    bool is_wanted = --threads->num_active == 0;
    if (is_wanted && threads->num_idle > 0)
        pthread_cond_signal(&threads->wanted);
    else if (is_wanted)
        start_one(threads);
    pthread_mutex_unlock(&threads->lock);
}

/* Before each request. Spare threads wait until nobody else is active. */
static void step_in(struct zipfs_threads *threads, bool is_spare) {
    pthread_mutex_lock(&threads->lock);
    threads->num_active -= active_in != NULL;
    threads->num_idle += is_spare;
    while (is_spare && threads->num_active > 0 && !fuse_session_exited(threads->fuse))
        pthread_cond_wait(&threads->wanted, &threads->lock);
    threads->num_idle -= is_spare;
    threads->num_active++;
    pthread_mutex_unlock(&threads->lock);
    active_in = threads;
}

/* Others ask the tree, or may: Python, and the disk. */
static bool is_read(const struct fuse_buf *request) {
    const struct fuse_in_header *header = request->mem;
    return header->opcode == FUSE_READ;
}

static void serve(struct zipfs_threads *threads, bool is_spare) {
    struct fuse_buf request = {.mem = NULL};
    while (!fuse_session_exited(threads->fuse)) {
        if (is_spare || !active_in)
            step_in(threads, is_spare);
        int got = fuse_session_receive_buf(threads->fuse, &request);
        if (got == -EINTR || got == -EAGAIN)
            continue;
        if (got <= 0) {
            fuse_session_exit(threads->fuse);
            break;
        }
        if (!is_read(&request))
            step_aside();
        fuse_session_process_buf(threads->fuse, &request);
    }
    free(request.mem);
}

/* Whether this is a spare thread; starts the next one that is not. */
static bool begin(struct zipfs_threads *threads) {
    pthread_mutex_lock(&threads->lock);
    unsigned num_begun = ++threads->num_begun;
    if (num_begun < threads->num_ready)
        start_one(threads);
    pthread_mutex_unlock(&threads->lock);
    return num_begun > threads->num_ready;
}

static void end(struct zipfs_threads *threads) {
    pthread_mutex_lock(&threads->lock);
    bool is_last = --threads->num_running == 0;
    pthread_cond_broadcast(&threads->wanted);
    pthread_cond_broadcast(&threads->ended);
    pthread_mutex_unlock(&threads->lock);
    if (is_last)
        threads->on_end(threads->context);
}

static void *run(void *context) {
    struct zipfs_threads *threads = context;
    sigset_t wake;
    sigemptyset(&wake);
    sigaddset(&wake, ZIPFS_SESSION_SIGNAL);
    pthread_sigmask(SIG_UNBLOCK, &wake, NULL);
    threads->api->on_wait(step_aside);
    serve(threads, begin(threads));
    end(threads);
    return NULL;
}

/* ---- public ---- */

struct zipfs_threads *zipfs_threads_create(struct fuse_session *fuse, const struct zipfs_api *api, unsigned num_ready,
                                           unsigned max_threads) {
    struct zipfs_threads *threads = calloc(1, sizeof *threads + max_threads * sizeof threads->ids[0]);
    if (!threads)
        return NULL;
    pthread_mutex_init(&threads->lock, NULL);
    pthread_cond_init(&threads->wanted, NULL);
    pthread_cond_init(&threads->ended, NULL);
    threads->fuse = fuse;
    threads->api = api;
    threads->num_ready = num_ready;
    threads->max_threads = max_threads;
    return threads;
}

void zipfs_threads_free(struct zipfs_threads *threads) {
    if (!threads)
        return;
    pthread_cond_destroy(&threads->ended);
    pthread_cond_destroy(&threads->wanted);
    pthread_mutex_destroy(&threads->lock);
    free(threads);
}

int zipfs_threads_start(struct zipfs_threads *threads, void (*on_end)(void *context), void *context) {
    threads->on_end = on_end;
    threads->context = context;
    pthread_mutex_lock(&threads->lock);
    int error = start_one(threads);
    pthread_mutex_unlock(&threads->lock);
    return error;
}

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Until a thread ends, or the time has come; lock held. */
static void wait_for_end(struct zipfs_threads *threads, int64_t until_ms) {
    struct timespec until = {.tv_sec = until_ms / 1000, .tv_nsec = until_ms % 1000 * 1000000};
    pthread_cond_timedwait(&threads->ended, &threads->lock, &until);
}

/* A signal that comes just before a thread sleeps is lost, so they are repeated. */
bool zipfs_threads_stop(struct zipfs_threads *threads, unsigned timeout_ms) {
    int64_t until_ms = now_ms() + timeout_ms;
    fuse_session_exit(threads->fuse);
    pthread_mutex_lock(&threads->lock);
    while (threads->num_running > 0 && now_ms() < until_ms) {
        pthread_cond_broadcast(&threads->wanted);
        for (unsigned i = 0; i < threads->num_threads; i++)
            pthread_kill(threads->ids[i], ZIPFS_SESSION_SIGNAL);
        wait_for_end(threads, now_ms() + WAKE_EVERY_MS);
    }
    bool have_ended = threads->num_running == 0;
    pthread_mutex_unlock(&threads->lock);
    for (; have_ended && threads->num_threads > 0; threads->num_threads--)
        pthread_join(threads->ids[threads->num_threads - 1], NULL);
    return have_ended;
}
