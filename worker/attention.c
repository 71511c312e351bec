#include "worker/attention.h"

#include "worker/attention_task.h"
#include "worker/bf16.h"
#include "worker/parallel.h"
#include "worker/softmax_attention.h"
#include "worker/time_bucket.h"
#include "worker/workspace.h"

#include <stdlib.h>
#include <string.h>

enum { DEFAULT_BUCKET_MEMORY = 64 << 20 };
/* Larger configurations are mistakes; below these no size overflows. */
static const size_t longest = (size_t)1 << 31, widest = (size_t)1 << 16;

/* Users and heads are cut into about so many chunks of equal work, whatever the number of threads:
 * each chunk has its own sums of the biases' gradients. */
enum { CHUNKS = 32 };

struct weir_attention {
    weir_attention_config_t config;
    const weir_kernels_t *kernels;
    void (*run_forward)(const weir_attention_task_t *task); /* NULL: naive */
    void (*run_backward)(const weir_attention_task_t *task);
    bool rounded;                       /* these round operands to bfloat16 */
    const weir_sequence_batch_t *batch; /* not owned; NULL until prepare */
    weir_bucket_cells_t cells;
    weir_workspace_t workspace; /* holds everything below, laid out for one batch */
    uint32_t threads;           /* each has one of the next three, *_size elements */
    weir_real_t *task;          /* of the longest user */
    size_t task_size, d_position_size, d_time_size;
    weir_real_t *position;   /* panel + padded N + panel: [panel + i - j] */
    weir_real_t *d_position; /* likewise: of one user and head */
    weir_real_t *time;       /* ATTENTION_TIME_TABLE */
    weir_real_t *d_time;     /* 129 x lanes: of one user and head */
    size_t chunk_count,
        chunks[CHUNKS + 2];   /* where each begins: pairs of user and head, in order */
    size_t longest;           /* user of the batch */
    double *position_sums;    /* chunks x longest: by i - j */
    double *time_sums;        /* chunks x 129 */
    size_t *bucket_places;    /* B: where a user's prepared buckets begin; SIZE_MAX: not prepared */
    uint8_t *highest_buckets; /* B */
    weir_softmax_attention_t *softmax; /* NULL: silu */
    weir_real_t *softmax_y;            /* T x (H dv): of a forward again, for backward */
    weir_real_t *softmax_logs;         /* T x H */
    uint8_t *buckets;
};

static weir_err_t check_config(const weir_attention_config_t *config, weir_error_t *error) {
    if (config->heads == 0 || config->dqk == 0 || config->dv == 0 ||
        config->attention_length == 0) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "attention needs at least one head, dqk, dv and attention length");
    }
    if (config->heads > widest || config->dqk > widest || config->dv > widest ||
        config->attention_length > longest) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "attention takes at most %zu heads, dqk and dv of %zu and %zu tokens",
                           widest, widest, longest);
    }
    return WEIR_OK;
}

static void choose_kernels(weir_attention_t *attention, const weir_kernels_t *kernels) {
    attention->kernels = kernels;
    attention->run_forward = kernels->attention_forward;
    attention->run_backward = kernels->attention_backward;
    attention->rounded = attention->config.bf16;
    const weir_bf16_kernels_t *bf16 = attention->config.bf16 ? weir_bf16_kernels(kernels) : NULL;
    if (bf16 != NULL) {
        attention->run_forward = bf16->attention_forward;
        attention->run_backward = bf16->attention_backward;
        attention->rounded = false;
    }
}

