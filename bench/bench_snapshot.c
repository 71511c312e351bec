/* How fast is a table saved while it serves, and what does a step feel of it?
 *
 *   bench_snapshot FOLDER [ROWS [KEYS]]    default 4,000,000 rows, steps of 8,192 keys
 *
 * Rows of 64 columns with row-wise Adagrad. A server's steps (pull, update, end) begin every PERIOD
 * milliseconds, keys by popularity (Zipf 0.99, half of them) and anywhere (the other half, which
 * touches as many rows as can be); between them it does what weir-ps does, which is to save.
 * In turn, REPEATS times: steps alone; the same beside a save; a save without steps; and the file's
 * bytes written raw, in pieces of a mebibyte, with an fsync, the better of two ways. Verified: the
 * file is, byte for byte, that of a save at once before the same steps; its copies stay within the
 * bound. Added: the 99th percentile of a step's time beside a save over that alone. One JSON line.
 */
#include "bench/measure.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/version.h"
#include "ps/table_saver.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { DIM = 64, REPEATS = 3, MOST_STEPS = 100000, PIECE = 1 << 20, PERIOD_MS = 20 };

static weir_error_t error;

static void check(bool good, const char *what) {
    if (!good) {
        (void)fprintf(stderr, "bench_snapshot: %s %s %s\n", what, error.message, error.hint);
        exit(EXIT_FAILURE);
    }
}

static uint64_t random_state = 88172645463325252u;

