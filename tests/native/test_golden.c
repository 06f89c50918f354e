/* The golden containers and chunks of weights, on every kernel: decoded to the same bytes, and encoded again to the same
 * payloads. The digest that this prints stands for all payloads: it is the same on every kind of CPU with the same
 * version of libzstd. */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>

#include "check.h"
#include "codec.h"
#include "common.h"
#include "cpu.h"
#include "layout.h"
#include "sample.h"

enum { WEIGHTS = 300001, MIN_CONTAINERS = 9 };

static const struct zipfs_kernels *usable[ZIPFS_MAX_KERNELS];
static size_t num_usable;
static uint64_t digest;

static struct zipfs_codec *make_codec(uint32_t chunk_log2) {
    struct zipfs_codec *codec;
    CHECK_EQUAL(zipfs_codec_create(chunk_log2, &codec), ZIPFS_OK);
    return codec;
}

/* Encodes a chunk on every kernel, demands one payload, adds it to the digest, and decodes it on every kernel. */
static void encode(struct zipfs_codec *codec, enum zipfs_level level, const uint8_t *plain, size_t size,
                   const struct zipfs_segment *segments, size_t num_segments) {
    uint8_t *payload[2] = {malloc(size), malloc(size)}, *decoded = malloc(size);
    CHECK(payload[0] && payload[1] && decoded);
    struct zipfs_entry entry[2] = {{0}};
    for (size_t k = 0; k < num_usable; k++) {
        size_t i = k > 0;
        codec->kernels = usable[k];
        CHECK_EQUAL(zipfs_encode_chunk(codec, level, 0, plain, size, segments, num_segments, payload[i], size,
                                       &entry[i]),
                    ZIPFS_OK);
        CHECK_EQUAL(entry[i].stored_size, entry[0].stored_size);
        CHECK(entry[i].plain_hash == entry[0].plain_hash && entry[i].stored_hash == entry[0].stored_hash);
        CHECK(!memcmp(payload[i], payload[0], entry[0].stored_size));
    }
    for (size_t k = 0; k < num_usable; k++) {
        codec->kernels = usable[k];
        memset(decoded, 0xa5, size);
        CHECK_EQUAL(zipfs_decode_chunk(codec, 0, &entry[0], payload[0], decoded, size), ZIPFS_OK);
        CHECK(!memcmp(decoded, plain, size));
    }
    digest = zipfs_hash_scalar(payload[0], entry[0].stored_size, digest);
    free(payload[0]);
    free(payload[1]);
    free(decoded);
}

/* ---- golden containers ---- */

static int is_container(const struct dirent *entry) {
    const char *suffix = strstr(entry->d_name, ".zipfs");
    return suffix && !suffix[6];
}

static struct zipfs_reader *open_reader(const char *name) {
    char path[4096];
    CHECK((size_t)snprintf(path, sizeof path, "%s/%s", ZIPFS_TEST_GOLDEN, name) < sizeof path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct zipfs_reader *reader;
    CHECK(fd >= 0);
    CHECK_EQUAL(zipfs_reader_open(fd, &reader), ZIPFS_OK);
    return reader;
}

/* Each chunk by every kernel, against its hash, then encoded again; on the highest level where that takes no long. */
static void check_container(const char *name) {
    struct zipfs_reader *reader = open_reader(name);
    const struct zipfs_header *header = zipfs_reader_header(reader);
    struct zipfs_codec *codec = make_codec(header->chunk_log2);
    size_t chunk_size = (size_t)1 << header->chunk_log2;
    uint8_t *plain = malloc(chunk_size);
    CHECK(plain);
    for (uint64_t i = 0; i < header->num_chunks; i++) {
        size_t size = (size_t)zipfs_min(header->plain_size - i * chunk_size, chunk_size);
        for (size_t k = 0; k < num_usable; k++) {
            codec->kernels = usable[k];
            memset(plain, 0xa5, size);
            CHECK_EQUAL(zipfs_reader_chunk(reader, codec, i, true, plain, size), ZIPFS_OK);
        }
        for (int level = ZIPFS_LEVEL_FAST; i < 3 && level <= ZIPFS_LEVEL_MAX - (header->chunk_log2 > 16); level++)
            encode(codec, (enum zipfs_level)level, plain, size, NULL, 0);
    }
    free(plain);
    zipfs_codec_free(codec);
    zipfs_reader_free(reader);
}

static void test_containers(void) {
    struct dirent **names;
    int num = scandir(ZIPFS_TEST_GOLDEN, &names, is_container, alphasort);
    CHECK(num >= MIN_CONTAINERS);
    for (int i = 0; i < num; i++) {
        check_container(names[i]->d_name);
        free(names[i]);
    }
    free(names);
}

/* ---- weights ---- */

/* Long enough for every number of lanes. */
static void test_weights(uint64_t seed) {
    struct zipfs_codec *codec = make_codec(20);
    uint8_t *plain = malloc(WEIGHTS + 8);
    CHECK(plain);
    for (uint32_t layout = 0; layout < ZIPFS_BF16_JOINT; layout++) {
        const struct zipfs_layout_info *info = zipfs_layout_info(layout);
        for (size_t i = 0; i < WEIGHTS; i += info->width) {
            uint64_t x = sample_weight(info, &seed);
            memcpy(plain + i, &x, info->width);
        }
        struct zipfs_segment segment = {0, WEIGHTS, layout};
        encode(codec, ZIPFS_LEVEL_DEFAULT, plain, WEIGHTS, &segment, 1);
    }
    free(plain);
    zipfs_codec_free(codec);
}

int main(void) {
    const char *demand = getenv("ZIPFS_TEST_SEED");
    uint64_t seed = demand ? strtoull(demand, NULL, 0) : 2026;
    num_usable = zipfs_kernels_usable(usable);
    test_containers();
    test_weights(seed);
    printf("seed %llu, libzstd %u, digest %016llx\n", (unsigned long long)seed, ZSTD_versionNumber(),
           (unsigned long long)digest);
    return 0;
}
