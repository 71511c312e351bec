/* The cache against a dictionary: who has which place, and what lies there. */
#include "ps/row_cache.h"
#include "tests/suite.h"

#include <math.h>
#include <string.h>

enum { DIM = 5, ROWS = 40, KEYS = 150, PULLS = 3, PULL_KEYS = 12, ROUNDS = 4000 };

static weir_row_schema_t schema_of(void) {
    return (weir_row_schema_t){
        .name = "test",
        .seed = 3,
        .segment_count = 1,
        .segments = {{.dim = DIM,
                      .precision = WEIR_PRECISION_F32,
                      .optimizer = {.kind = WEIR_OPTIMIZER_SGD, .learning_rate = 0.5}}}};
}

static weir_row_cache_t *open_cache(size_t rows) {
    weir_row_schema_t schema = schema_of();
    weir_row_cache_t *cache = NULL;
    ck_assert_int_eq(weir_row_cache_create(&schema, rows, &cache, NULL), WEIR_OK);
    return cache;
}

static weir_key_t key_of(size_t i) {
    return weir_hash64(i + 17);
}

/* ---- a dictionary ---- */

typedef struct {
    bool has;   /* a place */
    bool seen;  /* before */
    bool holds; /* a record */
    int pins;
    weir_row_place_t place;
    float value[DIM];
} model_row_t;

typedef struct {
    weir_row_cache_t *cache;
    model_row_t rows[KEYS];
    size_t fresh, hits, lost;
} model_t;

/* The key that has the place, or KEYS. */
static size_t holder_of(const model_t *model, weir_row_place_t place) {
    size_t i = 0;
    while (i < KEYS && !(model->rows[i].has && model->rows[i].place == place)) {
        i++;
    }
    return i;
}

static void check_row(model_t *model, size_t i) {
    const model_row_t *row = &model->rows[i];
    if (row->has && row->pins > 0) {
        const void *record = weir_row_cache_read(model->cache, row->place);
        ck_assert_int_eq(record != NULL, row->holds);
        ck_assert(record == NULL || memcmp(record, row->value, sizeof row->value) == 0);
    }
}

static void pin_row(model_t *model, size_t i) {
    model_row_t *row = &model->rows[i];
    bool fresh;
    weir_row_place_t place = weir_row_cache_pin(model->cache, key_of(i), &fresh);
    if (row->has) {
        ck_assert(!fresh);
        ck_assert_uint_eq(place, row->place);
        model->hits++;
    } else if (place != WEIR_ROW_CACHE_NONE) {
        ck_assert(fresh && row->seen);
        ck_assert_uint_lt(place, ROWS);
        size_t before = holder_of(model, place);
        if (before < KEYS) {
            ck_assert_int_eq(model->rows[before].pins, 0);
            model->rows[before].has = model->rows[before].holds = false;
            model->lost++;
        }
        row->has = true;
        row->place = place;
        row->pins = 0;
        model->fresh++;
    }
    row->seen = true;
    row->pins += row->has;
    check_row(model, i);
}

static void store_row(model_t *model, size_t i, uint64_t round) {
    model_row_t *row = &model->rows[i];
    for (int d = 0; d < DIM; d++) {
        row->value[d] = (float)(i * 10 + (size_t)d) + (float)(round % 64) / 64.0F;
    }
    weir_row_cache_store(model->cache, row->place, row->value, round);
    row->holds = true;
}

static void update_row(model_t *model, size_t i, uint64_t round) {
    model_row_t *row = &model->rows[i];
    float gradient[DIM];
    for (int d = 0; d < DIM; d++) {
        gradient[d] = (float)((round + (uint64_t)d) % 7) - 3.0F;
    }
    if (round % 5 == 0) {
        gradient[round % DIM] = round % 2 == 0 ? NAN : INFINITY; /* then nothing happens */
    } else if (row->holds) {
        for (int d = 0; d < DIM; d++) {
            row->value[d] -= 0.5F * gradient[d];
        }
    }
    weir_row_cache_update(model->cache, row->place, gradient);
}

