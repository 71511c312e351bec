#include "common/checkpoint.h"
#include "common/file.h"
#include "common/hash.h"
#include "tests/scratch.h"
#include "tests/suite.h"

#include <string.h>
#include <unistd.h>

static weir_scratch_t scratch;

static void begin(void) {
    weir_scratch_init(&scratch);
}

static void end(void) {
    weir_scratch_fini(&scratch);
}

static const char *in(const char *name) {
    return weir_scratch_path(&scratch, name);
}

static char config_text[] = "model:\n  heads: 2\n# \"quoted\" äöü\n";
static char metrics_text[] = "{\"ndcg@10\":0.1720000000000001,\"step\":12}";

static weir_manifest_t sample(weir_checkpoint_file_t *files, size_t count) {
    return (weir_manifest_t){.step = 12000,
                             .epoch = 3,
                             .job = 0xfedcba9876543210,
                             .ps = 2,
                             .workers = 4,
                             .created = 1763847000.25,
                             .version = "0.1.0",
                             .config_yaml = config_text,
                             .metrics_json = metrics_text,
                             .files = files,
                             .file_count = count};
}

static weir_checkpoint_file_t describe(const char *name, const char *content) {
    weir_checkpoint_file_t file = {.size = strlen(content),
                                   .checksum = weir_checksum(content, strlen(content), 0)};
    (void)snprintf(file.name, sizeof file.name, "%s", name);
    return file;
}

START_TEST(a_manifest_survives_its_text) {
    weir_checkpoint_file_t files[] = {describe("dense.safetensors", "abc"),
                                      describe("item.ps-0000-of-0002.safetensors", "")};
    weir_manifest_t written = sample(files, 2), read = {0};
    char *text = NULL;
    size_t size = 0;
    weir_error_t error = {0};
    ck_assert_int_eq(weir_manifest_format(&written, &text, &size, &error), WEIR_OK);
    ck_assert_uint_eq(strlen(text), size);
    ck_assert_int_eq(weir_manifest_parse(text, size, "m", &read, &error), WEIR_OK);
    ck_assert_uint_eq(read.step, 12000);
    ck_assert_uint_eq(read.epoch, 3);
    ck_assert(read.job == written.job);
    ck_assert_uint_eq(read.ps, 2);
    ck_assert_uint_eq(read.workers, 4);
    ck_assert_double_eq(read.created, written.created);
    ck_assert_str_eq(read.version, "0.1.0");
    ck_assert_str_eq(read.config_yaml, config_text);
    ck_assert_str_eq(read.metrics_json, metrics_text);
    ck_assert_uint_eq(read.file_count, 2);
    for (size_t i = 0; i < 2; i++) {
        ck_assert_str_eq(read.files[i].name, files[i].name);
        ck_assert_uint_eq(read.files[i].size, files[i].size);
        ck_assert(read.files[i].checksum == files[i].checksum);
    }
    weir_manifest_fini(&read);
    weir_manifest_fini(&read); /* twice is once */
    free(text);

    written.metrics_json = NULL;
    written.file_count = 0;
    ck_assert_int_eq(weir_manifest_format(&written, &text, &size, &error), WEIR_OK);
    ck_assert_int_eq(weir_manifest_parse(text, size, "m", &read, &error), WEIR_OK);
    ck_assert_ptr_null(read.metrics_json);
    ck_assert_uint_eq(read.file_count, 0);
    weir_manifest_fini(&read);
    free(text);
}
END_TEST

START_TEST(every_damaged_byte_and_every_cut_is_noticed) {
    weir_checkpoint_file_t files[] = {describe("dense.safetensors", "abc")};
    weir_manifest_t written = sample(files, 1), read = {0};
    char *text = NULL;
    size_t size = 0;
    ck_assert_int_eq(weir_manifest_format(&written, &text, &size, NULL), WEIR_OK);
    for (size_t i = 0; i < size; i++) {
        text[i] = (char)(text[i] ^ 1);
        ck_assert_int_eq(weir_manifest_parse(text, size, "m", &read, NULL), WEIR_ERR_CORRUPT);
        text[i] = (char)(text[i] ^ 1);
        ck_assert_int_eq(weir_manifest_parse(text, i, "m", &read, NULL), WEIR_ERR_CORRUPT);
    }
    ck_assert_ptr_null(read.files);
    free(text);
}
END_TEST

