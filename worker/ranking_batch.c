#include "worker/ranking_batch.h"

#include "common/rng.h"
#include "worker/deal.h"
#include "worker/key_set.h"
#include "worker/sessions.h"
#include "worker/stochastic_length.h"

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

/* A user of a batch: a session, and how much of what is before it the model sees. */
typedef struct {
    uint64_t user;
    size_t first; /* event of the history */
    weir_session_t session;
    size_t kept;          /* events of the history */
    uint32_t first_token; /* number in the global batch */
} example_t;

/* One batch that the reader has given out, with its arrays. */
typedef struct {
    size_t tokens, rows_room, predictions, users, keys;    /* room */
    size_t *offsets;                                       /* users + 1 */
    uint32_t *targets;                                     /* users */
    uint64_t *user_numbers;                                /* users */
    size_t *row_offsets;                                   /* tokens + 1 */
    int64_t *row_keys;                                     /* rows_room */
    uint32_t *rows;                                        /* rows_room */
    uint32_t *actions, *positions, *times, *global_tokens; /* tokens */
    uint32_t *predicted;                                   /* predictions */
    uint64_t *groups;
    float *labels;
    weir_key_t *key_list;
    weir_ranking_train_batch_t batch;
} buffer_t;

struct weir_ranking_reader {
    weir_dataset_t *dataset; /* not owned */
    weir_ranking_config_t model;
    weir_session_rule_t rule;
    weir_length_rule_t length;
    weir_length_draw_t *draws; /* max_events */
    uint8_t *keep;             /* max_events for each example */
    const weir_dataset_columns_t *columns;
    bool features, by_time;
    bool user_token, interleaved;
    double positive; /* an action of so much sets the flag, where the data has no flags */
    uint32_t worker, workers, alive;
    uint64_t seed;
    size_t max_events, batch_users, holdout;
    double token_cost;

    uint32_t *eligible, *order; /* users, and their order in order_epoch */
    size_t eligible_count;
    uint64_t order_epoch; /* UINT64_MAX: none yet */

    example_t *examples; /* of the batch under way */
    size_t example_room;
    weir_priced_t *priced;
    uint32_t *owners;
    double *load;
    weir_key_set_t *keys;
    buffer_t *buffers; /* alive of them for training, used in turn, and the last for evaluation */
    uint64_t reads;
};

weir_ranking_config_t weir_ranking_of_config(const weir_config_t *config,
                                             const weir_dataset_t *dataset) {
    size_t actions = weir_dataset_columns(dataset)->action_count;
    size_t tasks = actions > 0 ? actions : 1;
    size_t events = (size_t)config->model.max_sequence_length;
    size_t contextual = config->ranking.user_token ? 1 : 0;
    size_t each = config->ranking.tokens == WEIR_TOKENS_INTERLEAVED ? 2 : 1;
    weir_ranking_config_t ranking = {
        .layers = {.embedding_dim = (size_t)config->model.embedding_dim,
                   .blocks = (size_t)config->model.blocks,
                   .heads = (size_t)config->model.heads,
                   .dqk = (size_t)config->model.dqk,
                   .dv = (size_t)config->model.dv,
                   .max_tokens = contextual + each * events + (size_t)config->ranking.max_targets,
                   .contextual = contextual,
                   .window = (size_t)config->ranking.window,
                   .dropout = config->model.layer_dropout,
                   .bf16 = config->train.compute == WEIR_COMPUTE_BF16},
        .positions = (size_t)config->ranking.positions,
        .time_buckets = (size_t)config->ranking.time_buckets,
        .action_flags = tasks,
        .hidden = (size_t)config->ranking.hidden,
        .tasks = tasks,
        .input_dropout = config->model.input_dropout,
    };
    for (size_t k = 0; k < ranking.tasks; k++) {
        ranking.weights[k] = 1.0 / (double)ranking.tasks;
    }
    return ranking;
}

/* ---- what an example is ---- */

