/* A trainer that answers requests in place of training. */
#include "worker/recommend.h"
#include "worker/trainer_internal.h"

static weir_err_t recommend(weir_trainer_t *trainer, const weir_requests_t *requests,
                            const char *folder, weir_error_t *error) {
    const weir_retrieval_parts_t parts = {.config = trainer->options.config,
                                          .dataset = trainer->options.dataset,
                                          .encoder = trainer->encoder,
                                          .client = trainer->options.client,
                                          .parameters = weir_dense_parameters(trainer->dense)};
    if (trainer->ranking != NULL) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "a ranking model does not score the catalogue: it ranks candidates");
    }
    return weir_recommend(&parts, requests, folder, trainer->worker, trainer->workers, error);
}

weir_err_t weir_trainer_serve(weir_trainer_t *trainer, const char *folder, weir_error_t *error) {
    weir_requests_t requests;
    weir_tensor_file_t *file = NULL;
    weir_trainer_publish(trainer, WEIR_PHASE_EVALUATING, 0.0, 0.0);
    weir_err_t err = weir_requests_open(folder, trainer->options.dataset, &requests, &file, error);
    if (err == WEIR_OK && requests.kind == WEIR_REQUEST_RECOMMEND) {
        err = recommend(trainer, &requests, folder, error);
    } else if (err == WEIR_OK) {
        err = weir_errorf(error, WEIR_ERR_UNSUPPORTED, "candidates are not ranked yet");
    }
    weir_tensor_file_close(file);
    return err;
}
