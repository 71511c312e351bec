#include "worker/attention.h"

#include "worker/attention_task.h"
#include "worker/time_bucket.h"
#include "worker/workspace.h"

#include <stdlib.h>
#include <string.h>

enum { DEFAULT_BUCKET_MEMORY = 64 << 20 };
/* Larger configurations are mistakes; below these no size overflows. */
static const size_t longest = (size_t)1 << 31, widest = (size_t)1 << 16;

struct weir_attention {
    weir_attention_config_t config;
    const weir_kernels_t *kernels;
    const weir_sequence_batch_t *batch; /* not owned; NULL until prepare */
    weir_bucket_cells_t cells;
    weir_workspace_t workspace; /* holds everything below, laid out for one batch */
    weir_real_t *task;          /* of the longest user */
    weir_real_t *position;      /* panel + padded N + panel: [panel + i - j] */
    weir_real_t *d_position;    /* likewise: of one user and head */
    weir_real_t *time;          /* ATTENTION_TIME_TABLE */
    weir_real_t *d_time;        /* 129 x lanes: of one user and head */
    double *position_sums;      /* N: by i - j */
    double *time_sums;          /* 129 */
    size_t *bucket_places;    /* B: where a user's prepared buckets begin; SIZE_MAX: not prepared */
    uint8_t *highest_buckets; /* B */
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
    made->kernels = kernels;
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

static void lay_out(weir_attention_t *attention, const weir_sequence_batch_t *batch, size_t length,
                    size_t bucket_bytes) {
    const weir_attention_config_t *config = &attention->config;
    size_t panel = attention->kernels->attention_panel, lanes = panel / 2;
    size_t positions = 2 * panel + weir_attention_padded(config->attention_length, panel);
    weir_workspace_t *space = &attention->workspace;
    size_t task = weir_attention_workspace(length, config->dqk, config->dv, lanes);
    attention->task = weir_workspace_take(space, task, sizeof(weir_real_t));
    attention->position = weir_workspace_take(space, positions, sizeof(weir_real_t));
    attention->d_position = weir_workspace_take(space, positions, sizeof(weir_real_t));
    attention->time = weir_workspace_take(space, ATTENTION_TIME_TABLE, sizeof(weir_real_t));
    attention->d_time =
        weir_workspace_take(space, WEIR_HSTU_TIME_BUCKETS * lanes, sizeof(weir_real_t));
    attention->position_sums = weir_workspace_take(space, config->attention_length, sizeof(double));
    attention->time_sums = weir_workspace_take(space, WEIR_HSTU_TIME_BUCKETS, sizeof(double));
    attention->bucket_places = weir_workspace_take(space, batch->users, sizeof(size_t));
    attention->highest_buckets = weir_workspace_take(space, batch->users, sizeof(uint8_t));
    attention->buckets = weir_workspace_take(space, bucket_bytes, sizeof(uint8_t));
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

static void fill_buckets(weir_attention_t *attention, const weir_sequence_batch_t *batch) {
    size_t panel = attention->kernels->attention_panel;
    (void)place_buckets(attention, batch, attention->bucket_places);
    for (size_t user = 0; user < batch->users; user++) {
        weir_bucket_source_t source = bucket_source(attention, batch, user);
        attention->highest_buckets[user] = highest_bucket(&source);
        if (source.prepared == NULL) {
            continue;
        }
        uint8_t *out = attention->buckets + attention->bucket_places[user];
        for (size_t query = 0; query < source.length; query += panel) {
            size_t end = query + panel < source.length ? query + panel : source.length;
            weir_buckets_fill(&source, query, 0, end,
                              out + weir_bucket_offset(query / panel, panel));
        }
    }
}

weir_err_t weir_attention_prepare(weir_attention_t *attention, const weir_sequence_batch_t *batch,
                                  weir_error_t *error) {
    size_t length = 0;
    attention->batch = NULL;
    for (size_t user = 0; user < batch->users; user++) {
        size_t events = user_length(batch, user);
        if (events == 0 || events > attention->config.attention_length) {
            return weir_errorf(error, WEIR_ERR_INVALID,
                               "user %zu of the batch has %zu events; attention takes 1 to %zu",
                               user, events, attention->config.attention_length);
        }
        length = events > length ? events : length;
    }
    if (attention->kernels->attention_panel > 0) {
        size_t bytes = attention->config.time_bias ? place_buckets(attention, batch, NULL) : 0;
        weir_workspace_begin(&attention->workspace);
        lay_out(attention, batch, length, bytes);
        weir_err_t err = weir_workspace_reserve(&attention->workspace, "attention", error);
        if (err != WEIR_OK) {
            return err;
        }
        lay_out(attention, batch, length, bytes);
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

/* One user and head, all but the outputs. */
static weir_attention_task_t make_task(const weir_attention_t *attention,
                                       const weir_attention_input_t *input, size_t user,
                                       size_t head) {
    const weir_attention_config_t *config = &attention->config;
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
        .scale = (weir_real_t)(1.0 / (double)config->attention_length),
        .position = attention->position + panel,
        .d_position = attention->d_position + panel,
        .workspace = attention->task,
    };
    if (config->time_bias) {
        task.time = attention->time;
        task.d_time = attention->d_time;
        task.buckets = bucket_source(attention, attention->batch, user);
        task.highest_bucket = attention->highest_buckets[user];
    }
    return task;
}

void weir_attention_forward(weir_attention_t *attention, const weir_attention_input_t *input,
                            weir_real_t *y) {
    if (attention->kernels->attention_panel == 0) {
        weir_attention_forward_naive(&attention->config, attention->batch, input, y);
        return;
    }
    turn_biases(attention, input);
    for (size_t user = 0; user < attention->batch->users; user++) {
        for (size_t head = 0; head < attention->config.heads; head++) {
            weir_attention_task_t task = make_task(attention, input, user, head);
            task.y = y + attention->batch->offsets[user] * task.y_width + head * task.dv;
            attention->kernels->attention_forward(&task);
        }
    }
}

/* Clear what one user and head adds its bias gradients to. */
static void clear_partial_sums(const weir_attention_t *attention,
                               const weir_attention_task_t *task) {
    size_t panel = attention->kernels->attention_panel;
    size_t positions = 2 * panel + weir_attention_padded(task->length, panel);
    memset(attention->d_position, 0, positions * sizeof *attention->d_position);
    if (task->time != NULL) {
        memset(attention->d_time, 0,
               (task->highest_bucket + 1u) * (panel / 2) * sizeof *attention->d_time);
    }
}

/* And add it to the sums of the batch, in float64. */
static void add_partial_sums(const weir_attention_t *attention, const weir_attention_task_t *task) {
    size_t lanes = attention->kernels->attention_panel / 2;
    for (size_t back = 0; back < task->length; back++) {
        attention->position_sums[back] += (double)task->d_position[back];
    }
    for (size_t bucket = 0; task->time != NULL && bucket <= task->highest_bucket; bucket++) {
        double sum = 0.0;
        for (size_t lane = 0; lane < lanes; lane++) {
            sum += (double)attention->d_time[bucket * lanes + lane];
        }
        attention->time_sums[bucket] += sum;
    }
}

static void write_bias_gradients(const weir_attention_t *attention,
                                 const weir_attention_gradient_t *gradient) {
    size_t n = attention->config.attention_length;
    if (gradient->d_position_bias != NULL) {
        memset(gradient->d_position_bias, 0, (2 * n - 1) * sizeof *gradient->d_position_bias);
        for (size_t back = 0; attention->config.position_bias && back < n; back++) {
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
    const weir_attention_config_t *config = &attention->config;
    if (attention->kernels->attention_panel == 0) {
        weir_attention_backward_naive(config, attention->batch, input, d_y, gradient);
        return;
    }
    turn_biases(attention, input);
    memset(attention->position_sums, 0,
           config->attention_length * sizeof *attention->position_sums);
    memset(attention->time_sums, 0, WEIR_HSTU_TIME_BUCKETS * sizeof *attention->time_sums);
    for (size_t user = 0; user < attention->batch->users; user++) {
        for (size_t head = 0; head < config->heads; head++) {
            weir_attention_task_t task = make_task(attention, input, user, head);
            size_t first = attention->batch->offsets[user];
            task.d_y = d_y + first * task.y_width + head * task.dv;
            task.d_v = gradient->d_z + (task.v - input->z);
            task.d_q = gradient->d_z + (task.q - input->z);
            task.d_k = gradient->d_z + (task.k - input->z);
            clear_partial_sums(attention, &task);
            attention->kernels->attention_backward(&task);
            add_partial_sums(attention, &task);
        }
    }
    write_bias_gradients(attention, gradient);
}
