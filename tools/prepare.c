#include "tools/prepare.h"

#include "tools/number.h"
#include "tools/prepare_summary.h"
#include "tools/verbs.h"

#include <stdlib.h>
#include <string.h>

enum {
    OPTION_MIN_USER = 512,
    OPTION_MIN_ITEM,
    OPTION_STRICT,
    OPTION_FORCE,
    OPTION_JSON,
    ID_LIMIT = 4096
};

static const struct argp_option options[] = {
    {"out", 'o', "FOLDER", 0, "where the prepared data goes", 0},
    {"min-user", OPTION_MIN_USER, "N", 0, "leave out users with fewer than N events", 0},
    {"min-item", OPTION_MIN_ITEM, "N", 0,
     "leave out items with fewer than N events; both limits are applied until nothing changes", 0},
    {"strict", OPTION_STRICT, NULL, 0, "stop at the first bad line", 0},
    {"force", OPTION_FORCE, NULL, 0, "replace data that is there already", 0},
    {"json", OPTION_JSON, NULL, 0, "print the summary as JSON", 0},
    {0},
};

static uint64_t parse_count(const char *text, struct argp_state *state) {
    size_t size = strlen(text);
    if (size == 0 || size > 18 || text[strspn(text, "0123456789")] != '\0') {
        argp_error(state, "%s is not a count", text);
    }
    return strtoull(text, NULL, 10);
}

