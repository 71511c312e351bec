#include "common/dataset.h"

#include "common/file.h"
#include "common/hash.h"
#include "common/tensor_file.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One list of byte strings: string k is bytes[offsets[k]] .. bytes[offsets[k + 1]]. */
typedef struct {
    const int64_t *offsets; /* NULL: the dictionary has no such list */
    const char *bytes;
} strings_t;

struct weir_dataset {
    weir_tensor_file_t *events;
    weir_tensor_file_t *features;   /* NULL without features of items or users */
    weir_tensor_file_t *dictionary; /* NULL until first use */
    char dictionary_path[WEIR_PATH_MAX];
    uint64_t user_count, item_count, event_count;
    const int64_t *offsets;
    const int64_t *items;
    const int64_t *times;
    const float *actions;
    uint64_t digest;
    weir_dataset_columns_t columns;
    strings_t item_ids, item_names, user_ids;
    strings_t texts[3][WEIR_DATASET_MAX_FEATURES]; /* of ids, by kind and feature */
};

/* A count from the file's metadata: decimal digits alone. */
static weir_err_t read_count(const weir_tensor_file_t *file, const char *key, uint64_t *count,
                             weir_error_t *error) {
    const char *text = weir_tensor_file_metadata(file, key);
    if (text == NULL) {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "%s: metadata has no %s",
                           weir_tensor_file_path(file), key);
    }
    size_t size = strlen(text);
    if (size == 0 || size > 18 || text[strspn(text, "0123456789")] != '\0') {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "%s: metadata %s is %.40s, not a count",
                           weir_tensor_file_path(file), key, text);
    }
    *count = strtoull(text, NULL, 10);
    return WEIR_OK;
}

/* Format, version, and the counts that both files carry. */
static weir_err_t check_metadata(const weir_tensor_file_t *file, uint64_t *users, uint64_t *items,
                                 weir_error_t *error) {
    const char *path = weir_tensor_file_path(file);
    const char *format = weir_tensor_file_metadata(file, "format");
    const char *version = weir_tensor_file_metadata(file, "version");
    if (format == NULL || strcmp(format, WEIR_DATASET_FORMAT) != 0) {
        return weir_errorf(error, WEIR_ERR_CORRUPT,
                           "%s: not prepared data: metadata format is %.40s, expected %s", path,
                           format != NULL ? format : "missing", WEIR_DATASET_FORMAT);
    }
    if (version == NULL || strcmp(version, WEIR_DATASET_VERSION) != 0) {
        return weir_errorf(error, WEIR_ERR_VERSION,
                           "%s: prepared data of version %.40s; this weir reads version %s", path,
                           version != NULL ? version : "unknown", WEIR_DATASET_VERSION);
    }
    weir_err_t code = read_count(file, "num_users", users, error);
    return code != WEIR_OK ? code : read_count(file, "num_items", items, error);
}

static weir_err_t map_events(weir_dataset_t *data, weir_error_t *error) {
    const weir_tensor_t *offsets = NULL, *items = NULL, *times = NULL, *actions = NULL;
    weir_err_t code = check_metadata(data->events, &data->user_count, &data->item_count, error);
    if (code != WEIR_OK) {
        return code;
    }
    const char *path = weir_tensor_file_path(data->events);
    if (data->user_count == 0 || data->item_count == 0) {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "%s: no users or no items", path);
    }
    uint64_t shape = data->user_count + 1, any = UINT64_MAX;
    code = weir_tensor_file_require(data->events, "offsets", WEIR_DTYPE_I64, 1, &shape, &offsets,
                                    error);
    if (code == WEIR_OK) {
        code =
            weir_tensor_file_require(data->events, "items", WEIR_DTYPE_I64, 1, &any, &items, error);
    }
    if (code == WEIR_OK) {
        data->event_count = items->elements;
        code = weir_tensor_file_require(data->events, "times", WEIR_DTYPE_I64, 1,
                                        &data->event_count, &times, error);
    }
    if (code == WEIR_OK) {
        code = weir_tensor_file_require(data->events, "actions", WEIR_DTYPE_F32, 1,
                                        &data->event_count, &actions, error);
    }
    if (code != WEIR_OK) {
        return code;
    }
    data->offsets = offsets->values;
    data->items = items->values;
    data->times = times->values;
    data->actions = actions->values;
    if (data->event_count == 0) {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "%s: no events", path);
    }
    return WEIR_OK;
}

