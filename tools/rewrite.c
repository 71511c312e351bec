#include "tools/rewrite.h"

#include "common/config.h"
#include "common/file.h"
#include "common/run_dir.h"
#include "ps/model_tables.h"
#include "ps/snapshot.h"
#include "tools/rewrite_internal.h"
#include "tools/survey.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- rows from elsewhere ---- */

static int compare_rows(const void *left, const void *right) {
    uint64_t a = weir_hash64(((const weir_rewrite_row_t *)left)->key);
    uint64_t b = weir_hash64(((const weir_rewrite_row_t *)right)->key);
    return (a > b) - (a < b);
}

static weir_err_t check_rows(const weir_rewrite_options_t *options, weir_error_t *error) {
    for (size_t i = 0; i < options->row_count; i++) {
        const weir_rewrite_row_t *row = &options->rows[i];
        if (i > 0 && row->key == row[-1].key) {
            return weir_errorf(error, WEIR_ERR_INVALID, "key %llu is given twice",
                               (unsigned long long)row->key);
        }
        for (uint32_t d = 0; d < options->dim; d++) {
            if (!isfinite(row->values[d])) {
                return weir_errorf(error, WEIR_ERR_INVALID,
                                   "the row of key %llu has a value that is not finite",
                                   (unsigned long long)row->key);
            }
        }
    }
    return WEIR_OK;
}

/* The schema that the checkpoint's own configuration makes: what the job that goes on will have. */
static weir_err_t prepare_import(const char *folder, const weir_manifest_t *manifest,
                                 const weir_rewrite_options_t *options,
                                 weir_rewrite_import_t *import, weir_error_t *error) {
    weir_config_t config;
    weir_row_schema_t schemas[WEIR_MODEL_MAX_TABLES];
    weir_err_t err = weir_config_load_text(manifest->config_yaml, strlen(manifest->config_yaml),
                                           folder, NULL, 0, &config, error);
    if (err != WEIR_OK) {
        return err;
    }
    uint32_t count = weir_model_tables(&config, schemas), t = 0;
    while (t < count && strcmp(schemas[t].name, options->table) != 0) {
        t++;
    }
    if (t == count) {
        return weir_errorf(error, WEIR_ERR_NOT_FOUND, "the model has no table %.64s",
                           options->table);
    }
    if (schemas[t].segments[0].dim != options->dim) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "the rows have %u columns, those of table %s have %u", options->dim,
                           schemas[t].name, schemas[t].segments[0].dim);
    }
    qsort(options->rows, options->row_count, sizeof *options->rows, compare_rows);
    import->schema = schemas[t];
    import->layout = weir_row_layout(&import->schema);
    import->rows = options->rows;
    import->count = options->row_count;
    import->record = calloc(1, import->layout.record_bytes);
    import->scratch = calloc(2 * (size_t)import->layout.dim, sizeof *import->scratch);
    if (import->record == NULL || import->scratch == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory");
    }
    return check_rows(options, error);
}

/* The saved table must be the configured one, or the record would not fit its columns. */
static weir_err_t check_schema(const char *folder, const weir_manifest_t *manifest,
                               const weir_rewrite_import_t *import, weir_error_t *error) {
    char schema[WEIR_SNAPSHOT_SCHEMA_MAX];
    weir_snapshot_chain_t *chain = NULL;
    weir_snapshot_schema(&import->schema, schema, sizeof schema);
    weir_err_t err =
        weir_snapshot_chain_open(folder, manifest, import->schema.name, 0, 1, &chain, error);
    if (err != WEIR_OK) {
        return err;
    }
    const weir_snapshot_file_t *file = weir_snapshot_chain_first(chain);
    const char *saved = weir_tensor_file_metadata(file->file, "schema");
    bool same = saved != NULL && strcmp(saved, schema) == 0 &&
                file->column_count == import->layout.field_count;
    for (uint32_t c = 0; same && c < file->column_count; c++) {
        bool found = false;
        for (uint32_t f = 0; f < import->layout.field_count; f++) {
            const weir_row_field_t *field = &import->layout.fields[f];
            found = found || (strcmp(field->name, file->columns[c].name) == 0 &&
                              field->width == file->columns[c].width &&
                              field->dtype == file->columns[c].dtype);
        }
        same = found;
    }
    weir_snapshot_chain_close(chain);
    return same ? WEIR_OK
                : weir_errorf(error, WEIR_ERR_CORRUPT,
                              "table %s of '%s' is not as its configuration says",
                              import->schema.name, folder);
}

