/* One step of training: rows, gradients, push, the next pulls, dense update, agreement. */
#include "common/clock.h"
#include "common/log.h"
#include "common/signals.h"
#include "common/trace.h"
#include "ps/model_tables.h"
#include "worker/trainer_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool embeds_users(const weir_trainer_t *trainer) {
    return trainer->options.config->model.user_embedding;
}

/* Columns of an item's row: its embedding, and its bias. */
static size_t row_width(const weir_trainer_t *trainer) {
    return trainer->model.embedding_dim + (trainer->options.config->model.item_bias ? 1 : 0);
}

static bool regrow(float **array, size_t count) {
    free(*array);
    *array = malloc(count * sizeof(float));
    return *array != NULL;
}

/* Room for a batch; old contents are not kept. A tenth more than asked, so that growth ends soon.
 */
static weir_err_t reserve(weir_trainer_t *trainer, const weir_train_batch_t *batch,
                          weir_error_t *error) {
    size_t tokens = batch->sequence.tokens, keys = batch->key_count, users = batch->sequence.users;
    size_t dim = trainer->model.embedding_dim;
    bool enough = true;
    if (tokens > trainer->token_capacity && trainer->encoder != NULL) {
        trainer->token_capacity = tokens + tokens / 10;
        size_t count = trainer->token_capacity * dim;
        enough = regrow(&trainer->items, count) && regrow(&trainer->encoded, count) &&
                 regrow(&trainer->d_encoded, count) && regrow(&trainer->d_items, count);
    }
    if (enough && keys > trainer->key_capacity) {
        trainer->key_capacity = keys + keys / 10;
        size_t count = trainer->key_capacity * row_width(trainer);
        enough = regrow(&trainer->rows, count) && regrow(&trainer->d_rows, count);
    }
    if (enough && users > trainer->user_capacity && embeds_users(trainer)) {
        trainer->user_capacity = users + users / 10;
        size_t count = trainer->user_capacity * dim;
        enough = regrow(&trainer->user_rows, count) && regrow(&trainer->d_user_rows, count);
    }
    if (!enough) {
        trainer->token_capacity = trainer->key_capacity = trainer->user_capacity = 0;
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for a batch of %zu tokens, %zu rows",
                           tokens, keys);
    }
    return WEIR_OK;
}

/* ---- pulls ---- */

static pull_t *pull_of(const weir_trainer_t *trainer, uint64_t step) {
    return &trainer->pulls[step % (trainer->ahead + 1)];
}

static size_t keys_of(const weir_trainer_t *trainer, const weir_train_batch_t *batch) {
    return batch->key_count + (embeds_users(trainer) ? batch->sequence.users : 0);
}

/* How many steps the rows of a pull that is sent now may miss: those that this worker has pulled
 * and not pushed, as far as the servers do not wait for them. */
static uint64_t steps_missed(const weir_trainer_t *trainer, uint64_t step) {
    const weir_config_t *config = trainer->options.config;
    uint64_t open = step - 1 - trainer->state.step, most = (uint64_t)config->train.staleness;
    return config->train.consistency == WEIR_CONSISTENCY_ASP || open < most ? open : most;
}

static weir_err_t begin_pull(weir_trainer_t *trainer, uint64_t step, weir_error_t *error) {
    pull_t *pull = pull_of(trainer, step);
    int64_t begun = weir_trace_begin();
    weir_err_t err = weir_read_ahead_take(trainer->read_ahead, step, &pull->batch, error);
    weir_trace_end(begun, "read batch", step, WEIR_TRACE_NOBODY);
    if (err == WEIR_OK) {
        weir_ps_keys_t keys[WEIR_MODEL_MAX_TABLES] = {
            [WEIR_MODEL_ITEM_TABLE] = {pull->batch->keys, pull->batch->key_count},
            [WEIR_MODEL_USER_TABLE] = {pull->batch->users, pull->batch->sequence.users}};
        begun = weir_trace_begin();
        err = weir_ps_client_pull_begin(trainer->options.client, step, keys, error);
        weir_trace_end(begun, "send pull", step, WEIR_TRACE_NOBODY);
    }
    if (err == WEIR_OK) {
        pull->missed = steps_missed(trainer, step);
        trainer->begun = step;
    }
    return err;
}

/* Send the pulls that may be under way when `step` is the next to be computed, no further than to
 * the boundaries that are known. */
static weir_err_t begin_pulls(weir_trainer_t *trainer, uint64_t step, weir_error_t *error) {
    uint64_t last = step + trainer->ahead, boundary = weir_trainer_next_boundary(trainer, step);
    last = last < boundary ? last : boundary;
    weir_err_t err = WEIR_OK;
    while (trainer->begun < last && err == WEIR_OK) {
        err = begin_pull(trainer, trainer->begun + 1, error);
    }
    return err;
}

