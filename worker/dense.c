#include "worker/dense.h"

#include "common/assert.h"
#include "common/hash.h"
#include "common/trace.h"
#include "worker/kernels.h"

#include <stdlib.h>
#include <string.h>

/* 64 KiB a bucket: small enough that the first are under way while backward still runs, large
 * enough that a frame's fixed cost is little. */
enum { BUCKET_ELEMENTS = 16384 };

/* Sequence numbers of gather frames beyond any bucket: the two parts of the state, for worker 0. */
enum { SEQUENCE_STATE_M = 0x40000000, SEQUENCE_STATE_V = 0x50000000 };

struct weir_dense {
    size_t elements, buckets;
    weir_dense_options_t options;
    const weir_kernels_t *kernels;
    weir_exchange_t *exchange; /* not owned */
    uint32_t worker, workers;
    uint64_t step;
    float *parameters, *gradients; /* elements */
    float *next;                   /* elements: the parameters after this step, as far as known;
                                      backward reads those before it to its end */
    float *m, *v;                  /* elements; only this worker's slices are used */
    float *sum;                    /* BUCKET_ELEMENTS: the slice being reduced */
    size_t *missing;               /* per bucket: elements not ready yet */
    size_t left;                   /* buckets that are not updated: 0 .. left - 1 */
    weir_err_t send_err;           /* first failure within weir_dense_ready */
    weir_error_t send_error;
};

static size_t bucket_begin(size_t bucket) {
    return bucket * BUCKET_ELEMENTS;
}

static size_t bucket_size(const weir_dense_t *dense, size_t bucket) {
    size_t left = dense->elements - bucket_begin(bucket);
    return left < BUCKET_ELEMENTS ? left : BUCKET_ELEMENTS;
}

/* First element of worker `worker`'s slice of a bucket (worker = W: its end). */
static size_t slice_begin(const weir_dense_t *dense, size_t bucket, uint32_t worker) {
    return bucket_begin(bucket) + bucket_size(dense, bucket) * worker / dense->workers;
}

static size_t slice_size(const weir_dense_t *dense, size_t bucket, uint32_t worker) {
    return slice_begin(dense, bucket, worker + 1) - slice_begin(dense, bucket, worker);
}

weir_err_t weir_dense_create(size_t elements, const weir_dense_options_t *options,
                             weir_exchange_t *exchange, weir_dense_t **dense, weir_error_t *error) {
    weir_dense_t *created = calloc(1, sizeof *created);
    if (created == NULL) {
        goto out_of_memory;
    }
    created->elements = elements;
    created->buckets = (elements + BUCKET_ELEMENTS - 1) / BUCKET_ELEMENTS;
    created->options = *options;
    created->exchange = exchange;
    created->worker = weir_exchange_worker(exchange);
    created->workers = weir_exchange_workers(exchange);
    created->parameters = calloc(elements, sizeof(float));
    created->gradients = calloc(elements, sizeof(float));
    created->next = calloc(elements, sizeof(float));
    created->m = calloc(elements, sizeof(float));
    created->v = calloc(elements, sizeof(float));
    created->sum = calloc(BUCKET_ELEMENTS, sizeof(float));
    created->missing = calloc(created->buckets + 1, sizeof(size_t));
    if (created->parameters == NULL || created->gradients == NULL || created->next == NULL ||
        created->m == NULL || created->v == NULL || created->sum == NULL ||
        created->missing == NULL) {
        goto out_of_memory;
    }
    weir_err_t err = weir_kernels_select(&created->kernels, error);
    if (err != WEIR_OK) {
        weir_dense_destroy(created);
        return err;
    }
    *dense = created;
    return WEIR_OK;

out_of_memory:
    weir_dense_destroy(created);
    return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for %zu dense parameters", elements);
}

void weir_dense_destroy(weir_dense_t *dense) {
    if (dense != NULL) {
        free(dense->parameters);
        free(dense->gradients);
        free(dense->next);
        free(dense->m);
        free(dense->v);
        free(dense->sum);
        free(dense->missing);
        free(dense);
    }
}

float *weir_dense_parameters(weir_dense_t *dense) {
    return dense->parameters;
}

float *weir_dense_gradients(weir_dense_t *dense) {
    return dense->gradients;
}

uint64_t weir_dense_checksum(const weir_dense_t *dense) {
    return weir_checksum(dense->parameters, dense->elements * sizeof(float), 0);
}

void weir_dense_begin(weir_dense_t *dense, uint64_t step) {
    dense->step = step;
    dense->send_err = WEIR_OK;
    dense->left = dense->buckets;
    for (size_t bucket = 0; bucket < dense->buckets; bucket++) {
        dense->missing[bucket] = bucket_size(dense, bucket);
    }
}

