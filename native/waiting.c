#include "waiting.h"

#include <stddef.h>

static _Thread_local void (*listener)(void);

void zipfs_on_wait(void (*about_to_wait)(void)) {
    listener = about_to_wait;
}

void zipfs_about_to_wait(void) {
    if (listener)
        listener();
}
