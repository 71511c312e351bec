/* weir inspect prune, fold, reshard, import: checkpoints removed and written anew. */
#include "common/checkpoint.h"
#include "common/config.h"
#include "common/log.h"
#include "tools/inspect.h"
#include "tools/npy.h"
#include "tools/rewrite.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void stop_on(weir_err_t err, const weir_error_t *error) {
    if (err != WEIR_OK) {
        weir_fatal(error);
    }
}

/* ---- prune ---- */

/* What the run's newest checkpoint was configured to keep; 0: not known. */
static uint64_t configured_keep(const char *run) {
    char folder[4096];
    weir_manifest_t manifest = {0};
    weir_config_t config;
    uint64_t keep = 0;
    if (weir_checkpoint_resolve(run, folder, sizeof folder, NULL) == WEIR_OK &&
        weir_manifest_read_one(folder, false, &manifest, NULL) == WEIR_OK) {
        if (weir_config_load_text(manifest.config_yaml, strlen(manifest.config_yaml), folder, NULL,
                                  0, &config, NULL) == WEIR_OK) {
            keep = (uint64_t)config.train.keep_checkpoints;
        }
        weir_manifest_fini(&manifest);
    }
    return keep;
}

int weir_inspect_prune(int argc, char **argv) {
    static const struct argp_option options[] = {
        WEIR_INSPECT_OPTION_JSON,
        {"keep", WEIR_INSPECT_KEEP, "N", 0,
         "the newest N stay (default: train.keep_checkpoints of the run)", 0},
        {"dry-run", WEIR_INSPECT_DRY_RUN, NULL, 0, "say what would go, and remove nothing", 0},
        {0}};
    weir_inspect_t arguments;
    weir_error_t error = {0};
    uint64_t *steps = NULL;
    size_t count = 0;
    weir_inspect_parse(argc, argv, options, "RUN",
                       "Remove old checkpoints, as training itself does. latest, best and whatever "
                       "those that stay build on are never removed.",
                       1, 1, &arguments);
    const char *run = arguments.words[0];
    uint64_t keep = arguments.keep == 0 ? configured_keep(run) : arguments.keep;
    if (keep == 0) {
        stop_on(weir_errorf(&error, WEIR_ERR_INVALID, "it is not known how many to keep: --keep"),
                &error);
    }
    stop_on(weir_checkpoint_unneeded(run, (size_t)keep, &steps, &count, &error), &error);
    if (!arguments.dry_run) {
        stop_on(weir_checkpoint_prune(run, (size_t)keep, &error), &error);
    }
    json_t *all = json_array();
    for (size_t i = 0; i < count; i++) {
        (void)json_array_append_new(all, json_integer((json_int_t)steps[i]));
        if (!arguments.json) {
            (void)printf("%s step %" PRIu64 "\n", arguments.dry_run ? "would remove" : "removed",
                         steps[i]);
        }
    }
    if (count == 0 && !arguments.json) {
        (void)printf("nothing to remove: %" PRIu64
                     " are kept, and what is latest, best or built on\n",
                     keep);
    }
    if (arguments.json) {
        weir_inspect_print_json(json_pack("{s:O, s:b, s:I}", "steps", all, "removed",
                                          !arguments.dry_run, "keep", (json_int_t)keep));
    }
    json_decref(all);
    free(steps);
    return 0;
}

/* ---- reshard ---- */

static void print_result(const weir_inspect_t *arguments, const weir_rewrite_result_t *result,
                         uint64_t given) {
    if (arguments->json) {
        weir_inspect_print_json(json_pack("{s:s, s:I, s:I, s:I, s:I}", "run", arguments->out,
                                          "step", (json_int_t)result->step, "rows",
                                          (json_int_t)result->rows, "given", (json_int_t)given,
                                          "replaced", (json_int_t)result->replaced));
        return;
    }
    (void)printf("%s: step %" PRIu64 ", %" PRIu64 " rows", arguments->out, result->step,
                 result->rows);
    if (given > 0) {
        (void)printf(", %" PRIu64 " of them given, of which %" PRIu64 " had a row before", given,
                     result->replaced);
    }
    (void)putchar('\n');
}

static void want_out(const weir_inspect_t *arguments) {
    weir_error_t error = {0};
    if (arguments->out == NULL) {
        stop_on(weir_errorf(&error, WEIR_ERR_INVALID, "--out is missing: the folder of a run"),
                &error);
    }
}

