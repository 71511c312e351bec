/* A worker as the servers and the coordinator see it. */
#include "tests/sim/world.h"

#include "common/file.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

/* What worker 0 writes: enough to see that it is of the step. */
#define DENSE_NAME "dense.safetensors"

uint32_t sim_worker_rank(const sim_t *sim, uint32_t worker) {
    return 1 + sim->ps + worker;
}

static uint64_t boundary_after(uint64_t step) {
    uint64_t next = (step / SIM_SAVE_EVERY + 1) * SIM_SAVE_EVERY;
    return next < SIM_STEPS ? next : SIM_STEPS;
}

static sim_pull_t *pull_of(sim_worker_t *worker, uint64_t step) {
    return &worker->pulls[step % (SIM_MAX_AHEAD + 1)];
}

static uint32_t owner_of(const sim_t *sim, weir_key_t key) {
    return weir_slot_owner(weir_slot_of_hash(weir_hash64(key)), sim->ps);
}

/* ---- sending ---- */

static void send_pull(sim_t *sim, sim_worker_t *worker, uint64_t step) {
    sim_pull_t *pull = pull_of(worker, step);
    weir_key_t keys[CASE_UNIVERSE];
    size_t count = case_pull(worker->index, step, keys);
    *pull = (sim_pull_t){.missing = (uint32_t)count, .unanswered = sim->ps};
    for (size_t i = 0; i < count; i++) {
        uint32_t server = owner_of(sim, keys[i]);
        pull->keys[server][pull->server_counts[server]++] = keys[i];
    }
    for (uint32_t server = 0; server < sim->ps; server++) {
        uint32_t rows = pull->server_counts[server];
        size_t size = rows > 0 ? 8 + rows * sizeof(weir_key_t) : 0;
        weir_frame_t frame = {
            .header = {
                .type = WEIR_FRAME_PULL_REQ, .step = step, .count = rows, .payload_size = size}};
        if (rows > 0) {
            uint64_t counts = rows; /* one table: its u32, and padding */
            frame.payload = weir_buffer_acquire(size);
            memcpy(frame.payload, &counts, 8);
            memcpy((char *)frame.payload + 8, pull->keys[server], rows * sizeof(weir_key_t));
        }
        sim_send_frame(sim, sim_worker_rank(sim, worker->index), 1 + server, frame);
    }
}

static void send_push(sim_t *sim, sim_worker_t *worker, uint64_t step) {
    const sim_pull_t *pull = pull_of(worker, step);
    for (uint32_t server = 0; server < sim->ps; server++) {
        uint32_t rows = pull->server_counts[server];
        size_t size = rows * CASE_DIM * sizeof(float);
        weir_frame_t frame = {
            .header = {
                .type = WEIR_FRAME_PUSH_REQ, .step = step, .count = rows, .payload_size = size}};
        if (rows > 0) {
            frame.payload = weir_buffer_acquire(size);
            case_gradients(worker->index, step, pull->keys[server], rows, frame.payload);
        }
        sim_send_frame(sim, sim_worker_rank(sim, worker->index), 1 + server, frame);
    }
}

/* To all other workers: this one has pushed `step` (sequence 0), or its checkpoint is there (3). */
static void tell_workers(sim_t *sim, const sim_worker_t *worker, uint64_t step, uint32_t sequence) {
    for (uint32_t other = 0; other < sim->workers; other++) {
        if (other != worker->index) {
            weir_frame_t frame = {
                .header = {.type = WEIR_FRAME_BARRIER, .step = step, .sequence = sequence}};
            sim_send_frame(sim, sim_worker_rank(sim, worker->index), sim_worker_rank(sim, other),
                           frame);
        }
    }
}

/* ---- steps ---- */

static bool all_have_met(const sim_t *sim, const sim_worker_t *worker, uint64_t step) {
    bool all = true;
    for (uint32_t other = 0; other < sim->workers; other++) {
        all = all && worker->met[other] >= step;
    }
    return all;
}

static void ask_to_save(sim_t *sim, sim_worker_t *worker) {
    char metrics[] = "";
    Weir__Control__CheckpointRequest request = WEIR__CONTROL__CHECKPOINT_REQUEST__INIT;
    Weir__Control__Envelope envelope = WEIR__CONTROL__ENVELOPE__INIT;
    request.step = worker->step;
    request.best = worker->step % 2 == 0;
    request.metrics_json = metrics;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_REQUEST;
    envelope.checkpoint_request = &request;
    sim_say(sim, sim_worker_rank(sim, 0), &envelope);
}

