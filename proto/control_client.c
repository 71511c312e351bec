#include "proto/control_client.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/version.h"
#include "proto/envelope.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

typedef Weir__Control__Envelope envelope_t;

/* Messages that wait for the socket; more means that the coordinator is gone for long. */
enum { MAX_QUEUED = 256, FOLDER_MAX = 4096 };

struct weir_control_client {
    /* Set at creation, then read only. */
    uint64_t job;
    uint32_t rank, index;
    char role[16], host[64];
    double heartbeat_seconds;
    weir_waiting_t *waiting;

    /* Threads: comm, between start and stop of the comm thread. */
    void *context, *socket;
    int fd;
    double next_heartbeat;

    pthread_mutex_t mutex; /* guards all below */
    pthread_cond_t changed;
    weir_packed_t queued[MAX_QUEUED]; /* a ring, oldest at first */
    size_t first, count;
    weir_rank_state_t state;
    weir_rank_metrics_t metrics;
    weir_comm_thread_t *watched; /* NULL: none */
    bool checkpoint_wish, stop_wish, stop_save, done;
    bool begun;
    uint64_t begin_step, begin_base;
    char begin_folder[FOLDER_MAX];
    bool settled; /* the coordinator said how the checkpoint of settled_step ended */
    uint64_t settled_step;
    char settled_error[512]; /* empty: it is published */
    weir_err_t settled_code; /* of that error */
    bool answer_done;        /* tell the coordinator that we know */
    bool garbage_logged;
};

const char *weir_phase_name(weir_phase_t phase) {
    static const char *const names[] = {
        [WEIR_PHASE_STARTING] = "starting",
        [WEIR_PHASE_LOADING] = "loading",
        [WEIR_PHASE_TRAINING] = "training",
        [WEIR_PHASE_EVALUATING] = "evaluating",
        [WEIR_PHASE_CHECKPOINTING] = "checkpointing",
        [WEIR_PHASE_STOPPING] = "stopping",
        [WEIR_PHASE_DONE] = "done",
    };
    return (unsigned)phase < sizeof names / sizeof names[0] ? names[phase] : "unknown";
}

/* ---- queue of what goes out ---- */

/* Queue an encoded envelope. `droppable`: a heartbeat, which need not wait behind others. */
static weir_err_t queue_envelope(weir_control_client_t *client, envelope_t *envelope,
                                 bool droppable, weir_error_t *error) {
    weir_packed_t packed;
    envelope->job = client->job;
    weir_err_t err = weir_envelope_pack(envelope, &packed, error);
    if (err != WEIR_OK) {
        return err;
    }
    (void)pthread_mutex_lock(&client->mutex);
    bool full = client->count == MAX_QUEUED || (droppable && client->count > MAX_QUEUED / 2);
    if (!full) {
        client->queued[(client->first + client->count++) % MAX_QUEUED] = packed;
    }
    (void)pthread_mutex_unlock(&client->mutex);
    if (full) {
        free(packed.bytes);
        return droppable
                   ? WEIR_OK
                   : weir_errorf(error, WEIR_ERR_PEER,
                                 "the coordinator takes no control messages (%d wait)", MAX_QUEUED);
    }
    return WEIR_OK;
}

static bool send_queued(weir_control_client_t *client) {
    bool moved = false;
    for (;;) {
        (void)pthread_mutex_lock(&client->mutex);
        weir_packed_t packed =
            client->count > 0 ? client->queued[client->first] : (weir_packed_t){.bytes = NULL};
        (void)pthread_mutex_unlock(&client->mutex);
        /* Only this thread removes: the message stays where it is until it is sent. */
        if (packed.bytes == NULL ||
            zmq_send(client->socket, packed.bytes, packed.size, ZMQ_DONTWAIT) < 0) {
            return moved;
        }
        (void)pthread_mutex_lock(&client->mutex);
        client->first = (client->first + 1) % MAX_QUEUED;
        client->count--;
        (void)pthread_mutex_unlock(&client->mutex);
        free(packed.bytes);
        moved = true;
    }
}

