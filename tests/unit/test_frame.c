#include "common/frame.h"
#include "common/hash.h"
#include "tests/suite.h"

#include <string.h>

static const weir_frame_header_t sample = {.type = WEIR_FRAME_PUSH_REQ,
                                           .flags = 0x1234,
                                           .source = 0x89abcdef,
                                           .job = 0x1122334455667788,
                                           .step = 0xfedcba9876543210,
                                           .sequence = 7,
                                           .count = 1u << 31,
                                           .payload_size = 1u << 20,
                                           .payload_checksum = 0x0102030405060708};

static weir_err_t decode(const uint8_t *bytes, uint64_t job, weir_frame_header_t *header,
                         weir_error_t *error) {
    return weir_frame_decode_header(bytes, WEIR_FRAME_HEADER_SIZE, job, header, error);
}

static void seal(uint8_t *bytes) {
    uint64_t checksum = weir_checksum(bytes, 56, 0);
    for (size_t i = 0; i < 8; i++) {
        bytes[56 + i] = (uint8_t)(checksum >> (8 * i));
    }
}

START_TEST(a_header_decodes_to_what_was_encoded) {
    uint8_t bytes[WEIR_FRAME_HEADER_SIZE];
    weir_frame_header_t header = {0};
    weir_frame_encode_header(&sample, bytes);
    ck_assert_int_eq(decode(bytes, sample.job, &header, NULL), WEIR_OK);
    ck_assert_uint_eq(header.type, sample.type);
    ck_assert_uint_eq(header.flags, sample.flags);
    ck_assert_uint_eq(header.source, sample.source);
    ck_assert_uint_eq(header.job, sample.job);
    ck_assert_uint_eq(header.step, sample.step);
    ck_assert_uint_eq(header.sequence, sample.sequence);
    ck_assert_uint_eq(header.count, sample.count);
    ck_assert_uint_eq(header.payload_size, sample.payload_size);
    ck_assert_uint_eq(header.payload_checksum, sample.payload_checksum);
    ck_assert_int_eq(decode(bytes, 0, &header, NULL), WEIR_OK);
}
END_TEST

START_TEST(the_layout_on_the_wire_is_the_documented_one) {
    static const uint8_t expected[56] = {
        'W',  'E',  'I',  'R',  1,    0,    3,    0,    0x34, 0x12, 0,    0,    0xef, 0xcd,
        0xab, 0x89, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x10, 0x32, 0x54, 0x76,
        0x98, 0xba, 0xdc, 0xfe, 7,    0,    0,    0,    0,    0,    0,    0x80, 0,    0,
        0x10, 0,    0,    0,    0,    0,    8,    7,    6,    5,    4,    3,    2,    1};
    uint8_t bytes[WEIR_FRAME_HEADER_SIZE];
    weir_frame_encode_header(&sample, bytes);
    ck_assert_mem_eq(bytes, expected, sizeof expected);
}
END_TEST

START_TEST(every_flipped_bit_of_a_header_is_noticed) {
    for (size_t bit = 0; bit < (size_t)8 * WEIR_FRAME_HEADER_SIZE; bit++) {
        uint8_t bytes[WEIR_FRAME_HEADER_SIZE];
        weir_frame_header_t header = {.step = 99};
        weir_error_t error = {0};
        weir_frame_encode_header(&sample, bytes);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert_int_ne(decode(bytes, 0, &header, &error), WEIR_OK);
        ck_assert_str_ne(error.message, "");
        ck_assert_uint_eq(header.step, 99); /* failure leaves no trace */
    }
}
END_TEST

START_TEST(a_short_header_is_refused) {
    uint8_t bytes[WEIR_FRAME_HEADER_SIZE];
    weir_frame_header_t header;
    weir_frame_encode_header(&sample, bytes);
    for (size_t size = 0; size < sizeof bytes; size++) {
        ck_assert_int_eq(weir_frame_decode_header(bytes, size, 0, &header, NULL), WEIR_ERR_CORRUPT);
    }
}
END_TEST

