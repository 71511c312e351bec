#include "ps/client.h"

#include "common/clock.h"
#include "ps/split.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Answers to a peek stay far below a frame's cap, and short enough that pulls of other workers do
 * not wait long behind one. */
enum { PEEK_PIECE_BYTES = 4 << 20 };

typedef enum {
    IDLE,    /* pull_begin is next */
    PULLING, /* pull_finish is next */
    PULLED   /* push is next */
} phase_t;

struct weir_ps_client {
    weir_ps_client_options_t options;
    weir_row_schema_t schema;
    weir_row_layout_t layout;
    uint64_t **first; /* ps of them: bits of the rows that came ahead; NULL: none */
    phase_t phase;
    uint64_t step;        /* of the last pull */
    uint64_t pushed_step; /* of the last push; 0: none */
    uint32_t peeks;       /* calls of peek; numbers their frames */
    weir_split_t pull, peek;
    bool *answered;  /* ps of them, by server */
    size_t *sent;    /* ps of them: keys of the peek that were asked for */
    size_t *arrived; /* ps of them: keys of the peek that were answered */
    weir_ps_client_counters_t counters;
};

weir_err_t weir_ps_client_create(const weir_ps_client_options_t *options, weir_ps_client_t **client,
                                 weir_error_t *error) {
    if (options->ps < 1 || options->ps > WEIR_SLOT_COUNT) {
        return weir_errorf(error, WEIR_ERR_INVALID, "there must be 1 to %d servers, not %u",
                           WEIR_SLOT_COUNT, options->ps);
    }
    if (options->table_count != 1 || !(options->timeout > 0.0)) {
        return weir_errorf(error, WEIR_ERR_INVALID, "a client needs a table and a timeout above 0");
    }
    weir_ps_client_t *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a client");
    }
    made->options = *options;
    made->schema = options->tables[0];
    made->options.tables = &made->schema;
    made->layout = weir_row_layout(&made->schema);
    made->first = calloc(options->ps, sizeof *made->first);
    made->answered = calloc(options->ps, sizeof *made->answered);
    made->sent = calloc(options->ps, sizeof *made->sent);
    made->arrived = calloc(options->ps, sizeof *made->arrived);
    if (made->first == NULL || made->answered == NULL || made->sent == NULL ||
        made->arrived == NULL || !weir_split_init(&made->pull, options->ps) ||
        !weir_split_init(&made->peek, options->ps)) {
        weir_ps_client_destroy(made);
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a client");
    }
    *client = made;
    return WEIR_OK;
}

void weir_ps_client_destroy(weir_ps_client_t *client) {
    if (client == NULL) {
        return;
    }
    weir_split_fini(&client->pull);
    weir_split_fini(&client->peek);
    for (uint32_t s = 0; client->first != NULL && s < client->options.ps; s++) {
        free(client->first[s]);
    }
    free(client->first);
    free(client->answered);
    free(client->sent);
    free(client->arrived);
    free(client);
}

weir_ps_client_counters_t weir_ps_client_counters(const weir_ps_client_t *client) {
    return client->counters;
}

static size_t row_bytes(const weir_ps_client_t *client) {
    return client->layout.value_bytes;
}

/* ---- sending ---- */

static weir_err_t acquire_payload(weir_frame_t *frame, size_t size, weir_error_t *error) {
    frame->header.payload_size = size;
    frame->payload = size == 0 ? NULL : weir_buffer_acquire(size);
    if (size != 0 && frame->payload == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a frame of %zu bytes", size);
    }
    return WEIR_OK;
}

static weir_err_t post(weir_ps_client_t *client, uint32_t server, weir_frame_t frame,
                       weir_error_t *error) {
    return weir_comm_thread_post(client->options.comm_thread,
                                 client->options.first_ps_rank + server, frame, error);
}

/* Keys begin .. begin + count - 1 of a server's part. */
static weir_err_t post_keys(weir_ps_client_t *client, const weir_split_t *split, uint32_t server,
                            const weir_key_t *keys, size_t begin, weir_frame_t frame,
                            weir_error_t *error) {
    size_t count = frame.header.count, head = 0;
    if (frame.header.type == WEIR_FRAME_PULL_REQ && count > 0) {
        head = 1;
    }
    weir_err_t err = acquire_payload(&frame, (head + count) * sizeof *keys, error);
    if (err != WEIR_OK) {
        return err;
    }
    const uint32_t *positions = weir_split_part(split, server) + begin;
    weir_key_t *payload = frame.payload;
    if (head == 1) {
        *payload++ = count;
    }
    for (size_t i = 0; i < count; i++) {
        payload[i] = keys[positions[i]];
    }
    return post(client, server, frame, error);
}

