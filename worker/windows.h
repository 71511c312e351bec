/* Data as a stream: all users' events cut into windows of time, to be trained on once, in order,
 * and measured on each window before it is trained on (train.order: stream).
 *
 * An *entry* is a user's events in a window, when the last of them has something before it; or,
 * where a session rule is given, a session of them. The
 * entries of a window are in the order of their first event (then of users); windows without any
 * are left out. The last window is never trained on: it is the last test. Steps go through the
 * windows, batch_users entries each; a batch does not reach over the end of its window. */
#ifndef WEIR_WORKER_WINDOWS_H
#define WEIR_WORKER_WINDOWS_H

#include "common/dataset.h"
#include "common/error.h"
#include "worker/sessions.h"

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint64_t user;
    uint32_t first, end; /* events of the user in the window; end is 2 or more, of a session 1 */
} weir_windows_entry_t;

typedef struct weir_windows weir_windows_t;

/* `window` seconds, 1 or more. `sessions`: the rule, whose cut is not read; NULL: a user's events
 * in a window are one entry. Errors: UNSUPPORTED for a user of 2^32 events or 2^24 windows and
 * more; INVALID when fewer than two windows have entries. Two passes over the events' times. */
WEIR_MUST_USE weir_err_t weir_windows_create(const weir_dataset_t *dataset, int64_t window,
                                             const weir_session_rule_t *sessions,
                                             size_t batch_users, weir_windows_t **stream,
                                             weir_error_t *error);
void weir_windows_destroy(weir_windows_t *stream); /* accepts NULL */

/* Windows, the last one included: 2 or more. */
size_t weir_windows_count(const weir_windows_t *stream);
/* Steps of all windows but the last. */
uint64_t weir_windows_steps(const weir_windows_t *stream);
/* Entries of all windows but the last. */
uint64_t weir_windows_trained_entries(const weir_windows_t *stream);

/* The window that `step`, 1 .. steps, trains on. */
size_t weir_windows_of_step(const weir_windows_t *stream, uint64_t step);
/* The last step of a window but the last. */
uint64_t weir_windows_last_step(const weir_windows_t *stream, size_t window);

/* Entries of a window, or of a step of its window. */
const weir_windows_entry_t *weir_windows_entries(const weir_windows_t *stream, size_t window,
                                                 size_t *count);
const weir_windows_entry_t *weir_windows_step_entries(const weir_windows_t *stream, uint64_t step,
                                                      size_t *count);

/* Items that have been seen by the end of a window: 1 .. this, where ids are in the order of first
 * appearance, as `weir prepare` gives them. */
uint64_t weir_windows_catalogue(const weir_windows_t *stream, size_t window);

#endif
