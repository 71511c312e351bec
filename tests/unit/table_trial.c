#include "tests/unit/table_trial.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SERVERS = 4 };

typedef struct {
    const table_trial_t *trial;
    table_model_t *model;
    weir_table_t *tables[MAX_SERVERS];
    weir_slot_t first_slots[MAX_SERVERS + 1];
    uint32_t servers;
    uint64_t step, dice, folders;
    table_trial_result_t result;
    weir_row_handle_t *handles; /* by row of the model, of the step under way */
    uint64_t *used_at;          /* by row: the last step that pulled it */
    /* Of one batch. */
    size_t *rows, *mine;
    bool *has;
    weir_key_t *keys;
    weir_row_handle_t *found;
    float *gradients;
    char *expected, *answered;
    size_t capacity;
} trial_t;

uint64_t table_trial_steps(uint64_t steps) {
#if defined WEIR_CHECKED || defined __SANITIZE_ADDRESS__
    return steps / 8 + 10;
#else
    return steps;
#endif
}

static void *make(size_t count, size_t size) {
    void *made = calloc(count, size);
    ck_assert_ptr_nonnull(made);
    return made;
}

static uint64_t roll(trial_t *t, uint64_t bound) {
    return weir_hash64(t->trial->seed << 32 ^ t->dice++) % bound;
}

static void check(const trial_t *t, bool holds, const char *what, uint64_t key) {
    if (!holds) {
        ck_abort_msg("trial %llu, step %llu, %u tables: %s (key %llu)",
                     (unsigned long long)t->trial->seed, (unsigned long long)t->step, t->servers,
                     what, (unsigned long long)key);
    }
}

static void succeed(const trial_t *t, weir_err_t err, const weir_error_t *error) {
    check(t, err == WEIR_OK, error->message, 0);
}

/* ---- tables ---- */

static void create_tables(trial_t *t, uint32_t servers) {
    weir_table_options_t options = t->trial->options;
    weir_error_t error = {0};
    uint32_t slots = t->model->options.end_slot - options.first_slot;
    t->servers = servers;
    for (uint32_t s = 0; s <= servers; s++) {
        t->first_slots[s] = options.first_slot + s * slots / servers;
    }
    for (uint32_t s = 0; s < servers; s++) {
        char folder[1024];
        (void)snprintf(folder, sizeof folder, "%s/cold-%llu",
                       options.cold_folder == NULL ? "" : options.cold_folder,
                       (unsigned long long)t->folders++);
        weir_table_options_t mine = options;
        mine.first_slot = t->first_slots[s];
        mine.end_slot = t->first_slots[s + 1];
        mine.cold_folder = options.cold_folder == NULL ? NULL : folder;
        succeed(t, weir_table_create(&mine, &t->tables[s], &error), &error);
    }
}

/* Adds up what the tables have counted, and releases them. */
static void destroy_tables(trial_t *t, weir_table_t **tables, uint32_t servers) {
    for (uint32_t s = 0; s < servers; s++) {
        weir_table_stats_t stats = weir_table_stats(tables[s]);
        t->result.born += stats.born;
        t->result.evicted += stats.evicted;
        t->result.expired += stats.expired;
        t->result.rejected += stats.rejected;
        t->result.cold_hits += stats.cold_hits;
        t->result.cold_writes += stats.cold_writes;
        weir_table_destroy(tables[s]);
        tables[s] = NULL;
    }
}

static bool is_of(const trial_t *t, uint32_t server, size_t row) {
    weir_slot_t slot = weir_slot_of_hash(t->model->rows[row].hash);
    return slot >= t->first_slots[server] && slot < t->first_slots[server + 1];
}

/* The part of t->rows that a server owns: places in `mine`, keys in `keys`. */
static size_t deal(trial_t *t, uint32_t server, size_t count) {
    size_t dealt = 0;
    for (size_t i = 0; i < count; i++) {
        if (is_of(t, server, t->rows[i])) {
            t->mine[dealt] = i;
            t->keys[dealt++] = t->model->rows[t->rows[i]].key;
        }
    }
    return dealt;
}

