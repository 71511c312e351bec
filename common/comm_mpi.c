/* Frames over MPI: the only file that includes <mpi.h>.
 *
 * A frame is one message of header and payload when that is small (EAGER), else a message with the
 * header alone, followed by the payload in pieces with the same tag. MPI keeps messages of one pair
 * of ranks and one tag in order, so the pieces that follow a header are its own. Receiving is by
 * matched probe: the header is checked before a byte is allocated for the payload. Nothing here
 * blocks but init and finalize. */
#include "common/clock.h"
#include "common/comm.h"
#include "common/hash.h"
#include "common/log.h"

#include <mpi.h>
#include <stdlib.h>
#include <string.h>

enum {
    TAG_FRAME = 1,
    EAGER_PAYLOAD = 4096,
    PIECES_IN_FLIGHT = 8, /* to one destination: bounds what a slow receiver can make pile up */
    EAGERS_IN_FLIGHT = 32
};

/* One queued frame. */
typedef struct outgoing {
    struct outgoing *next;
    uint8_t eager[WEIR_FRAME_HEADER_SIZE + EAGER_PAYLOAD]; /* header, and a small payload */
    int eager_size;
    char *payload;              /* NULL when it rides with the header */
    size_t size, started, done; /* bytes handed to MPI, bytes MPI is done with */
    bool header_started, header_done;
    MPI_Request header_request;
    MPI_Request pieces[PIECES_IN_FLIGHT];
    size_t first_piece, piece_count; /* a ring of requests, oldest first */
} outgoing_t;

/* Frames to one rank, in order. */
typedef struct {
    outgoing_t *first, **last;
} queue_t;

/* The frame that comes from one rank. */
typedef struct {
    bool active;
    weir_frame_t frame;
    size_t started, done;
    MPI_Request pieces[PIECES_IN_FLIGHT];
    size_t first_piece, piece_count;
} incoming_t;

typedef struct {
    weir_comm_t base;
    MPI_Comm communicator;
    queue_t *queues;      /* by destination */
    incoming_t *incoming; /* by source */
    size_t unsent;        /* frames in all queues */
    size_t receiving;     /* active entries of incoming */
} mpi_comm_t;

static mpi_comm_t *mpi_comm(weir_comm_t *comm) {
    return (mpi_comm_t *)(void *)comm; /* base is the first member */
}

static weir_err_t check_mpi(int code, const char *what, weir_error_t *error) {
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    if (code == MPI_SUCCESS) {
        return WEIR_OK;
    }
    (void)MPI_Error_string(code, text, &length);
    return weir_errorf(error, WEIR_ERR_PEER, "MPI: %s: %s", what, text);
}

static size_t piece_size(size_t size, size_t begin) {
    return size - begin < WEIR_FRAME_PIECE ? size - begin : WEIR_FRAME_PIECE;
}

/* ---- sending ---- */

static weir_err_t send_frame(weir_comm_t *comm, weir_rank_t to, weir_frame_t frame,
                             weir_error_t *error) {
    mpi_comm_t *mpi = mpi_comm(comm);
    size_t size = (size_t)frame.header.payload_size;
    bool eager = size <= EAGER_PAYLOAD;
    outgoing_t *out = malloc(sizeof *out);
    if (out == NULL) {
        weir_buffer_release(frame.payload);
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory to send a frame");
    }
    out->next = NULL;
    out->payload = eager ? NULL : frame.payload;
    out->size = eager ? 0 : size;
    out->started = out->done = 0;
    out->header_started = out->header_done = false;
    out->first_piece = out->piece_count = 0;
    out->eager_size = WEIR_FRAME_HEADER_SIZE + (eager ? (int)size : 0);
    weir_frame_encode_header(&frame.header, out->eager);
    if (eager && size > 0) {
        memcpy(out->eager + WEIR_FRAME_HEADER_SIZE, frame.payload, size);
    }
    if (eager) {
        weir_buffer_release(frame.payload);
    }
    *mpi->queues[to].last = out;
    mpi->queues[to].last = &out->next;
    mpi->unsent++;
    return WEIR_OK;
}

