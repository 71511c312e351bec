#include "ps/server.h"

#include "ps/step_rows.h"

#include <stdlib.h>
#include <string.h>

typedef enum {
    AWAITS_PULL, /* has not pulled the current step */
    AWAITS_PUSH, /* has pulled it and not pushed */
    HAS_PUSHED
} phase_t;

typedef struct {
    phase_t phase;
    uint32_t
        *numbers; /* owned: the rows of its pull, as numbers in step_rows, in the pull's order */
    size_t count, capacity;
    void *gradients;    /* payload of its push until it has been added up; owned */
    weir_frame_t ahead; /* its pull of the next step, kept; payload owned */
    weir_frame_t peek;  /* its peek that waits for the current step; payload owned */
    bool has_ahead, has_peek;
} worker_t;

struct weir_server {
    weir_server_options_t options;
    weir_table_t *table; /* not owned */
    size_t dim;
    weir_slot_t first_slot, end_slot; /* owned: [first, end) */
    uint64_t step;                    /* applied */
    worker_t *workers;                /* options.workers of them */
    uint32_t added;                   /* workers whose pushes are in the sums, in worker order */
    weir_step_rows_t rows;            /* of step + 1 */
    weir_row_handle_t *handles;       /* scratch of one pull */
    size_t handle_capacity;
    bool failed;
    weir_server_counters_t counters;
};

weir_err_t weir_server_create(const weir_server_options_t *options, weir_table_t *table,
                              weir_server_t **server, weir_error_t *error) {
    if (options->ps < 1 || options->ps > WEIR_SLOT_COUNT || options->index >= options->ps) {
        return weir_errorf(error, WEIR_ERR_INVALID, "no server %u of %u: there are 1 to %d servers",
                           options->index, options->ps, WEIR_SLOT_COUNT);
    }
    if (options->workers < 1) {
        return weir_errorf(error, WEIR_ERR_INVALID, "a server without workers has nothing to do");
    }
    weir_server_t *made = calloc(1, sizeof *made);
    worker_t *workers = calloc(options->workers, sizeof *workers);
    if (made == NULL || workers == NULL) {
        free(made);
        free(workers);
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a server");
    }
    *made = (weir_server_t){.options = *options,
                            .table = table,
                            .dim = weir_table_schema(table)->dim,
                            .first_slot = weir_slot_first(options->index, options->ps),
                            .end_slot = weir_slot_first(options->index + 1, options->ps),
                            .step = options->step,
                            .workers = workers};
    weir_step_rows_init(&made->rows, made->dim);
    *server = made;
    return WEIR_OK;
}

void weir_server_destroy(weir_server_t *server) {
    if (server == NULL) {
        return;
    }
    for (uint32_t w = 0; w < server->options.workers; w++) {
        free(server->workers[w].numbers);
        weir_buffer_release(server->workers[w].gradients);
        weir_buffer_release(server->workers[w].ahead.payload);
        weir_buffer_release(server->workers[w].peek.payload);
    }
    free(server->workers);
    free(server->handles);
    weir_step_rows_fini(&server->rows);
    free(server);
}

uint64_t weir_server_step(const weir_server_t *server) {
    return server->step;
}

weir_server_counters_t weir_server_counters(const weir_server_t *server) {
    return server->counters;
}

/* ---- checks ---- */

static weir_err_t refuse(const weir_frame_header_t *header, weir_error_t *error,
                         const char *reason) {
    return weir_errorf(error, WEIR_ERR_PEER, "rank %u sent a %s of step %llu with %u keys that %s",
                       header->source, weir_frame_type_name((weir_frame_type_t)header->type),
                       (unsigned long long)header->step, header->count, reason);
}

/* A request with keys: lengths that agree, an answer under the cap, own slots only. */
static weir_err_t check_keys(const weir_server_t *server, const weir_frame_t *frame,
                             weir_error_t *error) {
    const weir_frame_header_t *header = &frame->header;
    if (header->payload_size != (uint64_t)header->count * sizeof(weir_key_t)) {
        return refuse(header, error, "has another length than its keys");
    }
    if ((uint64_t)header->count * server->dim > WEIR_FRAME_MAX_PAYLOAD / sizeof(float)) {
        return refuse(header, error, "asks for more than fits into one frame");
    }
    const weir_key_t *keys = frame->payload;
    for (size_t i = 0; i < header->count; i++) {
        weir_slot_t slot = weir_slot_of_hash(weir_hash64(keys[i]));
        if (slot < server->first_slot || slot >= server->end_slot) {
            (void)refuse(header, error, "names a key of another server");
            weir_error_hint(error, "key %llu is in slot %u; server %u of %u owns %u to %u",
                            (unsigned long long)keys[i], slot, server->options.index,
                            server->options.ps, server->first_slot, server->end_slot - 1);
            return WEIR_ERR_PEER;
        }
    }
    return WEIR_OK;
}