/* Session `index` of a user. */
static void find_session(const weir_ranking_reader_t *reader, uint64_t user, size_t index,
                         example_t *example) {
    weir_user_events_t events = weir_dataset_user(reader->dataset, user);
    example->user = user;
    example->session = weir_sessions_at(&reader->rule, events.times, events.count, index);
    size_t before = example->session.first;
    example->first = before < reader->max_events ? 0 : before - reader->max_events;
    example->kept = before - example->first;
}

static size_t count_sessions(const weir_ranking_reader_t *reader, uint64_t user) {
    weir_user_events_t events = weir_dataset_user(reader->dataset, user);
    return weir_sessions_count(&reader->rule, events.times, events.count);
}

/* Those that are not held out: they come first. */
static size_t count_trained(const weir_ranking_reader_t *reader, uint64_t user) {
    weir_user_events_t events = weir_dataset_user(reader->dataset, user);
    size_t sessions = reader->by_time
                          ? weir_sessions_before_cut(&reader->rule, events.times, events.count)
                          : weir_sessions_count(&reader->rule, events.times, events.count);
    return sessions > reader->holdout ? sessions - reader->holdout : 0;
}

static size_t tokens_of(const weir_ranking_reader_t *reader, const example_t *example) {
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

/* ---- its life ---- */

static weir_err_t find_eligible(weir_ranking_reader_t *reader, weir_error_t *error) {
    uint64_t users = weir_dataset_users(reader->dataset);
    if (users >= UINT32_MAX) {
        return weir_errorf(error, WEIR_ERR_UNSUPPORTED, "%llu users; at most %u can be shuffled",
                           (unsigned long long)users, UINT32_MAX - 1);
    }
    reader->eligible = malloc((size_t)users * sizeof(uint32_t) + 1);
    reader->order = malloc((size_t)users * sizeof(uint32_t) + 1);
    if (reader->eligible == NULL || reader->order == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the order of %llu users",
                           (unsigned long long)users);
    }
    for (uint64_t user = 0; user < users; user++) {
        if (count_trained(reader, user) > 0) {
            reader->eligible[reader->eligible_count++] = (uint32_t)user;
        }
    }
    if (reader->eligible_count > 0) {
        memcpy(reader->order, reader->eligible, reader->eligible_count * sizeof(uint32_t));
        return WEIR_OK;
    }
    weir_err_t err = weir_errorf(error, WEIR_ERR_INVALID,
                                 "no user has more than %zu sessions to train on", reader->holdout);
    weir_error_hint(error, "the last session of each user is held out; a smaller "
                           "ranking.session_gap makes more of them");
    return err;
}

static bool make_room(weir_ranking_reader_t *reader, size_t users) {
    reader->example_room = users;
    reader->examples = calloc(users, sizeof *reader->examples);
    reader->priced = calloc(users, sizeof *reader->priced);
    reader->owners = calloc(users, sizeof *reader->owners);
    reader->load = calloc(reader->workers, sizeof *reader->load);
    reader->draws = calloc(reader->max_events, sizeof *reader->draws);
    reader->keep = calloc(users, reader->length.alpha > 0.0 ? reader->max_events : 1);
    reader->buffers = calloc(reader->alive + 1, sizeof *reader->buffers);
    return reader->examples != NULL && reader->priced != NULL && reader->owners != NULL &&
           reader->load != NULL && reader->draws != NULL && reader->keep != NULL &&
           reader->buffers != NULL;
}

