/* The rank of a target among the whole catalogue (docs/model.md, public-data protocol).
 *
 * score(c) = <e, E[c] / max(|E[c]|, 1e-6)>; rank = 1 + items other than the target, not excluded,
 * whose score is at least the target's: ties count against us. The catalogue comes in pieces, so
 * that it never needs to be in memory whole. A score is one chain of fused multiply-adds over D in
 * order, whatever the piece: the target's score is the same number wherever it is computed. (A CPU
 * without fused multiply-add rounds each term twice, the same way everywhere in a process.) A score
 * that is not a number counts as better than the target's: a broken model must not rank well.
 * With a mixture of logits the score is that of worker/mixture.h. */
#ifndef WEIR_WORKER_RANK_H
#define WEIR_WORKER_RANK_H

#include "common/error.h"
#include "common/real.h"
#include "worker/similarity.h"

#include <stddef.h>
#include <stdint.h>

/* L2-normalise rows in place: row / max(|row|, 1e-6). */
void weir_rank_normalise(weir_real_t *rows, size_t count, size_t dim);

/* Add to counts[u] the items of this piece that are at least as good as the target.
 * `rows`: count x item_width, as they are scored, items first_item .. first_item + count - 1.
 * `targets`: item of each user. `excluded`: per user the items not to rank, ascending,
 * [excluded_offsets[u], [u+1]); the target counts never, excluded or not. Workspace is inside. */
WEIR_MUST_USE weir_err_t weir_rank_count(const weir_real_t *encoded, size_t users,
                                         weir_similarity_t similarity, const weir_real_t *rows,
                                         int64_t first_item, size_t count, const int64_t *targets,
                                         const weir_real_t *target_scores,
                                         const size_t *excluded_offsets, const int64_t *excluded,
                                         uint64_t *counts, weir_error_t *error);

/* The first place in excluded[begin, end), ascending, whose item is >= `item`; end: none is. */
size_t weir_rank_first_excluded(const int64_t *excluded, size_t begin, size_t end, int64_t item);

/* Metrics, summed over users; mean = sum / users. */
enum { WEIR_METRIC_CUTOFFS = 4 };
static const uint64_t weir_metric_cutoffs[WEIR_METRIC_CUTOFFS] = {1, 10, 50, 200};

typedef struct {
    uint64_t users;
    double hr[WEIR_METRIC_CUTOFFS];   /* rank <= K */
    double ndcg[WEIR_METRIC_CUTOFFS]; /* 1 / log2(rank + 1) if rank <= K */
    double mrr;                       /* 1 / rank */
} weir_metrics_t;

void weir_metrics_add(weir_metrics_t *metrics, uint64_t rank);
/* Value (mean) by name: "hr@10", "ndcg@50", "mrr". Error: unknown name. */
WEIR_MUST_USE weir_err_t weir_metrics_value(const weir_metrics_t *metrics, const char *name,
                                            double *value, weir_error_t *error);
/* {"users": .., "hr@1": .., ..., "mrr": ..} into `out`. */
void weir_metrics_to_json(const weir_metrics_t *metrics, char *out, size_t capacity);

#endif
