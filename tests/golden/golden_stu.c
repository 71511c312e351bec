/* The production layer against a file of model "stu_layer". */
#include "tests/golden/golden_case.h"
#include "tests/golden/golden_internal.h"
#include "worker/bf16.h"
#include "worker/stu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_SIZE = 128 };

typedef struct {
    const weir_tensor_file_t *file;
    golden_report_t *report;
    weir_stu_config_t config;
    size_t users, tokens;
    size_t *offsets;   /* B + 1 */
    uint32_t *targets; /* B */
    weir_real_t *parameters, *d_parameters;
    weir_real_t *x, *out, *d_out, *d_x; /* T x D */
} layer_case_t;

static weir_err_t read_config(layer_case_t *layer, bool bf16, weir_error_t *error) {
    weir_stu_config_t *config = &layer->config;
    const struct {
        const char *key;
        size_t least;
        size_t *value;
    } sizes[] = {{"embedding_dim", 1, &config->embedding_dim},
                 {"num_heads", 1, &config->heads},
                 {"dqk", 1, &config->dqk},
                 {"dv", 1, &config->dv},
                 {"contextual_length", 0, &config->contextual},
                 {"max_attn_len", 0, &config->window},
                 {"min_full_attn_len", 0, &config->full_at_end}};
    weir_err_t err = WEIR_OK;
    for (size_t i = 0; err == WEIR_OK && i < sizeof sizes / sizeof *sizes; i++) {
        err = golden_size(layer->file, sizes[i].key, sizes[i].least, sizes[i].value, error);
    }
    if (err == WEIR_OK) {
        err = golden_number(layer->file, "attention_divisor", &config->divisor, error);
    }
    if (err == WEIR_OK) {
        err = golden_number(layer->file, "alpha", &config->score_scale, error);
    }
    if (err == WEIR_OK) {
        err = golden_constant(layer->file, "norm_eps", WEIR_LAYER_NORM_EPSILON, error);
    }
    if (err == WEIR_OK) {
        err = golden_constant(layer->file, "group_norm", 0, error);
    }
    config->blocks = 1;
    config->bf16 = bf16;
    return err;
}

static weir_err_t read_users(layer_case_t *layer, weir_error_t *error) {
    const weir_tensor_t *lengths = NULL, *targets = NULL;
    uint64_t users = UINT64_MAX;
    weir_err_t err = weir_tensor_file_require(layer->file, "lengths", WEIR_DTYPE_I64, 1, &users,
                                              &lengths, error);
    if (err == WEIR_OK) {
        users = lengths->elements;
        err = weir_tensor_file_require(layer->file, "num_targets", WEIR_DTYPE_I64, 1, &users,
                                       &targets, error);
    }
    if (err != WEIR_OK) {
        return err;
    }
    layer->users = (size_t)users;
    layer->offsets = calloc(layer->users + 1, sizeof *layer->offsets);
    layer->targets = calloc(layer->users + 1, sizeof *layer->targets);
    if (layer->offsets == NULL || layer->targets == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for %zu users", layer->users);
    }
    for (size_t u = 0; u < layer->users; u++) {
        int64_t length = ((const int64_t *)lengths->values)[u];
        int64_t count = ((const int64_t *)targets->values)[u];
        if (length < 1 || length > 1 << 20 || count < 0 || count > length) {
            return weir_errorf(error, WEIR_ERR_CORRUPT,
                               "'%s': user %zu has %lld tokens and %lld "
                               "targets",
                               weir_tensor_file_path(layer->file), u, (long long)length,
                               (long long)count);
        }
        layer->offsets[u + 1] = layer->offsets[u] + (size_t)length;
        layer->targets[u] = (uint32_t)count;
        if ((size_t)length > layer->config.max_tokens) {
            layer->config.max_tokens = (size_t)length;
        }
    }
    layer->tokens = layer->offsets[layer->users];
    return WEIR_OK;
}

/* Float64 values of shape rows x columns, or of `rows` alone. */
static weir_err_t require(const layer_case_t *layer, const char *name, size_t rows, size_t columns,
                          const double **values, weir_error_t *error) {
    const weir_tensor_t *tensor = NULL;
    uint64_t shape[2] = {rows, columns};
    weir_err_t err = weir_tensor_file_require(layer->file, name, WEIR_DTYPE_F64,
                                              columns == 1 ? 1 : 2, shape, &tensor, error);
    if (err == WEIR_OK) {
        *values = tensor->values;
    }
    return err;
}

static weir_err_t read_values(const layer_case_t *layer, const char *name, size_t rows,
                              size_t columns, weir_real_t *to, weir_error_t *error) {
    const double *values = NULL;
    weir_err_t err = require(layer, name, rows, columns, &values, error);
    for (size_t i = 0; err == WEIR_OK && i < rows * columns; i++) {
        to[i] = (weir_real_t)values[i];
    }
    return err;
}

