/* What `weir prepare` says at the end, as text or JSON on stdout. */
#ifndef WEIR_TOOLS_PREPARE_SUMMARY_H
#define WEIR_TOOLS_PREPARE_SUMMARY_H

#include "tools/bad_lines.h"
#include "tools/event_log.h"

typedef struct {
    const char *out;
    weir_event_log_summary_t log;
    uint64_t lines; /* read, bad ones included */
    const weir_bad_lines_t *bad;
    uint64_t items; /* C */
    bool has_catalogue;
    uint64_t catalogue;                               /* items it names */
    uint64_t not_in_catalogue;                        /* items of the log that it lacks */
    const weir_dataset_columns_t *columns;            /* NULL: none */
    uint64_t action_events[WEIR_DATASET_MAX_ACTIONS]; /* with each action */
    uint64_t filtered_users, filtered_items, filtered_events;
} weir_prepare_summary_t;

WEIR_MUST_USE weir_err_t weir_prepare_summary_print(const weir_prepare_summary_t *summary,
                                                    bool json, weir_error_t *error);

#endif
