#include "reader/reader.h"

#include "reader/reader_internal.h"

#include <stdlib.h>
#include <string.h>

static const char *const dense_names[WEIR_READER_DENSE_FILES] = {"dense.safetensors",
                                                                 "trainer.safetensors"};

int weir_reader_fail(weir_err_t err, const weir_error_t *own, weir_reader_error_t *error) {
    if (err != WEIR_OK && error != NULL) {
        error->code = (int)err;
        memcpy(error->message, own->message, sizeof error->message);
        _Static_assert(sizeof error->message == sizeof own->message, "the same sentences");
    }
    return (int)err;
}

/* ---- opening ---- */

/* The name before ".ps-IIII-of-PPPP.safetensors"; false for any other file. */
static bool table_of(const char *file, char name[WEIR_CHECKPOINT_NAME_MAX], uint32_t *shards) {
    const char *mark = strstr(file, ".ps-");
    uint32_t index;
    if (mark == NULL) {
        return false;
    }
    memcpy(name, file, (size_t)(mark - file));
    name[mark - file] = '\0';
    return weir_snapshot_parse_name(name, file, &index, shards);
}

static int compare_tables(const void *left, const void *right) {
    const weir_reader_table_own_t *a = left, *b = right;
    return strcmp(a->name, b->name);
}

/* The names alone, sorted. */
static weir_err_t list_tables(weir_reader_t *reader, weir_error_t *error) {
    reader->tables = calloc(reader->manifest.file_count + 1, sizeof *reader->tables);
    if (reader->tables == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory to read '%s'", reader->folder);
    }
    for (size_t i = 0; i < reader->manifest.file_count; i++) {
        char name[WEIR_CHECKPOINT_NAME_MAX];
        uint32_t shards = 0;
        size_t t = 0;
        if (!table_of(reader->manifest.files[i].name, name, &shards)) {
            continue;
        }
        while (t < reader->table_count && strcmp(reader->tables[t].name, name) != 0) {
            t++;
        }
        if (t == reader->table_count) {
            memcpy(reader->tables[t].name, name, sizeof name);
            reader->tables[t].about.shards = shards;
            reader->table_count++;
        }
    }
    qsort(reader->tables, reader->table_count, sizeof *reader->tables, compare_tables);
    return WEIR_OK;
}

static weir_err_t open_tables(weir_reader_t *reader, weir_error_t *error) {
    weir_err_t err = list_tables(reader, error);
    for (size_t i = 0; i < reader->table_count && err == WEIR_OK; i++) {
        weir_reader_table_own_t *table = &reader->tables[i];
        err = weir_reader_chain_open(reader, table->name, 0, WEIR_SLOT_COUNT,
                                     &reader->blocks_checked, &table->chain, error);
        if (err == WEIR_OK) {
            err = weir_reader_describe(table, error);
        }
    }
    return err;
}

static weir_err_t open_dense(weir_reader_t *reader, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    for (size_t d = 0; d < WEIR_READER_DENSE_FILES && err == WEIR_OK; d++) {
        char path[WEIR_PATH_MAX];
        bool there = false;
        for (size_t i = 0; i < reader->manifest.file_count; i++) {
            there = there || strcmp(reader->manifest.files[i].name, dense_names[d]) == 0;
        }
        if (there) {
            err = weir_path_join(path, sizeof path, reader->folder, dense_names[d], error);
        }
        if (there && err == WEIR_OK) {
            err = weir_tensor_file_open(path, &reader->dense[d], error);
        }
    }
    return err;
}

static weir_err_t read_chain(weir_reader_t *reader, weir_error_t *error) {
    weir_manifest_t *below = NULL;
    size_t count = 0;
    weir_err_t err =
        weir_checkpoint_chain_read(reader->folder, false, &reader->manifest, &below, &count, error);
    if (err != WEIR_OK) {
        return err;
    }
    reader->chain_steps = calloc(count + 1, sizeof *reader->chain_steps);
    if (reader->chain_steps == NULL) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "out of memory to read '%s'", reader->folder);
    }
    for (size_t i = 0; i < count && err == WEIR_OK; i++) {
        reader->chain_steps[i] = below[i].step;
    }
    weir_checkpoint_chain_free(below, count);
    reader->about.chain_count = count;
    return err;
}

static void describe_checkpoint(weir_reader_t *reader) {
    const weir_manifest_t *manifest = &reader->manifest;
    weir_reader_checkpoint_t *about = &reader->about;
    about->folder = reader->folder;
    about->step = manifest->step;
    about->epoch = manifest->epoch;
    about->base = manifest->base;
    about->servers = manifest->ps;
    about->workers = manifest->workers;
    about->created = manifest->created;
    about->version = manifest->version;
    about->config = manifest->config_yaml;
    about->metrics = manifest->metrics_json;
    about->chain = reader->chain_steps;
    for (size_t i = 0; i < manifest->file_count; i++) {
        about->bytes += manifest->files[i].size;
    }
}

