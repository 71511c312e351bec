#include "worker/rank_candidates.h"

#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"
#include "ps/model_tables.h"
#include "worker/history_cache.h"
#include "worker/ranking_cache.h"

#include <stdlib.h>

typedef struct {
    const weir_rank_parts_t *parts;
    const weir_requests_t *requests;
    weir_rounds_t *rounds;
    uint32_t worker, workers;
    const weir_ranking_tasks_t *tasks;
    weir_ranking_config_t model;
    weir_ranking_cache_t *cache;
    weir_history_cache_t *histories;
    weir_tensor_writer_t *file;
    float *rows; /* of a batch */
    size_t row_room;
    float *logits; /* microbatch x K */
    size_t asked, found;
} work_t;

static weir_err_t begin_file(work_t *work, const char *folder, weir_error_t *error) {
    const weir_requests_t *requests = work->requests;
    char path[WEIR_PATH_MAX];
    uint64_t shape[2] = {0, work->model.tasks};
    for (size_t i = 0; i < requests->count; i++) {
        if (weir_request_worker(requests->users[i], work->workers) == work->worker) {
            shape[0] +=
                (uint64_t)(requests->candidate_offsets[i + 1] - requests->candidate_offsets[i]);
        }
    }
    weir_err_t err = weir_answers_path(path, sizeof path, folder, work->worker, error);
    if (err == WEIR_OK) {
        err = weir_tensor_writer_create(path, &work->file, error);
    }
    if (err == WEIR_OK) {
        err = weir_tensor_writer_declare(work->file, "scores", WEIR_DTYPE_F32, 2, shape, error);
    }
    return err == WEIR_OK ? weir_tensor_writer_begin(work->file, error) : err;
}

/* The rows of a batch, to work->rows. */
static weir_err_t pull(work_t *work, const weir_ranking_train_batch_t *batch, weir_error_t *error) {
    size_t count = batch->train.key_count, dim = work->model.layers.embedding_dim;
    if (count + 1 > work->row_room) {
        free(work->rows);
        work->row_room = count + count / 10 + 1;
        work->rows = malloc(work->row_room * dim * sizeof *work->rows);
        if (work->rows == NULL) {
            work->row_room = 0;
            return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for %zu rows", count);
        }
    }
    return weir_ps_client_peek(work->parts->client, WEIR_MODEL_ITEM_TABLE, batch->train.keys, count,
                               work->rows, error);
}

/* Keys and values of a request's history, from the cache or made now. */
static weir_err_t find_history(work_t *work, weir_history_id_t id,
                               const weir_stu_history_t **history, weir_error_t *error) {
    const weir_ranking_train_batch_t *batch = NULL;
    weir_stu_history_t *made = NULL;
    work->asked++;
    *history = weir_history_cache_get(work->histories, id);
    if (*history != NULL) {
        work->found++;
        return WEIR_OK;
    }
    weir_err_t err = weir_ranking_read_history(work->parts->reader, (uint64_t)id.user,
                                               (size_t)id.events, id.time, &batch, error);
    if (err == WEIR_OK) {
        err = pull(work, batch, error);
    }
    if (err == WEIR_OK) {
        err = weir_ranking_cache_fill(work->cache, work->parts->parameters, &batch->ranking,
                                      work->rows, &made, error);
    }
    return err == WEIR_OK ? weir_history_cache_put(work->histories, id, made, history, error) : err;
}

static weir_err_t score(work_t *work, const weir_stu_history_t *history, uint64_t user,
                        const int64_t *items, size_t count, weir_error_t *error) {
    const weir_ranking_train_batch_t *batch = NULL;
    size_t tasks = work->model.tasks;
    weir_err_t err =
        weir_ranking_read_candidates(work->parts->reader, user, items, count, &batch, error);
    if (err == WEIR_OK) {
        err = pull(work, batch, error);
    }
    if (err == WEIR_OK) {
        err = weir_ranking_cache_score(work->cache, work->parts->parameters, history,
                                       &batch->ranking, work->rows, work->logits, error);
    }
    for (size_t i = 0; i < count * tasks && err == WEIR_OK; i++) {
        work->logits[i] =
            (float)weir_ranking_score(work->model.kinds[i % tasks], (double)work->logits[i]);
    }
    return err == WEIR_OK ? weir_tensor_writer_append(work->file, work->logits,
                                                      count * tasks * sizeof *work->logits, error)
                          : err;
}

