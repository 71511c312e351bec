/* Running the line that is a job: signals in, standard error out, its end. */
#ifndef WEIR_TOOLS_LAUNCH_RUN_H
#define WEIR_TOOLS_LAUNCH_RUN_H

#include "tools/launch.h"

/* Run `words` (ends with NULL) as `launch` says; see weir_launch. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_launch_run(char *const *words, const weir_launch_t *launch,
                                         weir_launch_end_t *end, weir_error_t *error);

#endif
