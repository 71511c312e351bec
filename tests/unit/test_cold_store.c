#include "common/rng.h"
#include "ps/cold_store.h"
#include "tests/scratch.h"
#include "tests/suite.h"

#include <stdbool.h>
#include <string.h>
#include <unistd.h>

enum { RECORD = 56, UNIVERSE = 20000, MAX_BATCH = 700, SMALL_BUFFER = 64 << 10 };

static weir_scratch_t scratch;

static void begin(void) {
    weir_scratch_init(&scratch);
}

static void end(void) {
    weir_scratch_fini(&scratch);
}

static const char *in(const char *name) {
    return weir_scratch_path(&scratch, name);
}

static weir_cold_store_t *create_store(const char *folder, size_t record, size_t buffer,
                                       size_t cache) {
    weir_cold_store_t *store = NULL;
    weir_error_t error = {0};
    weir_cold_store_options_t options = {.folder = folder,
                                         .record_bytes = record,
                                         .cache_bytes = cache,
                                         .write_buffer_bytes = buffer};
    weir_err_t err = weir_cold_store_create(&options, &store, &error);
    ck_assert_msg(err == WEIR_OK, "%s (%s)", error.message, error.hint);
    return store;
}

/* Keys of every kind: dense, far apart, of both ends of the 64 bits. */
static weir_key_t universe_key(size_t i) {
    return i % 3 == 0 ? i : i % 3 == 1 ? (uint64_t)i << 41 : UINT64_MAX - i;
}

/* ---- the model: an array of all keys that may be asked for ---- */

typedef struct {
    bool there;
    unsigned char record[RECORD];
} oracle_row_t;

typedef struct {
    weir_cold_store_t *store;
    oracle_row_t *oracle;
    uint64_t rows, replaced; /* what it holds; batches of keys that were all there */
    uint32_t dice;
    size_t chosen[MAX_BATCH];
    weir_key_t keys[MAX_BATCH];
    bool found[MAX_BATCH];
    unsigned char records[MAX_BATCH * RECORD];
} model_t;

static uint32_t roll(model_t *model, uint32_t bound) {
    weir_philox_t random = weir_philox(weir_rng_key(7, WEIR_STREAM_TEST), model->dice++, 0, 0, 0);
    return weir_uniform_below(random.word[0], bound);
}

static model_t *create_model(size_t cache) {
    model_t *model = calloc(1, sizeof *model);
    ck_assert_ptr_nonnull(model);
    model->oracle = calloc(UNIVERSE, sizeof *model->oracle);
    ck_assert_ptr_nonnull(model->oracle);
    model->store = create_store(in("cold"), RECORD, SMALL_BUFFER, cache);
    return model;
}

static void destroy_model(model_t *model) {
    weir_cold_store_destroy(model->store);
    free(model->oracle);
    free(model);
}

/* Keys may repeat. */
static size_t choose_batch(model_t *model) {
    size_t count = roll(model, MAX_BATCH + 1);
    uint32_t window = 1 + roll(model, UNIVERSE);
    for (size_t i = 0; i < count; i++) {
        model->chosen[i] = roll(model, window);
        model->keys[i] = universe_key(model->chosen[i]);
    }
    return count;
}

static void put_batch(model_t *model) {
    size_t count = choose_batch(model);
    bool all_there = true;
    for (size_t i = 0; i < count; i++) {
        all_there = all_there && model->oracle[model->chosen[i]].there;
    }
    for (size_t i = 0; i < count; i++) {
        oracle_row_t *row = &model->oracle[model->chosen[i]];
        for (size_t byte = 0; byte < RECORD; byte += 4) {
            uint32_t word = roll(model, UINT32_MAX);
            memcpy(row->record + byte, &word, 4);
        }
        memcpy(model->records + i * RECORD, row->record, RECORD);
        model->rows += !row->there;
        row->there = true;
    }
    weir_error_t error = {0};
    weir_err_t err =
        all_there
            ? weir_cold_store_replace(model->store, model->keys, model->records, count, &error)
            : weir_cold_store_put(model->store, model->keys, model->records, count, &error);
    ck_assert_msg(err == WEIR_OK, "%s", error.message);
    model->replaced += all_there;
}

static void remove_batch(model_t *model) {
    size_t count = choose_batch(model);
    for (size_t i = 0; i < count; i++) {
        oracle_row_t *row = &model->oracle[model->chosen[i]];
        model->rows -= row->there;
        row->there = false;
    }
    ck_assert_int_eq(weir_cold_store_remove(model->store, model->keys, count, NULL), WEIR_OK);
}

