#include "common/dataset_columns.h"

#include "common/hash.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *weir_feature_kind_name(weir_feature_kind_t kind) {
    static const char *const names[] = {"context", "item", "user"};
    return names[kind];
}

bool weir_dataset_name_is_sound(const char *name, size_t size) {
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
    for (size_t i = 0; i < size; i++) {
        if (name[i] == '\0' || strchr(allowed, name[i]) == NULL) {
            return false;
        }
    }
    return size > 0 && size < WEIR_DATASET_NAME;
}

/* What is being read: for the sentence of a refusal. */
typedef struct {
    const weir_tensor_file_t *events, *features;
    uint64_t counts[3]; /* of events, items, users */
    uint64_t *digest;
    weir_error_t *error;
} mapping_t;

static weir_err_t refuse_list(const mapping_t *mapping, const char *key, const char *text) {
    return weir_errorf(mapping->error, WEIR_ERR_CORRUPT,
                       "%s: metadata %s is no list of names: %.80s",
                       weir_tensor_file_path(mapping->events), key, text);
}

/* Take "NAME" or "NAME:SIZE" from the list at `*text`; `size` NULL: there is none. */
static bool take_entry(const char **text, char name[WEIR_DATASET_NAME], uint32_t *size) {
    size_t length = strcspn(*text, ",");
    const char *end = *text + length, *colon = memchr(*text, ':', length);
    size_t name_size = colon != NULL ? (size_t)(colon - *text) : length;
    if ((colon != NULL) != (size != NULL) || !weir_dataset_name_is_sound(*text, name_size)) {
        return false;
    }
    if (size != NULL) {
        size_t digits = (size_t)(end - colon) - 1;
        unsigned long long value = strtoull(colon + 1, NULL, 10);
        if (digits == 0 || digits > 10 || strspn(colon + 1, "0123456789") != digits ||
            value > UINT32_MAX || value == 0) {
            return false;
        }
        *size = (uint32_t)value;
    }
    memcpy(name, *text, name_size);
    name[name_size] = '\0';
    *text = *end == ',' ? end + 1 : end;
    return *end != ',' || **text != '\0';
}

/* The tensor "prefix.name" of `file`, one value for each of `count`. */
static weir_err_t find_tensor(const mapping_t *mapping, const weir_tensor_file_t *file,
                              const char *prefix, const char *name, weir_dtype_t dtype,
                              uint64_t count, const void **values) {
    char full[WEIR_DATASET_NAME + 16];
    const weir_tensor_t *tensor = NULL;
    (void)snprintf(full, sizeof full, "%s%s%s", prefix, name[0] != '\0' ? "." : "", name);
    weir_err_t err =
        weir_tensor_file_require(file, full, dtype, 1, &count, &tensor, mapping->error);
    if (err == WEIR_OK) {
        *values = tensor->values;
        *mapping->digest = weir_checksum(full, strlen(full), *mapping->digest);
        *mapping->digest = weir_checksum(tensor->values, (size_t)tensor->bytes, *mapping->digest);
    }
    return err;
}

static weir_err_t map_features(const mapping_t *mapping, const char *key, const char *prefix,
                               const weir_tensor_file_t *file, uint64_t count,
                               weir_feature_t *features, size_t *found) {
    const char *list = weir_tensor_file_metadata(mapping->events, key);
    const char *at = list != NULL ? list : "";
    size_t taken = 0;
    while (*at != '\0') {
        weir_feature_t *feature = &features[taken];
        const void *ids = NULL;
        if (taken == WEIR_DATASET_MAX_FEATURES || file == NULL ||
            !take_entry(&at, feature->name, &feature->size)) {
            return refuse_list(mapping, key, list);
        }
        weir_err_t err =
            find_tensor(mapping, file, prefix, feature->name, WEIR_DTYPE_U32, count, &ids);
        if (err != WEIR_OK) {
            return err;
        }
        feature->ids = ids;
        for (uint64_t row = 0; row < count; row++) {
            if (feature->ids[row] >= feature->size) {
                return weir_errorf(mapping->error, WEIR_ERR_CORRUPT,
                                   "%s: %s.%s, row %" PRIu64 ": id %" PRIu32
                                   " is not below %" PRIu32,
                                   weir_tensor_file_path(file), prefix, feature->name, row,
                                   feature->ids[row], feature->size);
            }
        }
        taken++;
    }
    *found = taken;
    return WEIR_OK;
}