/* Send each other worker its slice of `values` of one bucket. */
static weir_err_t scatter_bucket(weir_dense_t *dense, size_t bucket, weir_error_t *error) {
    for (uint32_t other = 0; other < dense->workers; other++) {
        size_t size = slice_size(dense, bucket, other);
        if (other == dense->worker || size == 0) {
            continue;
        }
        weir_err_t err = weir_exchange_send(
            dense->exchange, WEIR_FRAME_REDUCE, dense->step, (uint32_t)bucket, other,
            dense->gradients + slice_begin(dense, bucket, other), size * sizeof(float), error);
        if (err != WEIR_OK) {
            return err;
        }
    }
    return WEIR_OK;
}

/* Add the slices of all workers, in worker order, into dense->sum. */
static weir_err_t reduce_slice(weir_dense_t *dense, size_t bucket, weir_error_t *error) {
    size_t size = slice_size(dense, bucket, dense->worker);
    const float *own = dense->gradients + slice_begin(dense, bucket, dense->worker);
    memset(dense->sum, 0, size * sizeof(float));
    for (uint32_t other = 0; other < dense->workers && size > 0; other++) {
        void *payload = NULL;
        const float *slice = own;
        if (other != dense->worker) {
            weir_err_t err = weir_exchange_receive(dense->exchange, WEIR_FRAME_REDUCE, dense->step,
                                                   (uint32_t)bucket, other, size * sizeof(float),
                                                   &payload, error);
            if (err != WEIR_OK) {
                return err;
            }
            slice = payload;
        }
        for (size_t i = 0; i < size; i++) {
            dense->sum[i] += slice[i];
        }
        weir_buffer_release(payload);
    }
    return WEIR_OK;
}

static void update_slice(weir_dense_t *dense, size_t bucket) {
    size_t begin = slice_begin(dense, bucket, dense->worker);
    const weir_dense_options_t *options = &dense->options;
    weir_adamw_t adamw = weir_adamw_at(dense->step, options->learning_rate, options->beta1,
                                       options->beta2, options->epsilon, options->weight_decay);
    size_t size = slice_size(dense, bucket, dense->worker);
    memcpy(dense->next + begin, dense->parameters + begin, size * sizeof(float));
    dense->kernels->adamw(&adamw, dense->sum, dense->next + begin, dense->m + begin,
                          dense->v + begin, size);
}

/* Give the updated slice of one bucket to all others. */
static weir_err_t send_updated(weir_dense_t *dense, size_t bucket, weir_error_t *error) {
    size_t size = slice_size(dense, bucket, dense->worker);
    for (uint32_t other = 0; other < dense->workers && size > 0; other++) {
        if (other == dense->worker) {
            continue;
        }
        weir_err_t err = weir_exchange_send(
            dense->exchange, WEIR_FRAME_GATHER, dense->step, (uint32_t)bucket, other,
            dense->next + slice_begin(dense, bucket, dense->worker), size * sizeof(float), error);
        if (err != WEIR_OK) {
            return err;
        }
    }
    return WEIR_OK;
}

/* Receive every other worker's slice of one bucket into `values` (the flat buffer). */
static weir_err_t receive_slices(weir_dense_t *dense, uint64_t step, uint32_t sequence,
                                 size_t bucket, float *values, weir_error_t *error) {
    for (uint32_t other = 0; other < dense->workers; other++) {
        size_t size = slice_size(dense, bucket, other);
        if (other == dense->worker || size == 0) {
            continue;
        }
        void *payload = NULL;
        weir_err_t err = weir_exchange_receive(dense->exchange, WEIR_FRAME_GATHER, step, sequence,
                                               other, size * sizeof(float), &payload, error);
        if (err != WEIR_OK) {
            return err;
        }
        memcpy(values + slice_begin(dense, bucket, other), payload, size * sizeof(float));
        weir_buffer_release(payload);
    }
    return WEIR_OK;
}

/* Reduce, update and give away the last bucket that is left. */
static weir_err_t update_bucket(weir_dense_t *dense, weir_error_t *error) {
    size_t bucket = dense->left - 1;
    WEIR_ASSERT(dense->missing[bucket] == 0);
    weir_err_t err = reduce_slice(dense, bucket, error);
    if (err == WEIR_OK) {
        int64_t begun = weir_trace_begin();
        update_slice(dense, bucket);
        weir_trace_end(begun, "update", dense->step, WEIR_TRACE_NOBODY);
        err = send_updated(dense, bucket, error);
    }
    dense->left--;
    return err;
}

