/* What a person and a script see of a run: RUN/metrics.jsonl (docs/files/metrics.md) and lines on
 * stdout, written by worker 0. On a terminal (WEIR_TTY=1) the step line is a progress bar that
 * stays in place; elsewhere it is a plain line an interval. */
#ifndef WEIR_WORKER_RUN_LOG_H
#define WEIR_WORKER_RUN_LOG_H

#include "common/error.h"
#include "worker/rank.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct weir_run_log weir_run_log_t;

/* Open RUN/metrics.jsonl for appending, training being at `step`. Lines of later steps, and what is
 * no line of ours, are removed first (worker/run_log_trim.h): those steps are done again, also by a
 * run that starts from nothing because it had not saved yet. `seconds`: training time before this
 * start. */
WEIR_MUST_USE weir_err_t weir_run_log_open(const char *run, uint64_t step, double seconds,
                                           weir_run_log_t **log, weir_error_t *error);
/* From now on write what metrics.jsonl gets to TensorBoard's event files too (worker/event_file.h).
 */
WEIR_MUST_USE weir_err_t weir_run_log_open_events(weir_run_log_t *log, const char *run,
                                                  uint64_t step, weir_error_t *error);
void weir_run_log_close(weir_run_log_t *log);

/* Write RUN/progress (docs/files/run.md): `step` is done. A supervisor reads it when the job has
 * died. Cost: one small write, not synced. */
void weir_run_log_progress(weir_run_log_t *log, uint64_t step);

/* Training time of the run so far, earlier starts included. */
double weir_run_log_seconds(const weir_run_log_t *log);

typedef struct {
    uint32_t ps, workers;
    uint64_t step, total_steps, steps_per_epoch, parameters, users, items, events;
    bool resumed;
} weir_run_start_t;
void weir_run_log_start(weir_run_log_t *log, const weir_run_start_t *start);

typedef struct {
    uint64_t step, total_steps, steps_per_epoch;
    double loss;              /* mean over the tokens of the interval */
    double tokens_per_second; /* of all workers */
    double seconds_left;
    double compute, pull_wait, push_wait, reduce_wait; /* fractions of the interval, worker 0 */
    double keys_per_step, bytes_pulled_per_step, bytes_pushed_per_step; /* worker 0 */
    double rows_early_per_step; /* rows that came before the step before theirs was applied; worker
                                   0 */
    double rows_left_out_per_step, rows_copied_per_step; /* kept copies; worker 0 */
    double bytes_saved_per_step;                         /* by them; below 0: lost; worker 0 */
    double staleness; /* steps that the rows of a step missed at the most, mean; worker 0 */
} weir_run_interval_t;
void weir_run_log_interval(weir_run_log_t *log, const weir_run_interval_t *interval);

/* Which measurement. Of a stream: which window, counted from 1, of how many; else both 0. */
typedef struct {
    uint64_t step, window, windows;
    double epoch, seconds;
    const char *split;
    bool best;
} weir_run_evaluation_t;
void weir_run_log_evaluation(weir_run_log_t *log, const weir_run_evaluation_t *of,
                             const weir_metrics_t *metrics);

/* How well a ranking model does: JSON of its tasks ("tasks": [..]) and of the means over them (an
 * object), a sentence, and a value that is greater the better. */
typedef struct {
    char tasks[16384], means[1024], sentence[256];
    double value;
} weir_ranking_metrics_t;
void weir_run_log_ranking(weir_run_log_t *log, const weir_run_evaluation_t *of,
                          const weir_ranking_metrics_t *metrics);
void weir_run_log_checkpoint(weir_run_log_t *log, uint64_t step, double seconds, bool best);
void weir_run_log_end(weir_run_log_t *log, uint64_t step, const char *reason);

#endif
