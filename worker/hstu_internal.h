/* What the files of the encoder share. Not for users of worker/hstu.h. */
#ifndef WEIR_WORKER_HSTU_INTERNAL_H
#define WEIR_WORKER_HSTU_INTERNAL_H

#include "worker/hstu.h"

/* Columns of uvqk: 2 H dv + 2 H dqk. */
size_t weir_hstu_projection_width(const weir_hstu_config_t *config);

#endif
