/* Rows: one by its key, or all in order. */
#include "common/hash.h"
#include "reader/reader_internal.h"

#include <stdlib.h>
#include <string.h>

struct weir_reader_rows {
    weir_reader_chain_t chain;
    weir_slot_t next, end; /* slots not yet entered */
    bool inside;           /* a slot, of which more may come */
};

uint32_t weir_reader_slot(uint64_t key) {
    return weir_slot_of_hash(weir_hash64(key));
}

/* What the reader was given must be its own. */
static weir_reader_table_own_t *own_table(weir_reader_t *reader, const weir_reader_table_t *table) {
    for (size_t i = 0; i < reader->table_count; i++) {
        if (&reader->tables[i].about == table) {
            return &reader->tables[i];
        }
    }
    return NULL;
}

static void fill_row(const weir_snapshot_file_t *file, uint64_t number, weir_reader_row_t *row) {
    *row = (weir_reader_row_t){.key = file->keys[number],
                               .last_step = file->last_steps[number],
                               .count = file->counts[number],
                               .saved = file->step};
    for (uint32_t c = 0; c < file->column_count; c++) {
        row->columns[c] = file->columns[c].values + number * file->columns[c].bytes;
    }
}

/* ---- one ---- */

/* The key among those of [begin, end), which are in the order of hashes. Each that is looked at is
 * checked before. */
static weir_err_t find_key(weir_reader_chain_t *chain, const weir_snapshot_file_t *file,
                           const uint64_t *keys, uint64_t begin, uint64_t end, uint64_t key,
                           bool *found, uint64_t *number, weir_error_t *error) {
    uint64_t hash = weir_hash64(key);
    *found = false;
    while (begin < end && !*found) {
        uint64_t middle = begin + (end - begin) / 2;
        weir_err_t err =
            weir_reader_chain_check(chain, file, &keys[middle], sizeof keys[middle], error);
        if (err != WEIR_OK) {
            return err;
        }
        uint64_t there = weir_hash64(keys[middle]);
        if (there == hash) {
            *found = true;
            *number = middle;
        } else if (there < hash) {
            begin = middle + 1;
        } else {
            end = middle;
        }
    }
    return WEIR_OK;
}

static weir_err_t check_row(weir_reader_chain_t *chain, const weir_snapshot_file_t *file,
                            uint64_t number, weir_error_t *error) {
    weir_err_t err = weir_reader_chain_check(chain, file, &file->last_steps[number],
                                             sizeof file->last_steps[number], error);
    if (err == WEIR_OK) {
        err = weir_reader_chain_check(chain, file, &file->counts[number],
                                      sizeof file->counts[number], error);
    }
    for (uint32_t c = 0; c < file->column_count && err == WEIR_OK; c++) {
        const weir_snapshot_column_t *column = &file->columns[c];
        err = weir_reader_chain_check(chain, file, column->values + number * column->bytes,
                                      column->bytes, error);
    }
    return err;
}

/* What one file says of a key: `said` something, and its row where it is a live one. */
static weir_err_t ask_file(weir_reader_chain_t *chain, const weir_snapshot_level_t *level,
                           weir_slot_t slot, uint64_t key, bool *said, bool *found,
                           uint64_t *number, weir_error_t *error) {
    const weir_snapshot_file_t *file = level->file;
    const uint64_t *offsets = file->slot_offsets + (slot - file->first_slot);
    uint64_t gone;
    weir_err_t err = weir_reader_chain_check(chain, file, offsets, 2 * sizeof *offsets, error);
    if (err == WEIR_OK) {
        err = find_key(chain, file, file->keys, offsets[0], offsets[1], key, said, number, error);
    }
    *found = *said;
    if (err == WEIR_OK && *found) {
        err = check_row(chain, file, *number, error);
        *found = file->last_steps[*number] >= level->keep_from;
    } else if (err == WEIR_OK && file->removed_count > 0) {
        err = find_key(chain, file, file->removed, 0, file->removed_count, key, said, &gone, error);
    }
    return err;
}

int weir_reader_get(weir_reader_t *reader, const weir_reader_table_t *table, uint64_t key,
                    weir_reader_row_t *row, weir_reader_error_t *error) {
    weir_error_t own = {0};
    weir_reader_table_own_t *from = own_table(reader, table);
    if (from == NULL) {
        return weir_reader_fail(
            weir_errorf(&own, WEIR_ERR_INVALID, "the table is of another reader"), &own, error);
    }
    weir_slot_t slot = weir_reader_slot(key);
    size_t levels = weir_snapshot_chain_levels(from->chain.chain, slot, from->chain.levels);
    weir_err_t err = WEIR_OK;
    bool said = false, found = false;
    uint64_t number = 0;
    size_t l = 0;
    for (; l < levels && err == WEIR_OK && !said; l++) {
        err =
            ask_file(&from->chain, &from->chain.levels[l], slot, key, &said, &found, &number, &own);
    }
    if (err == WEIR_OK && !found) {
        err = weir_errorf(&own, WEIR_ERR_NOT_FOUND, "table %s has no row of key %llu", table->name,
                          (unsigned long long)key);
    }
    if (err == WEIR_OK) {
        fill_row(from->chain.levels[l - 1].file, number, row);
    }
    return weir_reader_fail(err, &own, error);
}

