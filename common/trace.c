/* DESIGN. A thread's buffer is made at its first record and belongs to that thread; only `count` is
 * shared: the thread stores it after the record is whole, the main thread loads it when the window
 * has passed and reads the records below it. So nothing waits for anything, and a record that comes
 * while the file is written is left out. */
#include "common/trace.h"

#include "common/file.h"
#include "common/log.h"
#include "common/version.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Times are written from 2026-01-01 on, in us: as a double, of which readers make them, they keep
 * their ns for years. */
#define EPOCH_NS (INT64_C(1767225600) * 1000000000)

enum { MOST_THREADS = 256, MOST_RECORDS = 1 << 16, CLOCK_TRIALS = 16 };

typedef enum { KIND_SPAN, KIND_POSTED, KIND_RECEIVED } kind_t;

typedef struct {
    const char *name;
    int64_t begin, end; /* ns, CLOCK_MONOTONIC */
    uint64_t step, bytes;
    int64_t peer;
    uint32_t from, to, sequence; /* of a frame */
    uint16_t flags;
    uint16_t kind;
} record_t;

typedef struct {
    const char *name;
    record_t *records; /* MOST_RECORDS */
    _Atomic size_t count;
    _Atomic size_t turned_away;
} buffer_t;

/* The timeline of this process. Threads find their own buffers in it. */
static struct {
    char path[WEIR_PATH_MAX];
    char role[16];
    uint32_t rank, index;
    uint64_t first, end;   /* the window: [first, end) */
    bool open;             /* not written yet */
    pthread_mutex_t mutex; /* guards buffers and buffer_count */
    buffer_t *buffers[MOST_THREADS];
    size_t buffer_count;
} trace = {.mutex = PTHREAD_MUTEX_INITIALIZER};

atomic_bool weir_trace_recording;

static _Thread_local const char *thread_name = "thread";
static _Thread_local buffer_t *thread_buffer;

/* ---- recording ---- */

