#include "ps/snapshot.h"

#include "common/file.h"
#include "common/tensor_file.h"
#include "ps/precision.h"
#include "ps/table_removed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE_BYTES = 1 << 20 };

typedef struct {
    weir_table_t *table;
    const weir_row_layout_t *layout;
    uint64_t step, base; /* base 0: all rows */
    weir_key_t *removed; /* since base; owned */
    size_t removed_count;
    size_t rows;
    uint64_t *slot_offsets; /* slots + 1 */
    weir_slot_t first_slot, slots;
    weir_tensor_writer_t *writer;
    char *piece; /* PIECE_BYTES, or one row if that is more */
    size_t piece_bytes, filled;
} shard_t;

/* What a pass over the rows writes: a part of each record, or what lies beside it. */
typedef enum { PART_KEY, PART_LAST_STEP, PART_COUNT, PART_FIELD } part_t;

typedef struct {
    shard_t *shard;
    part_t part;
    const weir_row_field_t *field; /* PART_FIELD */
    size_t width;                  /* bytes */
} pass_t;

void weir_snapshot_name(const char *table, uint32_t index, uint32_t ps,
                        char name[WEIR_CHECKPOINT_NAME_MAX]) {
    (void)snprintf(name, WEIR_CHECKPOINT_NAME_MAX, "%.31s.ps-%04u-of-%04u.safetensors", table,
                   index, ps);
}

/* Rows that a delta holds: used since its base, or never updated, which has no step. */
static bool is_saved(const shard_t *shard, const weir_table_row_t *row) {
    return row->last_step > shard->base || row->last_step == 0;
}

static weir_err_t count_rows(void *argument, const weir_table_row_t *rows, size_t count,
                             weir_error_t *error) {
    shard_t *shard = argument;
    for (size_t i = 0; i < count; i++) {
        if (!is_saved(shard, &rows[i])) {
            continue;
        }
        weir_slot_t slot = weir_slot_of_hash(weir_hash64(rows[i].key));
        if (slot < shard->first_slot || slot - shard->first_slot >= shard->slots) {
            return weir_errorf(error, WEIR_ERR_INVALID,
                               "the table holds key %llu of slot %u, but this shard is of %u to %u",
                               (unsigned long long)rows[i].key, slot, shard->first_slot,
                               shard->first_slot + shard->slots - 1);
        }
        shard->slot_offsets[slot - shard->first_slot + 1]++;
        shard->rows++;
    }
    return WEIR_OK;
}

/* rows and slot_offsets of the table as it is. */
static weir_err_t measure_rows(shard_t *shard, weir_error_t *error) {
    shard->slot_offsets = calloc((size_t)shard->slots + 1, sizeof *shard->slot_offsets);
    if (shard->slot_offsets == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory to write a table");
    }
    weir_err_t err = weir_table_scan(shard->table, shard->step + 1, count_rows, shard, error);
    for (size_t slot = 0; slot < shard->slots; slot++) {
        shard->slot_offsets[slot + 1] += shard->slot_offsets[slot];
    }
    return err;
}

static weir_err_t put_number(weir_tensor_writer_t *writer, const char *key, uint64_t number,
                             weir_error_t *error) {
    char text[32];
    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    return weir_tensor_writer_metadata(writer, key, text, error);
}

void weir_snapshot_schema(const weir_row_schema_t *schema, char *text, size_t capacity) {
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t s = 0; s < schema->segment_count && used < capacity; s++) {
        const weir_segment_t *segment = &schema->segments[s];
        int printed = snprintf(text + used, capacity - used, "%s%s:%u:%s:%s", s == 0 ? "" : ",",
                               segment->name, segment->dim, weir_precision_name(segment->precision),
                               weir_optimizer_name(segment->optimizer.kind));
        used += printed > 0 ? (size_t)printed : 0;
    }
}

static weir_err_t write_metadata(const shard_t *shard, weir_error_t *error) {
    const weir_row_schema_t *schema = weir_table_schema(shard->table);
    weir_tensor_writer_t *writer = shard->writer;
    char segments[WEIR_SNAPSHOT_SCHEMA_MAX];
    weir_snapshot_schema(schema, segments, sizeof segments);
    weir_err_t err = weir_tensor_writer_metadata(writer, "table", schema->name, error);
    if (err == WEIR_OK) {
        err = put_number(writer, "dim", shard->layout->dim, error);
    }
    if (err == WEIR_OK) {
        err = weir_tensor_writer_metadata(
            writer, "optimizer", weir_optimizer_name(schema->segments[0].optimizer.kind), error);
    }
    if (err == WEIR_OK) {
        err = weir_tensor_writer_metadata(writer, "schema", segments, error);
    }
    if (err == WEIR_OK) {
        err = put_number(writer, "first_slot", shard->first_slot, error);
    }
    if (err == WEIR_OK) {
        err = put_number(writer, "slots", shard->slots, error);
    }
    if (err == WEIR_OK) {
        err = put_number(writer, "step", shard->step, error);
    }
    if (err == WEIR_OK) {
        err = put_number(writer, "ttl", weir_table_ttl(shard->table), error);
    }
    if (err == WEIR_OK) {
        err =
            weir_tensor_writer_metadata(writer, "kind", shard->base == 0 ? "full" : "delta", error);
    }
    return err == WEIR_OK && shard->base != 0 ? put_number(writer, "base_step", shard->base, error)
                                              : err;
}