/* ---- files ---- */

static weir_err_t copy_bytes(int from, int to, const char *path, weir_error_t *error) {
    enum { PIECE = 1 << 20 };
    char *piece = malloc(PIECE);
    weir_err_t err = piece == NULL ? weir_errorf(error, WEIR_ERR_MEMORY, "out of memory") : WEIR_OK;
    while (err == WEIR_OK) {
        ssize_t size = read(from, piece, PIECE);
        if (size == 0) {
            break;
        }
        if (size < 0 && errno == EINTR) {
            continue;
        }
        err = size < 0 ? weir_error_from_errno(error, errno, "read '%s'", path)
                       : weir_file_write_all(to, piece, (size_t)size, path, error);
    }
    free(piece);
    return err;
}

static weir_err_t copy_file(const char *from, const char *to, const char *name,
                            weir_error_t *error) {
    char source[WEIR_PATH_MAX], target[WEIR_PATH_MAX];
    int in = -1, out = -1;
    weir_err_t err = weir_path_join(source, sizeof source, from, name, error);
    if (err == WEIR_OK) {
        err = weir_path_join(target, sizeof target, to, name, error);
    }
    if (err == WEIR_OK && (in = open(source, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)) < 0) {
        err = weir_error_from_errno(error, errno, "open '%s'", source);
    }
    if (err == WEIR_OK && (out = open(target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666)) < 0) {
        err = weir_error_from_errno(error, errno, "create '%s'", target);
    }
    if (err == WEIR_OK) {
        err = copy_bytes(in, out, source, error);
    }
    if (err == WEIR_OK && fsync(out) != 0) {
        err = weir_error_from_errno(error, errno, "sync '%s'", target);
    }
    if (in >= 0) {
        (void)close(in);
    }
    if (out >= 0) {
        (void)close(out);
    }
    return err;
}

/* ---- all of it ---- */

typedef struct {
    char source[WEIR_PATH_MAX], folder[WEIR_PATH_MAX];
    weir_manifest_t manifest;      /* as read */
    weir_checkpoint_file_t *files; /* as written; owned */
    size_t file_count;
    weir_rewrite_import_t import;
    const weir_rewrite_options_t *options;
    weir_rewrite_result_t result;
} rewrite_t;

static weir_err_t write_table(rewrite_t *rewrite, const char *table, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    bool imports = rewrite->options->table != NULL && strcmp(table, rewrite->options->table) == 0;
    size_t needed = rewrite->file_count + rewrite->options->servers;
    weir_checkpoint_file_t *grown = realloc(rewrite->files, needed * sizeof *grown);
    if (grown == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory");
    }
    rewrite->files = grown;
    for (uint32_t i = 0; i < rewrite->options->servers && err == WEIR_OK; i++) {
        err = weir_rewrite_shard(rewrite->source, &rewrite->manifest, table, i,
                                 rewrite->options->servers, imports ? &rewrite->import : NULL,
                                 rewrite->folder, &grown[rewrite->file_count],
                                 &rewrite->result.rows, error);
        rewrite->file_count += err == WEIR_OK ? 1 : 0;
    }
    return err;
}

static weir_err_t write_files(rewrite_t *rewrite, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    for (size_t i = 0; i < rewrite->manifest.file_count && err == WEIR_OK; i++) {
        const weir_checkpoint_file_t *file = &rewrite->manifest.files[i];
        char table[WEIR_SURVEY_TABLE_NAME];
        uint32_t index = 0, shards;
        if (weir_survey_parse_shard(file->name, table, &index, &shards)) {
            err = index == 0 ? write_table(rewrite, table, error) : WEIR_OK;
            continue;
        }
        weir_checkpoint_file_t *grown =
            realloc(rewrite->files, (rewrite->file_count + 1) * sizeof *grown);
        if (grown == NULL) {
            return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory");
        }
        rewrite->files = grown;
        grown[rewrite->file_count++] = *file;
        err = copy_file(rewrite->source, rewrite->folder, file->name, error);
    }
    return err;
}

/* What `weir train --resume` wants beside the checkpoint. */
static weir_err_t write_config(const char *run, const char *yaml, weir_error_t *error) {
    char path[WEIR_PATH_MAX];
    weir_err_t err = weir_path_join(path, sizeof path, run, "config.yaml", error);
    return err != WEIR_OK || weir_file_exists(path)
               ? err
               : weir_file_replace(path, yaml, strlen(yaml), error);
}

