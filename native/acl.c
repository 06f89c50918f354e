#include "acl.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/xattr.h>

#include "common.h"

/* As the kernel stores a list in this attribute: a head, then entries of tag, permissions and id (Linux,
 * include/uapi/linux/posix_acl_xattr.h). */
static const char ACL_NAME[] = "system.posix_acl_access";
enum { HEAD_SIZE = 4, ENTRY_SIZE = 8, VERSION = 2, MAX_ENTRIES = 256 };
enum { TAG_USER = 2, TAG_GROUP_OBJ = 4, TAG_GROUP = 8, TAG_MASK = 16 };

enum { ALL = 7, WRITE = 2, GROUP_SHIFT = 3 };

/* What everybody may do whom the list names, and the group; and to write, which no mount lets anybody. */
static unsigned least_rights(const uint8_t *list, size_t size) {
    unsigned least = ALL;
    if (size < HEAD_SIZE || zipfs_load32(list) != VERSION)
        return 0;
    for (size_t at = HEAD_SIZE; at + ENTRY_SIZE <= size; at += ENTRY_SIZE)
        if (zipfs_load16(list + at) & (TAG_USER | TAG_GROUP_OBJ | TAG_GROUP | TAG_MASK))
            least &= zipfs_load16(list + at + 2);
    return least | WRITE;
}

/* Nobody but the owner may do anything where there is a list that cannot be read. */
static void apply(const uint8_t *list, ssize_t size, struct stat *st) {
    if (size < 0 && (errno == ENODATA || errno == EOPNOTSUPP || errno == ENOENT))
        return;
    unsigned least = size < 0 ? 0 : least_rights(list, (size_t)size);
    st->st_mode &= ~(mode_t)((ALL & ~least) | (ALL & ~least) << GROUP_SHIFT);
}

/* Whether a list could take anything away. */
static bool has_rights(const struct stat *st) {
    return !S_ISLNK(st->st_mode) && st->st_mode & (S_IRWXG | S_IRWXO);
}

void zipfs_apply_acl(int fd, struct stat *st) {
    uint8_t list[HEAD_SIZE + MAX_ENTRIES * ENTRY_SIZE];
    if (has_rights(st))
        apply(list, fgetxattr(fd, ACL_NAME, list, sizeof list), st);
}

void zipfs_apply_acl_at(int dir_fd, const char *name, struct stat *st) {
    uint8_t list[HEAD_SIZE + MAX_ENTRIES * ENTRY_SIZE];
    char absolute[NAME_MAX + 32];
    bool is_itself = *name == '\0';
    if (!has_rights(st))
        return;
    snprintf(absolute, sizeof absolute, "/proc/self/fd/%d%s%s", dir_fd, is_itself ? "" : "/", name);
    apply(list, (is_itself ? getxattr : lgetxattr)(absolute, ACL_NAME, list, sizeof list), st);
}