/* Fields by the size of their elements, the largest first: all then lie aligned. */
static weir_err_t for_each_field(shard_t *shard,
                                 weir_err_t (*visit)(shard_t *shard, const weir_row_field_t *field,
                                                     weir_error_t *error),
                                 weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    for (size_t size = 8; size > 0; size /= 2) {
        for (uint32_t f = 0; f < shard->layout->field_count && err == WEIR_OK; f++) {
            const weir_row_field_t *field = &shard->layout->fields[f];
            if (weir_dtype_size(field->dtype) == size) {
                err = visit(shard, field, error);
            }
        }
    }
    return err;
}

static weir_err_t declare_field(shard_t *shard, const weir_row_field_t *field,
                                weir_error_t *error) {
    const uint64_t shape[2] = {shard->rows, field->width};
    return weir_tensor_writer_declare(shard->writer, field->name, field->dtype, 2, shape, error);
}

/* The counters of the table's admission, slot after slot; *counters 0: it has none. */
static uint64_t admission_counters(const shard_t *shard) {
    weir_admission_t *admission = weir_table_admission(shard->table);
    const uint16_t *values;
    size_t count = 0;
    if (admission != NULL) {
        weir_admission_slot(admission, shard->first_slot, &values, &count);
    }
    return count;
}

static weir_err_t declare_tensors(shard_t *shard, weir_error_t *error) {
    static const char *const names[] = {"keys", "last_step", "count", "slot_offsets"};
    weir_err_t err = WEIR_OK;
    for (size_t i = 0; i < 4 && err == WEIR_OK; i++) {
        uint64_t count = i == 3 ? (uint64_t)shard->slots + 1 : shard->rows;
        err = weir_tensor_writer_declare(shard->writer, names[i], WEIR_DTYPE_U64, 1, &count, error);
    }
    const uint64_t removed = shard->removed_count;
    if (err == WEIR_OK && shard->base != 0) {
        err = weir_tensor_writer_declare(shard->writer, "removed", WEIR_DTYPE_U64, 1, &removed,
                                         error);
    }
    if (err == WEIR_OK) {
        err = for_each_field(shard, declare_field, error);
    }
    const uint64_t shape[2] = {shard->slots, admission_counters(shard)};
    if (err == WEIR_OK && shape[1] > 0) {
        err =
            weir_tensor_writer_declare(shard->writer, "admission", WEIR_DTYPE_U16, 2, shape, error);
    }
    if (err == WEIR_OK) {
        err = weir_tensor_writer_blocks(shard->writer, error);
    }
    return err == WEIR_OK ? weir_tensor_writer_begin(shard->writer, error) : err;
}

static weir_err_t flush_piece(shard_t *shard, weir_error_t *error) {
    size_t filled = shard->filled;
    shard->filled = 0;
    return filled == 0 ? WEIR_OK
                       : weir_tensor_writer_append(shard->writer, shard->piece, filled, error);
}

static const void *source_of(const pass_t *pass, const weir_table_row_t *row) {
    uint32_t value_bytes = pass->shard->layout->value_bytes;
    switch (pass->part) {
    case PART_KEY:
        return &row->key;
    case PART_LAST_STEP:
        return &row->last_step;
    case PART_COUNT:
        return &row->count;
    case PART_FIELD:
        break;
    }
    return pass->field->offset < value_bytes
               ? (const char *)row->value + pass->field->offset
               : (const char *)row->rest + (pass->field->offset - value_bytes);
}

static weir_err_t add_rows(void *argument, const weir_table_row_t *rows, size_t count,
                           weir_error_t *error) {
    const pass_t *pass = argument;
    shard_t *shard = pass->shard;
    for (size_t i = 0; i < count; i++) {
        if (!is_saved(shard, &rows[i])) {
            continue;
        }
        const void *source = source_of(pass, &rows[i]);
        if (shard->filled + pass->width > shard->piece_bytes) {
            weir_err_t err = flush_piece(shard, error);
            if (err != WEIR_OK) {
                return err;
            }
        }
        memcpy(shard->piece + shard->filled, source, pass->width);
        shard->filled += pass->width;
    }
    return WEIR_OK;
}

