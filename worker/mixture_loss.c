/* The loss of a mixture of logits. Queries of the tokens and items of the distinct rows are
 * prepared once; tokens then come in strips. Within a strip, LANES tasks each take some of its
 * tokens, with the items of each gathered, and leave the gradients of its pairs; these are then
 * added to those of the rows, token after token. A lane is not a thread: its sums are the same
 * whoever runs it. */
#include "worker/kernels.h"
#include "worker/loss_internal.h"
#include "worker/mixture_internal.h"
#include "worker/parallel.h"

#include <math.h>
#include <string.h>

enum {
    LANES = 8,
    MOST_STRIP = 64,         /* tokens, a multiple of LANES */
    STRIP_BYTES = 32 << 20,  /* that a strip's gradients take, if it is not of the least size */
    DROPOUT_SITE = 0x4d6f4c, /* apart from those of the encoders */
    SIDES = 2                /* queries, items */
};

/* One side: rows of x through two nets. */
typedef struct {
    int parts_net, gate_net;
    size_t rows, parts, width; /* width: of what is prepared */
    weir_real_t length;        /* of a part */
    const weir_real_t *x;      /* rows x D, ldx apart, of norm 1 */
    size_t ldx;
    weir_real_t *scaled, *d_scaled;     /* rows x D: what the nets take */
    weir_real_t *prepared, *d_prepared; /* rows x width */
    weir_real_t *inverses;              /* rows x parts */
    weir_mlp_rows_t nets[2];
    weir_real_t *d_z;
} side_t;

/* Room of one lane. n = R + 1 items. */
typedef struct {
    weir_real_t *items;    /* n x item_width */
    weir_real_t *pairs;    /* weir_mixture_scratch */
    weir_real_t *backward; /* n x (2 L + gate_hidden) */
    weir_real_t *d_scores; /* n */
    uint32_t *numbers;     /* n: of dropout */
    weir_real_t *d_pair;   /* parameters of the pairs' gate */
} lane_t;

typedef struct {
    const weir_mixture_t *mixture;
    weir_loss_t *loss;
    const weir_loss_batch_t *batch;
    bool shared;
    const weir_mixture_mode_t *mode;
    const weir_real_t *parameters;
    weir_dropout_t dropout;
    side_t sides[SIDES]; /* queries, items */
    lane_t lanes[LANES];
    size_t n, strip;      /* pairs of a token; tokens of a strip */
    size_t first;         /* token of the strip in work */
    weir_real_t *d_pairs; /* strip x n x item_width */
    double *token_losses; /* T */
    uint32_t threads;     /* of the scatter */
} call_t;

/* ---- workspace ---- */

static size_t strip_tokens(const weir_mixture_t *mixture, size_t n) {
    size_t most = STRIP_BYTES / (n * mixture->item_width * sizeof(weir_real_t)) / LANES * LANES;
    return most > MOST_STRIP ? MOST_STRIP : most > 0 ? most : LANES;
}

static weir_real_t *take(weir_workspace_t *workspace, size_t rows, size_t width) {
    return weir_workspace_take(workspace, rows, width * sizeof(weir_real_t));
}

static void lay_out_side(weir_workspace_t *workspace, const weir_mixture_t *mixture, side_t *side) {
    const int nets[2] = {side->parts_net, side->gate_net};
    size_t widest = 0;
    side->scaled = take(workspace, side->rows, mixture->config.dim);
    side->d_scaled = take(workspace, side->rows, mixture->config.dim);
    side->prepared = take(workspace, side->rows, side->width);
    side->d_prepared = take(workspace, side->rows, side->width);
    side->inverses = take(workspace, side->rows, side->parts);
    for (size_t which = 0; which < 2; which++) {
        const weir_mlp_t *net = &mixture->nets[nets[which]];
        side->nets[which] =
            (weir_mlp_rows_t){.rows = side->rows,
                              .x = side->scaled,
                              .ldx = mixture->config.dim,
                              .before = take(workspace, side->rows, weir_mlp_before(net)),
                              .z = take(workspace, side->rows, net->hidden)};
        widest = net->hidden > widest ? net->hidden : widest;
    }
    side->d_z = take(workspace, side->rows, widest);
}