static uint64_t draw(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

typedef struct {
    weir_table_t *table;
    weir_table_saver_t *saver;
    size_t rows, keys;
    uint64_t step;
    weir_key_t *batch;
    weir_row_handle_t *handles;
    float *values, *gradients;
    uint64_t *seen; /* by row: the step that named it last */
    double seconds[MOST_STEPS];
    size_t steps;
} bench_t;

/* Rank of a row by popularity, exponent 0.99, by the inverse of the continuous distribution. */
static size_t popular(size_t rows) {
    double u = (double)(draw() >> 11) * 0x1p-53, power = 0.01;
    double most = pow((double)rows + 1.0, power);
    size_t rank = (size_t)(pow(1.0 + u * (most - 1.0), 1.0 / power) - 1.0);
    return rank < rows ? rank : rows - 1;
}

static void draw_batch(bench_t *bench) {
    size_t count = 0;
    uint64_t mark = bench->step + 1;
    while (count < bench->keys) {
        size_t row = count % 2 == 0 ? popular(bench->rows) : draw() % bench->rows;
        if (bench->seen[row] != mark) {
            bench->seen[row] = mark;
            bench->batch[count++] = row * 0x9E3779B97F4A7C15u;
        }
    }
}

static void train(bench_t *bench) {
    uint64_t step = ++bench->step;
    check(weir_table_pull(bench->table, bench->batch, bench->keys, step, bench->handles,
                          bench->values, &error) == WEIR_OK,
          "pull");
    (void)weir_table_apply(bench->table, bench->batch, bench->handles, bench->gradients,
                           bench->keys, step);
    check(weir_table_end_step(bench->table, step, step + 1, &error) == WEIR_OK, "end of a step");
}

static void sleep_until(double until) {
    double left = until - weir_clock_seconds();
    if (left > 0) {
        struct timespec time = {.tv_nsec = (long)(left * 1e9)};
        (void)nanosleep(&time, NULL);
    }
}

/* A piece of the save, as a server does after a frame; false: it is written. */
static bool save_piece(bench_t *bench, weir_snapshot_state_t *state, weir_checkpoint_file_t *file) {
    check(weir_table_saver_advance(bench->saver, state, file, &error) == WEIR_OK, "save");
    return *state != WEIR_SNAPSHOT_WRITTEN;
}

/* Steps until the save has ended (or `count` of them without one); a step's time is what a worker
 * waits for: a piece under way, the pull, a piece, the push. */
static double run_steps(bench_t *bench, size_t count, bool saves, weir_checkpoint_file_t *file) {
    weir_snapshot_state_t state = WEIR_SNAPSHOT_GOES_ON;
    double began = weir_clock_seconds(), next = began;
    bench->steps = 0;
    while (saves || bench->steps < count) {
        draw_batch(bench);
        while (saves && weir_clock_seconds() < next) { /* idle: more of it */
            saves = save_piece(bench, &state, file);
            if (state == WEIR_SNAPSHOT_WAITS) {
                sleep_until(fmin(next, weir_clock_seconds() + 0.002));
            }
        }
        sleep_until(next);
        double due = next;
        train(bench);
        if (saves) {
            saves = save_piece(bench, &state, file);
        }
        double now = weir_clock_seconds();
        if (bench->steps < MOST_STEPS) {
            bench->seconds[bench->steps++] = now - due;
        }
        next = now > due + 1e-3 * PERIOD_MS ? now : due + 1e-3 * PERIOD_MS;
    }
    return weir_clock_seconds() - began;
}

static void remove_file(const char *folder, const char *name) {
    char path[WEIR_PATH_MAX];
    check(weir_path_join(path, sizeof path, folder, name, &error) == WEIR_OK && unlink(path) == 0,
          "unlink");
}

/* A save while no step comes. */
static double idle_seconds(bench_t *bench, const char *folder, weir_checkpoint_file_t *file) {
    weir_snapshot_state_t state = WEIR_SNAPSHOT_GOES_ON;
    double began = weir_clock_seconds();
    check(weir_table_saver_cut(bench->saver, bench->step, &error) == WEIR_OK, "cut");
    check(weir_table_saver_open(bench->saver, bench->step, 0, folder, &error) == WEIR_OK, "open");
    while (save_piece(bench, &state, file)) {
        if (state == WEIR_SNAPSHOT_WAITS) {
            sleep_until(weir_clock_seconds() + 0.0002);
        }
    }
    double seconds = weir_clock_seconds() - began;
    remove_file(folder, file->name);
    return seconds;
}

static int compare_seconds(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double percentile(bench_t *bench, double part) {
    qsort(bench->seconds, bench->steps, sizeof *bench->seconds, compare_seconds);
    return bench->seconds[(size_t)(part * (double)(bench->steps - 1))];
}

/* The same bytes written raw; `early`: the disk is told to begin with each piece, as a save does.
 */
static double raw_seconds(const char *folder, uint64_t size, bool early) {
    char path[WEIR_PATH_MAX];
    char *piece = weir_measure_allocate(PIECE, 1);
    memset(piece, 'w', PIECE);
    check(weir_path_join(path, sizeof path, folder, "raw", &error) == WEIR_OK, "path");
    double began = weir_clock_seconds();
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    check(fd >= 0, "create");
    for (uint64_t at = 0; at < size; at += PIECE) {
        size_t part = size - at < PIECE ? (size_t)(size - at) : PIECE;
        check(weir_file_write_all(fd, piece, part, path, &error) == WEIR_OK, "write");
        if (early) {
            (void)sync_file_range(fd, (off_t)at, (off_t)part, SYNC_FILE_RANGE_WRITE);
        }
    }
    check(fsync(fd) == 0 && close(fd) == 0, "fsync");
    double seconds = weir_clock_seconds() - began;
    check(unlink(path) == 0, "unlink");
    free(piece);
    return seconds;
}

static void create(bench_t *bench, size_t rows, size_t keys) {
    weir_table_options_t options = {
        .row = {.name = "item",
                .seed = 1,
                .segment_count = 1,
                .segments = {{.dim = DIM,
                              .initializer = WEIR_INITIALIZER_TRUNCATED_NORMAL,
                              .initial_scale = 0.02,
                              .optimizer = {.kind = WEIR_OPTIMIZER_ROWWISE_ADAGRAD,
                                            .learning_rate = 0.01,
                                            .epsilon = 1e-8}}}}};
    bench->rows = rows;
    bench->keys = keys;
    bench->batch = weir_measure_allocate(keys, sizeof *bench->batch);
    bench->handles = weir_measure_allocate(keys, sizeof *bench->handles);
    bench->values = weir_measure_allocate(keys * DIM, sizeof *bench->values);
    bench->gradients = weir_measure_allocate(keys * DIM, sizeof *bench->gradients);
    bench->seen = weir_measure_allocate(rows, sizeof *bench->seen);
    for (size_t i = 0; i < keys * DIM; i++) {
        bench->gradients[i] = 1e-3F * (float)(i % 17) - 8e-3F;
    }
    check(weir_table_create(&options, &bench->table, &error) == WEIR_OK, "table");
    for (size_t begin = 0; begin < rows; begin += keys) {
        size_t now = rows - begin < keys ? rows - begin : keys;
        for (size_t i = 0; i < now; i++) {
            bench->batch[i] = (begin + i) * 0x9E3779B97F4A7C15u;
        }
        check(weir_table_pull(bench->table, bench->batch, now, 1, bench->handles, NULL, &error) ==
                  WEIR_OK,
              "birth");
    }
    bench->step = 1;
    weir_table_saver_options_t saver = {.tables = &bench->table, .table_count = 1, .ps = 1};
    check(weir_table_saver_create(&saver, &bench->saver, &error) == WEIR_OK, "saver");
}

static void make_folder(char *path, const char *folder, const char *name) {
    check(weir_path_join(path, WEIR_PATH_MAX, folder, name, &error) == WEIR_OK &&
              weir_file_make_directories(path, &error) == WEIR_OK,
          "folder");
}

int main(int argc, char **argv) {
    static bench_t bench;
    char once[WEIR_PATH_MAX], beside[WEIR_PATH_MAX], machine[WEIR_MEASURE_MACHINE];
    double alone[REPEATS], added[REPEATS], rate[REPEATS], idle[REPEATS], raw[REPEATS];
    weir_checkpoint_file_t first = {.size = 0}, file = {.size = 0};
    weir_table_save_t save = {.step = 0};
    uint64_t most_copies = 0;
    double stalled = 0.0;
    if (argc < 2 || argc > 4) {
        (void)fprintf(stderr, "usage: bench_snapshot FOLDER [ROWS [KEYS]]\n");
        return 2;
    }
    size_t rows = argc > 2 ? strtoul(argv[2], NULL, 10) : 4000000;
    size_t keys = argc > 3 ? strtoul(argv[3], NULL, 10) : 8192;
    check(keys > 0 && rows >= 4 * keys, "a step names a quarter of the rows at the most");
    create(&bench, rows, keys);
    make_folder(once, argv[1], "once");
    make_folder(beside, argv[1], "beside");
    uint64_t bound = (24u << 20) + weir_table_stats(bench.table).bytes / 100 +
                     keys * (uint64_t)(DIM * sizeof(float) + 64);
    for (int i = 0; i < REPEATS; i++) {
        (void)run_steps(&bench, 400, false, &file);
        double before = percentile(&bench, 0.99);
        alone[i] = before;
        if (i == 0) {
            check(weir_snapshot_write(bench.table, 0, 1, bench.step, once, &first, &error) ==
                      WEIR_OK,
                  "save at once");
        }
        check(weir_table_saver_cut(bench.saver, bench.step, &error) == WEIR_OK, "cut");
        check(weir_table_saver_open(bench.saver, bench.step, 0, beside, &error) == WEIR_OK, "open");
        double seconds = run_steps(&bench, 0, true, &file);
        save = weir_table_saver_last(bench.saver);
        check(i > 0 || file.checksum == first.checksum, "another file than that of a save at once");
        check(save.most_copies <= bound, "copies beyond the bound");
        most_copies = save.most_copies > most_copies ? save.most_copies : most_copies;
        stalled += save.stalled;
        added[i] = percentile(&bench, 0.99) - before;
        rate[i] = (double)file.size / seconds;
        remove_file(beside, file.name); /* taking its space back is no part of the next save */
        idle[i] = (double)file.size / idle_seconds(&bench, beside, &file);
        double late = raw_seconds(argv[1], file.size, false);
        raw[i] = (double)file.size / fmin(late, raw_seconds(argv[1], file.size, true));
    }
    qsort(alone, REPEATS, sizeof *alone, compare_seconds);
    qsort(added, REPEATS, sizeof *added, compare_seconds);
    qsort(rate, REPEATS, sizeof *rate, compare_seconds);
    qsort(idle, REPEATS, sizeof *idle, compare_seconds);
    qsort(raw, REPEATS, sizeof *raw, compare_seconds);
    weir_measure_machine(machine);
    (void)printf("{\"bench\": \"snapshot\", \"rows\": %zu, \"keys\": %zu, \"bytes\": %llu, "
                 "\"save_bytes_per_second\": %.4g, \"raw_bytes_per_second\": %.4g, "
                 "\"save_over_raw\": %.3f, \"idle_save_over_raw\": %.3f, \"step_p99_s\": %.5f, "
                 "\"added_p99_s\": %.5f, "
                 "\"copies_most\": %llu, \"copies_bound\": %llu, \"stalled_s\": %.3f, "
                 "\"version\": \"%s\", \"machine\": \"%s\"}\n",
                 rows, keys, (unsigned long long)file.size, rate[REPEATS / 2], raw[REPEATS / 2],
                 rate[REPEATS / 2] / raw[REPEATS / 2], idle[REPEATS / 2] / raw[REPEATS / 2],
                 alone[REPEATS / 2], added[REPEATS / 2], (unsigned long long)most_copies,
                 (unsigned long long)bound, stalled, WEIR_VERSION, machine);
    weir_table_saver_destroy(bench.saver);
    weir_table_destroy(bench.table);
    return 0;
}
