/* weir inspect stats: how the rows of a table look, in one pass. Histograms have a bucket for each
 * power of two. */
#include "common/hash.h"
#include "tools/human.h"
#include "tools/inspect.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of numbers from 0 on: 0, then [2^k, 2^(k + 1)). */
enum { NORM_LEAST = -24, BUCKETS = 66 };

typedef struct {
    uint64_t buckets[BUCKETS]; /* 0: zero; 1 + k - least: [2^k, 2^(k + 1)) */
    int least;
} histogram_t;

typedef struct {
    const weir_reader_table_t *table;
    uint64_t step; /* of the checkpoint */
    uint64_t rows, zero, never_updated, with_nan, with_infinity;
    double norm_sum, norm_squares;
    uint64_t count_sum;
    histogram_t norms, ages, counts;
} stats_t;

static void add(histogram_t *histogram, double value) {
    int bucket = 0;
    if (value > 0) {
        bucket = ilogb(value) - histogram->least + 1;
        bucket = bucket < 1 ? 1 : bucket >= BUCKETS ? BUCKETS - 1 : bucket;
    }
    histogram->buckets[bucket]++;
}

static bool add_row(void *argument, const weir_reader_row_t *row, const float *values) {
    stats_t *stats = argument;
    double squares = 0;
    bool nan = false, infinite = false;
    for (uint32_t i = 0; i < stats->table->dim; i++) {
        double value = (double)values[i];
        nan = nan || isnan(value);
        infinite = infinite || isinf(value);
        squares += value * value;
    }
    stats->rows++;
    stats->with_nan += nan ? 1 : 0;
    stats->with_infinity += infinite ? 1 : 0;
    stats->zero += squares == 0 ? 1 : 0;
    stats->never_updated += row->count == 0 ? 1 : 0;
    stats->count_sum += row->count;
    if (!nan && !infinite) {
        stats->norm_sum += sqrt(squares);
        stats->norm_squares += squares;
        add(&stats->norms, sqrt(squares));
    }
    add(&stats->ages, row->last_step > stats->step ? 0 : (double)(stats->step - row->last_step));
    add(&stats->counts, (double)row->count);
    return true;
}

/* ---- output ---- */

static json_t *histogram_json(const histogram_t *histogram) {
    json_t *list = json_array();
    for (int b = 0; b < BUCKETS; b++) {
        if (histogram->buckets[b] > 0) {
            (void)json_array_append_new(
                list,
                json_pack("{s:f, s:I}", "from", b == 0 ? 0.0 : ldexp(1.0, b - 1 + histogram->least),
                          "rows", (json_int_t)histogram->buckets[b]));
        }
    }
    return list;
}

static void print_histogram(const char *title, const histogram_t *histogram, uint64_t rows) {
    static const char bar[] = "########################################";
    (void)printf("\n%s\n", title);
    for (int b = 0; b < BUCKETS; b++) {
        char count[32];
        uint64_t found = histogram->buckets[b];
        if (found > 0) {
            (void)printf("  from %-12.6g %14s  %.*s\n",
                         b == 0 ? 0.0 : ldexp(1.0, b - 1 + histogram->least),
                         weir_human_count((double)found, count),
                         (int)ceil(40.0 * (double)found / (double)rows), bar);
        }
    }
}

static void print_stats(const stats_t *stats) {
    char rows[32];
    double finite = (double)(stats->rows - stats->with_nan - stats->with_infinity);
    double mean = finite > 0 ? stats->norm_sum / finite : 0;
    (void)printf("table %s: %s rows after step %" PRIu64 "\n", stats->table->name,
                 weir_human_count((double)stats->rows, rows), stats->step);
    (void)printf("  norm: mean %.6g; updates of a row: mean %.6g\n", mean,
                 stats->rows > 0 ? (double)stats->count_sum / (double)stats->rows : 0);
    (void)printf("  dead: %" PRIu64 " of zeros, %" PRIu64 " never updated\n", stats->zero,
                 stats->never_updated);
    (void)printf("  with NaN: %" PRIu64 ", with infinities: %" PRIu64 "\n", stats->with_nan,
                 stats->with_infinity);
    print_histogram("norm (L2) of a row", &stats->norms, stats->rows);
    print_histogram("age: steps since its last use", &stats->ages, stats->rows);
    print_histogram("updates of a row", &stats->counts, stats->rows);
}

int weir_inspect_stats(int argc, char **argv) {
    static const struct argp_option options[] = {
        WEIR_INSPECT_OPTION_JSON, WEIR_INSPECT_OPTION_TABLE, {0}};
    weir_inspect_t arguments;
    const weir_reader_table_t *table = NULL;
    weir_inspect_parse(argc, argv, options, "WHERE",
                       "How the rows of a table look: norms, ages and counts as histograms, rows "
                       "that are dead, values that are not finite. Reads the table once.",
                       1, 1, &arguments);
    weir_reader_t *reader = weir_inspect_open(arguments.words[0], arguments.table, &table);
    stats_t stats = {
        .table = table, .step = weir_reader_about(reader)->step, .norms = {.least = NORM_LEAST}};
    weir_inspect_each(reader, table, 0, WEIR_READER_SLOTS, add_row, &stats);
    if (arguments.json) {
        weir_inspect_print_json(json_pack(
            "{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:I, s:o, s:o, s:o}", "table",
            table->name, "step", (json_int_t)stats.step, "rows", (json_int_t)stats.rows, "zero",
            (json_int_t)stats.zero, "never_updated", (json_int_t)stats.never_updated, "with_nan",
            (json_int_t)stats.with_nan, "with_infinity", (json_int_t)stats.with_infinity,
            "norm_sum", stats.norm_sum, "norm_squares", stats.norm_squares, "updates",
            (json_int_t)stats.count_sum, "norms", histogram_json(&stats.norms), "ages",
            histogram_json(&stats.ages), "counts", histogram_json(&stats.counts)));
    } else {
        print_stats(&stats);
    }
    weir_reader_close(reader);
    return 0;
}
