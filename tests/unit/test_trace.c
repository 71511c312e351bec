#include "common/trace.h"

#include "common/clock.h"
#include "common/file.h"
#include "tests/suite.h"

#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[] = "/tmp/weir-trace-XXXXXX";

static void open_window(uint64_t after, uint64_t steps) {
    weir_trace_options_t options = {
        .run = folder, .role = "worker", .rank = 3, .index = 1, .after = after, .steps = steps};
    ck_assert_int_eq(weir_trace_open(&options, NULL), WEIR_OK);
}

static json_t *read_timeline(void) {
    char path[WEIR_PATH_MAX];
    json_error_t error;
    (void)snprintf(path, sizeof path, "%s/trace/rank-0003.json", folder);
    json_t *read = json_load_file(path, 0, &error);
    ck_assert_msg(json_is_array(read), "%s:%d: %s", path, error.line, error.text);
    return read;
}

/* Events of a phase and a name (NULL: any). */
static size_t count_events(const json_t *timeline, const char *phase, const char *name) {
    size_t i, count = 0;
    json_t *event;
    json_array_foreach(timeline, i, event) {
        count +=
            strcmp(json_string_value(json_object_get(event, "ph")), phase) == 0 &&
            (name == NULL || strcmp(json_string_value(json_object_get(event, "name")), name) == 0);
    }
    return count;
}

static void set_up(void) {
    memcpy(folder, "/tmp/weir-trace-XXXXXX", sizeof folder);
    ck_assert_ptr_nonnull(mkdtemp(folder));
}

static void tear_down(void) {
    char path[WEIR_PATH_MAX];
    weir_trace_close();
    (void)snprintf(path, sizeof path, "%s/trace", folder);
    ck_assert_int_eq(weir_file_remove_directory(path, NULL), WEIR_OK);
    (void)rmdir(folder);
}

static void work_a_step(uint64_t step) {
    weir_trace_set_step(step);
    int64_t outer = weir_trace_begin();
    int64_t inner = weir_trace_begin();
    weir_clock_sleep(0.0002);
    weir_trace_end(inner, "inner", step, 7);
    inner = weir_trace_begin();
    weir_trace_end(inner, "second", step, WEIR_TRACE_NOBODY);
    weir_trace_end(outer, "outer", step, WEIR_TRACE_NOBODY);
}

START_TEST(the_window_begins_after_the_warm_up_and_ends) {
    open_window(10, 3);
    for (uint64_t step = 11; step <= 25; step++) {
        work_a_step(step);
    }
    json_t *timeline = read_timeline(), *event; /* written when the window had passed */
    size_t i;
    ck_assert_uint_eq(count_events(timeline, "X", "outer"), 3);
    ck_assert_uint_eq(count_events(timeline, "X", NULL), 9);
    json_array_foreach(timeline, i, event) {
        json_t *step = json_object_get(json_object_get(event, "args"), "step");
        if (step != NULL) {
            ck_assert_int_ge(json_integer_value(step), 16);
            ck_assert_int_le(json_integer_value(step), 18);
        }
    }
    json_decref(timeline);
}
END_TEST

START_TEST(events_ascend_and_nest) {
    open_window(0, 50);
    for (uint64_t step = 1; step <= 20; step++) {
        work_a_step(step);
    }
    weir_trace_close();
    json_t *timeline = read_timeline(), *event;
    double last = 0.0, ends[8] = {0};
    const double resolved = 0.02; /* us, by a double */
    size_t i, depth = 0, deepest = 0, spans = 0;
    json_array_foreach(timeline, i, event) {
        if (strcmp(json_string_value(json_object_get(event, "ph")), "X") != 0) {
            continue;
        }
        double begin = json_number_value(json_object_get(event, "ts"));
        double end = begin + json_number_value(json_object_get(event, "dur"));
        ck_assert(begin >= last);
        last = begin;
        while (depth > 0 && ends[depth - 1] <= begin + resolved) {
            depth--;
        }
        ck_assert(depth == 0 || end <= ends[depth - 1] + resolved); /* what is open holds it */
        ck_assert_uint_lt(depth, 8);
        ends[depth++] = end;
        deepest = depth > deepest ? depth : deepest;
        spans++;
    }
    ck_assert_uint_eq(spans, 45); /* steps 6 to 20 */
    ck_assert_uint_eq(deepest, 2);
    json_decref(timeline);
}
END_TEST

