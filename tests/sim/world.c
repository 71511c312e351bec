#include "tests/sim/world.h"

#include "common/checkpoint.h"
#include "common/file.h"
#include "common/rng.h"
#include "ps/snapshot.h"
#include "tests/unit/table_cases.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Seconds; the clock moves in steps of up to two. */
#define CHECKPOINT_SECONDS 300.0
#define WORKER_SECONDS 400.0
#define LEAVE_SECONDS 50.0

uint32_t sim_draw(sim_t *sim, uint32_t below) {
    uint64_t at = sim->draws++;
    return weir_uniform_below(weir_philox(weir_rng_key(sim->seed, WEIR_STREAM_TEST), (uint32_t)at,
                                          (uint32_t)(at >> 32), 0, 0)
                                  .word[0],
                              below);
}

static bool draw_chance(sim_t *sim, double probability) {
    return sim_draw(sim, 1u << 30) < probability * (1u << 30);
}

const float *sim_expected(const sim_t *sim, uint64_t step) {
    return sim->expected + step * CASE_UNIVERSE * CASE_DIM;
}

/* ---- queues ---- */

static void append(sim_queue_t *queue, sim_message_t message) {
    sim_message_t *made = malloc(sizeof *made);
    ck_assert_ptr_nonnull(made);
    *made = message;
    made->next = NULL;
    *queue->last = made;
    queue->last = &made->next;
}

static sim_message_t take(sim_queue_t *queue) {
    sim_message_t *first = queue->first, message = *first;
    queue->first = first->next;
    if (queue->first == NULL) {
        queue->last = &queue->first;
    }
    free(first);
    return message;
}

static void empty(sim_queue_t *queue) {
    while (queue->first != NULL) {
        sim_message_t message = take(queue);
        weir_buffer_release(message.frame.payload);
        free(message.bytes);
    }
    queue->last = &queue->first;
}

void sim_send_frame(sim_t *sim, uint32_t from, uint32_t to, weir_frame_t frame) {
    frame.header.source = from;
    frame.header.job = sim->job;
    append(&sim->data[from][to], (sim_message_t){.frame = frame});
}

void sim_say(sim_t *sim, uint32_t rank, Weir__Control__Envelope *envelope) {
    weir_packed_t packed;
    envelope->job = sim->job;
    ck_assert_int_eq(weir_envelope_pack(envelope, &packed, NULL), WEIR_OK);
    append(&sim->up[rank], (sim_message_t){.bytes = packed.bytes, .size = packed.size});
}

/* ---- the coordinator's process ---- */

static void send_control(void *argument, const weir_identity_t *to, const void *bytes,
                         size_t size) {
    sim_t *sim = argument;
    weir_identity_t identity;
    for (uint32_t rank = 1; rank < 1 + sim->ps + sim->workers; rank++) {
        weir_identity_of_rank(rank, &identity);
        if (identity.size == to->size && memcmp(identity.bytes, to->bytes, to->size) == 0) {
            void *copy = malloc(size + 1);
            ck_assert_ptr_nonnull(copy);
            memcpy(copy, bytes, size);
            append(&sim->down[rank], (sim_message_t){.bytes = copy, .size = size});
        }
    }
}

static weir_err_t begin(void *argument, uint64_t step, char *folder, size_t capacity,
                        weir_error_t *error) {
    const sim_t *sim = argument;
    return weir_checkpoint_begin(sim->run, step, folder, capacity, error);
}

static weir_err_t publish(void *argument, const weir_manifest_t *manifest, bool best,
                          weir_error_t *error) {
    const sim_t *sim = argument;
    weir_err_t err = weir_checkpoint_publish(sim->run, manifest, best, error);
    return err == WEIR_OK ? weir_checkpoint_prune(sim->run, 2, error) : err;
}

static void abandon(void *argument, const char *folder) {
    (void)argument;
    ck_assert_int_eq(weir_file_remove_directory(folder, NULL), WEIR_OK);
}

