/* An open container: header and root in memory, index pages read and checked when first touched, a few of them kept. */
#include "reader.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "buffers.h"
#include "common.h"
#include "container.h"
#include "copy.h"
#include "io.h"

enum { NUM_SLOTS = 64, BUFFERS_KEPT = 8 };

/* The page of all those with the same number modulo NUM_SLOTS that was used last. A page is read under its slot's lock,
 * so that threads that want the same page read it once; nobody holds two slots. */
struct page_slot {
    pthread_mutex_t lock;
    uint64_t page; /* valid when data is not NULL */
    uint8_t *data;
};

struct zipfs_reader {
    int fd;
    struct zipfs_header header;
    uint8_t *root;
    struct zipfs_buffers buffers; /* for payloads of zipfs_reader_chunk and _check */
    struct page_slot slots[NUM_SLOTS];
};

static enum zipfs_status read_header(int fd, struct zipfs_header *header_ret) {
    struct stat st;
    if (fstat(fd, &st) < 0)
        return ZIPFS_IO;
    uint8_t head[ZIPFS_HEADER_SIZE];
    ssize_t got = pread_full(fd, head, sizeof head, 0);
    if (got < 0) {
        errno = (int)-got;
        return ZIPFS_IO;
    }
    return zipfs_header_parse(head, got, st.st_size, header_ret);
}

static enum zipfs_status read_root(struct zipfs_reader *reader, int fd) {
    const struct zipfs_header *header = &reader->header;
    reader->root = malloc(header->root_size);
    if (!reader->root)
        return ZIPFS_NO_MEMORY;
    enum zipfs_status status = pread_exact(fd, reader->root, header->root_size, header->root_offset);
    return status == ZIPFS_OK ? zipfs_root_check(header, reader->root) : status;
}

enum zipfs_status zipfs_reader_open(int fd, struct zipfs_reader **reader_ret) {
    struct zipfs_reader *reader = calloc(1, sizeof *reader);
    if (!reader)
        return ZIPFS_NO_MEMORY;
    reader->fd = -1;
    zipfs_buffers_init(&reader->buffers, BUFFERS_KEPT);
    for (int i = 0; i < NUM_SLOTS; i++)
        pthread_mutex_init(&reader->slots[i].lock, NULL);
    enum zipfs_status status = read_header(fd, &reader->header);
    if (status == ZIPFS_OK)
        status = read_root(reader, fd);
    if (status != ZIPFS_OK) {
        int error = errno;
        zipfs_reader_free(reader);
        errno = error;
        return status;
    }
    reader->fd = fd;
    *reader_ret = reader;
    return ZIPFS_OK;
}

void zipfs_reader_free(struct zipfs_reader *reader) {
    if (!reader)
        return;
    for (int i = 0; i < NUM_SLOTS; i++) {
        pthread_mutex_destroy(&reader->slots[i].lock);
        free(reader->slots[i].data);
    }
    zipfs_buffers_clear(&reader->buffers);
    if (reader->fd >= 0)
        close(reader->fd);
    free(reader->root);
    free(reader);
}

const struct zipfs_header *zipfs_reader_header(const struct zipfs_reader *reader) {
    return &reader->header;
}

int zipfs_reader_fd(const struct zipfs_reader *reader) {
    return reader->fd;
}

/* Makes the slot hold `page`. Lock held. A page that fails is not kept: it is read anew when asked for again. */
static enum zipfs_status fill_slot(struct zipfs_reader *reader, struct page_slot *slot, uint64_t page) {
    const struct zipfs_header *header = &reader->header;
    if (slot->data && slot->page == page)
        return ZIPFS_OK;
    uint8_t *data = slot->data ? slot->data : malloc(zipfs_min(ZIPFS_PAGE_SIZE, header->pages_size));
    if (!data)
        return ZIPFS_NO_MEMORY;
    slot->data = NULL;
    enum zipfs_status status = pread_exact(reader->fd, data, zipfs_page_size(header, page),
                                           header->pages_offset + page * ZIPFS_PAGE_SIZE);
    if (status == ZIPFS_OK)
        status = zipfs_page_check(header, reader->root, page, data);
    if (status != ZIPFS_OK) {
        free(data);
        return status;
    }
    slot->data = data;
    slot->page = page;
    return ZIPFS_OK;
}