static weir_err_t queue_join(weir_control_client_t *client, weir_error_t *error) {
    char version[] = WEIR_VERSION;
    Weir__Control__Join join = WEIR__CONTROL__JOIN__INIT;
    envelope_t envelope = WEIR__CONTROL__ENVELOPE__INIT;
    join.rank = client->rank;
    join.role = client->role;
    join.index = client->index;
    join.host = client->host;
    join.pid = (uint64_t)getpid();
    join.version = version;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_JOIN;
    envelope.join = &join;
    return queue_envelope(client, &envelope, false, error);
}

/* Resident memory of this process, bytes; NaN: it cannot be known. */
static double resident_bytes(void) {
    unsigned long long total = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL) {
        return (double)NAN;
    }
    int found = fscanf(file, "%llu %llu", &total, &resident);
    (void)fclose(file);
    return found == 2 ? (double)resident * (double)sysconf(_SC_PAGESIZE) : (double)NAN;
}

static void queue_heartbeat(weir_control_client_t *client) {
    uint32_t numbers[WEIR_RANK_METRICS];
    double values[WEIR_RANK_METRICS], resident = resident_bytes();
    Weir__Control__Heartbeat heartbeat = WEIR__CONTROL__HEARTBEAT__INIT;
    envelope_t envelope = WEIR__CONTROL__ENVELOPE__INIT;
    (void)pthread_mutex_lock(&client->mutex);
    heartbeat.rank = client->rank;
    heartbeat.step = client->state.step;
    heartbeat.epoch = client->state.epoch;
    heartbeat.phase =
        client->done ? WEIR__CONTROL__PHASE__PHASE_DONE : (Weir__Control__Phase)client->state.phase;
    client->answer_done = false;
    heartbeat.loss = client->state.loss;
    heartbeat.tokens_per_second = client->state.tokens_per_second;
    weir_wait_t wait = weir_waiting_read(client->waiting);
    heartbeat.wait = (uint32_t)wait.kind;
    heartbeat.wait_rank = wait.rank;
    heartbeat.progress = wait.progress;
    heartbeat.rows = client->state.rows;
    heartbeat.bytes = client->state.bytes;
    weir_rank_metrics_set(&client->metrics, WEIR_METRIC_RESIDENT_BYTES, resident);
    if (client->watched != NULL) {
        size_t posted, received;
        weir_comm_thread_depths(client->watched, &posted, &received);
        weir_rank_metrics_set(&client->metrics, WEIR_METRIC_SEND_QUEUE, (double)posted);
        weir_rank_metrics_set(&client->metrics, WEIR_METRIC_RECEIVE_QUEUE, (double)received);
    }
    heartbeat.n_metric = heartbeat.n_value =
        weir_rank_metrics_pack(&client->metrics, numbers, values);
    heartbeat.metric = numbers;
    heartbeat.value = values;
    (void)pthread_mutex_unlock(&client->mutex);
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_HEARTBEAT;
    envelope.heartbeat = &heartbeat;
    if (queue_envelope(client, &envelope, true, NULL) != WEIR_OK) {
        return; /* the next one will do */
    }
}

/* ---- what comes in ---- */

/* Called with the mutex held. */
static void apply_envelope(weir_control_client_t *client, const envelope_t *envelope) {
    switch (envelope->body_case) {
    case WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_REQUEST:
        client->checkpoint_wish = true;
        break;
    case WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_BEGIN:
        client->begun = true;
        client->begin_step = envelope->checkpoint_begin->step;
        client->begin_base = envelope->checkpoint_begin->may_build_on;
        (void)snprintf(client->begin_folder, sizeof client->begin_folder, "%s",
                       envelope->checkpoint_begin->folder);
        break;
    case WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_DONE:
        client->settled = true;
        client->settled_step = envelope->checkpoint_done->step;
        (void)snprintf(client->settled_error, sizeof client->settled_error, "%s",
                       envelope->checkpoint_done->error);
        client->settled_code = weir_err_of_name(envelope->checkpoint_done->kind);
        break;
    case WEIR__CONTROL__ENVELOPE__BODY_STOP:
        if (envelope->stop->done) {
            client->done = client->answer_done = true;
        } else {
            client->stop_wish = true;
            client->stop_save = envelope->stop->save;
        }
        break;
    default:
        break; /* not for a rank */
    }
    (void)pthread_cond_broadcast(&client->changed);
}

