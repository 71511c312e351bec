#include "tools/survey.h"

#include "common/hash.h"
#include "ps/precision.h"
#include "tools/survey_values.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char dense_name[] = "dense.safetensors";

/* ---- shards ---- */

/* Digits at `text` as a number below 2^31; NULL where there are none, else what follows them. */
static const char *parse_digits(const char *text, uint32_t *number) {
    uint64_t value = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9' && value < INT32_MAX; at++) {
        value = value * 10 + (uint64_t)(*at - '0');
    }
    if (at == text || value > INT32_MAX) {
        return NULL;
    }
    *number = (uint32_t)value;
    return at;
}

bool weir_survey_parse_shard(const char *file, char table[WEIR_SURVEY_TABLE_NAME], uint32_t *index,
                             uint32_t *count) {
    const char *mark = strstr(file, ".ps-");
    if (mark == NULL || mark == file || mark - file >= WEIR_SURVEY_TABLE_NAME) {
        return false;
    }
    uint32_t found_index = 0, found_count = 0;
    const char *at = parse_digits(mark + 4, &found_index);
    if (at == NULL || strncmp(at, "-of-", 4) != 0) {
        return false;
    }
    at = parse_digits(at + 4, &found_count);
    if (at == NULL || strcmp(at, ".safetensors") != 0 || found_count > WEIR_SLOT_COUNT ||
        found_index >= found_count) {
        return false;
    }
    memcpy(table, file, (size_t)(mark - file));
    table[mark - file] = '\0';
    *index = found_index;
    *count = found_count;
    return true;
}

static weir_survey_table_t *find_table(weir_survey_t *survey, const char *name) {
    for (size_t i = 0; i < survey->table_count; i++) {
        if (strcmp(survey->tables[i].name, name) == 0) {
            return &survey->tables[i];
        }
    }
    return NULL;
}

/* The table `name`, made with room for `count` shards where it is not there yet. */
static weir_err_t get_table(weir_survey_t *survey, const char *name, uint32_t count,
                            weir_survey_table_t **out, weir_error_t *error) {
    weir_survey_table_t *table = find_table(survey, name);
    if (table == NULL) {
        weir_survey_table_t *grown =
            realloc(survey->tables, (survey->table_count + 1) * sizeof *survey->tables);
        if (grown == NULL) {
            return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a list of tables");
        }
        survey->tables = grown;
        table = &grown[survey->table_count];
        memset(table, 0, sizeof *table);
        (void)snprintf(table->name, sizeof table->name, "%s", name);
        table->shards = calloc(count, sizeof *table->shards);
        if (table->shards == NULL) {
            return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a list of shards");
        }
        table->shard_count = count;
        survey->table_count++;
    }
    *out = table;
    return WEIR_OK;
}

static weir_err_t list_shards(weir_survey_t *survey, weir_error_t *error) {
    for (size_t i = 0; i < survey->manifest.file_count; i++) {
        const weir_checkpoint_file_t *file = &survey->manifest.files[i];
        char name[WEIR_SURVEY_TABLE_NAME];
        uint32_t index, count;
        weir_survey_table_t *table = NULL;
        if (!weir_survey_parse_shard(file->name, name, &index, &count)) {
            continue;
        }
        weir_err_t err = get_table(survey, name, count, &table, error);
        if (err != WEIR_OK) {
            return err;
        }
        if (table->shard_count != count || table->shards[index].file != NULL) {
            return weir_errorf(error, WEIR_ERR_CORRUPT,
                               "%s: the files of table %s disagree on how many there are, as %s "
                               "shows",
                               survey->folder, name, file->name);
        }
        table->shards[index] = (weir_survey_shard_t){.file = file, .index = index};
        table->bytes += file->size;
    }
    for (size_t t = 0; t < survey->table_count; t++) {
        const weir_survey_table_t *table = &survey->tables[t];
        for (size_t s = 0; s < table->shard_count; s++) {
            if (table->shards[s].file == NULL) {
                return weir_errorf(error, WEIR_ERR_CORRUPT,
                                   "%s: the manifest names no shard %zu of the %zu of table %s",
                                   survey->folder, s, table->shard_count, table->name);
            }
        }
    }
    return WEIR_OK;
}

