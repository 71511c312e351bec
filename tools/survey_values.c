#include "tools/survey_values.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* Add one run of floats; its sum of squares, and whether all of it is finite, come back. */
static bool add_run(weir_survey_values_t *values, const char *bytes, uint64_t count, double *out) {
    double squares = 0.0;
    float low = INFINITY, high = -INFINITY;
    uint64_t nan = 0, infinite = 0;
    for (uint64_t i = 0; i < count; i++) {
        float value;
        memcpy(&value, bytes + i * sizeof value, sizeof value);
        bool finite = fabsf(value) <= FLT_MAX;
        nan += value != value ? 1u : 0u;
        infinite += !finite && value == value ? 1u : 0u;
        value = finite ? value : 0.0f;
        squares += (double)value * (double)value;
        low = finite && value < low ? value : low;
        high = finite && value > high ? value : high;
    }
    if (low <= high) {
        bool first = values->count == values->nan + values->infinite; /* no finite one so far */
        values->min = first ? (double)low : fmin(values->min, (double)low);
        values->max = first ? (double)high : fmax(values->max, (double)high);
    }
    values->count += count;
    values->nan += nan;
    values->infinite += infinite;
    values->norm += squares;
    *out = squares;
    return nan + infinite == 0;
}

void weir_survey_values_add(weir_survey_values_t *values, const void *floats, uint64_t count) {
    double squares;
    (void)add_run(values, floats, count, &squares);
}

void weir_survey_values_add_rows(weir_survey_values_t *values, weir_survey_norms_t *norms,
                                 double *norm_sum, const void *floats, uint64_t rows,
                                 uint64_t width) {
    const char *bytes = floats;
    for (uint64_t row = 0; row < rows; row++) {
        double squares;
        if (add_run(values, bytes + row * width * sizeof(float), width, &squares)) {
            double norm = sqrt(squares);
            norms->min = norms->rows == 0 ? norm : fmin(norms->min, norm);
            norms->max = norms->rows == 0 ? norm : fmax(norms->max, norm);
            norms->rows++;
            *norm_sum += norm;
        }
    }
}

void weir_survey_values_finish(weir_survey_values_t *values) {
    values->norm = sqrt(values->norm);
}