weir_err_t weir_ps_client_pull_begin(weir_ps_client_t *client, uint64_t step,
                                     const weir_ps_keys_t *tables, weir_error_t *error) {
    const weir_key_t *keys = tables[0].keys;
    size_t count = tables[0].count;
    if (client->phase != IDLE) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "the pull of step %llu has not been finished and pushed",
                           (unsigned long long)client->step);
    }
    weir_err_t err = weir_split_keys(&client->pull, keys, count, error);
    if (err != WEIR_OK) {
        return err;
    }
    for (uint32_t server = 0; server < client->options.ps; server++) {
        if (weir_split_count(&client->pull, server) > WEIR_FRAME_MAX_PAYLOAD / row_bytes(client)) {
            return weir_errorf(error, WEIR_ERR_INVALID,
                               "a pull of %zu rows of %zu bytes from one server is more than a "
                               "frame holds",
                               weir_split_count(&client->pull, server), row_bytes(client));
        }
    }
    client->step = step;
    client->phase = PULLING;
    memset(client->answered, 0, client->options.ps * sizeof *client->answered);
    for (uint32_t server = 0; server < client->options.ps && err == WEIR_OK; server++) {
        weir_frame_t frame = {
            .header = {.type = WEIR_FRAME_PULL_REQ,
                       .step = step,
                       .count = (uint32_t)weir_split_count(&client->pull, server)}};
        err = post_keys(client, &client->pull, server, keys, 0, frame, error);
    }
    client->counters.keys_pulled += err == WEIR_OK ? count : 0;
    return err;
}

weir_err_t weir_ps_client_push(weir_ps_client_t *client, const float *const *tables,
                               weir_error_t *error) {
    const float *gradients = tables[0];
    if (client->phase != PULLED) {
        return weir_errorf(error, WEIR_ERR_INVALID, "a push follows a finished pull");
    }
    size_t dim = client->layout.dim, bytes = dim * sizeof(float);
    client->phase = IDLE;
    client->pushed_step = client->step;
    for (uint32_t server = 0; server < client->options.ps; server++) {
        size_t count = weir_split_count(&client->pull, server);
        const uint32_t *positions = weir_split_part(&client->pull, server);
        weir_frame_t frame = {.header = {.type = WEIR_FRAME_PUSH_REQ,
                                         .step = client->step,
                                         .count = (uint32_t)count}};
        weir_err_t err = acquire_payload(&frame, count * bytes, error);
        if (err != WEIR_OK) {
            return err;
        }
        float *payload = frame.payload;
        for (size_t i = 0; i < count; i++) {
            memcpy(payload + i * dim, gradients + positions[i] * dim, bytes);
        }
        err = post(client, server, frame, error);
        if (err != WEIR_OK) {
            return err;
        }
        client->counters.bytes_pushed += count * bytes;
    }
    return WEIR_OK;
}

/* ---- receiving ---- */

static weir_err_t report_silence(const weir_ps_client_t *client, uint32_t server, const char *what,
                                 weir_error_t *error) {
    (void)weir_errorf(error, WEIR_ERR_TIMEOUT,
                      "rank %u (server %u of %u) did not answer the %s of step %llu within %g s",
                      client->options.first_ps_rank + server, server, client->options.ps, what,
                      (unsigned long long)client->step, client->options.timeout);
    weir_error_hint(error,
                    "another worker may be slow (a step waits for all pushes), or the rank is "
                    "stuck; cluster.timeout sets the limit");
    return WEIR_ERR_TIMEOUT;
}

