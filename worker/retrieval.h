/* A trained model asked for what comes next: histories of users encoded, rows of items as they are
 * scored, and the catalogue passing by in pieces, so that neither it nor a matrix of scores need
 * fit into memory. What evaluation and recommendation share.
 *
 * score(user, item) = <e, E[item] / max(|E[item]|, 1e-6)>, where e is the encoded last token; with
 * model.item_bias one column more: 1 in e, temperature times the bias in the row. With a mixture of
 * logits both are prepared for it (worker/mixture.h). Rows come by peek: nothing is born. */
#ifndef WEIR_WORKER_RETRIEVAL_H
#define WEIR_WORKER_RETRIEVAL_H

#include "common/config.h"
#include "common/dataset.h"
#include "common/error.h"
#include "ps/client.h"
#include "worker/encoder.h"
#include "worker/mixture.h"

typedef struct {
    const weir_config_t *config;
    weir_dataset_t *dataset;
    weir_encoder_t *encoder; /* workspace, shared with training */
    weir_ps_client_t *client;
    const float *parameters;
    const weir_mixture_t *mixture; /* NULL: scores are dot products */
    size_t mixture_offset;         /* of its parameters */
} weir_retrieval_parts_t;          /* none owned */

/* Part of a user's events, and when the next one is asked for. */
typedef struct {
    uint64_t user;
    size_t first, count; /* events; 1 to model.max_sequence_length of them */
    int64_t query_time;  /* seconds; not before the last of them */
} weir_history_t;

typedef struct weir_retrieval weir_retrieval_t;

WEIR_MUST_USE weir_err_t weir_retrieval_create(const weir_retrieval_parts_t *parts,
                                               weir_retrieval_t **retrieval, weir_error_t *error);
void weir_retrieval_destroy(weir_retrieval_t *retrieval); /* accepts NULL */

/* How the two below make a score, and their widths. */
weir_similarity_t weir_retrieval_similarity(const weir_retrieval_t *retrieval);

/* encoded: count x query_width. eval.batch_users histories are encoded at a time. Errors: no memory
 * for their tokens. Call: local to the worker; servers answer. Threads: compute. */
WEIR_MUST_USE weir_err_t weir_retrieval_encode(weir_retrieval_t *retrieval,
                                               const weir_history_t *histories, size_t count,
                                               float *encoded, weir_error_t *error);

/* rows: count x item_width, as they are scored, of items of the catalogue. */
WEIR_MUST_USE weir_err_t weir_retrieval_rows(weir_retrieval_t *retrieval, const int64_t *items,
                                             size_t count, float *rows, weir_error_t *error);

/* rows: count x D, the embeddings alone, of norm 1. */
WEIR_MUST_USE weir_err_t weir_retrieval_embeddings(weir_retrieval_t *retrieval,
                                                   const int64_t *items, size_t count, float *rows,
                                                   weir_error_t *error);

/* Rows of the items first_item .. first_item + count - 1, as they are scored. */
typedef weir_err_t (*weir_retrieval_visit_t)(void *argument, const float *rows, int64_t first_item,
                                             size_t count, weir_error_t *error);

/* The catalogue's items 1 .. items. Ends at the first error of `visit`. */
WEIR_MUST_USE weir_err_t weir_retrieval_catalogue(weir_retrieval_t *retrieval, uint64_t items,
                                                  weir_retrieval_visit_t visit, void *argument,
                                                  weir_error_t *error);

#endif
