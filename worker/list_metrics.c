#include "worker/list_metrics.h"

#include "worker/exact_sum.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { HEAD, TAIL, GROUPS };

/* What is counted; it lies in one piece, so that it travels as it is. */
typedef struct {
    uint64_t users;
    uint64_t varied[WEIR_LIST_CUTOFFS]; /* lists of two items or more */
    uint64_t relevant[GROUPS];
    uint64_t hits[WEIR_LIST_CUTOFFS][GROUPS];
    weir_exact_sum_t sums[WEIR_LIST_SUMS][WEIR_LIST_CUTOFFS];
    weir_exact_sum_t r_precision;
    uint8_t reached[]; /* C + 1: the first cutoff whose lists have the item; cutoffs.count: none */
} state_t;

struct weir_list_metrics {
    weir_list_cutoffs_t cutoffs;
    const weir_item_popularity_t *popularity; /* not owned */
    size_t size;                              /* of the state */
    state_t *state;                           /* owned */
};

weir_err_t weir_list_cutoffs_parse(const char *text, size_t limit, weir_list_cutoffs_t *cutoffs,
                                   weir_error_t *error) {
    weir_list_cutoffs_t found = {0};
    const char *at = text;
    do {
        char *end = NULL;
        bool digit = *at >= '0' && *at <= '9';
        unsigned long long k = digit ? strtoull(at, &end, 10) : 0;
        if (k == 0 || k > limit || found.count == WEIR_LIST_CUTOFFS ||
            (found.count > 0 && k <= found.at[found.count - 1]) || (*end != ',' && *end != '\0')) {
            return weir_errorf(error, WEIR_ERR_INVALID,
                               "lengths of lists are at most %d rising numbers from 1 to %zu with "
                               "commas between, not \"%s\"",
                               WEIR_LIST_CUTOFFS, limit, text);
        }
        found.at[found.count++] = (size_t)k;
        at = *end == ',' ? end + 1 : NULL;
    } while (at != NULL);
    *cutoffs = found;
    return WEIR_OK;
}

const char *weir_list_kind_name(weir_list_kind_t kind) {
    static const char *const names[WEIR_LIST_KINDS] = {
        [WEIR_LIST_RECALL] = "recall",
        [WEIR_LIST_PRECISION] = "precision",
        [WEIR_LIST_MAP] = "map",
        [WEIR_LIST_NDCG] = "ndcg",
        [WEIR_LIST_EPC] = "epc",
        [WEIR_LIST_EPC_RELEVANT] = "epc_relevant",
        [WEIR_LIST_POPULARITY] = "popularity",
        [WEIR_LIST_DIVERSITY] = "diversity",
        [WEIR_LIST_COVERAGE] = "coverage",
        [WEIR_LIST_OPPORTUNITY_HEAD] = "opportunity_head",
        [WEIR_LIST_OPPORTUNITY_TAIL] = "opportunity_tail",
        [WEIR_LIST_OPPORTUNITY_SPREAD] = "opportunity_spread",
    };
    return names[kind];
}

weir_err_t weir_list_metrics_create(const weir_list_cutoffs_t *cutoffs,
                                    const weir_item_popularity_t *popularity,
                                    weir_list_metrics_t **metrics, weir_error_t *error) {
    size_t items = (size_t)popularity->items + 1;
    weir_list_metrics_t *made = calloc(1, sizeof *made);
    if (made != NULL) {
        made->cutoffs = *cutoffs;
        made->popularity = popularity;
        made->size = sizeof *made->state + items;
        made->state = calloc(1, made->size);
    }
    if (made == NULL || made->state == NULL) {
        weir_list_metrics_destroy(made);
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for what lists have of %zu items",
                           items);
    }
    memset(made->state->reached, (int)cutoffs->count, items);
    *metrics = made;
    return WEIR_OK;
}

void weir_list_metrics_destroy(weir_list_metrics_t *metrics) {
    if (metrics != NULL) {
        free(metrics->state);
        free(metrics);
    }
}

/* ---- counting ---- */

static bool is_relevant(const weir_list_t *list, int64_t item) {
    size_t begin = 0, end = list->relevant_count;
    while (begin < end) {
        size_t middle = begin + (end - begin) / 2;
        if (list->relevant[middle] < item) {
            begin = middle + 1;
        } else {
            end = middle;
        }
    }
    return begin < list->relevant_count && list->relevant[begin] == item;
}

