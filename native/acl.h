/* Modes of files with access lists. A mount shows no lists (acl(5)), and the kernel judges by owner, group and mode; of a
 * file with a list the mode has the list's mask in place of the group's rights, and knows nothing of who is named. */
#ifndef ZIPFS_ACL_H
#define ZIPFS_ACL_H

#include <sys/stat.h>

/* Takes from st->st_mode what the file's list, if it has one, denies to anybody but the owner: the group keeps what the
 * group and all who are named may do, others what they and all of these may. For a descriptor, but of O_PATH. */
void zipfs_apply_acl(int fd, struct stat *st);
/* The same for a name in the folder that is open; "" is what is open itself, and may be O_PATH. */
void zipfs_apply_acl_at(int dir_fd, const char *name, struct stat *st);

#endif
