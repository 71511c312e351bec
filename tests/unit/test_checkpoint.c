#include "common/checkpoint.h"
#include "common/file.h"
#include "common/hash.h"
#include "tests/scratch.h"
#include "tests/suite.h"

#include <stdarg.h>
#include <string.h>
#include <unistd.h>

static weir_scratch_t scratch;
static char run[600];

static void begin(void) {
    weir_scratch_init(&scratch);
    (void)snprintf(run, sizeof run, "%s/run", scratch.path);
    ck_assert_int_eq(weir_file_make_directories(run, NULL), WEIR_OK);
}

static void end(void) {
    weir_scratch_fini(&scratch);
}

static const char *in(const char *name) {
    return weir_scratch_path(&scratch, name);
}

static char config_text[] = "a: 1\n";

static weir_manifest_t manifest_of(uint64_t step, weir_checkpoint_file_t *file) {
    *file = (weir_checkpoint_file_t){.name = "dense.safetensors", .size = 3};
    return (weir_manifest_t){.step = step,
                             .version = "0.1.0",
                             .ps = 1,
                             .workers = 1,
                             .config_yaml = config_text,
                             .files = file,
                             .file_count = 1};
}

static void begin_with_file(uint64_t step, const char *content) {
    char folder[WEIR_PATH_MAX], path[WEIR_PATH_MAX];
    weir_error_t error = {0};
    ck_assert_msg(weir_checkpoint_begin(run, step, folder, sizeof folder, &error) == WEIR_OK, "%s",
                  error.message);
    ck_assert_int_eq(weir_path_join(path, sizeof path, folder, "dense.safetensors", NULL), WEIR_OK);
    ck_assert_int_eq(weir_file_replace(path, content, strlen(content), NULL), WEIR_OK);
}

static void publish(uint64_t step, const char *content, bool best) {
    weir_checkpoint_file_t file;
    weir_error_t error = {0};
    begin_with_file(step, content);
    weir_manifest_t manifest = manifest_of(step, &file);
    ck_assert_msg(weir_checkpoint_publish(run, &manifest, best, &error) == WEIR_OK, "%s",
                  error.message);
}

static void assert_link(const char *link, const char *expected) {
    char target[64] = "";
    ssize_t length = readlink(in(link), target, sizeof target - 1);
    ck_assert_int_gt(length, 0);
    ck_assert_str_eq(target, expected);
}

/* The steps listed are exactly `count` of those given. */
static void assert_steps(size_t count, ...) {
    uint64_t *steps = NULL;
    size_t found = 99;
    va_list expected;
    ck_assert_int_eq(weir_checkpoint_list(run, &steps, &found, NULL), WEIR_OK);
    ck_assert_uint_eq(found, count);
    va_start(expected, count);
    for (size_t i = 0; i < count; i++) {
        ck_assert_uint_eq(steps[i], (uint64_t)va_arg(expected, int));
    }
    va_end(expected);
    free(steps);
}

START_TEST(a_step_has_one_name) {
    static const char *const others[] = {"step-",
                                         "step-12",
                                         "step-0000000000012",
                                         "step-000000000012.tmp",
                                         "step-00000000001x",
                                         "Step-000000000012",
                                         "step--00000000012",
                                         "step-18446744073709551616",
                                         "latest",
                                         ""};
    static const uint64_t steps[] = {0, 12000, 999999999999, 1000000000000, UINT64_MAX};
    char name[32];
    uint64_t step = 7;
    weir_checkpoint_step_name(12000, name);
    ck_assert_str_eq(name, "step-000000012000");
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        weir_checkpoint_step_name(steps[i], name);
        ck_assert(weir_checkpoint_parse_step(name, &step));
        ck_assert_uint_eq(step, steps[i]);
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        ck_assert_msg(!weir_checkpoint_parse_step(others[i], &step), "%s", others[i]);
    }
    ck_assert_uint_eq(step, UINT64_MAX);
}
END_TEST

