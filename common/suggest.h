/* "Did you mean": the known name nearest to a word that a person wrote. */
#ifndef WEIR_COMMON_SUGGEST_H
#define WEIR_COMMON_SUGGEST_H

#include <stddef.h>

typedef struct {
    const char *word;    /* what was written */
    const char *nearest; /* the best candidate so far, or NULL when none is near enough */
    size_t distance;     /* of nearest; only a smaller one replaces it */
} weir_suggest_t;

/* Begin a search for `word`. A candidate is near enough when at most a third of the word (and at
 * least two letters) has to change: insertions, deletions, substitutions, swaps of neighbours.
 * Call: local. Threads: any. */
void weir_suggest_init(weir_suggest_t *suggest, const char *word);

/* Offer a known name; the first of equally near ones is kept. `candidate` must outlive `suggest`.
 * Cost: product of the lengths. Names beyond 127 bytes are never near. */
void weir_suggest_offer(weir_suggest_t *suggest, const char *candidate);

#endif
