/* The extension zipfs._fuse (contract: zipfs/_fuse.pyi): a session whose tree is a Python object. */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <fuse_log.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include "fuse_session.h"

typedef struct {
    PyObject_HEAD
    PyObject *operations;
    struct zipfs_session *session;
} SessionObject;

static const struct zipfs_api *api;

/* ---- the threads of libfuse in Python ---- */

/* A thread keeps its Python state from its first call to its end: making one takes longer than many calls do. */
static pthread_key_t state_key;
static PyInterpreterState *interpreter;

static void end_python(void *state) {
    PyEval_AcquireThread(state);
    PyThreadState_Clear(state);
    PyEval_ReleaseThread(state);
    PyThreadState_Delete(state);
}

/* Takes the GIL for this thread. false: no memory. */
static bool enter_python(void) {
    PyThreadState *state = pthread_getspecific(state_key);
    if (!state && (state = PyThreadState_New(interpreter)) && pthread_setspecific(state_key, state) != 0) {
        end_python(state);
        state = NULL;
    }
    if (state)
        PyEval_AcquireThread(state);
    return state;
}

static void leave_python(void) {
    PyEval_ReleaseThread(pthread_getspecific(state_key));
}

/* ---- Python to C ---- */

/* The errno of the exception that is set, which is cleared. What is no OSError is a mistake of ours: EIO and a log
 * line. */
static int take_error(const char *operation) {
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    long number = 0;
    if (error && PyErr_GivenExceptionMatches(error, PyExc_OSError)) {
        PyObject *value = PyObject_GetAttrString(error, "errno");
        number = value && PyLong_Check(value) ? PyLong_AsLong(value) : 0;
        Py_XDECREF(value);
    }
    if (number <= 0) {
        PyObject *line = PyUnicode_FromFormat("%s failed: %R", operation, error ? error : Py_None);
        const char *text = line ? PyUnicode_AsUTF8AndSize(line, NULL) : NULL;
        api->log(text ? text : operation);
        Py_XDECREF(line);
        number = EIO;
    }
    PyErr_Clear();
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    return (int)number;
}

/* Reads a sequence of integers, as zipfs/_fuse.pyi orders them; an exception is set when it is not that. */
static bool parse_version(PyObject *facts, struct zipfs_version *version_ret) {
    enum { NUM_FACTS = 14 };
    long long values[NUM_FACTS];
    if (!PyTuple_Check(facts) || PyTuple_Size(facts) != NUM_FACTS) {
        PyErr_SetString(PyExc_TypeError, "a version is a tuple of 14 integers");
        return false;
    }
    for (Py_ssize_t i = 0; i < NUM_FACTS; i++) {
        PyObject *item = PyTuple_GetItem(facts, i); /* borrowed */
        values[i] = i < 2 ? (long long)PyLong_AsUnsignedLongLongMask(item) : PyLong_AsLongLong(item);
        if (values[i] == -1 && PyErr_Occurred())
            return false;
    }
    *version_ret = (struct zipfs_version){
        .dev = values[0], .ino = values[1], .mode = values[2], .num_links = values[3], .uid = values[4],
        .gid = values[5], .size = values[6], .num_blocks = values[7], .block_size = values[8], .atime_ns = values[9],
        .mtime_ns = values[10], .ctime_ns = values[11], .stored_size = values[12], .is_container = values[13] != 0,
    };
    return true;
}

