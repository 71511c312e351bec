#include "tests/golden/golden_run.h"
#include "tests/golden/golden_internal.h"
#include "worker/bf16.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *allocate(size_t count, size_t size, bool *complete) {
    void *block = calloc(count + 1, size);
    *complete = *complete && block != NULL;
    return block;
}

static weir_err_t init_model(golden_model_t *model, weir_error_t *error) {
    const golden_case_t *golden = model->golden;
    size_t tokens = golden->tokens, real = sizeof(weir_real_t);
    bool complete = true;
    model->dim = golden->config.embedding_dim;
    model->rows = golden->items + 1;
    model->dense = weir_encoder_parameter_elements(&golden->config);
    weir_real_t **dense[] = {&model->parameters, &model->d_parameters, &model->moments1,
                             &model->moments2};
    weir_real_t **table[] = {&model->table, &model->d_table, &model->table_moments1,
                             &model->table_moments2};
    weir_real_t **token[] = {&model->items, &model->d_items, &model->encoded, &model->d_encoded};
    for (size_t i = 0; i < 4; i++) {
        *dense[i] = allocate(model->dense, real, &complete);
        *table[i] = allocate(model->rows * model->dim, real, &complete);
        *token[i] = allocate(tokens * model->dim, real, &complete);
    }
    size_t largest =
        model->dense > model->rows * model->dim ? model->dense : model->rows * model->dim;
    model->expected = allocate(largest, sizeof(double), &complete);
    model->settled = allocate(largest, sizeof(bool), &complete);
    model->touched = allocate(model->rows, sizeof(bool), &complete);
    if (!complete) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for %zu parameters",
                           model->dense);
    }
    weir_err_t err = weir_kernels_select(&model->kernels, error);
    if (err == WEIR_OK) {
        err = weir_encoder_create(&golden->config, &model->encoder, error);
    }
    return err == WEIR_OK ? weir_loss_create(&model->loss, error) : err;
}

static void fini_model(golden_model_t *model) {
    void *blocks[] = {model->parameters,     model->d_parameters,   model->moments1,
                      model->moments2,       model->table,          model->d_table,
                      model->table_moments1, model->table_moments2, model->items,
                      model->d_items,        model->encoded,        model->d_encoded,
                      model->expected,       model->touched,        model->settled};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        free(blocks[i]);
    }
    weir_encoder_destroy(model->encoder);
    weir_loss_destroy(model->loss);
}

/* `mask`: rows of `width` that count; NULL: all. */
void golden_compare(golden_report_t *report, const char *name, const weir_real_t *got,
                    const double *expected, size_t rows, size_t width, const bool *mask) {
    double worst = 0.0, largest = 0.0;
    for (size_t i = 0; i < rows * width; i++) {
        if (mask == NULL || mask[i / width]) {
            double difference = fabs((double)got[i] - expected[i]);
            worst = difference > worst || isnan(difference) ? difference : worst;
            largest = fmax(largest, fabs(expected[i]));
        }
    }
    double relative = largest > 0.0 ? worst / largest : (worst == 0.0 ? 0.0 : (double)INFINITY);
    bool bad = !(relative <= report->tolerance);
    report->compared++;
    report->failed += bad ? 1 : 0;
    if (bad) {
        (void)printf("    %s: error %.3g of the largest value %.3g, over %g\n", name, relative,
                     largest, report->tolerance);
    }
    if (relative > report->worst || isnan(relative)) {
        report->worst = relative;
        (void)snprintf(report->worst_name, sizeof report->worst_name, "%s", name);
    }
}

/* Dense parameters and table from the file. */
static weir_err_t read_model(golden_model_t *model, golden_kind_t kind, weir_error_t *error) {
    const golden_case_t *golden = model->golden;
    weir_err_t err = golden_read_table(golden, kind, model->expected, error);
    for (size_t i = 0; err == WEIR_OK && i < model->rows * model->dim; i++) {
        model->table[i] = (weir_real_t)model->expected[i];
    }
    for (size_t p = 0; err == WEIR_OK && p < weir_encoder_parameter_count(&golden->config); p++) {
        weir_parameter_t parameter = weir_encoder_parameter(&golden->config, p);
        err = golden_read_parameter(golden, kind, p, model->expected, error);
        for (size_t i = 0; err == WEIR_OK && i < parameter.rows * parameter.cols; i++) {
            model->parameters[parameter.offset + i] = (weir_real_t)model->expected[i];
        }
    }
    return err;
}

/* Elements of a parameter that can be compared after the steps: not those whose gradient is nothing
 * but rounding on either side, as of the bias of keys under a softmax, since AdamW makes steps of
 * any size of it. */
