#include "tools/prepare_summary.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Later than this, a time in seconds is most likely one in milliseconds: the year 2500. */
static const int64_t implausible_time = INT64_C(16725225600);

static void format_time(int64_t seconds, char *out, size_t capacity) {
    struct tm parts;
    time_t when = (time_t)seconds;
    if (gmtime_r(&when, &parts) == NULL ||
        strftime(out, capacity, "%Y-%m-%d %H:%M:%S", &parts) == 0) {
        (void)snprintf(out, capacity, "%" PRId64 " s", seconds);
    }
}

static void print_features(const char *what, const weir_feature_t *features, size_t count) {
    for (size_t i = 0; i < count; i++) {
        (void)printf("  %s %s of %" PRIu32 " values%s", i == 0 ? what : "", features[i].name,
                     features[i].size - 1, i + 1 == count ? "\n" : ",");
    }
}

static void print_columns(const weir_prepare_summary_t *s) {
    for (size_t k = 0; k < s->columns->action_count; k++) {
        (void)printf("  %-9s %s: %" PRIu64 ", %.3g%%\n", k == 0 ? "actions" : "",
                     s->columns->actions[k], s->action_events[k],
                     100.0 * (double)s->action_events[k] / (double)s->log.events);
    }
    for (size_t k = 0; k < s->columns->number_count; k++) {
        (void)printf("  %-9s %s\n", k == 0 ? "numbers" : "", s->columns->numbers[k].name);
    }
    print_features("context  ", s->columns->context, s->columns->context_count);
    print_features("of items ", s->columns->items, s->columns->item_count);
    print_features("of users ", s->columns->users, s->columns->user_count);
}

static void print_text(const weir_prepare_summary_t *s) {
    char first[64], last[64];
    format_time(s->log.first_time, first, sizeof first);
    format_time(s->log.last_time, last, sizeof last);
    (void)printf("%s\n", s->out);
    (void)printf("  users     %" PRIu64 "\n", s->log.users);
    (void)printf("  items     %" PRIu64 ", %" PRIu64 " of them with events\n", s->items,
                 s->log.items_used);
    if (s->has_catalogue) {
        (void)printf("  catalogue %" PRIu64 " items; %" PRIu64 " of the log are not in it\n",
                     s->catalogue, s->not_in_catalogue);
    }
    (void)printf("  events    %" PRIu64 "\n", s->log.events);
    (void)printf("  time      %s .. %s UTC\n", first, last);
    (void)printf("  lengths   min %" PRIu64 ", median %g, mean %.1f, max %" PRIu64 "\n",
                 s->log.shortest, s->log.median, s->log.mean, s->log.longest);
    if (s->columns != NULL) {
        print_columns(s);
    }
    if (s->log.single_users > 0) {
        (void)printf("  users with a single event: %" PRIu64 " (no history to learn from)\n",
                     s->log.single_users);
    }
    if (s->filtered_events + s->filtered_users + s->filtered_items > 0) {
        (void)printf("  filtered  %" PRIu64 " users, %" PRIu64 " items, %" PRIu64 " events\n",
                     s->filtered_users, s->filtered_items, s->filtered_events);
    }
    (void)printf("  bad lines %" PRIu64 " of %" PRIu64 "\n", s->bad->total, s->lines);
    for (size_t i = 0; i < s->bad->reason_count; i++) {
        (void)printf("    %" PRIu64 ": %s\n", s->bad->reasons[i].count, s->bad->reasons[i].reason);
    }
}

static json_t *make_json(const weir_prepare_summary_t *s) {
    json_t *reasons = json_object(), *actions = json_object();
    for (size_t k = 0; s->columns != NULL && k < s->columns->action_count; k++) {
        if (json_object_set_new(actions, s->columns->actions[k],
                                json_integer((json_int_t)s->action_events[k])) != 0) {
            json_decref(reasons);
            json_decref(actions);
            return NULL;
        }
    }
    for (size_t i = 0; i < s->bad->reason_count; i++) {
        if (json_object_set_new(reasons, s->bad->reasons[i].reason,
                                json_integer((json_int_t)s->bad->reasons[i].count)) != 0) {
            json_decref(reasons);
            json_decref(actions);
            return NULL;
        }
    }
    return json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:{s:I, s:f, s:f, s:I}, s:I, s:b, s:I, s:I,"
        " s:{s:I, s:I, s:I}, s:I, s:I, s:o, s:o}",
        "users", (json_int_t)s->log.users, "items", (json_int_t)s->items, "items_with_events",
        (json_int_t)s->log.items_used, "events", (json_int_t)s->log.events, "first_time",
        (json_int_t)s->log.first_time, "last_time", (json_int_t)s->log.last_time, "lengths", "min",
        (json_int_t)s->log.shortest, "median", s->log.median, "mean", s->log.mean, "max",
        (json_int_t)s->log.longest, "single_event_users", (json_int_t)s->log.single_users,
        "has_catalogue", (int)s->has_catalogue, "catalogue", (json_int_t)s->catalogue,
        "not_in_catalogue", (json_int_t)s->not_in_catalogue, "filtered", "users",
        (json_int_t)s->filtered_users, "items", (json_int_t)s->filtered_items, "events",
        (json_int_t)s->filtered_events, "lines", (json_int_t)s->lines, "bad_lines",
        (json_int_t)s->bad->total, "bad_reasons", reasons, "actions", actions);
}

weir_err_t weir_prepare_summary_print(const weir_prepare_summary_t *summary, bool json,
                                      weir_error_t *error) {
    if (json) {
        json_t *object = make_json(summary);
        char *text = object != NULL ? json_dumps(object, JSON_INDENT(2)) : NULL;
        json_decref(object);
        if (text == NULL) {
            return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for the summary");
        }
        (void)puts(text);
        free(text);
    } else {
        print_text(summary);
    }
    if (summary->log.last_time > implausible_time) {
        (void)fprintf(stderr, "HINT: times reach beyond the year 2500; is the unit milliseconds "
                              "(--time-unit ms)?\n");
    }
    if (fflush(stdout) != 0) {
        return weir_errorf(error, WEIR_ERR_IO, "cannot write the summary to standard output");
    }
    return WEIR_OK;
}
