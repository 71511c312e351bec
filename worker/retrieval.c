#include "worker/retrieval.h"

#include "ps/model_tables.h"
#include "worker/key_set.h"
#include "worker/rank.h"

#include <stdlib.h>
#include <string.h>

/* Items of the catalogue scored at a time: 64 Ki rows are 13 MB at D = 50; fewer where each is many
 * parts of a mixture. */
enum { CATALOGUE_PIECE = 65536, MIXED_PIECE = 8192 };

struct weir_retrieval {
    weir_retrieval_parts_t parts;
    size_t dim;   /* D */
    size_t width; /* of an item's row as it comes: D, and its bias */
    weir_similarity_t similarity;
    size_t most; /* items of a piece */
    size_t batch_users;
    weir_key_set_t *keys;
    float *values;     /* most x width: rows as they come */
    float *mixed;      /* most x item_width, with a mixture */
    weir_key_t *piece; /* most */

    /* of one batch of histories */
    size_t tokens;   /* room */
    size_t *offsets; /* batch_users + 1 */
    uint64_t *users; /* batch_users */
    float *last;     /* batch_users x D: last tokens, with a mixture */
    int64_t *items, *times, *next_times;
    uint32_t *rows;
    float *distinct, *inputs, *outputs; /* U x width, T x D, T x D */
    float *user_rows;                   /* batch_users x D; NULL without model.user_embedding */
};

weir_similarity_t weir_retrieval_similarity(const weir_retrieval_t *retrieval) {
    return retrieval->similarity;
}

static void release_tokens(weir_retrieval_t *retrieval) {
    free(retrieval->items);
    free(retrieval->times);
    free(retrieval->next_times);
    free(retrieval->rows);
    free(retrieval->distinct);
    free(retrieval->inputs);
    free(retrieval->outputs);
    retrieval->tokens = 0;
}

void weir_retrieval_destroy(weir_retrieval_t *retrieval) {
    if (retrieval != NULL) {
        release_tokens(retrieval);
        weir_key_set_destroy(retrieval->keys);
        free(retrieval->values);
        free(retrieval->mixed);
        free(retrieval->last);
        free(retrieval->piece);
        free(retrieval->offsets);
        free(retrieval->users);
        free(retrieval->user_rows);
        free(retrieval);
    }
}

weir_err_t weir_retrieval_create(const weir_retrieval_parts_t *parts, weir_retrieval_t **retrieval,
                                 weir_error_t *error) {
    const weir_config_t *config = parts->config;
    weir_retrieval_t *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for scoring the catalogue");
    }
    made->parts = *parts;
    made->dim = (size_t)config->model.embedding_dim;
    made->width = made->dim + (config->model.item_bias ? 1 : 0);
    made->batch_users = (size_t)config->eval.batch_users;
    made->similarity =
        parts->mixture != NULL
            ? weir_mixture_similarity(parts->mixture, parts->parameters + parts->mixture_offset)
            : weir_similarity_dot(made->width);
    made->most = parts->mixture != NULL ? MIXED_PIECE : CATALOGUE_PIECE;
    made->values = malloc(made->most * made->width * sizeof *made->values);
    made->piece = malloc(made->most * sizeof *made->piece);
    if (parts->mixture != NULL) {
        made->mixed = malloc(made->most * made->similarity.item_width * sizeof *made->mixed);
        made->last = malloc(made->batch_users * made->dim * sizeof *made->last);
    }
    made->offsets = calloc(made->batch_users + 1, sizeof *made->offsets);
    made->users = calloc(made->batch_users, sizeof *made->users);
    bool users = config->model.user_embedding;
    if (users) {
        made->user_rows = calloc(made->batch_users * made->dim, sizeof *made->user_rows);
    }
    weir_err_t err = WEIR_OK;
    if (made->values == NULL || made->piece == NULL || made->offsets == NULL ||
        made->users == NULL || (users && made->user_rows == NULL) ||
        (parts->mixture != NULL && (made->mixed == NULL || made->last == NULL))) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "no memory for a piece of the catalogue");
    } else {
        err = weir_key_set_create(weir_dataset_items(parts->dataset), &made->keys, error);
    }
    if (err != WEIR_OK) {
        weir_retrieval_destroy(made);
        return err;
    }
    *retrieval = made;
    return WEIR_OK;
}

