/* What do checks, order and back-off cost? Frames between two ranks against a plain
 * MPI_Send/MPI_Recv loop in the same run, and the time of a round trip through comm threads, alone
 * and with every core computing. One JSON line a question.
 *
 *     mpirun -n 2 bench_transport [SECONDS]     about SECONDS (default 0.3) a measurement */
#include "bench/measure.h"
#include "common/clock.h"
#include "common/comm_thread.h"

#include <mpi.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    ROUNDS = 7,     /* the median of as many */
    MAX_BATCH = 64, /* messages sent before the sender waits for the receiver */
    BATCH_BYTES = 32 << 20,
    MAX_HOGS = 64,
    MAX_TRIPS = 20000,
    PULLS = 1 << WEIR_FRAME_PULL_REQ | 1 << WEIR_FRAME_PULL_REP
};

typedef struct {
    weir_comm_t *comm;
    weir_comm_thread_t *thread; /* NULL while the transport is driven directly */
    char machine[WEIR_MEASURE_MACHINE];
    double budget;
} bench_t;

_Noreturn static void stop(const char *what) {
    (void)fprintf(stderr, "bench_transport: %s\n", what);
    (void)MPI_Abort(MPI_COMM_WORLD, EXIT_FAILURE);
    exit(EXIT_FAILURE);
}

static weir_frame_t make_frame(weir_frame_type_t type, uint64_t step, size_t size) {
    weir_frame_t frame = {.header = {.type = (uint16_t)type, .step = step, .payload_size = size},
                          .payload = weir_buffer_acquire(size)};
    if (frame.payload == NULL) {
        stop("out of memory");
    }
    return frame;
}

static void send_frame(bench_t *bench, weir_frame_t frame) {
    weir_error_t error = {0};
    weir_rank_t to = 1 - bench->comm->rank;
    weir_err_t err = bench->thread != NULL ? weir_comm_thread_post(bench->thread, to, frame, &error)
                                           : weir_comm_send(bench->comm, to, frame, &error);
    if (err != WEIR_OK) {
        stop(error.message);
    }
}

static weir_frame_t receive_frame(bench_t *bench) {
    weir_error_t error = {0};
    weir_frame_t frame;
    bool received = false, progressed = false;
    while (!received) {
        weir_err_t err =
            bench->thread != NULL
                ? weir_comm_thread_take(bench->thread, PULLS, 60.0, &frame, &received, &error)
                : weir_comm_poll(bench->comm, &frame, &received, &progressed, &error);
        if (err != WEIR_OK) {
            stop(error.message);
        }
        if (bench->thread == NULL && !progressed) {
            (void)sched_yield(); /* as MPI's own waits do */
        }
    }
    return frame;
}

static void drain(bench_t *bench) {
    weir_frame_t frame;
    weir_error_t error = {0};
    bool received = false, progressed = false;
    while (bench->thread == NULL && !weir_comm_idle(bench->comm)) {
        if (weir_comm_poll(bench->comm, &frame, &received, &progressed, &error) != WEIR_OK ||
            received) {
            stop("a frame that nobody sent");
        }
    }
}

/* Rank 0 sends a batch, rank 1 says that it has it. */
static void stream_frames(bench_t *bench, size_t size, int batch) {
    for (int i = 0; i < batch; i++) {
        if (bench->comm->rank == 0) {
            send_frame(bench, make_frame(WEIR_FRAME_PULL_REQ, (uint64_t)i, size));
        } else {
            weir_buffer_release(receive_frame(bench).payload);
        }
    }
    if (bench->comm->rank == 1) {
        send_frame(bench, make_frame(WEIR_FRAME_PULL_REP, 0, 0));
        drain(bench);
    } else {
        weir_buffer_release(receive_frame(bench).payload);
    }
}

