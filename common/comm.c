#include "common/comm.h"

#include "common/clock.h"

#define PATIENCE 30.0

static weir_err_t make_order(weir_comm_t *comm, weir_error_t *error) {
    double patience = comm->patience > 0.0 ? comm->patience : PATIENCE;
    return comm->order != NULL ? WEIR_OK
                               : weir_frame_order_create(comm->size, patience, &comm->order, error);
}

weir_err_t weir_comm_send(weir_comm_t *comm, weir_rank_t to, weir_frame_t frame,
                          weir_error_t *error) {
    if (frame.header.payload_size == 0) {
        weir_buffer_release(frame.payload);
        frame.payload = NULL;
    }
    if (to >= comm->size || to == comm->rank ||
        frame.header.payload_size > WEIR_FRAME_MAX_PAYLOAD ||
        (frame.header.payload_size > 0 && frame.payload == NULL)) {
        weir_buffer_release(frame.payload);
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "a frame of %llu bytes from rank %u to rank %u of %u cannot be sent",
                           (unsigned long long)frame.header.payload_size, comm->rank, to,
                           comm->size);
    }
    weir_err_t err = make_order(comm, error);
    if (err != WEIR_OK) {
        weir_buffer_release(frame.payload);
        return err;
    }
    frame.header.source = comm->rank;
    frame.header.job = comm->job;
    frame.header.number = weir_frame_order_number(comm->order, to);
    return comm->operations->send(comm, to, frame, error);
}

weir_err_t weir_comm_poll(weir_comm_t *comm, weir_frame_t *frame, bool *received, bool *progressed,
                          weir_error_t *error) {
    bool came = false;
    *received = false;
    *progressed = false;
    weir_err_t err = make_order(comm, error);
    if (err == WEIR_OK) {
        err = comm->operations->poll(comm, frame, &came, progressed, error);
    }
    if (err == WEIR_OK && came && weir_frame_order_pass(comm->order, frame)) {
        *received = true;
        return WEIR_OK;
    }
    if (err == WEIR_OK && came) {
        err = weir_frame_order_take(comm->order, *frame, weir_clock_seconds(), error);
    }
    if (err == WEIR_OK && frame != NULL) {
        *received = weir_frame_order_next(comm->order, frame);
    }
    if (err == WEIR_OK && !*received) {
        err = weir_frame_order_check(comm->order, weir_clock_seconds(), error);
    }
    return err;
}

bool weir_comm_idle(const weir_comm_t *comm) {
    return comm->operations->idle(comm);
}

bool weir_comm_receiving(const weir_comm_t *comm) {
    return comm->operations->receiving(comm) ||
           (comm->order != NULL && weir_frame_order_waits(comm->order));
}

void weir_comm_destroy(weir_comm_t *comm) {
    if (comm != NULL) {
        weir_frame_order_destroy(comm->order);
        comm->operations->destroy(comm);
    }
}
