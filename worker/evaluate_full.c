#include "worker/evaluate_full.h"

#include "common/file.h"
#include "common/frame.h"
#include "worker/evaluate_lists.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Exchanges of one split, after its first number. */
enum { COUNTS, RESULTS, LISTS };

typedef struct {
    const weir_evaluate_parts_t *parts;
    const float *parameters;
    weir_split_t split;
    uint64_t step;
    uint32_t sequence;
    weir_item_popularity_t popularity;
    weir_list_cutoffs_t cutoffs;
    weir_list_metrics_t *lists;  /* owned; NULL without eval.full */
    weir_user_result_t *results; /* owned; on worker 0 those of all */
    size_t count;
} evaluation_t;

/* ---- over all workers ---- */

/* Worker 0: those of all, in the order of users; others: none any more. */
static weir_err_t gather_results(evaluation_t *evaluation, weir_error_t *error) {
    weir_exchange_t *exchange = evaluation->parts->exchange;
    uint32_t workers = weir_exchange_workers(exchange), me = weir_exchange_worker(exchange);
    uint64_t mine = evaluation->count, *counts = calloc(workers, sizeof *counts), all = 0;
    weir_user_result_t *gathered = NULL;
    if (counts == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the counts of %u workers",
                           workers);
    }
    weir_err_t err =
        weir_exchange_all_gather(exchange, evaluation->step, evaluation->sequence + COUNTS, &mine,
                                 sizeof mine, counts, error);
    for (uint32_t worker = 0; worker < workers; worker++) {
        all += counts[worker];
    }
    if (err == WEIR_OK && me == 0) {
        gathered = calloc((size_t)all + 1, sizeof *gathered);
        if (gathered == NULL) {
            err = weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the results of %llu users",
                              (unsigned long long)all);
        } else {
            memcpy(gathered, evaluation->results, evaluation->count * sizeof *gathered);
        }
    } else if (err == WEIR_OK && mine > 0) {
        err = weir_exchange_send(exchange, WEIR_FRAME_BARRIER, evaluation->step,
                                 evaluation->sequence + RESULTS, 0, evaluation->results,
                                 evaluation->count * sizeof *gathered, error);
    }
    size_t used = evaluation->count;
    for (uint32_t other = 1; other < workers && err == WEIR_OK && me == 0; other++) {
        size_t size = (size_t)counts[other] * sizeof *gathered;
        void *payload = NULL;
        if (counts[other] == 0) {
            continue;
        }
        err = weir_exchange_receive(exchange, WEIR_FRAME_BARRIER, evaluation->step,
                                    evaluation->sequence + RESULTS, other, size, &payload, error);
        if (err == WEIR_OK) {
            memcpy(gathered + used, payload, size);
            used += (size_t)counts[other];
        }
        weir_buffer_release(payload);
    }
    free(counts);
    if (err != WEIR_OK) {
        free(gathered);
        return err;
    }
    free(evaluation->results);
    evaluation->results = gathered;
    evaluation->count = me == 0 ? used : 0;
    if (me == 0) {
        weir_user_results_sort(gathered, used);
    }
    return WEIR_OK;
}

/* Worker 0 counts what the others have counted. */
static weir_err_t merge_lists(evaluation_t *evaluation, weir_error_t *error) {
    weir_exchange_t *exchange = evaluation->parts->exchange;
    uint32_t workers = weir_exchange_workers(exchange), sequence = evaluation->sequence + LISTS;
    size_t size = 0;
    const void *state = weir_list_metrics_state(evaluation->lists, &size);
    weir_err_t err = WEIR_OK;
    if (weir_exchange_worker(exchange) != 0) {
        return weir_exchange_send(exchange, WEIR_FRAME_BARRIER, evaluation->step, sequence, 0,
                                  state, size, error);
    }
    for (uint32_t other = 1; other < workers && err == WEIR_OK; other++) {
        void *payload = NULL;
        err = weir_exchange_receive(exchange, WEIR_FRAME_BARRIER, evaluation->step, sequence, other,
                                    size, &payload, error);
        if (err == WEIR_OK) {
            weir_list_metrics_merge(evaluation->lists, payload);
        }
        weir_buffer_release(payload);
    }
    return err;
}

static weir_err_t measure_lists(evaluation_t *evaluation, weir_error_t *error) {
    const weir_evaluate_parts_t *parts = evaluation->parts;
    weir_err_t err = weir_list_cutoffs_parse(parts->config->eval.cutoffs, WEIR_LIST_LONGEST,
                                             &evaluation->cutoffs, error);
    if (err == WEIR_OK) {
        err = weir_evaluate_popularity(parts, &evaluation->popularity, error);
    }
    if (err == WEIR_OK) {
        err = weir_list_metrics_create(&evaluation->cutoffs, &evaluation->popularity,
                                       &evaluation->lists, error);
    }
    if (err == WEIR_OK) {
        err = weir_evaluate_lists(parts, evaluation->parameters, evaluation->split,
                                  &evaluation->cutoffs, evaluation->lists, error);
    }
    return err == WEIR_OK ? merge_lists(evaluation, error) : err;
}

