#include "tools/dataset_files.h"

#include "common/dataset.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LIST_SIZE = WEIR_DATASET_MAX_FEATURES * (WEIR_DATASET_NAME + 12) };

weir_err_t weir_dataset_files_begin(weir_tensor_writer_t *file, uint64_t users,
                                    const weir_dataset_names_t *names, weir_error_t *error) {
    char user_text[32], item_text[32], source[1024];
    (void)snprintf(user_text, sizeof user_text, "%" PRIu64, users);
    (void)snprintf(item_text, sizeof item_text, "%" PRIu64, names->items);
    (void)snprintf(source, sizeof source, "%s", names->source);
    for (char *c = source; *c != '\0'; c++) {
        *c = *c < 0x20 || *c > 0x7E ? '?' : *c;
    }
    const char *pairs[][2] = {{"format", WEIR_DATASET_FORMAT},
                              {"version", WEIR_DATASET_VERSION},
                              {"num_users", user_text},
                              {"num_items", item_text},
                              {"source", source}};
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        weir_err_t code = weir_tensor_writer_metadata(file, pairs[i][0], pairs[i][1], error);
        if (code != WEIR_OK) {
            return code;
        }
    }
    return WEIR_OK;
}

/* ---- further columns ---- */

typedef struct {
    char text[LIST_SIZE];
    size_t used;
} list_text_t;

static void add_name(list_text_t *list, const char *name, const uint32_t *size) {
    char number[16] = "";
    if (size != NULL) {
        (void)snprintf(number, sizeof number, ":%" PRIu32, *size);
    }
    list->used += (size_t)snprintf(list->text + list->used, sizeof list->text - list->used,
                                   "%s%s%s", list->used == 0 ? "" : ",", name, number);
}

static weir_err_t describe_features(weir_tensor_writer_t *file, const char *key,
                                    const weir_feature_t *features, size_t count,
                                    weir_error_t *error) {
    list_text_t list = {.used = 0};
    for (size_t i = 0; i < count; i++) {
        add_name(&list, features[i].name, &features[i].size);
    }
    return count == 0 ? WEIR_OK : weir_tensor_writer_metadata(file, key, list.text, error);
}

weir_err_t weir_dataset_files_describe(weir_tensor_writer_t *file,
                                       const weir_dataset_columns_t *columns, weir_error_t *error) {
    list_text_t actions = {.used = 0}, numbers = {.used = 0};
    weir_err_t code = WEIR_OK;
    for (size_t i = 0; i < columns->action_count; i++) {
        add_name(&actions, columns->actions[i], NULL);
    }
    for (size_t i = 0; i < columns->number_count; i++) {
        add_name(&numbers, columns->numbers[i].name, NULL);
    }
    if (actions.used > 0) {
        code = weir_tensor_writer_metadata(file, "actions", actions.text, error);
    }
    if (code == WEIR_OK && numbers.used > 0) {
        code = weir_tensor_writer_metadata(file, "numbers", numbers.text, error);
    }
    if (code == WEIR_OK) {
        code = describe_features(file, "context", columns->context, columns->context_count, error);
    }
    if (code == WEIR_OK) {
        code = describe_features(file, "item_features", columns->items, columns->item_count, error);
    }
    if (code == WEIR_OK) {
        code = describe_features(file, "user_features", columns->users, columns->user_count, error);
    }
    return code;
}

weir_dtype_t weir_dataset_files_name(const weir_dataset_columns_t *columns, size_t index,
                                     char name[WEIR_DATASET_NAME + 16]) {
    size_t size = WEIR_DATASET_NAME + 16, first = columns->action_count > 0 ? 1 : 0;
    if (index < first) {
        (void)snprintf(name, size, "action_bits");
        return WEIR_DTYPE_U32;
    }
    if (index - first < columns->number_count) {
        (void)snprintf(name, size, "number.%s", columns->numbers[index - first].name);
        return WEIR_DTYPE_F32;
    }
    (void)snprintf(name, size, "context.%s",
                   columns->context[index - first - columns->number_count].name);
    return WEIR_DTYPE_U32;
}

