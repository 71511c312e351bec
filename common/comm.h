/* Transport of frames between the ranks of a job. comm_mpi.c is the real one, over Open MPI;
 * comm_loop.c connects ranks inside one process, for tests and simulation.
 *
 * One thread (comm) owns a weir_comm_t. Sends and receives never block: poll drives both. Frames
 * from one rank to another arrive once each and in the order they were sent, or an error does
 * (common/frame_order.h). */
#ifndef WEIR_COMMON_COMM_H
#define WEIR_COMMON_COMM_H

#include "common/error.h"
#include "common/frame.h"
#include "common/frame_order.h"

#include <stdbool.h>
#include <stdint.h>

typedef uint32_t weir_rank_t;

/* What each rank tells the others when a job begins; fixed size, strings NUL-terminated.
 * `magic` and `version` come first and never move, so that another version can be named. */
typedef struct {
    char magic[8];    /* "weircard" */
    char version[32]; /* WEIR_VERSION */
    char role[16];    /* "coordinator", "ps", "worker" */
    char host[64];
    uint64_t pid;
    uint64_t config_digest; /* equal on all ranks, or the job does not start */
    uint64_t job;           /* coordinator: the identity of this run; others 0 */
    char endpoint[128];     /* coordinator: where its control socket listens */
    char control_key[48];   /* its public key on the control plane, Z85; empty: not encrypted */
    int32_t status;         /* weir_err_t of the rank's own start */
    char message[132];      /* and its sentence */
} weir_card_t;

typedef struct weir_comm weir_comm_t;

typedef struct {
    void (*destroy)(weir_comm_t *comm);
    /* Takes over the payload in every case; seals the frame, with the checksum of its payload. */
    weir_err_t (*send)(weir_comm_t *comm, weir_rank_t to, weir_frame_t frame, weir_error_t *error);
    weir_err_t (*poll)(weir_comm_t *comm, weir_frame_t *frame, bool *received, bool *progressed,
                       weir_error_t *error);
    bool (*idle)(const weir_comm_t *comm);
    bool (*receiving)(const weir_comm_t *comm);
} weir_comm_operations_t;

struct weir_comm {
    const weir_comm_operations_t *operations;
    weir_rank_t rank;          /* of this process in the job */
    weir_rank_t size;          /* ranks in the job */
    uint64_t job;              /* frames of another job are refused */
    double patience;           /* seconds that a frame may wait for one before it; 0: 30 */
    weir_frame_order_t *order; /* made by the first send or poll */
};

/* Queue a frame for rank `to` (not itself). The transport owns the payload from here on, also on
 * failure. source, job, number and checksums are filled here. The queue takes every frame, so that
 * two ranks that send to each other cannot block each other; what is under way to one rank is
 * bounded, and how much may wait is for the protocol above to bound. Call: local. Threads: comm. */
WEIR_MUST_USE weir_err_t weir_comm_send(weir_comm_t *comm, weir_rank_t to, weir_frame_t frame,
                                        weir_error_t *error);

/* Drive sends and receives; at most one received frame is handed out (`*received`), whose payload
 * the caller owns. `frame` NULL: drive sends alone, for a caller that has no room. `*progressed`
 * says whether anything moved: back off when not. A frame that fails a check is dropped whole, and
 * the error names its sender; the frames after it wait for it. Call: local. Threads: comm. */
WEIR_MUST_USE weir_err_t weir_comm_poll(weir_comm_t *comm, weir_frame_t *frame, bool *received,
                                        bool *progressed, weir_error_t *error);

/* No send is under way. */
bool weir_comm_idle(const weir_comm_t *comm);
/* A frame has come in part, or waits for one before it. */
bool weir_comm_receiving(const weir_comm_t *comm);
void weir_comm_destroy(weir_comm_t *comm);

/* MPI. init: MPI_Init_thread(SERIALIZED), own communicator, errors returned, abort hook set.
 * exchange: every rank gives its card and gets all cards, in rank order; fails with a deadline,
 * after which finalize ends the whole job. The caller compares the cards. Call: collective(world).
 * Threads: one at a time. */
WEIR_MUST_USE weir_err_t weir_comm_mpi_init(int *argc, char ***argv, weir_comm_t **comm,
                                            weir_error_t *error);
WEIR_MUST_USE weir_err_t weir_comm_mpi_exchange_cards(weir_comm_t *comm, const weir_card_t *mine,
                                                      weir_card_t *all, double timeout_seconds,
                                                      weir_error_t *error);
/* After the last frame, on every rank; destroys `comm` (NULL: MPI alone is ended). Waits for the
 * other ranks for about a minute; a job whose ranks do not all come is aborted instead. Call:
 * collective(world). */
void weir_comm_mpi_finalize(weir_comm_t *comm);

/* In-process: `size` connected transports into comms[0 .. size-1]. Each may be polled by its own
 * thread. */
WEIR_MUST_USE weir_err_t weir_comm_loop_create(weir_rank_t size, weir_comm_t **comms,
                                               weir_error_t *error);

#endif
