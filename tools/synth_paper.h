/* The synthetic stream of the paper (Zhai et al., ICML 2024, appendix C): records whose categories
 * come from a Dirichlet process, over a vocabulary that grows with time.
 *
 * Record r of R has `length` events and may use the first (0.4 + 0.6 r / R) of the items; item i is
 * in category i mod categories. A record has up to 5 categories with a random prior and a
 * concentration alpha, uniform in (1, 500); its event n, from 1, takes a fresh category from the
 * prior with probability alpha / (alpha + n - 1), else one of those so far in proportion to its
 * count; then a released item of the category, uniformly. Nothing but the order of events tells
 * anything: record r's event n is at second r * length + n - 1.
 *
 * Where the paper does not say (how many categories, the prior): their number is uniform in 1 .. 5,
 * they are drawn without replacement, the prior is uniform numbers, normalised. Every number comes
 * from a counter-based generator: a record is a pure function of (options, r). */
#ifndef WEIR_TOOLS_SYNTH_PAPER_H
#define WEIR_TOOLS_SYNTH_PAPER_H

#include "common/error.h"

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint64_t records, items, categories, length, seed;
} weir_synth_paper_options_t;

enum { WEIR_SYNTH_PAPER_MOST_CATEGORIES = 5 }; /* of a record */

/* Errors: INVALID for options out of range: records 1 .. 2^40, categories 1 .. items, items at
 * least 5 categories of and at most 2^31, length 2 .. 65536. */
WEIR_MUST_USE weir_err_t weir_synth_paper_check(const weir_synth_paper_options_t *options,
                                                weir_error_t *error);

/* Items 1 .. this may be in record r. */
uint64_t weir_synth_paper_released(const weir_synth_paper_options_t *options, uint64_t record);

/* items: `length` of them, 1 .. released. Call: local. */
void weir_synth_paper_record(const weir_synth_paper_options_t *options, uint64_t record,
                             int64_t *items);

#endif