weir_err_t weir_attention_create(const weir_attention_config_t *config,
                                 const weir_kernels_t *kernels, weir_attention_t **attention,
                                 weir_error_t *error) {
    weir_attention_t *made = NULL;
    weir_err_t err = check_config(config, error);
    if (err == WEIR_OK && kernels == NULL) {
        err = weir_kernels_select(&kernels, error);
    }
    if (err != WEIR_OK) {
        goto out;
    }
    made = calloc(1, sizeof *made);
    if (made == NULL) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for attention");
        goto out;
    }
    made->config = *config;
    if (made->config.bucket_memory == 0) {
        made->config.bucket_memory = DEFAULT_BUCKET_MEMORY;
    }
    choose_kernels(made, kernels);
    if (config->softmax) {
        const weir_softmax_config_t softmax = {.heads = config->heads,
                                               .dqk = config->dqk,
                                               .dv = config->dv,
                                               .scale = weir_attention_softmax_scale(config),
                                               .bf16 = config->bf16};
        err = weir_softmax_attention_create(&softmax, kernels, &made->softmax, error);
        if (err != WEIR_OK) {
            goto out;
        }
    }
    weir_bucket_cells_init(&made->cells);
    *attention = made;
    made = NULL;
out:
    weir_attention_destroy(made);
    return err;
}

void weir_attention_destroy(weir_attention_t *attention) {
    if (attention == NULL) {
        return;
    }
    weir_softmax_attention_destroy(attention->softmax);
    weir_workspace_fini(&attention->workspace);
    free(attention);
}

static size_t user_length(const weir_sequence_batch_t *batch, size_t user) {
    return batch->offsets[user + 1] - batch->offsets[user];
}

static size_t user_bucket_bytes(const weir_attention_t *attention, size_t length) {
    size_t panel = attention->kernels->attention_panel;
    return weir_bucket_offset(weir_attention_padded(length, panel) / panel, panel);
}

/* Bytes of the users, in order, that fit in bucket_memory; places (unless NULL) of all users. */
static size_t place_buckets(const weir_attention_t *attention, const weir_sequence_batch_t *batch,
                            size_t *places) {
    size_t used = 0;
    for (size_t user = 0; user < batch->users; user++) {
        size_t bytes = user_bucket_bytes(attention, user_length(batch, user));
        bool fits = bytes <= attention->config.bucket_memory - used;
        if (places != NULL) {
            places[user] = fits ? used : SIZE_MAX;
        }
        used += fits ? bytes : 0;
    }
    return used;
}

/* A multiple of a cache line, whatever the number type. */
static size_t round_up(size_t elements) {
    return (elements + 15) / 16 * 16;
}

static void lay_out(weir_attention_t *attention, const weir_sequence_batch_t *batch,
                    size_t bucket_bytes) {
    const weir_attention_config_t *config = &attention->config;
    size_t panel = attention->kernels->attention_panel, lanes = panel / 2;
    size_t positions = 2 * panel + weir_attention_padded(config->attention_length, panel);
    size_t real = sizeof(weir_real_t), threads = attention->threads;
    weir_workspace_t *space = &attention->workspace;
    attention->task_size =
        round_up(weir_attention_workspace(attention->longest, config->dqk, config->dv, lanes));
    attention->d_position_size = round_up(positions);
    attention->d_time_size = round_up(WEIR_HSTU_TIME_BUCKETS * lanes);
    attention->task = weir_workspace_take(space, threads, attention->task_size * real);
    attention->d_position = weir_workspace_take(space, threads, attention->d_position_size * real);
    attention->d_time = weir_workspace_take(space, threads, attention->d_time_size * real);
    attention->position = weir_workspace_take(space, positions, real);
    attention->time = weir_workspace_take(space, ATTENTION_TIME_TABLE, real);
    attention->position_sums =
        weir_workspace_take(space, attention->chunk_count, attention->longest * sizeof(double));
    attention->time_sums =
        weir_workspace_take(space, attention->chunk_count, WEIR_HSTU_TIME_BUCKETS * sizeof(double));
    attention->bucket_places = weir_workspace_take(space, batch->users, sizeof(size_t));
    attention->highest_buckets = weir_workspace_take(space, batch->users, sizeof(uint8_t));
    size_t kept = attention->softmax != NULL ? batch->tokens : 0;
    attention->softmax_y = weir_workspace_take(space, kept, config->heads * config->dv * real);
    attention->softmax_logs = weir_workspace_take(space, kept, config->heads * real);
    attention->buckets = weir_workspace_take(space, bucket_bytes, sizeof(uint8_t));
}

