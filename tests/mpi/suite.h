/* What the tests over MPI share. Every rank runs every test; an assertion on one rank alone would
 * strand the others, so each test counts its failures, and `assert_all` asserts on all ranks that
 * no rank has any. */
#ifndef WEIR_TESTS_MPI_SUITE_H
#define WEIR_TESTS_MPI_SUITE_H

#include "common/comm.h"

#include <check.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { JOB = 0x77656972 };

/* Counts and says what is not so, and goes on. */
#define EXPECT(failures, condition)                                                                \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            (*(failures))++;                                                                       \
            (void)fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);          \
        }                                                                                          \
    } while (0)

static inline void assert_all(int failures) {
    int worst = failures;
    (void)MPI_Allreduce(&failures, &worst, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    ck_assert_int_eq(worst, 0);
}

/* Contents that say where they belong. */
static inline void fill_payload(uint8_t *bytes, size_t size, uint64_t seed) {
    uint64_t state = seed * 0x9E3779B97F4A7C15ull + 1;
    for (size_t i = 0; i < size; i++) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        bytes[i] = (uint8_t)(state >> 56);
    }
}

static inline bool is_payload(const uint8_t *bytes, size_t size, uint64_t seed) {
    uint64_t state = seed * 0x9E3779B97F4A7C15ull + 1;
    for (size_t i = 0; i < size; i++) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        if (bytes[i] != (uint8_t)(state >> 56)) {
            return false;
        }
    }
    return true;
}

static inline weir_frame_t make_frame(weir_frame_type_t type, uint64_t step, size_t size,
                                      uint64_t seed) {
    weir_frame_t frame = {.header = {.type = (uint16_t)type, .step = step, .payload_size = size}};
    if (size > 0) {
        frame.payload = weir_buffer_acquire(size);
        if (frame.payload == NULL) {
            abort();
        }
        fill_payload(frame.payload, size, seed);
    }
    return frame;
}

/* The main of a test over MPI: exit status 0 when no rank has a failure. `comm_slot` is where the
 * tests find their transport. */
static inline int run_mpi_suite(int argc, char **argv, Suite *suite, weir_comm_t **comm_slot) {
    weir_error_t error = {0};
    if (weir_comm_mpi_init(&argc, &argv, comm_slot, &error) != WEIR_OK) {
        (void)fprintf(stderr, "%s\n", error.message);
        return EXIT_FAILURE;
    }
    (*comm_slot)->job = JOB;
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, (*comm_slot)->rank == 0 ? CK_NORMAL : CK_SILENT);
    int failed = srunner_ntests_failed(runner) + (srunner_ntests_run(runner) == 0);
    srunner_free(runner);
    weir_comm_mpi_finalize(*comm_slot);
    weir_buffer_trim();
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif
