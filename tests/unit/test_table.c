/* The table against a model of plain loops, under every option. */
#include "common/rng.h"
#include "ps/table_internal.h"
#include "tests/scratch.h"
#include "tests/suite.h"
#include "tests/unit/table_cases.h"
#include "tests/unit/table_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_BATCH = 4096, MAX_PARTS = 3, WORKERS = 2 };

typedef struct {
    weir_table_options_t options;
    size_t universe, batch; /* keys; keys of one worker's pull, MAX_BATCH / WORKERS at the most */
    uint64_t steps;
    uint32_t parts; /* servers */
    uint32_t zipf;  /* 1: popular keys are low numbers */
} trial_t;

typedef struct {
    const trial_t *trial;
    model_t model;
    weir_key_t *keys;
    weir_table_t *parts[MAX_PARTS];
    weir_scratch_t scratch;
    uint64_t draws, operations;
    uint32_t *stamps; /* by number: the draw in which it was chosen last */
    uint32_t stamp;
    char folders[MAX_PARTS][700];
    uint64_t late; /* a step that ends after the pulls of the next; 0: none */
} run_t;

static uint32_t draw(run_t *run, uint32_t bound) {
    weir_philox_t random =
        weir_philox(weir_rng_key(99, WEIR_STREAM_TEST), (uint32_t)run->draws++, 0, 0, 0);
    return weir_uniform_below(random.word[0], bound);
}

/* Small and dense, far apart, and dense from above. */
static weir_key_t key_of(size_t i) {
    return i % 3 == 0 ? i : i % 3 == 1 ? (uint64_t)i << 40 : UINT64_MAX - i;
}

static size_t choose(run_t *run, size_t wanted, uint32_t *numbers) {
    const trial_t *trial = run->trial;
    size_t count = 0;
    run->stamp++;
    for (size_t i = 0; i < wanted; i++) {
        uint32_t number = draw(run, (uint32_t)trial->universe);
        if (trial->zipf && i % 4 != 0) {
            number = draw(run, number / 16 + 1);
        }
        if (run->stamps[number] != run->stamp) {
            run->stamps[number] = run->stamp;
            numbers[count++] = number;
        }
    }
    return count;
}

static uint32_t part_of(const run_t *run, weir_key_t key) {
    return weir_slot_owner(weir_slot_of_hash(weir_hash64(key)), run->trial->parts);
}

static void begin(run_t *run, const trial_t *trial) {
    *run = (run_t){.trial = trial};
    run->keys = malloc(trial->universe * sizeof *run->keys);
    run->stamps = calloc(trial->universe, sizeof *run->stamps);
    ck_assert(run->keys != NULL && run->stamps != NULL);
    for (size_t i = 0; i < trial->universe; i++) {
        run->keys[i] = key_of(i);
    }
    model_create(&run->model, &trial->options, run->keys, trial->universe);
    weir_scratch_init(&run->scratch);
    for (uint32_t p = 0; p < trial->parts; p++) {
        weir_table_options_t options = trial->options;
        char name[16];
        (void)snprintf(name, sizeof name, "cold%u", p);
        options.first_slot = weir_slot_first(p, trial->parts);
        options.end_slot = weir_slot_first(p + 1, trial->parts);
        if (options.cold_folder != NULL) {
            (void)snprintf(run->folders[p], sizeof run->folders[p], "%s",
                           weir_scratch_path(&run->scratch, name));
            options.cold_folder = run->folders[p];
            options.cold_cache = 1 << 20;
        }
        run->parts[p] = table_case_create(&options);
    }
}

static void end(run_t *run) {
    for (uint32_t p = 0; p < run->trial->parts; p++) {
        weir_table_destroy(run->parts[p]);
    }
    model_destroy(&run->model);
    weir_scratch_fini(&run->scratch);
    free(run->keys);
    free(run->stamps);
}

/* ---- comparisons ---- */

typedef struct {
    const run_t *run;
    const model_row_t **expected;
    size_t count, next, wrong;
} comparison_t;

