#include "worker/batch.h"

#include "common/rng.h"
#include "worker/deal.h"
#include "worker/kernels.h"
#include "worker/key_set.h"
#include "worker/protocol.h"
#include "worker/shuffle.h"

#include <stdlib.h>
#include <string.h>

/* The token coordinate of negatives that a whole batch shares. */
#define SHARED_TOKEN UINT32_MAX

/* Items of a catalogue that is pulled whole: as many as loss.negatives may be. */
#define MAX_CATALOGUE 1048576U

/* A user of the global batch: where its training example lies in the data. */
typedef struct {
    uint64_t user;
    size_t first;         /* first event of the history, within the user's events */
    size_t length;        /* L: events of history; the target is event first + length */
    size_t predicted;     /* of them, the last so many: whose next event is trained on */
    uint32_t first_token; /* number of its first token in the global batch */
} example_t;

/* One batch that the reader has given out, with its arrays. */
typedef struct {
    size_t token_capacity, key_capacity;
    size_t *offsets; /* batch_users + 1 */
    uint64_t *users; /* batch_users */
    int64_t *times, *next_times;
    uint32_t *global_tokens, *item_rows, *target_rows, *negative_rows;
    uint8_t *predicted; /* of a stream */
    weir_key_t *keys;
    weir_train_batch_t batch;
} buffer_t;

struct weir_batch_reader {
    weir_dataset_t *dataset; /* not owned */
    uint32_t worker, workers, alive;
    uint64_t seed;
    size_t max_length, batch_users;
    size_t held_out;   /* training events that are for validation: 1 or 0 */
    int64_t test_from; /* 0: the last event of each user is its test */
    size_t draw_count; /* items drawn at a time: R; with the catalogue, all C of them */
    weir_negative_sharing_t sharing;
    double token_cost; /* cost of a token in units of one pair of attention */
    uint64_t catalogue;
    weir_windows_t *stream;  /* train.order: stream; NULL: users in shuffled order */
    weir_shuffle_t *shuffle; /* of users with a history and a target; NULL: a stream */
    uint64_t drawn_from;     /* negatives of this batch are items 1 .. this */

    example_t *examples;    /* the global batch, in its order */
    weir_priced_t *by_cost; /* of the global batch, dearest first */
    uint32_t *owners;       /* of the examples: the worker that computes each */
    double *load;           /* per worker */

    weir_key_set_t *keys;
    size_t token_capacity; /* of items and targets, of one batch */
    int64_t *items, *targets;
    const weir_kernels_t *kernels;
    int64_t *draws;    /* draw_count; with the catalogue, always 1 .. C */
    buffer_t *buffers; /* alive of them, used in turn */
    uint64_t reads;
};

/* Flops of a token outside attention over flops of a (query, key) pair, from the model's widths:
 * what dealing by cost needs, to a factor. Projections 2 D (3 H dv + 2 H dqk); loss 6 R D; a pair
 * 2 (dqk + dv) and about 30 for biases and SiLU, half of the pairs masked. */
static double cost_of_token(const weir_config_t *config, double negatives) {
    double d = (double)config->model.embedding_dim, h = (double)config->model.heads;
    double dqk = (double)config->model.dqk, dv = (double)config->model.dv;
    double blocks = (double)config->model.blocks;
    double token = blocks * 2.0 * d * h * (3.0 * dv + 2.0 * dqk) + 6.0 * negatives * d;
    double pair = blocks * h * (2.0 * (dqk + dv) + 30.0) / 2.0;
    return token / pair;
}

/* Training events of a user with `count` events: all but those held out; the last is the target. */
static bool example_of_user(const weir_batch_reader_t *reader, uint64_t user, example_t *example) {
    size_t known = weir_protocol_known(weir_dataset_user(reader->dataset, user), reader->test_from);
    if (known < reader->held_out + 2) {
        return false;
    }
    size_t target = known - reader->held_out - 1;
    example->user = user;
    example->length = target < reader->max_length ? target : reader->max_length;
    example->first = target - example->length;
    example->predicted = example->length;
    return true;
}

/* A user's part of a stream: the target is the last event in the window, and all of its events
 * there are predicted that have one before them. */
static void example_of_entry(const weir_batch_reader_t *reader, const weir_windows_entry_t *entry,
                             example_t *example) {
    size_t target = entry->end - 1, first = entry->first > 0 ? entry->first : 1;
    example->user = entry->user;
    example->length = target < reader->max_length ? target : reader->max_length;
    example->first = target - example->length;
    example->predicted = entry->end - first;
    example->predicted =
        example->predicted < example->length ? example->predicted : example->length;
}

