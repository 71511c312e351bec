#include "ps/snapshot.h"

#include "common/file.h"
#include "common/tensor_blocks.h"
#include "common/tensor_file.h"
#include "ps/precision.h"
#include "ps/table_cut.h"
#include "ps/table_removed.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ROWS_AT_ONCE = 64,   /* rows whose columns are copied while they lie in the cache */
    ROWS_OF_NEXT = 6144, /* about as many as a cut gives at once */
    BLOCKS_BEHIND = 24, /* blocks in memory while another thread writes, or more if rows are wide */
    SLOTS_AT_ONCE = 64, /* of admission's counters */
    COLUMNS = 3 + WEIR_ROW_MAX_FIELDS
};

/* What a snapshot does next. */
typedef enum { CUT, COUNTING, ADMISSION, ROWS, COMMITTING, WRITTEN } phase_t;

/* A column of the file: a part of each row. */
typedef struct {
    enum { OF_ROW, OF_VALUE, OF_REST } where;
    size_t offset, bytes; /* of it there */
    size_t tensor;        /* by its number in the file */
} column_t;

struct weir_snapshot {
    weir_table_t *table;
    const weir_row_layout_t *layout;
    weir_table_cut_t *cut; /* until all rows have been copied */
    uint32_t index, ps;
    uint64_t step, base; /* base 0: all rows */
    weir_slot_t first_slot, slots;
    phase_t phase;
    char path[WEIR_PATH_MAX];
    weir_checkpoint_file_t file;
    weir_background_t *background; /* not owned; NULL: the caller's thread writes */

    size_t rows;
    bool counted; /* there is a pass that counts them; else the pass that writes them does, too */
    uint64_t *slot_offsets; /* slots + 1 */
    weir_key_t *removed;    /* since base; owned */
    size_t removed_count;
    weir_slot_t admission_done;

    weir_tensor_writer_t *writer;
    column_t columns[COLUMNS];
    size_t column_count, row_bytes; /* of all columns */
    size_t tensors;                 /* declared */
    size_t offsets_tensor, removed_tensor, admission_tensor;
    char *scratch; /* ROWS_AT_ONCE of the widest column */

    weir_background_task_t commit;
    atomic_bool committed;
    weir_error_t failure; /* of commit */
};

/* Rows that a delta holds: used since its base, or never updated, which has no step. */
static bool is_saved(const weir_snapshot_t *snapshot, const weir_table_row_t *row) {
    return row->last_step > snapshot->base || row->last_step == 0;
}

/* ---- the cut ---- */

weir_err_t weir_snapshot_begin(weir_table_t *table, uint32_t index, uint32_t ps, uint64_t step,
                               weir_snapshot_t **snapshot, weir_error_t *error) {
    if (ps < 1 || ps > WEIR_SLOT_COUNT || index >= ps) {
        return weir_errorf(error, WEIR_ERR_INVALID, "there is no server %u of %u", index, ps);
    }
    weir_slot_t first = weir_slot_first(index, ps);
    weir_snapshot_t *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory to write a table");
    }
    made->table = table;
    made->layout = weir_table_layout(table);
    made->index = index;
    made->ps = ps;
    made->step = step;
    made->first_slot = first;
    made->slots = weir_slot_first(index + 1, ps) - first;
    weir_err_t err = weir_table_cut_begin(table, step, &made->cut, error);
    if (err != WEIR_OK) {
        weir_snapshot_destroy(made);
        return err;
    }
    *snapshot = made;
    return WEIR_OK;
}