/* ---- features ---- */

weir_err_t weir_dataset_files_features(const char *path, uint64_t users,
                                       const weir_dataset_columns_t *columns,
                                       const weir_dataset_names_t *names,
                                       weir_tensor_writer_t **out, weir_error_t *error) {
    weir_tensor_writer_t *file = NULL;
    if (columns == NULL || columns->item_count + columns->user_count == 0) {
        return WEIR_OK;
    }
    weir_err_t code = weir_tensor_writer_create(path, &file, error);
    if (code == WEIR_OK) {
        code = weir_dataset_files_begin(file, users, names, error);
    }
    for (int pass = 0; code == WEIR_OK && pass < 2; pass++) { /* declare, then fill */
        for (size_t i = 0; code == WEIR_OK && i < columns->item_count + columns->user_count; i++) {
            bool of_item = i < columns->item_count;
            const weir_feature_t *feature =
                of_item ? &columns->items[i] : &columns->users[i - columns->item_count];
            uint64_t count = of_item ? names->items : users;
            char name[WEIR_DATASET_NAME + 16];
            (void)snprintf(name, sizeof name, "%s.%s", of_item ? "item" : "user", feature->name);
            code = pass == 0
                       ? weir_tensor_writer_declare(file, name, WEIR_DTYPE_U32, 1, &count, error)
                       : weir_tensor_writer_append(file, feature->ids,
                                                   (size_t)count * sizeof *feature->ids, error);
        }
        if (code == WEIR_OK && pass == 0) {
            code = weir_tensor_writer_begin(file, error);
        }
    }
    if (code != WEIR_OK) {
        weir_tensor_writer_destroy(file);
        return code;
    }
    *out = file;
    return WEIR_OK;
}

/* ---- lists of strings ---- */

typedef struct {
    const char *offsets_name, *bytes_name;
    const weir_strings_t *strings;
    uint64_t count, size;
} list_t;

static weir_err_t declare_list(weir_tensor_writer_t *file, list_t *list, weir_error_t *error) {
    uint64_t rows = list->count + 1;
    for (uint64_t k = 0; k < list->count; k++) {
        const char *bytes = NULL;
        size_t size = 0;
        list->strings->get(list->strings->list, k, &bytes, &size);
        list->size += size;
    }
    return weir_tensor_writer_declare(file, list->offsets_name, WEIR_DTYPE_I64, 1, &rows, error);
}

static weir_err_t write_offsets(weir_tensor_writer_t *file, const list_t *list,
                                weir_error_t *error) {
    int64_t pending[512];
    size_t used = 0;
    int64_t offset = 0;
    pending[used++] = 0;
    for (uint64_t k = 0; k < list->count; k++) {
        const char *bytes = NULL;
        size_t size = 0;
        list->strings->get(list->strings->list, k, &bytes, &size);
        offset += (int64_t)size;
        pending[used++] = offset;
        if (used == sizeof pending / sizeof pending[0]) {
            weir_err_t code = weir_tensor_writer_append(file, pending, sizeof pending, error);
            if (code != WEIR_OK) {
                return code;
            }
            used = 0;
        }
    }
    return weir_tensor_writer_append(file, pending, used * sizeof pending[0], error);
}

static weir_err_t write_bytes(weir_tensor_writer_t *file, const list_t *list, weir_error_t *error) {
    weir_err_t code = WEIR_OK;
    for (uint64_t k = 0; code == WEIR_OK && k < list->count; k++) {
        const char *bytes = NULL;
        size_t size = 0;
        list->strings->get(list->strings->list, k, &bytes, &size);
        if (size > 0) {
            code = weir_tensor_writer_append(file, bytes, size, error);
        }
    }
    return code;
}

enum { FIXED_LISTS = 3, LISTS = FIXED_LISTS + 3 * WEIR_DATASET_MAX_FEATURES };

