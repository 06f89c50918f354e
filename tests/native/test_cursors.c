/* Which reads are taken for a stream: in order, overtaking one another, several at once, among random ones. */
#include "cursors.h"

#include <string.h>

#include "check.h"

enum { KIB = 1 << 10, MIB = 1 << 20, FIRST = 3 * MIB, MOST = 16 * MIB };

static struct zipfs_cursors cursors;

static struct zipfs_cursor *note(uint64_t offset, size_t size) {
    return zipfs_cursors_note(&cursors, offset, size);
}

static uint64_t window_of(const struct zipfs_cursor *cursor) {
    return zipfs_cursor_window(cursor, FIRST, MOST);
}

static void test_window_grows_with_success(void) {
    memset(&cursors, 0, sizeof cursors);
    const struct zipfs_cursor *first = note(100, MIB);
    for (uint64_t i = 1; i < 100; i++) {
        const struct zipfs_cursor *cursor = note(100 + i * MIB, MIB);
        uint64_t size = (i + 1) * MIB;
        CHECK(cursor == first);
        CHECK_EQUAL(cursor->start, 100);
        CHECK_EQUAL(cursor->next, 100 + size);
        CHECK_EQUAL(window_of(cursor), size <= FIRST ? 0 : size < MOST ? size : MOST);
    }
}

/* Threads bring eight reads at a time in any order. */
static void test_order_does_not_matter(uint64_t seed) {
    enum { AT_ONCE = 8 };
    memset(&cursors, 0, sizeof cursors);
    const struct zipfs_cursor *cursor = NULL;
    for (uint64_t round = 0; round < 10; round++) {
        uint64_t order[AT_ONCE];
        for (uint64_t i = 0; i < AT_ONCE; i++) {
            uint64_t j = random_below(&seed, i + 1);
            order[i] = order[j];
            order[j] = i;
        }
        for (int i = 0; i < AT_ONCE; i++)
            cursor = note((round * AT_ONCE + order[i]) * MIB, MIB);
        CHECK_EQUAL(cursor->start, 0);
        CHECK_EQUAL(cursor->next, (round + 1) * AT_ONCE * MIB);
        CHECK_EQUAL(cursor->covered, cursor->next);
    }
    CHECK_EQUAL(window_of(cursor), MOST);
}

static void test_random_reads_are_no_stream(uint64_t seed) {
    memset(&cursors, 0, sizeof cursors);
    for (int i = 0; i < 100000; i++) {
        size_t size = 4 * KIB << random_below(&seed, 3);
        CHECK_EQUAL(zipfs_cursor_window(note(random_below(&seed, 1u << 30), size), 256 * KIB, MOST), 0);
    }
}

/* Every fourth page: more is left out than is read. */
static void test_gaps_are_no_stream(void) {
    memset(&cursors, 0, sizeof cursors);
    for (uint64_t i = 0; i < 10000; i++)
        CHECK_EQUAL(zipfs_cursor_window(note(i * 16 * KIB, 4 * KIB), 64 * KIB, MOST), 0);
}

static void test_a_far_seek_begins_anew(void) {
    memset(&cursors, 0, sizeof cursors);
    for (uint64_t i = 0; i < 20; i++)
        note(i * MIB, MIB);
    const struct zipfs_cursor *cursor = note(500 * (uint64_t)MIB, MIB);
    CHECK_EQUAL(cursor->start, 500 * (uint64_t)MIB);
    CHECK_EQUAL(cursor->source_next, cursor->start);
    CHECK_EQUAL(cursor->decode_next, cursor->start);
    CHECK_EQUAL(window_of(cursor), 0);
    CHECK_EQUAL(note(20 * MIB, MIB)->covered, 21 * MIB); /* and the old one goes on */
}

/* Twelve ranks read parts of one file in turn, with two random reads after each of theirs. */
static void test_streams_at_once(uint64_t seed) {
    enum { NUM_RANKS = 12 };
    memset(&cursors, 0, sizeof cursors);
    for (uint64_t i = 0; i < 64; i++) {
        for (uint64_t rank = 0; rank < NUM_RANKS; rank++) {
            const struct zipfs_cursor *cursor = note(rank * 100 * MIB + i * 128 * KIB, 128 * KIB);
            CHECK_EQUAL(cursor->start, rank * 100 * MIB);
            CHECK_EQUAL(cursor->covered, (i + 1) * 128 * KIB);
            for (int j = 0; j < 2; j++)
                note((1u << 31) + random_below(&seed, 1u << 30), 4 * KIB);
        }
    }
}