START_TEST(a_checkpoint_exists_when_it_is_published_and_not_before) {
    weir_checkpoint_file_t file;
    begin_with_file(12, "abc");
    assert_steps(0);
    ck_assert(weir_file_exists(in("run/checkpoints/step-000000000012.tmp/dense.safetensors")));
    weir_manifest_t manifest = manifest_of(12, &file), read = {0};
    ck_assert_int_eq(weir_checkpoint_publish(run, &manifest, false, NULL), WEIR_OK);
    assert_steps(1, 12);
    ck_assert(!weir_file_exists(in("run/checkpoints/step-000000000012.tmp")));
    assert_link("run/checkpoints/latest", "step-000000000012");
    ck_assert(!weir_file_exists(in("run/checkpoints/best")));
    ck_assert_int_eq(weir_manifest_read(in("run/checkpoints/latest"), false, &read, NULL), WEIR_OK);
    ck_assert_uint_eq(read.step, 12);
    weir_manifest_fini(&read);
    publish(20, "abc", true);
    publish(30, "abc", false);
    assert_link("run/checkpoints/latest", "step-000000000030");
    assert_link("run/checkpoints/best", "step-000000000020");
    assert_steps(3, 12, 20, 30);
}
END_TEST

static void publish_delta(uint64_t step, uint64_t base) {
    weir_checkpoint_file_t file;
    weir_error_t error = {0};
    begin_with_file(step, "abc");
    weir_manifest_t manifest = manifest_of(step, &file);
    file.base = base;
    file.checksum = weir_checksum("abc", 3, 0);
    ck_assert_msg(weir_checkpoint_publish(run, &manifest, false, &error) == WEIR_OK, "%s",
                  error.message);
}

static void damage(const char *name) {
    ck_assert_int_eq(weir_file_replace(in(name), "abd", 3, NULL), WEIR_OK);
}

START_TEST(what_a_kept_checkpoint_builds_on_is_kept) {
    publish_delta(10, 0);
    publish_delta(20, 10);
    publish_delta(30, 0);
    publish_delta(40, 30);
    publish_delta(50, 40);
    publish_delta(60, 0);
    ck_assert_int_eq(weir_checkpoint_prune(run, 2, NULL), WEIR_OK);
    assert_steps(4, 30, 40, 50, 60);
    ck_assert_int_eq(weir_checkpoint_prune(run, 1, NULL), WEIR_OK);
    assert_steps(1, 60);
}
END_TEST

START_TEST(a_base_must_be_there_when_a_delta_is_published) {
    weir_checkpoint_file_t file;
    publish_delta(10, 0);
    begin_with_file(20, "abc");
    weir_manifest_t manifest = manifest_of(20, &file);
    file.base = 5;
    ck_assert_int_ne(weir_checkpoint_publish(run, &manifest, false, NULL), WEIR_OK);
    file.base = 20; /* itself */
    ck_assert_int_ne(weir_checkpoint_publish(run, &manifest, false, NULL), WEIR_OK);
    assert_steps(1, 10);
}
END_TEST

static void assert_read(const char *folder, weir_err_t expected, const char *why) {
    weir_manifest_t manifest = {0};
    weir_error_t error = {0};
    ck_assert_int_eq(weir_manifest_read(in(folder), true, &manifest, &error), expected);
    ck_assert_msg(strstr(error.message, why) != NULL, "%s", error.message);
    weir_manifest_fini(&manifest);
}

START_TEST(a_checkpoint_is_as_good_as_its_chain) {
    publish_delta(10, 0);
    publish_delta(20, 10);
    publish_delta(30, 0);
    publish_delta(40, 30);
    publish_delta(50, 40);
    assert_read("run/checkpoints/step-000000000050", WEIR_OK, "");
    damage("run/checkpoints/step-000000000050/dense.safetensors");
    assert_read("run/checkpoints/step-000000000050", WEIR_ERR_CORRUPT, "checksum");
    assert_read("run/checkpoints/step-000000000040", WEIR_OK, "");
    damage("run/checkpoints/step-000000000030/dense.safetensors");
    assert_read("run/checkpoints/step-000000000040", WEIR_ERR_CORRUPT, "builds on step 30");
    assert_read("run/checkpoints/step-000000000020", WEIR_OK, "");
    weir_checkpoint_file_t file; /* the same step, written anew, is not the same base */
    begin_with_file(10, "abc");
    weir_manifest_t manifest = manifest_of(10, &file);
    manifest.epoch = 1;
    file.checksum = weir_checksum("abc", 3, 0);
    ck_assert_int_eq(weir_checkpoint_publish(run, &manifest, false, NULL), WEIR_OK);
    assert_read("run/checkpoints/step-000000000010", WEIR_OK, "");
    assert_read("run/checkpoints/step-000000000020", WEIR_ERR_CORRUPT, "replaced");
}
END_TEST

