/* weir-coordinator: rank 0. The run folder, the control socket, and what the state machine asks
 * for. */
#include "common/clock.h"
#include "common/log.h"
#include "common/run_dir.h"
#include "common/signals.h"
#include "coordinator/control_socket.h"
#include "coordinator/coordinator.h"
#include "coordinator/metrics_http.h"
#include "proto/job.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct {
    weir_job_t job;
    weir_run_lock_t lock;
    weir_control_socket_t *socket;
    char endpoint[128];
    weir_metrics_http_t *http;  /* NULL: metrics are not shown */
    char metrics_url[300];      /* empty: likewise */
    weir_curve_keys_t ctl_keys; /* for weir ctl, in control.json */
    char *config_yaml;
    uint64_t start_step;
    int beat_fd; /* RUN/beat; -1: none */
    unsigned long long beats;
    weir_coordinator_t *coordinator;
} process_t;

/* ---- what the state machine asks for ---- */

static void send_message(void *argument, const weir_identity_t *to, const void *bytes,
                         size_t size) {
    process_t *process = argument;
    weir_control_socket_send(process->socket, to, bytes, size);
}

static weir_err_t begin_checkpoint(void *argument, uint64_t step, char *folder, size_t capacity,
                                   weir_error_t *error) {
    process_t *process = argument;
    return weir_checkpoint_begin(process->job.options.run, step, folder, capacity, error);
}

static weir_err_t publish_checkpoint(void *argument, const weir_manifest_t *manifest, bool best,
                                     weir_error_t *error) {
    process_t *process = argument;
    weir_error_t ignored = {0};
    weir_err_t err = weir_checkpoint_publish(process->job.options.run, manifest, best, error);
    if (err == WEIR_OK && weir_checkpoint_prune(process->job.options.run,
                                                (size_t)process->job.config.train.keep_checkpoints,
                                                &ignored) != WEIR_OK) {
        weir_log(WEIR_LOG_WARN, "coordinator_main", "old checkpoints were not removed: %s",
                 ignored.message);
    }
    return err;
}

static void abandon_checkpoint(void *argument, const char *folder) {
    (void)argument;
    weir_error_t error = {0};
    if (folder[0] != '\0' && weir_file_remove_directory(folder, &error) != WEIR_OK) {
        weir_log(WEIR_LOG_WARN, "coordinator_main", "left behind: %s", error.message);
    }
}

/* ---- start ---- */

/* A resume may change what is not of the model: which settings these are is said, since a file that
 * was edited by mistake, or is damaged, changes them too. */
static void tell_changes(const weir_config_t *saved, const weir_config_t *config) {
    char was[512], is[512];
    const char *key;
    for (size_t i = 0; (key = weir_config_key_name(i)) != NULL; i++) {
        if (weir_config_get_text(saved, key, was, sizeof was) &&
            weir_config_get_text(config, key, is, sizeof is) && strcmp(was, is) != 0) {
            weir_log(WEIR_LOG_INFO, "coordinator_main",
                     "%s is not what the checkpoint was written with|was=\"%s\" is=\"%s\"", key,
                     was, is);
        }
    }
}

/* On a resume: the checkpoint must be whole, and of this model. */
static weir_err_t check_checkpoint(process_t *process, weir_error_t *error) {
    weir_manifest_t manifest = {0};
    weir_config_t saved;
    const char *folder = process->job.checkpoint;
    weir_err_t err = weir_manifest_read(folder, true, &manifest, error);
    if (err != WEIR_OK) {
        return err;
    }
    process->start_step = manifest.step;
    err = weir_config_load_text(manifest.config_yaml, strlen(manifest.config_yaml), folder, NULL, 0,
                                &saved, error);
    if (err == WEIR_OK &&
        weir_config_digest(&saved, true) != weir_config_digest(&process->job.config, true)) {
        err = weir_errorf(error, WEIR_ERR_INVALID,
                          "the checkpoint %s is of another model than the configuration", folder);
        weir_error_hint(error,
                        "`weir inspect %s` shows its configuration; model.* and "
                        "sparse.optimizer must agree",
                        folder);
    } else if (err == WEIR_OK && !process->job.options.eval_only) {
        tell_changes(&saved, &process->job.config);
    }
    weir_manifest_fini(&manifest);
    return err;
}

