/* How fast do rows go to disk and come back, and what of the disk's own rate is that?
 *
 *   bench_cold_store FOLDER [MEGABYTES]    records of a data set of MEGABYTES; default 2,048
 *
 * A store of records of 256, then 512 bytes is filled in random order through a cache of an eighth
 * of the data, with direct I/O: reads are of the disk, not of the page cache. Then, in batches:
 * rows that are there (hits), rows that are not (misses), rows asked for ahead (prefetch), all rows
 * in order, records written over by put and by replace. Every row is verified.
 * The limit is measured in turn with the hits, on a file of the same size: pread with O_DIRECT of
 * 4 KiB at random places, by one thread and by 32. One JSON line for each size of record; rates are
 * per second on the clock, medians over batches. */
#include "common/clock.h"
#include "common/error.h"
#include "common/version.h"
#include "ps/cold_store.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BATCH = 4096, BATCHES = 15, BLOCK = 4096, DEPTH = 32, RAW_READS = BATCH / DEPTH };

static weir_error_t error;

static void check(bool good, const char *what) {
    if (!good) {
        (void)fprintf(stderr, "bench_cold_store: %s %s %s\n", what, error.message, error.hint);
        exit(EXIT_FAILURE);
    }
}

static void *allocate(size_t count, size_t size) {
    void *memory = NULL;
    check(posix_memalign(&memory, BLOCK, count * size) == 0, "out of memory");
    memset(memory, 0, count * size);
    return memory;
}

static int compare_seconds(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *seconds) {
    qsort(seconds, BATCHES, sizeof *seconds, compare_seconds);
    return seconds[BATCHES / 2];
}

/* ---- the disk ---- */

typedef struct {
    int fd;
    size_t blocks;
    uint64_t first; /* of its random numbers */
} raw_t;

static void *read_blocks(void *argument) {
    const raw_t *raw = argument;
    char *block = allocate(1, BLOCK);
    for (uint64_t i = 0; i < RAW_READS; i++) {
        off_t place = (off_t)(weir_hash64(raw->first + i) % raw->blocks * BLOCK);
        check(pread(raw->fd, block, BLOCK, place) == BLOCK, "cannot read the file");
    }
    free(block);
    return NULL;
}

/* Seconds of `depth` times RAW_READS. */
static double time_reads(const raw_t *file, size_t depth) {
    static uint64_t drawn;
    pthread_t threads[DEPTH];
    raw_t raw[DEPTH];
    double begin = weir_clock_seconds();
    for (size_t i = 0; i < depth; i++) {
        raw[i] = *file;
        raw[i].first = drawn;
        drawn += RAW_READS;
        check(pthread_create(&threads[i], NULL, read_blocks, &raw[i]) == 0, "no thread");
    }
    for (size_t i = 0; i < depth; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    return weir_clock_seconds() - begin;
}

static void make_file(const char *folder, size_t bytes, raw_t *file) {
    enum { PIECE = 1 << 20 };
    char path[4096];
    char *piece = allocate(1, PIECE);
    (void)snprintf(path, sizeof path, "%s/bench_cold_store.raw", folder);
    *file = (raw_t){.fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC, 0666),
                    .blocks = bytes / BLOCK};
    check(file->fd >= 0, "cannot make a file with O_DIRECT in the folder");
    (void)unlink(path);
    for (size_t i = 0; i < bytes / PIECE; i++) {
        for (size_t j = 0; j < PIECE / 8; j++) {
            uint64_t word = weir_hash64(i * PIECE + j);
            memcpy(piece + 8 * j, &word, 8);
        }
        check(write(file->fd, piece, PIECE) == PIECE, "cannot write the file");
    }
    check(fsync(file->fd) == 0, "cannot write the file");
    free(piece);
}

/* ---- the store ---- */

typedef struct {
    weir_cold_store_t *store;
    size_t record_bytes;
    uint64_t rows, draws;
    weir_key_t keys[BATCH];
    bool found[BATCH];
    char *records;
} bench_t;

/* A record is a function of its key. */
static void make_record(weir_key_t key, char *record, size_t bytes) {
    for (size_t i = 0; i < bytes / 8; i++) {
        uint64_t word = weir_hash64(key * 1000 + i);
        memcpy(record + 8 * i, &word, 8);
    }
}