/* The next frame of `type`; *received false: none came in time. */
static weir_err_t take_reply(weir_ps_client_t *client, weir_frame_type_t type, weir_frame_t *frame,
                             bool *received, weir_error_t *error) {
    double begin = weir_clock_seconds(), deadline = begin + client->options.timeout;
    weir_err_t err = WEIR_OK;
    *received = false;
    for (double now = begin; !*received && now < deadline && err == WEIR_OK;) {
        err = weir_comm_thread_take(client->options.comm_thread, 1u << type, deadline - now, frame,
                                    received, error);
        now = weir_clock_seconds(); /* take may also end early, woken */
    }
    client->counters.seconds_waited += weir_clock_seconds() - begin;
    return err;
}

/* The server that sent a reply of `rows` rows; an error names the sender. */
static weir_err_t check_reply(const weir_ps_client_t *client, const weir_frame_header_t *header,
                              uint32_t *server, weir_error_t *error) {
    *server = header->source - client->options.first_ps_rank;
    if (header->source < client->options.first_ps_rank || *server >= client->options.ps) {
        return weir_errorf(error, WEIR_ERR_PEER, "rank %u sent a %s but is no server",
                           header->source, weir_frame_type_name((weir_frame_type_t)header->type));
    }
    if (header->flags != 1 && header->payload_size != (uint64_t)header->count * row_bytes(client)) {
        return weir_errorf(
            error, WEIR_ERR_PEER, "rank %u sent a %s of %u rows in %llu bytes, where a row has %zu",
            header->source, weir_frame_type_name((weir_frame_type_t)header->type), header->count,
            (unsigned long long)header->payload_size, row_bytes(client));
    }
    return WEIR_OK;
}

/* Rows of a reply to their places: the caller's positions. */
static void scatter_rows(const weir_ps_client_t *client, const uint32_t *positions, size_t count,
                         const void *rows, float *values) {
    size_t dim = client->layout.dim;
    for (size_t i = 0; i < count; i++) {
        weir_row_decode(&client->schema, &client->layout,
                        (const char *)rows + i * row_bytes(client), 1, values + positions[i] * dim);
    }
}

static weir_err_t accept_pull(weir_ps_client_t *client, const weir_frame_t *frame, float *values,
                              weir_error_t *error) {
    uint32_t server;
    const weir_frame_header_t *header = &frame->header;
    weir_err_t err = check_reply(client, header, &server, error);
    if (err != WEIR_OK) {
        return err;
    }
    size_t count = weir_split_count(&client->pull, server), rows = 0;
    size_t words = header->flags == 1 ? (count + 63) / 64 : 0;
    const uint64_t *bits = header->flags == 1 ? frame->payload : client->first[server];
    bool wanted = header->flags == 1;
    if (header->payload_size < words * 8) {
        bits = NULL;
    }
    for (size_t i = 0; i < count; i++) {
        rows += header->flags == 0 || (bits != NULL && (bits[i / 64] >> i % 64 & 1) == wanted);
    }
    if (client->answered[server] || header->step != client->step || header->count != rows ||
        header->payload_size != words * 8 + rows * row_bytes(client)) {
        return weir_errorf(error, WEIR_ERR_PEER,
                           "rank %u answered the pull of step %llu (%zu keys) with %u rows of step "
                           "%llu%s",
                           header->source, (unsigned long long)client->step, count, header->count,
                           (unsigned long long)header->step,
                           client->answered[server] ? ", a second time" : "");
    }
    const char *from = (const char *)frame->payload + words * 8;
    const uint32_t *positions = weir_split_part(&client->pull, server);
    for (size_t i = 0; i < count; i++) {
        if (header->flags == 0 || (bits[i / 64] >> i % 64 & 1) == wanted) {
            scatter_rows(client, positions + i, 1, from, values);
            from += row_bytes(client);
        }
    }
    client->counters.bytes_pulled += header->payload_size;
    client->answered[server] = header->flags != 1;
    free(client->first[server]);
    client->first[server] = NULL;
    if (header->flags == 1) {
        client->counters.rows_early += rows;
        client->first[server] = malloc(words * 8);
        if (client->first[server] == NULL) {
            return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory");
        }
        memcpy(client->first[server], bits, words * 8);
    }
    return WEIR_OK;
}

static bool is_answered(const weir_ps_client_t *client) {
    for (uint32_t server = 0; server < client->options.ps; server++) {
        if (!client->answered[server]) {
            return false;
        }
    }
    return true;
}