static weir_err_t check_offsets(const weir_tensor_file_t *file, const char *what,
                                const int64_t *offsets, uint64_t count, uint64_t total,
                                bool strictly, weir_error_t *error) {
    const char *path = weir_tensor_file_path(file);
    if (offsets[0] != 0) {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "%s: %s begin at %" PRId64 ", not at 0", path,
                           what, offsets[0]);
    }
    for (uint64_t k = 0; k < count; k++) {
        if (offsets[k + 1] < offsets[k] || (strictly && offsets[k + 1] == offsets[k])) {
            return weir_errorf(error, WEIR_ERR_CORRUPT,
                               "%s: %s do not rise at row %" PRIu64 ": %" PRId64
                               " is followed by %" PRId64,
                               path, what, k, offsets[k], offsets[k + 1]);
        }
    }
    if ((uint64_t)offsets[count] != total) {
        return weir_errorf(error, WEIR_ERR_CORRUPT,
                           "%s: %s end at %" PRId64 ", but there are %" PRIu64, path, what,
                           offsets[count], total);
    }
    return WEIR_OK;
}

/* The sentence for the first bad event of a user. */
static weir_err_t refuse_event(const weir_dataset_t *data, uint64_t user, uint64_t row,
                               weir_error_t *error) {
    const char *path = weir_tensor_file_path(data->events);
    int64_t item = data->items[row], time = data->times[row];
    if (item < 1 || (uint64_t)item > data->item_count) {
        return weir_errorf(error, WEIR_ERR_CORRUPT,
                           "%s: user %" PRIu64 ", row %" PRIu64 ": item %" PRId64
                           " is not in 1 .. %" PRIu64,
                           path, user, row, item, data->item_count);
    }
    if (!isfinite(data->actions[row])) {
        return weir_errorf(error, WEIR_ERR_CORRUPT,
                           "%s: user %" PRIu64 ", row %" PRIu64 ": action is not a finite number",
                           path, user, row);
    }
    if (time < -WEIR_DATASET_TIME_LIMIT || time > WEIR_DATASET_TIME_LIMIT) {
        return weir_errorf(error, WEIR_ERR_CORRUPT,
                           "%s: user %" PRIu64 ", row %" PRIu64 ": time %" PRId64
                           " is beyond every plausible second",
                           path, user, row, time);
    }
    return weir_errorf(error, WEIR_ERR_CORRUPT,
                       "%s: user %" PRIu64 ", row %" PRIu64 ": time %" PRId64 " is before %" PRId64
                       " of the event before it",
                       path, user, row, time, data->times[row - 1]);
}

static weir_err_t check_events(const weir_dataset_t *data, weir_error_t *error) {
    for (uint64_t user = 0; user < data->user_count; user++) {
        uint64_t begin = (uint64_t)data->offsets[user], end = (uint64_t)data->offsets[user + 1];
        int64_t before = -WEIR_DATASET_TIME_LIMIT;
        for (uint64_t row = begin; row < end; row++) {
            bool item = data->items[row] >= 1 && (uint64_t)data->items[row] <= data->item_count;
            bool time = data->times[row] >= before && data->times[row] <= WEIR_DATASET_TIME_LIMIT;
            if (!item || !time || !isfinite(data->actions[row])) {
                return refuse_event(data, user, row, error);
            }
            before = data->times[row];
        }
    }
    return WEIR_OK;
}

static uint64_t digest_events(const weir_dataset_t *data) {
    uint64_t counts[3] = {data->user_count, data->item_count, data->event_count};
    uint64_t digest = weir_checksum(counts, sizeof counts, 0);
    digest = weir_checksum(data->offsets, (data->user_count + 1) * sizeof *data->offsets, digest);
    digest = weir_checksum(data->items, data->event_count * sizeof *data->items, digest);
    digest = weir_checksum(data->times, data->event_count * sizeof *data->times, digest);
    return weir_checksum(data->actions, data->event_count * sizeof *data->actions, digest);
}

