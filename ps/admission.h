/* Which new keys get a row: by chance, or those seen often enough.
 *
 * A key that has no row is *seen* in every step in which a pull names it, by however many workers.
 *
 * - *Probability*: each step that sees it admits it with probability p; the draw is a function of
 *   (seed, table, key, step).
 * - *Frequency*: it is admitted in the k-th step that sees it, k the threshold, as far as a
 *   count-min sketch can tell (Cormode, Muthukrishnan, 2005): an estimate is never too low between
 *   two halvings. All counters are halved every `window` steps, so that what was seen long ago
 *   fades.
 *
 * Answers depend neither on the number of servers nor on the order in which a step's pulls arrive:
 * decisions of a step go by the counts after the step before, and keys are added when the step
 * ends, each once. The sketch is cut by slot: a slot's counters can move to another server as they
 * are. The estimate is the minimum over four rows of 16-bit counters, which stop at the largest;
 * with four rows and c counters each, n keys of a slot are overestimated by more than e n / c with
 * a chance of e^-4, about 2%. A key that was admitted and lost its row again is still known here.
 */
#ifndef WEIR_PS_ADMISSION_H
#define WEIR_PS_ADMISSION_H

#include "common/config.h"
#include "common/error.h"
#include "common/hash.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WEIR_ADMISSION_ROWS = 4, WEIR_ADMISSION_MAX_THRESHOLD = 65535 };

typedef struct weir_admission weir_admission_t;

typedef struct {
    weir_admission_kind_t kind; /* probability or frequency */
    double probability;         /* in (0, 1] */
    uint32_t threshold;         /* 1 to WEIR_ADMISSION_MAX_THRESHOLD */
    uint64_t window;            /* steps; 0: counts do not fade */
    uint32_t counters;          /* of a slot, in each row; a power of two, 16 to 2^20 */
    uint64_t seed;
    uint32_t table_id;
    weir_slot_t first_slot, end_slot; /* [first, end) */
} weir_admission_options_t;

/* Errors: INVALID, memory (8 bytes x counters x slots; committed as keys are seen). */
WEIR_MUST_USE weir_err_t weir_admission_create(const weir_admission_options_t *options,
                                               weir_admission_t **admission, weir_error_t *error);
void weir_admission_destroy(weir_admission_t *admission);

/* admitted[i] for keys[i], none of which has a row, in `step`. Changes nothing. Call: local.
 * Threads: owner, as for all that follow. */
void weir_admission_decide_batch(const weir_admission_t *admission, const weir_key_t *keys,
                                 size_t count, uint64_t step, bool *admitted);

/* A key was seen and not admitted; may be told again in the same step. false: out of memory. */
bool weir_admission_note(weir_admission_t *admission, weir_key_t key);

/* Count what was noted, each key once. */
void weir_admission_end_step(weir_admission_t *admission, uint64_t step);

/* ---- to save and restore ---- */

/* Counters of a slot; 0 where none are kept (probability). */
size_t weir_admission_counters(const weir_admission_t *admission);
/* The counters of an owned slot as they are after the last step that ended: `*count` of them, valid
 * until the next call of anything here; 0 where none are kept (probability). */
void weir_admission_slot(weir_admission_t *admission, weir_slot_t slot, const uint16_t **values,
                         size_t *count);
/* From begin_cut to end_cut weir_admission_slot gives the counters as they were at begin_cut; slots
 * are then asked for in ascending order. Those of a slot are copied before their first change,
 * unless it or one behind it has been asked for. begin_cut false, or NULL for counters that there
 * are: no memory. */
bool weir_admission_begin_cut(weir_admission_t *admission);
void weir_admission_end_cut(weir_admission_t *admission);
/* The steps up to `step` have ended: told to a new sketch, before it gets counters of that time. */
void weir_admission_set_step(weir_admission_t *admission, uint64_t step);
/* Errors: another number of counters (INVALID), a slot that is not owned (INVALID). */
WEIR_MUST_USE weir_err_t weir_admission_restore_slot(weir_admission_t *admission, weir_slot_t slot,
                                                     const uint16_t *values, size_t count,
                                                     weir_error_t *error);

uint64_t weir_admission_bytes(const weir_admission_t *admission);

#endif
