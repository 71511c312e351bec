#include "tests/unit/reader_cases.h"

#include "common/file.h"
#include "common/hash.h"
#include "ps/snapshot_file.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t unshift(uint64_t x, unsigned by) {
    uint64_t y = x;
    for (unsigned done = by; done < 64; done += by) {
        y = x ^ y >> by;
    }
    return y;
}

/* Inverses of the two odd factors, modulo 2^64, by Newton's iteration. */
static uint64_t inverse(uint64_t odd) {
    uint64_t x = odd;
    for (int i = 0; i < 6; i++) {
        x *= 2 - odd * x;
    }
    return x;
}

uint64_t reader_case_key(uint64_t hash) {
    uint64_t x = unshift(hash, 31) * inverse(0x94D049BB133111EBull);
    x = unshift(x, 27) * inverse(0xBF58476D1CE4E5B9ull);
    return unshift(x, 30) - 0x9E3779B97F4A7C15ull;
}

static int compare_rows(const void *left, const void *right) {
    uint64_t a = weir_hash64(((const reader_case_row_t *)left)->key);
    uint64_t b = weir_hash64(((const reader_case_row_t *)right)->key);
    return (a > b) - (a < b);
}

static int compare_keys(const void *left, const void *right) {
    uint64_t a = weir_hash64(*(const uint64_t *)left), b = weir_hash64(*(const uint64_t *)right);
    return (a > b) - (a < b);
}

static bool in_shard(const reader_case_t *c, uint64_t key, uint32_t shard) {
    return weir_slot_owner(weir_slot_of_hash(weir_hash64(key)), c->shards) == shard;
}

static void put(weir_tensor_writer_t *writer, const char *key, uint64_t number) {
    char text[32];
    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    ck_assert_int_eq(weir_tensor_writer_metadata(writer, key, text, NULL), WEIR_OK);
}

static void declare(weir_tensor_writer_t *writer, const char *name, weir_dtype_t dtype,
                    uint64_t rows, uint64_t width) {
    const uint64_t shape[2] = {rows, width};
    ck_assert_int_eq(
        weir_tensor_writer_declare(writer, name, dtype, width == 0 ? 1 : 2, shape, NULL), WEIR_OK);
}

static void append(weir_tensor_writer_t *writer, const void *bytes, size_t size) {
    ck_assert_int_eq(weir_tensor_writer_append(writer, bytes, size, NULL), WEIR_OK);
}

