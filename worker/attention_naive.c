#include "worker/attention.h"
#include "worker/attention_task.h"
#include "worker/bf16.h"
#include "worker/time_bucket.h"

#include <math.h>

/* One user and head: where its q, k, v begin in the row of a token, and how long a row is. */
typedef struct {
    size_t first, length; /* tokens of the user: rows first .. first + length - 1 */
    size_t v, q, k;       /* columns of z */
    size_t y;             /* column of y */
    size_t z_width, y_width;
} head_t;

static head_t place_head(const weir_attention_config_t *config, const weir_sequence_batch_t *batch,
                         size_t user, size_t head) {
    size_t values = config->heads * config->dv, keys = config->heads * config->dqk;
    return (head_t){.first = batch->offsets[user],
                    .length = batch->offsets[user + 1] - batch->offsets[user],
                    .v = values + head * config->dv,
                    .q = 2 * values + head * config->dqk,
                    .k = 2 * values + keys + head * config->dqk,
                    .y = head * config->dv,
                    .z_width = 2 * values + 2 * keys,
                    .y_width = values};
}

/* x as the operand of a product. */
static weir_real_t operand(const weir_attention_config_t *config, weir_real_t x) {
    return config->bf16 ? (weir_real_t)weir_bf16_round((float)x) : x;
}

/* <scale a, b> */
static weir_real_t dot(const weir_attention_config_t *config, weir_real_t scale,
                       const weir_real_t *a, const weir_real_t *b, size_t count) {
    weir_real_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += operand(config, scale * a[i]) * operand(config, b[i]);
    }
    return sum;
}

static size_t position_index(const weir_attention_config_t *config, size_t i, size_t j) {
    return config->attention_length - 1 + j - i;
}

static uint32_t pair_bucket(const weir_sequence_batch_t *batch, const head_t *head, size_t i,
                            size_t j) {
    return weir_time_bucket_of_distance(
        weir_time_distance(batch->next_times[head->first + i], batch->times[head->first + j]));
}

/* s_ij */
static weir_real_t score(const weir_attention_config_t *config, const weir_sequence_batch_t *batch,
                         const weir_attention_input_t *input, const head_t *head, size_t i,
                         size_t j) {
    const weir_real_t *q = input->z + (head->first + i) * head->z_width + head->q;
    const weir_real_t *k = input->z + (head->first + j) * head->z_width + head->k;
    weir_real_t s = dot(config, weir_attention_score_scale(config), k, q, config->dqk);
    if (config->position_bias) {
        s += input->position_bias[position_index(config, i, j)];
    }
    if (config->time_bias) {
        s += input->time_bias[pair_bucket(batch, head, i, j)];
    }
    return s;
}

static weir_real_t sigmoid(weir_real_t x) {
    return (weir_real_t)(1.0 / (1.0 + exp(-(double)x)));
}

/* sum += factor (scale x) */
static void add_scaled(const weir_attention_config_t *config, weir_real_t *sum, weir_real_t factor,
                       weir_real_t scale, const weir_real_t *x, size_t count) {
    for (size_t i = 0; i < count; i++) {
        sum[i] += operand(config, factor) * operand(config, scale * x[i]);
    }
}

/* Whether token i of the user sees its token j. */
static bool sees(const weir_sequence_batch_t *batch, const head_t *head, size_t i, size_t j) {
    if (batch->visible == NULL) {
        return j <= i;
    }
    weir_visible_t visible = batch->visible[head->first + i];
    return i == j || (j >= visible.first && j < visible.end);
}

/* Of row i: the largest score and the sum of e^(s - it), s scaled for the softmax. */
static void measure_row(const weir_attention_config_t *config, const weir_sequence_batch_t *batch,
                        const weir_attention_input_t *input, const head_t *head, size_t i,
                        double *highest, double *sum) {
    double scale = weir_attention_softmax_scale(config);
    *highest = -(double)INFINITY;
    *sum = 0.0;
    for (size_t j = 0; j <= i; j++) {
        *highest = fmax(*highest, scale * (double)score(config, batch, input, head, i, j));
    }
    for (size_t j = 0; j <= i; j++) {
        *sum += exp(scale * (double)score(config, batch, input, head, i, j) - *highest);
    }
}

/* a_ij of a row so measured. */
static double soft_weight(const weir_attention_config_t *config, const weir_sequence_batch_t *batch,
                          const weir_attention_input_t *input, const head_t *head, size_t i,
                          size_t j, double highest, double sum) {
    double s = (double)score(config, batch, input, head, i, j);
    return exp(weir_attention_softmax_scale(config) * s - highest) / sum;
}

static void forward_row_softmax(const weir_attention_config_t *config,
                                const weir_sequence_batch_t *batch,
                                const weir_attention_input_t *input, const head_t *head, size_t i,
                                weir_real_t *y_i) {
    double highest, sum;
    measure_row(config, batch, input, head, i, &highest, &sum);
    for (size_t j = 0; j <= i; j++) {
        double a = soft_weight(config, batch, input, head, i, j, highest, sum);
        add_scaled(config, y_i, (weir_real_t)a, 1,
                   input->z + (head->first + j) * head->z_width + head->v, config->dv);
    }
}

