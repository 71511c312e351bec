/* The reading half of ps/snapshot.h. */
#include "ps/snapshot.h"

#include "common/file.h"
#include "common/log.h"
#include "common/tensor_file.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    weir_tensor_file_t *file;
    weir_slot_t first_slot, slots;
    const uint64_t *keys, *last_steps, *counts, *slot_offsets;
    const char *fields[WEIR_ROW_MAX_FIELDS];
    const uint16_t *admission; /* slots x counters; NULL: none */
    uint64_t counters;
} shard_t;

typedef struct {
    weir_table_t *table;
    const weir_row_layout_t *layout;
    weir_slot_t first, end; /* slots wanted */
    uint64_t step;
    char *record; /* one row */
    uint64_t rows, not_finite;
} load_t;

static bool parse_number(const char *text, uint64_t *number) {
    if (text == NULL || !isdigit((unsigned char)text[0])) {
        return false;
    }
    char *end;
    errno = 0;
    unsigned long long parsed = strtoull(text, &end, 10);
    if (errno != 0 || *end != '\0') {
        return false;
    }
    *number = parsed;
    return true;
}

/* Whether `name` is a shard of the table: exactly what weir_snapshot_name makes. */
static bool parse_shard_name(const char *table, const char *name, uint32_t *index, uint32_t *ps) {
    size_t length = strlen(table);
    if (strncmp(name, table, length) != 0 || strncmp(name + length, ".ps-", 4) != 0) {
        return false;
    }
    char *end;
    unsigned long first = strtoul(name + length + 4, &end, 10);
    if (strncmp(end, "-of-", 4) != 0) {
        return false;
    }
    unsigned long second = strtoul(end + 4, &end, 10);
    if (second < 1 || second > WEIR_SLOT_COUNT || first >= second) {
        return false;
    }
    char made[WEIR_CHECKPOINT_NAME_MAX];
    weir_snapshot_name(table, (uint32_t)first, (uint32_t)second, made);
    if (strcmp(made, name) != 0) {
        return false;
    }
    *index = (uint32_t)first;
    *ps = (uint32_t)second;
    return true;
}

/* Mark the shards that the manifest names in `seen` (WEIR_SLOT_COUNT zeros); each once, all of the
 * same number of servers, which becomes *shards, and none missing. */
static weir_err_t mark_shards(const char *table, const weir_manifest_t *manifest, bool *seen,
                              uint32_t *shards, weir_error_t *error) {
    uint32_t found = 0, total = 0, index, ps;
    for (size_t i = 0; i < manifest->file_count; i++) {
        if (!parse_shard_name(table, manifest->files[i].name, &index, &ps)) {
            continue;
        }
        if (total != 0 && ps != total) {
            return weir_errorf(error, WEIR_ERR_CORRUPT,
                               "the manifest names shards of table %s of both %u and %u servers",
                               table, total, ps);
        }
        if (seen[index]) {
            return weir_errorf(error, WEIR_ERR_CORRUPT, "the manifest names %s twice",
                               manifest->files[i].name);
        }
        seen[index] = true;
        total = ps;
        found++;
    }
    if (found == 0) {
        return weir_errorf(error, WEIR_ERR_NOT_FOUND, "the checkpoint has no files of table %s",
                           table);
    }
    if (found != total) {
        return weir_errorf(error, WEIR_ERR_CORRUPT,
                           "the manifest names %u of the %u shards of table %s", found, total,
                           table);
    }
    *shards = total;
    return WEIR_OK;
}

static weir_err_t count_shards(const char *table, const weir_manifest_t *manifest, uint32_t *shards,
                               weir_error_t *error) {
    bool *seen = calloc(WEIR_SLOT_COUNT, sizeof *seen);
    if (seen == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory to load a table");
    }
    weir_err_t err = mark_shards(table, manifest, seen, shards, error);
    free(seen);
    return err;
}

static weir_err_t require_text(const weir_tensor_file_t *file, const char *key,
                               const char *expected, weir_error_t *error) {
    const char *text = weir_tensor_file_metadata(file, key);
    if (text != NULL && strcmp(text, expected) == 0) {
        return WEIR_OK;
    }
    char printable[64];
    weir_file_printable(text == NULL ? "missing" : text, printable, sizeof printable);
    return weir_errorf(error, WEIR_ERR_INVALID, "%s of the saved table is %s, but %s is expected",
                       key, printable, expected);
}

static weir_err_t require_number(const weir_tensor_file_t *file, const char *key, uint64_t expected,
                                 weir_error_t *error) {
    uint64_t number;
    if (!parse_number(weir_tensor_file_metadata(file, key), &number)) {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "metadata %s is missing or not a number", key);
    }
    if (number != expected) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "%s of the saved table is %llu, but %llu is expected", key,
                           (unsigned long long)number, (unsigned long long)expected);
    }
    return WEIR_OK;
}