/* Work of a user and head: its pairs, and what goes with each event. */
static double cost_of(size_t length) {
    return (double)length * ((double)length + 64.0);
}

static void cut_chunks(weir_attention_t *attention, const weir_sequence_batch_t *batch) {
    size_t heads = attention->config.heads, count = 0;
    double total = 0.0, sum = 0.0;
    for (size_t user = 0; user < batch->users; user++) {
        total += (double)heads * cost_of(user_length(batch, user));
    }
    attention->chunks[0] = 0;
    for (size_t pair = 0; pair < batch->users * heads; pair++) {
        sum += cost_of(user_length(batch, pair / heads));
        if (sum >= total / CHUNKS || pair + 1 == batch->users * heads) {
            attention->chunks[++count] = pair + 1;
            sum = 0.0;
        }
    }
    attention->chunk_count = count;
}

static weir_bucket_source_t bucket_source(const weir_attention_t *attention,
                                          const weir_sequence_batch_t *batch, size_t user) {
    size_t place = attention->bucket_places[user];
    return (weir_bucket_source_t){.cells = &attention->cells,
                                  .times = batch->times + batch->offsets[user],
                                  .next_times = batch->next_times + batch->offsets[user],
                                  .length = user_length(batch, user),
                                  .panel = attention->kernels->attention_panel,
                                  .prepared =
                                      place == SIZE_MAX ? NULL : attention->buckets + place};
}

/* A bound on the buckets of a user, from the extremes of its times. */
static uint8_t highest_bucket(const weir_bucket_source_t *source) {
    int64_t first = source->times[0], last = first;
    for (size_t i = 0; i < source->length; i++) {
        int64_t time = source->times[i], next = source->next_times[i];
        first = time < first ? time : first;
        first = next < first ? next : first;
        last = time > last ? time : last;
        last = next > last ? next : last;
    }
    return (uint8_t)weir_time_bucket_of_distance(weir_time_distance(last, first));
}

typedef struct {
    weir_attention_t *attention;
    const weir_sequence_batch_t *batch;
} filling_t;

static void fill_user(void *argument, size_t user, uint32_t thread) {
    const filling_t *filling = argument;
    const weir_attention_t *attention = filling->attention;
    size_t panel = attention->kernels->attention_panel;
    weir_bucket_source_t source = bucket_source(attention, filling->batch, user);
    (void)thread;
    attention->highest_buckets[user] = highest_bucket(&source);
    if (source.prepared == NULL) {
        return;
    }
    uint8_t *out = attention->buckets + attention->bucket_places[user];
    for (size_t query = 0; query < source.length; query += panel) {
        size_t end = query + panel < source.length ? query + panel : source.length;
        weir_buckets_fill(&source, query, 0, end, out + weir_bucket_offset(query / panel, panel));
    }
}

static void fill_buckets(weir_attention_t *attention, const weir_sequence_batch_t *batch) {
    filling_t filling = {attention, batch};
    (void)place_buckets(attention, batch, attention->bucket_places);
    weir_parallel_run(batch->users, fill_user, &filling);
}

