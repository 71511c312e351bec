#include "tests/unit/table_model.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- keys ---- */

static uint64_t odd_inverse(uint64_t factor) {
    uint64_t inverse = factor; /* right to 3 bits; each turn doubles them (Newton) */
    for (int turn = 0; turn < 5; turn++) {
        inverse *= 2 - factor * inverse;
    }
    return inverse;
}

static weir_key_t key_of_hash(uint64_t hash) {
    uint64_t x = hash ^ hash >> 31 ^ hash >> 62;
    x *= odd_inverse(0x94D049BB133111EBull);
    x ^= x >> 27 ^ x >> 54;
    x *= odd_inverse(0xBF58476D1CE4E5B9ull);
    x ^= x >> 30 ^ x >> 60;
    return x - 0x9E3779B97F4A7C15ull;
}

static int compare_hashes(const void *left, const void *right) {
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

void table_model_keys(uint64_t seed, weir_slot_t first_slot, weir_slot_t end_slot, weir_key_t *keys,
                      size_t count) {
    const uint32_t shift = 64 - WEIR_SLOT_BITS;
    for (size_t i = 0; i < count; i++) {
        uint64_t random = weir_hash64(seed * 1000003 + i);
        uint64_t slot = first_slot + (random >> 32) % (end_slot - first_slot);
        keys[i] = slot << shift | weir_hash64(random) >> WEIR_SLOT_BITS;
    }
    qsort(keys, count, sizeof *keys, compare_hashes);
    for (size_t i = 0; i < count; i++) {
        uint64_t hash = keys[i];
        keys[i] = key_of_hash(hash);
        ck_assert_uint_eq(weir_hash64(keys[i]), hash);
        ck_assert(i == 0 || weir_hash64(keys[i - 1]) < hash);
    }
}

/* ---- life ---- */

static void create_cells(table_model_t *model) {
    const weir_table_options_t *options = &model->options;
    uint64_t rows = weir_table_rows_in(&options->row, options->memory_budget);
    uint32_t bits = 0;
    while (rows / WEIR_SLOT_COUNT >> bits > 4096) {
        bits++;
    }
    model->row_budget = options->cold_folder == NULL ? rows : 0;
    model->touches = options->ttl != 0 || rows != 0;
    model->cell_shift = 64 - WEIR_SLOT_BITS - bits;
    model->first_cell = (size_t)options->first_slot << bits;
    model->cell_count = (size_t)(options->end_slot - options->first_slot) << bits;
    model->due = calloc(model->cell_count, sizeof *model->due);
    ck_assert_ptr_nonnull(model->due);
}

table_model_t *table_model_create(const weir_table_options_t *options, const weir_key_t *keys,
                                  size_t count) {
    table_model_t *model = calloc(1, sizeof *model);
    ck_assert_ptr_nonnull(model);
    model->options = *options;
    if (options->end_slot == 0) {
        model->options.end_slot = WEIR_SLOT_COUNT;
    }
    model->layout = weir_row_layout(&model->options.row);
    ck_assert_int_eq(
        weir_row_update_init(&model->update, &model->options.row, &model->layout, NULL), WEIR_OK);
    model->rows = calloc(count, sizeof *model->rows);
    model->records = calloc(count, model->layout.record_bytes);
    model->scratch = calloc(2 * model->layout.dim, sizeof *model->scratch);
    ck_assert(model->rows != NULL && model->records != NULL && model->scratch != NULL);
    model->count = count;
    for (size_t i = 0; i < count; i++) {
        model->rows[i].key = keys[i];
        model->rows[i].hash = weir_hash64(keys[i]);
        ck_assert(i == 0 || model->rows[i - 1].hash < model->rows[i].hash);
    }
    if (options->admission == WEIR_ADMISSION_PROBABILITY) {
        weir_admission_options_t draws = {.kind = options->admission,
                                          .probability = options->admission_probability,
                                          .seed = options->row.seed,
                                          .table_id = options->row.table_id,
                                          .end_slot = WEIR_SLOT_COUNT};
        ck_assert_int_eq(weir_admission_create(&draws, &model->chance, NULL), WEIR_OK);
    }
    create_cells(model);
    return model;
}

void table_model_destroy(table_model_t *model) {
    if (model != NULL) {
        weir_admission_destroy(model->chance);
        weir_row_update_fini(&model->update);
        free(model->rows);
        free(model->records);
        free(model->scratch);
        free(model->due);
        free(model);
    }
}

/* ---- rows ---- */

char *table_model_record(const table_model_t *model, size_t row) {
    return model->records + row * model->layout.record_bytes;
}

bool table_model_is_alive(const table_model_t *model, size_t row, uint64_t step) {
    const table_model_row_t *it = &model->rows[row];
    return it->there && (model->options.ttl == 0 || it->last_step + model->options.ttl >= step ||
                         it->last_step >= model->oldest_in_use);
}

static void give_birth(table_model_t *model, size_t row) {
    char *record = table_model_record(model, row);
    weir_row_birth(&model->options.row, &model->layout, model->rows[row].key, record,
                   record + model->layout.value_bytes, model->scratch);
    model->rows[row].there = true;
    model->rows[row].last_step = model->rows[row].count = 0;
}

static void begin_window(table_model_t *model, uint64_t step) {
    uint64_t every = model->options.admission_window;
    for (; every != 0 && model->window < step / every; model->window++) {
        for (size_t row = 0; row < model->count; row++) {
            model->rows[row].seen /= 2;
        }
    }
}

static bool is_admitted(table_model_t *model, size_t row, uint64_t step) {
    bool admitted = true;
    if (model->options.admission == WEIR_ADMISSION_PROBABILITY) {
        weir_admission_decide_batch(model->chance, &model->rows[row].key, 1, step, &admitted);
    } else if (model->options.admission == WEIR_ADMISSION_FREQUENCY) {
        begin_window(model, step);
        admitted = model->rows[row].seen + 1 >= model->options.admission_threshold;
    }
    return admitted;
}

void table_model_pull(table_model_t *model, const size_t *rows, size_t count, uint64_t step,
                      bool *has, char *values) {
    for (size_t i = 0; i < count; i++) {
        table_model_row_t *row = &model->rows[rows[i]];
        row->there = table_model_is_alive(model, rows[i], step);
        if (!row->there && is_admitted(model, rows[i], step)) {
            give_birth(model, rows[i]);
        }
        row->noted = row->noted || !row->there;
        model->rejected += !row->there;
        if (row->there && model->touches && step > row->last_step) {
            row->last_step = step;
        }
        has[i] = row->there;
    }
    table_model_peek(model, rows, count, step, values);
}

void table_model_peek(const table_model_t *model, const size_t *rows, size_t count, uint64_t step,
                      char *values) {
    size_t bytes = model->layout.value_bytes;
    for (size_t i = 0; i < count; i++) {
        if (table_model_is_alive(model, rows[i], step)) {
            memcpy(values + i * bytes, table_model_record(model, rows[i]), bytes);
        } else {
            weir_row_birth_value(&model->options.row, &model->layout, model->rows[rows[i]].key,
                                 values + i * bytes, model->scratch);
        }
    }
}

static bool is_finite(const float *gradient, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(gradient[i])) {
            return false;
        }
    }
    return true;
}

