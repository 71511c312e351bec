/* Actions with something to learn, for the events of `weir synth`: how likely each is is planted.
 *
 * Users and items have factors of K numbers. An item's are partly those of its cluster, so that its
 * feature "cluster" tells of items with few events; a user's are mostly those of one of few crowds,
 * which no column names: what a user did before tells which. The logit of a *click* is a bias, the
 * item's appeal, the fit of both factors, and the hour's effect; a *like* comes after a click
 * alone, by another fit; *watched*, seconds, is a line in the click's logit with noise, not below
 * 0. No chance depends on what came before, so that what a model can reach is known: the metrics of
 * the planted logits themselves.
 *
 * All are functions of (seed, user, item, event), whatever the number of users. */
#ifndef WEIR_TOOLS_SYNTH_ACTIONS_H
#define WEIR_TOOLS_SYNTH_ACTIONS_H

#include "common/dataset_columns.h"
#include "tools/synth_model.h"

enum { WEIR_SYNTH_ACTIONS = 2, WEIR_SYNTH_WORDS = 3 }; /* action bits, watched, hour */

typedef struct {
    bool actions[WEIR_SYNTH_ACTIONS]; /* click, like */
    double logits[WEIR_SYNTH_ACTIONS];
    float watched; /* seconds, from 0 */
    uint32_t hour; /* 1 .. 24, UTC */
} weir_synth_action_t;

/* Of event `number` of a user. Call: local. */
weir_synth_action_t weir_synth_action_of(const weir_synth_t *synth, uint64_t seed, uint64_t user,
                                         uint64_t number, int64_t item, int64_t time);

/* The columns' names and sizes; `clusters` is [C], cluster + 1 of each item. */
void weir_synth_action_columns(uint64_t cluster_count, const uint32_t *clusters,
                               weir_dataset_columns_t *columns);

/* As the columns of an event. */
void weir_synth_action_words(const weir_synth_action_t *action, uint32_t words[WEIR_SYNTH_WORDS]);

#endif