void sim_worker_finish(sim_t *sim, sim_worker_t *worker) {
    char reason[] = "finished";
    Weir__Control__Stop stop = WEIR__CONTROL__STOP__INIT;
    Weir__Control__Envelope envelope = WEIR__CONTROL__ENVELOPE__INIT;
    worker->done = true;
    stop.done = true;
    stop.reason = reason;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_STOP;
    envelope.stop = &stop;
    if (worker->index == 0) {
        sim_say(sim, sim_worker_rank(sim, 0), &envelope);
    }
}

static bool finish_step(sim_t *sim, sim_worker_t *worker) {
    uint64_t step = worker->step + 1;
    if (!worker->pushed && worker->pulled >= step && pull_of(worker, step)->unanswered == 0) {
        ck_assert_uint_eq(pull_of(worker, step)->missing, 0);
        send_push(sim, worker, step);
        worker->pushed = true;
        worker->met[worker->index] = step;
        tell_workers(sim, worker, step, 0);
        return true;
    }
    if (worker->pushed && all_have_met(sim, worker, step)) {
        worker->pushed = false;
        worker->step = step;
        worker->at_boundary = step == boundary_after(step - 1);
        return true;
    }
    return false;
}

/* The checkpoint before this one must be there; then the servers are asked to remember the step,
 * and when all have, training goes on while it is written. */
static void pass_boundary(sim_t *sim, sim_worker_t *worker) {
    if (worker->saved == worker->saving && worker->saving < worker->step) {
        worker->saving = worker->step;
        worker->uncut = sim->ps;
        for (uint32_t server = 0; server < sim->ps; server++) {
            weir_frame_t frame = {.header = {.type = WEIR_FRAME_CUT_REQ, .step = worker->step}};
            sim_send_frame(sim, sim_worker_rank(sim, worker->index), 1 + server, frame);
        }
    }
}

static void take_cut(sim_t *sim, sim_worker_t *worker, const weir_frame_header_t *header) {
    ck_assert(worker->at_boundary && worker->uncut > 0);
    ck_assert_uint_eq(header->step, worker->step);
    if (--worker->uncut == 0) {
        worker->at_boundary = false;
        worker->saving_since = sim->now;
        if (worker->index == 0) {
            ask_to_save(sim, worker);
        }
    }
}

void sim_worker_advance(sim_t *sim, sim_worker_t *worker) {
    bool moved = true;
    while (moved && !worker->done) {
        moved = false;
        if (worker->at_boundary) {
            pass_boundary(sim, worker);
            return;
        }
        if (worker->step == SIM_STEPS) {
            if (worker->saved == worker->step) {
                sim_worker_finish(sim, worker);
            }
            return;
        }
        uint64_t last = worker->step + 1 + sim->ahead, boundary = boundary_after(worker->step);
        last = last < boundary ? last : boundary;
        while (worker->pulled < last) {
            send_pull(sim, worker, ++worker->pulled);
            moved = true;
        }
        moved = finish_step(sim, worker) || moved;
    }
}

void sim_worker_start(sim_t *sim, uint32_t index, uint64_t step) {
    sim_worker_t *worker = &sim->players[index];
    *worker =
        (sim_worker_t){.index = index, .step = step, .pulled = step, .saving = step, .saved = step};
    for (uint32_t other = 0; other < sim->workers; other++) {
        worker->met[other] = step;
    }
}

/* ---- what comes ---- */

/* Rows of a pull must be those after the step before, whatever else goes on. */
static void check_row(const sim_t *sim, uint64_t step, weir_key_t key, const float *row) {
    size_t i = 0;
    while (case_key(i) != key) {
        i++;
    }
    const float *wanted = sim_expected(sim, step - 1) + i * CASE_DIM;
    ck_assert_msg(memcmp(row, wanted, CASE_DIM * sizeof(float)) == 0,
                  "seed %llu: a row of step %llu is not that after the step before",
                  (unsigned long long)sim->seed, (unsigned long long)step);
}

