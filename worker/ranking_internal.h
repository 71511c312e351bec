/* The state of a ranking model, shared by worker/ranking.c and worker/ranking_cache.c. */
#ifndef WEIR_WORKER_RANKING_INTERNAL_H
#define WEIR_WORKER_RANKING_INTERNAL_H

#include "worker/kernels.h"
#include "worker/ranking.h"
#include "worker/workspace.h"

struct weir_ranking {
    weir_ranking_config_t config;
    const weir_kernels_t *kernels;
    weir_stu_t *stu;
    weir_workspace_t workspace;
    weir_real_t *stream;       /* T x D: input of the layers, their output, its gradient */
    weir_real_t *normalised;   /* Q x D: e */
    weir_real_t *inverses;     /* Q */
    weir_real_t *before;       /* Q x hidden: before SiLU */
    weir_real_t *body;         /* Q x hidden */
    weir_real_t *logits;       /* Q x K, then their gradient */
    weir_real_t *d_body;       /* Q x hidden */
    weir_real_t *d_normalised; /* Q x D */
    weir_real_t *direct;       /* Q x D: input of the predicted tokens, then its gradient */
    weir_real_t *block;        /* of weir_rows_add_columns */
    uint32_t *numbers;         /* T: of the rows, for a batch without global_tokens */

    weir_ranking_batch_t batch; /* of the last forward; its arrays belong to the caller */
    const weir_real_t *parameters;
    weir_forward_mode_t mode;
    bool forward_done;
};

/* What a forward does before the layers: check the batch, make room, and the input of the layers in
 * `stream`. `rows`: U x D. Errors: those of weir_ranking_forward. */
WEIR_MUST_USE weir_err_t weir_ranking_embed(weir_ranking_t *ranking, const weir_real_t *parameters,
                                            const weir_ranking_batch_t *batch,
                                            const weir_real_t *rows, weir_forward_mode_t mode,
                                            weir_error_t *error);
/* And after them: from the layers' output in `stream` to the logits of the predicted tokens. */
void weir_ranking_run_heads(weir_ranking_t *ranking);
/* The layers' place in the parameters. */
size_t weir_ranking_layers_offset(const weir_ranking_config_t *config);

#endif