/* ---- answers ---- */

/* A reply with room for count rows. */
static weir_err_t make_reply(const weir_server_t *server, weir_frame_type_t type,
                             const weir_frame_header_t *request, uint64_t step, weir_frame_t *reply,
                             weir_error_t *error) {
    size_t size = (size_t)request->count * server->dim * sizeof(float);
    *reply = (weir_frame_t){.header = {.type = (uint16_t)type,
                                       .step = step,
                                       .sequence = request->sequence,
                                       .count = request->count,
                                       .payload_size = size}};
    if (size == 0) {
        return WEIR_OK;
    }
    reply->payload = weir_buffer_acquire(size);
    if (reply->payload == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a reply of %zu bytes", size);
    }
    return WEIR_OK;
}

static weir_err_t reserve_pull(weir_server_t *server, worker_t *worker, size_t count,
                               weir_error_t *error) {
    if (count > server->handle_capacity) {
        size_t capacity = count + count / 2;
        weir_row_handle_t *handles = realloc(server->handles, capacity * sizeof *handles);
        if (handles == NULL) {
            goto fail;
        }
        server->handles = handles;
        server->handle_capacity = capacity;
    }
    if (count > worker->capacity) {
        size_t capacity = count + count / 2;
        uint32_t *numbers = realloc(worker->numbers, capacity * sizeof *numbers);
        if (numbers == NULL) {
            goto fail;
        }
        worker->numbers = numbers;
        worker->capacity = capacity;
    }
    if (weir_step_rows_reserve(&server->rows, count)) {
        return WEIR_OK;
    }
fail:
    return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a pull of %zu keys", count);
}

/* The pull is of the current step and has been checked. */
static weir_err_t answer_pull(weir_server_t *server, uint32_t w, const weir_frame_t *request,
                              weir_error_t *error) {
    const weir_frame_header_t *header = &request->header;
    worker_t *worker = &server->workers[w];
    size_t count = header->count;
    weir_frame_t reply = {.payload = NULL};
    weir_err_t err = reserve_pull(server, worker, count, error);
    if (err == WEIR_OK) {
        err = make_reply(server, WEIR_FRAME_PULL_REP, header, header->step, &reply, error);
    }
    if (err == WEIR_OK) {
        err = weir_table_pull(server->table, request->payload, count, server->handles,
                              reply.payload, error);
    }
    if (err != WEIR_OK) {
        goto out;
    }
    if (weir_step_rows_name(&server->rows, server->handles, count, w, worker->numbers) != count) {
        err = refuse(header, error, "names a key twice");
        goto out;
    }
    worker->count = count;
    worker->phase = AWAITS_PUSH;
    server->counters.keys_pulled += count;
    err = server->options.send(server->options.argument, header->source, reply, error);
    reply.payload = NULL;
out:
    weir_buffer_release(reply.payload);
    return err;
}

/* ---- handlers ---- */

static weir_err_t on_pull_req(weir_server_t *server, uint32_t w, weir_frame_t *frame,
                              weir_error_t *error) {
    worker_t *worker = &server->workers[w];
    weir_err_t err = check_keys(server, frame, error);
    if (err != WEIR_OK) {
        return err;
    }
    uint64_t current = server->step + 1;
    if (frame->header.step == current && worker->phase == AWAITS_PULL) {
        return answer_pull(server, w, frame, error);
    }
    if (frame->header.step == current + 1 && worker->phase != AWAITS_PULL && !worker->has_ahead) {
        worker->ahead = *frame;
        worker->has_ahead = true;
        frame->payload = NULL;
        return WEIR_OK;
    }
    (void)refuse(&frame->header, error, "is not the step's turn");
    weir_error_hint(error, "server %u of %u is in step %llu, of which rank %u %s",
                    server->options.index, server->options.ps, (unsigned long long)current,
                    frame->header.source,
                    worker->phase == AWAITS_PULL ? "has not pulled" : "has pulled already");
    return WEIR_ERR_PEER;
}

static weir_err_t answer_peek(weir_server_t *server, const weir_frame_t *frame,
                              weir_error_t *error) {
    weir_frame_t reply;
    weir_err_t err =
        make_reply(server, WEIR_FRAME_PEEK_REP, &frame->header, server->step, &reply, error);
    if (err != WEIR_OK) {
        return err;
    }
    weir_table_peek(server->table, frame->payload, frame->header.count, reply.payload);
    server->counters.keys_peeked += frame->header.count;
    return server->options.send(server->options.argument, frame->header.source, reply, error);
}

