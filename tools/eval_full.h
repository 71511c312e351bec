/* What `weir eval --full` prints beside the table of ranks. */
#ifndef WEIR_TOOLS_EVAL_FULL_H
#define WEIR_TOOLS_EVAL_FULL_H

#include <jansson.h>

/* Metrics of lists, of cold items and the others, of one split of eval.json; nothing where it was
 * not evaluated in full. Call: local. */
void weir_eval_print_full(const char *split, json_t *metrics);

#endif