/* ---- rows ---- */

typedef struct {
    weir_tensor_file_t *file;
    const weir_tensor_t *keys, *value;
    const weir_tensor_t *scale; /* of a value in int8; else NULL */
    double norm_sum;            /* of all shards so far */
    bool verify;
} shard_reader_t;

/* Rows lie in order of their keys' hashes, each in a slot of its server. */
static weir_err_t check_order(const shard_reader_t *reader, const weir_survey_shard_t *shard,
                              size_t shard_count, weir_error_t *error) {
    weir_slot_t first = weir_slot_first(shard->index, (uint32_t)shard_count);
    weir_slot_t end = weir_slot_first(shard->index + 1, (uint32_t)shard_count);
    const uint64_t *keys = reader->keys->values; /* require() checked the alignment */
    uint64_t before = 0;
    for (uint64_t i = 0; i < shard->rows; i++) {
        uint64_t hash = weir_hash64(keys[i]);
        weir_slot_t slot = weir_slot_of_hash(hash);
        if (slot < first || slot >= end || (i > 0 && hash <= before)) {
            return weir_errorf(error, WEIR_ERR_CORRUPT,
                               "%s: row %" PRIu64 " (key %" PRIu64 ", slot %u) is out of place",
                               weir_tensor_file_path(reader->file), i, keys[i], slot);
        }
        before = hash;
    }
    return WEIR_OK;
}

/* The field of a tensor: made by the first shard, found by the others. */
static weir_err_t get_field(const shard_reader_t *reader, weir_survey_table_t *table, bool first,
                            const weir_tensor_t *tensor, weir_survey_field_t **out,
                            weir_error_t *error) {
    for (size_t f = 0; f < table->field_count; f++) {
        if (strcmp(table->fields[f].name, tensor->name) == 0 &&
            table->fields[f].width == tensor->shape[1]) {
            *out = &table->fields[f];
            return WEIR_OK;
        }
    }
    if (!first || table->field_count == WEIR_SURVEY_FIELDS ||
        strlen(tensor->name) >= sizeof table->fields[0].name) {
        return weir_errorf(error, WEIR_ERR_CORRUPT,
                           "%s: tensor %.64s is not a field that every shard of table %s has",
                           weir_tensor_file_path(reader->file), tensor->name, table->name);
    }
    weir_survey_field_t *field = &table->fields[table->field_count++];
    *field = (weir_survey_field_t){.width = tensor->shape[1]};
    (void)snprintf(field->name, sizeof field->name, "%s", tensor->name);
    *out = field;
    return WEIR_OK;
}

/* How a value of this type is kept; false: no table keeps one so. */
static bool precision_of(weir_dtype_t dtype, weir_precision_t *precision) {
    switch (dtype) {
    case WEIR_DTYPE_F32:
        *precision = WEIR_PRECISION_F32;
        return true;
    case WEIR_DTYPE_BF16:
        *precision = WEIR_PRECISION_BF16;
        return true;
    case WEIR_DTYPE_F16:
        *precision = WEIR_PRECISION_F16;
        return true;
    case WEIR_DTYPE_I8:
        *precision = WEIR_PRECISION_INT8;
        return true;
    default:
        return false;
    }
}

