/* The rows of one step: the distinct rows that the workers' pulls named, and the sums of their
 * gradients.
 *
 * A row gets a dense number 0, 1, .. when a pull first names it; gradients are added by that
 * number. A row's sum starts as the first gradient added and grows in the order of the calls:
 * adding worker after worker makes it the same to the bit whatever order their frames came in.
 * Memory is kept from step to step. */
#ifndef WEIR_PS_STEP_ROWS_H
#define WEIR_PS_STEP_ROWS_H

#include "ps/table.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    weir_row_handle_t handle;
    uint32_t number;
} weir_step_row_entry_t;

typedef struct {
    size_t dim;
    size_t count;                   /* distinct rows, below 2^32 */
    size_t capacity;                /* of the arrays by number */
    weir_row_handle_t *handles;     /* by number */
    weir_key_t *keys;               /* by number */
    uint32_t *last_worker;          /* by number: who named the row last */
    bool *started;                  /* by number: its sum holds something */
    uint32_t *sole;                 /* by number: who alone named the row, or WEIR_TABLE_SEVERAL */
    uint8_t *kept;                  /* by number: weir_row_kept_t of who named the row */
    float *sums;                    /* by number: dim floats each */
    const float *lent;              /* in place of sums, or NULL; not owned */
    weir_step_row_entry_t *entries; /* open addressing, handle to number */
    size_t entry_capacity;          /* a power of two, or 0 */
} weir_step_rows_t;

void weir_step_rows_init(weir_step_rows_t *rows, size_t dim);
void weir_step_rows_fini(weir_step_rows_t *rows);

/* Forget all rows; the memory stays. */
void weir_step_rows_clear(weir_step_rows_t *rows);

/* Room for `more` rows beyond those there; false: out of memory, nothing changed. */
bool weir_step_rows_reserve(weir_step_rows_t *rows, size_t more);

/* The number of a key without a row (its handle is WEIR_ROW_NONE): its gradients are dropped. */
#define WEIR_STEP_ROWS_DROPPED UINT32_MAX

/* numbers[i] = number of handles[i], for the pull of `worker`, after reserve(count). Returns
 * `count`, or the position of the first handle that this worker named before. */
size_t weir_step_rows_name(weir_step_rows_t *rows, const weir_key_t *keys,
                           const weir_row_handle_t *handles, size_t count, uint32_t worker,
                           uint32_t *numbers);

/* What a worker that named the row has of it; `number` is not DROPPED. */
void weir_step_rows_set_kept(weir_step_rows_t *rows, uint32_t number, weir_row_kept_t kept);

/* Whether a pull of the step named the row. */
bool weir_step_rows_has(const weir_step_rows_t *rows, weir_row_handle_t handle);

/* A worker that is alone names all rows, in the order of its pull: where none was dropped, its
 * gradients (count x dim) are the sums, and stay the caller's until clear. false: add them. */
bool weir_step_rows_lend(weir_step_rows_t *rows, size_t count, const float *gradients);

/* count x dim. */
static inline const float *weir_step_rows_sums(const weir_step_rows_t *rows) {
    return rows->lent != NULL ? rows->lent : rows->sums;
}

/* Add count x dim gradients to the sums of `numbers`; returns how many were dropped. */
size_t weir_step_rows_add(weir_step_rows_t *rows, const uint32_t *numbers, size_t count,
                          const float *gradients);

#endif
