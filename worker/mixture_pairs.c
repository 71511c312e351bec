/* A query with its items: logits, gates, shares, scores, and all of it backward. */
#include "worker/loss_internal.h"
#include "worker/mixture_internal.h"
#include "worker/product.h"

#include <string.h>

size_t weir_mixture_pair_numbers(const weir_mixture_t *mixture) {
    return 4 * mixture->logits + 2 * mixture->config.gate_hidden + 2;
}

void weir_mixture_pairs_place(const weir_mixture_t *mixture, size_t most, weir_real_t *room,
                              weir_mixture_pairs_t *pairs) {
    size_t logits = most * mixture->logits, hidden = most * mixture->config.gate_hidden;
    pairs->count = most;
    pairs->logits = room;
    pairs->before = pairs->logits + logits;
    pairs->z = pairs->before + hidden;
    pairs->weights = pairs->z + hidden;
    pairs->softmax = pairs->weights + logits;
    pairs->shares = pairs->softmax + logits;
    pairs->sums = pairs->shares + logits;
    pairs->scores = pairs->sums + most;
}

/* l = <f_p, g_q>, column q Pq + p. */
static void compute_logits(const weir_mixture_t *mixture, const weir_mixture_pairs_t *pairs) {
    const weir_mixture_config_t *config = &mixture->config;
    weir_product_t product = {.form_b = WEIR_BLAS_TRANSPOSED,
                              .m = pairs->count,
                              .n = config->query_parts,
                              .k = config->width,
                              .lda = mixture->item_width,
                              .b = pairs->query,
                              .ldb = config->width,
                              .ldc = mixture->logits};
    for (size_t q = 0; q < config->item_parts; q++) {
        product.a = pairs->items + q * config->width;
        product.c = pairs->logits + q * config->query_parts;
        weir_product_run(mixture->kernels, false, &product);
    }
}

/* Rows to softmax of themselves. */
static void apply_softmax(const weir_mixture_t *mixture, weir_real_t *rows, size_t count) {
    size_t logits = mixture->logits;
    for (size_t i = 0; i < count; i++) {
        weir_real_t *row = rows + i * logits;
        weir_real_t sum =
            weir_loss_exponentiate(mixture->kernels, row, logits, weir_loss_maximum(row, logits));
        weir_loss_scale(row, logits, 1 / sum);
    }
}

void weir_mixture_pairs_forward(const weir_mixture_t *mixture, const weir_real_t *parameters,
                                const weir_mixture_pairs_t *pairs, const weir_dropout_t *dropout,
                                const uint32_t *numbers) {
    const weir_real_t eps = (weir_real_t)1e-6;
    size_t logits = mixture->logits, parts = mixture->item_width - logits;
    const weir_real_t *gate_query = pairs->query + mixture->query_width - logits;
    const weir_mlp_rows_t rows = {.rows = pairs->count,
                                  .x = pairs->logits,
                                  .ldx = logits,
                                  .before = pairs->before,
                                  .z = pairs->z};
    compute_logits(mixture, pairs);
    weir_mlp_forward(mixture->kernels, &mixture->nets[WEIR_MIXTURE_GATE_PAIR],
                     parameters + mixture->offsets[WEIR_MIXTURE_GATE_PAIR], &rows, pairs->weights,
                     logits);
    for (size_t i = 0; i < pairs->count; i++) {
        const weir_real_t *gate_item = pairs->items + i * mixture->item_width + parts;
        weir_real_t *weights = pairs->weights + i * logits;
        for (size_t l = 0; l < logits; l++) {
            weights[l] += gate_query[l] * gate_item[l];
        }
    }
    mixture->kernels->silu_forward(pairs->weights, pairs->softmax, pairs->count * logits);
    apply_softmax(mixture, pairs->softmax, pairs->count);
    if (dropout != NULL) {
        mixture->kernels->dropout(dropout, numbers, pairs->softmax, pairs->count, logits,
                                  pairs->shares);
    } else {
        memcpy(pairs->shares, pairs->softmax, pairs->count * logits * sizeof *pairs->shares);
    }
    for (size_t i = 0; i < pairs->count; i++) {
        weir_real_t *shares = pairs->shares + i * logits, sum = 0, score = 0;
        for (size_t l = 0; l < logits; l++) {
            sum += shares[l];
            score += shares[l] * pairs->logits[i * logits + l];
        }
        sum = dropout == NULL ? 1 : sum > eps ? sum : eps;
        pairs->sums[i] = sum;
        pairs->scores[i] = score / sum;
        if (dropout != NULL) {
            weir_loss_scale(shares, logits, 1 / sum);
        }
    }
}

/* Gradients of the weights (what silu takes) to d_weights, of the logits by the shares to d_logits.
 */
