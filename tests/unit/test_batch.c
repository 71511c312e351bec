/* Batches over a small data folder that the test writes. */
#include "tests/scratch.h"
#include "tests/suite.h"
#include "tests/unit/data_cases.h"
#include "worker/batch.h"

#include <stdio.h>
#include <string.h>

enum { USERS = DATA_USERS, ITEMS = 40, BATCH = 16 };

static weir_scratch_t scratch;
static weir_dataset_t *dataset;

static int64_t item_of_event(size_t user, size_t k) {
    return (int64_t)((user * 7 + k * 3) % ITEMS) + 1;
}

static void open_data(void) {
    weir_error_t error = {0};
    weir_scratch_init(&scratch);
    data_write(scratch.path, ITEMS, item_of_event);
    ck_assert_msg(weir_dataset_open(scratch.path, &dataset, &error) == WEIR_OK, "%s",
                  error.message);
}

static void close_data(void) {
    weir_dataset_close(dataset);
    weir_scratch_fini(&scratch);
}

static weir_config_t config_of(bool validation, int64_t sharing) {
    weir_config_t config;
    weir_config_defaults(&config);
    config.train.batch_users = BATCH;
    config.train.seed = 5;
    config.model.max_sequence_length = 4;
    config.loss.negatives = 6;
    config.loss.sharing = sharing;
    config.eval.validation = validation;
    return config;
}

static weir_batch_reader_t *reader_of(const weir_config_t *config, uint32_t worker,
                                      uint32_t workers, uint32_t alive) {
    weir_batch_reader_options_t options = {
        .dataset = dataset, .worker = worker, .workers = workers, .alive = alive};
    weir_batch_reader_t *reader = NULL;
    weir_error_t error = {0};
    ck_assert_msg(weir_batch_reader_create(config, &options, &reader, &error) == WEIR_OK, "%s",
                  error.message);
    return reader;
}

static const weir_train_batch_t *read_step(weir_batch_reader_t *reader, uint64_t step) {
    const weir_train_batch_t *batch = NULL;
    ck_assert_int_eq(weir_batch_read(reader, step, &batch, NULL), WEIR_OK);
    return batch;
}

START_TEST(an_epoch_shows_every_user_with_enough_events_once) {
    weir_config_t config = config_of(_i == 1, WEIR_NEGATIVES_TOKEN);
    weir_batch_reader_t *reader = reader_of(&config, 0, 1, 1);
    size_t needed = _i == 1 ? 4 : 3, seen[USERS] = {0};
    for (uint64_t step = 1; step <= weir_batch_steps_per_epoch(reader); step++) {
        const weir_train_batch_t *batch = read_step(reader, step);
        for (size_t b = 0; b < batch->sequence.users; b++) {
            size_t user = (size_t)batch->users[b];
            size_t first = batch->sequence.offsets[b], last = batch->sequence.offsets[b + 1] - 1;
            size_t target = data_events_of_user(user) - (_i == 1 ? 3 : 2);
            seen[user]++;
            ck_assert_uint_eq(batch->keys[batch->target_rows[last]],
                              (weir_key_t)item_of_event(user, target));
            ck_assert_uint_eq(batch->keys[batch->item_rows[last]],
                              (weir_key_t)item_of_event(user, target - 1));
            ck_assert_int_eq(batch->sequence.next_times[last], (int64_t)(100 * user + 10 * target));
            ck_assert_uint_eq(last - first + 1, target < 4 ? target : 4);
        }
    }
    for (size_t user = 0; user < USERS; user++) {
        ck_assert_uint_eq(seen[user], data_events_of_user(user) >= needed ? 1 : 0);
    }
    weir_batch_reader_destroy(reader);
}
END_TEST

/* Find a token of the whole batch in a part by its number. */
static size_t row_of_token(const weir_train_batch_t *part, uint32_t token) {
    for (size_t i = 0; i < part->sequence.tokens; i++) {
        if (part->sequence.global_tokens[i] == token) {
            return i;
        }
    }
    return SIZE_MAX;
}

/* User u's events are at 100 u + 10 k: of user 24 some are before, of later ones none. */
START_TEST(a_split_by_time_trains_on_all_before_and_nothing_later) {
    enum { FROM = 2430 + 20, MIDDLE = 24 };
    weir_config_t config = config_of(_i == 1, WEIR_NEGATIVES_TOKEN);
    config.eval.test_from = FROM;
    weir_batch_reader_t *reader = reader_of(&config, 0, 1, 1);
    size_t held_out = _i == 1 ? 1 : 0, seen[USERS] = {0};
    for (uint64_t step = 1; step <= weir_batch_steps_per_epoch(reader); step++) {
        const weir_train_batch_t *batch = read_step(reader, step);
        for (size_t b = 0; b < batch->sequence.users; b++) {
            size_t user = (size_t)batch->users[b], before = 0;
            size_t last = batch->sequence.offsets[b + 1] - 1;
            while (before < data_events_of_user(user) && data_time_of_event(user, before) < FROM) {
                before++;
            }
            size_t target = before - held_out - 1;
            seen[user]++;
            ck_assert_uint_eq(batch->keys[batch->target_rows[last]],
                              (weir_key_t)item_of_event(user, target));
            ck_assert_int_eq(batch->sequence.next_times[last], data_time_of_event(user, target));
        }
    }
    for (size_t user = 0; user < USERS; user++) {
        size_t events = user < MIDDLE ? data_events_of_user(user) : user == MIDDLE ? 5 : 0;
        ck_assert_uint_eq(seen[user], events >= 2 + held_out ? 1 : 0);
    }
    weir_batch_reader_destroy(reader);
}
END_TEST

