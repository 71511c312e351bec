#include "worker/softmax_attention.h"

#include "worker/dot.h"
#include "worker/parallel.h"
#include "worker/product.h"
#include "worker/workspace.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A tile: queries by keys. */
enum { TILE = WEIR_SOFTMAX_TILE, TILE_CELLS = TILE * TILE };
/* Dropout's sites of worker/hstu_internal.h are below; here: one a layer, head and tile of keys. */
enum { SITE_FIRST = 1 << 16, SITE_TILES = 1 << 14 };

struct weir_softmax_attention {
    weir_softmax_config_t config;
    const weir_kernels_t *kernels;
    weir_workspace_t workspace;
    weir_real_t *tiles; /* threads x 3 tiles */
};

weir_err_t weir_softmax_attention_create(const weir_softmax_config_t *config,
                                         const weir_kernels_t *kernels,
                                         weir_softmax_attention_t **attention,
                                         weir_error_t *error) {
    if (config->heads == 0 || config->dqk == 0 || config->dv == 0) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "attention needs at least one head, dqk and dv");
    }
    weir_softmax_attention_t *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for attention");
    }
    made->config = *config;
    made->kernels = kernels;
    *attention = made;
    return WEIR_OK;
}

void weir_softmax_attention_destroy(weir_softmax_attention_t *attention) {
    if (attention != NULL) {
        weir_workspace_fini(&attention->workspace);
        free(attention);
    }
}

weir_err_t weir_softmax_attention_prepare(weir_softmax_attention_t *attention,
                                          weir_error_t *error) {
    size_t threads = weir_parallel_threads(), bytes = 3 * TILE_CELLS * sizeof(weir_real_t);
    weir_workspace_begin(&attention->workspace);
    (void)weir_workspace_take(&attention->workspace, threads, bytes);
    weir_err_t err = weir_workspace_reserve(&attention->workspace, "attention", error);
    if (err == WEIR_OK) {
        attention->tiles = weir_workspace_take(&attention->workspace, threads, bytes);
    }
    return err;
}

/* One user and head. */
typedef struct {
    const weir_softmax_attention_t *attention;
    const weir_softmax_input_t *input;
    size_t first, length, head;
    const weir_real_t *q, *k, *v; /* of the first token */
    size_t y_row;
    weir_real_t *scores, *d_scores, *dropped; /* a tile each */
} task_t;

typedef weir_softmax_tile_t tile_t;

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

/* How many keys of the tile its query `i` sees. */
static size_t seen(const task_t *task, const tile_t *tile, size_t i) {
    return task->attention->config.both_ways ? tile->keys
                                             : smaller(tile->keys, tile->query + i + 1 - tile->key);
}

/* C = A B^T or A B, operands of the task; C a tile or rows. */
static void multiply(const task_t *task, weir_product_t product) {
    weir_product_run(task->attention->kernels, task->attention->config.bf16, &product);
}

/* Left rows by right rows, over `depth`, to a tile of `queries` x TILE. */
static void multiply_rows(const task_t *task, const tile_t *tile, const weir_real_t *left,
                          size_t left_row, const weir_real_t *right, size_t right_row, size_t depth,
                          weir_real_t *out) {
    multiply(task, (weir_product_t){.form_b = WEIR_BLAS_TRANSPOSED,
                                    .m = tile->queries,
                                    .n = tile->keys,
                                    .k = depth,
                                    .a = left + tile->query * left_row,
                                    .lda = left_row,
                                    .b = right + tile->key * right_row,
                                    .ldb = right_row,
                                    .c = out,
                                    .ldc = TILE});
}

/* Dropout of a tile's rows in place: its own backward. */
static void drop_tile(const task_t *task, const tile_t *tile, const weir_real_t *from,
                      weir_real_t *to) {
    const weir_softmax_input_t *input = task->input;
    size_t heads = task->attention->config.heads;
    uint32_t site = SITE_FIRST +
                    (uint32_t)((input->layer * heads + task->head) * SITE_TILES + tile->key / TILE);
    weir_dropout_t dropout = weir_dropout_at(input->seed, input->step, site, input->dropout);
    task->attention->kernels->dropout(&dropout, input->global_tokens + task->first + tile->query,
                                      from, tile->queries, TILE, to);
}