static weir_err_t check_metadata(const load_t *load, const shard_t *shard, weir_error_t *error) {
    const weir_row_schema_t *schema = weir_table_schema(load->table);
    char segments[WEIR_SNAPSHOT_SCHEMA_MAX];
    weir_snapshot_schema(schema, segments, sizeof segments);
    weir_err_t err = require_text(shard->file, "table", schema->name, error);
    if (err == WEIR_OK) {
        err = require_number(shard->file, "dim", load->layout->dim, error);
    }
    if (err == WEIR_OK) {
        err = require_text(shard->file, "schema", segments, error);
    }
    if (err == WEIR_OK) {
        err = require_number(shard->file, "first_slot", shard->first_slot, error);
    }
    if (err == WEIR_OK) {
        err = require_number(shard->file, "slots", shard->slots, error);
    }
    return err == WEIR_OK ? require_number(shard->file, "step", load->step, error) : err;
}

static weir_err_t require_u64(const shard_t *shard, const char *name, uint64_t count,
                              const uint64_t **values, uint64_t *found, weir_error_t *error) {
    const weir_tensor_t *tensor;
    weir_err_t err =
        weir_tensor_file_require(shard->file, name, WEIR_DTYPE_U64, 1, &count, &tensor, error);
    if (err == WEIR_OK) {
        *values = tensor->values;
        if (found != NULL) {
            *found = tensor->shape[0];
        }
    }
    return err;
}

/* All tensors, with shapes that fit each other, and offsets that rise from 0 to n rows. */
static weir_err_t find_tensors(const load_t *load, shard_t *shard, weir_error_t *error) {
    uint64_t rows = 0;
    weir_err_t err = require_u64(shard, "keys", UINT64_MAX, &shard->keys, &rows, error);
    if (err == WEIR_OK) {
        err = require_u64(shard, "last_step", rows, &shard->last_steps, NULL, error);
    }
    if (err == WEIR_OK) {
        err = require_u64(shard, "count", rows, &shard->counts, NULL, error);
    }
    if (err == WEIR_OK) {
        err = require_u64(shard, "slot_offsets", (uint64_t)shard->slots + 1, &shard->slot_offsets,
                          NULL, error);
    }
    for (uint32_t f = 0; f < load->layout->field_count && err == WEIR_OK; f++) {
        const weir_row_field_t *field = &load->layout->fields[f];
        const weir_tensor_t *tensor;
        const uint64_t shape[2] = {rows, field->width};
        err = weir_tensor_file_require(shard->file, field->name, field->dtype, 2, shape, &tensor,
                                       error);
        if (err == WEIR_OK) {
            shard->fields[f] = tensor->values;
        }
    }
    if (err == WEIR_OK && weir_tensor_file_find(shard->file, "admission") != NULL) {
        const weir_tensor_t *tensor;
        const uint64_t shape[2] = {shard->slots, UINT64_MAX};
        err = weir_tensor_file_require(shard->file, "admission", WEIR_DTYPE_U16, 2, shape, &tensor,
                                       error);
        if (err == WEIR_OK) {
            shard->admission = tensor->values;
            shard->counters = tensor->shape[1];
        }
    }
    if (err != WEIR_OK) {
        return err;
    }
    bool rising = shard->slot_offsets[0] == 0 && shard->slot_offsets[shard->slots] == rows;
    for (size_t slot = 0; slot < shard->slots; slot++) {
        rising = rising && shard->slot_offsets[slot] <= shard->slot_offsets[slot + 1];
    }
    return rising ? WEIR_OK
                  : weir_errorf(error, WEIR_ERR_CORRUPT,
                                "slot_offsets do not rise from 0 to %llu rows",
                                (unsigned long long)rows);
}

static uint64_t count_not_finite(const weir_row_field_t *field, const char *elements) {
    uint64_t count = 0;
    for (uint32_t i = 0; i < field->width; i++) {
        if (field->dtype == WEIR_DTYPE_F32) {
            float value;
            memcpy(&value, elements + i * sizeof value, sizeof value);
            count += isfinite(value) ? 0 : 1;
        } else if (field->dtype == WEIR_DTYPE_BF16 || field->dtype == WEIR_DTYPE_F16) {
            unsigned exponent = field->dtype == WEIR_DTYPE_BF16 ? 0x7F80u : 0x7C00u;
            uint16_t bits;
            memcpy(&bits, elements + i * sizeof bits, sizeof bits);
            count += (bits & exponent) == exponent ? 1 : 0;
        }
    }
    return count;
}

static weir_err_t load_row(load_t *load, const shard_t *shard, uint64_t row, weir_error_t *error) {
    for (uint32_t f = 0; f < load->layout->field_count; f++) {
        const weir_row_field_t *field = &load->layout->fields[f];
        size_t width = field->width * weir_dtype_size(field->dtype);
        memcpy(load->record + field->offset, shard->fields[f] + row * width, width);
        load->not_finite += count_not_finite(field, load->record + field->offset);
    }
    if (shard->last_steps[row] > load->step) {
        return weir_errorf(error, WEIR_ERR_CORRUPT,
                           "row %llu was last updated in step %llu, after the checkpoint",
                           (unsigned long long)row, (unsigned long long)shard->last_steps[row]);
    }
    load->rows++;
    weir_table_row_t restored = {.key = shard->keys[row],
                                 .value = load->record,
                                 .rest = load->record + load->layout->value_bytes,
                                 .last_step = shard->last_steps[row],
                                 .count = shard->counts[row]};
    return weir_table_restore(load->table, &restored, error);
}

