#include "worker/trainer_internal.h"

#include "common/clock.h"
#include "common/file.h"
#include "common/hash.h"
#include "common/log.h"
#include "common/signals.h"
#include "worker/evaluate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool weir_trainer_is_multiple(uint64_t step, uint64_t of) {
    return of > 0 && step % of == 0;
}

/* NULL: the users come in shuffled order. */
static const weir_windows_t *stream_of(const weir_trainer_t *trainer) {
    return trainer->reader != NULL           ? weir_batch_windows(trainer->reader)
           : trainer->ranking_reader != NULL ? weir_ranking_windows(trainer->ranking_reader)
                                             : NULL;
}

/* The end of the window of a stream that `step`, 1 or more, is in. */
static uint64_t window_end(const weir_windows_t *stream, uint64_t step) {
    return weir_windows_last_step(stream, weir_windows_of_step(stream, step));
}

bool weir_trainer_evaluates_after(const weir_trainer_t *trainer, uint64_t step) {
    const weir_config_t *config = trainer->options.config;
    const weir_windows_t *stream = stream_of(trainer);
    if (stream != NULL && step > 0 && config->eval.every_epochs > 0 &&
        step == window_end(stream, step)) {
        return true;
    }
    return weir_trainer_is_multiple(step, (uint64_t)config->eval.every_epochs *
                                              trainer->steps_per_epoch) ||
           weir_trainer_is_multiple(step, (uint64_t)config->eval.every_steps) ||
           step == trainer->total_steps;
}

/* The smaller of `next` and the first multiple of `of` (0: none) from `step` on. */
static uint64_t sooner(uint64_t next, uint64_t step, uint64_t of) {
    uint64_t rest = of > 0 ? step % of : 0, gap = rest > 0 ? of - rest : 0;
    return of > 0 && gap < next - step ? step + gap : next;
}

uint64_t weir_trainer_next_boundary(const weir_trainer_t *trainer, uint64_t step) {
    const weir_config_t *config = trainer->options.config;
    const weir_windows_t *stream = stream_of(trainer);
    uint64_t next = trainer->total_steps > step ? trainer->total_steps : step;
    if (stream != NULL && config->eval.every_epochs > 0 && step < trainer->total_steps) {
        uint64_t end = window_end(stream, step > 0 ? step : 1);
        next = end < next ? end : next;
    }
    next = sooner(next, step, (uint64_t)config->eval.every_epochs * trainer->steps_per_epoch);
    next = sooner(next, step, (uint64_t)config->eval.every_steps);
    return sooner(next, step, (uint64_t)config->train.checkpoint_every);
}

static weir_split_t choosing_split(const weir_config_t *config) {
    return config->eval.validation ? WEIR_SPLIT_VALIDATION : WEIR_SPLIT_TEST;
}

void weir_trainer_name_best(const weir_config_t *config, char *name, size_t capacity) {
    const char *metric = config->model.kind == WEIR_MODEL_RANKING ? "ne" : config->eval.metric;
    (void)snprintf(name, capacity, "%s %s", weir_split_name(choosing_split(config)), metric);
}

const char *weir_trainer_reason_to_end(const weir_trainer_t *trainer) {
    uint64_t patience = (uint64_t)trainer->options.config->eval.patience;
    if (trainer->state.step >= trainer->total_steps) {
        return "finished";
    }
    return patience > 0 && trainer->state.evaluations_since_best >= patience ? "early_stop" : NULL;
}

/* ---- what is shown ---- */

void weir_trainer_publish(weir_trainer_t *trainer, weir_phase_t phase, double loss, double rate) {
    weir_rank_state_t state = {.step = trainer->state.step,
                               .epoch = trainer->state.step / trainer->steps_per_epoch,
                               .phase = phase,
                               .loss = loss,
                               .tokens_per_second = rate};
    weir_control_client_publish(trainer->options.control, &state);
    weir_log_set_step(trainer->state.step);
}

void weir_trainer_begin_interval(weir_trainer_t *trainer) {
    weir_ps_client_counters_t counters = weir_ps_client_counters(trainer->options.client);
    weir_trainer_add_totals(trainer);
    trainer->interval = (interval_t){
        .started = weir_clock_seconds(),
        .pull_wait = counters.seconds_waited,
        .reduce_wait = weir_exchange_seconds_waited(trainer->options.exchange),
        .bytes_pulled = counters.bytes_pulled,
        .bytes_pushed = counters.bytes_pushed,
        .rows_early = counters.rows_early,
        .rows_left_out = counters.rows_left_out,
        .rows_copied = counters.rows_copied,
        .bytes_saved = counters.bytes_saved,
    };
}