static weir_err_t compare_rows(void *argument, const weir_table_row_t *rows, size_t count,
                               weir_error_t *error) {
    comparison_t *comparison = argument;
    const weir_row_layout_t *layout = &comparison->run->model.layout;
    (void)error;
    for (size_t i = 0; i < count; i++) {
        if (comparison->next == comparison->count) {
            comparison->wrong++;
            continue;
        }
        const model_row_t *row = comparison->expected[comparison->next++];
        comparison->wrong += rows[i].key != row->key || rows[i].last_step != row->last_step ||
                             rows[i].count != row->count ||
                             memcmp(rows[i].value, row->record, layout->value_bytes) != 0 ||
                             memcmp(rows[i].rest, row->record + layout->value_bytes,
                                    layout->record_bytes - layout->value_bytes) != 0;
    }
    return WEIR_OK;
}

/* The parts' rows, one after the other, are the model's. */
static void check_scan(run_t *run, uint64_t step) {
    comparison_t comparison = {.run = run};
    comparison.expected = model_scan(&run->model, step + 1, &comparison.count);
    for (uint32_t p = 0; p < run->trial->parts; p++) {
        ck_assert_int_eq(weir_table_scan(run->parts[p], step + 1, compare_rows, &comparison, NULL),
                         WEIR_OK);
    }
    ck_assert_uint_eq(comparison.wrong, 0);
    ck_assert_uint_eq(comparison.next, comparison.count);
    free((void *)comparison.expected);
}

static void check_rows(const run_t *run) {
    uint64_t rows = 0;
    for (uint32_t p = 0; p < run->trial->parts; p++) {
        rows += weir_table_stats(run->parts[p]).rows;
    }
    if (run->trial->options.cold_folder == NULL) {
        ck_assert_uint_eq(rows, model_rows(&run->model));
    } else { /* which of them lie on disk is the table's affair: the births of two steps above */
        ck_assert_uint_le(rows, run->model.budget + 2 * WORKERS * run->trial->batch);
    }
}

static void check_peek(run_t *run, uint64_t step) {
    static uint32_t numbers[MAX_BATCH];
    char expected[MODEL_RECORD], found[MODEL_RECORD];
    size_t count = choose(run, 64, numbers);
    for (size_t i = 0; i < count; i++) {
        weir_key_t key = run->keys[numbers[i]];
        weir_table_t *part = run->parts[part_of(run, key)];
        model_peek(&run->model, numbers[i], step + 1, expected);
        ck_assert_int_eq(weir_table_peek(part, &key, 1, step + 1, found, NULL), WEIR_OK);
        ck_assert_mem_eq(found, expected, run->model.layout.value_bytes);
    }
    run->operations += count;
}

/* ---- steps ---- */

typedef struct {
    size_t count;
    weir_key_t keys[MAX_BATCH];
    uint32_t numbers[MAX_BATCH];
    weir_row_handle_t handles[MAX_BATCH];
} part_pull_t;

static void pull_part(run_t *run, uint32_t p, part_pull_t *pull, uint64_t step) {
    static char values[MAX_BATCH * MODEL_RECORD];
    const weir_row_layout_t *layout = &run->model.layout;
    float scratch[2 * MODEL_RECORD];
    if (draw(run, 2) == 0) { /* for this step, or as if for one of the next */
        ck_assert_int_eq(
            weir_table_prefetch(run->parts[p], pull->keys, pull->count, step + draw(run, 3), NULL),
            WEIR_OK);
    }
    if (draw(run, 3) == 0) {
        weir_row_handle_t found[MAX_BATCH];
        ck_assert_int_eq(
            weir_table_take_in(run->parts[p], pull->keys, pull->count, step, pull->handles, NULL),
            WEIR_OK);
        weir_table_find(run->parts[p], pull->keys, pull->count, found);
        ck_assert_mem_eq(found, pull->handles, pull->count * sizeof *found);
    }
    ck_assert_int_eq(
        weir_table_pull(run->parts[p], pull->keys, pull->count, step, pull->handles, values, NULL),
        WEIR_OK);
    size_t wrong = 0;
    for (size_t i = 0; i < pull->count; i++) {
        const char *value = values + i * layout->value_bytes;
        const model_row_t *row = model_pull(&run->model, pull->numbers[i], step);
        char birth[MODEL_RECORD];
        if (row == NULL) {
            weir_row_birth_value(&run->trial->options.row, layout, pull->keys[i], birth, scratch);
        }
        wrong += (row == NULL) != (pull->handles[i] == WEIR_ROW_NONE) ||
                 memcmp(value, row == NULL ? birth : row->record, layout->value_bytes) != 0;
    }
    ck_assert_uint_eq(wrong, 0);
    run->operations += pull->count;
}