static weir_err_t answer(work_t *work, size_t request, weir_error_t *error) {
    const weir_requests_t *requests = work->requests;
    const int64_t *offsets = requests->candidate_offsets;
    const weir_history_id_t id = {requests->users[request], requests->events[request],
                                  requests->times[request]};
    const weir_stu_history_t *history = NULL;
    if (offsets[request] == offsets[request + 1]) {
        return WEIR_OK;
    }
    weir_err_t err = find_history(work, id, &history, error);
    for (int64_t at = offsets[request]; at < offsets[request + 1] && err == WEIR_OK;) {
        size_t left = (size_t)(offsets[request + 1] - at);
        size_t count = left < requests->microbatch ? left : requests->microbatch;
        err = score(work, history, (uint64_t)id.user, requests->candidates + at, count, error);
        at += (int64_t)count;
        if (err == WEIR_OK) {
            err = weir_rounds_pause(work->rounds, error);
        }
    }
    return err;
}

static weir_err_t answer_all(work_t *work, weir_error_t *error) {
    const weir_requests_t *requests = work->requests;
    weir_err_t err = WEIR_OK;
    double started = weir_clock_seconds(), said = started;
    for (size_t i = 0; i < requests->count && err == WEIR_OK; i++) {
        if (weir_request_worker(requests->users[i], work->workers) != work->worker) {
            continue;
        }
        err = answer(work, i, error);
        double now = weir_clock_seconds();
        if (work->worker == 0 && now - said > 10.0) {
            double done = (double)(i + 1), all = (double)requests->count;
            said = now;
            weir_log(WEIR_LOG_INFO, "rank", "%.0f%% of the requests, %.0f s left",
                     100.0 * done / all, (now - started) * (all - done) / done);
        }
    }
    weir_log(WEIR_LOG_DEBUG, "rank", "%zu of %zu histories were in the cache, %zu bytes now",
             work->found, work->asked, weir_history_cache_bytes(work->histories));
    if (err == WEIR_OK) {
        err = weir_tensor_writer_commit(work->file, NULL, NULL, error);
    }
    return err == WEIR_OK ? weir_rounds_finish(work->rounds, error) : err;
}

weir_err_t weir_rank_candidates(const weir_rank_parts_t *parts, const weir_requests_t *requests,
                                const char *folder, weir_rounds_t *rounds, weir_error_t *error) {
    work_t work = {.parts = parts,
                   .requests = requests,
                   .rounds = rounds,
                   .worker = weir_exchange_worker(rounds->exchange),
                   .workers = weir_exchange_workers(rounds->exchange),
                   .tasks = weir_ranking_reader_tasks(parts->reader),
                   .model = weir_ranking_of_config(parts->config, parts->dataset,
                                                   weir_ranking_reader_tasks(parts->reader))};
    weir_err_t err = weir_ranking_cache_create(&work.model, &work.cache, error);
    if (err == WEIR_OK) {
        err = weir_history_cache_create(requests->cache_bytes, &work.histories, error);
    }
    if (err == WEIR_OK) {
        work.logits = malloc(requests->microbatch * work.model.tasks * sizeof *work.logits);
        err = work.logits != NULL ? WEIR_OK
                                  : weir_errorf(error, WEIR_ERR_MEMORY,
                                                "no memory for microbatches of %zu candidates",
                                                requests->microbatch);
    }
    if (err == WEIR_OK) {
        err = begin_file(&work, folder, error);
    }
    if (err == WEIR_OK) {
        err = answer_all(&work, error);
    }
    weir_tensor_writer_destroy(work.file);
    weir_history_cache_destroy(work.histories);
    weir_ranking_cache_destroy(work.cache);
    free(work.rows);
    free(work.logits);
    return err;
}
