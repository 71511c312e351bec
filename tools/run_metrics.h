/* RUN/metrics.jsonl (docs/files/metrics.md) as arrays: what a run said of itself, line by line.
 * A number that a line does not have, or has as null, is NaN. */
#ifndef WEIR_TOOLS_RUN_METRICS_H
#define WEIR_TOOLS_RUN_METRICS_H

#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* A line of kind "train": an interval of steps. */
typedef struct {
    double step, epoch, t; /* t: seconds of training so far */
    double loss, tokens_per_second;
    double compute, pull_wait, push_wait, reduce_wait; /* fractions of the interval */
    double keys_per_step, bytes_pulled_per_step, bytes_pushed_per_step;
} weir_run_train_t;

enum { WEIR_RUN_MOST_TRAIN = 1 << 16 /* kept; even */ };

typedef enum {
    WEIR_RUN_HR_1,
    WEIR_RUN_HR_10,
    WEIR_RUN_HR_50,
    WEIR_RUN_HR_200,
    WEIR_RUN_NDCG_10,
    WEIR_RUN_NDCG_50,
    WEIR_RUN_NDCG_200,
    WEIR_RUN_MRR,
    WEIR_RUN_METRIC_COUNT
} weir_run_metric_t;

/* As a person writes it: "HR@10", "NDCG@10", "MRR". */
const char *weir_run_metric_title(weir_run_metric_t metric);

typedef enum { WEIR_RUN_TEST, WEIR_RUN_VALIDATION, WEIR_RUN_SPLIT_COUNT } weir_run_split_t;
const char *weir_run_split_title(weir_run_split_t split); /* "test", "validation" */

typedef struct {
    weir_run_split_t split;
    double step, epoch, t, seconds, users;
    double window; /* of a stream, counted from 1; else NaN */
    double values[WEIR_RUN_METRIC_COUNT];
    bool best; /* better than all before, at that moment */
} weir_run_eval_t;

typedef struct {
    double step, t, seconds;
    bool best;
} weir_run_checkpoint_t;

typedef struct {
    weir_run_train_t *train; /* all owned, in the order of the file */
    size_t train_count;
    uint64_t train_lines,
        train_stride; /* of so many lines, every so manyth is kept, and the last */
    weir_run_train_t last_train;
    weir_run_eval_t *evals;
    size_t eval_count;
    weir_run_checkpoint_t *checkpoints;
    size_t checkpoint_count;

    size_t starts;    /* lines of kind "start": 1, and one more a resume */
    char started[64]; /* of the first, as it wrote it; "" where there is none */
    double ps, workers, parameters, total_steps, steps_per_epoch; /* of the last */

    bool ended;               /* the last line of kind "end" has no start after it */
    char reason[32];          /* "finished", ... */
    double last_step, last_t; /* of any line */

    uint64_t lines, bad_lines;
} weir_run_metrics_t;

/* Read PATH, line by line, in bounded memory: of a long run the lines of training are thinned out
 * evenly. A line that is none of ours is reported to `complaints` (NULL: nowhere) with its
 * number and reason, counted and skipped; lines of an unknown kind are skipped in silence, for
 * those that later versions add. Errors: NOT_FOUND, IO, MEMORY; CORRUPT where not one line is good.
 * Ownership: caller calls fini. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_run_metrics_read(const char *path, FILE *complaints,
                                               weir_run_metrics_t *metrics, weir_error_t *error);
/* As read, of `size` bytes in memory; `name` stands for the file. */
WEIR_MUST_USE weir_err_t weir_run_metrics_parse(const char *text, size_t size, const char *name,
                                                FILE *complaints, weir_run_metrics_t *metrics,
                                                weir_error_t *error);
void weir_run_metrics_fini(weir_run_metrics_t *metrics);

#endif