weir_err_t weir_attention_prepare(weir_attention_t *attention, const weir_sequence_batch_t *batch,
                                  weir_error_t *error) {
    size_t length = 0;
    attention->batch = NULL;
    if (batch->visible != NULL && (attention->config.position_bias || attention->config.time_bias ||
                                   attention->config.softmax)) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "attention with biases or softmax takes no list of visible tokens");
    }
    for (size_t user = 0; user < batch->users; user++) {
        size_t events = user_length(batch, user);
        if (events == 0 || events > attention->config.attention_length) {
            return weir_errorf(error, WEIR_ERR_INVALID,
                               "user %zu of the batch has %zu events; attention takes 1 to %zu",
                               user, events, attention->config.attention_length);
        }
        for (size_t i = 0; batch->visible != NULL && i < events; i++) {
            if (batch->visible[batch->offsets[user] + i].end > events) {
                return weir_errorf(error, WEIR_ERR_INVALID,
                                   "token %zu of user %zu sees tokens beyond its %zu", i, user,
                                   events);
            }
        }
        length = events > length ? events : length;
    }
    if (attention->kernels->attention_panel > 0) {
        size_t bytes = attention->config.time_bias ? place_buckets(attention, batch, NULL) : 0;
        attention->longest = length;
        attention->threads = weir_parallel_threads();
        cut_chunks(attention, batch);
        weir_workspace_begin(&attention->workspace);
        lay_out(attention, batch, bytes);
        weir_err_t err = weir_workspace_reserve(&attention->workspace, "attention", error);
        if (err != WEIR_OK) {
            return err;
        }
        lay_out(attention, batch, bytes);
        if (attention->softmax != NULL) {
            err = weir_softmax_attention_prepare(attention->softmax, error);
            if (err != WEIR_OK) {
                return err;
            }
        }
        if (attention->config.time_bias) {
            fill_buckets(attention, batch);
        }
    }
    attention->batch = batch;
    return WEIR_OK;
}

size_t weir_attention_bytes(const weir_attention_t *attention) {
    return attention->workspace.used;
}

/* The bias tables as the tiles read them: position turned round, time with zeros behind it. */
static void turn_biases(weir_attention_t *attention, const weir_attention_input_t *input) {
    size_t panel = attention->kernels->attention_panel, n = attention->config.attention_length;
    size_t positions = 2 * panel + weir_attention_padded(n, panel);
    memset(attention->position, 0, positions * sizeof *attention->position);
    if (attention->config.position_bias) {
        for (size_t back = 0; back < n; back++) {
            attention->position[panel + back] = input->position_bias[n - 1 - back];
        }
    }
    if (attention->config.time_bias) {
        memset(attention->time, 0, ATTENTION_TIME_TABLE * sizeof *attention->time);
        memcpy(attention->time, input->time_bias, WEIR_HSTU_TIME_BUCKETS * sizeof *attention->time);
    }
}

/* One user and head, all but the outputs, on the memory of a thread. */
static weir_attention_task_t make_task(const weir_attention_t *attention,
                                       const weir_attention_input_t *input, size_t pair,
                                       uint32_t thread) {
    const weir_attention_config_t *config = &attention->config;
    size_t user = pair / config->heads, head = pair % config->heads;
    size_t values = config->heads * config->dv, keys = config->heads * config->dqk;
    size_t width = 2 * (values + keys), panel = attention->kernels->attention_panel;
    const weir_real_t *z = input->z + attention->batch->offsets[user] * width;
    weir_attention_task_t task = {
        .length = user_length(attention->batch, user),
        .dqk = config->dqk,
        .dv = config->dv,
        .z_width = width,
        .y_width = values,
        .v = z + values + head * config->dv,
        .q = z + 2 * values + head * config->dqk,
        .k = z + 2 * values + keys + head * config->dqk,
        .scale = weir_attention_scale(config),
        .score_scale = weir_attention_score_scale(config),
        .rounded = attention->rounded,
        .position = attention->position + panel,
        .d_position = attention->d_position + thread * attention->d_position_size + panel,
        .workspace = attention->task + thread * attention->task_size,
    };
    if (attention->batch->visible != NULL) {
        task.visible = attention->batch->visible + attention->batch->offsets[user];
    }
    if (config->time_bias) {
        task.time = attention->time;
        task.d_time = attention->d_time + thread * attention->d_time_size;
        task.buckets = bucket_source(attention, attention->batch, user);
        task.highest_bucket = attention->highest_buckets[user];
    }
    return task;
}

/* One call of forward or backward. */
typedef struct {
    const weir_attention_t *attention;
    const weir_attention_input_t *input;
    weir_real_t *y;
    const weir_real_t *d_y;
    const weir_attention_gradient_t *gradient;
} call_t;

