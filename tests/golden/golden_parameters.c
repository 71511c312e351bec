/* The authors' names of the parameters, and how they store them. */
#include "tests/golden/golden_case.h"
#include "worker/transformer.h"

#include <stdio.h>
#include <string.h>

static const char *prefix(golden_kind_t kind) {
    return kind == GOLDEN_PARAMETERS ? "param" : kind == GOLDEN_GRADIENTS ? "grad" : "param_after";
}

void golden_name_table(golden_kind_t kind, char name[GOLDEN_NAME_SIZE]) {
    (void)snprintf(name, GOLDEN_NAME_SIZE, "%s/_embedding_module._item_emb.weight", prefix(kind));
}

weir_err_t golden_read_table(const golden_case_t *golden, golden_kind_t kind, double *table,
                             weir_error_t *error) {
    char name[GOLDEN_NAME_SIZE];
    const void *values = NULL;
    size_t dim = golden->config.embedding_dim;
    golden_name_table(kind, name);
    weir_err_t err =
        golden_require(golden, name, WEIR_DTYPE_F64, golden->items + 1, dim, &values, error);
    if (err == WEIR_OK) {
        memcpy(table, values, (golden->items + 1) * dim * sizeof(double));
    }
    return err;
}

static weir_err_t find_hstu(const golden_case_t *golden, golden_kind_t kind, size_t layer,
                            size_t which, const weir_parameter_t *parameter, golden_place_t *place,
                            weir_error_t *error) {
    static const char *const suffixes[] = {"_uvqk", "_rel_attn_bias._ts_w", "_rel_attn_bias._pos_w",
                                           "_o.weight", "_o.bias"};
    char name[GOLDEN_NAME_SIZE];
    const void *found = NULL;
    bool vector = which == 1 || which == 2 || which == 4, turned = which == 3;
    (void)snprintf(name, sizeof name, "%s/_hstu._attention_layers.%zu.%s", prefix(kind), layer,
                   suffixes[which]);
    weir_err_t err =
        golden_require(golden, name, WEIR_DTYPE_F64, turned ? parameter->cols : parameter->rows,
                       vector ? 0 : (turned ? parameter->rows : parameter->cols), &found, error);
    *place = (golden_place_t){.values = found, .transposed = turned};
    return err;
}

/* The framework's projection of queries, keys and values is one matrix, 3 D x D; a convolution of
 * width 1 is a matrix, out x in x 1. */
static weir_err_t find_sasrec(const golden_case_t *golden, golden_kind_t kind, size_t layer,
                              size_t which, const weir_parameter_t *parameter,
                              golden_place_t *place, weir_error_t *error) {
    static const struct {
        const char *name; /* %zu: the layer */
        bool input, conv; /* the matrix of three; a convolution */
    } stored[] = {{"attention_layers.%zu.in_proj_weight", true, false},
                  {"attention_layers.%zu.in_proj_bias", true, false},
                  {"attention_layers.%zu.in_proj_weight", true, false},
                  {"attention_layers.%zu.in_proj_bias", true, false},
                  {"attention_layers.%zu.out_proj.weight", false, false},
                  {"attention_layers.%zu.out_proj.bias", false, false},
                  {"forward_layers.%zu._conv1d.0.weight", false, true},
                  {"forward_layers.%zu._conv1d.0.bias", false, false},
                  {"forward_layers.%zu._conv1d.3.weight", false, true},
                  {"forward_layers.%zu._conv1d.3.bias", false, false}};
    const weir_tensor_t *tensor = NULL;
    char format[GOLDEN_NAME_SIZE], name[GOLDEN_NAME_SIZE];
    bool matrix = which % 2 == 0;
    size_t dim = golden->config.embedding_dim, out = matrix ? parameter->cols : parameter->rows;
    uint64_t shape[3] = {stored[which].input ? 3 * dim : out, parameter->rows, 1};
    (void)snprintf(format, sizeof format, "%s", stored[which].name);
    char *number = strstr(format, "%zu");
    *number = '\0';
    (void)snprintf(name, sizeof name, "%s/%s%zu%s", prefix(kind), format, layer, number + 3);
    weir_err_t err =
        weir_tensor_file_require(golden->file, name, WEIR_DTYPE_F64,
                                 !matrix ? 1 : (stored[which].conv ? 3 : 2), shape, &tensor, error);
    if (err == WEIR_OK) {
        size_t before = which == 2 ? dim * dim : (which == 3 ? dim : 0); /* behind the queries' */
        *place = (golden_place_t){.values = (const double *)tensor->values + before,
                                  .transposed = matrix};
    }
    return err;
}

weir_err_t golden_find_parameter(const golden_case_t *golden, golden_kind_t kind, size_t index,
                                 golden_place_t *place, weir_error_t *error) {
    weir_parameter_t parameter = weir_encoder_parameter(&golden->config, index);
    bool sasrec = golden->config.kind == WEIR_ENCODER_SASREC;
    if (index == 0) {
        char name[GOLDEN_NAME_SIZE];
        const void *found = NULL;
        (void)snprintf(name, sizeof name, "%s/_input_features_preproc._pos_emb.weight",
                       prefix(kind));
        weir_err_t err = golden_require(golden, name, WEIR_DTYPE_F64, parameter.rows,
                                        parameter.cols, &found, error);
        *place = (golden_place_t){.values = found};
        return err;
    }
    size_t per_layer = (weir_encoder_parameter_count(&golden->config) - 1) / golden->config.blocks;
    size_t layer = (index - 1) / per_layer, which = (index - 1) % per_layer;
    return sasrec ? find_sasrec(golden, kind, layer, which, &parameter, place, error)
                  : find_hstu(golden, kind, layer, which, &parameter, place, error);
}

weir_err_t golden_read_parameter(const golden_case_t *golden, golden_kind_t kind, size_t index,
                                 double *values, weir_error_t *error) {
    golden_place_t place = {0};
    weir_err_t err = golden_find_parameter(golden, kind, index, &place, error);
    if (err != WEIR_OK) {
        return err;
    }
    weir_parameter_t parameter = weir_encoder_parameter(&golden->config, index);
    for (size_t r = 0; r < parameter.rows; r++) {
        for (size_t c = 0; c < parameter.cols; c++) {
            values[r * parameter.cols + c] =
                place.values[place.transposed ? c * parameter.rows + r : r * parameter.cols + c];
        }
    }
    return WEIR_OK;
}