/* What this worker asked for before the step was applied. */
static weir_err_t answer_waiting(weir_server_t *server, uint32_t w, weir_error_t *error) {
    worker_t *worker = &server->workers[w];
    weir_frame_t peek = worker->peek, ahead = worker->ahead;
    bool has_peek = worker->has_peek, has_ahead = worker->has_ahead;
    weir_err_t err = WEIR_OK;
    worker->has_peek = worker->has_ahead = false;
    worker->peek.payload = worker->ahead.payload = NULL;
    if (has_peek) {
        err = answer_peek(server, &peek, error);
    }
    if (has_ahead && err == WEIR_OK) {
        err = answer_pull(server, w, &ahead, error);
    }
    weir_buffer_release(peek.payload);
    weir_buffer_release(ahead.payload);
    return err;
}

/* All pushes of the step are in the sums. */
static weir_err_t apply_step(weir_server_t *server, weir_error_t *error) {
    uint64_t step = server->step + 1;
    size_t skipped = weir_table_apply(server->table, server->rows.handles, server->rows.sums,
                                      server->rows.count, step);
    server->counters.gradients_not_finite += skipped;
    server->counters.rows_updated += server->rows.count - skipped;
    weir_step_rows_clear(&server->rows);
    server->step = step;
    server->added = 0;
    for (uint32_t w = 0; w < server->options.workers; w++) {
        server->workers[w].phase = AWAITS_PULL;
    }
    weir_err_t err = WEIR_OK;
    for (uint32_t w = 0; w < server->options.workers && err == WEIR_OK; w++) {
        err = answer_waiting(server, w, error);
    }
    return err;
}

static weir_err_t on_push_req(weir_server_t *server, uint32_t w, weir_frame_t *frame,
                              weir_error_t *error) {
    const weir_frame_header_t *header = &frame->header;
    worker_t *worker = &server->workers[w];
    if (header->step != server->step + 1 || worker->phase != AWAITS_PUSH) {
        return refuse(header, error, "follows no pull of that step");
    }
    if (header->count != worker->count ||
        header->payload_size != (uint64_t)worker->count * server->dim * sizeof(float)) {
        return refuse(header, error, "does not fit the rows of its pull");
    }
    worker->gradients = frame->payload;
    frame->payload = NULL;
    worker->phase = HAS_PUSHED;
    /* In worker order, as far as they are in: most of the sum is done before the last push comes.
     */
    while (server->added < server->options.workers &&
           server->workers[server->added].phase == HAS_PUSHED) {
        worker_t *next = &server->workers[server->added++];
        weir_step_rows_add(&server->rows, next->numbers, next->count, next->gradients);
        weir_buffer_release(next->gradients);
        next->gradients = NULL;
    }
    return server->added == server->options.workers ? apply_step(server, error) : WEIR_OK;
}

static weir_err_t on_peek_req(weir_server_t *server, uint32_t w, weir_frame_t *frame,
                              weir_error_t *error) {
    worker_t *worker = &server->workers[w];
    weir_err_t err = check_keys(server, frame, error);
    if (err != WEIR_OK) {
        return err;
    }
    if (frame->header.step <= server->step) {
        return answer_peek(server, frame, error);
    }
    if (frame->header.step != server->step + 1 || worker->phase != HAS_PUSHED || worker->has_peek) {
        return refuse(&frame->header, error, "waits for a step that its sender has not pushed");
    }
    worker->peek = *frame;
    worker->has_peek = true;
    frame->payload = NULL;
    return WEIR_OK;
}

static weir_err_t dispatch(weir_server_t *server, weir_frame_t *frame, weir_error_t *error) {
    const weir_frame_header_t *header = &frame->header;
    uint32_t w = header->source - server->options.first_worker_rank;
    if (header->source < server->options.first_worker_rank || w >= server->options.workers) {
        return refuse(header, error, "comes from no worker");
    }
    if (header->payload_size != 0 && frame->payload == NULL) {
        return refuse(header, error, "has no payload");
    }
    switch (header->type) {
    case WEIR_FRAME_PULL_REQ:
        return on_pull_req(server, w, frame, error);
    case WEIR_FRAME_PUSH_REQ:
        return on_push_req(server, w, frame, error);
    case WEIR_FRAME_PEEK_REQ:
        return on_peek_req(server, w, frame, error);
    default:
        return refuse(header, error, "is nothing a server takes");
    }
}

weir_err_t weir_server_handle(weir_server_t *server, weir_frame_t frame, weir_error_t *error) {
    weir_err_t err;
    if (server->failed) {
        err = weir_errorf(error, WEIR_ERR_PEER,
                          "server %u of %u has failed before and takes no more frames",
                          server->options.index, server->options.ps);
    } else {
        err = dispatch(server, &frame, error);
        server->failed = err != WEIR_OK;
    }
    weir_buffer_release(frame.payload);
    return err;
}
