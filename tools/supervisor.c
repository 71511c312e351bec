#include "tools/supervisor.h"

#include "common/checkpoint.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"
#include "tools/failure.h"
#include "tools/restarts.h"
#include "tools/run_files.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DAMAGED = 64 };

typedef struct {
    const weir_launch_t *launch;
    const weir_supervisor_options_t *options;
    weir_restarts_t restarts;
    uint64_t damaged[MAX_DAMAGED]; /* steps of checkpoints that are no good */
    size_t damaged_count;
    double began; /* the first job */

    /* Of the job that runs. */
    weir_failure_t failure;
    double looked;           /* at the files of the run */
    char beat[128];          /* the last one read */
    double beaten;           /* when it changed; 0: there was none yet */
    bool silent, over, late; /* ended for silence; asked to stop, or ended, for the time limit */
} supervisor_t;

/* ---- while a job runs ---- */

static void hear(void *argument, const char *line) {
    supervisor_t *supervisor = argument;
    weir_failure_hear(&supervisor->failure, line);
}

static weir_launch_wish_t look_for_beat(supervisor_t *supervisor, double now) {
    char beat[sizeof supervisor->beat];
    bool there = weir_run_file_read(supervisor->launch->run, "beat", beat, sizeof beat);
    if (!there || strcmp(beat, supervisor->beat) != 0) {
        /* What an earlier job left is no beat of this one. */
        supervisor->beaten = there && supervisor->beat[0] != '\0' ? now : 0.0;
        (void)snprintf(supervisor->beat, sizeof supervisor->beat, "%s", there ? beat : "-");
        return WEIR_LAUNCH_GO_ON;
    }
    if (supervisor->beaten == 0.0 || now - supervisor->beaten <= supervisor->options->silence) {
        return WEIR_LAUNCH_GO_ON;
    }
    if (!supervisor->silent) {
        supervisor->silent = true;
        weir_log(WEIR_LOG_ERROR, "supervisor",
                 "the coordinator has said nothing for %.0f s: the job is ended",
                 now - supervisor->beaten);
    }
    return WEIR_LAUNCH_END;
}

static weir_launch_wish_t look_at_limit(supervisor_t *supervisor, double now) {
    double limit = supervisor->options->time_limit, passed = now - supervisor->began;
    if (limit <= 0.0 || passed < 0.5 * limit) {
        return WEIR_LAUNCH_GO_ON;
    }
    if (passed >= limit && supervisor->over) {
        if (!supervisor->late) {
            supervisor->late = true;
            weir_log(WEIR_LOG_ERROR, "supervisor", "the time limit is reached: the job is ended");
        }
        return WEIR_LAUNCH_END;
    }
    double margin = weir_run_seconds_to_stop(supervisor->launch->run);
    if (margin <= 0.0) { /* nothing was saved yet: a tenth, as a guess */
        margin = 0.1 * limit < 60.0 ? 0.1 * limit : 60.0;
    }
    if (!supervisor->over && passed >= limit - margin) {
        supervisor->over = true;
        weir_log(WEIR_LOG_INFO, "supervisor",
                 "the time limit comes near: the job saves and stops|limit=%.0f margin=%.1f", limit,
                 margin);
    }
    return supervisor->over ? WEIR_LAUNCH_STOP : WEIR_LAUNCH_GO_ON;
}

static weir_launch_wish_t tick(void *argument) {
    supervisor_t *supervisor = argument;
    double now = weir_clock_seconds();
    if (now - supervisor->looked < 0.2) {
        return WEIR_LAUNCH_GO_ON;
    }
    supervisor->looked = now;
    weir_launch_wish_t beat = look_for_beat(supervisor, now);
    weir_launch_wish_t limit = look_at_limit(supervisor, now);
    return beat > limit ? beat : limit;
}

/* ---- between two jobs ---- */

static bool is_damaged(const supervisor_t *supervisor, uint64_t step) {
    for (size_t i = 0; i < supervisor->damaged_count; i++) {
        if (supervisor->damaged[i] == step) {
            return true;
        }
    }
    return false;
}

/* The checkpoint that a job would go on from: `latest`, or the newest of those that are not known
 * to be damaged. False: there is none. */
static bool find_checkpoint(const supervisor_t *supervisor, uint64_t *step) {
    char folder[WEIR_PATH_MAX];
    uint64_t *steps = NULL;
    size_t count = 0;
    bool found = false;
    if (weir_checkpoint_resolve(supervisor->launch->run, folder, sizeof folder, NULL) == WEIR_OK) {
        const char *slash = strrchr(folder, '/');
        found = slash != NULL && weir_checkpoint_parse_step(slash + 1, step) &&
                !is_damaged(supervisor, *step);
    }
    if (!found && weir_checkpoint_list(supervisor->launch->run, &steps, &count, NULL) == WEIR_OK) {
        while (count > 0 && !found) {
            *step = steps[--count];
            found = !is_damaged(supervisor, *step);
        }
    }
    free(steps);
    return found;
}