static void backward_row_softmax(const weir_attention_config_t *config,
                                 const weir_sequence_batch_t *batch,
                                 const weir_attention_input_t *input, const weir_real_t *d_y,
                                 const weir_attention_gradient_t *gradient, const head_t *head,
                                 size_t i) {
    const weir_real_t *d_y_i = d_y + (head->first + i) * head->y_width + head->y;
    size_t row_i = (head->first + i) * head->z_width;
    double highest, sum, mean = 0.0;
    measure_row(config, batch, input, head, i, &highest, &sum);
    for (size_t j = 0; j <= i; j++) {
        const weir_real_t *v_j = input->z + (head->first + j) * head->z_width + head->v;
        mean += soft_weight(config, batch, input, head, i, j, highest, sum) *
                (double)dot(config, 1, d_y_i, v_j, config->dv);
    }
    for (size_t j = 0; j <= i; j++) {
        size_t row_j = (head->first + j) * head->z_width;
        double a = soft_weight(config, batch, input, head, i, j, highest, sum);
        double d_a = (double)dot(config, 1, d_y_i, input->z + row_j + head->v, config->dv);
        weir_real_t d_s = (weir_real_t)(weir_attention_softmax_scale(config) * a * (d_a - mean));
        add_scaled(config, gradient->d_z + row_j + head->v, (weir_real_t)a, 1, d_y_i, config->dv);
        add_scaled(config, gradient->d_z + row_i + head->q, d_s, 1, input->z + row_j + head->k,
                   config->dqk);
        add_scaled(config, gradient->d_z + row_j + head->k, d_s, 1, input->z + row_i + head->q,
                   config->dqk);
        if (config->position_bias) {
            gradient->d_position_bias[position_index(config, i, j)] += d_s;
        }
        if (config->time_bias) {
            gradient->d_time_bias[pair_bucket(batch, head, i, j)] += d_s;
        }
    }
}

void weir_attention_forward_naive(const weir_attention_config_t *config,
                                  const weir_sequence_batch_t *batch,
                                  const weir_attention_input_t *input, weir_real_t *y) {
    weir_real_t scale = weir_attention_scale(config);
    for (size_t at = 0; at < batch->tokens * config->heads * config->dv; at++) {
        y[at] = 0;
    }
    for (size_t user = 0; user < batch->users; user++) {
        for (size_t h = 0; h < config->heads; h++) {
            head_t head = place_head(config, batch, user, h);
            for (size_t i = 0; i < head.length; i++) {
                weir_real_t *y_i = y + (head.first + i) * head.y_width + head.y;
                if (config->softmax) {
                    forward_row_softmax(config, batch, input, &head, i, y_i);
                    continue;
                }
                for (size_t j = 0; j < head.length; j++) {
                    if (!sees(batch, &head, i, j)) {
                        continue;
                    }
                    weir_real_t s = score(config, batch, input, &head, i, j);
                    const weir_real_t *v_j = input->z + (head.first + j) * head.z_width + head.v;
                    add_scaled(config, y_i, s * sigmoid(s), scale, v_j, config->dv);
                }
            }
        }
    }
}

/* All gradients that pass through the pair (i, j). */
static void backward_pair(const weir_attention_config_t *config, const weir_sequence_batch_t *batch,
                          const weir_attention_input_t *input, const weir_real_t *d_y,
                          const weir_attention_gradient_t *gradient, const head_t *head, size_t i,
                          size_t j) {
    weir_real_t scale = weir_attention_scale(config);
    size_t row_i = (head->first + i) * head->z_width, row_j = (head->first + j) * head->z_width;
    const weir_real_t *d_y_i = d_y + (head->first + i) * head->y_width + head->y;
    weir_real_t s = score(config, batch, input, head, i, j);
    weir_real_t p = sigmoid(s);
    weir_real_t d_a = dot(config, scale, d_y_i, input->z + row_j + head->v, config->dv);
    weir_real_t d_s = d_a * p * (1 + s * (1 - p));
    add_scaled(config, gradient->d_z + row_j + head->v, s * p, scale, d_y_i, config->dv);
    weir_real_t score_scale = weir_attention_score_scale(config);
    add_scaled(config, gradient->d_z + row_i + head->q, d_s, score_scale,
               input->z + row_j + head->k, config->dqk);
    for (size_t c = 0; c < config->dqk; c++) { /* the sum of all pairs is scaled, not its parts */
        gradient->d_z[row_j + head->k + c] +=
            score_scale * operand(config, d_s) * operand(config, input->z[row_i + head->q + c]);
    }
    if (config->position_bias) {
        gradient->d_position_bias[position_index(config, i, j)] += d_s;
    }
    if (config->time_bias) {
        gradient->d_time_bias[pair_bucket(batch, head, i, j)] += d_s;
    }
}

static void clear(weir_real_t *values, size_t count) {
    for (size_t i = 0; values != NULL && i < count; i++) {
        values[i] = 0;
    }
}

void weir_attention_backward_naive(const weir_attention_config_t *config,
                                   const weir_sequence_batch_t *batch,
                                   const weir_attention_input_t *input, const weir_real_t *d_y,
                                   const weir_attention_gradient_t *gradient) {
    size_t values = config->heads * config->dv, keys = config->heads * config->dqk;
    for (size_t token = 0; token < batch->tokens; token++) {
        clear(gradient->d_z + token * 2 * (values + keys) + values, values + 2 * keys);
    }
    clear(gradient->d_position_bias, 2 * config->attention_length - 1);
    clear(gradient->d_time_bias, WEIR_HSTU_TIME_BUCKETS);
    for (size_t user = 0; user < batch->users; user++) {
        for (size_t h = 0; h < config->heads; h++) {
            head_t head = place_head(config, batch, user, h);
            for (size_t i = 0; i < head.length; i++) {
                if (config->softmax) {
                    backward_row_softmax(config, batch, input, d_y, gradient, &head, i);
                    continue;
                }
                for (size_t j = 0; j < head.length; j++) {
                    if (sees(batch, &head, i, j)) {
                        backward_pair(config, batch, input, d_y, gradient, &head, i, j);
                    }
                }
            }
        }
    }
}
