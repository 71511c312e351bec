#include "worker/evaluate.h"

#include "worker/protocol.h"
#include "worker/retrieval.h"
#include "worker/score_pass.h"

#include <stdlib.h>
#include <string.h>

/* The users of one worker, and what ranking needs of each. */
typedef struct {
    const weir_evaluate_parts_t *parts;
    weir_retrieval_t *retrieval;
    weir_similarity_t similarity;
    weir_split_t split;
    size_t count;              /* users */
    weir_history_t *histories; /* count: the events before the targets */
    float *encoded;            /* count x query_width */
    int64_t *targets;          /* count */
    float *scores;             /* count: of the targets */
    size_t *excluded_offsets;  /* count + 1 */
    int64_t *excluded;         /* items of each history, ascending, once */
    uint64_t *better;          /* count: items at least as good as the target */
} evaluation_t;

const char *weir_split_name(weir_split_t split) {
    return split == WEIR_SPLIT_TEST ? "test" : "validation";
}

static weir_history_t history_before(const weir_evaluate_parts_t *parts, uint64_t user,
                                     size_t target) {
    size_t length = weir_protocol_history(target, (size_t)parts->config->model.max_sequence_length);
    return (weir_history_t){user, target - length, length,
                            weir_dataset_user(parts->dataset, user).times[target]};
}

bool weir_evaluate_history(const weir_evaluate_parts_t *parts, weir_split_t split, uint64_t user,
                           weir_history_t *history) {
    weir_user_events_t events = weir_dataset_user(parts->dataset, user);
    size_t target = weir_protocol_known(events, parts->config->eval.test_from);
    if (split == WEIR_SPLIT_VALIDATION) {
        target -= target > 0 ? 1 : 0;
    }
    if (target == 0 || target == events.count) {
        return false;
    }
    *history = history_before(parts, user, target);
    return true;
}

/* Which users are this worker's, and their histories. */
static weir_err_t gather_users(evaluation_t *evaluation, size_t *events_total,
                               weir_error_t *error) {
    const weir_evaluate_parts_t *parts = evaluation->parts;
    const weir_windows_entry_t *entries = NULL;
    size_t all = (size_t)weir_dataset_users(parts->dataset);
    uint32_t workers = weir_exchange_workers(parts->exchange);
    if (parts->stream != NULL) {
        entries = weir_windows_entries(parts->stream, parts->window, &all);
    }
    evaluation->histories = calloc(all / workers + 1, sizeof *evaluation->histories);
    if (evaluation->histories == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory to evaluate %zu users",
                           all / workers + 1);
    }
    for (size_t i = weir_exchange_worker(parts->exchange); i < all; i += workers) {
        weir_history_t *history = &evaluation->histories[evaluation->count];
        if (entries != NULL) {
            *history = history_before(parts, entries[i].user, entries[i].end - 1);
        } else if (!weir_evaluate_history(parts, evaluation->split, i, history)) {
            continue;
        }
        evaluation->count++;
        *events_total += history->count;
    }
    return WEIR_OK;
}

/* Their targets and the items not to rank. */
static weir_err_t gather_targets(evaluation_t *evaluation, size_t events_total,
                                 weir_error_t *error) {
    size_t count = evaluation->count, used = 0;
    evaluation->encoded = calloc(count * evaluation->similarity.query_width + 1, sizeof(float));
    evaluation->targets = calloc(count + 1, sizeof(int64_t));
    evaluation->scores = calloc(count + 1, sizeof(float));
    evaluation->excluded_offsets = calloc(count + 1, sizeof(size_t));
    evaluation->excluded = calloc(events_total + 1, sizeof(int64_t));
    evaluation->better = calloc(count + 1, sizeof(uint64_t));
    if (evaluation->encoded == NULL || evaluation->targets == NULL || evaluation->scores == NULL ||
        evaluation->excluded_offsets == NULL || evaluation->excluded == NULL ||
        evaluation->better == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory to evaluate %zu users", count);
    }
    for (size_t i = 0; i < count; i++) {
        const weir_history_t *history = &evaluation->histories[i];
        weir_user_events_t events = weir_dataset_user(evaluation->parts->dataset, history->user);
        evaluation->targets[i] = events.items[history->first + history->count];
        if (!evaluation->parts->config->eval.rank_known) {
            memcpy(evaluation->excluded + used, events.items + history->first,
                   history->count * sizeof(int64_t));
            used += weir_protocol_distinct(evaluation->excluded + used, history->count);
        }
        evaluation->excluded_offsets[i + 1] = used;
    }
    return WEIR_OK;
}

