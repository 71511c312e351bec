#include "worker/ranking_batch_internal.h"

#include <stdlib.h>
#include <string.h>

/* Rows that are no item's share the item table, under keys that no catalogue reaches: a kind of
 * them in the upper bits, a number within it below. */
enum {
    KIND_BITS = 48,
    KIND_USER = 1,
    KIND_ITEM_FEATURE = 2, /* and so many more as there may be features */
    KIND_USER_FEATURE = KIND_ITEM_FEATURE + WEIR_DATASET_MAX_FEATURES,
    KIND_CONTEXT = KIND_USER_FEATURE + WEIR_DATASET_MAX_FEATURES,
    KINDS = KIND_CONTEXT + WEIR_DATASET_MAX_FEATURES
};

static int64_t key_of(size_t kind, uint64_t number) {
    return (int64_t)((uint64_t)kind << KIND_BITS | number);
}

uint64_t weir_ranking_key_limit(void) {
    return (uint64_t)key_of(KINDS, 0);
}

size_t weir_ranking_tokens_of(const weir_ranking_reader_t *reader,
                              const weir_ranking_example_t *example) {
    size_t events = example->kept;
    return reader->model.layers.contextual + (reader->interleaved ? 2 : 1) * events +
           (example->session.end - example->session.first);
}

/* Flags of an event, as bits. */
static uint32_t flags_of(const weir_ranking_reader_t *reader, const weir_user_events_t *events,
                         uint64_t first_event, size_t event) {
    const uint32_t *bits = reader->columns->action_bits;
    if (bits != NULL) {
        return bits[first_event + event];
    }
    return (double)events->actions[event] >= reader->positive ? 1 : 0;
}

void weir_ranking_release_buffer(weir_ranking_buffer_t *buffer) {
    void *arrays[] = {buffer->offsets,     buffer->targets,      buffer->user_numbers,
                      buffer->row_offsets, buffer->row_keys,     buffer->rows,
                      buffer->actions,     buffer->positions,    buffer->times,
                      buffer->predicted,   buffer->groups,       buffer->labels,
                      buffer->key_list,    buffer->global_tokens};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        free(arrays[i]);
    }
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

/* Rows that a token may have, at the most. */
static size_t rows_per_token(const weir_ranking_reader_t *reader) {
    size_t item = 1 + reader->columns->item_count + reader->columns->context_count;
    size_t user = 1 + reader->columns->user_count;
    return item > user ? item : user;
}

static weir_err_t reserve(const weir_ranking_reader_t *reader, weir_ranking_buffer_t *b,
                          size_t users, size_t tokens, size_t predictions, weir_error_t *error) {
    bool enough = true;
    if (users + 1 > b->users) {
        enough = grow(&b->offsets, users + 1, sizeof *b->offsets) &&
                 grow(&b->targets, users + 1, sizeof *b->targets) &&
                 grow(&b->user_numbers, users + 1, sizeof *b->user_numbers);
        b->users = enough ? users + 1 : b->users;
    }
    if (enough && tokens + 1 > b->tokens) {
        size_t room = tokens + tokens / 10 + 1;
        enough = grow(&b->row_offsets, room + 1, sizeof *b->row_offsets) &&
                 grow(&b->actions, room, sizeof *b->actions) &&
                 grow(&b->positions, room, sizeof *b->positions) &&
                 grow(&b->times, room, sizeof *b->times) &&
                 grow(&b->global_tokens, room, sizeof *b->global_tokens);
        b->tokens = enough ? room : b->tokens;
    }
    size_t rows = tokens * rows_per_token(reader);
    if (enough && rows > b->rows_room) {
        size_t room = rows + rows / 10;
        enough =
            grow(&b->row_keys, room, sizeof *b->row_keys) && grow(&b->rows, room, sizeof *b->rows);
        b->rows_room = enough ? room : b->rows_room;
    }
    if (enough && predictions + 1 > b->predictions) {
        size_t room = predictions + predictions / 10 + 1;
        enough = grow(&b->predicted, room, sizeof *b->predicted) &&
                 grow(&b->groups, room, sizeof *b->groups) &&
                 grow(&b->labels, room * reader->model.tasks, sizeof *b->labels);
        b->predictions = enough ? room : b->predictions;
    }
    return enough
               ? WEIR_OK
               : weir_errorf(error, WEIR_ERR_MEMORY, "no memory for a batch of %zu tokens", tokens);
}

