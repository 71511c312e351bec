#include "ps/server.h"

#include "common/trace.h"
#include "ps/server_internal.h"

#include <stdlib.h>
#include <string.h>

static weir_err_t check_options(const weir_server_options_t *options, uint32_t table_count,
                                weir_error_t *error) {
    if (options->ps < 1 || options->ps > WEIR_SLOT_COUNT || options->index >= options->ps) {
        return weir_errorf(error, WEIR_ERR_INVALID, "no server %u of %u: there are 1 to %d servers",
                           options->index, options->ps, WEIR_SLOT_COUNT);
    }
    if (options->workers < 1) {
        return weir_errorf(error, WEIR_ERR_INVALID, "a server without workers has nothing to do");
    }
    if (table_count < 1 || table_count > WEIR_MODEL_MAX_TABLES) {
        return weir_errorf(error, WEIR_ERR_INVALID, "a model has 1 to %d tables, not %u",
                           WEIR_MODEL_MAX_TABLES, table_count);
    }
    if ((unsigned)options->consistency >= WEIR_CONSISTENCY_COUNT ||
        (options->consistency == WEIR_CONSISTENCY_SSP &&
         (options->staleness < 1 || options->staleness > WEIR_SERVER_MAX_STALENESS))) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "ssp needs a staleness of 1 to %d steps, not %u",
                           WEIR_SERVER_MAX_STALENESS, options->staleness);
    }
    return WEIR_OK;
}

static uint32_t window_of(const weir_server_options_t *options) {
    switch (options->consistency) {
    case WEIR_CONSISTENCY_SSP:
        return options->staleness + 1;
    case WEIR_CONSISTENCY_ASP:
        return WEIR_SERVER_ASP_PULLS;
    case WEIR_CONSISTENCY_BSP:
    case WEIR_CONSISTENCY_COUNT:
        break;
    }
    return 1;
}

static bool init_group(weir_server_t *server, weir_server_group_t *group, uint32_t first,
                       uint32_t workers) {
    *group = (weir_server_group_t){.first = first,
                                   .workers = workers,
                                   .step = server->options.step,
                                   .steps = calloc(server->window, sizeof *group->steps)};
    if (group->steps == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < server->window; i++) {
        weir_server_step_t *step = &group->steps[i];
        for (uint32_t k = 0; k < server->table_count; k++) {
            weir_step_rows_init(&step->rows[k], weir_table_layout(server->tables[k])->dim);
        }
        step->parts = calloc(workers, sizeof *step->parts);
        if (step->parts == NULL) {
            return false;
        }
    }
    return true;
}

static bool init_groups(weir_server_t *server) {
    bool alone = server->options.consistency == WEIR_CONSISTENCY_ASP;
    server->group_count = alone ? server->options.workers : 1;
    server->groups = calloc(server->group_count, sizeof *server->groups);
    if (server->groups == NULL) {
        server->group_count = 0;
        return false;
    }
    for (uint32_t g = 0; g < server->group_count; g++) {
        if (!init_group(server, &server->groups[g], g, alone ? 1 : server->options.workers)) {
            return false;
        }
    }
    return true;
}

weir_err_t weir_server_create(const weir_server_options_t *options, weir_table_t *const *tables,
                              uint32_t table_count, weir_server_t **server, weir_error_t *error) {
    weir_err_t err = check_options(options, table_count, error);
    if (err != WEIR_OK) {
        return err;
    }
    weir_server_t *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a server");
    }
    *made = (weir_server_t){.options = *options,
                            .table_count = table_count,
                            .first_slot = weir_slot_first(options->index, options->ps),
                            .end_slot = weir_slot_first(options->index + 1, options->ps),
                            .window = window_of(options),
                            .ended_step = options->step};
    memcpy(made->tables, tables, table_count * sizeof(weir_table_t *));
    made->workers = calloc(options->workers, sizeof *made->workers);
    if (made->workers == NULL || !init_groups(made)) {
        weir_server_destroy(made);
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a server");
    }
    for (uint32_t w = 0; w < options->workers; w++) {
        made->workers[w].pulled_step = made->workers[w].pushed_step = options->step;
    }
    *server = made;
    return WEIR_OK;
}

static void fini_step(const weir_server_t *server, const weir_server_group_t *group,
                      weir_server_step_t *step) {
    for (uint32_t k = 0; k < server->table_count; k++) {
        weir_step_rows_fini(&step->rows[k]);
    }
    for (uint32_t w = 0; step->parts != NULL && w < group->workers; w++) {
        free(step->parts[w].numbers);
        weir_buffer_release(step->parts[w].gradients);
    }
    free(step->parts);
}

