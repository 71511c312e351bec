#include "proto/job.h"

#include "common/checkpoint.h"
#include "common/comm_faults.h"
#include "common/log.h"
#include "common/signals.h"
#include "common/version.h"
#include "proto/roster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* Ranks come up within this many seconds of each other, or not at all. */
#define CARDS_TIMEOUT 120.0

const char *weir_role_name(weir_role_t role) {
    static const char *const names[] = {"coordinator", "ps", "worker"};
    return names[role];
}

void weir_job_flush_denormals(void) {
#if defined(__x86_64__)
    _MM_SET_FLUSH_ZERO_MODE(_MM_FLUSH_ZERO_ON);
    _mm_setcsr(_mm_getcsr() | 0x0040u); /* denormals are zero */
#endif
}

/* The checkpoint that the options ask for; none for a fresh start, or for a resume of a run that
 * has not saved yet. */
static weir_err_t choose_checkpoint(weir_job_t *job, weir_error_t *error) {
    const weir_job_options_t *options = &job->options;
    char where[WEIR_PATH_MAX], name[32] = "latest";
    job->checkpoint[0] = '\0';
    if (!options->resume && !options->eval_only) {
        return WEIR_OK;
    }
    if (options->best) {
        (void)snprintf(name, sizeof name, "best");
    }
    if (options->has_step) {
        weir_checkpoint_step_name(options->step, name);
    }
    int length = snprintf(where, sizeof where, "%s/checkpoints/%s", options->run, name);
    if (length < 0 || (size_t)length >= sizeof where) {
        return weir_errorf(error, WEIR_ERR_INVALID, "the run folder's name is too long");
    }
    if (!weir_file_exists(where) && options->resume && !options->has_step && !options->best) {
        return WEIR_OK; /* a run that never saved starts again from nothing */
    }
    weir_err_t err = weir_checkpoint_resolve(where, job->checkpoint, sizeof job->checkpoint, error);
    if (err != WEIR_OK) {
        weir_error_hint(error,
                        "`weir inspect %s` shows the latest; checkpoints are in %s/checkpoints",
                        options->run, options->run);
    }
    return err;
}

static weir_err_t prepare_start(weir_job_t *job, weir_error_t *error) {
    weir_err_t err = weir_config_load(job->options.config, job->options.sets,
                                      job->options.set_count, &job->config, error);
    if (err == WEIR_OK) {
        err = choose_checkpoint(job, error);
    }
    if (err == WEIR_OK && job->config.cluster.curve) {
        err = weir_curve_make_keys(&job->keys, error);
    }
    if (err == WEIR_OK) {
        job->ps = (uint32_t)job->config.cluster.ps;
        job->workers = (uint32_t)job->config.cluster.workers;
        job->first_ps_rank = 1;
        job->first_worker_rank = 1 + job->ps;
    }
    return err;
}

weir_err_t weir_job_start(weir_role_t role, int argc, char **argv, weir_job_t *job,
                          weir_err_t *started, weir_error_t *start_error, weir_error_t *error) {
    *job = (weir_job_t){.role = role};
    weir_log_init(weir_role_name(role), -1, WEIR_LOG_INFO);
    weir_job_parse_options(role, argc, argv, &job->options);
    weir_signals_init();
    *started = prepare_start(job, start_error);
    weir_err_t err = weir_comm_mpi_init(&argc, &argv, &job->comm, error);
    if (err == WEIR_OK) {
        weir_log_init(weir_role_name(role), (int)job->comm->rank, WEIR_LOG_INFO);
    }
    return err;
}

