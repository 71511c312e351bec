/* Answers to a client's pulls and peeks. This file stands in for the comm thread. An input is one
 * byte of shape (servers, pulls ahead), one that says which post fails, and calls: a byte for the
 * call, for a pull another with the numbers of keys. While the client waits, it gets frames:
 * source, flags, step, sequence, count, words (a byte each), then `words` times four bytes. */
#include "ps/client.h"
#include "tests/fuzz/target.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { TABLES = 2, MAX_PS = 3, MAX_RING = 4, MAX_KEYS = 80, MAX_DIM = 2, FIRST_STEP = 5 };
enum { FIRST_PS = 1, HEAD = 6 };

/* What was given for one pull by one server; copies. */
typedef struct {
    uint8_t *first, *last;
    size_t first_size, last_size;
} given_t;

typedef struct {
    size_t counts[TABLES];
    given_t given[MAX_PS];
} pull_t;

struct weir_comm_thread {
    const uint8_t *next, *end; /* of the input */
    uint32_t ps, ring;
    uint32_t posts_left; /* until one fails */
    uint64_t begun, finished, pushed;
    bool failed;   /* a call has: what follows need only be safe */
    bool stranger; /* a frame was given that fits nothing */
    pull_t pulls[MAX_RING];
    float values[TABLES][MAX_KEYS * MAX_DIM];
};

static void require(bool condition) {
    if (!condition) {
        abort();
    }
}

static weir_key_t key_of(uint32_t table, size_t i) {
    return i * 3 + table;
}

static uint32_t owner_of(const weir_comm_thread_t *run, weir_key_t key) {
    return weir_slot_owner(weir_slot_of_hash(weir_hash64(key)), run->ps);
}

static uint8_t take_byte(weir_comm_thread_t *run) {
    return run->next < run->end ? *run->next++ : 0;
}

/* ---- the comm thread ---- */

weir_err_t weir_comm_thread_post(weir_comm_thread_t *run, weir_rank_t to, weir_frame_t frame,
                                 weir_error_t *error) {
    const weir_frame_header_t *header = &frame.header;
    size_t counts = header->type == WEIR_FRAME_PULL_REQ && header->count > 0 ? 8 : 0;
    require(to >= FIRST_PS && to < FIRST_PS + run->ps);
    require(header->type == WEIR_FRAME_PUSH_REQ ||
            header->payload_size == counts + (size_t)header->count * sizeof(weir_key_t));
    require((header->payload_size == 0) == (frame.payload == NULL));
    weir_buffer_release(frame.payload);
    if (run->posts_left-- == 0) {
        return weir_errorf(error, WEIR_ERR_IO, "this post was to fail");
    }
    return WEIR_OK;
}

static void keep_copy(uint8_t **bytes, size_t *size, const weir_frame_t *frame) {
    free(*bytes);
    *size = (size_t)frame->header.payload_size;
    *bytes = malloc(*size + 1);
    require(*bytes != NULL);
    if (*size > 0) {
        memcpy(*bytes, frame->payload, *size);
    }
}

static void note_answer(weir_comm_thread_t *run, const weir_frame_t *frame) {
    uint64_t number = frame->header.step - FIRST_STEP;
    uint32_t server = frame->header.source - FIRST_PS;
    if (number < run->finished || number >= run->begun || server >= run->ps) {
        run->stranger = true;
        return;
    }
    given_t *given = &run->pulls[number % MAX_RING].given[server];
    run->stranger = run->stranger || given->last != NULL || frame->header.sequence != 0 ||
                    (frame->header.flags == 1 && given->first != NULL) ||
                    frame->header.flags != (given->first != NULL ? 2 : frame->header.flags & 1);
    if (frame->header.flags == 1) {
        keep_copy(&given->first, &given->first_size, frame);
    } else {
        keep_copy(&given->last, &given->last_size, frame);
    }
}

