/* The best items of the whole catalogue for the users of requests, exact. */
#ifndef WEIR_WORKER_RECOMMEND_H
#define WEIR_WORKER_RECOMMEND_H

#include "worker/request_file.h"
#include "worker/retrieval.h"
#include "worker/rounds.h"

/* Answer the requests that are this worker's and write them to its file in `folder`. A user's
 * history is the last model.max_sequence_length of the events that it knows; all of these items are
 * left out unless requests->keep_known. Users are taken in blocks, for each of which the catalogue
 * passes by once. Call: collective(workers); servers answer. Threads: compute. */
WEIR_MUST_USE weir_err_t weir_recommend(const weir_retrieval_parts_t *parts,
                                        const weir_requests_t *requests, const char *folder,
                                        weir_rounds_t *rounds, weir_error_t *error);

#endif
