#include "common/comm_faults.h"

#include "common/clock.h"
#include "common/rng.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct kept {
    struct kept *next;
    weir_rank_t to;
    weir_frame_t frame;
    double due;
} kept_t;

typedef struct {
    weir_comm_t base;
    weir_comm_t *inner;
    weir_comm_faults_t faults;
    uint64_t sent;
    kept_t *kept; /* frames that are delayed, in no order */
} faulty_t;

static faulty_t *faulty_of(weir_comm_t *comm) {
    return (faulty_t *)(void *)comm; /* base is the first member */
}

static bool take_number(const char *text, const char *name, double *value) {
    size_t size = strlen(name);
    char *end = NULL;
    if (strncmp(text, name, size) != 0 || text[size] != '=') {
        return false;
    }
    *value = strtod(text + size + 1, &end);
    return end != text + size + 1 && (*end == '\0' || *end == ',') && *value >= 0.0;
}

weir_err_t weir_comm_faults_parse(const char *text, weir_comm_faults_t *faults,
                                  weir_error_t *error) {
    double seed = 1.0, first = 0.0;
    *faults = (weir_comm_faults_t){.seconds = 0.02};
    for (const char *at = text; at != NULL && *at != '\0';) {
        if (!take_number(at, "seed", &seed) && !take_number(at, "drop", &faults->drop) &&
            !take_number(at, "duplicate", &faults->duplicate) &&
            !take_number(at, "delay", &faults->delay) &&
            !take_number(at, "seconds", &faults->seconds) && !take_number(at, "first", &first)) {
            return weir_errorf(error, WEIR_ERR_INVALID,
                               "\"%.100s\" is no list of faults: seed, drop, duplicate, delay, "
                               "seconds, first, each =NUMBER, by commas",
                               text);
        }
        at = strchr(at, ',');
        at = at != NULL ? at + 1 : NULL;
    }
    faults->seed = (uint64_t)seed;
    faults->first = (uint64_t)first;
    return WEIR_OK;
}

/* ---- sending ---- */

static weir_err_t pass_on(faulty_t *faulty, weir_rank_t to, weir_frame_t frame,
                          weir_error_t *error) {
    faulty->inner->job = faulty->base.job;
    return faulty->inner->operations->send(faulty->inner, to, frame, error);
}

static bool copy_frame(const weir_frame_t *frame, weir_frame_t *copy) {
    size_t size = (size_t)frame->header.payload_size;
    *copy = (weir_frame_t){.header = frame->header};
    if (size > 0) {
        copy->payload = weir_buffer_acquire(size);
        if (copy->payload == NULL) {
            return false;
        }
        memcpy(copy->payload, frame->payload, size);
    }
    return true;
}

static weir_err_t keep_back(faulty_t *faulty, weir_rank_t to, weir_frame_t frame, double due,
                            weir_error_t *error) {
    kept_t *kept = malloc(sizeof *kept);
    if (kept == NULL) {
        weir_buffer_release(frame.payload);
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory to delay a frame");
    }
    *kept = (kept_t){.next = faulty->kept, .to = to, .frame = frame, .due = due};
    faulty->kept = kept;
    return WEIR_OK;
}

static weir_err_t send_faulty(weir_comm_t *comm, weir_rank_t to, weir_frame_t frame,
                              weir_error_t *error) {
    faulty_t *faulty = faulty_of(comm);
    const weir_comm_faults_t *faults = &faulty->faults;
    uint64_t number = faulty->sent++;
    weir_philox_t drawn = weir_philox(weir_rng_key(faults->seed, WEIR_STREAM_TEST), comm->rank,
                                      (uint32_t)number, (uint32_t)(number >> 32), 0);
    bool on = number >= faults->first;
    weir_frame_t copy;
    weir_err_t err = WEIR_OK;
    if (on && weir_uniform01(drawn.word[0]) < faults->drop) {
        weir_buffer_release(frame.payload);
        return WEIR_OK;
    }
    if (on && weir_uniform01(drawn.word[1]) < faults->duplicate && copy_frame(&frame, &copy)) {
        err = keep_back(faulty, to, copy,
                        weir_clock_seconds() + faults->seconds * weir_uniform01(drawn.word[3]),
                        error);
    }
    if (err == WEIR_OK && on && weir_uniform01(drawn.word[2]) < faults->delay) {
        return keep_back(faulty, to, frame,
                         weir_clock_seconds() + faults->seconds * weir_uniform01(drawn.word[3]),
                         error);
    }
    if (err != WEIR_OK) {
        weir_buffer_release(frame.payload);
        return err;
    }
    return pass_on(faulty, to, frame, error);
}

static weir_err_t send_due(faulty_t *faulty, bool *progressed, weir_error_t *error) {
    double now = faulty->kept != NULL ? weir_clock_seconds() : 0.0;
    for (kept_t **place = &faulty->kept; *place != NULL;) {
        kept_t *kept = *place;
        if (kept->due > now) {
            place = &kept->next;
            continue;
        }
        *place = kept->next;
        weir_err_t err = pass_on(faulty, kept->to, kept->frame, error);
        free(kept);
        *progressed = true;
        if (err != WEIR_OK) {
            return err;
        }
    }
    return WEIR_OK;
}

/* ---- the rest ---- */

static weir_err_t poll_faulty(weir_comm_t *comm, weir_frame_t *frame, bool *received,
                              bool *progressed, weir_error_t *error) {
    faulty_t *faulty = faulty_of(comm);
    bool moved = false;
    weir_err_t err = send_due(faulty, &moved, error);
    if (err == WEIR_OK) {
        faulty->inner->job = comm->job;
        err = faulty->inner->operations->poll(faulty->inner, frame, received, progressed, error);
    }
    *progressed = *progressed || moved;
    return err;
}

static bool is_idle(const weir_comm_t *comm) {
    const faulty_t *faulty = (const faulty_t *)(const void *)comm;
    return faulty->kept == NULL && faulty->inner->operations->idle(faulty->inner);
}

static bool is_receiving(const weir_comm_t *comm) {
    const faulty_t *faulty = (const faulty_t *)(const void *)comm;
    return faulty->inner->operations->receiving(faulty->inner);
}

static void destroy_faulty(weir_comm_t *comm) {
    faulty_t *faulty = faulty_of(comm);
    kept_t *next;
    for (kept_t *kept = faulty->kept; kept != NULL; kept = next) {
        next = kept->next;
        weir_buffer_release(kept->frame.payload);
        free(kept);
    }
    free(faulty);
}

static const weir_comm_operations_t faulty_operations = {.destroy = destroy_faulty,
                                                         .send = send_faulty,
                                                         .poll = poll_faulty,
                                                         .idle = is_idle,
                                                         .receiving = is_receiving};

weir_err_t weir_comm_faults_create(weir_comm_t *inner, const weir_comm_faults_t *faults,
                                   weir_comm_t **comm, weir_error_t *error) {
    faulty_t *faulty = calloc(1, sizeof *faulty);
    if (faulty == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for a transport with faults");
    }
    faulty->base = (weir_comm_t){.operations = &faulty_operations,
                                 .rank = inner->rank,
                                 .size = inner->size,
                                 .job = inner->job,
                                 .patience = inner->patience};
    faulty->inner = inner;
    faulty->faults = *faults;
    *comm = &faulty->base;
    return WEIR_OK;
}
