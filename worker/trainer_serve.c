/* A trainer that answers requests in place of training. */
#include "worker/rank_candidates.h"
#include "worker/recommend.h"
#include "worker/trainer_internal.h"

/* A wait lasts cluster.timeout at the most; a worker that is done waits for a round of the others.
 */
static weir_rounds_t begin_rounds(const weir_trainer_t *trainer) {
    return (weir_rounds_t){.exchange = trainer->options.exchange,
                           .sequence = SEQUENCE_ROUND,
                           .interval = trainer->options.config->cluster.timeout / 8.0};
}

static weir_err_t recommend(weir_trainer_t *trainer, const weir_requests_t *requests,
                            const char *folder, weir_error_t *error) {
    const weir_retrieval_parts_t parts = {.config = trainer->options.config,
                                          .dataset = trainer->options.dataset,
                                          .encoder = trainer->encoder,
                                          .client = trainer->options.client,
                                          .parameters = weir_dense_parameters(trainer->dense),
                                          .mixture = trainer->mixture,
                                          .mixture_offset = trainer->mixture_offset};
    if (trainer->ranking != NULL) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "a ranking model does not score the catalogue: it ranks candidates");
    }
    weir_rounds_t rounds = begin_rounds(trainer);
    return weir_recommend(&parts, requests, folder, &rounds, error);
}

static weir_err_t rank(weir_trainer_t *trainer, const weir_requests_t *requests, const char *folder,
                       weir_error_t *error) {
    const weir_rank_parts_t parts = {.config = trainer->options.config,
                                     .dataset = trainer->options.dataset,
                                     .reader = trainer->ranking_reader,
                                     .client = trainer->options.client,
                                     .parameters = weir_dense_parameters(trainer->dense)};
    if (trainer->ranking == NULL) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "the model scores the catalogue, it does not rank candidates");
    }
    weir_read_ahead_rest(trainer->read_ahead); /* its reader is needed here */
    weir_rounds_t rounds = begin_rounds(trainer);
    return weir_rank_candidates(&parts, requests, folder, &rounds, error);
}

weir_err_t weir_trainer_serve(weir_trainer_t *trainer, const char *folder, weir_error_t *error) {
    weir_requests_t requests;
    weir_tensor_file_t *file = NULL;
    weir_trainer_publish(trainer, WEIR_PHASE_EVALUATING, 0.0, 0.0);
    weir_err_t err = weir_requests_open(folder, trainer->options.dataset, &requests, &file, error);
    if (err == WEIR_OK && requests.kind == WEIR_REQUEST_RECOMMEND) {
        err = recommend(trainer, &requests, folder, error);
    } else if (err == WEIR_OK) {
        err = rank(trainer, &requests, folder, error);
    }
    weir_tensor_file_close(file);
    return err;
}
