/* Who leaves a table when its memory budget is spent, and when (ps/table.h).
 *
 * A cell may hold its equal part of the row budget. Above 63/64 of that it is due: at the end of
 * the next step the lowest rows by (score, hash) go, down to 15/16. The delay of one step makes it
 * known, while that step is under way, which rows may vanish at its end. What is due follows from
 * what a cell holds alone, so a table that was saved and restored goes on as if it had not been. */
#include "ps/table_internal.h"

#include <stdlib.h>
#include <string.h>

enum {
    CELL_ROWS = 4096,  /* a cell's limit at the most: what is looked through at once */
    DEPARTURES = 1024, /* rows that leave at once, and a cell's more */
    MIN_SLOT_ROWS = 4,
    SWEEPS_PER_TTL = 4 /* times that every cell is swept for expired rows within one ttl */
};

typedef struct weir_table_victim {
    uint64_t score; /* low goes first; the expired before all */
    uint64_t hash;
    weir_key_t key;
    weir_row_handle_t handle;
    bool expired; /* leaves no trace */
} victim_t;

uint32_t weir_table_cell_bits(uint64_t rows) {
    uint32_t bits = 0;
    while (rows / WEIR_SLOT_COUNT >> bits > CELL_ROWS && bits < 20) {
        bits++;
    }
    return bits;
}

weir_err_t weir_table_cells_init(weir_table_t *table, weir_error_t *error) {
    uint32_t bits = weir_table_cell_bits(table->row_budget);
    table->cells_of_all = (uint64_t)WEIR_SLOT_COUNT << bits;
    table->first_cell = (uint64_t)table->options.first_slot << bits;
    if (table->options.memory_budget == 0) {
        return WEIR_OK;
    }
    if (table->row_budget < (uint64_t)MIN_SLOT_ROWS * WEIR_SLOT_COUNT) {
        uint64_t least = (uint64_t)MIN_SLOT_ROWS * WEIR_SLOT_COUNT;
        uint64_t bytes = weir_table_budget_for(&table->options.row, least);
        weir_err_t err =
            weir_errorf(error, WEIR_ERR_INVALID,
                        "table %s: a memory budget of %llu bytes holds %llu rows, "
                        "fewer than the %llu at least",
                        table->options.row.name, (unsigned long long)table->options.memory_budget,
                        (unsigned long long)table->row_budget, (unsigned long long)least);
        weir_error_hint(error, "these take %llu bytes; the budget is of all servers together",
                        (unsigned long long)bytes);
        return err;
    }
    size_t cells = weir_index_cells(&table->index);
    table->touched = calloc(cells, sizeof *table->touched);
    table->due = calloc(cells, sizeof *table->due);
    table->touched_list = malloc(cells * sizeof *table->touched_list);
    table->due_list = malloc(cells * sizeof *table->due_list);
    if (table->touched == NULL || table->due == NULL || table->touched_list == NULL ||
        table->due_list == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a table");
    }
    return WEIR_OK;
}

void weir_table_cells_fini(weir_table_t *table) {
    free(table->touched);
    free(table->due);
    free(table->touched_list);
    free(table->due_list);
    free(table->victims);
    free(table->departures);
}

void weir_table_touch_cell(weir_table_t *table, weir_key_t key) {
    if (table->row_budget == 0) {
        return;
    }
    uint32_t cell = weir_index_cell_of(&table->index, key);
    if (!table->touched[cell]) {
        table->touched[cell] = true;
        table->touched_list[table->touched_count++] = cell;
    }
}

/* Of all servers' cells, number c may hold floor((c + 1) B / C) - floor(c B / C) rows: B in all. */
uint64_t weir_table_cell_limit(const weir_table_t *table, uint32_t cell) {
    uint64_t number = table->first_cell + cell, cells = table->cells_of_all;
    uint64_t whole = table->row_budget / cells, rest = table->row_budget % cells;
    return whole + ((number + 1) * rest / cells - number * rest / cells);
}

