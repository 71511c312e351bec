#include "worker/recommend.h"

#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"
#include "worker/protocol.h"
#include "worker/top_items.h"

#include <stdlib.h>
#include <string.h>

/* Users for whom the catalogue passes by once, where their lists are short: 13 MB encoded at
 * D = 50. */
enum { BLOCK_USERS = 65536, BLOCK_ENTRIES = 1 << 23 };

typedef struct {
    const weir_retrieval_parts_t *parts;
    const weir_requests_t *requests;
    weir_retrieval_t *retrieval;
    weir_rounds_t *rounds;
    uint32_t worker;
    weir_similarity_t similarity;
    size_t k, block;
    size_t *mine; /* numbers of this worker's requests */
    size_t count; /* of them */
    weir_tensor_writer_t *file;
    /* of a block */
    weir_history_t *histories;
    float *encoded;
    size_t *excluded_offsets;
    int64_t *excluded;
    size_t excluded_room;
    weir_top_items_t *top;
    int64_t *items; /* block x k */
    float *scores;  /* block x k */
} work_t;

static weir_err_t no_memory(const work_t *work, weir_error_t *error) {
    return weir_errorf(error, WEIR_ERR_MEMORY, "no memory to recommend %zu items to %zu users",
                       work->k, work->block);
}

static weir_err_t reserve(work_t *work, weir_error_t *error) {
    const weir_requests_t *requests = work->requests;
    uint32_t workers = weir_exchange_workers(work->rounds->exchange);
    work->mine = calloc(requests->count + 1, sizeof *work->mine);
    if (work->mine == NULL) {
        return no_memory(work, error);
    }
    for (size_t i = 0; i < requests->count; i++) {
        if (weir_request_worker(requests->users[i], workers) == work->worker) {
            work->mine[work->count++] = i;
        }
    }
    size_t most = BLOCK_ENTRIES / work->k + 1;
    work->block = most < BLOCK_USERS ? most : BLOCK_USERS;
    work->block = work->block < work->count ? work->block : work->count;
    work->histories = calloc(work->block + 1, sizeof *work->histories);
    work->encoded = calloc(work->block * work->similarity.query_width + 1, sizeof *work->encoded);
    work->excluded_offsets = calloc(work->block + 1, sizeof *work->excluded_offsets);
    work->items = calloc(work->block * work->k + 1, sizeof *work->items);
    work->scores = calloc(work->block * work->k + 1, sizeof *work->scores);
    return work->histories != NULL && work->encoded != NULL && work->excluded_offsets != NULL &&
                   work->items != NULL && work->scores != NULL
               ? WEIR_OK
               : no_memory(work, error);
}

static weir_err_t begin_file(work_t *work, const char *folder, weir_error_t *error) {
    char path[WEIR_PATH_MAX];
    const uint64_t shape[2] = {work->count, work->k};
    weir_err_t err = weir_answers_path(path, sizeof path, folder, work->worker, error);
    if (err == WEIR_OK) {
        err = weir_tensor_writer_create(path, &work->file, error);
    }
    if (err == WEIR_OK) {
        err = weir_tensor_writer_declare(work->file, "items", WEIR_DTYPE_I64, 2, shape, error);
    }
    if (err == WEIR_OK) {
        err = weir_tensor_writer_declare(work->file, "scores", WEIR_DTYPE_F32, 2, shape, error);
    }
    if (err == WEIR_OK) { /* with blocks, since both tensors are filled in turn */
        err = weir_tensor_writer_blocks(work->file, error);
    }
    return err == WEIR_OK ? weir_tensor_writer_begin(work->file, error) : err;
}

/* Histories of requests mine[begin, begin + count), and the items that they are not given. */
static weir_err_t gather(work_t *work, size_t begin, size_t count, weir_error_t *error) {
    const weir_requests_t *requests = work->requests;
    size_t most = (size_t)work->parts->config->model.max_sequence_length, known_total = 0, used = 0;
    for (size_t i = 0; i < count; i++) {
        size_t request = work->mine[begin + i], known = (size_t)requests->events[request];
        size_t length = weir_protocol_history(known, most);
        work->histories[i] = (weir_history_t){(uint64_t)requests->users[request], known - length,
                                              length, requests->times[request]};
        known_total += requests->keep_known ? 0 : known;
    }
    if (known_total + 1 > work->excluded_room) {
        free(work->excluded);
        work->excluded_room = 0;
        work->excluded = malloc((known_total + 1) * sizeof *work->excluded);
        if (work->excluded == NULL) {
            return no_memory(work, error);
        }
        work->excluded_room = known_total + 1;
    }
    for (size_t i = 0; i < count; i++) {
        if (!requests->keep_known) {
            size_t known = (size_t)requests->events[work->mine[begin + i]];
            weir_user_events_t events =
                weir_dataset_user(work->parts->dataset, work->histories[i].user);
            memcpy(work->excluded + used, events.items, known * sizeof(int64_t));
            used += weir_protocol_distinct(work->excluded + used, known);
        }
        work->excluded_offsets[i + 1] = used;
    }
    return WEIR_OK;
}

static weir_err_t offer(void *argument, const float *rows, int64_t first_item, size_t count,
                        weir_error_t *error) {
    work_t *work = argument;
    weir_err_t err =
        weir_top_items_offer(work->top, work->encoded, work->similarity, rows, first_item, count,
                             work->excluded_offsets, work->excluded, error);
    return err == WEIR_OK ? weir_rounds_pause(work->rounds, error) : err;
}

static weir_err_t write_lists(work_t *work, size_t count, weir_error_t *error) {
    size_t k = work->k;
    memset(work->items, 0, count * k * sizeof *work->items);
    memset(work->scores, 0, count * k * sizeof *work->scores);
    for (size_t i = 0; i < count; i++) {
        size_t length = 0;
        const weir_scored_item_t *list = weir_top_items_list(work->top, i, &length);
        for (size_t place = 0; place < length; place++) {
            work->items[i * k + place] = list[place].item;
            work->scores[i * k + place] = list[place].score;
        }
    }
    weir_err_t err =
        weir_tensor_writer_fill(work->file, 0, work->items, count * k * sizeof *work->items, error);
    return err == WEIR_OK ? weir_tensor_writer_fill(work->file, 1, work->scores,
                                                    count * k * sizeof *work->scores, error)
                          : err;
}

static weir_err_t answer_block(work_t *work, size_t begin, size_t count, weir_error_t *error) {
    weir_err_t err = gather(work, begin, count, error);
    if (err == WEIR_OK) {
        err = weir_retrieval_encode(work->retrieval, work->histories, count, work->encoded, error);
    }
    if (err == WEIR_OK) {
        err = weir_top_items_create(count, work->k, &work->top, error);
    }
    if (err == WEIR_OK) {
        err = weir_retrieval_catalogue(work->retrieval, weir_dataset_items(work->parts->dataset),
                                       offer, work, error);
    }
    if (err == WEIR_OK) {
        err = write_lists(work, count, error);
    }
    weir_top_items_destroy(work->top);
    work->top = NULL;
    return err;
}

static weir_err_t answer(work_t *work, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    double started = weir_clock_seconds();
    for (size_t begin = 0; begin < work->count && err == WEIR_OK; begin += work->block) {
        size_t left = work->count - begin, count = left < work->block ? left : work->block;
        err = answer_block(work, begin, count, error);
        if (err == WEIR_OK && work->worker == 0 && left > count) { /* the others have as many */
            double done = (double)(begin + count), all = (double)work->count;
            double seconds = weir_clock_seconds() - started;
            weir_log(WEIR_LOG_INFO, "recommend", "%.0f%% of the users, %.0f s left",
                     100.0 * done / all, seconds * (all - done) / done);
        }
    }
    if (err == WEIR_OK) {
        err = weir_tensor_writer_commit(work->file, NULL, NULL, error);
    }
    return err == WEIR_OK ? weir_rounds_finish(work->rounds, error) : err;
}

weir_err_t weir_recommend(const weir_retrieval_parts_t *parts, const weir_requests_t *requests,
                          const char *folder, weir_rounds_t *rounds, weir_error_t *error) {
    work_t work = {.parts = parts,
                   .requests = requests,
                   .k = requests->k,
                   .rounds = rounds,
                   .worker = weir_exchange_worker(rounds->exchange)};
    weir_err_t err = weir_retrieval_create(parts, &work.retrieval, error);
    if (err == WEIR_OK) {
        work.similarity = weir_retrieval_similarity(work.retrieval);
        err = reserve(&work, error);
    }
    if (err == WEIR_OK) {
        err = begin_file(&work, folder, error);
    }
    if (err == WEIR_OK) {
        err = answer(&work, error);
    }
    weir_tensor_writer_destroy(work.file);
    weir_retrieval_destroy(work.retrieval);
    free(work.mine);
    free(work.histories);
    free(work.encoded);
    free(work.excluded_offsets);
    free(work.excluded);
    free(work.items);
    free(work.scores);
    return err;
}