static weir_err_t write_part(shard_t *shard, part_t part, const weir_row_field_t *field,
                             weir_error_t *error) {
    pass_t pass = {.shard = shard, .part = part, .field = field, .width = sizeof(uint64_t)};
    if (field != NULL) {
        pass.width = field->width * weir_dtype_size(field->dtype);
    }
    weir_err_t err = weir_table_scan(shard->table, shard->step + 1, add_rows, &pass, error);
    return err == WEIR_OK ? flush_piece(shard, error) : err;
}

static weir_err_t write_field(shard_t *shard, const weir_row_field_t *field, weir_error_t *error) {
    return write_part(shard, PART_FIELD, field, error);
}

static weir_err_t write_admission(shard_t *shard, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    if (admission_counters(shard) == 0) {
        return WEIR_OK;
    }
    for (weir_slot_t slot = 0; slot < shard->slots && err == WEIR_OK; slot++) {
        const uint16_t *values;
        size_t count;
        weir_admission_slot(weir_table_admission(shard->table), shard->first_slot + slot, &values,
                            &count);
        err = weir_tensor_writer_append(shard->writer, values, count * sizeof *values, error);
    }
    return err;
}

static weir_err_t write_tensors(shard_t *shard, weir_error_t *error) {
    weir_err_t err = write_part(shard, PART_KEY, NULL, error);
    if (err == WEIR_OK) {
        err = write_part(shard, PART_LAST_STEP, NULL, error);
    }
    if (err == WEIR_OK) {
        err = write_part(shard, PART_COUNT, NULL, error);
    }
    if (err == WEIR_OK) {
        err = weir_tensor_writer_append(shard->writer, shard->slot_offsets,
                                        ((size_t)shard->slots + 1) * sizeof *shard->slot_offsets,
                                        error);
    }
    if (err == WEIR_OK && shard->removed_count > 0) {
        err = weir_tensor_writer_append(shard->writer, shard->removed,
                                        shard->removed_count * sizeof *shard->removed, error);
    }
    if (err == WEIR_OK) {
        err = for_each_field(shard, write_field, error);
    }
    return err == WEIR_OK ? write_admission(shard, error) : err;
}

weir_err_t weir_snapshot_write(weir_table_t *table, uint32_t index, uint32_t ps, uint64_t step,
                               const char *folder, weir_checkpoint_file_t *file,
                               weir_error_t *error) {
    return weir_snapshot_write_since(table, index, ps, 0, step, folder, file, error);
}

/* Open the file and write it, of a shard that knows what is in it. */
static weir_err_t write_shard(shard_t *shard, const char *path, weir_checkpoint_file_t *file,
                              weir_error_t *error) {
    weir_err_t err = measure_rows(shard, error);
    if (err == WEIR_OK) {
        err = weir_tensor_writer_create(path, &shard->writer, error);
    }
    if (err == WEIR_OK) {
        err = write_metadata(shard, error);
    }
    if (err == WEIR_OK) {
        err = declare_tensors(shard, error);
    }
    if (err == WEIR_OK) {
        err = write_tensors(shard, error);
    }
    return err == WEIR_OK
               ? weir_tensor_writer_commit(shard->writer, &file->checksum, &file->size, error)
               : err;
}

weir_err_t weir_snapshot_write_since(weir_table_t *table, uint32_t index, uint32_t ps,
                                     uint64_t base, uint64_t step, const char *folder,
                                     weir_checkpoint_file_t *file, weir_error_t *error) {
    if (ps < 1 || ps > WEIR_SLOT_COUNT || index >= ps) {
        return weir_errorf(error, WEIR_ERR_INVALID, "there is no server %u of %u", index, ps);
    }
    weir_slot_t first = weir_slot_first(index, ps);
    shard_t shard = {.table = table,
                     .layout = weir_table_layout(table),
                     .step = step,
                     .first_slot = first,
                     .slots = weir_slot_first(index + 1, ps) - first};
    weir_checkpoint_file_t made = {.blocks = true};
    char path[WEIR_PATH_MAX];
    weir_snapshot_name(weir_table_schema(table)->name, index, ps, made.name);
    weir_err_t err = weir_path_join(path, sizeof path, folder, made.name, error);
    if (err != WEIR_OK) {
        return err;
    }
    size_t widest = shard.layout->record_bytes;
    shard.piece_bytes = widest > PIECE_BYTES ? widest : PIECE_BYTES;
    shard.piece = malloc(shard.piece_bytes);
    if (shard.piece == NULL) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "out of memory to write a table");
        goto out;
    }
    if (base != 0 && base < step &&
        weir_table_removed_since(table, base, &shard.removed, &shard.removed_count)) {
        shard.base = made.base = base;
    }
    err = write_shard(&shard, path, &made, error);
    if (err == WEIR_OK) {
        *file = made;
    }
out:
    weir_tensor_writer_destroy(shard.writer);
    free(shard.piece);
    free(shard.removed);
    free(shard.slot_offsets);
    return err;
}
