/* Scans of a folder with many containers, beside which lie plain files of the same names, and what is shown of it. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "sample.h"

enum { CHUNK_LOG2 = 16, NUM_CONTAINERS = 300, DAMAGED = 298, PLAIN_SIZE = 70000 };

static char path[] = "/tmp/zipfs-test-XXXXXX";
static int folder;

static void put(const char *name, const void *data, size_t size) {
    int fd = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL, 0600);
    CHECK(fd >= 0);
    CHECK_EQUAL(write(fd, data, size), size);
    CHECK_EQUAL(close(fd), 0);
}

/* n0.zipfs to n299.zipfs, of which every third has a plain file beside it and one is damaged; text and .zipfs. */
static void fill(const struct sample *sample) {
    char name[32];
    for (int i = 0; i < NUM_CONTAINERS; i++) {
        snprintf(name, sizeof name, "n%d.zipfs", i);
        put(name, sample->bytes, sample->size - (i == DAMAGED));
        name[strlen(name) - strlen(".zipfs")] = '\0';
        if (i % 3 == 0)
            put(name, "plain", 5);
    }
    put("text.zipfs", "text", 4);
    put(".zipfs", "", 0);
}

static void check_found(const struct zipfs_scan *scan, const struct sample *sample, size_t num_wanted, int num_packed) {
    int num_containers = 0;
    CHECK_EQUAL(scan->num_entries, num_wanted);
    for (size_t i = 0; i < scan->num_entries; i++) {
        const struct zipfs_found *found = &scan->entries[i];
        int number;
        if (!found->is_container) {
            CHECK_EQUAL(found->size, found->st.st_size);
            continue;
        }
        CHECK_EQUAL(sscanf(scan->names + found->name_offset, "n%d", &number), 1);
        CHECK_EQUAL(found->size, number == DAMAGED ? sample->size - 1 : PLAIN_SIZE);
        CHECK(found->num_blocks > 0);
        num_containers++;
    }
    CHECK_EQUAL(num_containers, num_packed);
}

static void remove_all(struct zipfs_headers *headers) {
    struct zipfs_scan scan;
    CHECK_EQUAL(zipfs_scan_beneath(headers, folder, ".", ".zipfs", &scan), 0);
    for (size_t i = 0; i < scan.num_entries; i++)
        CHECK_EQUAL(unlinkat(folder, scan.names + scan.entries[i].name_offset, 0), 0);
    zipfs_scan_free(&scan);
    CHECK_EQUAL(rmdir(path), 0);
}

int main(void) {
    static const char *const hidden[] = {"", "n1", "n2"};
    struct sample sample;
    struct zipfs_headers *headers;
    struct zipfs_scan scan;
    sample_make(&sample, PLAIN_SIZE, CHUNK_LOG2, 1);
    CHECK(mkdtemp(path));
    folder = open(path, O_RDONLY | O_DIRECTORY);
    CHECK(folder >= 0);
    fill(&sample);
    CHECK_EQUAL(zipfs_headers_create(&headers), ZIPFS_OK);
    CHECK_EQUAL(zipfs_scan_beneath(headers, folder, "n0", ".zipfs", &scan), -ENOTDIR);
    for (int i = 0; i < 3; i++) {
        CHECK_EQUAL(zipfs_scan_beneath(headers, folder, ".", ".zipfs", &scan), 0);
        CHECK_EQUAL(zipfs_headers_num_reads(headers), NUM_CONTAINERS + 1); /* and text.zipfs */
        check_found(&scan, &sample, NUM_CONTAINERS + NUM_CONTAINERS / 3 + 2, NUM_CONTAINERS);
        CHECK_EQUAL(zipfs_scan_show(&scan, ".zipfs", hidden[i]), 0);
        check_found(&scan, &sample, NUM_CONTAINERS + 2 - (i > 0), NUM_CONTAINERS / 3 * 2 - (i > 0));
        zipfs_scan_free(&scan);
    }
    remove_all(headers);
    zipfs_headers_free(headers);
    sample_free(&sample);
    close(folder);
    return 0;
}
