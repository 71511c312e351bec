/* A client against servers that answer wrongly, or not. */
#include "tests/suite.h"
#include "tests/unit/ps_played.h"

#include <string.h>

/* ---- servers that answer wrongly ---- */

/* What is odd beside numbers: the bits of a first part, the sequence, the sender. */
typedef enum { PLAIN, ALL, NONE, BEYOND, FEWER, OTHERS, NUMBERED, STRANGER } oddity_t;

typedef struct {
    const char *reason; /* stands in the error */
    const char *before; /* what server 1 has answered rightly: w whole, f first, r rest */
    uint16_t flags;
    int count, bytes, step; /* added to what would be right */
    oddity_t oddity;
    size_t size; /* of the payload, if not 0 */
} hostile_t;

static const hostile_t hostiles[] = {
    {"another number", "", 0, 1, 0, 0, PLAIN, 0},  {"another number", "", 0, -1, 0, 0, PLAIN, 0},
    {"its length", "", 0, 0, 4, 0, PLAIN, 0},      {"its length", "", 0, 0, -4, 0, PLAIN, 0},
    {"flags", "", 3, 0, 0, 0, PLAIN, 0},           {"flags", "f", 0x8002, 0, 0, 0, PLAIN, 0},
    {"are awaited", "", 0, 0, 0, -1, PLAIN, 0},    {"are awaited", "", 0, 0, 0, 2, PLAIN, 0},
    {"another number", "", 0, 0, 0, 1, PLAIN, 0}, /* fits the other pull under way */
    {"no server", "", 0, 0, 0, 0, STRANGER, 0},    {"sequence", "", 0, 0, 0, 0, NUMBERED, 0},
    {"before", "w", 0, 0, 0, 0, PLAIN, 0},         {"before", "w", 1, 0, 0, 0, PLAIN, 0},
    {"before", "fr", 0, 0, 0, 0, PLAIN, 0},        {"before", "fr", 2, 0, 0, 0, PLAIN, 0},
    {"some of the rows", "", 1, 0, 0, 0, ALL, 0},  {"some of the rows", "", 1, 0, 0, 0, NONE, 0},
    {"beyond", "", 1, 0, 0, 0, BEYOND, 0},         {"bits name", "", 1, 0, 0, 0, FEWER, 0},
    {"bits name", "", 1, 1, 0, 0, PLAIN, 0},       {"its length", "", 1, 0, 0, 0, OTHERS, 0},
    {"its length", "", 1, 0, 4, 0, PLAIN, 0},      {"its length", "", 1, 0, -4, 0, PLAIN, 0},
    {"before its bits", "", 1, 0, 0, 0, PLAIN, 8}, {"second first", "f", 1, 0, 0, 0, PLAIN, 0},
    {"comes the rest", "f", 0, 0, 0, 0, PLAIN, 0}, {"without a first", "", 2, 0, 0, 0, PLAIN, 0},
    {"another number", "f", 2, 1, 0, 0, PLAIN, 0}, {"another number", "f", 2, -1, 0, 0, PLAIN, 0},
    {"its length", "f", 2, 0, 4, 0, PLAIN, 0},     {"its length", "f", 2, 0, -4, 0, PLAIN, 0},
};

static weir_frame_t resize_payload(weir_frame_t frame, size_t size) {
    uint8_t *payload = weir_buffer_acquire(size);
    ck_assert_ptr_nonnull(payload);
    memset(payload, 0, size);
    memcpy(payload, frame.payload,
           size < frame.header.payload_size ? size : (size_t)frame.header.payload_size);
    weir_buffer_release(frame.payload);
    frame.payload = payload;
    frame.header.payload_size = size;
    return frame;
}

/* Every third key; rows of all tables. */
static void choose_some(const wire_pull_t *request, uint64_t *bits) {
    memset(bits, 0, (request->count + 63) / 64 * sizeof *bits);
    for (size_t i = 0; i < request->count; i += 3) {
        bits[i / 64] |= (uint64_t)1 << i % 64;
    }
}

static weir_frame_t make_hostile(const hostile_t *hostile, const wire_pull_t *request) {
    uint64_t bits[(WIRE_TABLES * MAX_KEYS + 63) / 64];
    size_t words = (request->count + 63) / 64;
    choose_some(request, bits);
    if (hostile->oddity == ALL || hostile->oddity == NONE) {
        memset(bits, 0, sizeof bits);
        for (size_t i = 0; i < request->count && hostile->oddity == ALL; i++) {
            bits[i / 64] |= (uint64_t)1 << i % 64;
        }
    }
    weir_frame_t frame = wire_answer(request, hostile->flags, hostile->flags == 0 ? NULL : bits,
                                     hostile->flags == 1);
    uint64_t *sent = frame.payload;
    if (hostile->oddity == BEYOND) {
        sent[words - 1] |= (uint64_t)1 << 63;
    } else if (hostile->oddity == FEWER) {
        sent[0] &= ~(uint64_t)1;
    } else if (hostile->oddity == OTHERS) { /* a row of the last table for one of the first */
        size_t last = (request->count - 1) / 3 * 3 == request->count - 1 ? request->count - 2
                                                                         : request->count - 1;
        sent[0] &= ~(uint64_t)1;
        sent[last / 64] |= (uint64_t)1 << last % 64;
    }
    frame.header.sequence = hostile->oddity == NUMBERED;
    frame.header.count += (uint32_t)hostile->count;
    frame.header.step += (uint64_t)(int64_t)hostile->step;
    if (hostile->bytes != 0) {
        frame =
            resize_payload(frame, (size_t)((int64_t)frame.header.payload_size + hostile->bytes));
    }
    return hostile->size > 0 ? resize_payload(frame, hostile->size) : frame;
}

