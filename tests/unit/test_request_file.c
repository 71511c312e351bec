#include "tests/scratch.h"
#include "tests/suite.h"
#include "tests/unit/data_cases.h"
#include "worker/request_file.h"

#include <string.h>

enum { ITEMS = 30, REQUESTS = 3, CANDIDATES = 5 };

static int64_t item_of_event(size_t user, size_t k) {
    return (int64_t)((user + 3 * k) % ITEMS) + 1;
}

static weir_scratch_t scratch;
static weir_dataset_t *dataset;

/* Requests that are sound: users 1, 8 and 8 again. */
typedef struct {
    int64_t users[REQUESTS], events[REQUESTS], times[REQUESTS];
    int64_t offsets[REQUESTS + 1], candidates[CANDIDATES];
    weir_requests_t requests;
} case_t;

static void set_up(void) {
    weir_error_t error = {0};
    weir_scratch_init(&scratch);
    data_write(scratch.path, ITEMS, item_of_event);
    ck_assert_int_eq(weir_dataset_open(scratch.path, &dataset, &error), WEIR_OK);
}

static void tear_down(void) {
    weir_dataset_close(dataset);
    weir_scratch_fini(&scratch);
}

static case_t *make_case(weir_request_kind_t kind) {
    static case_t c;
    c = (case_t){.users = {1, 8, 8},
                 .events = {2, 9, 1},
                 .times = {data_time_of_event(1, 1), INT64_C(1) << 40, data_time_of_event(8, 0)},
                 .offsets = {0, 2, 2, 5},
                 .candidates = {1, 30, 7, 7, 2}};
    c.requests = (weir_requests_t){.kind = kind,
                                   .count = REQUESTS,
                                   .users = c.users,
                                   .events = c.events,
                                   .times = c.times,
                                   .k = 4,
                                   .keep_known = true,
                                   .candidate_offsets = c.offsets,
                                   .candidates = c.candidates,
                                   .microbatch = 256,
                                   .cache_bytes = 1 << 20};
    return &c;
}

static weir_err_t write_and_open(const case_t *c, weir_requests_t *found,
                                 weir_tensor_file_t **file) {
    weir_error_t error = {0};
    ck_assert_msg(weir_requests_write(scratch.path, &c->requests, &error) == WEIR_OK, "%s",
                  error.message);
    *file = NULL;
    return weir_requests_open(scratch.path, dataset, found, file, &error);
}

START_TEST(what_is_written_is_read) {
    for (int kind = WEIR_REQUEST_RECOMMEND; kind <= WEIR_REQUEST_RANK; kind++) {
        const case_t *c = make_case((weir_request_kind_t)kind);
        weir_requests_t found;
        weir_tensor_file_t *file;
        ck_assert_int_eq(write_and_open(c, &found, &file), WEIR_OK);
        ck_assert_int_eq((int)found.kind, kind);
        ck_assert_uint_eq(found.count, REQUESTS);
        ck_assert(found.keep_known);
        ck_assert_int_eq(memcmp(found.users, c->users, sizeof c->users), 0);
        ck_assert_int_eq(memcmp(found.events, c->events, sizeof c->events), 0);
        ck_assert_int_eq(memcmp(found.times, c->times, sizeof c->times), 0);
        if (kind == WEIR_REQUEST_RANK) {
            ck_assert_uint_eq(found.microbatch, 256);
            ck_assert_uint_eq(found.cache_bytes, 1 << 20);
            ck_assert_int_eq(memcmp(found.candidate_offsets, c->offsets, sizeof c->offsets), 0);
            ck_assert_int_eq(memcmp(found.candidates, c->candidates, sizeof c->candidates), 0);
        } else {
            ck_assert_uint_eq(found.k, 4);
            ck_assert_ptr_null(found.candidates);
        }
        weir_tensor_file_close(file);
    }
}
END_TEST

/* One number of the requests changed to what the data cannot answer. */
START_TEST(what_the_data_does_not_have_is_refused) {
    for (size_t i = 0; i < 13; i++) {
        case_t *c = make_case(WEIR_REQUEST_RANK);
        int64_t *const numbers[] = {
            &c->users[0],      &c->users[2],      &c->events[0],    &c->events[0],  &c->events[1],
            &c->times[1],      &c->times[1],      &c->offsets[0],   &c->offsets[1], &c->offsets[2],
            &c->candidates[0], &c->candidates[4], &c->candidates[4]};
        static const int64_t wrong[] = {-1, DATA_USERS, 0, -1, 10,        0,        INT64_MAX,
                                        1,  4,          1, 0,  ITEMS + 1, INT64_MIN};
        *numbers[i] = wrong[i];
        weir_requests_t found;
        weir_tensor_file_t *file;
        ck_assert_msg(write_and_open(c, &found, &file) == WEIR_ERR_CORRUPT, "case %zu", i);
        ck_assert_ptr_null(file);
    }
}
END_TEST

START_TEST(too_many_or_no_items_are_refused) {
    static const size_t wrong[] = {0, WEIR_REQUEST_MOST_ITEMS + 1, SIZE_MAX};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        case_t *c = make_case(WEIR_REQUEST_RECOMMEND);
        c->requests.k = wrong[i];
        weir_requests_t found;
        weir_tensor_file_t *file;
        ck_assert_int_eq(write_and_open(c, &found, &file), WEIR_ERR_CORRUPT);
    }
}
END_TEST

START_TEST(every_byte_of_the_header_matters_or_is_harmless) {
    const case_t *c = make_case(WEIR_REQUEST_RANK);
    weir_requests_t found;
    weir_tensor_file_t *file;
    ck_assert_int_eq(write_and_open(c, &found, &file), WEIR_OK);
    size_t size = (size_t)weir_tensor_file_size(file);
    weir_tensor_file_close(file);
    const char *path = weir_scratch_path(&scratch, WEIR_REQUEST_FILE);
    char *bytes = malloc(size);
    FILE *in = fopen(path, "rb");
    ck_assert(bytes != NULL && in != NULL && fread(bytes, 1, size, in) == size);
    ck_assert_int_eq(fclose(in), 0);
    for (size_t at = 0; at < size; at++) { /* read whatever stands there: nothing may break */
        bytes[at] ^= 0x10;
        FILE *out = fopen(path, "wb");
        ck_assert(out != NULL && fwrite(bytes, 1, size, out) == size && fclose(out) == 0);
        weir_error_t error = {0};
        file = NULL;
        if (weir_requests_open(scratch.path, dataset, &found, &file, &error) == WEIR_OK) {
            ck_assert_uint_le(found.count, REQUESTS);
            weir_tensor_file_close(file);
        }
        bytes[at] ^= 0x10;
    }
    free(bytes);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("request file");
    TCase *t = tcase_create("request_file");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, what_is_written_is_read);
    tcase_add_test(t, what_the_data_does_not_have_is_refused);
    tcase_add_test(t, too_many_or_no_items_are_refused);
    tcase_add_test(t, every_byte_of_the_header_matters_or_is_harmless);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
