#include "tools/plan_measure.h"

#include "common/clock.h"
#include "common/file.h"
#include "common/hash.h"
#include "common/rng.h"
#include "ps/table.h"
#include "tools/progress.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    BATCH = 4096,
    TABLE_BYTES = 256 << 20,
    FILE_BYTES = 256 << 20,
    PIECE_BYTES = 1 << 20,
    PASSES = 400 /* batches that are timed */
};

typedef struct {
    weir_table_t *table;
    weir_key_t keys[BATCH];
    weir_row_handle_t handles[BATCH];
    void *values;
    float *gradients;
} driver_t;

static weir_err_t begin(driver_t *driver, const weir_row_schema_t *schema, weir_error_t *error) {
    weir_table_options_t options = {.row = *schema};
    weir_err_t err = weir_table_create(&options, &driver->table, error);
    if (err != WEIR_OK) {
        return err;
    }
    const weir_row_layout_t *layout = weir_table_layout(driver->table);
    driver->values = calloc(BATCH, layout->value_bytes);
    driver->gradients = calloc((size_t)BATCH * layout->dim, sizeof *driver->gradients);
    if (driver->values == NULL || driver->gradients == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory to measure");
    }
    return WEIR_OK;
}

static void end(driver_t *driver) {
    weir_table_destroy(driver->table);
    free(driver->values);
    free(driver->gradients);
}

static weir_err_t pull(driver_t *driver, uint64_t step, weir_error_t *error) {
    return weir_table_pull(driver->table, driver->keys, BATCH, step, driver->handles,
                           driver->values, error);
}

static void choose_keys(driver_t *driver, uint32_t turn, uint32_t rows, bool random) {
    weir_rng_key_t key = weir_rng_key(1, WEIR_STREAM_SYNTH);
    for (uint32_t i = 0; i < BATCH; i++) {
        uint32_t at = turn * BATCH + i;
        driver->keys[i] =
            random ? weir_uniform_below(weir_philox(key, turn, i, 0, 0).word[0], rows) : at;
    }
}

static weir_err_t measure_rows(const weir_row_schema_t *schema, weir_plan_constants_t *constants,
                               weir_error_t *error) {
    driver_t *driver = calloc(1, sizeof *driver);
    if (driver == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory to measure");
    }
    uint32_t turns = (uint32_t)(TABLE_BYTES / weir_table_row_bytes(schema)) / BATCH + 1;
    double pulling = 0.0, updating = 0.0;
    weir_err_t err = begin(driver, schema, error);
    for (uint32_t turn = 0; turn < turns && err == WEIR_OK; turn++) {
        choose_keys(driver, turn, 0, false);
        err = pull(driver, 1, error);
    }
    for (uint32_t turn = 0; turn < PASSES && err == WEIR_OK; turn++) {
        choose_keys(driver, turn, turns * BATCH, true);
        double started = weir_clock_seconds();
        err = pull(driver, 2 + turn, error);
        double pulled = weir_clock_seconds();
        (void)weir_table_apply(driver->table, driver->keys, driver->handles, driver->gradients,
                               BATCH, 2 + turn);
        pulling += pulled - started;
        updating += weir_clock_seconds() - pulled;
    }
    if (err == WEIR_OK) {
        constants->pulled_rows = PASSES * (double)BATCH / pulling;
        constants->updated_rows = PASSES * (double)BATCH / updating;
    }
    end(driver);
    free(driver);
    return err;
}

static weir_err_t write_file(int file, const char *path, double *rate, weir_error_t *error) {
    char *piece = malloc(PIECE_BYTES);
    if (piece == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory to measure");
    }
    memset(piece, 0x5A, PIECE_BYTES);
    double started = weir_clock_seconds();
    bool written = true;
    for (size_t i = 0; i < FILE_BYTES / PIECE_BYTES && written; i++) {
        memcpy(piece, &i, sizeof i);
        written = write(file, piece, PIECE_BYTES) == PIECE_BYTES;
    }
    written = written && fsync(file) == 0;
    *rate = FILE_BYTES / (weir_clock_seconds() - started);
    free(piece);
    return written ? WEIR_OK
                   : weir_errorf(error, WEIR_ERR_IO, "cannot write %s: %s", path, strerror(errno));
}

static weir_err_t measure_disk(const char *folder, double *rate, weir_error_t *error) {
    char path[WEIR_PATH_MAX];
    weir_err_t err = weir_path_join(path, sizeof path, folder, "weir-plan-XXXXXX", error);
    if (err != WEIR_OK) {
        return err;
    }
    int file = mkstemp(path);
    if (file < 0) {
        err = weir_errorf(error, WEIR_ERR_IO, "cannot make a file in %s: %s", folder,
                          strerror(errno));
        weir_error_hint(error, "--scratch names a folder where the servers' disk can be measured, "
                               "--disk its rate");
        return err;
    }
    err = write_file(file, path, rate, error);
    (void)close(file);
    (void)unlink(path);
    return err;
}