static void draw_keys(bench_t *bench, uint64_t first) {
    for (size_t i = 0; i < BATCH; i++) {
        bench->keys[i] = first + weir_hash64(bench->draws++) % bench->rows;
    }
}

static void verify(bench_t *bench, bool there) {
    char record[4096];
    for (size_t i = 0; i < BATCH; i++) {
        check(bench->found[i] == there, "a row is there that should not, or the reverse");
        if (there) {
            make_record(bench->keys[i], record, bench->record_bytes);
            check(memcmp(record, bench->records + i * bench->record_bytes, bench->record_bytes) ==
                      0,
                  "a row is wrong");
        }
    }
}

static double put_all(bench_t *bench) {
    double seconds = 0.0;
    for (uint64_t from = 0; from + BATCH <= bench->rows; from += BATCH) {
        for (size_t i = 0; i < BATCH; i++) {
            bench->keys[i] = from + i;
            make_record(from + i, bench->records + i * bench->record_bytes, bench->record_bytes);
        }
        double begin = weir_clock_seconds();
        check(weir_cold_store_put(bench->store, bench->keys, bench->records, BATCH, &error) ==
                  WEIR_OK,
              "put:");
        seconds += weir_clock_seconds() - begin;
    }
    check(weir_cold_store_rows(bench->store) == bench->rows, "the number of rows is wrong");
    return (double)bench->rows / seconds;
}

/* Until the files stay as they are: what is measured next is not compaction. */
static double settle(bench_t *bench) {
    double begin = weir_clock_seconds(), same_since = begin;
    uint64_t bytes = weir_cold_store_bytes(bench->store);
    while (weir_clock_seconds() - same_since < 6.0 && weir_clock_seconds() - begin < 120.0) {
        weir_clock_sleep(0.2);
        if (weir_cold_store_bytes(bench->store) != bytes) {
            bytes = weir_cold_store_bytes(bench->store);
            same_since = weir_clock_seconds();
        }
    }
    return same_since - begin;
}

/* Rates of hits and of the disk, in turn: both drift on a disk that is shared. */
static void measure_hits(bench_t *bench, const raw_t *file, double *hits, double *one,
                         double *many) {
    double seconds[BATCHES], single[BATCHES], deep[BATCHES];
    for (int i = 0; i < BATCHES; i++) {
        draw_keys(bench, 0);
        double begin = weir_clock_seconds();
        check(weir_cold_store_get(bench->store, bench->keys, BATCH, bench->found, bench->records,
                                  &error) == WEIR_OK,
              "get:");
        seconds[i] = weir_clock_seconds() - begin;
        verify(bench, true);
        single[i] = time_reads(file, 1);
        deep[i] = time_reads(file, DEPTH);
    }
    *hits = BATCH / median(seconds);
    *one = RAW_READS / median(single);
    *many = DEPTH * RAW_READS / median(deep);
}

static double miss_rate(bench_t *bench) {
    double seconds[BATCHES];
    for (int i = 0; i < BATCHES; i++) {
        draw_keys(bench, bench->rows);
        double begin = weir_clock_seconds();
        check(weir_cold_store_get(bench->store, bench->keys, BATCH, bench->found, bench->records,
                                  &error) == WEIR_OK,
              "get:");
        seconds[i] = weir_clock_seconds() - begin;
        verify(bench, false);
    }
    return BATCH / median(seconds);
}

/* Seconds that the owner still waits for a ticket after 1.2 times as long as a get takes. */
static double wait_left(bench_t *bench, double get_seconds) {
    double seconds[BATCHES];
    for (int i = 0; i < BATCHES; i++) {
        weir_cold_ticket_t *ticket;
        draw_keys(bench, 0);
        check(weir_cold_store_prefetch_begin(bench->store, bench->keys, BATCH, &ticket, &error) ==
                  WEIR_OK,
              "prefetch:");
        weir_clock_sleep(1.2 * get_seconds);
        double begin = weir_clock_seconds();
        check(weir_cold_store_prefetch_finish(ticket, bench->found, bench->records, &error) ==
                  WEIR_OK,
              "prefetch:");
        seconds[i] = weir_clock_seconds() - begin;
        verify(bench, true);
    }
    return median(seconds);
}

typedef weir_err_t (*write_t)(weir_cold_store_t *, const weir_key_t *, const void *, size_t,
                              weir_error_t *);

