#include "worker/run_log.h"

#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"
#include "worker/event_file.h"
#include "worker/run_log_trim.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BAR_WIDTH = 24 };

struct weir_run_log {
    FILE *metrics;
    weir_event_file_t *events;      /* NULL: none */
    int progress;                   /* RUN/progress */
    unsigned long long from, start; /* what its lines end in */
    double started;                 /* clock at opening */
    double seconds_before;          /* of training, in earlier starts */
    bool terminal;                  /* draw in place */
    bool drawn;                     /* a bar stands on the current line */
    bool failed;                    /* a write failed: said once */
};

/* In place and unsynced, a microsecond a step: it outlives the process, and a lost host's is stale.
 */
void weir_run_log_progress(weir_run_log_t *log, uint64_t step) {
    char text[80];
    int length = snprintf(text, sizeof text, "%020llu %020llu %020llu\n", (unsigned long long)step,
                          log->from, log->start);
    if (pwrite(log->progress, text, (size_t)length, 0) != length && !log->failed) {
        log->failed = true;
        weir_log(WEIR_LOG_ERROR, "run_log", "progress cannot be written: %s", strerror(errno));
    }
}

static weir_err_t open_progress(weir_run_log_t *log, const char *run, uint64_t step,
                                weir_error_t *error) {
    char path[WEIR_PATH_MAX];
    struct timespec now;
    weir_err_t err = weir_path_join(path, sizeof path, run, "progress", error);
    if (err != WEIR_OK) {
        return err;
    }
    log->progress = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (log->progress < 0) {
        return weir_error_from_errno(error, errno, "cannot open %s", path);
    }
    (void)clock_gettime(CLOCK_REALTIME, &now);
    log->from = step;
    log->start = (unsigned long long)now.tv_sec * 1000000000u + (unsigned long long)now.tv_nsec;
    weir_run_log_progress(log, step);
    return WEIR_OK;
}

weir_err_t weir_run_log_open(const char *run, uint64_t step, double seconds, weir_run_log_t **log,
                             weir_error_t *error) {
    char path[WEIR_PATH_MAX];
    weir_err_t err = weir_path_join(path, sizeof path, run, "metrics.jsonl", error);
    if (err == WEIR_OK) {
        err = weir_run_log_trim(path, step, error);
    }
    if (err != WEIR_OK) {
        return err;
    }
    weir_run_log_t *created = calloc(1, sizeof *created);
    if (created == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the run's log");
    }
    created->metrics = fopen(path, "ae");
    if (created->metrics == NULL) {
        err = weir_error_from_errno(error, errno, "cannot open %s", path);
        free(created);
        return err;
    }
    err = open_progress(created, run, step, error);
    if (err != WEIR_OK) {
        (void)fclose(created->metrics);
        free(created);
        return err;
    }
    const char *terminal = getenv("WEIR_TTY");
    created->terminal = terminal != NULL && strcmp(terminal, "1") == 0;
    created->started = weir_clock_seconds();
    created->seconds_before = seconds;
    *log = created;
    return WEIR_OK;
}

weir_err_t weir_run_log_open_events(weir_run_log_t *log, const char *run, uint64_t step,
                                    weir_error_t *error) {
    return weir_event_file_open(run, step, &log->events, error);
}

static void end_bar(weir_run_log_t *log) {
    if (log->drawn) {
        (void)fputs("\r\033[K", stdout);
        log->drawn = false;
    }
}

void weir_run_log_close(weir_run_log_t *log) {
    if (log != NULL) {
        end_bar(log);
        (void)fflush(stdout);
        weir_event_file_close(log->events);
        (void)fclose(log->metrics);
        (void)close(log->progress);
        free(log);
    }
}

double weir_run_log_seconds(const weir_run_log_t *log) {
    return log->seconds_before + weir_clock_seconds() - log->started;
}

/* The numbers of a line, also as scalars of its step: "train/loss", "test/hr@10". */
static void add_events(weir_run_log_t *log, json_t *line) {
    weir_event_scalar_t scalars[WEIR_EVENT_SCALARS];
    char tags[WEIR_EVENT_SCALARS][64];
    const char *group = json_string_value(json_object_get(line, "kind")), *name;
    json_t *value;
    size_t count = 0;
    if (group == NULL || strcmp(group, "start") == 0 || strcmp(group, "end") == 0) {
        return;
    }
    group = strcmp(group, "eval") == 0 ? json_string_value(json_object_get(line, "split")) : group;
    json_object_foreach(line, name, value) {
        if (json_is_number(value) && strcmp(name, "t") != 0 && strcmp(name, "step") != 0 &&
            group != NULL && count < WEIR_EVENT_SCALARS) {
            (void)snprintf(tags[count], sizeof tags[count], "%s/%s", group, name);
            scalars[count].tag = tags[count];
            scalars[count].value = json_number_value(value);
            count++;
        }
    }
    weir_event_file_add(log->events, (uint64_t)json_integer_value(json_object_get(line, "step")),
                        scalars, count);
}

