/* A table as it was between two steps, read while later steps change it.
 *
 * From weir_table_cut_begin on, a row is copied before its first change, unless the last pass has
 * gone past it. What passes give are the rows of that moment, in order of hash64(key), whatever has
 * been born, updated, evicted, swept or split since. Beside the table a cut takes a bit for each
 * row and the copies: rows changed before they were given. */
#ifndef WEIR_PS_TABLE_CUT_H
#define WEIR_PS_TABLE_CUT_H

#include "ps/table.h"

typedef struct weir_table_cut weir_table_cut_t;

/* The table's state after `step`, without the rows that have expired at step + 1. A table has one
 * cut at a time. Errors: memory, the cold store's; INVALID when there is one. Call: local. Threads:
 * owner of the table, as for all that follow. */
WEIR_MUST_USE weir_err_t weir_table_cut_begin(weir_table_t *table, uint64_t step,
                                              weir_table_cut_t **cut, weir_error_t *error);
/* Accepts NULL. Before the table is destroyed. */
void weir_table_cut_end(weir_table_cut_t *cut);

/* Start a pass: at the most one, and then the last one. */
WEIR_MUST_USE weir_err_t weir_table_cut_pass(weir_table_cut_t *cut, bool last, weir_error_t *error);

/* The next rows of the pass, about a sub-table of the index (WEIR_INDEX_SUBTABLE_ENTRIES); *count
 * 0: there are no more. In order of their hashes in the last pass, in any order in the first. They
 * are valid until the table or the cut is touched again. Errors: memory, also of a copy that could
 * not be made since; the cold store's. */
WEIR_MUST_USE weir_err_t weir_table_cut_next(weir_table_cut_t *cut, const weir_table_row_t **rows,
                                             size_t *count, weir_error_t *error);

/* How many rows a pass gives, where that is known without one: neither can rows expire nor are any
 * in a cold store. */
bool weir_table_cut_count(const weir_table_cut_t *cut, uint64_t *rows);

/* Rows that were not used after `base` need not be kept: they will not be asked for. */
void weir_table_cut_since(weir_table_cut_t *cut, uint64_t base);

/* Whether the key had a row, in memory. Of keys that the last pass has not given yet. */
bool weir_table_cut_has(const weir_table_cut_t *cut, weir_key_t key);

/* Bytes that the cut takes now. */
uint64_t weir_table_cut_bytes(const weir_table_cut_t *cut);

#endif