/* Wait for the rows of `step`. */
static weir_err_t finish_pull(weir_trainer_t *trainer, uint64_t step, weir_error_t *error) {
    weir_err_t err = reserve(trainer, pull_of(trainer, step)->batch, error);
    if (err == WEIR_OK) {
        float *values[WEIR_MODEL_MAX_TABLES] = {
            [WEIR_MODEL_ITEM_TABLE] = trainer->rows, [WEIR_MODEL_USER_TABLE] = trainer->user_rows};
        int64_t begun = weir_trace_begin();
        err = weir_ps_client_pull_finish(trainer->options.client, values, error);
        weir_trace_end(begun, "take rows", step, WEIR_TRACE_NOBODY);
    }
    return err;
}

static weir_err_t push(weir_trainer_t *trainer, weir_error_t *error) {
    const float *gradients[WEIR_MODEL_MAX_TABLES] = {
        [WEIR_MODEL_ITEM_TABLE] = trainer->d_rows, [WEIR_MODEL_USER_TABLE] = trainer->d_user_rows};
    double started = weir_clock_seconds();
    int64_t begun = weir_trace_begin();
    weir_err_t err = weir_ps_client_push(trainer->options.client, gradients, error);
    weir_trace_end(begun, "push", trainer->state.step + 1, WEIR_TRACE_NOBODY);
    trainer->interval.push_wait += weir_clock_seconds() - started;
    return err;
}

/* ---- gradients ---- */

/* Said once: the least that a history needs is more than train.activation_mib. */
static void warn_over_budget(weir_trainer_t *trainer) {
    size_t budget = (size_t)trainer->options.config->train.activation_mib << 20;
    size_t bytes = weir_encoder_activations(trainer->encoder).bytes;
    if (budget > 0 && bytes > budget && !trainer->over_budget) {
        trainer->over_budget = true;
        weir_log(WEIR_LOG_WARN, "trainer",
                 "the activations of one history take more than train.activation_mib|bytes=%zu "
                 "budget=%zu",
                 bytes, budget);
    }
}

/* Forward, loss and backward of the batch; gradients of rows in d_rows and d_user_rows, of dense in
 * trainer->dense. */
static weir_err_t compute_gradients(weir_trainer_t *trainer, const weir_train_batch_t *batch,
                                    double *loss_sum, weir_error_t *error) {
    size_t tokens = batch->sequence.tokens, dim = trainer->model.embedding_dim;
    size_t width = row_width(trainer);
    const float *parameters = weir_dense_parameters(trainer->dense);
    float *gradients = weir_dense_gradients(trainer->dense);
    if (tokens == 0) { /* fewer users than workers: this one's share is nothing */
        size_t elements = trainer->parameters->elements;
        memset(gradients, 0, elements * sizeof(float));
        weir_dense_ready(trainer->dense, 0, elements);
        *loss_sum = 0.0;
        return WEIR_OK;
    }
    if (trainer->ranking != NULL) {
        return weir_trainer_rank(trainer, batch, loss_sum, error);
    }
    for (size_t i = 0; i < tokens; i++) {
        memcpy(trainer->items + i * dim, trainer->rows + batch->item_rows[i] * width,
               dim * sizeof(float));
    }
    const weir_config_t *config = trainer->options.config;
    weir_forward_mode_t mode = {
        .train = true, .seed = (uint64_t)config->train.seed, .step = batch->step};
    weir_sequence_batch_t sequence = batch->sequence;
    sequence.user_rows = embeds_users(trainer) ? trainer->user_rows : NULL;
    int64_t begun = weir_trace_begin();
    weir_err_t err = weir_encoder_forward(trainer->encoder, parameters, &sequence, trainer->items,
                                          mode, trainer->encoded, error);
    weir_trace_end(begun, "forward", batch->step, WEIR_TRACE_NOBODY);
    if (err != WEIR_OK) {
        return err;
    }
    warn_over_budget(trainer);
    begun = weir_trace_begin();
    err = weir_trainer_loss(trainer, batch, loss_sum, error);
    weir_trace_end(begun, "loss", batch->step, WEIR_TRACE_NOBODY);
    if (err != WEIR_OK) {
        return err;
    }
    begun = weir_trace_begin();
    err = weir_encoder_backward(trainer->encoder, parameters, trainer->d_encoded, trainer->d_items,
                                gradients, weir_dense_ready, trainer->dense, error);
    weir_trace_end(begun, "backward", batch->step, WEIR_TRACE_NOBODY);
    if (err != WEIR_OK) {
        return err;
    }
    if (embeds_users(trainer)) {
        weir_encoder_user_gradients(trainer->encoder, trainer->d_user_rows);
    }
    for (size_t i = 0; i < tokens; i++) { /* in token order: a fixed order of additions */
        float *d_row = trainer->d_rows + batch->item_rows[i] * width;
        const float *d_item = trainer->d_items + i * dim;
        for (size_t k = 0; k < dim; k++) {
            d_row[k] += d_item[k];
        }
    }
    return WEIR_OK;
}

