/* Backward, by hand: each step of stu_forward.c in reverse. stream carries the gradient of x from
 * the last layer to the first; a layer's gradients are final when its turn is over. */
#include "worker/stu_internal.h"

#include <string.h>

/* One layer under way. */
typedef struct {
    weir_stu_t *stu;
    size_t index;
} pass_t;

/* Through the output projection and the gate: d_joined = [d_u | d_o | d_norm], where d_u is the
 * gradient of silu(u), d_norm that of layer_norm(o) * s2 + b2; d_attended that of o; the columns of
 * u in d_projected. */
static void split_rows(void *argument, size_t first, size_t end) {
    const pass_t *pass = argument;
    weir_stu_t *stu = pass->stu;
    const weir_stu_layer_t *layer = &stu->layers[pass->index];
    weir_stu_offsets_t at = weir_stu_offsets(&stu->config, pass->index);
    size_t dim = stu->config.embedding_dim, gate = stu->config.heads * stu->config.dv;
    size_t projected = weir_stu_projection_width(&stu->config), rows = end - first;
    const weir_real_t *weight = stu->parameters + at.output_norm_weight;
    const weir_real_t *bias = stu->parameters + at.output_norm_bias;
    const weir_product_t output = {.form_b = WEIR_BLAS_TRANSPOSED,
                                   .m = rows,
                                   .n = 3 * gate,
                                   .k = dim,
                                   .a = stu->stream + first * dim,
                                   .lda = dim,
                                   .b = stu->parameters + at.output_weight,
                                   .ldb = dim,
                                   .c = stu->d_joined + first * 3 * gate,
                                   .ldc = 3 * gate};
    weir_product_run(stu->kernels, stu->config.bf16, &output);
    weir_stu_drop(stu, pass->index, first, end, stu->d_joined);
    for (size_t t = first; t < end; t++) {
        weir_real_t *d_u = stu->d_joined + t * 3 * gate, *d_y = d_u + 2 * gate;
        weir_real_t *u = stu->d_projected + t * projected; /* for a moment */
        weir_real_t *d_norm = stu->products + t * gate;
        const weir_real_t *norm = layer->attended_norm + t * gate;
        stu->kernels->silu_forward(layer->projected + t * projected, u, gate);
        for (size_t c = 0; c < gate; c++) {
            d_u[c] += d_y[c] * (norm[c] * weight[c] + bias[c]);
            d_y[c] *= u[c];
            d_norm[c] = d_y[c] * weight[c];
        }
        memcpy(stu->d_attended + t * gate, d_u + gate, gate * sizeof *d_u);
        stu->kernels->silu_backward(layer->projected + t * projected, d_u, u, gate);
    }
    stu->kernels->layer_norm_backward(
        layer->attended_norm + first * gate, layer->attended_inverses + first,
        stu->products + first * gate, rows, gate, true, stu->d_attended + first * gate);
    for (size_t t = first; t < end; t++) { /* for the sums: d_norm * norm beside d_norm */
        weir_real_t *d_o = stu->d_joined + t * 3 * gate + gate, *d_y = d_o + gate;
        const weir_real_t *norm = layer->attended_norm + t * gate;
        for (size_t c = 0; c < gate; c++) {
            d_o[c] = d_y[c] * norm[c];
        }
    }
}

/* From the gradient of [u v q k] to that of n, in `scaled`; n's own sums are taken before. */
static void project_rows_back(void *argument, size_t first, size_t end) {
    const pass_t *pass = argument;
    weir_stu_t *stu = pass->stu;
    const weir_stu_layer_t *layer = &stu->layers[pass->index];
    weir_stu_offsets_t at = weir_stu_offsets(&stu->config, pass->index);
    size_t dim = stu->config.embedding_dim, rows = end - first;
    size_t projected = weir_stu_projection_width(&stu->config);
    const weir_real_t *weight = stu->parameters + at.norm_weight;
    const weir_product_t projection = {.form_b = WEIR_BLAS_TRANSPOSED,
                                       .m = rows,
                                       .n = dim,
                                       .k = projected,
                                       .a = stu->d_projected + first * projected,
                                       .lda = projected,
                                       .b = stu->parameters + at.uvqk,
                                       .ldb = projected,
                                       .c = stu->scaled + first * dim,
                                       .ldc = dim};
    weir_product_run(stu->kernels, stu->config.bf16, &projection);
    for (size_t i = first * dim; i < end * dim; i++) {
        stu->products[i] = stu->scaled[i] * weight[i % dim];
    }
    stu->kernels->layer_norm_backward(layer->normalised + first * dim, layer->inverses + first,
                                      stu->products + first * dim, rows, dim, true,
                                      stu->stream + first * dim);
    for (size_t i = first * dim; i < end * dim; i++) {
        stu->products[i] = stu->scaled[i] * layer->normalised[i];
    }
}

