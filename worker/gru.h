/* GRU4Rec (Hidasi et al., ICLR 2016; Hidasi, Karatzoglou, CIKM 2018): gated recurrent units over
 * the events of a user, behind worker/encoder.h. x = Dropout(sqrt(D) E + U), then per layer, event
 * by event, with h of the event before, 0 at first,
 *
 *   [r z] = sigmoid(x Wx + h Wh + b)          n = tanh(x Wx + b + r * (h Wh + c))
 *   h <- (1 - z) * n + z * h                  x of the next layer: Dropout(h)
 *
 * with the columns of r, z and n side by side in Wx, Wh and b (as torch.nn.GRU, whose two biases of
 * r and z are one here). What is encoded is x Wo + bo, its rows divided by max(|.|, 1e-6). No
 * positions, no times.
 *
 * B users, T tokens, D width, F width of a state. Matrices are row-major. This file is compiled for
 * float32 and float64. */
#ifndef WEIR_WORKER_GRU_H
#define WEIR_WORKER_GRU_H

#include "worker/encoder.h"

/* Parameters: per layer input_weight (D, of later ones F) x 3 F, input_bias 3 F, state_weight F x 3
 * F, candidate_bias F; then output_weight F x D, output_bias D. F is hidden_dim, or D. */
extern const weir_encoder_methods_t weir_gru_methods;

#endif
