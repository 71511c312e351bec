#include "worker/trainer.h"

#include "common/clock.h"
#include "common/file.h"
#include "common/hash.h"
#include "common/log.h"
#include "common/signals.h"
#include "worker/evaluate.h"
#include "worker/trainer_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static weir_hstu_config_t model_of_config(const weir_config_t *config) {
    size_t length = (size_t)config->model.max_sequence_length;
    return (weir_hstu_config_t){
        .embedding_dim = (size_t)config->model.embedding_dim,
        .blocks = (size_t)config->model.blocks,
        .heads = (size_t)config->model.heads,
        .dqk = (size_t)config->model.dqk,
        .dv = (size_t)config->model.dv,
        .max_sequence_length = length,
        .attention_length = length + (size_t)config->model.output_length,
        .input_dropout = config->model.input_dropout,
        .layer_dropout = config->model.layer_dropout,
        .position_bias = config->model.position_bias,
        .time_bias = config->model.time_bias,
    };
}

static weir_err_t load_checkpoint(weir_trainer_t *trainer, weir_error_t *error) {
    size_t elements = weir_hstu_parameter_elements(&trainer->model);
    float *m = calloc(elements, sizeof *m), *v = calloc(elements, sizeof *v);
    weir_err_t err = m == NULL || v == NULL
                         ? weir_errorf(error, WEIR_ERR_MEMORY, "no memory to load a checkpoint")
                         : weir_dense_file_load(trainer->options.checkpoint, &trainer->model,
                                                weir_dense_parameters(trainer->dense), m, v,
                                                &trainer->state, error);
    if (err == WEIR_OK) {
        weir_dense_restore_state(trainer->dense, m, v);
        trainer->checkpoint_step = trainer->state.step;
        uint64_t digest = weir_dataset_digest(trainer->options.dataset);
        if (trainer->state.dataset_digest != digest) {
            err = weir_errorf(error, WEIR_ERR_INVALID,
                              "the checkpoint %s was trained on other data than %s",
                              trainer->options.checkpoint, trainer->options.config->data.path);
            weir_error_hint(error, "data.path must name the same prepared data");
        }
    }
    free(m);
    free(v);
    return err;
}

static weir_err_t create_parts(weir_trainer_t *trainer, weir_error_t *error) {
    const weir_config_t *config = trainer->options.config;
    weir_dense_options_t adamw = {.learning_rate = config->dense.learning_rate,
                                  .beta1 = config->dense.beta1,
                                  .beta2 = config->dense.beta2,
                                  .epsilon = config->dense.epsilon,
                                  .weight_decay = config->dense.weight_decay};
    weir_err_t err = weir_hstu_create(&trainer->model, &trainer->hstu, error);
    if (err == WEIR_OK) {
        err = weir_loss_create(&trainer->loss, error);
    }
    if (err == WEIR_OK) {
        err = weir_dense_create(weir_hstu_parameter_elements(&trainer->model), &adamw,
                                trainer->options.exchange, &trainer->dense, error);
    }
    if (err == WEIR_OK) {
        weir_batch_reader_options_t options = {.dataset = trainer->options.dataset,
                                               .worker = trainer->worker,
                                               .workers = trainer->workers,
                                               .alive = 1};
        err = weir_batch_reader_create(config, &options, &trainer->reader, error);
    }
    return err;
}

/* Where training ends by its configuration; train.epochs or train.max_steps of 0 is no limit. */
static uint64_t total_steps_of(const weir_config_t *config, uint64_t steps_per_epoch) {
    uint64_t by_epochs = UINT64_MAX, limit = (uint64_t)config->train.max_steps;
    if (config->train.epochs > 0) {
        by_epochs = steps_per_epoch * (uint64_t)config->train.epochs; /* below 2^32 * 10^9 */
    }
    return limit > 0 && limit < by_epochs ? limit : by_epochs;
}

/* Values of another metric, or of another split, cannot be compared with what is to come. */
static void forget_foreign_best(weir_trainer_t *trainer) {
    char best_of[sizeof trainer->state.best_of];
    weir_trainer_state_t *state = &trainer->state;
    weir_trainer_name_best(trainer->options.config, best_of, sizeof best_of);
    if (state->best_step > 0 && strcmp(state->best_of, best_of) != 0) {
        if (trainer->worker == 0) {
            weir_log(WEIR_LOG_INFO, "trainer", "the best is sought anew, by %s and not by %s",
                     best_of, state->best_of);
        }
        state->best_step = state->evaluations_since_best = 0;
        state->best_value = 0.0;
    }
    memcpy(state->best_of, best_of, sizeof best_of);
}

