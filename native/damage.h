/* Which chunks of a file were found damaged, so that each is told once. */
#ifndef ZIPFS_DAMAGE_H
#define ZIPFS_DAMAGE_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

enum { ZIPFS_DAMAGE_MAX = 1000 }; /* chunks told about one by one */

struct zipfs_damage {
    pthread_mutex_t lock;
    uint64_t *numbers;
    size_t num_numbers, capacity;
    uint64_t num_repeats; /* failures that were not told */
};

void zipfs_damage_init(struct zipfs_damage *damage); /* zero to start from */
void zipfs_damage_clear(struct zipfs_damage *damage);

/* Notes a failed chunk: is it to be told, told as the last one, or was it told already? Any thread. */
enum zipfs_told { ZIPFS_TELL, ZIPFS_TELL_LAST, ZIPFS_TOLD };
enum zipfs_told zipfs_damage_note(struct zipfs_damage *damage, uint64_t number);

#endif