weir_err_t weir_ranking_reader_create(const weir_config_t *config,
                                      const weir_batch_reader_options_t *options,
                                      weir_ranking_reader_t **reader, weir_error_t *error) {
    weir_ranking_reader_t *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for a reader of batches");
    }
    made->dataset = options->dataset;
    made->model = weir_ranking_of_config(config, options->dataset);
    made->columns = weir_dataset_columns(options->dataset);
    made->by_time = config->ranking.test_from != 0;
    made->features = config->ranking.features;
    made->rule =
        (weir_session_rule_t){.gap = config->ranking.session_gap,
                              .most = (size_t)config->ranking.max_targets,
                              .cut = made->by_time ? config->ranking.test_from : INT64_MIN};
    made->length =
        (weir_length_rule_t){.alpha = config->ranking.stochastic_length,
                             .longest = (size_t)config->model.max_sequence_length,
                             .choice = (weir_length_choice_t)config->ranking.stochastic_choice};
    made->user_token = config->ranking.user_token;
    made->interleaved = config->ranking.tokens == WEIR_TOKENS_INTERLEAVED;
    made->positive = config->ranking.positive;
    made->worker = options->worker;
    made->workers = options->workers;
    made->alive = options->alive > 0 ? options->alive : 1;
    made->seed = (uint64_t)config->train.seed;
    made->max_events = (size_t)config->model.max_sequence_length;
    made->batch_users = (size_t)config->train.batch_users;
    made->holdout = (config->eval.validation ? 1U : 0U) + (made->by_time ? 0U : 1U);
    made->order_epoch = UINT64_MAX;
    /* Of a token's products over those of a pair of attention. */
    made->token_cost = (double)made->model.layers.embedding_dim * 3.0;
    size_t users = made->batch_users > (size_t)config->eval.batch_users
                       ? made->batch_users
                       : (size_t)config->eval.batch_users;
    weir_err_t err =
        make_room(made, users)
            ? find_eligible(made, error)
            : weir_errorf(error, WEIR_ERR_MEMORY, "no memory for batches of %zu users", users);
    if (err == WEIR_OK) {
        err = weir_key_set_create((uint64_t)key_of(KINDS, 0), &made->keys, error);
    }
    if (err != WEIR_OK) {
        weir_ranking_reader_destroy(made);
        return err;
    }
    *reader = made;
    return WEIR_OK;
}

static void release_buffer(buffer_t *buffer) {
    void *arrays[] = {buffer->offsets,     buffer->targets,      buffer->user_numbers,
                      buffer->row_offsets, buffer->row_keys,     buffer->rows,
                      buffer->actions,     buffer->positions,    buffer->times,
                      buffer->predicted,   buffer->groups,       buffer->labels,
                      buffer->key_list,    buffer->global_tokens};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        free(arrays[i]);
    }
}

void weir_ranking_reader_destroy(weir_ranking_reader_t *reader) {
    if (reader == NULL) {
        return;
    }
    for (uint32_t i = 0; reader->buffers != NULL && i <= reader->alive; i++) {
        release_buffer(&reader->buffers[i]);
    }
    weir_key_set_destroy(reader->keys);
    free(reader->buffers);
    free(reader->eligible);
    free(reader->order);
    free(reader->examples);
    free(reader->priced);
    free(reader->owners);
    free(reader->load);
    free(reader->draws);
    free(reader->keep);
    free(reader);
}

uint64_t weir_ranking_steps_per_epoch(const weir_ranking_reader_t *reader) {
    return (reader->eligible_count + reader->batch_users - 1) / reader->batch_users;
}

uint64_t weir_ranking_users_per_epoch(const weir_ranking_reader_t *reader) {
    return reader->eligible_count;
}

/* ---- a batch ---- */

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