static void fill_gradient(run_t *run, float *gradient) {
    for (uint32_t d = 0; d < run->model.layout.dim; d++) {
        gradient[d] = ((float)draw(run, 2001) - 1000.0F) * 1e-3F;
    }
    if (draw(run, 200) == 0) {
        gradient[draw(run, run->model.layout.dim)] = NAN;
    }
}

static void apply_part(run_t *run, uint32_t p, const part_pull_t *pull, uint64_t step) {
    static float gradients[MAX_BATCH * 64];
    uint32_t dim = run->model.layout.dim;
    weir_table_applied_t expected = {0};
    ck_assert_uint_le(dim, 64);
    for (size_t i = 0; i < pull->count; i++) {
        float *gradient = gradients + i * dim;
        fill_gradient(run, gradient);
        bool finite = true;
        for (uint32_t d = 0; d < dim; d++) {
            finite = finite && isfinite(gradient[d]);
        }
        if (pull->handles[i] == WEIR_ROW_NONE) {
            expected.dropped++;
            continue;
        }
        expected.updated += finite;
        expected.not_finite += !finite;
        model_apply(&run->model, &run->model.rows[pull->numbers[i]], gradient, step);
    }
    weir_table_applied_t applied =
        weir_table_apply(run->parts[p], pull->keys, pull->handles, gradients, pull->count, step);
    ck_assert_uint_eq(applied.updated, expected.updated);
    ck_assert_uint_eq(applied.not_finite, expected.not_finite);
    ck_assert_uint_eq(applied.dropped, expected.dropped);
    run->operations += pull->count;
}

/* Two workers pull, some keys both; every row named is updated once. */
static void run_step(run_t *run, uint64_t step) {
    static part_pull_t pulls[WORKERS][MAX_PARTS], all[MAX_PARTS];
    static uint32_t numbers[MAX_BATCH];
    memset(all, 0, sizeof all);
    for (uint32_t w = 0; w < WORKERS; w++) {
        size_t count = choose(run, run->trial->batch, numbers);
        memset(pulls[w], 0, sizeof pulls[w]);
        for (size_t i = 0; i < count; i++) {
            part_pull_t *pull = &pulls[w][part_of(run, run->keys[numbers[i]])];
            pull->keys[pull->count] = run->keys[numbers[i]];
            pull->numbers[pull->count++] = numbers[i];
        }
        for (uint32_t p = 0; p < run->trial->parts; p++) {
            pull_part(run, p, &pulls[w][p], step);
        }
    }
    for (uint32_t p = 0; p < run->trial->parts && run->late != 0; p++) {
        ck_assert_int_eq(weir_table_end_step(run->parts[p], run->late, step, NULL), WEIR_OK);
    }
    run->late = step % 2 == 0 && weir_table_ends_late(run->parts[0]) ? step : 0;
    run->stamp++;
    for (uint32_t w = 0; w < WORKERS; w++) {
        for (uint32_t p = 0; p < run->trial->parts; p++) {
            for (size_t i = 0; i < pulls[w][p].count; i++) {
                uint32_t number = pulls[w][p].numbers[i];
                if (run->stamps[number] != run->stamp) {
                    run->stamps[number] = run->stamp;
                    all[p].keys[all[p].count] = run->keys[number];
                    all[p].numbers[all[p].count] = number;
                    all[p].handles[all[p].count++] = pulls[w][p].handles[i];
                }
            }
        }
    }
    for (uint32_t p = 0; p < run->trial->parts; p++) {
        apply_part(run, p, &all[p], step);
        if (run->late == 0) {
            ck_assert_int_eq(weir_table_end_step(run->parts[p], step, step + 1, NULL), WEIR_OK);
        }
    }
    model_end_step(&run->model, step);
}

/* Returns how many keys were pulled, updated and peeked at. */
static uint64_t run_trial(const trial_t *trial, uint64_t *evicted) {
    static run_t run;
    begin(&run, trial);
    for (uint64_t step = 1; step <= trial->steps; step++) {
        run_step(&run, step);
        check_rows(&run);
        check_peek(&run, step);
        if (step % (trial->steps / 4 + 1) == 0) {
            check_scan(&run, step);
        }
    }
    check_scan(&run, trial->steps);
    uint64_t operations = run.operations;
    if (evicted != NULL) {
        *evicted = run.model.evicted;
    }
    end(&run);
    return operations;
}