START_TEST(a_best_is_never_older_than_a_latest_that_was_best) {
    /* `latest` cannot be moved: a folder has its name. By then best was. */
    publish(1, "abc", true);
    ck_assert_int_eq(unlink(in("run/checkpoints/latest")), 0);
    ck_assert_int_eq(weir_file_make_directories(in("run/checkpoints/latest/x"), NULL), WEIR_OK);
    weir_checkpoint_file_t file;
    begin_with_file(2, "abc");
    weir_manifest_t manifest = manifest_of(2, &file);
    ck_assert_int_ne(weir_checkpoint_publish(run, &manifest, true, NULL), WEIR_OK);
    assert_link("run/checkpoints/best", "step-000000000002");
}
END_TEST

START_TEST(nothing_is_published_while_a_file_is_missing_or_short) {
    weir_checkpoint_file_t file;
    weir_error_t error = {0};
    publish(1, "abc", true);
    begin_with_file(2, "ab");
    weir_manifest_t manifest = manifest_of(2, &file);
    ck_assert_int_eq(weir_checkpoint_publish(run, &manifest, true, &error), WEIR_ERR_CORRUPT);
    ck_assert_int_eq(unlink(in("run/checkpoints/step-000000000002.tmp/dense.safetensors")), 0);
    ck_assert_int_eq(weir_checkpoint_publish(run, &manifest, true, &error), WEIR_ERR_CORRUPT);
    manifest.step = 3; /* never begun */
    ck_assert_int_ne(weir_checkpoint_publish(run, &manifest, true, &error), WEIR_OK);
    assert_steps(1, 1);
    assert_link("run/checkpoints/latest", "step-000000000001");
    assert_link("run/checkpoints/best", "step-000000000001");
}
END_TEST

START_TEST(begin_removes_what_crashes_left) {
    begin_with_file(1, "abc");
    begin_with_file(2, "abc");
    ck_assert(!weir_file_exists(in("run/checkpoints/step-000000000001.tmp")));
    publish(2, "abc", false);
    begin_with_file(3, "abc");
    begin_with_file(3, "xyz");
    ck_assert(weir_file_exists(in("run/checkpoints/step-000000000003.tmp")));
    assert_steps(1, 2);
}
END_TEST

START_TEST(a_checkpoint_of_the_same_step_is_replaced) {
    char *bytes = NULL;
    size_t size = 0;
    publish(5, "abc", false);
    publish(5, "xyz", false);
    assert_steps(1, 5);
    ck_assert_int_eq(
        weir_file_read(in("run/checkpoints/latest/dense.safetensors"), 10, &bytes, &size, NULL),
        WEIR_OK);
    ck_assert_str_eq(bytes, "xyz");
    free(bytes);
    ck_assert(!weir_file_exists(in("run/checkpoints/step-000000000005.tmp")));
}
END_TEST

START_TEST(pruning_keeps_the_newest_the_latest_and_the_best) {
    for (uint64_t step = 1; step <= 6; step++) {
        publish(step, "abc", step == 2);
    }
    ck_assert_int_eq(weir_checkpoint_prune(run, 2, NULL), WEIR_OK);
    assert_steps(3, 2, 5, 6);
    /* A link that a person moved back counts too. */
    ck_assert_int_eq(
        weir_file_replace_link(in("run/checkpoints/latest"), "step-000000000005", NULL), WEIR_OK);
    publish(7, "abc", false);
    ck_assert_int_eq(
        weir_file_replace_link(in("run/checkpoints/latest"), "./step-000000000005/", NULL),
        WEIR_OK);
    ck_assert_int_eq(weir_checkpoint_prune(run, 0, NULL), WEIR_OK);
    assert_steps(3, 2, 5, 7);
    ck_assert_int_eq(weir_checkpoint_prune(run, 100, NULL), WEIR_OK);
    assert_steps(3, 2, 5, 7);
    ck_assert_int_eq(unlink(in("run/checkpoints/latest")), 0);
    ck_assert_int_eq(unlink(in("run/checkpoints/best")), 0);
    ck_assert_int_eq(weir_checkpoint_prune(run, 0, NULL), WEIR_OK);
    assert_steps(1, 7);
}
END_TEST