/* Hand MPI what may be under way of one frame; `*complete` when MPI is done with it. */
static weir_err_t push_frame(mpi_comm_t *mpi, weir_rank_t to, outgoing_t *out, bool *progressed,
                             weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    if (!out->header_started) {
        err = check_mpi(MPI_Isend(out->eager, out->eager_size, MPI_BYTE, (int)to, TAG_FRAME,
                                  mpi->communicator, &out->header_request),
                        "send", error);
        out->header_started = true;
        *progressed = true;
    }
    while (err == WEIR_OK && out->started < out->size && out->piece_count < PIECES_IN_FLIGHT) {
        size_t piece = piece_size(out->size, out->started);
        size_t place = (out->first_piece + out->piece_count) % PIECES_IN_FLIGHT;
        err = check_mpi(MPI_Isend(out->payload + out->started, (int)piece, MPI_BYTE, (int)to,
                                  TAG_FRAME, mpi->communicator, &out->pieces[place]),
                        "send", error);
        out->started += piece;
        out->piece_count++;
        *progressed = true;
    }
    return err;
}

static weir_err_t test_frame(outgoing_t *out, bool *progressed, weir_error_t *error) {
    int flag = 0;
    weir_err_t err = WEIR_OK;
    if (!out->header_done) {
        err = check_mpi(MPI_Test(&out->header_request, &flag, MPI_STATUS_IGNORE), "send", error);
        out->header_done = flag != 0;
        *progressed = *progressed || flag != 0;
    }
    while (err == WEIR_OK && out->piece_count > 0) {
        flag = 0;
        err = check_mpi(MPI_Test(&out->pieces[out->first_piece], &flag, MPI_STATUS_IGNORE), "send",
                        error);
        if (flag == 0) {
            break;
        }
        out->done += piece_size(out->size, out->done);
        out->first_piece = (out->first_piece + 1) % PIECES_IN_FLIGHT;
        out->piece_count--;
        *progressed = true;
    }
    return err;
}

/* Drive the frames to one rank: the first whole, and small ones behind it while it is small too. */
static weir_err_t drive_queue(mpi_comm_t *mpi, weir_rank_t to, bool *progressed,
                              weir_error_t *error) {
    queue_t *queue = &mpi->queues[to];
    int in_flight = 0;
    weir_err_t err = WEIR_OK;
    for (outgoing_t *out = queue->first; out != NULL && err == WEIR_OK; out = out->next) {
        err = push_frame(mpi, to, out, progressed, error);
        if (err == WEIR_OK && out == queue->first) {
            err = test_frame(out, progressed, error);
        }
        /* The next frame's header must not overtake this one's pieces. */
        if (out->started < out->size || ++in_flight >= EAGERS_IN_FLIGHT) {
            break;
        }
    }
    while (err == WEIR_OK && queue->first != NULL && queue->first->header_started) {
        outgoing_t *out = queue->first;
        err = test_frame(out, progressed, error);
        if (!out->header_done || out->done < out->size) {
            break;
        }
        queue->first = out->next;
        if (queue->first == NULL) {
            queue->last = &queue->first;
        }
        weir_buffer_release(out->payload);
        free(out);
        mpi->unsent--;
    }
    return err;
}

/* ---- receiving ---- */

static weir_err_t check_payload(const weir_frame_t *frame, weir_error_t *error) {
    uint64_t checksum = frame->payload != NULL
                            ? weir_checksum(frame->payload, (size_t)frame->header.payload_size, 0)
                            : 0;
    if (checksum != frame->header.payload_checksum) {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "a %s frame from rank %u fails its checksum",
                           weir_frame_type_name((weir_frame_type_t)frame->header.type),
                           frame->header.source);
    }
    return WEIR_OK;
}

