/* HSTU as one of the kinds of worker/encoder.h. */
#include "worker/hstu.h"

static weir_err_t create(const weir_encoder_config_t *config, void **state, weir_error_t *error) {
    weir_hstu_t *hstu = NULL;
    weir_err_t err = weir_hstu_create(config, &hstu, error);
    if (err == WEIR_OK) {
        *state = hstu;
    }
    return err;
}

static void destroy(void *state) {
    weir_hstu_destroy(state);
}

static void limit_activations(void *state, size_t bytes) {
    weir_hstu_limit_activations(state, bytes);
}

static weir_encoder_activations_t activations(const void *state) {
    return weir_hstu_activations(state);
}

static weir_err_t forward(void *state, const weir_real_t *parameters,
                          const weir_sequence_batch_t *batch, const weir_real_t *items,
                          weir_forward_mode_t mode, weir_real_t *encoded, weir_error_t *error) {
    return weir_hstu_forward(state, parameters, batch, items, mode, encoded, error);
}

static weir_err_t backward(void *state, const weir_real_t *parameters, const weir_real_t *d_encoded,
                           weir_real_t *d_items, weir_real_t *d_parameters,
                           weir_gradient_ready_t ready, void *argument, weir_error_t *error) {
    return weir_hstu_backward(state, parameters, d_encoded, d_items, d_parameters, ready, argument,
                              error);
}

static void user_gradients(const void *state, weir_real_t *d_user_rows) {
    weir_hstu_user_gradients(state, d_user_rows);
}

const weir_encoder_methods_t weir_hstu_methods = {
    .name = "hstu",
    .parameter_count = weir_hstu_parameter_count,
    .parameter_elements = weir_hstu_parameter_elements,
    .parameter = weir_hstu_parameter,
    .create = create,
    .destroy = destroy,
    .limit_activations = limit_activations,
    .activations = activations,
    .forward = forward,
    .backward = backward,
    .user_gradients = user_gradients,
};
