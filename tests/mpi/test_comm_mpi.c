/* Frames over MPI between 1, 2, 4 ranks. */
#include "common/clock.h"
#include "common/comm_thread.h"
#include "tests/mpi/suite.h"

#include <sys/resource.h>

enum { MIB = 1 << 20, FRAMES = 200, ROUNDS = 500 };

static weir_comm_t *comm;

static const size_t edge_sizes[] = {0,
                                    1,
                                    WEIR_FRAME_EAGER - 1,
                                    WEIR_FRAME_EAGER,
                                    WEIR_FRAME_EAGER + 1,
                                    WEIR_FRAME_PIECE - 1,
                                    WEIR_FRAME_PIECE,
                                    WEIR_FRAME_PIECE + 1,
                                    8 * WEIR_FRAME_PIECE,
                                    20 * MIB + 3};
enum { EDGES = sizeof edge_sizes / sizeof edge_sizes[0] };

static uint64_t seed_of(weir_rank_t from, weir_rank_t to, uint64_t step) {
    return ((uint64_t)from << 48) + ((uint64_t)to << 32) + step;
}

/* Poll until `count` frames have come from every other rank and all sends are done. Frames of one
 * rank must come in the order of their steps, from 0, with the size that `size_of` says. */
static void receive_all(uint64_t count, size_t (*size_of)(uint64_t seed, uint64_t step),
                        int *failures) {
    uint64_t *next = calloc(comm->size, sizeof *next);
    uint64_t left = count * (comm->size - 1);
    double deadline = weir_clock_seconds() + 120.0;
    ck_assert_ptr_nonnull(next);
    while ((left > 0 || !weir_comm_idle(comm)) && *failures == 0) {
        weir_frame_t frame;
        weir_error_t error = {0};
        bool received = false, progressed = false;
        EXPECT(failures, weir_comm_poll(comm, &frame, &received, &progressed, &error) == WEIR_OK);
        EXPECT(failures, weir_clock_seconds() < deadline);
        if (received) {
            weir_rank_t from = frame.header.source;
            uint64_t step = frame.header.step, seed = seed_of(from, comm->rank, step);
            size_t size = (size_t)frame.header.payload_size;
            EXPECT(failures, step == next[from]);
            EXPECT(failures, size == size_of(seed, step));
            EXPECT(failures, (frame.payload != NULL) == (size > 0));
            EXPECT(failures, is_payload(frame.payload, size, seed));
            weir_buffer_release(frame.payload);
            next[from]++;
            left--;
        } else if (!progressed) {
            weir_clock_sleep(20e-6);
        }
    }
    free(next);
}

static void send_all(uint64_t count, size_t (*size_of)(uint64_t seed, uint64_t step),
                     int *failures) {
    for (uint64_t step = 0; step < count; step++) {
        for (weir_rank_t to = 0; to < comm->size; to++) {
            if (to != comm->rank) {
                uint64_t seed = seed_of(comm->rank, to, step);
                weir_frame_t frame =
                    make_frame(WEIR_FRAME_PULL_REQ, step, size_of(seed, step), seed);
                EXPECT(failures, weir_comm_send(comm, to, frame, NULL) == WEIR_OK);
            }
        }
    }
}

static size_t edge_size(uint64_t seed, uint64_t step) {
    (void)seed;
    return edge_sizes[step % EDGES];
}

static size_t random_size(uint64_t seed, uint64_t step) {
    uint64_t drawn = (seed + 1) * 0x9E3779B97F4A7C15ull;
    drawn ^= drawn >> 29;
    return step % 20 == 7 ? (size_t)(drawn % (3 * MIB)) : (size_t)(drawn % (3 * WEIR_FRAME_EAGER));
}

START_TEST(frames_of_every_size_arrive_whole_and_in_order) {
    int failures = 0;
    send_all(EDGES, edge_size, &failures);
    receive_all(EDGES, edge_size, &failures);
    assert_all(failures);
}
END_TEST

START_TEST(random_traffic_between_all_ranks_arrives_whole_and_in_order) {
    int failures = 0;
    send_all(FRAMES, random_size, &failures);
    receive_all(FRAMES, random_size, &failures);
    assert_all(failures);
}
END_TEST

