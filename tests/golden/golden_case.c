#include "tests/golden/golden_case.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LARGEST_SIZE = 1 << 20, LARGEST_BLOCKS = 1000 };

const char *golden_model(const weir_tensor_file_t *file) {
    return weir_tensor_file_metadata(file, "model");
}

static weir_err_t refuse(const weir_tensor_file_t *file, const char *what, weir_error_t *error) {
    return weir_errorf(error, WEIR_ERR_CORRUPT, "'%s': %s", weir_tensor_file_path(file), what);
}

weir_err_t golden_number(const weir_tensor_file_t *file, const char *key, double *value,
                         weir_error_t *error) {
    const char *text = weir_tensor_file_metadata(file, key);
    char *end = NULL;
    if (text == NULL) {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "'%s' has no metadata '%s'",
                           weir_tensor_file_path(file), key);
    }
    double number = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(number)) {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "'%s': metadata '%s' is '%.32s', not a number",
                           weir_tensor_file_path(file), key, text);
    }
    *value = number;
    return WEIR_OK;
}

weir_err_t golden_size(const weir_tensor_file_t *file, const char *key, size_t least, size_t *value,
                       weir_error_t *error) {
    double number = 0.0;
    weir_err_t err = golden_number(file, key, &number, error);
    if (err != WEIR_OK) {
        return err;
    }
    if (number < (double)least || number > LARGEST_SIZE || number != floor(number)) {
        return weir_errorf(error, WEIR_ERR_CORRUPT,
                           "'%s': metadata '%s' is %g, expected a whole number from %zu to %d",
                           weir_tensor_file_path(file), key, number, least, LARGEST_SIZE);
    }
    *value = (size_t)number;
    return WEIR_OK;
}

weir_err_t golden_constant(const weir_tensor_file_t *file, const char *key, double expected,
                           weir_error_t *error) {
    double number = 0.0;
    weir_err_t err = golden_number(file, key, &number, error);
    if (err == WEIR_OK && number != expected) {
        return weir_errorf(error, WEIR_ERR_UNSUPPORTED, "'%s': metadata '%s' is %g; weir has %g",
                           weir_tensor_file_path(file), key, number, expected);
    }
    return err;
}

/* SASRec: the width of the feed-forward layers, and heads that share the width as the framework's
 * do.
 */
static weir_err_t read_sasrec(golden_case_t *golden, weir_error_t *error) {
    weir_encoder_config_t *config = &golden->config;
    weir_err_t err = golden_size(golden->file, "ffn_hidden_dim", 1, &config->hidden_dim, error);
    if (err == WEIR_OK && (config->heads * config->dqk != config->embedding_dim ||
                           config->heads * config->dv != config->embedding_dim)) {
        return refuse(golden->file, "num_heads times dqk or dv is not embedding_dim", error);
    }
    config->kind = WEIR_ENCODER_SASREC;
    return err;
}

static weir_err_t read_sizes(golden_case_t *golden, weir_error_t *error) {
    const struct {
        const char *key;
        size_t least;
        size_t *value;
    } sizes[] = {{"embedding_dim", 1, &golden->config.embedding_dim},
                 {"num_blocks", 1, &golden->config.blocks},
                 {"num_heads", 1, &golden->config.heads},
                 {"dqk", 1, &golden->config.dqk},
                 {"dv", 1, &golden->config.dv},
                 {"max_sequence_length", 1, &golden->config.max_sequence_length},
                 {"attention_length", 1, &golden->config.attention_length},
                 {"num_items", 1, &golden->items},
                 {"num_negatives", 0, &golden->negatives},
                 {"steps", 1, &golden->steps}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        weir_err_t err =
            golden_size(golden->file, sizes[i].key, sizes[i].least, sizes[i].value, error);
        if (err != WEIR_OK) {
            return err;
        }
    }
    return WEIR_OK;
}