static weir_err_t write_in_run(const process_t *process, const char *name, const char *text,
                               weir_error_t *error) {
    char path[WEIR_PATH_MAX];
    weir_err_t err = weir_path_join(path, sizeof path, process->job.options.run, name, error);
    if (err == WEIR_OK) {
        err = weir_file_replace(path, text, strlen(text), error);
    }
    return err;
}

/* Where `weir ctl` finds this job, and its key. For the owner of the run alone. */
static weir_err_t write_control_file(const process_t *process, uint64_t id, weir_error_t *error) {
    char job[32], host[64] = "";
    (void)gethostname(host, sizeof host - 1);
    (void)snprintf(job, sizeof job, "%016llx", (unsigned long long)id);
    json_t *object =
        json_pack("{s:s, s:s, s:s, s:I, s:s, s:s, s:s, s:s}", "endpoint", process->endpoint, "job",
                  job, "host", host, "pid", (json_int_t)getpid(), "server_key",
                  process->job.keys.public_key, "public_key", process->ctl_keys.public_key,
                  "secret_key", process->ctl_keys.secret_key, "metrics", process->metrics_url);
    char *text = object != NULL ? json_dumps(object, JSON_INDENT(2)) : NULL;
    mode_t mask = umask(0077);
    weir_err_t err = text != NULL ? write_in_run(process, "control.json", text, error)
                                  : weir_errorf(error, WEIR_ERR_MEMORY, "out of memory");
    (void)umask(mask);
    free(text);
    json_decref(object);
    return err;
}

static weir_err_t make_page(void *argument, char **page, size_t *size, weir_error_t *error) {
    process_t *process = argument;
    if (process->coordinator == NULL) {
        return weir_errorf(error, WEIR_ERR_NOT_FOUND, "the job has not begun");
    }
    return weir_coordinator_show_metrics(process->coordinator, weir_clock_seconds(), page, size,
                                         error);
}

/* An evaluation shows none: it may run beside the training job. */
static weir_err_t open_metrics(process_t *process, weir_error_t *error) {
    const char *address = process->job.config.cluster.metrics_address;
    return process->job.options.eval_only || address[0] == '\0'
               ? WEIR_OK
               : weir_metrics_http_open(address, make_page, process, process->metrics_url,
                                        sizeof process->metrics_url, &process->http, error);
}

