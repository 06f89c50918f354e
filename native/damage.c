#include "damage.h"

#include <stdlib.h>

void zipfs_damage_init(struct zipfs_damage *damage) {
    pthread_mutex_init(&damage->lock, NULL);
}

void zipfs_damage_clear(struct zipfs_damage *damage) {
    pthread_mutex_destroy(&damage->lock);
    free(damage->numbers);
}

/* Lock held. */
static enum zipfs_told note(struct zipfs_damage *damage, uint64_t number) {
    for (size_t i = 0; i < damage->num_numbers; i++)
        if (damage->numbers[i] == number)
            return ZIPFS_TOLD;
    if (damage->num_numbers >= ZIPFS_DAMAGE_MAX)
        return ZIPFS_TOLD;
    if (damage->num_numbers == damage->capacity) {
        size_t capacity = damage->capacity ? 4 * damage->capacity : 16;
        uint64_t *numbers = realloc(damage->numbers, capacity * sizeof *numbers);
        if (!numbers)
            return ZIPFS_TELL;
        damage->numbers = numbers;
        damage->capacity = capacity;
    }
    damage->numbers[damage->num_numbers++] = number;
    return damage->num_numbers == ZIPFS_DAMAGE_MAX ? ZIPFS_TELL_LAST : ZIPFS_TELL;
}

enum zipfs_told zipfs_damage_note(struct zipfs_damage *damage, uint64_t number) {
    pthread_mutex_lock(&damage->lock);
    enum zipfs_told told = note(damage, number);
    damage->num_repeats += told == ZIPFS_TOLD;
    pthread_mutex_unlock(&damage->lock);
    return told;
}
