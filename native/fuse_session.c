/* See fuse_session.h. */
#include "fuse_session.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "fuse_operations.h"
#include "fuse_threads.h"

enum { STOP_TIMEOUT_MS = 3000, LINE_MAX_SIZE = 1024 };

struct zipfs_session {
    struct zipfs_served served; /* first: the operations know the session by it */
    struct fuse_session *fuse;
    struct zipfs_threads *threads;
    char *mountpoint;
    int end_fd;
    bool is_mounted, has_started;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool has_begun, has_ended; /* under the lock */
};

/* ---- making and freeing ---- */

static void note_init(struct zipfs_served *served) {
    struct zipfs_session *session = (struct zipfs_session *)served;
    pthread_mutex_lock(&session->lock);
    session->has_begun = true;
    pthread_cond_signal(&session->changed);
    pthread_mutex_unlock(&session->lock);
}

static struct fuse_session *new_fuse_session(const char *mount_options, void *user_data) {
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    struct fuse_session *fuse = NULL;
    if (fuse_opt_add_arg(&args, "zipfs") == 0 && fuse_opt_add_arg(&args, "-o") == 0
        && fuse_opt_add_arg(&args, mount_options) == 0)
        fuse = fuse_session_new(&args, &zipfs_fuse_operations, sizeof zipfs_fuse_operations, user_data);
    fuse_opt_free_args(&args);
    return fuse;
}

static bool create_residents(struct zipfs_session *session, const struct zipfs_session_options *options) {
    if (options->resident_size > 0)
        session->served.residents = zipfs_residents_create(&(struct zipfs_residents_options){
            .budget = options->resident_size,
            .api = session->served.api,
            .backing = &session->served.backing,
            .nodes = session->served.nodes,
            .fuse = session->fuse,
        });
    return options->resident_size == 0 || session->served.residents;
}

int zipfs_session_create(const struct zipfs_session_options *options, const struct zipfs_api *api,
                         const struct zipfs_session_tree *tree, struct zipfs_session **session_ret) {
    struct zipfs_session *session = calloc(1, sizeof *session);
    if (!session)
        return ENOMEM;
    session->served = (struct zipfs_served){.api = api, .tree = *tree, .on_init = note_init};
    pthread_mutex_init(&session->lock, NULL);
    pthread_cond_init(&session->changed, NULL);
    session->end_fd = eventfd(0, EFD_CLOEXEC);
    session->mountpoint = strdup(options->mountpoint);
    session->served.nodes = zipfs_nodes_create();
    session->served.replies = zipfs_replies_create();
    int error = 0;
    if (session->end_fd < 0)
        error = errno;
    else if (!session->mountpoint || !session->served.nodes || !session->served.replies)
        error = ENOMEM;
    else if (!(session->fuse = new_fuse_session(options->mount_options, &session->served)))
        error = EINVAL;
    else if (!create_residents(session, options))
        error = ENOMEM;
    else if (!(session->threads =
                   zipfs_threads_create(session->fuse, api, options->num_ready, options->max_threads)))
        error = ENOMEM;
    if (error)
        zipfs_session_free(session);
    else
        *session_ret = session;
    return error;
}

void zipfs_session_free(struct zipfs_session *session) {
    if (!session)
        return;
    zipfs_residents_free(session->served.residents);
    if (session->fuse)
        fuse_session_destroy(session->fuse);
    zipfs_threads_free(session->threads);
    if (session->end_fd >= 0)
        close(session->end_fd);
    zipfs_replies_free(session->served.replies);
    zipfs_nodes_free(session->served.nodes);
    pthread_cond_destroy(&session->changed);
    pthread_mutex_destroy(&session->lock);
    free(session->mountpoint);
    free(session);
}

/* ---- serving ---- */

static const struct zipfs_api *log_api;

static void log_line(enum fuse_log_level level, const char *format, va_list args) {
    char line[LINE_MAX_SIZE];
    if (level > FUSE_LOG_WARNING)
        return;
    vsnprintf(line, sizeof line, format, args);
    line[strcspn(line, "\n")] = '\0';
    log_api->log(line);
}

static void note_end(void *context) {
    struct zipfs_session *session = context;
    pthread_mutex_lock(&session->lock);
    session->has_ended = true;
    pthread_cond_signal(&session->changed);
    pthread_mutex_unlock(&session->lock);
    eventfd_write(session->end_fd, 1);
}

static void wake_up(int number) {
    (void)number; /* system calls return with EINTR, which is all that is wanted */
}

int zipfs_session_start(struct zipfs_session *session) {
    struct sigaction action = {.sa_handler = wake_up};
    if (session->is_mounted || session->has_started)
        return EINVAL;
    if (fuse_session_mount(session->fuse, session->mountpoint) != 0)
        return EIO;
    session->is_mounted = true;
    zipfs_backing_negotiate(&session->served.backing, session->fuse); /* without it, all reads come here */
    sigaction(ZIPFS_SESSION_SIGNAL, &action, NULL);
    int error = zipfs_threads_start(session->threads, note_end, session);
    if (error)
        return error;
    session->has_started = true;
    pthread_mutex_lock(&session->lock);
    while (!session->has_begun && !session->has_ended)
        pthread_cond_wait(&session->changed, &session->lock);
    bool has_begun = session->has_begun;
    pthread_mutex_unlock(&session->lock);
    if (!has_begun)
        return EIO;
    log_api = session->served.api;
    fuse_set_log_func(log_line);
    return session->served.residents ? zipfs_residents_start(session->served.residents) : 0;
}

int zipfs_session_fd(const struct zipfs_session *session) {
    return session->end_fd;
}

/* ---- ending ---- */

bool zipfs_session_stop(struct zipfs_session *session) {
    bool has_ended = !session->served.residents || zipfs_residents_stop(session->served.residents, 1);
    has_ended = zipfs_threads_stop(session->threads, STOP_TIMEOUT_MS) && has_ended;
    if (session->is_mounted) /* after the threads: this closes the descriptor that they read */
        fuse_session_unmount(session->fuse);
    session->is_mounted = false;
    return has_ended;
}

size_t zipfs_session_num_nodes(struct zipfs_session *session) {
    return zipfs_nodes_count(session->served.nodes);
}

bool zipfs_session_passes_through(const struct zipfs_session *session) {
    return atomic_load(&session->served.backing.is_agreed);
}

void zipfs_session_count_residents(const struct zipfs_session *session, uint64_t *num_ret, uint64_t *size_ret) {
    *num_ret = *size_ret = 0;
    if (session->served.residents)
        zipfs_residents_count(session->served.residents, num_ret, size_ret);
}
