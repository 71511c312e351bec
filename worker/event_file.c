#include "worker/event_file.h"

#include "common/file.h"
#include "common/log.h"
#include "worker/events.pb-c.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MAX_EVENT = 16384, SESSION_START = 1 };

struct weir_event_file {
    FILE *stream;
    bool failed; /* said so in the log */
    uint8_t event[MAX_EVENT];
};

uint32_t weir_event_file_crc32c(const void *bytes, size_t size) {
    static const uint32_t polynomial = 0x82f63b78u; /* reflected */
    const uint8_t *byte = bytes;
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < size; i++) { /* a few hundred bytes a line: no table is worth it */
        crc ^= byte[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ ((crc & 1u) != 0 ? polynomial : 0u);
        }
    }
    return ~crc;
}

/* As TFRecord stores it, so that a sum of bytes that hold sums is no sum of zero. */
static uint32_t masked_crc(const void *bytes, size_t size) {
    uint32_t crc = weir_event_file_crc32c(bytes, size);
    return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

static void store_little(uint8_t *to, uint64_t value, size_t size) {
    for (size_t i = 0; i < size; i++) {
        to[i] = (uint8_t)(value >> (8 * i));
    }
}

/* A TFRecord: length, its sum, the event, its sum. */
static bool write_record(weir_event_file_t *file, const Weir__Events__Event *event) {
    uint8_t head[12], tail[4];
    size_t size = weir__events__event__get_packed_size(event);
    if (size > sizeof file->event) {
        return false;
    }
    (void)weir__events__event__pack(event, file->event);
    store_little(head, size, 8);
    store_little(head + 8, masked_crc(head, 8), 4);
    store_little(tail, masked_crc(file->event, size), 4);
    return fwrite(head, sizeof head, 1, file->stream) == 1 &&
           fwrite(file->event, size, 1, file->stream) == 1 &&
           fwrite(tail, sizeof tail, 1, file->stream) == 1 && fflush(file->stream) == 0;
}

static double wall_time(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static bool write_start(weir_event_file_t *file, uint64_t step) {
    char version[] = "brain.Event:2"; /* from which on a reader heeds starts */
    Weir__Events__SessionLog session = WEIR__EVENTS__SESSION_LOG__INIT;
    Weir__Events__Event first = WEIR__EVENTS__EVENT__INIT, start = WEIR__EVENTS__EVENT__INIT;
    first.wall_time = start.wall_time = wall_time();
    first.file_version = version;
    start.step = (int64_t)step + 1;
    session.status = SESSION_START;
    start.session_log = &session;
    return write_record(file, &first) && write_record(file, &start);
}

weir_err_t weir_event_file_open(const char *run, uint64_t step, weir_event_file_t **file,
                                weir_error_t *error) {
    char folder[WEIR_PATH_MAX], name[192], path[WEIR_PATH_MAX], host[64] = "";
    (void)gethostname(host, sizeof host - 1);
    weir_err_t err = weir_path_join(folder, sizeof folder, run, "tensorboard", error);
    if (err == WEIR_OK && mkdir(folder, 0777) != 0 && errno != EEXIST) {
        err = weir_error_from_errno(error, errno, "cannot make %s", folder);
    }
    if (err != WEIR_OK) {
        return err;
    }
    weir_event_file_t *created = calloc(1, sizeof *created);
    if (created == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the event file");
    }
    /* Readers take files in the order of their names: two starts in one second stay in order. */
    for (int turn = 0; turn < 1000 && err == WEIR_OK && created->stream == NULL; turn++) {
        (void)snprintf(name, sizeof name, "events.out.tfevents.%010lld.%03d.%s",
                       (long long)wall_time(), turn, host);
        err = weir_path_join(path, sizeof path, folder, name, error);
        int fd = err == WEIR_OK ? open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666) : -1;
        created->stream = fd >= 0 ? fdopen(fd, "w") : NULL;
        if (err == WEIR_OK && fd < 0 && errno != EEXIST) {
            err = weir_error_from_errno(error, errno, "cannot open %s", path);
        } else if (fd >= 0 && created->stream == NULL) {
            (void)close(fd);
        }
    }
    if (err == WEIR_OK && (created->stream == NULL || !write_start(created, step))) {
        err = weir_error_from_errno(error, errno, "cannot write %s", path);
    }
    if (err != WEIR_OK) {
        weir_event_file_close(created);
        return err;
    }
    *file = created;
    return WEIR_OK;
}

void weir_event_file_close(weir_event_file_t *file) {
    if (file != NULL) {
        if (file->stream != NULL) {
            (void)fclose(file->stream);
        }
        free(file);
    }
}

void weir_event_file_add(weir_event_file_t *file, uint64_t step, const weir_event_scalar_t *scalars,
                         size_t count) {
    char tags[WEIR_EVENT_SCALARS][96];
    Weir__Events__Scalar values[WEIR_EVENT_SCALARS], *pointers[WEIR_EVENT_SCALARS];
    Weir__Events__Summary summary = WEIR__EVENTS__SUMMARY__INIT;
    Weir__Events__Event event = WEIR__EVENTS__EVENT__INIT;
    size_t kept = 0;
    for (size_t i = 0; file != NULL && i < count && kept < WEIR_EVENT_SCALARS; i++) {
        if (isfinite(scalars[i].value)) {
            weir__events__scalar__init(&values[kept]);
            (void)snprintf(tags[kept], sizeof tags[kept], "%s", scalars[i].tag);
            values[kept].tag = tags[kept];
            values[kept].value_case = WEIR__EVENTS__SCALAR__VALUE_SIMPLE_VALUE;
            values[kept].simple_value = (float)scalars[i].value;
            pointers[kept] = &values[kept];
            kept++;
        }
    }
    if (kept == 0) {
        return;
    }
    summary.n_value = kept;
    summary.value = pointers;
    event.wall_time = wall_time();
    event.step = (int64_t)step;
    event.summary = &summary;
    if (!write_record(file, &event) && !file->failed) {
        file->failed = true;
        weir_log(WEIR_LOG_ERROR, "event_file", "TensorBoard's events cannot be written: %s",
                 strerror(errno));
    }
}
