#include "worker/encoder_checks.h"

#include <limits.h>

/* No one trains wider; products of a few of these fit size_t and single ones an int of BLAS. */
enum { LARGEST_WIDTH = 1 << 20, LARGEST_BLOCKS = 1 << 20 };

static weir_err_t check_width(const char *what, size_t width, weir_error_t *error) {
    if (width == 0 || width > LARGEST_WIDTH) {
        return weir_errorf(error, WEIR_ERR_INVALID, "model: %s is %zu, expected 1 to %d", what,
                           width, LARGEST_WIDTH);
    }
    return WEIR_OK;
}

static weir_err_t check_dropout(const char *what, double probability, weir_error_t *error) {
    if (!(probability >= 0.0 && probability < 1.0)) {
        return weir_errorf(error, WEIR_ERR_INVALID, "model: %s is %g, expected 0 to below 1", what,
                           probability);
    }
    return WEIR_OK;
}

weir_err_t weir_encoder_check_config(const weir_encoder_config_t *config, weir_error_t *error) {
    const struct {
        const char *what;
        size_t width;
    } widths[] = {{"embedding_dim", config->embedding_dim},
                  {"heads", config->heads},
                  {"dqk", config->dqk},
                  {"dv", config->dv},
                  {"max_sequence_length", config->max_sequence_length},
                  {"attention_length", config->attention_length}};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        weir_err_t err = check_width(widths[i].what, widths[i].width, error);
        if (err != WEIR_OK) {
            return err;
        }
    }
    if (config->heads * (config->dqk + config->dv) > LARGEST_WIDTH) {
        return weir_errorf(error, WEIR_ERR_INVALID, "model: heads * (dqk + dv) is over %d",
                           LARGEST_WIDTH);
    }
    if (config->attention_length < config->max_sequence_length) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "model: attention_length %zu is less than max_sequence_length %zu",
                           config->attention_length, config->max_sequence_length);
    }
    if (config->blocks == 0 || config->blocks > LARGEST_BLOCKS) {
        return weir_errorf(error, WEIR_ERR_INVALID, "model: blocks is %zu, expected 1 to %d",
                           config->blocks, LARGEST_BLOCKS);
    }
#ifdef WEIR_REAL_F64
    if (config->bf16) {
        return weir_errorf(error, WEIR_ERR_UNSUPPORTED, "model: bf16 with float64 is not computed");
    }
#endif
    weir_err_t err = check_dropout("input_dropout", config->input_dropout, error);
    return err != WEIR_OK ? err : check_dropout("layer_dropout", config->layer_dropout, error);
}

weir_err_t weir_encoder_check_batch(const weir_encoder_config_t *config,
                                    const weir_sequence_batch_t *batch, weir_error_t *error) {
    if (batch->tokens > INT_MAX) {
        return weir_errorf(error, WEIR_ERR_INVALID, "a batch of %zu tokens is over %d",
                           batch->tokens, INT_MAX);
    }
    size_t end = 0;
    for (size_t u = 0; u < batch->users; u++) {
        size_t begin = batch->offsets[u];
        if (begin != end || batch->offsets[u + 1] < begin) {
            return weir_errorf(error, WEIR_ERR_INVALID, "offsets of the batch do not ascend at %zu",
                               u);
        }
        end = batch->offsets[u + 1];
        if (end - begin == 0 || end - begin > config->max_sequence_length) {
            return weir_errorf(error, WEIR_ERR_INVALID,
                               "user %zu of the batch has %zu events, expected 1 to %zu", u,
                               end - begin, config->max_sequence_length);
        }
    }
    if (end != batch->tokens) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "the users of the batch have %zu tokens, the batch says %zu", end,
                           batch->tokens);
    }
    return WEIR_OK;
}