START_TEST(a_frame_has_one_name_where_it_leaves_and_where_it_comes) {
    weir_frame_header_t header = {
        .type = WEIR_FRAME_REDUCE, .source = 3, .step = 6, .sequence = 2, .payload_size = 64};
    open_window(0, 2);
    weir_trace_frame_posted(&header, 3, 4); /* before the window */
    weir_trace_set_step(6);
    weir_trace_frame_posted(&header, 3, 4);
    header.sequence = 5;
    header.source = 4;
    weir_trace_frame_received(&header, 3);
    weir_trace_close();
    json_t *timeline = read_timeline(), *event;
    size_t i, seen = 0;
    json_array_foreach(timeline, i, event) {
        const char *phase = json_string_value(json_object_get(event, "ph"));
        const char *id = json_string_value(json_object_get(event, "id"));
        if (strcmp(phase, "s") == 0) {
            ck_assert_str_eq(id, "reduce/6/2/0/3>4");
            seen++;
        } else if (strcmp(phase, "f") == 0) {
            ck_assert_str_eq(id, "reduce/6/5/0/4>3");
            ck_assert_int_eq(
                json_integer_value(json_object_get(json_object_get(event, "args"), "peer")), 4);
            seen++;
        }
    }
    ck_assert_uint_eq(seen, 2);
    json_decref(timeline);
}
END_TEST

static void *record_much(void *argument) {
    (void)argument;
    weir_trace_name_thread("comm");
    for (int i = 0; i < 70000; i++) {
        weir_trace_end(weir_trace_begin(), "much", 6, WEIR_TRACE_NOBODY);
    }
    return NULL;
}

START_TEST(threads_have_names_and_a_full_buffer_says_so) {
    pthread_t thread;
    open_window(0, 1);
    weir_trace_set_step(6);
    weir_trace_end(weir_trace_begin(), "little", 6, WEIR_TRACE_NOBODY);
    ck_assert_int_eq(pthread_create(&thread, NULL, record_much, NULL), 0);
    (void)pthread_join(thread, NULL);
    weir_trace_set_step(7);
    json_t *timeline = read_timeline(), *event;
    size_t i, named = 0;
    json_array_foreach(timeline, i, event) {
        const json_t *about = json_object_get(event, "args");
        const char *name = json_string_value(json_object_get(about, "name"));
        if (name != NULL && strcmp(name, "comm") == 0) {
            ck_assert_int_eq(json_integer_value(json_object_get(about, "turned_away")),
                             70000 - 65536);
            named++;
        }
    }
    ck_assert_uint_eq(named, 1);
    ck_assert_uint_eq(count_events(timeline, "X", "much"), 65536);
    ck_assert_uint_eq(count_events(timeline, "X", "little"), 1);
    json_decref(timeline);
}
END_TEST

START_TEST(no_steps_no_file) {
    char path[WEIR_PATH_MAX];
    open_window(0, 0);
    work_a_step(6);
    weir_trace_close();
    (void)snprintf(path, sizeof path, "%s/trace", folder);
    ck_assert(!weir_file_exists(path));
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("trace");
    TCase *t = tcase_create("trace");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, the_window_begins_after_the_warm_up_and_ends);
    tcase_add_test(t, events_ascend_and_nest);
    tcase_add_test(t, a_frame_has_one_name_where_it_leaves_and_where_it_comes);
    tcase_add_test(t, threads_have_names_and_a_full_buffer_says_so);
    tcase_add_test(t, no_steps_no_file);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