weir_err_t weir_trainer_create(const weir_trainer_options_t *options, weir_trainer_t **trainer,
                               weir_error_t *error) {
    weir_trainer_t *created = calloc(1, sizeof *created);
    if (created == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for a trainer");
    }
    created->options = *options;
    created->model = model_of_config(options->config);
    created->worker = weir_exchange_worker(options->exchange);
    created->workers = weir_exchange_workers(options->exchange);
    created->checkpoint_step = UINT64_MAX;
    created->agreements = calloc(created->workers, sizeof(agreement_t));
    weir_err_t err = created->agreements == NULL
                         ? weir_errorf(error, WEIR_ERR_MEMORY, "no memory for a trainer")
                         : create_parts(created, error);
    if (err == WEIR_OK && options->checkpoint != NULL) {
        err = load_checkpoint(created, error);
    } else if (err == WEIR_OK) {
        weir_hstu_initialise(&created->model, (uint64_t)options->config->train.seed,
                             weir_dense_parameters(created->dense));
        created->state.dataset_digest = weir_dataset_digest(options->dataset);
    }
    if (err != WEIR_OK) {
        weir_trainer_destroy(created);
        return err;
    }
    forget_foreign_best(created);
    created->steps_per_epoch = weir_batch_steps_per_epoch(created->reader);
    created->total_steps = total_steps_of(options->config, created->steps_per_epoch);
    *trainer = created;
    return WEIR_OK;
}

void weir_trainer_destroy(weir_trainer_t *trainer) {
    if (trainer != NULL) {
        weir_hstu_destroy(trainer->hstu);
        weir_loss_destroy(trainer->loss);
        weir_dense_destroy(trainer->dense);
        weir_batch_reader_destroy(trainer->reader);
        weir_run_log_close(trainer->log);
        free(trainer->rows);
        free(trainer->d_rows);
        free(trainer->items);
        free(trainer->encoded);
        free(trainer->d_encoded);
        free(trainer->d_items);
        free(trainer->agreements);
        free(trainer);
    }
}

/* ---- one step ---- */

static bool regrow(float **array, size_t count) {
    free(*array);
    *array = malloc(count * sizeof(float));
    return *array != NULL;
}

/* Room for a batch; old contents are not kept. A tenth more than asked, so that growth ends soon.
 */
static weir_err_t reserve(weir_trainer_t *trainer, size_t tokens, size_t keys,
                          weir_error_t *error) {
    size_t dim = trainer->model.embedding_dim;
    bool enough = true;
    if (tokens > trainer->token_capacity) {
        trainer->token_capacity = tokens + tokens / 10;
        size_t count = trainer->token_capacity * dim;
        enough = regrow(&trainer->items, count) && regrow(&trainer->encoded, count) &&
                 regrow(&trainer->d_encoded, count) && regrow(&trainer->d_items, count);
    }
    if (enough && keys > trainer->key_capacity) {
        trainer->key_capacity = keys + keys / 10;
        size_t count = trainer->key_capacity * dim;
        enough = regrow(&trainer->rows, count) && regrow(&trainer->d_rows, count);
    }
    if (!enough) {
        trainer->token_capacity = trainer->key_capacity = 0;
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for a batch of %zu tokens, %zu rows",
                           tokens, keys);
    }
    return WEIR_OK;
}

static weir_err_t begin_batch(weir_trainer_t *trainer, uint64_t step, weir_error_t *error) {
    weir_err_t err = weir_batch_read(trainer->reader, step, &trainer->batch, error);
    if (err == WEIR_OK) {
        weir_ps_keys_t keys = {trainer->batch->keys, trainer->batch->key_count};
        err = weir_ps_client_pull_begin(trainer->options.client, step, &keys, error);
    }
    return err;
}

/* Forward, loss and backward of the batch; gradients of rows in d_rows, of dense in trainer->dense.
 */