/* The rows' values, whatever they are kept in. */
static weir_err_t measure_values(shard_reader_t *reader, weir_survey_table_t *table,
                                 weir_survey_field_t *field, weir_error_t *error) {
    const weir_tensor_t *value = reader->value;
    weir_precision_t precision = WEIR_PRECISION_F32;
    uint32_t dim = (uint32_t)value->shape[1];
    (void)precision_of(value->dtype, &precision);
    if (precision == WEIR_PRECISION_F32) {
        weir_survey_values_add_rows(&field->values, &table->norms, &reader->norm_sum, value->values,
                                    value->shape[0], dim);
        return WEIR_OK;
    }
    /* In the file rows lie close together; decoded is an aligned one. */
    size_t stored = dim * weir_dtype_size(value->dtype), scale = reader->scale == NULL ? 0 : 4;
    char *row = calloc(1, weir_precision_value_bytes(precision, dim) + 4);
    float *floats = malloc(dim * sizeof *floats);
    weir_err_t err = row == NULL || floats == NULL
                         ? weir_errorf(error, WEIR_ERR_MEMORY, "out of memory to read rows")
                         : WEIR_OK;
    for (uint64_t i = 0; i < value->shape[0] && err == WEIR_OK; i++) {
        if (scale > 0) {
            memcpy(row, (const char *)reader->scale->values + i * scale, scale);
        }
        memcpy(row + scale, (const char *)value->values + i * stored, stored);
        weir_precision_decode(precision, row, weir_precision_value_bytes(precision, dim) / 4 * 4, 1,
                              dim, floats, dim);
        weir_survey_values_add_rows(&field->values, &table->norms, &reader->norm_sum, floats, 1,
                                    dim);
    }
    free(row);
    free(floats);
    return err;
}

static weir_err_t measure_fields(shard_reader_t *reader, weir_survey_table_t *table, bool first,
                                 weir_error_t *error) {
    size_t fields = 0;
    for (size_t i = 0; i < weir_tensor_file_count(reader->file); i++) {
        const weir_tensor_t *tensor = weir_tensor_file_at(reader->file, i);
        weir_survey_field_t *field = NULL;
        if ((tensor->dtype != WEIR_DTYPE_F32 && tensor != reader->value) || tensor->rank != 2) {
            continue;
        }
        if (tensor->shape[0] != reader->keys->elements) {
            return weir_errorf(error, WEIR_ERR_CORRUPT,
                               "%s: tensor %.64s has %" PRIu64 " rows for %" PRIu64 " keys",
                               weir_tensor_file_path(reader->file), tensor->name, tensor->shape[0],
                               reader->keys->elements);
        }
        weir_err_t err = get_field(reader, table, first, tensor, &field, error);
        if (err != WEIR_OK) {
            return err;
        }
        fields++;
        if (tensor == reader->value) {
            err = measure_values(reader, table, field, error);
            if (err != WEIR_OK) {
                return err;
            }
        } else {
            weir_survey_values_add(&field->values, tensor->values, tensor->elements);
        }
    }
    if (fields != table->field_count) {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "%s: has not all fields of table %s",
                           weir_tensor_file_path(reader->file), table->name);
    }
    return WEIR_OK;
}

static weir_err_t read_shard(shard_reader_t *reader, weir_survey_table_t *table,
                             weir_survey_shard_t *shard, weir_error_t *error) {
    const uint64_t any[2] = {UINT64_MAX, UINT64_MAX};
    bool first = shard == table->shards;
    weir_err_t err = weir_tensor_file_require(reader->file, "keys", WEIR_DTYPE_U64, 1, any,
                                              &reader->keys, error);
    if (err == WEIR_OK) {
        const uint64_t shape[2] = {reader->keys->elements, first ? UINT64_MAX : table->dim};
        const weir_tensor_t *value = weir_tensor_file_find(reader->file, "value");
        weir_precision_t precision = WEIR_PRECISION_F32;
        weir_dtype_t dtype =
            value != NULL && precision_of(value->dtype, &precision) ? value->dtype : WEIR_DTYPE_F32;
        err =
            weir_tensor_file_require(reader->file, "value", dtype, 2, shape, &reader->value, error);
        reader->scale = NULL;
        if (err == WEIR_OK && precision == WEIR_PRECISION_INT8) {
            const uint64_t one[2] = {reader->keys->elements, 1};
            err = weir_tensor_file_require(reader->file, "scale", WEIR_DTYPE_F32, 2, one,
                                           &reader->scale, error);
        }
    }
    if (err != WEIR_OK) {
        return err;
    }
    const char *optimizer = weir_tensor_file_metadata(reader->file, "optimizer");
    if (first) {
        table->dim = reader->value->shape[1];
        weir_file_printable(optimizer != NULL ? optimizer : "unknown", table->optimizer,
                            sizeof table->optimizer);
    }
    shard->rows = reader->keys->elements;
    table->rows += shard->rows;
    weir_tensor_file_advise(reader->file, true);
    err = measure_fields(reader, table, first, error);
    if (err == WEIR_OK && reader->verify) {
        err = check_order(reader, shard, table->shard_count, error);
    }
    return err;
}

