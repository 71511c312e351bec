/* What this machine does with rows: constants of `weir plan`, and a table driven at small scale. */
#ifndef WEIR_TOOLS_PLAN_MEASURE_H
#define WEIR_TOOLS_PLAN_MEASURE_H

#include "tools/plan_model.h"

/* pulled_rows and updated_rows by a table of the schema of some 256 MiB, disk by a file in `folder`
 * that is removed again; network is left. Takes about two seconds. */
WEIR_MUST_USE weir_err_t weir_plan_measure(const weir_row_schema_t *schema, const char *folder,
                                           weir_plan_constants_t *constants, weir_error_t *error);

typedef struct {
    uint64_t rows, draws;
    double planned, accounted, resident; /* bytes: of the plan, by the table's own count, and by
                                            which this process has grown */
    double seconds;
} weir_plan_simulation_t;

/* Draw keys by popularity (rank^-skew of `keys` ranks) and pull them from a table until it holds
 * `rows` rows. */
WEIR_MUST_USE weir_err_t weir_plan_simulate(const weir_row_schema_t *schema, double keys,
                                            double skew, uint64_t rows,
                                            weir_plan_simulation_t *simulation,
                                            weir_error_t *error);

#endif
