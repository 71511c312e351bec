#include "tools/synth_paper.h"

#include "common/rng.h"

#include <inttypes.h>
#include <stdbool.h>

weir_err_t weir_synth_paper_check(const weir_synth_paper_options_t *options, weir_error_t *error) {
    const uint64_t most_items = UINT64_C(1) << 31;
    if (options->records == 0 || options->records > UINT64_C(1) << 40) {
        return weir_errorf(error, WEIR_ERR_INVALID, "--records %" PRIu64 ": 1 to 2^40",
                           options->records);
    }
    if (options->categories == 0 || options->items > most_items ||
        options->items / 5 < options->categories) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "%" PRIu64 " items in %" PRIu64
                           " categories: 5 a category at least, 2^31 items at the most",
                           options->items, options->categories);
    }
    if (options->length < 2 || options->length > 65536) {
        return weir_errorf(error, WEIR_ERR_INVALID, "--length %" PRIu64 ": 2 to 65536",
                           options->length);
    }
    return WEIR_OK;
}

uint64_t weir_synth_paper_released(const weir_synth_paper_options_t *options, uint64_t record) {
    double share = 0.4 + 0.6 * (double)record / (double)options->records;
    return (uint64_t)(share * (double)options->items);
}

/* Words of a record, one after the other. */
typedef struct {
    weir_rng_key_t key;
    uint64_t record;
    uint32_t next;
} draws_t;

static uint32_t draw(draws_t *draws) {
    weir_philox_t words = weir_philox(draws->key, (uint32_t)draws->record,
                                      (uint32_t)(draws->record >> 32), draws->next / 4, 1);
    return words.word[draws->next++ % 4];
}

/* Of weights that sum to `total`: the index of one, in their proportion. */
static size_t choose(draws_t *draws, const double *weights, size_t count, double total) {
    double at = weir_uniform01(draw(draws)) * total;
    for (size_t i = 0; i + 1 < count; i++) {
        at -= weights[i];
        if (at < 0.0) {
            return i;
        }
    }
    return count - 1;
}

typedef struct {
    uint64_t categories[WEIR_SYNTH_PAPER_MOST_CATEGORIES];
    double prior[WEIR_SYNTH_PAPER_MOST_CATEGORIES];  /* sums to 1 */
    double counts[WEIR_SYNTH_PAPER_MOST_CATEGORIES]; /* events so far */
    size_t count;
    double alpha;
} tastes_t;

static void draw_tastes(const weir_synth_paper_options_t *options, draws_t *draws,
                        tastes_t *tastes) {
    double total = 0.0;
    size_t wanted = 1 + weir_uniform_below(draw(draws), WEIR_SYNTH_PAPER_MOST_CATEGORIES);
    *tastes = (tastes_t){.count = 0};
    wanted = wanted < options->categories ? wanted : (size_t)options->categories;
    while (tastes->count < wanted) {
        uint64_t category = weir_uniform_below(draw(draws), (uint32_t)options->categories);
        bool there = false;
        for (size_t i = 0; i < tastes->count; i++) {
            there = there || tastes->categories[i] == category;
        }
        if (!there) {
            tastes->categories[tastes->count++] = category;
        }
    }
    for (size_t i = 0; i < tastes->count; i++) {
        tastes->prior[i] = weir_uniform01(draw(draws)) + 1e-9;
        total += tastes->prior[i];
    }
    for (size_t i = 0; i < tastes->count; i++) {
        tastes->prior[i] /= total;
    }
    tastes->alpha = 1.0 + 499.0 * weir_uniform01(draw(draws));
}

void weir_synth_paper_record(const weir_synth_paper_options_t *options, uint64_t record,
                             int64_t *items) {
    draws_t draws = {.key = weir_rng_key(options->seed, WEIR_STREAM_SYNTH), .record = record};
    uint64_t released = weir_synth_paper_released(options, record);
    tastes_t tastes;
    draw_tastes(options, &draws, &tastes);
    for (uint64_t n = 1; n <= options->length; n++) {
        double fresh = tastes.alpha / (tastes.alpha + (double)n - 1.0);
        size_t taste = weir_uniform01(draw(&draws)) < fresh
                           ? choose(&draws, tastes.prior, tastes.count, 1.0)
                           : choose(&draws, tastes.counts, tastes.count, (double)n - 1.0);
        tastes.counts[taste] += 1.0;
        /* Items of the category among 0 .. released - 1: category + k * categories. */
        uint64_t category = tastes.categories[taste];
        uint64_t choices = (released - category + options->categories - 1) / options->categories;
        uint64_t pick = weir_uniform_below(draw(&draws), (uint32_t)choices);
        items[n - 1] = (int64_t)(category + pick * options->categories) + 1;
    }
}
