/* The pieces of a mixture of logits. Not for users of worker/mixture.h. */
#ifndef WEIR_WORKER_MIXTURE_INTERNAL_H
#define WEIR_WORKER_MIXTURE_INTERNAL_H

#include "worker/mixture.h"
#include "worker/mlp.h"

enum {
    WEIR_MIXTURE_QUERY,      /* D -> Pq d */
    WEIR_MIXTURE_ITEM,       /* D -> Px d */
    WEIR_MIXTURE_GATE_QUERY, /* D -> L */
    WEIR_MIXTURE_GATE_ITEM,  /* D -> L */
    WEIR_MIXTURE_GATE_PAIR,  /* L -> L */
    WEIR_MIXTURE_NETS
};

struct weir_mixture {
    weir_mixture_config_t config;
    const weir_kernels_t *kernels;
    weir_mlp_t nets[WEIR_MIXTURE_NETS];
    size_t offsets[WEIR_MIXTURE_NETS]; /* of their parameters */
    size_t logits;                     /* L */
    size_t query_width, item_width;    /* of what is prepared */
};

/* to = sqrt(D) from: what the nets take of rows of norm 1. from: ldx apart. */
void weir_mixture_scale(const weir_mixture_t *mixture, const weir_real_t *from, size_t ldx,
                        size_t count, weir_real_t *to);

/* Parts of `count` rows, each `parts` of the config's width, ld apart, to norm `length`; the
 * inverses of their norms before, count x parts, kept for backward (NULL: not wanted). And
 * back: gradients in place, from the normalised parts. */
void weir_mixture_normalise(const weir_mixture_t *mixture, size_t parts, weir_real_t length,
                            size_t count, weir_real_t *rows, size_t ld, weir_real_t *inverses);
void weir_mixture_normalise_backward(const weir_mixture_t *mixture, size_t parts,
                                     weir_real_t length, size_t count, const weir_real_t *rows,
                                     const weir_real_t *inverses, weir_real_t *d_rows, size_t ld);

/* One query with `count` items. All arrays are the caller's, count x what is said. */
typedef struct {
    const weir_real_t *query; /* prepared */
    size_t count;
    const weir_real_t *items; /* item_width, prepared */
    weir_real_t *logits;      /* L */
    weir_real_t *before, *z;  /* gate_hidden */
    weir_real_t *weights;     /* L: what silu takes */
    weir_real_t *softmax;     /* L */
    weir_real_t *shares;      /* L: after dropout, of sum 1; may be softmax where nothing drops */
    weir_real_t *sums;        /* 1: of what dropout left */
    weir_real_t *scores;      /* 1 */
} weir_mixture_pairs_t;

/* Numbers of all arrays of a pair but its item. */
size_t weir_mixture_pair_numbers(const weir_mixture_t *mixture);
/* Point the arrays into `room`, of weir_mixture_scratch(mixture, most) numbers, and set `count`
 * to `most`. */
void weir_mixture_pairs_place(const weir_mixture_t *mixture, size_t most, weir_real_t *room,
                              weir_mixture_pairs_t *pairs);

/* Scores. `dropout` NULL: none; `numbers`: its rows. */
void weir_mixture_pairs_forward(const weir_mixture_t *mixture, const weir_real_t *parameters,
                                const weir_mixture_pairs_t *pairs, const weir_dropout_t *dropout,
                                const uint32_t *numbers);

/* After forward, from d_scores: d_query (query_width) overwritten, d_items (count x item_width)
 * overwritten, d_pair added to (parameters of the net GATE_PAIR). `room`: count x (2 L +
 * gate_hidden). Destroys `before`. */
void weir_mixture_pairs_backward(const weir_mixture_t *mixture, const weir_real_t *parameters,
                                 const weir_mixture_pairs_t *pairs, const weir_dropout_t *dropout,
                                 const uint32_t *numbers, const weir_real_t *d_scores,
                                 weir_real_t *room, weir_real_t *d_query, weir_real_t *d_items,
                                 weir_real_t *d_pair);

#endif
