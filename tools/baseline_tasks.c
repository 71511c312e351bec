#include "tools/baseline_tasks.h"

#include "common/dataset_split.h"
#include "common/hash.h"
#include "common/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SLOT_LIMIT = 2 + 3 * WEIR_DATASET_MAX_FEATURES };

static int compare_times(const void *left, const void *right) {
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

weir_err_t weir_baseline_tasks_defaults(const weir_dataset_t *dataset,
                                        weir_baseline_tasks_options_t *options,
                                        weir_error_t *error) {
    size_t count = (size_t)weir_dataset_events(dataset), used = 0;
    int64_t *times = malloc((count + 1) * sizeof *times);
    if (times == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the times of %zu events", count);
    }
    for (uint64_t user = 0; user < weir_dataset_users(dataset); user++) {
        weir_user_events_t events = weir_dataset_user(dataset, user);
        memcpy(times + used, events.times, events.count * sizeof *times);
        used += events.count;
    }
    qsort(times, used, sizeof *times, compare_times);
    *options = (weir_baseline_tasks_options_t){.test_from = times[used - 1 - (used - 1) / 10],
                                               .test_until = INT64_MAX,
                                               .max_samples = 1 << 24,
                                               .prior = 20.0,
                                               .bits = 20,
                                               .epochs = 5,
                                               .seed = 1,
                                               .rate = 0.05,
                                               .decay = 0.001};
    free(times);
    return WEIR_OK;
}

typedef struct {
    uint64_t row; /* of the event among all */
    uint32_t user;
    uint32_t item; /* from 1 */
} event_t;

typedef struct {
    const weir_dataset_t *dataset;
    const weir_dataset_columns_t *columns;
    const weir_baseline_tasks_options_t *options;
    event_t *train, *test; /* owned, of one block that begins at train */
    size_t train_count, test_count;
    double rates[WEIR_DATASET_MAX_ACTIONS]; /* of each action in training */
} split_t;

static bool has_action(const split_t *split, const event_t *event, size_t task) {
    return split->columns->action_bits[event->row] >> task & 1;
}

static weir_err_t make_split(const weir_dataset_t *dataset,
                             const weir_baseline_tasks_options_t *options, split_t *split,
                             weir_error_t *error) {
    uint64_t events = weir_dataset_events(dataset), users = weir_dataset_users(dataset);
    *split =
        (split_t){.dataset = dataset, .columns = weir_dataset_columns(dataset), .options = options};
    if (split->columns->action_count == 0) {
        weir_err_t err = weir_errorf(error, WEIR_ERR_INVALID, "the data has no actions to predict");
        weir_error_hint(error, "`weir prepare tables` and `weir synth --actions` make such data");
        return err;
    }
    if (events >= UINT32_MAX || users >= UINT32_MAX || weir_dataset_items(dataset) >= UINT32_MAX) {
        return weir_errorf(error, WEIR_ERR_UNSUPPORTED,
                           "more than 2^32 - 2 events, users or items");
    }
    split->train = malloc(((size_t)events + 1) * sizeof *split->train);
    if (split->train == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the split of %llu events",
                           (unsigned long long)events);
    }
    split->test = split->train + events; /* filled from the end of the block */
    for (uint64_t user = 0; user < users; user++) {
        weir_user_events_t list = weir_dataset_user(dataset, user);
        uint64_t first = weir_dataset_first_event(dataset, user);
        size_t tests = weir_dataset_first_test(list, options->test_from);
        size_t end = weir_dataset_first_test(list, options->test_until);
        for (size_t i = 0; i < end || i < tests; i++) {
            event_t event = {first + i, (uint32_t)user, (uint32_t)list.items[i]};
            if (i < tests) {
                split->train[split->train_count++] = event;
            } else {
                *--split->test = event;
                split->test_count++;
            }
        }
    }
    if (split->train_count == 0 || split->test_count == 0) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "%zu events before %lld to train on, %zu from then on to test",
                           split->train_count, (long long)options->test_from, split->test_count);
    }
    for (size_t task = 0; task < split->columns->action_count; task++) {
        double positives = 0.0;
        for (size_t i = 0; i < split->train_count; i++) {
            positives += has_action(split, &split->train[i], task) ? 1.0 : 0.0;
        }
        /* as if half an event had it and half had not: never 0, never 1 */
        split->rates[task] = (positives + 0.5) / ((double)split->train_count + 1.0);
    }
    return WEIR_OK;
}

static double logit(double rate) {
    return log(rate) - log1p(-rate);
}

