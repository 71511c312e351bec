#include "worker/evaluate.h"

#include "ps/model_tables.h"
#include "worker/key_set.h"
#include "worker/protocol.h"

#include <stdlib.h>
#include <string.h>

/* Items of the catalogue scored at a time: 64 Ki rows are 13 MB at D = 50. */
enum { CATALOGUE_PIECE = 65536 };

/* The users of one worker, and what ranking needs of each. */
typedef struct {
    const weir_evaluate_parts_t *parts;
    size_t dim;   /* D */
    size_t width; /* of an item's row: D, and its bias */
    size_t max_length, batch_users;
    size_t holdout;           /* events after the target */
    size_t count;             /* users */
    uint64_t *users;          /* count */
    float *encoded;           /* count x width: the last token of each, and a 1 for the bias */
    int64_t *targets;         /* count */
    size_t *excluded_offsets; /* count + 1 */
    int64_t *excluded;        /* items of each history, ascending, once */
    uint64_t *better;         /* count: items at least as good as the target */

    /* of one batch of histories */
    size_t *offsets; /* batch_users + 1 */
    int64_t *items, *times, *next_times;
    uint32_t *rows;
    float *values, *inputs, *outputs; /* U x width, T x width, T x D */
    float *user_rows;                 /* batch_users x D; NULL without model.user_embedding */
    weir_key_set_t *keys;
} evaluation_t;

const char *weir_split_name(weir_split_t split) {
    return split == WEIR_SPLIT_TEST ? "test" : "validation";
}

/* The target's place in a user's events; false when there is no history before it. */
static bool target_of_user(const evaluation_t *evaluation, weir_user_events_t events,
                           size_t *target) {
    return weir_protocol_target(events.count, evaluation->holdout, target);
}

static size_t history_length(const evaluation_t *evaluation, size_t target) {
    return weir_protocol_history(target, evaluation->max_length);
}

/* Which users are this worker's, their targets and the items not to rank. */
static weir_err_t gather_users(evaluation_t *evaluation, weir_error_t *error) {
    const weir_evaluate_parts_t *parts = evaluation->parts;
    uint64_t all = weir_dataset_users(parts->dataset);
    uint32_t workers = weir_exchange_workers(parts->exchange);
    size_t most = (size_t)(all / workers) + 1, events_total = 0, target = 0;
    evaluation->users = calloc(most, sizeof(uint64_t));
    if (evaluation->users == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory to evaluate %zu users", most);
    }
    for (uint64_t user = weir_exchange_worker(parts->exchange); user < all; user += workers) {
        if (target_of_user(evaluation, weir_dataset_user(parts->dataset, user), &target)) {
            evaluation->users[evaluation->count++] = user;
            events_total += history_length(evaluation, target);
        }
    }
    size_t count = evaluation->count;
    evaluation->encoded = calloc(count * evaluation->width + 1, sizeof(float));
    evaluation->targets = calloc(count + 1, sizeof(int64_t));
    evaluation->excluded_offsets = calloc(count + 1, sizeof(size_t));
    evaluation->excluded = calloc(events_total + 1, sizeof(int64_t));
    evaluation->better = calloc(count + 1, sizeof(uint64_t));
    if (evaluation->encoded == NULL || evaluation->targets == NULL ||
        evaluation->excluded_offsets == NULL || evaluation->excluded == NULL ||
        evaluation->better == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory to evaluate %zu users", count);
    }
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        weir_user_events_t events = weir_dataset_user(parts->dataset, evaluation->users[i]);
        (void)target_of_user(evaluation, events, &target);
        size_t length = history_length(evaluation, target);
        evaluation->targets[i] = events.items[target];
        memcpy(evaluation->excluded + used, events.items + target - length,
               length * sizeof(int64_t));
        used += weir_protocol_distinct(evaluation->excluded + used, length);
        evaluation->excluded_offsets[i + 1] = used;
    }
    return WEIR_OK;
}