static void check_values(trial_t *t, size_t dealt, const char *what) {
    size_t bytes = t->model->layout.value_bytes;
    for (size_t i = 0; i < dealt; i++) {
        check(t, memcmp(t->answered + i * bytes, t->expected + t->mine[i] * bytes, bytes) == 0,
              what, t->keys[i]);
    }
}

/* ---- one step ---- */

static void choose_batch(trial_t *t) {
    const table_trial_t *trial = t->trial;
    size_t hot = trial->hot == 0 ? trial->universe : trial->hot;
    for (size_t i = 0; i < trial->batch; i++) {
        size_t place = (size_t)roll(t, hot);
        if (roll(t, 2) == 0) {
            place = place * place / hot; /* half of the keys are not equally likely */
        }
        /* Neighbours in time are not neighbours in hash. */
        uint64_t number = t->step * trial->drift + place;
        t->rows[i] = (size_t)(number * 7919 % trial->universe);
    }
}

/* Read cold rows ahead of their pull, as if for this step or for one of the next. */
static void foresee(trial_t *t, uint32_t server, size_t dealt) {
    weir_error_t error = {0};
    if (roll(t, 2) == 0) {
        uint64_t step = t->step + roll(t, 3);
        succeed(t, weir_table_prefetch(t->tables[server], t->keys, dealt, step, &error), &error);
    }
    if (roll(t, 3) == 0) {
        succeed(t, weir_table_take_in(t->tables[server], t->keys, dealt, t->step, t->found, &error),
                &error);
        for (size_t i = 0; i < dealt; i++) {
            check(t,
                  t->found[i] == WEIR_ROW_NONE || t->model->rows[t->rows[t->mine[i]]].there ||
                      t->trial->options.ttl != 0,
                  "a row was born ahead", t->keys[i]);
        }
    }
}

static void pull(trial_t *t) {
    size_t count = t->trial->batch;
    weir_error_t error = {0};
    choose_batch(t);
    for (uint32_t s = 0; s < t->servers && t->trial->options.cold_folder != NULL; s++) {
        foresee(t, s, deal(t, s, count));
    }
    table_model_pull(t->model, t->rows, count, t->step, t->has, t->expected);
    for (uint32_t s = 0; s < t->servers; s++) {
        size_t dealt = deal(t, s, count);
        bool wanted = roll(t, 8) != 0;
        succeed(t,
                weir_table_pull(t->tables[s], t->keys, dealt, t->step, t->found,
                                wanted ? t->answered : NULL, &error),
                &error);
        check_values(t, wanted ? dealt : 0, "pull answers another value");
        weir_table_gather(t->tables[s], t->keys, t->found, dealt, t->step, t->answered);
        check_values(t, dealt, "gather answers another value");
        for (size_t i = 0; i < dealt; i++) {
            size_t row = t->rows[t->mine[i]];
            check(t, (t->found[i] != WEIR_ROW_NONE) == t->has[t->mine[i]],
                  "pull has a row where there should be none, or none", t->keys[i]);
            check(t, t->used_at[row] != t->step || t->handles[row] == t->found[i],
                  "a row has moved within a step", t->keys[i]);
            t->used_at[row] = t->step;
            t->handles[row] = t->found[i];
        }
    }
    t->result.keys += count;
}

/* Rows pulled by this step, in an order of chance. */
static size_t collect_used(trial_t *t) {
    size_t count = 0;
    for (size_t row = 0; row < t->model->count; row++) {
        if (t->used_at[row] == t->step) {
            t->rows[count++] = row;
        }
    }
    for (size_t i = count; i > 1; i--) {
        size_t other = (size_t)roll(t, i), swap = t->rows[i - 1];
        t->rows[i - 1] = t->rows[other];
        t->rows[other] = swap;
    }
    return count;
}

static void fill_gradients(trial_t *t, size_t count) {
    size_t dim = t->model->layout.dim;
    for (size_t i = 0; i < count * dim; i++) {
        t->gradients[i] = (float)roll(t, 2001) / 1000.0f - 1.0f;
    }
    for (size_t i = 0; i < count; i++) {
        if (roll(t, 1000) < t->trial->spoiled) {
            t->gradients[i * dim + (size_t)roll(t, dim)] = roll(t, 2) == 0 ? NAN : -INFINITY;
        }
    }
}