/* Two pulls are under way; server 1 answers the older one as it should, and then not. */
static void try_hostile(const hostile_t *hostile) {
    static played_pull_t pulls[2];
    uint64_t bits[(WIRE_TABLES * MAX_KEYS + 63) / 64];
    char rank[16];
    played_job_t job;
    played_open(&job, 2, 1, WAIT_SECONDS);
    played_keys(&pulls[0], 4, (const size_t[]){70, 40, 40});
    played_keys(&pulls[1], 5, (const size_t[]){30, 30, 20});
    for (size_t n = 0; n < 2; n++) {
        ck_assert_int_eq(played_begin(&job, &pulls[n]), WEIR_OK);
        played_read_requests(&job, &pulls[n]);
    }
    const wire_pull_t *request = &pulls[0].requests[1];
    ck_assert(request->count > 64 && request->count < 126 &&
              request->count != pulls[1].requests[1].count && request->counts[2] > 1);
    choose_some(request, bits);
    for (const char *part = hostile->before; *part != '\0'; part++) {
        played_post(&job, FIRST_PS + 1,
                    wire_answer(request,
                                *part == 'w'   ? 0
                                : *part == 'f' ? 1
                                               : 2,
                                *part == 'w' ? NULL : bits, *part == 'f'));
    }
    weir_rank_t from = hostile->oddity == STRANGER ? NOBODY : FIRST_PS + 1;
    played_post(&job, from, make_hostile(hostile, request));
    ck_assert_msg(played_finish(&job, &pulls[0]) == WEIR_ERR_PEER, "no error that says: %s",
                  hostile->reason);
    (void)snprintf(rank, sizeof rank, "rank %u ", from);
    ck_assert_msg(strstr(job.error.message, rank) != NULL &&
                      strstr(job.error.message, hostile->reason) != NULL,
                  "'%s' does not say '%s' of %s", job.error.message, hostile->reason, rank);
    played_release(&pulls[0]);
    played_release(&pulls[1]);
    played_close(&job);
}

START_TEST(answers_that_do_not_fit_are_refused_by_rank) {
    for (size_t i = 0; i < sizeof hostiles / sizeof *hostiles; i++) {
        try_hostile(&hostiles[i]);
    }
}
END_TEST

START_TEST(an_answer_to_a_pull_that_is_over_is_refused) {
    static played_pull_t pulls[2];
    played_job_t job;
    played_open(&job, 1, 1, WAIT_SECONDS);
    for (size_t n = 0; n < 2; n++) {
        played_keys(&pulls[n], 1 + n, (const size_t[]){3, 0, 1});
        ck_assert_int_eq(played_begin(&job, &pulls[n]), WEIR_OK);
        played_read_requests(&job, &pulls[n]);
    }
    played_post(&job, FIRST_PS, wire_answer(&pulls[0].requests[0], 0, NULL, true));
    ck_assert_int_eq(played_finish(&job, &pulls[0]), WEIR_OK);
    played_post(&job, FIRST_PS, wire_answer(&pulls[0].requests[0], 0, NULL, true));
    ck_assert_int_eq(played_finish(&job, &pulls[1]), WEIR_ERR_PEER);
    ck_assert_msg(strstr(job.error.message, "rank 1 ") != NULL, "%s", job.error.message);
    played_release(&pulls[0]);
    played_release(&pulls[1]);
    played_close(&job);
}
END_TEST

/* ---- servers that do not answer ---- */

START_TEST(silence_is_reported_with_the_rank_that_is_silent) {
    static played_pull_t pulls[2];
    static const uint64_t first_row[8] = {1};
    for (uint32_t silent = 0; silent < 6; silent++) { /* a server; with or without a first part */
        played_job_t job;
        char rank[32];
        played_open(&job, 3, 1, 0.05);
        for (size_t n = 0; n < 2; n++) {
            played_keys(&pulls[n], 1 + n, (const size_t[]){30, 30, 30});
            ck_assert_int_eq(played_begin(&job, &pulls[n]), WEIR_OK);
            played_read_requests(&job, &pulls[n]);
        }
        for (uint32_t server = 0; server < 3; server++) {
            if (server != silent % 3) {
                played_post(&job, FIRST_PS + server,
                            wire_answer(&pulls[0].requests[server], 0, NULL, true));
            } else if (silent >= 3) {
                played_post(&job, FIRST_PS + server,
                            wire_answer(&pulls[0].requests[server], 1, first_row, true));
            }
            played_post(&job, FIRST_PS + server,
                        wire_answer(&pulls[1].requests[server], 0, NULL, true));
        }
        ck_assert_int_eq(played_finish(&job, &pulls[0]), WEIR_ERR_TIMEOUT);
        (void)snprintf(rank, sizeof rank, "rank %u (server %u of 3)", FIRST_PS + silent % 3,
                       silent % 3);
        ck_assert_msg(strstr(job.error.message, rank) != NULL &&
                          strstr(job.error.message, "step 1") != NULL &&
                          (strstr(job.error.message, "rest") != NULL) == (silent >= 3),
                      "%s", job.error.message);
        played_release(&pulls[0]);
        played_release(&pulls[1]);
        played_close(&job);
    }
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("ps_client_hostile");
    TCase *t = tcase_create("ps_client_hostile");
    tcase_set_timeout(t, 240);
    tcase_add_test(t, answers_that_do_not_fit_are_refused_by_rank);
    tcase_add_test(t, an_answer_to_a_pull_that_is_over_is_refused);
    tcase_add_test(t, silence_is_reported_with_the_rank_that_is_silent);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
