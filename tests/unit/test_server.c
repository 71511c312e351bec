#include "common/rng.h"
#include "ps/server.h"
#include "tests/suite.h"
#include "tests/unit/ps_cases.h"
#include "tests/unit/table_cases.h"

#include <string.h>

/* ---- a whole job without threads: links are queues, delivered in an order from a seed ---- */

enum { MAX_RANKS = 6, QUEUE = 16 };

typedef struct {
    weir_frame_t frames[QUEUE];
    size_t first, count;
} link_t;

typedef struct {
    uint64_t step;                   /* the oldest whose pull is under way; the next is too */
    uint32_t answers[2];             /* by step % 2: servers that have answered all */
    uint64_t first[2][MAX_RANKS][2]; /* by step % 2 and server: rows that came ahead */
} worker_t;

typedef struct {
    uint32_t ps, workers; /* servers are ranks 0 .. ps - 1, workers follow */
    uint64_t steps;
    link_t links[MAX_RANKS][MAX_RANKS]; /* [from][to] */
    weir_table_t *tables[MAX_RANKS];
    weir_server_t *servers[MAX_RANKS];
    worker_t worker[MAX_RANKS];
    weir_rank_t sending;                                      /* the server whose handle runs */
    float expected[CASE_STEPS + 1][CASE_UNIVERSE * CASE_DIM]; /* after each step */
    uint64_t early;                                           /* rows that came ahead */
} job_t;

static void put(job_t *job, weir_rank_t from, weir_rank_t to, weir_frame_t frame) {
    link_t *link = &job->links[from][to];
    ck_assert_uint_lt(link->count, QUEUE);
    frame.header.source = from;
    link->frames[(link->first + link->count++) % QUEUE] = frame;
}

static weir_err_t send_from_server(void *argument, weir_rank_t to, weir_frame_t frame,
                                   weir_error_t *error) {
    job_t *job = argument;
    (void)error;
    put(job, job->sending, to, frame);
    return WEIR_OK;
}

static uint32_t owner_of(weir_key_t key, uint32_t ps) {
    return weir_slot_owner(weir_slot_of_hash(weir_hash64(key)), ps);
}

/* The keys of a worker's pull that a server owns. */
static uint32_t part_of(const job_t *job, uint32_t w, uint64_t step, uint32_t server,
                        weir_key_t part[CASE_UNIVERSE]) {
    weir_key_t keys[CASE_UNIVERSE];
    size_t count = case_pull(w, step, keys);
    uint32_t mine = 0;
    for (size_t i = 0; i < count; i++) {
        if (owner_of(keys[i], job->ps) == server) {
            part[mine++] = keys[i];
        }
    }
    return mine;
}

static void send_part(job_t *job, uint32_t w, weir_frame_type_t type, uint64_t step) {
    weir_key_t part[CASE_UNIVERSE];
    for (uint32_t s = 0; s < job->ps; s++) {
        uint32_t mine = part_of(job, w, step, s, part);
        bool pulls = type == WEIR_FRAME_PULL_REQ;
        size_t size = mine * (pulls ? sizeof(weir_key_t) : CASE_DIM * sizeof(float)) +
                      (pulls && mine > 0 ? sizeof(uint64_t) : 0);
        weir_frame_t frame = {
            .header = {.type = (uint16_t)type, .step = step, .count = mine, .payload_size = size}};
        if (mine > 0) {
            frame.payload = weir_buffer_acquire(size);
            ck_assert_ptr_nonnull(frame.payload);
        }
        if (mine > 0 && pulls) {
            *(uint64_t *)frame.payload = mine;
            memcpy((uint64_t *)frame.payload + 1, part, mine * sizeof *part);
        } else if (mine > 0) {
            case_gradients(w, step, part, mine, frame.payload);
        }
        put(job, job->ps + w, s, frame);
    }
}

/* Every row that a worker sees, early or not, is the one after the step before. */
static void check_rows(job_t *job, uint32_t w, const weir_frame_t *frame) {
    enum { WHOLE, FIRST, REST };
    weir_key_t keys[CASE_UNIVERSE];
    const weir_frame_header_t *header = &frame->header;
    uint32_t server = header->source, rows = 0, wrong = 0;
    uint32_t count = part_of(job, w, header->step, server, keys);
    uint64_t *bits = job->worker[w].first[header->step % 2][server];
    const char *from = frame->payload;
    ck_assert_uint_le(count, 128);
    if (header->flags == FIRST) {
        memcpy(bits, from, (count + 63) / 64 * sizeof *bits);
        from += (count + 63) / 64 * sizeof *bits;
        job->early += header->count;
    }
    for (uint32_t i = 0; i < count; i++) {
        bool first = (bits[i / 64] >> i % 64 & 1) != 0;
        if (header->flags == WHOLE || first == (header->flags == FIRST)) {
            size_t key = 0;
            while (case_key(key) != keys[i]) {
                key++;
            }
            wrong += memcmp(from, job->expected[header->step - 1] + key * CASE_DIM,
                            CASE_DIM * sizeof(float)) != 0;
            from += CASE_DIM * sizeof(float);
            rows++;
        }
    }
    ck_assert_uint_eq(rows, header->count);
    ck_assert_uint_eq(wrong, 0);
    if (header->flags != FIRST) {
        job->worker[w].answers[header->step % 2]++;
        memset(bits, 0, 2 * sizeof *bits);
    }
}