enum zipfs_status zipfs_reader_entry(struct zipfs_reader *reader, uint64_t number, uint64_t *offset_ret,
                                     struct zipfs_entry *entry_ret) {
    if (number >= reader->header.num_chunks)
        return ZIPFS_BAD_ARGUMENT;
    uint64_t page = number / ZIPFS_PAGE_ENTRIES;
    struct page_slot *slot = &reader->slots[page % NUM_SLOTS];
    pthread_mutex_lock(&slot->lock);
    enum zipfs_status status = fill_slot(reader, slot, page);
    if (status == ZIPFS_OK)
        zipfs_page_entry(slot->data, number % ZIPFS_PAGE_ENTRIES, offset_ret, entry_ret);
    pthread_mutex_unlock(&slot->lock);
    return status;
}

enum zipfs_status zipfs_reader_payload(struct zipfs_reader *reader, struct zipfs_buffers *buffers, uint64_t number,
                                       struct zipfs_buffer **payload_ret, struct zipfs_entry *entry_ret) {
    uint64_t offset;
    struct zipfs_buffer *payload;
    enum zipfs_status status = zipfs_reader_entry(reader, number, &offset, entry_ret);
    if (status == ZIPFS_OK)
        status = zipfs_buffers_take(buffers, entry_ret->stored_size, &payload);
    if (status != ZIPFS_OK)
        return status;
    status = pread_exact(reader->fd, payload->data, entry_ret->stored_size, offset);
    if (status != ZIPFS_OK) {
        int error = errno;
        zipfs_buffers_give(buffers, payload);
        errno = error;
        return status;
    }
    *payload_ret = payload;
    return ZIPFS_OK;
}

/* Fills the copies of a decoded chunk. */
static enum zipfs_status fill_copies(struct zipfs_reader *reader, struct zipfs_codec *codec, uint64_t number,
                                     const struct zipfs_copies *copies, uint8_t *dst) {
    struct zipfs_copier copier = {.reader = reader, .buffers = &reader->buffers, .codec = codec};
    uint64_t failed = number;
    enum zipfs_status status = zipfs_copier_fill(&copier, number, copies, dst, &failed);
    zipfs_copier_finish(&copier);
    return failed != number && status >= ZIPFS_FIRST_FORMAT_ERROR ? ZIPFS_BAD_TARGET : status;
}

enum zipfs_status zipfs_reader_chunk(struct zipfs_reader *reader, struct zipfs_codec *codec, uint64_t number,
                                     bool check_plain, uint8_t *dst, size_t dst_size) {
    if (number >= reader->header.num_chunks || dst_size != zipfs_chunk_size(&reader->header, number))
        return ZIPFS_BAD_ARGUMENT;
    struct zipfs_entry entry;
    struct zipfs_buffer *payload;
    enum zipfs_status status = zipfs_reader_payload(reader, &reader->buffers, number, &payload, &entry);
    if (status != ZIPFS_OK)
        return status;
    struct zipfs_copies copies = {.num = 0};
    if (reader->header.has_copies)
        status = zipfs_decode_chunk_copies(codec, number, &entry, payload->data, dst, dst_size, &copies);
    else
        status = zipfs_decode_chunk(codec, number, &entry, payload->data, dst, dst_size);
    zipfs_buffers_give(&reader->buffers, payload);
    if (status == ZIPFS_OK && copies.num > 0)
        status = fill_copies(reader, codec, number, &copies, dst);
    if (status == ZIPFS_OK && check_plain && zipfs_hash(dst, dst_size, 0) != entry.plain_hash)
        return ZIPFS_PLAIN_CHECKSUM;
    return status;
}

enum zipfs_status zipfs_reader_check(struct zipfs_reader *reader, struct zipfs_codec *codec, uint64_t number) {
    (void)codec; /* a reader keeps its own buffers */
    struct zipfs_entry entry;
    struct zipfs_buffer *payload;
    enum zipfs_status status = zipfs_reader_payload(reader, &reader->buffers, number, &payload, &entry);
    if (status != ZIPFS_OK)
        return status;
    bool good = zipfs_hash(payload->data, entry.stored_size, number) == entry.stored_hash;
    zipfs_buffers_give(&reader->buffers, payload);
    return good ? ZIPFS_OK : ZIPFS_CHUNK_CHECKSUM;
}
