/* The coordinator as a state machine: control messages and time in, control messages out. It does
 * no I/O of its own: sending, and the four steps of a checkpoint on disk, are functions that the
 * process hands it, so that tests run it without sockets, files or clocks.
 *
 * Who speaks is the message's identity on the ROUTER socket: "rank-N" for rank N, anything else is
 * a `ctl`. A rank's messages are believed only about itself. What is not understood is counted and
 * ignored. */
#ifndef WEIR_COORDINATOR_COORDINATOR_H
#define WEIR_COORDINATOR_COORDINATOR_H

#include "common/checkpoint.h"
#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WEIR_IDENTITY_MAX = 64 };

typedef struct {
    uint8_t bytes[WEIR_IDENTITY_MAX];
    size_t size;
} weir_identity_t;

/* "rank-N". */
void weir_identity_of_rank(uint32_t rank, weir_identity_t *identity);

/* What the state machine asks of its process. */
typedef struct {
    void (*send)(void *argument, const weir_identity_t *to, const void *bytes, size_t size);
    weir_err_t (*begin)(void *argument, uint64_t step, char *folder, size_t capacity,
                        weir_error_t *error);
    weir_err_t (*publish)(void *argument, const weir_manifest_t *manifest, bool best,
                          weir_error_t *error);
    void (*abandon)(void *argument, const char *folder); /* remove what was begun */
    void *argument;
} weir_coordinator_operations_t;

typedef struct {
    uint64_t job;
    uint32_t ps, workers;
    const char *config_yaml;   /* for manifests; outlives the coordinator */
    double silence_seconds;    /* a rank silent for longer is named in the log */
    double checkpoint_seconds; /* a checkpoint that takes longer has failed */
    double leave_seconds;      /* how long the end waits for ranks that do not answer */
    double hang_seconds;       /* without progress until the job is given up; 0: never */
    uint64_t step;             /* of the checkpoint that the job started from */
    uint64_t full_every;       /* one checkpoint of so many is full; 0, 1: all */
    uint64_t restarts;         /* of the run, before this job */
} weir_coordinator_options_t;

typedef struct weir_coordinator weir_coordinator_t;

WEIR_MUST_USE weir_err_t weir_coordinator_create(const weir_coordinator_options_t *options,
                                                 const weir_coordinator_operations_t *operations,
                                                 double now, weir_coordinator_t **coordinator,
                                                 weir_error_t *error);
void weir_coordinator_destroy(weir_coordinator_t *coordinator);

/* A message came. `now`: seconds, monotonic. */
void weir_coordinator_receive(weir_coordinator_t *coordinator, const weir_identity_t *from,
                              const void *bytes, size_t size, double now);

/* Time passes: deadlines and silences. Call about once a second or oftener. */
void weir_coordinator_tick(weir_coordinator_t *coordinator, double now);

/* A signal asked this process to stop: passed on to worker 0, and saving. */
void weir_coordinator_ask_stop(weir_coordinator_t *coordinator);

/* Worker 0 said that training is over, and why ("finished", "stopped", ...); all ranks have been
 * told and have answered, or had `leave_seconds` to. */
bool weir_coordinator_is_done(const weir_coordinator_t *coordinator, const char **reason);

/* No rank made progress for hang_seconds: *culprit says who is at the end of the chain of those
 * that wait for each other, and who waits for it. True from then on. What counts as progress: a
 * step, a phase, a wait that ended. A checkpoint under way has a deadline of its own; a coordinator
 * that hears nobody blames itself. */
bool weir_coordinator_is_hung(const weir_coordinator_t *coordinator, const char **culprit);

typedef struct {
    uint64_t step;             /* the furthest any worker reported */
    uint64_t last_checkpoint;  /* step of the last published; 0: none */
    uint64_t refused_messages; /* not understood, or not the sender's to say */
} weir_coordinator_counters_t;
weir_coordinator_counters_t weir_coordinator_counters(const weir_coordinator_t *coordinator);

/* What the coordinator and its ranks count, as a page of the Prometheus text format 0.0.4 (names:
 * docs/operations.md). *page is the caller's to free. Errors: memory. Call: local. */
WEIR_MUST_USE weir_err_t weir_coordinator_show_metrics(const weir_coordinator_t *coordinator,
                                                       double now, char **page, size_t *size,
                                                       weir_error_t *error);

#endif