START_TEST(the_parts_of_three_workers_make_the_batch_of_one) {
    weir_config_t config = config_of(false, _i);
    weir_batch_reader_t *one = reader_of(&config, 0, 1, 1), *parts[3];
    const weir_train_batch_t *of_part[3];
    size_t negatives = (size_t)config.loss.negatives;
    for (uint32_t w = 0; w < 3; w++) {
        parts[w] = reader_of(&config, w, 3, 1);
    }
    for (uint64_t step = 1; step <= 7; step++) { /* into the third epoch */
        const weir_train_batch_t *whole = read_step(one, step);
        size_t tokens = 0;
        for (uint32_t w = 0; w < 3; w++) {
            of_part[w] = read_step(parts[w], step);
            tokens += of_part[w]->sequence.tokens;
            ck_assert_uint_eq(of_part[w]->global_tokens, whole->global_tokens);
        }
        ck_assert_uint_eq(tokens, whole->sequence.tokens);
        ck_assert_uint_eq(tokens, whole->global_tokens);
        for (size_t i = 0; i < tokens; i++) {
            size_t found = 0;
            for (uint32_t w = 0; w < 3; w++) {
                size_t j = row_of_token(of_part[w], whole->sequence.global_tokens[i]);
                if (j == SIZE_MAX) {
                    continue;
                }
                found++;
                ck_assert_uint_eq(of_part[w]->keys[of_part[w]->item_rows[j]],
                                  whole->keys[whole->item_rows[i]]);
                size_t a = _i == WEIR_NEGATIVES_TOKEN ? i : 0,
                       b = _i == WEIR_NEGATIVES_TOKEN ? j : 0;
                for (size_t r = 0; r < negatives; r++) {
                    weir_key_t key = whole->keys[whole->negative_rows[a * negatives + r]];
                    ck_assert_uint_ge(key, 1);
                    ck_assert_uint_le(key, ITEMS);
                    ck_assert_uint_eq(
                        of_part[w]->keys[of_part[w]->negative_rows[b * negatives + r]], key);
                }
            }
            ck_assert_uint_eq(found, 1);
        }
    }
    for (uint32_t w = 0; w < 3; w++) {
        weir_batch_reader_destroy(parts[w]);
    }
    weir_batch_reader_destroy(one);
}
END_TEST

static void check_same(const weir_train_batch_t *a, const weir_train_batch_t *b, size_t drawn) {
    size_t users = a->sequence.users, tokens = a->sequence.tokens;
    ck_assert_uint_eq(a->step, b->step);
    ck_assert_uint_eq(users, b->sequence.users);
    ck_assert_uint_eq(tokens, b->sequence.tokens);
    ck_assert_uint_eq(a->global_tokens, b->global_tokens);
    ck_assert_uint_eq(a->key_count, b->key_count);
    ck_assert_mem_eq(a->users, b->users, users * sizeof *a->users);
    ck_assert_mem_eq(a->keys, b->keys, a->key_count * sizeof *a->keys);
    ck_assert_mem_eq(a->item_rows, b->item_rows, tokens * sizeof(uint32_t));
    ck_assert_mem_eq(a->target_rows, b->target_rows, tokens * sizeof(uint32_t));
    ck_assert_mem_eq(a->negative_rows, b->negative_rows, tokens * drawn * sizeof(uint32_t));
    ck_assert_mem_eq(a->sequence.offsets, b->sequence.offsets, (users + 1) * sizeof(size_t));
    ck_assert_mem_eq(a->sequence.times, b->sequence.times, tokens * sizeof(int64_t));
    ck_assert_mem_eq(a->sequence.next_times, b->sequence.next_times, tokens * sizeof(int64_t));
    ck_assert_mem_eq(a->sequence.global_tokens, b->sequence.global_tokens,
                     tokens * sizeof(uint32_t));
}