static void apply(trial_t *t) {
    size_t used = collect_used(t), count = 0, dim = t->model->layout.dim;
    weir_table_applied_t sum = {0};
    for (size_t i = 0; i < used; i++) {
        if (roll(t, 1000) >= t->trial->forgotten) {
            t->rows[count++] = t->rows[i];
        }
    }
    fill_gradients(t, count);
    weir_table_applied_t expected =
        table_model_apply(t->model, t->rows, t->gradients, count, t->step);
    float *mine = make(count * dim + 1, sizeof *mine);
    for (uint32_t s = 0; s < t->servers; s++) {
        size_t dealt = deal(t, s, count);
        for (size_t i = 0; i < dealt; i++) {
            t->found[i] = t->handles[t->rows[t->mine[i]]];
            memcpy(mine + i * dim, t->gradients + t->mine[i] * dim, dim * sizeof *mine);
        }
        weir_table_applied_t applied =
            weir_table_apply(t->tables[s], t->keys, t->found, mine, dealt, t->step);
        sum.updated += applied.updated;
        sum.not_finite += applied.not_finite;
        sum.dropped += applied.dropped;
    }
    free(mine);
    check(t, sum.updated == expected.updated, "another number of rows was updated", 0);
    check(t, sum.not_finite == expected.not_finite, "other rows' gradients are not finite", 0);
    check(t, sum.dropped == expected.dropped, "another number of gradients was dropped", 0);
}

/* ---- between steps ---- */

/* Answers for keys that are not of the step, before it ends: as they will be after it. */
static void foretell(trial_t *t, bool *settled) {
    size_t count = t->trial->batch, bytes = t->model->layout.value_bytes;
    for (size_t i = 0; i < count; i++) {
        t->rows[i] = (size_t)roll(t, t->model->count);
    }
    memset(settled, 0, count * sizeof *settled);
    for (uint32_t s = 0; s < t->servers; s++) {
        size_t dealt = deal(t, s, count);
        weir_table_find(t->tables[s], t->keys, dealt, t->found);
        weir_table_gather(t->tables[s], t->keys, t->found, dealt, t->step + 1, t->answered);
        for (size_t i = 0; i < dealt; i++) {
            size_t place = t->mine[i];
            settled[place] = t->trial->lag <= 1 && t->used_at[t->rows[place]] != t->step &&
                             weir_table_is_settled(t->tables[s], t->keys[i], t->found[i]);
            t->result.settled += settled[place];
            t->result.unsettled += !settled[place];
            memcpy(t->expected + place * bytes, t->answered + i * bytes, bytes);
        }
    }
}

static void check_foretold(trial_t *t, const bool *settled) {
    size_t count = t->trial->batch, bytes = t->model->layout.value_bytes;
    weir_error_t error = {0};
    char *values = make(count, bytes);
    table_model_peek(t->model, t->rows, count, t->step + 1, values);
    for (size_t i = 0; i < count; i++) {
        check(t, !settled[i] || memcmp(values + i * bytes, t->expected + i * bytes, bytes) == 0,
              "a value that was settled has changed", t->model->rows[t->rows[i]].key);
    }
    memcpy(t->expected, values, count * bytes);
    free(values);
    for (uint32_t s = 0; s < t->servers; s++) {
        size_t dealt = deal(t, s, count);
        succeed(t, weir_table_peek(t->tables[s], t->keys, dealt, t->step + 1, t->answered, &error),
                &error);
        check_values(t, dealt, "peek answers another value");
    }
}

typedef struct {
    trial_t *trial;
    size_t next; /* row of the model */
    weir_table_t **into;
    const weir_slot_t *first_slots;
} scan_t;

