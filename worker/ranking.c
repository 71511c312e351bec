#include "common/assert.h"
#include "worker/product.h"
#include "worker/ranking_internal.h"
#include "worker/rows.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_ROWS = 1 << 24, TABLES = 3, HEADS = 4, DIRECT = TABLES + HEADS };
/* parameters before and after the layers */

static size_t heads_of(const weir_ranking_config_t *config) {
    return HEADS + (config->direct ? 1 : 0);
}

/* ---- parameters ---- */

static size_t layer_elements(const weir_ranking_config_t *config) {
    return weir_stu_parameter_elements(&config->layers);
}

/* Of the tables (0 .. 2), the heads (3 .. 6) and the direct path (7), without its offset. */
static weir_parameter_t own_parameter(const weir_ranking_config_t *config, size_t which) {
    size_t dim = config->layers.embedding_dim;
    const struct {
        const char *name;
        size_t rows, cols;
        weir_init_t init;
        double scale;
    } table[DIRECT + 1] = {
        {"position_embedding", config->positions, dim, WEIR_INIT_NORMAL, 0.02},
        {"time_embedding", config->time_buckets, dim, WEIR_INIT_NORMAL, 0.02},
        {"action_embedding", config->action_flags + 1, dim, WEIR_INIT_NORMAL, 0.02},
        {"body_weight", dim, config->hidden, WEIR_INIT_XAVIER_UNIFORM, 1.0},
        {"body_bias", config->hidden, 1, WEIR_INIT_CONSTANT, 0.0},
        {"task_weight", config->hidden, config->tasks, WEIR_INIT_XAVIER_UNIFORM, 1.0},
        {"task_bias", config->tasks, 1, WEIR_INIT_CONSTANT, 0.0},
        {"direct_weight", dim, config->tasks, WEIR_INIT_CONSTANT, 0.0},
    };
    weir_parameter_t parameter = {.rows = table[which].rows,
                                  .cols = table[which].cols,
                                  .init = table[which].init,
                                  .scale = table[which].scale};
    (void)snprintf(parameter.name, sizeof parameter.name, "%s", table[which].name);
    return parameter;
}

/* Elements of the tables and heads before `which`. */
static size_t own_elements(const weir_ranking_config_t *config, size_t which) {
    size_t elements = 0;
    for (size_t i = 0; i < which; i++) {
        weir_parameter_t parameter = own_parameter(config, i);
        elements += parameter.rows * parameter.cols;
    }
    return elements;
}

size_t weir_ranking_layers_offset(const weir_ranking_config_t *config) {
    return own_elements(config, TABLES);
}

static size_t own_offset(const weir_ranking_config_t *config, size_t which) {
    return own_elements(config, which) + (which >= TABLES ? layer_elements(config) : 0);
}

size_t weir_ranking_parameter_count(const weir_ranking_config_t *config) {
    return TABLES + weir_stu_parameter_count(&config->layers) + heads_of(config);
}

size_t weir_ranking_parameter_elements(const weir_ranking_config_t *config) {
    return own_elements(config, TABLES + heads_of(config)) + layer_elements(config);
}

weir_parameter_t weir_ranking_parameter(const weir_ranking_config_t *config, size_t index) {
    size_t layers = weir_stu_parameter_count(&config->layers);
    WEIR_ASSERT(index < weir_ranking_parameter_count(config));
    if (index >= TABLES && index < TABLES + layers) {
        weir_parameter_t parameter = weir_stu_parameter(&config->layers, index - TABLES);
        parameter.offset += own_elements(config, TABLES);
        return parameter;
    }
    size_t which = index < TABLES ? index : index - layers;
    weir_parameter_t parameter = own_parameter(config, which);
    parameter.offset = own_offset(config, which);
    return parameter;
}

weir_parameters_t *weir_ranking_parameters(const weir_ranking_config_t *config) {
    size_t count = weir_ranking_parameter_count(config);
    weir_parameters_t *made = weir_parameters_new("ranking", count);
    for (size_t i = 0; made != NULL && i < count; i++) {
        made->list[i] = weir_ranking_parameter(config, i);
        made->elements += made->list[i].rows * made->list[i].cols;
    }
    return made;
}

/* ---- its life ---- */

