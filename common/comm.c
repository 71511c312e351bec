#include "common/comm.h"

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
    frame.header.source = comm->rank;
    frame.header.job = comm->job;
    return comm->operations->send(comm, to, frame, error);
}

weir_err_t weir_comm_poll(weir_comm_t *comm, weir_frame_t *frame, bool *received, bool *progressed,
                          weir_error_t *error) {
    *received = false;
    *progressed = false;
    return comm->operations->poll(comm, frame, received, progressed, error);
}

bool weir_comm_idle(const weir_comm_t *comm) {
    return comm->operations->idle(comm);
}

void weir_comm_destroy(weir_comm_t *comm) {
    if (comm != NULL) {
        comm->operations->destroy(comm);
    }
}