/* Whether the slices of all other workers are here; none is sent of what is empty. */
static bool has_slices(const weir_dense_t *dense, size_t bucket) {
    size_t size = slice_size(dense, bucket, dense->worker);
    for (uint32_t other = 0; other < dense->workers && size > 0; other++) {
        if (other != dense->worker && !weir_exchange_has(dense->exchange, WEIR_FRAME_REDUCE,
                                                         dense->step, (uint32_t)bucket, other)) {
            return false;
        }
    }
    return true;
}

/* Update and give away the buckets that are ready here and whose slices have come. */
static weir_err_t update_what_came(weir_dense_t *dense, weir_error_t *error) {
    weir_err_t err = weir_exchange_look(dense->exchange, error);
    /* Backward finishes the last layers first: they are reduced in that order. */
    while (err == WEIR_OK && dense->left > 0 && dense->missing[dense->left - 1] == 0 &&
           has_slices(dense, dense->left - 1)) {
        err = update_bucket(dense, error);
    }
    return err;
}

void weir_dense_ready(void *argument, size_t begin, size_t end) {
    weir_dense_t *dense = argument;
    WEIR_ASSERT(begin <= end && end <= dense->elements);
    while (begin < end) {
        size_t bucket = begin / BUCKET_ELEMENTS;
        size_t bucket_end = bucket_begin(bucket) + bucket_size(dense, bucket);
        size_t stop = end < bucket_end ? end : bucket_end;
        WEIR_ASSERT(dense->missing[bucket] >= stop - begin);
        dense->missing[bucket] -= stop - begin;
        if (dense->missing[bucket] == 0 && dense->send_err == WEIR_OK) {
            int64_t begun = weir_trace_begin();
            dense->send_err = scatter_bucket(dense, bucket, &dense->send_error);
            weir_trace_end(begun, "send bucket", dense->step, WEIR_TRACE_NOBODY);
        }
        begin = stop;
    }
    if (dense->send_err == WEIR_OK) {
        dense->send_err = update_what_came(dense, &dense->send_error);
    }
}

static weir_err_t report_send(const weir_dense_t *dense, weir_error_t *error) {
    if (dense->send_err != WEIR_OK && error != NULL) {
        *error = dense->send_error;
    }
    return dense->send_err;
}

weir_err_t weir_dense_advance(weir_dense_t *dense, weir_error_t *error) {
    weir_err_t err = report_send(dense, error);
    return err == WEIR_OK ? update_what_came(dense, error) : err;
}

weir_err_t weir_dense_finish(weir_dense_t *dense, weir_error_t *error) {
    weir_err_t err = report_send(dense, error);
    while (err == WEIR_OK && dense->left > 0) {
        err = update_bucket(dense, error);
    }
    for (size_t bucket = dense->buckets; bucket-- > 0 && err == WEIR_OK;) {
        err = receive_slices(dense, dense->step, (uint32_t)bucket, bucket, dense->next, error);
    }
    if (err == WEIR_OK) {
        float *before = dense->parameters;
        dense->parameters = dense->next;
        dense->next = before;
    }
    return err;
}

/* Bring one part of the state together on worker 0. */
static weir_err_t collect_part(weir_dense_t *dense, uint64_t step, uint32_t first_sequence,
                               const float *part, float *whole, weir_error_t *error) {
    for (size_t bucket = 0; bucket < dense->buckets; bucket++) {
        uint32_t sequence = first_sequence + (uint32_t)bucket;
        size_t begin = slice_begin(dense, bucket, dense->worker);
        size_t size = slice_size(dense, bucket, dense->worker);
        weir_err_t err = WEIR_OK;
        if (dense->worker == 0) {
            memcpy(whole + begin, part + begin, size * sizeof(float));
            err = receive_slices(dense, step, sequence, bucket, whole, error);
        } else if (size > 0) {
            err = weir_exchange_send(dense->exchange, WEIR_FRAME_GATHER, step, sequence, 0,
                                     part + begin, size * sizeof(float), error);
        }
        if (err != WEIR_OK) {
            return err;
        }
    }
    return WEIR_OK;
}

weir_err_t weir_dense_collect_state(weir_dense_t *dense, uint64_t step, float *m, float *v,
                                    weir_error_t *error) {
    weir_err_t err = collect_part(dense, step, SEQUENCE_STATE_M, dense->m, m, error);
    if (err == WEIR_OK) {
        err = collect_part(dense, step, SEQUENCE_STATE_V, dense->v, v, error);
    }
    return err;
}

void weir_dense_restore_state(weir_dense_t *dense, const float *m, const float *v) {
    memcpy(dense->m, m, dense->elements * sizeof(float));
    memcpy(dense->v, v, dense->elements * sizeof(float));
}