static void write_shard(const char *folder, const reader_case_t *c, uint32_t shard,
                        weir_checkpoint_file_t *file) {
    char path[WEIR_PATH_MAX];
    weir_tensor_writer_t *writer = NULL;
    weir_slot_t first = weir_slot_first(shard, c->shards),
                end = weir_slot_first(shard + 1, c->shards);
    uint64_t *offsets = calloc(end - first + 1, sizeof *offsets);
    size_t from = 0, rows = 0, removed = 0;
    while (from < c->row_count && !in_shard(c, c->rows[from].key, shard)) {
        from++;
    }
    for (; from + rows < c->row_count && in_shard(c, c->rows[from + rows].key, shard); rows++) {
        offsets[weir_slot_of_hash(weir_hash64(c->rows[from + rows].key)) - first + 1]++;
    }
    for (weir_slot_t slot = first; slot < end; slot++) {
        offsets[slot - first + 1] += offsets[slot - first];
    }
    for (size_t i = 0; i < c->removed_count; i++) {
        removed += in_shard(c, c->removed[i], shard) ? 1 : 0;
    }
    weir_snapshot_name(c->table, shard, c->shards, file->name);
    ck_assert_int_eq(weir_path_join(path, sizeof path, folder, file->name, NULL), WEIR_OK);
    ck_assert_int_eq(weir_tensor_writer_create(path, &writer, NULL), WEIR_OK);
    ck_assert_int_eq(weir_tensor_writer_metadata(writer, "table", c->table, NULL), WEIR_OK);
    ck_assert_int_eq(weir_tensor_writer_metadata(writer, "schema", c->schema, NULL), WEIR_OK);
    ck_assert_int_eq(weir_tensor_writer_metadata(writer, "optimizer", c->optimizer, NULL), WEIR_OK);
    ck_assert_int_eq(
        weir_tensor_writer_metadata(writer, "kind", c->base == 0 ? "full" : "delta", NULL),
        WEIR_OK);
    put(writer, "dim", c->columns[0].width);
    put(writer, "first_slot", first);
    put(writer, "slots", end - first);
    put(writer, "step", c->step);
    put(writer, "ttl", c->ttl);
    if (c->base != 0) {
        put(writer, "base_step", c->base);
    }
    declare(writer, "keys", WEIR_DTYPE_U64, rows, 0);
    declare(writer, "last_step", WEIR_DTYPE_U64, rows, 0);
    declare(writer, "count", WEIR_DTYPE_U64, rows, 0);
    declare(writer, "slot_offsets", WEIR_DTYPE_U64, end - first + 1, 0);
    if (c->base != 0) {
        declare(writer, "removed", WEIR_DTYPE_U64, removed, 0);
    }
    for (uint32_t k = 0; k < c->column_count; k++) {
        declare(writer, c->columns[k].name, c->columns[k].dtype, rows, c->columns[k].width);
    }
    if (!c->without_blocks) {
        ck_assert_int_eq(weir_tensor_writer_blocks(writer, NULL), WEIR_OK);
    }
    ck_assert_int_eq(weir_tensor_writer_begin(writer, NULL), WEIR_OK);
    for (size_t field = 0; field < 3; field++) {
        for (size_t i = from; i < from + rows; i++) {
            const reader_case_row_t *row = &c->rows[i];
            append(writer,
                   field == 0   ? &row->key
                   : field == 1 ? &row->last_step
                                : &row->count,
                   sizeof(uint64_t));
        }
    }
    append(writer, offsets, (end - first + 1) * sizeof *offsets);
    for (size_t i = 0; i < c->removed_count; i++) {
        if (in_shard(c, c->removed[i], shard)) {
            append(writer, &c->removed[i], sizeof c->removed[i]);
        }
    }
    for (uint32_t k = 0; k < c->column_count; k++) {
        size_t bytes = c->columns[k].width * weir_dtype_size(c->columns[k].dtype);
        void *row = calloc(1, bytes);
        for (size_t i = from; i < from + rows; i++) {
            c->fill(c->step, c->rows[i].key, k, row);
            append(writer, row, bytes);
        }
        free(row);
    }
    ck_assert_int_eq(weir_tensor_writer_commit(writer, &file->checksum, &file->size, NULL),
                     WEIR_OK);
    file->blocks = !c->without_blocks;
    file->base = c->base;
    weir_tensor_writer_destroy(writer);
    free(offsets);
}

void reader_case_write(const char *run, reader_case_t *c) {
    static char config[] = "seed: 1\n";
    char folder[WEIR_PATH_MAX];
    weir_error_t error = {0};
    weir_checkpoint_file_t files[8] = {{.size = 0}};
    ck_assert_uint_le(c->shards, 8);
    if (c->row_count > 0) {
        qsort(c->rows, c->row_count, sizeof *c->rows, compare_rows);
    }
    if (c->removed_count > 0) {
        qsort(c->removed, c->removed_count, sizeof *c->removed, compare_keys);
    }
    ck_assert_int_eq(weir_checkpoint_begin(run, c->step, folder, sizeof folder, NULL), WEIR_OK);
    for (uint32_t shard = 0; shard < c->shards; shard++) {
        write_shard(folder, c, shard, &files[shard]);
    }
    weir_manifest_t manifest = {.step = c->step,
                                .version = "0.1.0",
                                .ps = c->shards,
                                .workers = 1,
                                .config_yaml = config,
                                .files = files,
                                .file_count = c->shards};
    ck_assert_msg(weir_checkpoint_publish(run, &manifest, false, &error) == WEIR_OK, "%s",
                  error.message);
}