/* ---- trials ---- */

static trial_t small_trial(void) {
    return (trial_t){.options = table_case(WEIR_OPTIMIZER_ADAMW, 5, 0.05, 17),
                     .universe = 5000,
                     .batch = 700,
                     .steps = 60,
                     .parts = 1,
                     .zipf = 1};
}

static void set_optimizer(weir_optimizer_settings_t *settings, weir_optimizer_kind_t kind) {
    settings->kind = kind;
    settings->beta = 1.0;
}

START_TEST(every_optimiser_in_every_precision_agrees_with_the_model) {
    for (int kind = 0; kind < WEIR_OPTIMIZER_COUNT; kind++) {
        for (int precision = 0; precision < WEIR_PRECISION_COUNT; precision++) {
            trial_t trial = small_trial();
            weir_segment_t *segment = &trial.options.row.segments[0];
            set_optimizer(&segment->optimizer, (weir_optimizer_kind_t)kind);
            segment->precision = (weir_precision_t)precision;
            segment->dim = 1 + (uint32_t)(kind * 5 + precision) % 19;
            trial.universe = 300;
            trial.batch = 100;
            trial.steps = 20;
            trial.parts = 1 + (uint32_t)precision % 3;
            (void)run_trial(&trial, NULL);
        }
    }
}
END_TEST

START_TEST(rows_of_several_segments_agree_with_the_model) {
    trial_t trial = small_trial();
    weir_row_schema_t *row = &trial.options.row;
    row->segment_count = 4;
    for (uint32_t s = 1; s < 4; s++) {
        row->segments[s] = row->segments[0];
        (void)snprintf(row->segments[s].name, sizeof row->segments[s].name, "s%u", s);
    }
    row->segments[0].precision = WEIR_PRECISION_INT8;
    row->segments[0].dim = 9;
    set_optimizer(&row->segments[0].optimizer, WEIR_OPTIMIZER_ROWWISE_ADAGRAD);
    row->segments[1].precision = WEIR_PRECISION_BF16;
    row->segments[1].dim = 3;
    row->segments[1].initializer = WEIR_INITIALIZER_UNIFORM;
    row->segments[2].dim = 1;
    row->segments[2].initializer = WEIR_INITIALIZER_CONSTANT;
    row->segments[2].initial_scale = -1.5;
    set_optimizer(&row->segments[2].optimizer, WEIR_OPTIMIZER_SGD);
    row->segments[3].precision = WEIR_PRECISION_SPLIT_BF16;
    row->segments[3].dim = 7;
    for (trial.parts = 1; trial.parts <= 3; trial.parts++) {
        ck_assert_uint_gt(run_trial(&trial, NULL), 10000);
    }
}
END_TEST

START_TEST(rows_expire_and_keys_are_admitted_as_in_the_model) {
    for (int variant = 0; variant < 6; variant++) {
        trial_t trial = small_trial();
        trial.parts = 1 + (uint32_t)variant % 3;
        trial.options.ttl = variant % 2 == 0 ? 4 : 0;
        if (variant >= 4) {
            trial.options.admission = WEIR_ADMISSION_PROBABILITY;
            trial.options.admission_probability = 0.3;
        } else if (variant >= 1) {
            trial.options.admission = WEIR_ADMISSION_FREQUENCY;
            trial.options.admission_threshold = 3;
            trial.options.admission_counters = 1024; /* a key or none in a slot: exact */
        }
        ck_assert_uint_gt(run_trial(&trial, NULL), 10000);
    }
}
END_TEST

/* Some 65,600 rows may stay of ten times as many. */
static trial_t overcommitted_trial(void) {
    trial_t trial = small_trial();
    trial.options.row.segments[0].dim = 2;
    set_optimizer(&trial.options.row.segments[0].optimizer, WEIR_OPTIMIZER_ROWWISE_ADAGRAD);
    trial.options.memory_budget = (uint64_t)(65600.5 * weir_table_row_bytes(&trial.options.row));
    trial.universe = 656000;
    trial.batch = MAX_BATCH / 2;
    trial.steps = 400;
    trial.zipf = 0;
    return trial;
}

