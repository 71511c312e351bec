/* How many users a second does evaluation rank against a whole catalogue?
 *
 *   bench_rank USERS ITEMS WIDTH
 *
 * The rank of one target among all items for each user, as evaluation finds it (worker/rank.h);
 * nothing is sorted. Verified first, for some users, against scores in float64. One JSON line: the
 * best of at least three passes, and the products' rate as a fraction of the best large product of
 * the same run. */
#include "bench/measure.h"
#include "common/clock.h"
#include "common/version.h"
#include "worker/rank.h"
#include "worker/score_pass.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHECKED = 16 };

typedef struct {
    size_t users, items, width;
    weir_real_t *encoded, *rows, *target_rows, *scores;
    int64_t *targets;
    size_t *excluded_offsets;
    uint64_t *counts;
} bench_t;

static void stop(const char *what) {
    (void)fprintf(stderr, "bench_rank: %s\n", what);
    exit(EXIT_FAILURE);
}

static void prepare(bench_t *bench) {
    size_t width = bench->width;
    bench->encoded = weir_measure_numbers(bench->users * width, 1.0, 1);
    bench->rows = weir_measure_numbers(bench->items * width, 1.0, 2);
    bench->target_rows = weir_measure_allocate(bench->users * width, sizeof(weir_real_t));
    bench->scores = weir_measure_allocate(bench->users, sizeof(weir_real_t));
    bench->targets = weir_measure_allocate(bench->users, sizeof(int64_t));
    bench->excluded_offsets = weir_measure_allocate(bench->users + 1, sizeof(size_t));
    bench->counts = weir_measure_allocate(bench->users, sizeof(uint64_t));
    weir_rank_normalise(bench->rows, bench->items, width);
    for (size_t u = 0; u < bench->users; u++) {
        bench->targets[u] = (int64_t)(1 + u * 7919 % bench->items);
        memcpy(bench->target_rows + u * width,
               bench->rows + (size_t)(bench->targets[u] - 1) * width, width * sizeof(weir_real_t));
    }
}

static void rank(bench_t *bench) {
    weir_error_t error = {0};
    memset(bench->counts, 0, bench->users * sizeof *bench->counts);
    weir_similarity_t similarity = weir_similarity_dot(bench->width);
    if (weir_score_own(bench->encoded, bench->target_rows, bench->users, similarity, bench->scores,
                       &error) != WEIR_OK ||
        weir_rank_count(bench->encoded, bench->users, similarity, bench->rows, 1, bench->items,
                        bench->targets, bench->scores, bench->excluded_offsets, NULL, bench->counts,
                        &error) != WEIR_OK) {
        stop(error.message);
    }
}

static double exact_score(const bench_t *bench, size_t user, size_t item) {
    double sum = 0.0;
    for (size_t d = 0; d < bench->width; d++) {
        sum += (double)bench->encoded[user * bench->width + d] *
               (double)bench->rows[item * bench->width + d];
    }
    return sum;
}

/* Items within rounding of the target's score may count or not. */
static void verify(bench_t *bench) {
    rank(bench);
    for (size_t u = 0; u < bench->users && u < CHECKED; u++) {
        size_t target = (size_t)bench->targets[u] - 1;
        double wanted = exact_score(bench, u, target);
        uint64_t least = 0, most = 0;
        for (size_t item = 0; item < bench->items; item++) {
            double score = exact_score(bench, u, item);
            least += item != target && score > wanted + 1e-5 ? 1 : 0;
            most += item != target && score > wanted - 1e-5 ? 1 : 0;
        }
        if (bench->counts[u] < least || bench->counts[u] > most) {
            stop("not verified: a rank differs from that of exact scores");
        }
    }
}

static size_t number(const char *text) {
    char *end = NULL;
    size_t value = strtoul(text, &end, 10);
    if (end == text || *end != '\0' || value == 0 || value > 1 << 24) {
        stop("usage: bench_rank USERS ITEMS WIDTH");
    }
    return value;
}

int main(int argc, char **argv) {
    char machine[WEIR_MEASURE_MACHINE];
    if (argc != 4) {
        stop("usage: bench_rank USERS ITEMS WIDTH");
    }
    bench_t bench = {.users = number(argv[1]), .items = number(argv[2]), .width = number(argv[3])};
    prepare(&bench);
    verify(&bench);
    double peak = weir_measure_gemm_peak(), best = 1e30, began = weir_clock_seconds();
    for (int pass = 0; pass < 3 || weir_clock_seconds() - began < 2.0; pass++) {
        double started = weir_clock_seconds();
        rank(&bench);
        best = fmin(best, weir_clock_seconds() - started);
    }
    double flops = 2.0 * (double)bench.users * (double)bench.items * (double)bench.width;
    weir_measure_machine(machine);
    (void)printf("{\"bench\": \"rank\", \"side\": \"weir\", \"users\": %zu, \"items\": %zu, "
                 "\"width\": %zu, \"users_per_second\": %.0f, \"fraction\": %.3f, "
                 "\"peak_gflops\": %.1f, \"version\": \"%s\", \"machine\": \"%s\"}\n",
                 bench.users, bench.items, bench.width, (double)bench.users / best,
                 flops * 1e-9 / best / peak, peak, WEIR_VERSION, machine);
    return EXIT_SUCCESS;
}