void weir_trainer_end_interval(weir_trainer_t *trainer) {
    const interval_t *interval = &trainer->interval;
    if (interval->steps == 0) {
        return;
    }
    weir_ps_client_counters_t counters = weir_ps_client_counters(trainer->options.client);
    double seconds = weir_clock_seconds() - interval->started, steps = (double)interval->steps;
    double loss =
        interval->loss_sum / (double)(interval->predictions > 0 ? interval->predictions : 1);
    double rate = (double)interval->tokens / (seconds > 0 ? seconds : 1e-9);
    weir_trainer_publish(trainer, WEIR_PHASE_TRAINING, loss, rate);
    if (trainer->log != NULL) {
        weir_run_interval_t line = {
            .step = trainer->state.step,
            .total_steps = trainer->total_steps,
            .steps_per_epoch = trainer->steps_per_epoch,
            .loss = loss,
            .tokens_per_second = rate,
            .seconds_left = seconds / steps * (double)(trainer->total_steps - trainer->state.step),
            .compute = interval->compute / seconds,
            .push_wait = interval->push_wait / seconds,
            .pull_wait = (counters.seconds_waited - interval->pull_wait) / seconds,
            .reduce_wait =
                (weir_exchange_seconds_waited(trainer->options.exchange) - interval->reduce_wait) /
                seconds,
            .keys_per_step = (double)interval->keys / steps,
            .bytes_pulled_per_step =
                (double)(counters.bytes_pulled - interval->bytes_pulled) / steps,
            .bytes_pushed_per_step =
                (double)(counters.bytes_pushed - interval->bytes_pushed) / steps,
            .rows_early_per_step = (double)(counters.rows_early - interval->rows_early) / steps,
            .rows_left_out_per_step =
                (double)(counters.rows_left_out - interval->rows_left_out) / steps,
            .rows_copied_per_step = (double)(counters.rows_copied - interval->rows_copied) / steps,
            .bytes_saved_per_step = (double)(counters.bytes_saved - interval->bytes_saved) / steps,
            .staleness = (double)interval->missed / steps,
        };
        weir_run_log_interval(trainer->log, &line);
    }
    weir_trainer_begin_interval(trainer);
}

/* ---- boundaries ---- */

size_t weir_trainer_next_window(const weir_trainer_t *trainer) {
    const weir_windows_t *stream = stream_of(trainer);
    uint64_t step = trainer->state.step;
    return stream != NULL && step > 0 ? weir_windows_of_step(stream, step) + 1 : 0;
}

weir_evaluate_parts_t weir_trainer_evaluate_parts(const weir_trainer_t *trainer) {
    return (weir_evaluate_parts_t){.config = trainer->options.config,
                                   .dataset = trainer->options.dataset,
                                   .encoder = trainer->encoder,
                                   .client = trainer->options.client,
                                   .exchange = trainer->options.exchange,
                                   .mixture = trainer->mixture,
                                   .mixture_offset = trainer->mixture_offset,
                                   .stream = stream_of(trainer),
                                   .window = weir_trainer_next_window(trainer)};
}

static weir_err_t evaluate_split(weir_trainer_t *trainer, weir_split_t split,
                                 weir_metrics_t *metrics, double *seconds, weir_error_t *error) {
    const weir_evaluate_parts_t parts = weir_trainer_evaluate_parts(trainer);
    double started = weir_clock_seconds();
    weir_err_t err = weir_evaluate(
        &parts, weir_dense_parameters(trainer->dense), split, trainer->state.step,
        split == WEIR_SPLIT_TEST ? SEQUENCE_TEST : SEQUENCE_VALIDATION, metrics, error);
    *seconds = weir_clock_seconds() - started;
    return err;
}

double weir_trainer_epochs_done(const weir_trainer_t *trainer) {
    return (double)trainer->state.step / (double)trainer->steps_per_epoch;
}

/* Whether `value` is better than ever. Of a stream none is: each is of another window, and some
 * windows are easier than others. */
static bool note_best(weir_trainer_t *trainer, double value) {
    if (stream_of(trainer) != NULL) {
        return false;
    }
    bool best = trainer->state.best_step == 0 || value > trainer->state.best_value;
    if (best) {
        trainer->state.best_step = trainer->state.step;
        trainer->state.best_value = value;
        trainer->state.evaluations_since_best = 0;
    } else {
        trainer->state.evaluations_since_best++;
    }
    return best;
}

/* What the log says of a measurement on `split`. */
static weir_run_evaluation_t evaluation_of(const weir_trainer_t *trainer, weir_split_t split,
                                           double seconds, bool best) {
    const weir_windows_t *stream = stream_of(trainer);
    weir_run_evaluation_t of = {.step = trainer->state.step,
                                .epoch = weir_trainer_epochs_done(trainer),
                                .seconds = seconds,
                                .split = weir_split_name(split),
                                .best = best};
    if (stream != NULL) {
        of.window = weir_trainer_next_window(trainer) + 1;
        of.windows = weir_windows_count(stream);
    }
    return of;
}