static int64_t to_ns(struct timespec time) {
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static struct zipfs_version to_version(const struct zipfs_found *found) {
    const struct stat *st = &found->st;
    return (struct zipfs_version){
        .dev = st->st_dev, .ino = st->st_ino, .mode = st->st_mode, .num_links = (uint32_t)st->st_nlink,
        .uid = st->st_uid, .gid = st->st_gid, .size = found->size, .num_blocks = found->num_blocks,
        .block_size = (uint32_t)found->block_size, .atime_ns = to_ns(st->st_atim), .mtime_ns = to_ns(st->st_mtim),
        .ctime_ns = to_ns(st->st_ctim), .stored_size = (uint64_t)st->st_size, .is_container = found->is_container,
    };
}

/* A scan of the folder is read without a Python object for each of its entries: there may be 100,000. */
static bool parse_listing(PyObject *capsule, struct zipfs_listing *listing) {
    const struct zipfs_scan *scan = PyCapsule_GetPointer(capsule, ZIPFS_SCAN_CAPSULE);
    for (size_t i = 0; scan && i < scan->num_entries; i++) {
        struct zipfs_version version = to_version(&scan->entries[i]);
        if (!zipfs_listing_add(listing, scan->names + scan->entries[i].name_offset, &version)) {
            PyErr_NoMemory();
            return false;
        }
    }
    return scan;
}

static bool parse_statvfs(PyObject *source, struct statvfs *statvfs_ret) {
    static const char *const names[] = {"f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail",
                                        "f_files", "f_ffree",  "f_favail", "f_namemax"};
    enum { NUM_NAMES = sizeof names / sizeof *names };
    unsigned long long values[NUM_NAMES];
    for (int i = 0; i < NUM_NAMES; i++) {
        PyObject *value = PyObject_GetAttrString(source, names[i]);
        values[i] = value ? PyLong_AsUnsignedLongLong(value) : 0;
        Py_XDECREF(value);
        if (PyErr_Occurred())
            return false;
    }
    *statvfs_ret = (struct statvfs){
        .f_bsize = values[0], .f_frsize = values[1], .f_blocks = values[2], .f_bfree = values[3],
        .f_bavail = values[4], .f_files = values[5], .f_ffree = values[6], .f_favail = values[7],
        .f_namemax = values[8],
    };
    return true;
}

/* ---- the tree ---- */

/* Each of these: the GIL is taken for the call and for reading its result, and for nothing else. */

static int tree_lookup(void *context, const char *path, struct zipfs_version *version_ret) {
    SessionObject *self = context;
    if (!enter_python())
        return ENOMEM;
    PyObject *facts = PyObject_CallMethod(self->operations, "lookup", "y", path);
    int error = facts && parse_version(facts, version_ret) ? 0 : take_error("lookup");
    Py_XDECREF(facts);
    leave_python();
    return error;
}

static int tree_list(void *context, const char *path, struct zipfs_listing *listing) {
    SessionObject *self = context;
    if (!enter_python())
        return ENOMEM;
    PyObject *scan = PyObject_CallMethod(self->operations, "list", "y", path);
    int error = scan && parse_listing(scan, listing) ? 0 : take_error("list");
    Py_XDECREF(scan);
    leave_python();
    return error;
}

static int tree_readlink(void *context, const char *path, char *dst, size_t capacity) {
    SessionObject *self = context;
    if (!enter_python())
        return ENOMEM;
    PyObject *target = PyObject_CallMethod(self->operations, "readlink", "y", path);
    const char *text = target ? PyBytes_AsString(target) : NULL;
    int error = text ? 0 : take_error("readlink");
    if (text && strlen(text) >= capacity)
        error = ENAMETOOLONG;
    else if (text)
        strcpy(dst, text);
    Py_XDECREF(target);
    leave_python();
    return error;
}

static int tree_open(void *context, const char *path, const struct zipfs_version *version,
                     struct zipfs_file **file_ret) {
    SessionObject *self = context;
    if (!enter_python())
        return ENOMEM;
    PyObject *handle = PyObject_CallMethod(
        self->operations, "open", "y(KKLLLIII)", path, (unsigned long long)version->dev,
        (unsigned long long)version->ino, (long long)version->stored_size, (long long)version->mtime_ns,
        (long long)version->ctime_ns, version->mode, version->uid, version->gid);
    *file_ret = handle ? PyLong_AsVoidPtr(handle) : NULL;
    int error = *file_ret ? 0 : take_error("open");
    Py_XDECREF(handle);
    leave_python();
    return error;
}

static int tree_statfs(void *context, struct statvfs *statvfs_ret) {
    SessionObject *self = context;
    if (!enter_python())
        return ENOMEM;
    PyObject *source = PyObject_CallMethod(self->operations, "statfs", NULL);
    int error = source && parse_statvfs(source, statvfs_ret) ? 0 : take_error("statfs");
    Py_XDECREF(source);
    leave_python();
    return error;
}

static int tree_stats(void *context, char **text_ret) {
    SessionObject *self = context;
    if (!enter_python())
        return ENOMEM;
    PyObject *stats = PyObject_CallMethod(self->operations, "stats", NULL);
    const char *text = stats ? PyBytes_AsString(stats) : NULL;
    int error = text ? 0 : take_error("stats");
    if (text && !(*text_ret = strdup(text)))
        error = ENOMEM;
    Py_XDECREF(stats);
    leave_python();
    return error;
}

/* ---- Session ---- */

static int session_init(SessionObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"operations", "mountpoint", "options", "num_ready", "max_threads", "resident_size", NULL};
    unsigned long long resident_size = 0;
    struct zipfs_session_options options = {0};
    PyObject *operations;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OyyII|K:Session", names, &operations, &options.mountpoint,
                                     &options.mount_options, &options.num_ready, &options.max_threads,
                                     &resident_size))
        return -1;
    options.resident_size = resident_size;
    if (self->session || options.num_ready == 0 || options.max_threads == 0) {
        PyErr_SetString(PyExc_ValueError, "a Session is made once, and needs a thread or more");
        return -1;
    }
    const struct zipfs_session_tree tree = {self,      tree_lookup, tree_list, tree_readlink,
                                            tree_open, tree_statfs, tree_stats};
    int error = zipfs_session_create(&options, api, &tree, &self->session);
    if (error) {
        errno = error;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    self->operations = Py_NewRef(operations);
    return 0;
}

