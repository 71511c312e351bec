/* The training steps that the bench must get right before it times any. */
#include "bench/measure.h"
#include "bench/pull_push.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 12, TABLES = 2, SIDE_DIM = 6, SIDE_KEYS = 50, SIDE_ROWS = 300 };

/* Plain rows of one table, all of them, in float64. */
typedef struct {
    weir_row_schema_t schema;
    uint32_t dim, rows;
    weir_pull_push_keys_t *keys; /* by worker */
    double *values, *squares;    /* rows x dim; row-wise Adagrad's sums */
    double *sums;                /* of the gradients of a step */
    bool *touched;
    float *pulled, *gradients; /* of this worker */
} oracle_t;

static uint32_t row_of(const oracle_t *oracle, weir_key_t key) {
    const uint64_t inverse = 0xF1DE83E19937733Dull; /* of the factor of weir_pull_push_key */
    uint64_t row = key * inverse;
    weir_pull_push_check(row < oracle->rows, "no such row", NULL);
    return (uint32_t)row;
}

/* Any gradient will do that all can work out. */
static float gradient_of(uint32_t worker, uint64_t step, uint32_t row, uint32_t column) {
    uint64_t bits = weir_hash64(weir_hash64((uint64_t)row << 32 | column) + 64 * step + worker);
    return (float)((double)(bits >> 40) * 0x1p-24 - 0.5);
}

static void init_oracle(oracle_t *oracle, const weir_pull_push_t *job, uint32_t table, uint32_t dim,
                        uint32_t rows, size_t keys, weir_optimizer_kind_t optimizer) {
    size_t size = (size_t)rows * dim;
    *oracle = (oracle_t){.schema = weir_pull_push_schema(table, dim, optimizer),
                         .dim = dim,
                         .rows = rows,
                         .keys = weir_measure_allocate(job->workers, sizeof *oracle->keys),
                         .values = weir_measure_allocate(size, sizeof *oracle->values),
                         .squares = weir_measure_allocate(rows, sizeof *oracle->squares),
                         .sums = weir_measure_allocate(size, sizeof *oracle->sums),
                         .touched = weir_measure_allocate(rows, sizeof *oracle->touched),
                         .pulled = weir_measure_allocate(keys * dim, sizeof *oracle->pulled),
                         .gradients = weir_measure_allocate(keys * dim, sizeof *oracle->gradients)};
    for (uint32_t w = 0; w < job->workers; w++) {
        oracle->keys[w] = weir_pull_push_draw(STEPS, keys, rows, false, 100 * table + w);
    }
}

static void fini_oracle(oracle_t *oracle, const weir_pull_push_t *job) {
    for (uint32_t w = 0; w < job->workers; w++) {
        weir_pull_push_drop(&oracle->keys[w]);
    }
    free(oracle->keys);
    free(oracle->values);
    free(oracle->squares);
    free(oracle->sums);
    free(oracle->touched);
    free(oracle->pulled);
    free(oracle->gradients);
}

/* The rows that the servers give birth to, which are what all starts from. */
static void read_births(oracle_t *oracle, uint32_t table, weir_ps_client_t *client) {
    weir_error_t error = {0};
    size_t size = (size_t)oracle->rows * oracle->dim;
    weir_key_t *keys = weir_measure_allocate(oracle->rows, sizeof *keys);
    float *values = weir_measure_allocate(size, sizeof *values);
    for (uint32_t row = 0; row < oracle->rows; row++) {
        keys[row] = weir_pull_push_key(row);
    }
    weir_pull_push_check(weir_ps_client_peek(client, table, keys, oracle->rows, values, &error) ==
                             WEIR_OK,
                         "peek:", &error);
    for (size_t i = 0; i < size; i++) {
        weir_pull_push_check(values[i] != 0.0f && fabsf(values[i]) <= 0.04f,
                             "a row is born outside two sigma", NULL);
        oracle->values[i] = (double)values[i];
    }
    free(keys);
    free(values);
}

static void check_pulled(const oracle_t *oracle, uint32_t worker, size_t step) {
    const weir_pull_push_keys_t *keys = &oracle->keys[worker];
    for (size_t i = 0; i < keys->draws; i++) {
        const double *expected =
            oracle->values +
            (size_t)row_of(oracle, keys->keys[step * keys->draws + i]) * oracle->dim;
        const float *row = oracle->pulled + i * oracle->dim;
        for (uint32_t d = 0; d < oracle->dim; d++) {
            weir_pull_push_check(fabs((double)row[d] - expected[d]) < 1e-5, "a row is wrong", NULL);
        }
    }
}

static void fill_gradients(const oracle_t *oracle, uint32_t worker, size_t step) {
    const weir_pull_push_keys_t *keys = &oracle->keys[worker];
    for (size_t i = 0; i < keys->draws; i++) {
        uint32_t row = row_of(oracle, keys->keys[step * keys->draws + i]);
        for (uint32_t d = 0; d < oracle->dim; d++) {
            oracle->gradients[i * oracle->dim + d] = gradient_of(worker, step, row, d);
        }
    }
}

