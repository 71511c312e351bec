#include "ps/snapshot_file.h"

#include "common/file.h"
#include "common/tensor_blocks.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void weir_snapshot_name(const char *table, uint32_t index, uint32_t ps,
                        char name[WEIR_CHECKPOINT_NAME_MAX]) {
    (void)snprintf(name, WEIR_CHECKPOINT_NAME_MAX, "%.31s.ps-%04u-of-%04u.safetensors", table,
                   index, ps);
}

bool weir_snapshot_parse_name(const char *table, const char *name, uint32_t *index, uint32_t *ps) {
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

/* A number that must be there. */
static weir_err_t get_number(const weir_tensor_file_t *file, const char *key, uint64_t *number,
                             weir_error_t *error) {
    return parse_number(weir_tensor_file_metadata(file, key), number)
               ? WEIR_OK
               : weir_errorf(error, WEIR_ERR_CORRUPT, "metadata %s is missing or not a number",
                             key);
}

static weir_err_t require_number(const weir_tensor_file_t *file, const char *key, uint64_t expected,
                                 weir_error_t *error) {
    uint64_t number;
    weir_err_t err = get_number(file, key, &number, error);
    if (err == WEIR_OK && number != expected) {
        err = weir_errorf(error, WEIR_ERR_INVALID,
                          "%s of the saved table is %llu, but %llu is expected", key,
                          (unsigned long long)number, (unsigned long long)expected);
    }
    return err;
}

/* kind and base_step fit each other; a file of format 1 has neither, nor a ttl. */
static weir_err_t read_kind(weir_snapshot_file_t *file, weir_error_t *error) {
    const char *kind = weir_tensor_file_metadata(file->file, "kind");
    if (kind == NULL) {
        return WEIR_OK;
    }
    weir_err_t err = get_number(file->file, "ttl", &file->ttl, error);
    if (err != WEIR_OK || strcmp(kind, "full") == 0) {
        return err;
    }
    if (strcmp(kind, "delta") != 0) {
        char printable[64];
        weir_file_printable(kind, printable, sizeof printable);
        return weir_errorf(error, WEIR_ERR_CORRUPT, "it is neither full nor delta, but %s",
                           printable);
    }
    err = get_number(file->file, "base_step", &file->base, error);
    if (err == WEIR_OK && (file->base == 0 || file->base >= file->step)) {
        err = weir_errorf(error, WEIR_ERR_CORRUPT, "step %llu cannot build on step %llu",
                          (unsigned long long)file->step, (unsigned long long)file->base);
    }
    return err;
}

static weir_err_t read_metadata(weir_snapshot_file_t *file, weir_error_t *error) {
    weir_err_t err = require_number(file->file, "first_slot", file->first_slot, error);
    if (err == WEIR_OK) {
        err = require_number(file->file, "slots", file->slots, error);
    }
    if (err == WEIR_OK) {
        err = get_number(file->file, "step", &file->step, error);
    }
    return err == WEIR_OK ? read_kind(file, error) : err;
}

static weir_err_t require_u64(const weir_snapshot_file_t *file, const char *name, uint64_t count,
                              const uint64_t **values, uint64_t *found, weir_error_t *error) {
    const weir_tensor_t *tensor;
    weir_err_t err =
        weir_tensor_file_require(file->file, name, WEIR_DTYPE_U64, 1, &count, &tensor, error);
    if (err == WEIR_OK) {
        *values = tensor->values;
        if (found != NULL) {
            *found = tensor->shape[0];
        }
    }
    return err;
}

static weir_err_t find_rows(weir_snapshot_file_t *file, weir_error_t *error) {
    weir_err_t err = require_u64(file, "keys", UINT64_MAX, &file->keys, &file->rows, error);
    if (err == WEIR_OK) {
        err = require_u64(file, "last_step", file->rows, &file->last_steps, NULL, error);
    }
    if (err == WEIR_OK) {
        err = require_u64(file, "count", file->rows, &file->counts, NULL, error);
    }
    if (err == WEIR_OK) {
        err = require_u64(file, "slot_offsets", (uint64_t)file->slots + 1, &file->slot_offsets,
                          NULL, error);
    }
    if (err == WEIR_OK && file->base != 0) {
        err = require_u64(file, "removed", UINT64_MAX, &file->removed, &file->removed_count, error);
    }
    return err;
}

/* All of them: they are found by halving, which in a list that is out of order would miss some. */
static weir_err_t check_removed(const weir_snapshot_file_t *file, weir_error_t *error) {
    uint64_t previous = 0;
    for (uint64_t i = 0; i < file->removed_count; i++) {
        uint64_t hash = weir_hash64(file->removed[i]);
        weir_slot_t slot = weir_slot_of_hash(hash);
        if (slot < file->first_slot || slot - file->first_slot >= file->slots ||
            (i > 0 && hash <= previous)) {
            return weir_errorf(error, WEIR_ERR_CORRUPT, "removed key %llu is out of its place",
                               (unsigned long long)i);
        }
        previous = hash;
    }
    return WEIR_OK;
}

static weir_err_t find_admission(weir_snapshot_file_t *file, weir_error_t *error) {
    const weir_tensor_t *tensor;
    const uint64_t shape[2] = {file->slots, UINT64_MAX};
    if (weir_tensor_file_find(file->file, "admission") == NULL) {
        return WEIR_OK;
    }
    weir_err_t err =
        weir_tensor_file_require(file->file, "admission", WEIR_DTYPE_U16, 2, shape, &tensor, error);
    if (err == WEIR_OK) {
        file->admission = tensor->values;
        file->counters = tensor->shape[1];
    }
    return err;
}

/* The columns of the record: every tensor of rows that is none of the above. */
static weir_err_t find_columns(weir_snapshot_file_t *file, weir_error_t *error) {
    file->row_bytes = 3 * sizeof(uint64_t);
    for (size_t i = 0; i < weir_tensor_file_count(file->file); i++) {
        const weir_tensor_t *tensor = weir_tensor_file_at(file->file, i);
        if (tensor->rank != 2 || strcmp(tensor->name, "admission") == 0) {
            continue;
        }
        if (file->column_count == WEIR_ROW_MAX_FIELDS || tensor->shape[1] == 0 ||
            tensor->shape[1] > UINT32_MAX) {
            return weir_errorf(error, WEIR_ERR_CORRUPT, "tensor %.64s is no column of a table",
                               tensor->name);
        }
        const uint64_t shape[2] = {file->rows, tensor->shape[1]};
        weir_err_t err = weir_tensor_file_require(file->file, tensor->name, tensor->dtype, 2, shape,
                                                  &tensor, error);
        if (err != WEIR_OK) {
            return err;
        }
        weir_snapshot_column_t *column = &file->columns[file->column_count++];
        *column =
            (weir_snapshot_column_t){.name = tensor->name,
                                     .dtype = tensor->dtype,
                                     .width = tensor->shape[1],
                                     .bytes = tensor->shape[1] * weir_dtype_size(tensor->dtype),
                                     .values = tensor->values};
        file->row_bytes += column->bytes;
    }
    return WEIR_OK;
}

static weir_err_t check_offsets(const weir_snapshot_file_t *file, weir_error_t *error) {
    bool rising = file->slot_offsets[0] == 0 && file->slot_offsets[file->slots] == file->rows;
    for (size_t slot = 0; slot < file->slots; slot++) {
        rising = rising && file->slot_offsets[slot] <= file->slot_offsets[slot + 1];
    }
    return rising ? WEIR_OK
                  : weir_errorf(error, WEIR_ERR_CORRUPT,
                                "slot_offsets do not rise from 0 to %llu rows",
                                (unsigned long long)file->rows);
}

/* Everything, of a file that is open as a container. Takes `tensors` in any case. */
static weir_err_t read_shard(weir_tensor_file_t *tensors, uint32_t index, uint32_t shards,
                             weir_snapshot_file_t *file, weir_error_t *error) {
    weir_slot_t first = weir_slot_first(index, shards);
    weir_snapshot_file_t made = {
        .file = tensors, .first_slot = first, .slots = weir_slot_first(index + 1, shards) - first};
    weir_err_t err = read_metadata(&made, error);
    if (err == WEIR_OK) {
        err = find_rows(&made, error);
    }
    if (err == WEIR_OK) {
        err = find_admission(&made, error);
    }
    if (err == WEIR_OK) {
        err = find_columns(&made, error);
    }
    if (err == WEIR_OK) {
        err = check_offsets(&made, error);
    }
    if (err == WEIR_OK) {
        err = check_removed(&made, error);
    }
    if (err != WEIR_OK) {
        weir_error_prefix(error, "%s", weir_tensor_file_path(tensors));
        weir_tensor_file_close(tensors);
        return err;
    }
    *file = made;
    return WEIR_OK;
}

weir_err_t weir_snapshot_file_open(const char *path, uint32_t index, uint32_t shards,
                                   weir_snapshot_file_t *file, weir_error_t *error) {
    weir_tensor_file_t *tensors = NULL;
    weir_err_t err = weir_tensor_file_open(path, &tensors, error);
    return err == WEIR_OK ? read_shard(tensors, index, shards, file, error) : err;
}

weir_err_t weir_snapshot_file_open_memory(const void *bytes, size_t size, uint32_t index,
                                          uint32_t shards, weir_snapshot_file_t *file,
                                          weir_error_t *error) {
    weir_tensor_file_t *tensors = NULL;
    weir_err_t err = weir_tensor_file_open_memory(bytes, size, "memory", &tensors, error);
    return err == WEIR_OK ? read_shard(tensors, index, shards, file, error) : err;
}

void weir_snapshot_file_close(weir_snapshot_file_t *file) {
    weir_tensor_file_close(file->file);
    *file = (weir_snapshot_file_t){.file = NULL};
}

/* The first removed key whose slot is not before `slot`. */
static uint64_t find_removed(const weir_snapshot_file_t *file, weir_slot_t slot) {
    uint64_t low = 0, high = file->removed_count;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (weir_slot_of_hash(weir_hash64(file->removed[middle])) < slot) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

void weir_snapshot_file_slot(const weir_snapshot_file_t *file, weir_slot_t slot, uint64_t *begin,
                             uint64_t *end, uint64_t *gone, uint64_t *gone_end) {
    *begin = file->slot_offsets[slot - file->first_slot];
    *end = file->slot_offsets[slot - file->first_slot + 1];
    *gone = find_removed(file, slot);
    *gone_end = slot + 1 == file->first_slot + file->slots ? file->removed_count
                                                           : find_removed(file, slot + 1);
}

/* Keys [begin, end), in the slot and in order. */
static weir_err_t check_keys(const uint64_t *keys, uint64_t begin, uint64_t end, weir_slot_t slot,
                             weir_error_t *error) {
    uint64_t previous = 0;
    for (uint64_t i = begin; i < end; i++) {
        uint64_t hash = weir_hash64(keys[i]);
        if (weir_slot_of_hash(hash) != slot || (i > begin && hash <= previous)) {
            return weir_errorf(error, WEIR_ERR_CORRUPT, "row %llu is out of its place",
                               (unsigned long long)i);
        }
        previous = hash;
    }
    return WEIR_OK;
}

static weir_err_t check_steps(const weir_snapshot_file_t *file, uint64_t row, weir_error_t *error) {
    uint64_t last_step = file->last_steps[row];
    if (last_step > file->step) {
        return weir_errorf(error, WEIR_ERR_CORRUPT,
                           "row %llu was last updated in step %llu, after the checkpoint",
                           (unsigned long long)row, (unsigned long long)last_step);
    }
    if (file->base != 0 && last_step != 0 && last_step <= file->base) {
        return weir_errorf(error, WEIR_ERR_CORRUPT,
                           "row %llu of a delta was last updated in step %llu, before its base",
                           (unsigned long long)row, (unsigned long long)last_step);
    }
    return WEIR_OK;
}

weir_err_t weir_snapshot_file_check_slot(const weir_snapshot_file_t *file, weir_slot_t slot,
                                         weir_error_t *error) {
    uint64_t begin, end, gone, gone_end;
    weir_snapshot_file_slot(file, slot, &begin, &end, &gone, &gone_end);
    weir_err_t err = check_keys(file->keys, begin, end, slot, error);
    for (uint64_t row = begin; row < end && err == WEIR_OK; row++) {
        uint64_t hash = weir_hash64(file->keys[row]);
        while (gone < gone_end && weir_hash64(file->removed[gone]) < hash) {
            gone++;
        }
        err = gone < gone_end && file->removed[gone] == file->keys[row]
                  ? weir_errorf(error, WEIR_ERR_CORRUPT, "row %llu was removed too",
                                (unsigned long long)row)
                  : check_steps(file, row, error);
    }
    if (err != WEIR_OK) {
        weir_error_prefix(error, "%s", weir_tensor_file_path(file->file));
    }
    return err;
}
