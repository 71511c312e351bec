/* Receiving frames over MPI: checked before they are allocated for, in pieces, from the ranks in
 * turn. */
#include "common/comm_mpi.h"
#include "common/hash.h"

#include <string.h>

static weir_err_t check_payload(const weir_frame_t *frame, uint64_t checksum, weir_error_t *error) {
    if (checksum != frame->header.payload_checksum) {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "a %s frame from rank %u fails its checksum",
                           weir_frame_type_name((weir_frame_type_t)frame->header.type),
                           frame->header.source);
    }
    return WEIR_OK;
}

/* A first message of a frame has been matched: check it, take over a payload that rides with it. */
static weir_err_t open_frame(weir_comm_mpi_t *mpi, const uint8_t *bytes, size_t size,
                             weir_rank_t source, weir_frame_t *frame, bool *whole,
                             weir_error_t *error) {
    weir_frame_header_t header;
    weir_err_t err = weir_frame_decode_header(bytes, size, mpi->base.job, &header, error);
    if (err == WEIR_OK && header.source != source) {
        err = weir_errorf(error, WEIR_ERR_PEER, "a frame says that it is from rank %u",
                          header.source);
    }
    bool eager = err == WEIR_OK && header.payload_size <= WEIR_FRAME_EAGER;
    if (err == WEIR_OK &&
        size != WEIR_FRAME_HEADER_SIZE + (eager ? (size_t)header.payload_size : 0)) {
        err = weir_errorf(error, WEIR_ERR_CORRUPT,
                          "a frame of %llu bytes of payload comes in a message of %zu",
                          (unsigned long long)header.payload_size, size);
    }
    if (err != WEIR_OK) {
        weir_error_prefix(error, "from rank %u", source);
        return err;
    }
    *frame = (weir_frame_t){.header = header};
    *whole = eager;
    if (header.payload_size > 0) {
        frame->payload = weir_buffer_acquire((size_t)header.payload_size);
        if (frame->payload == NULL) {
            return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for a frame of %llu bytes",
                               (unsigned long long)header.payload_size);
        }
    }
    if (eager && header.payload_size > 0) {
        memcpy(frame->payload, bytes + WEIR_FRAME_HEADER_SIZE, (size_t)header.payload_size);
    }
    return WEIR_OK;
}

/* Look for the first message of a frame from a rank that has none under way. */
static weir_err_t probe_source(weir_comm_mpi_t *mpi, weir_rank_t source, weir_frame_t *frame,
                               bool *received, bool *progressed, weir_error_t *error) {
    uint8_t bytes[WEIR_FRAME_HEADER_SIZE + WEIR_FRAME_EAGER];
    int flag = 0, size = 0;
    MPI_Message message;
    MPI_Status status;
    weir_err_t err = weir_comm_mpi_check(
        MPI_Improbe((int)source, WEIR_COMM_TAG_FRAME, mpi->communicator, &flag, &message, &status),
        "probe", source, error);
    if (err != WEIR_OK || flag == 0) {
        return err;
    }
    *progressed = true;
    (void)MPI_Get_count(&status, MPI_BYTE, &size);
    if (size < 0 || (size_t)size > sizeof bytes) {
        return weir_errorf(error, WEIR_ERR_CORRUPT,
                           "from rank %u: a message of %d bytes where a frame begins", source,
                           size);
    }
    err = weir_comm_mpi_check(MPI_Mrecv(bytes, size, MPI_BYTE, &message, MPI_STATUS_IGNORE),
                              "receive", source, error);
    if (err != WEIR_OK) {
        return err;
    }
    bool whole = false;
    weir_frame_t opened;
    err = open_frame(mpi, bytes, (size_t)size, source, &opened, &whole, error);
    if (err != WEIR_OK) {
        return err;
    }
    if (!whole) {
        mpi->incoming[source] = (weir_comm_incoming_t){
            .active = true, .frame = opened, .pieces.size = (size_t)opened.header.payload_size};
        mpi->receiving++;
        return WEIR_OK;
    }
    err = check_payload(
        &opened, weir_frame_checksum(opened.payload, (size_t)opened.header.payload_size), error);
    if (err != WEIR_OK) {
        weir_buffer_release(opened.payload);
        return err;
    }
    *frame = opened;
    *received = true;
    return WEIR_OK;
}

/* Forget the frame that comes from one rank. A receive that MPI does not give back at once may
 * still be written to, so that its buffer is lost rather than released. */
static void drop_incoming(weir_comm_mpi_t *mpi, weir_rank_t source) {
    weir_comm_incoming_t *in = &mpi->incoming[source];
    bool returned = true;
    for (; in->pieces.count > 0; weir_comm_count_done(&in->pieces)) {
        MPI_Request *request = &in->pieces.requests[in->pieces.oldest];
        int flag = 0;
        (void)MPI_Cancel(request);
        for (int i = 0; i < 1000 && flag == 0; i++) {
            if (MPI_Test(request, &flag, MPI_STATUS_IGNORE) != MPI_SUCCESS) {
                break; /* the request is over, with an error */
            }
        }
        returned = returned && *request == MPI_REQUEST_NULL;
    }
    if (returned) {
        weir_buffer_release(in->frame.payload);
    }
    in->active = false;
    mpi->receiving--;
}