static weir_err_t reserve(const weir_ranking_reader_t *reader, buffer_t *b, size_t users,
                          size_t tokens, size_t predictions, weir_error_t *error) {
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
static void add_token(buffer_t *b, place_t *place, uint32_t actions, uint32_t time) {
    size_t t = place->tokens++;
    b->row_offsets[t] = place->rows;
    b->actions[t] = actions;
    b->times[t] = time;
}

static void add_features(buffer_t *b, place_t *place, const weir_feature_t *features, size_t count,
                         size_t kind, uint64_t at) {
    for (size_t f = 0; f < count; f++) {
        if (features[f].ids[at] != 0) { /* 0: not known */
            b->row_keys[place->rows++] = key_of(kind + f, features[f].ids[at]);
        }
    }
}

/* Rows of an event's item, of its features and of the event's context. */
static void add_item(const weir_ranking_reader_t *reader, buffer_t *b, place_t *place, int64_t item,
                     uint64_t event) {
    const weir_dataset_columns_t *columns = reader->columns;
    b->row_keys[place->rows++] = item;
    if (reader->features) {
        add_features(b, place, columns->items, columns->item_count, KIND_ITEM_FEATURE,
                     (uint64_t)item - 1);
        add_features(b, place, columns->context, columns->context_count, KIND_CONTEXT, event);
    }
}

static void add_user(const weir_ranking_reader_t *reader, buffer_t *b, place_t *place,
                     uint64_t user) {
    const weir_dataset_columns_t *columns = reader->columns;
    b->row_keys[place->rows++] = key_of(KIND_USER, user);
    if (reader->features) {
        add_features(b, place, columns->users, columns->user_count, KIND_USER_FEATURE, user);
    }
}

/* The tokens of one user. Places are counted back from the targets, which are all at 0. */
static void add_example(const weir_ranking_reader_t *reader, buffer_t *b, place_t *place,
                        const example_t *example) {
    weir_user_events_t events = weir_dataset_user(reader->dataset, example->user);
    size_t buckets = reader->model.time_buckets, first = place->tokens;
    int64_t query = events.times[example->session.first];
    uint64_t first_event = weir_dataset_first_event(reader->dataset, example->user);
    if (reader->user_token) {
        add_token(b, place, WEIR_RANKING_NO_ACTIONS, (uint32_t)(buckets - 1));
        add_user(reader, b, place, example->user);
    }
    const uint8_t *keep = reader->keep + (size_t)(example - reader->examples) * reader->max_events;
    bool cut = example->kept < example->session.first - example->first;
    for (size_t e = example->first; e < example->session.first; e++) {
        if (cut && keep[e - example->first] == 0) {
            continue;
        }
        uint32_t time = weir_ranking_time_bucket(query - events.times[e], buckets);
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
            b->labels[q * reader->model.tasks + k] = (float)(flags >> k & 1);
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
static weir_err_t number_rows(weir_ranking_reader_t *reader, buffer_t *b, size_t rows,
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

/* The batch of those of `count` examples that this worker owns; `owners` NULL: all. */
static weir_err_t build(weir_ranking_reader_t *reader, buffer_t *b, size_t count,
                        const uint32_t *owners, weir_error_t *error) {
    size_t tokens = 0, predictions = 0;
    place_t place = {0};
    for (size_t i = 0; i < count; i++) {
        const example_t *example = &reader->examples[i];
        if (owners == NULL || owners[i] == reader->worker) {
            tokens += tokens_of(reader, example);
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
    b->row_offsets[place.tokens] = place.rows;
    b->batch = (weir_ranking_train_batch_t){
        .train = {.sequence = {.users = place.users, .tokens = place.tokens},
                  .users = b->user_numbers},
        .ranking = {.sequence = {.users = place.users,
                                 .tokens = place.tokens,
                                 .offsets = b->offsets,
                                 .targets = b->targets,
                                 .global_tokens = b->global_tokens},
                    .row_offsets = b->row_offsets,
                    .rows = b->rows,
                    .actions = b->actions,
                    .positions = b->positions,
                    .times = b->times,
                    .predicted = b->predicted,
                    .predictions = place.predictions},
        .labels = b->labels,
        .groups = b->groups,
    };
    return number_rows(reader, b, place.rows, error);
}

/* ---- training ---- */

/* Which session of the user, in this epoch: any of those that are not held out. */
static void draw_session(const weir_ranking_reader_t *reader, uint64_t user, uint64_t epoch,
                         example_t *example) {
    weir_rng_key_t key = weir_rng_key(reader->seed, WEIR_STREAM_SESSION);
    weir_philox_t words = weir_philox(key, (uint32_t)epoch, (uint32_t)(epoch >> 32), (uint32_t)user,
                                      (uint32_t)(user >> 32));
    size_t index = weir_uniform_below(words.word[0], (uint32_t)count_trained(reader, user));
    find_session(reader, user, index, example);
    if (reader->length.alpha > 0.0) {
        weir_user_events_t events = weir_dataset_user(reader->dataset, user);
        example->kept = weir_length_choose(
            &reader->length, events.times + example->first, example->session.first - example->first,
            weir_rng_key(reader->seed, WEIR_STREAM_LENGTH), (uint32_t)epoch,
            (uint32_t)(epoch >> 32), (uint32_t)user, reader->draws,
            reader->keep + (size_t)(example - reader->examples) * reader->max_events);
    }
}

weir_err_t weir_ranking_read(weir_ranking_reader_t *reader, uint64_t step,
                             const weir_ranking_train_batch_t **batch, weir_error_t *error) {
    uint64_t per_epoch = weir_ranking_steps_per_epoch(reader), tokens = 0, predictions = 0;
    uint64_t epoch = (step - 1) / per_epoch;
    size_t begin = (size_t)((step - 1) % per_epoch) * reader->batch_users, count = 0;
    if (reader->order_epoch != epoch) {
        weir_rng_permutation(reader->seed, WEIR_STREAM_SHUFFLE, epoch, reader->order,
                             reader->eligible_count);
        reader->order_epoch = epoch;
    }
    for (size_t i = begin; i < reader->eligible_count && count < reader->batch_users; i++) {
        example_t *example = &reader->examples[count];
        draw_session(reader, reader->eligible[reader->order[i]], epoch, example);
        double length = (double)tokens_of(reader, example);
        example->first_token = (uint32_t)tokens;
        reader->priced[count] =
            (weir_priced_t){length * (reader->token_cost + length), (uint32_t)count};
        tokens += tokens_of(reader, example);
        predictions += example->session.end - example->session.first;
        count++;
    }
    if (tokens >= UINT32_MAX) {
        return weir_errorf(error, WEIR_ERR_UNSUPPORTED,
                           "the batch of step %llu has %llu tokens; they are numbered in 32 bits",
                           (unsigned long long)step, (unsigned long long)tokens);
    }
    weir_deal(reader->priced, count, reader->workers, reader->load, reader->owners);
    buffer_t *buffer = &reader->buffers[reader->reads++ % reader->alive];
    weir_err_t err = build(reader, buffer, count, reader->owners, error);
    if (err == WEIR_OK) {
        buffer->batch.train.step = step;
        buffer->batch.train.epoch = epoch;
        buffer->batch.train.global_tokens = tokens;
        buffer->batch.global_predictions = predictions;
        *batch = &buffer->batch;
    }
    return err;
}

/* ---- evaluation ---- */

size_t weir_ranking_tests(const weir_ranking_reader_t *reader, uint64_t user, bool validation,
                          size_t *first) {
    size_t sessions = count_sessions(reader, user);
    weir_user_events_t events = weir_dataset_user(reader->dataset, user);
    size_t tests = reader->by_time
                       ? weir_sessions_before_cut(&reader->rule, events.times, events.count)
                       : sessions - 1;
    if (validation) {
        *first = tests - 1;
        return tests > 1 ? 1 : 0; /* something is before it */
    }
    *first = tests;
    return tests > 0 || reader->by_time ? sessions - tests : 0;
}

weir_err_t weir_ranking_read_tests(weir_ranking_reader_t *reader, const weir_ranking_test_t *tests,
                                   size_t count, const weir_ranking_train_batch_t **batch,
                                   weir_error_t *error) {
    buffer_t *buffer = &reader->buffers[reader->alive];
    for (size_t i = 0; i < count && i < reader->example_room; i++) {
        example_t *example = &reader->examples[i];
        find_session(reader, tests[i].user, tests[i].session, example);
        example->first_token = 0;
    }
    weir_err_t err = build(reader, buffer, count, NULL, error);
    if (err == WEIR_OK) {
        *batch = &buffer->batch;
    }
    return err;
}
