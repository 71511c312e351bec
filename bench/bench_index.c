/* How fast does one core find keys in the index, at what load, and how long can one insert take?
 *
 *   bench_index [KEYS...]     ascending; default 1,000,000 and 10,000,000
 *
 * Per number of keys, each answer verified first: one JSON line for growth (keys are found in
 * batches and what is missing is inserted, as a table does) and one for each vector width of finds:
 * hits drawn uniformly and by Zipf's law with exponent 0.99, and misses. Times are CPU time of the
 * thread, so that neighbours on a shared machine cost less noise; all kinds take turns, and the
 * median of the turns counts. The limit, measured in those turns too: the same hashes choose among
 * groups in as much memory, and two cache lines of each group are prefetched, then read: all that a
 * find reads, without what it decides. Longest insert: the worst 16 in a row, so none took longer;
 * and the same once more in memory that was touched before, as the first touch of a huge page may
 * take longer than anything that the index does. */
#include "common/rng.h"
#include "common/version.h"
#include "ps/index.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    REPEATS = 9,
    PROBES = 1 << 21, /* keys of one timed pass */
    BATCH = 4096,     /* keys of one call: what a worker's part of a step may be */
    TIMED_INSERTS = 16,
    GROUP_BYTES = 192,
    CHUNK = 32
};

static void check(bool good, const char *what) {
    if (!good) {
        (void)fprintf(stderr, "bench_index: %s\n", what);
        exit(EXIT_FAILURE);
    }
}

static void *allocate(size_t size) {
    char *block = weir_arena_map(size);
    check(block != NULL, "out of memory");
    memset(block, 1, size);
    return block;
}