static weir_err_t read_numbers(golden_case_t *golden, weir_error_t *error) {
    const struct {
        const char *key;
        double *value;
    } numbers[] = {{"temperature", &golden->temperature},
                   {"learning_rate", &golden->learning_rate},
                   {"beta1", &golden->beta1},
                   {"beta2", &golden->beta2},
                   {"adam_eps", &golden->adam_epsilon},
                   {"weight_decay", &golden->weight_decay}};
    const struct {
        const char *key;
        double value;
    } constants[] = {{"layer_norm_eps", 1e-6},
                     {"l2_norm_eps", 1e-6},
                     {"time_buckets", WEIR_HSTU_TIME_BUCKETS - 1},
                     {"dropout", 0.0}};
    weir_err_t err = WEIR_OK;
    for (size_t i = 0; err == WEIR_OK && i < sizeof numbers / sizeof *numbers; i++) {
        err = golden_number(golden->file, numbers[i].key, numbers[i].value, error);
    }
    for (size_t i = 0; err == WEIR_OK && i < sizeof constants / sizeof *constants; i++) {
        err = golden_constant(golden->file, constants[i].key, constants[i].value, error);
    }
    return err;
}

weir_err_t golden_require(const golden_case_t *golden, const char *name, weir_dtype_t dtype,
                          size_t rows, size_t columns, const void **values, weir_error_t *error) {
    const weir_tensor_t *tensor = NULL;
    uint64_t shape[2] = {rows, columns};
    weir_err_t err = weir_tensor_file_require(golden->file, name, dtype, columns == 0 ? 1 : 2,
                                              shape, &tensor, error);
    if (err == WEIR_OK) {
        *values = tensor->values;
    }
    return err;
}

/* Lengths into offsets; B is whatever the file has. */
static weir_err_t read_offsets(golden_case_t *golden, weir_error_t *error) {
    const weir_tensor_t *lengths = NULL;
    uint64_t any = UINT64_MAX;
    weir_err_t err =
        weir_tensor_file_require(golden->file, "lengths", WEIR_DTYPE_I64, 1, &any, &lengths, error);
    if (err != WEIR_OK) {
        return err;
    }
    if (lengths->elements == 0 || lengths->elements > LARGEST_SIZE) {
        return refuse(golden->file, "the number of users is 0 or too large", error);
    }
    golden->users = (size_t)lengths->elements;
    golden->offsets = calloc(golden->users + 1, sizeof *golden->offsets);
    if (golden->offsets == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for %zu users", golden->users);
    }
    const int64_t *length = lengths->values;
    for (size_t u = 0; u < golden->users; u++) {
        if (length[u] < 1 || (uint64_t)length[u] > golden->config.max_sequence_length) {
            return refuse(golden->file, "a length is 0 or over max_sequence_length", error);
        }
        golden->offsets[u + 1] = golden->offsets[u] + (size_t)length[u];
    }
    golden->tokens = golden->offsets[golden->users];
    return WEIR_OK;
}

static weir_err_t take_item(const golden_case_t *golden, int64_t item, uint32_t *row,
                            weir_error_t *error) {
    if (item < 1 || (uint64_t)item > golden->items) {
        return refuse(golden->file, "an item is not in the catalogue", error);
    }
    *row = (uint32_t)item;
    return WEIR_OK;
}

/* A user's events and target stand together in the file: one more of each than there are tokens. */
static weir_err_t read_events(golden_case_t *golden, weir_error_t *error) {
    const void *items = NULL, *times = NULL;
    size_t events = golden->tokens + golden->users;
    weir_err_t err = golden_require(golden, "item_ids", WEIR_DTYPE_I64, events, 0, &items, error);
    if (err == WEIR_OK) {
        err = golden_require(golden, "timestamps", WEIR_DTYPE_I64, events, 0, &times, error);
    }
    for (size_t u = 0; err == WEIR_OK && u < golden->users; u++) {
        const int64_t *user_items = (const int64_t *)items + golden->offsets[u] + u;
        const int64_t *user_times = (const int64_t *)times + golden->offsets[u] + u;
        size_t first = golden->offsets[u], length = golden->offsets[u + 1] - first;
        for (size_t i = 0; err == WEIR_OK && i < length; i++) {
            golden->times[first + i] = user_times[i];
            golden->next_times[first + i] = user_times[i + 1];
            err = take_item(golden, user_items[i], &golden->item_rows[first + i], error);
            if (err == WEIR_OK) {
                err = take_item(golden, user_items[i + 1], &golden->target_rows[first + i], error);
            }
        }
    }
    return err;
}