static void check_answers(const model_t *model, const size_t *chosen, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const oracle_row_t *row = &model->oracle[chosen[i]];
        ck_assert_msg(model->found[i] == row->there, "key %zu", chosen[i]);
        if (row->there) {
            ck_assert_mem_eq(model->records + i * RECORD, row->record, RECORD);
        }
    }
}

static void get_batch(model_t *model) {
    size_t count = choose_batch(model);
    weir_error_t error = {0};
    weir_err_t err =
        weir_cold_store_get(model->store, model->keys, count, model->found, model->records, &error);
    ck_assert_msg(err == WEIR_OK, "%s", error.message);
    check_answers(model, model->chosen, count);
}

/* Every row of [first, end) once, in order of hash, with the bytes of the oracle. */
static uint64_t check_slots(model_t *model, weir_slot_t first, weir_slot_t end_slot) {
    weir_cold_iterator_t *iterator = weir_cold_store_iterate(model->store, first, end_slot);
    ck_assert_ptr_nonnull(iterator);
    weir_key_t key;
    const void *record;
    weir_err_t err;
    uint64_t rows = 0, before = 0;
    while (weir_cold_iterator_next(iterator, &key, &record, &err, NULL)) {
        size_t i = key > UINT64_MAX - UNIVERSE ? UINT64_MAX - key
                   : key >= UNIVERSE           ? key >> 41
                                               : key;
        ck_assert_uint_eq(universe_key(i), key);
        ck_assert(model->oracle[i].there);
        ck_assert_mem_eq(record, model->oracle[i].record, RECORD);
        uint64_t hash = weir_hash64(key);
        ck_assert(rows == 0 || hash > before);
        ck_assert_uint_ge(weir_slot_of_hash(hash), first);
        ck_assert_uint_lt(weir_slot_of_hash(hash), end_slot);
        before = hash;
        rows++;
    }
    ck_assert_int_eq(err, WEIR_OK);
    ck_assert(!weir_cold_iterator_next(iterator, &key, &record, &err, NULL)); /* stays at the end */
    weir_cold_iterator_destroy(iterator);
    return rows;
}

static void check_rows_under(size_t cache) {
    model_t *model = create_model(cache);
    uint64_t written = 0;
    for (int turn = 0; turn < 400; turn++) {
        uint32_t kind = roll(model, 10);
        if (kind < 5) {
            put_batch(model);
        } else if (kind < 7) {
            remove_batch(model);
        } else {
            get_batch(model);
        }
        ck_assert_uint_eq(weir_cold_store_rows(model->store), model->rows);
        written = weir_cold_store_bytes(model->store) > written
                      ? weir_cold_store_bytes(model->store)
                      : written;
    }
    ck_assert_uint_gt(written, 4 * SMALL_BUFFER); /* reads were of files */
    ck_assert_uint_gt(model->rows, 0);
    ck_assert_uint_gt(model->replaced, 0);
    ck_assert_uint_eq(check_slots(model, 0, WEIR_SLOT_COUNT), model->rows);
    uint64_t parts = check_slots(model, 0, 1) + check_slots(model, 1, 5000) +
                     check_slots(model, 5000, 5000) + check_slots(model, 5000, 16383) +
                     check_slots(model, 16383, WEIR_SLOT_COUNT);
    ck_assert_uint_eq(parts, model->rows);
    destroy_model(model);
    ck_assert(access(in("cold"), F_OK) != 0);
}

START_TEST(rows_are_those_of_a_dictionary) {
    check_rows_under(0);
    check_rows_under(1 << 20);
}
END_TEST

START_TEST(a_key_that_repeats_counts_once_and_its_last_record_stays) {
    weir_cold_store_t *store = create_store(in("cold"), 1, 0, 0);
    const weir_key_t keys[5] = {4, 9, 4, 4, 9};
    bool found[5];
    char records[5] = "-----";
    ck_assert_int_eq(weir_cold_store_put(store, keys, "abcde", 5, NULL), WEIR_OK);
    ck_assert_uint_eq(weir_cold_store_rows(store), 2);
    ck_assert_int_eq(weir_cold_store_get(store, keys, 5, found, records, NULL), WEIR_OK);
    ck_assert_mem_eq(records, "dedd", 4);
    ck_assert_int_eq(weir_cold_store_put(store, keys, "fghij", 2, NULL), WEIR_OK);
    ck_assert_uint_eq(weir_cold_store_rows(store), 2);
    ck_assert_int_eq(weir_cold_store_get(store, keys, 2, found, NULL, NULL), WEIR_OK);
    ck_assert(found[0] && found[1]);
    ck_assert_int_eq(weir_cold_store_remove(store, keys, 4, NULL), WEIR_OK);
    ck_assert_int_eq(weir_cold_store_remove(store, keys, 4, NULL), WEIR_OK);
    ck_assert_uint_eq(weir_cold_store_rows(store), 0);
    ck_assert_int_eq(weir_cold_store_get(store, keys, 1, found, records, NULL), WEIR_OK);
    ck_assert(!found[0]);
    ck_assert_int_eq(weir_cold_store_put(store, keys, "", 0, NULL), WEIR_OK);
    weir_cold_store_destroy(store);
}
END_TEST