/* ---- the report ---- */

static void print_number(FILE *out, const char *name, double value) {
    if (isfinite(value)) {
        (void)fprintf(out, ", \"%s\": %.10g", name, value);
    } else {
        (void)fprintf(out, ", \"%s\": null", name); /* of nothing */
    }
}

static void print_lists(const evaluation_t *evaluation, FILE *out) {
    (void)fprintf(out, ", \"lists\": {\"users\": %llu",
                  (unsigned long long)weir_list_metrics_users(evaluation->lists));
    for (int kind = 0; kind < WEIR_LIST_KINDS; kind++) {
        for (size_t i = 0; i < evaluation->cutoffs.count; i++) {
            char name[64];
            (void)snprintf(name, sizeof name, "%s@%zu", weir_list_kind_name((weir_list_kind_t)kind),
                           evaluation->cutoffs.at[i]);
            print_number(out, name,
                         weir_list_metrics_value(evaluation->lists, (weir_list_kind_t)kind, i));
        }
    }
    print_number(out, "r_precision", weir_list_metrics_r_precision(evaluation->lists));
    (void)fputs("}", out);
}

static weir_err_t print_full(const evaluation_t *evaluation, FILE *out, weir_error_t *error) {
    char text[1024];
    weir_metrics_t cold, warm;
    double opportunity = 0.0;
    const weir_item_popularity_t *popularity = &evaluation->popularity;
    weir_err_t err = weir_user_results_opportunity(evaluation->results, evaluation->count,
                                                   popularity, &opportunity, error);
    if (err != WEIR_OK) {
        return err;
    }
    print_lists(evaluation, out);
    print_number(out, "popularity_opportunity", opportunity);
    weir_user_results_split_cold(evaluation->results, evaluation->count, popularity, &cold, &warm);
    weir_metrics_to_json(&cold, text, sizeof text);
    (void)fprintf(out, ", \"cold_items\": %s", text);
    weir_metrics_to_json(&warm, text, sizeof text);
    (void)fprintf(out, ", \"warm_items\": %s", text);
    (void)fprintf(out, ", \"catalogue\": {\"items\": %llu, \"in_training\": %llu, \"users\": %llu}",
                  (unsigned long long)popularity->items, (unsigned long long)popularity->warm,
                  (unsigned long long)popularity->users);
    return WEIR_OK;
}

static weir_err_t report(const evaluation_t *evaluation, FILE *out, weir_error_t *error) {
    char text[1024];
    weir_metrics_t metrics = {0};
    weir_err_t err = WEIR_OK;
    for (size_t i = 0; i < evaluation->count; i++) { /* in the order of users, whoever had them */
        weir_metrics_add(&metrics, evaluation->results[i].rank);
    }
    weir_metrics_to_json(&metrics, text, sizeof text);
    (void)fprintf(out, "%.*s", (int)strlen(text) - 1, text); /* its brace is closed below */
    if (evaluation->lists != NULL) {
        err = print_full(evaluation, out, error);
    }
    (void)fputs("}", out);
    return err;
}

static weir_err_t write_users(const evaluation_t *evaluation, const char *run,
                              weir_error_t *error) {
    char name[64], path[WEIR_PATH_MAX], source[WEIR_PATH_MAX + 64];
    const char *split = weir_split_name(evaluation->split);
    (void)snprintf(name, sizeof name, "eval-users-%s.safetensors", split);
    (void)snprintf(source, sizeof source, "%s, step %llu", run,
                   (unsigned long long)evaluation->step);
    weir_err_t err = weir_path_join(path, sizeof path, run, name, error);
    return err == WEIR_OK ? weir_user_results_write(path, split, source, evaluation->results,
                                                    evaluation->count, error)
                          : err;
}

weir_err_t weir_evaluate_full(const weir_evaluate_parts_t *parts, const float *parameters,
                              weir_split_t split, uint64_t step, uint32_t sequence, const char *run,
                              FILE *out, weir_error_t *error) {
    evaluation_t evaluation = {.parts = parts,
                               .parameters = parameters,
                               .split = split,
                               .step = step,
                               .sequence = sequence};
    bool first = weir_exchange_worker(parts->exchange) == 0;
    weir_err_t err = weir_evaluate_users(parts, parameters, split, &evaluation.results,
                                         &evaluation.count, error);
    if (err == WEIR_OK && parts->config->eval.full) {
        err = measure_lists(&evaluation, error);
    }
    if (err == WEIR_OK) {
        err = gather_results(&evaluation, error);
    }
    if (err == WEIR_OK && first) {
        err = report(&evaluation, out, error);
    }
    if (err == WEIR_OK && first && parts->config->eval.users) {
        err = write_users(&evaluation, run, error);
    }
    weir_item_popularity_fini(&evaluation.popularity);
    weir_list_metrics_destroy(evaluation.lists);
    free(evaluation.results);
    return err;
}
