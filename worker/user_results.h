/* What an evaluation found of each user: its target and the target's rank; and what follows from
 * that alone, with the popularity of the targets.
 *
 * The file is safetensors, U users in rising order: "users" I64 [U], "targets" I64 [U] and "ranks"
 * I64 [U], 1 being the best. Metadata: format weir-user-results, version 1, split, and where it
 * came from. Treated as hostile when read. */
#ifndef WEIR_WORKER_USER_RESULTS_H
#define WEIR_WORKER_USER_RESULTS_H

#include "common/error.h"
#include "worker/item_popularity.h"
#include "worker/rank.h"

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint64_t user;
    int64_t target; /* item */
    uint64_t rank;  /* 1: the best */
} weir_user_result_t;

/* Put them in the order of users. Call: local. */
void weir_user_results_sort(weir_user_result_t *results, size_t count);

/* Metrics over those whose target was not in training, and over the others. Call: local. */
void weir_user_results_split_cold(const weir_user_result_t *results, size_t count,
                                  const weir_item_popularity_t *popularity, weir_metrics_t *cold,
                                  weir_metrics_t *warm);

/* Popularity opportunity of items: the rank correlation (Spearman) of the popularity of a target
 * and the mean of its ranks over its users, with its sign turned, over the targets that are not
 * cold; 1: the more popular, the better ranked; 0: no bias (Zhu, He, Zhao, Caverlee, WSDM 2021,
 * PRI). Not a number where fewer than two items differ. Errors: out of memory. Call: local. */
WEIR_MUST_USE weir_err_t weir_user_results_opportunity(const weir_user_result_t *results,
                                                       size_t count,
                                                       const weir_item_popularity_t *popularity,
                                                       double *correlation, weir_error_t *error);

/* Write them, in the order of users. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_user_results_write(const char *path, const char *split,
                                                 const char *source,
                                                 const weir_user_result_t *results, size_t count,
                                                 weir_error_t *error);
/* Read them: users rise, ranks are 1 or more. Ownership: caller frees. Errors: NOT_FOUND, CORRUPT,
 * VERSION. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_user_results_read(const char *path, weir_user_result_t **results,
                                                size_t *count, weir_error_t *error);
/* Copy such a file, checked. Errors: those of read. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_user_results_copy(const char *from, const char *to,
                                                weir_error_t *error);

#endif
