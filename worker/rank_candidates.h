/* Requests for the scores of candidates, answered by a ranking model whose histories stay cached
 * between requests: worker/ranking_cache.h with rows from the servers. */
#ifndef WEIR_WORKER_RANK_CANDIDATES_H
#define WEIR_WORKER_RANK_CANDIDATES_H

#include "common/config.h"
#include "common/dataset.h"
#include "ps/client.h"
#include "worker/ranking_batch.h"
#include "worker/request_file.h"
#include "worker/rounds.h"

typedef struct {
    const weir_config_t *config;
    weir_dataset_t *dataset;
    weir_ranking_reader_t *reader; /* nothing reads ahead of it meanwhile */
    weir_ps_client_t *client;
    const float *parameters;
} weir_rank_parts_t; /* none owned */

/* Answer the requests that are this worker's and write them to its file in `folder`: for each
 * candidate the chance of each task. Candidates come requests->microbatch at a time; histories are
 * kept up to requests->cache_bytes, the ones used longest ago go first. Call: local to the worker;
 * servers answer. Threads: compute. */
WEIR_MUST_USE weir_err_t weir_rank_candidates(const weir_rank_parts_t *parts,
                                              const weir_requests_t *requests, const char *folder,
                                              weir_rounds_t *rounds, weir_error_t *error);

#endif