static weir_err_t visit(void *argument, const weir_table_row_t *rows, size_t count,
                        weir_error_t *error) {
    scan_t *scan = argument;
    trial_t *t = scan->trial;
    const table_model_t *model = t->model;
    weir_err_t err = WEIR_OK;
    size_t value = model->layout.value_bytes, rest = model->layout.record_bytes - value;
    for (size_t i = 0; i < count && err == WEIR_OK; i++, scan->next++) {
        while (scan->next < model->count && !table_model_is_alive(model, scan->next, t->step + 1)) {
            scan->next++;
        }
        check(t, scan->next < model->count, "a scan shows a row too many", rows[i].key);
        const table_model_row_t *row = &model->rows[scan->next];
        const char *record = table_model_record(model, scan->next);
        check(t, rows[i].key == row->key, "a scan shows another row", row->key);
        check(t, memcmp(rows[i].value, record, value) == 0, "a scan shows another value", row->key);
        check(t, memcmp(rows[i].rest, record + value, rest) == 0, "a scan shows another state",
              row->key);
        check(t, rows[i].count == row->count, "a scan shows another count", row->key);
        check(t, rows[i].last_step == row->last_step, "a scan shows another last step", row->key);
        if (scan->into != NULL) {
            uint32_t to = 0;
            while (weir_slot_of_hash(row->hash) >= scan->first_slots[to + 1]) {
                to++;
            }
            err = weir_table_restore(scan->into[to], &rows[i], error);
        }
    }
    return err;
}

/* All rows are the oracle's; they go `into` other tables where it is not NULL. */
static void scan_tables(trial_t *t, weir_table_t **tables, uint32_t servers, weir_table_t **into) {
    weir_error_t error = {0};
    scan_t scan = {.trial = t, .into = into, .first_slots = t->first_slots};
    for (uint32_t s = 0; s < servers; s++) {
        succeed(t, weir_table_scan(tables[s], t->step + 1, visit, &scan, &error), &error);
    }
    for (; scan.next < t->model->count; scan.next++) {
        check(t, !table_model_is_alive(t->model, scan.next, t->step + 1), "a scan lacks a row",
              t->model->rows[scan.next].key);
    }
}

static void restore_counters(trial_t *t, weir_table_t **old, const weir_slot_t *old_slots) {
    weir_error_t error = {0};
    for (uint32_t s = 0; s < t->servers && weir_table_admission(t->tables[s]) != NULL; s++) {
        weir_admission_set_step(weir_table_admission(t->tables[s]), t->step);
        for (weir_slot_t slot = t->first_slots[s]; slot < t->first_slots[s + 1]; slot++) {
            const uint16_t *values;
            size_t from = 0, count;
            while (slot >= old_slots[from + 1]) {
                from++;
            }
            weir_admission_slot(weir_table_admission(old[from]), slot, &values, &count);
            succeed(t,
                    count == 0 ? WEIR_OK
                               : weir_admission_restore_slot(weir_table_admission(t->tables[s]),
                                                             slot, values, count, &error),
                    &error);
        }
    }
}

/* Everything into new tables, of another number. */
static void rescue(trial_t *t) {
    weir_table_t *old[MAX_SERVERS];
    weir_slot_t old_slots[MAX_SERVERS + 1];
    uint32_t servers = t->servers;
    weir_error_t error = {0};
    memcpy(old, t->tables, sizeof old);
    memcpy(old_slots, t->first_slots, sizeof old_slots);
    create_tables(t, servers % 3 + 1);
    scan_tables(t, old, servers, t->tables);
    for (uint32_t s = 0; s < t->servers; s++) {
        succeed(t, weir_table_end_restore(t->tables[s], &error), &error);
    }
    restore_counters(t, old, old_slots);
    destroy_tables(t, old, servers);
}

/* ---- a trial ---- */

/* Rows of steps that are not over lie where they lay. */
static void check_in_use(trial_t *t, uint64_t oldest) {
    for (size_t row = 0; row < t->model->count; row++) {
        for (uint32_t s = 0; s < t->servers && t->used_at[row] >= oldest; s++) {
            weir_key_t key = t->model->rows[row].key;
            weir_row_handle_t handle = t->handles[row];
            if (handle != WEIR_ROW_NONE && is_of(t, s, row)) {
                weir_table_find(t->tables[s], &key, 1, &handle);
                check(t, handle == t->handles[row], "a row in use has gone", key);
            }
        }
    }
}

