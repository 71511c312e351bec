#include "tools/csv.h"

#include "tests/scratch.h"
#include "tests/suite.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static weir_error_t error;

/* All records of a text as "line:field|field;" and "line!reason;". */
static void render_input(weir_input_t *input, char delimiter, size_t wanted, char *out,
                         size_t capacity) {
    weir_csv_t csv;
    weir_csv_record_t record;
    bool more = true;
    size_t used = 0;
    ck_assert_int_eq(weir_csv_init(&csv, input, delimiter, &error), WEIR_OK);
    csv.wanted = wanted;
    out[0] = '\0';
    for (;;) {
        ck_assert_int_eq(weir_csv_read(&csv, &record, &more, &error), WEIR_OK);
        if (!more) {
            break;
        }
        used +=
            (size_t)snprintf(out + used, capacity - used, "%llu", (unsigned long long)record.line);
        if (record.bad != NULL) {
            ck_assert_uint_eq(record.count, 0);
            used += (size_t)snprintf(out + used, capacity - used, "!%s;", record.bad);
            continue;
        }
        for (size_t i = 0; i < record.count; i++) {
            used += (size_t)snprintf(out + used, capacity - used, "%c%.*s", i == 0 ? ':' : '|',
                                     (int)record.fields[i].size, record.fields[i].bytes);
        }
        used += (size_t)snprintf(out + used, capacity - used, ";");
        ck_assert_uint_lt(used, capacity);
    }
    weir_csv_fini(&csv);
}

/* From memory, from a file, and through a pipe that gives one byte at a time: always the same. */
static void expect_with(const char *text, size_t size, char delimiter, size_t wanted,
                        const char *expected) {
    char out[4096];
    weir_input_t input;
    ck_assert_int_eq(weir_input_open_memory(text, size, "memory", &input, &error), WEIR_OK);
    render_input(&input, delimiter, wanted, out, sizeof out);
    ck_assert_str_eq(out, expected);
    weir_input_close(&input);

    weir_scratch_t scratch;
    weir_scratch_init(&scratch);
    const char *path = weir_scratch_path(&scratch, "log.csv");
    FILE *file = fopen(path, "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(text, 1, size, file), size);
    ck_assert_int_eq(fclose(file), 0);
    ck_assert_int_eq(weir_input_open(path, &input, &error), WEIR_OK);
    render_input(&input, delimiter, wanted, out, sizeof out);
    ck_assert_str_eq(out, expected);
    weir_input_close(&input);
    weir_scratch_fini(&scratch);
}

static void expect(const char *text, const char *expected) {
    expect_with(text, strlen(text), ',', 0, expected);
}

START_TEST(plain_records_are_split_at_delimiters) {
    expect("a,b\nc,d\n", "1:a|b;2:c|d;");
    expect("a,b\nc,d", "1:a|b;2:c|d;");
    expect(",\n,,x\n", "1:|;2:||x;");
    expect("one", "1:one;");
    expect("", "");
    expect_with("a;b,c\n", 6, ';', 0, "1:a|b,c;");
    expect_with("a\tb\n", 4, '\t', 0, "1:a|b;");
}
END_TEST

START_TEST(empty_lines_are_no_records_and_are_counted) {
    expect("\n\na,b\n\nc,d\n\n", "3:a|b;5:c|d;");
    expect("\r\na\r\n", "2:a;");
    expect("\n", "");
}
END_TEST

START_TEST(ends_of_lines_may_be_crlf) {
    expect("a,b\r\nc,d\r\n", "1:a|b;2:c|d;");
    expect("\"a\",\"b\"\r\n\"c\",d\r\n", "1:a|b;2:c|d;");
    expect("\"a\"\r", "1:a;");
    expect("a\rb,c\n", "1:a\rb|c;");
}
END_TEST

START_TEST(quotes_hold_delimiters_line_ends_and_doubled_quotes) {
    expect("\"a,b\",c\n", "1:a,b|c;");
    expect("\"a\nb\",c\nd,e\n", "1:a\nb|c;3:d|e;");
    expect("\"a\r\n\nb\"\nd\n", "1:a\r\n\nb;4:d;");
    expect("\"say \"\"hi\"\"\",c\n", "1:say \"hi\"|c;");
    expect("\"\"\"\"\n", "1:\";");
    expect("\"\",\"\"\n", "1:|;");
    expect("x,\"\"", "1:x|;");
    expect("a\"b\",c\n", "1:a\"b\"|c;"); /* not at the beginning: an ordinary character */
}
END_TEST

START_TEST(a_bad_record_costs_one_line) {
    expect("\"a\"b,c\nd,e\n", "1!text follows a closing quote;2:d|e;");
    expect("\"a\"\rb\nd\n", "1!text follows a closing quote;2:d;");
    expect("a,\"b\nc,d\ne,f\n", "1!a quote is never closed;2:c|d;3:e|f;");
    expect("\"", "1!a quote is never closed;");
    expect("\"\"\"", "1!a quote is never closed;");
    expect("ok\n\"a\nb\n\"x\nlast\n", "1:ok;2!text follows a closing quote;3:b;"
                                      "4!a quote is never closed;5:last;");
}
END_TEST

START_TEST(only_wanted_fields_are_split_but_all_is_checked) {
    const char *text = "a,b,c\nd,\"e\"x,f\ng,h,\"i\nj\"\nk\n";
    expect_with(text, strlen(text), ',', 1, "1:a;2!text follows a closing quote;3:g;5:k;");
}
END_TEST

START_TEST(a_byte_order_mark_is_skipped_and_other_encodings_refused) {
    expect("\xef\xbb\xbf"
           "a,b\n",
           "1:a|b;");
    static const char *const bad[] = {"\xff\xfe!", "\x1f\x8b\x08", "\x28\xb5\x2f\xfdxx",
                                      "PK\x03\x04", "PAR1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        weir_input_t input;
        ck_assert_int_eq(weir_input_open_memory(bad[i], strlen(bad[i]), "log.csv", &input, &error),
                         WEIR_ERR_INVALID);
        ck_assert_ptr_nonnull(strstr(error.message, "log.csv is "));
        ck_assert_str_ne(error.hint, "");
    }
}
END_TEST

START_TEST(a_missing_file_is_named) {
    weir_input_t input;
    ck_assert_int_eq(weir_input_open("no/such.csv", &input, &error), WEIR_ERR_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(error.message, "no/such.csv"));
}
END_TEST

/* A text of `before`, `count` times 'x', `after`. Caller frees. */
static char *stretch(const char *before, size_t count, const char *after, size_t *size) {
    size_t head = strlen(before), tail = strlen(after);
    *size = head + count + tail;
    char *text = malloc(*size + 1);
    ck_assert_ptr_nonnull(text);
    memcpy(text, before, head);
    memset(text + head, 'x', count);
    memcpy(text + head + count, after, tail);
    return text;
}

START_TEST(a_record_over_the_limit_is_bad_and_the_next_is_read) {
    size_t size = 0;
    char *text = stretch("a\n", WEIR_INPUT_LINE_LIMIT + 1, "\nb,c\n", &size);
    expect_with(text, size, ',', 0, "1:a;2!the record is longer than 1 MiB;3:b|c;");
    free(text);
    text = stretch("a\n", 5 * WEIR_INPUT_LINE_LIMIT, "", &size);
    expect_with(text, size, ',', 0, "1:a;2!the record is longer than 1 MiB;");
    free(text);
    text = stretch("\"a\n", 3 * WEIR_INPUT_LINE_LIMIT, "\nb\"\nc\n", &size);
    expect_with(text, size, ',', 0,
                "1!the record is longer than 1 MiB;2!the record is longer than 1 MiB;3:b\";4:c;");
    free(text);
    text = stretch("", WEIR_INPUT_LINE_LIMIT - 2, ",b\nc\n", &size);
    weir_input_t input;
    ck_assert_int_eq(weir_input_open_memory(text, size, "memory", &input, &error), WEIR_OK);
    weir_csv_t csv;
    weir_csv_record_t record;
    bool more = false;
    ck_assert_int_eq(weir_csv_init(&csv, &input, ',', &error), WEIR_OK);
    ck_assert_int_eq(weir_csv_read(&csv, &record, &more, &error), WEIR_OK);
    ck_assert_ptr_null(record.bad);
    ck_assert_uint_eq(record.fields[0].size, WEIR_INPUT_LINE_LIMIT - 2);
    weir_csv_fini(&csv);
    weir_input_close(&input);
    free(text);
}
END_TEST

START_TEST(a_pipe_that_gives_single_bytes_reads_the_same) {
    const char *text = "a,\"b\r\n\"\"c\",d\r\n\"e\"f\r\n\r\n\"g\"\r\nh";
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        (void)close(ends[0]);
        for (const char *c = text; *c != '\0'; c++) {
            if (write(ends[1], c, 1) != 1) {
                _exit(1);
            }
            (void)usleep(200);
        }
        _exit(0);
    }
    (void)close(ends[1]);
    char path[64], out[512];
    (void)snprintf(path, sizeof path, "/dev/fd/%d", ends[0]);
    weir_input_t input;
    ck_assert_int_eq(weir_input_open(path, &input, &error), WEIR_OK);
    render_input(&input, ',', 0, out, sizeof out);
    ck_assert_str_eq(out, "1:a|b\r\n\"c|d;3!text follows a closing quote;5:g;6:h;");
    weir_input_close(&input);
    (void)close(ends[0]);
    int status = 1;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
}
END_TEST

