#include "common/dataset.h"

#include "common/file.h"
#include "common/tensor_file.h"
#include "tests/scratch.h"
#include "tests/suite.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

enum { USERS = 3, ITEMS = 4, EVENTS = 6 };

/* A small good dataset; each test spoils one thing. */
typedef struct {
    int64_t offsets[USERS + 1], items[EVENTS], times[EVENTS], id_offsets[ITEMS + 1];
    float actions[EVENTS];
    const char *format, *version, *users, *item_count, *dictionary_items;
    uint64_t time_count;
    bool no_events, no_dictionary;
} sample_t;

static sample_t good_sample(void) {
    return (sample_t){.offsets = {0, 3, 4, 6},
                      .items = {1, 4, 2, 3, 1, 1},
                      .times = {10, 10, 12, 5, -1, 7},
                      .actions = {1.0f, 2.5f, 3.0f, 1.0f, 1.0f, 5.0f},
                      .id_offsets = {0, 1, 3, 3, 6},
                      .format = WEIR_DATASET_FORMAT,
                      .version = WEIR_DATASET_VERSION,
                      .users = "3",
                      .item_count = "4",
                      .dictionary_items = "4",
                      .time_count = EVENTS};
}

static weir_error_t error;

static void must(weir_err_t code) {
    ck_assert_msg(code == WEIR_OK, "%s", error.message);
}

static weir_tensor_writer_t *begin_file(const char *folder, const char *name, const sample_t *s,
                                        const char *items) {
    char path[WEIR_PATH_MAX];
    weir_tensor_writer_t *writer = NULL;
    must(weir_path_join(path, sizeof path, folder, name, &error));
    must(weir_tensor_writer_create(path, &writer, &error));
    must(weir_tensor_writer_metadata(writer, "format", s->format, &error));
    must(weir_tensor_writer_metadata(writer, "version", s->version, &error));
    must(weir_tensor_writer_metadata(writer, "num_users", s->users, &error));
    must(weir_tensor_writer_metadata(writer, "num_items", items, &error));
    must(weir_tensor_writer_metadata(writer, "source", "a test", &error));
    return writer;
}

static void declare(weir_tensor_writer_t *writer, const char *name, weir_dtype_t dtype,
                    uint64_t count) {
    must(weir_tensor_writer_declare(writer, name, dtype, 1, &count, &error));
}

static void write_sample(const char *folder, const sample_t *s) {
    if (!s->no_events) {
        weir_tensor_writer_t *writer = begin_file(folder, WEIR_DATASET_EVENTS, s, s->item_count);
        declare(writer, "offsets", WEIR_DTYPE_I64, USERS + 1);
        declare(writer, "items", WEIR_DTYPE_I64, EVENTS);
        declare(writer, "times", WEIR_DTYPE_I64, s->time_count);
        declare(writer, "actions", WEIR_DTYPE_F32, EVENTS);
        must(weir_tensor_writer_begin(writer, &error));
        must(weir_tensor_writer_append(writer, s->offsets, sizeof s->offsets, &error));
        must(weir_tensor_writer_append(writer, s->items, sizeof s->items, &error));
        must(weir_tensor_writer_append(writer, s->times, s->time_count * 8, &error));
        must(weir_tensor_writer_append(writer, s->actions, sizeof s->actions, &error));
        must(weir_tensor_writer_commit(writer, NULL, NULL, &error));
        weir_tensor_writer_destroy(writer);
    }
    if (!s->no_dictionary) {
        int64_t user_offsets[USERS + 1] = {0, 1, 2, 3};
        weir_tensor_writer_t *writer =
            begin_file(folder, WEIR_DATASET_DICTIONARY, s, s->dictionary_items);
        declare(writer, "item_id_offsets", WEIR_DTYPE_I64, ITEMS + 1);
        declare(writer, "user_id_offsets", WEIR_DTYPE_I64, USERS + 1);
        declare(writer, "item_id_bytes", WEIR_DTYPE_U8, 6);
        declare(writer, "user_id_bytes", WEIR_DTYPE_U8, 3);
        must(weir_tensor_writer_begin(writer, &error));
        must(weir_tensor_writer_append(writer, s->id_offsets, sizeof s->id_offsets, &error));
        must(weir_tensor_writer_append(writer, user_offsets, sizeof user_offsets, &error));
        must(weir_tensor_writer_append(writer, "abbccc", 6, &error));
        must(weir_tensor_writer_append(writer, "xyz", 3, &error));
        must(weir_tensor_writer_commit(writer, NULL, NULL, &error));
        weir_tensor_writer_destroy(writer);
    }
}

