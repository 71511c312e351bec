/* The definitions of ps/optimizer.h in float64, in plain loops: what tests and benches hold the
 * kernels against. Written from the papers that the header names, not from the kernels. */
#ifndef WEIR_TESTS_OPTIMIZER_REFERENCE_H
#define WEIR_TESTS_OPTIMIZER_REFERENCE_H

#include "ps/optimizer.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

enum { REFERENCE_DIM = 256 };

typedef struct {
    double w[REFERENCE_DIM];
    double m[REFERENCE_DIM]; /* first moment, velocity */
    double v[REFERENCE_DIM]; /* second moment, sum of squares; [0] alone where it is one per row */
    double z[REFERENCE_DIM];
    double curvature[REFERENCE_DIM]; /* A of the update before; 0 before the first */
} reference_row_t;

/* The rate by the formulas of ps/schedule.h. */
static inline double reference_rate(const weir_optimizer_settings_t *o, double t) {
    const weir_schedule_t *s = &o->schedule;
    double warm = s->warmup_steps > 0 ? (double)s->warmup_steps : 1.0, fraction = 1.0;
    if (t < warm) {
        return o->learning_rate * t / warm;
    }
    double x = s->decay_steps > 0 ? (t - warm) / (double)s->decay_steps : 0.0;
    if (s->kind == WEIR_SCHEDULE_COSINE) {
        double wave = 0.5 * (1.0 + cos(acos(-1.0) * (x < 1.0 ? x : 1.0)));
        fraction = s->floor + (1.0 - s->floor) * wave;
    } else if (s->kind == WEIR_SCHEDULE_INVERSE_SQRT) {
        fraction = 1.0 / sqrt(t / warm);
    } else if (s->kind == WEIR_SCHEDULE_EXPONENTIAL) {
        fraction = exp(x * log(s->rate));
    } else if (s->kind == WEIR_SCHEDULE_STEP) {
        for (double past = 1.0; past <= x; past += 1.0) {
            fraction *= s->rate;
        }
    }
    return o->learning_rate * (fraction > s->floor ? fraction : s->floor);
}

static inline void reference_clip(const weir_optimizer_settings_t *o, double *g, size_t dim) {
    double squares = 0.0;
    for (size_t i = 0; i < dim; i++) {
        if (o->clip_value > 0.0 && fabs(g[i]) > o->clip_value) {
            g[i] = g[i] > 0.0 ? o->clip_value : -o->clip_value;
        }
        squares += g[i] * g[i];
    }
    if (o->clip_norm > 0.0 && sqrt(squares) > o->clip_norm) {
        for (size_t i = 0; i < dim; i++) {
            g[i] *= o->clip_norm / sqrt(squares);
        }
    }
}

/* Yue et al., Algorithm 1; McMahan et al., Algorithm 1, is its case of no group. */
static inline void reference_proximal(const weir_optimizer_settings_t *o, reference_row_t *row,
                                      const double *g, size_t dim, int n, double rate) {
    bool ftrl = o->kind == WEIR_OPTIMIZER_FTRL || o->kind == WEIR_OPTIMIZER_GROUP_FTRL;
    double s[REFERENCE_DIM], squares = 0.0;
    for (size_t i = 0; i < dim; i++) {
        double mean = g[i], square;
        if (o->kind == WEIR_OPTIMIZER_GROUP_ADAM) {
            row->m[i] = o->beta1 * row->m[i] + (1.0 - o->beta1) * g[i];
            row->v[i] = o->beta2 * row->v[i] + (1.0 - o->beta2) * g[i] * g[i];
            mean = row->m[i] / (1.0 - pow(o->beta1, n));
            square = row->v[i] / (1.0 - pow(o->beta2, n));
        } else {
            square = row->v[i] += g[i] * g[i];
        }
        double curvature = (sqrt(square) + (ftrl ? o->beta : o->epsilon)) / rate;
        double sigma = curvature - row->curvature[i];
        row->curvature[i] = curvature;
        row->z[i] += mean - sigma * row->w[i];
        s[i] = fabs(row->z[i]) <= o->l1 ? 0.0 : copysign(o->l1, row->z[i]) - row->z[i];
        squares += s[i] * s[i];
    }
    double kept = 1.0, threshold = o->group_l1 * sqrt((double)dim);
    if (threshold > 0.0) {
        kept = sqrt(squares) > threshold ? 1.0 - threshold / sqrt(squares) : 0.0;
    }
    for (size_t i = 0; i < dim; i++) {
        row->w[i] = kept * s[i] / (row->curvature[i] + (ftrl ? o->l2 : 2.0 * o->l2));
    }
}