/* Score every test; `score` gives the logits of all tasks. */
typedef void score_t(const void *model, const split_t *split, const event_t *event, float *logits);

static weir_err_t test_model(const split_t *split, score_t *score, const void *model,
                             weir_task_metrics_t **metrics, weir_error_t *error) {
    weir_task_kind_t kinds[WEIR_DATASET_MAX_ACTIONS];
    float logits[WEIR_DATASET_MAX_ACTIONS];
    weir_task_metrics_t *made = NULL;
    size_t tasks = split->columns->action_count;
    for (size_t task = 0; task < tasks; task++) {
        kinds[task] = WEIR_TASK_BINARY;
    }
    weir_err_t err =
        weir_task_metrics_create(kinds, tasks, split->options->max_samples, &made, error);
    for (size_t i = 0; err == WEIR_OK && i < split->test_count; i++) {
        const event_t *event = &split->test[i];
        score(model, split, event, logits);
        for (size_t task = 0; err == WEIR_OK && task < tasks; task++) {
            err = weir_task_metrics_add(made, task, event->user,
                                        has_action(split, event, task) ? 1.0f : 0.0f, logits[task],
                                        error);
        }
    }
    if (err != WEIR_OK) {
        weir_task_metrics_destroy(made);
        return err;
    }
    *metrics = made;
    return WEIR_OK;
}

/* ---- rates ---- */

typedef struct {
    uint32_t *events;    /* [C + 1] of an item, in training */
    uint32_t *positives; /* [C + 1][tasks] */
} rates_t;

static void score_rates(const void *model, const split_t *split, const event_t *event,
                        float *logits) {
    const rates_t *rates = model;
    double prior = split->options->prior;
    size_t tasks = split->columns->action_count;
    for (size_t task = 0; task < tasks; task++) {
        double positives = (double)rates->positives[event->item * tasks + task];
        double rate =
            (positives + prior * split->rates[task]) / ((double)rates->events[event->item] + prior);
        logits[task] = (float)logit(rate);
    }
}

weir_err_t weir_baseline_tasks_rates(const weir_dataset_t *dataset,
                                     const weir_baseline_tasks_options_t *options,
                                     weir_baseline_tasks_counts_t *counts,
                                     weir_task_metrics_t **metrics, weir_error_t *error) {
    split_t split;
    rates_t rates = {0};
    if (!(options->prior > 0.0) || !isfinite(options->prior)) {
        return weir_errorf(error, WEIR_ERR_INVALID, "a prior of %g events: expected more than 0",
                           options->prior);
    }
    weir_err_t err = make_split(dataset, options, &split, error);
    size_t items = (size_t)weir_dataset_items(dataset) + 1, tasks = split.columns->action_count;
    if (err == WEIR_OK) {
        rates.events = calloc(items, sizeof *rates.events);
        rates.positives = calloc(items * tasks, sizeof *rates.positives);
        if (rates.events == NULL || rates.positives == NULL) {
            err = weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the rates of %zu items",
                              items - 1);
        }
    }
    for (size_t i = 0; err == WEIR_OK && i < split.train_count; i++) {
        const event_t *event = &split.train[i];
        rates.events[event->item]++;
        for (size_t task = 0; task < tasks; task++) {
            rates.positives[event->item * tasks + task] += has_action(&split, event, task);
        }
    }
    if (err == WEIR_OK) {
        err = test_model(&split, score_rates, &rates, metrics, error);
    }
    if (err == WEIR_OK) {
        *counts = (weir_baseline_tasks_counts_t){split.train_count, split.test_count};
    }
    free(split.train);
    free(rates.events);
    free(rates.positives);
    return err;
}

/* ---- logistic ---- */

/* Of a hashed value, for each task: weight, and the sum of its squared gradients. */
typedef struct {
    float weight, squares;
} cell_t;

typedef struct {
    cell_t *cells; /* [2^bits][tasks] */
    double bias[WEIR_DATASET_MAX_ACTIONS];
} logistic_t;

static size_t slot_of(const split_t *split, uint64_t kind, uint64_t feature, uint64_t id) {
    uint64_t key = weir_hash64(id) ^ (kind << 8 | feature);
    return (size_t)(weir_hash64(key) >> (64 - split->options->bits));
}