/* Write one object as a line; takes over the reference. */
static void write_line(weir_run_log_t *log, json_t *line) {
    char *text = line != NULL ? json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    bool written =
        text != NULL && fprintf(log->metrics, "%s\n", text) > 0 && fflush(log->metrics) == 0;
    if (!written && !log->failed) {
        log->failed = true;
        weir_log(WEIR_LOG_ERROR, "run_log", "metrics.jsonl cannot be written: %s",
                 text == NULL ? "out of memory" : strerror(errno));
    }
    free(text);
    if (log->events != NULL && line != NULL) {
        add_events(log, line);
    }
    json_decref(line);
}

/* JSON has no NaN: a value that is not finite becomes null. */
static json_t *number(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *begin_line(const weir_run_log_t *log, const char *kind, uint64_t step) {
    return json_pack("{s:s, s:o, s:I}", "kind", kind, "t", number(weir_run_log_seconds(log)),
                     "step", (json_int_t)step);
}

/* 12,345,678 */
static const char *grouped(double value, char text[32]) {
    char digits[32];
    int length = snprintf(digits, sizeof digits, "%.0f", value < 0 || !isfinite(value) ? 0 : value);
    size_t used = 0;
    for (int i = 0; i < length && used < 30; i++) {
        if (i > 0 && (length - i) % 3 == 0) {
            text[used++] = ',';
        }
        text[used++] = digits[i];
    }
    text[used] = '\0';
    return text;
}

/* 2h05m, 3m12s, 8s */
static const char *duration(double seconds, char text[32]) {
    long whole = isfinite(seconds) && seconds > 0 ? (long)(seconds + 0.5) : 0;
    if (whole >= 3600) {
        (void)snprintf(text, 32, "%ldh%02ldm", whole / 3600, whole / 60 % 60);
    } else if (whole >= 60) {
        (void)snprintf(text, 32, "%ldm%02lds", whole / 60, whole % 60);
    } else {
        (void)snprintf(text, 32, "%lds", whole);
    }
    return text;
}

void weir_run_log_start(weir_run_log_t *log, const weir_run_start_t *start) {
    char stamp[32], users[32], items[32], events[32], parameters[32];
    time_t now = time(NULL);
    struct tm parts;
    (void)gmtime_r(&now, &parts);
    (void)strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%SZ", &parts);
    json_t *line = begin_line(log, "start", start->step);
    if (line != NULL) {
        (void)json_object_set_new(line, "time", json_string(stamp));
        (void)json_object_set_new(line, "ps", json_integer(start->ps));
        (void)json_object_set_new(line, "workers", json_integer(start->workers));
        (void)json_object_set_new(line, "parameters", json_integer((json_int_t)start->parameters));
        (void)json_object_set_new(line, "total_steps",
                                  json_integer((json_int_t)start->total_steps));
        (void)json_object_set_new(line, "steps_per_epoch",
                                  json_integer((json_int_t)start->steps_per_epoch));
        (void)json_object_set_new(line, "resumed", json_boolean(start->resumed));
    }
    write_line(log, line);
    (void)printf("%s users, %s items, %s events; %s dense parameters; %u servers, %u workers\n",
                 grouped((double)start->users, users), grouped((double)start->items, items),
                 grouped((double)start->events, events),
                 grouped((double)start->parameters, parameters), start->ps, start->workers);
    if (start->resumed) {
        (void)printf("resumed at step %llu of %llu\n", (unsigned long long)start->step,
                     (unsigned long long)start->total_steps);
    }
    (void)fflush(stdout);
}

static void draw_bar(weir_run_log_t *log, const weir_run_interval_t *interval, const char *text) {
    char bar[BAR_WIDTH + 1];
    double part = (double)interval->step / (double)interval->total_steps;
    for (int i = 0; i < BAR_WIDTH; i++) {
        bar[i] = (double)i < part * BAR_WIDTH ? '#' : '.';
    }
    bar[BAR_WIDTH] = '\0';
    (void)printf("\r\033[K[%s] %3.0f%%  %s", bar, 100.0 * part, text);
    log->drawn = true;
}

void weir_run_log_interval(weir_run_log_t *log, const weir_run_interval_t *interval) {
    char text[256], rate[32], left[32];
    double epoch = (double)interval->step / (double)interval->steps_per_epoch;
    json_t *line = begin_line(log, "train", interval->step);
    if (line != NULL) {
        (void)json_object_set_new(line, "epoch", number(epoch));
        (void)json_object_set_new(line, "loss", number(interval->loss));
        (void)json_object_set_new(line, "tokens_per_second", number(interval->tokens_per_second));
        (void)json_object_set_new(line, "seconds_left", number(interval->seconds_left));
        (void)json_object_set_new(line, "compute", number(interval->compute));
        (void)json_object_set_new(line, "pull_wait", number(interval->pull_wait));
        (void)json_object_set_new(line, "push_wait", number(interval->push_wait));
        (void)json_object_set_new(line, "reduce_wait", number(interval->reduce_wait));
        (void)json_object_set_new(line, "keys_per_step", number(interval->keys_per_step));
        (void)json_object_set_new(line, "bytes_pulled_per_step",
                                  number(interval->bytes_pulled_per_step));
        (void)json_object_set_new(line, "bytes_pushed_per_step",
                                  number(interval->bytes_pushed_per_step));
        (void)json_object_set_new(line, "rows_early_per_step",
                                  number(interval->rows_early_per_step));
        (void)json_object_set_new(line, "rows_left_out_per_step",
                                  number(interval->rows_left_out_per_step));
        (void)json_object_set_new(line, "rows_copied_per_step",
                                  number(interval->rows_copied_per_step));
        (void)json_object_set_new(line, "bytes_saved_per_step",
                                  number(interval->bytes_saved_per_step));
        (void)json_object_set_new(line, "staleness", number(interval->staleness));
    }
    write_line(log, line);
    (void)snprintf(text, sizeof text, "step %llu/%llu  epoch %.2f  loss %.4f  %s tokens/s  %s left",
                   (unsigned long long)interval->step, (unsigned long long)interval->total_steps,
                   epoch, interval->loss, grouped(interval->tokens_per_second, rate),
                   duration(interval->seconds_left, left));
    if (log->terminal) {
        draw_bar(log, interval, text);
    } else {
        (void)printf("%s\n", text);
    }
    (void)fflush(stdout);
}

/* A line of kind eval with the values of `measured`, whose reference is taken; then the start of
 * what is shown. */
static void write_evaluation(weir_run_log_t *log, const weir_run_evaluation_t *of,
                             json_t *measured) {
    json_t *line = begin_line(log, "eval", of->step);
    if (line != NULL && measured != NULL) {
        (void)json_object_set_new(line, "epoch", number(of->epoch));
        (void)json_object_set_new(line, "split", json_string(of->split));
        if (of->windows > 0) {
            (void)json_object_set_new(line, "window", json_integer((json_int_t)of->window));
            (void)json_object_set_new(line, "windows", json_integer((json_int_t)of->windows));
        }
        (void)json_object_update(line, measured);
        (void)json_object_set_new(line, "seconds", number(of->seconds));
        (void)json_object_set_new(line, "best", json_boolean(of->best));
    }
    json_decref(measured);
    write_line(log, line);
    end_bar(log);
    (void)printf("evaluation  step %llu  epoch %.2f  ", (unsigned long long)of->step, of->epoch);
    if (of->windows > 0) {
        (void)printf("window %llu/%llu", (unsigned long long)of->window,
                     (unsigned long long)of->windows);
    } else {
        (void)printf("%s", of->split);
    }
}

void weir_run_log_ranking(weir_run_log_t *log, const weir_run_evaluation_t *of,
                          const weir_ranking_metrics_t *metrics) {
    json_error_t ignored;
    json_t *measured = json_loads(metrics->means, 0, &ignored);
    char *tasks = malloc(sizeof metrics->tasks + 3);
    if (tasks != NULL && measured != NULL) {
        (void)snprintf(tasks, sizeof metrics->tasks + 3, "{%s}", metrics->tasks);
        json_t *all = json_loads(tasks, 0, &ignored);
        (void)json_object_update(measured, all);
        json_decref(all);
    }
    free(tasks);
    write_evaluation(log, of, measured);
    (void)printf("  %s%s\n", metrics->sentence, of->best ? "  best so far" : "");
    (void)fflush(stdout);
}

void weir_run_log_evaluation(weir_run_log_t *log, const weir_run_evaluation_t *of,
                             const weir_metrics_t *metrics) {
    char values[1024];
    json_error_t ignored;
    weir_metrics_to_json(metrics, values, sizeof values);
    write_evaluation(log, of, json_loads(values, 0, &ignored));
    double users = metrics->users > 0 ? (double)metrics->users : 1.0;
    (void)printf("  HR@10 %.4f  NDCG@10 %.4f  HR@50 %.4f  NDCG@50 %.4f  MRR %.4f%s\n",
                 metrics->hr[1] / users, metrics->ndcg[1] / users, metrics->hr[2] / users,
                 metrics->ndcg[2] / users, metrics->mrr / users, of->best ? "  best so far" : "");
    (void)fflush(stdout);
}

void weir_run_log_checkpoint(weir_run_log_t *log, uint64_t step, double seconds, bool best) {
    json_t *line = begin_line(log, "checkpoint", step);
    if (line != NULL) {
        (void)json_object_set_new(line, "seconds", number(seconds));
        (void)json_object_set_new(line, "best", json_boolean(best));
    }
    write_line(log, line);
    end_bar(log);
    (void)printf("checkpoint  step %llu%s  %.2f s\n", (unsigned long long)step,
                 best ? "  (best)" : "", seconds);
    (void)fflush(stdout);
}

void weir_run_log_end(weir_run_log_t *log, uint64_t step, const char *reason) {
    char time_text[32];
    json_t *line = begin_line(log, "end", step);
    if (line != NULL) {
        (void)json_object_set_new(line, "reason", json_string(reason));
    }
    write_line(log, line);
    end_bar(log);
    (void)printf("%s at step %llu after %s\n", reason, (unsigned long long)step,
                 duration(weir_run_log_seconds(log), time_text));
    (void)fflush(stdout);
}