static weir_err_t reserve_tokens(weir_retrieval_t *retrieval, size_t tokens, weir_error_t *error) {
    size_t dim = retrieval->dim;
    if (tokens <= retrieval->tokens) {
        return WEIR_OK;
    }
    release_tokens(retrieval);
    retrieval->items = calloc(tokens, sizeof(int64_t));
    retrieval->times = calloc(tokens, sizeof(int64_t));
    retrieval->next_times = calloc(tokens, sizeof(int64_t));
    retrieval->rows = calloc(tokens, sizeof(uint32_t));
    retrieval->distinct = calloc(tokens * retrieval->width, sizeof(float));
    retrieval->inputs = calloc(tokens * dim, sizeof(float));
    retrieval->outputs = calloc(tokens * dim, sizeof(float));
    if (retrieval->items == NULL || retrieval->times == NULL || retrieval->next_times == NULL ||
        retrieval->rows == NULL || retrieval->distinct == NULL || retrieval->inputs == NULL ||
        retrieval->outputs == NULL) {
        weir_err_t err =
            weir_errorf(error, WEIR_ERR_MEMORY, "no memory to encode %zu tokens at once", tokens);
        weir_error_hint(error, "a smaller eval.batch_users needs less");
        return err;
    }
    retrieval->tokens = tokens;
    return WEIR_OK;
}

/* Rows of `count` items, each pulled once: the distinct ones to `distinct`, and a row number for
 * each. */
static weir_err_t peek_items(weir_retrieval_t *retrieval, const int64_t *items, size_t count,
                             weir_error_t *error) {
    size_t distinct = 0;
    weir_err_t err = weir_key_set_begin(retrieval->keys, count, error);
    if (err != WEIR_OK) {
        return err;
    }
    weir_key_set_rows(retrieval->keys, items, count, retrieval->rows);
    const weir_key_t *keys = weir_key_set_keys(retrieval->keys, &distinct);
    return weir_ps_client_peek(retrieval->parts.client, WEIR_MODEL_ITEM_TABLE, keys, distinct,
                               retrieval->distinct, error);
}

/* ---- histories ---- */

/* The tokens of histories one after the other. */
static void gather_tokens(weir_retrieval_t *retrieval, const weir_history_t *histories,
                          size_t count) {
    size_t tokens = 0;
    for (size_t i = 0; i < count; i++) {
        const weir_history_t *history = &histories[i];
        weir_user_events_t events = weir_dataset_user(retrieval->parts.dataset, history->user);
        size_t bytes = history->count * sizeof(int64_t);
        memcpy(retrieval->items + tokens, events.items + history->first, bytes);
        memcpy(retrieval->times + tokens, events.times + history->first, bytes);
        memcpy(retrieval->next_times + tokens, events.times + history->first + 1,
               bytes - sizeof(int64_t));
        retrieval->users[i] = history->user;
        retrieval->offsets[i] = tokens;
        tokens += history->count;
        retrieval->next_times[tokens - 1] = history->query_time;
    }
    retrieval->offsets[count] = tokens;
}

/* What the last tokens say, as it is scored. */
static weir_err_t take_last(weir_retrieval_t *retrieval, size_t count, float *encoded,
                            weir_error_t *error) {
    const weir_retrieval_parts_t *parts = &retrieval->parts;
    size_t dim = retrieval->dim;
    size_t width = parts->mixture != NULL ? dim : retrieval->width;
    float *to = parts->mixture != NULL ? retrieval->last : encoded;
    for (size_t i = 0; i < count; i++) {
        memcpy(to + i * width, retrieval->outputs + (retrieval->offsets[i + 1] - 1) * dim,
               dim * sizeof(float));
        if (width > dim) {
            to[i * width + dim] = 1.0f;
        }
    }
    return parts->mixture != NULL
               ? weir_mixture_prepare_queries(parts->mixture, retrieval->similarity.parameters, to,
                                              count, encoded, error)
               : WEIR_OK;
}

static weir_err_t encode_batch(weir_retrieval_t *retrieval, const weir_history_t *histories,
                               size_t count, float *encoded, weir_error_t *error) {
    size_t tokens = 0, dim = retrieval->dim, width = retrieval->width;
    for (size_t i = 0; i < count; i++) {
        tokens += histories[i].count;
    }
    weir_err_t err = reserve_tokens(retrieval, tokens, error);
    if (err == WEIR_OK) {
        gather_tokens(retrieval, histories, count);
        err = peek_items(retrieval, retrieval->items, tokens, error);
    }
    if (err == WEIR_OK && retrieval->user_rows != NULL) {
        err = weir_ps_client_peek(retrieval->parts.client, WEIR_MODEL_USER_TABLE, retrieval->users,
                                  count, retrieval->user_rows, error);
    }
    if (err != WEIR_OK) {
        return err;
    }
    for (size_t i = 0; i < tokens; i++) {
        memcpy(retrieval->inputs + i * dim, retrieval->distinct + retrieval->rows[i] * width,
               dim * sizeof(float));
    }
    weir_sequence_batch_t batch = {.users = count,
                                   .tokens = tokens,
                                   .offsets = retrieval->offsets,
                                   .times = retrieval->times,
                                   .next_times = retrieval->next_times,
                                   .user_rows = retrieval->user_rows};
    weir_forward_mode_t mode = {.train = false};
    err = weir_encoder_forward(retrieval->parts.encoder, retrieval->parts.parameters, &batch,
                               retrieval->inputs, mode, retrieval->outputs, error);
    return err == WEIR_OK ? take_last(retrieval, count, encoded, error) : err;
}