void weir_server_destroy(weir_server_t *server) {
    if (server == NULL) {
        return;
    }
    for (uint32_t g = 0; g < server->group_count; g++) {
        weir_server_group_t *group = &server->groups[g];
        for (uint32_t i = 0; group->steps != NULL && i < server->window; i++) {
            fini_step(server, group, &group->steps[i]);
        }
        free(group->steps);
    }
    for (uint32_t w = 0; server->workers != NULL && w < server->options.workers; w++) {
        for (uint32_t i = 0; i < WEIR_SERVER_MAX_WAITING; i++) {
            weir_buffer_release(server->workers[w].waiting[i].frame.payload);
        }
        weir_buffer_release(server->workers[w].push.payload);
        weir_buffer_release(server->workers[w].peek.payload);
        free(server->workers[w].first);
    }
    free(server->groups);
    free(server->workers);
    free(server->handles);
    free(server->some_handles);
    free(server->some_keys);
    free(server);
}

uint64_t weir_server_step(const weir_server_t *server) {
    uint64_t step = server->groups[0].step;
    for (uint32_t g = 1; g < server->group_count; g++) {
        step = server->groups[g].step < step ? server->groups[g].step : step;
    }
    return step;
}

bool weir_server_waits_for(const weir_server_t *server, uint32_t *worker) {
    const weir_server_group_t *group = &server->groups[0];
    const weir_server_step_t *step = &group->steps[(group->step + 1) % server->window];
    if (server->group_count > 1 || step->pulled == 0) {
        return false;
    }
    for (uint32_t w = 0; w < group->workers; w++) {
        if (!step->parts[w].pushed) {
            *worker = group->first + w;
            return true;
        }
    }
    return false;
}

weir_server_counters_t weir_server_counters(const weir_server_t *server) {
    return server->counters;
}

weir_server_group_t *weir_server_group_of(weir_server_t *server, uint32_t worker) {
    return server->group_count == 1 ? &server->groups[0] : &server->groups[worker];
}

/* ---- checks ---- */

weir_err_t weir_server_refuse(const weir_frame_header_t *header, weir_error_t *error,
                              const char *reason) {
    return weir_errorf(error, WEIR_ERR_PEER, "rank %u sent a %s of step %llu with %u keys that %s",
                       header->source, weir_frame_type_name((weir_frame_type_t)header->type),
                       (unsigned long long)header->step, header->count, reason);
}

weir_err_t weir_server_check_keys(const weir_server_t *server, const weir_frame_header_t *header,
                                  const weir_key_t *keys, size_t count, weir_error_t *error) {
    for (size_t i = 0; i < count; i++) {
        weir_slot_t slot = weir_slot_of_hash(weir_hash64(keys[i]));
        if (slot < server->first_slot || slot >= server->end_slot) {
            (void)weir_server_refuse(header, error, "names a key of another server");
            weir_error_hint(error, "key %llu is in slot %u; server %u of %u owns %u to %u",
                            (unsigned long long)keys[i], slot, server->options.index,
                            server->options.ps, server->first_slot, server->end_slot - 1);
            return WEIR_ERR_PEER;
        }
    }
    return WEIR_OK;
}

/* ---- peek ---- */

static weir_err_t answer_peek(weir_server_t *server, const weir_server_group_t *group,
                              const weir_frame_t *frame, weir_error_t *error) {
    const weir_frame_header_t *request = &frame->header;
    weir_table_t *table = server->tables[request->flags];
    size_t size = (size_t)request->count * weir_table_layout(table)->value_bytes;
    weir_frame_t reply = {.header = {.type = WEIR_FRAME_PEEK_REP,
                                     .flags = request->flags,
                                     .step = group->step,
                                     .sequence = request->sequence,
                                     .count = request->count,
                                     .payload_size = size}};
    reply.payload = size == 0 ? NULL : weir_buffer_acquire(size);
    if (size != 0 && reply.payload == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a reply of %zu bytes", size);
    }
    weir_err_t err = weir_table_peek(table, frame->payload, request->count, group->step + 1,
                                     reply.payload, error);
    if (err != WEIR_OK) {
        weir_buffer_release(reply.payload);
        return err;
    }
    server->counters.keys_peeked += request->count;
    return server->options.send(server->options.argument, request->source, reply, error);
}

