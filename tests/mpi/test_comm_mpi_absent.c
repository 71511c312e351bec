/* A rank that never takes part: the others find out at their deadline, and the end aborts the job
 * rather than wait in MPI_Finalize for ever. Run for its output; the exit status of the job is not
 * 0. */
#include "common/clock.h"
#include "common/log.h"
#include "tests/mpi/suite.h"

int main(int argc, char **argv) {
    weir_comm_t *comm = NULL;
    weir_error_t error = {0};
    weir_log_init("test", -1, WEIR_LOG_INFO);
    if (weir_comm_mpi_init(&argc, &argv, &comm, &error) != WEIR_OK) {
        return 3;
    }
    if (comm->rank != 0) {
        weir_clock_sleep(100.0); /* ended by the abort long before */
        return 4;
    }
    weir_card_t mine = {.role = "worker"}, *all = calloc(comm->size, sizeof *all);
    if (all == NULL ||
        weir_comm_mpi_exchange_cards(comm, &mine, all, 0.3, &error) != WEIR_ERR_TIMEOUT) {
        return 5;
    }
    free(all);
    (void)fprintf(stderr, "%s\n", error.message);
    weir_comm_mpi_finalize(comm);
    return 6;
}