weir_err_t weir_ps_client_pull_finish(weir_ps_client_t *client, float *const *tables,
                                      weir_error_t *error) {
    float *values = tables[0];
    if (client->phase != PULLING) {
        return weir_errorf(error, WEIR_ERR_INVALID, "no pull is under way");
    }
    while (!is_answered(client)) {
        weir_frame_t frame;
        bool received;
        weir_err_t err = take_reply(client, WEIR_FRAME_PULL_REP, &frame, &received, error);
        if (err != WEIR_OK) {
            return err;
        }
        if (!received) {
            uint32_t silent = 0;
            while (client->answered[silent]) {
                silent++;
            }
            return report_silence(client, silent, "pull", error);
        }
        err = accept_pull(client, &frame, values, error);
        weir_buffer_release(frame.payload);
        if (err != WEIR_OK) {
            return err;
        }
    }
    client->phase = PULLED;
    return WEIR_OK;
}

/* ---- peek: to each server one piece after the other, all servers at once ---- */

/* The next piece of a server's part, if any is left. */
static weir_err_t post_peek(weir_ps_client_t *client, uint32_t server, const weir_key_t *keys,
                            size_t *under_way, weir_error_t *error) {
    size_t begin = client->sent[server];
    size_t left = weir_split_count(&client->peek, server) - begin;
    size_t most = PEEK_PIECE_BYTES / row_bytes(client) + 1;
    if (left == 0) {
        return WEIR_OK;
    }
    size_t count = left < most ? left : most;
    weir_frame_t frame = {.header = {.type = WEIR_FRAME_PEEK_REQ,
                                     .step = client->pushed_step,
                                     .sequence = client->peeks,
                                     .count = (uint32_t)count}};
    client->sent[server] += count;
    ++*under_way;
    return post_keys(client, &client->peek, server, keys, begin, frame, error);
}

static weir_err_t accept_peek(weir_ps_client_t *client, const weir_frame_t *frame, float *values,
                              uint32_t *server, weir_error_t *error) {
    const weir_frame_header_t *header = &frame->header;
    weir_err_t err = check_reply(client, header, server, error);
    if (err != WEIR_OK) {
        return err;
    }
    size_t begin = client->arrived[*server];
    if (header->sequence != client->peeks || header->step < client->pushed_step ||
        header->count != client->sent[*server] - begin || header->count == 0) {
        return weir_errorf(error, WEIR_ERR_PEER,
                           "rank %u answered peek %u (%zu keys) with %u rows of peek %u",
                           header->source, client->peeks, client->sent[*server] - begin,
                           header->count, header->sequence);
    }
    client->arrived[*server] += header->count;
    scatter_rows(client, weir_split_part(&client->peek, *server) + begin, header->count,
                 frame->payload, values);
    return WEIR_OK;
}

static weir_err_t take_peeks(weir_ps_client_t *client, const weir_key_t *keys, float *values,
                             size_t under_way, weir_error_t *error) {
    while (under_way > 0) {
        weir_frame_t frame;
        bool received;
        uint32_t server = 0;
        weir_err_t err = take_reply(client, WEIR_FRAME_PEEK_REP, &frame, &received, error);
        if (err != WEIR_OK) {
            return err;
        }
        if (!received) {
            while (client->arrived[server] == client->sent[server]) {
                server++;
            }
            return report_silence(client, server, "peek", error);
        }
        err = accept_peek(client, &frame, values, &server, error);
        weir_buffer_release(frame.payload);
        under_way--;
        if (err == WEIR_OK) {
            err = post_peek(client, server, keys, &under_way, error);
        }
        if (err != WEIR_OK) {
            return err;
        }
    }
    return WEIR_OK;
}

weir_err_t weir_ps_client_peek(weir_ps_client_t *client, uint32_t table, const weir_key_t *keys,
                               size_t count, float *values, weir_error_t *error) {
    (void)table;
    size_t under_way = 0;
    weir_err_t err = weir_split_keys(&client->peek, keys, count, error);
    client->peeks++;
    memset(client->sent, 0, client->options.ps * sizeof *client->sent);
    memset(client->arrived, 0, client->options.ps * sizeof *client->arrived);
    for (uint32_t server = 0; server < client->options.ps && err == WEIR_OK; server++) {
        err = post_peek(client, server, keys, &under_way, error);
    }
    return err == WEIR_OK ? take_peeks(client, keys, values, under_way, error) : err;
}