uint64_t weir_table_cells_bytes(const weir_table_t *table) {
    uint64_t cell = sizeof *table->touched + sizeof *table->due + sizeof *table->touched_list +
                    sizeof *table->due_list;
    return (table->touched == NULL ? 0 : weir_index_cells(&table->index) * cell) +
           (table->victim_capacity + table->departure_capacity) * sizeof(victim_t);
}

/* ---- choice ---- */

typedef struct {
    weir_table_t *table;
    size_t count;
    uint64_t step;          /* expired at this step: victims */
    uint64_t oldest_in_use; /* used then or later: none */
    bool expired_only;
} choice_t;

static void consider(void *argument, weir_key_t key, uint32_t handle) {
    choice_t *choice = argument;
    weir_table_t *table = choice->table;
    const weir_row_metadata_t *metadata = weir_row_store_metadata(&table->store, handle);
    bool expired = weir_table_is_expired(table, metadata, choice->step);
    if ((choice->expired_only && !expired) || metadata->last_step >= choice->oldest_in_use) {
        return;
    }
    uint64_t used = metadata->last_step, updates = metadata->count;
    uint64_t score =
        table->options.eviction == WEIR_EVICTION_LRU ? used << 32 | updates : updates << 32 | used;
    table->victims[choice->count++] = (victim_t){.score = expired ? 0 : score,
                                                 .hash = weir_hash64(key),
                                                 .key = key,
                                                 .handle = handle,
                                                 .expired = expired};
}

static bool goes_before(const victim_t *left, const victim_t *right) {
    if (left->expired != right->expired) {
        return left->expired;
    }
    return left->score != right->score ? left->score < right->score : left->hash < right->hash;
}

/* The `wanted` lowest of `count` to the front (Hoare's selection; the order is total, so the choice
 * does not depend on how they lay). */
static void select_lowest(victim_t *victims, size_t count, size_t wanted) {
    size_t low = 0, high = count;
    while (high - low > 1 && wanted > low && wanted < high) {
        victim_t pivot = victims[low + (high - 1 - low) / 2]; /* not the last: both parts shrink */
        size_t i = low, j = high - 1;
        for (;; i++, j--) {
            while (goes_before(&victims[i], &pivot)) {
                i++;
            }
            while (goes_before(&pivot, &victims[j])) {
                j--;
            }
            if (i >= j) {
                break;
            }
            victim_t swap = victims[i];
            victims[i] = victims[j];
            victims[j] = swap;
        }
        /* None of low .. j comes after any of j + 1 .. high - 1. */
        if (wanted <= j + 1) {
            high = j + 1;
        } else {
            low = j + 1;
        }
    }
}

static weir_err_t reserve_victims(const weir_table_t *table, victim_t **victims, size_t *capacity,
                                  uint64_t count, weir_error_t *error) {
    if (count > *capacity) {
        size_t wanted = (size_t)(count + count / 4);
        victim_t *grown = realloc(*victims, wanted * sizeof *grown);
        if (grown == NULL) {
            return weir_errorf(error, WEIR_ERR_MEMORY, "table %s: out of memory to evict rows",
                               table->options.row.name);
        }
        *victims = grown;
        *capacity = wanted;
    }
    return WEIR_OK;
}

/* The victims have room for the cell. */
static void choose(weir_table_t *table, uint32_t cell, choice_t *choice) {
    WEIR_ASSERT(weir_index_cell_entries(&table->index, cell) <= table->victim_capacity);
    choice->count = 0;
    weir_index_visit_cell(&table->index, cell, consider, choice);
}

/* ---- departure ---- */