weir_err_t weir_comm_thread_take(weir_comm_thread_t *run, uint32_t types, double timeout_seconds,
                                 weir_frame_t *frame, bool *received, weir_error_t *error) {
    (void)timeout_seconds;
    (void)error;
    *received = false;
    if (run->end - run->next < HEAD || (run->end - run->next - HEAD) / 4 < run->next[5]) {
        run->next = run->end;
        return WEIR_OK;
    }
    const uint8_t *head = run->next;
    size_t size = (size_t)head[5] * 4;
    bool peek = types == 1u << WEIR_FRAME_PEEK_REP;
    *frame = (weir_frame_t){.header = {.type = peek ? WEIR_FRAME_PEEK_REP : WEIR_FRAME_PULL_REP,
                                       .source = head[0],
                                       .flags = head[1],
                                       .step = head[2],
                                       .sequence = head[3],
                                       .count = head[4],
                                       .payload_size = size}};
    if (size > 0) {
        frame->payload = weir_buffer_acquire(size);
        require(frame->payload != NULL);
        memcpy(frame->payload, head + HEAD, size);
    }
    run->next += HEAD + size;
    *received = true;
    if (!peek) {
        note_answer(run, frame);
    }
    return WEIR_OK;
}

/* ---- what must hold ---- */

/* The rows that came are those that the frames say, by a plain walk over keys and bits. */
static void check_rows(const weir_comm_thread_t *run, const pull_t *pull, uint32_t server) {
    const given_t *given = &pull->given[server];
    size_t keys = 0, bit = 0, rows[2] = {0, 0}; /* bytes taken of last and first */
    for (uint32_t k = 0; k < TABLES; k++) {
        for (size_t i = 0; i < pull->counts[k]; i++) {
            keys += owner_of(run, key_of(k, i)) == server;
        }
    }
    rows[1] = given->first != NULL ? (keys + 63) / 64 * 8 : 0;
    require(given->last != NULL);
    for (uint32_t k = 0; k < TABLES; k++) {
        size_t row = (k + 1) * sizeof(float);
        for (size_t i = 0; i < pull->counts[k]; i++) {
            if (owner_of(run, key_of(k, i)) != server) {
                continue;
            }
            bool first = given->first != NULL && (given->first[bit / 8] >> bit % 8 & 1) != 0;
            const uint8_t *bytes = first ? given->first : given->last;
            require(memcmp(bytes + rows[first], run->values[k] + i * (k + 1), row) == 0);
            rows[first] += row;
            bit++;
        }
    }
    require(rows[0] == given->last_size && rows[1] == given->first_size);
}

static void forget_pull(pull_t *pull) {
    for (uint32_t server = 0; server < MAX_PS; server++) {
        free(pull->given[server].first);
        free(pull->given[server].last);
        pull->given[server] = (given_t){.first = NULL};
    }
}

/* ---- calls ---- */

static weir_err_t begin_pull(weir_comm_thread_t *run, weir_ps_client_t *client,
                             weir_error_t *error) {
    static const size_t numbers[16] = {0, 1, 2, 3, 4, 5, 7, 9, 12, 16, 24, 32, 48, 64, 65, 80};
    weir_key_t keys[TABLES][MAX_KEYS];
    weir_ps_keys_t tables[TABLES];
    uint8_t byte = take_byte(run);
    bool full = run->begun - run->pushed == run->ring;
    uint64_t number = run->begun;
    for (uint32_t k = 0; k < TABLES; k++) {
        size_t count = numbers[byte >> (4 * k) & 15];
        for (size_t i = 0; i < count; i++) {
            keys[k][i] = key_of(k, i);
        }
        tables[k] = (weir_ps_keys_t){keys[k], count};
    }
    weir_err_t err = weir_ps_client_pull_begin(client, FIRST_STEP + number, tables, error);
    require(run->failed || (err == WEIR_ERR_INVALID) == full);
    if (err == WEIR_OK) {
        run->begun++;
        for (uint32_t k = 0; k < TABLES; k++) {
            run->pulls[number % MAX_RING].counts[k] = tables[k].count;
        }
    }
    return err == WEIR_ERR_INVALID ? WEIR_OK : err;
}