static double overwrite_rate(bench_t *bench, write_t write_records) {
    double seconds[BATCHES];
    for (int i = 0; i < BATCHES; i++) {
        draw_keys(bench, 0);
        for (size_t j = 0; j < BATCH; j++) {
            make_record(bench->keys[j], bench->records + j * bench->record_bytes,
                        bench->record_bytes);
        }
        double begin = weir_clock_seconds();
        check(write_records(bench->store, bench->keys, bench->records, BATCH, &error) == WEIR_OK,
              "overwrite:");
        seconds[i] = weir_clock_seconds() - begin;
    }
    check(weir_cold_store_rows(bench->store) == bench->rows, "the number of rows is wrong");
    return BATCH / median(seconds);
}

static double iterate_rate(bench_t *bench) {
    weir_cold_iterator_t *iterator = weir_cold_store_iterate(bench->store, 0, WEIR_SLOT_COUNT);
    check(iterator != NULL, "out of memory");
    weir_key_t key;
    const void *record;
    weir_err_t err;
    uint64_t rows = 0;
    double begin = weir_clock_seconds();
    while (weir_cold_iterator_next(iterator, &key, &record, &err, &error)) {
        rows++;
    }
    double seconds = weir_clock_seconds() - begin;
    check(err == WEIR_OK && rows == bench->rows, "iterate:");
    weir_cold_iterator_destroy(iterator);
    return (double)rows / seconds;
}

static void bench_records(const char *folder, size_t record_bytes, const raw_t *file) {
    const size_t bytes = file->blocks * BLOCK;
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/bench_cold_store", folder);
    bench_t *bench = allocate(1, sizeof *bench);
    weir_cold_store_options_t options = {
        .folder = path, .record_bytes = record_bytes, .cache_bytes = bytes / 8, .direct_io = true};
    bench->record_bytes = record_bytes;
    bench->rows = bytes / record_bytes / BATCH * BATCH;
    bench->records = allocate(BATCH, record_bytes);
    check(weir_cold_store_create(&options, &bench->store, &error) == WEIR_OK, "create:");
    double put = put_all(bench), settled = settle(bench);
    double hits, one, many;
    measure_hits(bench, file, &hits, &one, &many);
    double misses = miss_rate(bench);
    double left = wait_left(bench, BATCH / hits);
    double iterated = iterate_rate(bench), overwritten = overwrite_rate(bench, weir_cold_store_put),
           replaced = overwrite_rate(bench, weir_cold_store_replace);
    (void)printf("{\"bench\": \"cold_store\", \"version\": \"%s\", \"record_bytes\": %zu, "
                 "\"rows\": %llu, \"batch\": %d, \"cache_fraction\": 0.125, "
                 "\"puts_per_second\": %.4g, \"settled_seconds\": %.3g, \"hits_per_second\": %.4g, "
                 "\"misses_per_second\": %.4g, \"prefetch_wait_ms\": %.3g, \"get_ms\": %.3g, "
                 "\"iterated_per_second\": %.4g, \"overwrites_per_second\": %.4g, "
                 "\"replaced_per_second\": %.4g, "
                 "\"bytes_per_row\": %.4g, \"raw_reads_per_second\": %.4g, "
                 "\"raw_reads_per_second_32\": %.4g, \"hits_of_raw\": %.3f, "
                 "\"hits_of_raw_32\": %.3f}\n",
                 WEIR_VERSION, record_bytes, (unsigned long long)bench->rows, BATCH, put, settled,
                 hits, misses, 1e3 * left, 1e3 * BATCH / hits, iterated, overwritten, replaced,
                 (double)weir_cold_store_bytes(bench->store) / (double)bench->rows, one, many,
                 hits / one, hits / many);
    weir_cold_store_destroy(bench->store);
    free(bench->records);
    free(bench);
}

int main(int argc, char **argv) {
    unsigned long megabytes = argc > 2 ? strtoul(argv[2], NULL, 10) : 2048ul;
    if (argc < 2 || argc > 3 || megabytes < 16 || megabytes > 10000000ul) {
        (void)fprintf(stderr, "usage: bench_cold_store FOLDER [MEGABYTES], 16 or more\n");
        return EXIT_FAILURE;
    }
    raw_t file;
    make_file(argv[1], megabytes << 20, &file);
    bench_records(argv[1], 256, &file);
    bench_records(argv[1], 512, &file);
    (void)close(file.fd);
    return EXIT_SUCCESS;
}
