/* At what fraction of memcpy's speed are rows decoded, loaded and stored in each precision?
 *
 *   bench_precision
 *
 * Rows of 64 columns. "batch": 1,024 rows from one message to one array, in cache. "gather": rows
 * in random order out of a table larger than the caches, one call a row. "store": rows of a small
 * table, one call a row, plain or with the seed made for each (stochastic). GB/s count the floats,
 * 256 bytes a row, whatever their stored form takes; memcpy copies those in the same pattern in the
 * same run. One JSON line a precision, pattern and vector width. */
#include "bench/measure.h"
#include "common/rng.h"
#include "common/version.h"
#include "ps/precision.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIM = 64, BATCH = 1024, TABLE = 1 << 19, GATHERED = 1 << 14, ROW = DIM * 4 };

static const double budget = 0.1; /* seconds */

typedef enum { COPY, DECODE_BATCH, GATHER, STORE_PLAIN, STORE_STOCHASTIC, PATTERN_COUNT } pattern_t;
static const char *const pattern_names[] = {"", "batch", "gather", "store_plain",
                                            "store_stochastic"};

typedef struct {
    weir_precision_t precision;
    pattern_t pattern;
    bool copy; /* memcpy of the floats instead */
    size_t bytes, hidden_bytes;
    float *values;         /* BATCH x DIM */
    unsigned char *table;  /* TABLE rows, ROW bytes apart where `copy`, `bytes` where not */
    unsigned char *hidden; /* BATCH rows */
    uint32_t *order;       /* TABLE row numbers; each call gathers the next GATHERED */
    size_t at;             /* in order */
    size_t copy_bytes;     /* ROW, as no compiler knows */
} work_t;

static void gather(work_t *w) {
    const uint32_t *order = w->order + w->at;
    w->at = (w->at + GATHERED) % TABLE;
    for (size_t i = 0; i < GATHERED; i++) {
        float *out = w->values + i % BATCH * DIM;
        /* As the table's batches do. */
        size_t ahead = order[i + 16 < GATHERED ? i + 16 : i] * w->bytes;
        for (size_t line = 0; line < w->bytes; line += 64) {
            __builtin_prefetch(w->table + ahead + line);
        }
        const unsigned char *row = w->table + order[i] * w->bytes;
        if (w->copy) {
            memcpy(out, row, w->copy_bytes);
        } else {
            weir_precision_decode(w->precision, row, 0, 1, DIM, out, 0);
        }
    }
}

static void store(const work_t *w) {
    for (size_t i = 0; i < BATCH; i++) {
        const float *values = w->values + i * DIM;
        unsigned char *row = w->table + i * w->bytes;
        if (w->copy) {
            memcpy(row, values, w->copy_bytes);
            continue;
        }
        uint64_t seed = w->pattern == STORE_STOCHASTIC ? weir_precision_seed(1, 2, 0, i, 3) : 0;
        weir_precision_store(w->precision, values, DIM,
                             w->pattern == STORE_STOCHASTIC ? &seed : NULL, row,
                             w->hidden + i * w->hidden_bytes);
    }
}

static void work(void *argument) {
    work_t *w = argument;
    if (w->pattern == GATHER) {
        gather(w);
    } else if (w->pattern != DECODE_BATCH) {
        store(w);
    } else if (w->copy) {
        for (size_t i = 0; i < BATCH; i++) {
            memcpy(w->values + i * DIM, w->table + i * ROW, w->copy_bytes);
        }
    } else {
        weir_precision_decode(w->precision, w->table, w->bytes, BATCH, DIM, w->values, DIM);
    }
}

static double rate(work_t *w) {
    double rows = w->pattern == GATHER ? GATHERED : BATCH;
    return rows * ROW / weir_measure_seconds(work, w, budget) / 1e9;
}

