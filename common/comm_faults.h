/* A transport that is worse than it is: for tests of what stands on it. Frames that are sent are
 * dropped, sent twice, or kept back for a while, so that others overtake them; which ones is a
 * function of the seed, the rank and the order of sends. */
#ifndef WEIR_COMMON_COMM_FAULTS_H
#define WEIR_COMMON_COMM_FAULTS_H

#include "common/comm.h"

typedef struct {
    uint64_t seed;
    double drop, duplicate, delay; /* probabilities of a frame */
    double seconds;                /* the longest delay */
    uint64_t first; /* so many frames of a rank pass before the first fault: a job that starts */
} weir_comm_faults_t;

/* "seed=7,drop=0.001,duplicate=0.1,delay=0.2,seconds=0.05,first=100", any of them. Errors: INVALID.
 */
WEIR_MUST_USE weir_err_t weir_comm_faults_parse(const char *text, weir_comm_faults_t *faults,
                                                weir_error_t *error);

/* Speak through `inner`, which must outlive it and is not destroyed with it. */
WEIR_MUST_USE weir_err_t weir_comm_faults_create(weir_comm_t *inner,
                                                 const weir_comm_faults_t *faults,
                                                 weir_comm_t **comm, weir_error_t *error);

#endif
