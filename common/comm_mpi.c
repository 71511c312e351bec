/* Frames over MPI: start, exchange of cards, end. How frames travel is in common/comm_mpi.h. */
#include "common/comm_mpi.h"

#include "common/clock.h"
#include "common/log.h"

#include <stdlib.h>
#include <string.h>

/* Seconds that finalize waits for the other ranks. */
#define FINALIZE_TIMEOUT 60.0

weir_err_t weir_comm_mpi_check(int code, const char *what, weir_rank_t peer, weir_error_t *error) {
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    if (code == MPI_SUCCESS) {
        return WEIR_OK;
    }
    (void)MPI_Error_string(code, text, &length);
    weir_err_t err = weir_errorf(error, WEIR_ERR_PEER, "MPI: %s: %s", what, text);
    if (peer != WEIR_COMM_NO_PEER) {
        weir_error_prefix(error, "rank %u", peer);
    }
    return err;
}

static weir_err_t poll_frames(weir_comm_t *comm, weir_frame_t *frame, bool *received,
                              bool *progressed, weir_error_t *error) {
    weir_comm_mpi_t *mpi = weir_comm_mpi_of(comm);
    weir_err_t err = weir_comm_mpi_drive_sends(mpi, progressed, error);
    if (err == WEIR_OK && frame != NULL) {
        err = weir_comm_mpi_receive(mpi, frame, received, progressed, error);
    }
    return err;
}

static bool is_idle(const weir_comm_t *comm) {
    return ((const weir_comm_mpi_t *)(const void *)comm)->unsent == 0;
}

static bool is_receiving(const weir_comm_t *comm) {
    return ((const weir_comm_mpi_t *)(const void *)comm)->receiving > 0;
}

static void destroy_comm(weir_comm_t *comm) {
    weir_comm_mpi_t *mpi = weir_comm_mpi_of(comm);
    if (mpi->queues != NULL) {
        weir_comm_mpi_drop_sends(mpi);
    }
    if (mpi->incoming != NULL) {
        weir_comm_mpi_drop_receives(mpi);
    }
    free(mpi->queues);
    free(mpi->incoming);
    if (!mpi->broken) {
        free(mpi->cards); /* else MPI may write there still */
    }
    free(mpi);
}

static const weir_comm_operations_t mpi_operations = {.destroy = destroy_comm,
                                                      .send = weir_comm_mpi_send,
                                                      .poll = poll_frames,
                                                      .idle = is_idle,
                                                      .receiving = is_receiving};

static void abort_job(int exit_status) {
    (void)MPI_Abort(MPI_COMM_WORLD, exit_status);
}