static void create_coordinator(sim_t *sim, uint64_t step) {
    static const weir_coordinator_operations_t operations = {
        .send = send_control, .begin = begin, .publish = publish, .abandon = abandon};
    weir_coordinator_operations_t own = operations;
    own.argument = sim;
    weir_coordinator_options_t options = {.job = sim->job,
                                          .ps = sim->ps,
                                          .workers = sim->workers,
                                          .config_yaml = "model: {}\n",
                                          .silence_seconds = 1e9,
                                          .checkpoint_seconds = CHECKPOINT_SECONDS,
                                          .leave_seconds = LEAVE_SECONDS,
                                          .step = step};
    ck_assert_int_eq(weir_coordinator_create(&options, &own, sim->now, &sim->coordinator, NULL),
                     WEIR_OK);
}

/* ---- a server's process ---- */

typedef struct {
    sim_t *sim;
    uint32_t server;
} sender_t;

static sender_t senders[SIM_MAX_SERVERS];

static weir_err_t send_answer(void *argument, weir_rank_t to, weir_frame_t frame,
                              weir_error_t *error) {
    const sender_t *sender = argument;
    (void)error;
    sim_send_frame(sender->sim, 1 + sender->server, to, frame);
    return WEIR_OK;
}

static void end_save(sim_server_t *server);

static weir_err_t cut(void *argument, uint64_t step, weir_error_t *error) {
    const sender_t *sender = argument;
    sim_server_t *server = &sender->sim->servers[sender->server];
    end_save(server);
    server->save_step = step;
    return weir_snapshot_begin(server->table, sender->server, sender->sim->ps, step,
                               &server->snapshot, error);
}

static weir_table_t *create_table(uint32_t index, uint32_t ps) {
    weir_table_options_t options = case_options();
    options.first_slot = weir_slot_first(index, ps);
    options.end_slot = weir_slot_first(index + 1, ps);
    return table_case_create(&options);
}

static void create_server(sim_t *sim, uint32_t index, const char *checkpoint, uint64_t step) {
    sim_server_t *made = &sim->servers[index];
    weir_manifest_t manifest = {.step = 0};
    weir_error_t error = {0};
    *made = (sim_server_t){.table = create_table(index, sim->ps)};
    if (checkpoint[0] != '\0') {
        ck_assert_int_eq(weir_manifest_read(checkpoint, true, &manifest, &error), WEIR_OK);
        ck_assert_msg(weir_snapshot_load(made->table, index, sim->ps, checkpoint, &manifest,
                                         &error) == WEIR_OK,
                      "seed %llu: %s", (unsigned long long)sim->seed, error.message);
        weir_manifest_fini(&manifest);
    }
    senders[index] = (sender_t){sim, index};
    weir_server_options_t options = {.index = index,
                                     .ps = sim->ps,
                                     .first_worker_rank = sim_worker_rank(sim, 0),
                                     .workers = sim->workers,
                                     .step = step,
                                     .consistency = WEIR_CONSISTENCY_BSP,
                                     .send = send_answer,
                                     .cut = cut,
                                     .argument = &senders[index]};
    ck_assert_int_eq(weir_server_create(&options, &made->table, 1, &made->server, &error), WEIR_OK);
}

static void report_written(sim_t *sim, uint32_t index, const weir_checkpoint_file_t *written) {
    char name[WEIR_CHECKPOINT_NAME_MAX], nothing[] = "";
    Weir__Control__CheckpointFile file = WEIR__CONTROL__CHECKPOINT_FILE__INIT, *files[] = {&file};
    Weir__Control__CheckpointDone done = WEIR__CONTROL__CHECKPOINT_DONE__INIT;
    Weir__Control__Envelope envelope = WEIR__CONTROL__ENVELOPE__INIT;
    (void)snprintf(name, sizeof name, "%s", written->name);
    file.name = name;
    file.size = written->size;
    file.checksum = written->checksum;
    file.blocks = written->blocks;
    file.builds_on = written->base;
    done.rank = 1 + index;
    done.step = sim->servers[index].save_step;
    done.n_files = 1;
    done.files = files;
    done.error = nothing;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_DONE;
    envelope.checkpoint_done = &done;
    sim_say(sim, 1 + index, &envelope);
}

static void end_save(sim_server_t *server) {
    weir_snapshot_destroy(server->snapshot);
    server->snapshot = NULL;
    server->writes = false;
}