START_TEST(lines_are_handed_out_without_their_ends) {
    weir_input_t input;
    weir_line_t line;
    bool more = false;
    ck_assert_int_eq(weir_input_open_memory("a\r\n\nb", 5, "memory", &input, &error), WEIR_OK);
    const char *expected[] = {"a", "", "b"};
    for (uint64_t i = 0; i < 3; i++) {
        ck_assert_int_eq(weir_input_read_line(&input, &line, &more, &error), WEIR_OK);
        ck_assert(more);
        ck_assert_uint_eq(line.number, i + 1);
        ck_assert_uint_eq(line.size, strlen(expected[i]));
        ck_assert_mem_eq(line.bytes, expected[i], line.size);
    }
    ck_assert_int_eq(weir_input_read_line(&input, &line, &more, &error), WEIR_OK);
    ck_assert(!more);
    weir_input_close(&input);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("csv");
    TCase *t = tcase_create("csv");
    tcase_add_test(t, plain_records_are_split_at_delimiters);
    tcase_add_test(t, empty_lines_are_no_records_and_are_counted);
    tcase_add_test(t, ends_of_lines_may_be_crlf);
    tcase_add_test(t, quotes_hold_delimiters_line_ends_and_doubled_quotes);
    tcase_add_test(t, a_bad_record_costs_one_line);
    tcase_add_test(t, only_wanted_fields_are_split_but_all_is_checked);
    tcase_add_test(t, a_byte_order_mark_is_skipped_and_other_encodings_refused);
    tcase_add_test(t, a_missing_file_is_named);
    tcase_add_test(t, a_record_over_the_limit_is_bad_and_the_next_is_read);
    tcase_add_test(t, a_pipe_that_gives_single_bytes_reads_the_same);
    tcase_add_test(t, lines_are_handed_out_without_their_ends);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
