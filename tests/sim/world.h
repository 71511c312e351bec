/* A whole job in one thread: coordinator, servers and workers as state machines, messages between
 * them in queues, and a scheduler that draws what happens next from a seed. A schedule ends when
 * the job is done; crashes of the whole job, lost control messages and changes of the number of
 * servers come in between. The same seed gives the same schedule.
 *
 * The coordinator, the servers, tables, snapshots and checkpoints are the real ones; workers are
 * played (tests/sim/player.c): they pull, push, meet and save as worker/trainer_step.c and
 * trainer_boundary.c do, with the gradients of tests/unit/ps_cases.h. */
#ifndef WEIR_TESTS_SIM_WORLD_H
#define WEIR_TESTS_SIM_WORLD_H

#include "common/frame.h"
#include "coordinator/coordinator.h"
#include "proto/envelope.h"
#include "ps/server.h"
#include "ps/snapshot.h"
#include "tests/unit/ps_cases.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    SIM_MAX_SERVERS = 3,
    SIM_MAX_WORKERS = 3,
    SIM_MAX_RANKS = 1 + SIM_MAX_SERVERS + SIM_MAX_WORKERS,
    SIM_STEPS = 9,
    SIM_SAVE_EVERY = 3, /* steps between checkpoints */
    SIM_MAX_AHEAD = 3
};

typedef struct sim sim_t;

/* ---- messages ---- */

typedef struct sim_message {
    struct sim_message *next;
    weir_frame_t frame; /* data */
    void *bytes;        /* control; owned */
    size_t size;
} sim_message_t;

typedef struct {
    sim_message_t *first, **last;
} sim_queue_t;

void sim_send_frame(sim_t *sim, uint32_t from, uint32_t to, weir_frame_t frame);
/* From a rank to the coordinator. */
void sim_say(sim_t *sim, uint32_t rank, Weir__Control__Envelope *envelope);

/* ---- a played worker ---- */

typedef struct {
    uint32_t server_counts[SIM_MAX_SERVERS];
    weir_key_t keys[SIM_MAX_SERVERS][CASE_UNIVERSE];
    uint64_t got[SIM_MAX_SERVERS][2]; /* a bit for each row that has come */
    uint32_t missing;                 /* rows that have not */
    uint32_t unanswered;              /* servers whose last answer has not come */
} sim_pull_t;

typedef struct {
    uint32_t index;
    uint64_t step, pulled; /* done; asked for */
    sim_pull_t pulls[SIM_MAX_AHEAD + 1];
    bool pushed;                   /* step + 1 */
    uint64_t met[SIM_MAX_WORKERS]; /* the last step of which each worker has said that it pushed */
    bool at_boundary, done;
    uint32_t uncut;  /* servers that have not remembered the step of this boundary */
    uint64_t saving; /* the last step whose checkpoint was begun */
    uint64_t saved;  /* the last whose checkpoint this worker knows to be published */
    double saving_since;
} sim_worker_t;

void sim_worker_start(sim_t *sim, uint32_t index, uint64_t step);
/* Do all that can be done without waiting. */
void sim_worker_advance(sim_t *sim, sim_worker_t *worker);
/* Say that training is over; worker 0 says it again while it is not told to leave. */
void sim_worker_finish(sim_t *sim, sim_worker_t *worker);
void sim_worker_on_frame(sim_t *sim, sim_worker_t *worker, weir_frame_t frame);
void sim_worker_on_control(sim_t *sim, sim_worker_t *worker,
                           const Weir__Control__Envelope *envelope);

/* ---- the job ---- */

typedef struct {
    weir_table_t *table;
    weir_server_t *server;
    weir_snapshot_t *snapshot; /* of the cut after save_step; NULL: none, or written */
    bool writes;               /* it has been told where to */
    uint64_t save_step;
} sim_server_t;

struct sim {
    uint64_t seed, draws;
    const char *run;
    uint32_t ps, workers, ahead;
    double loss; /* probability that a control message is lost */
    uint64_t job;
    double now;
    sim_queue_t data[SIM_MAX_RANKS][SIM_MAX_RANKS];
    sim_queue_t up[SIM_MAX_RANKS], down[SIM_MAX_RANKS]; /* control, by rank */
    weir_coordinator_t *coordinator;
    sim_server_t servers[SIM_MAX_SERVERS];
    sim_worker_t players[SIM_MAX_WORKERS];
    uint64_t published;    /* the furthest step of which a worker knew a checkpoint */
    const float *expected; /* (SIM_STEPS + 1) x CASE_UNIVERSE x CASE_DIM, for sim->workers */
    bool failed;           /* the job ends with an error, to be started again */
    uint64_t events, starts, steps_repeated;
};

uint32_t sim_draw(sim_t *sim, uint32_t below);
uint32_t sim_worker_rank(const sim_t *sim, uint32_t worker);
/* Values of all keys after `step` steps. */
const float *sim_expected(const sim_t *sim, uint64_t step);

typedef struct {
    uint64_t events, starts, steps_repeated;
} sim_outcome_t;

/* Play one schedule in the empty folder `run` to its end. Every check is a ck_assert that names
 * the seed. */
sim_outcome_t sim_play(uint64_t seed, const char *run);

#endif