/* The same by MPI alone, from as many buffers. */
static void stream_raw(bench_t *bench, size_t size, int batch, char *const *buffers) {
    for (int i = 0; i < batch; i++) {
        if (bench->comm->rank == 0) {
            (void)MPI_Send(buffers[i], (int)size, MPI_BYTE, 1, 1, MPI_COMM_WORLD);
        } else {
            (void)MPI_Recv(buffers[i], (int)size, MPI_BYTE, 0, 1, MPI_COMM_WORLD,
                           MPI_STATUS_IGNORE);
        }
    }
    int other = 1 - (int)bench->comm->rank;
    if (bench->comm->rank == 1) {
        (void)MPI_Send(NULL, 0, MPI_BYTE, other, 2, MPI_COMM_WORLD);
    } else {
        (void)MPI_Recv(NULL, 0, MPI_BYTE, other, 2, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    }
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Seconds of `repeats` batches. */
static double time_batches(bench_t *bench, size_t size, int batch, int repeats,
                           char *const *buffers) {
    double begin = weir_clock_seconds();
    for (int i = 0; i < repeats; i++) {
        if (buffers != NULL) {
            stream_raw(bench, size, batch, buffers);
        } else {
            stream_frames(bench, size, batch);
        }
    }
    return weir_clock_seconds() - begin;
}

/* Medians of the time of one message: by frames, by MPI alone; in turn, so that what else the
 * machine does falls on both. */
static void measure_stream(bench_t *bench, size_t size, double *frames, double *raw) {
    int batch = (int)(BATCH_BYTES / size);
    batch = batch > MAX_BATCH ? MAX_BATCH : batch < 2 ? 2 : batch;
    char *buffers[MAX_BATCH];
    double samples[2][ROUNDS];
    for (int i = 0; i < batch; i++) {
        buffers[i] = weir_measure_allocate(size, 1);
    }
    (void)time_batches(bench, size, batch, 2, NULL);
    double once = time_batches(bench, size, batch, 1, buffers);
    int repeats = 1 + (int)(bench->budget / ROUNDS / once);
    (void)MPI_Bcast(&repeats, 1, MPI_INT, 0, MPI_COMM_WORLD);
    for (int round = 0; round < ROUNDS; round++) {
        samples[0][round] = time_batches(bench, size, batch, repeats, NULL);
        samples[1][round] = time_batches(bench, size, batch, repeats, buffers);
    }
    for (int i = 0; i < 2; i++) {
        qsort(samples[i], ROUNDS, sizeof samples[i][0], compare);
    }
    *frames = samples[0][ROUNDS / 2] / (repeats * batch);
    *raw = samples[1][ROUNDS / 2] / (repeats * batch);
    for (int i = 0; i < batch; i++) {
        free(buffers[i]);
    }
}

/* Contents and order, before anything is timed. */
static void verify(bench_t *bench, size_t size) {
    for (uint64_t step = 0; step < 5; step++) {
        if (bench->comm->rank == 0) {
            weir_frame_t frame = make_frame(WEIR_FRAME_PULL_REQ, step, size);
            memset(frame.payload, (int)(step + 1), size);
            send_frame(bench, frame);
        } else {
            weir_frame_t frame = receive_frame(bench);
            const unsigned char *bytes = frame.payload;
            if (frame.header.step != step || frame.header.payload_size != size ||
                bytes[0] != step + 1 || memcmp(bytes, bytes + 1, size - 1) != 0) {
                stop("a frame did not arrive as it was sent");
            }
            weir_buffer_release(frame.payload);
        }
    }
    drain(bench);
    (void)MPI_Barrier(MPI_COMM_WORLD);
}

static void report_stream(bench_t *bench) {
    for (size_t size = 4096; size <= (size_t)16 << 20; size *= 4) {
        double frames = 0.0, raw = 0.0;
        verify(bench, size);
        measure_stream(bench, size, &frames, &raw);
        if (bench->comm->rank == 0) {
            (void)printf("{\"bench\":\"transport\",\"what\":\"stream\",\"machine\":\"%s\","
                         "\"bytes\":%zu,\"frames_per_s\":%.0f,\"gb_per_s\":%.2f,"
                         "\"raw_gb_per_s\":%.2f,\"of_raw\":%.2f}\n",
                         bench->machine, size, 1.0 / frames, 1e-9 * (double)size / frames,
                         1e-9 * (double)size / raw, raw / frames);
            (void)fflush(stdout);
        }
    }
}

static atomic_bool hogs_stop;

static void *compute(void *argument) {
    volatile double sum = 0.0;
    while (!atomic_load_explicit(&hogs_stop, memory_order_relaxed) && sum < 1e300) {
        sum += 1e-9;
    }
    return argument;
}

/* Round trips of `size` there and back: median and 99th percentile in microseconds. */
static void measure_trips(bench_t *bench, size_t size, double pause, double *median, double *tail) {
    static double samples[MAX_TRIPS];
    int count = 0;
    double begin = weir_clock_seconds();
    uint64_t more = 1;
    while (more != 0) {
        if (bench->comm->rank == 0) {
            more = count < MAX_TRIPS - 1 && weir_clock_seconds() - begin < 4.0 * bench->budget;
            weir_clock_sleep(pause);
            double start = weir_clock_seconds();
            send_frame(bench, make_frame(WEIR_FRAME_PULL_REQ, more, size));
            weir_buffer_release(receive_frame(bench).payload);
            samples[count++] = weir_clock_seconds() - start;
        } else {
            weir_frame_t frame = receive_frame(bench);
            more = frame.header.step;
            frame.header.type = WEIR_FRAME_PULL_REP;
            send_frame(bench, frame);
        }
    }
    qsort(samples, (size_t)count, sizeof samples[0], compare);
    *median = count > 0 ? 1e6 * samples[count / 2] : 0.0;
    *tail = count > 0 ? 1e6 * samples[count - 1 - count / 100] : 0.0;
}

/* `hogs`: threads that compute beside, as many as the machine has cores, or none. */
static void report_trips(bench_t *bench, int hogs) {
    static const size_t sizes[] = {64, 1 << 20};
    static const double pauses[] = {0.0, 0.01};
    pthread_t threads[MAX_HOGS];
    atomic_store(&hogs_stop, false);
    for (int i = 0; i < hogs && bench->comm->rank == 0; i++) {
        if (pthread_create(&threads[i], NULL, compute, NULL) != 0) {
            stop("cannot start a thread");
        }
    }
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (size_t j = 0; j < sizeof pauses / sizeof pauses[0]; j++) {
            double median = 0.0, tail = 0.0;
            measure_trips(bench, sizes[i], pauses[j], &median, &tail);
            if (bench->comm->rank == 0) {
                (void)printf("{\"bench\":\"transport\",\"what\":\"round_trip\",\"machine\":\"%s\","
                             "\"bytes\":%zu,\"pause_ms\":%g,\"computing\":%d,\"median_us\":%.1f,"
                             "\"p99_us\":%.1f}\n",
                             bench->machine, sizes[i], 1e3 * pauses[j], hogs, median, tail);
                (void)fflush(stdout);
            }
        }
    }
    atomic_store(&hogs_stop, true);
    for (int i = 0; i < hogs && bench->comm->rank == 0; i++) {
        (void)pthread_join(threads[i], NULL);
    }
}

int main(int argc, char **argv) {
    bench_t bench = {.budget = argc > 1 ? strtod(argv[1], NULL) : 0.3};
    weir_error_t error = {0};
    if (weir_comm_mpi_init(&argc, &argv, &bench.comm, &error) != WEIR_OK) {
        (void)fprintf(stderr, "bench_transport: %s\n", error.message);
        return EXIT_FAILURE;
    }
    if (bench.comm->size != 2 || bench.budget <= 0.0 || bench.budget > 60.0) {
        stop("usage: mpirun -n 2 bench_transport [SECONDS]");
    }
    uint64_t job = (uint64_t)getpid(); /* of rank 0; bells of another run are not ours */
    (void)MPI_Bcast(&job, 1, MPI_UINT64_T, 0, MPI_COMM_WORLD);
    bench.comm->job = job;
    weir_measure_machine(bench.machine);
    report_stream(&bench);
    weir_comm_thread_options_t options = {.comm = bench.comm, .control_fd = -1, .callers = 1};
    if (weir_comm_thread_start(&options, &bench.thread, &error) != WEIR_OK) {
        stop(error.message);
    }
    int cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
    report_trips(&bench, 0);
    report_trips(&bench, cores < MAX_HOGS ? cores : MAX_HOGS);
    if (weir_comm_thread_stop(bench.thread, 10.0, &error) != WEIR_OK) {
        stop(error.message);
    }
    weir_comm_mpi_finalize(bench.comm);
    weir_buffer_trim();
    return 0;
}
