/* What the files of ps/table*.c share. */
#ifndef WEIR_PS_TABLE_INTERNAL_H
#define WEIR_PS_TABLE_INTERNAL_H

#include "ps/arena.h"
#include "ps/cold_store.h"
#include "ps/index.h"
#include "ps/row_update.h"
#include "ps/table.h"
#include "ps/table_removed.h"

#include <string.h>

enum { WEIR_TABLE_BATCH = 256 /* keys that are found, then gathered */ };

/* Keys whose cold rows are being read. */
typedef struct {
    weir_cold_ticket_t *ticket;
    weir_key_t *keys; /* count of them; owned */
    size_t count;
    uint64_t step; /* of the pull that wants them */
} weir_table_fetch_t;

struct weir_table {
    weir_table_options_t options;
    weir_row_layout_t layout;
    weir_row_update_t update;
    weir_arena_t arena; /* of the index */
    weir_index_t index;
    weir_row_store_t store;
    weir_admission_t *admission;  /* NULL: every key is admitted */
    weir_cold_store_t *cold;      /* NULL: evicted rows are forgotten */
    float *scratch;               /* 2 dim floats */
    size_t ahead;                 /* rows that are prefetched ahead of a gather */
    uint64_t born_before, births; /* rows born until the last step ended, and in that step */
    uint64_t oldest_in_use;       /* rows last used then or later are; the largest: no pull yet */
    weir_table_stats_t stats;     /* the counts of what happened */

    /* Cells, ps/table_evict.c. */
    uint64_t row_budget;    /* of all servers together; 0: no limit */
    uint64_t cells_of_all;  /* cells of all servers */
    uint64_t first_cell;    /* of them, the first of this table */
    bool *touched;          /* by cell: rows were born there since the last end of a step */
    bool *due;              /* by cell: evicted from at the end of the current step */
    uint32_t *touched_list; /* the cells that are touched; capacity: all */
    uint32_t *due_list;
    uint32_t touched_count, due_count;
    uint32_t sweep;      /* the next cell to be swept for expired rows */
    uint64_t cold_swept; /* the last step at whose end the cold store was swept; 0: none */

    /* Scratch of evictions and of cold reads. */
    struct weir_table_victim *victims;
    size_t victim_capacity;
    struct weir_table_victim *departures; /* chosen, of several cells */
    size_t departure_count, departure_capacity;
    weir_key_t *cold_keys;
    char *cold_records; /* of weir_table_cold_bytes each */
    bool *cold_found;
    size_t cold_capacity;
    weir_table_fetch_t *fetches;
    size_t fetch_count, fetch_capacity;
    size_t restored; /* rows in cold_records that wait to be written, while a table is restored */
    weir_table_removed_t removed; /* evicted, to be said in the next delta */
    uint64_t both; /* rows in memory whose key the cold store holds too: their flag is set */
    struct weir_table_cut *cut; /* of a snapshot under way, or NULL */
};

/* A cold row: its record and its metadata. */
static inline size_t weir_table_cold_bytes(const weir_table_t *table) {
    return table->layout.record_bytes + sizeof(weir_row_metadata_t);
}

/* Whether a row is as if it had never been born. One that a step under way has pulled is not,
 * however far ahead the step of another worker is (ssp, asp); nor is one whose last step is beyond
 * what 32 bits can say. */
static inline bool weir_table_is_expired(const weir_table_t *table,
                                         const weir_row_metadata_t *metadata, uint64_t step) {
    return table->options.ttl != 0 && metadata->last_step < table->oldest_in_use &&
           metadata->last_step != UINT32_MAX && metadata->last_step + table->options.ttl < step;
}

static inline uint32_t weir_table_saturate(uint64_t number) {
    return number > UINT32_MAX ? UINT32_MAX : (uint32_t)number;
}

/* A record into a row's place. */
static inline void weir_table_write(weir_table_t *table, weir_row_handle_t handle,
                                    const void *value, const void *rest) {
    memcpy(weir_row_store_value(&table->store, handle), value, table->store.value_bytes);
    memcpy(weir_row_store_rest(&table->store, handle), rest, table->store.rest_bytes);
}