static void backward_shares(const weir_mixture_t *mixture, const weir_mixture_pairs_t *pairs,
                            const weir_dropout_t *dropout, const uint32_t *numbers,
                            const weir_real_t *d_scores, weir_real_t *d_weights,
                            weir_real_t *d_logits) {
    size_t logits = mixture->logits;
    for (size_t i = 0; i < pairs->count; i++) {
        size_t at = i * logits;
        weir_real_t factor = d_scores[i] / pairs->sums[i], score = pairs->scores[i];
        for (size_t l = at; l < at + logits; l++) {
            d_logits[l] = d_scores[i] * pairs->shares[l];
            d_weights[l] = factor * (pairs->logits[l] - score);
        }
    }
    if (dropout != NULL) {
        mixture->kernels->dropout(dropout, numbers, d_weights, pairs->count, logits, d_weights);
    }
    for (size_t i = 0; i < pairs->count; i++) {
        weir_real_t along = 0;
        size_t at = i * logits;
        for (size_t l = at; l < at + logits; l++) {
            along += pairs->softmax[l] * d_weights[l];
        }
        for (size_t l = at; l < at + logits; l++) {
            d_weights[l] = pairs->softmax[l] * (d_weights[l] - along);
        }
    }
    mixture->kernels->silu_backward(pairs->weights, d_weights, d_weights, pairs->count * logits);
}

/* Of the gates of the query and the items. */
static void backward_gates(const weir_mixture_t *mixture, const weir_mixture_pairs_t *pairs,
                           const weir_real_t *d_weights, weir_real_t *d_query,
                           weir_real_t *d_items) {
    size_t logits = mixture->logits, parts = mixture->item_width - logits;
    const weir_real_t *gate_query = pairs->query + mixture->query_width - logits;
    weir_real_t *d_gate_query = d_query + mixture->query_width - logits;
    memset(d_gate_query, 0, logits * sizeof *d_gate_query);
    for (size_t i = 0; i < pairs->count; i++) {
        size_t at = i * mixture->item_width + parts;
        for (size_t l = 0; l < logits; l++) {
            weir_real_t d = d_weights[i * logits + l];
            d_gate_query[l] += d * pairs->items[at + l];
            d_items[at + l] = d * gate_query[l];
        }
    }
}

/* Of the parts, from that of the logits. */
static void backward_parts(const weir_mixture_t *mixture, const weir_mixture_pairs_t *pairs,
                           const weir_real_t *d_logits, weir_real_t *d_query,
                           weir_real_t *d_items) {
    const weir_mixture_config_t *config = &mixture->config;
    for (size_t q = 0; q < config->item_parts; q++) {
        weir_product_t of_query = {.form_a = WEIR_BLAS_TRANSPOSED,
                                   .m = config->query_parts,
                                   .n = config->width,
                                   .k = pairs->count,
                                   .a = d_logits + q * config->query_parts,
                                   .lda = mixture->logits,
                                   .b = pairs->items + q * config->width,
                                   .ldb = mixture->item_width,
                                   .add = q > 0,
                                   .c = d_query,
                                   .ldc = config->width};
        weir_product_t of_items = {.m = pairs->count,
                                   .n = config->width,
                                   .k = config->query_parts,
                                   .a = d_logits + q * config->query_parts,
                                   .lda = mixture->logits,
                                   .b = pairs->query,
                                   .ldb = config->width,
                                   .c = d_items + q * config->width,
                                   .ldc = mixture->item_width};
        weir_product_run(mixture->kernels, false, &of_query);
        weir_product_run(mixture->kernels, false, &of_items);
    }
}

void weir_mixture_pairs_backward(const weir_mixture_t *mixture, const weir_real_t *parameters,
                                 const weir_mixture_pairs_t *pairs, const weir_dropout_t *dropout,
                                 const uint32_t *numbers, const weir_real_t *d_scores,
                                 weir_real_t *room, weir_real_t *d_query, weir_real_t *d_items,
                                 weir_real_t *d_pair) {
    size_t logits = mixture->logits;
    weir_real_t *d_weights = room, *d_logits = d_weights + pairs->count * logits;
    weir_real_t *d_z = d_logits + pairs->count * logits;
    const weir_mlp_rows_t rows = {.rows = pairs->count,
                                  .x = pairs->logits,
                                  .ldx = logits,
                                  .before = pairs->before,
                                  .z = pairs->z};
    backward_shares(mixture, pairs, dropout, numbers, d_scores, d_weights, d_logits);
    backward_gates(mixture, pairs, d_weights, d_query, d_items);
    weir_mlp_backward(mixture->kernels, &mixture->nets[WEIR_MIXTURE_GATE_PAIR],
                      parameters + mixture->offsets[WEIR_MIXTURE_GATE_PAIR], &rows, d_weights,
                      logits, d_z, d_logits, d_pair);
    backward_parts(mixture, pairs, d_logits, d_query, d_items);
}