START_TEST(evicted_rows_are_those_of_the_model) {
    for (int variant = 0; variant < 4; variant++) {
        trial_t trial = overcommitted_trial();
        uint64_t evicted = 0;
        trial.parts = 1 + (uint32_t)variant % 3;
        trial.zipf = (uint32_t)variant % 2;
        trial.options.eviction = variant < 2 ? WEIR_EVICTION_LRU : WEIR_EVICTION_LFU;
        trial.options.ttl = variant == 3 ? 60 : 0;
        ck_assert_uint_gt(run_trial(&trial, &evicted), 2000000);
        ck_assert_uint_gt(evicted, 100000);
    }
}
END_TEST

START_TEST(with_a_cold_store_nothing_is_lost) {
    for (int variant = 0; variant < 3; variant++) {
        trial_t trial = overcommitted_trial();
        uint64_t evicted = 0;
        trial.parts = 1 + (uint32_t)variant % 2;
        trial.universe = 150000;
        trial.steps = 60;
        trial.options.cold_folder = "";
        trial.options.ttl = variant == 2 ? 40 : 0;
        (void)run_trial(&trial, &evicted);
        ck_assert_uint_gt(evicted, 50000);
    }
}
END_TEST

/* ---- memory ---- */

START_TEST(memory_stays_within_the_budget_and_is_used_again) {
    trial_t trial = overcommitted_trial();
    trial.options.row.segments[0].dim = 16;
    trial.options.memory_budget =
        (uint64_t)(1 << 20) * (uint64_t)weir_table_row_bytes(&trial.options.row);
    weir_table_t *table = table_case_create(&trial.options);
    static weir_key_t keys[MAX_BATCH];
    static weir_row_handle_t handles[MAX_BATCH];
    double budget = (double)trial.options.memory_budget, most = 0.0;
    uint64_t places = 0, next = 0;
    for (uint64_t step = 1; next < 10u << 20; step++) { /* ten times as many keys, each once */
        for (size_t i = 0; i < MAX_BATCH; i++) {
            keys[i] = next++;
        }
        ck_assert_int_eq(weir_table_pull(table, keys, MAX_BATCH, step, handles, NULL, NULL),
                         WEIR_OK);
        ck_assert_int_eq(weir_table_end_step(table, step, step + 1, NULL), WEIR_OK);
        double bytes = (double)weir_table_stats(table).bytes;
        most = bytes > most ? bytes : most;
        if (next == 3u << 20) {
            places = table->store.places;
        }
    }
    ck_assert_double_le(most, 1.02 * budget);
    ck_assert_double_ge(most, 0.95 * budget);
    ck_assert_uint_le(table->store.places, places + places / 100);
    ck_assert_uint_gt(weir_table_stats(table).evicted, 8u << 20);
    weir_table_destroy(table);
}
END_TEST

START_TEST(rows_in_use_are_never_evicted) {
    trial_t trial = overcommitted_trial();
    weir_table_t *table = table_case_create(&trial.options);
    static weir_key_t keys[MAX_BATCH];
    static weir_row_handle_t handles[MAX_BATCH], again[MAX_BATCH];
    uint64_t next = 0;
    for (uint64_t step = 1; step <= 60; step++) { /* steps 1 .. are never over: ssp */
        for (size_t i = 0; i < MAX_BATCH; i++) {
            keys[i] = next++;
        }
        ck_assert_int_eq(weir_table_pull(table, keys, MAX_BATCH, step, handles, NULL, NULL),
                         WEIR_OK);
        ck_assert_int_eq(weir_table_end_step(table, 1, 1, NULL), WEIR_OK);
        weir_table_find(table, keys, MAX_BATCH, again);
        ck_assert_mem_eq(handles, again, sizeof handles);
    }
    ck_assert_uint_eq(weir_table_stats(table).rows, next);
    ck_assert_int_eq(weir_table_end_step(table, 60, 61, NULL), WEIR_OK);
    ck_assert_uint_lt(weir_table_stats(table).rows, 70000);
    weir_table_destroy(table);
}
END_TEST

