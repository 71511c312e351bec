/* Frames over MPI, the inside: common/comm_mpi.c (start, cards, end), comm_mpi_send.c and
 * comm_mpi_receive.c. These are the only files that include <mpi.h>.
 *
 * A frame is one message of header and payload when that is small (WEIR_FRAME_EAGER), else a
 * message with the header alone, followed by the payload in pieces with the same tag. MPI keeps
 * messages of one pair of ranks and one tag in order, so the pieces that follow a header are its
 * own. Receiving is by matched probe: the header is checked before a byte is allocated for the
 * payload. Nothing here blocks but init and finalize. Threads: comm. */
#ifndef WEIR_COMMON_COMM_MPI_H
#define WEIR_COMMON_COMM_MPI_H

#include "common/comm.h"

#include <mpi.h>

enum {
    WEIR_COMM_TAG_FRAME = 1,
    WEIR_COMM_PIECES_IN_FLIGHT = 8, /* to one rank: bounds what a slow receiver can make pile up */
};

/* The peer of an error that is about all ranks. */
#define WEIR_COMM_NO_PEER UINT32_MAX

/* A payload on its way. */
typedef struct {
    size_t size, started, done; /* bytes: in all, handed to MPI, MPI is done with */
    MPI_Request requests[WEIR_COMM_PIECES_IN_FLIGHT];
    size_t oldest, count; /* a ring of requests */
} weir_comm_pieces_t;

/* One queued frame. */
typedef struct weir_comm_outgoing {
    struct weir_comm_outgoing *next;
    weir_frame_t frame;
    uint8_t first[WEIR_FRAME_HEADER_SIZE + WEIR_FRAME_EAGER]; /* header, and a small payload */
    int first_size;
    bool first_started, first_done;
    MPI_Request first_request;
    weir_comm_pieces_t pieces; /* none when the payload rides with the header */
} weir_comm_outgoing_t;

/* Frames to one rank, in order. */
typedef struct {
    weir_comm_outgoing_t *first, **last;
    size_t pieces_in_flight;
} weir_comm_queue_t;

/* The frame that comes from one rank. */
typedef struct {
    bool active;
    weir_frame_t frame;
    uint64_t checksum; /* of the pieces done */
    weir_comm_pieces_t pieces;
} weir_comm_incoming_t;

typedef struct {
    weir_comm_t base;
    MPI_Comm communicator;
    weir_comm_queue_t *queues;      /* by destination */
    weir_comm_incoming_t *incoming; /* by source */
    size_t unsent;                  /* frames in all queues */
    size_t receiving;               /* active entries of incoming */
    weir_rank_t next_source;        /* where receiving looks first, in turn */
    weir_comm_outgoing_t *spare;    /* of frames that were sent */
    size_t spare_count;
    weir_card_t *cards; /* where the exchange receives: MPI may write there until it is done */
    weir_card_t card;
    bool broken; /* an exchange did not end: neither would finalize */
} weir_comm_mpi_t;

static inline weir_comm_mpi_t *weir_comm_mpi_of(weir_comm_t *comm) {
    return (weir_comm_mpi_t *)(void *)comm; /* base is the first member */
}

/* Bytes of the piece that begins at `begin`. */
static inline size_t weir_comm_piece_size(const weir_comm_pieces_t *pieces, size_t begin) {
    return pieces->size - begin < WEIR_FRAME_PIECE ? pieces->size - begin : WEIR_FRAME_PIECE;
}

/* Where the next piece's request goes. */
static inline MPI_Request *weir_comm_next_request(weir_comm_pieces_t *pieces) {
    return &pieces->requests[(pieces->oldest + pieces->count) % WEIR_COMM_PIECES_IN_FLIGHT];
}

static inline void weir_comm_count_started(weir_comm_pieces_t *pieces) {
    pieces->started += weir_comm_piece_size(pieces, pieces->started);
    pieces->count++;
}

static inline void weir_comm_count_done(weir_comm_pieces_t *pieces) {
    pieces->done += weir_comm_piece_size(pieces, pieces->done);
    pieces->oldest = (pieces->oldest + 1) % WEIR_COMM_PIECES_IN_FLIGHT;
    pieces->count--;
}

/* The error that an MPI code stands for. `peer`: the rank that a message goes to or comes from, or
 * WEIR_COMM_NO_PEER. */
WEIR_MUST_USE weir_err_t weir_comm_mpi_check(int code, const char *what, weir_rank_t peer,
                                             weir_error_t *error);

/* Queue a frame; the payload is taken over in every case. */
WEIR_MUST_USE weir_err_t weir_comm_mpi_send(weir_comm_t *comm, weir_rank_t to, weir_frame_t frame,
                                            weir_error_t *error);
/* Start and finish what the queues and their bounds allow. */
WEIR_MUST_USE weir_err_t weir_comm_mpi_drive_sends(weir_comm_mpi_t *mpi, bool *progressed,
                                                   weir_error_t *error);
/* Release queues; what MPI still holds cannot be taken back from it, and so is not released. */
void weir_comm_mpi_drop_sends(weir_comm_mpi_t *mpi);

/* Take at most one frame, from the ranks in turn. */
WEIR_MUST_USE weir_err_t weir_comm_mpi_receive(weir_comm_mpi_t *mpi, weir_frame_t *frame,
                                               bool *received, bool *progressed,
                                               weir_error_t *error);
/* Forget the frames that are half here. */
void weir_comm_mpi_drop_receives(weir_comm_mpi_t *mpi);

#endif
