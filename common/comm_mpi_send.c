/* Sending frames over MPI: a queue for each rank, in order, with a bound on what is under way. */
#include "common/comm_mpi.h"

#include <stdlib.h>
#include <string.h>

enum {
    FRAMES_IN_FLIGHT = 32, /* to one rank */
    MAX_SPARE = 64         /* weir_comm_outgoing_t kept for the next frames */
};

static weir_comm_outgoing_t *take_spare(weir_comm_mpi_t *mpi) {
    weir_comm_outgoing_t *out = mpi->spare;
    if (out == NULL) {
        return malloc(sizeof *out);
    }
    mpi->spare = out->next;
    mpi->spare_count--;
    return out;
}

static void release_outgoing(weir_comm_mpi_t *mpi, weir_comm_outgoing_t *out) {
    weir_buffer_release(out->frame.payload);
    if (mpi->spare_count < MAX_SPARE) {
        out->next = mpi->spare;
        mpi->spare = out;
        mpi->spare_count++;
    } else {
        free(out);
    }
}

weir_err_t weir_comm_mpi_send(weir_comm_t *comm, weir_rank_t to, weir_frame_t frame,
                              weir_error_t *error) {
    weir_comm_mpi_t *mpi = weir_comm_mpi_of(comm);
    weir_comm_outgoing_t *out = take_spare(mpi);
    if (out == NULL) {
        weir_buffer_release(frame.payload);
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory to send a frame");
    }
    out->next = NULL;
    out->frame = frame;
    out->pieces = (weir_comm_pieces_t){.size = 0};
    out->first_started = out->first_done = false;
    *mpi->queues[to].last = out;
    mpi->queues[to].last = &out->next;
    mpi->unsent++;
    return WEIR_OK;
}

/* Make the first message. Only now, so that the checksum of one frame is taken while those before
 * it are under way. */
static void seal_frame(weir_comm_outgoing_t *out) {
    size_t size = (size_t)out->frame.header.payload_size;
    out->frame.header.payload_checksum = weir_frame_checksum(out->frame.payload, size);
    weir_frame_encode_header(&out->frame.header, out->first);
    out->first_size = WEIR_FRAME_HEADER_SIZE;
    if (size > WEIR_FRAME_EAGER) {
        out->pieces.size = size;
    } else if (size > 0) {
        memcpy(out->first + WEIR_FRAME_HEADER_SIZE, out->frame.payload, size);
        out->first_size += (int)size;
    }
}

/* Hand MPI what may be under way of one frame. */
static weir_err_t start_frame(weir_comm_mpi_t *mpi, weir_rank_t to, weir_comm_outgoing_t *out,
                              bool *progressed, weir_error_t *error) {
    weir_comm_queue_t *queue = &mpi->queues[to];
    weir_err_t err = WEIR_OK;
    if (!out->first_started) {
        seal_frame(out);
        err = weir_comm_mpi_check(MPI_Isend(out->first, out->first_size, MPI_BYTE, (int)to,
                                            WEIR_COMM_TAG_FRAME, mpi->communicator,
                                            &out->first_request),
                                  "send", to, error);
        out->first_started = err == WEIR_OK;
        *progressed = true;
    }
    weir_comm_pieces_t *pieces = &out->pieces;
    while (err == WEIR_OK && pieces->started < pieces->size &&
           queue->pieces_in_flight < WEIR_COMM_PIECES_IN_FLIGHT) {
        err = weir_comm_mpi_check(MPI_Isend((char *)out->frame.payload + pieces->started,
                                            (int)weir_comm_piece_size(pieces, pieces->started),
                                            MPI_BYTE, (int)to, WEIR_COMM_TAG_FRAME,
                                            mpi->communicator, weir_comm_next_request(pieces)),
                                  "send", to, error);
        if (err == WEIR_OK) {
            weir_comm_count_started(pieces);
            queue->pieces_in_flight++;
            *progressed = true;
        }
    }
    return err;
}

static weir_err_t test_frame(weir_comm_mpi_t *mpi, weir_rank_t to, weir_comm_outgoing_t *out,
                             bool *progressed, weir_error_t *error) {
    int flag = 0;
    weir_err_t err = WEIR_OK;
    if (!out->first_done) {
        err = weir_comm_mpi_check(MPI_Test(&out->first_request, &flag, MPI_STATUS_IGNORE), "send",
                                  to, error);
        out->first_done = flag != 0;
        *progressed = *progressed || flag != 0;
    }
    while (err == WEIR_OK && out->pieces.count > 0) {
        flag = 0;
        err = weir_comm_mpi_check(
            MPI_Test(&out->pieces.requests[out->pieces.oldest], &flag, MPI_STATUS_IGNORE), "send",
            to, error);
        if (err != WEIR_OK || flag == 0) {
            break;
        }
        weir_comm_count_done(&out->pieces);
        mpi->queues[to].pieces_in_flight--;
        *progressed = true;
    }
    return err;
}

/* Drive the frames to one rank: let go of what has left, then start more, in order. */
static weir_err_t drive_queue(weir_comm_mpi_t *mpi, weir_rank_t to, bool *progressed,
                              weir_error_t *error) {
    weir_comm_queue_t *queue = &mpi->queues[to];
    weir_err_t err = WEIR_OK;
    while (queue->first != NULL && queue->first->first_started) {
        weir_comm_outgoing_t *out = queue->first;
        err = test_frame(mpi, to, out, progressed, error);
        if (err != WEIR_OK || !out->first_done || out->pieces.done < out->pieces.size) {
            break;
        }
        queue->first = out->next;
        if (queue->first == NULL) {
            queue->last = &queue->first;
        }
        release_outgoing(mpi, out);
        mpi->unsent--;
    }
    int frames = 0;
    for (weir_comm_outgoing_t *out = queue->first; out != NULL && err == WEIR_OK; out = out->next) {
        err = start_frame(mpi, to, out, progressed, error);
        /* The next frame's header must not overtake this one's pieces. */
        if (out->pieces.started < out->pieces.size || ++frames >= FRAMES_IN_FLIGHT) {
            break;
        }
    }
    return err;
}

weir_err_t weir_comm_mpi_drive_sends(weir_comm_mpi_t *mpi, bool *progressed, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    for (weir_rank_t to = 0; to < mpi->base.size && mpi->unsent > 0 && err == WEIR_OK; to++) {
        if (mpi->queues[to].first != NULL) {
            err = drive_queue(mpi, to, progressed, error);
        }
    }
    return err;
}

void weir_comm_mpi_drop_sends(weir_comm_mpi_t *mpi) {
    for (weir_rank_t to = 0; to < mpi->base.size; to++) {
        weir_comm_outgoing_t *next = NULL;
        for (weir_comm_outgoing_t *out = mpi->queues[to].first; out != NULL; out = next) {
            next = out->next;
            if (!out->first_started) {
                weir_buffer_release(out->frame.payload);
                free(out);
            }
        }
    }
    while (mpi->spare != NULL) {
        free(take_spare(mpi));
    }
}
