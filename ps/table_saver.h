/* The checkpoint of one server: its tables, cut at one moment and written while it serves.
 *
 * What the cuts copy is bounded: 24 MiB, and 1% of the tables' memory. Beyond that advance returns
 * only when enough has been written: the server is slower then, and loses nothing. With the 24 MiB
 * that are on their way to disk a save takes 64 MiB and 1%, at the most the rows of a step more. */
#ifndef WEIR_PS_TABLE_SAVER_H
#define WEIR_PS_TABLE_SAVER_H

#include "ps/model_tables.h"
#include "ps/snapshot.h"

typedef struct weir_table_saver weir_table_saver_t;

typedef struct {
    weir_table_t *const *tables; /* table_count of them; not owned, the array neither */
    uint32_t table_count;
    uint32_t index, ps;
    bool deltas; /* what is evicted is remembered for the next one */
} weir_table_saver_options_t;

WEIR_MUST_USE weir_err_t weir_table_saver_create(const weir_table_saver_options_t *options,
                                                 weir_table_saver_t **saver, weir_error_t *error);
/* Gives up what is under way. Accepts NULL; before the tables. */
void weir_table_saver_destroy(weir_table_saver_t *saver);

/* Remember the tables as they are, after `step`. One that was cut before and never opened is given
 * up. Errors: INVALID while a save is being written. Call: local. Threads: owner of the tables, as
 * for all that follow. */
WEIR_MUST_USE weir_err_t weir_table_saver_cut(weir_table_saver_t *saver, uint64_t step,
                                              weir_error_t *error);

/* Where the cut after `step` goes; `base` as of weir_snapshot_open. Errors: INVALID when there is
 * no such cut. */
WEIR_MUST_USE weir_err_t weir_table_saver_open(weir_table_saver_t *saver, uint64_t step,
                                               uint64_t base, const char *folder,
                                               weir_error_t *error);

/* Whether a save has been opened and is not written. */
bool weir_table_saver_writes(const weir_table_saver_t *saver);

/* A piece more of it. Written: `files` (table_count) are on disk, and the next may be cut. An error
 * ends the save. */
WEIR_MUST_USE weir_err_t weir_table_saver_advance(weir_table_saver_t *saver,
                                                  weir_snapshot_state_t *state,
                                                  weir_checkpoint_file_t *files,
                                                  weir_error_t *error);

typedef struct {
    uint64_t step;
    double seconds;       /* since the cut */
    double stalled;       /* of these, in which the server waited for room */
    uint64_t most_copies; /* bytes */
} weir_table_save_t;
/* Of the save that ended last. */
weir_table_save_t weir_table_saver_last(const weir_table_saver_t *saver);

#endif
