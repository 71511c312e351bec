/* A small job for the tests of server and client: what every worker pulls and pushes in every step,
 * and what the table holds after it, computed plainly: gradients added in worker order, one update
 * a row. */
#ifndef WEIR_TESTS_PS_CASES_H
#define WEIR_TESTS_PS_CASES_H

#include "ps/table.h"

#include <stdbool.h>

enum { CASE_DIM = 6, CASE_UNIVERSE = 97, CASE_STEPS = 7 };

weir_table_options_t case_options(void);
weir_table_t *case_table(void);
weir_key_t case_key(size_t i); /* i < CASE_UNIVERSE */

/* Distinct keys of a worker's pull; sometimes none. */
size_t case_pull(uint32_t worker, uint64_t step, weir_key_t keys[CASE_UNIVERSE]);
/* Gradients of those keys; magnitudes differ so much that the order of a sum shows. */
void case_gradients(uint32_t worker, uint64_t step, const weir_key_t *keys, size_t count,
                    float *gradients);

/* values: CASE_UNIVERSE x CASE_DIM after `steps` steps of `workers` workers, added in worker order
 * or, to see that it matters, backwards. */
void case_expected(uint32_t workers, uint64_t steps, bool backwards, float *values);

#endif