/* Every other step that may end after the pulls of the next does. */
static bool is_late(const trial_t *t, uint64_t step) {
    return step % 2 == 1 && step < t->trial->steps && weir_table_ends_late(t->tables[0]) &&
           (t->trial->rescue == 0 || step % t->trial->rescue != 0);
}

static void run_step(trial_t *t, bool *settled) {
    const table_trial_t *trial = t->trial;
    uint64_t rows = 0, lag = trial->lag == 0 ? 1 : trial->lag;
    uint64_t oldest = t->step + 1 > lag ? t->step + 2 - lag : 1;
    weir_error_t error = {0};
    for (size_t p = 0; p < trial->pulls; p++) {
        pull(t);
    }
    for (uint32_t s = 0; s < t->servers && t->step > 1 && is_late(t, t->step - 1); s++) {
        succeed(t, weir_table_end_step(t->tables[s], t->step - 1, t->step, &error), &error);
    }
    apply(t);
    foretell(t, settled);
    table_model_end_step(t->model, t->step, oldest);
    for (uint32_t s = 0; s < t->servers; s++) {
        if (!is_late(t, t->step)) {
            succeed(t, weir_table_end_step(t->tables[s], t->step, oldest, &error), &error);
        }
        rows += weir_table_stats(t->tables[s]).rows;
    }
    t->result.most_rows = rows > t->result.most_rows ? rows : t->result.most_rows;
    check_in_use(t, oldest);
    check_foretold(t, settled);
    if (t->step % 16 == 0 || t->step == trial->steps) {
        scan_tables(t, t->tables, t->servers, NULL);
    }
    if (trial->rescue != 0 && t->step % trial->rescue == 0) {
        rescue(t);
        scan_tables(t, t->tables, t->servers, NULL);
    }
}

table_trial_result_t table_trial_run(const table_trial_t *trial) {
    trial_t t = {.trial = trial};
    weir_slot_t end = trial->options.end_slot == 0 ? WEIR_SLOT_COUNT : trial->options.end_slot;
    weir_key_t *universe = make(trial->universe, sizeof *universe);
    table_model_keys(trial->seed, trial->options.first_slot, end, universe, trial->universe);
    t.model = table_model_create(&trial->options, universe, trial->universe);
    free(universe);
    t.capacity = trial->batch > trial->universe ? trial->batch : trial->universe;
    t.handles = make(trial->universe, sizeof *t.handles);
    t.used_at = make(trial->universe, sizeof *t.used_at);
    t.rows = make(t.capacity, sizeof *t.rows);
    t.mine = make(t.capacity, sizeof *t.mine);
    t.has = make(t.capacity, sizeof *t.has);
    t.keys = make(t.capacity, sizeof *t.keys);
    t.found = make(t.capacity, sizeof *t.found);
    t.gradients = make(t.capacity * t.model->layout.dim, sizeof *t.gradients);
    t.expected = make(t.capacity, t.model->layout.value_bytes);
    t.answered = make(t.capacity, t.model->layout.value_bytes);
    bool *settled = make(trial->batch, sizeof *settled);
    create_tables(&t, trial->servers == 0 ? 1 : trial->servers);
    for (t.step = 1; t.step <= trial->steps; t.step++) {
        run_step(&t, settled);
    }
    destroy_tables(&t, t.tables, t.servers);
    uint64_t evicted = t.model->evicted;
    check(&t,
          trial->options.cold_folder != NULL || t.result.evicted == evicted ||
              trial->options.ttl != 0,
          "another number of rows was evicted", evicted);
    check(&t, t.result.rejected == t.model->rejected, "another number of keys was rejected", 0);
    table_model_destroy(t.model);
    free(t.handles);
    free(t.used_at);
    free(t.rows);
    free(t.mine);
    free(t.has);
    free(t.keys);
    free(t.found);
    free(t.gradients);
    free(t.expected);
    free(t.answered);
    free(settled);
    return t.result;
}