/* The session, or NULL with ValueError when there is none. */
static struct zipfs_session *session_of(SessionObject *self) {
    if (!self->session)
        PyErr_SetString(PyExc_ValueError, "the Session has ended");
    return self->session;
}

static PyObject *session_start(SessionObject *self, PyObject *unused) {
    (void)unused;
    struct zipfs_session *session = session_of(self);
    int error;
    if (!session)
        return NULL;
    Py_BEGIN_ALLOW_THREADS;
    error = zipfs_session_start(session);
    Py_END_ALLOW_THREADS;
    if (!error)
        Py_RETURN_NONE;
    errno = error;
    return PyErr_SetFromErrno(PyExc_OSError);
}

static PyObject *session_fileno(SessionObject *self, PyObject *unused) {
    (void)unused;
    struct zipfs_session *session = session_of(self);
    return session ? PyLong_FromLong(zipfs_session_fd(session)) : NULL;
}

static PyObject *session_num_nodes(SessionObject *self, PyObject *unused) {
    (void)unused;
    struct zipfs_session *session = session_of(self);
    return session ? PyLong_FromSize_t(zipfs_session_num_nodes(session)) : NULL;
}

static PyObject *session_passes_through(SessionObject *self, PyObject *unused) {
    (void)unused;
    struct zipfs_session *session = session_of(self);
    return session ? PyBool_FromLong(zipfs_session_passes_through(session)) : NULL;
}

static PyObject *session_residents(SessionObject *self, PyObject *unused) {
    (void)unused;
    struct zipfs_session *session = session_of(self);
    uint64_t num, size;
    if (!session)
        return NULL;
    zipfs_session_count_residents(session, &num, &size);
    return Py_BuildValue("(KK)", (unsigned long long)num, (unsigned long long)size);
}

static bool stop(SessionObject *self) {
    struct zipfs_session *session = self->session;
    bool has_ended;
    self->session = NULL;
    if (!session)
        return true;
    Py_BEGIN_ALLOW_THREADS; /* which calls that are under way need to come to an end */
    has_ended = zipfs_session_stop(session);
    if (has_ended)
        zipfs_session_free(session);
    Py_END_ALLOW_THREADS;
    return has_ended;
}

static PyObject *session_stop(SessionObject *self, PyObject *unused) {
    (void)unused;
    bool has_ended = stop(self);
    if (!has_ended)
        Py_INCREF((PyObject *)self); /* a thread still uses it */
    return PyBool_FromLong(has_ended);
}

static void session_dealloc(SessionObject *self) {
    if (!stop(self))
        return; /* never freed: a thread still uses it */
    Py_XDECREF(self->operations);
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyMethodDef session_methods[] = {
    {"start", (PyCFunction)session_start, METH_NOARGS, "Mounts and serves."},
    {"fileno", (PyCFunction)session_fileno, METH_NOARGS, "Readable once the session has ended."},
    {"num_nodes", (PyCFunction)session_num_nodes, METH_NOARGS, "Inodes that the kernel knows."},
    {"passes_through", (PyCFunction)session_passes_through, METH_NOARGS, "Whether the kernel reads plain files itself."},
    {"residents", (PyCFunction)session_residents, METH_NOARGS, "Files kept whole in memory, and their bytes."},
    {"stop", (PyCFunction)session_stop, METH_NOARGS, "Ends and unmounts; False when a request is stuck."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot session_slots[] = {
    {Py_tp_doc, "A mount served by threads of its own."},
    {Py_tp_init, session_init},
    {Py_tp_dealloc, session_dealloc},
    {Py_tp_methods, session_methods},
    {0, NULL},
};

static PyType_Spec session_spec = {"zipfs._fuse.Session", sizeof(SessionObject), 0, Py_TPFLAGS_DEFAULT, session_slots};

/* ---- the module ---- */

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "zipfs._fuse",
    .m_doc = "Mounts through libfuse's low-level interface.",
    .m_size = -1,
};

PyMODINIT_FUNC PyInit__fuse(void) {
    api = PyCapsule_Import(ZIPFS_API_CAPSULE, 0);
    if (!api)
        return NULL;
    if (api->size != ZIPFS_API_SIZE) {
        PyErr_SetString(PyExc_ImportError, "zipfs._fuse and zipfs._native are of different builds; build zipfs anew");
        return NULL;
    }
    PyObject *module = PyModule_Create(&module_def);
    PyObject *type = module ? PyType_FromSpec(&session_spec) : NULL;
    if (!type || PyModule_AddType(module, (PyTypeObject *)type) < 0
        || PyModule_AddStringConstant(module, "LIBFUSE_VERSION", fuse_pkgversion()) < 0
        || pthread_key_create(&state_key, end_python) != 0) {
        Py_XDECREF(type);
        Py_XDECREF(module);
        return PyErr_Occurred() ? NULL : PyErr_NoMemory();
    }
    interpreter = PyInterpreterState_Get();
    Py_DECREF(type);
    return module;
}
