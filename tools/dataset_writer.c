#include "tools/dataset_writer.h"

#include "common/dataset.h"
#include "common/file.h"
#include "common/tensor_file.h"
#include "tools/dataset_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    BUFFER = 1 << 20,
    COLUMNS = 4,
    FURTHER = 1 + WEIR_DATASET_MAX_NUMBERS + WEIR_DATASET_MAX_FEATURES
};

/* One column on its way: a buffer in front of a file without a name. */
typedef struct {
    int fd;
    char *buffer;
    size_t used;
    uint64_t size; /* bytes, buffered ones included */
} column_t;

static const char *const column_names[COLUMNS] = {"offsets", "items", "times", "actions"};
static const weir_dtype_t column_dtypes[COLUMNS] = {WEIR_DTYPE_I64, WEIR_DTYPE_I64, WEIR_DTYPE_I64,
                                                    WEIR_DTYPE_F32};

struct weir_dataset_writer {
    char folder[WEIR_PATH_MAX], events_path[WEIR_PATH_MAX], dictionary_path[WEIR_PATH_MAX];
    char features_path[WEIR_PATH_MAX];
    bool made_folder, finished;
    column_t columns[COLUMNS];
    const weir_dataset_columns_t *extension; /* not owned; NULL: nothing more */
    size_t width;
    column_t further[FURTHER]; /* the first `width` are open */
    uint64_t users;
    int64_t events;
};

static weir_err_t flush_column(weir_dataset_writer_t *writer, column_t *column,
                               weir_error_t *error) {
    size_t size = column->used;
    column->used = 0;
    return weir_file_write_all(column->fd, column->buffer, size, writer->folder, error);
}

static weir_err_t append_column(weir_dataset_writer_t *writer, column_t *column, const void *bytes,
                                size_t size, weir_error_t *error) {
    const char *from = bytes;
    column->size += size;
    while (size > 0) {
        size_t room = BUFFER - column->used;
        size_t part = size < room ? size : room;
        memcpy(column->buffer + column->used, from, part);
        column->used += part;
        from += part;
        size -= part;
        if (column->used == BUFFER) {
            weir_err_t code = flush_column(writer, column, error);
            if (code != WEIR_OK) {
                return code;
            }
        }
    }
    return WEIR_OK;
}

/* A file without a name in `folder`: it is gone when its descriptor is closed, however that
 * happens. */
static weir_err_t open_column(const char *folder, column_t *column, weir_error_t *error) {
    column->buffer = malloc(BUFFER);
    if (column->buffer == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "%s: out of memory", folder);
    }
    column->fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (column->fd < 0) { /* a file system without O_TMPFILE */
        char path[WEIR_PATH_MAX];
        weir_err_t code = weir_path_join(path, sizeof path, folder, ".column.XXXXXX", error);
        if (code != WEIR_OK) {
            return code;
        }
        column->fd = mkostemp(path, O_CLOEXEC);
        if (column->fd < 0) {
            return weir_error_from_errno(error, errno, "make a scratch file in %s", folder);
        }
        (void)unlink(path);
    }
    return WEIR_OK;
}

static void close_column(column_t *column) {
    if (column->fd >= 0) {
        (void)close(column->fd);
    }
    free(column->buffer);
}

static bool is_empty_directory(const char *folder) {
    DIR *directory = opendir(folder);
    bool empty = directory != NULL;
    if (directory != NULL) {
        for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
            empty = empty && (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0);
        }
        (void)closedir(directory);
    }
    return empty;
}

weir_err_t weir_dataset_writer_check(const char *folder, bool force, weir_error_t *error) {
    if (force || !weir_file_exists(folder) || is_empty_directory(folder)) {
        return WEIR_OK;
    }
    weir_err_t code = weir_errorf(error, WEIR_ERR_EXISTS, "%s exists already", folder);
    weir_error_hint(error, "--force replaces the data in it");
    return code;
}