/* What a list has summed up to a place. */
typedef struct {
    size_t hits, group_hits[GROUPS];
    double precisions, dcg, ideal, complement, gain, discounts, popularity;
} prefix_t;

/* Take the places from `from` to `to`; beyond the end of the list only the discount goes on. */
static void take_places(weir_list_metrics_t *metrics, const weir_list_t *list, size_t from,
                        size_t to, uint8_t cutoff, prefix_t *prefix) {
    const weir_item_popularity_t *popularity = metrics->popularity;
    double users = popularity->users > 0 ? (double)popularity->users : 1.0;
    for (size_t place = from; place < to; place++) {
        double discount = 1.0 / log2((double)place + 2.0);
        prefix->discounts += discount;
        prefix->ideal += place < list->relevant_count ? discount : 0.0;
        if (place >= list->count) {
            continue;
        }
        size_t item = (size_t)list->items[place];
        double count = (double)popularity->counts[item];
        prefix->complement += 1.0 - count / users;
        prefix->popularity += count;
        if (metrics->state->reached[item] > cutoff) {
            metrics->state->reached[item] = cutoff;
        }
        if (is_relevant(list, list->items[place])) {
            prefix->hits++;
            prefix->group_hits[popularity->head[item] != 0 ? HEAD : TAIL]++;
            prefix->precisions += (double)prefix->hits / (double)(place + 1);
            prefix->dcg += discount;
            prefix->gain += discount * (1.0 - count / users);
        }
    }
}

static void count_cutoff(state_t *state, const weir_list_t *list, size_t k, size_t cutoff,
                         const prefix_t *prefix) {
    double relevant = (double)list->relevant_count, hits = (double)prefix->hits;
    size_t most = list->relevant_count < k ? list->relevant_count : k;
    size_t places = list->count < k ? list->count : k;
    double length = places > 0 ? (double)places : 1.0;
    const double values[WEIR_LIST_DIVERSITY] = {
        [WEIR_LIST_RECALL] = hits / relevant,
        [WEIR_LIST_PRECISION] = hits / (double)k,
        [WEIR_LIST_MAP] = prefix->precisions / (double)most,
        [WEIR_LIST_NDCG] = prefix->dcg / prefix->ideal,
        [WEIR_LIST_EPC] = prefix->complement / length,
        [WEIR_LIST_EPC_RELEVANT] = prefix->gain / prefix->discounts,
        [WEIR_LIST_POPULARITY] = prefix->popularity / length,
    };
    for (size_t kind = 0; kind < WEIR_LIST_DIVERSITY; kind++) {
        weir_exact_sum_add(&state->sums[kind][cutoff], values[kind]);
    }
    if (isfinite(list->diversity[cutoff])) {
        weir_exact_sum_add(&state->sums[WEIR_LIST_DIVERSITY][cutoff], list->diversity[cutoff]);
        state->varied[cutoff]++;
    }
    for (size_t group = 0; group < GROUPS; group++) {
        state->hits[cutoff][group] += prefix->group_hits[group];
    }
}

void weir_list_metrics_add(weir_list_metrics_t *metrics, const weir_list_t *list) {
    const weir_list_cutoffs_t *cutoffs = &metrics->cutoffs;
    state_t *state = metrics->state;
    prefix_t prefix = {0};
    size_t place = 0, longest = cutoffs->at[cutoffs->count - 1], first_hits = 0;
    size_t first = list->relevant_count < longest ? list->relevant_count : longest;
    for (size_t cutoff = 0; cutoff < cutoffs->count; cutoff++) {
        take_places(metrics, list, place, cutoffs->at[cutoff], (uint8_t)cutoff, &prefix);
        place = cutoffs->at[cutoff];
        count_cutoff(state, list, place, cutoff, &prefix);
    }
    for (size_t i = 0; i < first && i < list->count; i++) {
        first_hits += is_relevant(list, list->items[i]) ? 1 : 0;
    }
    weir_exact_sum_add(&state->r_precision, (double)first_hits / (double)first);
    for (size_t i = 0; i < list->relevant_count; i++) {
        state->relevant[metrics->popularity->head[list->relevant[i]] != 0 ? HEAD : TAIL]++;
    }
    state->users++;
}

const void *weir_list_metrics_state(weir_list_metrics_t *metrics, size_t *size) {
    *size = metrics->size;
    return metrics->state;
}