/* Write the departures whose key the cold store holds (`there`) or does not. */
static weir_err_t write_cold(weir_table_t *table, bool there, weir_error_t *error) {
    size_t bytes = weir_table_cold_bytes(table), written = 0;
    weir_err_t err = weir_table_reserve_cold(table, table->departure_count, error);
    if (err != WEIR_OK) {
        return err;
    }
    for (size_t i = 0; i < table->departure_count; i++) {
        const victim_t *victim = &table->departures[i];
        if (weir_row_store_flag(&table->store, victim->handle) != there || victim->expired) {
            continue;
        }
        char *record = table->cold_records + written * bytes;
        weir_table_pack(table, record, weir_row_store_value(&table->store, victim->handle),
                        weir_row_store_rest(&table->store, victim->handle),
                        weir_row_store_metadata(&table->store, victim->handle));
        table->cold_keys[written++] = victim->key;
    }
    if (written == 0) {
        return WEIR_OK;
    }
    err = weir_table_put_cold(table, written, there, error);
    for (size_t i = 0; i < table->departure_count && err == WEIR_OK && !there; i++) {
        const victim_t *victim = &table->departures[i];
        if (!victim->expired && !weir_row_store_flag(&table->store, victim->handle)) {
            weir_row_store_set_flag(&table->store, victim->handle, true);
            table->both++;
        }
    }
    return err;
}

/* Those chosen of many cells leave at once, to the cold store where there is one: it is written in
 * large batches. After an error all of their rows are still in memory. */
static weir_err_t depart(weir_table_t *table, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    if (table->cold != NULL) {
        err = write_cold(table, true, error); /* first: the other sets flags */
        if (err == WEIR_OK) {
            err = write_cold(table, false, error);
        }
    }
    for (size_t i = 0; i < table->departure_count && err == WEIR_OK; i++) {
        if (table->cold == NULL) {
            weir_table_removed_add(&table->removed, table->departures[i].key);
        }
        weir_table_drop(table, table->departures[i].key, table->departures[i].handle);
        table->stats.evicted++;
    }
    table->departure_count = 0;
    return err;
}

static weir_err_t evict_cell(weir_table_t *table, uint32_t cell, uint64_t step,
                             uint64_t oldest_in_use, weir_error_t *error) {
    uint64_t limit = weir_table_cell_limit(table, cell), target = limit - (limit + 15) / 16;
    uint64_t entries = weir_index_cell_entries(&table->index, cell);
    choice_t choice = {.table = table, .step = step + 1, .oldest_in_use = oldest_in_use};
    if (entries <= target) {
        return WEIR_OK;
    }
    choose(table, cell, &choice);
    size_t wanted = (size_t)(entries - target);
    size_t count = wanted < choice.count ? wanted : choice.count;
    select_lowest(table->victims, choice.count, count);
    memcpy(table->departures + table->departure_count, table->victims,
           count * sizeof *table->victims);
    table->departure_count += count;
    return table->departure_count >= DEPARTURES ? depart(table, error) : WEIR_OK;
}

static void sweep_cell(weir_table_t *table, uint32_t cell, uint64_t step, uint64_t oldest_in_use) {
    choice_t choice = {
        .table = table, .step = step + 1, .oldest_in_use = oldest_in_use, .expired_only = true};
    choose(table, cell, &choice);
    for (size_t i = 0; i < choice.count; i++) {
        weir_table_drop(table, table->victims[i].key, table->victims[i].handle);
        table->stats.expired++;
    }
}

/* Cells that are swept at the end of a step. */
static uint64_t sweep_turns(const weir_table_t *table) {
    uint64_t cells = weir_index_cells(&table->index), ttl = table->options.ttl;
    uint64_t turns = ttl == 0 ? 0 : (cells * SWEEPS_PER_TTL + ttl - 1) / ttl;
    return turns < cells ? turns : cells;
}

static uint32_t cell_after(const weir_table_t *table, uint32_t cell) {
    return cell + 1 == weir_index_cells(&table->index) ? 0 : cell + 1;
}

static bool is_full(const weir_table_t *table, uint32_t cell) {
    uint64_t limit = weir_table_cell_limit(table, cell);
    return weir_index_cell_entries(&table->index, cell) > limit - limit / 64;
}

