#include "worker/mixture.h"

#include "common/assert.h"
#include "worker/blas.h"
#include "worker/dot.h"
#include "worker/mixture_internal.h"
#include "worker/parallel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_PARTS = 64, MOST_WIDTH = 1 << 16, ALIGNMENT = 64 };

static const char *const net_names[WEIR_MIXTURE_NETS] = {"mixture.query", "mixture.item",
                                                         "mixture.gate_query", "mixture.gate_item",
                                                         "mixture.gate_pair"};

static const double norm_floor = 1e-6;

/* ---- its life ---- */

static weir_err_t check(const weir_mixture_config_t *config, weir_error_t *error) {
    bool fits = config->dim > 0 && config->dim <= MOST_WIDTH && config->query_parts > 0 &&
                config->query_parts <= MOST_PARTS && config->item_parts > 0 &&
                config->item_parts <= MOST_PARTS && config->width > 0 &&
                config->width <= MOST_WIDTH / MOST_PARTS * MOST_PARTS && config->hidden > 0 &&
                config->hidden <= MOST_WIDTH && config->gate_hidden > 0 &&
                config->gate_hidden <= MOST_WIDTH;
    if (!fits) {
        return weir_errorf(
            error, WEIR_ERR_INVALID,
            "a mixture of logits has 1 to %d parts on either side and widths of 1 to "
            "%d",
            MOST_PARTS, MOST_WIDTH);
    }
    if (!(config->dropout >= 0.0 && config->dropout < 1.0) || !(config->temperature > 0.0) ||
        !isfinite(config->temperature)) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "a mixture of logits has dropout in [0, 1) and a positive temperature");
    }
    return WEIR_OK;
}

weir_err_t weir_mixture_create(const weir_mixture_config_t *config, weir_mixture_t **mixture,
                               weir_error_t *error) {
    weir_err_t err = check(config, error);
    if (err != WEIR_OK) {
        return err;
    }
    size_t logits = config->query_parts * config->item_parts, offset = 0;
    weir_mixture_t *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a mixture of logits");
    }
    made->config = *config;
    made->logits = logits;
    made->query_width = config->query_parts * config->width + logits;
    made->item_width = config->item_parts * config->width + logits;
    const weir_mlp_t nets[WEIR_MIXTURE_NETS] = {
        [WEIR_MIXTURE_QUERY] = {config->dim, config->hidden, config->query_parts * config->width,
                                true, true},
        [WEIR_MIXTURE_ITEM] = {config->dim, config->hidden, config->item_parts * config->width,
                               true, true},
        [WEIR_MIXTURE_GATE_QUERY] = {config->dim, config->gate_hidden, logits, false, false},
        [WEIR_MIXTURE_GATE_ITEM] = {config->dim, config->gate_hidden, logits, false, false},
        [WEIR_MIXTURE_GATE_PAIR] = {logits, config->gate_hidden, logits, false, true},
    };
    memcpy(made->nets, nets, sizeof nets);
    for (size_t net = 0; net < WEIR_MIXTURE_NETS; net++) {
        made->offsets[net] = offset;
        offset += weir_mlp_elements(&made->nets[net]);
    }
    weir_blas_use_one_thread();
    err = weir_kernels_select(&made->kernels, error);
    if (err != WEIR_OK) {
        free(made);
        return err;
    }
    *mixture = made;
    return WEIR_OK;
}

void weir_mixture_destroy(weir_mixture_t *mixture) {
    free(mixture);
}

/* ---- parameters ---- */

size_t weir_mixture_parameter_count(const weir_mixture_t *mixture) {
    size_t count = 0;
    for (size_t net = 0; net < WEIR_MIXTURE_NETS; net++) {
        count += weir_mlp_parameter_count(&mixture->nets[net]);
    }
    return count;
}

size_t weir_mixture_elements(const weir_mixture_t *mixture) {
    size_t last = WEIR_MIXTURE_NETS - 1;
    return mixture->offsets[last] + weir_mlp_elements(&mixture->nets[last]);
}

weir_parameter_t weir_mixture_parameter(const weir_mixture_t *mixture, size_t index) {
    size_t net = 0;
    WEIR_ASSERT(index < weir_mixture_parameter_count(mixture));
    while (index >= weir_mlp_parameter_count(&mixture->nets[net])) {
        index -= weir_mlp_parameter_count(&mixture->nets[net]);
        net++;
    }
    weir_parameter_t parameter = weir_mlp_parameter(&mixture->nets[net], net_names[net], index);
    parameter.offset += mixture->offsets[net];
    return parameter;
}

/* ---- parts ---- */

void weir_mixture_scale(const weir_mixture_t *mixture, const weir_real_t *from, size_t ldx,
                        size_t count, weir_real_t *to) {
    size_t dim = mixture->config.dim;
    const weir_real_t scale = (weir_real_t)sqrt((double)dim);
    for (size_t i = 0; i < count; i++) {
        for (size_t d = 0; d < dim; d++) {
            to[i * dim + d] = scale * from[i * ldx + d];
        }
    }
}

void weir_mixture_normalise(const weir_mixture_t *mixture, size_t parts, weir_real_t length,
                            size_t count, weir_real_t *rows, size_t ld, weir_real_t *inverses) {
    size_t width = mixture->config.width;
    for (size_t i = 0; i < count * parts; i++) {
        weir_real_t *part = rows + i / parts * ld + i % parts * width;
        double norm = sqrt((double)weir_dot(part, part, width));
        weir_real_t inverse = (weir_real_t)(1.0 / fmax(norm, norm_floor));
        for (size_t d = 0; d < width; d++) {
            part[d] *= inverse * length;
        }
        if (inverses != NULL) {
            inverses[i] = inverse;
        }
    }
}

