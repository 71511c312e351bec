/* Two passes over a shard's slots: one counts, for the header; one writes. */
#include "common/file.h"
#include "ps/precision.h"
#include "tools/rewrite_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A row on its way, wherever it comes from. */
typedef struct {
    uint64_t key, last_step, count;
    const char *columns[WEIR_ROW_MAX_FIELDS]; /* in the order of the files */
} row_t;

/* The rows of slots in order: those of the chain, and those from elsewhere, which win. */
typedef struct {
    weir_snapshot_chain_t *chain;
    weir_rewrite_import_t *import; /* NULL: none */
    size_t next, end;              /* of the import, in this slot */
    weir_snapshot_place_t place;
    bool pending; /* place is still to come */
    uint64_t step;
    bool counts; /* the first pass: those replaced are counted */
} merge_t;

/* The file's tensors, by their numbers. */
typedef struct {
    size_t offsets, admission, columns[WEIR_ROW_MAX_FIELDS];
} tensors_t;

/* ---- rows ---- */

static size_t first_of_slot(const weir_rewrite_import_t *import, weir_slot_t slot) {
    size_t low = 0, high = import->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (weir_slot_of_hash(weir_hash64(import->rows[middle].key)) < slot) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static weir_err_t enter(merge_t *merge, weir_slot_t slot, const weir_snapshot_file_t **newest,
                        weir_error_t *error) {
    weir_err_t err = weir_snapshot_chain_enter(merge->chain, slot, newest, error);
    if (err == WEIR_OK) {
        merge->pending = weir_snapshot_chain_next(merge->chain, &merge->place);
        merge->next = merge->end = 0;
        if (merge->import != NULL) {
            merge->next = first_of_slot(merge->import, slot);
            merge->end = first_of_slot(merge->import, slot + 1);
        }
    }
    return err;
}

static void take_saved(const weir_snapshot_place_t *place, row_t *row) {
    const weir_snapshot_file_t *file = place->file;
    row->key = file->keys[place->row];
    row->last_step = file->last_steps[place->row];
    row->count = file->counts[place->row];
    for (uint32_t c = 0; c < file->column_count; c++) {
        row->columns[c] = file->columns[c].values + place->row * file->columns[c].bytes;
    }
}

/* As a row that was born now: its state is a new row's, its last use this step. */
static void take_import(const merge_t *merge, row_t *row) {
    weir_rewrite_import_t *import = merge->import;
    const weir_rewrite_row_t *from = &import->rows[merge->next];
    const weir_segment_t *segment = &import->schema.segments[0];
    const weir_snapshot_file_t *file = weir_snapshot_chain_first(merge->chain);
    char *record = import->record;
    weir_row_birth(&import->schema, &import->layout, from->key, record,
                   record + import->layout.value_bytes, import->scratch);
    weir_precision_store(segment->precision, from->values, segment->dim, NULL,
                         record + import->layout.parts[0].value,
                         record + import->layout.parts[0].hidden);
    row->key = from->key;
    row->last_step = merge->step;
    row->count = 0;
    for (uint32_t c = 0; c < file->column_count; c++) {
        for (uint32_t f = 0; f < import->layout.field_count; f++) {
            if (strcmp(import->layout.fields[f].name, file->columns[c].name) == 0) {
                row->columns[c] = record + import->layout.fields[f].offset;
            }
        }
    }
}

static bool next(merge_t *merge, row_t *row) {
    bool given = merge->next < merge->end;
    if (!given && !merge->pending) {
        return false;
    }
    uint64_t of_import = given ? weir_hash64(merge->import->rows[merge->next].key) : 0, saved = 0;
    if (merge->pending) {
        saved = weir_hash64(merge->place.file->keys[merge->place.row]);
    }
    if (!given || (merge->pending && saved < of_import)) {
        take_saved(&merge->place, row);
        merge->pending = weir_snapshot_chain_next(merge->chain, &merge->place);
        return true;
    }
    take_import(merge, row);
    merge->next++;
    if (merge->pending && saved == of_import) {
        merge->import->replaced += merge->counts ? 1 : 0;
        merge->pending = weir_snapshot_chain_next(merge->chain, &merge->place);
    }
    return true;
}

/* ---- the file ---- */

static weir_err_t put_number(weir_tensor_writer_t *writer, const char *key, uint64_t number,
                             weir_error_t *error) {
    char text[32];
    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    return weir_tensor_writer_metadata(writer, key, text, error);
}

/* As ps/snapshot.c writes them, in its order. */
static weir_err_t put_metadata(weir_tensor_writer_t *writer, const weir_snapshot_file_t *newest,
                               uint32_t index, uint32_t servers, uint64_t step,
                               weir_error_t *error) {
    static const char *const texts[] = {"table", "dim", "optimizer", "schema"};
    weir_slot_t first = weir_slot_first(index, servers);
    weir_err_t err = WEIR_OK;
    for (size_t t = 0; t < 4 && err == WEIR_OK; t++) {
        const char *text = weir_tensor_file_metadata(newest->file, texts[t]);
        err = text == NULL ? weir_errorf(error, WEIR_ERR_CORRUPT, "%s: metadata %s is missing",
                                         weir_tensor_file_path(newest->file), texts[t])
                           : weir_tensor_writer_metadata(writer, texts[t], text, error);
    }
    if (err == WEIR_OK) {
        err = put_number(writer, "first_slot", first, error);
    }
    if (err == WEIR_OK) {
        err = put_number(writer, "slots", weir_slot_first(index + 1, servers) - first, error);
    }
    if (err == WEIR_OK) {
        err = put_number(writer, "step", step, error);
    }
    if (err == WEIR_OK) {
        err = put_number(writer, "ttl", newest->ttl, error);
    }
    return err == WEIR_OK ? weir_tensor_writer_metadata(writer, "kind", "full", error) : err;
}

static weir_err_t declare(weir_tensor_writer_t *writer, const weir_snapshot_file_t *newest,
                          uint64_t rows, uint64_t slots, tensors_t *tensors, weir_error_t *error) {
    static const char *const numbers[] = {"keys", "last_step", "count"};
    const uint64_t offsets = slots + 1, admission[2] = {slots, newest->counters};
    weir_err_t err = WEIR_OK;
    for (size_t i = 0; i < 3 && err == WEIR_OK; i++) {
        err = weir_tensor_writer_declare(writer, numbers[i], WEIR_DTYPE_U64, 1, &rows, error);
    }
    tensors->offsets = 3;
    if (err == WEIR_OK) {
        err =
            weir_tensor_writer_declare(writer, "slot_offsets", WEIR_DTYPE_U64, 1, &offsets, error);
    }
    for (uint32_t c = 0; c < newest->column_count && err == WEIR_OK; c++) {
        const uint64_t shape[2] = {rows, newest->columns[c].width};
        tensors->columns[c] = 4 + c;
        err = weir_tensor_writer_declare(writer, newest->columns[c].name, newest->columns[c].dtype,
                                         2, shape, error);
    }
    tensors->admission = 4 + newest->column_count;
    if (err == WEIR_OK && newest->admission != NULL) {
        err = weir_tensor_writer_declare(writer, "admission", WEIR_DTYPE_U16, 2, admission, error);
    }
    if (err == WEIR_OK) {
        err = weir_tensor_writer_blocks(writer, error);
    }
    return err == WEIR_OK ? weir_tensor_writer_begin(writer, error) : err;
}

static weir_err_t write_row(weir_tensor_writer_t *writer, const weir_snapshot_file_t *newest,
                            const tensors_t *tensors, const row_t *row, weir_error_t *error) {
    const uint64_t *const numbers[] = {&row->key, &row->last_step, &row->count};
    weir_err_t err = WEIR_OK;
    for (size_t i = 0; i < 3 && err == WEIR_OK; i++) {
        err = weir_tensor_writer_fill(writer, i, numbers[i], sizeof *numbers[i], error);
    }
    for (uint32_t c = 0; c < newest->column_count && err == WEIR_OK; c++) {
        err = weir_tensor_writer_fill(writer, tensors->columns[c], row->columns[c],
                                      newest->columns[c].bytes, error);
    }
    return err;
}

static weir_err_t write_rows(weir_tensor_writer_t *writer, merge_t *merge, weir_slot_t first,
                             weir_slot_t end, const weir_snapshot_file_t *common,
                             const tensors_t *tensors, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    for (weir_slot_t slot = first; slot < end && err == WEIR_OK; slot++) {
        const weir_snapshot_file_t *newest;
        row_t row;
        err = enter(merge, slot, &newest, error);
        if (err == WEIR_OK && newest->counters != common->counters) {
            err = weir_errorf(error, WEIR_ERR_CORRUPT, "%s: other admission counters than %s",
                              weir_tensor_file_path(newest->file),
                              weir_tensor_file_path(common->file));
        }
        if (err == WEIR_OK && newest->admission != NULL) {
            err = weir_tensor_writer_fill(writer, tensors->admission,
                                          newest->admission +
                                              (slot - newest->first_slot) * newest->counters,
                                          newest->counters * sizeof(uint16_t), error);
        }
        while (err == WEIR_OK && next(merge, &row)) {
            err = write_row(writer, common, tensors, &row, error);
        }
    }
    return err;
}

/* Rows of each slot, added up. */
static weir_err_t count_rows(merge_t *merge, weir_slot_t first, weir_slot_t end, uint64_t *offsets,
                             weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    offsets[0] = 0;
    for (weir_slot_t slot = first; slot < end && err == WEIR_OK; slot++) {
        const weir_snapshot_file_t *newest;
        row_t row;
        uint64_t rows = 0;
        err = enter(merge, slot, &newest, error);
        while (err == WEIR_OK && next(merge, &row)) {
            rows++;
        }
        offsets[slot - first + 1] = offsets[slot - first] + rows;
    }
    return err;
}

weir_err_t weir_rewrite_shard(const char *source, const weir_manifest_t *manifest,
                              const char *table, uint32_t index, uint32_t servers,
                              weir_rewrite_import_t *import, const char *folder,
                              weir_checkpoint_file_t *file, uint64_t *rows, weir_error_t *error) {
    char path[WEIR_PATH_MAX];
    weir_slot_t first = weir_slot_first(index, servers), end = weir_slot_first(index + 1, servers);
    merge_t merge = {.import = import, .step = manifest->step, .counts = true};
    weir_snapshot_chain_t *again = NULL; /* a chain goes over its slots once */
    weir_tensor_writer_t *writer = NULL;
    tensors_t tensors;
    uint64_t *offsets = calloc((size_t)(end - first) + 1, sizeof *offsets);
    weir_err_t err =
        offsets == NULL ? weir_errorf(error, WEIR_ERR_MEMORY, "out of memory") : WEIR_OK;
    *file = (weir_checkpoint_file_t){.blocks = true};
    weir_snapshot_name(table, index, servers, file->name);
    if (err == WEIR_OK) {
        err = weir_path_join(path, sizeof path, folder, file->name, error);
    }
    if (err == WEIR_OK) {
        err = weir_snapshot_chain_open(source, manifest, table, first, end, &merge.chain, error);
    }
    if (err == WEIR_OK) {
        err = weir_snapshot_chain_open(source, manifest, table, first, end, &again, error);
    }
    if (err == WEIR_OK) {
        err = count_rows(&merge, first, end, offsets, error);
    }
    if (err == WEIR_OK) {
        err = weir_tensor_writer_create(path, &writer, error);
    }
    const weir_snapshot_file_t *common = again == NULL ? NULL : weir_snapshot_chain_first(again);
    if (err == WEIR_OK) {
        err = put_metadata(writer, common, index, servers, manifest->step, error);
    }
    if (err == WEIR_OK) {
        err = declare(writer, common, offsets[end - first], end - first, &tensors, error);
    }
    if (err == WEIR_OK) {
        err = weir_tensor_writer_fill(writer, tensors.offsets, offsets,
                                      ((size_t)(end - first) + 1) * sizeof *offsets, error);
    }
    if (err == WEIR_OK) {
        merge_t second = {.chain = again, .import = import, .step = manifest->step};
        err = write_rows(writer, &second, first, end, common, &tensors, error);
    }
    if (err == WEIR_OK) {
        err = weir_tensor_writer_commit(writer, &file->checksum, &file->size, error);
    }
    if (err == WEIR_OK) {
        *rows += offsets[end - first];
    }
    weir_tensor_writer_destroy(writer);
    weir_snapshot_chain_close(merge.chain);
    weir_snapshot_chain_close(again);
    free(offsets);
    return err;
}