static weir_err_t on_peek_req(weir_server_t *server, uint32_t w, weir_frame_t *frame,
                              weir_error_t *error) {
    const weir_frame_header_t *header = &frame->header;
    weir_server_worker_t *worker = &server->workers[w];
    weir_server_group_t *group = weir_server_group_of(server, w);
    if (header->flags >= server->table_count) {
        return weir_server_refuse(header, error, "names a table that is not there");
    }
    if (header->payload_size != (uint64_t)header->count * sizeof(weir_key_t)) {
        return weir_server_refuse(header, error, "has another length than its keys");
    }
    if (header->count >
        WEIR_FRAME_MAX_PAYLOAD / weir_table_layout(server->tables[header->flags])->value_bytes) {
        return weir_server_refuse(header, error, "asks for more than fits into one frame");
    }
    weir_err_t err = weir_server_check_keys(server, header, frame->payload, header->count, error);
    if (err != WEIR_OK) {
        return err;
    }
    if (header->step <= group->step) {
        return answer_peek(server, group, frame, error);
    }
    if (header->step > worker->pushed_step || worker->has_peek) {
        return weir_server_refuse(header, error, "waits for a step that its sender has not pushed");
    }
    worker->peek = *frame;
    worker->has_peek = true;
    frame->payload = NULL;
    return WEIR_OK;
}

static weir_err_t answer_peeks(weir_server_t *server, const weir_server_group_t *group,
                               weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    for (uint32_t w = group->first; w < group->first + group->workers && err == WEIR_OK; w++) {
        weir_server_worker_t *worker = &server->workers[w];
        if (worker->has_peek && worker->peek.header.step <= group->step) {
            weir_frame_t peek = worker->peek;
            worker->has_peek = false;
            worker->peek.payload = NULL;
            err = answer_peek(server, group, &peek, error);
            weir_buffer_release(peek.payload);
        }
    }
    return err;
}

/* ---- push ---- */

/* On the tables that end early, or on those that end late. */
static weir_err_t end_step(weir_server_t *server, bool late, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    for (uint32_t k = 0; k < server->table_count && err == WEIR_OK; k++) {
        if (weir_table_ends_late(server->tables[k]) == late) {
            err = weir_table_end_step(server->tables[k], server->ended_step,
                                      weir_server_step(server) + 1, error);
        }
    }
    return err;
}

static weir_err_t apply_rows(weir_server_t *server, weir_server_step_t *step, uint64_t number,
                             weir_error_t *error) {
    for (uint32_t k = 0; k < server->table_count; k++) {
        const weir_step_rows_t *rows = &step->rows[k];
        weir_table_set_owners(server->tables[k], rows->handles, rows->sole, rows->kept,
                              rows->count);
        weir_table_applied_t applied =
            weir_table_apply(server->tables[k], rows->keys, rows->handles,
                             weir_step_rows_sums(rows), rows->count, number);
        server->counters.rows_updated += applied.updated;
        server->counters.gradients_not_finite += applied.not_finite;
        if (applied.not_finite > 0 && server->options.not_finite_fatal) {
            weir_err_t err = weir_errorf(
                error, WEIR_ERR_INVALID,
                "the gradients of %llu rows of table %s hold a NaN or an infinity in step %llu",
                (unsigned long long)applied.not_finite, weir_table_schema(server->tables[k])->name,
                (unsigned long long)number);
            weir_error_hint(error, "sparse.not_finite=skip leaves such rows as they are; the last "
                                   "checkpoint is untouched");
            return err;
        }
        weir_step_rows_clear(&step->rows[k]);
    }
    return WEIR_OK;
}

static weir_err_t on_push_req(weir_server_t *server, uint32_t w, weir_frame_t *frame,
                              weir_error_t *error);

/* Pushes that came before the step before theirs had been applied. */
static weir_err_t take_kept_pushes(weir_server_t *server, const weir_server_group_t *group,
                                   weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    for (uint32_t w = group->first; w < group->first + group->workers && err == WEIR_OK; w++) {
        weir_server_worker_t *worker = &server->workers[w];
        if (worker->has_push) {
            weir_frame_t push = worker->push;
            worker->has_push = false;
            worker->push.payload = NULL;
            worker->pushed_step--;
            err = on_push_req(server, w, &push, error);
            weir_buffer_release(push.payload);
        }
    }
    return err;
}

/* All pushes of the group's next step are in the sums. */
static weir_err_t apply_step(weir_server_t *server, weir_server_group_t *group,
                             weir_error_t *error) {
    uint64_t number = group->step + 1;
    int64_t begun = weir_trace_begin();
    weir_server_step_t *step = weir_server_step_of(server, group, number);
    group->step = number;
    server->ended_step = number > server->ended_step ? number : server->ended_step;
    weir_err_t err = apply_rows(server, step, number, error);
    weir_trace_end(begun, "apply", number, WEIR_TRACE_NOBODY);
    if (err == WEIR_OK) {
        err = end_step(server, false, error);
    }
    for (uint32_t p = 0; p < group->workers; p++) {
        step->parts[p].pulled = step->parts[p].pushed = false;
        weir_buffer_release(step->parts[p].gradients); /* lent, of a worker that is alone */
        step->parts[p].gradients = NULL;
    }
    step->pulled = step->added = 0;
    if (err == WEIR_OK) {
        err = answer_peeks(server, group, error);
    }
    if (err == WEIR_OK) {
        err = weir_server_answer_waiting(server, group, error);
    }
    if (err == WEIR_OK) {
        err = end_step(server, true, error); /* the workers compute meanwhile */
    }
    if (err == WEIR_OK) {
        err = weir_server_try_early(server, group, error);
    }
    return err == WEIR_OK ? take_kept_pushes(server, group, error) : err;
}