START_TEST(pruning_removes_nothing_while_a_link_leads_nowhere) {
    static const char *const links[] = {"run/checkpoints/best", "run/checkpoints/latest"};
    static const char *const damaged_texts[] = {"step-000000000009", "stEp-000000000002",
                                                "step-00000000000", "../../run"};
    for (uint64_t step = 1; step <= 5; step++) {
        publish(step, "abc", step == 2);
    }
    for (size_t i = 0; i < 2; i++) {
        for (size_t d = 0; d < sizeof damaged_texts / sizeof damaged_texts[0]; d++) {
            weir_error_t error = {0};
            ck_assert_int_eq(weir_file_replace_link(in(links[i]), damaged_texts[d], NULL), WEIR_OK);
            ck_assert_int_eq(weir_checkpoint_prune(run, 1, &error), WEIR_ERR_CORRUPT);
            ck_assert_ptr_nonnull(strstr(error.message, i == 0 ? "/best'" : "/latest'"));
            assert_steps(5, 1, 2, 3, 4, 5);
        }
        const char *right = i == 0 ? "step-000000000002" : "step-000000000005";
        ck_assert_int_eq(weir_file_replace_link(in(links[i]), right, NULL), WEIR_OK);
    }
    ck_assert_int_eq(weir_checkpoint_prune(run, 1, NULL), WEIR_OK);
    assert_steps(2, 2, 5);
}
END_TEST

static void assert_resolves(const char *where, const char *expected) {
    char folder[WEIR_PATH_MAX] = "", real[WEIR_PATH_MAX] = "";
    weir_error_t error = {0};
    ck_assert_msg(weir_checkpoint_resolve(in(where), folder, sizeof folder, &error) == WEIR_OK,
                  "%s", error.message);
    ck_assert_ptr_nonnull(realpath(in(expected), real));
    ck_assert_str_eq(folder, real);
}

START_TEST(a_run_a_link_and_a_folder_resolve) {
    char folder[WEIR_PATH_MAX] = "untouched";
    weir_error_t error = {0};
    ck_assert_int_eq(weir_checkpoint_resolve(run, folder, sizeof folder, &error),
                     WEIR_ERR_NOT_FOUND);
    ck_assert_int_eq(weir_checkpoint_resolve(in("none"), folder, sizeof folder, &error),
                     WEIR_ERR_NOT_FOUND);
    publish(1, "abc", true);
    publish(2, "abc", false);
    begin_with_file(3, "abc");
    ck_assert_int_eq(weir_checkpoint_resolve(in("run/checkpoints/step-000000000003.tmp"), folder,
                                             sizeof folder, &error),
                     WEIR_ERR_NOT_FOUND);
    ck_assert_int_eq(weir_checkpoint_resolve(run, folder, 4, &error), WEIR_ERR_INVALID);
    ck_assert_str_eq(folder, "untouched");
    assert_resolves("run", "run/checkpoints/step-000000000002");
    assert_resolves("run/checkpoints/latest", "run/checkpoints/step-000000000002");
    assert_resolves("run/checkpoints/best", "run/checkpoints/step-000000000001");
    assert_resolves("run/checkpoints/step-000000000001", "run/checkpoints/step-000000000001");
    ck_assert_int_eq(unlink(in("run/checkpoints/latest")), 0);
    assert_resolves("run", "run/checkpoints/step-000000000002");
}
END_TEST

START_TEST(only_complete_checkpoints_are_listed) {
    uint64_t *steps = NULL;
    size_t count = 0;
    assert_steps(0);
    ck_assert_int_eq(weir_checkpoint_list(in("none"), &steps, &count, NULL), WEIR_ERR_NOT_FOUND);
    publish(10, "abc", false);
    publish(9, "abc", false);
    ck_assert_int_eq(weir_file_make_directories(in("run/checkpoints/step-000000000011"), NULL),
                     WEIR_OK);
    ck_assert_int_eq(weir_file_make_directories(in("run/checkpoints/other"), NULL), WEIR_OK);
    assert_steps(2, 9, 10);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("checkpoint");
    TCase *t = tcase_create("checkpoint");
    tcase_add_checked_fixture(t, begin, end);
    tcase_add_test(t, a_step_has_one_name);
    tcase_add_test(t, a_checkpoint_exists_when_it_is_published_and_not_before);
    tcase_add_test(t, nothing_is_published_while_a_file_is_missing_or_short);
    tcase_add_test(t, begin_removes_what_crashes_left);
    tcase_add_test(t, a_checkpoint_of_the_same_step_is_replaced);
    tcase_add_test(t, pruning_keeps_the_newest_the_latest_and_the_best);
    tcase_add_test(t, pruning_removes_nothing_while_a_link_leads_nowhere);
    tcase_add_test(t, a_run_a_link_and_a_folder_resolve);
    tcase_add_test(t, only_complete_checkpoints_are_listed);
    tcase_add_test(t, what_a_kept_checkpoint_builds_on_is_kept);
    tcase_add_test(t, a_base_must_be_there_when_a_delta_is_published);
    tcase_add_test(t, a_checkpoint_is_as_good_as_its_chain);
    tcase_add_test(t, a_best_is_never_older_than_a_latest_that_was_best);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