/* Tokens of the batch of histories that has the most. */
static size_t most_tokens(const evaluation_t *evaluation) {
    size_t most = 0, tokens = 0, target = 0;
    for (size_t i = 0; i < evaluation->count; i++) {
        weir_user_events_t events =
            weir_dataset_user(evaluation->parts->dataset, evaluation->users[i]);
        (void)target_of_user(evaluation, events, &target);
        tokens = i % evaluation->batch_users == 0 ? 0 : tokens;
        tokens += history_length(evaluation, target);
        most = tokens > most ? tokens : most;
    }
    return most;
}

static weir_err_t reserve_batch(evaluation_t *evaluation, weir_error_t *error) {
    size_t tokens = most_tokens(evaluation) + 1, dim = evaluation->dim; /* never of no size */
    size_t piece = tokens > CATALOGUE_PIECE ? tokens : CATALOGUE_PIECE;
    evaluation->offsets = calloc(evaluation->batch_users + 1, sizeof(size_t));
    evaluation->items = calloc(tokens, sizeof(int64_t));
    evaluation->times = calloc(tokens, sizeof(int64_t));
    evaluation->next_times = calloc(tokens, sizeof(int64_t));
    evaluation->rows = calloc(tokens, sizeof(uint32_t));
    evaluation->values = calloc(piece * evaluation->width, sizeof(float));
    evaluation->inputs = calloc(tokens * evaluation->width, sizeof(float));
    evaluation->outputs = calloc(tokens * dim, sizeof(float));
    bool users = evaluation->parts->config->model.user_embedding;
    if (users) {
        evaluation->user_rows = calloc(evaluation->batch_users * dim, sizeof(float));
    }
    if ((users && evaluation->user_rows == NULL) || evaluation->offsets == NULL ||
        evaluation->items == NULL || evaluation->times == NULL || evaluation->next_times == NULL ||
        evaluation->rows == NULL || evaluation->values == NULL || evaluation->inputs == NULL ||
        evaluation->outputs == NULL) {
        weir_err_t err =
            weir_errorf(error, WEIR_ERR_MEMORY, "no memory to evaluate %zu tokens at once", tokens);
        weir_error_hint(error, "a smaller eval.batch_users needs less");
        return err;
    }
    return weir_key_set_create(weir_dataset_items(evaluation->parts->dataset), &evaluation->keys,
                               error);
}

/* Rows of `count` items through the key set: values of the distinct ones, and a row number for
 * each. */
static weir_err_t peek_items(evaluation_t *evaluation, const int64_t *items, size_t count,
                             weir_error_t *error) {
    size_t distinct = 0;
    weir_err_t err = weir_key_set_begin(evaluation->keys, count, error);
    if (err != WEIR_OK) {
        return err;
    }
    weir_key_set_rows(evaluation->keys, items, count, evaluation->rows);
    const weir_key_t *keys = weir_key_set_keys(evaluation->keys, &distinct);
    return weir_ps_client_peek(evaluation->parts->client, WEIR_MODEL_ITEM_TABLE, keys, distinct,
                               evaluation->values, error);
}

