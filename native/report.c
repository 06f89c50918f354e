/* What a cache has counted, as JSON. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "cache.h"

enum zipfs_status zipfs_cache_report(struct zipfs_cache *cache, char **text_ret) {
    const struct zipfs_cache_options *options = zipfs_cache_options(cache);
    struct zipfs_stats stats;
    zipfs_cache_stats(cache, &stats);
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return ZIPFS_NO_MEMORY;
    fprintf(out, "{\"settings\": {\"cache_size\": %zu, \"jobs\": %u, ", options->budget, options->jobs);
    fprintf(out, "\"ahead_size\": %zu, \"drop_source_cache\": %s},\n", options->ahead_max,
            options->drop_source ? "true" : "false");
    fputs("\"total\": {", out);
    const char *separator = "";
#define PRINT(name) fprintf(out, "%s\"" #name "\": %" PRIu64, separator, stats.name), separator = ", ";
    ZIPFS_FILE_COUNTERS(PRINT)
    ZIPFS_CACHE_COUNTERS(PRINT)
#undef PRINT
    fputs("},\n\"files\": ", out);
    zipfs_cache_print_files(cache, out);
    fputs("}\n", out);
    bool is_whole = !ferror(out);
    if (fclose(out) != 0 || !is_whole) {
        free(text);
        return ZIPFS_NO_MEMORY;
    }
    *text_ret = text;
    return ZIPFS_OK;
}