static void fill_card(const weir_job_t *job, const char *endpoint, uint64_t id, weir_err_t started,
                      const weir_error_t *start_error, weir_card_t *card) {
    memset(card, 0, sizeof *card);
    memcpy(card->magic, weir_roster_magic, sizeof card->magic);
    (void)snprintf(card->version, sizeof card->version, "%s", WEIR_VERSION);
    (void)snprintf(card->role, sizeof card->role, "%s", weir_role_name(job->role));
    (void)gethostname(card->host, sizeof card->host - 1);
    card->pid = (uint64_t)getpid();
    card->config_digest = started == WEIR_OK ? weir_config_digest(&job->config, false) : 0;
    card->job = id;
    (void)snprintf(card->endpoint, sizeof card->endpoint, "%s", endpoint != NULL ? endpoint : "");
    (void)snprintf(card->control_key, sizeof card->control_key, "%s", job->keys.public_key);
    card->status = (int32_t)started;
    if (started != WEIR_OK) {
        (void)snprintf(card->message, sizeof card->message, "%s", start_error->message);
    }
}

/* On the coordinator's own host its name may not resolve: the loopback always does. */
static void localise_endpoint(const weir_card_t *coordinator, const char *host, char *endpoint,
                              size_t capacity) {
    const char *port = strrchr(coordinator->endpoint, ':');
    char named[160];
    (void)snprintf(named, sizeof named, "tcp://%s:", coordinator->host);
    bool same = strcmp(coordinator->host, host) == 0 && port != NULL &&
                strncmp(coordinator->endpoint, named, strlen(named)) == 0;
    if (same) {
        (void)snprintf(endpoint, capacity, "tcp://127.0.0.1%s", port);
    } else {
        (void)snprintf(endpoint, capacity, "%s", coordinator->endpoint);
    }
}

/* For tests of the whole job: WEIR_COMM_FAULTS makes the transport worse than it is. */
static weir_err_t add_faults(weir_job_t *job, weir_error_t *error) {
    const char *text = getenv("WEIR_COMM_FAULTS");
    weir_comm_faults_t faults;
    if (text == NULL || text[0] == '\0') {
        return WEIR_OK;
    }
    weir_err_t err = weir_comm_faults_parse(text, &faults, error);
    if (err != WEIR_OK) {
        weir_error_prefix(error, "WEIR_COMM_FAULTS");
        return err;
    }
    weir_log(WEIR_LOG_WARN, "job", "frames are dropped, delayed and repeated on purpose|faults=%s",
             text);
    return weir_comm_faults_create(job->comm, &faults, &job->faulty, error);
}

static weir_err_t connect_rank(weir_job_t *job, weir_error_t *error) {
    weir_control_client_options_t client = {.endpoint = job->endpoint,
                                            .job = job->id,
                                            .rank = job->comm->rank,
                                            .role = weir_role_name(job->role),
                                            .index = job->index,
                                            .server_key = job->coordinator_key,
                                            .keys = job->keys,
                                            .heartbeat_seconds = job->config.cluster.heartbeat,
                                            .waiting = &job->waiting};
    job->comm->patience = 0.5 * job->config.cluster.timeout;
    weir_err_t err = weir_control_client_create(&client, &job->control, error);
    if (err == WEIR_OK) {
        err = add_faults(job, error);
    }
    if (err == WEIR_OK) {
        weir_comm_thread_options_t thread = {.comm = job->faulty != NULL ? job->faulty : job->comm,
                                             .poll_control = weir_control_client_poll,
                                             .control = job->control,
                                             .control_fd = weir_control_client_fd(job->control),
                                             .callers = job->ps + job->workers - 1};
        err = weir_comm_thread_start(&thread, &job->comm_thread, error);
    }
    if (err == WEIR_OK) {
        weir_control_client_watch(job->control, job->comm_thread);
    }
    return err;
}

/* What the cards say of keys. */
static weir_err_t take_keys(weir_job_t *job, const weir_card_t *cards, weir_error_t *error) {
    (void)snprintf(job->coordinator_key, sizeof job->coordinator_key, "%.40s",
                   cards[0].control_key);
    if (job->role != WEIR_ROLE_COORDINATOR) {
        return WEIR_OK;
    }
    job->rank_keys = calloc(job->comm->size, sizeof *job->rank_keys);
    if (job->rank_keys == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the keys of %u ranks",
                           job->comm->size);
    }
    for (weir_rank_t rank = 0; rank < job->comm->size; rank++) {
        (void)snprintf(job->rank_keys[rank], sizeof job->rank_keys[rank], "%.40s",
                       cards[rank].control_key);
    }
    return WEIR_OK;
}