/* Features of items and users have a file of their own, with the same counts. */
static weir_err_t open_features(weir_dataset_t *data, const char *folder, weir_error_t *error) {
    char path[WEIR_PATH_MAX];
    uint64_t users = 0, items = 0;
    if (!weir_dataset_columns_need_features(data->events)) {
        return WEIR_OK;
    }
    weir_err_t code = weir_path_join(path, sizeof path, folder, WEIR_DATASET_FEATURES, error);
    if (code == WEIR_OK) {
        code = weir_tensor_file_open(path, &data->features, error);
    }
    if (code == WEIR_OK) {
        code = check_metadata(data->features, &users, &items, error);
    }
    if (code == WEIR_OK && (users != data->user_count || items != data->item_count)) {
        code = weir_errorf(error, WEIR_ERR_CORRUPT,
                           "%s: %" PRIu64 " users and %" PRIu64 " items; the events have %" PRIu64
                           " and %" PRIu64,
                           path, users, items, data->user_count, data->item_count);
    }
    return code;
}

static weir_err_t map_columns(weir_dataset_t *data, const char *folder, weir_error_t *error) {
    weir_err_t code = open_features(data, folder, error);
    return code != WEIR_OK
               ? code
               : weir_dataset_columns_map(data->events, data->features, data->event_count,
                                          data->item_count, data->user_count, &data->columns,
                                          &data->digest, error);
}

weir_err_t weir_dataset_open(const char *folder, weir_dataset_t **dataset, weir_error_t *error) {
    char path[WEIR_PATH_MAX];
    weir_dataset_t *data = calloc(1, sizeof *data);
    if (data == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "%s: out of memory", folder);
    }
    weir_err_t code = weir_path_join(path, sizeof path, folder, WEIR_DATASET_EVENTS, error);
    if (code == WEIR_OK) {
        code = weir_path_join(data->dictionary_path, sizeof data->dictionary_path, folder,
                              WEIR_DATASET_DICTIONARY, error);
    }
    if (code != WEIR_OK) {
        goto out;
    }
    if (!weir_file_exists(path) || !weir_file_exists(data->dictionary_path)) {
        code = weir_errorf(error, WEIR_ERR_NOT_FOUND, "%s: no prepared data here: %s is missing",
                           folder,
                           weir_file_exists(path) ? WEIR_DATASET_DICTIONARY : WEIR_DATASET_EVENTS);
        weir_error_hint(error, "`weir prepare` or `weir synth` makes a folder of data");
        goto out;
    }
    code = weir_tensor_file_open(path, &data->events, error);
    if (code != WEIR_OK) {
        goto out;
    }
    weir_tensor_file_advise(data->events, true);
    code = map_events(data, error);
    if (code == WEIR_OK) {
        code = check_offsets(data->events, "offsets", data->offsets, data->user_count,
                             data->event_count, true, error);
    }
    if (code == WEIR_OK) {
        code = check_events(data, error);
    }
    if (code != WEIR_OK) {
        goto out;
    }
    data->digest = digest_events(data);
    code = map_columns(data, folder, error);
    if (code != WEIR_OK) {
        goto out;
    }
    weir_tensor_file_advise(data->events, false);
    *dataset = data;
    data = NULL;
out:
    weir_dataset_close(data);
    return code;
}

void weir_dataset_close(weir_dataset_t *dataset) {
    if (dataset != NULL) {
        weir_tensor_file_close(dataset->events);
        weir_tensor_file_close(dataset->features);
        weir_tensor_file_close(dataset->dictionary);
        free(dataset);
    }
}

uint64_t weir_dataset_users(const weir_dataset_t *dataset) {
    return dataset->user_count;
}

uint64_t weir_dataset_items(const weir_dataset_t *dataset) {
    return dataset->item_count;
}

uint64_t weir_dataset_events(const weir_dataset_t *dataset) {
    return dataset->event_count;
}