static bool receive_one(weir_control_client_t *client) {
    zmq_msg_t message;
    envelope_t *envelope = NULL;
    weir_error_t error = {0};
    (void)zmq_msg_init(&message);
    if (zmq_msg_recv(&message, client->socket, ZMQ_DONTWAIT) < 0) {
        (void)zmq_msg_close(&message);
        return false;
    }
    weir_err_t err =
        weir_envelope_unpack(zmq_msg_data(&message), zmq_msg_size(&message), &envelope, &error);
    if (err == WEIR_OK && envelope->job != client->job) {
        err = weir_errorf(&error, WEIR_ERR_PEER, "a control message of another job");
    }
    if (err == WEIR_OK) {
        (void)pthread_mutex_lock(&client->mutex);
        apply_envelope(client, envelope);
        (void)pthread_mutex_unlock(&client->mutex);
    } else if (!client->garbage_logged) {
        client->garbage_logged = true;
        weir_log(WEIR_LOG_WARN, "control_client", "ignored: %s", error.message);
    }
    weir_envelope_free(envelope);
    (void)zmq_msg_close(&message);
    return true;
}

bool weir_control_client_poll(void *argument) {
    weir_control_client_t *client = argument;
    bool moved = false;
    double now = weir_clock_seconds();
    while (receive_one(client)) {
        moved = true;
    }
    (void)pthread_mutex_lock(&client->mutex);
    bool answer = client->answer_done;
    (void)pthread_mutex_unlock(&client->mutex);
    if (now >= client->next_heartbeat || answer) {
        client->next_heartbeat = now + client->heartbeat_seconds;
        queue_heartbeat(client);
    }
    return send_queued(client) || moved;
}

int weir_control_client_fd(const weir_control_client_t *client) {
    return client->fd;
}

/* ---- life ---- */

static weir_err_t connect_socket(weir_control_client_t *client,
                                 const weir_control_client_options_t *options,
                                 weir_error_t *error) {
    const char *endpoint = options->endpoint;
    char identity[32];
    int linger = 1000, high_water = 0;
    int64_t most = WEIR_ENVELOPE_MAX;
    size_t fd_size = sizeof client->fd;
    int length = snprintf(identity, sizeof identity, "rank-%u", client->rank);
    client->context = zmq_ctx_new();
    client->socket = client->context != NULL ? zmq_socket(client->context, ZMQ_DEALER) : NULL;
    if (client->socket == NULL ||
        zmq_setsockopt(client->socket, ZMQ_ROUTING_ID, identity, (size_t)length) != 0 ||
        zmq_setsockopt(client->socket, ZMQ_LINGER, &linger, sizeof linger) != 0 ||
        zmq_setsockopt(client->socket, ZMQ_RCVHWM, &high_water, sizeof high_water) != 0 ||
        zmq_setsockopt(client->socket, ZMQ_MAXMSGSIZE, &most, sizeof most) != 0) {
        return weir_errorf(error, WEIR_ERR_PEER, "cannot make the control socket: %s",
                           zmq_strerror(zmq_errno()));
    }
    weir_err_t err =
        weir_curve_connect(client->socket, options->server_key != NULL ? options->server_key : "",
                           &options->keys, error);
    if (err != WEIR_OK) {
        return err;
    }
    if (zmq_connect(client->socket, endpoint) != 0 ||
        zmq_getsockopt(client->socket, ZMQ_FD, &client->fd, &fd_size) != 0) {
        return weir_errorf(error, WEIR_ERR_PEER, "cannot connect to the coordinator at %s: %s",
                           endpoint, zmq_strerror(zmq_errno()));
    }
    return WEIR_OK;
}

weir_err_t weir_control_client_create(const weir_control_client_options_t *options,
                                      weir_control_client_t **client, weir_error_t *error) {
    pthread_condattr_t monotonic;
    weir_control_client_t *created = calloc(1, sizeof *created);
    if (created == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the control client");
    }
    created->job = options->job;
    created->rank = options->rank;
    created->index = options->index;
    created->heartbeat_seconds = options->heartbeat_seconds;
    created->waiting = options->waiting;
    (void)snprintf(created->role, sizeof created->role, "%s", options->role);
    (void)gethostname(created->host, sizeof created->host - 1);
    (void)pthread_mutex_init(&created->mutex, NULL);
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&created->changed, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    weir_err_t err = connect_socket(created, options, error);
    if (err == WEIR_OK) {
        err = queue_join(created, error);
    }
    if (err != WEIR_OK) {
        weir_control_client_destroy(created);
        return err;
    }
    *client = created;
    return WEIR_OK;
}