/* Lines of RUN/restarts.jsonl. */
static uint64_t count_restarts(const process_t *process) {
    char path[WEIR_PATH_MAX];
    uint64_t count = 0;
    if (weir_path_join(path, sizeof path, process->job.options.run, "restarts.jsonl", NULL) !=
        WEIR_OK) {
        return 0;
    }
    FILE *file = fopen(path, "re"); /* there is none before the first */
    for (int c; file != NULL && (c = getc(file)) != EOF;) {
        count += c == '\n';
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return count;
}

static void remove_in_run(const process_t *process, const char *name) {
    char path[WEIR_PATH_MAX];
    if (weir_path_join(path, sizeof path, process->job.options.run, name, NULL) == WEIR_OK) {
        (void)unlink(path); /* it may never have been */
    }
}

static weir_err_t open_run(process_t *process, uint64_t id, weir_error_t *error) {
    const weir_job_options_t *options = &process->job.options;
    weir_err_t err = weir_config_to_yaml(&process->job.config, &process->config_yaml, error);
    if (err == WEIR_OK && !options->eval_only) {
        err = weir_run_dir_acquire(options->run, options->resume, &process->lock, error);
    }
    if (err == WEIR_OK && process->job.checkpoint[0] != '\0') {
        err = check_checkpoint(process, error);
    }
    if (err == WEIR_OK && process->job.config.cluster.curve) {
        err = weir_curve_make_keys(&process->ctl_keys, error);
    }
    if (err == WEIR_OK) {
        /* An evaluation may run beside the training job, which holds the port. */
        err = weir_control_socket_open(
            process->job.config.cluster.bind,
            options->eval_only ? 0 : process->job.config.cluster.port,
            process->job.config.cluster.curve ? &process->job.keys : NULL, process->endpoint,
            sizeof process->endpoint, &process->socket, error);
    }
    if (err == WEIR_OK) {
        err = open_metrics(process, error);
    }
    if (err == WEIR_OK && !options->eval_only) {
        remove_in_run(process, "outcome.json");
        remove_in_run(process, "halt"); /* it was for the job before */
        err = write_in_run(process, "config.yaml", process->config_yaml, error);
    }
    if (err == WEIR_OK && !options->eval_only) {
        err = write_control_file(process, id, error);
    }
    return err;
}

/* The ranks of this job, each under its own key, and whoever can read control.json. */
static weir_err_t admit_peers(process_t *process, weir_error_t *error) {
    weir_err_t err = weir_control_socket_admit(process->socket, process->ctl_keys.public_key,
                                               WEIR_CONTROL_CTL, error);
    for (weir_rank_t rank = 1; rank < process->job.comm->size && err == WEIR_OK; rank++) {
        err = weir_control_socket_admit(process->socket, process->job.rank_keys[rank], rank, error);
    }
    return err;
}

static uint64_t new_job_id(void) {
    uint64_t id = 0;
    if (getrandom(&id, sizeof id, 0) != (ssize_t)sizeof id || id == 0) {
        id = ((uint64_t)(weir_clock_seconds() * 1e9) ^ ((uint64_t)getpid() << 32)) | 1u;
    }
    return id;
}

/* ---- the loop ---- */

/* Hand on what came, up to a few hundred messages, so that time is looked at in a flood too. */
static void receive_messages(process_t *process) {
    weir_identity_t from;
    const void *bytes;
    size_t size;
    bool whole = false;
    for (int i = 0;
         i < 256 && weir_control_socket_receive(process->socket, &from, &bytes, &size, &whole);
         i++) {
        if (whole) {
            weir_coordinator_receive(process->coordinator, &from, bytes, size,
                                     weir_clock_seconds());
        }
    }
}

/* That this process lives, for the supervisor: RUN/beat changes. */
static void beat(process_t *process) {
    char text[64];
    if (process->beat_fd >= 0) {
        int length = snprintf(text, sizeof text, "%016llx %020llu\n",
                              (unsigned long long)process->job.id, process->beats++);
        /* A beat that cannot be written is one that is missed. */
        (void)!pwrite(process->beat_fd, text, (size_t)length, 0);
    }
}

/* RUN/halt asks to stop, for those who cannot reach the control socket. */
static void look_for_halt(process_t *process) {
    char path[WEIR_PATH_MAX];
    if (!process->job.options.eval_only &&
        weir_path_join(path, sizeof path, process->job.options.run, "halt", NULL) == WEIR_OK &&
        weir_file_exists(path)) {
        weir_coordinator_ask_stop(process->coordinator);
    }
}

static weir_err_t run(process_t *process, const char **reason, weir_error_t *error) {
    const char *culprit;
    double last_tick = 0.0;
    while (!weir_coordinator_is_done(process->coordinator, reason)) {
        weir_control_socket_wait(process->socket, weir_metrics_http_fd(process->http), 0.2);
        weir_metrics_http_serve(process->http);
        receive_messages(process);
        if (weir_signals_stop_requested() != 0) {
            weir_coordinator_ask_stop(process->coordinator);
        }
        double now = weir_clock_seconds();
        if (now - last_tick > 0.5) {
            beat(process);
            look_for_halt(process);
            weir_coordinator_tick(process->coordinator, now);
            last_tick = now;
        }
        if (weir_coordinator_is_hung(process->coordinator, &culprit)) {
            weir_err_t err = weir_errorf(error, WEIR_ERR_TIMEOUT, "%s", culprit);
            weir_error_hint(error, "that process, or its host, is at fault; cluster.hang_timeout "
                                   "sets the limit");
            return err;
        }
    }
    return WEIR_OK;
}

static weir_err_t open_beat(process_t *process, weir_error_t *error) {
    char path[WEIR_PATH_MAX];
    weir_err_t err = weir_path_join(path, sizeof path, process->job.options.run, "beat", error);
    if (err != WEIR_OK) {
        return err;
    }
    process->beat_fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    return process->beat_fd >= 0 ? WEIR_OK
                                 : weir_error_from_errno(error, errno, "cannot open %s", path);
}

static weir_err_t create_coordinator(process_t *process, weir_error_t *error) {
    const weir_config_t *config = &process->job.config;
    double silence = 10.0 * config->cluster.heartbeat;
    weir_coordinator_options_t options = {.job = process->job.id,
                                          .ps = process->job.ps,
                                          .workers = process->job.workers,
                                          .config_yaml = process->config_yaml,
                                          .silence_seconds = silence > 10.0 ? silence : 10.0,
                                          /* before worker 0 gives up, so that it learns why */
                                          .checkpoint_seconds = 0.9 * config->cluster.timeout,
                                          .leave_seconds = 10.0,
                                          .hang_seconds = weir_config_hang_seconds(config),
                                          .step = process->start_step,
                                          .full_every =
                                              (uint64_t)config->train.checkpoint_full_every,
                                          .restarts = count_restarts(process)};
    weir_coordinator_operations_t operations = {.send = send_message,
                                                .begin = begin_checkpoint,
                                                .publish = publish_checkpoint,
                                                .abandon = abandon_checkpoint,
                                                .argument = process};
    return weir_coordinator_create(&options, &operations, weir_clock_seconds(),
                                   &process->coordinator, error);
}

/* How the job ended, for whoever started it: success is believed only when this file says so. */
static weir_err_t write_outcome(const process_t *process, const char *reason, weir_error_t *error) {
    weir_coordinator_counters_t counters = weir_coordinator_counters(process->coordinator);
    json_t *object = json_pack("{s:s, s:I}", "outcome", reason, "last_checkpoint_step",
                               (json_int_t)counters.last_checkpoint);
    char *text = object != NULL ? json_dumps(object, 0) : NULL;
    weir_err_t err = text != NULL ? write_in_run(process, "outcome.json", text, error)
                                  : weir_errorf(error, WEIR_ERR_MEMORY, "out of memory");
    free(text);
    json_decref(object);
    return err;
}

int main(int argc, char **argv) {
    process_t process = {.lock = {.fd = -1}, .beat_fd = -1};
    weir_error_t error = {0}, start_error = {0};
    weir_err_t started = WEIR_OK;
    bool speaks = true;
    const char *reason = "";
    uint64_t id = new_job_id();
    if (weir_job_start(WEIR_ROLE_COORDINATOR, argc, argv, &process.job, &started, &start_error,
                       &error) != WEIR_OK) {
        weir_fatal(&error);
    }
    if (started == WEIR_OK) {
        started = open_run(&process, id, &start_error);
    }
    weir_err_t err =
        weir_job_join(&process.job, process.endpoint, id, started, &start_error, &speaks, &error);
    if (err != WEIR_OK) {
        if (started == WEIR_OK && !process.job.options.eval_only) {
            remove_in_run(&process, "control.json");
            if (!process.job.options.resume) {
                remove_in_run(&process, "config.yaml"); /* it never became a run */
            }
        }
        weir_job_refuse(&process.job, speaks, &error);
    }
    err = admit_peers(&process, &error);
    if (err == WEIR_OK && !process.job.options.eval_only) {
        err = open_beat(&process, &error);
    }
    if (err == WEIR_OK) {
        err = create_coordinator(&process, &error);
    }
    if (err == WEIR_OK) {
        err = run(&process, &reason, &error);
        if (err == WEIR_OK && !process.job.options.eval_only) {
            err = write_outcome(&process, reason, &error);
            remove_in_run(&process, "control.json");
            remove_in_run(&process, "beat");
        }
    }
    if (err != WEIR_OK) {
        weir_fatal(&error);
    }
    if (process.beat_fd >= 0) {
        (void)close(process.beat_fd);
    }
    weir_metrics_http_close(process.http);
    weir_control_socket_close(process.socket);
    char run_folder[WEIR_PATH_MAX];
    (void)snprintf(run_folder, sizeof run_folder, "%s", process.job.options.run);
    weir_coordinator_destroy(process.coordinator);
    weir_run_dir_release(run_folder, &process.lock);
    free(process.config_yaml);
    weir_job_leave(&process.job);
    return 0; /* a stop on request is told by outcome.json: mpirun would call it a failure */
}