const char *weir_dataset_source(const weir_dataset_t *dataset) {
    const char *source = weir_tensor_file_metadata(dataset->events, "source");
    return source != NULL ? source : "";
}

uint64_t weir_dataset_digest(const weir_dataset_t *dataset) {
    return dataset->digest;
}

uint64_t weir_dataset_first_event(const weir_dataset_t *dataset, uint64_t user) {
    return (uint64_t)dataset->offsets[user];
}

const weir_dataset_columns_t *weir_dataset_columns(const weir_dataset_t *dataset) {
    return &dataset->columns;
}

weir_user_events_t weir_dataset_user(const weir_dataset_t *dataset, uint64_t user) {
    uint64_t begin = (uint64_t)dataset->offsets[user], end = (uint64_t)dataset->offsets[user + 1];
    return (weir_user_events_t){.items = dataset->items + begin,
                                .times = dataset->times + begin,
                                .actions = dataset->actions + begin,
                                .count = end - begin};
}

/* ---- the dictionary ---- */

/* Map NAME_offsets and NAME_bytes; a list that may be absent is left empty. */
static weir_err_t map_strings(const weir_tensor_file_t *file, const char *name, uint64_t count,
                              bool required, strings_t *strings, weir_error_t *error) {
    char offsets_name[WEIR_DATASET_NAME + 32], bytes_name[WEIR_DATASET_NAME + 32];
    const weir_tensor_t *offsets = NULL, *bytes = NULL;
    uint64_t shape = count + 1, any = UINT64_MAX;
    (void)snprintf(offsets_name, sizeof offsets_name, "%s_offsets", name);
    (void)snprintf(bytes_name, sizeof bytes_name, "%s_bytes", name);
    if (!required && weir_tensor_file_find(file, offsets_name) == NULL) {
        return WEIR_OK;
    }
    weir_err_t code =
        weir_tensor_file_require(file, offsets_name, WEIR_DTYPE_I64, 1, &shape, &offsets, error);
    if (code == WEIR_OK) {
        code = weir_tensor_file_require(file, bytes_name, WEIR_DTYPE_U8, 1, &any, &bytes, error);
    }
    if (code == WEIR_OK) {
        code = check_offsets(file, offsets_name, offsets->values, count, bytes->elements, false,
                             error);
    }
    if (code == WEIR_OK) {
        strings->offsets = offsets->values;
        strings->bytes = bytes->values;
    }
    return code;
}

static const weir_feature_t *features_of(const weir_dataset_t *data, weir_feature_kind_t kind,
                                         size_t *count) {
    const weir_dataset_columns_t *columns = &data->columns;
    *count = kind == WEIR_FEATURE_CONTEXT ? columns->context_count
             : kind == WEIR_FEATURE_ITEM  ? columns->item_count
                                          : columns->user_count;
    return kind == WEIR_FEATURE_CONTEXT ? columns->context
           : kind == WEIR_FEATURE_ITEM  ? columns->items
                                        : columns->users;
}

static weir_err_t map_texts(const weir_dataset_t *data, const weir_tensor_file_t *file,
                            strings_t texts[3][WEIR_DATASET_MAX_FEATURES], weir_error_t *error) {
    weir_err_t code = WEIR_OK;
    for (weir_feature_kind_t kind = WEIR_FEATURE_CONTEXT; kind <= WEIR_FEATURE_USER; kind++) {
        size_t count = 0;
        const weir_feature_t *features = features_of(data, kind, &count);
        for (size_t i = 0; i < count && code == WEIR_OK; i++) {
            char name[WEIR_DATASET_NAME + 16];
            (void)snprintf(name, sizeof name, "%s.%s", weir_feature_kind_name(kind),
                           features[i].name);
            code = map_strings(file, name, features[i].size - 1, false, &texts[kind][i], error);
        }
    }
    return code;
}

