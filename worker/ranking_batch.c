#include "common/rng.h"
#include "worker/ranking_batch_internal.h"

#include <stdlib.h>

weir_ranking_config_t weir_ranking_of_config(const weir_config_t *config,
                                             const weir_dataset_t *dataset,
                                             const weir_ranking_tasks_t *tasks) {
    size_t actions = weir_dataset_columns(dataset)->action_count;
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
        .action_flags = actions > 0 ? actions : 1,
        .hidden = (size_t)config->ranking.hidden,
        .tasks = tasks->count,
        .input_dropout = config->model.input_dropout,
        .direct = config->ranking.direct,
    };
    for (size_t k = 0; k < ranking.tasks; k++) {
        ranking.kinds[k] = tasks->list[k].kind;
        ranking.weights[k] = tasks->list[k].weight;
    }
    return ranking;
}

/* ---- what an example is ---- */

/* A user who is asked at `query`, knowing what is before the session. */
static weir_ranking_example_t make_example(const weir_ranking_reader_t *reader, uint64_t user,
                                           weir_session_t session, int64_t query) {
    weir_user_events_t events = weir_dataset_user(reader->dataset, user);
    size_t end = session.first;
    while (end > 0 && reader->history_gap > 0 &&
           events.times[end - 1] > query - reader->history_gap) {
        end--;
    }
    size_t first = end < reader->max_events ? 0 : end - reader->max_events;
    return (weir_ranking_example_t){.user = user,
                                    .first = first,
                                    .end = end,
                                    .session = session,
                                    .kept = end - first,
                                    .query = query};
}

static weir_ranking_example_t example_of_session(const weir_ranking_reader_t *reader, uint64_t user,
                                                 weir_session_t session) {
    int64_t query = weir_dataset_user(reader->dataset, user).times[session.first];
    return make_example(reader, user, session, query);
}

