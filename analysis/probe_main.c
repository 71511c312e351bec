/* weir-probe: what the processes of a small MPI job see of their hosts, as JSON in
 * FOLDER/report.json. `weir doctor` runs it: weir-probe FOLDER [FIRST-LAST], a folder that should
 * be the same on all hosts, and ports that should be free there.
 *
 * Every process writes a file there; after all have, each looks for those of the others. Rank 0
 * compares clocks by round trips. */
#include "analysis/process.h"
#include "common/clock.h"
#include "common/comm_thread.h"
#include "common/file.h"
#include "common/log.h"
#include "common/version.h"
#include "worker/exchange.h"
#include "worker/parallel.h"
#include "worker/product.h"

#include <errno.h>
#include <jansson.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

enum { REPORT = 4096, ROUND_TRIPS = 12 };
#define WAIT 60.0

typedef struct {
    weir_comm_t *comm;
    weir_comm_thread_t *thread;
    weir_exchange_t *exchange;
    const char *folder, *ports;
    uint32_t rank, ranks;
} process_t;

/* ---- what one host is like ---- */

static double wall_clock(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* The first line of a small file, without its newline; empty: it cannot be read. */
static void read_line(const char *path, char *line, size_t capacity) {
    FILE *file = fopen(path, "r");
    line[0] = '\0';
    if (file != NULL) {
        if (fgets(line, (int)capacity, file) == NULL) {
            line[0] = '\0';
        }
        (void)fclose(file);
    }
    line[strcspn(line, "\n")] = '\0';
}

/* A line "Name:  123 kB" of /proc/meminfo, in MiB; 0: there is none. */
static double meminfo_mib(const char *name) {
    char line[256];
    double kib = 0.0;
    FILE *file = fopen("/proc/meminfo", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        size_t length = strlen(name);
        if (strncmp(line, name, length) == 0 && line[length] == ':') {
            kib = strtod(line + length + 1, NULL);
            break;
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return kib / 1024.0;
}

/* The limit of this process' control group, MiB; 0: none. */
static double group_limit_mib(void) {
    static const char *const files[] = {"/sys/fs/cgroup/memory.max",
                                        "/sys/fs/cgroup/memory/memory.limit_in_bytes"};
    char line[64];
    for (size_t i = 0; i < 2; i++) {
        read_line(files[i], line, sizeof line);
        double bytes = strtod(line, NULL);
        if (bytes > 0.0 && bytes < 1e17) {
            return bytes / 1048576.0;
        }
    }
    return 0.0;
}

/* What stands in brackets: "always [madvise] never". */
static void huge_pages(char *mode, size_t capacity) {
    char line[128];
    read_line("/sys/kernel/mm/transparent_hugepage/enabled", line, sizeof line);
    const char *begin = strchr(line, '[');
    int length = begin != NULL ? (int)strcspn(begin + 1, "]") : 0;
    (void)snprintf(mode, capacity, "%.*s", length, begin != NULL ? begin + 1 : "");
}

static const char *file_system(const char *folder) {
    static const struct {
        unsigned long magic;
        const char *name;
    } known[] = {{0x6969, "nfs"},       {0x0BD00BD0, "lustre"},  {0x47504653, "gpfs"},
                 {0x01021994, "tmpfs"}, {0xEF53, "ext4"},        {0x58465342, "xfs"},
                 {0x9123683E, "btrfs"}, {0x794C7630, "overlay"}, {0xFF534D42, "cifs"},
                 {0x00C36400, "ceph"},  {0x65735546, "fuse"},    {0x2FC12FC1, "zfs"}};
    struct statfs about;
    if (statfs(folder, &about) != 0) {
        return "unknown";
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if ((unsigned long)about.f_type == known[i].magic) {
            return known[i].name;
        }
    }
    return "other";
}

/* Ports of FIRST-LAST that cannot be listened on; without a range, 1 when no port can be. */
static long ports_taken(const char *range) {
    long first = 0, last = 0, taken = 0;
    if (range != NULL && sscanf(range, "%5ld-%5ld", &first, &last) != 2) {
        return 1;
    }
    for (long port = first; port <= last; port++) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        bool good = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
                    listen(fd, 1) == 0;
        taken += good ? 0 : 1;
        if (fd >= 0) {
            (void)close(fd);
        }
    }
    return taken;
}

static double limit_of(int resource) {
    struct rlimit limit;
    return getrlimit(resource, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY
               ? (double)limit.rlim_cur
               : -1.0;
}

/* ---- the folder ---- */

static weir_err_t path_of(const process_t *process, uint32_t rank, char *path, size_t capacity,
                          weir_error_t *error) {
    char name[32];
    (void)snprintf(name, sizeof name, "rank-%u", rank);
    return weir_path_join(path, capacity, process->folder, name, error);
}

/* Write a file through a rename, forced to disk, as a checkpoint is; seconds, or -1 with a reason.
 */
static double write_own(const process_t *process, weir_error_t *error) {
    char path[WEIR_PATH_MAX];
    double begun = weir_clock_seconds();
    weir_err_t err = path_of(process, process->rank, path, sizeof path, error);
    if (err == WEIR_OK) {
        err = weir_file_replace(path, "here\n", 5, error);
    }
    return err == WEIR_OK ? weir_clock_seconds() - begun : -1.0;
}

/* Files of the others that are seen within a few seconds: a network file system may show them
 * late. */
static uint32_t count_seen(const process_t *process, double *seconds) {
    char path[WEIR_PATH_MAX];
    double begun = weir_clock_seconds();
    for (;;) {
        uint32_t seen = 0;
        for (uint32_t rank = 0; rank < process->ranks; rank++) {
            bool there = path_of(process, rank, path, sizeof path, NULL) == WEIR_OK &&
                         weir_file_exists(path);
            seen += there ? 1 : 0;
        }
        *seconds = weir_clock_seconds() - begun;
        if (seen == process->ranks || *seconds > 5.0) {
            return seen;
        }
        weir_clock_sleep(0.05);
    }
}

/* ---- clocks ---- */

/* Rank 0 asks `other` for its time; the shortest round trip tells best. Rank `other` answers. */
static weir_err_t compare_clock(process_t *process, uint32_t other, double *skew, double *trip,
                                weir_error_t *error) {
    uint32_t peer = process->rank == 0 ? other : 0;
    weir_err_t err = WEIR_OK;
    *trip = 1e9;
    for (uint32_t i = 0; i < ROUND_TRIPS && err == WEIR_OK; i++) {
        double begun = wall_clock(), *answer = NULL;
        if (process->rank == 0) {
            err = weir_exchange_send(process->exchange, WEIR_FRAME_BARRIER, other, 2 * i, peer,
                                     &begun, sizeof begun, error);
        }
        if (err == WEIR_OK) {
            err = weir_exchange_receive(process->exchange, WEIR_FRAME_BARRIER, other,
                                        2 * i + (process->rank == 0 ? 1 : 0), peer, sizeof begun,
                                        (void **)&answer, error);
        }
        if (err == WEIR_OK && process->rank == 0) {
            double ended = wall_clock();
            if (ended - begun < *trip) {
                *trip = ended - begun;
                *skew = *answer - 0.5 * (begun + ended);
            }
        } else if (err == WEIR_OK) {
            double now = wall_clock();
            err = weir_exchange_send(process->exchange, WEIR_FRAME_BARRIER, other, 2 * i + 1, 0,
                                     &now, sizeof now, error);
        }
        weir_buffer_release(answer);
    }
    return err;
}

/* ---- the report ---- */

static weir_err_t describe(const process_t *process, double written, const char *why,
                           char report[REPORT], weir_error_t *error) {
    char host[256] = "", mode[32];
    weir_product_means_t means = {.level = "?", .blas_core = "?", .bf16 = "?"};
    struct statvfs space;
    double waited = 0.0;
    uint32_t seen = count_seen(process, &waited);
    weir_err_t err = weir_product_means(&means, error);
    (void)gethostname(host, sizeof host - 1);
    huge_pages(mode, sizeof mode);
    bool measured = statvfs(process->folder, &space) == 0;
    json_t *object = json_pack(
        "{s:s, s:s, s:i, s:i, s:f, s:s, s:i, s:f, s:s, s:f, s:f, s:f, s:s, s:f, s:f, s:s, s:s, "
        "s:s, "
        "s:s, s:i}",
        "host", host, "version", WEIR_VERSION, "rank", (int)process->rank, "processors",
        (int)weir_parallel_processors(), "write_seconds", written, "write_error", why, "seen",
        (int)seen, "seen_seconds", waited, "file_system", file_system(process->folder), "free_mib",
        measured ? (double)space.f_bavail * (double)space.f_frsize / 1048576.0 : -1.0, "memory_mib",
        meminfo_mib("MemAvailable"), "memory_limit_mib", group_limit_mib(), "huge_pages", mode,
        "open_files", limit_of(RLIMIT_NOFILE), "locked_bytes", limit_of(RLIMIT_MEMLOCK), "level",
        means.level, "blas", means.blas_core, "bf16", means.bf16, "blas_core_asked",
        getenv("OPENBLAS_CORETYPE") != NULL ? getenv("OPENBLAS_CORETYPE") : "", "ports_taken",
        (int)ports_taken(process->ports));
    char *text = err == WEIR_OK && object != NULL ? json_dumps(object, JSON_COMPACT) : NULL;
    if (err == WEIR_OK && (text == NULL || strlen(text) >= REPORT)) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "no memory for a report");
    }
    if (err == WEIR_OK) {
        (void)snprintf(report, REPORT, "%s", text);
    }
    free(text);
    json_decref(object);
    return err;
}

static weir_err_t write_report(const process_t *process, const char *reports, const double *skews,
                               const double *trips, weir_error_t *error) {
    char path[WEIR_PATH_MAX];
    json_t *array = json_array();
    weir_err_t err = WEIR_OK;
    for (uint32_t rank = 0; rank < process->ranks && err == WEIR_OK; rank++) {
        json_error_t bad;
        json_t *object = json_loads(reports + (size_t)rank * REPORT, 0, &bad);
        if (object == NULL) {
            err = weir_errorf(error, WEIR_ERR_CORRUPT, "rank %u reports nonsense", rank);
        } else {
            (void)json_object_set_new(object, "skew_seconds", json_real(skews[rank]));
            (void)json_object_set_new(object, "trip_seconds", json_real(trips[rank]));
            (void)json_array_append_new(array, object);
        }
    }
    char *text = err == WEIR_OK ? json_dumps(array, JSON_COMPACT) : NULL;
    if (err == WEIR_OK) {
        err = text == NULL
                  ? weir_errorf(error, WEIR_ERR_MEMORY, "no memory for a report")
                  : weir_path_join(path, sizeof path, process->folder, "report.json", error);
    }
    if (err == WEIR_OK) {
        err = weir_file_replace(path, text, strlen(text), error);
    }
    free(text);
    json_decref(array);
    return err;
}

static weir_err_t work(process_t *process, weir_error_t *error) {
    weir_error_t failed = {0};
    char mine[REPORT] = "";
    char *all = calloc(process->ranks, REPORT);
    double *skews = calloc(process->ranks, sizeof *skews);
    double *trips = calloc(process->ranks, sizeof *trips);
    weir_err_t err = all != NULL && skews != NULL && trips != NULL
                         ? WEIR_OK
                         : weir_errorf(error, WEIR_ERR_MEMORY, "out of memory");
    double written = write_own(process, &failed);
    if (err == WEIR_OK) { /* all have written */
        err = weir_exchange_all_gather(process->exchange, 0, 1000, mine, REPORT, all, error);
    }
    if (err == WEIR_OK) {
        err = describe(process, written, failed.message, mine, error);
    }
    for (uint32_t other = 1; other < process->ranks && err == WEIR_OK; other++) {
        if (process->rank == 0 || process->rank == other) {
            err = compare_clock(process, other, &skews[other], &trips[other], error);
        }
    }
    if (err == WEIR_OK) {
        err = weir_exchange_all_gather(process->exchange, 0, 1001, mine, REPORT, all, error);
    }
    if (err == WEIR_OK && process->rank == 0) {
        err = write_report(process, all, skews, trips, error);
    }
    free(all);
    free(skews);
    free(trips);
    return err;
}

int main(int argc, char **argv) {
    weir_error_t error = {0};
    process_t process = {.rank = 0};
    weir_err_t err = weir_analysis_begin(&argc, &argv, "probe", &process.comm, &error);
    if (err == WEIR_OK && (argc < 2 || argc > 3)) {
        err = weir_errorf(&error, WEIR_ERR_INVALID,
                          "usage: weir-probe FOLDER [FIRST-LAST]; weir doctor runs it");
    }
    if (err == WEIR_OK) {
        process.folder = argv[1];
        process.ports = argc > 2 ? argv[2] : NULL;
        process.rank = process.comm->rank;
        process.ranks = process.comm->size;
        weir_comm_thread_options_t options = {.comm = process.comm, .control_fd = -1};
        err = weir_comm_thread_start(&options, &process.thread, &error);
    }
    if (err == WEIR_OK) {
        weir_exchange_options_t options = {.comm_thread = process.thread,
                                           .worker = process.rank,
                                           .workers = process.ranks,
                                           .timeout = WAIT};
        err = weir_exchange_create(&options, &process.exchange, &error);
    }
    if (err == WEIR_OK) {
        err = work(&process, &error);
    }
    weir_exchange_destroy(process.exchange);
    if (err == WEIR_OK) {
        err = weir_comm_thread_stop(process.thread, 10.0, &error);
    }
    if (err != WEIR_OK) {
        weir_analysis_fail(process.comm, &error);
    }
    weir_comm_mpi_finalize(process.comm);
    return 0;
}
