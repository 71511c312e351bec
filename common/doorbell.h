/* Doorbells among the ranks of a job that share a host: an empty datagram that says "look". MPI has
 * no descriptor to wait on; with a bell a comm thread sleeps until something has been sent to it
 * instead of looking every 200 us (docs/design/0005-waiting-for-frames.md).
 *
 * A rank's bell is a Unix socket with an abstract name made of the job and the rank, so that there
 * is nothing to clean up, and a rank on another host (or in another network namespace) simply
 * cannot be reached. Ringing never waits. A bell is only ever a hint: whoever is not rung looks all
 * the same, later. */
#ifndef WEIR_COMMON_DOORBELL_H
#define WEIR_COMMON_DOORBELL_H

#include "common/error.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct weir_doorbell weir_doorbell_t;

/* Hang up the bell of `rank` of `size`, and greet the ranks that have theirs up. Errors: IO, where
 * the name is taken or there are no such sockets; MEMORY. */
WEIR_MUST_USE weir_err_t weir_doorbell_create(uint64_t job, uint32_t rank, uint32_t size,
                                              weir_doorbell_t **bell, weir_error_t *error);
void weir_doorbell_destroy(weir_doorbell_t *bell);

/* Becomes readable when it rings. */
int weir_doorbell_fd(const weir_doorbell_t *bell);

/* Ring at a rank; nothing where it cannot be reached. Call: local. Threads: one (comm), as for what
 * follows. */
void weir_doorbell_ring(weir_doorbell_t *bell, uint32_t to);

/* Take the rings that have come; greet in return whoever greets. Call: local. */
void weir_doorbell_listen(weir_doorbell_t *bell);

/* Ranks that have rung at least once: they will do so whenever they send. */
uint32_t weir_doorbell_heard(const weir_doorbell_t *bell);

#endif
