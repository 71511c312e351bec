/* How good, how new, how varied and how fair lists of recommended items are.
 *
 * A *list* are items in order, the best first; of each user there is one, and the items *relevant*
 * to it: what it came to afterwards, R of them. hit(j) is 1 where the item at place j is relevant.
 * Over the first k places of a list, mean over users:
 *   recall        hits / R
 *   precision     hits / k, also where a list is shorter
 *   map           sum over hits of the precision at their place, / min(R, k)
 *   ndcg          sum of hit(j) / log2(j + 1), / the same of a list that begins with all R
 *   epc           expected popularity complement, without relevance or discount: mean over places
 *                 of 1 - p, p the share of users who have the item in training
 *   epc_relevant  the same with both: sum of hit(j) (1 - p) / log2(j + 1), / sum of
 *                 1 / log2(j + 1) over k places
 *   popularity    average recommended popularity: mean over places of the item's popularity
 *   diversity     mean over pairs of places of 1 - cosine of their items' embeddings; lists of
 *                 fewer than two items are left out
 * and over all lists together:
 *   coverage      share of the catalogue that is in one list at least
 *   opportunity_head, opportunity_tail   hits / relevant items, of those of the head and of the
 * tail opportunity_spread   deviation of these two over their mean: 0 where both have the same
 * chance R-precision has no k: hits within the first R places / R, with R at most the longest k.
 *
 * Sources: recall, precision, average precision, R-precision, NDCG of relevant or not: Manning,
 * Raghavan and Schuetze, "Introduction to Information Retrieval", 8.4. EPC: Vargas and Castells,
 * RecSys 2011, with p(seen) by users. Average recommended popularity: Yin et al., VLDB 2012.
 * Intra-list diversity: Ziegler et al., WWW 2005, as a distance. Opportunity: Zhu, Wang and
 * Caverlee, SIGIR 2020 (REO).
 *
 * With R = 1, and the relevant item at `rank`, recall is HR, precision HR / k, map the reciprocal
 * rank where rank <= k, ndcg NDCG@k, R-precision HR@1.
 *
 * Sums are without rounding: the result is the same bit for bit however the users were spread over
 * workers. */
#ifndef WEIR_WORKER_LIST_METRICS_H
#define WEIR_WORKER_LIST_METRICS_H

#include "common/error.h"
#include "worker/item_popularity.h"

#include <stddef.h>
#include <stdint.h>

enum { WEIR_LIST_CUTOFFS = 8, WEIR_LIST_LONGEST = 1 << 20 };

/* The k's, rising from 1 or more. */
typedef struct {
    size_t count; /* 1 .. WEIR_LIST_CUTOFFS */
    size_t at[WEIR_LIST_CUTOFFS];
} weir_list_cutoffs_t;

/* "1,10,50": numbers from 1 to `limit`, rising. Errors: INVALID. Call: local. */
WEIR_MUST_USE weir_err_t weir_list_cutoffs_parse(const char *text, size_t limit,
                                                 weir_list_cutoffs_t *cutoffs, weir_error_t *error);

typedef enum {
    WEIR_LIST_RECALL,
    WEIR_LIST_PRECISION,
    WEIR_LIST_MAP,
    WEIR_LIST_NDCG,
    WEIR_LIST_EPC,
    WEIR_LIST_EPC_RELEVANT,
    WEIR_LIST_POPULARITY,
    WEIR_LIST_DIVERSITY,
    WEIR_LIST_SUMS, /* those before are means over users */
    WEIR_LIST_COVERAGE = WEIR_LIST_SUMS,
    WEIR_LIST_OPPORTUNITY_HEAD,
    WEIR_LIST_OPPORTUNITY_TAIL,
    WEIR_LIST_OPPORTUNITY_SPREAD,
    WEIR_LIST_KINDS
} weir_list_kind_t;

/* "recall", "precision", ... as above. */
const char *weir_list_kind_name(weir_list_kind_t kind);

typedef struct {
    const int64_t *items; /* the best first, no item twice */
    size_t count;
    const int64_t *relevant; /* ascending, no item twice */
    size_t relevant_count;   /* R, 1 or more */
    const double *diversity; /* a cutoff each; not finite: left out, as of fewer than two items */
} weir_list_t;

typedef struct weir_list_metrics weir_list_metrics_t;

/* Of no user yet. `popularity` is not owned and outlives it. Errors: out of memory. Call: local. */
WEIR_MUST_USE weir_err_t weir_list_metrics_create(const weir_list_cutoffs_t *cutoffs,
                                                  const weir_item_popularity_t *popularity,
                                                  weir_list_metrics_t **metrics,
                                                  weir_error_t *error);
void weir_list_metrics_destroy(weir_list_metrics_t *metrics); /* accepts NULL */

/* Count a user's list. Call: local. Threads: any (one at a time). */
void weir_list_metrics_add(weir_list_metrics_t *metrics, const weir_list_t *list);

/* The state, as bytes of one size for all of these cutoffs and items, for another worker of the
 * same job; valid until the next call. */
const void *weir_list_metrics_state(weir_list_metrics_t *metrics, size_t *size);
/* Count what another's state has counted. Call: local. */
void weir_list_metrics_merge(weir_list_metrics_t *metrics, const void *state);

uint64_t weir_list_metrics_users(const weir_list_metrics_t *metrics);
/* At cutoff number `cutoff`; not a number where nothing was counted. Call: local. */
double weir_list_metrics_value(const weir_list_metrics_t *metrics, weir_list_kind_t kind,
                               size_t cutoff);
double weir_list_metrics_r_precision(const weir_list_metrics_t *metrics);

/* The diversity of one list at each cutoff. `rows`: of its items in order, `stride` numbers apart,
 * of which the first dim are the embedding; of length 1 or 0 (an embedding of length 0 is
 * orthogonal to all). Cost: count x dim. Errors: out of memory. Call: local. */
WEIR_MUST_USE weir_err_t weir_list_diversity(const float *rows, size_t count, size_t dim,
                                             size_t stride, const weir_list_cutoffs_t *cutoffs,
                                             double *diversity, weir_error_t *error);

#endif
