#include "tools/run_files.h"

#include "common/file.h"
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Of metrics.jsonl: enough for the last checkpoint and the last evaluation. */
enum { TAIL_BYTES = 256 * 1024 };

bool weir_run_file_read(const char *run, const char *name, char *text, size_t capacity) {
    char path[WEIR_PATH_MAX];
    if (weir_path_join(path, sizeof path, run, name, NULL) != WEIR_OK) {
        return false;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd >= 0 ? read(fd, text, capacity - 1) : -1;
    if (fd >= 0) {
        (void)close(fd);
    }
    text[size > 0 ? size : 0] = '\0';
    return size > 0;
}

bool weir_run_progress_read(const char *run, weir_run_progress_t *progress) {
    char text[128];
    unsigned long long step, from, start;
    if (!weir_run_file_read(run, "progress", text, sizeof text) ||
        sscanf(text, "%20llu %20llu %20llu", &step, &from, &start) != 3) {
        return false;
    }
    *progress = (weir_run_progress_t){.step = step, .from = from, .start = start};
    return true;
}

weir_err_t weir_run_outcome(const char *run, char *outcome, size_t capacity, weir_error_t *error) {
    char path[WEIR_PATH_MAX], *text = NULL;
    size_t size = 0;
    json_error_t ignored;
    weir_err_t err = weir_path_join(path, sizeof path, run, "outcome.json", error);
    if (err == WEIR_OK) {
        err = weir_file_read(path, 65536, &text, &size, NULL);
    }
    json_t *object = err == WEIR_OK ? json_loadb(text, size, 0, &ignored) : NULL;
    const char *value = json_string_value(json_object_get(object, "outcome"));
    if (value == NULL) {
        err = weir_errorf(error, WEIR_ERR_PEER, "the job did not end as it should");
        weir_error_hint(error,
                        "the lines above say why; `--resume` continues from the last checkpoint");
    } else {
        (void)snprintf(outcome, capacity, "%s", value);
    }
    json_decref(object);
    free(text);
    return err;
}

/* The last `capacity` - 1 bytes of RUN/metrics.jsonl. */
static bool read_tail(const char *run, char *text, size_t capacity) {
    char path[WEIR_PATH_MAX];
    struct stat status;
    if (weir_path_join(path, sizeof path, run, "metrics.jsonl", NULL) != WEIR_OK) {
        return false;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = -1;
    if (fd >= 0 && fstat(fd, &status) == 0) {
        off_t from =
            status.st_size > (off_t)(capacity - 1) ? status.st_size - (off_t)(capacity - 1) : 0;
        size = pread(fd, text, capacity - 1, from);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    text[size > 0 ? size : 0] = '\0';
    return size > 0;
}

/* "seconds" of a line of this kind; -1: it is none. */
static double seconds_of(const char *line, size_t size, const char *kind) {
    json_error_t ignored;
    json_t *object = json_loadb(line, size, 0, &ignored);
    const char *own = json_string_value(json_object_get(object, "kind"));
    double seconds = own != NULL && strcmp(own, kind) == 0
                         ? json_number_value(json_object_get(object, "seconds"))
                         : -1.0;
    json_decref(object);
    return seconds;
}

double weir_run_seconds_to_stop(const char *run) {
    double checkpoint = -1.0, evaluation = 0.0;
    char *text = malloc(TAIL_BYTES);
    if (text == NULL || !read_tail(run, text, TAIL_BYTES)) {
        free(text);
        return 0.0;
    }
    for (const char *line = text; *line != '\0';) {
        size_t size = strcspn(line, "\n");
        double saved = seconds_of(line, size, "checkpoint");
        double evaluated = seconds_of(line, size, "eval");
        checkpoint = saved >= 0.0 ? saved : checkpoint;
        evaluation = evaluated >= 0.0 ? evaluated : evaluation;
        line += size + (line[size] == '\n' ? 1 : 0);
    }
    free(text);
    return checkpoint < 0.0 ? 0.0 : 2.0 * checkpoint + evaluation + 5.0;
}

void weir_run_note_restart(const char *run, int64_t number, int64_t most, int status,
                           const char *cause, uint64_t checkpoint, uint64_t reached) {
    char path[WEIR_PATH_MAX], when[32] = "";
    struct tm utc;
    time_t now = time(NULL);
    if (gmtime_r(&now, &utc) != NULL) {
        (void)strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &utc);
    }
    json_t *line =
        json_pack("{s:s, s:I, s:I, s:i, s:s, s:I, s:I}", "time", when, "restart",
                  (json_int_t)number, "of", (json_int_t)most, "status", status, "cause", cause,
                  "from_step", (json_int_t)checkpoint, "reached_step", (json_int_t)reached);
    char *text = line != NULL ? json_dumps(line, JSON_COMPACT) : NULL;
    FILE *file = NULL;
    if (text != NULL && weir_path_join(path, sizeof path, run, "restarts.jsonl", NULL) == WEIR_OK) {
        file = fopen(path, "ae");
    }
    bool written = file != NULL && fprintf(file, "%s\n", text) > 0;
    written = file != NULL && fclose(file) == 0 && written;
    if (!written) {
        weir_log(WEIR_LOG_WARN, "run_files", "restarts.jsonl was not written");
    }
    free(text);
    json_decref(line);
}
