#include "tools/run_metrics.h"

#include "common/file.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { COMPLAINT_LIMIT = 10, LINE_LIMIT = 1 << 20, LINES_LIMIT = 1 << 20 /* of a kind, kept */ };

const char *weir_run_metric_title(weir_run_metric_t metric) {
    static const char *const titles[WEIR_RUN_METRIC_COUNT] = {
        "HR@1", "HR@10", "HR@50", "HR@200", "NDCG@10", "NDCG@50", "NDCG@200", "MRR"};
    return (unsigned)metric < WEIR_RUN_METRIC_COUNT ? titles[metric] : "unknown";
}

static const char *metric_name(size_t metric) {
    static const char *const names[WEIR_RUN_METRIC_COUNT] = {
        "hr@1", "hr@10", "hr@50", "hr@200", "ndcg@10", "ndcg@50", "ndcg@200", "mrr"};
    return names[metric];
}

const char *weir_run_split_title(weir_run_split_t split) {
    return split == WEIR_RUN_TEST ? "test" : "validation";
}

/* ---- one line ---- */

static double number(const json_t *line, const char *name) {
    const json_t *value = json_object_get(line, name);
    return json_is_number(value) ? json_number_value(value) : (double)NAN;
}

static void copy_text(const json_t *line, const char *name, char *out, size_t capacity) {
    const char *text = json_string_value(json_object_get(line, name));
    weir_file_printable(text != NULL ? text : "", out, capacity);
}

/* Room for one more element: capacities are powers of two. NULL: out of memory. */
static void *grow(void *elements, size_t count, size_t size) {
    if ((count & (count - 1)) != 0) {
        return elements;
    }
    size_t bytes;
    if (__builtin_mul_overflow(count == 0 ? 1 : 2 * count, size, &bytes)) {
        return NULL;
    }
    return realloc(elements, bytes);
}

/* NULL: taken; else why the line is bad. */
typedef const char *(*take_t)(weir_run_metrics_t *metrics, const json_t *line);

static const char out_of_memory[] = "out of memory";

static const char *take_start(weir_run_metrics_t *metrics, const json_t *line) {
    if (metrics->starts++ == 0) {
        copy_text(line, "time", metrics->started, sizeof metrics->started);
    }
    metrics->ps = number(line, "ps");
    metrics->workers = number(line, "workers");
    metrics->parameters = number(line, "parameters");
    metrics->total_steps = number(line, "total_steps");
    metrics->steps_per_epoch = number(line, "steps_per_epoch");
    metrics->ended = false;
    return NULL;
}

/* Every other line is forgotten, and of those to come as many as leaves them evenly spaced. */
static void thin_train(weir_run_metrics_t *metrics) {
    size_t kept = 0;
    for (size_t i = 0; i < metrics->train_count; i += 2) {
        metrics->train[kept++] = metrics->train[i];
    }
    metrics->train_count = kept;
    metrics->train_stride *= 2;
}

/* Keep it. */
static const char *add_train(weir_run_metrics_t *metrics, const weir_run_train_t *train) {
    weir_run_train_t *grown = grow(metrics->train, metrics->train_count, sizeof *grown);
    if (grown == NULL) {
        return out_of_memory;
    }
    metrics->train = grown;
    grown[metrics->train_count++] = *train;
    return NULL;
}

static const char *take_train(weir_run_metrics_t *metrics, const json_t *line) {
    metrics->last_train =
        (weir_run_train_t){.step = number(line, "step"),
                           .epoch = number(line, "epoch"),
                           .t = number(line, "t"),
                           .loss = number(line, "loss"),
                           .tokens_per_second = number(line, "tokens_per_second"),
                           .compute = number(line, "compute"),
                           .pull_wait = number(line, "pull_wait"),
                           .push_wait = number(line, "push_wait"),
                           .reduce_wait = number(line, "reduce_wait"),
                           .keys_per_step = number(line, "keys_per_step"),
                           .bytes_pulled_per_step = number(line, "bytes_pulled_per_step"),
                           .bytes_pushed_per_step = number(line, "bytes_pushed_per_step")};
    if (metrics->train_lines++ % metrics->train_stride != 0) {
        return NULL;
    }
    if (metrics->train_count == WEIR_RUN_MOST_TRAIN) {
        thin_train(metrics); /* this line is one of those that stay: its number is even */
    }
    return add_train(metrics, &metrics->last_train);
}

