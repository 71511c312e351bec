/* Mixture of logits: a learned similarity of a query e (an encoded history) and an item x (its
 * normalised row). Source: Zhai et al., "Revisiting Neural Retrieval on Accelerators", KDD 2023;
 * Ding, Zhai, "Retrieval with Learned Similarities", 2024; exact form in docs/model.md.
 *
 *   [f_1 .. f_Pq] = net_q(e)     [g_1 .. g_Px] = net_x(x)      parts of width d, each of norm 1,
 *                                                              of sqrt(D) e and sqrt(D) x, as the
 * gates l_qp = <f_p, g_q> / temperature                            L = Pq Px logits share =
 * softmax(silu(gate_q(e) * gate_x(x) + gate_l(l)))   over the L score(e, x) = sum of share * l
 *
 * net_q and net_x are gated, the gates plain (worker/mlp.h). A query *prepared* is its parts over
 * temperature, then gate_q: Pq d + L numbers; an item its parts, then gate_x: Px d + L. This file
 * is compiled for float32 and float64. */
#ifndef WEIR_WORKER_MIXTURE_H
#define WEIR_WORKER_MIXTURE_H

#include "common/error.h"
#include "worker/loss.h"
#include "worker/parameter.h"
#include "worker/similarity.h"

typedef struct {
    size_t dim;                     /* D: of e and x */
    size_t query_parts, item_parts; /* Pq, Px */
    size_t width;                   /* d */
    size_t hidden;                  /* inside net_q and net_x */
    size_t gate_hidden;             /* inside the gates */
    double dropout;                 /* of the shares, in training: [0, 1) */
    double temperature;
} weir_mixture_config_t;

/* Constant after create. Errors: widths out of range, out of memory, unknown WEIR_KERNELS. */
WEIR_MUST_USE weir_err_t weir_mixture_create(const weir_mixture_config_t *config,
                                             weir_mixture_t **mixture, weir_error_t *error);
void weir_mixture_destroy(weir_mixture_t *mixture); /* accepts NULL */

/* Named parameters, in the order of the buffer, offsets from the mixture's first. */
size_t weir_mixture_parameter_count(const weir_mixture_t *mixture);
size_t weir_mixture_elements(const weir_mixture_t *mixture);
weir_parameter_t weir_mixture_parameter(const weir_mixture_t *mixture, size_t index);

/* Scores of prepared queries and items; parameters are not copied. */
weir_similarity_t weir_mixture_similarity(const weir_mixture_t *mixture,
                                          const weir_real_t *parameters);

/* Prepare `count` queries (count x D, rows of norm 1) or items (count x D, normalised rows that
 * are `stride` numbers apart). Errors: out of memory. Call: local. Threads: compute. */
WEIR_MUST_USE weir_err_t weir_mixture_prepare_queries(const weir_mixture_t *mixture,
                                                      const weir_real_t *parameters,
                                                      const weir_real_t *encoded, size_t count,
                                                      weir_real_t *queries, weir_error_t *error);
WEIR_MUST_USE weir_err_t weir_mixture_prepare_items(const weir_mixture_t *mixture,
                                                    const weir_real_t *parameters,
                                                    const weir_real_t *rows, size_t stride,
                                                    size_t count, weir_real_t *items,
                                                    weir_error_t *error);

/* scores[i] of one prepared query and the prepared items[i], i < count. `scratch`:
 * weir_mixture_scratch(mixture, count) numbers, aligned to 64 bytes. Equal items at any place of a
 * call have equal scores. Call: local. Threads: any. */
size_t weir_mixture_scratch(const weir_mixture_t *mixture, size_t count);
void weir_mixture_score(const weir_similarity_t *similarity, const weir_real_t *query,
                        const weir_real_t *items, size_t count, weir_real_t *scratch,
                        weir_real_t *scores);

/* Where dropout is in training. */
typedef struct {
    uint64_t seed, step;
    const uint32_t *global_tokens; /* T: as of the encoder's batch; NULL: row numbers */
} weir_mixture_mode_t;

/* Softmax loss of the scores, forward and backward in one, as weir_loss_per_token (`shared` false:
 * negative_rows T x R) or weir_loss_shared (R of them); no biases. `d_parameters`: overwritten,
 * weir_mixture_elements of them. The same bits for any number of threads. Call: local. */
WEIR_MUST_USE weir_err_t weir_mixture_loss(
    const weir_mixture_t *mixture, weir_loss_t *loss, const weir_loss_batch_t *batch, bool shared,
    const weir_mixture_mode_t *mode, const weir_real_t *parameters, const weir_real_t *encoded,
    const weir_real_t *rows, double *loss_sum, weir_real_t *d_encoded, weir_real_t *d_rows,
    weir_real_t *d_parameters, weir_error_t *error);

#endif