weir_err_t weir_plan_measure(const weir_row_schema_t *schema, const char *folder,
                             weir_plan_constants_t *constants, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    if (constants->disk == 0.0) {
        err = measure_disk(folder, &constants->disk, error);
    }
    return err == WEIR_OK ? measure_rows(schema, constants, error) : err;
}

/* ---- simulation ---- */

/* Ranks by popularity, by rejection-inversion (Hormann and Derflinger, "Rejection-inversion to
 * generate variates from monotone discrete distributions", 1996). */
typedef struct {
    double n, s, h_first, h_last, shift;
    weir_rng_key_t key;
    uint64_t drawn;
} zipf_t;

static double h_integral(const zipf_t *zipf, double x) {
    double logarithm = log(x), power = (1.0 - zipf->s) * logarithm;
    return (fabs(power) > 1e-8 ? expm1(power) / power : 1.0 + power / 2.0) * logarithm;
}

static double h_inverse(const zipf_t *zipf, double x) {
    double power = x * (1.0 - zipf->s);
    power = power < -1.0 ? -1.0 : power;
    return exp((fabs(power) > 1e-8 ? log1p(power) / power : 1.0 - power / 2.0) * x);
}

static double h(const zipf_t *zipf, double x) {
    return exp(-zipf->s * log(x));
}

static zipf_t make_zipf(double n, double s) {
    zipf_t zipf = {.n = n, .s = s, .key = weir_rng_key(7, WEIR_STREAM_SYNTH)};
    zipf.h_first = h_integral(&zipf, 1.5) - 1.0;
    zipf.h_last = h_integral(&zipf, n + 0.5);
    zipf.shift = 2.0 - h_inverse(&zipf, h_integral(&zipf, 2.5) - h(&zipf, 2.0));
    return zipf;
}

static double uniform_of(zipf_t *zipf) {
    weir_philox_t random =
        weir_philox(zipf->key, (uint32_t)zipf->drawn, (uint32_t)(zipf->drawn >> 32), 0, 0);
    zipf->drawn++;
    return ((double)((uint64_t)random.word[0] << 21 ^ random.word[1] >> 11) + 0.5) * 0x1p-53;
}

static weir_key_t draw_rank(zipf_t *zipf) {
    for (;;) {
        double u = zipf->h_last + uniform_of(zipf) * (zipf->h_first - zipf->h_last);
        double x = h_inverse(zipf, u), k = floor(x + 0.5);
        k = k < 1.0 ? 1.0 : k > zipf->n ? zipf->n : k;
        if (k - x <= zipf->shift || u >= h_integral(zipf, k + 0.5) - h(zipf, k)) {
            return (weir_key_t)k;
        }
    }
}

static double resident_bytes(void) {
    unsigned long long size = 0, resident = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    if (statm == NULL) {
        return 0.0;
    }
    int found = fscanf(statm, "%llu %llu", &size, &resident);
    (void)fclose(statm);
    return found == 2 ? (double)resident * (double)sysconf(_SC_PAGESIZE) : 0.0;
}

weir_err_t weir_plan_simulate(const weir_row_schema_t *schema, double keys, double skew,
                              uint64_t rows, weir_plan_simulation_t *simulation,
                              weir_error_t *error) {
    driver_t *driver = calloc(1, sizeof *driver);
    weir_progress_t progress;
    zipf_t zipf = make_zipf(keys, skew);
    uint64_t draws = 0, held = 0;
    if (driver == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory to simulate");
    }
    double started = weir_clock_seconds();
    weir_err_t err = begin(driver, schema, error);
    double before = resident_bytes();
    weir_progress_begin(&progress, "simulating", "rows", rows);
    for (uint64_t step = 1; held < rows && err == WEIR_OK; step++) {
        for (size_t i = 0; i < BATCH; i++) {
            driver->keys[i] = draw_rank(&zipf);
        }
        err = pull(driver, step, error);
        draws += BATCH;
        held = weir_table_stats(driver->table).rows;
        weir_progress_update(&progress, held, held);
    }
    weir_progress_clear(&progress);
    if (err == WEIR_OK) {
        *simulation =
            (weir_plan_simulation_t){.rows = held,
                                     .draws = draws,
                                     .planned = (double)held * weir_table_row_bytes(schema),
                                     .accounted = (double)weir_table_stats(driver->table).bytes,
                                     .resident = resident_bytes() - before,
                                     .seconds = weir_clock_seconds() - started};
    }
    end(driver);
    free(driver);
    return err;
}