static void scale_rows(void *argument, size_t first, size_t end) {
    const pass_t *pass = argument;
    weir_stu_t *stu = pass->stu;
    weir_stu_offsets_t at = weir_stu_offsets(&stu->config, pass->index);
    weir_stu_scale(stu->layers[pass->index].normalised, stu->parameters + at.norm_weight,
                   stu->parameters + at.norm_bias, stu->config.embedding_dim, first, end,
                   stu->scaled);
}

static void differentiate_layer(weir_stu_t *stu, size_t index, weir_real_t *d_parameters) {
    const weir_stu_config_t *config = &stu->config;
    const weir_stu_layer_t *layer = &stu->layers[index];
    weir_stu_offsets_t at = weir_stu_offsets(config, index);
    size_t tokens = stu->batch.tokens, dim = config->embedding_dim;
    size_t gate = config->heads * config->dv, projected = weir_stu_projection_width(config);
    pass_t pass = {stu, index};
    weir_rows_sum_t output = {.kernels = stu->kernels,
                              .bf16 = config->bf16,
                              .tokens = tokens,
                              .rows = 3 * gate,
                              .columns = dim,
                              .left = layer->joined,
                              .right = stu->stream,
                              .to = d_parameters + at.output_weight};
    memset(d_parameters + at.norm_weight, 0, (at.uvqk - at.norm_weight) * sizeof *d_parameters);
    memset(d_parameters + at.uvqk_bias, 0,
           (at.output_weight - at.uvqk_bias) * sizeof *d_parameters);
    weir_rows_sum(&output);
    weir_rows_run(tokens, split_rows, &pass);
    weir_rows_add_columns(stu->d_joined + gate, tokens, 3 * gate, gate, stu->block,
                          d_parameters + at.output_norm_weight);
    weir_rows_add_columns(stu->d_joined + 2 * gate, tokens, 3 * gate, gate, stu->block,
                          d_parameters + at.output_norm_bias);
    const weir_attention_input_t input = {.z = layer->projected};
    const weir_attention_gradient_t gradient = {.d_z = stu->d_projected};
    weir_attention_backward(stu->attention, &input, stu->d_attended, &gradient);
    weir_rows_run(tokens, scale_rows, &pass);
    weir_rows_sum_t projection = {.kernels = stu->kernels,
                                  .bf16 = config->bf16,
                                  .tokens = tokens,
                                  .rows = dim,
                                  .columns = projected,
                                  .left = stu->scaled,
                                  .right = stu->d_projected,
                                  .to = d_parameters + at.uvqk};
    weir_rows_sum(&projection);
    weir_rows_add_columns(stu->d_projected, tokens, projected, projected, stu->block,
                          d_parameters + at.uvqk_bias);
    weir_rows_run(tokens, project_rows_back, &pass);
    weir_rows_add_columns(stu->products, tokens, dim, dim, stu->block,
                          d_parameters + at.norm_weight);
    weir_rows_add_columns(stu->scaled, tokens, dim, dim, stu->block, d_parameters + at.norm_bias);
}

weir_err_t weir_stu_backward(weir_stu_t *stu, const weir_real_t *d_out, weir_real_t *d_x,
                             weir_real_t *d_parameters, weir_gradient_ready_t ready, void *argument,
                             weir_error_t *error) {
    size_t bytes = stu->batch.tokens * stu->config.embedding_dim * sizeof *d_out;
    if (!stu->forward_done) {
        return weir_errorf(error, WEIR_ERR_INVALID, "backward without a forward before it");
    }
    memcpy(stu->stream, d_out, bytes);
    for (size_t layer = stu->config.blocks; layer-- > 0;) {
        differentiate_layer(stu, layer, d_parameters);
        if (ready != NULL) {
            weir_stu_offsets_t at = weir_stu_offsets(&stu->config, layer);
            ready(argument, at.norm_weight, at.end);
        }
    }
    memcpy(d_x, stu->stream, bytes);
    return WEIR_OK;
}
