/* What a folder holds, and what is shown of it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "acl.h"
#include "grow.h"
#include "headers.h"

static char *name_of(const struct zipfs_scan *scan, const struct zipfs_found *found) {
    return scan->names + found->name_offset;
}

/* ---- listing ---- */

/* Entries that the folder itself tells to be of no kind that is served need no look. */
static bool may_be_served(const struct dirent *entry) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
        return false;
    return entry->d_type == DT_UNKNOWN || entry->d_type == DT_REG || entry->d_type == DT_DIR
           || entry->d_type == DT_LNK;
}

/* With what the folder tells of it: kind and inode. */
static bool add(struct zipfs_scan *scan, const struct dirent *entry, dev_t dev) {
    size_t name_size = strlen(entry->d_name) + 1;
    if (!zipfs_grow((void **)&scan->entries, &scan->max_entries, scan->num_entries + 1, sizeof *scan->entries)
        || !zipfs_grow((void **)&scan->names, &scan->names_capacity, scan->names_size + name_size, 1))
        return false;
    memcpy(scan->names + scan->names_size, entry->d_name, name_size);
    scan->entries[scan->num_entries++] = (struct zipfs_found){
        .st = {.st_dev = dev, .st_ino = entry->d_ino, .st_mode = DTTOIF(entry->d_type)},
        .name_offset = scan->names_size,
    };
    scan->names_size += name_size;
    return true;
}

static int list(DIR *folder, struct zipfs_scan *scan) {
    struct dirent *entry;
    struct stat st;
    if (fstat(dirfd(folder), &st) < 0)
        return -errno;
    while (errno = 0, (entry = readdir(folder)))
        if (may_be_served(entry) && !add(scan, entry, st.st_dev))
            return -ENOMEM;
    return -errno;
}

/* ---- looking ---- */

/* A container that is not remembered is opened at once, without a look at its attributes before. false: the entry is
 * not to be shown. */
static bool look_at(struct zipfs_headers *headers, int folder_fd, const char *name, const char *suffix,
                    struct zipfs_found *found) {
    if (S_ISREG(found->st.st_mode) && zipfs_has_suffix(name, suffix) && !zipfs_is_known(headers, &found->st)
        && zipfs_read_header(headers, folder_fd, name, found) == 0)
        return true;
    if (fstatat(folder_fd, name, &found->st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0)
        return false;
    if (!S_ISREG(found->st.st_mode) && !S_ISDIR(found->st.st_mode) && !S_ISLNK(found->st.st_mode))
        return false;
    zipfs_apply_acl_at(folder_fd, name, &found->st);
    return zipfs_look_into(headers, folder_fd, name, suffix, found) != -ENOENT;
}

static void look_at_all(struct zipfs_headers *headers, int folder_fd, const char *suffix, struct zipfs_scan *scan) {
    size_t num_kept = 0;
    for (size_t i = 0; i < scan->num_entries; i++) {
        struct zipfs_found *found = &scan->entries[i];
        if (look_at(headers, folder_fd, name_of(scan, found), suffix, found))
            scan->entries[num_kept++] = *found;
    }
    scan->num_entries = num_kept;
}

int zipfs_scan_beneath(struct zipfs_headers *headers, int dir_fd, const char *path, const char *suffix,
                       struct zipfs_scan *scan_ret) {
    int fd = zipfs_open_beneath(dir_fd, path, O_RDONLY | O_DIRECTORY | O_NONBLOCK);
    if (fd < 0)
        return fd;
    DIR *folder = fdopendir(fd);
    if (!folder) {
        int error = -errno;
        close(fd);
        return error;
    }
    *scan_ret = (struct zipfs_scan){0};
    int error = list(folder, scan_ret);
    if (!error)
        look_at_all(headers, fd, suffix, scan_ret);
    closedir(folder);
    if (error)
        zipfs_scan_free(scan_ret);
    return error;
}

void zipfs_scan_free(struct zipfs_scan *scan) {
    free(scan->entries);
    free(scan->names);
}

/* ---- showing ---- */

static int compare_names(const void *one, const void *other) {
    return strcmp(*(char *const *)one, *(char *const *)other);
}

/* The names of all that is no container, sorted, to be free()d. NULL: no memory. */
static char **sort_plain_names(const struct zipfs_scan *scan, size_t *num_ret) {
    char **names = malloc((scan->num_entries + 1) * sizeof *names);
    size_t num_names = 0;
    for (size_t i = 0; names && i < scan->num_entries; i++)
        if (!scan->entries[i].is_container)
            names[num_names++] = name_of(scan, &scan->entries[i]);
    if (names)
        qsort(names, num_names, sizeof *names, compare_names);
    *num_ret = num_names;
    return names;
}

int zipfs_scan_show(struct zipfs_scan *scan, const char *suffix, const char *hidden) {
    size_t num_plain, num_kept = 0;
    char **plain = sort_plain_names(scan, &num_plain);
    if (!plain)
        return -ENOMEM;
    for (size_t i = 0; i < scan->num_entries; i++) {
        const struct zipfs_found *found = &scan->entries[i];
        char *name = name_of(scan, found);
        if (found->is_container)
            name[strlen(name) - strlen(suffix)] = '\0';
        if (strcmp(name, hidden) == 0
            || (found->is_container && bsearch(&name, plain, num_plain, sizeof *plain, compare_names)))
            continue;
        scan->entries[num_kept++] = *found;
    }
    scan->num_entries = num_kept;
    free(plain);
    return 0;
}