/* Where an event's values are in the table; returns how many. A value not known is a value too. */
static size_t find_slots(const split_t *split, const event_t *event, size_t slots[SLOT_LIMIT]) {
    const weir_dataset_columns_t *columns = split->columns;
    size_t count = 0;
    slots[count++] = slot_of(split, 0, 0, event->user);
    slots[count++] = slot_of(split, 1, 0, event->item);
    for (size_t i = 0; i < columns->context_count; i++) {
        slots[count++] = slot_of(split, 2, i, columns->context[i].ids[event->row]);
    }
    for (size_t i = 0; i < columns->item_count; i++) {
        slots[count++] = slot_of(split, 3, i, columns->items[i].ids[event->item - 1]);
    }
    for (size_t i = 0; i < columns->user_count; i++) {
        slots[count++] = slot_of(split, 4, i, columns->users[i].ids[event->user]);
    }
    return count;
}

static void score_logistic(const void *model, const split_t *split, const event_t *event,
                           float *logits) {
    const logistic_t *logistic = model;
    size_t slots[SLOT_LIMIT], tasks = split->columns->action_count;
    size_t count = find_slots(split, event, slots);
    for (size_t task = 0; task < tasks; task++) {
        double z = logistic->bias[task];
        for (size_t i = 0; i < count; i++) {
            z += (double)logistic->cells[slots[i] * tasks + task].weight;
        }
        logits[task] = (float)z;
    }
}

static void train_event(logistic_t *logistic, const split_t *split, const event_t *event) {
    float logits[WEIR_DATASET_MAX_ACTIONS];
    size_t slots[SLOT_LIMIT], tasks = split->columns->action_count;
    size_t count = find_slots(split, event, slots);
    score_logistic(logistic, split, event, logits);
    for (size_t task = 0; task < tasks; task++) {
        double label = has_action(split, event, task) ? 1.0 : 0.0;
        double slope = 1.0 / (1.0 + exp(-(double)logits[task])) - label;
        for (size_t i = 0; i < count; i++) {
            cell_t *cell = &logistic->cells[slots[i] * tasks + task];
            double gradient = slope + split->options->decay * (double)cell->weight;
            cell->squares += (float)(gradient * gradient);
            cell->weight -=
                (float)(split->options->rate * gradient / (sqrt((double)cell->squares) + 1e-6));
        }
    }
}

static weir_err_t train_logistic(logistic_t *logistic, const split_t *split, weir_error_t *error) {
    uint32_t *order = malloc((split->train_count + 1) * sizeof *order);
    if (order == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the order of %zu events",
                           split->train_count);
    }
    for (size_t task = 0; task < split->columns->action_count; task++) {
        logistic->bias[task] = logit(split->rates[task]);
    }
    for (uint64_t epoch = 0; epoch < split->options->epochs; epoch++) {
        weir_rng_permutation(split->options->seed, WEIR_STREAM_SHUFFLE, epoch, order,
                             split->train_count);
        for (size_t i = 0; i < split->train_count; i++) {
            train_event(logistic, split, &split->train[order[i]]);
        }
    }
    free(order);
    return WEIR_OK;
}

weir_err_t weir_baseline_tasks_logistic(const weir_dataset_t *dataset,
                                        const weir_baseline_tasks_options_t *options,
                                        weir_baseline_tasks_counts_t *counts,
                                        weir_task_metrics_t **metrics, weir_error_t *error) {
    split_t split;
    if (options->bits < 1 || options->bits > 28 || !(options->rate > 0.0) ||
        !(options->decay >= 0.0) || !isfinite(options->rate) || !isfinite(options->decay)) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "%u bits, rate %g, decay %g: expected 1 to 28, above 0, from 0 on",
                           options->bits, options->rate, options->decay);
    }
    logistic_t *logistic = calloc(1, sizeof *logistic);
    weir_err_t err = make_split(dataset, options, &split, error);
    if (err == WEIR_OK && logistic != NULL) {
        size_t cells = split.columns->action_count << options->bits;
        logistic->cells = calloc(cells, sizeof *logistic->cells);
    }
    if (err == WEIR_OK && (logistic == NULL || logistic->cells == NULL)) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "no memory for 2^%u weights of %zu tasks",
                          options->bits, split.columns->action_count);
    }
    if (err == WEIR_OK) {
        err = train_logistic(logistic, &split, error);
    }
    if (err == WEIR_OK) {
        err = test_model(&split, score_logistic, logistic, metrics, error);
    }
    if (err == WEIR_OK) {
        *counts = (weir_baseline_tasks_counts_t){split.train_count, split.test_count};
    }
    free(split.train);
    if (logistic != NULL) {
        free(logistic->cells);
    }
    free(logistic);
    return err;
}
