#include "worker/encoder.h"

#include "common/assert.h"
#include "worker/gru.h"
#include "worker/hstu.h"
#include "worker/transformer.h"

#include <stdlib.h>

static const weir_encoder_methods_t *const kinds[] = {
    [WEIR_ENCODER_HSTU] = &weir_hstu_methods,
    [WEIR_ENCODER_SASREC] = &weir_sasrec_methods,
    [WEIR_ENCODER_GRU4REC] = &weir_gru_methods,
    [WEIR_ENCODER_BERT4REC] = &weir_bert4rec_methods,
};

struct weir_encoder {
    const weir_encoder_methods_t *methods;
    void *state; /* of the kind */
};

static const weir_encoder_methods_t *methods_of(const weir_encoder_config_t *config) {
    WEIR_ASSERT((unsigned)config->kind < WEIR_ENCODER_KINDS);
    return kinds[config->kind];
}

const char *weir_encoder_kind_name(weir_encoder_kind_t kind) {
    return (unsigned)kind < WEIR_ENCODER_KINDS ? kinds[kind]->name : NULL;
}

size_t weir_encoder_parameter_count(const weir_encoder_config_t *config) {
    return methods_of(config)->parameter_count(config);
}

size_t weir_encoder_parameter_elements(const weir_encoder_config_t *config) {
    return methods_of(config)->parameter_elements(config);
}

weir_parameter_t weir_encoder_parameter(const weir_encoder_config_t *config, size_t index) {
    return methods_of(config)->parameter(config, index);
}

weir_parameters_t *weir_encoder_parameters(const weir_encoder_config_t *config) {
    size_t count = weir_encoder_parameter_count(config);
    weir_parameters_t *made = weir_parameters_new(weir_encoder_kind_name(config->kind), count);
    for (size_t i = 0; made != NULL && i < count; i++) {
        made->list[i] = weir_encoder_parameter(config, i);
        made->elements += made->list[i].rows * made->list[i].cols;
    }
    return made;
}

void weir_encoder_initialise(const weir_encoder_config_t *config, uint64_t seed,
                             weir_real_t *parameters) {
    for (size_t index = 0; index < weir_encoder_parameter_count(config); index++) {
        weir_parameter_t parameter = weir_encoder_parameter(config, index);
        weir_parameter_initialise(&parameter, seed, parameters);
    }
}

weir_err_t weir_encoder_create(const weir_encoder_config_t *config, weir_encoder_t **encoder,
                               weir_error_t *error) {
    if ((unsigned)config->kind >= WEIR_ENCODER_KINDS) {
        return weir_errorf(error, WEIR_ERR_INVALID, "model: there is no kind %d",
                           (int)config->kind);
    }
    weir_encoder_t *created = calloc(1, sizeof *created);
    if (created == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for an encoder");
    }
    created->methods = methods_of(config);
    weir_err_t err = created->methods->create(config, &created->state, error);
    if (err != WEIR_OK) {
        free(created);
        return err;
    }
    *encoder = created;
    return WEIR_OK;
}

void weir_encoder_destroy(weir_encoder_t *encoder) {
    if (encoder != NULL) {
        encoder->methods->destroy(encoder->state);
        free(encoder);
    }
}

void weir_encoder_limit_activations(weir_encoder_t *encoder, size_t bytes) {
    if (encoder->methods->limit_activations != NULL) {
        encoder->methods->limit_activations(encoder->state, bytes);
    }
}

weir_encoder_activations_t weir_encoder_activations(const weir_encoder_t *encoder) {
    return encoder->methods->activations(encoder->state);
}

weir_err_t weir_encoder_forward(weir_encoder_t *encoder, const weir_real_t *parameters,
                                const weir_sequence_batch_t *batch, const weir_real_t *items,
                                weir_forward_mode_t mode, weir_real_t *encoded,
                                weir_error_t *error) {
    return encoder->methods->forward(encoder->state, parameters, batch, items, mode, encoded,
                                     error);
}

weir_err_t weir_encoder_backward(weir_encoder_t *encoder, const weir_real_t *parameters,
                                 const weir_real_t *d_encoded, weir_real_t *d_items,
                                 weir_real_t *d_parameters, weir_gradient_ready_t ready,
                                 void *argument, weir_error_t *error) {
    return encoder->methods->backward(encoder->state, parameters, d_encoded, d_items, d_parameters,
                                      ready, argument, error);
}

const uint8_t *weir_encoder_scored(const weir_encoder_t *encoder) {
    return encoder->methods->scored != NULL ? encoder->methods->scored(encoder->state) : NULL;
}

double weir_encoder_scored_share(const weir_encoder_config_t *config, uint64_t users,
                                 uint64_t tokens) {
    const weir_encoder_methods_t *methods = methods_of(config);
    return methods->scored_share != NULL ? methods->scored_share(config, users, tokens) : 1.0;
}

void weir_encoder_user_gradients(const weir_encoder_t *encoder, weir_real_t *d_user_rows) {
    encoder->methods->user_gradients(encoder->state, d_user_rows);
}