static void lay_out(call_t *call) {
    const weir_mixture_t *mixture = call->mixture;
    weir_workspace_t *workspace = &call->loss->workspace;
    size_t n = call->n, hidden = mixture->config.gate_hidden;
    weir_loss_lay_out(call->loss, call->batch, 0);
    call->sides[1].x = call->loss->normalised;
    for (size_t side = 0; side < SIDES; side++) {
        lay_out_side(workspace, mixture, &call->sides[side]);
    }
    for (size_t i = 0; i < LANES; i++) {
        lane_t *lane = &call->lanes[i];
        lane->items = take(workspace, n, mixture->item_width);
        lane->pairs = take(workspace, n, weir_mixture_pair_numbers(mixture));
        lane->backward = take(workspace, n, 2 * mixture->logits + hidden);
        lane->d_scores = take(workspace, n, 1);
        lane->numbers = weir_workspace_take(workspace, n, sizeof *lane->numbers);
        lane->d_pair =
            take(workspace, weir_mlp_elements(&mixture->nets[WEIR_MIXTURE_GATE_PAIR]), 1);
    }
    call->d_pairs = take(workspace, call->strip * n, mixture->item_width);
    call->token_losses = weir_workspace_take(workspace, call->batch->tokens, sizeof(double));
}

/* ---- the two sides ---- */

static void prepare_side(const call_t *call, side_t *side) {
    const weir_mixture_t *mixture = call->mixture;
    weir_mixture_scale(mixture, side->x, side->ldx, side->rows, side->scaled);
    const int nets[2] = {side->parts_net, side->gate_net};
    for (size_t which = 0; which < 2; which++) {
        weir_mlp_forward_all(mixture->kernels, &mixture->nets[nets[which]],
                             call->parameters + mixture->offsets[nets[which]], &side->nets[which],
                             side->prepared + (which == 0 ? 0 : side->width - mixture->logits),
                             side->width);
    }
    weir_mixture_normalise(mixture, side->parts, side->length, side->rows, side->prepared,
                           side->width, side->inverses);
}

/* d_x is added to. */
static void backward_side(const call_t *call, side_t *side, weir_real_t *d_x,
                          weir_real_t *d_parameters) {
    const weir_mixture_t *mixture = call->mixture;
    const int nets[2] = {side->parts_net, side->gate_net};
    size_t dim = mixture->config.dim;
    const weir_real_t scale = (weir_real_t)sqrt((double)dim);
    memset(side->d_scaled, 0, side->rows * dim * sizeof *side->d_scaled);
    weir_mixture_normalise_backward(mixture, side->parts, side->length, side->rows, side->prepared,
                                    side->inverses, side->d_prepared, side->width);
    for (size_t which = 0; which < 2; which++) {
        weir_mlp_backward_all(mixture->kernels, &mixture->nets[nets[which]],
                              call->parameters + mixture->offsets[nets[which]], &side->nets[which],
                              side->d_prepared + (which == 0 ? 0 : side->width - mixture->logits),
                              side->width, side->d_z, side->d_scaled,
                              d_parameters + mixture->offsets[nets[which]]);
    }
    for (size_t i = 0; i < side->rows; i++) {
        for (size_t d = 0; d < dim; d++) {
            d_x[i * side->ldx + d] += scale * side->d_scaled[i * dim + d];
        }
    }
}

/* ---- tokens ---- */

static uint32_t row_of(const call_t *call, size_t token, size_t pair) {
    const weir_loss_batch_t *batch = call->batch;
    size_t first = call->shared ? 0 : token * batch->negatives;
    return pair == 0 ? batch->targets[token] : batch->negative_rows[first + pair - 1];
}

