/* How fast does one core update rows, with each optimiser?
 *
 *   bench_optimizer [MIB [OPTIMIZER]]   region of random rows, default 1,024; one kind alone
 *
 * Every kind is verified first, against float64 loops. Then, per kind and D = 32, 64, 128, one JSON
 * line: rows a second and record bytes (value and state) read and written a second,
 *
 *   cached   rows that stay in the first cache;
 *   random   rows all over the region, prefetched,
 *
 * each also as a fraction of a limit measured in the same run on the same rows: one multiplication
 * and addition to each float of the record by a gradient that stays in the first cache. A first
 * line has the triad of STREAM over arrays as large as the region. Rates are per second of the
 * thread's own CPU time: medians of rounds in which limit and kernel take turns. */
#include "common/rng.h"
#include "common/version.h"
#include "ps/arena.h"
#include "tests/unit/optimizer_reference.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    ROUNDS = 7,
    PASS_BYTES = 1 << 28,  /* of the random records of one timed pass: more than the caches */
    CACHED_PASS = 1 << 17, /* rows of one timed pass */
    GRADIENTS = 512,       /* rows of gradients, used in turn */
    CACHED_BYTES = 8192,   /* of records */
    MAX_DIM = 128,
    VERIFIED_STEPS = 20
};

static weir_error_t error;

static void check(bool good, const char *what) {
    if (!good) {
        (void)fprintf(stderr, "bench_optimizer: %s %s\n", what, error.message);
        exit(EXIT_FAILURE);
    }
}