/* Of rows that have expired a cell is not full: when they were swept must not be seen. */
static void mark_due(weir_table_t *table, bool sweeps, uint64_t step, uint64_t oldest_in_use) {
    for (uint32_t i = 0; i < table->touched_count; i++) {
        uint32_t cell = table->touched_list[i];
        table->touched[cell] = false;
        if (!table->due[cell] && sweeps && is_full(table, cell)) {
            sweep_cell(table, cell, step, oldest_in_use);
        }
        if (!table->due[cell] && is_full(table, cell)) {
            table->due[cell] = true;
            table->due_list[table->due_count++] = cell;
        }
    }
    table->touched_count = 0;
}

void weir_table_mark_due(weir_table_t *table) {
    mark_due(table, false, 0, 0);
}

/* Everything at the end of a step that needs memory, but for the cold store's. */
static weir_err_t reserve_end(weir_table_t *table, weir_error_t *error) {
    uint64_t most = 0, entries;
    uint32_t cell = table->sweep;
    for (uint64_t i = 0; i < sweep_turns(table); i++, cell = cell_after(table, cell)) {
        entries = weir_index_cell_entries(&table->index, cell);
        most = entries > most ? entries : most;
    }
    for (uint32_t i = 0; i < table->due_count; i++) {
        entries = weir_index_cell_entries(&table->index, table->due_list[i]);
        most = entries > most ? entries : most;
    }
    for (uint32_t i = 0; i < table->touched_count; i++) {
        entries = weir_index_cell_entries(&table->index, table->touched_list[i]);
        most = entries > most ? entries : most;
    }
    weir_err_t err = reserve_victims(table, &table->victims, &table->victim_capacity, most, error);
    return err == WEIR_OK && table->row_budget != 0
               ? reserve_victims(table, &table->departures, &table->departure_capacity,
                                 DEPARTURES + most, error)
               : err;
}

/* Without a cold store it cannot fail; with one, rows that could not leave are tried again at the
 * end of the next step. */
static weir_err_t evict_due(weir_table_t *table, uint64_t step, uint64_t oldest_in_use,
                            weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    while (table->due_count > 0 && err == WEIR_OK) {
        uint32_t cell = table->due_list[--table->due_count];
        table->due[cell] = false;
        /* Where rows in use could not go it is due again. */
        if (!table->touched[cell]) {
            table->touched[cell] = true;
            table->touched_list[table->touched_count++] = cell;
        }
        err = evict_cell(table, cell, step, oldest_in_use, error);
    }
    if (err == WEIR_OK) {
        err = depart(table, error);
    }
    table->departure_count = 0;
    return err;
}

weir_err_t weir_table_end_step(weir_table_t *table, uint64_t step, uint64_t oldest_in_use,
                               weir_error_t *error) {
    weir_err_t err = reserve_end(table, error);
    if (err != WEIR_OK) {
        return err;
    }
    if (table->cold != NULL) {
        weir_table_mark_due(table); /* at once: nobody can tell */
    }
    table->oldest_in_use = oldest_in_use;
    table->births = table->stats.born - table->born_before;
    table->born_before = table->stats.born;
    if (table->cold != NULL && table->options.ttl != 0) {
        err = weir_table_sweep_cold(table, step, error);
    }
    if (err == WEIR_OK) {
        err = evict_due(table, step, oldest_in_use, error);
    }
    if (err != WEIR_OK) {
        return err;
    }
    for (uint64_t i = sweep_turns(table); i > 0; i--) {
        sweep_cell(table, table->sweep, step, oldest_in_use);
        table->sweep = cell_after(table, table->sweep);
    }
    mark_due(table, table->options.ttl != 0, step, oldest_in_use);
    if (table->admission != NULL) {
        weir_admission_end_step(table->admission, step);
    }
    return WEIR_OK;
}