/* A worker sends the pull of step t + 1 right behind that of step t, and its push when it has all
 * rows. */
static void on_reply(job_t *job, uint32_t w, const weir_frame_t *frame) {
    worker_t *worker = &job->worker[w];
    ck_assert_uint_eq(frame->header.type, WEIR_FRAME_PULL_REP);
    ck_assert(frame->header.step == worker->step || frame->header.step == worker->step + 1);
    check_rows(job, w, frame);
    while (worker->answers[worker->step % 2] == job->ps) {
        send_part(job, w, WEIR_FRAME_PUSH_REQ, worker->step);
        worker->answers[worker->step % 2] = 0;
        worker->step++;
        if (worker->step + 1 <= job->steps) {
            send_part(job, w, WEIR_FRAME_PULL_REQ, worker->step + 1);
        }
    }
}

static void deliver(job_t *job, weir_rank_t from, weir_rank_t to) {
    link_t *link = &job->links[from][to];
    weir_frame_t frame = link->frames[link->first];
    link->first = (link->first + 1) % QUEUE;
    link->count--;
    if (to >= job->ps) {
        on_reply(job, to - job->ps, &frame);
        weir_buffer_release(frame.payload);
        return;
    }
    weir_error_t error = {0};
    job->sending = to;
    ck_assert_msg(weir_server_handle(job->servers[to], frame, &error) == WEIR_OK, "%s",
                  error.message);
}

static uint64_t run_job(uint32_t workers, uint32_t ps, uint64_t seed, float *values) {
    static job_t job;
    job = (job_t){.ps = ps, .workers = workers, .steps = CASE_STEPS};
    for (uint32_t s = 0; s < ps; s++) {
        weir_server_options_t options = {.index = s,
                                         .ps = ps,
                                         .first_worker_rank = ps,
                                         .workers = workers,
                                         .send = send_from_server,
                                         .argument = &job};
        job.tables[s] = case_table();
        ck_assert_int_eq(weir_server_create(&options, &job.tables[s], 1, &job.servers[s], NULL),
                         WEIR_OK);
    }
    for (uint32_t w = 0; w < workers; w++) {
        job.worker[w].step = 1;
        send_part(&job, w, WEIR_FRAME_PULL_REQ, 1);
        send_part(&job, w, WEIR_FRAME_PULL_REQ, 2);
    }
    for (uint64_t step = 0; step <= CASE_STEPS; step++) {
        case_expected(workers, step, false, job.expected[step]);
    }
    uint32_t ranks = ps + workers;
    for (uint64_t turn = 0;; turn++) {
        weir_rank_t full[MAX_RANKS * MAX_RANKS], count = 0;
        for (weir_rank_t i = 0; i < ranks * ranks; i++) {
            if (job.links[i / ranks][i % ranks].count > 0) {
                full[count++] = i;
            }
        }
        if (count == 0) {
            break;
        }
        weir_philox_t random =
            weir_philox(weir_rng_key(seed, WEIR_STREAM_TEST), (uint32_t)turn, 0, 0, 0);
        weir_rank_t pick = full[random.word[0] % count];
        deliver(&job, pick / ranks, pick % ranks);
    }
    for (size_t i = 0; i < CASE_UNIVERSE; i++) {
        weir_key_t key = case_key(i);
        table_case_peek(job.tables[owner_of(key, ps)], &key, 1, values + i * CASE_DIM);
    }
    for (uint32_t s = 0; s < ps; s++) {
        ck_assert_uint_eq(weir_server_step(job.servers[s]), CASE_STEPS);
        weir_server_destroy(job.servers[s]);
        weir_table_destroy(job.tables[s]);
    }
    return job.early;
}

START_TEST(results_are_the_same_bits_for_any_servers_and_any_order_of_arrival) {
    float expected[CASE_UNIVERSE * CASE_DIM], values[CASE_UNIVERSE * CASE_DIM];
    uint64_t early = 0;
    for (uint32_t workers = 1; workers <= 3; workers++) {
        case_expected(workers, CASE_STEPS, false, expected);
        for (uint32_t ps = 1; ps <= 3; ps++) {
            for (uint64_t seed = 0; seed < 40; seed++) {
                early += run_job(workers, ps, seed, values);
                ck_assert_mem_eq(values, expected, sizeof expected);
            }
        }
    }
    ck_assert_uint_gt(early, 1000);
}
END_TEST

START_TEST(the_order_of_a_sum_would_show) {
    float forwards[CASE_UNIVERSE * CASE_DIM], backwards[CASE_UNIVERSE * CASE_DIM];
    case_expected(3, CASE_STEPS, false, forwards);
    case_expected(3, CASE_STEPS, true, backwards);
    ck_assert_mem_ne(forwards, backwards, sizeof forwards);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("server");
    TCase *t = tcase_create("server");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, results_are_the_same_bits_for_any_servers_and_any_order_of_arrival);
    tcase_add_test(t, the_order_of_a_sum_would_show);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