static weir_err_t compare(const layer_case_t *layer, const char *name, size_t rows, size_t columns,
                          const weir_real_t *got, weir_error_t *error) {
    const double *expected = NULL;
    weir_err_t err = require(layer, name, rows, columns, &expected, error);
    if (err == WEIR_OK) {
        golden_compare(layer->report, name, got, expected, rows, columns, NULL);
    }
    return err;
}

/* "param/uvqk_weight" of our "layer.0.uvqk". */
static void name_parameter(const char *prefix, const weir_parameter_t *parameter, char *name) {
    const char *own = strrchr(parameter->name, '.') + 1;
    (void)snprintf(name, NAME_SIZE, "%s/%s%s", prefix, own,
                   strcmp(own, "uvqk") == 0 ? "_weight" : "");
}

static weir_err_t read_layer(layer_case_t *layer, weir_error_t *error) {
    size_t dim = layer->config.embedding_dim, row = dim * sizeof(weir_real_t);
    size_t elements = weir_stu_parameter_elements(&layer->config);
    layer->parameters = calloc(elements, sizeof *layer->parameters);
    layer->d_parameters = calloc(elements, sizeof *layer->d_parameters);
    weir_real_t **tokens[] = {&layer->x, &layer->out, &layer->d_out, &layer->d_x};
    bool complete = layer->parameters != NULL && layer->d_parameters != NULL;
    for (size_t i = 0; i < 4; i++) {
        *tokens[i] = calloc(layer->tokens + 1, row);
        complete = complete && *tokens[i] != NULL;
    }
    if (!complete) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for %zu tokens", layer->tokens);
    }
    weir_err_t err = read_values(layer, "input/x", layer->tokens, dim, layer->x, error);
    if (err == WEIR_OK) {
        err = read_values(layer, "grad_output", layer->tokens, dim, layer->d_out, error);
    }
    for (size_t i = 0; err == WEIR_OK && i < weir_stu_parameter_count(&layer->config); i++) {
        weir_parameter_t parameter = weir_stu_parameter(&layer->config, i);
        char name[NAME_SIZE];
        name_parameter("param", &parameter, name);
        err = read_values(layer, name, parameter.rows, parameter.cols,
                          layer->parameters + parameter.offset, error);
    }
    return err;
}

static weir_err_t run_layer(layer_case_t *layer, weir_error_t *error) {
    const weir_stu_batch_t batch = {.users = layer->users,
                                    .tokens = layer->tokens,
                                    .offsets = layer->offsets,
                                    .targets = layer->targets};
    const weir_forward_mode_t mode = {.train = true};
    size_t dim = layer->config.embedding_dim;
    weir_stu_t *stu = NULL;
    weir_err_t err = weir_stu_create(&layer->config, &stu, error);
    if (err == WEIR_OK) {
        err = weir_stu_forward(stu, layer->parameters, &batch, layer->x, mode, layer->out, error);
    }
    if (err == WEIR_OK) {
        err = compare(layer, "attention_output", layer->tokens,
                      layer->config.heads * layer->config.dv, weir_stu_attention_output(stu, 0),
                      error);
    }
    if (err == WEIR_OK) {
        err = compare(layer, "output", layer->tokens, dim, layer->out, error);
    }
    if (err == WEIR_OK) {
        err = weir_stu_backward(stu, layer->d_out, layer->d_x, layer->d_parameters, NULL, NULL,
                                error);
    }
    if (err == WEIR_OK) {
        err = compare(layer, "grad/x", layer->tokens, dim, layer->d_x, error);
    }
    for (size_t i = 0; err == WEIR_OK && i < weir_stu_parameter_count(&layer->config); i++) {
        weir_parameter_t parameter = weir_stu_parameter(&layer->config, i);
        char name[NAME_SIZE];
        name_parameter("grad", &parameter, name);
        err = compare(layer, name, parameter.rows, parameter.cols,
                      layer->d_parameters + parameter.offset, error);
    }
    weir_stu_destroy(stu);
    return err;
}

weir_err_t golden_run_stu(const weir_tensor_file_t *file, bool bf16, golden_report_t *report,
                          weir_error_t *error) {
    layer_case_t layer = {.file = file, .report = report};
    report->tolerance = bf16 ? 16 * WEIR_BF16_UNIT : GOLDEN_TOLERANCE;
    weir_err_t err = read_config(&layer, bf16, error);
    if (err == WEIR_OK) {
        err = read_users(&layer, error);
    }
    if (err == WEIR_OK) {
        err = read_layer(&layer, error);
    }
    if (err == WEIR_OK) {
        err = run_layer(&layer, error);
    }
    void *blocks[] = {layer.offsets, layer.targets, layer.parameters, layer.d_parameters,
                      layer.x,       layer.out,     layer.d_out,      layer.d_x};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        free(blocks[i]);
    }
    return err;
}
