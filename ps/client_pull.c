/* Pulls and pushes: one frame a server with all tables. */
#include "ps/client_internal.h"

#include <stdio.h>
#include <string.h>

/* The payload of a pull_req begins with the number of keys of each table. */
static size_t counts_bytes(const weir_ps_client_t *client) {
    return (client->table_count * sizeof(uint32_t) + 7) / 8 * 8;
}

static size_t gradient_bytes(const weir_ps_client_t *client, const weir_ps_client_pull_t *pull,
                             uint32_t server) {
    size_t bytes = 0;
    for (uint32_t k = 0; k < client->table_count; k++) {
        bytes += weir_split_count(&pull->splits[k], server) * client->tables[k].layout.dim *
                 sizeof(float);
    }
    return bytes;
}

/* All rows of a server's part as copies. */
static size_t copies_bytes(const weir_ps_client_t *client, const weir_ps_client_pull_t *pull,
                           uint32_t server) {
    size_t bytes = 0;
    for (uint32_t k = 0; k < client->table_count; k++) {
        bytes += weir_split_count(&pull->splits[k], server) *
                 weir_ps_client_copy_bytes(&client->tables[k]);
    }
    return bytes;
}

/* ---- begin ---- */

/* Every frame of the pull must fit: the request, its answers and the push. */
static weir_err_t check_sizes(const weir_ps_client_t *client, const weir_ps_client_pull_t *pull,
                              weir_error_t *error) {
    for (uint32_t server = 0; server < client->options.ps; server++) {
        size_t count, bytes = weir_ps_client_rows(client, pull, server, &count);
        size_t bits = (count + 63) / 64 * sizeof(uint64_t);
        if (client->cached) {
            bits = 2 * weir_ps_client_held_bytes(count);
            bytes = copies_bytes(client, pull, server);
        }
        size_t gradients = gradient_bytes(client, pull, server);
        size_t request = counts_bytes(client) + count * sizeof(weir_key_t) + bits;
        size_t most = bits + bytes > gradients ? bits + bytes : gradients;
        most = request > most ? request : most;
        if (most > WEIR_FRAME_MAX_PAYLOAD) {
            return weir_errorf(error, WEIR_ERR_INVALID,
                               "a pull of %zu rows from one server (%zu bytes, %zu of gradients) "
                               "is more than a frame holds",
                               count, bytes, gradients);
        }
    }
    return WEIR_OK;
}

static weir_err_t check_turn(const weir_ps_client_t *client, uint64_t step, weir_error_t *error) {
    if (client->begun - client->pushed == client->ring) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "%u pulls are under way: that of step %llu has to be pushed first",
                           client->ring,
                           (unsigned long long)(client->last_step - client->ring + 1));
    }
    if (step == 0 || (client->begun > 0 && step != client->last_step + 1)) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "the pull of step %llu cannot follow that of %llu",
                           (unsigned long long)step, (unsigned long long)client->last_step);
    }
    return WEIR_OK;
}

static weir_err_t post_pull(weir_ps_client_t *client, const weir_ps_client_pull_t *pull,
                            uint32_t server, const weir_ps_keys_t *keys, weir_error_t *error) {
    size_t count;
    (void)weir_ps_client_rows(client, pull, server, &count);
    weir_frame_t frame = {
        .header = {.type = WEIR_FRAME_PULL_REQ, .step = pull->step, .count = (uint32_t)count}};
    bool cached = client->cached && count > 0;
    size_t keys_end = counts_bytes(client) + count * sizeof(weir_key_t);
    size_t bytes = keys_end + (cached ? weir_ps_client_held_bytes(count) : 0);
    frame.header.flags = cached ? WEIR_PULL_REQ_CACHED : WEIR_PULL_REQ_PLAIN;
    weir_err_t err = weir_ps_client_acquire(&frame, count == 0 ? 0 : bytes, error);
    if (err != WEIR_OK) {
        return err;
    }
    if (count > 0) {
        memset(frame.payload, 0, counts_bytes(client));
        uint32_t *counts = frame.payload;
        weir_key_t *next = (weir_key_t *)frame.payload + counts_bytes(client) / sizeof *next;
        for (uint32_t k = 0; k < client->table_count; k++) {
            const uint32_t *positions = weir_split_part(&pull->splits[k], server);
            counts[k] = (uint32_t)weir_split_count(&pull->splits[k], server);
            for (uint32_t i = 0; i < counts[k]; i++) {
                *next++ = keys[k].keys[positions[i]];
            }
        }
    }
    if (cached) {
        weir_ps_client_write_held(client, pull, server, count,
                                  (void *)((char *)frame.payload + keys_end));
    }
    return weir_ps_client_post(client, server, frame, error);
}