static weir_err_t check_target(const char *run, uint64_t step, weir_error_t *error) {
    uint64_t *steps = NULL;
    size_t count = 0;
    weir_err_t err = weir_file_exists(run) ? weir_checkpoint_list(run, &steps, &count, error)
                                           : weir_file_make_directories(run, error);
    for (size_t i = 0; i < count && err == WEIR_OK; i++) {
        if (steps[i] == step) {
            err = weir_errorf(error, WEIR_ERR_EXISTS, "'%s' has a checkpoint of step %llu", run,
                              (unsigned long long)step);
        }
    }
    free(steps);
    return err;
}

weir_err_t weir_rewrite(const char *where, const char *run, const weir_rewrite_options_t *options,
                        weir_rewrite_result_t *result, weir_error_t *error) {
    rewrite_t rewrite = {.options = options};
    if (options->servers < 1 || options->servers > WEIR_SLOT_COUNT) {
        return weir_errorf(error, WEIR_ERR_INVALID, "there can be 1 to %d servers",
                           WEIR_SLOT_COUNT);
    }
    weir_err_t err = weir_checkpoint_resolve(where, rewrite.source, sizeof rewrite.source, error);
    if (err == WEIR_OK) { /* no damage is copied under a checksum of its own */
        err = weir_manifest_read(rewrite.source, true, &rewrite.manifest, error);
    }
    if (err == WEIR_OK && options->table != NULL) {
        err = prepare_import(rewrite.source, &rewrite.manifest, options, &rewrite.import, error);
    }
    if (err == WEIR_OK && options->table != NULL) {
        err = check_schema(rewrite.source, &rewrite.manifest, &rewrite.import, error);
    }
    if (err == WEIR_OK && !options->replace) {
        err = check_target(run, rewrite.manifest.step, error);
    }
    if (err == WEIR_OK) {
        err = weir_checkpoint_begin(run, rewrite.manifest.step, rewrite.folder,
                                    sizeof rewrite.folder, error);
    }
    if (err == WEIR_OK) {
        err = write_files(&rewrite, error);
    }
    if (err == WEIR_OK) {
        err = write_config(run, rewrite.manifest.config_yaml, error);
    }
    if (err == WEIR_OK) {
        weir_manifest_t made = rewrite.manifest;
        made.base = made.base_self = 0;
        made.ps = options->servers;
        made.files = rewrite.files;
        made.file_count = rewrite.file_count;
        err = weir_checkpoint_publish(run, &made, false, error);
    }
    if (err == WEIR_OK) {
        rewrite.result.step = rewrite.manifest.step;
        rewrite.result.replaced = rewrite.import.replaced;
        *result = rewrite.result;
    } else if (rewrite.folder[0] != '\0') {
        (void)!weir_file_remove_directory(rewrite.folder, NULL);
    }
    free(rewrite.import.record);
    free(rewrite.import.scratch);
    free(rewrite.files);
    weir_manifest_fini(&rewrite.manifest);
    return err;
}

weir_err_t weir_rewrite_fold(const char *run, weir_rewrite_result_t *result, weir_error_t *error) {
    char folder[WEIR_PATH_MAX];
    weir_manifest_t manifest = {0};
    weir_run_lock_t lock = {.fd = -1};
    uint64_t *steps = NULL;
    size_t count = 0;
    weir_err_t err = weir_checkpoint_list(run, &steps, &count, error);
    if (err == WEIR_OK && count == 0) {
        err = weir_errorf(error, WEIR_ERR_NOT_FOUND, "run '%s' has no checkpoint", run);
    }
    if (err == WEIR_OK) {
        err = weir_run_dir_acquire(run, true, &lock, error);
    }
    if (err == WEIR_OK) {
        char name[32], checkpoints[WEIR_PATH_MAX];
        weir_checkpoint_step_name(steps[count - 1], name);
        err = weir_path_join(checkpoints, sizeof checkpoints, run, "checkpoints", error);
        if (err == WEIR_OK) {
            err = weir_path_join(folder, sizeof folder, checkpoints, name, error);
        }
    }
    if (err == WEIR_OK) {
        err = weir_manifest_read_one(folder, false, &manifest, error);
    }
    *result = (weir_rewrite_result_t){.step = manifest.step};
    if (err == WEIR_OK && manifest.base != 0) {
        const weir_rewrite_options_t options = {.servers = manifest.ps, .replace = true};
        err = weir_rewrite(folder, run, &options, result, error);
    }
    weir_run_dir_release(run, &lock);
    weir_manifest_fini(&manifest);
    free(steps);
    return err;
}