static bool has_example(const void *argument, uint64_t user) {
    example_t example;
    return example_of_user(argument, user, &example);
}

static weir_err_t shuffle_users(weir_batch_reader_t *reader, weir_error_t *error) {
    weir_err_t err =
        weir_shuffle_create(reader->seed, weir_dataset_users(reader->dataset), reader->batch_users,
                            has_example, reader, &reader->shuffle, error);
    if (err == WEIR_OK && weir_shuffle_users(reader->shuffle) == 0) {
        err = weir_errorf(error, WEIR_ERR_INVALID,
                          "no user of the data has the %zu events that training needs",
                          reader->held_out + (reader->test_from == 0 ? 3 : 2));
        weir_error_hint(error,
                        "history, training target%s and test target: one event each at least",
                        reader->held_out > 0 ? ", validation target" : "");
    }
    return err;
}

static weir_err_t create_buffers(weir_batch_reader_t *reader, weir_error_t *error) {
    size_t users = reader->batch_users;
    reader->examples = calloc(users, sizeof(example_t));
    reader->by_cost = calloc(users, sizeof(weir_priced_t));
    reader->load = calloc(reader->workers, sizeof(double));
    reader->owners = calloc(users, sizeof(uint32_t));
    reader->draws = calloc(reader->draw_count + 4, sizeof(int64_t));
    reader->buffers = calloc(reader->alive, sizeof(buffer_t));
    bool enough = reader->examples != NULL && reader->by_cost != NULL && reader->load != NULL &&
                  reader->owners != NULL && reader->draws != NULL && reader->buffers != NULL;
    for (uint32_t i = 0; i < reader->alive && enough; i++) {
        reader->buffers[i].offsets = calloc(users + 1, sizeof(size_t));
        reader->buffers[i].users = calloc(users, sizeof(uint64_t));
        enough = reader->buffers[i].offsets != NULL && reader->buffers[i].users != NULL;
    }
    return enough ? WEIR_OK
                  : weir_errorf(error, WEIR_ERR_MEMORY, "no memory for %u batches of %zu users",
                                reader->alive, users);
}

/* What is drawn: R items, or the catalogue, which a worker pulls whole in every step. */
static weir_err_t set_sharing(weir_batch_reader_t *reader, const weir_config_t *config,
                              weir_error_t *error) {
    reader->sharing = (weir_negative_sharing_t)config->loss.sharing;
    reader->draw_count = (size_t)config->loss.negatives;
    if (reader->sharing == WEIR_NEGATIVES_CATALOGUE) {
        if (reader->catalogue > MAX_CATALOGUE) {
            weir_err_t err =
                weir_errorf(error, WEIR_ERR_UNSUPPORTED,
                            "a softmax over %llu items; at most %u can be pulled whole",
                            (unsigned long long)reader->catalogue, MAX_CATALOGUE);
            weir_error_hint(error, "loss.sharing: batch draws loss.negatives of them instead");
            return err;
        }
        reader->draw_count = (size_t)reader->catalogue;
    }
    reader->token_cost = cost_of_token(config, (double)reader->draw_count);
    return WEIR_OK;
}

/* The catalogue as it is "drawn": items 1 .. C in their order. */
static void list_catalogue(weir_batch_reader_t *reader) {
    for (size_t i = 0; i < reader->draw_count; i++) {
        reader->draws[i] = 1 + (int64_t)i;
    }
}

weir_err_t weir_batch_reader_create(const weir_config_t *config,
                                    const weir_batch_reader_options_t *options,
                                    weir_batch_reader_t **reader, weir_error_t *error) {
    weir_batch_reader_t *created = calloc(1, sizeof *created);
    if (created == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for a batch reader");
    }
    created->dataset = options->dataset;
    created->worker = options->worker;
    created->workers = options->workers;
    created->alive = options->alive > 0 ? options->alive : 1;
    created->seed = (uint64_t)config->train.seed;
    created->max_length = (size_t)config->model.max_sequence_length;
    created->batch_users = (size_t)config->train.batch_users;
    created->held_out = config->eval.validation ? 1 : 0;
    created->test_from = config->eval.test_from;
    created->catalogue = created->drawn_from = weir_dataset_items(options->dataset);
    weir_err_t err = weir_kernels_select(&created->kernels, error);
    if (err == WEIR_OK) {
        err = set_sharing(created, config, error);
    }
    if (err == WEIR_OK) {
        err = create_buffers(created, error);
    }
    if (err == WEIR_OK && created->sharing == WEIR_NEGATIVES_CATALOGUE) {
        list_catalogue(created);
    }
    if (err == WEIR_OK && config->train.order == WEIR_ORDER_STREAM) {
        err = weir_windows_create(options->dataset, config->train.stream_window, NULL,
                                  created->batch_users, &created->stream, error);
    } else if (err == WEIR_OK) {
        err = shuffle_users(created, error);
    }
    if (err == WEIR_OK) {
        err = weir_key_set_create(created->catalogue, &created->keys, error);
    }
    if (err != WEIR_OK) {
        weir_batch_reader_destroy(created);
        return err;
    }
    *reader = created;
    return WEIR_OK;
}