/* A table that counts keys goes on with the counters saved; without any it begins to count. */
static weir_err_t load_admission(load_t *load, const shard_t *shard, weir_slot_t slot,
                                 weir_error_t *error) {
    weir_admission_t *admission = weir_table_admission(load->table);
    if (admission == NULL || shard->admission == NULL) {
        return WEIR_OK;
    }
    return weir_admission_restore_slot(
        admission, slot, shard->admission + (slot - shard->first_slot) * shard->counters,
        (size_t)shard->counters, error);
}

/* The rows of the slots wanted, each in its slot and in order. */
static weir_err_t load_slots(load_t *load, const shard_t *shard, weir_error_t *error) {
    weir_slot_t shard_end = shard->first_slot + shard->slots;
    weir_slot_t begin = load->first > shard->first_slot ? load->first : shard->first_slot;
    weir_slot_t end = load->end < shard_end ? load->end : shard_end;
    for (weir_slot_t slot = begin; slot < end; slot++) {
        weir_err_t err = load_admission(load, shard, slot, error);
        if (err != WEIR_OK) {
            return err;
        }
        const uint64_t *range = &shard->slot_offsets[slot - shard->first_slot];
        uint64_t previous = 0;
        for (uint64_t row = range[0]; row < range[1]; row++) {
            uint64_t hash = weir_hash64(shard->keys[row]);
            if (weir_slot_of_hash(hash) != slot || (row > range[0] && hash <= previous)) {
                return weir_errorf(error, WEIR_ERR_CORRUPT, "row %llu is out of its place",
                                   (unsigned long long)row);
            }
            previous = hash;
            err = load_row(load, shard, row, error);
            if (err != WEIR_OK) {
                return err;
            }
        }
    }
    return WEIR_OK;
}

static weir_err_t load_shard(load_t *load, uint32_t index, uint32_t shards, const char *folder,
                             weir_error_t *error) {
    char name[WEIR_CHECKPOINT_NAME_MAX], path[WEIR_PATH_MAX];
    weir_slot_t first = weir_slot_first(index, shards);
    shard_t shard = {.first_slot = first, .slots = weir_slot_first(index + 1, shards) - first};
    weir_snapshot_name(weir_table_schema(load->table)->name, index, shards, name);
    weir_err_t err = weir_path_join(path, sizeof path, folder, name, error);
    if (err != WEIR_OK) {
        return err;
    }
    err = weir_tensor_file_open(path, &shard.file, error);
    if (err != WEIR_OK) {
        return err; /* names the file already */
    }
    err = check_metadata(load, &shard, error);
    if (err == WEIR_OK) {
        err = find_tensors(load, &shard, error);
    }
    if (err == WEIR_OK) {
        weir_tensor_file_advise(shard.file, true);
        err = load_slots(load, &shard, error);
    }
    if (err != WEIR_OK) {
        weir_error_prefix(error, "%s", path);
    }
    weir_tensor_file_close(shard.file);
    return err;
}

weir_err_t weir_snapshot_load(weir_table_t *table, uint32_t index, uint32_t ps, const char *folder,
                              const weir_manifest_t *manifest, weir_error_t *error) {
    if (ps < 1 || ps > WEIR_SLOT_COUNT || index >= ps) {
        return weir_errorf(error, WEIR_ERR_INVALID, "there is no server %u of %u", index, ps);
    }
    load_t load = {.table = table,
                   .layout = weir_table_layout(table),
                   .first = weir_slot_first(index, ps),
                   .end = weir_slot_first(index + 1, ps),
                   .step = manifest->step};
    uint32_t shards = 0;
    weir_err_t err = count_shards(weir_table_schema(table)->name, manifest, &shards, error);
    if (err != WEIR_OK) {
        return err;
    }
    load.record = malloc(load.layout->record_bytes);
    if (load.record == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory to load a table");
    }
    if (weir_table_admission(table) != NULL) {
        weir_admission_set_step(weir_table_admission(table), manifest->step);
    }
    for (uint32_t shard = weir_slot_owner(load.first, shards);
         shard <= weir_slot_owner(load.end - 1, shards) && err == WEIR_OK; shard++) {
        err = load_shard(&load, shard, shards, folder, error);
    }
    if (err == WEIR_OK) {
        err = weir_table_end_restore(table, error);
    }
    if (err == WEIR_OK && load.not_finite > 0) {
        weir_log(WEIR_LOG_WARN, "snapshot", "loaded values that are not finite|table=%s count=%llu",
                 weir_table_schema(table)->name, (unsigned long long)load.not_finite);
    }
    free(load.record);
    return err;
}