/* Read every byte of a checkpoint. */
static weir_err_t verify(const supervisor_t *supervisor, uint64_t step, weir_error_t *error) {
    char path[WEIR_PATH_MAX], name[32];
    weir_manifest_t manifest = {0};
    weir_checkpoint_step_name(step, name);
    int length = snprintf(path, sizeof path, "%s/checkpoints/%s", supervisor->launch->run, name);
    if (length < 0 || (size_t)length >= sizeof path) {
        return weir_errorf(error, WEIR_ERR_INVALID, "the run folder's name is too long");
    }
    weir_err_t err = weir_manifest_read(path, true, &manifest, error);
    weir_manifest_fini(&manifest);
    return err;
}

/* A job that failed to begin may have met a damaged checkpoint: look at them from the newest on,
 * until one is good. True when there was a damaged one. */
static bool set_damaged_aside(supervisor_t *supervisor) {
    bool any = false;
    uint64_t step = 0;
    weir_error_t error = {0};
    while (supervisor->damaged_count < MAX_DAMAGED && find_checkpoint(supervisor, &step) &&
           verify(supervisor, step, &error) != WEIR_OK) {
        weir_log(WEIR_LOG_WARN, "supervisor",
                 "the checkpoint of step %llu is damaged and is passed over: %s",
                 (unsigned long long)step, error.message);
        supervisor->damaged[supervisor->damaged_count++] = step;
        any = true;
    }
    return any;
}

static void describe_repeats(bool saved, uint64_t checkpoint, uint64_t reached, char *text,
                             size_t capacity) {
    char from[64];
    unsigned long long first = (unsigned long long)checkpoint + 1;
    (void)snprintf(from, sizeof from, saved ? "resuming from step %llu" : "starting from nothing",
                   (unsigned long long)checkpoint);
    if (reached <= checkpoint) {
        (void)snprintf(text, capacity, "%s; no step is repeated", from);
    } else if (reached == first) {
        (void)snprintf(text, capacity, "%s; step %llu is repeated", from, first);
    } else {
        (void)snprintf(text, capacity, "%s; steps %llu to %llu are repeated", from, first,
                       (unsigned long long)reached);
    }
}

/* How the job ended, and whether the next one starts. */
static bool judge(supervisor_t *supervisor, int status, const weir_run_progress_t *before) {
    const char *why = "";
    char cause[768], repeats[160];
    double delay = 0.0;
    weir_run_progress_t progress = {0};
    weir_job_end_t end = {.status = status};
    bool wrote = weir_run_progress_read(supervisor->launch->run, &progress) &&
                 progress.start != before->start;
    end.stepped = wrote && progress.step > progress.from;
    end.damaged = !end.stepped && status < 128 && set_damaged_aside(supervisor);
    bool saved = find_checkpoint(supervisor, &end.checkpoint);
    end.checkpoint = saved ? end.checkpoint : 0;
    end.reached = progress.step > end.checkpoint ? progress.step : end.checkpoint;
    if (supervisor->silent) {
        (void)snprintf(cause, sizeof cause, "rank 0 (coordinator) was silent");
    } else {
        weir_failure_describe(&supervisor->failure, supervisor->launch->ps, status, cause,
                              sizeof cause);
    }
    if (!weir_restarts_judge(&supervisor->restarts, &end, &delay, &why)) {
        weir_log(WEIR_LOG_ERROR, "supervisor", "%s; not started again: %s", cause, why);
        return false;
    }
    describe_repeats(saved, end.checkpoint, end.reached, repeats, sizeof repeats);
    weir_log(WEIR_LOG_WARN, "supervisor", "restart %lld of %lld: %s; %s",
             (long long)supervisor->restarts.done, (long long)supervisor->restarts.most, cause,
             repeats);
    weir_run_note_restart(supervisor->launch->run, supervisor->restarts.done,
                          supervisor->restarts.most, status, cause, end.checkpoint, end.reached);
    weir_launch_pause(delay); /* a stop that comes meanwhile is the next job's to find */
    return true;
}

/* ---- jobs ---- */

/* The arguments of the next job: those of the first, or RUN/config.yaml and where to go on. */
static void choose_arguments(const supervisor_t *supervisor, weir_launch_t *launch,
                             const char *words[16], char number[24]) {
    char path[WEIR_PATH_MAX];
    uint64_t step = 0;
    size_t count = 0;
    if (!supervisor->restarts.failed_before ||
        weir_path_join(path, sizeof path, launch->run, "config.yaml", NULL) != WEIR_OK ||
        !weir_file_exists(path)) {
        return; /* it had not become a run yet */
    }
    while (supervisor->options->again[count] != NULL) {
        words[count] = supervisor->options->again[count];
        count++;
    }
    if (find_checkpoint(supervisor, &step)) {
        (void)snprintf(number, 24, "%llu", (unsigned long long)step);
        words[count++] = "--step";
        words[count++] = number;
    }
    launch->arguments = words;
    launch->argument_count = count;
}

