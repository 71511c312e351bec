/* The learning rate of a step, as a pure function of the step: every server computes the same one,
 * and a run that is resumed goes on where it was.
 *
 * Steps count from 1. The rate rises linearly to `base` in the first warmup_steps (step t has
 * base t / warmup_steps) and then falls. With W = max(warmup_steps, 1), p = t - W:
 *
 *   constant      base
 *   cosine        base (floor + (1 - floor) (1 + cos(pi min(p / decay_steps, 1))) / 2)
 *                 (Loshchilov, Hutter: SGDR, 2017, equation 5, without restarts)
 *   inverse_sqrt  base sqrt(W / t)
 *                 (Vaswani et al., 2017, section 5.3, scaled to reach base)
 *   exponential   base rate^(p / decay_steps)
 *   step          base rate^floor(p / decay_steps)
 *
 * and never below floor base once the warm-up is over. */
#ifndef WEIR_PS_SCHEDULE_H
#define WEIR_PS_SCHEDULE_H

#include "common/config.h"
#include "common/error.h"

#include <stdint.h>

typedef struct {
    weir_schedule_kind_t kind;
    uint64_t warmup_steps; /* 0: none */
    uint64_t decay_steps;  /* of cosine, exponential, step: above 0 */
    double floor;          /* lowest rate, as a fraction of the base: 0 .. 1 */
    double rate;           /* of exponential, step: (0, 1] */
} weir_schedule_t;

/* Whether the numbers are in range; `name` (of the table) stands in errors. Call: local. Threads:
 * any. */
WEIR_MUST_USE weir_err_t weir_schedule_check(const weir_schedule_t *schedule, const char *name,
                                             weir_error_t *error);

/* The rate of a step, of a checked schedule. Call: local. Threads: any. */
double weir_schedule_rate(const weir_schedule_t *schedule, double base, uint64_t step);

#endif
