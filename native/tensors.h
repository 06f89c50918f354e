/* Where the tensors of a container lie, from its segment table (docs/format.md section 6). */
#ifndef ZIPFS_TENSORS_H
#define ZIPFS_TENSORS_H

#include "zipfs.h"

struct zipfs_tensors;

/* Reads and checks the table. NULL: there is none, it is damaged, or too large to be worth it (8 MiB). */
struct zipfs_tensors *zipfs_tensors_read(int fd, const struct zipfs_header *header);
void zipfs_tensors_free(struct zipfs_tensors *tensors); /* NULL is allowed */

/* Where that ends which holds the plain byte at `offset`: a tensor, or what lies between two; the file's end where
 * nothing is known. */
uint64_t zipfs_tensors_end(const struct zipfs_tensors *tensors, uint64_t offset, uint64_t file_size);

#endif
