#include "records.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { CLOSED_MAX = 64, PRINTED_MAX = 1000 };

void zipfs_records_init(struct zipfs_records *records) {
    memset(records, 0, sizeof *records);
    pthread_mutex_init(&records->lock, NULL);
    records->open.prev = records->open.next = &records->open;
    records->closed.prev = records->closed.next = &records->closed;
}

static void list_prepend(struct zipfs_record *list, struct zipfs_record *record) {
    record->prev = list;
    record->next = list->next;
    record->prev->next = record->next->prev = record;
}

static void list_remove(struct zipfs_record *record) {
    record->prev->next = record->next;
    record->next->prev = record->prev;
}

void zipfs_records_clear(struct zipfs_records *records) {
    while (records->closed.next != &records->closed) {
        struct zipfs_record *record = records->closed.next;
        list_remove(record);
        free(record);
    }
    pthread_mutex_destroy(&records->lock);
}

/* ---- counters ---- */

void zipfs_counters_get(const struct zipfs_counters *counters, struct zipfs_file_stats *stats_ret) {
#define GET(name) stats_ret->name = ZIPFS_COUNTED(counters->name);
    ZIPFS_FILE_COUNTERS(GET)
#undef GET
}

static void add(struct zipfs_counters *sum, const struct zipfs_counters *more) {
#define ADD(name) ZIPFS_COUNT(sum->name, ZIPFS_COUNTED(more->name));
    ZIPFS_FILE_COUNTERS(ADD)
#undef ADD
}

static void add_list(struct zipfs_counters *sum, const struct zipfs_record *list) {
    for (const struct zipfs_record *record = list->next; record != list; record = record->next)
        add(sum, &record->counters);
}

void zipfs_records_sum(struct zipfs_records *records, struct zipfs_file_stats *stats_ret) {
    struct zipfs_counters sum = {0};
    pthread_mutex_lock(&records->lock);
    add(&sum, &records->gone);
    add_list(&sum, &records->open);
    add_list(&sum, &records->closed);
    pthread_mutex_unlock(&records->lock);
    zipfs_counters_get(&sum, stats_ret);
}

/* ---- opening and closing ---- */

/* Takes a closed record off the list; its counters go to `heir`. Lock held. */
static void bury(struct zipfs_records *records, struct zipfs_record *record, struct zipfs_counters *heir) {
    add(heir, &record->counters);
    list_remove(record);
    records->num_closed--;
    free(record);
}

/* The closed record of that name, or NULL. Lock held. */
static struct zipfs_record *find_closed(struct zipfs_records *records, const char *name) {
    for (struct zipfs_record *record = records->closed.next; record != &records->closed; record = record->next)
        if (strcmp(record->name, name) == 0)
            return record;
    return NULL;
}

struct zipfs_record *zipfs_records_open(struct zipfs_records *records, const char *name) {
    size_t name_size = strlen(name) + 1;
    struct zipfs_record *record = calloc(1, sizeof *record + name_size);
    if (!record)
        return NULL;
    memcpy(record->name, name, name_size);
    record->is_open = true;
    pthread_mutex_lock(&records->lock);
    struct zipfs_record *former = find_closed(records, name);
    if (former)
        bury(records, former, &record->counters);
    record->file = ++records->last_file;
    list_prepend(&records->open, record);
    pthread_mutex_unlock(&records->lock);
    return record;
}

void zipfs_records_close(struct zipfs_records *records, struct zipfs_record *record) {
    pthread_mutex_lock(&records->lock);
    record->is_open = false;
    list_remove(record);
    list_prepend(&records->closed, record);
    records->num_closed++;
    if (ZIPFS_COUNTED(record->counters.reads) == 0)
        bury(records, record, &records->gone);
    else if (records->num_closed > CLOSED_MAX)
        bury(records, records->closed.prev, &records->gone);
    pthread_mutex_unlock(&records->lock);
}

/* ---- the report ---- */

/* How many bytes of text are one character of UTF-8 (RFC 3629); 0: they are none. */
static size_t utf8_size(const char *text) {
    const uint8_t *c = (const uint8_t *)text;
    size_t size = c[0] < 0x80 ? 1 : c[0] < 0xC2 ? 0 : c[0] < 0xE0 ? 2 : c[0] < 0xF0 ? 3 : c[0] < 0xF5 ? 4 : 0;
    for (size_t i = 1; i < size; i++)
        if ((c[i] & 0xC0) != 0x80)
            return 0;
    bool is_long = (c[0] == 0xE0 && c[1] < 0xA0) || (c[0] == 0xF0 && c[1] < 0x90);
    bool is_surrogate = c[0] == 0xED && c[1] > 0x9F, is_beyond = c[0] == 0xF4 && c[1] > 0x8F;
    return is_long || is_surrogate || is_beyond ? 0 : size;
}

static void print_text(const char *text, FILE *out) {
    fputc('"', out);
    while (*text != '\0') {
        size_t size = utf8_size(text);
        unsigned c = (uint8_t)*text;
        if (size == 0)
            fprintf(out, "\\udc%02x", c);
        else if (size == 1 && (c < 0x20 || c == '"' || c == '\\' || c == 0x7F))
            fprintf(out, "\\u%04x", c);
        else
            fwrite(text, 1, size, out);
        text += size ? size : 1;
    }
    fputc('"', out);
}

static void print_record(const struct zipfs_record *record, FILE *out) {
    fputs("{\"name\": ", out);
    print_text(record->name, out);
    fprintf(out, ", \"size\": %" PRIu64 ", \"is_open\": %s", ZIPFS_COUNTED(record->size),
            record->is_open ? "true" : "false");
#define PRINT(name) fprintf(out, ", \"" #name "\": %" PRIu64, ZIPFS_COUNTED(record->counters.name));
    ZIPFS_FILE_COUNTERS(PRINT)
#undef PRINT
    fputs("}", out);
}

void zipfs_records_print(struct zipfs_records *records, FILE *out) {
    const char *separator = "[\n";
    unsigned num = 0;
    pthread_mutex_lock(&records->lock);
    const struct zipfs_record *record = records->open.next;
    for (; record != &records->open && num < PRINTED_MAX; record = record->next, separator = ",\n", num++) {
        fputs(separator, out);
        print_record(record, out);
    }
    for (record = records->closed.next; record != &records->closed; record = record->next, separator = ",\n") {
        fputs(separator, out);
        print_record(record, out);
    }
    pthread_mutex_unlock(&records->lock);
    fputs(separator[0] == '[' ? "[]" : "]", out);
}
