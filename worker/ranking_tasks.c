#include "worker/ranking_tasks.h"

#include "worker/protocol.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char positive[] = "positive";

/* The action or number of that name, into kind and column. */
static bool find_column(const weir_dataset_columns_t *columns, weir_ranking_task_t *task) {
    task->kind = WEIR_TASK_BINARY;
    for (task->column = 0; task->column < columns->action_count; task->column++) {
        if (strcmp(columns->actions[task->column], task->name) == 0) {
            return true;
        }
    }
    task->column = 0;
    if (columns->action_count == 0 && strcmp(task->name, positive) == 0) {
        return true;
    }
    task->kind = WEIR_TASK_REGRESSION;
    for (task->column = 0; task->column < columns->number_count; task->column++) {
        if (strcmp(columns->numbers[task->column].name, task->name) == 0) {
            return true;
        }
    }
    return false;
}

static weir_err_t refuse(const weir_dataset_columns_t *columns, const char *name,
                         weir_error_t *error) {
    char there[1024];
    size_t used = 0;
    there[0] = '\0';
    for (size_t i = 0; i < columns->action_count + columns->number_count; i++) {
        const char *other = i < columns->action_count
                                ? columns->actions[i]
                                : columns->numbers[i - columns->action_count].name;
        if (used + strlen(other) + 3 < sizeof there) {
            used += (size_t)snprintf(there + used, sizeof there - used, "%s%s", i > 0 ? ", " : "",
                                     other);
        }
    }
    weir_err_t err = weir_errorf(error, WEIR_ERR_INVALID,
                                 "ranking.tasks names \"%s\", which is no action and no number of "
                                 "the data",
                                 name);
    weir_error_hint(error, "there are: %s", columns->action_count == 0 ? positive : there);
    return err;
}

/* One of the list: a name, or name=weight. */
static weir_err_t read_task(const weir_dataset_columns_t *columns, const char *text, size_t size,
                            weir_ranking_tasks_t *tasks, weir_error_t *error) {
    weir_ranking_task_t *task = &tasks->list[tasks->count];
    const char *equals = memchr(text, '=', size);
    size_t length = equals != NULL ? (size_t)(equals - text) : size;
    char *end = NULL, number[32];
    *task = (weir_ranking_task_t){.weight = 1.0, .scale = 1.0};
    while (length > 0 && text[length - 1] == ' ') {
        length--;
    }
    (void)snprintf(task->name, sizeof task->name, "%.*s", (int)length, text);
    if (length == 0 || length >= sizeof task->name || !find_column(columns, task)) {
        return refuse(columns, task->name, error);
    }
    if (equals != NULL) {
        (void)snprintf(number, sizeof number, "%.*s", (int)(text + size - equals - 1), equals + 1);
        task->weight = strtod(number, &end);
        if (end == number || end[strspn(end, " ")] != '\0' || !(task->weight > 0.0) ||
            !isfinite(task->weight)) {
            return weir_errorf(error, WEIR_ERR_INVALID,
                               "ranking.tasks: the weight of %s is not a number above 0: \"%s\"",
                               task->name, number);
        }
    }
    for (size_t i = 0; i < tasks->count; i++) {
        if (strcmp(tasks->list[i].name, task->name) == 0) {
            return weir_errorf(error, WEIR_ERR_INVALID, "ranking.tasks names %s twice", task->name);
        }
    }
    tasks->count++;
    return WEIR_OK;
}

static weir_err_t read_list(const weir_dataset_columns_t *columns, const char *text,
                            weir_ranking_tasks_t *tasks, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    while (err == WEIR_OK && *text != '\0') {
        text += strspn(text, " ");
        size_t size = strcspn(text, ",");
        if (tasks->count == WEIR_TASK_LIMIT) {
            return weir_errorf(error, WEIR_ERR_INVALID, "ranking.tasks names more than %d",
                               WEIR_TASK_LIMIT);
        }
        err = read_task(columns, text, size, tasks, error);
        text += size + (text[size] == ',' ? 1 : 0);
    }
    return err;
}

static void take_all(const weir_dataset_columns_t *columns, weir_ranking_tasks_t *tasks) {
    tasks->count = columns->action_count > 0 ? columns->action_count : 1;
    for (size_t k = 0; k < tasks->count; k++) {
        weir_ranking_task_t *task = &tasks->list[k];
        *task = (weir_ranking_task_t){.column = k, .weight = 1.0, .scale = 1.0};
        (void)snprintf(task->name, sizeof task->name, "%s",
                       columns->action_count > 0 ? columns->actions[k] : positive);
    }
}

/* Sum of (value - from)^power, power 1 or 2, over what is trained on; `*count` of them. */
static double sum_known(const weir_config_t *config, const weir_dataset_t *dataset,
                        const float *values, double from, int power, double *count) {
    double sum = 0.0;
    *count = 0.0;
    for (uint64_t user = 0; user < weir_dataset_users(dataset); user++) {
        size_t known =
            weir_protocol_known(weir_dataset_user(dataset, user), config->ranking.test_from);
        const float *first = values + weir_dataset_first_event(dataset, user);
        for (size_t i = 0; i < known; i++) {
            double apart = (double)first[i] - from;
            sum += power == 2 ? apart * apart : apart;
        }
        *count += (double)known;
    }
    return sum;
}

/* Mean and deviation of a number over what is trained on: in two passes, for numbers that are large
 * and close together. */
static void standardise(const weir_config_t *config, const weir_dataset_t *dataset,
                        const float *values, weir_ranking_task_t *task) {
    double count = 0.0;
    double sum = sum_known(config, dataset, values, 0.0, 1, &count);
    double mean = count > 0.0 ? sum / count : 0.0;
    double squares = sum_known(config, dataset, values, mean, 2, &count);
    double variance = count > 0.0 ? squares / count : 0.0;
    task->offset = mean;
    task->scale = variance > 0.0 && isfinite(variance) ? sqrt(variance) : 1.0;
}

weir_err_t weir_ranking_tasks_read(const weir_config_t *config, const weir_dataset_t *dataset,
                                   weir_ranking_tasks_t *tasks, weir_error_t *error) {
    const weir_dataset_columns_t *columns = weir_dataset_columns(dataset);
    double total = 0.0;
    tasks->count = 0;
    if (config->ranking.tasks[0] == '\0') {
        take_all(columns, tasks);
    } else {
        weir_err_t err = read_list(columns, config->ranking.tasks, tasks, error);
        if (err != WEIR_OK) {
            return err;
        }
    }
    for (size_t k = 0; k < tasks->count; k++) {
        total += tasks->list[k].weight;
    }
    for (size_t k = 0; k < tasks->count; k++) {
        weir_ranking_task_t *task = &tasks->list[k];
        task->weight /= total;
        if (task->kind == WEIR_TASK_REGRESSION) {
            standardise(config, dataset, columns->numbers[task->column].values, task);
        }
    }
    return WEIR_OK;
}
