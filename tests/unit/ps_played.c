#include "tests/unit/ps_played.h"

#include "tests/suite.h"

#include <string.h>

weir_ps_client_options_t played_options(const played_job_t *job, const weir_row_schema_t *schemas) {
    return (weir_ps_client_options_t){.comm_thread = job->threads[FIRST_PS + job->ps],
                                      .first_ps_rank = FIRST_PS,
                                      .ps = job->ps,
                                      .tables = schemas,
                                      .table_count = WIRE_TABLES,
                                      .timeout = WAIT_SECONDS};
}

void played_open(played_job_t *job, uint32_t ps, uint32_t ahead, double timeout) {
    weir_row_schema_t schemas[WIRE_TABLES];
    *job = (played_job_t){.ps = ps};
    ck_assert_int_eq(weir_comm_loop_create(ps + 2, job->comms, NULL), WEIR_OK);
    for (weir_rank_t i = 0; i < ps + 2; i++) {
        weir_comm_thread_options_t options = {.comm = job->comms[i], .control_fd = -1};
        ck_assert_int_eq(weir_comm_thread_start(&options, &job->threads[i], NULL), WEIR_OK);
    }
    wire_schemas(schemas);
    weir_ps_client_options_t options = played_options(job, schemas);
    options.ahead = ahead;
    options.timeout = timeout;
    ck_assert_int_eq(weir_ps_client_create(&options, &job->client, NULL), WEIR_OK);
    memset(schemas, 0xFF, sizeof schemas); /* they were copied */
}

void played_close(played_job_t *job) {
    weir_ps_client_destroy(job->client);
    for (weir_rank_t i = 0; i < job->ps + 2; i++) {
        ck_assert_int_eq(weir_comm_thread_stop(job->threads[i], 1.0, NULL), WEIR_OK);
    }
    for (weir_rank_t i = 0; i < job->ps + 2; i++) {
        weir_comm_destroy(job->comms[i]);
    }
}

weir_frame_t played_take(played_job_t *job, uint32_t server, weir_frame_type_t type) {
    weir_frame_t frame = {.payload = NULL};
    bool received = false;
    ck_assert_int_eq(weir_comm_thread_take(job->threads[FIRST_PS + server], 1u << type,
                                           WAIT_SECONDS, &frame, &received, NULL),
                     WEIR_OK);
    ck_assert_msg(received, "server %u got no %s", server, weir_frame_type_name(type));
    return frame;
}

void played_post(played_job_t *job, weir_rank_t from, weir_frame_t frame) {
    ck_assert_int_eq(weir_comm_thread_post(job->threads[from], FIRST_PS + job->ps, frame, NULL),
                     WEIR_OK);
}

/* ---- what the worker pulls ---- */

void played_keys(played_pull_t *pull, uint64_t step, const size_t counts[WIRE_TABLES]) {
    *pull = (played_pull_t){.step = step};
    for (uint32_t k = 0; k < WIRE_TABLES; k++) {
        pull->counts[k] = counts[k];
        for (size_t i = 0; i < counts[k]; i++) {
            pull->keys[k][i] = step * 100000 + i * 7; /* some keys are in all tables */
        }
    }
}

weir_err_t played_begin(played_job_t *job, const played_pull_t *pull) {
    weir_ps_keys_t keys[WIRE_TABLES];
    for (uint32_t k = 0; k < WIRE_TABLES; k++) {
        keys[k] = (weir_ps_keys_t){.keys = pull->keys[k], .count = pull->counts[k]};
    }
    return weir_ps_client_pull_begin(job->client, pull->step, keys, &job->error);
}