static weir_err_t open_sample(const sample_t *sample, weir_dataset_t **dataset) {
    weir_scratch_t scratch;
    weir_scratch_init(&scratch);
    write_sample(scratch.path, sample);
    error = (weir_error_t){0};
    weir_err_t code = weir_dataset_open(scratch.path, dataset, &error);
    if (code == WEIR_OK) { /* the dictionary is opened on first use: while the files are there */
        const char *bytes = NULL;
        size_t size = 0;
        code = weir_dataset_item_id(*dataset, 1, &bytes, &size, &error);
        if (code != WEIR_OK) {
            weir_dataset_close(*dataset);
            *dataset = NULL;
        }
    }
    weir_scratch_fini(&scratch);
    return code;
}

static void refuse(const sample_t *sample, weir_err_t expected, const char *reason) {
    weir_dataset_t *dataset = NULL;
    ck_assert_msg(open_sample(sample, &dataset) == expected, "%s: got %d: %s", reason, error.code,
                  error.message);
    ck_assert_ptr_null(dataset);
    ck_assert_msg(strstr(error.message, reason) != NULL, "%s not in: %s", reason, error.message);
    ck_assert_msg(strstr(error.message, ".safetensors") != NULL, "no file in: %s", error.message);
}

START_TEST(a_good_folder_gives_users_events_and_names) {
    sample_t sample = good_sample();
    weir_dataset_t *dataset = NULL;
    must(open_sample(&sample, &dataset));
    ck_assert_uint_eq(weir_dataset_users(dataset), USERS);
    ck_assert_uint_eq(weir_dataset_items(dataset), ITEMS);
    ck_assert_uint_eq(weir_dataset_events(dataset), EVENTS);
    ck_assert_str_eq(weir_dataset_source(dataset), "a test");
    weir_user_events_t events = weir_dataset_user(dataset, 2);
    ck_assert_uint_eq(events.count, 2);
    ck_assert_int_eq(events.times[0], -1);
    ck_assert(events.actions[1] == 5.0f);
    const char *bytes = NULL;
    size_t size = 0;
    must(weir_dataset_item_id(dataset, 4, &bytes, &size, &error));
    ck_assert_uint_eq(size, 3);
    ck_assert_mem_eq(bytes, "ccc", 3);
    must(weir_dataset_item_id(dataset, 3, &bytes, &size, &error));
    ck_assert_uint_eq(size, 0);
    must(weir_dataset_item_name(dataset, 4, &bytes, &size, &error)); /* the list is absent */
    ck_assert_uint_eq(size, 0);
    must(weir_dataset_user_id(dataset, 1, &bytes, &size, &error));
    ck_assert_mem_eq(bytes, "y", 1);
    ck_assert_int_eq(weir_dataset_item_id(dataset, 0, &bytes, &size, &error), WEIR_ERR_INVALID);
    ck_assert_int_eq(weir_dataset_item_id(dataset, 5, &bytes, &size, &error), WEIR_ERR_INVALID);
    ck_assert_int_eq(weir_dataset_user_id(dataset, 3, &bytes, &size, &error), WEIR_ERR_INVALID);
    weir_dataset_close(dataset);
}
END_TEST

START_TEST(the_digest_follows_every_value) {
    sample_t first = good_sample(), second = good_sample(), third = good_sample();
    second.actions[5] = 4.0f;
    third.offsets[1] = 2;
    const sample_t *samples[] = {&first, &first, &second, &third};
    uint64_t digest[4];
    third.times[2] = 1;
    for (int i = 0; i < 4; i++) {
        weir_dataset_t *dataset = NULL;
        must(open_sample(samples[i], &dataset));
        digest[i] = weir_dataset_digest(dataset);
        weir_dataset_close(dataset);
    }
    ck_assert_uint_eq(digest[0], digest[1]);
    ck_assert_uint_ne(digest[0], digest[2]);
    ck_assert_uint_ne(digest[0], digest[3]);
}
END_TEST

