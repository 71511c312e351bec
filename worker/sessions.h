/* A user's events cut into sessions: the unit that a ranking model is trained and measured by. All
 * events of a session are its targets, those before it its history (Zhai et al., ICML 2024, section
 * 2.3: one training example a session, not one an impression). */
#ifndef WEIR_WORKER_SESSIONS_H
#define WEIR_WORKER_SESSIONS_H

#include <stddef.h>
#include <stdint.h>

/* A session ends where the next event is more than `gap` seconds later, after `most` events (1 or
 * more), and before the first event at or after the time `cut` (INT64_MIN: nowhere). */
typedef struct {
    int64_t gap;
    size_t most;
    int64_t cut;
} weir_session_rule_t;

typedef struct {
    size_t first, end; /* events */
} weir_session_t;

/* Where the session that begins with event `first`, below count, ends. */
size_t weir_sessions_end(const weir_session_rule_t *rule, const int64_t *times, size_t count,
                         size_t first);

/* How many sessions there are. times: count of them, rising. Call: local. */
size_t weir_sessions_count(const weir_session_rule_t *rule, const int64_t *times, size_t count);

/* How many of them begin before `cut`. */
size_t weir_sessions_before_cut(const weir_session_rule_t *rule, const int64_t *times,
                                size_t count);

/* Session `index` of them, from 0. Cost: a pass over the times. */
weir_session_t weir_sessions_at(const weir_session_rule_t *rule, const int64_t *times, size_t count,
                                size_t index);

#endif