/* Some pieces more of a checkpoint. */
static void save_some(sim_t *sim, uint32_t index) {
    sim_server_t *server = &sim->servers[index];
    for (uint32_t pieces = 1 + sim_draw(sim, 60); pieces > 0 && server->writes; pieces--) {
        weir_snapshot_state_t state;
        if (weir_snapshot_advance(server->snapshot, &state, NULL) != WEIR_OK) {
            end_save(server); /* the folder is gone: the checkpoint was given up */
        } else if (state == WEIR_SNAPSHOT_WRITTEN) {
            report_written(sim, index, weir_snapshot_file(server->snapshot));
            end_save(server);
        }
    }
}

static void begin_writing(sim_t *sim, uint32_t index, const Weir__Control__CheckpointBegin *begin) {
    sim_server_t *server = &sim->servers[index];
    weir_error_t error = {0};
    ck_assert_uint_eq(begin->step, server->save_step);
    if (server->writes || server->snapshot == NULL) {
        return; /* told again */
    }
    ck_assert_msg(weir_snapshot_open(server->snapshot, 0, begin->folder, NULL, &error) == WEIR_OK,
                  "seed %llu: %s", (unsigned long long)sim->seed, error.message);
    server->writes = true;
}

/* ---- start and end of the job ---- */

static void say_join(sim_t *sim, uint32_t rank) {
    char ps[] = "ps", worker[] = "worker", host[] = "node", version[] = "0";
    Weir__Control__Join join = WEIR__CONTROL__JOIN__INIT;
    Weir__Control__Envelope envelope = WEIR__CONTROL__ENVELOPE__INIT;
    join.rank = rank;
    join.role = rank <= sim->ps ? ps : worker;
    join.index = rank <= sim->ps ? rank - 1 : rank - sim_worker_rank(sim, 0);
    join.host = host;
    join.version = version;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_JOIN;
    envelope.join = &join;
    sim_say(sim, rank, &envelope);
}

static void say_alive(sim_t *sim, uint32_t rank, bool done) {
    Weir__Control__Heartbeat heartbeat = WEIR__CONTROL__HEARTBEAT__INIT;
    Weir__Control__Envelope envelope = WEIR__CONTROL__ENVELOPE__INIT;
    heartbeat.rank = rank;
    heartbeat.phase =
        done ? WEIR__CONTROL__PHASE__PHASE_DONE : WEIR__CONTROL__PHASE__PHASE_TRAINING;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_HEARTBEAT;
    envelope.heartbeat = &heartbeat;
    sim_say(sim, rank, &envelope);
}

/* All processes anew, from the latest checkpoint. */
static void start(sim_t *sim) {
    char folder[700] = "";
    uint64_t step = 0;
    if (weir_checkpoint_resolve(sim->run, folder, sizeof folder, NULL) == WEIR_OK) {
        weir_manifest_t manifest = {.step = 0};
        weir_error_t error = {0};
        ck_assert_msg(weir_manifest_read(folder, true, &manifest, &error) == WEIR_OK,
                      "seed %llu: %s", (unsigned long long)sim->seed, error.message);
        step = manifest.step;
        weir_manifest_fini(&manifest);
    } else {
        folder[0] = '\0';
    }
    ck_assert_msg(step >= sim->published, "seed %llu: step %llu was published, %llu is left",
                  (unsigned long long)sim->seed, (unsigned long long)sim->published,
                  (unsigned long long)step);
    sim->ps = 1 + sim_draw(sim, SIM_MAX_SERVERS);
    sim->job++;
    sim->starts++;
    sim->failed = false;
    for (uint32_t a = 0; a < SIM_MAX_RANKS; a++) {
        for (uint32_t b = 0; b < SIM_MAX_RANKS; b++) {
            sim->data[a][b].last = &sim->data[a][b].first;
        }
        sim->up[a].last = &sim->up[a].first;
        sim->down[a].last = &sim->down[a].first;
    }
    create_coordinator(sim, step);
    for (uint32_t index = 0; index < sim->ps; index++) {
        create_server(sim, index, folder, step);
    }
    for (uint32_t rank = 1; rank < 1 + sim->ps + sim->workers; rank++) {
        say_join(sim, rank);
    }
    for (uint32_t index = 0; index < sim->workers; index++) {
        sim_worker_start(sim, index, step);
        sim_worker_advance(sim, &sim->players[index]);
    }
}