/* Where the next token, row and prediction of a batch go. */
typedef struct {
    size_t tokens, rows, predictions, users;
} place_t;

/* A token; its rows are added behind it. */
static void add_token(weir_ranking_buffer_t *b, place_t *place, uint32_t actions, uint32_t time) {
    size_t t = place->tokens++;
    b->row_offsets[t] = place->rows;
    b->actions[t] = actions;
    b->times[t] = time;
}

static void add_features(weir_ranking_buffer_t *b, place_t *place, const weir_feature_t *features,
                         size_t count, size_t kind, uint64_t at) {
    for (size_t f = 0; f < count; f++) {
        if (features[f].ids[at] != 0) { /* 0: not known */
            b->row_keys[place->rows++] = key_of(kind + f, features[f].ids[at]);
        }
    }
}

/* Of a candidate: nothing is known of its context. */
#define NO_EVENT UINT64_MAX

/* Rows of an event's item, of its features and of the event's context. */
static void add_item(const weir_ranking_reader_t *reader, weir_ranking_buffer_t *b, place_t *place,
                     int64_t item, uint64_t event) {
    const weir_dataset_columns_t *columns = reader->columns;
    b->row_keys[place->rows++] = item;
    if (reader->features) {
        add_features(b, place, columns->items, columns->item_count, KIND_ITEM_FEATURE,
                     (uint64_t)item - 1);
    }
    if (reader->features && event != NO_EVENT) {
        add_features(b, place, columns->context, columns->context_count, KIND_CONTEXT, event);
    }
}

static void add_user(const weir_ranking_reader_t *reader, weir_ranking_buffer_t *b, place_t *place,
                     uint64_t user) {
    const weir_dataset_columns_t *columns = reader->columns;
    b->row_keys[place->rows++] = key_of(KIND_USER, user);
    if (reader->features) {
        add_features(b, place, columns->users, columns->user_count, KIND_USER_FEATURE, user);
    }
}

/* Of task `k` for an event with those flags. */
static float label_of(const weir_ranking_reader_t *reader, size_t k, uint32_t flags,
                      uint64_t event) {
    const weir_ranking_task_t *task = &reader->tasks.list[k];
    if (task->kind == WEIR_TASK_BINARY) {
        return (float)(flags >> task->column & 1);
    }
    double value = (double)reader->columns->numbers[task->column].values[event];
    return (float)((value - task->offset) / task->scale);
}

/* The tokens of one user. Places are counted back from the targets, which are all at 0. */
static void add_example(const weir_ranking_reader_t *reader, weir_ranking_buffer_t *b,
                        place_t *place, const weir_ranking_example_t *example) {
    weir_user_events_t events = weir_dataset_user(reader->dataset, example->user);
    size_t buckets = reader->model.time_buckets, first = place->tokens;
    uint64_t first_event = weir_dataset_first_event(reader->dataset, example->user);
    if (reader->user_token) {
        add_token(b, place, WEIR_RANKING_NO_ACTIONS, (uint32_t)(buckets - 1));
        add_user(reader, b, place, example->user);
    }
    const uint8_t *keep = reader->keep + (size_t)(example - reader->examples) * reader->max_events;
    bool cut = example->kept < example->end - example->first;
    for (size_t e = example->first; e < example->end; e++) {
        if (cut && keep[e - example->first] == 0) {
            continue;
        }
        uint32_t time = weir_ranking_time_bucket(example->query - events.times[e], buckets);
        uint32_t flags = flags_of(reader, &events, first_event, e);
        add_token(b, place, reader->interleaved ? WEIR_RANKING_NO_ACTIONS : flags, time);
        add_item(reader, b, place, events.items[e], first_event + e);
        if (reader->interleaved) {
            add_token(b, place, flags, time);
        }
    }
    size_t history = place->tokens;
    for (size_t e = example->session.first; e < example->session.end; e++) {
        size_t q = place->predictions++;
        uint32_t flags = flags_of(reader, &events, first_event, e);
        b->predicted[q] = (uint32_t)place->tokens;
        b->groups[q] = example->user;
        for (size_t k = 0; k < reader->model.tasks; k++) {
            b->labels[q * reader->model.tasks + k] = label_of(reader, k, flags, first_event + e);
        }
        add_token(b, place, WEIR_RANKING_NO_ACTIONS, 0);
        add_item(reader, b, place, events.items[e], first_event + e);
    }
    for (size_t t = first; t < place->tokens; t++) {
        size_t back = t < history ? history - t : 0, last = reader->model.positions - 1;
        b->positions[t] = (uint32_t)(back < last ? back : last);
        b->global_tokens[t] = example->first_token + (uint32_t)(t - first);
    }
    b->targets[place->users] = (uint32_t)(place->tokens - history);
    b->user_numbers[place->users++] = example->user;
    b->offsets[place->users] = place->tokens;
}