/* Streams that ended make room, however long they were. */
static void test_ended_streams_leave(void) {
    memset(&cursors, 0, sizeof cursors);
    for (uint64_t i = 0; i < ZIPFS_MAX_CURSORS; i++)
        for (uint64_t j = 0; j < 10; j++)
            note(i * 100 * MIB + j * MIB, MIB);
    for (uint64_t i = 0; i < 1000; i++)
        note((1u << 31) + i * 4 * KIB, 4 * KIB);
    int num_long = 0;
    for (uint64_t i = 1; i < 40; i++) {
        note((1u << 31) + i * 300 * MIB, 4 * KIB);
    }
    for (int i = 0; i < ZIPFS_MAX_CURSORS; i++)
        num_long += cursors.list[i].covered >= 10 * MIB;
    CHECK_EQUAL(num_long, 0);
}

static bool wants(const struct zipfs_cursor *cursor) {
    return cursor->source_next < cursor->source_end;
}

static void test_finding(void) {
    memset(&cursors, 0, sizeof cursors);
    CHECK(!zipfs_cursors_find(&cursors, wants));
    struct zipfs_cursor *one = note(0, MIB), *other = note(100 * MIB, MIB), *third = note(200 * MIB, MIB);
    one->source_end = other->source_end = 300 * MIB;
    CHECK(zipfs_cursors_find(&cursors, wants) == other);
    note(MIB, MIB);
    CHECK(zipfs_cursors_find(&cursors, wants) == one);
    CHECK(zipfs_cursors_has_other(&cursors, one, 50 * MIB, 102 * MIB));
    CHECK(!zipfs_cursors_has_other(&cursors, one, 0, 101 * MIB));
    note(50 * MIB, 4 * KIB); /* no stream */
    CHECK(!zipfs_cursors_has_other(&cursors, one, 40 * MIB, 60 * MIB));
    CHECK(!zipfs_cursors_has_other(&cursors, third, 200 * MIB, 300 * MIB));
}

/* Two readers of the same: side by side they are one stream, far apart two. */
static void test_sharing(void) {
    memset(&cursors, 0, sizeof cursors);
    for (uint64_t i = 0; i < 40; i++)
        CHECK(!zipfs_cursors_is_shared(&cursors, note(i * MIB, MIB), 32 * MIB));
    CHECK(zipfs_cursors_is_shared(&cursors, note(36 * MIB, MIB), 32 * MIB)); /* once more */
    CHECK(zipfs_cursors_is_shared(&cursors, note(40 * MIB, MIB), 32 * MIB));
    for (uint64_t i = 41; i < 100; i++)
        CHECK_EQUAL(zipfs_cursors_is_shared(&cursors, note(i * MIB, MIB), 32 * MIB), i < 71);
    note(80 * MIB, 4 * KIB); /* a single small read behind is no reader */
    struct zipfs_cursor *front = note(100 * MIB, MIB);
    CHECK(!zipfs_cursors_is_shared(&cursors, front, 32 * MIB));
    const struct zipfs_cursor *back = note(75 * MIB, MIB);
    CHECK(!zipfs_cursors_is_shared(&cursors, front, 20 * MIB));
    CHECK(zipfs_cursors_is_shared(&cursors, front, 32 * MIB));
    CHECK(!zipfs_cursors_is_shared(&cursors, back, 32 * MIB)); /* nobody comes after */
    for (uint64_t i = 76; i < 95; i++)
        note(i * MIB, MIB);
    CHECK(zipfs_cursors_is_shared(&cursors, back, 32 * MIB)); /* the other may have left something out */
}

/* Many read in front, so that long nothing is heard of the one behind. */
static void test_a_reader_far_behind_counts(void) {
    memset(&cursors, 0, sizeof cursors);
    for (uint64_t i = 0; i < 10; i++)
        note(i * MIB, MIB);
    for (uint64_t i = 0; i < 3000; i++)
        CHECK(zipfs_cursors_is_shared(&cursors, note(30 * MIB + i * 4 * KIB, 4 * KIB), 32 * MIB));
}

/* What comes late from a thread of the same reader is not read twice. */
static void test_overtaking_is_no_sharing(void) {
    memset(&cursors, 0, sizeof cursors);
    for (uint64_t i = 0; i < 100; i += 2) {
        CHECK(!zipfs_cursors_is_shared(&cursors, note((i + 1) * MIB, MIB), 32 * MIB));
        CHECK(!zipfs_cursors_is_shared(&cursors, note(i * MIB, MIB), 32 * MIB));
    }
}

int main(void) {
    test_sharing();
    test_a_reader_far_behind_counts();
    test_overtaking_is_no_sharing();
    test_window_grows_with_success();
    for (uint64_t seed = 1; seed <= 20; seed++)
        test_order_does_not_matter(seed);
    test_random_reads_are_no_stream(7);
    test_gaps_are_no_stream();
    test_a_far_seek_begins_anew();
    test_streams_at_once(3);
    test_ended_streams_leave();
    test_finding();
    return 0;
}