/* A first message of a frame has been matched: check it, take over a payload that rides with it. */
static weir_err_t open_frame(mpi_comm_t *mpi, const uint8_t *bytes, size_t size, weir_rank_t source,
                             weir_frame_t *frame, bool *whole, weir_error_t *error) {
    weir_frame_header_t header;
    weir_err_t err = weir_frame_decode_header(bytes, size, mpi->base.job, &header, error);
    if (err == WEIR_OK && header.source != source) {
        err = weir_errorf(error, WEIR_ERR_PEER, "a frame says that it is from rank %u",
                          header.source);
    }
    bool eager = err == WEIR_OK && header.payload_size <= EAGER_PAYLOAD;
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
static weir_err_t probe_source(mpi_comm_t *mpi, weir_rank_t source, weir_frame_t *frame,
                               bool *received, bool *progressed, weir_error_t *error) {
    uint8_t bytes[WEIR_FRAME_HEADER_SIZE + EAGER_PAYLOAD];
    int flag = 0, size = 0;
    MPI_Message message;
    MPI_Status status;
    weir_err_t err =
        check_mpi(MPI_Improbe((int)source, TAG_FRAME, mpi->communicator, &flag, &message, &status),
                  "probe", error);
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
    err =
        check_mpi(MPI_Mrecv(bytes, size, MPI_BYTE, &message, MPI_STATUS_IGNORE), "receive", error);
    if (err != WEIR_OK) {
        return err;
    }
    bool whole = false;
    weir_frame_t opened;
    err = open_frame(mpi, bytes, (size_t)size, source, &opened, &whole, error);
    if (err != WEIR_OK) {
        return err;
    }
    if (whole) {
        err = check_payload(&opened, error);
        *frame = opened;
        *received = err == WEIR_OK;
        return err;
    }
    mpi->incoming[source] = (incoming_t){.active = true, .frame = opened};
    mpi->receiving++;
    return WEIR_OK;
}

/* Drive the pieces that come from one rank. */
static weir_err_t drive_pieces(mpi_comm_t *mpi, weir_rank_t source, weir_frame_t *frame,
                               bool *received, bool *progressed, weir_error_t *error) {
    incoming_t *in = &mpi->incoming[source];
    size_t size = (size_t)in->frame.header.payload_size;
    weir_err_t err = WEIR_OK;
    while (in->started < size && in->piece_count < PIECES_IN_FLIGHT && err == WEIR_OK) {
        size_t piece = piece_size(size, in->started);
        size_t place = (in->first_piece + in->piece_count) % PIECES_IN_FLIGHT;
        err = check_mpi(MPI_Irecv((char *)in->frame.payload + in->started, (int)piece, MPI_BYTE,
                                  (int)source, TAG_FRAME, mpi->communicator, &in->pieces[place]),
                        "receive", error);
        in->started += piece;
        in->piece_count++;
        *progressed = true;
    }
    while (err == WEIR_OK && in->piece_count > 0) {
        int flag = 0, count = 0;
        MPI_Status status;
        err = check_mpi(MPI_Test(&in->pieces[in->first_piece], &flag, &status), "receive", error);
        if (err != WEIR_OK || flag == 0) {
            break;
        }
        (void)MPI_Get_count(&status, MPI_BYTE, &count);
        if (count < 0 || (size_t)count != piece_size(size, in->done)) {
            return weir_errorf(error, WEIR_ERR_CORRUPT, "from rank %u: a piece of %d bytes", source,
                               count);
        }
        in->done += (size_t)count;
        in->first_piece = (in->first_piece + 1) % PIECES_IN_FLIGHT;
        in->piece_count--;
        *progressed = true;
    }
    if (err == WEIR_OK && in->done == size) {
        err = check_payload(&in->frame, error);
        *frame = in->frame;
        *received = err == WEIR_OK;
        in->active = false;
        mpi->receiving--;
    }
    return err;
}

static weir_err_t poll_frames(weir_comm_t *comm, weir_frame_t *frame, bool *received,
                              bool *progressed, weir_error_t *error) {
    mpi_comm_t *mpi = mpi_comm(comm);
    weir_err_t err = WEIR_OK;
    for (weir_rank_t rank = 0; rank < comm->size && err == WEIR_OK; rank++) {
        if (mpi->queues[rank].first != NULL) {
            err = drive_queue(mpi, rank, progressed, error);
        }
    }
    for (weir_rank_t rank = 0; rank < comm->size && err == WEIR_OK && !*received; rank++) {
        if (rank == comm->rank) {
            continue;
        }
        err = mpi->incoming[rank].active
                  ? drive_pieces(mpi, rank, frame, received, progressed, error)
                  : probe_source(mpi, rank, frame, received, progressed, error);
    }
    return err;
}

static bool is_idle(const weir_comm_t *comm) {
    const mpi_comm_t *mpi = (const mpi_comm_t *)(const void *)comm;
    return mpi->unsent == 0;
}

/* ---- life ---- */

static void destroy_comm(weir_comm_t *comm) {
    mpi_comm_t *mpi = mpi_comm(comm);
    for (weir_rank_t rank = 0; rank < comm->size; rank++) {
        while (mpi->queues != NULL && mpi->queues[rank].first != NULL) {
            outgoing_t *out = mpi->queues[rank].first;
            mpi->queues[rank].first = out->next;
            weir_buffer_release(out->payload);
            free(out);
        }
        if (mpi->incoming != NULL && mpi->incoming[rank].active) {
            weir_buffer_release(mpi->incoming[rank].frame.payload);
        }
    }
    free(mpi->queues);
    free(mpi->incoming);
    free(mpi);
}

static const weir_comm_operations_t mpi_operations = {
    .destroy = destroy_comm, .send = send_frame, .poll = poll_frames, .idle = is_idle};

static void abort_job(int exit_status) {
    (void)MPI_Abort(MPI_COMM_WORLD, exit_status);
}

weir_err_t weir_comm_mpi_init(int *argc, char ***argv, weir_comm_t **comm, weir_error_t *error) {
    int provided = 0, rank = 0, size = 0;
    weir_err_t err = check_mpi(MPI_Init_thread(argc, argv, MPI_THREAD_SERIALIZED, &provided),
                               "cannot start", error);
    if (err != WEIR_OK) {
        return err;
    }
    if (provided < MPI_THREAD_SERIALIZED) {
        return weir_errorf(error, WEIR_ERR_UNSUPPORTED,
                           "this MPI does not let a thread other than the first use it");
    }
    weir_fatal_set_abort_hook(abort_job);
    (void)MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    (void)MPI_Comm_size(MPI_COMM_WORLD, &size);
    mpi_comm_t *created = calloc(1, sizeof *created);
    if (created != NULL) {
        created->base = (weir_comm_t){
            .operations = &mpi_operations, .rank = (weir_rank_t)rank, .size = (weir_rank_t)size};
        created->queues = calloc((size_t)size, sizeof *created->queues);
        created->incoming = calloc((size_t)size, sizeof *created->incoming);
    }
    if (created == NULL || created->queues == NULL || created->incoming == NULL) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the transport of %d ranks", size);
        goto out;
    }
    for (int i = 0; i < size; i++) {
        created->queues[i].last = &created->queues[i].first;
    }
    err = check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &created->communicator), "duplicate", error);
    if (err == WEIR_OK) {
        err = check_mpi(MPI_Comm_set_errhandler(created->communicator, MPI_ERRORS_RETURN),
                        "set the error handler", error);
    }
    if (err == WEIR_OK) {
        *comm = &created->base;
        created = NULL;
    }
