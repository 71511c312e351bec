/* What a ranking model predicts: a list of the data's actions (binary) and numbers (regressions),
 * with weights (ranking.tasks). */
#ifndef WEIR_WORKER_RANKING_TASKS_H
#define WEIR_WORKER_RANKING_TASKS_H

#include "common/config.h"
#include "common/dataset.h"
#include "common/error.h"
#include "worker/task_metrics.h"

typedef struct {
    char name[WEIR_DATASET_NAME];
    weir_task_kind_t kind;
    size_t column; /* which action or number of the data */
    double weight; /* of its loss; all sum to 1 */
    double offset,
        scale; /* the number y is learned as (y - offset) / scale; 0 and 1 of an action */
} weir_ranking_task_t;

typedef struct {
    size_t count;
    weir_ranking_task_t list[WEIR_TASK_LIMIT];
} weir_ranking_tasks_t;

/* From ranking.tasks: "click, like=0.5, seconds=0.2", names of the data's actions and numbers, a
 * weight of 1 where none is given; empty: all actions alike. Data without actions has one, by
 * rating, named "positive". A number's offset and scale are mean and standard deviation of what is
 * trained on: events before ranking.test_from, or all but each user's last. Errors: INVALID for a
 * name that the data does not have or that comes twice, a weight that is none. Two passes over the
 * numbers. */
WEIR_MUST_USE weir_err_t weir_ranking_tasks_read(const weir_config_t *config,
                                                 const weir_dataset_t *dataset,
                                                 weir_ranking_tasks_t *tasks, weir_error_t *error);

#endif