static void release_buffer(buffer_t *buffer) {
    free(buffer->offsets);
    free(buffer->users);
    free(buffer->times);
    free(buffer->next_times);
    free(buffer->global_tokens);
    free(buffer->item_rows);
    free(buffer->target_rows);
    free(buffer->negative_rows);
    free(buffer->predicted);
    free(buffer->keys);
}

void weir_batch_reader_destroy(weir_batch_reader_t *reader) {
    if (reader == NULL) {
        return;
    }
    for (uint32_t i = 0; reader->buffers != NULL && i < reader->alive; i++) {
        release_buffer(&reader->buffers[i]);
    }
    weir_key_set_destroy(reader->keys);
    weir_windows_destroy(reader->stream);
    weir_shuffle_destroy(reader->shuffle);
    free(reader->buffers);
    free(reader->examples);
    free(reader->by_cost);
    free(reader->load);
    free(reader->owners);
    free(reader->draws);
    free(reader->items);
    free(reader->targets);
    free(reader);
}

uint64_t weir_batch_steps_per_epoch(const weir_batch_reader_t *reader) {
    return reader->stream != NULL ? weir_windows_steps(reader->stream)
                                  : weir_shuffle_steps(reader->shuffle);
}

uint64_t weir_batch_users_per_epoch(const weir_batch_reader_t *reader) {
    return reader->stream != NULL ? weir_windows_trained_entries(reader->stream)
                                  : weir_shuffle_users(reader->shuffle);
}

const weir_windows_t *weir_batch_windows(const weir_batch_reader_t *reader) {
    return reader->stream;
}

/* The examples' tokens are numbered through; tokens and predictions of all. */
static void number_tokens(weir_batch_reader_t *reader, size_t count, uint64_t *tokens,
                          uint64_t *predictions) {
    *tokens = *predictions = 0;
    for (size_t i = 0; i < count; i++) {
        reader->examples[i].first_token = (uint32_t)*tokens;
        *tokens += reader->examples[i].length;
        *predictions += reader->examples[i].predicted;
    }
}

/* The global batch of a position in an epoch: which users, in which order. Returns how many. */
static size_t choose_shuffled(weir_batch_reader_t *reader, uint64_t epoch, uint64_t position) {
    size_t count = 0;
    const uint32_t *users = weir_shuffle_step(reader->shuffle, epoch, position, &count);
    for (size_t i = 0; i < count; i++) {
        (void)example_of_user(reader, users[i], &reader->examples[i]);
    }
    return count;
}

/* The same of a stream; negatives are items that have been seen by the end of the window. */
static size_t choose_streamed(weir_batch_reader_t *reader, uint64_t step) {
    size_t count = 0;
    const weir_windows_entry_t *entries = weir_windows_step_entries(reader->stream, step, &count);
    for (size_t i = 0; i < count; i++) {
        example_of_entry(reader, &entries[i], &reader->examples[i]);
    }
    reader->drawn_from =
        weir_windows_catalogue(reader->stream, weir_windows_of_step(reader->stream, step));
    return count;
}

static double cost_of_example(const weir_batch_reader_t *reader, const example_t *example) {
    double length = (double)example->length;
    return length * (reader->token_cost + length);
}

/* Equal for all workers. */
static void deal_examples(weir_batch_reader_t *reader, size_t count) {
    for (size_t i = 0; i < count; i++) {
        reader->by_cost[i] = (weir_priced_t){.cost = cost_of_example(reader, &reader->examples[i]),
                                             .place = (uint32_t)i};
    }
    weir_deal(reader->by_cost, count, reader->workers, reader->load, reader->owners);
}

static bool grow(void *array, size_t count, size_t size) {
    void *old, *grown;
    memcpy(&old, array, sizeof old); /* `array` is the address of a pointer of any type */
    grown = realloc(old, count * size);
    if (grown != NULL) {
        memcpy(array, &grown, sizeof grown);
    }
    return grown != NULL;
}