/* ---- agreement ---- */

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
    if (weir_trainer_look_at_save(trainer)) {
        wishes |= WISH_SETTLE;
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
        trainer->interval.predictions += other->predictions;
        trainer->wishes |= other->wishes;
    }
    return err;
}

/* Whether anything happens between `step` and the next: then no pull is under way. A wish waits for
 * the pulls that have been sent, on all workers the same ones. */
static bool is_boundary(const weir_trainer_t *trainer, uint64_t step) {
    return weir_trainer_next_boundary(trainer, step) == step ||
           (trainer->wishes != 0 && trainer->begun == step);
}

/* Rows, gradients, push. */
static weir_err_t compute(weir_trainer_t *trainer, uint64_t step, agreement_t *mine,
                          weir_error_t *error) {
    const pull_t *pull = pull_of(trainer, step);
    weir_err_t err = WEIR_OK;
    if (trainer->begun < step) {
        err = begin_pulls(trainer, step, error);
    }
    if (err == WEIR_OK) {
        err = finish_pull(trainer, step, error);
    }
    weir_dense_begin(trainer->dense, step);
    if (err == WEIR_OK) {
        double started = weir_clock_seconds();
        int64_t begun = weir_trace_begin();
        err = compute_gradients(trainer, pull->batch, &mine->loss_sum, error);
        weir_trace_end(begun, "compute", step, WEIR_TRACE_NOBODY);
        trainer->interval.compute += weir_clock_seconds() - started;
    }
    if (err == WEIR_OK) {
        err = push(trainer, error);
    }
    if (err == WEIR_OK) {
        mine->tokens = pull->batch->sequence.tokens;
        mine->predictions = weir_trainer_predictions(trainer, pull->batch);
        trainer->interval.own_tokens += mine->tokens;
        trainer->interval.keys += keys_of(trainer, pull->batch);
        trainer->interval.missed += pull->missed;
    }
    return err;
}

/* Updated slices that can go already, do: they travel while the batches ahead are read. */
static weir_err_t advance(weir_trainer_t *trainer, weir_error_t *error) {
    int64_t begun = weir_trace_begin();
    weir_err_t err = weir_dense_advance(trainer->dense, error);
    weir_trace_end(begun, "dense update", trainer->state.step, WEIR_TRACE_NOBODY);
    return err;
}

/* The end of a step whose gradients have gone out. */
static weir_err_t update(weir_trainer_t *trainer, const agreement_t *mine, weir_error_t *error) {
    int64_t begun = weir_trace_begin();
    weir_err_t err = weir_dense_finish(trainer->dense, error);
    weir_trace_end(begun, "dense update", trainer->state.step, WEIR_TRACE_NOBODY);
    if (err == WEIR_OK) {
        begun = weir_trace_begin();
        err = agree(trainer, mine, error);
        weir_trace_end(begun, "agree", trainer->state.step, WEIR_TRACE_NOBODY);
    }
    return err;
}

weir_err_t weir_trainer_step(weir_trainer_t *trainer, bool *boundary, weir_error_t *error) {
    uint64_t step = trainer->state.step + 1;
    weir_trace_set_step(step);
    int64_t begun = weir_trace_begin();
    agreement_t mine = {.parameters_checksum = weir_dense_checksum(trainer->dense)};
    weir_err_t err = compute(trainer, step, &mine, error);
    if (err != WEIR_OK) {
        return err;
    }
    mine.wishes = own_wishes(trainer);
    trainer->state.step = step;
    *boundary = is_boundary(trainer, step);
    err = weir_exchange_all_gather_begin(trainer->options.exchange, step, SEQUENCE_AGREE, &mine,
                                         sizeof mine, error);
    if (err == WEIR_OK) {
        err = advance(trainer, error);
    }
    if (err == WEIR_OK && !*boundary && trainer->wishes == 0) {
        err = begin_pulls(trainer, step + 1, error);
    }
    if (err == WEIR_OK) {
        err = update(trainer, &mine, error);
    }
    trainer->interval.steps++;
    weir_trace_end(begun, "step", step, WEIR_TRACE_NOBODY);
    return err;
}