weir_table_applied_t table_model_apply(table_model_t *model, const size_t *rows,
                                       const float *gradients, size_t count, uint64_t step) {
    weir_table_applied_t applied = {0};
    weir_row_update_begin_step(&model->update, step);
    for (size_t i = 0; i < count; i++) {
        table_model_row_t *row = &model->rows[rows[i]];
        const float *gradient = gradients + i * model->layout.dim;
        if (!row->there) {
            applied.dropped++;
            continue;
        }
        row->last_step = step > row->last_step ? step : row->last_step;
        if (!is_finite(gradient, model->layout.dim)) {
            applied.not_finite++;
            continue;
        }
        row->count += row->count < UINT32_MAX;
        char *record = table_model_record(model, rows[i]);
        weir_row_update_apply(&model->update, row->key, record, record + model->layout.value_bytes,
                              gradient, row->count, step);
        applied.updated++;
    }
    return applied;
}

/* ---- the end of a step ---- */

typedef struct {
    uint64_t score, hash;
    size_t row;
} candidate_t;

static int compare_candidates(const void *left, const void *right) {
    const candidate_t *a = left, *b = right;
    if (a->score != b->score) {
        return a->score < b->score ? -1 : 1;
    }
    return (a->hash > b->hash) - (a->hash < b->hash);
}

static uint64_t cell_limit(const table_model_t *model, size_t cell) {
    uint64_t cells = (uint64_t)1 << (64 - model->cell_shift), number = model->first_cell + cell;
    return (number + 1) * model->row_budget / cells - number * model->row_budget / cells;
}

/* The rows of a cell: [*begin, *end). */
static void find_cell(const table_model_t *model, size_t cell, size_t *begin, size_t *end) {
    while (*begin < model->count &&
           model->rows[*begin].hash >> model->cell_shift < model->first_cell + cell) {
        ++*begin;
    }
    *end = *begin;
    while (*end < model->count &&
           model->rows[*end].hash >> model->cell_shift == model->first_cell + cell) {
        ++*end;
    }
}

/* Order all that may go, and let go as many as are above fifteen sixteenths. */
static void evict(table_model_t *model, size_t cell, size_t begin, size_t end,
                  uint64_t oldest_in_use, candidate_t *candidates) {
    uint64_t limit = cell_limit(model, cell), target = limit - (limit + 15) / 16, alive = 0;
    size_t count = 0;
    for (size_t row = begin; row < end; row++) {
        const table_model_row_t *it = &model->rows[row];
        alive += it->there;
        if (it->there && it->last_step < oldest_in_use) {
            uint64_t high = it->last_step, low = it->count;
            if (model->options.eviction == WEIR_EVICTION_LFU) {
                high = it->count;
                low = it->last_step;
            }
            candidates[count++] = (candidate_t){high << 32 | low, it->hash, row};
        }
    }
    qsort(candidates, count, sizeof *candidates, compare_candidates);
    for (size_t i = 0; i < count && alive > target; i++, alive--) {
        model->rows[candidates[i].row].there = false;
        model->evicted++;
    }
}

void table_model_end_step(table_model_t *model, uint64_t step, uint64_t oldest_in_use) {
    model->oldest_in_use = oldest_in_use;
    for (size_t row = 0; row < model->count; row++) {
        model->rows[row].there = table_model_is_alive(model, row, step + 1);
    }
    candidate_t *candidates = malloc(model->count * sizeof *candidates);
    ck_assert_ptr_nonnull(candidates);
    for (size_t cell = 0, begin = 0, end; cell < model->cell_count && model->row_budget != 0;
         cell++, begin = end) {
        find_cell(model, cell, &begin, &end);
        if (model->due[cell]) {
            evict(model, cell, begin, end, oldest_in_use, candidates);
        }
        uint64_t limit = cell_limit(model, cell), alive = 0;
        for (size_t row = begin; row < end; row++) {
            alive += model->rows[row].there;
        }
        model->due[cell] = alive > limit - limit / 64;
    }
    free(candidates);
    begin_window(model, step);
    for (size_t row = 0; row < model->count; row++) {
        model->rows[row].seen += model->rows[row].noted && model->rows[row].seen < UINT16_MAX;
        model->rows[row].noted = false;
    }
}