static weir_err_t finish_pull(weir_comm_thread_t *run, weir_ps_client_t *client,
                              weir_error_t *error) {
    float *values[TABLES] = {run->values[0], run->values[1]};
    pull_t *pull = &run->pulls[run->finished % MAX_RING];
    weir_err_t err = weir_ps_client_pull_finish(client, values, error);
    if (!run->failed) {
        require((err == WEIR_ERR_INVALID) == (run->finished == run->begun));
        require(err != WEIR_OK || !run->stranger);
    }
    for (uint32_t server = 0; server < run->ps && err == WEIR_OK && !run->failed; server++) {
        check_rows(run, pull, server);
    }
    if (err == WEIR_OK) {
        forget_pull(pull);
        run->finished++;
    }
    return err == WEIR_ERR_INVALID ? WEIR_OK : err;
}

static weir_err_t push_rows(weir_comm_thread_t *run, weir_ps_client_t *client,
                            weir_error_t *error) {
    const float *gradients[TABLES] = {run->values[0], run->values[1]};
    weir_err_t err = weir_ps_client_push(client, gradients, error);
    require(run->failed || (err == WEIR_ERR_INVALID) == (run->pushed == run->finished));
    run->pushed += err == WEIR_OK;
    return err == WEIR_ERR_INVALID ? WEIR_OK : err;
}

static weir_err_t peek_rows(weir_comm_thread_t *run, weir_ps_client_t *client,
                            weir_error_t *error) {
    weir_key_t keys[16];
    uint8_t byte = take_byte(run);
    for (size_t i = 0; i < 16; i++) {
        keys[i] = key_of(0, i / 2);
    }
    uint32_t table = byte >> 4 & 3;
    weir_err_t err =
        weir_ps_client_peek(client, table, keys, byte & 15, run->values[table & 1], error);
    require((err == WEIR_ERR_INVALID) == (table >= TABLES));
    return err == WEIR_ERR_INVALID ? WEIR_OK : err;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static weir_err_t (*const calls[4])(weir_comm_thread_t *, weir_ps_client_t *,
                                        weir_error_t *) = {begin_pull, finish_pull, push_rows,
                                                           peek_rows};
    static weir_comm_thread_t run;
    weir_row_schema_t tables[TABLES] = {{.name = "one"}, {.name = "two"}};
    weir_ps_client_t *client = NULL;
    run = (weir_comm_thread_t){.next = bytes, .end = bytes + size};
    uint8_t shape = take_byte(&run);
    run.ps = (shape & 3u) % MAX_PS + 1;
    run.ring = (shape >> 2) % 4u + 1;
    run.posts_left = take_byte(&run);
    for (uint32_t k = 0; k < TABLES; k++) {
        tables[k].segment_count = 1;
        tables[k].segments[0].dim = k + 1;
    }
    weir_ps_client_options_t options = {.comm_thread = &run,
                                        .first_ps_rank = FIRST_PS,
                                        .ps = run.ps,
                                        .tables = tables,
                                        .table_count = TABLES,
                                        .ahead = run.ring - 1,
                                        .timeout = 1e-9};
    require(weir_ps_client_create(&options, &client, NULL) == WEIR_OK);
    while (run.next < run.end) {
        weir_error_t error = {0};
        weir_err_t err = calls[take_byte(&run) & 3](&run, client, &error);
        require(err == WEIR_OK || error.message[0] != '\0');
        run.failed = run.failed || err != WEIR_OK;
    }
    weir_ps_client_destroy(client);
    for (uint32_t n = 0; n < MAX_RING; n++) {
        forget_pull(&run.pulls[n]);
    }
    return 0;
}