/* A row as the cold store keeps it: record, then metadata. */
static inline void weir_table_pack(const weir_table_t *table, char *record, const void *value,
                                   const void *rest, const weir_row_metadata_t *metadata) {
    memcpy(record, value, table->store.value_bytes);
    memcpy(record + table->store.value_bytes, rest, table->store.rest_bytes);
    memcpy(record + table->layout.record_bytes, metadata, sizeof *metadata);
}

/* Every cache line that `bytes` > 0 from `start` touch. */
static inline void weir_table_prefetch_lines(const void *start, size_t bytes) {
    const char *line = (const char *)start - (uintptr_t)start % 64;
    for (; line < (const char *)start + bytes; line += 64) {
        __builtin_prefetch(line);
    }
}

/* A place for a key that is not there, record undefined, metadata zero; everything that can fail
 * comes first. */
WEIR_MUST_USE weir_err_t weir_table_add(weir_table_t *table, weir_key_t key,
                                        weir_row_handle_t *handle, weir_error_t *error);
/* Forget a row that is in memory. */
void weir_table_drop(weir_table_t *table, weir_key_t key, weir_row_handle_t handle);

/* ---- ps/table_evict.c ---- */

WEIR_MUST_USE weir_err_t weir_table_cells_init(weir_table_t *table, weir_error_t *error);
void weir_table_cells_fini(weir_table_t *table);
/* Cells that a budget of `rows` rows needs within a slot, as bits. */
uint32_t weir_table_cell_bits(uint64_t rows);
/* A row was added. */
void weir_table_touch_cell(weir_table_t *table, weir_key_t key);
/* What is due at the end of the next step, of the cells that gained rows. */
void weir_table_mark_due(weir_table_t *table);
/* Rows that a cell may hold. */
uint64_t weir_table_cell_limit(const weir_table_t *table, uint32_t cell);

/* Bytes of what evictions need: flags of cells, and scratch. */
uint64_t weir_table_cells_bytes(const weir_table_t *table);

/* ---- ps/table_cut.c ---- */

/* A row is about to change, or to go. */
void weir_table_cut_keep(struct weir_table_cut *cut, weir_key_t key, weir_row_handle_t handle);
/* A row has come. */
void weir_table_cut_born(struct weir_table_cut *cut, weir_row_handle_t handle);

static inline void weir_table_will_change(weir_table_t *table, weir_key_t key,
                                          weir_row_handle_t handle) {
    if (table->cut != NULL) {
        weir_table_cut_keep(table->cut, key, handle);
    }
}

/* ---- ps/table_cold.c ---- */

/* weir_table_take_in. `now`: the turn of the pull has come; what has expired at `step` is removed
 * from the cold store, since its key may be born again. */
WEIR_MUST_USE weir_err_t weir_table_warm(weir_table_t *table, const weir_key_t *keys, size_t count,
                                         uint64_t step, bool now, weir_row_handle_t *handles,
                                         weir_error_t *error);
/* The end of `step`: remove from the cold store rows that have expired and are not in memory, a
 * part of the slots in each step and all of them within ttl steps. */
WEIR_MUST_USE weir_err_t weir_table_sweep_cold(weir_table_t *table, uint64_t step,
                                               weir_error_t *error);
/* Bytes of scratch, and of keys whose rows are being read. */
uint64_t weir_table_cold_scratch_bytes(const weir_table_t *table);
/* Values of those keys that have no row in memory (WEIR_ROW_NONE) and are cold; the others' stay.
 */
WEIR_MUST_USE weir_err_t weir_table_peek_cold(weir_table_t *table, const weir_key_t *keys,
                                              size_t count, uint64_t step,
                                              const weir_row_handle_t *handles, char *values,
                                              weir_error_t *error);
/* Take in what was read ahead for the pulls of `step` and of steps before it. */
WEIR_MUST_USE weir_err_t weir_table_finish_fetches(weir_table_t *table, uint64_t step,
                                                   weir_error_t *error);
void weir_table_cold_fini(weir_table_t *table);
/* Room for `count` cold rows in cold_keys, cold_records, cold_found. */
WEIR_MUST_USE weir_err_t weir_table_reserve_cold(weir_table_t *table, size_t count,
                                                 weir_error_t *error);
/* Write the first `count` of cold_keys and cold_records; `there`: the store holds all of these
 * keys. */
WEIR_MUST_USE weir_err_t weir_table_put_cold(weir_table_t *table, size_t count, bool there,
                                             weir_error_t *error);

#endif