weir_err_t weir_snapshot_open(weir_snapshot_t *snapshot, uint64_t base, const char *folder,
                              weir_background_t *background, weir_error_t *error) {
    snapshot->background = background;
    snapshot->file = (weir_checkpoint_file_t){.blocks = true};
    weir_snapshot_name(weir_table_schema(snapshot->table)->name, snapshot->index, snapshot->ps,
                       snapshot->file.name);
    weir_err_t err =
        weir_path_join(snapshot->path, sizeof snapshot->path, folder, snapshot->file.name, error);
    if (err != WEIR_OK) {
        return err;
    }
    snapshot->slot_offsets = calloc((size_t)snapshot->slots + 1, sizeof *snapshot->slot_offsets);
    if (snapshot->slot_offsets == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory to write a table");
    }
    if (base != 0 && base < snapshot->step &&
        weir_table_removed_since(snapshot->table, base, &snapshot->removed,
                                 &snapshot->removed_count)) {
        snapshot->base = snapshot->file.base = base;
        weir_table_cut_since(snapshot->cut, base);
    }
    uint64_t rows = 0;
    snapshot->phase = COUNTING;
    snapshot->counted = snapshot->base != 0 || !weir_table_cut_count(snapshot->cut, &rows);
    snapshot->rows = (size_t)rows;
    if (!snapshot->counted) {
        return WEIR_OK;
    }
    snapshot->rows = 0;
    return weir_table_cut_pass(snapshot->cut, false, error);
}

/* ---- the header ---- */

static weir_err_t count_rows(weir_snapshot_t *snapshot, const weir_table_row_t *rows, size_t count,
                             weir_error_t *error) {
    for (size_t i = 0; i < count; i++) {
        if (!is_saved(snapshot, &rows[i])) {
            continue;
        }
        weir_slot_t slot = weir_slot_of_hash(weir_hash64(rows[i].key));
        if (slot < snapshot->first_slot || slot - snapshot->first_slot >= snapshot->slots) {
            return weir_errorf(error, WEIR_ERR_INVALID,
                               "the table holds key %llu of slot %u, but this shard is of %u to %u",
                               (unsigned long long)rows[i].key, slot, snapshot->first_slot,
                               snapshot->first_slot + snapshot->slots - 1);
        }
        snapshot->slot_offsets[slot - snapshot->first_slot + 1]++;
    }
    return WEIR_OK;
}

