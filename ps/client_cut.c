/* A cut: all servers are asked, and all have answered when it returns. */
#include "ps/client_internal.h"

#include <stdio.h>
#include <stdlib.h>

static weir_err_t take_answer(weir_ps_client_t *client, uint64_t step, bool *answered,
                              weir_error_t *error) {
    weir_frame_t frame;
    bool received;
    uint32_t server, silent = 0;
    char what[96];
    while (answered[silent]) {
        silent++;
    }
    weir_waiting_begin(client->options.waiting, WEIR_WAIT_CUT,
                       client->options.first_ps_rank + silent);
    weir_err_t err =
        weir_ps_client_take(client, WEIR_FRAME_CUT_REP, &frame, &received, &server, error);
    weir_waiting_end(client->options.waiting);
    if (err != WEIR_OK) {
        return err;
    }
    if (!received) {
        (void)snprintf(what, sizeof what, "an answer to the cut after step %llu",
                       (unsigned long long)step);
        return weir_ps_client_report_silence(client, silent, what, error);
    }
    weir_buffer_release(frame.payload);
    if (frame.header.step != step || frame.header.payload_size != 0 || answered[server]) {
        return weir_errorf(error, WEIR_ERR_PEER,
                           "rank %u answered the cut after step %llu with one after step %llu",
                           frame.header.source, (unsigned long long)step,
                           (unsigned long long)frame.header.step);
    }
    answered[server] = true;
    return WEIR_OK;
}

weir_err_t weir_ps_client_cut(weir_ps_client_t *client, weir_error_t *error) {
    uint64_t step = client->pushed_step;
    uint32_t servers = client->options.ps;
    weir_err_t err = WEIR_OK;
    bool *answered = calloc(servers, sizeof *answered);
    if (answered == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a cut");
    }
    for (uint32_t server = 0; server < servers && err == WEIR_OK; server++) {
        weir_frame_t frame = {.header = {.type = WEIR_FRAME_CUT_REQ, .step = step}};
        err = weir_ps_client_post(client, server, frame, error);
    }
    for (uint32_t i = 0; i < servers && err == WEIR_OK; i++) {
        err = take_answer(client, step, answered, error);
    }
    free(answered);
    return err;
}
