/* Lists of scored items for users, as text, JSON lines or CSV, with the ids and names of the
 * source: what `weir recommend` and `weir rank` print. */
#ifndef WEIR_TOOLS_ANSWER_LIST_H
#define WEIR_TOOLS_ANSWER_LIST_H

#include "common/dataset.h"
#include "common/error.h"

#include <argp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { WEIR_ANSWERS_TEXT, WEIR_ANSWERS_JSON, WEIR_ANSWERS_CSV } weir_answers_format_t;

typedef struct {
    const char *out; /* a file; NULL: standard output */
    weir_answers_format_t format;
} weir_answer_options_t;

/* --format, --json, --out, and no other argument; its input is a weir_answer_options_t. */
extern const struct argp weir_answers_argp;

typedef struct weir_answer_list weir_answer_list_t;

/* To a file, where it appears when it is whole, or to standard output. Each item has as many
 * scores as there are columns; the names of the columns must outlive the list, as `dataset`. Text:
 * a line of their names above the scores where there are several. JSON: an object a line, {"user":
 * .., "items": [{"item": .., "name": .., COLUMN: ..}]}. CSV: a header, then user, place from 1,
 * item, scores, name. */
WEIR_MUST_USE weir_err_t weir_answer_list_create(const weir_answer_options_t *options,
                                                 weir_dataset_t *dataset,
                                                 const char *const *columns, size_t column_count,
                                                 weir_answer_list_t **list, weir_error_t *error);

/* The list of a user: items (0 ends it early) and count x column_count scores. */
WEIR_MUST_USE weir_err_t weir_answer_list_add(weir_answer_list_t *list, int64_t user,
                                              const int64_t *items, const float *scores,
                                              size_t count, weir_error_t *error);

/* All lists have been added; says so where they went to a file. The list must still be destroyed.
 */
WEIR_MUST_USE weir_err_t weir_answer_list_commit(weir_answer_list_t *list, weir_error_t *error);
/* Without a commit before it, removes what was written to a file. Accepts NULL. */
void weir_answer_list_destroy(weir_answer_list_t *list);

#endif
