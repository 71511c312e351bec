#include "ps/schedule.h"

#include <math.h>
#include <stdbool.h>

static const double pi = 3.14159265358979323846;

weir_err_t weir_schedule_check(const weir_schedule_t *schedule, const char *name,
                               weir_error_t *error) {
    if ((unsigned)schedule->kind >= WEIR_SCHEDULE_COUNT) {
        return weir_errorf(error, WEIR_ERR_INVALID, "table %.31s: no schedule has number %d", name,
                           (int)schedule->kind);
    }
    if (!(schedule->floor >= 0.0 && schedule->floor <= 1.0)) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "table %.31s: a schedule's floor must be in [0, 1]", name);
    }
    bool powers =
        schedule->kind == WEIR_SCHEDULE_EXPONENTIAL || schedule->kind == WEIR_SCHEDULE_STEP;
    if ((powers || schedule->kind == WEIR_SCHEDULE_COSINE) && schedule->decay_steps == 0) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "table %.31s: a schedule that decays needs decay_steps above 0", name);
    }
    if (powers && !(schedule->rate > 0.0 && schedule->rate <= 1.0)) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "table %.31s: a schedule's rate must be in (0, 1]", name);
    }
    return WEIR_OK;
}

/* `past` steps after the warm-up, as a fraction of the base. */
static double decayed(const weir_schedule_t *schedule, uint64_t past) {
    double passed = (double)past, period = (double)schedule->decay_steps;
    switch (schedule->kind) {
    case WEIR_SCHEDULE_COSINE:
        return schedule->floor +
               (1.0 - schedule->floor) * 0.5 * (1.0 + cos(pi * fmin(passed / period, 1.0)));
    case WEIR_SCHEDULE_INVERSE_SQRT: {
        double origin = schedule->warmup_steps > 0 ? (double)schedule->warmup_steps : 1.0;
        return sqrt(origin / (passed + origin));
    }
    case WEIR_SCHEDULE_EXPONENTIAL:
        return pow(schedule->rate, passed / period);
    case WEIR_SCHEDULE_STEP:
        return pow(schedule->rate, (double)(past / schedule->decay_steps));
    case WEIR_SCHEDULE_CONSTANT:
    case WEIR_SCHEDULE_COUNT:
        break;
    }
    return 1.0;
}

double weir_schedule_rate(const weir_schedule_t *schedule, double base, uint64_t step) {
    if (step < schedule->warmup_steps) {
        return base * ((double)step / (double)schedule->warmup_steps);
    }
    uint64_t top = schedule->warmup_steps > 0 ? schedule->warmup_steps : 1;
    return base * fmax(decayed(schedule, step > top ? step - top : 0), schedule->floor);
}