/* What is stored reads back within one step of its codes. */
static void verify(work_t *w) {
    static const double steps[] = {0.0, 0x1p-7, 0x1p-10, 0.0, 0.0};
    float row[DIM];
    for (w->pattern = STORE_PLAIN; w->pattern <= STORE_STOCHASTIC; w->pattern++) {
        store(w);
        for (size_t i = 0; i < BATCH; i++) {
            const float *values = w->values + i * DIM;
            float scale = 0.0F;
            if (w->precision == WEIR_PRECISION_INT8) {
                memcpy(&scale, w->table + i * w->bytes, sizeof scale);
            }
            weir_precision_load(w->precision, w->table + i * w->bytes,
                                w->hidden + i * w->hidden_bytes, DIM, row);
            for (size_t j = 0; j < DIM; j++) {
                double value = (double)values[j];
                double allowed = fabs(value) * steps[w->precision] + 1.0001 * (double)scale + 1e-7;
                if (!(fabs((double)row[j] - value) <= allowed)) {
                    (void)fprintf(stderr, "bench_precision: not verified: %s of %g is %g\n",
                                  weir_precision_name(w->precision), value, (double)row[j]);
                    exit(EXIT_FAILURE);
                }
            }
        }
    }
}

static void fill(work_t *w, size_t bytes) {
    weir_rng_key_t key = weir_rng_key(1, WEIR_STREAM_TEST);
    w->bytes = bytes;
    for (uint32_t i = 0; i < BATCH; i++) {
        weir_fill_truncated_normal(key, i, 0, 0, 0.05, w->values + (size_t)i * DIM, DIM);
    }
    for (size_t i = 0; i < TABLE; i++) {
        if (w->copy) {
            memcpy(w->table + i * bytes, w->values + i % BATCH * DIM, ROW);
        } else {
            weir_precision_store(w->precision, w->values + i % BATCH * DIM, DIM, NULL,
                                 w->table + i * bytes, w->hidden);
        }
    }
}

static void measure_precision(work_t *w, const double *copied, const char *machine) {
    static const uint32_t widths[] = {512, 256, 128};
    fill(w, weir_precision_value_bytes(w->precision, DIM));
    w->hidden_bytes = weir_precision_hidden_bytes(w->precision, DIM);
    for (size_t v = 0; v < sizeof widths / sizeof *widths; v++) {
        if (!weir_precision_set_width(widths[v])) {
            continue;
        }
        verify(w);
        for (pattern_t p = DECODE_BATCH; p < PATTERN_COUNT; p++) {
            w->pattern = p;
            double speed = rate(w);
            (void)printf("{\"bench\": \"precision\", \"precision\": \"%s\", \"pattern\": \"%s\", "
                         "\"vector_bits\": %u, \"columns\": %d, \"row_bytes\": %zu, "
                         "\"gb_per_s\": %.2f, \"memcpy_gb_per_s\": %.2f, \"fraction\": %.2f, "
                         "\"ns_per_row\": %.1f, \"machine\": \"%s\", \"version\": \"%s\"}\n",
                         weir_precision_name(w->precision), pattern_names[p], widths[v], DIM,
                         w->bytes + w->hidden_bytes, speed, copied[p], speed / copied[p],
                         ROW / speed, machine, WEIR_VERSION);
        }
    }
}

int main(void) {
    char machine[WEIR_MEASURE_MACHINE];
    double copied[PATTERN_COUNT] = {0};
    work_t w = {.copy = true,
                .values = weir_measure_allocate((size_t)BATCH * DIM, sizeof(float)),
                .table = weir_measure_allocate(TABLE, ROW),
                .hidden = weir_measure_allocate(BATCH, ROW),
                .order = weir_measure_allocate(TABLE, sizeof(uint32_t))};
    volatile size_t row_bytes = ROW;
    w.copy_bytes = row_bytes;
    weir_measure_machine(machine);
    weir_rng_permutation(2, WEIR_STREAM_TEST, 0, w.order, TABLE);
    fill(&w, ROW);
    for (pattern_t p = DECODE_BATCH; p < PATTERN_COUNT; p++) {
        w.pattern = p;
        copied[p] = rate(&w);
    }
    w.copy = false;
    for (int p = 0; p < WEIR_PRECISION_COUNT; p++) {
        w.precision = (weir_precision_t)p;
        measure_precision(&w, copied, machine);
    }
    free(w.values);
    free(w.table);
    free(w.hidden);
    free(w.order);
    return EXIT_SUCCESS;
}