int weir_inspect_reshard(int argc, char **argv) {
    static const struct argp_option options[] = {
        WEIR_INSPECT_OPTION_JSON,
        {"servers", WEIR_INSPECT_SERVERS, "M", 0, "as M servers would have written it", 0},
        {"out", WEIR_INSPECT_OUT, "RUN", 0, "the run folder to write it into; made", 0},
        {0}};
    weir_inspect_t arguments;
    weir_error_t error = {0};
    weir_rewrite_result_t result = {0};
    weir_inspect_parse(argc, argv, options, "WHERE",
                       "Write a checkpoint anew, full, with the files of another number of "
                       "servers. The rows are the same, byte for byte, and in the same order."
                       "\vTraining reads a checkpoint with any number of servers: nothing needs to "
                       "be resharded for that.",
                       1, 1, &arguments);
    want_out(&arguments);
    if (arguments.servers == 0 || arguments.servers > UINT32_MAX) {
        stop_on(weir_errorf(&error, WEIR_ERR_INVALID, "--servers is missing, or too large"),
                &error);
    }
    const weir_rewrite_options_t rewrite = {.servers = (uint32_t)arguments.servers};
    stop_on(weir_rewrite(arguments.words[0], arguments.out, &rewrite, &result, &error), &error);
    print_result(&arguments, &result, 0);
    return 0;
}

/* ---- fold ---- */

int weir_inspect_fold(int argc, char **argv) {
    static const struct argp_option options[] = {
        WEIR_INSPECT_OPTION_JSON,
        {"out", WEIR_INSPECT_OUT, "RUN", 0,
         "leave WHERE as it is, and write it into this run folder; made", 0},
        {0}};
    weir_inspect_t arguments;
    weir_error_t error = {0};
    weir_rewrite_result_t result = {0};
    weir_inspect_parse(argc, argv, options, "WHERE",
                       "Write a checkpoint that builds on others anew as a full one, the same byte "
                       "for byte as if all had been saved at that step: a run's newest, in its "
                       "place, or with --out any. Bounded memory, whatever the size. No job may "
                       "run on what is replaced.",
                       1, 1, &arguments);
    if (arguments.out == NULL) {
        arguments.out = arguments.words[0];
        stop_on(weir_rewrite_fold(arguments.words[0], &result, &error), &error);
        if (result.rows == 0 && !arguments.json) {
            (void)printf("%s: step %" PRIu64 " builds on none: nothing to fold\n", arguments.out,
                         result.step);
            return 0;
        }
    } else {
        weir_reader_t *reader = weir_inspect_open(arguments.words[0], NULL, NULL);
        const weir_rewrite_options_t rewrite = {.servers = weir_reader_about(reader)->servers};
        weir_reader_close(reader);
        stop_on(weir_rewrite(arguments.words[0], arguments.out, &rewrite, &result, &error), &error);
    }
    print_result(&arguments, &result, 0);
    return 0;
}

/* ---- import ---- */

/* Keys and values of rows to be imported, from two arrays or a safetensors file. */
typedef struct {
    weir_npy_t key_array, value_array;
    weir_tensor_file_t *file;
    const uint64_t *keys;
    const float *values;
    uint64_t rows, dim;
} given_t;

static weir_err_t take_arrays(given_t *given, const char *keys, const char *values,
                              weir_error_t *error) {
    weir_err_t err = weir_npy_open(keys, &given->key_array, error);
    if (err == WEIR_OK) {
        err = weir_npy_open(values, &given->value_array, error);
    }
    if (err != WEIR_OK) {
        return err;
    }
    const weir_npy_t *k = &given->key_array, *v = &given->value_array;
    if ((k->dtype != WEIR_DTYPE_U64 && k->dtype != WEIR_DTYPE_I64) || k->rank != 1 ||
        v->dtype != WEIR_DTYPE_F32 || v->rank != 2 || v->shape[0] != k->shape[0]) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "'%s' and '%s' are not n keys (u8 or i8) and n rows of floats (f4)",
                           keys, values);
    }
    given->keys = k->values;
    given->values = v->values;
    given->rows = v->shape[0];
    given->dim = v->shape[1];
    return WEIR_OK;
}