out:
    if (created != NULL) {
        destroy_comm(&created->base);
    }
    return err;
}

weir_err_t weir_comm_mpi_exchange_cards(weir_comm_t *comm, const weir_card_t *mine,
                                        weir_card_t *all, double timeout_seconds,
                                        weir_error_t *error) {
    MPI_Request request;
    int done = 0;
    double deadline = weir_clock_seconds() + timeout_seconds;
    weir_err_t err =
        check_mpi(MPI_Iallgather(mine, (int)sizeof *mine, MPI_BYTE, all, (int)sizeof *mine,
                                 MPI_BYTE, mpi_comm(comm)->communicator, &request),
                  "exchange of cards", error);
    while (err == WEIR_OK) {
        err = check_mpi(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "exchange of cards", error);
        if (err != WEIR_OK || done != 0) {
            break;
        }
        if (weir_clock_seconds() > deadline) {
            err = weir_errorf(error, WEIR_ERR_TIMEOUT,
                              "the other ranks did not all come up within %.0f s", timeout_seconds);
            break;
        }
        weir_clock_sleep(0.0005);
    }
    return err;
}

void weir_comm_mpi_finalize(weir_comm_t *comm) {
    if (comm != NULL) {
        (void)MPI_Comm_free(&mpi_comm(comm)->communicator);
        destroy_comm(comm);
    }
    weir_fatal_set_abort_hook(NULL);
    (void)MPI_Finalize();
}