/* The kinds that move w itself; `mean` of the squares of g. */
static inline void reference_column(const weir_optimizer_settings_t *o, reference_row_t *row,
                                    size_t i, double g, double row_v, int n, double rate) {
    weir_optimizer_kind_t kind = o->kind;
    double *w = &row->w[i], *m = &row->m[i], v = row_v;
    if (kind == WEIR_OPTIMIZER_ADAM) {
        g += o->weight_decay * *w;
    } else {
        *w *= 1.0 - rate * o->weight_decay;
    }
    if (kind == WEIR_OPTIMIZER_SGD) {
        *w -= rate * g;
    } else if (kind == WEIR_OPTIMIZER_MOMENTUM || kind == WEIR_OPTIMIZER_NESTEROV) {
        *m = o->beta1 * *m + g;
        *w -= rate * (kind == WEIR_OPTIMIZER_NESTEROV ? g + o->beta1 * *m : *m);
    } else if (kind == WEIR_OPTIMIZER_ADAGRAD || kind == WEIR_OPTIMIZER_ROWWISE_ADAGRAD) {
        if (kind == WEIR_OPTIMIZER_ADAGRAD) {
            v = row->v[i] += g * g;
        }
        *w -= rate * g / (sqrt(v) + o->epsilon);
    } else {
        if (kind != WEIR_OPTIMIZER_ROWWISE_ADAMW) {
            v = row->v[i] = o->beta2 * row->v[i] + (1.0 - o->beta2) * g * g;
        }
        *m = o->beta1 * *m + (1.0 - o->beta1) * g;
        double mean_hat = *m / (1.0 - pow(o->beta1, n));
        double square_hat = v / (1.0 - pow(o->beta2, n));
        *w -= rate * mean_hat / (sqrt(square_hat) + o->epsilon);
    }
}

/* The row's n-th update, in step `step`; dim <= REFERENCE_DIM. */
static inline void reference_update(const weir_optimizer_settings_t *o, reference_row_t *row,
                                    const float *gradient, size_t dim, int n, int step) {
    double g[REFERENCE_DIM], mean = 0.0, rate = reference_rate(o, step);
    for (size_t i = 0; i < dim; i++) {
        g[i] = (double)gradient[i];
    }
    reference_clip(o, g, dim);
    if (o->kind >= WEIR_OPTIMIZER_FTRL) {
        reference_proximal(o, row, g, dim, n, rate);
        return;
    }
    for (size_t i = 0; i < dim; i++) {
        mean += g[i] * g[i] / (double)dim;
    }
    if (o->kind == WEIR_OPTIMIZER_ROWWISE_ADAGRAD) {
        row->v[0] += mean;
    } else if (o->kind == WEIR_OPTIMIZER_ROWWISE_ADAMW) {
        row->v[0] = o->beta2 * row->v[0] + (1.0 - o->beta2) * mean;
    }
    double row_v = row->v[0];
    for (size_t i = 0; i < dim; i++) {
        reference_column(o, row, i, g[i], row_v, n, rate);
    }
}

/* What the state's run of this name should hold; NULL: not a run of the definition ("a"). */
static inline const double *reference_run(const reference_row_t *row, const char *name) {
    return strcmp(name, "m") == 0 || strcmp(name, "u") == 0   ? row->m
           : strcmp(name, "v") == 0 || strcmp(name, "s") == 0 ? row->v
           : strcmp(name, "z") == 0                           ? row->z
                                                              : NULL;
}

#endif
