/* The dense parameters of an encoder: named pieces of one flat buffer, and how each is born. */
#ifndef WEIR_WORKER_PARAMETER_H
#define WEIR_WORKER_PARAMETER_H

#include "common/real.h"

#include <stddef.h>
#include <stdint.h>

typedef enum {
    WEIR_INIT_NORMAL,         /* sigma in `scale` */
    WEIR_INIT_XAVIER_UNIFORM, /* bound sqrt(6 / (rows + cols)) */
    WEIR_INIT_UNIFORM,        /* bound in `scale` */
    WEIR_INIT_CONSTANT        /* `scale` itself */
} weir_init_t;

/* One named parameter in the flat dense buffer. */
typedef struct {
    char name[48];     /* "position_embedding", "layer.0.output_bias" */
    size_t offset;     /* elements from the start of the buffer */
    size_t rows, cols; /* cols = 1 for a vector */
    weir_init_t init;
    double scale;
} weir_parameter_t;

/* All of a model, in the order of the buffer, without gaps. One block: free() ends it. */
typedef struct {
    const char *kind; /* of the model, "hstu"; static */
    size_t count;
    size_t elements; /* of the flat buffer */
    weir_parameter_t list[];
} weir_parameters_t;

/* Room for `count`, kind set and the rest 0; a copy. NULL: no memory. */
weir_parameters_t *weir_parameters_new(const char *kind, size_t count);
weir_parameters_t *weir_parameters_copy(const weir_parameters_t *parameters);

/* Initial values of all (weir_parameter_initialise). */
void weir_parameters_initialise(const weir_parameters_t *parameters, uint64_t seed,
                                weir_real_t *values);

/* Initial values of one, into the flat buffer: of each element a pure function of the seed and its
 * place in the buffer. Call: local. */
void weir_parameter_initialise(const weir_parameter_t *parameter, uint64_t seed,
                               weir_real_t *parameters);

#endif