static weir_err_t find_settled(golden_model_t *model, size_t index, size_t offset, size_t count,
                               weir_error_t *error) {
    weir_err_t err =
        golden_read_parameter(model->golden, GOLDEN_GRADIENTS, index, model->expected, error);
    double largest = 0.0;
    for (size_t i = 0; err == WEIR_OK && i < count; i++) {
        largest = fmax(largest, fabs(model->expected[i]));
    }
    for (size_t i = 0; err == WEIR_OK && i < count; i++) {
        double expected = fabs(model->expected[i]), floor = GOLDEN_ROUNDING * largest;
        double got = fabs((double)model->d_parameters[offset + i]);
        bool still = expected == 0.0 && got == 0.0;
        model->settled[i] = still || expected > floor || got > floor;
    }
    return err;
}

/* Dense values against the file's; the table's rows where `mask`. */
static weir_err_t compare_model(golden_model_t *model, golden_kind_t kind, const weir_real_t *dense,
                                const weir_real_t *table, const bool *mask, weir_error_t *error) {
    const golden_case_t *golden = model->golden;
    const char *what = kind == GOLDEN_GRADIENTS ? "grad" : "param_after";
    char name[128];
    weir_err_t err = golden_read_table(golden, kind, model->expected, error);
    if (err != WEIR_OK) {
        return err;
    }
    (void)snprintf(name, sizeof name, "%s of the item table", what);
    golden_compare(model->report, name, table, model->expected, model->rows, model->dim, mask);
    for (size_t p = 0; err == WEIR_OK && p < weir_encoder_parameter_count(&golden->config); p++) {
        weir_parameter_t parameter = weir_encoder_parameter(&golden->config, p);
        size_t count = parameter.rows * parameter.cols;
        if (kind == GOLDEN_AFTER) {
            err = find_settled(model, p, parameter.offset, count, error);
        }
        if (err == WEIR_OK) {
            err = golden_read_parameter(golden, kind, p, model->expected, error);
        }
        if (err == WEIR_OK) {
            (void)snprintf(name, sizeof name, "%s of %s", what, parameter.name);
            golden_compare(model->report, name, dense + parameter.offset, model->expected, count, 1,
                           kind == GOLDEN_AFTER ? model->settled : NULL);
        }
    }
    return err;
}

weir_err_t golden_encode(golden_model_t *model, weir_error_t *error) {
    const golden_case_t *golden = model->golden;
    const weir_sequence_batch_t batch = {.users = golden->users,
                                         .tokens = golden->tokens,
                                         .offsets = golden->offsets,
                                         .times = golden->times,
                                         .next_times = golden->next_times};
    const weir_forward_mode_t mode = {.train = false};
    for (size_t t = 0; t < golden->tokens; t++) {
        memcpy(model->items + t * model->dim, model->table + golden->item_rows[t] * model->dim,
               model->dim * sizeof(weir_real_t));
    }
    return weir_encoder_forward(model->encoder, model->parameters, &batch, model->items, mode,
                                model->encoded, error);
}

/* Gradients of everything at the present parameters. */
static weir_err_t differentiate(golden_model_t *model, double *mean_loss, weir_error_t *error) {
    const golden_case_t *golden = model->golden;
    size_t dim = model->dim;
    double sum = 0.0;
    const weir_loss_batch_t batch = {.tokens = golden->tokens,
                                     .rows = model->rows,
                                     .dim = dim,
                                     .negatives = golden->negatives,
                                     .targets = golden->target_rows,
                                     .negative_rows = golden->negative_rows,
                                     .temperature = golden->temperature,
                                     .scale = 1.0 / (double)golden->tokens};
    weir_err_t err = golden_encode(model, error);
    if (err == WEIR_OK) {
        err = weir_loss_per_token(model->loss, &batch, model->encoded, model->table, &sum,
                                  model->d_encoded, model->d_table, error);
    }
    if (err == WEIR_OK) {
        err = weir_encoder_backward(model->encoder, model->parameters, model->d_encoded,
                                    model->d_items, model->d_parameters, NULL, NULL, error);
    }
    if (err != WEIR_OK) {
        return err;
    }
    for (size_t t = 0; t < golden->tokens; t++) {
        for (size_t d = 0; d < dim; d++) {
            model->d_table[golden->item_rows[t] * dim + d] += model->d_items[t * dim + d];
        }
    }
    *mean_loss = sum / (double)golden->tokens;
    return WEIR_OK;
}