/* Every process ends at once, with all that is on its way. */
static void stop(sim_t *sim) {
    for (uint32_t a = 0; a < SIM_MAX_RANKS; a++) {
        for (uint32_t b = 0; b < SIM_MAX_RANKS; b++) {
            empty(&sim->data[a][b]);
        }
        empty(&sim->up[a]);
        empty(&sim->down[a]);
    }
    weir_coordinator_destroy(sim->coordinator);
    for (uint32_t index = 0; index < sim->ps; index++) {
        end_save(&sim->servers[index]);
        weir_server_destroy(sim->servers[index].server);
        weir_table_destroy(sim->servers[index].table);
    }
}

static void crash(sim_t *sim) {
    uint64_t reached = sim->players[0].step;
    stop(sim);
    start(sim);
    sim->steps_repeated += reached - sim->players[0].step;
}

/* ---- events ---- */

static void deliver_frame(sim_t *sim, uint32_t to, weir_frame_t frame) {
    weir_error_t error = {0};
    if (to <= sim->ps) {
        ck_assert_msg(weir_server_handle(sim->servers[to - 1].server, frame, &error) == WEIR_OK,
                      "seed %llu: %s", (unsigned long long)sim->seed, error.message);
    } else {
        sim_worker_on_frame(sim, &sim->players[to - sim_worker_rank(sim, 0)], frame);
    }
}

static void deliver_down(sim_t *sim, uint32_t rank, const sim_message_t *message) {
    Weir__Control__Envelope *envelope = NULL;
    ck_assert_int_eq(weir_envelope_unpack(message->bytes, message->size, &envelope, NULL), WEIR_OK);
    if (envelope->body_case == WEIR__CONTROL__ENVELOPE__BODY_STOP && envelope->stop->done) {
        say_alive(sim, rank, true);
    } else if (rank > sim->ps) {
        sim_worker_on_control(sim, &sim->players[rank - sim_worker_rank(sim, 0)], envelope);
    } else if (envelope->body_case == WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_BEGIN) {
        begin_writing(sim, rank - 1, envelope->checkpoint_begin);
    }
    weir_envelope_free(envelope);
}

static void deliver_up(sim_t *sim, uint32_t rank, const sim_message_t *message) {
    weir_identity_t from;
    weir_identity_of_rank(rank, &from);
    weir_coordinator_receive(sim->coordinator, &from, message->bytes, message->size, sim->now);
}

static void deliver_control(sim_t *sim, uint32_t rank, bool up) {
    sim_message_t message = take(up ? &sim->up[rank] : &sim->down[rank]);
    if (!draw_chance(sim, sim->loss)) {
        if (up) {
            deliver_up(sim, rank, &message);
        } else {
            deliver_down(sim, rank, &message);
        }
    }
    free(message.bytes);
}

static void pass_time(sim_t *sim) {
    sim_worker_t *lead = &sim->players[0];
    sim->now += 0.001 * sim_draw(sim, 2000);
    uint32_t rank = 1 + sim_draw(sim, sim->ps + sim->workers);
    say_alive(sim, rank, false);
    weir_coordinator_tick(sim->coordinator, sim->now);
    if (lead->saving > lead->saved && sim->now - lead->saving_since > WORKER_SECONDS) {
        sim->failed = true; /* worker 0 waits no longer */
    }
    if (lead->done && sim_draw(sim, 5) == 0) {
        sim_worker_finish(sim, lead);
    }
}

typedef struct {
    sim_queue_t *queue;
    uint32_t to;
    enum { DATA, UP, DOWN, SAVE } kind;
} choice_t;