/* Encode the histories of users [begin, end) and keep their last tokens. */
static weir_err_t encode_batch(evaluation_t *evaluation, const float *parameters, size_t begin,
                               size_t end, weir_error_t *error) {
    size_t tokens = 0, dim = evaluation->dim, target = 0;
    for (size_t i = begin; i < end; i++) {
        weir_user_events_t events =
            weir_dataset_user(evaluation->parts->dataset, evaluation->users[i]);
        (void)target_of_user(evaluation, events, &target);
        size_t length = history_length(evaluation, target), bytes = length * sizeof(int64_t);
        memcpy(evaluation->items + tokens, events.items + target - length, bytes);
        memcpy(evaluation->times + tokens, events.times + target - length, bytes);
        memcpy(evaluation->next_times + tokens, events.times + target - length + 1, bytes);
        evaluation->offsets[i - begin] = tokens;
        tokens += length;
    }
    evaluation->offsets[end - begin] = tokens;
    weir_err_t err = peek_items(evaluation, evaluation->items, tokens, error);
    if (err == WEIR_OK && evaluation->user_rows != NULL) {
        err = weir_ps_client_peek(evaluation->parts->client, WEIR_MODEL_USER_TABLE,
                                  evaluation->users + begin, end - begin, evaluation->user_rows,
                                  error);
    }
    if (err != WEIR_OK) {
        return err;
    }
    for (size_t i = 0; i < tokens; i++) {
        memcpy(evaluation->inputs + i * dim,
               evaluation->values + evaluation->rows[i] * evaluation->width, dim * sizeof(float));
    }
    weir_sequence_batch_t batch = {.users = end - begin,
                                   .tokens = tokens,
                                   .offsets = evaluation->offsets,
                                   .times = evaluation->times,
                                   .next_times = evaluation->next_times,
                                   .user_rows = evaluation->user_rows};
    weir_forward_mode_t mode = {.train = false};
    err = weir_encoder_forward(evaluation->parts->encoder, parameters, &batch, evaluation->inputs,
                               mode, evaluation->outputs, error);
    if (err != WEIR_OK) {
        return err;
    }
    for (size_t i = begin; i < end; i++) {
        float *encoded = evaluation->encoded + i * evaluation->width;
        memcpy(encoded, evaluation->outputs + (evaluation->offsets[i - begin + 1] - 1) * dim,
               dim * sizeof(float));
        if (evaluation->width > dim) {
            encoded[dim] = 1.0f;
        }
    }
    return WEIR_OK;
}

/* Rows as they are scored: normalised, and the bias in the measure of the cosine, temperature times
 * that of the logit. */
static void scale_rows(const evaluation_t *evaluation, float *rows, size_t count) {
    size_t dim = evaluation->dim, width = evaluation->width;
    if (width == dim) {
        weir_rank_normalise(rows, count, dim);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        weir_rank_normalise(rows + i * width, 1, dim);
        rows[i * width + dim] *= (float)evaluation->parts->config->loss.temperature;
    }
}

/* The scores of the targets themselves, in batches. */
static weir_err_t score_targets(evaluation_t *evaluation, float *scores, weir_error_t *error) {
    size_t width = evaluation->width;
    for (size_t begin = 0; begin < evaluation->count; begin += evaluation->batch_users) {
        size_t end = begin + evaluation->batch_users;
        end = end < evaluation->count ? end : evaluation->count;
        weir_err_t err = peek_items(evaluation, evaluation->targets + begin, end - begin, error);
        if (err != WEIR_OK) {
            return err;
        }
        for (size_t i = 0; i < end - begin; i++) {
            memcpy(evaluation->inputs + i * width, evaluation->values + evaluation->rows[i] * width,
                   width * sizeof(float));
        }
        scale_rows(evaluation, evaluation->inputs, end - begin);
        weir_rank_target_scores(evaluation->encoded + begin * width, evaluation->inputs,
                                end - begin, width, scores + begin);
    }
    return WEIR_OK;
}

/* Let the catalogue pass by in pieces. */
static weir_err_t count_better(evaluation_t *evaluation, const float *scores, weir_error_t *error) {
    uint64_t items = weir_dataset_items(evaluation->parts->dataset);
    weir_err_t err = WEIR_OK;
    weir_key_t *keys = calloc(CATALOGUE_PIECE, sizeof *keys);
    if (keys == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for a piece of the catalogue");
    }
    for (uint64_t first = 1; first <= items && err == WEIR_OK; first += CATALOGUE_PIECE) {
        size_t count =
            (size_t)(items - first + 1 < CATALOGUE_PIECE ? items - first + 1 : CATALOGUE_PIECE);
        for (size_t i = 0; i < count; i++) {
            keys[i] = first + i;
        }
        err = weir_ps_client_peek(evaluation->parts->client, WEIR_MODEL_ITEM_TABLE, keys, count,
                                  evaluation->values, error);
        if (err == WEIR_OK) {
            scale_rows(evaluation, evaluation->values, count);
            err = weir_rank_count(evaluation->encoded, evaluation->count, evaluation->width,
                                  evaluation->values, (int64_t)first, count, evaluation->targets,
                                  scores, evaluation->excluded_offsets, evaluation->excluded,
                                  evaluation->better, error);
        }
    }
    free(keys);
    return err;
}