/* Dense parameters, and of the table the rows that the batch touches, as the servers do. */
static void update(golden_model_t *model, uint64_t step) {
    const golden_case_t *golden = model->golden;
    weir_adamw_t adamw = weir_adamw_at(step, golden->learning_rate, golden->beta1, golden->beta2,
                                       golden->adam_epsilon, golden->weight_decay);
    model->kernels->adamw(&adamw, model->d_parameters, model->parameters, model->moments1,
                          model->moments2, model->dense);
    for (size_t row = 0; row < model->rows; row++) {
        size_t at = row * model->dim;
        if (model->touched[row]) {
            model->kernels->adamw(&adamw, model->d_table + at, model->table + at,
                                  model->table_moments1 + at, model->table_moments2 + at,
                                  model->dim);
        }
    }
}

static void mark_touched(golden_model_t *model) {
    const golden_case_t *golden = model->golden;
    for (size_t t = 0; t < golden->tokens; t++) {
        model->touched[golden->item_rows[t]] = true;
        model->touched[golden->target_rows[t]] = true;
        for (size_t r = 0; r < golden->negatives; r++) {
            model->touched[golden->negative_rows[t * golden->negatives + r]] = true;
        }
    }
}

/* Rows of the table comparable after the steps: with weight decay those that have a gradient, since
 * the authors' dense optimiser decays the others too. */
static weir_err_t find_comparable(golden_model_t *model, bool *comparable, weir_error_t *error) {
    weir_err_t err = golden_read_table(model->golden, GOLDEN_GRADIENTS, model->expected, error);
    for (size_t i = 0; err == WEIR_OK && i < model->rows * model->dim; i++) {
        size_t row = i / model->dim;
        comparable[row] =
            comparable[row] || model->golden->weight_decay == 0.0 || model->expected[i] != 0.0;
    }
    return err;
}

static weir_err_t run_steps(golden_model_t *model, weir_error_t *error) {
    const golden_case_t *golden = model->golden;
    const void *losses = NULL, *encoded = NULL;
    double loss = 0.0;
    bool *comparable = NULL;
    weir_err_t err =
        golden_require(golden, "losses", WEIR_DTYPE_F64, golden->steps, 0, &losses, error);
    if (err == WEIR_OK) {
        err = golden_require(golden, "encoder_output", WEIR_DTYPE_F64, golden->tokens, model->dim,
                             &encoded, error);
    }
    for (size_t step = 1; err == WEIR_OK && step <= (GOLDEN_TRAJECTORY ? golden->steps : 1);
         step++) {
        err = differentiate(model, &loss, error);
        if (err != WEIR_OK) {
            return err;
        }
        weir_real_t rounded = (weir_real_t)loss;
        golden_compare(model->report, "loss", &rounded, (const double *)losses + step - 1, 1, 1,
                       NULL);
        if (step == 1) {
            golden_compare(model->report, "encoder_output", model->encoded, encoded, golden->tokens,
                           model->dim, NULL);
            err = compare_model(model, GOLDEN_GRADIENTS, model->d_parameters, model->d_table, NULL,
                                error);
        }
        update(model, step);
    }
    comparable = calloc(model->rows, sizeof *comparable);
    if (err == WEIR_OK && comparable == NULL) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for %zu rows", model->rows);
    }
    if (err == WEIR_OK && GOLDEN_TRAJECTORY) {
        err = find_comparable(model, comparable, error);
    }
    if (err == WEIR_OK && GOLDEN_TRAJECTORY) {
        err =
            compare_model(model, GOLDEN_AFTER, model->parameters, model->table, comparable, error);
    }
    free(comparable);
    return err;
}

/* In bfloat16 an operand of a product is off by 2^-8 at the most. A layer's forward has four
 * products in a row (projection, scores, values, output) and SASRec's two more, its backward as
 * many: sixteen operands or 24, and errors that neither cancel nor grow add up to so many times
 * that a layer. */
static double golden_tolerance(const weir_encoder_config_t *config) {
    double operands = config->kind == WEIR_ENCODER_HSTU ? 16.0 : 24.0;
    return config->bf16 ? WEIR_BF16_UNIT * operands * (double)config->blocks : GOLDEN_TOLERANCE;
}

weir_err_t golden_run(const golden_case_t *golden, golden_report_t *report, weir_error_t *error) {
    golden_model_t model = {.golden = golden, .report = report};
    *report = (golden_report_t){.tolerance = golden_tolerance(&golden->config)};
    weir_err_t err = init_model(&model, error);
    if (err == WEIR_OK) {
        err = read_model(&model, GOLDEN_PARAMETERS, error);
    }
    if (err == WEIR_OK) {
        mark_touched(&model);
        err = run_steps(&model, error);
    }
    if (err == WEIR_OK && !GOLDEN_TRAJECTORY) {
        err = read_model(&model, GOLDEN_AFTER, error);
    }
    if (err == WEIR_OK) {
        err = golden_evaluate(&model, error);
    }
    fini_model(&model);
    return err;
}
