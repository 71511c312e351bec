/* Frames of two workers (ranks 1 and 2) and of strangers to a server that owns every slot. An input
 * is frames one after the other: type, source, step, count, words (one byte each), then `words`
 * times four bytes of payload. */
#include "ps/server.h"
#include "tests/fuzz/target.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIM = 2, FIRST_WORKER = 1, WORKERS = 2, HEAD = 5 };

/* An answer goes to a worker and is as long as it says. */
static weir_err_t check_answer(void *argument, weir_rank_t to, weir_frame_t frame,
                               weir_error_t *error) {
    uint64_t *rows = argument;
    (void)error;
    if (to < FIRST_WORKER || to >= FIRST_WORKER + WORKERS ||
        frame.header.payload_size != (uint64_t)frame.header.count * DIM * sizeof(float)) {
        abort();
    }
    *rows += frame.header.count;
    weir_buffer_release(frame.payload);
    return WEIR_OK;
}

/* The frame at `bytes`; false when it is cut off. */
static bool next_frame(const uint8_t **bytes, size_t *size, weir_frame_t *frame) {
    if (*size < HEAD || *size - HEAD < (size_t)(*bytes)[4] * 4) {
        return false;
    }
    const uint8_t *head = *bytes;
    size_t payload = (size_t)head[4] * 4;
    *frame = (weir_frame_t){.header = {.type = head[0],
                                       .source = head[1],
                                       .step = head[2],
                                       .count = head[3],
                                       .payload_size = payload}};
    if (payload > 0) {
        frame->payload = weir_buffer_acquire(payload);
        if (frame->payload == NULL) {
            abort();
        }
        memcpy(frame->payload, head + HEAD, payload);
    }
    *bytes += HEAD + payload;
    *size -= HEAD + payload;
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    const weir_table_options_t item = {
        .row = {.name = "item",
                .segment_count = 1,
                .segments = {{.dim = DIM,
                              .initial_scale = 0.02,
                              .optimizer = {.kind = WEIR_OPTIMIZER_ADAGRAD,
                                            .learning_rate = 0.1,
                                            .epsilon = 1e-8}}}}};
    weir_table_options_t user = item;
    (void)snprintf(user.row.name, sizeof user.row.name, "user");
    user.row.table_id = 1;
    uint64_t rows = 0;
    const weir_server_options_t options = {.ps = 1,
                                           .first_worker_rank = FIRST_WORKER,
                                           .workers = WORKERS,
                                           .send = check_answer,
                                           .argument = &rows};
    weir_table_t *tables[2] = {NULL, NULL};
    weir_server_t *server = NULL;
    if (weir_table_create(&item, &tables[0], NULL) != WEIR_OK ||
        weir_table_create(&user, &tables[1], NULL) != WEIR_OK ||
        weir_server_create(&options, tables, 2, &server, NULL) != WEIR_OK) {
        abort();
    }
    weir_frame_t frame;
    bool failed = false;
    while (next_frame(&bytes, &size, &frame)) {
        weir_error_t error = {0};
        uint64_t step = weir_server_step(server);
        weir_err_t err = weir_server_handle(server, frame, &error);
        if ((failed && err == WEIR_OK) || (err != WEIR_OK && error.message[0] == '\0') ||
            weir_server_step(server) < step || weir_server_step(server) > step + 1) {
            abort();
        }
        failed = err != WEIR_OK;
    }
    weir_server_counters_t counters = weir_server_counters(server);
    if (counters.keys_pulled + counters.keys_peeked < rows ||
        weir_table_stats(tables[0]).rows > UINT8_MAX * 1000u) {
        abort();
    }
    weir_server_destroy(server);
    weir_table_destroy(tables[0]);
    weir_table_destroy(tables[1]);
    return 0;
}
