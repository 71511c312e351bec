#include "proto/envelope.h"

#include "tests/suite.h"

#include <string.h>

typedef Weir__Control__Envelope envelope_t;

/* Pack, and check that what comes back is the same bytes again. */
static envelope_t *round_trip(const envelope_t *envelope) {
    weir_packed_t packed, again;
    envelope_t *unpacked = NULL;
    ck_assert_int_eq(weir_envelope_pack(envelope, &packed, NULL), WEIR_OK);
    ck_assert_int_eq(weir_envelope_unpack(packed.bytes, packed.size, &unpacked, NULL), WEIR_OK);
    ck_assert_int_eq(weir_envelope_pack(unpacked, &again, NULL), WEIR_OK);
    ck_assert_uint_eq(again.size, packed.size);
    ck_assert_mem_eq(again.bytes, packed.bytes, packed.size);
    free(packed.bytes);
    free(again.bytes);
    return unpacked;
}

START_TEST(a_heartbeat_comes_back_as_it_went) {
    Weir__Control__Heartbeat body = WEIR__CONTROL__HEARTBEAT__INIT;
    envelope_t envelope = WEIR__CONTROL__ENVELOPE__INIT;
    body.rank = 3;
    body.step = UINT64_MAX;
    body.phase = WEIR__CONTROL__PHASE__PHASE_EVALUATING;
    body.loss = -0.5;
    envelope.job = 0x8000000000000001u;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_HEARTBEAT;
    envelope.heartbeat = &body;
    envelope_t *unpacked = round_trip(&envelope);
    ck_assert_uint_eq(unpacked->job, 0x8000000000000001u);
    ck_assert_uint_eq(unpacked->heartbeat->step, UINT64_MAX);
    ck_assert_int_eq(unpacked->heartbeat->phase, WEIR__CONTROL__PHASE__PHASE_EVALUATING);
    ck_assert_double_eq(unpacked->heartbeat->loss, -0.5);
    weir_envelope_free(unpacked);
}
END_TEST

START_TEST(a_report_with_files_comes_back_as_it_went) {
    char name[] = "dense.safetensors", none[] = "";
    Weir__Control__CheckpointFile file = WEIR__CONTROL__CHECKPOINT_FILE__INIT, *files[] = {&file};
    Weir__Control__CheckpointDone body = WEIR__CONTROL__CHECKPOINT_DONE__INIT;
    envelope_t envelope = WEIR__CONTROL__ENVELOPE__INIT;
    file.name = name;
    file.size = 1u << 30;
    file.checksum = UINT64_MAX;
    body.files = files;
    body.n_files = 1;
    body.error = none;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_DONE;
    envelope.checkpoint_done = &body;
    envelope_t *unpacked = round_trip(&envelope);
    ck_assert_uint_eq(unpacked->checkpoint_done->n_files, 1);
    ck_assert_str_eq(unpacked->checkpoint_done->files[0]->name, "dense.safetensors");
    ck_assert_uint_eq(unpacked->checkpoint_done->files[0]->checksum, UINT64_MAX);
    weir_envelope_free(unpacked);
}
END_TEST

START_TEST(a_message_over_the_cap_is_neither_written_nor_read) {
    size_t size = WEIR_ENVELOPE_MAX + 1;
    char *text = calloc(1, size + 1);
    Weir__Control__Reply body = WEIR__CONTROL__REPLY__INIT;
    envelope_t envelope = WEIR__CONTROL__ENVELOPE__INIT, *unpacked = NULL;
    weir_packed_t packed;
    weir_error_t error = {0};
    memset(text, 'x', size);
    body.message = text;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_REPLY;
    envelope.reply = &body;
    ck_assert_int_eq(weir_envelope_pack(&envelope, &packed, &error), WEIR_ERR_INVALID);
    ck_assert_int_eq(weir_envelope_unpack(text, size, &unpacked, &error), WEIR_ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(error.message, "1048577 bytes"));
    ck_assert_ptr_null(unpacked);
    free(text);
}
END_TEST

START_TEST(a_text_or_name_too_long_is_refused) {
    char text[70000];
    Weir__Control__CheckpointFile file = WEIR__CONTROL__CHECKPOINT_FILE__INIT, *files[] = {&file};
    Weir__Control__CheckpointDone done = WEIR__CONTROL__CHECKPOINT_DONE__INIT;
    Weir__Control__Join join = WEIR__CONTROL__JOIN__INIT;
    envelope_t envelope = WEIR__CONTROL__ENVELOPE__INIT, *unpacked = NULL;
    weir_packed_t packed;
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    join.host = text;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_JOIN;
    envelope.join = &join;
    ck_assert_int_eq(weir_envelope_pack(&envelope, &packed, NULL), WEIR_OK);
    ck_assert_int_eq(weir_envelope_unpack(packed.bytes, packed.size, &unpacked, NULL),
                     WEIR_ERR_CORRUPT);
    free(packed.bytes);
    text[128] = '\0'; /* one byte more than a file's name may have */
    file.name = text;
    done.files = files;
    done.n_files = 1;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_DONE;
    envelope.checkpoint_done = &done;
    ck_assert_int_eq(weir_envelope_pack(&envelope, &packed, NULL), WEIR_OK);
    ck_assert_int_eq(weir_envelope_unpack(packed.bytes, packed.size, &unpacked, NULL),
                     WEIR_ERR_CORRUPT);
    free(packed.bytes);
    ck_assert_ptr_null(unpacked);
}
END_TEST

START_TEST(a_message_without_a_body_or_cut_short_is_refused) {
    Weir__Control__Stop body = WEIR__CONTROL__STOP__INIT;
    envelope_t envelope = WEIR__CONTROL__ENVELOPE__INIT, *unpacked = NULL;
    char reason[] = "finished";
    weir_packed_t packed;
    weir_error_t error = {0};
    envelope.job = 12345;
    ck_assert_int_eq(weir_envelope_pack(&envelope, &packed, NULL), WEIR_OK);
    ck_assert_int_eq(weir_envelope_unpack(packed.bytes, packed.size, &unpacked, &error),
                     WEIR_ERR_CORRUPT);
    ck_assert_str_ne(error.message, "");
    free(packed.bytes);
    body.reason = reason;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_STOP;
    envelope.stop = &body;
    ck_assert_int_eq(weir_envelope_pack(&envelope, &packed, NULL), WEIR_OK);
    for (size_t size = 0; size < packed.size; size++) {
        ck_assert_int_eq(weir_envelope_unpack(packed.bytes, size, &unpacked, NULL),
                         WEIR_ERR_CORRUPT);
    }
    free(packed.bytes);
    ck_assert_ptr_null(unpacked);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("envelope");
    TCase *t = tcase_create("envelope");
    tcase_add_test(t, a_heartbeat_comes_back_as_it_went);
    tcase_add_test(t, a_report_with_files_comes_back_as_it_went);
    tcase_add_test(t, a_message_over_the_cap_is_neither_written_nor_read);
    tcase_add_test(t, a_text_or_name_too_long_is_refused);
    tcase_add_test(t, a_message_without_a_body_or_cut_short_is_refused);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