static weir_err_t measure_table(const weir_survey_t *survey, weir_survey_table_t *table,
                                weir_error_t *error) {
    shard_reader_t reader = {.verify = survey->verified};
    weir_err_t err = WEIR_OK;
    for (size_t s = 0; s < table->shard_count && err == WEIR_OK; s++) {
        char path[WEIR_PATH_MAX];
        err = weir_path_join(path, sizeof path, survey->folder, table->shards[s].file->name, error);
        if (err == WEIR_OK) {
            err = weir_tensor_file_open(path, &reader.file, error);
        }
        if (err == WEIR_OK) {
            err = read_shard(&reader, table, &table->shards[s], error);
            weir_tensor_file_close(reader.file);
        }
    }
    if (table->norms.rows > 0) {
        table->norms.mean = reader.norm_sum / (double)table->norms.rows;
    }
    for (size_t f = 0; f < table->field_count; f++) {
        weir_survey_values_finish(&table->fields[f].values);
    }
    return err;
}

/* ---- dense parameters ---- */

static weir_err_t measure_dense(weir_survey_t *survey, weir_error_t *error) {
    bool there = false;
    for (size_t i = 0; i < survey->manifest.file_count; i++) {
        there = there || strcmp(survey->manifest.files[i].name, dense_name) == 0;
    }
    if (!there) {
        return WEIR_OK;
    }
    char path[WEIR_PATH_MAX];
    weir_err_t err = weir_path_join(path, sizeof path, survey->folder, dense_name, error);
    if (err == WEIR_OK) {
        err = weir_tensor_file_open(path, &survey->dense_file, error);
    }
    if (err != WEIR_OK) {
        return err;
    }
    size_t count = weir_tensor_file_count(survey->dense_file);
    survey->dense = calloc(count + 1, sizeof *survey->dense);
    if (survey->dense == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a list of parameters");
    }
    survey->dense_count = count;
    for (size_t i = 0; i < count; i++) {
        weir_survey_dense_t *dense = &survey->dense[i];
        dense->tensor = weir_tensor_file_at(survey->dense_file, i);
        dense->measured = dense->tensor->dtype == WEIR_DTYPE_F32;
        if (dense->measured) {
            weir_survey_values_add(&dense->values, dense->tensor->values, dense->tensor->elements);
            weir_survey_values_finish(&dense->values);
        }
    }
    return WEIR_OK;
}

/* ---- all ---- */

static int compare_tables(const void *a, const void *b) {
    const weir_survey_table_t *left = a, *right = b;
    return strcmp(left->name, right->name);
}

weir_err_t weir_survey_make(const char *where, bool verify, weir_survey_t *survey,
                            weir_error_t *error) {
    weir_survey_t made = {.verified = verify};
    weir_err_t err = weir_checkpoint_resolve(where, made.folder, sizeof made.folder, error);
    if (err == WEIR_OK) {
        err = weir_manifest_read(made.folder, verify, &made.manifest, error);
    }
    if (err == WEIR_OK) {
        err = list_shards(&made, error);
    }
    for (size_t i = 0; i < made.table_count && err == WEIR_OK; i++) {
        err = measure_table(&made, &made.tables[i], error);
    }
    if (err == WEIR_OK) {
        err = measure_dense(&made, error);
    }
    if (err != WEIR_OK) {
        weir_survey_fini(&made);
        return err;
    }
    if (made.table_count > 1) {
        qsort(made.tables, made.table_count, sizeof *made.tables, compare_tables);
    }
    *survey = made;
    return WEIR_OK;
}

void weir_survey_fini(weir_survey_t *survey) {
    for (size_t i = 0; i < survey->table_count; i++) {
        free(survey->tables[i].shards);
    }
    free(survey->tables);
    free(survey->dense);
    weir_tensor_file_close(survey->dense_file);
    weir_manifest_fini(&survey->manifest);
    memset(survey, 0, sizeof *survey);
}