/* Loss of a token from its scores, the target's first, and their gradients. */
static double weigh_scores(const call_t *call, size_t token, const weir_real_t *scores,
                           weir_real_t *d_scores) {
    const weir_loss_batch_t *batch = call->batch;
    uint32_t target = batch->targets[token];
    for (size_t i = 0; i < call->n; i++) {
        bool masked = i > 0 && row_of(call, token, i) == target;
        d_scores[i] = masked ? (weir_real_t)WEIR_LOSS_MASKED_LOGIT : scores[i];
    }
    weir_real_t highest = weir_loss_maximum(d_scores, call->n);
    double margin = (double)(highest - scores[0]);
    double sum = exp(-margin) + (double)weir_loss_exponentiate(call->mixture->kernels, d_scores + 1,
                                                               call->n - 1, highest);
    double token_loss = margin + log(sum);
    weir_loss_scale(d_scores + 1, call->n - 1, (weir_real_t)(batch->scale / sum));
    d_scores[0] = (weir_real_t)(batch->scale * expm1(-token_loss));
    return token_loss;
}

static void run_token(call_t *call, const lane_t *lane, size_t token, size_t place) {
    const weir_mixture_t *mixture = call->mixture;
    const side_t *queries = &call->sides[0], *items = &call->sides[1];
    const uint32_t *tokens = call->mode->global_tokens;
    size_t n = call->n, width = mixture->item_width;
    uint32_t number = tokens != NULL ? tokens[token] : (uint32_t)token;
    weir_mixture_pairs_t pairs = {.query = queries->prepared + token * mixture->query_width,
                                  .items = lane->items};
    for (size_t i = 0; i < n; i++) {
        memcpy(lane->items + i * width, items->prepared + row_of(call, token, i) * width,
               width * sizeof(weir_real_t));
        lane->numbers[i] = number * (uint32_t)n + (uint32_t)i; /* wraps round: no harm */
    }
    const weir_dropout_t *dropout = mixture->config.dropout > 0.0 ? &call->dropout : NULL;
    weir_mixture_pairs_place(mixture, n, lane->pairs, &pairs);
    weir_mixture_pairs_forward(mixture, call->parameters, &pairs, dropout, lane->numbers);
    call->token_losses[token] = weigh_scores(call, token, pairs.scores, lane->d_scores);
    weir_mixture_pairs_backward(mixture, call->parameters, &pairs, dropout, lane->numbers,
                                lane->d_scores, lane->backward,
                                queries->d_prepared + token * mixture->query_width,
                                call->d_pairs + place * n * width, lane->d_pair);
}

static void run_lane(void *argument, size_t task, uint32_t thread) {
    call_t *call = argument;
    size_t share = call->strip / LANES;
    (void)thread;
    for (size_t i = 0; i < share; i++) {
        size_t place = task * share + i;
        if (call->first + place < call->batch->tokens) {
            run_token(call, &call->lanes[task], call->first + place, place);
        }
    }
}

/* Columns of the strip's gradients to their rows, in the order of the pairs. */
static void scatter_columns(void *argument, size_t task, uint32_t thread) {
    call_t *call = argument;
    side_t *items = &call->sides[1];
    size_t width = items->width, left = call->batch->tokens - call->first;
    size_t tokens = left < call->strip ? left : call->strip;
    size_t begin = width * task / call->threads, end = width * (task + 1) / call->threads;
    (void)thread;
    for (size_t place = 0; place < tokens; place++) {
        for (size_t i = 0; i < call->n; i++) {
            const weir_real_t *from = call->d_pairs + (place * call->n + i) * width;
            weir_real_t *to = items->d_prepared + row_of(call, call->first + place, i) * width;
            for (size_t c = begin; c < end; c++) {
                to[c] += from[c];
            }
        }
    }
}

/* ---- all ---- */