/* The scores of a tile, times the scale, columns beyond the keys untouched by what follows. */
static void score_tile(const task_t *task, const tile_t *tile) {
    const weir_softmax_config_t *config = &task->attention->config;
    const weir_real_t scale = (weir_real_t)config->scale;
    multiply_rows(task, tile, task->q, task->input->q_row, task->k, task->input->k_row, config->dqk,
                  task->scores);
    if (task->input->add_bias != NULL) {
        task->input->add_bias(task->input->argument, tile, task->scores);
    }
    for (size_t i = 0; i < tile->queries; i++) {
        weir_real_t *s = task->scores + i * TILE;
        for (size_t j = 0; j < tile->keys; j++) {
            s[j] *= scale;
        }
        memset(s + tile->keys, 0, (TILE - tile->keys) * sizeof *s);
    }
}

/* scores - shift[i], e to it, zeros where the query does not see the key. */
static void exponentiate_tile(const task_t *task, const tile_t *tile, const weir_real_t *shifts,
                              size_t shift_step) {
    for (size_t i = 0; i < tile->queries; i++) {
        const weir_real_t shift = shifts[i * shift_step];
        weir_real_t *s = task->scores + i * TILE;
        for (size_t j = 0; j < tile->keys; j++) {
            s[j] -= shift;
        }
    }
    task->attention->kernels->exp(task->scores, task->scores, tile->queries * TILE);
    for (size_t i = 0; i < tile->queries; i++) {
        size_t count = seen(task, tile, i);
        memset(task->scores + i * TILE + count, 0, (TILE - count) * sizeof(weir_real_t));
    }
}

/* Raise the running maximum of each row to the tile's; y and the sums follow. */
static void raise_maximum(const task_t *task, const tile_t *tile, weir_real_t *y,
                          weir_real_t *maximum, weir_real_t *sums) {
    size_t dv = task->attention->config.dv;
    for (size_t i = 0; i < tile->queries; i++) {
        const weir_real_t *s = task->scores + i * TILE;
        weir_real_t highest = maximum[i];
        for (size_t j = 0, count = seen(task, tile, i); j < count; j++) {
            highest = s[j] > highest ? s[j] : highest;
        }
        if (highest > maximum[i] && tile->key > 0) {
            weir_real_t factor = (weir_real_t)exp((double)(maximum[i] - highest));
            sums[i] *= factor;
            for (size_t c = 0; c < dv; c++) {
                y[i * task->y_row + c] *= factor;
            }
        }
        maximum[i] = highest;
    }
}

/* One panel of queries against all keys that they see. */
static void attend_panel(const task_t *task, size_t query, weir_real_t *y, weir_real_t *logs) {
    const weir_softmax_config_t *config = &task->attention->config;
    weir_real_t maximum[TILE], sums[TILE];
    tile_t tile = {.query = query, .queries = smaller(TILE, task->length - query)};
    size_t end = config->both_ways ? task->length : query + tile.queries;
    for (size_t i = 0; i < tile.queries; i++) {
        maximum[i] = -(weir_real_t)INFINITY;
        sums[i] = 0;
    }
    for (tile.key = 0; tile.key < end; tile.key += TILE) {
        tile.keys = smaller(TILE, end - tile.key);
        score_tile(task, &tile);
        raise_maximum(task, &tile, y, maximum, sums);
        exponentiate_tile(task, &tile, maximum, 1);
        for (size_t i = 0; i < tile.queries; i++) {
            for (size_t j = 0; j < tile.keys; j++) {
                sums[i] += task->scores[i * TILE + j];
            }
        }
        if (task->input->drop) {
            drop_tile(task, &tile, task->scores, task->scores);
        }
        multiply(task, (weir_product_t){.m = tile.queries,
                                        .n = config->dv,
                                        .k = tile.keys,
                                        .a = task->scores,
                                        .lda = TILE,
                                        .b = task->v + tile.key * task->input->v_row,
                                        .ldb = task->input->v_row,
                                        .add = tile.key > 0,
                                        .c = y,
                                        .ldc = task->y_row});
    }
    for (size_t i = 0; i < tile.queries; i++) {
        for (size_t c = 0; c < config->dv; c++) {
            y[i * task->y_row + c] /= sums[i];
        }
        logs[i * config->heads] = maximum[i] + (weir_real_t)log((double)sums[i]);
    }
}