static weir_session_t find_session(const weir_ranking_reader_t *reader, uint64_t user,
                                   size_t index) {
    weir_user_events_t events = weir_dataset_user(reader->dataset, user);
    return weir_sessions_at(&reader->rule, events.times, events.count, index);
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

/* ---- its life ---- */

static bool has_session(const void *argument, uint64_t user) {
    return count_trained(argument, user) > 0;
}

static weir_err_t shuffle_users(weir_ranking_reader_t *reader, weir_error_t *error) {
    weir_err_t err =
        weir_shuffle_create(reader->seed, weir_dataset_users(reader->dataset), reader->batch_users,
                            has_session, reader, &reader->shuffle, error);
    if (err == WEIR_OK && weir_shuffle_users(reader->shuffle) == 0) {
        err = weir_errorf(error, WEIR_ERR_INVALID, "no user has more than %zu sessions to train on",
                          reader->holdout);
        weir_error_hint(error, "the last session of each user is held out; a smaller "
                               "ranking.session_gap makes more of them");
    }
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
    weir_err_t err = weir_ranking_tasks_read(config, options->dataset, &made->tasks, error);
    if (err != WEIR_OK) {
        free(made);
        return err;
    }
    made->model = weir_ranking_of_config(config, options->dataset, &made->tasks);
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
    made->history_gap = config->ranking.history_gap;
    made->holdout = (config->eval.validation ? 1U : 0U) + (made->by_time ? 0U : 1U);
    /* Of a token's products over those of a pair of attention. */
    made->token_cost = (double)made->model.layers.embedding_dim * 3.0;
    size_t users = made->batch_users > (size_t)config->eval.batch_users
                       ? made->batch_users
                       : (size_t)config->eval.batch_users;
    err = !make_room(made, users)
              ? weir_errorf(error, WEIR_ERR_MEMORY, "no memory for batches of %zu users", users)
          : config->train.order == WEIR_ORDER_STREAM
              ? weir_windows_create(options->dataset, config->train.stream_window, &made->rule,
                                    made->batch_users, &made->stream, error)
              : shuffle_users(made, error);
    if (err == WEIR_OK) {
        err = weir_key_set_create(weir_ranking_key_limit(), &made->keys, error);
    }
    if (err != WEIR_OK) {
        weir_ranking_reader_destroy(made);
        return err;
    }
    *reader = made;
    return WEIR_OK;
}

void weir_ranking_reader_destroy(weir_ranking_reader_t *reader) {
    if (reader == NULL) {
        return;
    }
    for (uint32_t i = 0; reader->buffers != NULL && i <= reader->alive; i++) {
        weir_ranking_release_buffer(&reader->buffers[i]);
    }
    weir_key_set_destroy(reader->keys);
    weir_windows_destroy(reader->stream);
    weir_shuffle_destroy(reader->shuffle);
    free(reader->buffers);
    free(reader->examples);
    free(reader->priced);
    free(reader->owners);
    free(reader->load);
    free(reader->draws);
    free(reader->keep);
    free(reader);
}

const weir_ranking_tasks_t *weir_ranking_reader_tasks(const weir_ranking_reader_t *reader) {
    return &reader->tasks;
}

uint64_t weir_ranking_steps_per_epoch(const weir_ranking_reader_t *reader) {
    return reader->stream != NULL ? weir_windows_steps(reader->stream)
                                  : weir_shuffle_steps(reader->shuffle);
}

uint64_t weir_ranking_users_per_epoch(const weir_ranking_reader_t *reader) {
    return reader->stream != NULL ? weir_windows_trained_entries(reader->stream)
                                  : weir_shuffle_users(reader->shuffle);
}

const weir_windows_t *weir_ranking_windows(const weir_ranking_reader_t *reader) {
    return reader->stream;
}

/* ---- training ---- */

/* Draw the part of the history that is kept; `when`: the epoch, or the step of a stream. */
static void choose_length(const weir_ranking_reader_t *reader, uint64_t when,
                          weir_ranking_example_t *example) {
    weir_user_events_t events = weir_dataset_user(reader->dataset, example->user);
    example->kept = weir_length_choose(
        &reader->length, events.times + example->first, example->end - example->first,
        weir_rng_key(reader->seed, WEIR_STREAM_LENGTH), (uint32_t)when, (uint32_t)(when >> 32),
        (uint32_t)example->user, reader->draws,
        reader->keep + (size_t)(example - reader->examples) * reader->max_events);
}

/* Which session of the user, in this epoch: any of those that are not held out. */
static weir_session_t draw_session(const weir_ranking_reader_t *reader, uint64_t user,
                                   uint64_t epoch) {
    weir_rng_key_t key = weir_rng_key(reader->seed, WEIR_STREAM_SESSION);
    weir_philox_t words = weir_philox(key, (uint32_t)epoch, (uint32_t)(epoch >> 32), (uint32_t)user,
                                      (uint32_t)(user >> 32));
    size_t index = weir_uniform_below(words.word[0], (uint32_t)count_trained(reader, user));
    return find_session(reader, user, index);
}

/* Examples of a step, in shuffled order; how many. */
static size_t choose_shuffled(weir_ranking_reader_t *reader, uint64_t step, uint64_t epoch) {
    uint64_t position = (step - 1) % weir_ranking_steps_per_epoch(reader);
    size_t count = 0;
    const uint32_t *users = weir_shuffle_step(reader->shuffle, epoch, position, &count);
    for (size_t i = 0; i < count; i++) {
        reader->examples[i] =
            example_of_session(reader, users[i], draw_session(reader, users[i], epoch));
    }
    return count;
}

static size_t choose_streamed(weir_ranking_reader_t *reader, uint64_t step) {
    size_t count = 0;
    const weir_windows_entry_t *entries = weir_windows_step_entries(reader->stream, step, &count);
    for (size_t i = 0; i < count; i++) {
        reader->examples[i] = example_of_session(
            reader, entries[i].user, (weir_session_t){entries[i].first, entries[i].end});
    }
    return count;
}

weir_err_t weir_ranking_read(weir_ranking_reader_t *reader, uint64_t step,
                             const weir_ranking_train_batch_t **batch, weir_error_t *error) {
    uint64_t epoch = (step - 1) / weir_ranking_steps_per_epoch(reader), tokens = 0, predictions = 0;
    size_t count = reader->stream != NULL ? choose_streamed(reader, step)
                                          : choose_shuffled(reader, step, epoch);
    for (size_t i = 0; i < count; i++) {
        weir_ranking_example_t *example = &reader->examples[i];
        if (reader->length.alpha > 0.0) {
            choose_length(reader, reader->stream != NULL ? step : epoch, example);
        }
        size_t length = weir_ranking_tokens_of(reader, example);
        example->first_token = (uint32_t)tokens;
        reader->priced[i] =
            (weir_priced_t){(double)length * (reader->token_cost + (double)length), (uint32_t)i};
        tokens += length;
        predictions += example->session.end - example->session.first;
    }
    if (tokens >= UINT32_MAX) {
        return weir_errorf(error, WEIR_ERR_UNSUPPORTED,
                           "the batch of step %llu has %llu tokens; they are numbered in 32 bits",
                           (unsigned long long)step, (unsigned long long)tokens);
    }
    weir_deal(reader->priced, count, reader->workers, reader->load, reader->owners);
    weir_ranking_buffer_t *buffer = &reader->buffers[reader->reads++ % reader->alive];
    weir_err_t err = weir_ranking_build(reader, buffer, count, reader->owners, error);
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

/* The sessions of a user that are held out for a split: first .. first + count - 1; validation: the
 * one before the tests. 0 when there is nothing before them. */
static size_t held_out(const weir_ranking_reader_t *reader, uint64_t user, bool validation,
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

weir_err_t weir_ranking_tests(const weir_ranking_reader_t *reader, bool validation, size_t window,
                              weir_ranking_visit_t visit, void *argument, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    if (reader->stream != NULL) {
        size_t count = 0;
        const weir_windows_entry_t *entries = weir_windows_entries(reader->stream, window, &count);
        for (size_t i = reader->worker; i < count && err == WEIR_OK; i += reader->workers) {
            const weir_ranking_test_t test = {entries[i].user, {entries[i].first, entries[i].end}};
            err = visit(argument, &test, error);
        }
        return err;
    }
    for (uint64_t user = reader->worker;
         user < weir_dataset_users(reader->dataset) && err == WEIR_OK; user += reader->workers) {
        size_t first = 0, sessions = held_out(reader, user, validation, &first);
        for (size_t i = 0; i < sessions && err == WEIR_OK; i++) {
            const weir_ranking_test_t test = {user, find_session(reader, user, first + i)};
            err = visit(argument, &test, error);
        }
    }
    return err;
}

weir_err_t weir_ranking_read_tests(weir_ranking_reader_t *reader, const weir_ranking_test_t *tests,
                                   size_t count, const weir_ranking_train_batch_t **batch,
                                   weir_error_t *error) {
    weir_ranking_buffer_t *buffer = &reader->buffers[reader->alive];
    for (size_t i = 0; i < count && i < reader->example_room; i++) {
        reader->examples[i] = example_of_session(reader, tests[i].user, tests[i].session);
    }
    weir_err_t err = weir_ranking_build(reader, buffer, count, NULL, error);
    if (err == WEIR_OK) {
        *batch = &buffer->batch;
    }
    return err;
}

/* ---- requests ---- */

weir_err_t weir_ranking_read_history(weir_ranking_reader_t *reader, uint64_t user, size_t events,
                                     int64_t time, const weir_ranking_train_batch_t **batch,
                                     weir_error_t *error) {
    weir_ranking_buffer_t *buffer = &reader->buffers[reader->alive];
    reader->examples[0] = make_example(reader, user, (weir_session_t){events, events}, time);
    weir_err_t err = weir_ranking_build(reader, buffer, 1, NULL, error);
    if (err == WEIR_OK) {
        *batch = &buffer->batch;
    }
    return err;
}

weir_err_t weir_ranking_read_candidates(weir_ranking_reader_t *reader, uint64_t user,
                                        const int64_t *items, size_t count,
                                        const weir_ranking_train_batch_t **batch,
                                        weir_error_t *error) {
    weir_ranking_buffer_t *buffer = &reader->buffers[reader->alive];
    weir_err_t err = weir_ranking_build_candidates(reader, buffer, user, items, count, error);
    if (err == WEIR_OK) {
        *batch = &buffer->batch;
    }
    return err;
}