void weir_control_client_destroy(weir_control_client_t *client) {
    if (client == NULL) {
        return;
    }
    if (client->socket != NULL) {
        (void)send_queued(client);
        (void)zmq_close(client->socket);
    }
    if (client->context != NULL) {
        (void)zmq_ctx_term(client->context); /* lingers for a second at the most */
    }
    for (size_t i = 0; i < client->count; i++) {
        free(client->queued[(client->first + i) % MAX_QUEUED].bytes);
    }
    (void)pthread_cond_destroy(&client->changed);
    (void)pthread_mutex_destroy(&client->mutex);
    free(client);
}

/* ---- main thread ---- */

void weir_control_client_publish(weir_control_client_t *client, const weir_rank_state_t *state) {
    (void)pthread_mutex_lock(&client->mutex);
    client->state = *state;
    (void)pthread_mutex_unlock(&client->mutex);
}

void weir_control_client_publish_step(weir_control_client_t *client, uint64_t step) {
    (void)pthread_mutex_lock(&client->mutex);
    client->state.step = step;
    (void)pthread_mutex_unlock(&client->mutex);
}

void weir_control_client_watch(weir_control_client_t *client, weir_comm_thread_t *thread) {
    (void)pthread_mutex_lock(&client->mutex);
    client->watched = thread;
    (void)pthread_mutex_unlock(&client->mutex);
}

void weir_control_client_publish_metrics(weir_control_client_t *client,
                                         const weir_rank_metrics_t *metrics) {
    (void)pthread_mutex_lock(&client->mutex);
    weir_rank_metrics_merge(&client->metrics, metrics);
    (void)pthread_mutex_unlock(&client->mutex);
}

bool weir_control_client_take_checkpoint_wish(weir_control_client_t *client) {
    (void)pthread_mutex_lock(&client->mutex);
    bool wish = client->checkpoint_wish;
    client->checkpoint_wish = false;
    (void)pthread_mutex_unlock(&client->mutex);
    return wish;
}

bool weir_control_client_stop_wished(weir_control_client_t *client, bool *save) {
    (void)pthread_mutex_lock(&client->mutex);
    bool wish = client->stop_wish;
    *save = !wish || client->stop_save;
    (void)pthread_mutex_unlock(&client->mutex);
    return wish;
}

bool weir_control_client_done(weir_control_client_t *client) {
    (void)pthread_mutex_lock(&client->mutex);
    bool done = client->done;
    (void)pthread_mutex_unlock(&client->mutex);
    return done;
}

weir_err_t weir_control_client_request_checkpoint(weir_control_client_t *client, uint64_t step,
                                                  uint64_t epoch, bool best,
                                                  const char *metrics_json, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    char *metrics = strdup(metrics_json != NULL ? metrics_json : "");
    if (metrics == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for a control message");
    }
    Weir__Control__CheckpointRequest request = WEIR__CONTROL__CHECKPOINT_REQUEST__INIT;
    envelope_t envelope = WEIR__CONTROL__ENVELOPE__INIT;
    request.step = step;
    request.epoch = epoch;
    request.best = best;
    request.metrics_json = metrics;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_REQUEST;
    envelope.checkpoint_request = &request;
    (void)pthread_mutex_lock(&client->mutex);
    client->settled = false;
    client->checkpoint_wish = false; /* this one fulfils it */
    (void)pthread_mutex_unlock(&client->mutex);
    err = queue_envelope(client, &envelope, false, error);
    free(metrics);
    return err;
}

uint64_t weir_control_client_begun_base(weir_control_client_t *client) {
    (void)pthread_mutex_lock(&client->mutex);
    uint64_t base = client->begin_base;
    (void)pthread_mutex_unlock(&client->mutex);
    return base;
}

