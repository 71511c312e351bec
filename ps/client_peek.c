/* Peeks: to each server one piece after the other, all servers at once. */
#include "ps/client_internal.h"

#include <stdio.h>
#include <string.h>

/* Answers to a peek stay far below a frame's cap, and short enough that pulls of other workers do
 * not wait long behind one. */
enum { PEEK_PIECE_BYTES = 4 << 20 };

/* What the caller of a peek asked for. */
typedef struct {
    uint32_t table;
    const weir_key_t *keys;
    float *values;
    uint32_t under_way; /* pieces that wait for an answer; at most one a server */
} request_t;

/* The next piece of a server's part, if any is left. */
static weir_err_t post_piece(weir_ps_client_t *client, uint32_t server, request_t *request,
                             weir_error_t *error) {
    weir_ps_client_peek_t *peek = &client->peek;
    size_t begin = peek->sent[server];
    size_t count = weir_split_count(&peek->split, server) - begin;
    size_t most = PEEK_PIECE_BYTES / client->tables[request->table].layout.value_bytes + 1;
    if (count == 0) {
        return WEIR_OK;
    }
    count = count < most ? count : most;
    weir_frame_t frame = {.header = {.type = WEIR_FRAME_PEEK_REQ,
                                     .flags = (uint16_t)request->table,
                                     .step = client->pushed_step,
                                     .sequence = peek->number,
                                     .count = (uint32_t)count}};
    weir_err_t err = weir_ps_client_acquire(&frame, count * sizeof *request->keys, error);
    if (err != WEIR_OK) {
        return err;
    }
    const uint32_t *positions = weir_split_part(&peek->split, server) + begin;
    weir_key_t *payload = frame.payload;
    for (size_t i = 0; i < count; i++) {
        payload[i] = request->keys[positions[i]];
    }
    peek->sent[server] += count;
    request->under_way++;
    return weir_ps_client_post(client, server, frame, error);
}

static weir_err_t check_piece(const weir_ps_client_t *client, const request_t *request,
                              uint32_t server, const weir_frame_header_t *header,
                              weir_error_t *error) {
    const weir_ps_client_peek_t *peek = &client->peek;
    size_t asked = peek->sent[server] - peek->arrived[server];
    size_t row = client->tables[request->table].layout.value_bytes;
    if (header->sequence != peek->number || header->flags != request->table ||
        header->count != asked || asked == 0) {
        return weir_errorf(error, WEIR_ERR_PEER,
                           "rank %u answered peek %u of table %u (%zu keys) with %u rows of peek "
                           "%u of table %u",
                           header->source, peek->number, request->table, asked, header->count,
                           header->sequence, header->flags);
    }
    if (header->step < client->pushed_step) {
        return weir_errorf(error, WEIR_ERR_PEER,
                           "rank %u answered a peek after step %llu with rows of step %llu",
                           header->source, (unsigned long long)client->pushed_step,
                           (unsigned long long)header->step);
    }
    if (header->payload_size != asked * row) {
        return weir_errorf(
            error, WEIR_ERR_PEER,
            "rank %u answered a peek with %u rows in %llu bytes, where a row has %zu",
            header->source, header->count, (unsigned long long)header->payload_size, row);
    }
    return WEIR_OK;
}

static void place_piece(weir_ps_client_t *client, const request_t *request, uint32_t server,
                        size_t count, const char *rows) {
    const weir_ps_client_table_t *table = &client->tables[request->table];
    const uint32_t *positions =
        weir_split_part(&client->peek.split, server) + client->peek.arrived[server];
    for (size_t i = 0; i < count; i++) {
        weir_ps_client_decode(table, rows, request->values, positions[i]);
        rows += table->layout.value_bytes;
    }
    client->peek.arrived[server] += count;
}

/* The first server that has not answered all that was sent; there is one. */
static uint32_t first_silent(const weir_ps_client_t *client) {
    uint32_t silent = 0;
    while (client->peek.arrived[silent] == client->peek.sent[silent]) {
        silent++;
    }
    return silent;
}

static weir_err_t report_silent_peek(const weir_ps_client_t *client, weir_error_t *error) {
    char what[96];
    uint32_t silent = first_silent(client);
    (void)snprintf(what, sizeof what, "an answer to the peek after step %llu",
                   (unsigned long long)client->pushed_step);
    return weir_ps_client_report_silence(client, silent, what, error);
}

static weir_err_t take_piece(weir_ps_client_t *client, request_t *request, weir_error_t *error) {
    weir_frame_t frame;
    bool received;
    uint32_t server;
    weir_waiting_begin(client->options.waiting, WEIR_WAIT_PEEK,
                       client->options.first_ps_rank + first_silent(client));
    weir_err_t err =
        weir_ps_client_take(client, WEIR_FRAME_PEEK_REP, &frame, &received, &server, error);
    weir_waiting_end(client->options.waiting);
    if (err != WEIR_OK) {
        return err;
    }
    if (!received) {
        return report_silent_peek(client, error);
    }
    err = check_piece(client, request, server, &frame.header, error);
    if (err == WEIR_OK) {
        place_piece(client, request, server, frame.header.count, frame.payload);
        request->under_way--;
    }
    weir_buffer_release(frame.payload);
    return err == WEIR_OK ? post_piece(client, server, request, error) : err;
}

weir_err_t weir_ps_client_peek(weir_ps_client_t *client, uint32_t table, const weir_key_t *keys,
                               size_t count, float *values, weir_error_t *error) {
    if (table >= client->table_count) {
        return weir_errorf(error, WEIR_ERR_INVALID, "there is no table %u: the model has %u", table,
                           client->table_count);
    }
    request_t request = {.table = table, .keys = keys, .values = values};
    weir_err_t err = weir_split_keys(&client->peek.split, keys, count, error);
    client->peek.number++;
    memset(client->peek.sent, 0, client->options.ps * sizeof *client->peek.sent);
    memset(client->peek.arrived, 0, client->options.ps * sizeof *client->peek.arrived);
    for (uint32_t server = 0; server < client->options.ps && err == WEIR_OK; server++) {
        err = post_piece(client, server, &request, error);
    }
    while (request.under_way > 0 && err == WEIR_OK) {
        err = take_piece(client, &request, error);
    }
    return err;
}