/* Length of negative_rows. */
static size_t drawn_rows(const weir_batch_reader_t *reader, size_t tokens) {
    return reader->sharing == WEIR_NEGATIVES_TOKEN ? tokens * reader->draw_count
                                                   : reader->draw_count;
}

static weir_err_t reserve_tokens(weir_batch_reader_t *reader, buffer_t *buffer, size_t tokens,
                                 weir_error_t *error) {
    bool enough = true;
    if (tokens > reader->token_capacity) {
        enough = grow(&reader->items, tokens, sizeof(int64_t)) &&
                 grow(&reader->targets, tokens, sizeof(int64_t));
        reader->token_capacity = enough ? tokens : reader->token_capacity;
    }
    if (enough && tokens > buffer->token_capacity) {
        size_t negatives = drawn_rows(reader, tokens);
        enough = grow(&buffer->times, tokens, sizeof(int64_t)) &&
                 grow(&buffer->next_times, tokens, sizeof(int64_t)) &&
                 grow(&buffer->global_tokens, tokens, sizeof(uint32_t)) &&
                 grow(&buffer->item_rows, tokens, sizeof(uint32_t)) &&
                 grow(&buffer->target_rows, tokens, sizeof(uint32_t)) &&
                 grow(&buffer->predicted, tokens, sizeof(uint8_t)) &&
                 grow(&buffer->negative_rows, negatives, sizeof(uint32_t));
        buffer->token_capacity = enough ? tokens : buffer->token_capacity;
    }
    return enough
               ? WEIR_OK
               : weir_errorf(error, WEIR_ERR_MEMORY, "no memory for a batch of %zu tokens", tokens);
}

/* Copy this worker's users' histories. */
static weir_err_t read_events(weir_batch_reader_t *reader, buffer_t *buffer, size_t count,
                              weir_error_t *error) {
    weir_sequence_batch_t *sequence = &buffer->batch.sequence;
    size_t users = 0, tokens = 0, predictions = 0;
    for (size_t i = 0; i < count; i++) {
        tokens += reader->owners[i] == reader->worker ? reader->examples[i].length : 0;
    }
    weir_err_t err = reserve_tokens(reader, buffer, tokens, error);
    if (err != WEIR_OK) {
        return err;
    }
    tokens = 0;
    for (size_t i = 0; i < count; i++) {
        const example_t *example = &reader->examples[i];
        if (reader->owners[i] != reader->worker) {
            continue;
        }
        weir_user_events_t events = weir_dataset_user(reader->dataset, example->user);
        size_t bytes = example->length * sizeof(int64_t);
        memcpy(reader->items + tokens, events.items + example->first, bytes);
        memcpy(reader->targets + tokens, events.items + example->first + 1, bytes);
        memcpy(buffer->times + tokens, events.times + example->first, bytes);
        memcpy(buffer->next_times + tokens, events.times + example->first + 1, bytes);
        for (size_t j = 0; j < example->length; j++) {
            buffer->global_tokens[tokens + j] = example->first_token + (uint32_t)j;
            buffer->predicted[tokens + j] = j + example->predicted >= example->length ? 1 : 0;
        }
        predictions += example->predicted;
        buffer->offsets[users] = tokens;
        buffer->users[users++] = example->user;
        tokens += example->length;
    }
    buffer->offsets[users] = tokens;
    *sequence = (weir_sequence_batch_t){.users = users,
                                        .tokens = tokens,
                                        .offsets = buffer->offsets,
                                        .times = buffer->times,
                                        .next_times = buffer->next_times,
                                        .global_tokens = buffer->global_tokens};
    buffer->batch.predictions = predictions;
    return WEIR_OK;
}

/* Uniform in [0, bound) from 64 random bits, for catalogues beyond 2^32: the upper half of a
 * 128-bit product. */
static uint64_t below_large(uint64_t word, uint64_t bound) {
    __extension__ typedef unsigned __int128 wide_t;
    return (uint64_t)(((wide_t)word * bound) >> 64);
}

/* R items, uniform with replacement from 1 .. drawn_from, of one token. */
static void draw_negatives(const weir_batch_reader_t *reader, uint64_t step, uint32_t token) {
    weir_rng_key_t key = weir_rng_key(reader->seed, WEIR_STREAM_NEGATIVE);
    uint32_t low = (uint32_t)step, high = (uint32_t)(step >> 32);
    if (reader->drawn_from <= UINT32_MAX) {
        reader->kernels->draw_items(key, low, high, token, (uint32_t)reader->drawn_from,
                                    reader->draws, reader->draw_count);
        return;
    }
    for (size_t r = 0; r < reader->draw_count; r += 2) { /* `draws` has room for one more */
        weir_philox_t words = weir_philox(key, low, high, token, (uint32_t)(r / 2));
        for (size_t j = 0; j < 2; j++) {
            uint64_t word = (uint64_t)words.word[2 * j] << 32 | words.word[2 * j + 1];
            reader->draws[r + j] = 1 + (int64_t)below_large(word, reader->drawn_from);
        }
    }
}

