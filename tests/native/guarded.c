#include "guarded.h"

#include <sys/mman.h>
#include <unistd.h>

#include "check.h"

void guarded_make(struct guarded *guarded, size_t capacity) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    guarded->capacity = (capacity + page - 1) / page * page;
    uint8_t *map = mmap(NULL, guarded->capacity + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(map != MAP_FAILED);
    guarded->map = map + page;
    CHECK_EQUAL(mprotect(guarded->map, guarded->capacity, PROT_READ | PROT_WRITE), 0);
}

void guarded_free(struct guarded *guarded) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    munmap(guarded->map - page, guarded->capacity + 2 * page);
}

uint8_t *guarded_at(const struct guarded *guarded, size_t size, bool upper) {
    CHECK(size <= guarded->capacity);
    return upper ? guarded->map + guarded->capacity - size : guarded->map;
}