weir_err_t weir_job_join(weir_job_t *job, const char *endpoint, uint64_t id, weir_err_t started,
                         const weir_error_t *start_error, bool *speaks, weir_error_t *error) {
    weir_card_t mine, *cards = calloc(job->comm->size, sizeof *cards);
    weir_rank_t speaker = job->comm->rank;
    *speaks = true;
    if (cards == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for %u cards", job->comm->size);
    }
    fill_card(job, endpoint, id, started, start_error, &mine);
    weir_err_t err = weir_comm_mpi_exchange_cards(job->comm, &mine, cards, CARDS_TIMEOUT, error);
    if (err == WEIR_OK) {
        err = weir_roster_check(cards, job->comm->size, job->ps, job->workers, &speaker, error);
        *speaks = err == WEIR_OK || speaker == job->comm->rank;
        job->refused = err != WEIR_OK;
        if (err != WEIR_OK && *speaks && started != WEIR_OK && error != NULL) {
            *error = *start_error; /* whole, with its hint */
        }
    }
    if (err == WEIR_OK) {
        job->id = job->comm->job = cards[0].job;
        job->index = job->role == WEIR_ROLE_COORDINATOR ? 0
                     : job->role == WEIR_ROLE_PS        ? job->comm->rank - job->first_ps_rank
                                                        : job->comm->rank - job->first_worker_rank;
        localise_endpoint(&cards[0], mine.host, job->endpoint, sizeof job->endpoint);
        *speaks = true; /* what fails from here on is this rank's alone */
        err = take_keys(job, cards, error);
        if (err == WEIR_OK && job->role != WEIR_ROLE_COORDINATOR) {
            err = connect_rank(job, error);
        }
    }
    free(cards);
    return err;
}

void weir_job_refuse(weir_job_t *job, bool speaks, const weir_error_t *error) {
    if (!job->refused) {
        weir_fatal(error); /* this rank alone: finalizing would wait for the others */
    }
    if (speaks) {
        (void)fprintf(stderr, "weir-%s: %s\n", weir_role_name(job->role), error->message);
        if (error->hint[0] != '\0') {
            (void)fprintf(stderr, "HINT: %s\n", error->hint);
        }
    }
    (void)fflush(NULL);
    weir_comm_mpi_finalize(job->comm);
    exit(weir_exit_status(error->code));
}

void weir_job_enter(weir_role_t role, int argc, char **argv, weir_job_t *job) {
    weir_error_t error = {0}, start_error = {0};
    weir_err_t started = WEIR_OK;
    bool speaks = true;
    if (weir_job_start(role, argc, argv, job, &started, &start_error, &error) != WEIR_OK) {
        weir_fatal(&error);
    }
    if (weir_job_join(job, NULL, 0, started, &start_error, &speaks, &error) != WEIR_OK) {
        weir_job_refuse(job, speaks, &error);
    }
    weir_job_flush_denormals();
}

void weir_job_leave(weir_job_t *job) {
    weir_error_t error = {0};
    if (job->comm_thread != NULL &&
        weir_comm_thread_stop(job->comm_thread, 10.0, &error) != WEIR_OK) {
        weir_log(WEIR_LOG_WARN, "job", "%s", error.message);
    }
    weir_control_client_destroy(job->control);
    weir_comm_destroy(job->faulty);
    weir_comm_mpi_finalize(job->comm);
    weir_buffer_trim();
    free(job->options.sets);
    free(job->rank_keys);
    explicit_bzero(&job->keys, sizeof job->keys);
    *job = (weir_job_t){.role = job->role};
}