/* Where each slot begins, from how many each has; they must be as many as were declared. */
static weir_err_t write_offsets(weir_snapshot_t *snapshot, weir_error_t *error) {
    for (size_t slot = 0; slot < snapshot->slots; slot++) {
        snapshot->slot_offsets[slot + 1] += snapshot->slot_offsets[slot];
    }
    if (snapshot->slot_offsets[snapshot->slots] != snapshot->rows) {
        return weir_errorf(error, WEIR_ERR_INVALID, "table %s has %llu rows, but gave %llu",
                           weir_table_schema(snapshot->table)->name,
                           (unsigned long long)snapshot->rows,
                           (unsigned long long)snapshot->slot_offsets[snapshot->slots]);
    }
    return weir_tensor_writer_fill(snapshot->writer, snapshot->offsets_tensor,
                                   snapshot->slot_offsets,
                                   ((size_t)snapshot->slots + 1) * sizeof(uint64_t), error);
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

static weir_err_t write_metadata(const weir_snapshot_t *snapshot, weir_error_t *error) {
    const weir_row_schema_t *schema = weir_table_schema(snapshot->table);
    weir_tensor_writer_t *writer = snapshot->writer;
    char segments[WEIR_SNAPSHOT_SCHEMA_MAX];
    weir_snapshot_schema(schema, segments, sizeof segments);
    weir_err_t err = weir_tensor_writer_metadata(writer, "table", schema->name, error);
    if (err == WEIR_OK) {
        err = put_number(writer, "dim", snapshot->layout->dim, error);
    }
    if (err == WEIR_OK) {
        err = weir_tensor_writer_metadata(
            writer, "optimizer", weir_optimizer_name(schema->segments[0].optimizer.kind), error);
    }
    if (err == WEIR_OK) {
        err = weir_tensor_writer_metadata(writer, "schema", segments, error);
    }
    if (err == WEIR_OK) {
        err = put_number(writer, "first_slot", snapshot->first_slot, error);
    }
    if (err == WEIR_OK) {
        err = put_number(writer, "slots", snapshot->slots, error);
    }
    if (err == WEIR_OK) {
        err = put_number(writer, "step", snapshot->step, error);
    }
    if (err == WEIR_OK) {
        err = put_number(writer, "ttl", weir_table_ttl(snapshot->table), error);
    }
    if (err == WEIR_OK) {
        err = weir_tensor_writer_metadata(writer, "kind", snapshot->base == 0 ? "full" : "delta",
                                          error);
    }
    return err == WEIR_OK && snapshot->base != 0
               ? put_number(writer, "base_step", snapshot->base, error)
               : err;
}

static weir_err_t declare(weir_snapshot_t *snapshot, const char *name, weir_dtype_t dtype,
                          uint64_t rows, uint64_t width, size_t *tensor, weir_error_t *error) {
    const uint64_t shape[2] = {rows, width};
    *tensor = snapshot->tensors++;
    return weir_tensor_writer_declare(snapshot->writer, name, dtype, width == 0 ? 1 : 2, shape,
                                      error);
}

static weir_err_t declare_column(weir_snapshot_t *snapshot, const char *name, weir_dtype_t dtype,
                                 uint64_t width, column_t column, weir_error_t *error) {
    weir_err_t err = declare(snapshot, name, dtype, snapshot->rows, width, &column.tensor, error);
    snapshot->columns[snapshot->column_count++] = column;
    snapshot->row_bytes += column.bytes;
    return err;
}

static weir_err_t declare_numbers(weir_snapshot_t *snapshot, weir_error_t *error) {
    static const struct {
        const char *name;
        size_t offset;
    } numbers[] = {{"keys", offsetof(weir_table_row_t, key)},
                   {"last_step", offsetof(weir_table_row_t, last_step)},
                   {"count", offsetof(weir_table_row_t, count)}};
    weir_err_t err = WEIR_OK;
    for (size_t i = 0; i < 3 && err == WEIR_OK; i++) {
        column_t column = {.where = OF_ROW, .offset = numbers[i].offset, .bytes = sizeof(uint64_t)};
        err = declare_column(snapshot, numbers[i].name, WEIR_DTYPE_U64, 0, column, error);
    }
    return err;
}

/* Fields by the size of their elements, the largest first: all then lie aligned. */
static weir_err_t declare_fields(weir_snapshot_t *snapshot, weir_error_t *error) {
    const weir_row_layout_t *layout = snapshot->layout;
    weir_err_t err = WEIR_OK;
    for (size_t size = 8; size > 0; size /= 2) {
        for (uint32_t f = 0; f < layout->field_count && err == WEIR_OK; f++) {
            const weir_row_field_t *field = &layout->fields[f];
            bool rest = field->offset >= layout->value_bytes;
            column_t column = {.where = rest ? OF_REST : OF_VALUE,
                               .offset = field->offset - (rest ? layout->value_bytes : 0),
                               .bytes = field->width * weir_dtype_size(field->dtype)};
            if (weir_dtype_size(field->dtype) == size) {
                err = declare_column(snapshot, field->name, field->dtype, field->width, column,
                                     error);
            }
        }
    }
    return err;
}

/* The counters of a slot of the table's admission; 0: it has none. */
static uint64_t admission_counters(const weir_snapshot_t *snapshot) {
    const weir_admission_t *admission = weir_table_admission(snapshot->table);
    return admission == NULL ? 0 : weir_admission_counters(admission);
}

static weir_err_t declare_tensors(weir_snapshot_t *snapshot, weir_error_t *error) {
    weir_err_t err = declare_numbers(snapshot, error);
    if (err == WEIR_OK) {
        err = declare(snapshot, "slot_offsets", WEIR_DTYPE_U64, (uint64_t)snapshot->slots + 1, 0,
                      &snapshot->offsets_tensor, error);
    }
    if (err == WEIR_OK && snapshot->base != 0) {
        err = declare(snapshot, "removed", WEIR_DTYPE_U64, snapshot->removed_count, 0,
                      &snapshot->removed_tensor, error);
    }
    if (err == WEIR_OK) {
        err = declare_fields(snapshot, error);
    }
    if (err == WEIR_OK && admission_counters(snapshot) > 0) {
        err = declare(snapshot, "admission", WEIR_DTYPE_U16, snapshot->slots,
                      admission_counters(snapshot), &snapshot->admission_tensor, error);
    }
    if (err == WEIR_OK) {
        err = weir_tensor_writer_blocks(snapshot->writer, error);
    }
    return err == WEIR_OK ? weir_tensor_writer_begin(snapshot->writer, error) : err;
}

/* Blocks that the rows given next, or some slots of admission, may fill. */
static size_t blocks_at_once(const weir_snapshot_t *snapshot) {
    uint64_t rows = (uint64_t)ROWS_OF_NEXT * snapshot->row_bytes;
    uint64_t slots = SLOTS_AT_ONCE * admission_counters(snapshot) * sizeof(uint16_t);
    return snapshot->tensors + (size_t)((rows > slots ? rows : slots) / WEIR_TENSOR_BLOCK_BYTES) +
           1;
}

/* What comes before the rows: how many there are is known now. */
static weir_err_t open_file(weir_snapshot_t *snapshot, weir_error_t *error) {
    for (size_t slot = 0; snapshot->counted && slot < snapshot->slots; slot++) {
        snapshot->rows += snapshot->slot_offsets[slot + 1];
    }
    weir_err_t err = weir_tensor_writer_create(snapshot->path, &snapshot->writer, error);
    if (err == WEIR_OK) {
        err = write_metadata(snapshot, error);
    }
    if (err == WEIR_OK) {
        err = declare_tensors(snapshot, error);
    }
    if (err == WEIR_OK) {
        snapshot->scratch = malloc(ROWS_AT_ONCE * snapshot->row_bytes);
        if (snapshot->scratch == NULL) {
            err = weir_errorf(error, WEIR_ERR_MEMORY, "out of memory to write a table");
        }
    }
    if (err == WEIR_OK && snapshot->background != NULL) {
        size_t most = 2 * blocks_at_once(snapshot);
        weir_tensor_writer_write_behind(snapshot->writer, snapshot->background,
                                        most > BLOCKS_BEHIND ? most : BLOCKS_BEHIND);
    }
    if (err == WEIR_OK && snapshot->removed_count > 0) {
        err = weir_tensor_writer_fill(snapshot->writer, snapshot->removed_tensor, snapshot->removed,
                                      snapshot->removed_count * sizeof *snapshot->removed, error);
    }
    return err == WEIR_OK ? weir_table_cut_pass(snapshot->cut, true, error) : err;
}

/* ---- what is in it ---- */

static const char *source_of(const column_t *column, const weir_table_row_t *row) {
    const void *start = column->where == OF_ROW     ? (const void *)row
                        : column->where == OF_VALUE ? row->value
                                                    : row->rest;
    return (const char *)start + column->offset;
}

static void prefetch(const weir_snapshot_t *snapshot, const weir_table_row_t *rows, size_t count) {
    const weir_row_layout_t *layout = snapshot->layout;
    for (size_t i = 0; i < count; i++) {
        for (size_t at = 0; at < layout->value_bytes; at += 64) {
            __builtin_prefetch((const char *)rows[i].value + at);
        }
        for (size_t at = 0; at < layout->record_bytes - layout->value_bytes; at += 64) {
            __builtin_prefetch((const char *)rows[i].rest + at);
        }
    }
}

static void copy_column(const column_t *column, const weir_table_row_t *const *rows, size_t count,
                        char *to) {
    if (column->bytes == sizeof(uint64_t)) { /* as most are: not a call for each */
        for (size_t i = 0; i < count; i++) {
            memcpy(to + i * sizeof(uint64_t), source_of(column, rows[i]), sizeof(uint64_t));
        }
        return;
    }
    for (size_t i = 0; i < count; i++) {
        memcpy(to + i * column->bytes, source_of(column, rows[i]), column->bytes);
    }
}

static weir_err_t add_column(weir_snapshot_t *snapshot, const column_t *column,
                             const weir_table_row_t *const *rows, size_t count,
                             weir_error_t *error) {
    size_t bytes = count * column->bytes;
    char *place = weir_tensor_writer_place(snapshot->writer, column->tensor, bytes);
    copy_column(column, rows, count, place != NULL ? place : snapshot->scratch);
    if (place != NULL) {
        weir_tensor_writer_placed(snapshot->writer, column->tensor, bytes);
        return WEIR_OK;
    }
    return weir_tensor_writer_fill(snapshot->writer, column->tensor, snapshot->scratch, bytes,
                                   error);
}

static weir_err_t add_rows(weir_snapshot_t *snapshot, const weir_table_row_t *rows, size_t count,
                           weir_error_t *error) {
    const weir_table_row_t *saved[ROWS_AT_ONCE];
    weir_err_t err = WEIR_OK;
    for (size_t begin = 0; begin < count && err == WEIR_OK; begin += ROWS_AT_ONCE) {
        size_t now = count - begin < ROWS_AT_ONCE ? count - begin : ROWS_AT_ONCE;
        size_t left = count - begin - now, kept = 0;
        prefetch(snapshot, rows + begin + now, left < ROWS_AT_ONCE ? left : ROWS_AT_ONCE);
        for (size_t i = begin; i < begin + now; i++) {
            if (is_saved(snapshot, &rows[i])) {
                saved[kept++] = &rows[i];
            }
        }
        for (size_t c = 0; c < snapshot->column_count && err == WEIR_OK; c++) {
            err = add_column(snapshot, &snapshot->columns[c], saved, kept, error);
        }
    }
    return err;
}

static weir_err_t add_admission(weir_snapshot_t *snapshot, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    for (int i = 0; i < SLOTS_AT_ONCE && snapshot->admission_done < snapshot->slots; i++) {
        const uint16_t *values;
        size_t count;
        weir_admission_slot(weir_table_admission(snapshot->table),
                            snapshot->first_slot + snapshot->admission_done++, &values, &count);
        err = values == NULL ? weir_errorf(error, WEIR_ERR_MEMORY, "out of memory to write a table")
                             : weir_tensor_writer_fill(snapshot->writer, snapshot->admission_tensor,
                                                       values, count * sizeof *values, error);
        if (err != WEIR_OK) {
            return err;
        }
    }
    if (snapshot->admission_done == snapshot->slots) {
        snapshot->phase = ROWS;
    }
    return WEIR_OK;
}

static void run_commit(weir_background_task_t *task) {
    weir_snapshot_t *snapshot =
        (weir_snapshot_t *)(void *)((char *)task - offsetof(weir_snapshot_t, commit));
    (void)!weir_tensor_writer_commit(snapshot->writer, &snapshot->file.checksum,
                                     &snapshot->file.size, &snapshot->failure);
    /* Release: the file is described before the flag is seen. */
    atomic_store_explicit(&snapshot->committed, true, memory_order_release);
}

static void begin_commit(weir_snapshot_t *snapshot) {
    weir_table_cut_end(snapshot->cut);
    snapshot->cut = NULL;
    snapshot->phase = COMMITTING;
    snapshot->commit.run = run_commit;
    if (snapshot->background != NULL) {
        weir_background_give(snapshot->background, &snapshot->commit);
    } else {
        run_commit(&snapshot->commit);
    }
}

/* The next rows of a pass; *count 0: it has ended. */
static weir_err_t advance_pass(weir_snapshot_t *snapshot, size_t *count, weir_error_t *error) {
    const weir_table_row_t *rows;
    weir_err_t err = weir_table_cut_next(snapshot->cut, &rows, count, error);
    if (err != WEIR_OK || *count == 0) {
        return err;
    }
    if (snapshot->phase == COUNTING || !snapshot->counted) {
        err = count_rows(snapshot, rows, *count, error);
    }
    return err == WEIR_OK && snapshot->phase == ROWS ? add_rows(snapshot, rows, *count, error)
                                                     : err;
}

static bool must_wait(const weir_snapshot_t *snapshot) {
    return snapshot->background != NULL &&
           (snapshot->phase == ADMISSION || snapshot->phase == ROWS) &&
           weir_tensor_writer_room(snapshot->writer) < blocks_at_once(snapshot);
}

weir_err_t weir_snapshot_advance(weir_snapshot_t *snapshot, weir_snapshot_state_t *state,
                                 weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    size_t count = 1;
    *state = WEIR_SNAPSHOT_WAITS;
    if (must_wait(snapshot)) {
        return WEIR_OK;
    }
    switch (snapshot->phase) {
    case CUT:
        return WEIR_OK;
    case COUNTING:
        count = 0;
        err = snapshot->counted ? advance_pass(snapshot, &count, error) : WEIR_OK;
        if (err == WEIR_OK && count == 0) {
            err = open_file(snapshot, error);
            snapshot->phase = admission_counters(snapshot) > 0 ? ADMISSION : ROWS;
        }
        break;
    case ADMISSION:
        err = add_admission(snapshot, error);
        break;
    case ROWS:
        err = advance_pass(snapshot, &count, error);
        if (err == WEIR_OK && count == 0) {
            err = write_offsets(snapshot, error);
        }
        if (err == WEIR_OK && count == 0) {
            begin_commit(snapshot);
        }
        break;
    case COMMITTING:
        /* Acquire: pairs with the release in run_commit. */
        if (!atomic_load_explicit(&snapshot->committed, memory_order_acquire)) {
            return WEIR_OK;
        }
        snapshot->phase = WRITTEN;
        break;
    case WRITTEN:
        break;
    }
    if (err == WEIR_OK && snapshot->phase == WRITTEN && snapshot->failure.code != WEIR_OK) {
        err = snapshot->failure.code;
        if (error != NULL) {
            *error = snapshot->failure;
        }
    }
    *state = snapshot->phase == WRITTEN ? WEIR_SNAPSHOT_WRITTEN : WEIR_SNAPSHOT_GOES_ON;
    return err;
}

const weir_checkpoint_file_t *weir_snapshot_file(const weir_snapshot_t *snapshot) {
    return &snapshot->file;
}

uint64_t weir_snapshot_copies(const weir_snapshot_t *snapshot) {
    return snapshot->cut == NULL ? 0 : weir_table_cut_bytes(snapshot->cut);
}

void weir_snapshot_destroy(weir_snapshot_t *snapshot) {
    if (snapshot == NULL) {
        return;
    }
    weir_table_cut_end(snapshot->cut);
    weir_tensor_writer_destroy(snapshot->writer);
    free(snapshot->scratch);
    free(snapshot->removed);
    free(snapshot->slot_offsets);
    free(snapshot);
}

/* ---- at once ---- */

weir_err_t weir_snapshot_write_since(weir_table_t *table, uint32_t index, uint32_t ps,
                                     uint64_t base, uint64_t step, const char *folder,
                                     weir_checkpoint_file_t *file, weir_error_t *error) {
    weir_snapshot_t *snapshot = NULL;
    weir_snapshot_state_t state = WEIR_SNAPSHOT_GOES_ON;
    weir_err_t err = weir_snapshot_begin(table, index, ps, step, &snapshot, error);
    if (err == WEIR_OK) {
        err = weir_snapshot_open(snapshot, base, folder, NULL, error);
    }
    while (err == WEIR_OK && state != WEIR_SNAPSHOT_WRITTEN) {
        err = weir_snapshot_advance(snapshot, &state, error);
    }
    if (err == WEIR_OK) {
        *file = *weir_snapshot_file(snapshot);
    }
    weir_snapshot_destroy(snapshot);
    return err;
}

weir_err_t weir_snapshot_write(weir_table_t *table, uint32_t index, uint32_t ps, uint64_t step,
                               const char *folder, weir_checkpoint_file_t *file,
                               weir_error_t *error) {
    return weir_snapshot_write_since(table, index, ps, 0, step, folder, file, error);
}
