/* The reading half of ps/snapshot.h: a chain's rows into a table. */
#include "ps/snapshot.h"

#include "common/file.h"
#include "common/log.h"
#include "ps/snapshot_chain.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    weir_table_t *table;
    const weir_row_layout_t *layout;
    uint32_t columns[WEIR_ROW_MAX_FIELDS]; /* of each field, its column in the files */
    char *record;                          /* one row */
    uint64_t not_finite;
    weir_key_t first_not_finite;
} load_t;

static weir_err_t require_text(const weir_tensor_file_t *file, const char *key,
                               const char *expected, weir_error_t *error) {
    const char *text = weir_tensor_file_metadata(file, key);
    if (text != NULL && strcmp(text, expected) == 0) {
        return WEIR_OK;
    }
    char printable[64];
    weir_file_printable(text == NULL ? "missing" : text, printable, sizeof printable);
    return weir_errorf(error, WEIR_ERR_INVALID,
                       "%s: %s of the saved table is %s, but %s is expected",
                       weir_tensor_file_path(file), key, printable, expected);
}

static weir_err_t check_metadata(const load_t *load, const weir_snapshot_file_t *file,
                                 weir_error_t *error) {
    const weir_row_schema_t *schema = weir_table_schema(load->table);
    char segments[WEIR_SNAPSHOT_SCHEMA_MAX], dim[32];
    weir_snapshot_schema(schema, segments, sizeof segments);
    (void)snprintf(dim, sizeof dim, "%u", load->layout->dim);
    weir_err_t err = require_text(file->file, "table", schema->name, error);
    if (err == WEIR_OK) {
        err = require_text(file->file, "dim", dim, error);
    }
    return err == WEIR_OK ? require_text(file->file, "schema", segments, error) : err;
}

/* The column of each field of the record, of its type and width. */
static weir_err_t match_columns(load_t *load, const weir_snapshot_file_t *file,
                                weir_error_t *error) {
    for (uint32_t f = 0; f < load->layout->field_count; f++) {
        const weir_row_field_t *field = &load->layout->fields[f];
        uint32_t c = 0;
        while (c < file->column_count && strcmp(file->columns[c].name, field->name) != 0) {
            c++;
        }
        if (c == file->column_count) {
            return weir_errorf(error, WEIR_ERR_NOT_FOUND, "'%s' has no tensor '%s'",
                               weir_tensor_file_path(file->file), field->name);
        }
        if (file->columns[c].dtype != field->dtype || file->columns[c].width != field->width) {
            return weir_errorf(error, WEIR_ERR_CORRUPT,
                               "'%s': tensor '%s' is %s x %" PRIu64 ", expected %s x %u",
                               weir_tensor_file_path(file->file), field->name,
                               weir_dtype_name(file->columns[c].dtype), file->columns[c].width,
                               weir_dtype_name(field->dtype), field->width);
        }
        load->columns[f] = c;
    }
    return WEIR_OK;
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

static weir_err_t load_row(load_t *load, const weir_snapshot_place_t *place, weir_error_t *error) {
    const weir_snapshot_file_t *file = place->file;
    for (uint32_t f = 0; f < load->layout->field_count; f++) {
        const weir_row_field_t *field = &load->layout->fields[f];
        const weir_snapshot_column_t *column = &file->columns[load->columns[f]];
        memcpy(load->record + field->offset, column->values + place->row * column->bytes,
               column->bytes);
        uint64_t not_finite = count_not_finite(field, load->record + field->offset);
        if (not_finite > 0 && load->not_finite == 0) {
            load->first_not_finite = file->keys[place->row];
        }
        load->not_finite += not_finite;
    }
    weir_table_row_t restored = {.key = file->keys[place->row],
                                 .value = load->record,
                                 .rest = load->record + load->layout->value_bytes,
                                 .last_step = file->last_steps[place->row],
                                 .count = file->counts[place->row]};
    weir_err_t err = weir_table_restore(load->table, &restored, error);
    if (err != WEIR_OK) {
        weir_error_prefix(error, "%s", weir_tensor_file_path(file->file));
    }
    return err;
}

static weir_err_t load_admission(load_t *load, const weir_snapshot_file_t *file, weir_slot_t slot,
                                 weir_error_t *error) {
    weir_admission_t *admission = weir_table_admission(load->table);
    if (admission == NULL || file->admission == NULL) {
        return WEIR_OK;
    }
    weir_err_t err = weir_admission_restore_slot(
        admission, slot, file->admission + (slot - file->first_slot) * file->counters,
        (size_t)file->counters, error);
    if (err != WEIR_OK) {
        weir_error_prefix(error, "%s", weir_tensor_file_path(file->file));
    }
    return err;
}

static weir_err_t load_slot(load_t *load, weir_snapshot_chain_t *chain, weir_slot_t slot,
                            weir_error_t *error) {
    const weir_snapshot_file_t *newest;
    weir_snapshot_place_t place;
    weir_err_t err = weir_snapshot_chain_enter(chain, slot, &newest, error);
    if (err == WEIR_OK) {
        err = load_admission(load, newest, slot, error);
    }
    while (err == WEIR_OK && weir_snapshot_chain_next(chain, &place)) {
        err = load_row(load, &place, error);
    }
    return err;
}

weir_err_t weir_snapshot_load(weir_table_t *table, uint32_t index, uint32_t ps, const char *folder,
                              const weir_manifest_t *manifest, weir_error_t *error) {
    if (ps < 1 || ps > WEIR_SLOT_COUNT || index >= ps) {
        return weir_errorf(error, WEIR_ERR_INVALID, "there is no server %u of %u", index, ps);
    }
    weir_slot_t first = weir_slot_first(index, ps), end = weir_slot_first(index + 1, ps);
    load_t load = {.table = table, .layout = weir_table_layout(table)};
    weir_snapshot_chain_t *chain = NULL;
    weir_err_t err = weir_snapshot_chain_open(folder, manifest, weir_table_schema(table)->name,
                                              first, end, &chain, error);
    if (err != WEIR_OK) {
        return err;
    }
    const weir_snapshot_file_t *file = weir_snapshot_chain_first(chain);
    load.record = calloc(1, load.layout->record_bytes); /* padding is zero */
    if (load.record == NULL) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "out of memory to load a table");
        goto out;
    }
    if (weir_table_admission(table) != NULL) {
        weir_admission_set_step(weir_table_admission(table), manifest->step);
    }
    err = check_metadata(&load, file, error);
    if (err == WEIR_OK) {
        err = match_columns(&load, file, error);
    }
    for (weir_slot_t slot = first; slot < end && err == WEIR_OK; slot++) {
        err = load_slot(&load, chain, slot, error);
    }
    if (err == WEIR_OK) {
        err = weir_table_end_restore(table, error);
    }
    if (err == WEIR_OK && load.not_finite > 0) {
        weir_log(WEIR_LOG_WARN, "snapshot",
                 "loaded values that are not finite|table=%s count=%llu first_key=%llu",
                 weir_table_schema(table)->name, (unsigned long long)load.not_finite,
                 (unsigned long long)load.first_not_finite);
    }
out:
    weir_snapshot_chain_close(chain);
    free(load.record);
    return err;
}