static weir_err_t check_config(const weir_ranking_config_t *config, weir_error_t *error) {
    if (config->tasks == 0 || config->tasks > WEIR_RANKING_MAX_TASKS || config->hidden == 0 ||
        config->hidden > 1 << 16 || config->action_flags > 32) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "a ranking model has 1 to %d tasks, a body of 1 to 65536 and at most 32 "
                           "action flags",
                           WEIR_RANKING_MAX_TASKS);
    }
    if (config->positions == 0 || config->positions > MOST_ROWS || config->time_buckets == 0 ||
        config->time_buckets > MOST_ROWS) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "the tables of positions and times have 1 to %d rows", MOST_ROWS);
    }
    for (size_t k = 0; k < config->tasks; k++) {
        if (!(config->weights[k] >= 0.0) || isinf(config->weights[k])) {
            return weir_errorf(error, WEIR_ERR_INVALID, "the weight of task %zu is %g", k,
                               config->weights[k]);
        }
    }
    if (!(config->input_dropout >= 0.0 && config->input_dropout < 1.0)) {
        return weir_errorf(error, WEIR_ERR_INVALID, "dropout must be in [0, 1)");
    }
    return WEIR_OK;
}

weir_err_t weir_ranking_create(const weir_ranking_config_t *config, weir_ranking_t **ranking,
                               weir_error_t *error) {
    weir_err_t err = check_config(config, error);
    if (err != WEIR_OK) {
        return err;
    }
    weir_ranking_t *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a ranking model");
    }
    made->config = *config;
    err = weir_kernels_select(&made->kernels, error);
    if (err == WEIR_OK) {
        err = weir_stu_create(&config->layers, &made->stu, error);
    }
    if (err != WEIR_OK) {
        weir_ranking_destroy(made);
        return err;
    }
    *ranking = made;
    return WEIR_OK;
}

void weir_ranking_destroy(weir_ranking_t *ranking) {
    if (ranking != NULL) {
        weir_workspace_fini(&ranking->workspace);
        weir_stu_destroy(ranking->stu);
        free(ranking);
    }
}

static void lay_out(weir_ranking_t *ranking, const weir_ranking_batch_t *batch) {
    const weir_ranking_config_t *config = &ranking->config;
    weir_workspace_t *space = &ranking->workspace;
    size_t dim = config->layers.embedding_dim, hidden = config->hidden, real = sizeof(weir_real_t);
    size_t tokens = batch->sequence.tokens, queries = batch->predictions;
    size_t widest = hidden > config->tasks ? hidden : config->tasks;
    ranking->stream = weir_workspace_take(space, tokens, dim * real);
    ranking->normalised = weir_workspace_take(space, queries, dim * real);
    ranking->inverses = weir_workspace_take(space, queries, real);
    ranking->before = weir_workspace_take(space, queries, hidden * real);
    ranking->body = weir_workspace_take(space, queries, hidden * real);
    ranking->logits = weir_workspace_take(space, queries, config->tasks * real);
    ranking->d_body = weir_workspace_take(space, queries, hidden * real);
    ranking->d_normalised = weir_workspace_take(space, queries, dim * real);
    ranking->direct = weir_workspace_take(space, config->direct ? queries : 0, dim * real);
    ranking->block = weir_workspace_take(space, widest, real);
    ranking->numbers = weir_workspace_take(space, tokens, sizeof *ranking->numbers);
}

static weir_err_t check_batch(const weir_ranking_config_t *config,
                              const weir_ranking_batch_t *batch, weir_error_t *error) {
    size_t tokens = batch->sequence.tokens;
    bool good = batch->row_offsets[0] == 0;
    for (size_t t = 0; t < tokens && good; t++) {
        uint32_t beyond = config->action_flags < 32 ? batch->actions[t] >> config->action_flags : 0;
        good = batch->row_offsets[t + 1] >= batch->row_offsets[t] &&
               batch->positions[t] < config->positions && batch->times[t] < config->time_buckets &&
               (batch->actions[t] == WEIR_RANKING_NO_ACTIONS || beyond == 0);
    }
    for (size_t i = 0; good && i < batch->row_offsets[tokens]; i++) {
        good = batch->rows[i] < batch->row_count;
    }
    for (size_t q = 0; good && q < batch->predictions; q++) {
        good = batch->predicted[q] < tokens &&
               (q == 0 || batch->predicted[q] > batch->predicted[q - 1]);
    }
    return good ? WEIR_OK
                : weir_errorf(error, WEIR_ERR_INVALID,
                              "a row, action, position, time or prediction of the batch is out of "
                              "range");
}