START_TEST(a_header_that_is_whole_but_wrong_is_refused_with_its_reason) {
    struct {
        size_t at;
        uint8_t value;
        weir_err_t err;
        const char *word;
    } cases[] = {{4, 2, WEIR_ERR_VERSION, "version 2"},
                 {6, 0, WEIR_ERR_CORRUPT, "type 0"},
                 {6, WEIR_FRAME_TYPE_COUNT, WEIR_ERR_CORRUPT, "unknown type"},
                 {7, 1, WEIR_ERR_CORRUPT, "unknown type"},
                 {16, 0, WEIR_ERR_PEER, "job"},
                 {45, 1, WEIR_ERR_CORRUPT, "announces"},
                 {47, 0x80, WEIR_ERR_CORRUPT, "announces"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t bytes[WEIR_FRAME_HEADER_SIZE];
        weir_frame_header_t header;
        weir_error_t error = {0};
        weir_frame_encode_header(&sample, bytes);
        bytes[cases[i].at] = cases[i].value;
        seal(bytes);
        ck_assert_int_eq(decode(bytes, sample.job, &header, &error), cases[i].err);
        ck_assert_msg(strstr(error.message, cases[i].word) != NULL, "'%s' lacks '%s'",
                      error.message, cases[i].word);
    }
}
END_TEST

START_TEST(a_payload_at_the_cap_is_accepted_and_one_byte_more_is_not) {
    uint8_t bytes[WEIR_FRAME_HEADER_SIZE];
    weir_frame_header_t header = sample;
    header.payload_size = WEIR_FRAME_MAX_PAYLOAD;
    weir_frame_encode_header(&header, bytes);
    ck_assert_int_eq(decode(bytes, 0, &header, NULL), WEIR_OK);
    header.payload_size = WEIR_FRAME_MAX_PAYLOAD + 1;
    weir_frame_encode_header(&header, bytes);
    ck_assert_int_eq(decode(bytes, 0, &header, NULL), WEIR_ERR_CORRUPT);
}
END_TEST

START_TEST(the_checksum_of_a_payload_chains_its_pieces) {
    size_t size = 2 * (size_t)WEIR_FRAME_PIECE + 5;
    uint8_t *bytes = weir_buffer_acquire(size);
    ck_assert_ptr_nonnull(bytes);
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (uint8_t)(i * 31 >> 3);
    }
    uint64_t chained = weir_checksum(bytes, WEIR_FRAME_PIECE, 0);
    ck_assert_uint_eq(weir_frame_checksum(bytes, WEIR_FRAME_PIECE), chained);
    chained = weir_checksum(bytes + WEIR_FRAME_PIECE, WEIR_FRAME_PIECE, chained);
    chained = weir_checksum(bytes + 2 * (size_t)WEIR_FRAME_PIECE, 5, chained);
    ck_assert_uint_eq(weir_frame_checksum(bytes, size), chained);
    bytes[size - 1] ^= 1;
    ck_assert_uint_ne(weir_frame_checksum(bytes, size), chained);
    ck_assert_uint_eq(weir_frame_checksum(NULL, 0), 0);
    weir_buffer_release(bytes);
}
END_TEST

START_TEST(a_released_buffer_is_used_again_and_all_are_aligned) {
    static const size_t sizes[] = {0, 1, 4096, 4097, 1 << 20, (1 << 20) + 1};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char *first = weir_buffer_acquire(sizes[i]);
        ck_assert_ptr_nonnull(first);
        ck_assert_uint_eq((uintptr_t)first % 64, 0);
        if (sizes[i] > 0) {
            first[0] = first[sizes[i] - 1] = 1;
        }
        weir_buffer_release(first);
        char *second = weir_buffer_acquire(sizes[i]);
        ck_assert_ptr_eq(first, second);
        weir_buffer_release(second);
    }
    weir_buffer_release(NULL);
    ck_assert_ptr_null(weir_buffer_acquire(SIZE_MAX));
    weir_buffer_trim();
}
END_TEST

START_TEST(every_type_has_a_name) {
    for (int type = 1; type < WEIR_FRAME_TYPE_COUNT; type++) {
        ck_assert_str_ne(weir_frame_type_name((weir_frame_type_t)type), "unknown");
    }
    ck_assert_str_eq(weir_frame_type_name((weir_frame_type_t)0), "unknown");
    ck_assert_str_eq(weir_frame_type_name(WEIR_FRAME_TYPE_COUNT), "unknown");
}
END_TEST

static Suite *frame_suite(void) {
    Suite *suite = suite_create("frame");
    TCase *tcase = tcase_create("frame");
    tcase_add_test(tcase, a_header_decodes_to_what_was_encoded);
    tcase_add_test(tcase, the_layout_on_the_wire_is_the_documented_one);
    tcase_add_test(tcase, every_flipped_bit_of_a_header_is_noticed);
    tcase_add_test(tcase, a_short_header_is_refused);
    tcase_add_test(tcase, a_header_that_is_whole_but_wrong_is_refused_with_its_reason);
    tcase_add_test(tcase, a_payload_at_the_cap_is_accepted_and_one_byte_more_is_not);
    tcase_add_test(tcase, the_checksum_of_a_payload_chains_its_pieces);
    tcase_add_test(tcase, a_released_buffer_is_used_again_and_all_are_aligned);
    tcase_add_test(tcase, every_type_has_a_name);
    suite_add_tcase(suite, tcase);
    return suite;
}

WEIR_TEST_MAIN(frame_suite())