weir_err_t weir_ps_client_pull_begin(weir_ps_client_t *client, uint64_t step,
                                     const weir_ps_keys_t *keys, weir_error_t *error) {
    weir_ps_client_pull_t *pull = weir_ps_client_pull_of(client, client->begun);
    weir_err_t err = check_turn(client, step, error);
    size_t count = 0;
    for (uint32_t k = 0; k < client->table_count && err == WEIR_OK; k++) {
        err = weir_split_keys(&pull->splits[k], keys[k].keys, keys[k].count, error);
        count += keys[k].count;
    }
    if (err == WEIR_OK) {
        err = check_sizes(client, pull, error);
    }
    if (err == WEIR_OK) {
        err = weir_ps_client_pin_rows(client, pull, keys, error);
    }
    if (err != WEIR_OK) {
        return err;
    }
    pull->step = step;
    pull->left = client->options.ps;
    client->begun++;
    client->last_step = step;
    for (uint32_t server = 0; server < client->options.ps && err == WEIR_OK; server++) {
        err = post_pull(client, pull, server, keys, error);
    }
    client->counters.keys_pulled += err == WEIR_OK ? count : 0;
    return err;
}

/* ---- finish ---- */

/* The first server that has not answered all of the pull; there is one. */
static uint32_t first_silent(const weir_ps_client_pull_t *pull) {
    uint32_t silent = 0;
    while (pull->answers[silent].done) {
        silent++;
    }
    return silent;
}

static weir_err_t report_silent_pull(const weir_ps_client_t *client,
                                     const weir_ps_client_pull_t *pull, weir_error_t *error) {
    char what[96];
    uint32_t silent = first_silent(pull);
    (void)snprintf(what, sizeof what, "%s to the pull of step %llu",
                   pull->answers[silent].has_first ? "the rest of its answer" : "an answer",
                   (unsigned long long)pull->step);
    return weir_ps_client_report_silence(client, silent, what, error);
}

/* Take one answer, to this pull or to a younger one, whose rows then wait in their frame. */
static weir_err_t take_answer(weir_ps_client_t *client, weir_ps_client_pull_t *pull,
                              float *const *values, weir_error_t *error) {
    weir_frame_t frame;
    bool received;
    uint32_t server;
    uint64_t number;
    weir_waiting_begin(client->options.waiting, WEIR_WAIT_PULL,
                       client->options.first_ps_rank + first_silent(pull));
    weir_err_t err =
        weir_ps_client_take(client, WEIR_FRAME_PULL_REP, &frame, &received, &server, error);
    weir_waiting_end(client->options.waiting);
    if (err == WEIR_OK && !received) {
        return report_silent_pull(client, pull, error);
    }
    if (err == WEIR_OK) {
        err = weir_ps_client_accept(client, server, &frame, &number, error);
    }
    if (err == WEIR_OK && number == client->finished) {
        err = weir_ps_client_place(client, pull, server, values, error);
    }
    return err;
}

weir_err_t weir_ps_client_pull_finish(weir_ps_client_t *client, float *const *values,
                                      weir_error_t *error) {
    if (client->finished == client->begun) {
        return weir_errorf(error, WEIR_ERR_INVALID, "no pull is under way");
    }
    weir_ps_client_pull_t *pull = weir_ps_client_pull_of(client, client->finished);
    if (client->cached && client->pushed != client->finished) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "with copies of rows a pull is finished after the push before it");
    }
    weir_err_t err = WEIR_OK;
    for (uint32_t server = 0; server < client->options.ps && err == WEIR_OK; server++) {
        err = weir_ps_client_place(client, pull, server, values, error);
    }
    while (pull->left > 0 && err == WEIR_OK) {
        err = take_answer(client, pull, values, error);
    }
    if (err != WEIR_OK) {
        return err;
    }
    weir_ps_client_clear(client, pull);
    client->finished++;
    return WEIR_OK;
}

/* ---- push ---- */

static weir_err_t post_push(weir_ps_client_t *client, const weir_ps_client_pull_t *pull,
                            uint32_t server, const float *const *gradients, weir_error_t *error) {
    size_t count, bytes = gradient_bytes(client, pull, server);
    (void)weir_ps_client_rows(client, pull, server, &count);
    weir_frame_t frame = {
        .header = {.type = WEIR_FRAME_PUSH_REQ, .step = pull->step, .count = (uint32_t)count}};
    weir_err_t err = weir_ps_client_acquire(&frame, bytes, error);
    if (err != WEIR_OK) {
        return err;
    }
    float *next = frame.payload;
    for (uint32_t k = 0; k < client->table_count; k++) {
        size_t dim = client->tables[k].layout.dim;
        const uint32_t *positions = weir_split_part(&pull->splits[k], server);
        size_t rows = weir_split_count(&pull->splits[k], server);
        for (size_t i = 0; i < rows; i++, next += dim) {
            memcpy(next, gradients[k] + positions[i] * dim, dim * sizeof *next);
        }
    }
    err = weir_ps_client_post(client, server, frame, error);
    client->counters.bytes_pushed += err == WEIR_OK ? bytes : 0;
    return err;
}

weir_err_t weir_ps_client_push(weir_ps_client_t *client, const float *const *gradients,
                               weir_error_t *error) {
    if (client->pushed == client->finished) {
        return weir_errorf(error, WEIR_ERR_INVALID, "a push follows a finished pull");
    }
    const weir_ps_client_pull_t *pull = weir_ps_client_pull_of(client, client->pushed);
    weir_err_t err = WEIR_OK;
    client->pushed++;
    client->pushed_step = pull->step;
    for (uint32_t server = 0; server < client->options.ps && err == WEIR_OK; server++) {
        err = post_push(client, pull, server, gradients, error);
    }
    if (client->cached) {
        weir_ps_client_follow(client, pull, gradients);
    }
    return err;
}