/* ---- input ---- */

/* to += the vectors of the flags; their last one when there is no flag. `sign`: of the gradient,
 * the other way round. */
static void add_actions(const weir_ranking_config_t *config, uint32_t actions,
                        const weir_real_t *table, weir_real_t *to) {
    size_t dim = config->layers.embedding_dim;
    for (size_t f = 0; f <= config->action_flags; f++) {
        bool set = f < config->action_flags ? (actions >> f & 1) != 0 : actions == 0;
        for (size_t d = 0; set && d < dim; d++) {
            to[d] += table[f * dim + d];
        }
    }
}

static void add_to_actions(const weir_ranking_config_t *config, uint32_t actions,
                           const weir_real_t *gradient, weir_real_t *d_table) {
    size_t dim = config->layers.embedding_dim;
    for (size_t f = 0; f <= config->action_flags; f++) {
        bool set = f < config->action_flags ? (actions >> f & 1) != 0 : actions == 0;
        for (size_t d = 0; set && d < dim; d++) {
            d_table[f * dim + d] += gradient[d];
        }
    }
}

static void drop_input(const weir_ranking_t *ranking, weir_real_t *values) {
    const weir_stu_batch_t *sequence = &ranking->batch.sequence;
    if (ranking->mode.train && ranking->config.input_dropout > 0.0) {
        weir_dropout_t dropout = weir_dropout_at(ranking->mode.seed, ranking->mode.step, 0,
                                                 ranking->config.input_dropout);
        ranking->kernels->dropout(&dropout, sequence->global_tokens, values, sequence->tokens,
                                  ranking->config.layers.embedding_dim, values);
    }
}

static void add_up(weir_ranking_t *ranking, const weir_real_t *rows) {
    const weir_ranking_batch_t *batch = &ranking->batch;
    const weir_ranking_config_t *config = &ranking->config;
    size_t dim = config->layers.embedding_dim;
    const weir_real_t scale = (weir_real_t)sqrt((double)dim);
    const weir_real_t *positions = ranking->parameters,
                      *actions = ranking->parameters + own_offset(config, 2);
    const weir_real_t *times = ranking->parameters + own_offset(config, 1);
    for (size_t t = 0; t < batch->sequence.tokens; t++) {
        weir_real_t *x = ranking->stream + t * dim;
        const weir_real_t *position = positions + batch->positions[t] * dim;
        const weir_real_t *time = times + batch->times[t] * dim;
        for (size_t d = 0; d < dim; d++) {
            x[d] = position[d] + time[d];
        }
        for (size_t i = batch->row_offsets[t]; i < batch->row_offsets[t + 1]; i++) {
            const weir_real_t *row = rows + batch->rows[i] * dim;
            for (size_t d = 0; d < dim; d++) {
                x[d] += scale * row[d];
            }
        }
        if (batch->actions[t] != WEIR_RANKING_NO_ACTIONS) {
            add_actions(config, batch->actions[t], actions, x);
        }
    }
    for (size_t q = 0; config->direct && q < batch->predictions; q++) {
        memcpy(ranking->direct + q * dim, ranking->stream + batch->predicted[q] * dim,
               dim * sizeof *ranking->direct);
    }
    drop_input(ranking, ranking->stream);
}