weir_err_t weir_retrieval_encode(weir_retrieval_t *retrieval, const weir_history_t *histories,
                                 size_t count, float *encoded, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    for (size_t begin = 0; begin < count && err == WEIR_OK; begin += retrieval->batch_users) {
        size_t left = count - begin;
        err = encode_batch(retrieval, histories + begin,
                           left < retrieval->batch_users ? left : retrieval->batch_users,
                           encoded + begin * retrieval->similarity.query_width, error);
    }
    return err;
}

/* ---- rows ---- */

/* Rows as they are scored: normalised, and the bias in the measure of the cosine, temperature times
 * that of the logit. With a mixture they are prepared for it in `scored`, else in place. */
static weir_err_t scale_rows(const weir_retrieval_t *retrieval, float *rows, size_t count,
                             float *scored, weir_error_t *error) {
    const weir_retrieval_parts_t *parts = &retrieval->parts;
    size_t dim = retrieval->dim, width = retrieval->width;
    if (width == dim) {
        weir_rank_normalise(rows, count, dim);
    }
    for (size_t i = 0; width > dim && i < count; i++) {
        weir_rank_normalise(rows + i * width, 1, dim);
        rows[i * width + dim] *= (float)parts->config->loss.temperature;
    }
    return parts->mixture != NULL
               ? weir_mixture_prepare_items(parts->mixture, retrieval->similarity.parameters, rows,
                                            dim, count, scored, error)
               : WEIR_OK;
}

/* The distinct ones of the items, as they come. */
static weir_err_t fetch_items(weir_retrieval_t *retrieval, const int64_t *items, size_t count,
                              weir_error_t *error) {
    weir_err_t err = reserve_tokens(retrieval, count, error);
    return err == WEIR_OK ? peek_items(retrieval, items, count, error) : err;
}

weir_err_t weir_retrieval_rows(weir_retrieval_t *retrieval, const int64_t *items, size_t count,
                               float *rows, weir_error_t *error) {
    size_t width = retrieval->width;
    bool mixed = retrieval->parts.mixture != NULL;
    weir_err_t err = fetch_items(retrieval, items, count, error);
    float *raw = mixed ? retrieval->inputs : rows; /* a mixture has no bias: D wide */
    for (size_t i = 0; i < count && err == WEIR_OK; i++) {
        memcpy(raw + i * width, retrieval->distinct + retrieval->rows[i] * width,
               width * sizeof(float));
    }
    return err == WEIR_OK ? scale_rows(retrieval, raw, count, rows, error) : err;
}

weir_err_t weir_retrieval_embeddings(weir_retrieval_t *retrieval, const int64_t *items,
                                     size_t count, float *rows, weir_error_t *error) {
    size_t dim = retrieval->dim;
    weir_err_t err = fetch_items(retrieval, items, count, error);
    for (size_t i = 0; i < count && err == WEIR_OK; i++) {
        memcpy(rows + i * dim, retrieval->distinct + retrieval->rows[i] * retrieval->width,
               dim * sizeof(float));
    }
    if (err == WEIR_OK) {
        weir_rank_normalise(rows, count, dim);
    }
    return err;
}

weir_err_t weir_retrieval_catalogue(weir_retrieval_t *retrieval, uint64_t items,
                                    weir_retrieval_visit_t visit, void *argument,
                                    weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    for (uint64_t first = 1; first <= items && err == WEIR_OK; first += retrieval->most) {
        size_t count =
            items - first + 1 < retrieval->most ? (size_t)(items - first + 1) : retrieval->most;
        float *scored = retrieval->mixed != NULL ? retrieval->mixed : retrieval->values;
        for (size_t i = 0; i < count; i++) {
            retrieval->piece[i] = first + i;
        }
        err = weir_ps_client_peek(retrieval->parts.client, WEIR_MODEL_ITEM_TABLE, retrieval->piece,
                                  count, retrieval->values, error);
        if (err == WEIR_OK) {
            err = scale_rows(retrieval, retrieval->values, count, scored, error);
        }
        if (err == WEIR_OK) {
            err = visit(argument, scored, (int64_t)first, count, error);
        }
    }
    return err;
}