/* One thing that can happen, happens. */
static void happen(sim_t *sim) {
    choice_t choices[SIM_MAX_RANKS * SIM_MAX_RANKS + 3 * SIM_MAX_RANKS];
    uint32_t count = 0, ranks = 1 + sim->ps + sim->workers;
    for (uint32_t to = 1; to < ranks; to++) {
        for (uint32_t from = 1; from < ranks; from++) {
            if (sim->data[from][to].first != NULL) {
                choices[count++] = (choice_t){&sim->data[from][to], to, DATA};
            }
        }
        if (sim->up[to].first != NULL) {
            choices[count++] = (choice_t){&sim->up[to], to, UP};
        }
        if (sim->down[to].first != NULL) {
            choices[count++] = (choice_t){&sim->down[to], to, DOWN};
        }
        if (to <= sim->ps && sim->servers[to - 1].writes) {
            choices[count++] = (choice_t){NULL, to, SAVE};
        }
    }
    sim->events++;
    if (count == 0 || draw_chance(sim, 0.02)) {
        pass_time(sim);
        return;
    }
    choice_t choice = choices[sim_draw(sim, count)];
    if (choice.kind == SAVE) {
        save_some(sim, choice.to - 1);
    } else if (choice.kind == DATA) {
        deliver_frame(sim, choice.to, take(choice.queue).frame);
    } else {
        deliver_control(sim, choice.to, choice.kind == UP);
    }
}

/* The last checkpoint is that of the last step, and holds what the steps say. */
static void check_end(sim_t *sim) {
    char folder[700];
    weir_manifest_t manifest = {.step = 0};
    ck_assert_int_eq(weir_checkpoint_resolve(sim->run, folder, sizeof folder, NULL), WEIR_OK);
    ck_assert_int_eq(weir_manifest_read(folder, true, &manifest, NULL), WEIR_OK);
    ck_assert_uint_eq(manifest.step, SIM_STEPS);
    weir_table_t *table = create_table(0, 1);
    ck_assert_int_eq(weir_snapshot_load(table, 0, 1, folder, &manifest, NULL), WEIR_OK);
    weir_key_t keys[CASE_UNIVERSE];
    float values[CASE_UNIVERSE * CASE_DIM];
    for (size_t i = 0; i < CASE_UNIVERSE; i++) {
        keys[i] = case_key(i);
    }
    table_case_peek(table, keys, CASE_UNIVERSE, values);
    ck_assert_msg(memcmp(values, sim_expected(sim, SIM_STEPS), sizeof values) == 0,
                  "seed %llu: the end is not that of a job that never failed",
                  (unsigned long long)sim->seed);
    weir_table_destroy(table);
    weir_manifest_fini(&manifest);
}

static const float *expect_steps(uint32_t workers) {
    static float expected[SIM_MAX_WORKERS + 1][SIM_STEPS + 1][CASE_UNIVERSE * CASE_DIM];
    static bool known[SIM_MAX_WORKERS + 1];
    for (uint64_t step = 0; step <= SIM_STEPS && !known[workers]; step++) {
        case_expected(workers, step, false, expected[workers][step]);
    }
    known[workers] = true;
    return expected[workers][0];
}

sim_outcome_t sim_play(uint64_t seed, const char *run) {
    sim_t *sim = calloc(1, sizeof *sim);
    const char *reason = NULL;
    ck_assert_ptr_nonnull(sim);
    sim->seed = seed;
    sim->run = run;
    sim->now = 1000.0;
    sim->workers = 1 + sim_draw(sim, SIM_MAX_WORKERS);
    sim->ahead = sim_draw(sim, SIM_MAX_AHEAD + 1);
    sim->loss = sim_draw(sim, 4) == 0 ? 0.02 : 0.0;
    sim->expected = expect_steps(sim->workers);
    /* Crashes come on the average every so many events; the later, the rarer. */
    double crashes = sim_draw(sim, 3) == 0 ? 0.0 : 1.0 / (100.0 + sim_draw(sim, 900));
    start(sim);
    while (!weir_coordinator_is_done(sim->coordinator, &reason)) {
        ck_assert_msg(sim->events < 2000000, "seed %llu: the job does not end",
                      (unsigned long long)seed);
        happen(sim);
        if (sim->failed || draw_chance(sim, crashes / (double)sim->starts)) {
            crash(sim);
        }
    }
    ck_assert_str_eq(reason, "finished");
    check_end(sim);
    sim_outcome_t outcome = {sim->events, sim->starts, sim->steps_repeated};
    stop(sim);
    free(sim);
    return outcome;
}