/* From the gradient of x in `stream`. */
static void differentiate_input(weir_ranking_t *ranking, weir_real_t *d_rows,
                                weir_real_t *d_parameters) {
    const weir_ranking_batch_t *batch = &ranking->batch;
    const weir_ranking_config_t *config = &ranking->config;
    size_t dim = config->layers.embedding_dim;
    const weir_real_t scale = (weir_real_t)sqrt((double)dim);
    drop_input(ranking, ranking->stream);
    for (size_t q = 0; config->direct && q < batch->predictions; q++) {
        weir_real_t *d_x = ranking->stream + batch->predicted[q] * dim;
        for (size_t d = 0; d < dim; d++) {
            d_x[d] += ranking->direct[q * dim + d];
        }
    }
    memset(d_parameters, 0, own_elements(config, TABLES) * sizeof *d_parameters);
    memset(d_rows, 0, batch->row_count * dim * sizeof *d_rows);
    for (size_t t = 0; t < batch->sequence.tokens; t++) {
        const weir_real_t *d_x = ranking->stream + t * dim;
        weir_real_t *d_position = d_parameters + batch->positions[t] * dim;
        weir_real_t *d_time = d_parameters + own_offset(config, 1) + batch->times[t] * dim;
        for (size_t d = 0; d < dim; d++) {
            d_position[d] += d_x[d];
            d_time[d] += d_x[d];
        }
        for (size_t i = batch->row_offsets[t]; i < batch->row_offsets[t + 1]; i++) {
            weir_real_t *d_row = d_rows + batch->rows[i] * dim;
            for (size_t d = 0; d < dim; d++) {
                d_row[d] += scale * d_x[d];
            }
        }
        if (batch->actions[t] != WEIR_RANKING_NO_ACTIONS) {
            add_to_actions(config, batch->actions[t], d_x, d_parameters + own_offset(config, 2));
        }
    }
}

/* ---- heads ---- */

void weir_ranking_run_heads(weir_ranking_t *ranking) {
    const weir_ranking_config_t *config = &ranking->config;
    const weir_real_t *parameters = ranking->parameters;
    size_t dim = config->layers.embedding_dim, queries = ranking->batch.predictions;
    size_t hidden = config->hidden, tasks = config->tasks;
    for (size_t q = 0; q < queries; q++) {
        memcpy(ranking->normalised + q * dim, ranking->stream + ranking->batch.predicted[q] * dim,
               dim * sizeof *ranking->normalised);
        memcpy(ranking->before + q * hidden, parameters + own_offset(config, 4),
               hidden * sizeof *ranking->before);
        memcpy(ranking->logits + q * tasks, parameters + own_offset(config, 6),
               tasks * sizeof *ranking->logits);
    }
    ranking->kernels->layer_norm_forward(ranking->normalised, queries, dim, ranking->normalised,
                                         ranking->inverses);
    const weir_product_t body = {.m = queries,
                                 .n = hidden,
                                 .k = dim,
                                 .a = ranking->normalised,
                                 .lda = dim,
                                 .b = parameters + own_offset(config, 3),
                                 .ldb = hidden,
                                 .add = true,
                                 .c = ranking->before,
                                 .ldc = hidden};
    weir_product_run(ranking->kernels, false, &body);
    ranking->kernels->silu_forward(ranking->before, ranking->body, queries * hidden);
    const weir_product_t head = {.m = queries,
                                 .n = tasks,
                                 .k = hidden,
                                 .a = ranking->body,
                                 .lda = hidden,
                                 .b = parameters + own_offset(config, 5),
                                 .ldb = tasks,
                                 .add = true,
                                 .c = ranking->logits,
                                 .ldc = tasks};
    weir_product_run(ranking->kernels, false, &head);
    if (config->direct) {
        const weir_product_t direct = {.m = queries,
                                       .n = tasks,
                                       .k = dim,
                                       .a = ranking->direct,
                                       .lda = dim,
                                       .b = parameters + own_offset(config, DIRECT),
                                       .ldb = tasks,
                                       .add = true,
                                       .c = ranking->logits,
                                       .ldc = tasks};
        weir_product_run(ranking->kernels, false, &direct);
    }
}

double weir_ranking_score(weir_task_kind_t kind, double logit) {
    return kind == WEIR_TASK_BINARY ? 1.0 / (1.0 + exp(-logit)) : logit;
}

/* Loss of one logit, and its slope in its place. log(1 + e^-|z|) does not overflow. */
static double differentiate_logit(weir_task_kind_t kind, weir_real_t label, double scale,
                                  weir_real_t *logit) {
    double z = (double)*logit, y = (double)label, slope, loss;
    if (kind == WEIR_TASK_BINARY) {
        loss = fmax(z, 0.0) - z * y + log1p(exp(-fabs(z)));
        slope = weir_ranking_score(kind, z) - y;
    } else {
        slope = z - y;
        loss = 0.5 * slope * slope;
    }
    *logit = (weir_real_t)(scale * slope);
    return scale * loss;
}

