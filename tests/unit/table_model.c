#include "tests/unit/table_model.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

void model_create(model_t *model, const weir_table_options_t *options, const weir_key_t *keys,
                  size_t universe) {
    *model = (model_t){.options = *options,
                       .universe = universe,
                       .layout = weir_row_layout(&options->row),
                       .budget = weir_table_rows_in(&options->row, options->memory_budget)};
    ck_assert_uint_le(model->layout.record_bytes, MODEL_RECORD);
    ck_assert_int_eq(
        weir_row_update_init(&model->update, &model->options.row, &model->layout, NULL), WEIR_OK);
    model->rows = calloc(universe, sizeof *model->rows);
    model->due = calloc(WEIR_SLOT_COUNT, sizeof *model->due);
    model->touched = calloc(WEIR_SLOT_COUNT, sizeof *model->touched);
    model->held = calloc(WEIR_SLOT_COUNT, sizeof *model->held);
    ck_assert(model->rows != NULL && model->due != NULL && model->touched != NULL &&
              model->held != NULL);
    for (size_t i = 0; i < universe; i++) {
        model->rows[i].key = keys[i];
        model->rows[i].hash = weir_hash64(keys[i]);
    }
    model->first = calloc(WEIR_SLOT_COUNT + 2, sizeof *model->first);
    model->members = calloc(universe, sizeof *model->members);
    ck_assert(model->first != NULL && model->members != NULL);
    for (size_t i = 0; i < universe; i++) {
        model->first[weir_slot_of_hash(model->rows[i].hash) + 2]++;
    }
    for (size_t cell = 2; cell < WEIR_SLOT_COUNT + 2; cell++) {
        model->first[cell] += model->first[cell - 1];
    }
    for (size_t i = 0; i < universe; i++) {
        model->members[model->first[weir_slot_of_hash(model->rows[i].hash) + 1]++] = (uint32_t)i;
    }
    if (options->admission == WEIR_ADMISSION_PROBABILITY) {
        weir_admission_options_t chance = {.kind = WEIR_ADMISSION_PROBABILITY,
                                           .probability = options->admission_probability,
                                           .seed = options->row.seed,
                                           .table_id = options->row.table_id,
                                           .end_slot = WEIR_SLOT_COUNT};
        ck_assert_int_eq(weir_admission_create(&chance, &model->chance, NULL), WEIR_OK);
    }
}

void model_destroy(model_t *model) {
    weir_row_update_fini(&model->update);
    weir_admission_destroy(model->chance);
    free(model->rows);
    free(model->first);
    free(model->members);
    free(model->due);
    free(model->touched);
    free(model->held);
}

static bool is_expired(const model_t *model, const model_row_t *row, uint64_t step) {
    return model->options.ttl != 0 && row->last_step + model->options.ttl < step;
}

static uint32_t cell_of(const model_row_t *row) {
    return weir_slot_of_hash(row->hash);
}

static void leave(model_t *model, model_row_t *row) {
    if (!row->cold) {
        model->held[cell_of(row)]--;
    }
    row->there = row->cold = false;
}

static bool is_admitted(model_t *model, model_row_t *row, uint64_t step) {
    bool admitted = true;
    if (model->options.admission == WEIR_ADMISSION_PROBABILITY) {
        weir_admission_decide_batch(model->chance, &row->key, 1, step, &admitted);
    } else if (model->options.admission == WEIR_ADMISSION_FREQUENCY) {
        /* What this step adds is known when it has ended. */
        uint32_t before = row->seen - (row->seen > 0 && row->seen_step == step ? 1 : 0);
        admitted = before + 1 >= model->options.admission_threshold;
        if (!admitted && row->seen_step != step) {
            row->seen++;
            row->seen_step = step;
        }
    }
    return admitted;
}

static void enter(model_t *model, model_row_t *row) {
    model->held[cell_of(row)]++;
    model->touched[cell_of(row)] = true;
}

model_row_t *model_pull(model_t *model, size_t number, uint64_t step) {
    model_row_t *row = &model->rows[number];
    float scratch[2 * MODEL_RECORD];
    if (row->there && is_expired(model, row, step)) {
        leave(model, row);
    }
    if (row->there && row->cold) {
        row->cold = false;
        enter(model, row);
    }
    if (!row->there) {
        if (!is_admitted(model, row, step)) {
            return NULL;
        }
        weir_row_birth(&model->options.row, &model->layout, row->key, row->record,
                       row->record + model->layout.value_bytes, scratch);
        row->there = true;
        row->last_step = row->count = 0;
        enter(model, row);
    }
    if (model->options.ttl != 0 || model->budget != 0) {
        row->last_step = step;
    }
    return row;
}

