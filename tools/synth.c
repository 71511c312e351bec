/* weir synth: prepared data from a seed. */
#include "common/log.h"
#include "tools/dataset_writer.h"
#include "tools/progress.h"
#include "tools/synth_actions.h"
#include "tools/synth_model.h"
#include "tools/verbs.h"
#include "worker/task_metrics.h"

#include <argp.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    OPTION_USERS = 256,
    OPTION_ITEMS,
    OPTION_MEAN,
    OPTION_CLUSTERS,
    OPTION_SKEW,
    OPTION_DAYS,
    OPTION_SEED,
    OPTION_ACTIONS,
    OPTION_FORCE,
    OPTION_JSON
};

typedef struct {
    const char *out;
    weir_synth_options_t synth;
    bool actions, force, json;
} arguments_t;

static const struct argp_option options[] = {
    {"out", 'o', "FOLDER", 0, "where the data goes", 0},
    {"users", OPTION_USERS, "N", 0, "default 2000", 0},
    {"items", OPTION_ITEMS, "N", 0, "default 1500", 0},
    {"events-mean", OPTION_MEAN, "X", 0, "events a user, on average; default 60", 0},
    {"clusters", OPTION_CLUSTERS, "N", 0, "groups of items that go together; default 40", 0},
    {"skew", OPTION_SKEW, "X", 0, "exponent of popularity inside a cluster; default 1", 0},
    {"days", OPTION_DAYS, "X", 0, "in which users come and items are released; default 365", 0},
    {"seed", OPTION_SEED, "N", 0, "default 1", 0},
    {"actions", OPTION_ACTIONS, NULL, 0,
     "plant clicks, likes and seconds watched, for ranking, and features: hour, cluster", 0},
    {"force", OPTION_FORCE, NULL, 0, "replace data that is there already", 0},
    {"json", OPTION_JSON, NULL, 0, "print the summary as JSON", 0},
    {0},
};

static uint64_t parse_count(const char *name, const char *text, struct argp_state *state) {
    size_t size = strlen(text);
    if (size == 0 || size > 19 || text[strspn(text, "0123456789")] != '\0') {
        argp_error(state, "--%s %s: expected a whole number", name, text);
    }
    return strtoull(text, NULL, 10);
}

static double parse_real(const char *name, const char *text, struct argp_state *state) {
    char *end = NULL;
    double value = strtod(text, &end);
    if (text[0] == '\0' || *end != '\0' || text[strspn(text, "0123456789+-.eE")] != '\0') {
        argp_error(state, "--%s %s: expected a number", name, text);
    }
    return value;
}