static weir_err_t run_once(supervisor_t *supervisor, weir_launch_end_t *end, weir_error_t *error) {
    const char *words[16];
    char number[24];
    weir_launch_t launch = *supervisor->launch;
    launch.hear = supervisor->options->max_restarts > 0 ? hear : NULL;
    launch.tick = tick;
    launch.argument = supervisor;
    choose_arguments(supervisor, &launch, words, number);
    supervisor->failure = (weir_failure_t){.named = false};
    supervisor->beat[0] = '\0';
    supervisor->beaten = 0.0;
    supervisor->silent = false;
    return weir_launch(&launch, end, error);
}

/* A stop that came before there were ranks that know of signals: nothing had begun, nothing is
 * lost. */
static bool was_stopped_early(const supervisor_t *supervisor, const weir_launch_end_t *end) {
    return !end->begun ||
           (end->asked && (end->status == 128 + SIGUSR1 ||
                           (supervisor->failure.named && supervisor->failure.signal == SIGUSR1)));
}

/* Last words of a job that nobody starts again: what the launcher does not say. */
static void say_end(const supervisor_t *supervisor, int status) {
    const weir_launch_t *launch = supervisor->launch;
    uint64_t step = 0;
    bool resumed = false;
    for (size_t i = 0; i < launch->argument_count; i++) {
        resumed = resumed || strcmp(launch->arguments[i], "--resume") == 0;
    }
    if (status > 128 && find_checkpoint(supervisor, &step)) {
        (void)fprintf(stderr,
                      "weir: a process of the job was killed by signal %d; the newest checkpoint "
                      "is of step %llu\n"
                      "HINT: --resume goes on from it, --max-restarts unasked\n",
                      status - 128, (unsigned long long)step);
    } else if (status > 128) {
        (void)fprintf(
            stderr, "weir: a process of the job was killed by signal %d; nothing had been saved\n",
            status - 128);
    } else if (resumed && status == weir_exit_status(WEIR_ERR_CORRUPT)) {
        (void)fprintf(stderr,
                      "HINT: `weir verify %s` says what is damaged; --max-restarts 1 goes on from "
                      "the newest checkpoint that is whole\n",
                      launch->run);
    }
}

/* Run one job. `*done`: nothing is left to do, `*status` is what it comes to. */
static weir_err_t run_and_judge(supervisor_t *supervisor, int *status, bool *done,
                                weir_error_t *error) {
    char outcome[64] = "";
    weir_launch_end_t end;
    weir_run_progress_t before = {0};
    char path[WEIR_PATH_MAX];
    *done = true;
    if (supervisor->restarts.failed_before &&
        weir_path_join(path, sizeof path, supervisor->launch->run, "halt", NULL) == WEIR_OK &&
        weir_file_exists(path)) { /* asked of the job that failed before it could follow */
        *status = weir_exit_status(WEIR_ERR_STOPPED);
        return WEIR_OK;
    }
    bool any = weir_run_progress_read(supervisor->launch->run, &before);
    before.start = any ? before.start : 0;
    weir_err_t err = run_once(supervisor, &end, error);
    if (err != WEIR_OK) {
        return err;
    }
    if (was_stopped_early(supervisor, &end)) {
        *status = weir_exit_status(WEIR_ERR_STOPPED);
        return WEIR_OK;
    }
    if (end.status == 0) {
        err = weir_run_outcome(supervisor->launch->run, outcome, sizeof outcome, error);
        *status = strcmp(outcome, "stopped") == 0 ? weir_exit_status(WEIR_ERR_STOPPED) : 0;
    } else {
        *status = supervisor->silent ? weir_exit_status(WEIR_ERR_TIMEOUT) : end.status;
    }
    if (err == WEIR_OK && end.status == 0) {
        return WEIR_OK;
    }
    if (supervisor->late) {
        return weir_errorf(error, WEIR_ERR_TIMEOUT,
                           "the job had not saved and stopped when its time was over");
    }
    bool asked = end.asked || supervisor->over;
    if (!asked && supervisor->options->max_restarts == 0) {
        say_end(supervisor, *status);
    }
    *done = asked || supervisor->options->max_restarts == 0 ||
            !judge(supervisor, err != WEIR_OK ? weir_exit_status(err) : *status, &before);
    return err;
}

weir_err_t weir_supervise(const weir_launch_t *launch, const weir_supervisor_options_t *options,
                          int *status, bool *limited, weir_error_t *error) {
    supervisor_t supervisor = {.launch = launch,
                               .options = options,
                               .restarts = {.most = options->max_restarts},
                               .began = weir_clock_seconds()};
    bool done = false;
    weir_err_t err = WEIR_OK;
    while (!done) {
        err = run_and_judge(&supervisor, status, &done, error);
    }
    *limited = supervisor.over;
    return err;
}