void model_peek(model_t *model, size_t number, uint64_t step, void *value) {
    const model_row_t *row = &model->rows[number];
    float scratch[2 * MODEL_RECORD];
    if (row->there && !is_expired(model, row, step)) {
        memcpy(value, row->record, model->layout.value_bytes);
    } else {
        weir_row_birth_value(&model->options.row, &model->layout, row->key, value, scratch);
    }
}

void model_apply(model_t *model, model_row_t *row, const float *gradient, uint64_t step) {
    if (weir_row_update_is_finite(&model->update, gradient)) {
        row->count++;
        row->last_step = step;
        weir_row_update_begin_step(&model->update, step);
        weir_row_update_apply(&model->update, row->key, row->record,
                              row->record + model->layout.value_bytes, gradient, row->count, step);
    }
}

/* ---- eviction ---- */

static uint64_t limit_of(const model_t *model, uint64_t cell) {
    uint64_t budget = model->budget % WEIR_SLOT_COUNT;
    return model->budget / WEIR_SLOT_COUNT + (cell + 1) * budget / WEIR_SLOT_COUNT -
           cell * budget / WEIR_SLOT_COUNT;
}

static uint64_t score_of(const model_t *model, const model_row_t *row, uint64_t step) {
    if (is_expired(model, row, step + 1)) {
        return 0;
    }
    return model->options.eviction == WEIR_EVICTION_LRU ? row->last_step << 32 | row->count
                                                        : row->count << 32 | row->last_step;
}

static void evict_lowest(model_t *model, uint32_t cell, uint64_t step) {
    model_row_t *lowest = NULL;
    for (uint32_t i = model->first[cell]; i < model->first[cell + 1]; i++) {
        model_row_t *row = &model->rows[model->members[i]];
        if (!row->there || row->cold) {
            continue;
        }
        uint64_t score = score_of(model, row, step);
        uint64_t least = lowest == NULL ? 0 : score_of(model, lowest, step);
        if (lowest == NULL || score < least || (score == least && row->hash < lowest->hash)) {
            lowest = row;
        }
    }
    ck_assert_ptr_nonnull(lowest);
    bool keeps = model->options.cold_folder != NULL && !is_expired(model, lowest, step + 1);
    if (keeps) {
        model->held[cell]--;
        lowest->cold = true;
    } else {
        leave(model, lowest);
    }
    model->evicted++;
}

static void sweep_cells(model_t *model, uint64_t step) {
    uint64_t ttl = model->options.ttl, turns = ((uint64_t)WEIR_SLOT_COUNT * 4 + ttl - 1) / ttl;
    turns = turns < WEIR_SLOT_COUNT ? turns : WEIR_SLOT_COUNT;
    uint32_t end = model->sweep + (uint32_t)turns;
    for (size_t i = 0; i < model->universe; i++) {
        model_row_t *row = &model->rows[i];
        uint32_t cell = cell_of(row);
        bool swept = (cell >= model->sweep && cell < end) || cell + WEIR_SLOT_COUNT < end;
        if (row->there && !row->cold && swept && is_expired(model, row, step + 1)) {
            leave(model, row);
        }
    }
    model->sweep = end % WEIR_SLOT_COUNT;
}

void model_end_step(model_t *model, uint64_t step) {
    for (uint32_t cell = 0; cell < WEIR_SLOT_COUNT && model->budget != 0; cell++) {
        uint64_t limit = limit_of(model, cell);
        if (model->due[cell]) {
            while (model->held[cell] > limit - (limit + 15) / 16) {
                evict_lowest(model, cell, step);
            }
            model->due[cell] = false;
            model->touched[cell] = true;
        }
        model->due[cell] = model->touched[cell] && model->held[cell] > limit - limit / 64;
        model->touched[cell] = false;
    }
    if (model->options.ttl != 0) {
        sweep_cells(model, step);
    }
}

/* ---- what is there ---- */

static int compare_rows(const void *left, const void *right) {
    uint64_t a = (*(const model_row_t *const *)left)->hash;
    uint64_t b = (*(const model_row_t *const *)right)->hash;
    return (a > b) - (a < b);
}

const model_row_t **model_scan(const model_t *model, uint64_t step, size_t *count) {
    const model_row_t **rows = calloc(model->universe + 1, sizeof *rows);
    ck_assert_ptr_nonnull(rows);
    *count = 0;
    for (size_t i = 0; i < model->universe; i++) {
        if (model->rows[i].there && !is_expired(model, &model->rows[i], step)) {
            rows[(*count)++] = &model->rows[i];
        }
    }
    qsort((void *)rows, *count, sizeof *rows, compare_rows);
    return rows;
}

uint64_t model_rows(const model_t *model) {
    uint64_t rows = 0;
    for (uint32_t cell = 0; cell < WEIR_SLOT_COUNT; cell++) {
        rows += model->held[cell];
    }
    return rows;
}