/* Each is compared when `alive` - 1 later ones have been read: into other epochs, too. */
START_TEST(as_many_batches_as_asked_for_are_alive) {
    enum { ALIVE = 4, STEPS = 12 };
    weir_config_t config = config_of(false, WEIR_NEGATIVES_TOKEN);
    weir_batch_reader_t *ring = reader_of(&config, 1, 2, ALIVE);
    weir_batch_reader_t *alone = reader_of(&config, 1, 2, 1);
    const weir_train_batch_t *batches[STEPS];
    for (uint64_t step = 1; step <= STEPS; step++) {
        batches[step - 1] = read_step(ring, step);
        if (step >= ALIVE) {
            uint64_t oldest = step - ALIVE + 1;
            check_same(batches[oldest - 1], read_step(alone, oldest),
                       (size_t)config.loss.negatives);
        }
    }
    weir_batch_reader_destroy(ring);
    weir_batch_reader_destroy(alone);
}
END_TEST

/* They are the keys of a pull, which must be distinct. */
START_TEST(no_user_is_twice_in_a_batch) {
    weir_config_t config = config_of(false, WEIR_NEGATIVES_TOKEN);
    weir_batch_reader_t *reader = reader_of(&config, 0, 1, 1);
    for (uint64_t step = 1; step <= 9; step++) {
        const weir_train_batch_t *batch = read_step(reader, step);
        size_t seen[USERS] = {0};
        for (size_t b = 0; b < batch->sequence.users; b++) {
            ck_assert_uint_eq(seen[batch->users[b]]++, 0);
        }
    }
    weir_batch_reader_destroy(reader);
}
END_TEST

START_TEST(epochs_are_shuffled_and_steps_repeat_exactly) {
    weir_config_t config = config_of(false, WEIR_NEGATIVES_TOKEN);
    weir_batch_reader_t *reader = reader_of(&config, 0, 1, 1), *again = reader_of(&config, 0, 1, 1);
    uint64_t per_epoch = weir_batch_steps_per_epoch(reader);
    uint64_t first[BATCH];
    memcpy(first, read_step(reader, 1)->users, sizeof first);
    ck_assert_int_ne(memcmp(first, read_step(reader, 1 + per_epoch)->users, sizeof first), 0);
    /* A reader that comes later, as after a resume, sees the same step. */
    check_same(read_step(reader, 6), read_step(again, 6), (size_t)config.loss.negatives);
    weir_batch_reader_destroy(reader);
    weir_batch_reader_destroy(again);
}
END_TEST

/* Also of a worker with few users, who have few items. */
START_TEST(the_rows_of_a_full_softmax_are_the_catalogue_in_order) {
    weir_config_t config = config_of(false, WEIR_NEGATIVES_CATALOGUE);
    config.loss.negatives = 1048576; /* has no part in it */
    weir_batch_reader_t *reader = reader_of(&config, 1, 3, 2);
    for (uint64_t step = 1; step <= 7; step++) {
        const weir_train_batch_t *batch = read_step(reader, step);
        if (batch->sequence.tokens == 0) {
            continue;
        }
        ck_assert_uint_eq(batch->key_count, ITEMS);
        for (size_t row = 0; row < ITEMS; row++) {
            ck_assert_uint_eq(batch->keys[row], row + 1);
            ck_assert_uint_eq(batch->negative_rows[row], row);
        }
    }
    weir_batch_reader_destroy(reader);
}
END_TEST

START_TEST(more_workers_than_users_leaves_some_with_nothing) {
    weir_config_t config =
        config_of(false, _i == 0 ? WEIR_NEGATIVES_BATCH : WEIR_NEGATIVES_CATALOGUE);
    config.train.batch_users = 2;
    size_t empty = 0;
    for (uint32_t w = 0; w < 5; w++) {
        weir_batch_reader_t *reader = reader_of(&config, w, 5, 1);
        const weir_train_batch_t *batch = read_step(reader, 1);
        empty += batch->sequence.tokens == 0 ? 1 : 0;
        ck_assert(batch->sequence.tokens > 0 || batch->key_count == 0);
        weir_batch_reader_destroy(reader);
    }
    ck_assert_uint_eq(empty, 3);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("batch");
    TCase *t = tcase_create("batch");
    tcase_add_unchecked_fixture(t, open_data, close_data);
    tcase_add_loop_test(t, an_epoch_shows_every_user_with_enough_events_once, 0, 2);
    tcase_add_loop_test(t, a_split_by_time_trains_on_all_before_and_nothing_later, 0, 2);
    tcase_add_loop_test(t, the_parts_of_three_workers_make_the_batch_of_one, 0, 3);
    tcase_add_test(t, the_rows_of_a_full_softmax_are_the_catalogue_in_order);
    tcase_add_test(t, as_many_batches_as_asked_for_are_alive);
    tcase_add_test(t, no_user_is_twice_in_a_batch);
    tcase_add_test(t, epochs_are_shuffled_and_steps_repeat_exactly);
    tcase_add_loop_test(t, more_workers_than_users_leaves_some_with_nothing, 0, 2);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
