#include "worker/sessions.h"

size_t weir_sessions_end(const weir_session_rule_t *rule, const int64_t *times, size_t count,
                         size_t first) {
    size_t end = first + 1;
    while (end < count && end - first < rule->most && times[end] - times[end - 1] <= rule->gap &&
           !(times[end] >= rule->cut && times[end - 1] < rule->cut)) {
        end++;
    }
    return end;
}

size_t weir_sessions_count(const weir_session_rule_t *rule, const int64_t *times, size_t count) {
    size_t sessions = 0;
    for (size_t first = 0; first < count; first = weir_sessions_end(rule, times, count, first)) {
        sessions++;
    }
    return sessions;
}

size_t weir_sessions_before_cut(const weir_session_rule_t *rule, const int64_t *times,
                                size_t count) {
    size_t sessions = 0;
    for (size_t first = 0; first < count && times[first] < rule->cut;
         first = weir_sessions_end(rule, times, count, first)) {
        sessions++;
    }
    return sessions;
}

weir_session_t weir_sessions_at(const weir_session_rule_t *rule, const int64_t *times, size_t count,
                                size_t index) {
    weir_session_t session = {0, weir_sessions_end(rule, times, count, 0)};
    for (size_t i = 0; i < index; i++) {
        session.first = session.end;
        session.end = weir_sessions_end(rule, times, count, session.first);
    }
    return session;
}