START_TEST(an_iterator_sees_the_rows_of_its_beginning) {
    model_t *model = create_model(0);
    for (int i = 0; i < 40; i++) {
        put_batch(model);
    }
    weir_cold_iterator_t *iterator = weir_cold_store_iterate(model->store, 0, WEIR_SLOT_COUNT);
    oracle_row_t *then = malloc(UNIVERSE * sizeof *then);
    ck_assert_ptr_nonnull(then);
    memcpy(then, model->oracle, UNIVERSE * sizeof *then);
    uint64_t rows_then = model->rows, rows = 0;
    for (int i = 0; i < 40; i++) {
        put_batch(model);
        remove_batch(model);
    }
    weir_key_t key;
    const void *record;
    weir_err_t err;
    while (weir_cold_iterator_next(iterator, &key, &record, &err, NULL)) {
        size_t i = key > UINT64_MAX - UNIVERSE ? UINT64_MAX - key
                   : key >= UNIVERSE           ? key >> 41
                                               : key;
        ck_assert(then[i].there);
        ck_assert_mem_eq(record, then[i].record, RECORD);
        rows++;
    }
    ck_assert_int_eq(err, WEIR_OK);
    ck_assert_uint_eq(rows, rows_then);
    weir_cold_iterator_destroy(iterator);
    free(then);
    destroy_model(model);
}
END_TEST

/* ---- reading ahead ---- */

enum { TICKETS = 4 };

typedef struct {
    weir_cold_ticket_t *ticket;
    size_t count, chosen[MAX_BATCH];
} asked_t;

static void finish_asked(model_t *model, asked_t *asked, bool wanted) {
    weir_error_t error = {0};
    if (!wanted) {
        ck_assert_int_eq(weir_cold_store_prefetch_finish(asked->ticket, NULL, NULL, NULL), WEIR_OK);
    } else {
        weir_err_t err =
            weir_cold_store_prefetch_finish(asked->ticket, model->found, model->records, &error);
        ck_assert_msg(err == WEIR_OK, "%s", error.message);
        check_answers(model, asked->chosen, asked->count);
    }
    asked->ticket = NULL;
}

/* Tickets overlap, are finished in any order or given up, and rows change meanwhile; each answer is
 * what the dictionary holds when it is given. */
START_TEST(rows_read_ahead_are_never_stale) {
    model_t *model = create_model(0);
    asked_t *asked = calloc(TICKETS, sizeof *asked);
    ck_assert_ptr_nonnull(asked);
    for (int i = 0; i < 60; i++) {
        put_batch(model);
    }
    for (int turn = 0; turn < 600; turn++) {
        asked_t *one = &asked[roll(model, TICKETS)];
        if (one->ticket != NULL) {
            finish_asked(model, one, roll(model, 10) != 0);
        } else {
            one->count = choose_batch(model);
            memcpy(one->chosen, model->chosen, sizeof one->chosen);
            ck_assert_int_eq(weir_cold_store_prefetch_begin(model->store, model->keys, one->count,
                                                            &one->ticket, NULL),
                             WEIR_OK);
        }
        if (roll(model, 3) == 0) {
            put_batch(model);
        }
        if (roll(model, 4) == 0) {
            remove_batch(model);
        }
        if (roll(model, 4) == 0) {
            get_batch(model);
        }
    }
    free(asked);
    destroy_model(model); /* with tickets that nobody finished */
}
END_TEST

static Suite *suite(void) {
    Suite *made = suite_create("cold_store");
    TCase *rows = tcase_create("cold_store");
    tcase_add_checked_fixture(rows, begin, end);
    tcase_set_timeout(rows, 120);
    tcase_add_test(rows, rows_are_those_of_a_dictionary);
    tcase_add_test(rows, a_key_that_repeats_counts_once_and_its_last_record_stays);
    tcase_add_test(rows, an_iterator_sees_the_rows_of_its_beginning);
    tcase_add_test(rows, rows_read_ahead_are_never_stale);
    suite_add_tcase(made, rows);
    return made;
}

WEIR_TEST_MAIN(suite())