static size_t first_token(const weir_attention_t *attention, size_t pair) {
    return attention->batch->offsets[pair / attention->config.heads];
}

/* What the softmax reads, of the user and head of the task. */
static weir_softmax_input_t softmax_input(const weir_attention_t *attention,
                                          const weir_attention_task_t *task,
                                          const weir_attention_input_t *input) {
    size_t values = attention->config.heads * attention->config.dv;
    size_t keys = attention->config.heads * attention->config.dqk;
    bool biased = attention->config.position_bias || attention->config.time_bias;
    return (weir_softmax_input_t){.users = attention->batch->users,
                                  .offsets = attention->batch->offsets,
                                  .v = input->z + values,
                                  .q = input->z + 2 * values,
                                  .k = input->z + 2 * values + keys,
                                  .q_row = task->z_width,
                                  .k_row = task->z_width,
                                  .v_row = task->z_width,
                                  .add_bias = biased ? weir_attention_add_bias : NULL,
                                  .take_bias = biased ? weir_attention_take_bias : NULL,
                                  .argument = task};
}

static void run_chunk_forward(void *argument, size_t chunk, uint32_t thread) {
    const call_t *call = argument;
    const weir_attention_t *attention = call->attention;
    for (size_t pair = attention->chunks[chunk]; pair < attention->chunks[chunk + 1]; pair++) {
        weir_attention_task_t task = make_task(attention, call->input, pair, thread);
        size_t head = pair % attention->config.heads;
        if (attention->softmax != NULL) {
            weir_softmax_input_t softmax = softmax_input(attention, &task, call->input);
            weir_softmax_attention_forward_pair(attention->softmax, &softmax, pair, thread, call->y,
                                                attention->softmax_logs);
            continue;
        }
        task.y = call->y + first_token(attention, pair) * task.y_width + head * task.dv;
        attention->run_forward(&task);
    }
}

void weir_attention_forward(weir_attention_t *attention, const weir_attention_input_t *input,
                            weir_real_t *y) {
    call_t call = {.attention = attention, .input = input, .y = y};
    if (attention->kernels->attention_panel == 0) {
        weir_attention_forward_naive(&attention->config, attention->batch, input, y);
        return;
    }
    turn_biases(attention, input);
    weir_parallel_run(attention->chunk_count, run_chunk_forward, &call);
}

/* Clear what one user and head adds its bias gradients to. */
static void clear_partial_sums(const weir_attention_t *attention,
                               const weir_attention_task_t *task) {
    size_t panel = attention->kernels->attention_panel;
    size_t positions = 2 * panel + weir_attention_padded(task->length, panel);
    memset(task->d_position - panel, 0, positions * sizeof *task->d_position);
    if (task->time != NULL) {
        memset(task->d_time, 0, (task->highest_bucket + 1u) * (panel / 2) * sizeof *task->d_time);
    }
}

/* And add it to the sums of its chunk, in float64. */
static void add_partial_sums(const weir_attention_t *attention, const weir_attention_task_t *task,
                             size_t chunk) {
    size_t lanes = attention->kernels->attention_panel / 2;
    double *positions = attention->position_sums + chunk * attention->longest;
    double *times = attention->time_sums + chunk * WEIR_HSTU_TIME_BUCKETS;
    for (size_t back = 0; back < task->length; back++) {
        positions[back] += (double)task->d_position[back];
    }
    for (size_t bucket = 0; task->time != NULL && bucket <= task->highest_bucket; bucket++) {
        double sum = 0.0;
        for (size_t lane = 0; lane < lanes; lane++) {
            sum += (double)task->d_time[bucket * lanes + lane];
        }
        times[bucket] += sum;
    }
}

