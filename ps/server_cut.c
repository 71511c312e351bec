/* The moment that a checkpoint is of: every worker has pushed the step, and none goes on before all
 * servers have remembered it. */
#include "common/assert.h"
#include "ps/server_internal.h"

static weir_err_t check_cut(const weir_server_t *server, uint32_t w, const weir_frame_t *frame,
                            weir_error_t *error) {
    const weir_frame_header_t *header = &frame->header;
    const weir_server_worker_t *worker = &server->workers[w];
    if (server->options.cut == NULL) {
        return weir_server_refuse(header, error, "is nothing that this server takes");
    }
    if (header->flags != 0 || header->count != 0 || header->payload_size != 0) {
        return weir_server_refuse(header, error, "says more than its step");
    }
    if (header->step != worker->pushed_step || header->step != worker->pulled_step ||
        worker->cuts) {
        return weir_server_refuse(header, error, "is not of the step that its sender has done");
    }
    for (uint32_t other = 0; other < server->options.workers; other++) {
        if (server->workers[other].cuts && server->workers[other].pushed_step != header->step) {
            return weir_server_refuse(header, error, "is not of the step that others save");
        }
    }
    return WEIR_OK;
}

weir_err_t weir_server_on_cut(weir_server_t *server, uint32_t w, const weir_frame_t *frame,
                              weir_error_t *error) {
    weir_err_t err = check_cut(server, w, frame, error);
    if (err != WEIR_OK) {
        return err;
    }
    server->workers[w].cuts = true;
    for (uint32_t other = 0; other < server->options.workers; other++) {
        if (!server->workers[other].cuts) {
            return WEIR_OK;
        }
    }
    /* All of them have pushed it: it has been applied. */
    WEIR_ASSERT(weir_server_step(server) == frame->header.step);
    err = server->options.cut(server->options.argument, frame->header.step, error);
    for (uint32_t other = 0; other < server->options.workers && err == WEIR_OK; other++) {
        weir_frame_t reply = {.header = {.type = WEIR_FRAME_CUT_REP, .step = frame->header.step}};
        server->workers[other].cuts = false;
        err = server->options.send(server->options.argument,
                                   server->options.first_worker_rank + other, reply, error);
    }
    return err;
}