static uint64_t gradient_bytes(const weir_server_t *server, const weir_server_part_t *part) {
    uint64_t floats = 0;
    for (uint32_t k = 0; k < server->table_count; k++) {
        floats += (uint64_t)part->counts[k] * weir_table_layout(server->tables[k])->dim;
    }
    return floats * sizeof(float);
}

static void add_part(weir_server_t *server, weir_server_step_t *step, weir_server_part_t *part,
                     bool alone) {
    const float *gradients = part->gradients;
    const uint32_t *numbers = part->numbers;
    bool lent = false;
    for (uint32_t k = 0; k < server->table_count && gradients != NULL; k++) {
        if (alone && weir_step_rows_lend(&step->rows[k], part->counts[k], gradients)) {
            lent = true;
        } else {
            server->counters.gradients_dropped +=
                weir_step_rows_add(&step->rows[k], numbers, part->counts[k], gradients);
        }
        numbers += part->counts[k];
        gradients += part->counts[k] * weir_table_layout(server->tables[k])->dim;
    }
    if (!lent) {
        weir_buffer_release(part->gradients);
        part->gradients = NULL;
    }
}

static weir_err_t on_push_req(weir_server_t *server, uint32_t w, weir_frame_t *frame,
                              weir_error_t *error) {
    const weir_frame_header_t *header = &frame->header;
    weir_server_worker_t *worker = &server->workers[w];
    weir_server_group_t *group = weir_server_group_of(server, w);
    if (header->flags != 0) {
        return weir_server_refuse(header, error, "has flags that mean nothing");
    }
    if (header->step != worker->pushed_step + 1 || header->step > worker->pulled_step) {
        return weir_server_refuse(header, error, "follows no pull of that step");
    }
    if (header->step > group->step + server->window) {
        if (!worker->answered_whole || worker->has_push ||
            worker->waiting[worker->waiting_first].frame.header.step != header->step) {
            return weir_server_refuse(header, error, "follows a pull that has not been answered");
        }
        worker->push = *frame;
        worker->has_push = true;
        worker->pushed_step = header->step;
        frame->payload = NULL;
        return WEIR_OK;
    }
    weir_server_step_t *step = weir_server_step_of(server, group, header->step);
    weir_server_part_t *part = &step->parts[w - group->first];
    size_t count = 0;
    for (uint32_t k = 0; k < server->table_count; k++) {
        count += part->counts[k];
    }
    if (!part->pulled) {
        return weir_server_refuse(header, error, "follows a pull that has not been answered");
    }
    if (header->count != count || header->payload_size != gradient_bytes(server, part)) {
        return weir_server_refuse(header, error, "does not fit the rows of its pull");
    }
    part->gradients = frame->payload;
    frame->payload = NULL;
    part->pushed = true;
    worker->pushed_step = header->step;
    /* In worker order, as far as they are in: most of the sum is done before the last push comes.
     */
    while (step->added < group->workers && step->parts[step->added].pushed) {
        add_part(server, step, &step->parts[step->added++], group->workers == 1);
    }
    weir_err_t err = WEIR_OK;
    if (header->step == group->step + 1 && step->added == group->workers) {
        err = apply_step(server, group, error);
    }
    return err;
}

/* ---- frames ---- */

static weir_err_t dispatch(weir_server_t *server, weir_frame_t *frame, weir_error_t *error) {
    const weir_frame_header_t *header = &frame->header;
    uint32_t w = header->source - server->options.first_worker_rank;
    if (header->source < server->options.first_worker_rank || w >= server->options.workers) {
        return weir_server_refuse(header, error, "comes from no worker");
    }
    if (header->payload_size != 0 && frame->payload == NULL) {
        return weir_server_refuse(header, error, "has no payload");
    }
    switch (header->type) {
    case WEIR_FRAME_PULL_REQ:
        return weir_server_on_pull(server, w, frame, error);
    case WEIR_FRAME_PUSH_REQ:
        return on_push_req(server, w, frame, error);
    case WEIR_FRAME_PEEK_REQ:
        return on_peek_req(server, w, frame, error);
    case WEIR_FRAME_CUT_REQ:
        return weir_server_on_cut(server, w, frame, error);
    default:
        return weir_server_refuse(header, error, "is nothing a server takes");
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