static const char *take_eval(weir_run_metrics_t *metrics, const json_t *line) {
    const char *split = json_string_value(json_object_get(line, "split"));
    bool test = split != NULL && strcmp(split, "test") == 0;
    if (!test && (split == NULL || strcmp(split, "validation") != 0)) {
        return "the split is neither test nor validation";
    }
    if (metrics->eval_count == LINES_LIMIT) {
        return "one evaluation too many";
    }
    weir_run_eval_t *grown = grow(metrics->evals, metrics->eval_count, sizeof *grown);
    if (grown == NULL) {
        return out_of_memory;
    }
    metrics->evals = grown;
    weir_run_eval_t *eval = &grown[metrics->eval_count++];
    *eval = (weir_run_eval_t){.split = test ? WEIR_RUN_TEST : WEIR_RUN_VALIDATION,
                              .step = number(line, "step"),
                              .epoch = number(line, "epoch"),
                              .t = number(line, "t"),
                              .seconds = number(line, "seconds"),
                              .users = number(line, "users"),
                              .window = number(line, "window"),
                              .best = json_is_true(json_object_get(line, "best"))};
    for (size_t i = 0; i < WEIR_RUN_METRIC_COUNT; i++) {
        eval->values[i] = number(line, metric_name(i));
    }
    return NULL;
}

static const char *take_checkpoint(weir_run_metrics_t *metrics, const json_t *line) {
    if (metrics->checkpoint_count == LINES_LIMIT) {
        return "one checkpoint too many";
    }
    weir_run_checkpoint_t *grown =
        grow(metrics->checkpoints, metrics->checkpoint_count, sizeof *grown);
    if (grown == NULL) {
        return out_of_memory;
    }
    metrics->checkpoints = grown;
    grown[metrics->checkpoint_count++] =
        (weir_run_checkpoint_t){.step = number(line, "step"),
                                .t = number(line, "t"),
                                .seconds = number(line, "seconds"),
                                .best = json_is_true(json_object_get(line, "best"))};
    return NULL;
}

static const char *take_end(weir_run_metrics_t *metrics, const json_t *line) {
    copy_text(line, "reason", metrics->reason, sizeof metrics->reason);
    metrics->ended = true;
    return NULL;
}

static const char *take_line(weir_run_metrics_t *metrics, const char *text, size_t size) {
    static const struct {
        const char *kind;
        take_t take;
    } kinds[] = {{"start", take_start},
                 {"train", take_train},
                 {"eval", take_eval},
                 {"checkpoint", take_checkpoint},
                 {"end", take_end}};
    json_error_t ignored;
    if (size > LINE_LIMIT) {
        return "longer than 1 MiB";
    }
    json_t *line = json_loadb(text, size, 0, &ignored);
    const char *kind = json_string_value(json_object_get(line, "kind"));
    double step = number(line, "step"), t = number(line, "t");
    const char *reason = NULL;
    if (line == NULL) {
        reason = "not JSON";
    } else if (kind == NULL) {
        reason = "not an object with a kind";
    } else if (!(step >= 0)) {
        reason = "without a step";
    }
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0] && reason == NULL; i++) {
        if (strcmp(kind, kinds[i].kind) == 0) {
            reason = kinds[i].take(metrics, line);
        }
    }
    if (reason == NULL) {
        metrics->last_step = fmax(metrics->last_step, step);
        metrics->last_t = t > metrics->last_t ? t : metrics->last_t;
    }
    json_decref(line);
    return reason;
}

/* ---- the file ---- */