static int compare_seconds(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double median(double *seconds) {
    qsort(seconds, ROUNDS, sizeof *seconds, compare_seconds);
    return seconds[ROUNDS / 2];
}

static double core_seconds(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void fill(uint32_t stream, uint32_t n, double scale, float *values, uint32_t count) {
    weir_fill_truncated_normal(weir_rng_key(stream, WEIR_STREAM_TEST), n, 0, 0, scale, values,
                               count);
}

static weir_optimizer_t create(weir_optimizer_kind_t kind, uint32_t dim) {
    bool proximal = kind >= WEIR_OPTIMIZER_FTRL;
    weir_optimizer_settings_t settings = {.kind = kind,
                                          .learning_rate = 0.01,
                                          .beta1 = 0.9,
                                          .beta2 = 0.98,
                                          .epsilon = 1e-6,
                                          .beta = 1.0,
                                          .weight_decay = proximal ? 0.0 : 1e-4,
                                          .l1 = proximal ? 1e-4 : 0.0,
                                          .l2 = proximal ? 1e-4 : 0.0,
                                          .group_l1 = kind > WEIR_OPTIMIZER_FTRL ? 1e-4 : 0.0};
    weir_optimizer_t optimizer;
    check(weir_optimizer_init(&optimizer, &settings, dim, "bench", &error) == WEIR_OK, "");
    return optimizer;
}

static void verify(weir_optimizer_kind_t kind, uint32_t dim) {
    weir_optimizer_t optimizer = create(kind, dim);
    float record[4 * MAX_DIM + 2] = {0}, gradient[MAX_DIM];
    reference_row_t row = {.w = {0}};
    fill(1, 0, 0.5, record, dim);
    for (uint32_t i = 0; i < dim; i++) {
        row.w[i] = (double)record[i];
    }
    for (int n = 1; n <= VERIFIED_STEPS; n++) {
        fill(2, (uint32_t)n, 1.0, gradient, dim);
        reference_update(&optimizer.settings, &row, gradient, dim, n, n);
        optimizer.update(&optimizer, record, record + dim, gradient,
                         weir_optimizer_correction(&optimizer, (uint64_t)n));
        for (uint32_t i = 0; i < dim; i++) {
            check(fabs((double)record[i] - row.w[i]) < 1e-5, weir_optimizer_name(kind));
        }
    }
    weir_optimizer_fini(&optimizer);
}

/* ---- what is timed ---- */

typedef struct {
    float *region;
    size_t region_bytes;
    uint32_t *order;        /* rows of a pass, of the region or of the cached ones */
    size_t count;           /* of them */
    const float *gradients; /* GRADIENTS x dim */
    size_t record;          /* floats */
    uint32_t dim;
    uint32_t ahead; /* rows prefetched ahead */
} rows_t;

static inline void prefetch_row(const rows_t *rows, size_t i) {
    const char *next = (const char *)(rows->region + rows->order[i] * rows->record);
    const size_t bytes = rows->record * sizeof(float);
    for (size_t line = 0; line < bytes; line += 64) {
        __builtin_prefetch(next + line, 1);
    }
    __builtin_prefetch(next + bytes - 1, 1); /* rows do not begin at lines */
}

static double time_updates(const rows_t *rows, const weir_optimizer_t *optimizer) {
    const size_t record = rows->record, dim = rows->dim;
    const size_t gradients = optimizer->dim == dim ? GRADIENTS : 1;
    double begin = core_seconds();
    for (size_t i = 0; i < rows->count; i++) {
        if (rows->ahead > 0 && i + rows->ahead < rows->count) {
            prefetch_row(rows, i + rows->ahead);
        }
        float *value = rows->region + rows->order[i] * record;
        optimizer->update(optimizer, value, value + dim, rows->gradients + i % gradients * dim,
                          weir_optimizer_correction(optimizer, 1 + i % 8));
    }
    return core_seconds() - begin;
}

/* A pass of `count` rows out of `among`. */
static void draw_order(rows_t *rows, size_t count, size_t among) {
    rows->count = count;
    for (uint32_t i = 0; i < count; i++) {
        weir_philox_t random = weir_philox(weir_rng_key(3, WEIR_STREAM_TEST), i, rows->dim, 0, 0);
        rows->order[i] = weir_uniform_below(random.word[0], (uint32_t)among);
    }
}

/* Rows a second of updates, and of the limit: SGD over all floats of the records. */
static void measure(rows_t *rows, const weir_optimizer_t *optimizer, double rates[2]) {
    double updates[ROUNDS], limits[ROUNDS];
    weir_optimizer_t limit = create(WEIR_OPTIMIZER_SGD, (uint32_t)rows->record);
    for (int round = 0; round < ROUNDS; round++) {
        updates[round] = time_updates(rows, optimizer);
        limits[round] = time_updates(rows, &limit);
    }
    weir_optimizer_fini(&limit);
    rates[0] = (double)rows->count / median(updates);
    rates[1] = (double)rows->count / median(limits);
}

static void bench_kind(rows_t *rows, weir_optimizer_kind_t kind, uint32_t dim) {
    enum { PREFETCHED_BYTES = 8192, MAX_AHEAD = 24 };
    weir_optimizer_t optimizer = create(kind, dim);
    rows->dim = dim;
    rows->record = dim + weir_optimizer_state(kind, dim).floats;
    size_t bytes = rows->record * sizeof(float);
    double cached[2], scattered[2];
    rows->ahead = 0;
    draw_order(rows, CACHED_PASS, CACHED_BYTES / bytes);
    measure(rows, &optimizer, cached);
    rows->ahead =
        PREFETCHED_BYTES / bytes < MAX_AHEAD ? (uint32_t)(PREFETCHED_BYTES / bytes) : MAX_AHEAD;
    draw_order(rows, PASS_BYTES / bytes, rows->region_bytes / bytes);
    measure(rows, &optimizer, scattered);
    double traffic = 2e-9 * (double)bytes;
    (void)printf("{\"bench\": \"optimizer\", \"version\": \"%s\", \"optimizer\": \"%s\", "
                 "\"dim\": %u, \"record_bytes\": %zu, \"cached_rows_per_second\": %.4g, "
                 "\"cached_gigabytes_per_second\": %.4g, \"cached_fraction\": %.3f, "
                 "\"random_rows_per_second\": %.4g, \"random_gigabytes_per_second\": %.4g, "
                 "\"random_limit_gigabytes_per_second\": %.4g, \"random_fraction\": %.3f}\n",
                 WEIR_VERSION, weir_optimizer_name(kind), dim, bytes, cached[0],
                 traffic * cached[0], cached[0] / cached[1], scattered[0], traffic * scattered[0],
                 traffic * scattered[1], scattered[0] / scattered[1]);
    weir_optimizer_fini(&optimizer);
}

/* STREAM's triad over thirds of the region: bytes read and written a second, as STREAM counts. */
static double measure_triad(const rows_t *rows) {
    double seconds[ROUNDS];
    size_t count = rows->region_bytes / sizeof(float) / 3;
    float *restrict a = rows->region, *restrict b = a + count, *restrict c = b + count;
    for (int round = 0; round < ROUNDS; round++) {
        double begin = core_seconds();
        for (size_t i = 0; i < count; i++) {
            a[i] = b[i] + 1e-6F * c[i];
        }
        seconds[round] = core_seconds() - begin;
    }
    return 3e-9 * (double)(count * sizeof(float)) / median(seconds);
}

int main(int argc, char **argv) {
    unsigned long mib = argc > 1 ? strtoul(argv[1], NULL, 10) : 1024;
    if (mib < 1 || mib > 65536 || argc > 3) {
        (void)fprintf(stderr, "usage: bench_optimizer [MIB [OPTIMIZER]]\n");
        return EXIT_FAILURE;
    }
    rows_t rows = {.region_bytes = (size_t)mib << 20};
    size_t order_bytes = sizeof *rows.order * (PASS_BYTES / (32 * sizeof(float)));
    size_t gradient_bytes = sizeof(float) * GRADIENTS * MAX_DIM;
    float *gradients = weir_arena_map(gradient_bytes);
    rows.region = weir_arena_map(rows.region_bytes);
    rows.order = weir_arena_map(order_bytes);
    check(gradients != NULL && rows.region != NULL && rows.order != NULL, "out of memory");
    fill(4, 0, 1.0, gradients, GRADIENTS * MAX_DIM);
    rows.gradients = gradients;
    for (size_t i = 0; i < rows.region_bytes / sizeof(float); i++) {
        rows.region[i] = 0.01F;
    }
    (void)printf("{\"bench\": \"optimizer_triad\", \"version\": \"%s\", \"region_mib\": %lu, "
                 "\"gigabytes_per_second\": %.4g}\n",
                 WEIR_VERSION, mib, measure_triad(&rows));
    for (int k = 0; k < WEIR_OPTIMIZER_COUNT; k++) {
        weir_optimizer_kind_t kind = (weir_optimizer_kind_t)k;
        for (uint32_t dim = 32; dim <= MAX_DIM; dim *= 2) {
            if (argc < 3 || strcmp(argv[2], weir_optimizer_name(kind)) == 0) {
                verify(kind, dim);
                bench_kind(&rows, kind, dim);
            }
        }
    }
    weir_arena_unmap(gradients, gradient_bytes);
    weir_arena_unmap(rows.region, rows.region_bytes);
    weir_arena_unmap(rows.order, order_bytes);
    return EXIT_SUCCESS;
}