/* `body` without its closing brace, given the last line that makes it believable. */
static weir_err_t parse_sealed(const char *body, weir_error_t *error) {
    char text[4096];
    weir_manifest_t read = {0};
    int length = snprintf(text, sizeof text, "%s,\n  \"self\": \"%016llx\"\n}\n", body,
                          (unsigned long long)weir_checksum(body, strlen(body), 0));
    weir_err_t status = weir_manifest_parse(text, (size_t)length, "m", &read, error);
    weir_manifest_fini(&read);
    return status;
}

#define HEAD "{\"format\":1,\"base\":null,\"weir\":\"0.1.0\","
#define MIDDLE                                                                                     \
    "\"step\":1,\"epoch\":0,\"job\":\"0123456789abcdef\",\"ps\":1,\"workers\":1,\"created\":1,"
#define TEXTS "\"config\":\"\",\"metrics\":null,"
#define ENTRY(name) "{\"name\":\"" name "\",\"size\":1,\"xxh3\":\"0123456789abcdef\"}"

START_TEST(manifests_that_are_well_sealed_are_still_checked) {
    static const struct {
        const char *body;
        weir_err_t status;
        const char *reason;
    } cases[] = {
        {HEAD MIDDLE TEXTS "\"files\":[" ENTRY("a") "]", WEIR_OK, ""},
        {HEAD MIDDLE TEXTS "\"later\":{},\"files\":[]", WEIR_OK, ""},
        {"{\"format\":1", WEIR_ERR_CORRUPT, "'step'"},
        {"{\"format\":3", WEIR_ERR_VERSION, "format 3"},
        {"{\"format\":0", WEIR_ERR_VERSION, "format 0"},
        {"{\"format\":-1", WEIR_ERR_CORRUPT, "'format'"},
        {"{\"format\":\"1\"", WEIR_ERR_CORRUPT, "'format'"},
        {"{\"format\":1,\"format\":1", WEIR_ERR_CORRUPT, "duplicate"},
        {"[1", WEIR_ERR_CORRUPT, "line"},
        {"{\"format\":2,\"base\":\"step-1\",\"step\":2", WEIR_ERR_CORRUPT, "'base'"},
        {"{\"format\":2,\"base\":2,\"step\":2", WEIR_ERR_CORRUPT, "'base'"},
        {"{\"format\":2,\"base\":0,\"step\":2", WEIR_ERR_CORRUPT, "'base'"},
        {"{\"format\":2,\"base\":1,\"step\":2", WEIR_ERR_CORRUPT, "'base_self'"},
        {HEAD "\"step\":1,\"epoch\":0,\"job\":\"0123\",\"files\":[]", WEIR_ERR_CORRUPT, "'job'"},
        {HEAD "\"step\":1,\"epoch\":0,\"job\":\"0123456789ABCDEF\",\"files\":[]", WEIR_ERR_CORRUPT,
         "'job'"},
        {HEAD "\"step\":1.5", WEIR_ERR_CORRUPT, "'step'"},
        {HEAD "\"step\":1,\"epoch\":0,\"job\":\"0123456789abcdef\",\"ps\":4294967296",
         WEIR_ERR_CORRUPT, "'ps'"},
        {HEAD MIDDLE "\"config\":7,\"metrics\":null,\"files\":[]", WEIR_ERR_CORRUPT, "'config'"},
        {HEAD MIDDLE "\"config\":\"\",\"metrics\":[],\"files\":[]", WEIR_ERR_CORRUPT, "'metrics'"},
        {HEAD MIDDLE TEXTS "\"files\":{}", WEIR_ERR_CORRUPT, "'files'"},
        {HEAD MIDDLE TEXTS "\"files\":[3]", WEIR_ERR_CORRUPT, "entry without a name"},
        {HEAD MIDDLE TEXTS "\"files\":[" ENTRY("") "]", WEIR_ERR_CORRUPT, "no bare file name"},
        {HEAD MIDDLE TEXTS "\"files\":[" ENTRY("..") "]", WEIR_ERR_CORRUPT, "'..'"},
        {HEAD MIDDLE TEXTS "\"files\":[" ENTRY("../a") "]", WEIR_ERR_CORRUPT, "'../a'"},
        {HEAD MIDDLE TEXTS "\"files\":[" ENTRY("/etc/passwd") "]", WEIR_ERR_CORRUPT,
         "no bare file name"},
        {HEAD MIDDLE TEXTS "\"files\":[" ENTRY("a\\nb") "]", WEIR_ERR_CORRUPT, "'a?b'"},
        {HEAD MIDDLE TEXTS "\"files\":[" ENTRY(".hidden") "]", WEIR_ERR_CORRUPT,
         "no bare file name"},
        {HEAD MIDDLE TEXTS "\"files\":[" ENTRY("manifest.json") "]", WEIR_ERR_CORRUPT,
         "no bare file name"},
        {HEAD MIDDLE TEXTS "\"files\":[" ENTRY("a") "," ENTRY("b") "," ENTRY("a") "]",
         WEIR_ERR_CORRUPT, "'a' twice"},
        {HEAD MIDDLE TEXTS "\"files\":[{\"name\":\"a\",\"size\":-1}]", WEIR_ERR_CORRUPT, "'size'"},
        {HEAD MIDDLE TEXTS "\"files\":[{\"name\":\"a\",\"size\":1}]", WEIR_ERR_CORRUPT, "'xxh3'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        weir_error_t error = {0};
        weir_err_t status = parse_sealed(cases[i].body, &error);
        ck_assert_msg(status == cases[i].status, "%s: %d %s", cases[i].body, status, error.message);
        ck_assert_msg(strstr(error.message, cases[i].reason) != NULL, "%s: %s", cases[i].body,
                      error.message);
    }
}
END_TEST

START_TEST(what_could_not_be_read_is_not_written) {
    weir_checkpoint_file_t file = describe("../a", "");
    weir_manifest_t manifest = sample(&file, 1);
    char *text = NULL;
    size_t size = 0;
    ck_assert_int_eq(weir_manifest_format(&manifest, &text, &size, NULL), WEIR_ERR_INVALID);
    manifest = sample(&file, 0);
    manifest.step = UINT64_MAX;
    ck_assert_int_eq(weir_manifest_format(&manifest, &text, &size, NULL), WEIR_ERR_INVALID);
    char array[] = "[1]", broken[] = "{", latin[] = "\xe4";
    manifest = sample(&file, 0);
    manifest.metrics_json = array;
    ck_assert_int_eq(weir_manifest_format(&manifest, &text, &size, NULL), WEIR_ERR_INVALID);
    manifest.metrics_json = broken;
    ck_assert_int_eq(weir_manifest_format(&manifest, &text, &size, NULL), WEIR_ERR_INVALID);
    manifest = sample(&file, 0);
    manifest.config_yaml = latin;
    ck_assert_int_eq(weir_manifest_format(&manifest, &text, &size, NULL), WEIR_ERR_INVALID);
    manifest.config_yaml = NULL;
    ck_assert_int_eq(weir_manifest_format(&manifest, &text, &size, NULL), WEIR_ERR_INVALID);
    ck_assert_ptr_null(text);
}
END_TEST

/* A folder of two files and their manifest. */
static void write_checkpoint(const char *folder) {
    char path[1200];
    weir_checkpoint_file_t files[] = {describe("a", "first"), describe("b", "second")};
    weir_manifest_t manifest = sample(files, 2);
    char *text = NULL;
    size_t size = 0;
    ck_assert_int_eq(weir_file_make_directories(folder, NULL), WEIR_OK);
    (void)snprintf(path, sizeof path, "%s/a", folder);
    ck_assert_int_eq(weir_file_replace(path, "first", 5, NULL), WEIR_OK);
    (void)snprintf(path, sizeof path, "%s/b", folder);
    ck_assert_int_eq(weir_file_replace(path, "second", 6, NULL), WEIR_OK);
    ck_assert_int_eq(weir_manifest_format(&manifest, &text, &size, NULL), WEIR_OK);
    (void)snprintf(path, sizeof path, "%s/manifest.json", folder);
    ck_assert_int_eq(weir_file_replace(path, text, size, NULL), WEIR_OK);
    free(text);
}

static weir_err_t read_checkpoint(const char *folder, bool verify, weir_error_t *error) {
    weir_manifest_t manifest = {0};
    weir_err_t status = weir_manifest_read(folder, verify, &manifest, error);
    ck_assert_uint_eq(manifest.file_count, status == WEIR_OK ? 2 : 0);
    weir_manifest_fini(&manifest);
    return status;
}

START_TEST(files_that_are_missing_resized_or_damaged_are_named) {
    char folder[600];
    weir_error_t error = {0};
    (void)snprintf(folder, sizeof folder, "%s", in("c"));
    ck_assert_int_eq(read_checkpoint(folder, false, &error), WEIR_ERR_NOT_FOUND);
    write_checkpoint(folder);
    ck_assert_int_eq(read_checkpoint(folder, false, NULL), WEIR_OK);
    ck_assert_int_eq(read_checkpoint(folder, true, NULL), WEIR_OK);
    ck_assert_int_eq(weir_file_replace(in("c/b"), "secomd", 6, NULL), WEIR_OK);
    ck_assert_int_eq(read_checkpoint(folder, false, NULL), WEIR_OK);
    ck_assert_int_eq(read_checkpoint(folder, true, &error), WEIR_ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(error.message, "c/b' is damaged"));
    ck_assert_int_eq(weir_file_replace(in("c/b"), "second!", 7, NULL), WEIR_OK);
    ck_assert_int_eq(read_checkpoint(folder, false, &error), WEIR_ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(error.message, "has 7 bytes, its manifest says 6"));
    ck_assert_int_eq(unlink(in("c/b")), 0);
    ck_assert_int_eq(read_checkpoint(folder, false, &error), WEIR_ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(error.message, "lacks 'b'"));
    ck_assert_int_eq(weir_file_replace(in("outside"), "second", 6, NULL), WEIR_OK);
    ck_assert_int_eq(symlink("../outside", in("c/b")), 0);
    ck_assert_int_eq(read_checkpoint(folder, false, &error), WEIR_ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(error.message, "no regular file"));
}
END_TEST

START_TEST(a_manifest_that_is_a_link_or_a_pipe_is_refused) {
    char folder[600];
    weir_error_t error = {0};
    (void)snprintf(folder, sizeof folder, "%s", in("linked"));
    write_checkpoint(folder);
    ck_assert_int_eq(read_checkpoint(folder, true, NULL), WEIR_OK);
    char *whole = strdup(in("linked/" WEIR_MANIFEST_NAME));
    ck_assert_int_eq(rename(whole, in("elsewhere")), 0);
    ck_assert_int_eq(symlink("../elsewhere", whole), 0);
    ck_assert_int_eq(read_checkpoint(folder, false, &error), WEIR_ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(error.message, WEIR_MANIFEST_NAME "' is no regular file"));
    ck_assert_int_eq(unlink(whole), 0);
    ck_assert_int_eq(mkfifo(whole, 0600), 0);
    ck_assert_int_eq(read_checkpoint(folder, false, &error), WEIR_ERR_CORRUPT);
    free(whole);
}
END_TEST

START_TEST(a_folder_named_after_another_step_is_refused) {
    char folder[600];
    weir_error_t error = {0};
    (void)snprintf(folder, sizeof folder, "%s", in("step-000000012001"));
    write_checkpoint(folder);
    ck_assert_int_eq(read_checkpoint(folder, false, &error), WEIR_ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(error.message, "holds step 12000"));
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("manifest");
    TCase *t = tcase_create("manifest");
    tcase_add_checked_fixture(t, begin, end);
    tcase_add_test(t, a_manifest_survives_its_text);
    tcase_add_test(t, every_damaged_byte_and_every_cut_is_noticed);
    tcase_add_test(t, manifests_that_are_well_sealed_are_still_checked);
    tcase_add_test(t, what_could_not_be_read_is_not_written);
    tcase_add_test(t, files_that_are_missing_resized_or_damaged_are_named);
    tcase_add_test(t, a_manifest_that_is_a_link_or_a_pipe_is_refused);
    tcase_add_test(t, a_folder_named_after_another_step_is_refused);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