weir_err_t weir_dataset_writer_create(const char *folder, bool force,
                                      weir_dataset_writer_t **writer, weir_error_t *error) {
    weir_err_t code = weir_dataset_writer_check(folder, force, error);
    if (code != WEIR_OK) {
        return code;
    }
    weir_dataset_writer_t *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "%s: out of memory", folder);
    }
    for (int i = 0; i < COLUMNS; i++) {
        made->columns[i].fd = -1;
    }
    made->made_folder = !weir_file_exists(folder);
    for (int i = 0; i < FURTHER; i++) {
        made->further[i].fd = -1;
    }
    code = weir_path_join(made->folder, sizeof made->folder, folder, "", error);
    if (code == WEIR_OK) {
        code = weir_path_join(made->events_path, sizeof made->events_path, folder,
                              WEIR_DATASET_EVENTS, error);
    }
    if (code == WEIR_OK) {
        code = weir_path_join(made->dictionary_path, sizeof made->dictionary_path, folder,
                              WEIR_DATASET_DICTIONARY, error);
    }
    if (code == WEIR_OK) {
        code = weir_path_join(made->features_path, sizeof made->features_path, folder,
                              WEIR_DATASET_FEATURES, error);
    }
    if (code == WEIR_OK) {
        code = weir_file_make_directories(folder, error);
    }
    for (int i = 0; code == WEIR_OK && i < COLUMNS; i++) {
        code = open_column(folder, &made->columns[i], error);
    }
    if (code == WEIR_OK) {
        code = append_column(made, &made->columns[0], &made->events, sizeof made->events, error);
    }
    if (code != WEIR_OK) {
        weir_dataset_writer_destroy(made);
        return code;
    }
    *writer = made;
    return WEIR_OK;
}

void weir_dataset_writer_destroy(weir_dataset_writer_t *writer) {
    if (writer == NULL) {
        return;
    }
    for (int i = 0; i < COLUMNS; i++) {
        close_column(&writer->columns[i]);
    }
    for (int i = 0; i < FURTHER; i++) {
        close_column(&writer->further[i]);
    }
    if (writer->made_folder && !writer->finished) {
        (void)rmdir(writer->folder); /* stays when it is not empty */
    }
    free(writer);
}

weir_err_t weir_dataset_writer_add_user(weir_dataset_writer_t *writer, const int64_t *items,
                                        const int64_t *times, const float *actions, size_t count,
                                        weir_error_t *error) {
    writer->users++;
    writer->events += (int64_t)count;
    weir_err_t code =
        append_column(writer, &writer->columns[0], &writer->events, sizeof writer->events, error);
    if (code == WEIR_OK) {
        code = append_column(writer, &writer->columns[1], items, count * sizeof *items, error);
    }
    if (code == WEIR_OK) {
        code = append_column(writer, &writer->columns[2], times, count * sizeof *times, error);
    }
    if (code == WEIR_OK) {
        code = append_column(writer, &writer->columns[3], actions, count * sizeof *actions, error);
    }
    return code;
}

size_t weir_dataset_writer_width(const weir_dataset_columns_t *columns) {
    return (columns->action_count > 0 ? 1 : 0) + columns->number_count + columns->context_count;
}

weir_err_t weir_dataset_writer_extend(weir_dataset_writer_t *writer,
                                      const weir_dataset_columns_t *columns, weir_error_t *error) {
    weir_err_t code = WEIR_OK;
    size_t width = weir_dataset_writer_width(columns);
    for (size_t i = 0; code == WEIR_OK && i < width; i++) {
        code = open_column(writer->folder, &writer->further[i], error);
    }
    if (code == WEIR_OK) {
        writer->extension = columns;
        writer->width = width;
    }
    return code;
}

weir_err_t weir_dataset_writer_add_words(weir_dataset_writer_t *writer, const uint32_t *words,
                                         size_t count, weir_error_t *error) {
    weir_err_t code = WEIR_OK;
    for (size_t i = 0; i < writer->width; i++) {
        for (size_t event = 0; code == WEIR_OK && event < count; event++) {
            code = append_column(writer, &writer->further[i], words + event * writer->width + i,
                                 sizeof *words, error);
        }
    }
    return code;
}

/* ---- the files ---- */