static weir_err_t read_negatives(golden_case_t *golden, weir_error_t *error) {
    const void *values = NULL;
    weir_err_t err = WEIR_OK;
    if (golden->negatives == 0) {
        return WEIR_OK;
    }
    err = golden_require(golden, "negative_ids", WEIR_DTYPE_I64, golden->tokens, golden->negatives,
                         &values, error);
    const int64_t *items = values;
    for (size_t i = 0; err == WEIR_OK && i < golden->tokens * golden->negatives; i++) {
        err = take_item(golden, items[i], &golden->negative_rows[i], error);
    }
    return err;
}

static weir_err_t read_batch(golden_case_t *golden, weir_error_t *error) {
    weir_err_t err = read_offsets(golden, error);
    if (err != WEIR_OK) {
        return err;
    }
    size_t tokens = golden->tokens;
    golden->times = calloc(tokens, sizeof *golden->times);
    golden->next_times = calloc(tokens, sizeof *golden->next_times);
    golden->item_rows = calloc(tokens, sizeof *golden->item_rows);
    golden->target_rows = calloc(tokens, sizeof *golden->target_rows);
    golden->negative_rows = calloc(tokens * golden->negatives + 1, sizeof *golden->negative_rows);
    if (golden->times == NULL || golden->next_times == NULL || golden->item_rows == NULL ||
        golden->target_rows == NULL || golden->negative_rows == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for %zu tokens", tokens);
    }
    err = read_events(golden, error);
    return err == WEIR_OK ? read_negatives(golden, error) : err;
}

/* Every parameter in every kind has its shape, so that later sizes are bounded by the file's. */
static weir_err_t check_parameters(const golden_case_t *golden, weir_error_t *error) {
    static const golden_kind_t kinds[] = {GOLDEN_PARAMETERS, GOLDEN_GRADIENTS, GOLDEN_AFTER};
    const weir_encoder_config_t *config = &golden->config;
    weir_err_t err = WEIR_OK;
    if (config->heads > LARGEST_SIZE / (config->dqk + config->dv) ||
        config->blocks > LARGEST_BLOCKS) {
        return refuse(golden->file, "blocks, heads, dqk or dv is too large", error);
    }
    for (size_t k = 0; err == WEIR_OK && k < sizeof kinds / sizeof *kinds; k++) {
        char name[GOLDEN_NAME_SIZE];
        const void *table = NULL;
        golden_name_table(kinds[k], name);
        err = golden_require(golden, name, WEIR_DTYPE_F64, golden->items + 1, config->embedding_dim,
                             &table, error);
        for (size_t i = 0; err == WEIR_OK && i < weir_encoder_parameter_count(config); i++) {
            golden_place_t place;
            err = golden_find_parameter(golden, kinds[k], i, &place, error);
        }
    }
    return err;
}

weir_err_t golden_load(const weir_tensor_file_t *file, golden_case_t *golden, weir_error_t *error) {
    golden_case_t loaded = {.file = file};
    loaded.config.position_bias = true;
    loaded.config.time_bias = true;
    weir_err_t err = read_sizes(&loaded, error);
    if (err == WEIR_OK && strcmp(golden_model(file), "sasrec") == 0) {
        err = read_sasrec(&loaded, error);
    }
    if (err == WEIR_OK) {
        err = read_numbers(&loaded, error);
    }
    if (err == WEIR_OK && (loaded.config.attention_length < loaded.config.max_sequence_length ||
                           !(loaded.temperature > 0.0))) {
        err = refuse(file, "attention_length or temperature is too small", error);
    }
    if (err == WEIR_OK) {
        err = check_parameters(&loaded, error);
    }
    if (err == WEIR_OK) {
        err = read_batch(&loaded, error);
    }
    if (err != WEIR_OK) {
        golden_fini(&loaded);
        return err;
    }
    *golden = loaded;
    return WEIR_OK;
}

void golden_fini(golden_case_t *golden) {
    free(golden->offsets);
    free(golden->times);
    free(golden->next_times);
    free(golden->item_rows);
    free(golden->target_rows);
    free(golden->negative_rows);
    *golden = (golden_case_t){0};
}