static weir_err_t open_dictionary(weir_dataset_t *data, weir_error_t *error) {
    if (data->dictionary != NULL) {
        return WEIR_OK;
    }
    weir_tensor_file_t *file = NULL;
    uint64_t users = 0, items = 0;
    strings_t item_ids = {0}, item_names = {0}, user_ids = {0};
    weir_err_t code = weir_tensor_file_open(data->dictionary_path, &file, error);
    if (code == WEIR_OK) {
        code = check_metadata(file, &users, &items, error);
    }
    if (code == WEIR_OK && (users != data->user_count || items != data->item_count)) {
        code = weir_errorf(error, WEIR_ERR_CORRUPT,
                           "%s: of %" PRIu64 " users and %" PRIu64
                           " items, but the events beside it have %" PRIu64 " and %" PRIu64,
                           data->dictionary_path, users, items, data->user_count, data->item_count);
    }
    if (code == WEIR_OK) {
        code = map_strings(file, "item_id", items, true, &item_ids, error);
    }
    if (code == WEIR_OK) {
        code = map_strings(file, "user_id", users, true, &user_ids, error);
    }
    if (code == WEIR_OK) {
        code = map_strings(file, "item_name", items, false, &item_names, error);
    }
    if (code == WEIR_OK) {
        code = map_texts(data, file, data->texts, error);
    }
    if (code != WEIR_OK) {
        weir_tensor_file_close(file);
        return code;
    }
    data->dictionary = file;
    data->item_ids = item_ids;
    data->item_names = item_names;
    data->user_ids = user_ids;
    return WEIR_OK;
}

static void take_string(const strings_t *strings, uint64_t index, const char **bytes,
                        size_t *size) {
    if (strings->offsets == NULL) {
        *bytes = "";
        *size = 0;
        return;
    }
    *bytes = strings->bytes + strings->offsets[index];
    *size = (size_t)(strings->offsets[index + 1] - strings->offsets[index]);
}

static weir_err_t find_item(weir_dataset_t *data, int64_t item, weir_error_t *error) {
    if (item < 1 || (uint64_t)item > data->item_count) {
        return weir_errorf(error, WEIR_ERR_INVALID, "item %" PRId64 " is not in 1 .. %" PRIu64,
                           item, data->item_count);
    }
    return open_dictionary(data, error);
}

weir_err_t weir_dataset_item_id(weir_dataset_t *dataset, int64_t item, const char **bytes,
                                size_t *size, weir_error_t *error) {
    weir_err_t code = find_item(dataset, item, error);
    if (code == WEIR_OK) {
        take_string(&dataset->item_ids, (uint64_t)item - 1, bytes, size);
    }
    return code;
}

weir_err_t weir_dataset_item_name(weir_dataset_t *dataset, int64_t item, const char **bytes,
                                  size_t *size, weir_error_t *error) {
    weir_err_t code = find_item(dataset, item, error);
    if (code == WEIR_OK) {
        take_string(&dataset->item_names, (uint64_t)item - 1, bytes, size);
    }
    return code;
}

weir_err_t weir_dataset_user_id(weir_dataset_t *dataset, uint64_t user, const char **bytes,
                                size_t *size, weir_error_t *error) {
    if (user >= dataset->user_count) {
        return weir_errorf(error, WEIR_ERR_INVALID, "user %" PRIu64 " is not below %" PRIu64, user,
                           dataset->user_count);
    }
    weir_err_t code = open_dictionary(dataset, error);
    if (code == WEIR_OK) {
        take_string(&dataset->user_ids, user, bytes, size);
    }
    return code;
}

weir_err_t weir_dataset_feature_text(weir_dataset_t *dataset, weir_feature_kind_t kind,
                                     size_t feature, uint32_t id, const char **bytes, size_t *size,
                                     weir_error_t *error) {
    size_t count = 0;
    const weir_feature_t *features = features_of(dataset, kind, &count);
    if (feature >= count || id >= features[feature].size) {
        return weir_errorf(error, WEIR_ERR_INVALID, "%s feature %zu has no id %" PRIu32,
                           weir_feature_kind_name(kind), feature, id);
    }
    weir_err_t code = open_dictionary(dataset, error);
    if (code == WEIR_OK && id == 0) {
        *bytes = "";
        *size = 0;
    } else if (code == WEIR_OK) {
        take_string(&dataset->texts[kind][feature], id - 1, bytes, size);
    }
    return code;
}
