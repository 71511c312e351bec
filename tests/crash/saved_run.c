#include "tests/crash/saved_run.h"

#include "common/checkpoint.h"
#include "common/hash.h"
#include "ps/snapshot.h"
#include "ps/table_removed.h"
#include "tests/unit/table_cases.h"
#include "worker/dense_file.h"
#include "worker/encoder.h"

#include <stdlib.h>
#include <string.h>

enum { DIM = 4, SERVERS = 2, READERS = 3 };

static const weir_encoder_config_t model = {.embedding_dim = DIM,
                                            .blocks = 1,
                                            .heads = 1,
                                            .dqk = 2,
                                            .dv = 2,
                                            .max_sequence_length = 3,
                                            .attention_length = 4,
                                            .position_bias = true,
                                            .time_bias = true};

static weir_key_t key_of(size_t i) {
    return i * 0x100000001ull + 5;
}

/* Rows of the slots of server `index` of `ps`, as they are after `last`. */
static weir_table_t *train_table(const saved_run_t *shape, uint32_t index, uint32_t ps,
                                 uint64_t last) {
    weir_table_options_t options = table_case(WEIR_OPTIMIZER_ADAMW, DIM, 0.01, 3);
    weir_table_t *table = table_case_create(&options);
    for (uint64_t step = SAVED_RUN_EVERY; step <= last; step += SAVED_RUN_EVERY) {
        for (size_t i = 0; i < shape->rows; i++) {
            weir_key_t key = key_of(i);
            float gradient[DIM] = {(float)i, (float)step, -0.5F, 1.0F};
            if (weir_slot_owner(weir_slot_of_hash(weir_hash64(key)), ps) == index &&
                (i % 4 != 0 || step == SAVED_RUN_EVERY)) {
                (void)table_case_train(table, key, gradient, step);
            }
        }
        if (step == shape->base) {
            weir_table_mark_removed(table, step);
        }
    }
    return table;
}

/* Tables made so far: each is asked for at every point. */
typedef struct {
    size_t rows;
    uint32_t index, ps;
    uint64_t step, base;
    weir_table_t *table;
} made_t;
static made_t made[128];
static size_t made_count;

static weir_table_t *make_table(const saved_run_t *shape, uint32_t index, uint32_t ps,
                                uint64_t step) {
    for (size_t i = 0; i < made_count; i++) {
        if (made[i].rows == shape->rows && made[i].index == index && made[i].ps == ps &&
            made[i].step == step && made[i].base == shape->base) {
            return made[i].table;
        }
    }
    ck_assert_uint_lt(made_count, sizeof made / sizeof made[0]);
    weir_table_t *table = train_table(shape, index, ps, step);
    made[made_count++] = (made_t){shape->rows, index, ps, step, shape->base, table};
    return table;
}

void saved_run_forget(void) {
    while (made_count > 0) {
        weir_table_destroy(made[--made_count].table);
    }
}

static weir_err_t hash_rows(void *argument, const weir_table_row_t *rows, size_t count,
                            weir_error_t *error) {
    uint64_t *hash = argument;
    (void)error;
    for (size_t i = 0; i < count; i++) {
        uint64_t numbers[3] = {rows[i].key, rows[i].last_step, rows[i].count};
        *hash = weir_checksum(numbers, sizeof numbers, *hash);
        *hash = weir_checksum(rows[i].value, DIM * sizeof(float), *hash);
        *hash = weir_checksum(rows[i].rest, 2 * DIM * sizeof(float), *hash);
    }
    return WEIR_OK;
}

static uint64_t hash_table(weir_table_t *table, uint64_t step) {
    uint64_t hash = 0;
    ck_assert_int_eq(weir_table_scan(table, step + 1, hash_rows, &hash, NULL), WEIR_OK);
    return hash;
}

/* ---- dense ---- */

static void fill_dense(uint64_t step, float *parameters, float *m, float *v, size_t elements) {
    for (size_t i = 0; i < elements; i++) {
        parameters[i] = (float)step + 0.001F * (float)i;
        m[i] = -parameters[i];
        v[i] = 2.0F * parameters[i];
    }
}

