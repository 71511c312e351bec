/* How many users a second does evaluation rank against a whole catalogue?
 *
 *   bench_rank USERS ITEMS WIDTH
 *
 * The rank of one target among all items for each user, as evaluation finds it (worker/rank.h);
 * nothing is sorted. Beside it the same from all scores, without screening (worker/screen.h), and
 * the ten best items of each user (worker/top_items.h). Verified first: for some users ranks
 * against scores in float64, for all against those from all scores, and for some the lists. One
 * JSON line: the best of at least three passes of each in turn, and the rate of ranking's products
 * as a fraction of the best large float32 product of the same run. */
#include "bench/measure.h"
#include "common/clock.h"
#include "common/version.h"
#include "worker/rank.h"
#include "worker/score_pass.h"
#include "worker/top_items.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHECKED = 16, LISTED = 10 };

typedef struct {
    size_t users, items, width;
    weir_real_t *encoded, *rows, *target_rows, *scores;
    int64_t *targets;
    size_t *excluded_offsets;
    uint64_t *counts, *scored_counts;
    weir_real_t *kept; /* CHECKED x items: all scores of some users */
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
    bench->scored_counts = weir_measure_allocate(bench->users, sizeof(uint64_t));
    bench->kept = weir_measure_allocate(CHECKED * bench->items, sizeof(weir_real_t));
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

static void count_all(void *argument, size_t user, const weir_real_t *scores, int64_t first_item,
                      size_t count) {
    bench_t *bench = argument;
    weir_real_t target = bench->scores[user];
    uint32_t better = 0;
    for (size_t c = 0; c < count; c++) {
        better += scores[c] >= target ? 1u : 0u;
    }
    int64_t at = bench->targets[user] - first_item; /* the target itself does not count */
    bench->scored_counts[user] += better - (at >= 0 && at < (int64_t)count ? 1 : 0);
}

static void keep_scores(void *argument, size_t user, const weir_real_t *scores, int64_t first_item,
                        size_t count) {
    bench_t *bench = argument;
    memcpy(bench->kept + user * bench->items + (size_t)(first_item - 1), scores,
           count * sizeof *scores);
}

static void visit_all(bench_t *bench, size_t users, weir_score_visit_t visit) {
    weir_error_t error = {0};
    memset(bench->scored_counts, 0, bench->users * sizeof *bench->scored_counts);
    if (weir_score_pass(bench->encoded, users, weir_similarity_dot(bench->width), bench->rows, 1,
                        bench->items, visit, NULL, bench, &error) != WEIR_OK) {
        stop(error.message);
    }
}

static void score_all(bench_t *bench) {
    visit_all(bench, bench->users, count_all);
}

static weir_top_items_t *find_best(bench_t *bench) {
    weir_error_t error = {0};
    weir_top_items_t *top = NULL;
    if (weir_top_items_create(bench->users, LISTED, &top, &error) != WEIR_OK ||
        weir_top_items_offer(top, bench->encoded, weir_similarity_dot(bench->width), bench->rows, 1,
                             bench->items, bench->excluded_offsets, NULL, &error) != WEIR_OK) {
        stop(error.message);
    }
    return top;
}

static void list_best(bench_t *bench) {
    weir_top_items_destroy(find_best(bench));
}

/* Each of a list has its score, and fewer than it is long score above its last. */
static void verify_lists(bench_t *bench) {
    size_t users = bench->users < CHECKED ? bench->users : CHECKED;
    weir_top_items_t *top = find_best(bench);
    visit_all(bench, users, keep_scores);
    for (size_t u = 0; u < users; u++) {
        size_t count = 0, above = 0;
        const weir_real_t *scores = bench->kept + u * bench->items;
        const weir_scored_item_t *list = weir_top_items_list(top, u, &count);
        bool same = count == (bench->items < LISTED ? bench->items : LISTED);
        for (size_t i = 0; i < count; i++) {
            same = same && list[i].score == scores[list[i].item - 1];
        }
        for (size_t i = 0; i < bench->items; i++) {
            above += scores[i] > list[count - 1].score ? 1 : 0;
        }
        if (!same || above >= count) {
            stop("not verified: a list is not of the best");
        }
    }
    weir_top_items_destroy(top);
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
    score_all(bench);
    for (size_t u = 0; u < bench->users; u++) {
        if (bench->counts[u] != bench->scored_counts[u]) {
            stop("not verified: a rank differs from that of all scores");
        }
    }
    verify_lists(bench);
}

static void time_one(void (*work)(bench_t *bench), bench_t *bench, double *best) {
    double started = weir_clock_seconds();
    work(bench);
    *best = fmin(*best, weir_clock_seconds() - started);
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
    double peak = weir_measure_gemm_peak(), began = weir_clock_seconds();
    double best = 1e30, scored = 1e30, listed = 1e30;
    for (int pass = 0; pass < 3 || weir_clock_seconds() - began < 3.0; pass++) {
        time_one(rank, &bench, &best);
        time_one(score_all, &bench, &scored);
        time_one(list_best, &bench, &listed);
    }
    double flops = 2.0 * (double)bench.users * (double)bench.items * (double)bench.width;
    weir_measure_machine(machine);
    (void)printf("{\"bench\": \"rank\", \"side\": \"weir\", \"users\": %zu, \"items\": %zu, "
                 "\"width\": %zu, \"users_per_second\": %.0f, \"from_all_scores\": %.0f, "
                 "\"best_ten\": %.0f, "
                 "\"fraction\": %.3f, "
                 "\"peak_gflops\": %.1f, \"version\": \"%s\", \"machine\": \"%s\"}\n",
                 bench.users, bench.items, bench.width, (double)bench.users / best,
                 (double)bench.users / scored, (double)bench.users / listed,
                 flops * 1e-9 / best / peak, peak, WEIR_VERSION, machine);
    return EXIT_SUCCESS;
}