void weir_list_metrics_merge(weir_list_metrics_t *metrics, const void *from) {
    const state_t *other = from;
    state_t *state = metrics->state;
    state->users += other->users;
    for (size_t cutoff = 0; cutoff < metrics->cutoffs.count; cutoff++) {
        state->varied[cutoff] += other->varied[cutoff];
        for (size_t group = 0; group < GROUPS; group++) {
            state->hits[cutoff][group] += other->hits[cutoff][group];
        }
        for (size_t kind = 0; kind < WEIR_LIST_SUMS; kind++) {
            weir_exact_sum_t sum = other->sums[kind][cutoff];
            weir_exact_sum_merge(&state->sums[kind][cutoff], &sum);
        }
    }
    for (size_t group = 0; group < GROUPS; group++) {
        state->relevant[group] += other->relevant[group];
    }
    weir_exact_sum_t sum = other->r_precision;
    weir_exact_sum_merge(&state->r_precision, &sum);
    for (size_t item = 0; item <= metrics->popularity->items; item++) {
        if (other->reached[item] < state->reached[item]) {
            state->reached[item] = other->reached[item];
        }
    }
}

/* ---- values ---- */

uint64_t weir_list_metrics_users(const weir_list_metrics_t *metrics) {
    return metrics->state->users;
}

static double mean(const weir_exact_sum_t *sum, uint64_t count) {
    weir_exact_sum_t settled = *sum;
    return count > 0 ? weir_exact_sum_value(&settled) / (double)count : (double)NAN;
}

static double coverage(const weir_list_metrics_t *metrics, size_t cutoff) {
    uint64_t covered = 0;
    for (size_t item = 1; item <= metrics->popularity->items; item++) {
        covered += metrics->state->reached[item] <= cutoff ? 1 : 0;
    }
    return (double)covered / (double)metrics->popularity->items;
}

static double opportunity(const state_t *state, size_t cutoff, size_t group) {
    uint64_t relevant = state->relevant[group];
    return relevant > 0 ? (double)state->hits[cutoff][group] / (double)relevant : (double)NAN;
}

double weir_list_metrics_value(const weir_list_metrics_t *metrics, weir_list_kind_t kind,
                               size_t cutoff) {
    const state_t *state = metrics->state;
    double head = opportunity(state, cutoff, HEAD), tail = opportunity(state, cutoff, TAIL);
    switch (kind) {
    case WEIR_LIST_COVERAGE:
        return coverage(metrics, cutoff);
    case WEIR_LIST_OPPORTUNITY_HEAD:
        return head;
    case WEIR_LIST_OPPORTUNITY_TAIL:
        return tail;
    case WEIR_LIST_OPPORTUNITY_SPREAD: /* of two, the deviation is half of their distance */
        return head + tail > 0.0 ? fabs(head - tail) / (head + tail) : (double)NAN;
    case WEIR_LIST_DIVERSITY:
        return mean(&state->sums[kind][cutoff], state->varied[cutoff]);
    default:
        return mean(&state->sums[kind][cutoff], state->users);
    }
}

double weir_list_metrics_r_precision(const weir_list_metrics_t *metrics) {
    return mean(&metrics->state->r_precision, metrics->state->users);
}

/* ---- diversity ---- */

/* The sum of cosines over pairs is half of |sum of vectors|^2 less their own lengths. */
weir_err_t weir_list_diversity(const float *rows, size_t count, size_t dim, size_t stride,
                               const weir_list_cutoffs_t *cutoffs, double *diversity,
                               weir_error_t *error) {
    double *sum = calloc(dim + 1, sizeof *sum), own = 0.0;
    size_t place = 0;
    if (sum == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the diversity of a list");
    }
    for (size_t cutoff = 0; cutoff < cutoffs->count; cutoff++) {
        size_t places = count < cutoffs->at[cutoff] ? count : cutoffs->at[cutoff];
        for (; place < places; place++) {
            for (size_t d = 0; d < dim; d++) {
                double value = (double)rows[place * stride + d];
                sum[d] += value;
                own += value * value;
            }
        }
        double square = 0.0, pairs = (double)places * ((double)places - 1.0) / 2.0;
        for (size_t d = 0; d < dim; d++) {
            square += sum[d] * sum[d];
        }
        diversity[cutoff] = places > 1 ? 1.0 - (square - own) / 2.0 / pairs : (double)NAN;
    }
    free(sum);
    return WEIR_OK;
}
