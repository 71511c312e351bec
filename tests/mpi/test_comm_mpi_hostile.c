/* What a rank does with frames that are not what they claim. Rank 1 sends; its MPI_Isend is ours,
 * by MPI's profiling interface, and spoils one message on its way. After each, a good frame must
 * come. */
#include "common/clock.h"
#include "common/hash.h"
#include "tests/mpi/suite.h"

typedef enum { NOTHING, FLIP, SHORTEN, LENGTHEN, FORGE_SOURCE } spoiling_t;

static weir_comm_t *comm;

static spoiling_t spoiling;
static int spoiled_message;      /* which of the messages that follow; counts down */
static int spoiled_place;        /* byte to flip, or bytes less or more */
static uint8_t spoiled[1 << 20]; /* MPI reads it until the send is done */

int MPI_Isend(const void *bytes, int count, MPI_Datatype type, int to, int tag, MPI_Comm to_comm,
              MPI_Request *request) {
    if (spoiling == NOTHING || spoiled_message-- != 0) {
        return PMPI_Isend(bytes, count, type, to, tag, to_comm, request);
    }
    memcpy(spoiled, bytes, (size_t)count);
    if (spoiling == FLIP) {
        spoiled[spoiled_place] ^= 0x10;
    } else if (spoiling == SHORTEN) {
        count -= spoiled_place;
    } else if (spoiling == LENGTHEN) {
        count += spoiled_place;
    } else {
        weir_frame_header_t header;
        if (weir_frame_decode_header(spoiled, WEIR_FRAME_HEADER_SIZE, 0, &header, NULL) ==
            WEIR_OK) {
            header.source = 0;
            weir_frame_encode_header(&header, spoiled);
        }
    }
    spoiling = NOTHING;
    return PMPI_Isend(spoiled, count, type, to, tag, to_comm, request);
}

/* Number frames from 0 again: a frame that is refused is not one that those behind it wait for. */
static void number_anew(void) {
    weir_frame_order_destroy(comm->order);
    comm->order = NULL;
}

/* Rank 1 sends a frame of `size` that is spoiled, then a good one; rank 0 must refuse the first
 * with an error that has both words, and take the second. */
static void exchange(size_t size, weir_err_t expected, const char *word, const char *name,
                     int *failures) {
    double deadline = weir_clock_seconds() + 60.0;
    bool good = comm->rank != 0, refused = comm->rank != 0;
    number_anew();
    if (comm->rank == 1) {
        EXPECT(failures, weir_comm_send(comm, 0, make_frame(WEIR_FRAME_PUSH_REQ, 1, size, 1),
                                        NULL) == WEIR_OK);
        comm->job = JOB;
        number_anew();
        EXPECT(failures, weir_comm_send(comm, 0, make_frame(WEIR_FRAME_PULL_REQ, 2, 10000, 2),
                                        NULL) == WEIR_OK);
    }
    while ((!good || !weir_comm_idle(comm)) && *failures == 0) {
        weir_frame_t frame;
        weir_error_t error = {0};
        bool received = false, progressed = false;
        weir_err_t err = weir_comm_poll(comm, &frame, &received, &progressed, &error);
        EXPECT(failures, weir_clock_seconds() < deadline);
        if (err != WEIR_OK) {
            EXPECT(failures, !refused && !received);
            EXPECT(failures, err == expected);
            EXPECT(failures, strstr(error.message, word) != NULL);
            EXPECT(failures, strstr(error.message, name) != NULL);
            if (*failures > 0) {
                (void)fprintf(stderr, "it says: %s\n", error.message);
            }
            refused = true;
        } else if (received) {
            EXPECT(failures, refused);
            EXPECT(failures, frame.header.step == 2 && is_payload(frame.payload, 10000, 2));
            weir_buffer_release(frame.payload);
            good = true;
        } else if (!progressed) {
            weir_clock_sleep(20e-6);
        }
    }
    EXPECT(failures, good && refused);
}

static void refuse(spoiling_t how, int message, int place, size_t size, weir_err_t expected,
                   const char *word) {
    int failures = 0;
    if (comm->rank == 1) {
        spoiling = how;
        spoiled_message = message;
        spoiled_place = place;
    }
    exchange(size, expected, word, "rank 1", &failures);
    assert_all(failures);
}

START_TEST(a_header_that_is_not_whole_is_refused) {
    refuse(FLIP, 0, 0, 10, WEIR_ERR_CORRUPT, "magic");
    refuse(FLIP, 0, 30, 10, WEIR_ERR_CORRUPT, "checksum");
    refuse(SHORTEN, 0, WEIR_FRAME_HEADER_SIZE, 10, WEIR_ERR_CORRUPT, "header");
}
END_TEST

START_TEST(a_frame_that_names_another_sender_is_refused) {
    refuse(FORGE_SOURCE, 0, 0, 10, WEIR_ERR_PEER, "rank 0");
}
END_TEST

START_TEST(a_small_payload_that_is_not_whole_is_refused) {
    refuse(FLIP, 0, WEIR_FRAME_HEADER_SIZE + 3, 10, WEIR_ERR_CORRUPT, "push_req");
    refuse(SHORTEN, 0, 1, 10, WEIR_ERR_CORRUPT, "message of 73");
    refuse(LENGTHEN, 0, 1, 10, WEIR_ERR_CORRUPT, "message of 75");
}
END_TEST

START_TEST(a_piece_that_is_not_whole_is_refused) {
    refuse(FLIP, 1, 70000, 300000, WEIR_ERR_CORRUPT, "push_req");
    refuse(FLIP, 2, 0, 300000, WEIR_ERR_CORRUPT, "push_req");
    refuse(SHORTEN, 2, 1, 300000, WEIR_ERR_CORRUPT, "piece of 37855");
    refuse(LENGTHEN, 2, 1, 300000, WEIR_ERR_PEER, "TRUNCATE");
}
END_TEST

START_TEST(a_frame_of_another_job_is_refused) {
    int failures = 0;
    if (comm->rank == 1) {
        comm->job = JOB + 1; /* until it has sent the first frame */
    }
    exchange(10, WEIR_ERR_PEER, "job", "rank 1", &failures);
    assert_all(failures);
}
END_TEST

static Suite *hostile_suite(void) {
    Suite *suite = suite_create("comm_mpi_hostile");
    TCase *tcase = tcase_create("comm_mpi_hostile");
    tcase_add_test(tcase, a_header_that_is_not_whole_is_refused);
    tcase_add_test(tcase, a_frame_that_names_another_sender_is_refused);
    tcase_add_test(tcase, a_small_payload_that_is_not_whole_is_refused);
    tcase_add_test(tcase, a_piece_that_is_not_whole_is_refused);
    tcase_add_test(tcase, a_frame_of_another_job_is_refused);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(int argc, char **argv) {
    return run_mpi_suite(argc, argv, hostile_suite(), &comm);
}