/* The outputs of forward have been normalised since: they are computed again. */
static void run_softmax_backward(const call_t *call, const weir_attention_task_t *task, size_t pair,
                                 uint32_t thread) {
    const weir_attention_t *attention = call->attention;
    weir_softmax_input_t input = softmax_input(attention, task, call->input);
    weir_real_t *d_z = call->gradient->d_z;
    const weir_softmax_gradient_t gradient = {.y = attention->softmax_y,
                                              .logs = attention->softmax_logs,
                                              .d_y = call->d_y,
                                              .d_v = d_z + (input.v - call->input->z),
                                              .d_q = d_z + (input.q - call->input->z),
                                              .d_k = d_z + (input.k - call->input->z)};
    weir_softmax_attention_forward_pair(attention->softmax, &input, pair, thread,
                                        attention->softmax_y, attention->softmax_logs);
    weir_softmax_attention_backward_pair(attention->softmax, &input, pair, thread, &gradient);
}

static void run_chunk_backward(void *argument, size_t chunk, uint32_t thread) {
    const call_t *call = argument;
    const weir_attention_t *attention = call->attention;
    const weir_real_t *z = call->input->z;
    memset(attention->position_sums + chunk * attention->longest, 0,
           attention->longest * sizeof *attention->position_sums);
    memset(attention->time_sums + chunk * WEIR_HSTU_TIME_BUCKETS, 0,
           WEIR_HSTU_TIME_BUCKETS * sizeof *attention->time_sums);
    for (size_t pair = attention->chunks[chunk]; pair < attention->chunks[chunk + 1]; pair++) {
        weir_attention_task_t task = make_task(attention, call->input, pair, thread);
        size_t head = pair % attention->config.heads;
        task.d_y = call->d_y + first_token(attention, pair) * task.y_width + head * task.dv;
        task.d_v = call->gradient->d_z + (task.v - z);
        task.d_q = call->gradient->d_z + (task.q - z);
        task.d_k = call->gradient->d_z + (task.k - z);
        clear_partial_sums(attention, &task);
        if (attention->softmax != NULL) {
            run_softmax_backward(call, &task, pair, thread);
        } else {
            attention->run_backward(&task);
        }
        add_partial_sums(attention, &task, chunk);
    }
}

/* Sums of all chunks into those of the first, in order. */
static void add_chunks(const weir_attention_t *attention) {
    for (size_t chunk = 1; chunk < attention->chunk_count; chunk++) {
        const double *positions = attention->position_sums + chunk * attention->longest;
        const double *times = attention->time_sums + chunk * WEIR_HSTU_TIME_BUCKETS;
        for (size_t back = 0; back < attention->longest; back++) {
            attention->position_sums[back] += positions[back];
        }
        for (size_t bucket = 0; bucket < WEIR_HSTU_TIME_BUCKETS; bucket++) {
            attention->time_sums[bucket] += times[bucket];
        }
    }
}

static void write_bias_gradients(const weir_attention_t *attention,
                                 const weir_attention_gradient_t *gradient) {
    size_t n = attention->config.attention_length;
    if (gradient->d_position_bias != NULL) {
        memset(gradient->d_position_bias, 0, (2 * n - 1) * sizeof *gradient->d_position_bias);
        for (size_t back = 0; attention->config.position_bias && back < attention->longest;
             back++) {
            gradient->d_position_bias[n - 1 - back] = (weir_real_t)attention->position_sums[back];
        }
    }
    if (gradient->d_time_bias != NULL) {
        for (size_t bucket = 0; bucket < WEIR_HSTU_TIME_BUCKETS; bucket++) {
            gradient->d_time_bias[bucket] = (weir_real_t)attention->time_sums[bucket];
        }
    }
}

void weir_attention_backward(weir_attention_t *attention, const weir_attention_input_t *input,
                             const weir_real_t *d_y, const weir_attention_gradient_t *gradient) {
    call_t call = {.attention = attention, .input = input, .d_y = d_y, .gradient = gradient};
    if (attention->kernels->attention_panel == 0) {
        weir_attention_backward_naive(&attention->config, attention->batch, input, d_y, gradient);
        return;
    }
    turn_biases(attention, input);
    weir_parallel_run(attention->chunk_count, run_chunk_backward, &call);
    add_chunks(attention);
    write_bias_gradients(attention, gradient);
}
