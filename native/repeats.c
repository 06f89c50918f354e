/* Hash tables of places, as in the search of an LZ codec, but for a sample of them: 2 us instead of the 10 to 1000 that
 * a codec takes to find out. */
#include "repeats.h"

#include "common.h"

enum {
    STRETCH = 4096,
    PARTS = 128,
    TABLE_LOG2 = 12,
    GRID = 128,   /* bytes between the places that are remembered of all bytes */
    WINDOWS = 16, /* of GRID places that are looked up each: what repeats for long is met on the grid */
};

static unsigned slot_of(uint64_t bytes) {
    return (unsigned)(bytes * UINT64_C(0x9e3779b97f4a7c15) >> (64 - TABLE_LOG2));
}

bool zipfs_repeats_nearby(const uint8_t *src, size_t n) {
    uint16_t place[1 << TABLE_LOG2] = {0};
    size_t stretch = zipfs_min(n, STRETCH), found = 0;
    src += (n - stretch) / 2;
    for (size_t i = 1; i + ZIPFS_REPEAT <= stretch; i++) {
        uint64_t bytes = zipfs_load64(src + i);
        uint16_t *at = &place[slot_of(bytes)];
        found += zipfs_load64(src + *at) == bytes;
        *at = (uint16_t)i;
    }
    return found * PARTS >= stretch;
}

static bool repeats_far(const uint8_t *src, size_t n) {
    uint32_t place[1 << TABLE_LOG2] = {0};
    if (n < (WINDOWS + 1) * GRID * 2)
        return false;
    for (size_t i = 0; i + ZIPFS_REPEAT <= n; i += GRID)
        place[slot_of(zipfs_load64(src + i))] = (uint32_t)i;
    for (size_t w = 0; w < WINDOWS; w++) {
        size_t first = (n - 2 * GRID) / WINDOWS * w + GRID;
        for (size_t i = first; i < first + GRID; i++) {
            uint64_t bytes = zipfs_load64(src + i);
            uint32_t at = place[slot_of(bytes)];
            if (at != i && zipfs_load64(src + at) == bytes)
                return true;
        }
    }
    return false;
}

bool zipfs_repeats(const uint8_t *src, size_t n) {
    return n < 4 * STRETCH || zipfs_repeats_nearby(src, n) || repeats_far(src, n);
}