static weir_err_t map_numbers(const mapping_t *mapping, weir_dataset_columns_t *columns) {
    const char *list = weir_tensor_file_metadata(mapping->events, "numbers");
    const char *at = list != NULL ? list : "";
    while (*at != '\0') {
        weir_number_t *number = &columns->numbers[columns->number_count];
        const void *values = NULL;
        if (columns->number_count == WEIR_DATASET_MAX_NUMBERS ||
            !take_entry(&at, number->name, NULL)) {
            return refuse_list(mapping, "numbers", list);
        }
        weir_err_t err = find_tensor(mapping, mapping->events, "number", number->name,
                                     WEIR_DTYPE_F32, mapping->counts[0], &values);
        if (err != WEIR_OK) {
            return err;
        }
        number->values = values;
        for (uint64_t row = 0; row < mapping->counts[0]; row++) {
            if (!isfinite(number->values[row])) {
                return weir_errorf(mapping->error, WEIR_ERR_CORRUPT,
                                   "%s: number.%s, row %" PRIu64 ": not a finite number",
                                   weir_tensor_file_path(mapping->events), number->name, row);
            }
        }
        columns->number_count++;
    }
    return WEIR_OK;
}

static weir_err_t map_actions(const mapping_t *mapping, weir_dataset_columns_t *columns) {
    const char *list = weir_tensor_file_metadata(mapping->events, "actions");
    const char *at = list != NULL ? list : "";
    const void *values = NULL;
    while (*at != '\0') {
        if (columns->action_count == WEIR_DATASET_MAX_ACTIONS ||
            !take_entry(&at, columns->actions[columns->action_count], NULL)) {
            return refuse_list(mapping, "actions", list);
        }
        columns->action_count++;
    }
    if (columns->action_count == 0) {
        return WEIR_OK;
    }
    weir_err_t err = find_tensor(mapping, mapping->events, "action_bits", "", WEIR_DTYPE_U32,
                                 mapping->counts[0], &values);
    if (err != WEIR_OK) {
        return err;
    }
    columns->action_bits = values;
    uint32_t unknown = columns->action_count == 32 ? 0 : UINT32_MAX << columns->action_count;
    for (uint64_t row = 0; row < mapping->counts[0]; row++) {
        if ((columns->action_bits[row] & unknown) != 0) {
            return weir_errorf(mapping->error, WEIR_ERR_CORRUPT,
                               "%s: action_bits, row %" PRIu64 ": a bit beyond the %zu actions",
                               weir_tensor_file_path(mapping->events), row, columns->action_count);
        }
    }
    return WEIR_OK;
}

bool weir_dataset_columns_need_features(const weir_tensor_file_t *events) {
    const char *items = weir_tensor_file_metadata(events, "item_features");
    const char *users = weir_tensor_file_metadata(events, "user_features");
    return (items != NULL && items[0] != '\0') || (users != NULL && users[0] != '\0');
}

weir_err_t weir_dataset_columns_map(const weir_tensor_file_t *events,
                                    const weir_tensor_file_t *features, uint64_t event_count,
                                    uint64_t item_count, uint64_t user_count,
                                    weir_dataset_columns_t *columns, uint64_t *digest,
                                    weir_error_t *error) {
    weir_dataset_columns_t *found = calloc(1, sizeof *found);
    uint64_t sum = *digest;
    mapping_t mapping = {events, features, {event_count, item_count, user_count}, &sum, error};
    if (found == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the columns of prepared data");
    }
    weir_err_t err = map_actions(&mapping, found);
    if (err == WEIR_OK) {
        err = map_numbers(&mapping, found);
    }
    if (err == WEIR_OK) {
        err = map_features(&mapping, "context", "context", events, event_count, found->context,
                           &found->context_count);
    }
    if (err == WEIR_OK) {
        err = map_features(&mapping, "item_features", "item", features, item_count, found->items,
                           &found->item_count);
    }
    if (err == WEIR_OK) {
        err = map_features(&mapping, "user_features", "user", features, user_count, found->users,
                           &found->user_count);
    }
    if (err == WEIR_OK) {
        *columns = *found;
        *digest = sum;
    }
    free(found);
    return err;
}
