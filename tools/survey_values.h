/* How the floats of a tensor look, added up piece by piece. Values need not be aligned: a file from
 * elsewhere aligns as it likes. */
#ifndef WEIR_TOOLS_SURVEY_VALUES_H
#define WEIR_TOOLS_SURVEY_VALUES_H

#include "tools/survey.h"

/* Add `count` floats. Until finish, `norm` holds the sum of squares. Call: local. */
void weir_survey_values_add(weir_survey_values_t *values, const void *floats, uint64_t count);

/* As add, of rows of `width` floats, whose norms are added to `norms` and to `norm_sum`. */
void weir_survey_values_add_rows(weir_survey_values_t *values, weir_survey_norms_t *norms,
                                 double *norm_sum, const void *floats, uint64_t rows,
                                 uint64_t width);

/* Once, after the last piece. */
void weir_survey_values_finish(weir_survey_values_t *values);

#endif
