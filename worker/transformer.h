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
 * *BERT4Rec* (Sun et al., CIKM 2019): every event sees all of its user's, and those to be predicted
 * are masked. To the L events of a history one is added, the target, always masked: what stands
 * there predicts it, in evaluation too. In training every other event but the first is masked with
 * probability mask_probability and predicted as well; a masked event has the vector M in the place
 * of E. x = Dropout(layer_norm(sqrt(D) E + U + P)), then per layer
 *
 *   [q k v] = x W + b
 *   z = layer_norm(x + Dropout(attention(q, k, v) Wo + bo))
 *   x <- layer_norm(z + Dropout(gelu(z W1 + b1) W2 + b2))
 *
 * without a mask of attention; gelu(a) = a sigmoid(2 sqrt(2 / pi) (a + 0.044715 a^3)), as in BERT;
 * layer_norm without scale and shift, where BERT has both.
 *
 * B users, T tokens, D width, H heads, F width inside the feed-forward layers. Matrices are
 * row-major. This file is compiled for float32 and float64. */
#ifndef WEIR_WORKER_TRANSFORMER_H
#define WEIR_WORKER_TRANSFORMER_H

#include "worker/encoder.h"

/* Parameters of SASRec: position_embedding N x D; per layer query_weight D x (H dqk), query_bias,
 * key_value_weight D x (H dqk + H dv), key_value_bias, output_weight (H dv) x D, output_bias,
 * hidden_weight D x F, hidden_bias, forward_weight F x D, forward_bias. */
extern const weir_encoder_methods_t weir_sasrec_methods;
/* As SASRec, with mask_embedding (M) 1 x D behind position_embedding. */
extern const weir_encoder_methods_t weir_bert4rec_methods;

#endif
