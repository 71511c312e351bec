/* A small job over MPI for bench_pull_push: servers with tables of their own slots, workers that
 * pull and push, and the keys that they name. */
#ifndef WEIR_BENCH_PULL_PUSH_H
#define WEIR_BENCH_PULL_PUSH_H

#include "common/comm_thread.h"
#include "ps/client.h"
#include "ps/table.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Ranks 0 .. servers - 1 are servers, the others workers. */
typedef struct {
    weir_comm_t *comm;
    uint32_t servers, workers;
} weir_pull_push_t;

/* Ends all ranks with a sentence when not `good`; `error` may be NULL. */
void weir_pull_push_check(bool good, const char *what, const weir_error_t *error);

/* CPU time of this process, all its threads. */
double weir_pull_push_processor_seconds(void);

static inline weir_key_t weir_pull_push_key(uint32_t row) {
    return (weir_key_t)row * 0x9E3779B97F4A7C15ull; /* odd factor: distinct */
}

/* One float32 segment. */
weir_row_schema_t weir_pull_push_schema(uint32_t table, uint32_t dim,
                                        weir_optimizer_kind_t optimizer);

/* A server's empty table of its own slots. */
weir_table_t *weir_pull_push_table(const weir_pull_push_t *job, const weir_row_schema_t *schema);

typedef struct {
    double wall, processor; /* seconds between two steps, with all threads of the process */
} weir_pull_push_cost_t;

/* Server: answer until all workers have ended. `step`: steps applied before; the cost is that of
 * the steps after `from`, to `to`. */
weir_pull_push_cost_t weir_pull_push_serve(const weir_pull_push_t *job, weir_table_t *const *tables,
                                           uint32_t table_count, uint64_t step, uint64_t from,
                                           uint64_t to);

/* Worker: begin and end; in between, the client is the caller's. */
typedef struct {
    weir_comm_thread_t *thread;
    weir_ps_client_t *client;
} weir_pull_push_worker_t;
weir_pull_push_worker_t weir_pull_push_begin(const weir_pull_push_t *job,
                                             const weir_row_schema_t *schemas, uint32_t table_count,
                                             uint32_t ahead);
void weir_pull_push_end(const weir_pull_push_t *job, weir_pull_push_worker_t *worker);

/* Batches of distinct keys. */
typedef struct {
    weir_key_t *keys; /* batches x draws, the first counts[b] of each in use; owned */
    size_t *counts;   /* owned */
    size_t batches, draws;
} weir_pull_push_keys_t;

/* Batches of keys of rows 0 .. rows - 1, different for each `stream`: `draws` distinct ones, or
 * what is distinct among `draws` draws by a Zipf law of exponent 0.99. */
weir_pull_push_keys_t weir_pull_push_draw(size_t batches, size_t draws, uint32_t rows, bool zipf,
                                          uint32_t stream);
void weir_pull_push_drop(weir_pull_push_keys_t *keys);

/* Collective: training steps over two tables, each row that is pulled held against plain loops in
 * float64. Returns how many rows were. */
size_t weir_pull_push_verify(const weir_pull_push_t *job, uint32_t dim, size_t keys,
                             uint32_t ahead);

#endif
