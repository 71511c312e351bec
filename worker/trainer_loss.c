/* The loss of a batch of which not every token has a prediction (weir_encoder_scored, or the batch
 * of a stream): those that have one are gathered, and their gradients spread again. */
#include "worker/trainer_internal.h"

#include <stdlib.h>
#include <string.h>

static weir_loss_form_t *const losses[] = {
    [WEIR_NEGATIVES_TOKEN] = weir_loss_per_token,
    [WEIR_NEGATIVES_BATCH] = weir_loss_shared,
    [WEIR_NEGATIVES_CATALOGUE] = weir_loss_catalogue,
};

static weir_err_t reserve(weir_trainer_t *trainer, size_t tokens, size_t negatives,
                          weir_error_t *error) {
    size_t count = tokens * (negatives + 2);
    if (count > trainer->scored_capacity) {
        free(trainer->scored_rows);
        trainer->scored_rows = malloc(count * sizeof *trainer->scored_rows);
        trainer->scored_capacity = trainer->scored_rows != NULL ? count : 0;
    }
    return trainer->scored_rows != NULL || count == 0
               ? WEIR_OK
               : weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the targets of %zu tokens",
                             tokens);
}

/* Predictions of the scored tokens to the front; their targets, numbers and negatives; how many
 * there are. */
static size_t gather(weir_trainer_t *trainer, const weir_train_batch_t *batch,
                     const uint8_t *scored, size_t negatives, uint32_t *targets, uint32_t *numbers,
                     uint32_t *drawn) {
    size_t dim = trainer->model.embedding_dim, count = 0;
    for (size_t t = 0; t < batch->sequence.tokens; t++) {
        if (scored[t] != 0) {
            memmove(trainer->encoded + count * dim, trainer->encoded + t * dim,
                    dim * sizeof(float));
            targets[count] = batch->target_rows[t];
            numbers[count] = batch->sequence.global_tokens[t];
            if (negatives > 0) {
                memcpy(drawn + count * negatives, batch->negative_rows + t * negatives,
                       negatives * sizeof *drawn);
            }
            count++;
        }
    }
    return count;
}

/* Gradients back to their tokens, zeros to the others. */
static void spread(weir_trainer_t *trainer, const uint8_t *scored, size_t tokens, size_t count) {
    size_t dim = trainer->model.embedding_dim;
    for (size_t t = tokens; t-- > 0;) {
        float *d_encoded = trainer->d_encoded + t * dim;
        if (scored[t] != 0) {
            count--;
            memmove(d_encoded, trainer->d_encoded + count * dim, dim * sizeof(float));
        } else {
            memset(d_encoded, 0, dim * sizeof(float));
        }
    }
}

/* The mixture's parameters are the last: their gradients go out first. */
static weir_err_t mixture_loss(weir_trainer_t *trainer, uint64_t step,
                               const weir_loss_batch_t *sampled, const uint32_t *numbers,
                               double *loss_sum, weir_error_t *error) {
    const weir_config_t *config = trainer->options.config;
    size_t begin = trainer->mixture_offset, end = trainer->parameters->elements;
    const weir_mixture_mode_t mode = {
        .seed = (uint64_t)config->train.seed, .step = step, .global_tokens = numbers};
    weir_err_t err = weir_mixture_loss(
        trainer->mixture, trainer->loss, sampled, config->loss.sharing == WEIR_NEGATIVES_BATCH,
        &mode, weir_dense_parameters(trainer->dense) + begin, trainer->encoded, trainer->rows,
        loss_sum, trainer->d_encoded, trainer->d_rows, weir_dense_gradients(trainer->dense) + begin,
        error);
    if (err == WEIR_OK) {
        weir_dense_ready(trainer->dense, begin, end);
    }
    return err;
}

weir_err_t weir_trainer_loss(weir_trainer_t *trainer, const weir_train_batch_t *batch,
                             double *loss_sum, weir_error_t *error) {
    const weir_config_t *config = trainer->options.config;
    const uint8_t *scored = weir_encoder_scored(trainer->encoder);
    double share =
        weir_encoder_scored_share(&trainer->model, batch->global_users, batch->global_predictions);
    scored = scored != NULL ? scored : batch->predicted;
    weir_loss_batch_t sampled = {.tokens = batch->sequence.tokens,
                                 .rows = batch->key_count,
                                 .dim = trainer->model.embedding_dim,
                                 .biased = config->model.item_bias,
                                 .negatives = (size_t)config->loss.negatives,
                                 .targets = batch->target_rows,
                                 .negative_rows = batch->negative_rows,
                                 .temperature = config->loss.temperature,
                                 .scale = 1.0 / ((double)batch->global_predictions * share)};
    const uint32_t *numbers = batch->sequence.global_tokens;
    if (scored != NULL) {
        size_t negatives = config->loss.sharing == WEIR_NEGATIVES_TOKEN ? sampled.negatives : 0;
        weir_err_t err = reserve(trainer, sampled.tokens, negatives, error);
        if (err != WEIR_OK) {
            return err;
        }
        uint32_t *targets = trainer->scored_rows, *drawn = targets + 2 * sampled.tokens;
        numbers = targets + sampled.tokens;
        sampled.tokens =
            gather(trainer, batch, scored, negatives, targets, targets + sampled.tokens, drawn);
        sampled.targets = targets;
        sampled.negative_rows = negatives > 0 ? drawn : sampled.negative_rows;
    }
    weir_err_t err =
        trainer->mixture != NULL
            ? mixture_loss(trainer, batch->step, &sampled, numbers, loss_sum, error)
            : losses[config->loss.sharing](trainer->loss, &sampled, trainer->encoded, trainer->rows,
                                           loss_sum, trainer->d_encoded, trainer->d_rows, error);
    if (err == WEIR_OK && scored != NULL) {
        spread(trainer, scored, batch->sequence.tokens, sampled.tokens);
        *loss_sum /= share; /* the sum as if every token had one, for the mean */
    }
    return err;
}