static error_t parse_option(int option, char *value, struct argp_state *state) {
    arguments_t *arguments = state->input;
    switch (option) {
    case 'o':
        arguments->out = value;
        return 0;
    case OPTION_USERS:
        arguments->synth.users = parse_count("users", value, state);
        return 0;
    case OPTION_ITEMS:
        arguments->synth.items = parse_count("items", value, state);
        return 0;
    case OPTION_MEAN:
        arguments->synth.events_mean = parse_real("events-mean", value, state);
        return 0;
    case OPTION_CLUSTERS:
        arguments->synth.clusters = parse_count("clusters", value, state);
        return 0;
    case OPTION_SKEW:
        arguments->synth.skew = parse_real("skew", value, state);
        return 0;
    case OPTION_DAYS:
        arguments->synth.days = parse_real("days", value, state);
        return 0;
    case OPTION_SEED:
        arguments->synth.seed = parse_count("seed", value, state);
        return 0;
    case OPTION_ACTIONS:
        arguments->actions = true;
        return 0;
    case OPTION_FORCE:
        arguments->force = true;
        return 0;
    case OPTION_JSON:
        arguments->json = true;
        return 0;
    case ARGP_KEY_END:
        if (arguments->out == NULL || arguments->out[0] == '\0') {
            argp_error(state, "--out FOLDER is missing");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ---- ids: "c3-17" is item 17 of cluster 3 ---- */

typedef struct {
    const weir_synth_t *synth;
    char text[64];
} ids_t;

static void get_item_id(void *list, uint64_t index, const char **bytes, size_t *size) {
    ids_t *ids = list;
    int64_t item = (int64_t)index + 1;
    *size =
        (size_t)snprintf(ids->text, sizeof ids->text, "c%" PRIu64 "-%" PRIu64,
                         weir_synth_cluster(ids->synth, item), weir_synth_rank(ids->synth, item));
    *bytes = ids->text;
}

static void get_user_id(void *list, uint64_t index, const char **bytes, size_t *size) {
    ids_t *ids = list;
    *size = (size_t)snprintf(ids->text, sizeof ids->text, "u%" PRIu64, index);
    *bytes = ids->text;
}

typedef struct {
    uint64_t events;
    size_t shortest, longest;
    int64_t first_time, last_time;
    weir_task_result_t best[WEIR_SYNTH_ACTIONS]; /* of the planted logits themselves */
} summary_t;

/* What `--actions` adds; nothing without it. */
typedef struct {
    weir_dataset_columns_t columns;
    uint32_t *clusters; /* [C] owned */
    uint32_t *words;    /* [capacity x WEIR_SYNTH_WORDS] owned */
    size_t capacity;
    weir_task_metrics_t *metrics; /* owned */
} planted_t;

static void release_planted(planted_t *planted) {
    if (planted != NULL) {
        free(planted->clusters);
        free(planted->words);
        weir_task_metrics_destroy(planted->metrics);
        free(planted);
    }
}

static weir_err_t make_planted(const arguments_t *arguments, const weir_synth_t *synth,
                               planted_t **out, weir_error_t *error) {
    static const weir_task_kind_t kinds[WEIR_SYNTH_ACTIONS] = {WEIR_TASK_BINARY, WEIR_TASK_BINARY};
    uint64_t items = arguments->synth.items;
    planted_t *planted = calloc(1, sizeof *planted);
    if (planted != NULL) {
        planted->clusters = malloc((size_t)items * sizeof *planted->clusters);
    }
    if (planted == NULL || planted->clusters == NULL) {
        release_planted(planted);
        return weir_errorf(error, WEIR_ERR_MEMORY,
                           "no memory for the features of %" PRIu64 " items", items);
    }
    for (uint64_t k = 0; k < items; k++) {
        planted->clusters[k] = (uint32_t)weir_synth_cluster(synth, (int64_t)k + 1) + 1;
    }
    weir_synth_action_columns(arguments->synth.clusters, planted->clusters, &planted->columns);
    weir_err_t err =
        weir_task_metrics_create(kinds, WEIR_SYNTH_ACTIONS, 1 << 22, &planted->metrics, error);
    if (err != WEIR_OK) {
        release_planted(planted);
        return err;
    }
    *out = planted;
    return WEIR_OK;
}

/* Plant the actions of a user's events, after they were written. */
static weir_err_t plant(const arguments_t *arguments, const weir_synth_t *synth, uint64_t user,
                        const weir_synth_events_t *events, planted_t *planted,
                        weir_dataset_writer_t *writer, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    if (events->count > planted->capacity) {
        uint32_t *words = realloc(planted->words, events->count * WEIR_SYNTH_WORDS * sizeof *words);
        if (words == NULL) {
            return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for %zu actions", events->count);
        }
        planted->words = words;
        planted->capacity = events->count;
    }
    for (size_t i = 0; i < events->count && err == WEIR_OK; i++) {
        weir_synth_action_t action = weir_synth_action_of(synth, arguments->synth.seed, user, i,
                                                          events->items[i], events->times[i]);
        weir_synth_action_words(&action, planted->words + i * WEIR_SYNTH_WORDS);
        for (size_t task = 0; task < WEIR_SYNTH_ACTIONS && err == WEIR_OK; task++) {
            err = weir_task_metrics_add(planted->metrics, task, user,
                                        action.actions[task] ? 1.0f : 0.0f,
                                        (float)action.logits[task], error);
        }
    }
    return err == WEIR_OK
               ? weir_dataset_writer_add_words(writer, planted->words, events->count, error)
               : err;
}

static weir_err_t write_users(const arguments_t *arguments, weir_synth_t *synth, planted_t *planted,
                              weir_dataset_writer_t *writer, summary_t *summary,
                              weir_error_t *error) {
    weir_progress_t progress;
    weir_progress_begin(&progress, "making", "users", arguments->synth.users);
    *summary = (summary_t){.shortest = SIZE_MAX, .first_time = INT64_MAX, .last_time = INT64_MIN};
    weir_err_t code = WEIR_OK;
    for (uint64_t user = 0; code == WEIR_OK && user < arguments->synth.users; user++) {
        weir_synth_events_t made = weir_synth_user(synth, user);
        int64_t first = made.times[0], last = made.times[made.count - 1];
        summary->events += made.count;
        summary->shortest = made.count < summary->shortest ? made.count : summary->shortest;
        summary->longest = made.count > summary->longest ? made.count : summary->longest;
        summary->first_time = first < summary->first_time ? first : summary->first_time;
        summary->last_time = last > summary->last_time ? last : summary->last_time;
        code = weir_dataset_writer_add_user(writer, made.items, made.times, made.actions,
                                            made.count, error);
        if (code == WEIR_OK && planted != NULL) {
            code = plant(arguments, synth, user, &made, planted, writer, error);
        }
        if (user % 256 == 255) {
            weir_progress_update(&progress, user + 1, user + 1);
        }
    }
    weir_progress_clear(&progress);
    for (size_t task = 0; code == WEIR_OK && planted != NULL && task < WEIR_SYNTH_ACTIONS; task++) {
        code = weir_task_metrics_result(planted->metrics, task, &summary->best[task], error);
    }
    return code;
}

static void print_best(const arguments_t *arguments, const summary_t *s) {
    static const char *const names[WEIR_SYNTH_ACTIONS] = {"click", "like"};
    for (size_t task = 0; arguments->actions && task < WEIR_SYNTH_ACTIONS; task++) {
        char values[1024];
        weir_task_result_to_json(&s->best[task], values, sizeof values);
        if (arguments->json) {
            (void)printf("%s\"%s\": %s", task == 0 ? ", \"best\": {" : ", ", names[task], values);
        } else {
            (void)printf("  %-9s rate %.4f; planted: NE %.4f, AUC %.4f, by user %.4f\n",
                         names[task], s->best[task].label_mean, s->best[task].ne, s->best[task].auc,
                         s->best[task].grouped_auc);
        }
    }
    (void)printf("%s", !arguments->json ? "" : arguments->actions ? "}}\n" : "}\n");
}

static void print_summary(const arguments_t *arguments, const summary_t *s) {
    double mean = (double)s->events / (double)arguments->synth.users;
    double days = (double)(s->last_time - s->first_time) / 86400.0;
    if (arguments->json) {
        (void)printf("{\"users\": %" PRIu64 ", \"items\": %" PRIu64 ", \"clusters\": %" PRIu64
                     ", \"events\": %" PRIu64
                     ", \"lengths\": {\"min\": %zu, \"mean\": %.2f, \"max\": %zu}, \"days\": %.1f",
                     arguments->synth.users, arguments->synth.items, arguments->synth.clusters,
                     s->events, s->shortest, mean, s->longest, days);
        print_best(arguments, s);
        return;
    }
    (void)printf("%s\n  users     %" PRIu64 "\n  items     %" PRIu64 " in %" PRIu64
                 " clusters\n  events    %" PRIu64
                 "\n  lengths   min %zu, mean %.1f, max %zu\n  time      %.0f days\n",
                 arguments->out, arguments->synth.users, arguments->synth.items,
                 arguments->synth.clusters, s->events, s->shortest, mean, s->longest, days);
    print_best(arguments, s);
}

static weir_err_t make_dataset(const arguments_t *arguments, weir_error_t *error) {
    weir_synth_t *synth = NULL;
    weir_dataset_writer_t *writer = NULL;
    planted_t *planted = NULL;
    summary_t summary;
    char source[256];
    weir_err_t code = weir_synth_create(&arguments->synth, &synth, error);
    if (code == WEIR_OK) {
        code = weir_dataset_writer_create(arguments->out, arguments->force, &writer, error);
    }
    if (code == WEIR_OK && arguments->actions) {
        code = make_planted(arguments, synth, &planted, error);
        if (code == WEIR_OK) {
            code = weir_dataset_writer_extend(writer, &planted->columns, error);
        }
    }
    if (code == WEIR_OK) {
        code = write_users(arguments, synth, planted, writer, &summary, error);
    }
    if (code == WEIR_OK) {
        const weir_synth_options_t *o = &arguments->synth;
        (void)snprintf(source, sizeof source,
                       "weir synth --users %" PRIu64 " --items %" PRIu64
                       " --events-mean %g --clusters %" PRIu64
                       " --skew %g --days %g --seed %" PRIu64 "%s",
                       o->users, o->items, o->events_mean, o->clusters, o->skew, o->days, o->seed,
                       arguments->actions ? " --actions" : "");
        ids_t item_ids = {.synth = synth}, user_ids = {.synth = synth};
        weir_dataset_names_t names = {.items = o->items,
                                      .item_ids = {get_item_id, &item_ids},
                                      .user_ids = {get_user_id, &user_ids},
                                      .source = source};
        code = weir_dataset_writer_finish(writer, &names, error);
    }
    if (code == WEIR_OK) {
        print_summary(arguments, &summary);
    }
    weir_dataset_writer_destroy(writer);
    release_planted(planted);
    weir_synth_destroy(synth);
    return code;
}

int weir_verb_synth(int argc, char **argv) {
    static const struct argp argp = {
        options,
        parse_option,
        NULL,
        "Make data with something to learn from a seed: users with drifting tastes over clusters "
        "of "
        "items, sessions, repeats, skewed popularity, new items over time.",
        NULL,
        NULL,
        NULL};
    weir_error_t error = {0};
    arguments_t arguments = {.synth = {.users = 2000,
                                       .items = 1500,
                                       .clusters = UINT64_MAX, /* not given */
                                       .events_mean = 60.0,
                                       .skew = 1.0,
                                       .days = 365.0,
                                       .seed = 1}};
    (void)argp_parse(&argp, argc, argv, 0, NULL, &arguments);
    if (arguments.synth.clusters == UINT64_MAX) {
        arguments.synth.clusters = arguments.synth.items < 40 ? arguments.synth.items : 40;
    }
    if (make_dataset(&arguments, &error) != WEIR_OK) {
        weir_fatal(&error);
    }
    if (fflush(stdout) != 0) {
        (void)weir_errorf(&error, WEIR_ERR_IO, "cannot write the summary to standard output");
        weir_fatal(&error);
    }
    return 0;
}
