/* What weir doctor makes of reports that no one host could give. */
#include "tests/suite.h"
#include "tools/doctor.h"

#include <stdlib.h>
#include <string.h>

static json_t *report(const char *host) {
    return json_pack(
        "{s:s, s:s, s:i, s:f, s:s, s:i, s:f, s:s, s:f, s:f, s:f, s:s, s:f, s:s, s:s, s:s, "
        "s:i, s:f, s:f}",
        "host", host, "version", "0.1.0", "processors", 8, "write_seconds", 0.001, "write_error",
        "", "seen", 4, "seen_seconds", 0.002, "file_system", "nfs", "free_mib", 5e5, "memory_mib",
        2e5, "memory_limit_mib", 0.0, "huge_pages", "madvise", "open_files", 4096.0, "level", "v4",
        "blas", "SkylakeX", "blas_core_asked", "", "ports_taken", 0, "skew_seconds", 0.001,
        "trip_seconds", 0.0001);
}

static json_t *four_on_two_hosts(void) {
    json_t *reports = json_array();
    for (size_t rank = 0; rank < 4; rank++) {
        (void)json_array_append_new(reports, report(rank < 2 ? "a" : "b"));
    }
    return reports;
}

static const weir_doctor_finding_t *find(const weir_doctor_findings_t *findings, const char *name,
                                         weir_doctor_level_t level) {
    for (size_t i = 0; i < findings->count; i++) {
        if (strcmp(findings->list[i].name, name) == 0 && findings->list[i].level == level) {
            return &findings->list[i];
        }
    }
    return NULL;
}

static size_t count(const weir_doctor_findings_t *findings, weir_doctor_level_t level) {
    size_t counted = 0;
    for (size_t i = 0; i < findings->count; i++) {
        counted += findings->list[i].level == level ? 1 : 0;
    }
    return counted;
}

START_TEST(all_is_well) {
    weir_doctor_findings_t findings = {.count = 0};
    json_t *reports = four_on_two_hosts();
    weir_doctor_judge(reports, 2, &findings);
    ck_assert_uint_eq(count(&findings, WEIR_DOCTOR_OK), findings.count);
    ck_assert(strcmp(find(&findings, "hosts", WEIR_DOCTOR_OK)->text, "4 processes on 2 hosts") ==
              0);
    ck_assert_uint_ge(findings.count, 14); /* what is of a host is there twice */
    json_decref(reports);
}
END_TEST

/* One value of rank 3's report is wrong: one finding of that name and level, with a hint. */
START_TEST(what_is_wrong_on_one_host_is_found) {
    const struct {
        const char *key;
        json_t *value;
        const char *name;
        weir_doctor_level_t level;
    } cases[] = {
        {"version", json_string("0.0.9"), "versions", WEIR_DOCTOR_FAIL},
        {"write_seconds", json_real(-1.0), "folder", WEIR_DOCTOR_FAIL},
        {"seen", json_integer(2), "folder", WEIR_DOCTOR_FAIL},
        {"skew_seconds", json_real(-3.0), "clocks", WEIR_DOCTOR_WARN},
        {"level", json_string("v3"), "kernels", WEIR_DOCTOR_WARN},
        {"bf16", json_string("amx"), "bfloat16", WEIR_DOCTOR_WARN},
        {"host", json_string("c"), "hosts", WEIR_DOCTOR_FAIL},
        {"seen", json_null(), "folder", WEIR_DOCTOR_FAIL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        weir_doctor_findings_t findings = {.count = 0};
        json_t *reports = four_on_two_hosts();
        (void)json_object_set_new(json_array_get(reports, 3), cases[i].key, cases[i].value);
        weir_doctor_judge(reports, 2, &findings);
        const weir_doctor_finding_t *finding = find(&findings, cases[i].name, cases[i].level);
        ck_assert_msg(finding != NULL, "case %zu, %s", i, cases[i].key);
        ck_assert_str_ne(finding->hint, "");
        json_decref(reports);
    }
}
END_TEST

/* The same of the first rank of host b, which speaks for its host. */
START_TEST(what_is_wrong_with_a_host_is_found) {
    const struct {
        const char *key;
        json_t *value;
        const char *name;
        weir_doctor_level_t level;
    } cases[] = {
        {"memory_limit_mib", json_real(1000.0), "memory", WEIR_DOCTOR_WARN},
        {"memory_mib", json_real(100.0), "memory", WEIR_DOCTOR_WARN},
        {"processors", json_integer(1), "processors", WEIR_DOCTOR_WARN},
        {"huge_pages", json_string("never"), "huge pages", WEIR_DOCTOR_WARN},
        {"blas_core_asked", json_string("Haswell"), "blas", WEIR_DOCTOR_WARN},
        {"open_files", json_real(256.0), "open files", WEIR_DOCTOR_WARN},
        {"ports_taken", json_integer(3), "ports", WEIR_DOCTOR_FAIL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        weir_doctor_findings_t findings = {.count = 0};
        json_t *reports = four_on_two_hosts();
        (void)json_object_set_new(json_array_get(reports, 2), cases[i].key, cases[i].value);
        weir_doctor_judge(reports, 2, &findings);
        const weir_doctor_finding_t *finding = find(&findings, cases[i].name, cases[i].level);
        ck_assert_msg(finding != NULL, "case %zu, %s", i, cases[i].key);
        ck_assert_str_ne(finding->hint, "");
        ck_assert_ptr_nonnull(strstr(finding->text, "b: "));
        json_decref(reports);
    }
}
END_TEST

START_TEST(space_is_judged_where_the_runs_are) {
    static const double mib[] = {10.0, 500.0, 5000.0};
    static const weir_doctor_level_t levels[] = {WEIR_DOCTOR_FAIL, WEIR_DOCTOR_WARN,
                                                 WEIR_DOCTOR_OK};
    for (size_t i = 0; i < 3; i++) {
        weir_doctor_findings_t findings = {.count = 0};
        json_t *reports = four_on_two_hosts();
        (void)json_object_set_new(json_array_get(reports, 0), "free_mib", json_real(mib[i]));
        weir_doctor_judge(reports, 0, &findings);
        ck_assert_ptr_nonnull(find(&findings, "space", levels[i]));
        json_decref(reports);
    }
}
END_TEST

START_TEST(reports_that_are_none_fail) {
    json_t *wrong[] = {NULL, json_array(), json_object(), json_pack("[i]", 3)};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        weir_doctor_findings_t findings = {.count = 0};
        weir_doctor_judge(wrong[i], 0, &findings);
        ck_assert_uint_ge(count(&findings, WEIR_DOCTOR_FAIL), 1);
        json_decref(wrong[i]);
    }
}
END_TEST

START_TEST(findings_beyond_the_room_are_dropped) {
    weir_doctor_findings_t findings = {.count = 0};
    for (size_t i = 0; i < WEIR_DOCTOR_MOST + 3; i++) {
        weir_doctor_add(&findings, WEIR_DOCTOR_OK, "a name that is longer than its room", NULL,
                        "%zu", i);
    }
    ck_assert_uint_eq(findings.count, WEIR_DOCTOR_MOST);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("doctor");
    TCase *t = tcase_create("doctor");
    tcase_add_test(t, all_is_well);
    tcase_add_test(t, what_is_wrong_on_one_host_is_found);
    tcase_add_test(t, what_is_wrong_with_a_host_is_found);
    tcase_add_test(t, space_is_judged_where_the_runs_are);
    tcase_add_test(t, reports_that_are_none_fail);
    tcase_add_test(t, findings_beyond_the_room_are_dropped);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
