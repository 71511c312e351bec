/* A job in one process whose servers the test plays: a real client, real comm threads, and requests
 * and answers as a server sees them. Rank 0 is nobody, 1 .. ps are the servers 0 .. ps - 1, and
 * ps + 1 is the worker. What does not hold fails the test at once. */
#ifndef WEIR_TESTS_PS_PLAYED_H
#define WEIR_TESTS_PS_PLAYED_H

#include "ps/client.h"
#include "tests/unit/ps_wire_cases.h"

enum { NOBODY = 0, FIRST_PS = 1 };
enum { MAX_PS = 3, MAX_RANKS = MAX_PS + 2, MAX_RING = 4, MAX_KEYS = 150, WAIT_SECONDS = 60 };

typedef struct {
    uint32_t ps;
    weir_comm_t *comms[MAX_RANKS];
    weir_comm_thread_t *threads[MAX_RANKS];
    weir_ps_client_t *client;
    weir_error_t error;
} played_job_t;

weir_ps_client_options_t played_options(const played_job_t *job, const weir_row_schema_t *schemas);
void played_open(played_job_t *job, uint32_t ps, uint32_t ahead, double timeout);
void played_close(played_job_t *job);

/* The next frame of the type at a server; the caller owns the payload. */
weir_frame_t played_take(played_job_t *job, uint32_t server, weir_frame_type_t type);
/* Send a frame to the worker. */
void played_post(played_job_t *job, weir_rank_t from, weir_frame_t frame);

/* A pull of the worker, and what came of it. */
typedef struct {
    uint64_t step;
    weir_key_t keys[WIRE_TABLES][MAX_KEYS];
    size_t counts[WIRE_TABLES];
    float values[WIRE_TABLES][MAX_KEYS * WIRE_MAX_DIM];
    wire_pull_t requests[MAX_PS]; /* what the servers got */
} played_pull_t;

void played_keys(played_pull_t *pull, uint64_t step, const size_t counts[WIRE_TABLES]);
weir_err_t played_begin(played_job_t *job, const played_pull_t *pull);
/* Each server got the keys that it owns, in the pull's order. */
void played_read_requests(played_job_t *job, played_pull_t *pull);
/* `values` are NaN where nothing has come. */
weir_err_t played_finish(played_job_t *job, played_pull_t *pull);
/* Every row is at its place, and nothing beyond. */
void played_check_values(const played_pull_t *pull);
/* The gradients come to the owners, in the order of the pull. */
void played_push(played_job_t *job, const played_pull_t *pull);
void played_release(played_pull_t *pull);

#endif
