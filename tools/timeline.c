#include "tools/timeline.h"

#include "common/file.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A rank's file larger than this is not ours. */
#define RANK_LIMIT ((size_t)1 << 30)

weir_err_t weir_timeline_clear(const char *run, weir_error_t *error) {
    char folder[WEIR_PATH_MAX];
    weir_err_t err = weir_path_join(folder, sizeof folder, run, "trace", error);
    return err == WEIR_OK ? weir_file_remove_directory(folder, error) : err;
}

static int is_rank_file(const struct dirent *entry) {
    size_t size = strlen(entry->d_name);
    return strncmp(entry->d_name, "rank-", 5) == 0 && size > 10 &&
           strcmp(entry->d_name + size - 5, ".json") == 0;
}

/* Copy the events of a rank's file: the lines between its brackets. */
static weir_err_t copy_events(FILE *out, const char *path, bool first, weir_error_t *error) {
    char *text = NULL;
    size_t size = 0;
    weir_err_t err = weir_file_read(path, RANK_LIMIT, &text, &size, error);
    if (err != WEIR_OK) {
        return err;
    }
    size_t begin = 2, end = size >= 3 ? size - 3 : 0;
    if (size < 6 || memcmp(text, "[\n", 2) != 0 || memcmp(text + end, "\n]\n", 3) != 0) {
        err = weir_errorf(error, WEIR_ERR_CORRUPT, "%s is no timeline of a rank", path);
    } else {
        (void)fputs(first ? "[\n" : ",\n", out);
        (void)fwrite(text + begin, 1, end - begin, out);
    }
    free(text);
    return err;
}

static weir_err_t copy_ranks(FILE *out, const char *folder, struct dirent *const *entries,
                             int count, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    char path[WEIR_PATH_MAX];
    for (int i = 0; i < count && err == WEIR_OK; i++) {
        err = weir_path_join(path, sizeof path, folder, entries[i]->d_name, error);
        if (err == WEIR_OK) {
            err = copy_events(out, path, i == 0, error);
        }
    }
    (void)fputs("\n]\n", out);
    return err;
}

weir_err_t weir_timeline_merge(const char *run, bool *merged, weir_error_t *error) {
    char folder[WEIR_PATH_MAX], whole[WEIR_PATH_MAX], *text = NULL;
    struct dirent **entries = NULL;
    size_t size = 0;
    *merged = false;
    weir_err_t err = weir_path_join(folder, sizeof folder, run, "trace", error);
    if (err == WEIR_OK) {
        err = weir_path_join(whole, sizeof whole, run, "trace.json", error);
    }
    if (err != WEIR_OK || !weir_file_exists(folder)) {
        return err;
    }
    int count = scandir(folder, &entries, is_rank_file, alphasort);
    if (count < 0) {
        return weir_error_from_errno(error, errno, "cannot list %s", folder);
    }
    FILE *out = open_memstream(&text, &size);
    if (out == NULL) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a timeline");
    } else if (count > 0) {
        err = copy_ranks(out, folder, entries, count, error);
    }
    bool failed = out != NULL && (ferror(out) != 0 || fclose(out) != 0);
    if (err == WEIR_OK && failed) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a timeline");
    }
    if (err == WEIR_OK && count > 0) {
        err = weir_file_replace(whole, text, size, error);
        *merged = err == WEIR_OK;
    }
    for (int i = 0; i < count; i++) {
        free(entries[i]);
    }
    free(entries);
    free(text);
    return err;
}