START_TEST(places_and_records_are_those_of_a_dictionary) {
    static model_t model;
    size_t pulls[PULLS][PULL_KEYS];
    uint64_t random = 1;
    model = (model_t){.cache = open_cache(ROWS)};
    for (uint64_t round = 0; round < ROUNDS; round++) {
        size_t *pull = pulls[round % PULLS];
        weir_row_cache_begin_step(model.cache, round + 1);
        for (size_t n = 0; round >= PULLS && n < PULL_KEYS; n++) {
            model_row_t *row = &model.rows[pull[n]];
            if (pull[n] < KEYS && row->has) {
                switch (weir_hash64(random++) % 4) {
                case 0:
                    store_row(&model, pull[n], round);
                    break;
                case 1:
                    weir_row_cache_forget(model.cache, row->place);
                    row->holds = false;
                    break;
                default:
                    break;
                }
                update_row(&model, pull[n], round);
                check_row(&model, pull[n]);
                weir_row_cache_unpin(model.cache, row->place);
                row->pins--;
            }
        }
        for (size_t n = 0; n < PULL_KEYS; n++) {
            size_t wide = weir_hash64(random++) % KEYS;
            pull[n] = weir_hash64(random++) % 3 == 0 ? wide : wide % 30; /* some are frequent */
            pin_row(&model, pull[n]);
            if (!model.rows[pull[n]].has) {
                pull[n] = KEYS; /* no place: nothing to unpin */
            }
        }
    }
    ck_assert_uint_eq(weir_row_cache_rows(model.cache), ROWS);
    ck_assert_uint_gt(model.fresh, 100);
    ck_assert_uint_gt(model.lost, 100);
    ck_assert_uint_gt(model.hits, 100);
    weir_row_cache_destroy(model.cache);
}
END_TEST

START_TEST(a_key_gets_a_place_when_it_is_seen_again) {
    weir_row_cache_t *cache = open_cache(ROWS);
    bool fresh;
    for (size_t i = 0; i < ROWS; i++) {
        ck_assert_uint_eq(weir_row_cache_pin(cache, key_of(i), &fresh), WEIR_ROW_CACHE_NONE);
    }
    ck_assert_uint_eq(weir_row_cache_rows(cache), 0);
    for (size_t i = 0; i < ROWS; i++) {
        weir_row_place_t place = weir_row_cache_pin(cache, key_of(i), &fresh);
        if (place == WEIR_ROW_CACHE_NONE) { /* another key's hash had fallen on its own */
            place = weir_row_cache_pin(cache, key_of(i), &fresh);
        }
        ck_assert_uint_ne(place, WEIR_ROW_CACHE_NONE);
        ck_assert(fresh);
        ck_assert_ptr_null(weir_row_cache_read(cache, place));
    }
    /* All are pinned: nobody else gets in. */
    for (int time = 0; time < 3; time++) {
        ck_assert_uint_eq(weir_row_cache_pin(cache, key_of(ROWS), &fresh), WEIR_ROW_CACHE_NONE);
    }
    weir_row_cache_destroy(cache);
}
END_TEST

START_TEST(rows_of_use_outlive_a_stream_of_others) {
    weir_row_cache_t *cache = open_cache(ROWS);
    const float value[DIM] = {0};
    size_t missed = 0, next = 1000;
    bool fresh;
    for (int round = 0; round < 200; round++) {
        for (size_t i = 0; i < ROWS / 2; i++) {
            weir_row_place_t place = weir_row_cache_pin(cache, key_of(i), &fresh);
            missed += round >= 2 && (place == WEIR_ROW_CACHE_NONE || fresh);
            if (place != WEIR_ROW_CACHE_NONE) {
                weir_row_cache_store(cache, place, value, 1);
                weir_row_cache_unpin(cache, place);
            }
        }
        for (size_t i = 0; i < ROWS / 4; i++) { /* named twice and never again */
            for (int time = 0; time < 2; time++) {
                weir_row_place_t place = weir_row_cache_pin(cache, key_of(next), &fresh);
                if (place != WEIR_ROW_CACHE_NONE) {
                    weir_row_cache_unpin(cache, place);
                }
            }
            next++;
        }
    }
    ck_assert_uint_eq(missed, 0);
    weir_row_cache_destroy(cache);
}
END_TEST

START_TEST(a_cache_has_rows) {
    weir_row_schema_t schema = schema_of();
    weir_row_cache_t *cache = NULL;
    weir_error_t error = {0};
    ck_assert_int_eq(weir_row_cache_create(&schema, 0, &cache, &error), WEIR_ERR_INVALID);
    ck_assert_ptr_null(cache);
    ck_assert_ptr_nonnull(strstr(error.message, "rows, not 0"));
    schema.segments[0].optimizer.kind = WEIR_OPTIMIZER_COUNT;
    ck_assert_int_eq(weir_row_cache_create(&schema, 1, &cache, &error), WEIR_ERR_INVALID);
    ck_assert_ptr_null(cache);
    weir_row_cache_destroy(NULL);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("row_cache");
    TCase *t = tcase_create("row_cache");
    tcase_add_test(t, places_and_records_are_those_of_a_dictionary);
    tcase_add_test(t, a_key_gets_a_place_when_it_is_seen_again);
    tcase_add_test(t, rows_of_use_outlive_a_stream_of_others);
    tcase_add_test(t, a_cache_has_rows);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