/* ---- all ---- */

int weir_reader_rows_open(weir_reader_t *reader, const weir_reader_table_t *table, uint32_t first,
                          uint32_t end, weir_reader_rows_t **rows, weir_reader_error_t *error) {
    weir_error_t own = {0};
    if (own_table(reader, table) == NULL || first > end || end > WEIR_SLOT_COUNT) {
        return weir_reader_fail(weir_errorf(&own, WEIR_ERR_INVALID,
                                            "there are no slots %u to %u of that table", first,
                                            end),
                                &own, error);
    }
    weir_reader_rows_t *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return weir_reader_fail(weir_errorf(&own, WEIR_ERR_MEMORY, "out of memory to read rows"),
                                &own, error);
    }
    made->next = first;
    made->end = end;
    weir_err_t err = first == end
                         ? WEIR_OK
                         : weir_reader_chain_open(reader, table->name, first, end,
                                                  &reader->blocks_checked, &made->chain, &own);
    if (err != WEIR_OK) {
        free(made);
        return weir_reader_fail(err, &own, error);
    }
    *rows = made;
    return WEIR_READER_OK;
}

/* Every block in which the slot's rows and removed keys lie. */
static weir_err_t check_slot(weir_reader_chain_t *chain, const weir_snapshot_file_t *file,
                             weir_slot_t slot, weir_error_t *error) {
    uint64_t begin, end, gone, gone_end;
    const uint64_t *offsets = file->slot_offsets + (slot - file->first_slot);
    weir_err_t err = weir_reader_chain_check(chain, file, offsets, 2 * sizeof *offsets, error);
    if (err == WEIR_OK) { /* all of them: where a slot's begin is found among them */
        err = weir_reader_chain_check(chain, file, file->removed,
                                      file->removed_count * sizeof(uint64_t), error);
    }
    if (err != WEIR_OK) {
        return err;
    }
    weir_snapshot_file_slot(file, slot, &begin, &end, &gone, &gone_end);
    uint64_t rows = end - begin;
    const uint64_t *const numbers[] = {file->keys, file->last_steps, file->counts};
    for (size_t i = 0; i < 3 && err == WEIR_OK; i++) {
        err = weir_reader_chain_check(chain, file, numbers[i] + begin, rows * sizeof(uint64_t),
                                      error);
    }
    for (uint32_t c = 0; c < file->column_count && err == WEIR_OK; c++) {
        const weir_snapshot_column_t *column = &file->columns[c];
        err = weir_reader_chain_check(chain, file, column->values + begin * column->bytes,
                                      rows * column->bytes, error);
    }
    return err;
}

static weir_err_t enter_slot(weir_reader_chain_t *chain, weir_slot_t slot, weir_error_t *error) {
    const weir_snapshot_file_t *newest;
    size_t levels = weir_snapshot_chain_levels(chain->chain, slot, chain->levels);
    weir_err_t err = WEIR_OK;
    for (size_t l = 0; l < levels && err == WEIR_OK; l++) {
        err = check_slot(chain, chain->levels[l].file, slot, error);
    }
    return err == WEIR_OK ? weir_snapshot_chain_enter(chain->chain, slot, &newest, error) : err;
}

int weir_reader_rows_next(weir_reader_rows_t *rows, weir_reader_row_t *row,
                          weir_reader_error_t *error) {
    for (;;) {
        weir_snapshot_place_t place;
        weir_error_t own = {0};
        if (rows->inside && weir_snapshot_chain_next(rows->chain.chain, &place)) {
            fill_row(place.file, place.row, row);
            return 1;
        }
        if (rows->next == rows->end) {
            return 0;
        }
        rows->inside = false;
        weir_err_t err = enter_slot(&rows->chain, rows->next, &own);
        if (err != WEIR_OK) {
            return weir_reader_fail(err, &own, error);
        }
        rows->inside = true;
        rows->next++;
    }
}

void weir_reader_rows_close(weir_reader_rows_t *rows) {
    if (rows != NULL) {
        weir_reader_chain_close(&rows->chain);
        free(rows);
    }
}
