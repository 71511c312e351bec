/* How an encoded history and an item's row make a score: by the dot product of two rows of one
 * width, or by a mixture of logits (worker/mixture.h) of a prepared query and a prepared item. */
#ifndef WEIR_WORKER_SIMILARITY_H
#define WEIR_WORKER_SIMILARITY_H

#include "common/real.h"

#include <stddef.h>

typedef struct weir_mixture weir_mixture_t; /* worker/mixture.h */

typedef struct {
    size_t query_width;            /* numbers of an encoded history as it is scored */
    size_t item_width;             /* numbers of an item's row as it is scored */
    const weir_mixture_t *mixture; /* NULL: the dot product; the widths are equal */
    const weir_real_t *parameters; /* of the mixture */
} weir_similarity_t;

static inline weir_similarity_t weir_similarity_dot(size_t dim) {
    return (weir_similarity_t){.query_width = dim, .item_width = dim};
}

#endif