/* The scores of the targets themselves, in batches. */
static weir_err_t score_targets(evaluation_t *evaluation, weir_error_t *error) {
    weir_similarity_t similarity = evaluation->similarity;
    size_t most = (size_t)evaluation->parts->config->eval.batch_users;
    weir_err_t err = WEIR_OK;
    float *rows = calloc(most * similarity.item_width, sizeof *rows);
    if (rows == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the targets' rows");
    }
    for (size_t begin = 0; begin < evaluation->count && err == WEIR_OK; begin += most) {
        size_t left = evaluation->count - begin, count = left < most ? left : most;
        err = weir_retrieval_rows(evaluation->retrieval, evaluation->targets + begin, count, rows,
                                  error);
        if (err == WEIR_OK) {
            err = weir_score_own(evaluation->encoded + begin * similarity.query_width, rows, count,
                                 similarity, evaluation->scores + begin, error);
        }
    }
    free(rows);
    return err;
}

static weir_err_t count_better(void *argument, const float *rows, int64_t first_item, size_t count,
                               weir_error_t *error) {
    evaluation_t *evaluation = argument;
    return weir_rank_count(evaluation->encoded, evaluation->count, evaluation->similarity, rows,
                           first_item, count, evaluation->targets, evaluation->scores,
                           evaluation->excluded_offsets, evaluation->excluded, evaluation->better,
                           error);
}

static weir_err_t rank_users(evaluation_t *evaluation, weir_error_t *error) {
    size_t events_total = 0;
    weir_err_t err = gather_users(evaluation, &events_total, error);
    if (err == WEIR_OK) {
        err = gather_targets(evaluation, events_total, error);
    }
    if (err == WEIR_OK) {
        err = weir_retrieval_encode(evaluation->retrieval, evaluation->histories, evaluation->count,
                                    evaluation->encoded, error);
    }
    if (err == WEIR_OK) {
        err = score_targets(evaluation, error);
    }
    if (err == WEIR_OK) {
        const weir_evaluate_parts_t *parts = evaluation->parts;
        uint64_t items = parts->stream != NULL
                             ? weir_windows_catalogue(parts->stream, parts->window)
                             : weir_dataset_items(parts->dataset);
        err =
            weir_retrieval_catalogue(evaluation->retrieval, items, count_better, evaluation, error);
    }
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
    weir_retrieval_destroy(evaluation->retrieval);
    free(evaluation->histories);
    free(evaluation->encoded);
    free(evaluation->targets);
    free(evaluation->scores);
    free(evaluation->excluded_offsets);
    free(evaluation->excluded);
    free(evaluation->better);
}

weir_err_t weir_evaluate_users(const weir_evaluate_parts_t *parts, const float *parameters,
                               weir_split_t split, weir_user_result_t **results, size_t *count,
                               weir_error_t *error) {
    const weir_retrieval_parts_t retrieval = {.config = parts->config,
                                              .dataset = parts->dataset,
                                              .encoder = parts->encoder,
                                              .client = parts->client,
                                              .parameters = parameters,
                                              .mixture = parts->mixture,
                                              .mixture_offset = parts->mixture_offset};
    evaluation_t evaluation = {.parts = parts, .split = split};
    weir_user_result_t *made = NULL;
    weir_err_t err = weir_retrieval_create(&retrieval, &evaluation.retrieval, error);
    if (err == WEIR_OK) {
        evaluation.similarity = weir_retrieval_similarity(evaluation.retrieval);
        err = rank_users(&evaluation, error);
    }
    if (err == WEIR_OK) {
        made = calloc(evaluation.count + 1, sizeof *made);
        if (made == NULL) {
            err = weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the ranks of %zu users",
                              evaluation.count);
        }
    }
    if (err == WEIR_OK) {
        for (size_t i = 0; i < evaluation.count; i++) {
            made[i] = (weir_user_result_t){evaluation.histories[i].user, evaluation.targets[i],
                                           evaluation.better[i] + 1};
        }
        *results = made;
        *count = evaluation.count;
    }
    release(&evaluation);
    return err;
}

weir_err_t weir_evaluate(const weir_evaluate_parts_t *parts, const float *parameters,
                         weir_split_t split, uint64_t step, uint32_t sequence,
                         weir_metrics_t *metrics, weir_error_t *error) {
    weir_metrics_t mine = {0};
    weir_user_result_t *results = NULL;
    size_t count = 0;
    weir_err_t err = weir_evaluate_users(parts, parameters, split, &results, &count, error);
    for (size_t i = 0; i < count; i++) {
        weir_metrics_add(&mine, results[i].rank);
    }
    free(results);
    if (err == WEIR_OK) {
        err = sum_metrics(parts->exchange, step, sequence, &mine, error);
    }
    if (err == WEIR_OK) {
        *metrics = mine;
    }
    return err;
}