/* Each key is in the request of its owner, in the pull's order. */
void played_read_requests(played_job_t *job, played_pull_t *pull) {
    for (uint32_t server = 0; server < job->ps; server++) {
        wire_pull_t *request = &pull->requests[server];
        ck_assert(wire_read_pull(played_take(job, server, WEIR_FRAME_PULL_REQ), request));
        ck_assert_uint_eq(request->header.step, pull->step);
        size_t next = 0, wrong = 0;
        for (uint32_t k = 0; k < WIRE_TABLES; k++) {
            size_t begin = next;
            for (size_t i = 0; i < pull->counts[k]; i++) {
                weir_slot_t slot = weir_slot_of_hash(weir_hash64(pull->keys[k][i]));
                if (weir_slot_owner(slot, job->ps) == server) {
                    wrong += next >= request->count || request->keys[next] != pull->keys[k][i];
                    next++;
                }
            }
            ck_assert_uint_eq(request->counts[k], next - begin);
        }
        ck_assert_uint_eq(wrong, 0);
        ck_assert_uint_eq(request->count, next);
    }
}

weir_err_t played_finish(played_job_t *job, played_pull_t *pull) {
    float *values[WIRE_TABLES];
    memset(pull->values, 0xFF, sizeof pull->values); /* NaN */
    for (uint32_t k = 0; k < WIRE_TABLES; k++) {
        values[k] = pull->values[k];
    }
    return weir_ps_client_pull_finish(job->client, values, &job->error);
}

void played_check_values(const played_pull_t *pull) {
    for (uint32_t k = 0; k < WIRE_TABLES; k++) {
        ck_assert_uint_eq(
            wire_wrong_rows(k, pull->keys[k], pull->counts[k], pull->step, pull->values[k]), 0);
        const float *beyond = pull->values[k] + pull->counts[k] * wire_dim(k);
        ck_assert(pull->counts[k] == MAX_KEYS || beyond[0] != beyond[0]);
    }
}

static float gradient_of(uint32_t table, weir_key_t key, uint32_t column) {
    return (float)(key % 65536) + 0.125f * (float)column + 1000.0f * (float)table;
}

/* The gradients come to the owners, in the order of the pull. */
void played_push(played_job_t *job, const played_pull_t *pull) {
    static float gradients[WIRE_TABLES][MAX_KEYS * WIRE_MAX_DIM];
    const float *pointers[WIRE_TABLES];
    for (uint32_t k = 0; k < WIRE_TABLES; k++) {
        pointers[k] = gradients[k];
        for (size_t i = 0; i < pull->counts[k] * wire_dim(k); i++) {
            gradients[k][i] =
                gradient_of(k, pull->keys[k][i / wire_dim(k)], (uint32_t)(i % wire_dim(k)));
        }
    }
    ck_assert_msg(weir_ps_client_push(job->client, pointers, &job->error) == WEIR_OK, "%s",
                  job->error.message);
    for (uint32_t server = 0; server < job->ps; server++) {
        const wire_pull_t *request = &pull->requests[server];
        weir_frame_t frame = played_take(job, server, WEIR_FRAME_PUSH_REQ);
        const float *next = frame.payload;
        size_t wrong = 0, size = 0, key = 0;
        for (uint32_t k = 0; k < WIRE_TABLES; k++) {
            size += request->counts[k] * wire_dim(k) * sizeof *next;
        }
        ck_assert_uint_eq(frame.header.payload_size, size);
        ck_assert_uint_eq(frame.header.count, request->count);
        ck_assert_uint_eq(frame.header.step, pull->step);
        for (uint32_t k = 0; k < WIRE_TABLES; k++) {
            for (size_t end = key + request->counts[k]; key < end; key++) {
                for (uint32_t d = 0; d < wire_dim(k); d++, next++) {
                    float expected = gradient_of(k, request->keys[key], d);
                    wrong += memcmp(next, &expected, sizeof expected) != 0;
                }
            }
        }
        ck_assert_uint_eq(wrong, 0);
        weir_buffer_release(frame.payload);
    }
}

void played_release(played_pull_t *pull) {
    for (uint32_t server = 0; server < MAX_PS; server++) {
        wire_release_pull(&pull->requests[server]);
    }
}
