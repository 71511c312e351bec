#include "analysis/process.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/signals.h"
#include "worker/blas.h"

#include <stdlib.h>
#include <unistd.h>

weir_err_t weir_analysis_begin(int *argc, char ***argv, const char *role, weir_comm_t **comm,
                               weir_error_t *error) {
    weir_signals_init();
    weir_blas_use_one_thread();
    /* ScaLAPACK waits inside MPI: on shared cores a waiting process must give its core up */
    (void)setenv("OMPI_MCA_mpi_yield_when_idle", "1", 1);
    weir_err_t err = weir_comm_mpi_init(argc, argv, comm, error);
    if (err == WEIR_OK) {
        weir_log_init(role, (int)(*comm)->rank, WEIR_LOG_INFO);
    }
    return err;
}

_Noreturn void weir_analysis_fail(const weir_comm_t *comm, const weir_error_t *error) {
    double deadline = weir_clock_seconds() + (error->code == WEIR_ERR_PEER ? 5.0 : 3.0);
    while (comm != NULL && comm->rank > 0 && weir_clock_seconds() < deadline) {
        weir_clock_sleep(1.0);
        if (weir_signals_stop_requested() != 0) {
            _exit(weir_exit_status(error->code)); /* it has been said */
        }
    }
    weir_fatal(error);
}