static weir_err_t write_dense(const char *folder, uint64_t step, weir_checkpoint_file_t *files,
                              weir_error_t *error) {
    size_t elements = weir_encoder_parameter_elements(&model);
    float *all = calloc(3 * elements, sizeof *all);
    weir_trainer_state_t state = {.step = step, .best_of = "test ndcg@10", .seconds = 1.0};
    fill_dense(step, all, all + elements, all + 2 * elements, elements);
    weir_parameters_t *parameters = weir_encoder_parameters(&model);
    weir_err_t err = weir_dense_file_write(folder, parameters, all, all + elements,
                                           all + 2 * elements, &state, files, error);
    free(parameters);
    free(all);
    return err;
}

static weir_err_t check_dense(const char *folder, uint64_t step, weir_error_t *error) {
    size_t elements = weir_encoder_parameter_elements(&model);
    float *all = calloc(6 * elements, sizeof *all), *wanted = all + 3 * elements;
    weir_trainer_state_t state = {.step = 0};
    weir_parameters_t *parameters = weir_encoder_parameters(&model);
    weir_err_t err = weir_dense_file_load(folder, parameters, all, all + elements,
                                          all + 2 * elements, &state, error);
    free(parameters);
    fill_dense(step, wanted, wanted + elements, wanted + 2 * elements, elements);
    if (err == WEIR_OK &&
        (state.step != step || memcmp(all, wanted, 3 * elements * sizeof *all) != 0)) {
        err = weir_errorf(error, WEIR_ERR_CORRUPT, "dense numbers are not those of step %llu",
                          (unsigned long long)step);
    }
    free(all);
    return err;
}

/* ---- all of it ---- */

weir_err_t saved_run_save(const saved_run_t *shape, const char *run, uint64_t step, bool best,
                          size_t keep, weir_error_t *error) {
    char folder[1024], config[] = "model: {}\n";
    weir_checkpoint_file_t files[SERVERS + WEIR_DENSE_FILES] = {{.size = 0}};
    weir_err_t err = weir_checkpoint_begin(run, step, folder, sizeof folder, error);
    for (uint32_t index = 0; index < SERVERS && err == WEIR_OK; index++) {
        weir_table_t *table = make_table(shape, index, SERVERS, step);
        err = weir_snapshot_write_since(table, index, SERVERS, shape->base, step, folder,
                                        &files[index], error);
        ck_assert(err != WEIR_OK || files[index].base == shape->base);
    }
    if (err == WEIR_OK) {
        err = write_dense(folder, step, &files[SERVERS], error);
    }
    if (err == WEIR_OK) {
        weir_manifest_t manifest = {.step = step,
                                    .job = 1,
                                    .ps = SERVERS,
                                    .workers = 1,
                                    .version = "test",
                                    .config_yaml = config,
                                    .files = files,
                                    .file_count = SERVERS + WEIR_DENSE_FILES};
        err = weir_checkpoint_publish(run, &manifest, best, error);
    }
    return err == WEIR_OK ? weir_checkpoint_prune(run, keep, error) : err;
}

weir_err_t saved_run_check(const saved_run_t *shape, const char *folder, uint64_t *step,
                           weir_error_t *error) {
    const saved_run_t whole = {.rows = shape->rows};
    weir_manifest_t manifest = {.step = 0};
    weir_err_t err = weir_manifest_read(folder, true, &manifest, error);
    *step = manifest.step;
    for (uint32_t index = 0; index < READERS && err == WEIR_OK; index++) {
        weir_table_options_t options = table_case(WEIR_OPTIMIZER_ADAMW, DIM, 0.01, 3);
        weir_table_t *table = table_case_create(&options);
        err = weir_snapshot_load(table, index, READERS, folder, &manifest, error);
        if (err == WEIR_OK) {
            weir_table_t *wanted = make_table(&whole, index, READERS, *step);
            if (hash_table(table, *step) != hash_table(wanted, *step)) {
                err = weir_errorf(error, WEIR_ERR_CORRUPT, "rows are not those of step %llu",
                                  (unsigned long long)*step);
            }
        }
        weir_table_destroy(table);
    }
    if (err == WEIR_OK) {
        err = check_dense(folder, *step, error);
    }
    weir_manifest_fini(&manifest);
    return err;
}
