/* The oracle: every kernel in plain loops, sums in float64. */
#include "worker/kernels.h"
#include "worker/rank_level.h"

#include <math.h>

static void raise_e(const weir_real_t *x, weir_real_t *y, size_t count) {
    for (size_t i = 0; i < count; i++) {
        y[i] = (weir_real_t)exp((double)x[i]);
    }
}

static double sigmoid(double x) {
    return 1.0 / (1.0 + exp(-x));
}

static void silu_forward(const weir_real_t *x, weir_real_t *y, size_t count) {
    for (size_t i = 0; i < count; i++) {
        y[i] = (weir_real_t)((double)x[i] * sigmoid((double)x[i]));
    }
}

static void silu_backward(const weir_real_t *x, const weir_real_t *d_y, weir_real_t *d_x,
                          size_t count) {
    for (size_t i = 0; i < count; i++) {
        double value = (double)x[i], p = sigmoid(value);
        d_x[i] = (weir_real_t)((double)d_y[i] * p * (1.0 + value * (1.0 - p)));
    }
}

static void layer_norm_forward(const weir_real_t *x, size_t tokens, size_t width, weir_real_t *y,
                               weir_real_t *inverses) {
    for (size_t t = 0; t < tokens; t++) {
        const weir_real_t *x_t = x + t * width;
        double sum = 0.0, squares = 0.0;
        for (size_t c = 0; c < width; c++) {
            sum += (double)x_t[c];
        }
        double mean = sum / (double)width;
        for (size_t c = 0; c < width; c++) {
            squares += ((double)x_t[c] - mean) * ((double)x_t[c] - mean);
        }
        double inverse = 1.0 / sqrt(squares / (double)width + WEIR_LAYER_NORM_EPSILON);
        for (size_t c = 0; c < width; c++) {
            y[t * width + c] = (weir_real_t)(((double)x_t[c] - mean) * inverse);
        }
        if (inverses != NULL) {
            inverses[t] = (weir_real_t)inverse;
        }
    }
}

static void layer_norm_backward(const weir_real_t *y, const weir_real_t *inverses,
                                const weir_real_t *d_y, size_t tokens, size_t width,
                                bool accumulate, weir_real_t *d_x) {
    for (size_t t = 0; t < tokens; t++) {
        const weir_real_t *y_t = y + t * width, *d_y_t = d_y + t * width;
        double sum = 0.0, product = 0.0;
        for (size_t c = 0; c < width; c++) {
            sum += (double)d_y_t[c];
            product += (double)d_y_t[c] * (double)y_t[c];
        }
        double mean = sum / (double)width, mean_product = product / (double)width;
        for (size_t c = 0; c < width; c++) {
            double d =
                (double)inverses[t] * ((double)d_y_t[c] - mean - (double)y_t[c] * mean_product);
            d += accumulate ? (double)d_x[t * width + c] : 0.0;
            d_x[t * width + c] = (weir_real_t)d;
        }
    }
}

static void dropout(const weir_dropout_t *site, const uint32_t *global_tokens, const weir_real_t *x,
                    size_t tokens, size_t width, weir_real_t *y) {
    for (size_t t = 0; t < tokens; t++) {
        uint32_t token = global_tokens != NULL ? global_tokens[t] : (uint32_t)t;
        for (size_t c = 0; c < width; c++) {
            weir_philox_t words =
                weir_philox(site->key, site->step, site->site, token, (uint32_t)(c / 8));
            bool kept = (words.word[c % 8 / 2] >> (c % 2 * 16) & 0xFFFFu) >= site->threshold;
            y[t * width + c] = kept ? x[t * width + c] * site->scale : 0;
        }
    }
}

static void draw_items(weir_rng_key_t key, uint32_t first, uint32_t second, uint32_t third,
                       uint32_t bound, int64_t *items, size_t count) {
    for (size_t r = 0; r < count; r++) {
        weir_philox_t words = weir_philox(key, first, second, third, (uint32_t)(r / 4));
        items[r] = 1 + (int64_t)weir_uniform_below(words.word[r % 4], bound);
    }
}

static void adamw(const weir_adamw_t *step, const weir_real_t *gradient, weir_real_t *weights,
                  weir_real_t *moments1, weir_real_t *moments2, size_t count) {
    for (size_t i = 0; i < count; i++) {
        double g = (double)gradient[i], w = (double)weights[i];
        double m = step->beta1 * (double)moments1[i] + (1.0 - step->beta1) * g;
        double v = step->beta2 * (double)moments2[i] + (1.0 - step->beta2) * g * g;
        w *= 1.0 - step->learning_rate * step->weight_decay;
        w -= step->learning_rate / step->correction1 * m /
             (sqrt(v) / sqrt(step->correction2) + step->epsilon);
        moments1[i] = (weir_real_t)m;
        moments2[i] = (weir_real_t)v;
        weights[i] = (weir_real_t)w;
    }
}

static void gather_dot(const weir_real_t *vector, const weir_real_t *rows, size_t width,
                       const uint32_t *indices, size_t count, weir_real_t *dots) {
    for (size_t r = 0; r < count; r++) {
        double sum = 0.0;
        for (size_t c = 0; c < width; c++) {
            sum += (double)vector[c] * (double)rows[indices[r] * width + c];
        }
        dots[r] = (weir_real_t)sum;
    }
}

static void gather_axpy(const weir_real_t *factors, const weir_real_t *rows, size_t width,
                        const uint32_t *indices, size_t count, weir_real_t *vector) {
    for (size_t r = 0; r < count; r++) {
        for (size_t c = 0; c < width; c++) {
            vector[c] += factors[r] * rows[indices[r] * width + c];
        }
    }
}

static void scatter_axpy(const weir_real_t *factors, const weir_real_t *vector, size_t width,
                         const uint32_t *indices, size_t count, weir_real_t *rows) {
    for (size_t r = 0; r < count; r++) {
        for (size_t c = 0; c < width; c++) {
            rows[indices[r] * width + c] += factors[r] * vector[c];
        }
    }
}

static void score_tile(const weir_real_t *const *group, const weir_real_t *tile, size_t depth,
                       weir_real_t *scores) {
    for (size_t i = 0; i < (size_t)WEIR_RANK_GROUP * WEIR_RANK_TILE; i++) {
        size_t user = i / WEIR_RANK_TILE, candidate = i % WEIR_RANK_TILE;
        for (size_t d = 0; d < depth; d++) {
            scores[i] += group[user][d] * tile[d * WEIR_RANK_TILE + candidate];
        }
    }
}

static const weir_kernels_t naive = {.level = "naive",
                                     .lanes = 1,
                                     .exp = raise_e,
                                     .silu_forward = silu_forward,
                                     .silu_backward = silu_backward,
                                     .layer_norm_forward = layer_norm_forward,
                                     .layer_norm_backward = layer_norm_backward,
                                     .dropout = dropout,
                                     .draw_items = draw_items,
                                     .adamw = adamw,
                                     .gather_dot = gather_dot,
                                     .gather_axpy = gather_axpy,
                                     .scatter_axpy = scatter_axpy,
                                     .score_tile = score_tile,
                                     .attention_forward = NULL,
                                     .attention_backward = NULL,
                                     .attention_panel = 0};

const weir_kernels_t *weir_kernels_naive(void) {
    return &naive;
}
