#include "worker/attention.h"

#include <stdlib.h>

struct weir_attention {
    weir_attention_config_t config;
    const weir_kernels_t *kernels;
    const weir_sequence_batch_t *batch; /* not owned */
};

weir_err_t weir_attention_create(const weir_attention_config_t *config,
                                 const weir_kernels_t *kernels, weir_attention_t **attention,
                                 weir_error_t *error) {
    weir_attention_t *made = NULL;
    if (config->heads == 0 || config->dqk == 0 || config->dv == 0 ||
        config->attention_length == 0) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "attention needs at least one head, dqk, dv and attention length");
    }
    weir_err_t err = WEIR_OK;
    if (kernels == NULL) {
        err = weir_kernels_select(&kernels, error);
        if (err != WEIR_OK) {
            goto out;
        }
    }
    made = calloc(1, sizeof *made);
    if (made == NULL) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for attention");
        goto out;
    }
    made->config = *config;
    made->kernels = kernels;
    *attention = made;
    made = NULL;
out:
    weir_attention_destroy(made);
    return err;
}

void weir_attention_destroy(weir_attention_t *attention) {
    free(attention);
}

weir_err_t weir_attention_prepare(weir_attention_t *attention, const weir_sequence_batch_t *batch,
                                  weir_error_t *error) {
    for (size_t user = 0; user < batch->users; user++) {
        size_t length = batch->offsets[user + 1] - batch->offsets[user];
        if (length == 0 || length > attention->config.attention_length) {
            return weir_errorf(error, WEIR_ERR_INVALID,
                               "user %zu of the batch has %zu events; attention takes 1 to %zu",
                               user, length, attention->config.attention_length);
        }
    }
    attention->batch = batch;
    return WEIR_OK;
}

void weir_attention_forward(weir_attention_t *attention, const weir_attention_input_t *input,
                            weir_real_t *y) {
    weir_attention_forward_naive(&attention->config, attention->batch, input, y);
}

void weir_attention_backward(weir_attention_t *attention, const weir_attention_input_t *input,
                             const weir_real_t *d_y, const weir_attention_gradient_t *gradient) {
    weir_attention_backward_naive(&attention->config, attention->batch, input, d_y, gradient);
}
