/* The roster of a job: the cards of all ranks (common/comm.h), judged. Every rank judges the same
 * cards by the same rules and so comes to the same end without another word. */
#ifndef WEIR_PROTO_ROSTER_H
#define WEIR_PROTO_ROSTER_H

#include "common/comm.h"
#include "common/error.h"

#include <stdint.h>

/* "weircard", without a NUL: it fills the field. */
extern const char weir_roster_magic[8];

/* Check the cards of `size` ranks (strings in them are terminated here): kind, one version, every
 * rank's own start, 1 + ps + workers ranks in the order coordinator, servers, workers, and one
 * configuration. What comes first in this list is told first. On an error `*speaker` is the one
 * rank that should tell it: the one whose start failed, else rank 0. Errors: VERSION, INVALID, or
 * that of the rank's start. Call: local. Threads: any. */
WEIR_MUST_USE weir_err_t weir_roster_check(weir_card_t *cards, weir_rank_t size, uint32_t ps,
                                           uint32_t workers, weir_rank_t *speaker,
                                           weir_error_t *error);

#endif