static void update_row(const oracle_t *oracle, uint32_t row) {
    const weir_optimizer_settings_t *settings = &oracle->schema.segments[0].optimizer;
    double *value = oracle->values + (size_t)row * oracle->dim;
    double *sum = oracle->sums + (size_t)row * oracle->dim;
    double rate = settings->learning_rate;
    if (settings->kind == WEIR_OPTIMIZER_ROWWISE_ADAGRAD) {
        double squares = 0.0;
        for (uint32_t d = 0; d < oracle->dim; d++) {
            squares += sum[d] * sum[d];
        }
        oracle->squares[row] += squares / oracle->dim;
        rate /= sqrt(oracle->squares[row]) + settings->epsilon;
    }
    for (uint32_t d = 0; d < oracle->dim; d++) {
        value[d] -= rate * sum[d];
        sum[d] = 0.0;
    }
}

/* All workers' gradients of a step, and one update of each row that has one. */
static void update_oracle(const oracle_t *oracle, uint32_t workers, size_t step) {
    for (uint32_t w = 0; w < workers; w++) {
        const weir_pull_push_keys_t *keys = &oracle->keys[w];
        for (size_t i = 0; i < keys->draws; i++) {
            uint32_t row = row_of(oracle, keys->keys[step * keys->draws + i]);
            oracle->touched[row] = true;
            for (uint32_t d = 0; d < oracle->dim; d++) {
                oracle->sums[(size_t)row * oracle->dim + d] += (double)gradient_of(w, step, row, d);
            }
        }
    }
    for (uint32_t row = 0; row < oracle->rows; row++) {
        if (oracle->touched[row]) {
            update_row(oracle, row);
        }
        oracle->touched[row] = false;
    }
}

static void begin_pull(const oracle_t oracles[TABLES], uint32_t worker, weir_ps_client_t *client,
                       size_t step) {
    weir_error_t error = {0};
    weir_ps_keys_t wanted[TABLES];
    for (uint32_t k = 0; k < TABLES; k++) {
        const weir_pull_push_keys_t *keys = &oracles[k].keys[worker];
        wanted[k] = (weir_ps_keys_t){keys->keys + step * keys->draws, keys->draws};
    }
    weir_pull_push_check(weir_ps_client_pull_begin(client, step + 1, wanted, &error) == WEIR_OK,
                         "pull:", &error);
}

static void train(const weir_pull_push_t *job, oracle_t oracles[TABLES], weir_ps_client_t *client,
                  uint32_t ahead) {
    weir_error_t error = {0};
    uint32_t worker = job->comm->rank - job->servers;
    float *const pulled[TABLES] = {oracles[0].pulled, oracles[1].pulled};
    const float *const gradients[TABLES] = {oracles[0].gradients, oracles[1].gradients};
    for (uint32_t k = 0; k < TABLES; k++) {
        read_births(&oracles[k], k, client);
    }
    for (size_t step = 0, begun = 0; step < STEPS; step++) {
        for (; begun < STEPS && begun <= step + ahead; begun++) {
            begin_pull(oracles, worker, client, begun);
        }
        weir_pull_push_check(weir_ps_client_pull_finish(client, pulled, &error) == WEIR_OK,
                             "pull:", &error);
        for (uint32_t k = 0; k < TABLES; k++) {
            check_pulled(&oracles[k], worker, step);
            fill_gradients(&oracles[k], worker, step);
        }
        weir_pull_push_check(weir_ps_client_push(client, gradients, &error) == WEIR_OK,
                             "push:", &error);
        for (uint32_t k = 0; k < TABLES; k++) {
            update_oracle(&oracles[k], job->workers, step);
        }
    }
}

size_t weir_pull_push_verify(const weir_pull_push_t *job, uint32_t dim, size_t keys,
                             uint32_t ahead) {
    oracle_t oracles[TABLES];
    weir_table_t *tables[TABLES];
    /* Few enough rows that steps and workers name the same ones. */
    init_oracle(&oracles[0], job, 0, dim, (uint32_t)(keys + keys / 2), keys,
                WEIR_OPTIMIZER_ROWWISE_ADAGRAD);
    init_oracle(&oracles[1], job, 1, SIDE_DIM, SIDE_ROWS, SIDE_KEYS, WEIR_OPTIMIZER_SGD);
    weir_row_schema_t schemas[TABLES] = {oracles[0].schema, oracles[1].schema};
    if (job->comm->rank < job->servers) {
        for (uint32_t k = 0; k < TABLES; k++) {
            tables[k] = weir_pull_push_table(job, &schemas[k]);
        }
        (void)weir_pull_push_serve(job, tables, TABLES, 0, 0, 0);
        for (uint32_t k = 0; k < TABLES; k++) {
            weir_table_destroy(tables[k]);
        }
    } else {
        weir_pull_push_worker_t worker = weir_pull_push_begin(job, schemas, TABLES, ahead);
        train(job, oracles, worker.client, ahead);
        weir_pull_push_end(job, &worker);
    }
    for (uint32_t k = 0; k < TABLES; k++) {
        fini_oracle(&oracles[k], job);
    }
    return (size_t)STEPS * job->workers * (keys + SIDE_KEYS);
}