static weir_err_t take_file(given_t *given, const char *path, weir_error_t *error) {
    weir_err_t err = weir_tensor_file_open(path, &given->file, error);
    if (err != WEIR_OK) {
        return err;
    }
    const weir_tensor_t *keys = weir_tensor_file_find(given->file, "keys"), *values;
    weir_dtype_t dtype =
        keys != NULL && keys->dtype == WEIR_DTYPE_I64 ? WEIR_DTYPE_I64 : WEIR_DTYPE_U64;
    const uint64_t any = UINT64_MAX;
    err = weir_tensor_file_require(given->file, "keys", dtype, 1, &any, &keys, error);
    if (err == WEIR_OK) {
        const uint64_t shape[2] = {keys->shape[0], UINT64_MAX};
        err = weir_tensor_file_require(given->file, "value", WEIR_DTYPE_F32, 2, shape, &values,
                                       error);
    }
    if (err == WEIR_OK) {
        given->keys = keys->values;
        given->values = values->values;
        given->rows = values->shape[0];
        given->dim = values->shape[1];
    }
    return err;
}

static weir_err_t import_rows(const weir_inspect_t *arguments, const given_t *given,
                              uint32_t servers, weir_rewrite_result_t *result,
                              weir_error_t *error) {
    if (given->dim == 0 || given->dim > UINT32_MAX || given->rows > SIZE_MAX / 64) {
        return weir_errorf(error, WEIR_ERR_INVALID, "there are no such rows");
    }
    weir_rewrite_row_t *rows = calloc((size_t)given->rows + 1, sizeof *rows);
    if (rows == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for the keys");
    }
    for (uint64_t i = 0; i < given->rows; i++) {
        rows[i] = (weir_rewrite_row_t){given->keys[i], given->values + i * given->dim};
    }
    const weir_rewrite_options_t options = {.servers = servers,
                                            .table = arguments->table,
                                            .rows = rows,
                                            .row_count = (size_t)given->rows,
                                            .dim = (uint32_t)given->dim};
    weir_err_t err = weir_rewrite(arguments->words[0], arguments->out, &options, result, error);
    free(rows);
    return err;
}

int weir_inspect_import(int argc, char **argv) {
    static const struct argp_option options[] = {
        WEIR_INSPECT_OPTION_JSON,
        WEIR_INSPECT_OPTION_TABLE,
        {"values", WEIR_INSPECT_VALUES, "FILE", 0,
         "the rows: .npy of floats, n x D; or .safetensors with tensors keys and value", 0},
        {"keys", WEIR_INSPECT_KEYS, "FILE", 0, "with .npy: the keys, .npy of n integers", 0},
        {"servers", WEIR_INSPECT_SERVERS, "M", 0,
         "as M servers would have written it (default: as many as wrote WHERE)", 0},
        {"out", WEIR_INSPECT_OUT, "RUN", 0, "the run folder to write it into; made", 0},
        {0}};
    weir_inspect_t arguments;
    weir_error_t error = {0};
    weir_rewrite_result_t result = {0};
    given_t given = {.file = NULL};
    weir_inspect_parse(argc, argv, options, "WHERE",
                       "Write a checkpoint anew, full, with rows trained elsewhere in a table: "
                       "`weir train --resume --run RUN` goes on from it. A key given gets that "
                       "value and the optimiser's state of a new row, whether it had a row or not; "
                       "all others stay as they are.",
                       1, 1, &arguments);
    want_out(&arguments);
    if (arguments.values == NULL) {
        stop_on(weir_errorf(&error, WEIR_ERR_INVALID, "--values is missing"), &error);
    }
    weir_err_t err = arguments.keys == NULL
                         ? take_file(&given, arguments.values, &error)
                         : take_arrays(&given, arguments.keys, arguments.values, &error);
    stop_on(err, &error);
    uint64_t servers = arguments.servers;
    if (servers == 0) {
        weir_reader_t *reader = weir_inspect_open(arguments.words[0], NULL, NULL);
        servers = weir_reader_about(reader)->servers;
        weir_reader_close(reader);
    }
    err = import_rows(&arguments, &given, servers > UINT32_MAX ? 0 : (uint32_t)servers, &result,
                      &error);
    stop_on(err, &error);
    print_result(&arguments, &result, given.rows);
    weir_npy_close(&given.key_array);
    weir_npy_close(&given.value_array);
    weir_tensor_file_close(given.file);
    return 0;
}