START_TEST(a_pull_that_fails_for_want_of_memory_can_be_made_again) {
    trial_t trial = small_trial();
    weir_table_t *table = table_case_create(&trial.options);
    static weir_key_t keys[MAX_BATCH];
    static weir_row_handle_t handles[MAX_BATCH], again[MAX_BATCH];
    static float values[MAX_BATCH * 5], expected[MAX_BATCH * 5];
    size_t failures = 0;
    for (size_t i = 0; i < MAX_BATCH; i++) {
        keys[i] = key_of(i);
    }
    ck_assert_int_eq(weir_table_peek(table, keys, MAX_BATCH, 1, expected, NULL), WEIR_OK);
    for (uint64_t room = 0;; room += 37) { /* rows, and index, by small pieces */
        weir_error_t error = {0};
        table->store.place_limit = room;
        table->arena.limit = table->arena.in_use + room % 3 * 4096;
        weir_err_t err = weir_table_pull(table, keys, MAX_BATCH, 1, handles, values, &error);
        if (err == WEIR_OK) {
            break;
        }
        ck_assert_int_eq(err, WEIR_ERR_MEMORY);
        ck_assert_ptr_nonnull(strstr(error.message, "out of memory"));
        ck_assert_uint_eq(weir_table_stats(table).rows, table->index.entries);
        failures++;
    }
    ck_assert_uint_gt(failures, 20);
    ck_assert_mem_eq(values, expected, sizeof expected);
    ck_assert_uint_eq(weir_table_stats(table).rows, MAX_BATCH);
    weir_table_find(table, keys, MAX_BATCH, again);
    ck_assert_mem_eq(handles, again, sizeof handles);
    weir_table_destroy(table);
}
END_TEST

START_TEST(sequential_and_strided_keys_spread_evenly_over_slots) {
    for (uint64_t stride = 1; stride != 0; stride <<= 9) {
        enum { PER_SLOT = 32 };
        static uint32_t counts[WEIR_SLOT_COUNT];
        double chi = 0.0;
        memset(counts, 0, sizeof counts);
        for (uint64_t i = 0; i < (uint64_t)PER_SLOT * WEIR_SLOT_COUNT; i++) {
            counts[weir_slot_of_hash(weir_hash64(i * stride + (i >> 1 << 20)))]++;
        }
        for (size_t slot = 0; slot < WEIR_SLOT_COUNT; slot++) {
            double off = (double)counts[slot] - PER_SLOT;
            chi += off * off / PER_SLOT;
        }
        /* Mean 16,383, deviation 181. */
        ck_assert_double_eq_tol(chi, WEIR_SLOT_COUNT - 1, 5.0 * 181.0);
    }
}
END_TEST

START_TEST(options_that_cannot_be_are_refused) {
    weir_table_options_t wrong[8];
    for (size_t i = 0; i < 8; i++) {
        wrong[i] = table_case(WEIR_OPTIMIZER_SGD, 4, 0.1, 1);
    }
    wrong[0].row.segments[0].dim = 0;
    wrong[1].row.segments[0].dim = 65537;
    wrong[2].row.segment_count = 5;
    wrong[3].row.segments[0].initial_scale = (double)NAN;
    wrong[4].row.name[0] = '\0';
    wrong[5].memory_budget = 1 << 20;
    wrong[6].first_slot = 5;
    wrong[6].end_slot = 5;
    wrong[7].row.segments[0].optimizer.learning_rate = (double)INFINITY;
    for (size_t i = 0; i < 8; i++) {
        weir_table_t *table = NULL;
        weir_error_t error = {0};
        ck_assert_int_eq(weir_table_create(&wrong[i], &table, &error), WEIR_ERR_INVALID);
        ck_assert_ptr_null(table);
        ck_assert_str_ne(error.message, "");
    }
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("table");
    TCase *t = tcase_create("table");
    tcase_set_timeout(t, 900);
    tcase_add_test(t, every_optimiser_in_every_precision_agrees_with_the_model);
    tcase_add_test(t, rows_of_several_segments_agree_with_the_model);
    tcase_add_test(t, rows_expire_and_keys_are_admitted_as_in_the_model);
    tcase_add_test(t, evicted_rows_are_those_of_the_model);
    tcase_add_test(t, with_a_cold_store_nothing_is_lost);
    tcase_add_test(t, memory_stays_within_the_budget_and_is_used_again);
    tcase_add_test(t, rows_in_use_are_never_evicted);
    tcase_add_test(t, a_pull_that_fails_for_want_of_memory_can_be_made_again);
    tcase_add_test(t, sequential_and_strided_keys_spread_evenly_over_slots);
    tcase_add_test(t, options_that_cannot_be_are_refused);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
