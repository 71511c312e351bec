#include "ps/client.h"

#include "common/clock.h"
#include "common/trace.h"
#include "ps/client_internal.h"

#include <stdlib.h>
#include <string.h>

/* ---- lifecycle ---- */

static weir_err_t check_options(const weir_ps_client_options_t *options, weir_error_t *error) {
    if (options->ps < 1 || options->ps > WEIR_SLOT_COUNT) {
        return weir_errorf(error, WEIR_ERR_INVALID, "there must be 1 to %d servers, not %u",
                           WEIR_SLOT_COUNT, options->ps);
    }
    if (options->table_count < 1 || options->table_count > WEIR_MODEL_MAX_TABLES) {
        return weir_errorf(error, WEIR_ERR_INVALID, "a model has 1 to %d tables, not %u",
                           WEIR_MODEL_MAX_TABLES, options->table_count);
    }
    if (options->ahead > WEIR_PS_CLIENT_MAX_AHEAD) {
        return weir_errorf(error, WEIR_ERR_INVALID, "a client sends at most %d pulls ahead, not %u",
                           WEIR_PS_CLIENT_MAX_AHEAD, options->ahead);
    }
    if (!(options->timeout > 0.0)) {
        return weir_errorf(error, WEIR_ERR_INVALID, "a client needs a timeout above 0");
    }
    weir_err_t err = WEIR_OK;
    for (uint32_t k = 0; k < options->table_count && err == WEIR_OK; k++) {
        err = weir_row_schema_check(&options->tables[k], error);
    }
    return err;
}

static void init_table(weir_ps_client_table_t *table, const weir_row_schema_t *schema) {
    *table = (weir_ps_client_table_t){
        .schema = *schema, .layout = weir_row_layout(schema), .plain = true};
    for (uint32_t s = 0; s < schema->segment_count; s++) {
        table->plain = table->plain && schema->segments[s].precision == WEIR_PRECISION_F32;
    }
}

static bool init_pull(const weir_ps_client_t *client, weir_ps_client_pull_t *pull) {
    pull->answers = calloc(client->options.ps, sizeof *pull->answers);
    pull->splits = calloc(client->table_count, sizeof *pull->splits);
    bool made = pull->answers != NULL && pull->splits != NULL;
    for (uint32_t k = 0; k < client->table_count && made; k++) {
        made = weir_split_init(&pull->splits[k], client->options.ps);
    }
    return made;
}

static void fini_pull(const weir_ps_client_t *client, weir_ps_client_pull_t *pull) {
    if (pull->answers != NULL) {
        weir_ps_client_clear(client, pull);
    }
    for (uint32_t k = 0; k < client->table_count && pull->splits != NULL; k++) {
        weir_split_fini(&pull->splits[k]);
    }
    for (uint32_t k = 0; k < client->table_count; k++) {
        free(pull->places[k]);
    }
    free(pull->answers);
    free(pull->splits);
}

static bool init_client(weir_ps_client_t *client, const weir_ps_client_options_t *options) {
    client->options = *options;
    client->options.tables = NULL; /* the caller's */
    client->options.cache_rows = NULL;
    client->table_count = options->table_count;
    client->ring = options->ahead + 1;
    client->tables = calloc(client->table_count, sizeof *client->tables);
    client->pulls = calloc(client->ring, sizeof *client->pulls);
    client->peek.sent = calloc(options->ps, sizeof *client->peek.sent);
    client->peek.arrived = calloc(options->ps, sizeof *client->peek.arrived);
    bool made = client->tables != NULL && client->pulls != NULL && client->peek.sent != NULL &&
                client->peek.arrived != NULL && weir_split_init(&client->peek.split, options->ps);
    for (uint32_t k = 0; k < client->table_count && made; k++) {
        init_table(&client->tables[k], &options->tables[k]);
    }
    for (uint32_t n = 0; n < client->ring && made; n++) {
        made = init_pull(client, &client->pulls[n]);
    }
    return made;
}

static weir_err_t create_caches(weir_ps_client_t *client, const size_t *rows, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    for (uint32_t k = 0; k < client->table_count && rows != NULL && err == WEIR_OK; k++) {
        if (rows[k] > 0) {
            client->cached = true;
            err = weir_row_cache_create(&client->tables[k].schema, rows[k],
                                        &client->tables[k].cache, error);
        }
    }
    return err;
}