/* The distinct keys live in the key set, which the next batch needs: a batch has its own copy. */
static weir_err_t keep_keys(weir_batch_reader_t *reader, buffer_t *buffer, weir_error_t *error) {
    size_t count = 0;
    const weir_key_t *keys = weir_key_set_keys(reader->keys, &count);
    if (count > buffer->key_capacity) {
        size_t capacity = count + count / 10;
        if (!grow(&buffer->keys, capacity, sizeof *buffer->keys)) {
            return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for %zu keys of a batch", count);
        }
        buffer->key_capacity = capacity;
    }
    if (count > 0) {
        memcpy(buffer->keys, keys, count * sizeof *keys);
    }
    buffer->batch.keys = buffer->keys;
    buffer->batch.key_count = count;
    return WEIR_OK;
}

static weir_err_t number_rows(weir_batch_reader_t *reader, buffer_t *buffer, uint64_t step,
                              weir_error_t *error) {
    size_t tokens = buffer->batch.sequence.tokens, negatives = reader->draw_count;
    weir_err_t err =
        weir_key_set_begin(reader->keys, 2 * tokens + drawn_rows(reader, tokens), error);
    if (err != WEIR_OK) {
        return err;
    }
    if (reader->sharing == WEIR_NEGATIVES_CATALOGUE &&
        tokens > 0) { /* first: row r is item r + 1 */
        weir_key_set_rows(reader->keys, reader->draws, negatives, buffer->negative_rows);
    }
    weir_key_set_rows(reader->keys, reader->items, tokens, buffer->item_rows);
    weir_key_set_rows(reader->keys, reader->targets, tokens, buffer->target_rows);
    if (reader->sharing == WEIR_NEGATIVES_BATCH && tokens > 0) {
        draw_negatives(reader, step, SHARED_TOKEN);
        weir_key_set_rows(reader->keys, reader->draws, negatives, buffer->negative_rows);
    }
    for (size_t i = 0; i < tokens && reader->sharing == WEIR_NEGATIVES_TOKEN; i++) {
        draw_negatives(reader, step, buffer->global_tokens[i]);
        weir_key_set_rows(reader->keys, reader->draws, negatives,
                          buffer->negative_rows + i * negatives);
    }
    return keep_keys(reader, buffer, error);
}

weir_err_t weir_batch_read(weir_batch_reader_t *reader, uint64_t step,
                           const weir_train_batch_t **batch, weir_error_t *error) {
    uint64_t per_epoch = weir_batch_steps_per_epoch(reader), tokens = 0, predictions = 0;
    uint64_t epoch = (step - 1) / per_epoch, position = (step - 1) % per_epoch;
    size_t count = reader->stream != NULL ? choose_streamed(reader, step)
                                          : choose_shuffled(reader, epoch, position);
    number_tokens(reader, count, &tokens, &predictions);
    if (tokens >= SHARED_TOKEN) {
        weir_err_t err =
            weir_errorf(error, WEIR_ERR_UNSUPPORTED,
                        "the batch of step %llu has %llu tokens; they are numbered in 32 bits",
                        (unsigned long long)step, (unsigned long long)tokens);
        weir_error_hint(error, "a smaller train.batch_users makes fewer");
        return err;
    }
    buffer_t *buffer = &reader->buffers[reader->reads++ % reader->alive];
    deal_examples(reader, count);
    weir_err_t err = read_events(reader, buffer, count, error);
    if (err != WEIR_OK) {
        return err;
    }
    err = number_rows(reader, buffer, step, error);
    if (err != WEIR_OK) {
        return err;
    }
    buffer->batch.users = buffer->users;
    buffer->batch.item_rows = buffer->item_rows;
    buffer->batch.target_rows = buffer->target_rows;
    buffer->batch.negative_rows = buffer->negative_rows;
    buffer->batch.predicted = reader->stream != NULL ? buffer->predicted : NULL;
    buffer->batch.global_tokens = tokens;
    buffer->batch.global_predictions = predictions;
    buffer->batch.global_users = count;
    buffer->batch.step = step;
    buffer->batch.epoch = epoch;
    *batch = &buffer->batch;
    return WEIR_OK;
}