static error_t parse_option(int option, char *value, struct argp_state *state) {
    weir_prepare_options_t *parsed = state->input;
    switch (option) {
    case 'o':
        parsed->out = value;
        return 0;
    case OPTION_MIN_USER:
        parsed->min_user = parse_count(value, state);
        return 0;
    case OPTION_MIN_ITEM:
        parsed->min_item = parse_count(value, state);
        return 0;
    case OPTION_STRICT:
        parsed->strict = true;
        return 0;
    case OPTION_FORCE:
        parsed->force = true;
        return 0;
    case OPTION_JSON:
        parsed->json = true;
        return 0;
    case ARGP_KEY_END:
        if (parsed->out == NULL || parsed->out[0] == '\0') {
            argp_error(state, "--out FOLDER is missing");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const struct argp weir_prepare_argp = {options, parse_option, NULL, NULL, NULL, NULL, NULL};

weir_err_t weir_prepare_init(weir_prepare_t *prepare, bool strict, weir_error_t *error) {
    weir_prepare_t made = {.bad = {.strict = strict}};
    weir_err_t code = weir_interner_create(&made.users, error);
    if (code == WEIR_OK) {
        code = weir_interner_create(&made.items, error);
    }
    if (code != WEIR_OK) {
        weir_prepare_fini(&made);
        return code;
    }
    *prepare = made;
    return WEIR_OK;
}

void weir_prepare_fini(weir_prepare_t *prepare) {
    weir_interner_destroy(prepare->users);
    weir_interner_destroy(prepare->items);
    weir_interner_destroy(prepare->names);
    free(prepare->item_names);
    weir_event_log_fini(&prepare->log);
    *prepare = (weir_prepare_t){0};
}

weir_err_t weir_prepare_add_event(weir_prepare_t *prepare, const char *file, uint64_t line,
                                  weir_prepare_field_t user, weir_prepare_field_t item,
                                  weir_prepare_field_t time, weir_prepare_field_t action,
                                  int64_t per_second, weir_error_t *error) {
    int64_t seconds = 0;
    float value = 1.0f;
    uint32_t user_number = 0, item_number = 0;
    const char *reason = NULL;
    weir_prepare_field_t found = user;
    if (user.size == 0 || user.size > ID_LIMIT) {
        reason = user.size == 0 ? "the user is empty" : "the user's id is longer than 4096 bytes";
    } else if (item.size == 0 || item.size > ID_LIMIT) {
        found = item;
        reason = item.size == 0 ? "the item is empty" : "the item's id is longer than 4096 bytes";
    } else if (!weir_number_parse_time(time.bytes, time.size, per_second, &seconds)) {
        found = time;
        reason = "the time is not a number of plausible size";
    } else if (action.bytes != NULL && !weir_number_parse_real(action.bytes, action.size, &value)) {
        found = action;
        reason = "the rating is not a finite number";
    }
    if (reason != NULL) {
        return weir_bad_lines_add(&prepare->bad, file, line, reason, found.bytes, found.size,
                                  error);
    }
    weir_err_t code =
        weir_interner_add(prepare->users, user.bytes, user.size, &user_number, NULL, error);
    if (code == WEIR_OK) {
        code = weir_interner_add(prepare->items, item.bytes, item.size, &item_number, NULL, error);
    }
    if (code == WEIR_OK) {
        code = weir_event_log_add(&prepare->log, user_number, item_number, seconds, value, error);
    }
    return code;
}

/* ---- names of what was kept ---- */

typedef struct {
    const weir_interner_t *interner;
    const weir_renumbering_t *kept;
} ids_t;

static void get_id(void *list, uint64_t index, const char **bytes, size_t *size) {
    const ids_t *ids = list;
    weir_interner_get(ids->interner, ids->kept->kept[index], bytes, size);
}

typedef struct {
    const weir_prepare_t *prepare;
    const weir_renumbering_t *kept;
} names_t;

static void get_name(void *list, uint64_t index, const char **bytes, size_t *size) {
    const names_t *names = list;
    uint32_t item = names->kept->kept[index];
    *bytes = "";
    *size = 0;
    if (item < names->prepare->catalogue) {
        weir_interner_get(names->prepare->names, names->prepare->item_names[item], bytes, size);
    }
}

/* ---- features of what was kept ---- */

static weir_err_t renumber_features(const weir_feature_t *from, size_t count,
                                    const weir_renumbering_t *kept, weir_feature_t *to,
                                    weir_error_t *error) {
    for (size_t i = 0; i < count; i++) {
        uint32_t *ids = malloc(((size_t)kept->kept_count + 1) * sizeof *ids);
        if (ids == NULL) {
            return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for the ids of %s",
                               from[i].name);
        }
        for (uint32_t k = 0; k < kept->kept_count; k++) {
            ids[k] = from[i].ids[kept->kept[k]];
        }
        to[i].ids = ids;
    }
    return WEIR_OK;
}

static void release_features(weir_feature_t *features, size_t count) {
    for (size_t i = 0; i < count; i++) {
        free((void *)(uintptr_t)features[i].ids); /* of renumber_features */
    }
}

static void release_columns(weir_dataset_columns_t *columns) {
    if (columns != NULL) {
        release_features(columns->items, columns->item_count);
        release_features(columns->users, columns->user_count);
        free(columns);
    }
}

/* The columns with the features of the kept items and users, for release_columns. */
static weir_err_t renumber_columns(const weir_dataset_columns_t *columns,
                                   const weir_renumbering_t *users, const weir_renumbering_t *items,
                                   weir_dataset_columns_t **out, weir_error_t *error) {
    weir_dataset_columns_t *made = malloc(sizeof *made);
    if (made == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for the columns");
    }
    *made = *columns;
    for (size_t i = 0; i < WEIR_DATASET_MAX_FEATURES; i++) {
        made->items[i].ids = made->users[i].ids = NULL;
    }
    weir_err_t code =
        renumber_features(columns->items, columns->item_count, items, made->items, error);
    if (code == WEIR_OK) {
        code = renumber_features(columns->users, columns->user_count, users, made->users, error);
    }
    if (code != WEIR_OK) {
        release_columns(made);
        return code;
    }
    *out = made;
    return WEIR_OK;
}

static void count_actions(const weir_prepare_t *prepare, weir_prepare_summary_t *summary) {
    const weir_event_log_t *log = &prepare->log;
    summary->columns = prepare->columns;
    for (size_t row = 0; prepare->columns->action_count > 0 && row < log->count; row++) {
        for (size_t k = 0; k < prepare->columns->action_count; k++) {
            summary->action_events[k] += log->words[row * log->width] >> k & 1;
        }
    }
}

/* Filter, sort and write: everything but the summary's printing. */
static weir_err_t write_dataset(weir_prepare_t *prepare, const weir_prepare_options_t *given,
                                const char *source, weir_prepare_summary_t *summary,
                                weir_error_t *error) {
    weir_renumbering_t users = {0}, items = {0};
    weir_dataset_writer_t *writer = NULL;
    weir_dataset_columns_t *columns = NULL;
    size_t read = prepare->log.count;
    weir_err_t code = weir_event_log_filter(&prepare->log, weir_interner_count(prepare->users),
                                            weir_interner_count(prepare->items), given->min_user,
                                            given->min_item, &users, &items, error);
    if (code != WEIR_OK) {
        return code;
    }
    if (prepare->log.count == 0) {
        code = weir_errorf(error, WEIR_ERR_INVALID,
                           "of %zu events none has a user with %llu and an item with %llu events",
                           read, (unsigned long long)given->min_user,
                           (unsigned long long)given->min_item);
        goto out;
    }
    ids_t item_ids = {prepare->items, &items}, user_ids = {prepare->users, &users};
    names_t item_names = {prepare, &items};
    weir_dataset_names_t names = {.items = items.kept_count,
                                  .item_ids = {get_id, &item_ids},
                                  .user_ids = {get_id, &user_ids},
                                  .values = prepare->values,
                                  .schema = prepare->schema,
                                  .source = source};
    if (prepare->names != NULL) {
        names.item_names = (weir_strings_t){get_name, &item_names};
    }
    code = weir_dataset_writer_create(given->out, given->force, &writer, error);
    if (code == WEIR_OK && prepare->columns != NULL) {
        count_actions(prepare, summary);
        code = renumber_columns(prepare->columns, &users, &items, &columns, error);
        if (code == WEIR_OK) {
            code = weir_dataset_writer_extend(writer, columns, error);
        }
    }
    if (code == WEIR_OK) {
        code = weir_event_log_write(&prepare->log, &users, &items, writer, &summary->log, error);
    }
    if (code == WEIR_OK) {
        code = weir_dataset_writer_finish(writer, &names, error);
    }
    summary->items = items.kept_count;
    summary->filtered_users = weir_interner_count(prepare->users) - users.kept_count;
    summary->filtered_items = weir_interner_count(prepare->items) - items.kept_count;
    summary->filtered_events = read - prepare->log.count;
out:
    weir_dataset_writer_destroy(writer);
    release_columns(columns);
    weir_renumbering_fini(&users);
    weir_renumbering_fini(&items);
    return code;
}

static weir_err_t refuse_empty(const weir_prepare_t *prepare, weir_error_t *error) {
    weir_err_t code =
        weir_errorf(error, WEIR_ERR_INVALID,
                    "no usable event in %llu lines, %llu of them bad; nothing was written",
                    (unsigned long long)prepare->lines, (unsigned long long)prepare->bad.total);
    for (size_t i = 0; i < prepare->bad.reason_count; i++) {
        if (strncmp(prepare->bad.reasons[i].reason, "the time", 8) == 0) {
            weir_error_hint(error, "a time is a number since 1970, in seconds or as the unit says; "
                                   "`date -u -d '2024-02-29 12:00' +%%s` makes one of a date");
        }
    }
    return code;
}

weir_err_t weir_prepare_finish(weir_prepare_t *prepare, const weir_prepare_options_t *given,
                               const char *source, weir_error_t *error) {
    weir_prepare_summary_t summary = {.out = given->out,
                                      .lines = prepare->lines,
                                      .bad = &prepare->bad,
                                      .has_catalogue = prepare->names != NULL,
                                      .catalogue = prepare->catalogue};
    if (prepare->log.count == 0) {
        return refuse_empty(prepare, error);
    }
    summary.not_in_catalogue =
        prepare->names != NULL ? weir_interner_count(prepare->items) - prepare->catalogue : 0;
    weir_err_t code = write_dataset(prepare, given, source, &summary, error);
    if (code == WEIR_OK) {
        code = weir_prepare_summary_print(&summary, given->json, error);
    }
    return code;
}

static const weir_verb_t sources[] = {
    {"csv", "any log with one event a line: user, item, time, optionally a rating",
     weir_prepare_csv},
    {"movielens", "MovieLens and MovieTweetings ratings, with or without the catalogue of movies",
     weir_prepare_movielens},
    {"tables", "a log with actions and tables of features, for ranking, as a schema file says",
     weir_prepare_tables},
    {NULL, NULL, NULL},
};

int weir_verb_prepare(int argc, char **argv) {
    return weir_verbs_run(sources, "weir prepare",
                          "Turn a log of events into a folder that training maps into memory.",
                          argc, argv);
}