int weir_reader_open(const char *where, weir_reader_t **reader, weir_reader_error_t *error) {
    weir_error_t own = {0};
    weir_reader_t *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return weir_reader_fail(
            weir_errorf(&own, WEIR_ERR_MEMORY, "out of memory to read '%s'", where), &own, error);
    }
    weir_err_t err = weir_checkpoint_resolve(where, made->folder, sizeof made->folder, &own);
    if (err == WEIR_OK) {
        err = weir_manifest_read_one(made->folder, false, &made->manifest, &own);
    }
    if (err == WEIR_OK) {
        err = read_chain(made, &own);
    }
    if (err == WEIR_OK) {
        err = open_tables(made, &own);
    }
    if (err == WEIR_OK) {
        err = open_dense(made, &own);
    }
    if (err != WEIR_OK) {
        weir_reader_close(made);
        return weir_reader_fail(err, &own, error);
    }
    describe_checkpoint(made);
    *reader = made;
    return WEIR_READER_OK;
}

void weir_reader_close(weir_reader_t *reader) {
    if (reader == NULL) {
        return;
    }
    for (size_t i = 0; i < reader->table_count; i++) {
        weir_reader_chain_close(&reader->tables[i].chain);
    }
    for (size_t d = 0; d < WEIR_READER_DENSE_FILES; d++) {
        weir_tensor_file_close(reader->dense[d]);
    }
    weir_manifest_fini(&reader->manifest);
    free(reader->tables);
    free(reader->chain_steps);
    free(reader);
}

int weir_reader_list(const char *run, uint64_t **steps, size_t *count, weir_reader_error_t *error) {
    weir_error_t own = {0};
    return weir_reader_fail(weir_checkpoint_list(run, steps, count, &own), &own, error);
}

/* ---- what is in it ---- */

const weir_reader_checkpoint_t *weir_reader_about(const weir_reader_t *reader) {
    return &reader->about;
}

size_t weir_reader_table_count(const weir_reader_t *reader) {
    return reader->table_count;
}

const weir_reader_table_t *weir_reader_table(const weir_reader_t *reader, size_t index) {
    return index < reader->table_count ? &reader->tables[index].about : NULL;
}

const weir_reader_table_t *weir_reader_find_table(const weir_reader_t *reader, const char *name) {
    for (size_t i = 0; i < reader->table_count; i++) {
        if (strcmp(reader->tables[i].name, name) == 0) {
            return &reader->tables[i].about;
        }
    }
    return NULL;
}

uint64_t weir_reader_blocks_checked(const weir_reader_t *reader) {
    return reader->blocks_checked;
}

size_t weir_reader_dense_count(const weir_reader_t *reader, bool state) {
    const weir_tensor_file_t *file = reader->dense[state ? 1 : 0];
    return file == NULL ? 0 : weir_tensor_file_count(file);
}

/* The file's checksum is of the whole. */
static weir_err_t check_dense(weir_reader_t *reader, size_t which, weir_error_t *error) {
    for (size_t i = 0; i < reader->manifest.file_count && !reader->dense_checked[which]; i++) {
        weir_manifest_t alone = {.files = &reader->manifest.files[i], .file_count = 1};
        if (strcmp(alone.files->name, dense_names[which]) == 0) {
            weir_err_t err = weir_manifest_check_files(reader->folder, &alone, true, error);
            if (err != WEIR_OK) {
                return err;
            }
            reader->dense_checked[which] = true;
        }
    }
    return WEIR_OK;
}

int weir_reader_dense(weir_reader_t *reader, bool state, size_t index, weir_reader_tensor_t *tensor,
                      weir_reader_error_t *error) {
    weir_error_t own = {0};
    size_t which = state ? 1 : 0;
    const weir_tensor_t *found =
        reader->dense[which] == NULL ? NULL : weir_tensor_file_at(reader->dense[which], index);
    weir_err_t err = found == NULL
                         ? weir_errorf(&own, WEIR_ERR_NOT_FOUND, "'%s' has no tensor %zu in %s",
                                       reader->folder, index, dense_names[which])
                         : check_dense(reader, which, &own);
    if (err == WEIR_OK && (uintptr_t)found->values % sizeof(float) != 0) {
        err = weir_errorf(&own, WEIR_ERR_CORRUPT, "'%s': tensor '%s' is not aligned",
                          weir_tensor_file_path(reader->dense[which]), found->name);
    }
    if (err == WEIR_OK) {
        *tensor = (weir_reader_tensor_t){.name = found->name,
                                         .dtype = weir_dtype_name(found->dtype),
                                         .rank = found->rank,
                                         .bytes = found->bytes,
                                         .values = found->values};
        memcpy(tensor->shape, found->shape, sizeof tensor->shape);
        _Static_assert((int)WEIR_READER_RANK == (int)WEIR_TENSOR_MAX_RANK, "of every tensor");
    }
    return weir_reader_fail(err, &own, error);
}