static weir_err_t compute_gradients(weir_trainer_t *trainer, double *loss_sum,
                                    weir_error_t *error) {
    const weir_train_batch_t *batch = trainer->batch;
    size_t tokens = batch->sequence.tokens, dim = trainer->model.embedding_dim;
    const float *parameters = weir_dense_parameters(trainer->dense);
    float *gradients = weir_dense_gradients(trainer->dense);
    if (tokens == 0) { /* fewer users than workers: this one's share is nothing */
        size_t elements = weir_hstu_parameter_elements(&trainer->model);
        memset(gradients, 0, elements * sizeof(float));
        weir_dense_ready(trainer->dense, 0, elements);
        *loss_sum = 0.0;
        return WEIR_OK;
    }
    for (size_t i = 0; i < tokens; i++) {
        memcpy(trainer->items + i * dim, trainer->rows + batch->item_rows[i] * dim,
               dim * sizeof(float));
    }
    const weir_config_t *config = trainer->options.config;
    weir_forward_mode_t mode = {
        .train = true, .seed = (uint64_t)config->train.seed, .step = batch->step};
    weir_err_t err = weir_hstu_forward(trainer->hstu, parameters, &batch->sequence, trainer->items,
                                       mode, trainer->encoded, error);
    if (err != WEIR_OK) {
        return err;
    }
    weir_loss_batch_t sampled = {.tokens = tokens,
                                 .rows = batch->key_count,
                                 .dim = dim,
                                 .negatives = (size_t)config->loss.negatives,
                                 .targets = batch->target_rows,
                                 .negative_rows = batch->negative_rows,
                                 .temperature = config->loss.temperature,
                                 .scale = 1.0 / (double)batch->global_tokens};
    err = (config->loss.sharing == WEIR_NEGATIVES_BATCH ? weir_loss_shared : weir_loss_per_token)(
        trainer->loss, &sampled, trainer->encoded, trainer->rows, loss_sum, trainer->d_encoded,
        trainer->d_rows, error);
    if (err != WEIR_OK) {
        return err;
    }
    err = weir_hstu_backward(trainer->hstu, parameters, trainer->d_encoded, trainer->d_items,
                             gradients, weir_dense_ready, trainer->dense, error);
    if (err != WEIR_OK) {
        return err;
    }
    for (size_t i = 0; i < tokens; i++) { /* in token order: a fixed order of additions */
        float *d_row = trainer->d_rows + batch->item_rows[i] * dim;
        const float *d_item = trainer->d_items + i * dim;
        for (size_t k = 0; k < dim; k++) {
            d_row[k] += d_item[k];
        }
    }
    return WEIR_OK;
}

/* What this process was asked for since the last step. */
static uint32_t own_wishes(weir_trainer_t *trainer) {
    bool save = true;
    uint32_t wishes = weir_signals_stop_requested() != 0 ? WISH_STOP : 0;
    if (weir_control_client_stop_wished(trainer->options.control, &save)) {
        wishes |= WISH_STOP | (save ? 0 : WISH_DISCARD);
    }
    if (weir_control_client_take_checkpoint_wish(trainer->options.control)) {
        wishes |= WISH_CHECKPOINT;
    }
    return wishes;
}

static weir_err_t report_divergence(const weir_trainer_t *trainer, weir_error_t *error) {
    (void)weir_errorf(error, WEIR_ERR_INVALID,
                      "the loss of step %llu is not a finite number: training has diverged",
                      (unsigned long long)trainer->state.step);
    weir_error_hint(error, "a smaller learning rate; checkpoints saved before are untouched");
    return WEIR_ERR_INVALID;
}

/* Combine what all workers said of this step; their replicas must have been equal. */
static weir_err_t agree(weir_trainer_t *trainer, const agreement_t *mine, weir_error_t *error) {
    weir_err_t err = weir_exchange_all_gather_finish(trainer->options.exchange, trainer->state.step,
                                                     SEQUENCE_AGREE, mine, sizeof *mine,
                                                     trainer->agreements, error);
    for (uint32_t worker = 0; worker < trainer->workers && err == WEIR_OK; worker++) {
        const agreement_t *other = &trainer->agreements[worker];
        if (other->parameters_checksum != mine->parameters_checksum) {
            err = weir_errorf(error, WEIR_ERR_CORRUPT,
                              "step %llu: the dense parameters of workers %u and %u differ",
                              (unsigned long long)trainer->state.step, trainer->worker, worker);
            weir_error_hint(error, "memory or network of one of the hosts is at fault; resume from "
                                   "the last checkpoint");
        }
        if (err == WEIR_OK && !isfinite(other->loss_sum)) {
            err = report_divergence(trainer, error);
        }
        trainer->interval.loss_sum += other->loss_sum;
        trainer->interval.tokens += other->tokens;
        trainer->wishes |= other->wishes;
    }
    return err;
}