weir_err_t weir_ps_client_create(const weir_ps_client_options_t *options, weir_ps_client_t **client,
                                 weir_error_t *error) {
    weir_err_t err = check_options(options, error);
    if (err != WEIR_OK) {
        return err;
    }
    weir_ps_client_t *made = calloc(1, sizeof *made);
    if (made == NULL || !init_client(made, options)) {
        weir_ps_client_destroy(made);
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a client");
    }
    err = create_caches(made, options->cache_rows, error);
    if (err != WEIR_OK) {
        weir_ps_client_destroy(made);
        return err;
    }
    *client = made;
    return WEIR_OK;
}

void weir_ps_client_destroy(weir_ps_client_t *client) {
    if (client == NULL) {
        return;
    }
    for (uint32_t n = 0; n < client->ring && client->pulls != NULL; n++) {
        fini_pull(client, &client->pulls[n]);
    }
    weir_split_fini(&client->peek.split);
    free(client->peek.sent);
    free(client->peek.arrived);
    for (uint32_t k = 0; k < client->table_count && client->tables != NULL; k++) {
        weir_row_cache_destroy(client->tables[k].cache);
    }
    free(client->pulls);
    free(client->tables);
    free(client);
}

weir_ps_client_counters_t weir_ps_client_counters(const weir_ps_client_t *client) {
    return client->counters;
}

/* ---- what pulls and peeks share ---- */

weir_err_t weir_ps_client_acquire(weir_frame_t *frame, size_t size, weir_error_t *error) {
    frame->header.payload_size = size;
    frame->payload = size == 0 ? NULL : weir_buffer_acquire(size);
    if (size != 0 && frame->payload == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a frame of %zu bytes", size);
    }
    return WEIR_OK;
}

weir_err_t weir_ps_client_post(weir_ps_client_t *client, uint32_t server, weir_frame_t frame,
                               weir_error_t *error) {
    return weir_comm_thread_post(client->options.comm_thread,
                                 client->options.first_ps_rank + server, frame, error);
}

weir_err_t weir_ps_client_take(weir_ps_client_t *client, weir_frame_type_t type,
                               weir_frame_t *frame, bool *received, uint32_t *server,
                               weir_error_t *error) {
    int64_t begun = weir_trace_begin();
    double begin = weir_clock_seconds(), deadline = begin + client->options.timeout, now = begin;
    weir_err_t err;
    *received = false;
    do { /* take may also end early, woken */
        err = weir_comm_thread_take(client->options.comm_thread, 1u << type, deadline - now, frame,
                                    received, error);
        now = weir_clock_seconds();
    } while (!*received && now < deadline && err == WEIR_OK);
    client->counters.seconds_waited += now - begin;
    if (err != WEIR_OK || !*received) {
        return err;
    }
    weir_trace_end(begun,
                   type == WEIR_FRAME_PULL_REP   ? "wait pull"
                   : type == WEIR_FRAME_PEEK_REP ? "wait peek"
                                                 : "wait cut",
                   frame->header.step, frame->header.source);
    *server = frame->header.source - client->options.first_ps_rank;
    if (frame->header.source < client->options.first_ps_rank || *server >= client->options.ps) {
        weir_buffer_release(frame->payload);
        return weir_errorf(error, WEIR_ERR_PEER, "rank %u sent a %s but is no server",
                           frame->header.source, weir_frame_type_name(type));
    }
    return WEIR_OK;
}

weir_err_t weir_ps_client_report_silence(const weir_ps_client_t *client, uint32_t server,
                                         const char *what, weir_error_t *error) {
    (void)weir_errorf(error, WEIR_ERR_TIMEOUT,
                      "rank %u (server %u of %u) did not send %s within %g s",
                      client->options.first_ps_rank + server, server, client->options.ps, what,
                      client->options.timeout);
    weir_error_hint(error,
                    "another worker may be slow (a step waits for all pushes), or the rank is "
                    "stuck; cluster.timeout sets the limit");
    return WEIR_ERR_TIMEOUT;
}