weir_err_t weir_comm_mpi_init(int *argc, char ***argv, weir_comm_t **comm, weir_error_t *error) {
    int provided = 0, rank = 0, size = 0;
    /* MPI yields in every call that finds nothing where ranks outnumber cores, and each yield costs
     * a comm thread, which sleeps by itself, milliseconds (docs/design/0005). */
    (void)setenv("OMPI_MCA_mpi_yield_when_idle", "0", 0);
    weir_err_t err =
        weir_comm_mpi_check(MPI_Init_thread(argc, argv, MPI_THREAD_SERIALIZED, &provided),
                            "cannot start", WEIR_COMM_NO_PEER, error);
    if (err != WEIR_OK) {
        return err;
    }
    if (provided < MPI_THREAD_SERIALIZED) {
        return weir_errorf(error, WEIR_ERR_UNSUPPORTED,
                           "this MPI does not let a thread other than the first use it");
    }
    weir_fatal_set_abort_hook(abort_job);
    (void)MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    (void)MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    (void)MPI_Comm_size(MPI_COMM_WORLD, &size);
    weir_comm_mpi_t *created = calloc(1, sizeof *created);
    if (created != NULL) {
        created->base = (weir_comm_t){
            .operations = &mpi_operations, .rank = (weir_rank_t)rank, .size = (weir_rank_t)size};
        created->queues = calloc((size_t)size, sizeof *created->queues);
        created->incoming = calloc((size_t)size, sizeof *created->incoming);
        created->cards = calloc((size_t)size, sizeof *created->cards);
    }
    if (created == NULL || created->queues == NULL || created->incoming == NULL ||
        created->cards == NULL) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the transport of %d ranks", size);
        goto out;
    }
    for (int i = 0; i < size; i++) {
        created->queues[i].last = &created->queues[i].first;
    }
    err = weir_comm_mpi_check(MPI_Comm_dup(MPI_COMM_WORLD, &created->communicator), "duplicate",
                              WEIR_COMM_NO_PEER, error);
    if (err == WEIR_OK) {
        err = weir_comm_mpi_check(MPI_Comm_set_errhandler(created->communicator, MPI_ERRORS_RETURN),
                                  "set the error handler", WEIR_COMM_NO_PEER, error);
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

/* Test until done. False: the deadline came first. */
static weir_err_t await(MPI_Request *request, const char *what, double timeout_seconds, bool *done,
                        weir_error_t *error) {
    double deadline = weir_clock_seconds() + timeout_seconds, pause = 20e-6;
    weir_err_t err = WEIR_OK;
    *done = false;
    while (err == WEIR_OK && !*done && weir_clock_seconds() < deadline) {
        int flag = 0;
        err = weir_comm_mpi_check(MPI_Test(request, &flag, MPI_STATUS_IGNORE), what,
                                  WEIR_COMM_NO_PEER, error);
        *done = flag != 0;
        if (!*done) {
            weir_clock_sleep(pause);
            pause = pause < 1e-3 ? 2.0 * pause : pause;
        }
    }
    return err;
}

weir_err_t weir_comm_mpi_exchange_cards(weir_comm_t *comm, const weir_card_t *mine,
                                        weir_card_t *all, double timeout_seconds,
                                        weir_error_t *error) {
    weir_comm_mpi_t *mpi = weir_comm_mpi_of(comm);
    MPI_Request request;
    bool done = false;
    if (mpi->broken) {
        return weir_errorf(error, WEIR_ERR_INVALID, "an exchange of cards did not end");
    }
    mpi->card = *mine;
    weir_err_t err = weir_comm_mpi_check(MPI_Iallgather(&mpi->card, (int)sizeof *mine, MPI_BYTE,
                                                        mpi->cards, (int)sizeof *mine, MPI_BYTE,
                                                        mpi->communicator, &request),
                                         "exchange of cards", WEIR_COMM_NO_PEER, error);
    if (err == WEIR_OK) {
        err = await(&request, "exchange of cards", timeout_seconds, &done, error);
    }
    if (err == WEIR_OK && !done) {
        err = weir_errorf(error, WEIR_ERR_TIMEOUT,
                          "the other ranks did not all come up within %.0f s", timeout_seconds);
    }
    mpi->broken = err != WEIR_OK;
    if (err == WEIR_OK) {
        memcpy(all, mpi->cards, comm->size * sizeof *all);
    }
    return err;
}

/* MPI_Finalize has no deadline: enter it when all ranks have said that they do. */
static bool all_have_come(weir_comm_mpi_t *mpi) {
    MPI_Request request;
    bool done = false;
    return !mpi->broken && MPI_Ibarrier(mpi->communicator, &request) == MPI_SUCCESS &&
           await(&request, "end", FINALIZE_TIMEOUT, &done, NULL) == WEIR_OK && done;
}

void weir_comm_mpi_finalize(weir_comm_t *comm) {
    if (comm != NULL && !all_have_come(weir_comm_mpi_of(comm))) {
        weir_log(WEIR_LOG_ERROR, "comm_mpi", "not all ranks came to the end: the job is aborted");
        abort_job(weir_exit_status(WEIR_ERR_TIMEOUT));
    }
    if (comm != NULL) {
        MPI_Comm communicator = weir_comm_mpi_of(comm)->communicator;
        weir_comm_destroy(comm);
        (void)MPI_Comm_free(&communicator);
    }
    weir_fatal_set_abort_hook(NULL);
    (void)MPI_Finalize();
}
