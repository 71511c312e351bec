/* The events of a log in memory, in the order of the source, until they are written user by user.
 * Users and items are numbers from interners, 0-based. 20 bytes an event, 28 while sorting, and 4
 * for each of its further columns. */
#ifndef WEIR_TOOLS_EVENT_LOG_H
#define WEIR_TOOLS_EVENT_LOG_H

#include "common/error.h"
#include "tools/dataset_writer.h"

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint32_t *users, *items;
    int64_t *times; /* seconds */
    float *actions;
    uint32_t *words; /* [count x width] of further columns, row by row; NULL: width is 0 */
    size_t width;    /* set before the first event */
    size_t count, capacity;
} weir_event_log_t;

WEIR_MUST_USE weir_err_t weir_event_log_add(weir_event_log_t *log, uint32_t user, uint32_t item,
                                            int64_t time, float action, weir_error_t *error);
/* The further columns of the event added last, zero until they are set: width words. */
uint32_t *weir_event_log_last_words(weir_event_log_t *log);
void weir_event_log_fini(weir_event_log_t *log);

/* Which of the users or items stay, and their new numbers. */
typedef struct {
    uint32_t *number; /* [old number] new number; UINT32_MAX: left out */
    uint32_t *kept;   /* [new number] old number */
    uint32_t kept_count;
} weir_renumbering_t;

void weir_renumbering_fini(weir_renumbering_t *renumbering);

/* Leave out users with fewer than `min_user` events and items with fewer than `min_item`, again and
 * again until nothing changes; the events of what is left out are removed from the log. Users
 * without events are always left out; items without events are kept when min_item is 0. Order is
 * kept. */
WEIR_MUST_USE weir_err_t weir_event_log_filter(weir_event_log_t *log, uint32_t user_count,
                                               uint32_t item_count, uint64_t min_user,
                                               uint64_t min_item, weir_renumbering_t *users,
                                               weir_renumbering_t *items, weir_error_t *error);

typedef struct {
    uint64_t users, events;
    int64_t first_time, last_time;
    uint64_t shortest, longest; /* events of a user */
    double median, mean;
    uint64_t single_users; /* with one event: no history to learn from */
    uint64_t items_used;   /* with at least one event */
} weir_event_log_summary_t;

/* Give every user's events, sorted by time, stable in the order of the source, to the writer as
 * user 0, 1, ... with items from 1; users and items as renumbered (all of `users->kept` have
 * events). */
WEIR_MUST_USE weir_err_t weir_event_log_write(
    const weir_event_log_t *log, const weir_renumbering_t *users, const weir_renumbering_t *items,
    weir_dataset_writer_t *writer, weir_event_log_summary_t *summary, weir_error_t *error);

#endif