/* Rows by number; the keys live in the key set, which the next batch needs: a batch has its own. */
static weir_err_t number_rows(weir_ranking_reader_t *reader, weir_ranking_buffer_t *b, size_t rows,
                              weir_error_t *error) {
    size_t count = 0;
    weir_err_t err = weir_key_set_begin(reader->keys, rows, error);
    if (err != WEIR_OK) {
        return err;
    }
    weir_key_set_rows(reader->keys, b->row_keys, rows, b->rows);
    const weir_key_t *keys = weir_key_set_keys(reader->keys, &count);
    if (count + 1 > b->keys) {
        if (!grow(&b->key_list, count + count / 10 + 1, sizeof *b->key_list)) {
            return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for %zu keys of a batch", count);
        }
        b->keys = count + count / 10 + 1;
    }
    if (count > 0) {
        memcpy(b->key_list, keys, count * sizeof *keys);
    }
    b->batch.train.keys = b->key_list;
    b->batch.train.key_count = b->batch.ranking.row_count = count;
    return WEIR_OK;
}

/* All tokens are there. */
static weir_err_t seal(weir_ranking_reader_t *reader, weir_ranking_buffer_t *b,
                       const place_t *place, weir_error_t *error) {
    b->row_offsets[place->tokens] = place->rows;
    b->batch = (weir_ranking_train_batch_t){
        .train = {.sequence = {.users = place->users, .tokens = place->tokens},
                  .users = b->user_numbers},
        .ranking = {.sequence = {.users = place->users,
                                 .tokens = place->tokens,
                                 .offsets = b->offsets,
                                 .targets = b->targets,
                                 .global_tokens = b->global_tokens},
                    .row_offsets = b->row_offsets,
                    .rows = b->rows,
                    .actions = b->actions,
                    .positions = b->positions,
                    .times = b->times,
                    .predicted = b->predicted,
                    .predictions = place->predictions},
        .labels = b->labels,
        .groups = b->groups,
    };
    return number_rows(reader, b, place->rows, error);
}

weir_err_t weir_ranking_build(weir_ranking_reader_t *reader, weir_ranking_buffer_t *b, size_t count,
                              const uint32_t *owners, weir_error_t *error) {
    size_t tokens = 0, predictions = 0;
    place_t place = {0};
    for (size_t i = 0; i < count; i++) {
        const weir_ranking_example_t *example = &reader->examples[i];
        if (owners == NULL || owners[i] == reader->worker) {
            tokens += weir_ranking_tokens_of(reader, example);
            predictions += example->session.end - example->session.first;
        }
    }
    weir_err_t err = reserve(reader, b, count, tokens, predictions, error);
    if (err != WEIR_OK) {
        return err;
    }
    b->offsets[0] = 0;
    for (size_t i = 0; i < count; i++) {
        if (owners == NULL || owners[i] == reader->worker) {
            add_example(reader, b, &place, &reader->examples[i]);
        }
    }
    return seal(reader, b, &place, error);
}

weir_err_t weir_ranking_build_candidates(weir_ranking_reader_t *reader, weir_ranking_buffer_t *b,
                                         uint64_t user, const int64_t *items, size_t count,
                                         weir_error_t *error) {
    place_t place = {0};
    weir_err_t err = reserve(reader, b, 1, count, count, error);
    if (err != WEIR_OK) {
        return err;
    }
    b->offsets[0] = 0;
    for (size_t i = 0; i < count; i++) {
        b->predicted[i] = (uint32_t)i;
        b->groups[i] = user;
        b->positions[i] = 0;
        b->global_tokens[i] = (uint32_t)i;
        add_token(b, &place, WEIR_RANKING_NO_ACTIONS, 0);
        add_item(reader, b, &place, items[i], NO_EVENT);
    }
    memset(b->labels, 0, count * reader->model.tasks * sizeof *b->labels);
    b->targets[0] = (uint32_t)count;
    b->user_numbers[0] = user;
    b->offsets[1] = count;
    place.predictions = count;
    place.users = 1;
    return seal(reader, b, &place, error);
}