/* The pair of user and head, and the memory of a thread. */
static task_t make_task(const weir_softmax_attention_t *attention,
                        const weir_softmax_input_t *input, size_t pair, uint32_t thread) {
    const weir_softmax_config_t *config = &attention->config;
    size_t user = pair / config->heads, head = pair % config->heads;
    size_t first = input->offsets[user];
    weir_real_t *tiles = attention->tiles + (size_t)thread * 3 * TILE_CELLS;
    return (task_t){.attention = attention,
                    .input = input,
                    .first = first,
                    .length = input->offsets[user + 1] - first,
                    .head = head,
                    .q = input->q + first * input->q_row + head * config->dqk,
                    .k = input->k + first * input->k_row + head * config->dqk,
                    .v = input->v + first * input->v_row + head * config->dv,
                    .y_row = config->heads * config->dv,
                    .scores = tiles,
                    .d_scores = tiles + TILE_CELLS,
                    .dropped = tiles + 2 * (size_t)TILE_CELLS};
}

typedef struct {
    const weir_softmax_attention_t *attention;
    const weir_softmax_input_t *input;
    weir_real_t *y, *logs;                   /* forward */
    const weir_softmax_gradient_t *gradient; /* backward */
} call_t;

void weir_softmax_attention_forward_pair(const weir_softmax_attention_t *attention,
                                         const weir_softmax_input_t *input, size_t pair,
                                         uint32_t thread, weir_real_t *y, weir_real_t *logs) {
    const weir_softmax_config_t *config = &attention->config;
    task_t task = make_task(attention, input, pair, thread);
    for (size_t query = 0; query < task.length; query += TILE) {
        size_t row = task.first + query;
        attend_panel(&task, query, y + row * task.y_row + task.head * config->dv,
                     logs + row * config->heads + task.head);
    }
}

static void run_forward(void *argument, size_t pair, uint32_t thread) {
    const call_t *call = argument;
    weir_softmax_attention_forward_pair(call->attention, call->input, pair, thread, call->y,
                                        call->logs);
}

void weir_softmax_attention_forward(weir_softmax_attention_t *attention,
                                    const weir_softmax_input_t *input, weir_real_t *y,
                                    weir_real_t *logs) {
    call_t call = {.attention = attention, .input = input, .y = y, .logs = logs};
    weir_parallel_run(input->users * attention->config.heads, run_forward, &call);
}

/* ---- backward ---- */

/* Gradients of a user and head; y and d_y of the first token. */
typedef struct {
    const weir_real_t *y, *logs, *d_y;
    weir_real_t *d_q, *d_k, *d_v;
} slopes_t;

/* d_scores, the gradient of a after dropout, becomes that of the scores before the scale's product:
 * a (d_a - <d_y, y>) scale. */
static void differentiate_softmax(const task_t *task, const tile_t *tile, const slopes_t *slopes) {
    const weir_softmax_config_t *config = &task->attention->config;
    const weir_real_t scale = (weir_real_t)config->scale;
    for (size_t i = 0; i < tile->queries; i++) {
        size_t row = (tile->query + i) * task->y_row;
        const weir_real_t *a = task->scores + i * TILE;
        const weir_real_t mean = weir_dot(slopes->d_y + row, slopes->y + row, config->dv);
        weir_real_t *d = task->d_scores + i * TILE;
        size_t count = seen(task, tile, i);
        for (size_t j = 0; j < count; j++) {
            d[j] = a[j] * (d[j] - mean) * scale;
        }
        memset(d + count, 0, (TILE - count) * sizeof *d);
    }
}