START_TEST(bad_events_are_named_by_user_and_row) {
    static const int64_t bad_items[] = {0, -1, 5, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < sizeof bad_items / sizeof bad_items[0]; i++) {
        sample_t sample = good_sample();
        sample.items[3] = bad_items[i];
        refuse(&sample, WEIR_ERR_CORRUPT, "user 1, row 3: item");
    }
    sample_t sample = good_sample();
    sample.times[2] = 9;
    refuse(&sample, WEIR_ERR_CORRUPT, "user 0, row 2: time 9 is before 10");
    sample = good_sample();
    sample.times[5] = INT64_MAX;
    refuse(&sample, WEIR_ERR_CORRUPT, "user 2, row 5: time");
    sample = good_sample();
    sample.times[0] = INT64_MIN;
    refuse(&sample, WEIR_ERR_CORRUPT, "user 0, row 0: time");
    sample = good_sample();
    sample.actions[4] = nanf("");
    refuse(&sample, WEIR_ERR_CORRUPT, "user 2, row 4: action");
    sample = good_sample();
    sample.actions[4] = -INFINITY;
    refuse(&sample, WEIR_ERR_CORRUPT, "user 2, row 4: action");
}
END_TEST

START_TEST(bad_offsets_are_refused) {
    sample_t sample = good_sample();
    sample.offsets[0] = 1;
    refuse(&sample, WEIR_ERR_CORRUPT, "begin at 1");
    sample = good_sample();
    sample.offsets[2] = 2;
    refuse(&sample, WEIR_ERR_CORRUPT, "do not rise at row 1");
    sample = good_sample();
    sample.offsets[2] = 3; /* a user without events */
    refuse(&sample, WEIR_ERR_CORRUPT, "do not rise at row 1");
    sample = good_sample();
    sample.offsets[1] = INT64_MIN;
    refuse(&sample, WEIR_ERR_CORRUPT, "do not rise at row 0");
    sample = good_sample();
    sample.offsets[3] = 7;
    refuse(&sample, WEIR_ERR_CORRUPT, "end at 7");
    sample = good_sample();
    sample.id_offsets[4] = 7;
    refuse(&sample, WEIR_ERR_CORRUPT, "item_id_offsets end at 7");
    sample = good_sample();
    sample.id_offsets[2] = -4;
    refuse(&sample, WEIR_ERR_CORRUPT, "item_id_offsets do not rise");
}
END_TEST

START_TEST(files_that_are_something_else_are_refused) {
    sample_t sample = good_sample();
    sample.format = "pt";
    refuse(&sample, WEIR_ERR_CORRUPT, "not prepared data");
    sample = good_sample();
    sample.version = "2";
    refuse(&sample, WEIR_ERR_VERSION, "version 2");
    sample = good_sample();
    sample.users = "2";
    refuse(&sample, WEIR_ERR_CORRUPT, "offsets");
    sample = good_sample();
    sample.users = "18446744073709551615";
    refuse(&sample, WEIR_ERR_CORRUPT, "num_users");
    sample = good_sample();
    sample.users = "-3";
    refuse(&sample, WEIR_ERR_CORRUPT, "num_users");
    sample = good_sample();
    sample.item_count = "0";
    refuse(&sample, WEIR_ERR_CORRUPT, "no items");
    sample = good_sample();
    sample.dictionary_items = "5";
    refuse(&sample, WEIR_ERR_CORRUPT, "the events beside it");
    sample = good_sample();
    sample.time_count = EVENTS - 1;
    refuse(&sample, WEIR_ERR_CORRUPT, "times");
}
END_TEST

START_TEST(half_a_dataset_is_none) {
    sample_t sample = good_sample();
    sample.no_dictionary = true;
    refuse(&sample, WEIR_ERR_NOT_FOUND, "dictionary.safetensors is missing");
    sample.no_dictionary = false;
    sample.no_events = true;
    refuse(&sample, WEIR_ERR_NOT_FOUND, "events.safetensors is missing");
    weir_dataset_t *dataset = NULL;
    ck_assert_int_eq(weir_dataset_open("no/such/folder", &dataset, &error), WEIR_ERR_NOT_FOUND);
    weir_dataset_close(NULL);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("dataset");
    TCase *t = tcase_create("dataset");
    tcase_add_test(t, a_good_folder_gives_users_events_and_names);
    tcase_add_test(t, the_digest_follows_every_value);
    tcase_add_test(t, bad_events_are_named_by_user_and_row);
    tcase_add_test(t, bad_offsets_are_refused);
    tcase_add_test(t, files_that_are_something_else_are_refused);
    tcase_add_test(t, half_a_dataset_is_none);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