static void take_rows(sim_t *sim, sim_worker_t *worker, const weir_frame_t *frame) {
    uint32_t server = frame->header.source - 1;
    sim_pull_t *pull = pull_of(worker, frame->header.step);
    uint32_t rows = pull->server_counts[server];
    const char *at = frame->payload;
    uint64_t bits[2] = {UINT64_MAX, UINT64_MAX};
    if (frame->header.flags == 1) { /* first */
        memcpy(bits, at, (rows + 63) / 64 * 8);
        at += (rows + 63) / 64 * 8;
    } else if (frame->header.flags == 2) { /* rest */
        bits[0] = ~pull->got[server][0];
        bits[1] = ~pull->got[server][1];
    }
    uint32_t taken = 0;
    for (uint32_t i = 0; i < rows; i++) {
        if ((bits[i / 64] >> i % 64 & 1) != 0) {
            float row[CASE_DIM];
            memcpy(row, at + taken++ * sizeof row, sizeof row);
            check_row(sim, frame->header.step, pull->keys[server][i], row);
            ck_assert((pull->got[server][i / 64] >> i % 64 & 1) == 0);
            pull->got[server][i / 64] |= (uint64_t)1 << i % 64;
        }
    }
    ck_assert_uint_eq(taken, frame->header.count);
    pull->missing -= taken;
    pull->unanswered -= frame->header.flags != 1 ? 1 : 0;
}

void sim_worker_on_frame(sim_t *sim, sim_worker_t *worker, weir_frame_t frame) {
    if (frame.header.type == WEIR_FRAME_PULL_REP) {
        take_rows(sim, worker, &frame);
    } else if (frame.header.type == WEIR_FRAME_CUT_REP) {
        take_cut(sim, worker, &frame.header);
    } else if (frame.header.sequence == 0) {
        uint32_t other = frame.header.source - sim_worker_rank(sim, 0);
        ck_assert_uint_eq(worker->met[other] + 1, frame.header.step);
        worker->met[other] = frame.header.step;
    } else {
        worker->saved = frame.header.step;
    }
    weir_buffer_release(frame.payload);
    sim_worker_advance(sim, worker);
}

static void write_dense(sim_t *sim, const Weir__Control__CheckpointBegin *begin) {
    char path[900], text[64], name[] = DENSE_NAME, nothing[] = "";
    Weir__Control__CheckpointFile file = WEIR__CONTROL__CHECKPOINT_FILE__INIT, *files[] = {&file};
    Weir__Control__CheckpointDone done = WEIR__CONTROL__CHECKPOINT_DONE__INIT;
    Weir__Control__Envelope envelope = WEIR__CONTROL__ENVELOPE__INIT;
    int size = snprintf(text, sizeof text, "dense of step %llu", (unsigned long long)begin->step);
    (void)snprintf(path, sizeof path, "%s/%s", begin->folder, DENSE_NAME);
    if (weir_file_replace(path, text, (size_t)size, NULL) != WEIR_OK) {
        return; /* the folder is gone: the checkpoint was given up */
    }
    file.name = name;
    file.size = (uint64_t)size;
    file.checksum = weir_checksum(text, (size_t)size, 0);
    done.rank = sim_worker_rank(sim, 0);
    done.step = begin->step;
    done.n_files = 1;
    done.files = files;
    done.error = nothing;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_DONE;
    envelope.checkpoint_done = &done;
    sim_say(sim, sim_worker_rank(sim, 0), &envelope);
}

void sim_worker_on_control(sim_t *sim, sim_worker_t *worker,
                           const Weir__Control__Envelope *envelope) {
    if (worker->index != 0) {
        return;
    }
    if (envelope->body_case == WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_BEGIN) {
        ck_assert_uint_eq(envelope->checkpoint_begin->step, worker->saving);
        write_dense(sim, envelope->checkpoint_begin);
    } else if (envelope->body_case == WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_DONE) {
        if (envelope->checkpoint_done->error[0] != '\0') {
            sim->failed = true; /* a checkpoint that cannot be written ends the job */
            return;
        }
        worker->saved = envelope->checkpoint_done->step;
        sim->published = worker->saved;
        tell_workers(sim, worker, worker->saved, 3);
        sim_worker_advance(sim, worker);
    }
}
