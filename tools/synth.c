/* weir synth: prepared data from a seed. */
#include "common/log.h"
#include "tools/dataset_writer.h"
#include "tools/progress.h"
#include "tools/synth_actions.h"
#include "tools/synth_model.h"
#include "tools/synth_music.h"
#include "tools/synth_paper.h"
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
    OPTION_PAPER,
    OPTION_MUSIC,
    OPTION_LENGTH,
    OPTION_FORCE,
    OPTION_JSON
};

typedef struct {
    const char *out;
    weir_synth_options_t synth;
    weir_synth_paper_options_t paper;
    weir_synth_music_options_t music;
    bool actions, of_paper, of_music, force, json;
    bool has_length;
    const char *unpaperly,
        *unmusical; /* an option given that the form has no use for; NULL: none */
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
    {"paper", OPTION_PAPER, NULL, 0,
     "the synthetic stream of the paper's appendix C: 1,000,000 users (its records) of 128 events "
     "over 20,000 items in 100 clusters (its categories), released over time; --users, --items, "
     "--clusters, --length make it smaller",
     0},
    {"music", OPTION_MUSIC, NULL, 0,
     "listens to music, for ranking: tracks of artists and albums, sessions, repeats, how much was "
     "played, likes and dislikes; a thousandth of Yambda-5B: 1,000 users, 9,390 tracks, 4,760 "
     "listens a user in 300 days, unless --users, --items, --events-mean, --days say otherwise",
     0},
    {"length", OPTION_LENGTH, "N", 0, "with --paper: events of a user; default 128", 0},
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
        arguments->synth.users = arguments->paper.records = arguments->music.users =
            parse_count("users", value, state);
        return 0;
    case OPTION_ITEMS:
        arguments->synth.items = arguments->paper.items = arguments->music.tracks =
            parse_count("items", value, state);
        return 0;
    case OPTION_MEAN:
        arguments->unpaperly = "events-mean";
        arguments->synth.events_mean = arguments->music.listens_mean =
            parse_real("events-mean", value, state);
        return 0;
    case OPTION_CLUSTERS:
        arguments->unmusical = "clusters";
        arguments->synth.clusters = parse_count("clusters", value, state);
        arguments->paper.categories = arguments->synth.clusters;
        return 0;
    case OPTION_SKEW:
        arguments->unpaperly = arguments->unmusical = "skew";
        arguments->synth.skew = parse_real("skew", value, state);
        return 0;
    case OPTION_DAYS:
        arguments->unpaperly = "days";
        arguments->synth.days = arguments->music.days = parse_real("days", value, state);
        return 0;
    case OPTION_SEED:
        arguments->synth.seed = arguments->paper.seed = arguments->music.seed =
            parse_count("seed", value, state);
        return 0;
    case OPTION_ACTIONS:
        arguments->actions = true;
        arguments->unpaperly = arguments->unmusical = "actions";
        return 0;
    case OPTION_PAPER:
        arguments->of_paper = true;
        return 0;
    case OPTION_MUSIC:
        arguments->of_music = true;
        arguments->unpaperly = "music";
        return 0;
    case OPTION_LENGTH:
        arguments->paper.length = parse_count("length", value, state);
        arguments->has_length = true;
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
        if (arguments->of_paper && arguments->unpaperly != NULL) {
            argp_error(state, "--paper has no use for --%s", arguments->unpaperly);
        }
        if (arguments->of_music && arguments->unmusical != NULL) {
            argp_error(state, "--music has no use for --%s", arguments->unmusical);
        }
        if (arguments->has_length && !arguments->of_paper) {
            argp_error(state, "--length goes with --paper");
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

/* ---- the paper's stream ---- */

static void get_category_item_id(void *list, uint64_t index, const char **bytes, size_t *size) {
    static char text[64];
    const weir_synth_paper_options_t *o = list;
    *size = (size_t)snprintf(text, sizeof text, "c%" PRIu64 "-%" PRIu64, index % o->categories,
                             index / o->categories);
    *bytes = text;
}

static void get_record_id(void *list, uint64_t index, const char **bytes, size_t *size) {
    static char text[32];
    (void)list;
    *size = (size_t)snprintf(text, sizeof text, "r%" PRIu64, index);
    *bytes = text;
}

static weir_err_t write_records(const weir_synth_paper_options_t *o, weir_dataset_writer_t *writer,
                                weir_error_t *error) {
    weir_progress_t progress;
    size_t length = (size_t)o->length;
    int64_t *items = calloc(length, sizeof *items), *times = calloc(length, sizeof *times);
    float *actions = calloc(length, sizeof *actions);
    weir_err_t code = items != NULL && times != NULL && actions != NULL
                          ? WEIR_OK
                          : weir_errorf(error, WEIR_ERR_MEMORY, "out of memory");
    weir_progress_begin(&progress, "making", "records", o->records);
    for (uint64_t record = 0; code == WEIR_OK && record < o->records; record++) {
        weir_synth_paper_record(o, record, items);
        for (size_t n = 0; n < length; n++) {
            times[n] = (int64_t)(record * length + n);
            actions[n] = 1.0f;
        }
        code = weir_dataset_writer_add_user(writer, items, times, actions, length, error);
        if (record % 1024 == 1023) {
            weir_progress_update(&progress, record + 1, record + 1);
        }
    }
    weir_progress_clear(&progress);
    free(items);
    free(times);
    free(actions);
    return code;
}

static weir_err_t make_paper(arguments_t *arguments, weir_error_t *error) {
    weir_synth_paper_options_t *o = &arguments->paper;
    weir_dataset_writer_t *writer = NULL;
    char source[256];
    weir_err_t code = weir_synth_paper_check(o, error);
    if (code == WEIR_OK) {
        code = weir_dataset_writer_create(arguments->out, arguments->force, &writer, error);
    }
    if (code == WEIR_OK) {
        code = write_records(o, writer, error);
    }
    if (code == WEIR_OK) {
        (void)snprintf(source, sizeof source,
                       "weir synth --paper --users %" PRIu64 " --items %" PRIu64
                       " --clusters %" PRIu64 " --length %" PRIu64 " --seed %" PRIu64,
                       o->records, o->items, o->categories, o->length, o->seed);
        weir_dataset_names_t names = {.items = o->items,
                                      .item_ids = {get_category_item_id, o},
                                      .user_ids = {get_record_id, NULL},
                                      .source = source};
        code = weir_dataset_writer_finish(writer, &names, error);
    }
    if (code == WEIR_OK && arguments->json) {
        (void)printf("{\"users\": %" PRIu64 ", \"items\": %" PRIu64 ", \"clusters\": %" PRIu64
                     ", \"events\": %" PRIu64 "}\n",
                     o->records, o->items, o->categories, o->records * o->length);
    } else if (code == WEIR_OK) {
        (void)printf("%s\n  records   %" PRIu64 " of %" PRIu64
                     " events, one a second\n  items     %" PRIu64 " in %" PRIu64 " categories\n",
                     arguments->out, o->records, o->length, o->items, o->categories);
    }
    weir_dataset_writer_destroy(writer);
    return code;
}

static weir_err_t make(arguments_t *arguments, weir_error_t *error) {
    if (arguments->of_music) {
        return weir_synth_music_write(&arguments->music, arguments->out, arguments->force,
                                      arguments->json, error);
    }
    return arguments->of_paper ? make_paper(arguments, error) : make_dataset(arguments, error);
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
    arguments_t arguments = {
        .synth = {.users = 2000,
                  .items = 1500,
                  .clusters = UINT64_MAX, /* not given */
                  .events_mean = 60.0,
                  .skew = 1.0,
                  .days = 365.0,
                  .seed = 1},
        .paper = {.records = 1000000, .items = 20000, .categories = 100, .length = 128, .seed = 1},
        .music = {.users = 1000, .tracks = 9390, .listens_mean = 4760.0, .days = 300.0, .seed = 1}};
    (void)argp_parse(&argp, argc, argv, 0, NULL, &arguments);
    if (arguments.synth.clusters == UINT64_MAX) {
        arguments.synth.clusters = arguments.synth.items < 40 ? arguments.synth.items : 40;
    }
    if (make(&arguments, &error) != WEIR_OK) {
        weir_fatal(&error);
    }
    if (fflush(stdout) != 0) {
        (void)weir_errorf(&error, WEIR_ERR_IO, "cannot write the summary to standard output");
        weir_fatal(&error);
    }
    return 0;
}