void weir_mixture_normalise_backward(const weir_mixture_t *mixture, size_t parts,
                                     weir_real_t length, size_t count, const weir_real_t *rows,
                                     const weir_real_t *inverses, weir_real_t *d_rows, size_t ld) {
    size_t width = mixture->config.width;
    const weir_real_t floor_inverse = (weir_real_t)(1.0 / norm_floor);
    for (size_t i = 0; i < count * parts; i++) {
        size_t at = i / parts * ld + i % parts * width;
        const weir_real_t *part = rows + at;
        weir_real_t *d_part = d_rows + at, along = 0;
        if (inverses[i] < floor_inverse) { /* at the floor the divisor is a constant */
            along = weir_dot(part, d_part, width) / (length * length);
        }
        for (size_t d = 0; d < width; d++) {
            d_part[d] = length * inverses[i] * (d_part[d] - along * part[d]);
        }
    }
}

/* Rows prepared at a time. */
enum { PREPARED_ROWS = 4096 };

/* Both nets on rows of x. */
static void prepare_some(const weir_mixture_t *mixture, const weir_real_t *parameters,
                         const weir_real_t *x, size_t ldx, size_t count, bool query,
                         weir_real_t *room, weir_real_t *prepared) {
    const int nets[2] = {query ? WEIR_MIXTURE_QUERY : WEIR_MIXTURE_ITEM,
                         query ? WEIR_MIXTURE_GATE_QUERY : WEIR_MIXTURE_GATE_ITEM};
    size_t ld = query ? mixture->query_width : mixture->item_width;
    size_t dim = mixture->config.dim;
    weir_real_t *scaled = room;
    weir_mixture_scale(mixture, x, ldx, count, scaled);
    room += count * dim;
    weir_real_t length = query ? (weir_real_t)(1.0 / mixture->config.temperature) : 1;
    for (size_t which = 0; which < 2; which++) {
        const weir_mlp_t *net = &mixture->nets[nets[which]];
        weir_mlp_rows_t rows = {.rows = count,
                                .x = scaled,
                                .ldx = dim,
                                .before = room,
                                .z = room + count * weir_mlp_before(net)};
        weir_mlp_forward_all(mixture->kernels, net, parameters + mixture->offsets[nets[which]],
                             &rows, prepared + (which == 0 ? 0 : ld - mixture->logits), ld);
    }
    weir_mixture_normalise(mixture,
                           query ? mixture->config.query_parts : mixture->config.item_parts, length,
                           count, prepared, ld, NULL);
}

static weir_err_t prepare(const weir_mixture_t *mixture, const weir_real_t *parameters,
                          const weir_real_t *x, size_t ldx, size_t count, bool query,
                          weir_real_t *prepared, weir_error_t *error) {
    const weir_mixture_config_t *config = &mixture->config;
    size_t numbers =
        3 * config->hidden > 2 * config->gate_hidden ? 3 * config->hidden : 2 * config->gate_hidden;
    size_t most = count < PREPARED_ROWS ? count : PREPARED_ROWS;
    size_t ld = query ? mixture->query_width : mixture->item_width;
    weir_real_t *room = malloc((most * (numbers + config->dim) + 1) * sizeof *room);
    if (room == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory to prepare %zu rows for a mixture",
                           most);
    }
    for (size_t first = 0; first < count; first += most) {
        size_t left = count - first;
        prepare_some(mixture, parameters, x + first * ldx, ldx, left < most ? left : most, query,
                     room, prepared + first * ld);
    }
    free(room);
    return WEIR_OK;
}

weir_err_t weir_mixture_prepare_queries(const weir_mixture_t *mixture,
                                        const weir_real_t *parameters, const weir_real_t *encoded,
                                        size_t count, weir_real_t *queries, weir_error_t *error) {
    return prepare(mixture, parameters, encoded, mixture->config.dim, count, true, queries, error);
}

weir_err_t weir_mixture_prepare_items(const weir_mixture_t *mixture, const weir_real_t *parameters,
                                      const weir_real_t *rows, size_t stride, size_t count,
                                      weir_real_t *items, weir_error_t *error) {
    return prepare(mixture, parameters, rows, stride, count, false, items, error);
}

/* ---- scores ---- */

weir_similarity_t weir_mixture_similarity(const weir_mixture_t *mixture,
                                          const weir_real_t *parameters) {
    return (weir_similarity_t){.query_width = mixture->query_width,
                               .item_width = mixture->item_width,
                               .mixture = mixture,
                               .parameters = parameters};
}

size_t weir_mixture_scratch(const weir_mixture_t *mixture, size_t count) {
    return weir_mixture_pair_numbers(mixture) * count;
}

void weir_mixture_score(const weir_similarity_t *similarity, const weir_real_t *query,
                        const weir_real_t *items, size_t count, weir_real_t *scratch,
                        weir_real_t *scores) {
    const weir_mixture_t *mixture = similarity->mixture;
    weir_mixture_pairs_t pairs = {.query = query, .items = items};
    weir_mixture_pairs_place(mixture, count, scratch, &pairs);
    weir_mixture_pairs_forward(mixture, similarity->parameters, &pairs, NULL, NULL);
    memcpy(scores, pairs.scores, count * sizeof *scores);
}