/* The next line of `stream` to `line`, of LINE_LIMIT + 1 bytes, without its end; of a longer one
 * the first LINE_LIMIT + 1. false: there is none. */
static bool next_line(FILE *stream, char *line, size_t *size) {
    int byte = getc_unlocked(stream);
    *size = 0;
    if (byte == EOF) {
        return false;
    }
    for (; byte != EOF && byte != '\n'; byte = getc_unlocked(stream)) {
        if (*size <= LINE_LIMIT) {
            line[(*size)++] = (char)byte;
        }
    }
    return true;
}

static weir_err_t take_lines(FILE *stream, char *line, const char *name, FILE *complaints,
                             weir_run_metrics_t *read, weir_error_t *error) {
    const char *reason = NULL;
    size_t size = 0;
    while (reason != out_of_memory && next_line(stream, line, &size)) {
        read->lines++;
        reason = take_line(read, line, size);
        if (reason != NULL && read->bad_lines++ < COMPLAINT_LIMIT && complaints != NULL) {
            (void)fprintf(complaints, "%s: line %" PRIu64 " skipped: %s\n", name, read->lines,
                          reason);
        }
    }
    if (read->bad_lines > COMPLAINT_LIMIT && complaints != NULL) {
        (void)fprintf(complaints, "%s: %" PRIu64 " lines skipped in all\n", name, read->bad_lines);
    }
    bool left_out = read->train_lines > 0 && (read->train_lines - 1) % read->train_stride != 0;
    if (reason != out_of_memory && left_out) { /* the last one always is there */
        reason = add_train(read, &read->last_train);
    }
    if (ferror(stream) != 0) {
        return weir_error_from_errno(error, errno, "read '%s'", name);
    }
    if (reason == out_of_memory) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for the lines of %s", name);
    }
    if (read->lines == 0) {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "%s is empty", name);
    }
    if (read->lines == read->bad_lines) {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "%s: not one of its %" PRIu64 " lines is good",
                           name, read->lines);
    }
    return WEIR_OK;
}

/* Closes the stream. */
static weir_err_t read_stream(FILE *stream, const char *name, FILE *complaints,
                              weir_run_metrics_t *metrics, weir_error_t *error) {
    weir_run_metrics_t read = {.ps = (double)NAN,
                               .workers = (double)NAN,
                               .parameters = (double)NAN,
                               .total_steps = (double)NAN,
                               .steps_per_epoch = (double)NAN,
                               .train_stride = 1};
    char *line = malloc(LINE_LIMIT + 1);
    weir_err_t err = line != NULL
                         ? take_lines(stream, line, name, complaints, &read, error)
                         : weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for %s", name);
    free(line);
    (void)fclose(stream); /* only read */
    if (err != WEIR_OK) {
        weir_run_metrics_fini(&read);
        return err;
    }
    *metrics = read;
    return WEIR_OK;
}

weir_err_t weir_run_metrics_parse(const char *text, size_t size, const char *name, FILE *complaints,
                                  weir_run_metrics_t *metrics, weir_error_t *error) {
    if (size == 0) {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "%s is empty", name);
    }
    FILE *stream = fmemopen((void *)(uintptr_t)text, size, "rb");
    return stream != NULL ? read_stream(stream, name, complaints, metrics, error)
                          : weir_error_from_errno(error, errno, "read '%s'", name);
}

weir_err_t weir_run_metrics_read(const char *path, FILE *complaints, weir_run_metrics_t *metrics,
                                 weir_error_t *error) {
    char name[WEIR_PATH_MAX];
    weir_file_printable(path, name, sizeof name);
    FILE *stream = fopen(path, "rbe");
    return stream != NULL ? read_stream(stream, name, complaints, metrics, error)
                          : weir_error_from_errno(error, errno, "read '%s'", name);
}

void weir_run_metrics_fini(weir_run_metrics_t *metrics) {
    free(metrics->train);
    free(metrics->evals);
    free(metrics->checkpoints);
    memset(metrics, 0, sizeof *metrics);
}
