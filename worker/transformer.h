/* Encoders of softmax attention and feed-forward layers, baselines beside HSTU, behind
 * worker/encoder.h.
 *
 * *SASRec* (Kang, McAuley, ICDM 2018, as the HSTU authors' public code has it). x = Dropout(sqrt(D)
 * E
 * + U + P), then per layer
 *
 *   n = layer_norm(x)       q = n Wq + bq       [k v] = x Wkv + bkv
 *   z = layer_norm(n + attention(q, k, v) Wo + bo)
 *   x <- z + Dropout(Dropout(relu(z W1 + b1)) W2 + b2)
 *
 * attention with a causal mask, scale 1/sqrt(dqk) and dropout of its weights; layer_norm without
 * scale and shift, epsilon 1e-8. The layers' last x, its rows divided by max(|x|, 1e-6), is what is
 * encoded.
 *
 * B users, T tokens, D width, H heads, F width inside the feed-forward layers. Matrices are
 * row-major. This file is compiled for float32 and float64. */
#ifndef WEIR_WORKER_TRANSFORMER_H
#define WEIR_WORKER_TRANSFORMER_H

#include "worker/encoder.h"

/* Parameters: position_embedding N x D; per layer query_weight D x (H dqk), query_bias,
 * key_value_weight D x (H dqk + H dv), key_value_bias, output_weight (H dv) x D, output_bias,
 * hidden_weight D x F, hidden_bias, forward_weight F x D, forward_bias. */
extern const weir_encoder_methods_t weir_sasrec_methods;

#endif