/* to[key ..] += tile^T rows[query ..] */
static void add_to_keys(const task_t *task, const tile_t *tile, const weir_real_t *values,
                        const weir_real_t *rows, size_t row, size_t width, weir_real_t *to,
                        size_t to_row) {
    multiply(task, (weir_product_t){.form_a = WEIR_BLAS_TRANSPOSED,
                                    .m = tile->keys,
                                    .n = width,
                                    .k = tile->queries,
                                    .a = values,
                                    .lda = TILE,
                                    .b = rows + tile->query * row,
                                    .ldb = row,
                                    .add = tile->query > 0 && (task->attention->config.both_ways ||
                                                               tile->query > tile->key),
                                    .c = to + tile->key * to_row,
                                    .ldc = to_row});
}

static void differentiate_tile(const task_t *task, const tile_t *tile, const slopes_t *slopes) {
    const weir_softmax_config_t *config = &task->attention->config;
    const weir_softmax_input_t *input = task->input;
    const weir_real_t *weights = task->scores;
    score_tile(task, tile);
    exponentiate_tile(task, tile, slopes->logs + tile->query * config->heads, config->heads);
    multiply_rows(task, tile, slopes->d_y, task->y_row, task->v, input->v_row, config->dv,
                  task->d_scores);
    if (input->drop) {
        drop_tile(task, tile, task->scores, task->dropped);
        drop_tile(task, tile, task->d_scores, task->d_scores);
        weights = task->dropped;
    }
    add_to_keys(task, tile, weights, slopes->d_y, task->y_row, config->dv, slopes->d_v,
                input->v_row);
    differentiate_softmax(task, tile, slopes);
    if (input->take_bias != NULL) {
        input->take_bias(input->argument, tile, task->d_scores);
    }
    add_to_keys(task, tile, task->d_scores, task->q, input->q_row, config->dqk, slopes->d_k,
                input->k_row);
    multiply(task, (weir_product_t){.m = tile->queries,
                                    .n = config->dqk,
                                    .k = tile->keys,
                                    .a = task->d_scores,
                                    .lda = TILE,
                                    .b = task->k + tile->key * input->k_row,
                                    .ldb = input->k_row,
                                    .add = tile->key > 0,
                                    .c = slopes->d_q + tile->query * input->q_row,
                                    .ldc = input->q_row});
}

void weir_softmax_attention_backward_pair(const weir_softmax_attention_t *attention,
                                          const weir_softmax_input_t *input, size_t pair,
                                          uint32_t thread,
                                          const weir_softmax_gradient_t *gradient) {
    const weir_softmax_config_t *config = &attention->config;
    task_t task = make_task(attention, input, pair, thread);
    size_t values = task.first * task.y_row + task.head * config->dv;
    slopes_t slopes = {.y = gradient->y + values,
                       .logs = gradient->logs + task.first * config->heads + task.head,
                       .d_y = gradient->d_y + values,
                       .d_q = gradient->d_q + (task.q - input->q),
                       .d_k = gradient->d_k + (task.k - input->k),
                       .d_v = gradient->d_v + (task.v - input->v)};
    for (size_t key = 0; key < task.length; key += TILE) {
        size_t query = config->both_ways ? 0 : key;
        for (; query < task.length; query += TILE) {
            tile_t tile = {.query = query,
                           .queries = smaller(TILE, task.length - query),
                           .key = key,
                           .keys = smaller(TILE, task.length - key)};
            differentiate_tile(&task, &tile, &slopes);
        }
    }
}

static void run_backward(void *argument, size_t pair, uint32_t thread) {
    const call_t *call = argument;
    weir_softmax_attention_backward_pair(call->attention, call->input, pair, thread,
                                         call->gradient);
}

void weir_softmax_attention_backward(weir_softmax_attention_t *attention,
                                     const weir_softmax_input_t *input,
                                     const weir_softmax_gradient_t *gradient) {
    call_t call = {.attention = attention, .input = input, .gradient = gradient};
    weir_parallel_run(input->users * attention->config.heads, run_backward, &call);
}