START_TEST(every_rank_gets_every_card) {
    int failures = 0;
    weir_card_t mine = {.version = "1", .role = "worker"}, *all = calloc(comm->size, sizeof *all);
    memcpy(mine.magic, "weircard", sizeof mine.magic);
    mine.pid = 1000 + comm->rank;
    ck_assert_ptr_nonnull(all);
    EXPECT(&failures, weir_comm_mpi_exchange_cards(comm, &mine, all, 60.0, NULL) == WEIR_OK);
    for (weir_rank_t rank = 0; rank < comm->size; rank++) {
        EXPECT(&failures, all[rank].pid == 1000 + rank);
        EXPECT(&failures, strcmp(all[rank].role, "worker") == 0);
    }
    free(all);
    assert_all(failures);
}
END_TEST

/* Each rank asks the next one round after round, and answers the one before it. */
START_TEST(comm_threads_carry_requests_and_answers) {
    int failures = 0;
    uint64_t asked = 0, answered = 0, got = 0;
    weir_comm_thread_t *thread = NULL;
    weir_comm_thread_options_t options = {.comm = comm, .control_fd = -1};
    weir_rank_t next = (comm->rank + 1) % comm->size;
    uint64_t rounds = comm->size > 1 ? ROUNDS : 0;
    EXPECT(&failures, weir_comm_thread_start(&options, &thread, NULL) == WEIR_OK);
    while ((answered < rounds || got < rounds) && failures == 0) {
        weir_frame_t frame;
        bool received = false;
        if (asked == 0) {
            weir_frame_t first = make_frame(WEIR_FRAME_PULL_REQ, 0, 100, 0);
            EXPECT(&failures, weir_comm_thread_post(thread, next, first, NULL) == WEIR_OK);
            asked = 1;
        }
        EXPECT(&failures,
               weir_comm_thread_take(thread, 1u << WEIR_FRAME_PULL_REQ | 1u << WEIR_FRAME_PULL_REP,
                                     60.0, &frame, &received, NULL) == WEIR_OK);
        EXPECT(&failures, received);
        if (!received) {
            break;
        }
        uint64_t step = frame.header.step;
        weir_rank_t from = frame.header.source;
        bool is_answer = frame.header.type == WEIR_FRAME_PULL_REP;
        EXPECT(&failures, is_payload(frame.payload, (size_t)frame.header.payload_size, step));
        weir_buffer_release(frame.payload);
        if (!is_answer) {
            weir_frame_t answer = make_frame(WEIR_FRAME_PULL_REP, step, (step % 9) * 1000, step);
            EXPECT(&failures, weir_comm_thread_post(thread, from, answer, NULL) == WEIR_OK);
            answered++;
        } else if (++got < rounds) {
            weir_frame_t ask = make_frame(WEIR_FRAME_PULL_REQ, asked, 100, asked);
            EXPECT(&failures, weir_comm_thread_post(thread, next, ask, NULL) == WEIR_OK);
            asked++;
        }
    }
    EXPECT(&failures, weir_comm_thread_stop(thread, 10.0, NULL) == WEIR_OK);
    assert_all(failures);
}
END_TEST

static double cpu_seconds(void) {
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

START_TEST(idle_ranks_leave_the_processor_alone) {
    int failures = 0;
    weir_comm_thread_t *thread = NULL;
    weir_comm_thread_options_t options = {.comm = comm, .control_fd = -1};
    EXPECT(&failures, weir_comm_thread_start(&options, &thread, NULL) == WEIR_OK);
    weir_clock_sleep(0.2);
    double begin = weir_clock_seconds(), used = cpu_seconds();
    weir_clock_sleep(1.0);
    double share = (cpu_seconds() - used) / (weir_clock_seconds() - begin);
    EXPECT(&failures, weir_comm_thread_stop(thread, 1.0, NULL) == WEIR_OK);
    if (comm->rank == 0) {
        (void)printf("an idle rank uses %.2f%% of a core\n", 100.0 * share);
    }
    /* A comm thread that spins uses all of a core, or its share of one; sanitizers slow the turns.
     */
#if defined(WEIR_CHECKED)
    EXPECT(&failures, share < 0.15);
#else
    EXPECT(&failures, share < 0.03);
#endif
    assert_all(failures);
}
END_TEST

static Suite *comm_mpi_suite(void) {
    Suite *suite = suite_create("comm_mpi");
    TCase *tcase = tcase_create("comm_mpi");
    tcase_add_test(tcase, every_rank_gets_every_card);
    tcase_add_test(tcase, frames_of_every_size_arrive_whole_and_in_order);
    tcase_add_test(tcase, random_traffic_between_all_ranks_arrives_whole_and_in_order);
    tcase_add_test(tcase, comm_threads_carry_requests_and_answers);
    tcase_add_test(tcase, idle_ranks_leave_the_processor_alone);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(int argc, char **argv) {
    return run_mpi_suite(argc, argv, comm_mpi_suite(), &comm);
}