static weir_err_t rank_users(evaluation_t *evaluation, const float *parameters,
                             weir_metrics_t *metrics, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    float *scores = calloc(evaluation->count + 1, sizeof *scores);
    if (scores == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the targets' scores");
    }
    for (size_t begin = 0; begin < evaluation->count && err == WEIR_OK;
         begin += evaluation->batch_users) {
        size_t end = begin + evaluation->batch_users;
        err = encode_batch(evaluation, parameters, begin,
                           end < evaluation->count ? end : evaluation->count, error);
    }
    if (err == WEIR_OK) {
        err = score_targets(evaluation, scores, error);
    }
    if (err == WEIR_OK) {
        err = count_better(evaluation, scores, error);
    }
    for (size_t i = 0; i < evaluation->count && err == WEIR_OK; i++) {
        weir_metrics_add(metrics, evaluation->better[i] + 1);
    }
    free(scores);
    return err;
}

/* Add the workers' sums, in worker order: the same bits on all of them. */
static weir_err_t sum_metrics(weir_exchange_t *exchange, uint64_t step, uint32_t sequence,
                              weir_metrics_t *metrics, weir_error_t *error) {
    uint32_t workers = weir_exchange_workers(exchange);
    weir_metrics_t *all = calloc(workers, sizeof *all), sum = {0};
    if (all == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the metrics of %u workers",
                           workers);
    }
    weir_err_t err =
        weir_exchange_all_gather(exchange, step, sequence, metrics, sizeof *metrics, all, error);
    for (uint32_t worker = 0; worker < workers && err == WEIR_OK; worker++) {
        sum.users += all[worker].users;
        sum.mrr += all[worker].mrr;
        for (size_t k = 0; k < WEIR_METRIC_CUTOFFS; k++) {
            sum.hr[k] += all[worker].hr[k];
            sum.ndcg[k] += all[worker].ndcg[k];
        }
    }
    if (err == WEIR_OK) {
        *metrics = sum;
    }
    free(all);
    return err;
}

static void release(evaluation_t *evaluation) {
    weir_key_set_destroy(evaluation->keys);
    free(evaluation->users);
    free(evaluation->encoded);
    free(evaluation->targets);
    free(evaluation->excluded_offsets);
    free(evaluation->excluded);
    free(evaluation->better);
    free(evaluation->offsets);
    free(evaluation->items);
    free(evaluation->times);
    free(evaluation->next_times);
    free(evaluation->rows);
    free(evaluation->values);
    free(evaluation->inputs);
    free(evaluation->outputs);
    free(evaluation->user_rows);
}

weir_err_t weir_evaluate(const weir_evaluate_parts_t *parts, const float *parameters,
                         weir_split_t split, uint64_t step, uint32_t sequence,
                         weir_metrics_t *metrics, weir_error_t *error) {
    weir_metrics_t mine = {0};
    evaluation_t evaluation = {
        .parts = parts,
        .dim = (size_t)parts->config->model.embedding_dim,
        .width =
            (size_t)parts->config->model.embedding_dim + (parts->config->model.item_bias ? 1 : 0),
        .max_length = (size_t)parts->config->model.max_sequence_length,
        .batch_users = (size_t)parts->config->eval.batch_users,
        .holdout = split == WEIR_SPLIT_VALIDATION ? 1 : 0,
    };
    weir_err_t err = gather_users(&evaluation, error);
    if (err == WEIR_OK) {
        err = reserve_batch(&evaluation, error);
    }
    if (err == WEIR_OK) {
        err = rank_users(&evaluation, parameters, &mine, error);
    }
    if (err == WEIR_OK) {
        err = sum_metrics(parts->exchange, step, sequence, &mine, error);
    }
    if (err == WEIR_OK) {
        *metrics = mine;
    }
    release(&evaluation);
    return err;
}
