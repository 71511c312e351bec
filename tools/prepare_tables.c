/* weir prepare tables: a log and tables of features, as a schema file says. */
#include "common/file.h"
#include "common/log.h"
#include "tools/prepare.h"
#include "tools/tables.h"

#include <stdlib.h>
#include <string.h>

enum { SCHEMA_LIMIT = 1 << 20 };

typedef struct {
    const char *schema, *folder;
    weir_prepare_options_t common;
} arguments_t;

static const struct argp_option options[] = {
    {"schema", 's', "FILE", 0, "which columns of which files are what, in YAML", 0},
    {"folder", 'f', "FOLDER", 0, "where the schema's files are; default: beside the schema", 0},
    {0},
};

static error_t parse_option(int option, char *value, struct argp_state *state) {
    arguments_t *arguments = state->input;
    switch (option) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &arguments->common;
        return 0;
    case 's':
        arguments->schema = value;
        return 0;
    case 'f':
        arguments->folder = value;
        return 0;
    case ARGP_KEY_END:
        if (arguments->schema == NULL) {
            argp_error(state, "--schema FILE is missing");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* Where a file of the schema is: absolute, in --folder, or beside the schema. */
static weir_err_t locate(const arguments_t *arguments, const char *path, char out[WEIR_PATH_MAX],
                         weir_error_t *error) {
    const char *slash = strrchr(arguments->schema, '/');
    char folder[WEIR_PATH_MAX] = ".";
    size_t size = slash != NULL ? (size_t)(slash - arguments->schema) + 1 : 0;
    if (size >= sizeof folder) {
        return weir_errorf(error, WEIR_ERR_INVALID, "%.80s...: the path is too long",
                           arguments->schema);
    }
    if (size > 0) {
        memcpy(folder, arguments->schema, size);
        folder[size] = '\0';
    }
    if (path[0] == '/' || strcmp(path, "-") == 0) {
        memcpy(out, path, strlen(path) + 1); /* at most WEIR_SCHEMA_TEXT */
        return WEIR_OK;
    }
    return weir_path_join(out, WEIR_PATH_MAX,
                          arguments->folder != NULL ? arguments->folder : folder, path, error);
}

/* The log when `file` is NULL. */
static weir_err_t read_one(const arguments_t *arguments, const weir_schema_t *schema,
                           weir_tables_t *tables, const weir_schema_file_t *file,
                           const weir_tables_out_t *out, weir_error_t *error) {
    char path[WEIR_PATH_MAX];
    weir_input_t input;
    weir_err_t err = locate(arguments, file != NULL ? file->path : schema->log.path, path, error);
    if (err == WEIR_OK) {
        err = weir_input_open(path, &input, error);
    }
    if (err != WEIR_OK) {
        return err;
    }
    err = file != NULL ? weir_tables_read_file(tables, file, &input, out, error)
                       : weir_tables_read_log(tables, &input, out, error);
    weir_input_close(&input);
    return err;
}

static weir_err_t read_all(const arguments_t *arguments, const weir_schema_t *schema,
                           weir_tables_t *tables, weir_prepare_t *prepare, weir_error_t *error) {
    weir_tables_out_t out = {.users = prepare->users,
                             .items = prepare->items,
                             .log = &prepare->log,
                             .bad = &prepare->bad,
                             .lines = &prepare->lines};
    prepare->columns = weir_tables_columns(tables);
    prepare->values = weir_tables_values(tables);
    prepare->log.width = weir_dataset_writer_width(prepare->columns);
    weir_err_t err = read_one(arguments, schema, tables, NULL, &out, error);
    for (size_t i = 0; err == WEIR_OK && i < schema->file_count; i++) {
        err = read_one(arguments, schema, tables, &schema->files[i], &out, error);
    }
    return err == WEIR_OK ? weir_tables_finish(tables, &out, error) : err;
}

/* `*text` (caller frees) is what was read. */
static weir_err_t load_schema(const char *path, weir_schema_t *schema, char **text,
                              weir_error_t *error) {
    size_t size = 0;
    weir_err_t err = weir_file_read(path, SCHEMA_LIMIT, text, &size, error);
    return err == WEIR_OK ? weir_schema_parse(*text, size, path, schema, error) : err;
}

int weir_prepare_tables(int argc, char **argv) {
    static const struct argp_child children[] = {{&weir_prepare_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        options,
        parse_option,
        NULL,
        "Prepare data for ranking: a log in CSV or JSON lines with actions, numbers and context, "
        "and tables of features of items and users, as a schema says.",
        children,
        NULL,
        NULL};
    arguments_t arguments = {0};
    weir_error_t error = {0};
    weir_prepare_t prepare = {0};
    weir_tables_t *tables = NULL;
    char *text = NULL;
    (void)argp_parse(&argp, argc, argv, 0, NULL, &arguments);

    const weir_prepare_options_t *common = &arguments.common;
    weir_schema_t *schema = malloc(sizeof *schema);
    weir_err_t err = schema == NULL ? weir_errorf(&error, WEIR_ERR_MEMORY, "out of memory")
                                    : load_schema(arguments.schema, schema, &text, &error);
    if (err == WEIR_OK) {
        err = weir_dataset_writer_check(common->out, common->force, &error);
    }
    if (err == WEIR_OK) {
        err = weir_prepare_init(&prepare, common->strict, &error);
    }
    if (err == WEIR_OK) {
        err = weir_tables_create(schema, &tables, &error);
    }
    if (err == WEIR_OK) {
        err = read_all(&arguments, schema, tables, &prepare, &error);
    }
    prepare.schema = text;
    if (err == WEIR_OK) {
        err = weir_prepare_finish(&prepare, common, schema->log.path, &error);
    }
    weir_prepare_fini(&prepare);
    weir_tables_destroy(tables);
    free(schema);
    free(text);
    if (err != WEIR_OK) {
        weir_fatal(&error);
    }
    return 0;
}