/* Evaluate a ranking model: the best has the least NE, the mean over its tasks. */
static weir_err_t evaluate_ranking(weir_trainer_t *trainer, bool *best, weir_error_t *error) {
    const weir_split_t splits[] = {WEIR_SPLIT_VALIDATION, WEIR_SPLIT_TEST};
    size_t first = trainer->options.config->eval.validation ? 0 : 1;
    weir_ranking_metrics_t *metrics = calloc(2, sizeof *metrics);
    double seconds[2] = {0.0, 0.0};
    if (metrics == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for metrics");
    }
    weir_trainer_publish(trainer, WEIR_PHASE_EVALUATING, 0.0, 0.0);
    weir_err_t err = WEIR_OK;
    for (size_t i = first; i < 2 && err == WEIR_OK; i++) {
        double started = weir_clock_seconds();
        err = weir_trainer_measure_ranking(trainer, splits[i], &metrics[i], error);
        seconds[i] = weir_clock_seconds() - started;
    }
    if (err == WEIR_OK) {
        *best = note_best(trainer, metrics[first].value);
        (void)snprintf(trainer->metrics, sizeof trainer->metrics, "%s", metrics[1].means);
        trainer->metrics_step = trainer->state.step;
    }
    for (size_t i = first; i < 2 && err == WEIR_OK && trainer->log != NULL; i++) {
        const weir_run_evaluation_t of = evaluation_of(trainer, splits[i], seconds[i], *best);
        weir_run_log_ranking(trainer->log, &of, &metrics[i]);
    }
    free(metrics);
    return err;
}

/* Evaluate; `*best` when eval.metric is better than ever. The split that chooses is the validation
 * one where it is held out, else the test. */
static weir_err_t evaluate(weir_trainer_t *trainer, bool *best, weir_error_t *error) {
    const weir_config_t *config = trainer->options.config;
    weir_metrics_t test = {0}, validation = {0};
    double test_seconds = 0.0, validation_seconds = 0.0, value = 0.0;
    weir_trainer_publish(trainer, WEIR_PHASE_EVALUATING, 0.0, 0.0);
    weir_err_t err = evaluate_split(trainer, WEIR_SPLIT_TEST, &test, &test_seconds, error);
    if (err == WEIR_OK && config->eval.validation) {
        err =
            evaluate_split(trainer, WEIR_SPLIT_VALIDATION, &validation, &validation_seconds, error);
    }
    if (err == WEIR_OK) {
        err = weir_metrics_value(choosing_split(config) == WEIR_SPLIT_TEST ? &test : &validation,
                                 config->eval.metric, &value, error);
    }
    if (err != WEIR_OK) {
        return err;
    }
    *best = note_best(trainer, value);
    weir_metrics_to_json(&test, trainer->metrics, sizeof trainer->metrics);
    trainer->metrics_step = trainer->state.step;
    if (trainer->log != NULL) {
        if (config->eval.validation) {
            const weir_run_evaluation_t of =
                evaluation_of(trainer, WEIR_SPLIT_VALIDATION, validation_seconds, *best);
            weir_run_log_evaluation(trainer->log, &of, &validation);
        }
        const weir_run_evaluation_t of =
            evaluation_of(trainer, WEIR_SPLIT_TEST, test_seconds, *best);
        weir_run_log_evaluation(trainer->log, &of, &test);
    }
    return WEIR_OK;
}

/* The save under way, if there is one: wait for it; success is agreed before anybody believes it.
 */
static weir_err_t finish_save(weir_trainer_t *trainer, uint32_t sequence, weir_error_t *error) {
    weir_error_t failure = {0};
    weir_saver_result_t result = {.step = trainer->saving_step};
    if (trainer->saving_step == UINT64_MAX) {
        return WEIR_OK;
    }
    int32_t mine = WEIR_OK, *all = calloc(trainer->workers, sizeof *all);
    if (trainer->saver != NULL) {
        mine = (int32_t)weir_saver_finish(trainer->saver, &result, &failure);
        trainer->saver = NULL;
    }
    weir_err_t err = all == NULL
                         ? weir_errorf(error, WEIR_ERR_MEMORY, "no memory to save a checkpoint")
                         : weir_exchange_all_gather(trainer->options.exchange, trainer->state.step,
                                                    sequence, &mine, sizeof mine, all, error);
    if (err == WEIR_OK && all[0] != WEIR_OK) {
        err =
            weir_errorf(error, (weir_err_t)all[0], "the checkpoint of step %llu was not saved%s%s",
                        (unsigned long long)trainer->saving_step,
                        failure.message[0] != '\0' ? ": " : "", failure.message);
        weir_error_hint(error, "%s",
                        failure.hint[0] != '\0' ? failure.hint
                                                : "the last complete checkpoint is untouched");
    }
    free(all);
    if (err == WEIR_OK && trainer->log != NULL && !trainer->save_logged) {
        weir_run_log_checkpoint(trainer->log, result.step, result.seconds, result.best);
    }
    trainer->saving_step = UINT64_MAX;
    return err;
}

