/* The log of keys that a table evicted since a step of which there is a checkpoint: what a delta
 * must take away from its base. Rows that expire are not logged: a delta says the ttl, and its
 * reader leaves them out. Nor are rows that went to a cold store: they are still there.
 *
 * It takes 8 bytes a key and is bounded. Past the bound it is *lost*: the next checkpoint is full.
 *
 * A save is believed when it is published, which is known at the next one alone. So the log goes
 * back to a *base*, and has a *mark* at the step saved last, which becomes the base when the next
 * delta is to build on it. */
#ifndef WEIR_PS_TABLE_REMOVED_H
#define WEIR_PS_TABLE_REMOVED_H

#include "ps/table.h"

typedef struct {
    weir_key_t *keys; /* count, in order of time; owned */
    size_t count, capacity, limit;
    bool open;           /* since mark was called first */
    bool lost;           /* past the limit, or no memory */
    uint64_t base, mark; /* steps */
    size_t marked;       /* keys logged before the mark */
    bool holds;          /* a save is under way, of the keys before `held` */
    size_t held;
} weir_table_removed_t;

/* A key lost its row. */
void weir_table_removed_add(weir_table_removed_t *removed, weir_key_t key);
void weir_table_removed_fini(weir_table_removed_t *removed);

/* A save of the table as it is now, after `step`, begins: what removed_since gives and mark_removed
 * marks is the log as it is now, whatever comes after. */
void weir_table_hold_removed(weir_table_t *table, uint64_t step);

/* The table was saved at `step`: a later delta may build on that. From the first call on keys are
 * logged, up to 1% of the table's memory, at least 1 MiB. Call: local. Threads: owner. */
void weir_table_mark_removed(weir_table_t *table, uint64_t step);

/* Keys evicted since `base` that have no row now, in order of hash64(key), each once; the caller
 * frees. False: that is not known (or no memory), all must be saved. What lies before `base` is
 * forgotten. Call: local. Threads: owner. */
bool weir_table_removed_since(weir_table_t *table, uint64_t base, weir_key_t **keys, size_t *count);

#endif