typedef struct {
    list_t lists[LISTS];
    char names[2 * LISTS][WEIR_DATASET_NAME + 32];
    size_t count;
} dictionary_t;

static void add_list(dictionary_t *dictionary, const char *name, const weir_strings_t *strings,
                     uint64_t count) {
    if (strings->get != NULL) {
        char *offsets = dictionary->names[2 * dictionary->count];
        char *bytes = dictionary->names[2 * dictionary->count + 1];
        (void)snprintf(offsets, sizeof dictionary->names[0], "%s_offsets", name);
        (void)snprintf(bytes, sizeof dictionary->names[0], "%s_bytes", name);
        dictionary->lists[dictionary->count++] = (list_t){offsets, bytes, strings, count, 0};
    }
}

/* The texts of the features' ids, of those that have any. */
static void add_values(dictionary_t *dictionary, const weir_dataset_columns_t *columns,
                       const weir_dataset_values_t *values) {
    const weir_feature_t *features[3] = {columns->context, columns->items, columns->users};
    size_t counts[3] = {columns->context_count, columns->item_count, columns->user_count};
    for (weir_feature_kind_t kind = WEIR_FEATURE_CONTEXT; kind <= WEIR_FEATURE_USER; kind++) {
        for (size_t i = 0; i < counts[kind]; i++) {
            char name[WEIR_DATASET_NAME + 16];
            (void)snprintf(name, sizeof name, "%s.%s", weir_feature_kind_name(kind),
                           features[kind][i].name);
            add_list(dictionary, name, &values->lists[kind][i], features[kind][i].size - 1);
        }
    }
}

static weir_err_t write_lists(weir_tensor_writer_t *file, dictionary_t *dictionary,
                              weir_error_t *error) {
    weir_err_t code = WEIR_OK;
    for (size_t i = 0; code == WEIR_OK && i < dictionary->count; i++) {
        code = declare_list(file, &dictionary->lists[i], error);
    }
    for (size_t i = 0; code == WEIR_OK && i < dictionary->count; i++) {
        code = weir_tensor_writer_declare(file, dictionary->lists[i].bytes_name, WEIR_DTYPE_U8, 1,
                                          &dictionary->lists[i].size, error);
    }
    if (code == WEIR_OK) {
        code = weir_tensor_writer_begin(file, error);
    }
    for (size_t i = 0; code == WEIR_OK && i < dictionary->count; i++) {
        code = write_offsets(file, &dictionary->lists[i], error);
    }
    for (size_t i = 0; code == WEIR_OK && i < dictionary->count; i++) {
        code = write_bytes(file, &dictionary->lists[i], error);
    }
    return code;
}

weir_err_t weir_dataset_files_dictionary(const char *path, uint64_t users,
                                         const weir_dataset_columns_t *columns,
                                         const weir_dataset_names_t *names,
                                         weir_tensor_writer_t **out, weir_error_t *error) {
    weir_tensor_writer_t *file = NULL;
    dictionary_t *dictionary = calloc(1, sizeof *dictionary);
    if (dictionary == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "%s: out of memory", path);
    }
    add_list(dictionary, "item_id", &names->item_ids, names->items);
    add_list(dictionary, "user_id", &names->user_ids, users);
    add_list(dictionary, "item_name", &names->item_names, names->items);
    if (columns != NULL && names->values != NULL) {
        add_values(dictionary, columns, names->values);
    }
    weir_err_t code = weir_tensor_writer_create(path, &file, error);
    if (code == WEIR_OK) {
        code = weir_dataset_files_begin(file, users, names, error);
    }
    if (code == WEIR_OK && names->schema != NULL) {
        code = weir_tensor_writer_metadata(file, "schema", names->schema, error);
    }
    if (code == WEIR_OK) {
        code = write_lists(file, dictionary, error);
    }
    free(dictionary);
    if (code != WEIR_OK) {
        weir_tensor_writer_destroy(file);
        return code;
    }
    *out = file;
    return WEIR_OK;
}