/* Worker 0: a save that has ended is told; true: it failed. */
bool weir_trainer_look_at_save(weir_trainer_t *trainer) {
    bool saved = false;
    if (trainer->saver == NULL || !weir_saver_has_ended(trainer->saver, &saved)) {
        return false;
    }
    if (saved && !trainer->save_logged && trainer->log != NULL) {
        weir_saver_result_t result = weir_saver_result(trainer->saver);
        weir_run_log_checkpoint(trainer->log, result.step, result.seconds, result.best);
        trainer->save_logged = true;
    }
    return !saved;
}

/* What this step's checkpoint is made of is remembered everywhere, and training may go on. */
static weir_err_t begin_save(weir_trainer_t *trainer, bool best, weir_error_t *error) {
    size_t elements = trainer->parameters->elements;
    uint64_t step = trainer->state.step;
    float *m = calloc(elements, sizeof *m), *v = calloc(elements, sizeof *v);
    weir_err_t err = m == NULL || v == NULL
                         ? weir_errorf(error, WEIR_ERR_MEMORY, "no memory to save a checkpoint")
                         : weir_dense_collect_state(trainer->dense, step, m, v, error);
    if (err == WEIR_OK) {
        err = weir_ps_client_cut(trainer->options.client, error);
    }
    if (err != WEIR_OK || trainer->worker != 0) {
        free(m);
        free(v);
    } else {
        trainer->state.seconds = weir_run_log_seconds(trainer->log);
        weir_saver_options_t options = {.control = trainer->options.control,
                                        .model = trainer->parameters,
                                        .parameters = weir_dense_parameters(trainer->dense),
                                        .m = m,
                                        .v = v,
                                        .state = trainer->state,
                                        .epoch = step / trainer->steps_per_epoch,
                                        .best = best,
                                        .metrics =
                                            trainer->metrics_step == step ? trainer->metrics : "",
                                        .timeout = trainer->options.config->cluster.timeout};
        err = weir_saver_begin(&options, &trainer->saver, error);
    }
    trainer->saving_step = trainer->checkpoint_step = step;
    trainer->save_logged = false;
    return err;
}

/* `wait`: until it is published. */
static weir_err_t save(weir_trainer_t *trainer, bool best, bool wait, weir_error_t *error) {
    weir_trainer_publish(trainer, WEIR_PHASE_CHECKPOINTING, 0.0, 0.0);
    weir_err_t err = finish_save(trainer, SEQUENCE_SAVED_BEFORE, error);
    if (err == WEIR_OK) {
        err = begin_save(trainer, best, error);
    }
    return err == WEIR_OK && wait ? finish_save(trainer, SEQUENCE_SAVED, error) : err;
}

/* Evaluate and save as due; `*reason` is set when training ends here. */
weir_err_t weir_trainer_handle_boundary(weir_trainer_t *trainer, const char **reason,
                                        weir_error_t *error) {
    const weir_config_t *config = trainer->options.config;
    uint64_t step = trainer->state.step;
    bool best = false, stop = (trainer->wishes & WISH_STOP) != 0;
    weir_err_t err = WEIR_OK;
    weir_trainer_end_interval(trainer);
    if (weir_trainer_evaluates_after(trainer, step)) {
        err = trainer->ranking != NULL ? evaluate_ranking(trainer, &best, error)
                                       : evaluate(trainer, &best, error);
    }
    if (err != WEIR_OK) {
        return err;
    }
    *reason = stop ? "stopped" : weir_trainer_reason_to_end(trainer);
    bool due = *reason != NULL || best || (trainer->wishes & WISH_CHECKPOINT) != 0 ||
               weir_trainer_is_multiple(step, (uint64_t)config->train.checkpoint_every);
    bool discard = stop && (trainer->wishes & WISH_DISCARD) != 0;
    if (due && !discard && trainer->checkpoint_step != step) {
        bool wait = *reason != NULL || !config->train.checkpoint_in_background;
        err = save(trainer, best, wait, error);
    } else if (*reason != NULL || (trainer->wishes & WISH_SETTLE) != 0) {
        err = finish_save(trainer, SEQUENCE_SAVED_BEFORE, error);
    }
    trainer->wishes = 0;
    weir_trainer_begin_interval(trainer);
    weir_trainer_publish(trainer, WEIR_PHASE_TRAINING, 0.0, 0.0);
    return err;
}