static weir_err_t start_pieces(weir_comm_mpi_t *mpi, weir_rank_t source, bool *progressed,
                               weir_error_t *error) {
    char *payload = mpi->incoming[source].frame.payload;
    weir_comm_pieces_t *pieces = &mpi->incoming[source].pieces;
    weir_err_t err = WEIR_OK;
    while (err == WEIR_OK && pieces->started < pieces->size &&
           pieces->count < WEIR_COMM_PIECES_IN_FLIGHT) {
        err = weir_comm_mpi_check(MPI_Irecv(payload + pieces->started,
                                            (int)weir_comm_piece_size(pieces, pieces->started),
                                            MPI_BYTE, (int)source, WEIR_COMM_TAG_FRAME,
                                            mpi->communicator, weir_comm_next_request(pieces)),
                                  "receive", source, error);
        if (err == WEIR_OK) {
            weir_comm_count_started(pieces);
            *progressed = true;
        }
    }
    return err;
}

/* Take the pieces that have come, each into the checksum while it is warm. */
static weir_err_t finish_pieces(weir_comm_mpi_t *mpi, weir_rank_t source, bool *progressed,
                                weir_error_t *error) {
    weir_comm_incoming_t *in = &mpi->incoming[source];
    while (in->pieces.count > 0) {
        int flag = 0, count = 0;
        size_t begin = in->pieces.done, piece = weir_comm_piece_size(&in->pieces, begin);
        MPI_Status status;
        weir_err_t err =
            weir_comm_mpi_check(MPI_Test(&in->pieces.requests[in->pieces.oldest], &flag, &status),
                                "receive", source, error);
        if (err != WEIR_OK || flag == 0) {
            return err;
        }
        weir_comm_count_done(&in->pieces);
        *progressed = true;
        (void)MPI_Get_count(&status, MPI_BYTE, &count);
        if (count < 0 || (size_t)count != piece) {
            return weir_errorf(error, WEIR_ERR_CORRUPT,
                               "from rank %u: a piece of %d bytes, expected %zu", source, count,
                               piece);
        }
        in->checksum = weir_checksum((char *)in->frame.payload + begin, piece, in->checksum);
    }
    return WEIR_OK;
}

/* Drive the pieces that come from one rank. */
static weir_err_t drive_pieces(weir_comm_mpi_t *mpi, weir_rank_t source, weir_frame_t *frame,
                               bool *received, bool *progressed, weir_error_t *error) {
    weir_comm_incoming_t *in = &mpi->incoming[source];
    weir_err_t err = finish_pieces(mpi, source, progressed, error);
    if (err == WEIR_OK) {
        err = start_pieces(mpi, source, progressed, error);
    }
    if (err == WEIR_OK && in->pieces.done == in->pieces.size) {
        err = check_payload(&in->frame, in->checksum, error);
        if (err == WEIR_OK) {
            *frame = in->frame;
            *received = true;
            in->active = false;
            mpi->receiving--;
        }
    }
    if (err != WEIR_OK) {
        drop_incoming(mpi, source);
    }
    return err;
}

/* One look at all ranks: most polls find nothing, and ranks may be many. */
static weir_err_t look_for_any(const weir_comm_mpi_t *mpi, bool *found, weir_error_t *error) {
    int flag = 0;
    weir_err_t err = weir_comm_mpi_check(MPI_Iprobe(MPI_ANY_SOURCE, WEIR_COMM_TAG_FRAME,
                                                    mpi->communicator, &flag, MPI_STATUS_IGNORE),
                                         "probe", WEIR_COMM_NO_PEER, error);
    *found = flag != 0;
    return err;
}

weir_err_t weir_comm_mpi_receive(weir_comm_mpi_t *mpi, weir_frame_t *frame, bool *received,
                                 bool *progressed, weir_error_t *error) {
    bool found = false;
    weir_err_t err = look_for_any(mpi, &found, error);
    if (err != WEIR_OK || (!found && mpi->receiving == 0)) {
        return err;
    }
    for (weir_rank_t i = 0; i < mpi->base.size && err == WEIR_OK && !*received; i++) {
        weir_rank_t source = mpi->next_source;
        mpi->next_source = (source + 1) % mpi->base.size;
        if (mpi->incoming[source].active) {
            err = drive_pieces(mpi, source, frame, received, progressed, error);
        } else if (found && source != mpi->base.rank) {
            err = probe_source(mpi, source, frame, received, progressed, error);
        }
    }
    return err;
}

void weir_comm_mpi_drop_receives(weir_comm_mpi_t *mpi) {
    for (weir_rank_t source = 0; source < mpi->base.size; source++) {
        if (mpi->incoming[source].active) {
            drop_incoming(mpi, source);
        }
    }
}