static call_t make_call(const weir_mixture_t *mixture, weir_loss_t *loss,
                        const weir_loss_batch_t *batch, bool shared,
                        const weir_mixture_mode_t *mode, const weir_real_t *parameters,
                        const weir_real_t *encoded) {
    const weir_mixture_config_t *config = &mixture->config;
    size_t n = batch->negatives + 1;
    return (call_t){.mixture = mixture,
                    .loss = loss,
                    .batch = batch,
                    .shared = shared,
                    .mode = mode,
                    .parameters = parameters,
                    .dropout =
                        weir_dropout_at(mode->seed, mode->step, DROPOUT_SITE, config->dropout),
                    .sides = {{.parts_net = WEIR_MIXTURE_QUERY,
                               .gate_net = WEIR_MIXTURE_GATE_QUERY,
                               .rows = batch->tokens,
                               .parts = config->query_parts,
                               .width = mixture->query_width,
                               .length = (weir_real_t)(1.0 / config->temperature),
                               .x = encoded,
                               .ldx = config->dim},
                              {.parts_net = WEIR_MIXTURE_ITEM,
                               .gate_net = WEIR_MIXTURE_GATE_ITEM,
                               .rows = batch->rows,
                               .parts = config->item_parts,
                               .width = mixture->item_width,
                               .length = 1,
                               .ldx = weir_loss_stride(loss, config->dim)}},
                    .n = n,
                    .strip = strip_tokens(mixture, n),
                    .threads = weir_parallel_threads()};
}

static weir_err_t check(const weir_mixture_t *mixture, const weir_loss_batch_t *batch, bool shared,
                        weir_error_t *error) {
    size_t negatives = batch->negatives;
    if (batch->dim != mixture->config.dim || batch->biased || negatives > INT32_MAX) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "a mixture of logits of width %zu cannot score rows of %zu%s",
                           mixture->config.dim, batch->dim, batch->biased ? " with a bias" : "");
    }
    return weir_loss_check(batch, shared ? negatives : batch->tokens * negatives, error);
}

weir_err_t weir_mixture_loss(const weir_mixture_t *mixture, weir_loss_t *loss,
                             const weir_loss_batch_t *batch, bool shared,
                             const weir_mixture_mode_t *mode, const weir_real_t *parameters,
                             const weir_real_t *encoded, const weir_real_t *rows, double *loss_sum,
                             weir_real_t *d_encoded, weir_real_t *d_rows, weir_real_t *d_parameters,
                             weir_error_t *error) {
    weir_err_t err = check(mixture, batch, shared, error);
    if (err != WEIR_OK) {
        return err;
    }
    call_t call = make_call(mixture, loss, batch, shared, mode, parameters, encoded);
    size_t pair_elements = weir_mlp_elements(&mixture->nets[WEIR_MIXTURE_GATE_PAIR]);
    weir_workspace_begin(&loss->workspace);
    lay_out(&call);
    err = weir_workspace_reserve(&loss->workspace, "the loss of a mixture", error);
    if (err != WEIR_OK) {
        return err;
    }
    lay_out(&call);
    weir_loss_begin(loss, batch, rows);
    memset(d_parameters, 0, weir_mixture_elements(mixture) * sizeof *d_parameters);
    memset(d_encoded, 0, batch->tokens * batch->dim * sizeof *d_encoded);
    memset(call.sides[1].d_prepared, 0, batch->rows * mixture->item_width * sizeof *d_rows);
    for (size_t i = 0; i < LANES; i++) {
        memset(call.lanes[i].d_pair, 0, pair_elements * sizeof(weir_real_t));
    }
    for (size_t side = 0; side < SIDES; side++) {
        prepare_side(&call, &call.sides[side]);
    }
    for (; call.first < batch->tokens; call.first += call.strip) {
        weir_parallel_run(LANES, run_lane, &call);
        weir_parallel_run(call.threads, scatter_columns, &call);
    }
    backward_side(&call, &call.sides[0], d_encoded, d_parameters);
    backward_side(&call, &call.sides[1], loss->d_normalised, d_parameters);
    weir_real_t *d_pair = d_parameters + mixture->offsets[WEIR_MIXTURE_GATE_PAIR];
    for (size_t i = 0; i < LANES; i++) {
        for (size_t e = 0; e < pair_elements; e++) {
            d_pair[e] += call.lanes[i].d_pair[e];
        }
    }
    weir_loss_end(loss, batch, d_rows);
    *loss_sum = 0.0;
    for (size_t token = 0; token < batch->tokens; token++) {
        *loss_sum += call.token_losses[token];
    }
    return WEIR_OK;
}