/* logits become their gradients. */
static double differentiate_loss(weir_ranking_t *ranking, const weir_real_t *labels, double scale) {
    const weir_ranking_config_t *config = &ranking->config;
    double loss = 0.0;
    for (size_t i = 0; i < ranking->batch.predictions * config->tasks; i++) {
        size_t task = i % config->tasks;
        if (isnan(labels[i])) {
            ranking->logits[i] = 0;
        } else {
            loss += differentiate_logit(config->kinds[task], labels[i],
                                        scale * config->weights[task], &ranking->logits[i]);
        }
    }
    return loss;
}

/* d_parameters of a head: weight = left^T gradient, bias = columns of the gradient. */
static void sum_head(weir_ranking_t *ranking, size_t which, const weir_real_t *left,
                     const weir_real_t *gradient, weir_real_t *d_parameters) {
    const weir_ranking_config_t *config = &ranking->config;
    weir_parameter_t weight = own_parameter(config, which);
    weir_real_t *d_bias = d_parameters + own_offset(config, which + 1);
    weir_rows_sum_t sum = {.kernels = ranking->kernels,
                           .tokens = ranking->batch.predictions,
                           .rows = weight.rows,
                           .columns = weight.cols,
                           .left = left,
                           .right = gradient,
                           .to = d_parameters + own_offset(config, which)};
    weir_rows_sum(&sum);
    memset(d_bias, 0, weight.cols * sizeof *d_bias);
    weir_rows_add_columns(gradient, ranking->batch.predictions, weight.cols, weight.cols,
                          ranking->block, d_bias);
}

/* Of the direct path: its weights', and that of its input in the place of the input. */
static void differentiate_direct(weir_ranking_t *ranking, weir_real_t *d_parameters) {
    const weir_ranking_config_t *config = &ranking->config;
    size_t dim = config->layers.embedding_dim, tasks = config->tasks;
    weir_rows_sum_t sum = {.kernels = ranking->kernels,
                           .tokens = ranking->batch.predictions,
                           .rows = dim,
                           .columns = tasks,
                           .left = ranking->direct,
                           .right = ranking->logits,
                           .to = d_parameters + own_offset(config, DIRECT)};
    const weir_product_t input = {.form_b = WEIR_BLAS_TRANSPOSED,
                                  .m = ranking->batch.predictions,
                                  .n = dim,
                                  .k = tasks,
                                  .a = ranking->logits,
                                  .lda = tasks,
                                  .b = ranking->parameters + own_offset(config, DIRECT),
                                  .ldb = tasks,
                                  .c = ranking->direct,
                                  .ldc = dim};
    weir_rows_sum(&sum);
    weir_product_run(ranking->kernels, false, &input);
}

/* From the gradient of the logits to that of the layers' output, in `stream`. */
static void differentiate_heads(weir_ranking_t *ranking, weir_real_t *d_parameters) {
    const weir_ranking_config_t *config = &ranking->config;
    size_t dim = config->layers.embedding_dim, queries = ranking->batch.predictions;
    size_t hidden = config->hidden, tasks = config->tasks;
    sum_head(ranking, 5, ranking->body, ranking->logits, d_parameters);
    if (config->direct) {
        differentiate_direct(ranking, d_parameters);
    }
    const weir_product_t head = {.form_b = WEIR_BLAS_TRANSPOSED,
                                 .m = queries,
                                 .n = hidden,
                                 .k = tasks,
                                 .a = ranking->logits,
                                 .lda = tasks,
                                 .b = ranking->parameters + own_offset(config, 5),
                                 .ldb = tasks,
                                 .c = ranking->d_body,
                                 .ldc = hidden};
    weir_product_run(ranking->kernels, false, &head);
    ranking->kernels->silu_backward(ranking->before, ranking->d_body, ranking->d_body,
                                    queries * hidden);
    sum_head(ranking, 3, ranking->normalised, ranking->d_body, d_parameters);
    const weir_product_t body = {.form_b = WEIR_BLAS_TRANSPOSED,
                                 .m = queries,
                                 .n = dim,
                                 .k = hidden,
                                 .a = ranking->d_body,
                                 .lda = hidden,
                                 .b = ranking->parameters + own_offset(config, 3),
                                 .ldb = hidden,
                                 .c = ranking->d_normalised,
                                 .ldc = dim};
    weir_product_run(ranking->kernels, false, &body);
    ranking->kernels->layer_norm_backward(ranking->normalised, ranking->inverses,
                                          ranking->d_normalised, queries, dim, false,
                                          ranking->d_normalised);
    memset(ranking->stream, 0, ranking->batch.sequence.tokens * dim * sizeof *ranking->stream);
    for (size_t q = 0; q < queries; q++) {
        memcpy(ranking->stream + ranking->batch.predicted[q] * dim, ranking->d_normalised + q * dim,
               dim * sizeof *ranking->stream);
    }
}