bool weir_control_client_take_begin(weir_control_client_t *client, uint64_t *step, char *folder,
                                    size_t capacity) {
    (void)pthread_mutex_lock(&client->mutex);
    bool begun = client->begun && strlen(client->begin_folder) < capacity;
    if (begun) {
        *step = client->begin_step;
        (void)snprintf(folder, capacity, "%s", client->begin_folder);
        client->begun = false;
    }
    (void)pthread_mutex_unlock(&client->mutex);
    return begun;
}

weir_err_t weir_control_client_report_written(weir_control_client_t *client, uint64_t step,
                                              const weir_checkpoint_file_t *files, size_t count,
                                              const weir_error_t *failure, weir_error_t *error) {
    Weir__Control__CheckpointDone done = WEIR__CONTROL__CHECKPOINT_DONE__INIT;
    envelope_t envelope = WEIR__CONTROL__ENVELOPE__INIT;
    Weir__Control__CheckpointFile *entries = calloc(count + 1, sizeof *entries);
    Weir__Control__CheckpointFile **pointers = calloc(count + 1, sizeof *pointers);
    char(*names)[WEIR_CHECKPOINT_NAME_MAX] = calloc(count + 1, sizeof *names);
    char reason[sizeof failure->message] = "", kind[32] = "";
    weir_err_t err = WEIR_OK;
    if (entries == NULL || pointers == NULL || names == NULL) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "no memory for a control message");
        goto out;
    }
    if (failure != NULL) {
        (void)snprintf(reason, sizeof reason, "%s", failure->message);
        (void)snprintf(kind, sizeof kind, "%s", weir_err_name(failure->code));
    }
    for (size_t i = 0; i < count; i++) {
        memcpy(names[i], files[i].name, sizeof names[i]);
        weir__control__checkpoint_file__init(&entries[i]);
        entries[i].name = names[i];
        entries[i].size = files[i].size;
        entries[i].checksum = files[i].checksum;
        entries[i].blocks = files[i].blocks;
        entries[i].builds_on = files[i].base;
        pointers[i] = &entries[i];
    }
    done.rank = client->rank;
    done.step = step;
    done.n_files = failure != NULL ? 0 : count;
    done.files = pointers;
    done.error = reason;
    done.kind = kind;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_DONE;
    envelope.checkpoint_done = &done;
    err = queue_envelope(client, &envelope, false, error);
out:
    free(entries);
    free(pointers);
    free(names);
    return err;
}

weir_err_t weir_control_client_wait_published(weir_control_client_t *client, uint64_t step,
                                              double timeout_seconds, weir_error_t *error) {
    double deadline = weir_clock_seconds() + timeout_seconds;
    struct timespec until = {.tv_sec = (time_t)deadline,
                             .tv_nsec = (long)((deadline - (double)(time_t)deadline) * 1e9)};
    int waited = 0;
    weir_err_t err = WEIR_OK;
    (void)pthread_mutex_lock(&client->mutex);
    while (!(client->settled && client->settled_step == step) && waited == 0) {
        waited = pthread_cond_timedwait(&client->changed, &client->mutex, &until);
    }
    if (!(client->settled && client->settled_step == step)) {
        err = weir_errorf(error, WEIR_ERR_TIMEOUT,
                          "the checkpoint of step %llu was not published within %.0f s",
                          (unsigned long long)step, timeout_seconds);
    } else if (client->settled_error[0] != '\0') {
        err = weir_errorf(error, client->settled_code, "%s", client->settled_error);
    }
    client->settled = false;
    (void)pthread_mutex_unlock(&client->mutex);
    return err;
}

weir_err_t weir_control_client_finish(weir_control_client_t *client, const char *reason,
                                      weir_error_t *error) {
    char *text = strdup(reason);
    if (text == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for a control message");
    }
    Weir__Control__Stop stop = WEIR__CONTROL__STOP__INIT;
    envelope_t envelope = WEIR__CONTROL__ENVELOPE__INIT;
    stop.done = true;
    stop.reason = text;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_STOP;
    envelope.stop = &stop;
    weir_err_t err = queue_envelope(client, &envelope, false, error);
    free(text);
    return err;
}
