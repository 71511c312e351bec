/* Random steps on tables and on the oracle at once (table_model.h): every answer, and all rows byte
 * for byte, must be the same. */
#ifndef WEIR_TESTS_TABLE_TRIAL_H
#define WEIR_TESTS_TABLE_TRIAL_H

#include "tests/unit/table_model.h"

typedef struct {
    weir_table_options_t options; /* of all servers together; cold_folder: a parent folder */
    uint32_t servers;             /* tables that share the slots; 0: one */
    uint64_t seed, steps;
    size_t universe;     /* keys that may be asked for */
    size_t hot, drift;   /* a step asks for `hot` keys in a row, `drift` further on than the last;
                            0: for all */
    size_t pulls, batch; /* of a step; keys of a pull */
    size_t spoiled;      /* of 1000 gradients: not finite */
    size_t forgotten;    /* of 1000 rows pulled: not updated */
    uint64_t lag;        /* steps that are in use at once; 0, 1: one */
    uint64_t rescue;     /* save and restore every so many steps, to another number of tables */
} table_trial_t;

typedef struct {
    uint64_t keys; /* pulled */
    uint64_t born, evicted, expired, rejected, cold_hits, cold_writes;
    uint64_t settled, unsettled; /* keys whose next value was known ahead, and not */
    uint64_t most_rows;          /* in memory at once */
} table_trial_result_t;

/* Call: local. A difference fails the test with the trial's place. */
table_trial_result_t table_trial_run(const table_trial_t *trial);

/* Fewer steps where each costs more: checked and sanitized builds. */
uint64_t table_trial_steps(uint64_t steps);

#endif