/* ---- both ways ---- */

weir_err_t weir_ranking_embed(weir_ranking_t *ranking, const weir_real_t *parameters,
                              const weir_ranking_batch_t *batch, const weir_real_t *rows,
                              weir_forward_mode_t mode, weir_error_t *error) {
    ranking->forward_done = false;
    weir_err_t err = check_batch(&ranking->config, batch, error);
    if (err != WEIR_OK) {
        return err;
    }
    weir_workspace_begin(&ranking->workspace);
    lay_out(ranking, batch);
    err = weir_workspace_reserve(&ranking->workspace, "a ranking batch", error);
    if (err != WEIR_OK) {
        return err;
    }
    lay_out(ranking, batch);
    ranking->batch = *batch;
    ranking->parameters = parameters;
    ranking->mode = mode;
    if (batch->sequence.global_tokens == NULL) {
        for (size_t t = 0; t < batch->sequence.tokens; t++) {
            ranking->numbers[t] = (uint32_t)t;
        }
        ranking->batch.sequence.global_tokens = ranking->numbers;
    }
    add_up(ranking, rows);
    return WEIR_OK;
}

weir_err_t weir_ranking_forward(weir_ranking_t *ranking, const weir_real_t *parameters,
                                const weir_ranking_batch_t *batch, const weir_real_t *rows,
                                weir_forward_mode_t mode, weir_real_t *logits,
                                weir_error_t *error) {
    weir_err_t err = weir_ranking_embed(ranking, parameters, batch, rows, mode, error);
    if (err == WEIR_OK) {
        err = weir_stu_forward(
            ranking->stu, parameters + weir_ranking_layers_offset(&ranking->config),
            &ranking->batch.sequence, ranking->stream, mode, ranking->stream, error);
    }
    if (err != WEIR_OK) {
        return err;
    }
    weir_ranking_run_heads(ranking);
    memcpy(logits, ranking->logits, batch->predictions * ranking->config.tasks * sizeof *logits);
    ranking->forward_done = true;
    return WEIR_OK;
}

/* The layers' gradients, by their place in the whole buffer. */
typedef struct {
    size_t offset;
    weir_gradient_ready_t ready;
    void *argument;
} shifted_t;

static void announce_layer(void *argument, size_t begin, size_t end) {
    const shifted_t *shifted = argument;
    shifted->ready(shifted->argument, shifted->offset + begin, shifted->offset + end);
}

weir_err_t weir_ranking_backward(weir_ranking_t *ranking, const weir_real_t *labels, double scale,
                                 double *loss, weir_real_t *d_rows, weir_real_t *d_parameters,
                                 weir_gradient_ready_t ready, void *argument, weir_error_t *error) {
    const weir_ranking_config_t *config = &ranking->config;
    size_t tables = own_elements(config, TABLES);
    if (!ranking->forward_done) {
        return weir_errorf(error, WEIR_ERR_INVALID, "backward without a forward before it");
    }
    ranking->forward_done = false; /* the logits are about to go */
    *loss = differentiate_loss(ranking, labels, scale);
    differentiate_heads(ranking, d_parameters);
    if (ready != NULL) {
        ready(argument, own_offset(config, TABLES), weir_ranking_parameter_elements(config));
    }
    shifted_t shifted = {tables, ready, argument};
    weir_err_t err =
        weir_stu_backward(ranking->stu, ranking->stream, ranking->stream, d_parameters + tables,
                          ready != NULL ? announce_layer : NULL, &shifted, error);
    if (err != WEIR_OK) {
        return err;
    }
    differentiate_input(ranking, d_rows, d_parameters);
    if (ready != NULL) {
        ready(argument, 0, tables);
    }
    return WEIR_OK;
}

uint32_t weir_ranking_time_bucket(int64_t seconds, size_t buckets) {
    double minutes = (seconds > 0 ? (double)seconds : 1e-6) / 60.0;
    double bucket = sqrt(minutes), last = (double)(buckets - 1);
    return (uint32_t)(bucket < last ? bucket : last);
}