/* Whether anything happens between `step` and the next: then no pull may be under way. Wishes
 * agreed in earlier steps are known here; those of this step wait for the next. */
static bool is_boundary(const weir_trainer_t *trainer, uint64_t step) {
    return step >= trainer->total_steps || trainer->wishes != 0 ||
           weir_trainer_evaluates_after(trainer, step) ||
           weir_trainer_is_multiple(step,
                                    (uint64_t)trainer->options.config->train.checkpoint_every);
}

static weir_err_t train_step(weir_trainer_t *trainer, bool *boundary, weir_error_t *error) {
    uint64_t step = trainer->state.step + 1;
    weir_ps_client_t *client = trainer->options.client;
    agreement_t mine = {.parameters_checksum = weir_dense_checksum(trainer->dense)};
    weir_err_t err = WEIR_OK;
    if (trainer->batch == NULL) {
        err = begin_batch(trainer, step, error);
    }
    if (err == WEIR_OK) {
        err = reserve(trainer, trainer->batch->sequence.tokens, trainer->batch->key_count, error);
    }
    if (err == WEIR_OK) {
        err = weir_ps_client_pull_finish(client, &trainer->rows, error);
    }
    weir_dense_begin(trainer->dense, step);
    if (err == WEIR_OK) {
        err = compute_gradients(trainer, &mine.loss_sum, error);
    }
    if (err == WEIR_OK) {
        const float *gradients = trainer->d_rows;
        err = weir_ps_client_push(client, &gradients, error);
    }
    if (err != WEIR_OK) {
        return err;
    }
    mine.tokens = trainer->batch->sequence.tokens;
    mine.wishes = own_wishes(trainer);
    trainer->batch = NULL;
    trainer->state.step = step;
    *boundary = is_boundary(trainer, step);
    err = weir_exchange_all_gather_begin(trainer->options.exchange, step, SEQUENCE_AGREE, &mine,
                                         sizeof mine, error);
    if (err == WEIR_OK && !*boundary) {
        err = begin_batch(trainer, step + 1, error); /* hides behind the dense update */
    }
    if (err == WEIR_OK) {
        err = weir_dense_finish(trainer->dense, error);
    }
    if (err == WEIR_OK) {
        err = agree(trainer, &mine, error);
    }
    trainer->interval.steps++;
    return err;
}

static weir_err_t open_log(weir_trainer_t *trainer, weir_error_t *error) {
    bool resumed = trainer->options.checkpoint != NULL;
    weir_err_t err = weir_run_log_open(trainer->options.run, trainer->state.step,
                                       trainer->state.seconds, &trainer->log, error);
    if (err == WEIR_OK) {
        weir_run_start_t start = {
            .ps = trainer->options.ps,
            .workers = trainer->workers,
            .step = trainer->state.step,
            .total_steps = trainer->total_steps,
            .steps_per_epoch = trainer->steps_per_epoch,
            .parameters = weir_hstu_parameter_elements(&trainer->model),
            .users = weir_batch_users_per_epoch(trainer->reader),
            .items = weir_dataset_items(trainer->options.dataset),
            .events = weir_dataset_events(trainer->options.dataset),
            .resumed = resumed,
        };
        weir_run_log_start(trainer->log, &start);
    }
    return err;
}

weir_err_t weir_trainer_run(weir_trainer_t *trainer, const char **reason, weir_error_t *error) {
    weir_err_t err = trainer->worker == 0 ? open_log(trainer, error) : WEIR_OK;
    const char *ended = weir_trainer_reason_to_end(trainer); /* a run that had ended stays so */
    uint64_t every = (uint64_t)trainer->options.config->train.log_every;
    weir_trainer_publish(trainer, WEIR_PHASE_TRAINING, 0.0, 0.0);
    weir_trainer_begin_interval(trainer);
    while (err == WEIR_OK && ended == NULL) {
        bool boundary = false;
        err = train_step(trainer, &boundary, error);
        if (err == WEIR_OK && boundary) {
            err = weir_trainer_handle_boundary(trainer, &ended, error);
        } else if (err == WEIR_OK && weir_trainer_is_multiple(trainer->state.step, every)) {
            weir_trainer_end_interval(trainer);
        }
    }
    if (err == WEIR_OK && trainer->log != NULL) {
        weir_run_log_end(trainer->log, trainer->state.step, ended);
    }
    if (err == WEIR_OK) {
        *reason = ended;
    }
    return err;
}