/* The whole column, from its beginning, into the open tensor. */
static weir_err_t copy_column(weir_dataset_writer_t *writer, column_t *column,
                              weir_tensor_writer_t *file, weir_error_t *error) {
    weir_err_t code = flush_column(writer, column, error);
    if (code == WEIR_OK && lseek(column->fd, 0, SEEK_SET) != 0) {
        code = weir_error_from_errno(error, errno, "read a scratch file in %s", writer->folder);
    }
    uint64_t left = column->size;
    while (code == WEIR_OK && left > 0) {
        ssize_t got = read(column->fd, column->buffer, BUFFER);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return weir_error_from_errno(error, got < 0 ? errno : EIO, "read a scratch file in %s",
                                         writer->folder);
        }
        left -= (uint64_t)got < left ? (uint64_t)got : left;
        code = weir_tensor_writer_append(file, column->buffer, (size_t)got, error);
    }
    return code;
}

static weir_err_t write_events(weir_dataset_writer_t *writer, const weir_dataset_names_t *names,
                               weir_tensor_writer_t **out, weir_error_t *error) {
    weir_tensor_writer_t *file = NULL;
    weir_err_t code = weir_tensor_writer_create(writer->events_path, &file, error);
    if (code == WEIR_OK) {
        code = weir_dataset_files_begin(file, writer->users, names, error);
    }
    for (int i = 0; code == WEIR_OK && i < COLUMNS; i++) {
        uint64_t count = writer->columns[i].size / weir_dtype_size(column_dtypes[i]);
        code =
            weir_tensor_writer_declare(file, column_names[i], column_dtypes[i], 1, &count, error);
    }
    if (code == WEIR_OK && writer->extension != NULL) {
        code = weir_dataset_files_describe(file, writer->extension, error);
    }
    for (size_t i = 0; code == WEIR_OK && i < writer->width; i++) {
        char name[WEIR_DATASET_NAME + 16];
        weir_dtype_t dtype = weir_dataset_files_name(writer->extension, i, name);
        uint64_t count = writer->further[i].size / sizeof(uint32_t);
        code = weir_tensor_writer_declare(file, name, dtype, 1, &count, error);
    }
    if (code == WEIR_OK) {
        code = weir_tensor_writer_begin(file, error);
    }
    for (int i = 0; code == WEIR_OK && i < COLUMNS; i++) {
        code = copy_column(writer, &writer->columns[i], file, error);
    }
    for (size_t i = 0; code == WEIR_OK && i < writer->width; i++) {
        code = copy_column(writer, &writer->further[i], file, error);
    }
    if (code != WEIR_OK) {
        weir_tensor_writer_destroy(file);
        return code;
    }
    *out = file;
    return WEIR_OK;
}

weir_err_t weir_dataset_writer_finish(weir_dataset_writer_t *writer,
                                      const weir_dataset_names_t *names, weir_error_t *error) {
    weir_tensor_writer_t *events = NULL, *dictionary = NULL, *features = NULL;
    weir_err_t code = WEIR_OK;
    if (writer->events == 0) {
        code =
            weir_errorf(error, WEIR_ERR_INVALID, "%s: no event is left to write", writer->folder);
    }
    if (code == WEIR_OK) {
        code = weir_dataset_files_dictionary(writer->dictionary_path, writer->users,
                                             writer->extension, names, &dictionary, error);
    }
    if (code == WEIR_OK) {
        code = weir_dataset_files_features(writer->features_path, writer->users, writer->extension,
                                           names, &features, error);
    }
    if (code == WEIR_OK) {
        code = write_events(writer, names, &events, error);
    }
    /* Everything is written. Old events must never stand beside a new dictionary. */
    if (code == WEIR_OK && unlink(writer->events_path) != 0 && errno != ENOENT) {
        code = weir_error_from_errno(error, errno, "replace %s", writer->events_path);
    }
    if (code == WEIR_OK && unlink(writer->features_path) != 0 && errno != ENOENT) {
        code = weir_error_from_errno(error, errno, "replace %s", writer->features_path);
    }
    if (code == WEIR_OK && features != NULL) {
        code = weir_tensor_writer_commit(features, NULL, NULL, error);
    }
    if (code == WEIR_OK) {
        code = weir_tensor_writer_commit(dictionary, NULL, NULL, error);
    }
    if (code == WEIR_OK) {
        code = weir_tensor_writer_commit(events, NULL, NULL, error);
    }
    writer->finished = code == WEIR_OK;
    weir_tensor_writer_destroy(events);
    weir_tensor_writer_destroy(features);
    weir_tensor_writer_destroy(dictionary);
    return code;
}