static int compare_seconds(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double median_rate(double *seconds) {
    qsort(seconds, REPEATS, sizeof *seconds, compare_seconds);
    return PROBES / seconds[REPEATS / 2];
}

static double core_seconds(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static double resident_bytes(void) {
    unsigned long total = 0, resident = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    if (statm != NULL) {
        resident = fscanf(statm, "%lu %lu", &total, &resident) == 2 ? resident : 0;
        (void)fclose(statm);
    }
    return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

static weir_key_t key_of(uint64_t row) {
    return row * 0x9E3779B97F4A7C15ull; /* odd factor: distinct */
}

static double uniform(uint64_t at, uint64_t stream) {
    return (double)(weir_hash64(weir_hash64(at) ^ stream) >> 11) * 0x1p-53;
}

/* ---- draws ---- */

static double harmonic(uint64_t count, double exponent) {
    uint64_t exact = count < 1000000 ? count : 1000000;
    double sum = 0.0;
    for (uint64_t i = 1; i <= exact; i++) {
        sum += pow((double)i, -exponent);
    }
    double rest = 1.0 - exponent; /* the tail as an integral */
    return sum + (pow((double)count + 0.5, rest) - pow((double)exact + 0.5, rest)) / rest;
}

/* Gray et al., Quickly generating billion-record synthetic databases, SIGMOD 1994. */
static void draw_zipf(uint64_t count, uint32_t *rows) {
    const double exponent = 0.99, alpha = 1.0 / (1.0 - exponent);
    double zeta = harmonic(count, exponent);
    double eta = (1.0 - pow(2.0 / (double)count, 1.0 - exponent)) /
                 (1.0 - (1.0 + pow(0.5, exponent)) / zeta);
    for (uint64_t i = 0; i < PROBES; i++) {
        double u = uniform(i, 3), place = u * zeta;
        uint64_t rank = place < 1.0 ? 0
                        : place < 1.0 + pow(0.5, exponent)
                            ? 1
                            : (uint64_t)((double)count * pow(eta * u - eta + 1.0, alpha));
        rows[i] = (uint32_t)(rank < count ? rank : count - 1);
    }
}

/* ---- growth ---- */

static double grow_to(weir_index_t *index, uint64_t count, double *longest) {
    weir_key_t keys[BATCH];
    uint32_t rows[BATCH];
    double begin = core_seconds();
    *longest = 0.0;
    for (uint64_t row = 0; row < count; row += BATCH) {
        size_t now = count - row < BATCH ? (size_t)(count - row) : BATCH;
        for (size_t i = 0; i < now; i++) {
            keys[i] = key_of(row + i);
        }
        weir_index_find(index, keys, now, rows);
        double before = core_seconds();
        for (size_t i = 0; i < now; i++) {
            check(rows[i] == WEIR_INDEX_NONE && weir_index_reserve(index, keys[i]),
                  "a key is there before its insert, or out of memory");
            weir_index_insert(index, keys[i], (uint32_t)(row + i));
            if (i % TIMED_INSERTS == TIMED_INSERTS - 1) {
                double after = core_seconds();
                *longest = after - before > *longest ? after - before : *longest;
                before = after;
            }
        }
    }
    return core_seconds() - begin;
}

/* Regions of the arena for `bytes`, all touched; a small block keeps each one mapped. */
static void touch_memory(weir_arena_t *arena, size_t bytes) {
    enum { REGION = 64 << 20, KEPT = WEIR_ARENA_ALIGNMENT, MOST = 4096 };
    static void *blocks[MOST];
    size_t count = bytes / REGION + 1;
    check(count <= MOST, "too many regions");
    for (size_t i = 0; i < count; i++) {
        blocks[i] = weir_arena_acquire(arena, REGION - KEPT);
        check(blocks[i] != NULL && weir_arena_acquire(arena, KEPT) != NULL, "out of memory");
        memset(blocks[i], 1, REGION - KEPT);
    }
    for (size_t i = 0; i < count; i++) {
        weir_arena_release(arena, blocks[i], REGION - KEPT);
    }
}

static double longest_in_touched(uint64_t count, size_t bytes) {
    weir_arena_t arena = {0};
    weir_index_t index;
    double longest;
    touch_memory(&arena, bytes);
    check(weir_index_init(&index, &arena, 0, WEIR_SLOT_COUNT, 0), "out of memory");
    (void)grow_to(&index, count, &longest);
    weir_index_fini(&index);
    weir_arena_fini(&arena);
    return longest;
}

static void report_growth(const weir_index_t *index, uint64_t count, double seconds, double longest,
                          double resident) {
    weir_index_statistics_t statistics = weir_index_statistics(index);
    double keys = (double)count;
    (void)printf(
        "{\"bench\": \"index_growth\", \"version\": \"%s\", \"keys\": %llu, "
        "\"inserts_per_second\": %.4g, \"longest_insert_us\": %.4g, "
        "\"longest_in_touched_memory_us\": %.4g, \"load\": %.3f, "
        "\"bytes_per_key\": %.4g, \"peak_over_steady\": %.4f, \"resident_bytes_per_key\": %.4g, "
        "\"groups_per_hit\": %.3f, \"groups_per_miss\": %.3f, \"subtables\": %llu}\n",
        WEIR_VERSION, (unsigned long long)count, keys / seconds, 1e6 * longest,
        1e6 * longest_in_touched(count, index->arena->mapped),
        keys / (double)(statistics.groups * WEIR_INDEX_GROUP_ENTRIES),
        (double)weir_index_bytes(index) / keys,
        (double)index->arena->peak / (double)index->arena->in_use, resident / keys,
        (double)statistics.hit_groups / keys,
        (double)statistics.miss_groups / (4.0 * (double)statistics.groups),
        (unsigned long long)statistics.subtables);
}

/* ---- finds ---- */

enum { UNIFORM, ZIPF, MISSES, KINDS };

typedef struct {
    weir_key_t *keys[KINDS];
    uint32_t *wanted[KINDS];
    uint32_t *rows;
    char *memory; /* as much as the index holds */
    uint64_t groups;
} probes_t;

static void make_probes(const weir_index_t *index, uint64_t count, probes_t *probes) {
    probes->rows = allocate(PROBES * sizeof *probes->rows);
    probes->groups = weir_index_bytes(index) / GROUP_BYTES;
    probes->memory = allocate((size_t)probes->groups * GROUP_BYTES);
    for (int kind = 0; kind < KINDS; kind++) {
        probes->keys[kind] = allocate(PROBES * sizeof **probes->keys);
        probes->wanted[kind] = allocate(PROBES * sizeof **probes->wanted);
    }
    draw_zipf(count, probes->wanted[ZIPF]);
    for (uint64_t i = 0; i < PROBES; i++) {
        probes->wanted[UNIFORM][i] = (uint32_t)((double)count * uniform(i, 2));
        probes->wanted[MISSES][i] = WEIR_INDEX_NONE;
        probes->keys[UNIFORM][i] = key_of(probes->wanted[UNIFORM][i]);
        probes->keys[ZIPF][i] = key_of(probes->wanted[ZIPF][i]);
        probes->keys[MISSES][i] = key_of(count + i);
    }
}

static void drop_probes(probes_t *probes) {
    for (int kind = 0; kind < KINDS; kind++) {
        weir_arena_unmap(probes->keys[kind], PROBES * sizeof **probes->keys);
        weir_arena_unmap(probes->wanted[kind], PROBES * sizeof **probes->wanted);
    }
    weir_arena_unmap(probes->rows, PROBES * sizeof *probes->rows);
    weir_arena_unmap(probes->memory, (size_t)probes->groups * GROUP_BYTES);
}

/* Chunk by chunk: the lines of the next one travel while this one is read. */
static uint64_t read_lines(const probes_t *probes, const weir_key_t *keys) {
    const char *lines[2][2 * CHUNK];
    uint64_t sum = 0;
    for (size_t begin = 0, turn = 0; begin <= PROBES; begin += CHUNK, turn ^= 1) {
        for (size_t i = 0; begin < PROBES && i < CHUNK; i++) {
            uint64_t hash = weir_hash64(keys[begin + i]);
            uint64_t group = ((hash >> 32) * probes->groups) >> 32;
            lines[turn][2 * i] = probes->memory + group * GROUP_BYTES;
            lines[turn][2 * i + 1] = lines[turn][2 * i] + ((hash & 1) == 0 ? 64 : 128);
            __builtin_prefetch(lines[turn][2 * i]);
            __builtin_prefetch(lines[turn][2 * i + 1]);
        }
        for (size_t i = 0; begin > 0 && i < (size_t)2 * CHUNK; i++) {
            uint64_t word;
            memcpy(&word, lines[turn ^ 1][i], sizeof word);
            sum += word;
        }
    }
    return sum;
}

static double time_kind(const weir_index_t *index, const probes_t *probes, int kind) {
    double begin = core_seconds();
    for (size_t i = 0; i < PROBES; i += BATCH) {
        weir_index_find(index, probes->keys[kind] + i, BATCH, probes->rows + i);
    }
    return core_seconds() - begin;
}

static double time_limit(const probes_t *probes) {
    double begin = core_seconds();
    uint64_t sum = read_lines(probes, probes->keys[UNIFORM]);
    double seconds = core_seconds() - begin;
    check(sum == 2 * (uint64_t)PROBES * 0x0101010101010101ull, "the limit read something else");
    return seconds;
}

static void bench_width(weir_index_t *index, uint64_t count, probes_t *probes, uint32_t bits) {
    double seconds[KINDS][REPEATS], limits[REPEATS], rates[KINDS];
    for (int kind = 0; kind < KINDS; kind++) {
        (void)time_kind(index, probes, kind);
        check(memcmp(probes->rows, probes->wanted[kind], PROBES * sizeof *probes->rows) == 0,
              "a find is wrong");
    }
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        for (int kind = 0; kind < KINDS; kind++) {
            seconds[kind][repeat] = time_kind(index, probes, kind);
        }
        limits[repeat] = time_limit(probes);
    }
    for (int kind = 0; kind < KINDS; kind++) {
        rates[kind] = median_rate(seconds[kind]);
    }
    double limit = median_rate(limits);
    (void)printf("{\"bench\": \"index_find\", \"version\": \"%s\", \"keys\": %llu, \"bits\": %u, "
                 "\"batch\": %d, \"hits_per_second\": %.4g, \"zipf_hits_per_second\": %.4g, "
                 "\"misses_per_second\": %.4g, \"random_line_pairs_per_second\": %.4g, "
                 "\"hit_fraction\": %.3f}\n",
                 WEIR_VERSION, (unsigned long long)count, bits, BATCH, rates[UNIFORM], rates[ZIPF],
                 rates[MISSES], limit, rates[UNIFORM] / limit);
}

static void bench_keys(uint64_t count) {
    weir_arena_t arena = {0};
    weir_index_t index;
    probes_t probes = {.rows = NULL};
    double longest, before = resident_bytes();
    check(weir_index_init(&index, &arena, 0, WEIR_SLOT_COUNT, 0), "out of memory");
    double seconds = grow_to(&index, count, &longest);
    report_growth(&index, count, seconds, longest, resident_bytes() - before);
    make_probes(&index, count, &probes);
    for (uint32_t bits = 128; bits <= 512; bits *= 2) {
        if (weir_index_set_width(&index, bits)) {
            bench_width(&index, count, &probes, bits);
        }
    }
    (void)fflush(stdout);
    drop_probes(&probes);
    weir_index_fini(&index);
    weir_arena_fini(&arena);
}

int main(int argc, char **argv) {
    static const char *const defaults[] = {"", "1000000", "10000000"};
    int count = argc > 1 ? argc : (int)(sizeof defaults / sizeof *defaults);
    for (int i = 1; i < count; i++) {
        char *end;
        unsigned long long keys = strtoull(argc > 1 ? argv[i] : defaults[i], &end, 10);
        if (*end != '\0' || keys < 1000 || keys > 4000000000ull) {
            (void)fprintf(stderr, "usage: bench_index [KEYS...], 1000 to 4000000000\n");
            return EXIT_FAILURE;
        }
        bench_keys(keys);
    }
    return EXIT_SUCCESS;
}