static int64_t read_clock(clockid_t clock) {
    struct timespec now;
    (void)clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t weir_trace_now(void) {
    return read_clock(CLOCK_MONOTONIC);
}

void weir_trace_name_thread(const char *name) {
    thread_name = name;
}

/* NULL: no memory, or more threads than anybody looks at. */
static buffer_t *make_buffer(void) {
    buffer_t *made = calloc(1, sizeof *made);
    record_t *records = malloc(MOST_RECORDS * sizeof *records);
    bool kept = false;
    (void)pthread_mutex_lock(&trace.mutex);
    if (made != NULL && records != NULL && trace.buffer_count < MOST_THREADS) {
        *made = (buffer_t){.name = thread_name, .records = records};
        trace.buffers[trace.buffer_count++] = made;
        kept = true;
    }
    (void)pthread_mutex_unlock(&trace.mutex);
    if (!kept) {
        free(made);
        free(records);
        return NULL;
    }
    return made;
}

static void add(record_t record) {
    if (thread_buffer == NULL) {
        thread_buffer = make_buffer();
        if (thread_buffer == NULL) {
            return;
        }
    }
    /* Relaxed: our own. */
    size_t count = atomic_load_explicit(&thread_buffer->count, memory_order_relaxed);
    if (count == MOST_RECORDS) {
        (void)atomic_fetch_add(&thread_buffer->turned_away, 1);
        return;
    }
    thread_buffer->records[count] = record;
    /* Release: the record is whole before the writer sees it. */
    atomic_store_explicit(&thread_buffer->count, count + 1, memory_order_release);
}

void weir_trace_record(int64_t begun, const char *name, uint64_t step, int64_t peer) {
    add((record_t){.name = name,
                   .begin = begun,
                   .end = weir_trace_now(),
                   .step = step,
                   .peer = peer,
                   .kind = KIND_SPAN});
}

static void add_frame(const weir_frame_header_t *header, uint32_t from, uint32_t to, kind_t kind) {
    int64_t now = weir_trace_begin();
    if (now != 0) {
        add((record_t){.name = weir_frame_type_name((weir_frame_type_t)header->type),
                       .begin = now,
                       .end = now,
                       .step = header->step,
                       .bytes = header->payload_size,
                       .peer = kind == KIND_POSTED ? to : from,
                       .from = from,
                       .to = to,
                       .sequence = header->sequence,
                       .flags = header->flags,
                       .kind = (uint16_t)kind});
    }
}

void weir_trace_frame_posted(const weir_frame_header_t *header, uint32_t from, uint32_t to) {
    add_frame(header, from, to, KIND_POSTED);
}

void weir_trace_frame_received(const weir_frame_header_t *header, uint32_t to) {
    add_frame(header, header->source, to, KIND_RECEIVED);
}

/* ---- writing ---- */

/* What to add to CLOCK_MONOTONIC for the time since EPOCH_NS, by which hosts are laid side by side:
 * of some trials the one in which the clocks were read the closest. */
static int64_t find_offset(void) {
    int64_t offset = 0, closest = INT64_MAX;
    for (int i = 0; i < CLOCK_TRIALS; i++) {
        int64_t before = read_clock(CLOCK_MONOTONIC), now = read_clock(CLOCK_REALTIME);
        int64_t after = read_clock(CLOCK_MONOTONIC);
        if (after - before < closest) {
            closest = after - before;
            offset = now - before - (after - before) / 2 - EPOCH_NS;
        }
    }
    return offset;
}

/* By beginning; of two that begin together the longer first, which holds the other. */
static int compare_records(const void *left, const void *right) {
    const record_t *a = left, *b = right;
    if (a->begin != b->begin) {
        return a->begin < b->begin ? -1 : 1;
    }
    return (a->end < b->end) - (a->end > b->end);
}

static void write_time(FILE *out, const char *member, int64_t ns) {
    (void)fprintf(out, ",\"%s\":%" PRId64 ".%03d", member, ns / 1000, (int)(ns % 1000));
}

static void write_record(FILE *out, const record_t *record, size_t thread, int64_t offset) {
    static const char *const phases[] = {
        [KIND_SPAN] = "X", [KIND_POSTED] = "s", [KIND_RECEIVED] = "f"};
    (void)fprintf(out, ",\n{\"ph\":\"%s\",\"pid\":%u,\"tid\":%zu,\"name\":\"%s\"",
                  phases[record->kind], trace.rank, thread, record->name);
    write_time(out, "ts", record->begin + offset);
    if (record->kind == KIND_SPAN) {
        write_time(out, "dur", record->end - record->begin);
    } else {
        (void)fprintf(out, ",\"cat\":\"frame\",\"id\":\"%s/%" PRIu64 "/%" PRIu32 "/%u/%u>%u\"%s",
                      record->name, record->step, record->sequence, record->flags, record->from,
                      record->to, record->kind == KIND_RECEIVED ? ",\"bp\":\"e\"" : "");
    }
    (void)fprintf(out, ",\"args\":{\"step\":%" PRIu64, record->step);
    if (record->peer != WEIR_TRACE_NOBODY) {
        (void)fprintf(out, ",\"peer\":%" PRId64, record->peer);
    }
    if (record->kind != KIND_SPAN) {
        (void)fprintf(out, ",\"sequence\":%" PRIu32 ",\"bytes\":%" PRIu64, record->sequence,
                      record->bytes);
    }
    (void)fputs("}}", out);
}

static void write_thread(FILE *out, buffer_t *buffer, size_t thread, int64_t offset) {
    /* Acquire: pairs with the release in add. */
    size_t count = atomic_load_explicit(&buffer->count, memory_order_acquire);
    qsort(buffer->records, count, sizeof *buffer->records, compare_records);
    (void)fprintf(out,
                  ",\n{\"ph\":\"M\",\"pid\":%u,\"tid\":%zu,\"name\":\"thread_name\","
                  "\"args\":{\"name\":\"%s\",\"turned_away\":%zu}}",
                  trace.rank, thread, buffer->name, atomic_load(&buffer->turned_away));
    for (size_t i = 0; i < count; i++) {
        write_record(out, &buffer->records[i], thread, offset);
    }
}

static weir_err_t write_file(weir_error_t *error) {
    char host[64] = "", printable[64], *text = NULL;
    size_t size = 0;
    int64_t offset = find_offset();
    (void)gethostname(host, sizeof host - 1);
    for (size_t i = 0; i < sizeof host; i++) { /* no escapes */
        printable[i] = host[i] == '"' || host[i] == '\\' ? '_' : host[i];
    }
    FILE *out = open_memstream(&text, &size);
    if (out == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a timeline");
    }
    (void)fprintf(out,
                  "[\n{\"ph\":\"M\",\"pid\":%u,\"tid\":0,\"name\":\"process_name\","
                  "\"args\":{\"name\":\"%s %u\",\"role\":\"%s\",\"index\":%u,\"host\":\"%s\","
                  "\"first_step\":%" PRIu64 ",\"steps\":%" PRIu64 ",\"version\":\"" WEIR_VERSION
                  "\"}}",
                  trace.rank, trace.role, trace.index, trace.role, trace.index, printable,
                  trace.first, trace.end - trace.first);
    (void)pthread_mutex_lock(&trace.mutex);
    for (size_t i = 0; i < trace.buffer_count; i++) {
        write_thread(out, trace.buffers[i], i + 1, offset);
    }
    (void)pthread_mutex_unlock(&trace.mutex);
    (void)fputs("\n]\n", out);
    bool whole = ferror(out) == 0;
    whole = fclose(out) == 0 && whole;
    weir_err_t err = whole ? weir_file_replace(trace.path, text, size, error)
                           : weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a timeline");
    free(text);
    return err;
}

static void end_window(void) {
    weir_error_t error = {0};
    atomic_store(&weir_trace_recording, false);
    trace.open = false;
    if (write_file(&error) != WEIR_OK) {
        weir_log(WEIR_LOG_WARN, "trace", "%s", error.message);
    }
}

/* ---- the window ---- */

weir_err_t weir_trace_open(const weir_trace_options_t *options, weir_error_t *error) {
    char folder[WEIR_PATH_MAX], name[32];
    if (options->steps == 0) {
        return WEIR_OK;
    }
    (void)snprintf(name, sizeof name, "rank-%04u.json", options->rank);
    (void)snprintf(trace.role, sizeof trace.role, "%s", options->role);
    trace.rank = options->rank;
    trace.index = options->index;
    trace.first = options->after + WEIR_TRACE_WARM_UP + 1;
    trace.end = trace.first + options->steps;
    weir_err_t err = weir_path_join(folder, sizeof folder, options->run, "trace", error);
    if (err == WEIR_OK) {
        err = weir_path_join(trace.path, sizeof trace.path, folder, name, error);
    }
    if (err == WEIR_OK) {
        err = weir_file_make_directories(folder, error);
    }
    thread_name = "main";
    trace.open = err == WEIR_OK;
    return err;
}

void weir_trace_set_step(uint64_t step) {
    if (!trace.open) {
        return;
    }
    if (step >= trace.end) {
        end_window();
    } else if (step >= trace.first) {
        atomic_store(&weir_trace_recording, true);
    }
}

void weir_trace_close(void) {
    if (trace.open) {
        end_window();
    }
    for (size_t i = 0; i < trace.buffer_count; i++) {
        free(trace.buffers[i]->records);
        free(trace.buffers[i]);
    }
    trace.buffer_count = 0;
    thread_buffer = NULL;
}
