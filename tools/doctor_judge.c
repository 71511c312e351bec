#include "tools/doctor.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void weir_doctor_add(weir_doctor_findings_t *findings, weir_doctor_level_t level, const char *name,
                     const char *hint, const char *format, ...) {
    if (findings->count < WEIR_DOCTOR_MOST) {
        weir_doctor_finding_t *finding = &findings->list[findings->count++];
        va_list arguments;
        finding->level = level;
        (void)snprintf(finding->name, sizeof finding->name, "%s", name);
        (void)snprintf(finding->hint, sizeof finding->hint, "%s", hint != NULL ? hint : "");
        va_start(arguments, format);
        (void)vsnprintf(finding->text, sizeof finding->text, format, arguments);
        va_end(arguments);
    }
}

static const char *text_of(const json_t *report, const char *key) {
    const char *text = json_string_value(json_object_get(report, key));
    return text != NULL ? text : "?";
}

static double number_of(const json_t *report, const char *key) {
    const json_t *value = json_object_get(report, key);
    return json_is_number(value) ? json_number_value(value) : (double)NAN;
}

/* Ranks on the host of `rank`, and whether it is the first there. */
static size_t ranks_beside(const json_t *reports, size_t rank, bool *first) {
    size_t beside = 0;
    const char *host = text_of(json_array_get(reports, rank), "host");
    *first = true;
    for (size_t other = 0; other < json_array_size(reports); other++) {
        if (strcmp(text_of(json_array_get(reports, other), "host"), host) == 0) {
            beside++;
            *first = *first && other >= rank;
        }
    }
    return beside;
}

/* ---- all ranks together ---- */

static void judge_hosts(const json_t *reports, size_t asked, weir_doctor_findings_t *findings) {
    size_t hosts = 0, ranks = json_array_size(reports);
    bool first = false;
    for (size_t rank = 0; rank < ranks; rank++) {
        (void)ranks_beside(reports, rank, &first);
        hosts += first ? 1 : 0;
    }
    bool wrong = asked > 0 && hosts != asked;
    weir_doctor_add(findings, wrong ? WEIR_DOCTOR_FAIL : WEIR_DOCTOR_OK, "hosts",
                    wrong ? "two names of one host, or a launch agent that goes nowhere: mpirun's "
                            "plm_rsh_agent must start a shell there"
                          : NULL,
                    "%zu processes on %zu host%s", ranks, hosts, hosts == 1 ? "" : "s");
}

/* Of a text that should be the same everywhere. */
static void judge_same(const json_t *reports, const char *key, const char *name, const char *what,
                       weir_doctor_level_t otherwise, const char *hint,
                       weir_doctor_findings_t *findings) {
    const json_t *zero = json_array_get(reports, 0);
    for (size_t rank = 1; rank < json_array_size(reports); rank++) {
        const json_t *report = json_array_get(reports, rank);
        if (strcmp(text_of(report, key), text_of(zero, key)) != 0) {
            weir_doctor_add(findings, otherwise, name, hint, "%s is %s on %s and %s on %s", what,
                            text_of(zero, key), text_of(zero, "host"), text_of(report, key),
                            text_of(report, "host"));
            return;
        }
    }
    weir_doctor_add(findings, WEIR_DOCTOR_OK, name, NULL, "%s %s", what, text_of(zero, key));
}

static void judge_folder(const json_t *reports, weir_doctor_findings_t *findings) {
    size_t ranks = json_array_size(reports);
    double slowest = 0.0, latest = 0.0;
    for (size_t rank = 0; rank < ranks; rank++) {
        const json_t *report = json_array_get(reports, rank);
        double written = number_of(report, "write_seconds"), seen = number_of(report, "seen");
        if (!(written >= 0.0)) {
            weir_doctor_add(findings, WEIR_DOCTOR_FAIL, "folder",
                            "the folder of a run must be on a file system that all hosts have "
                            "mounted under the same name, and be writable there",
                            "rank %zu on %s cannot write: %s", rank, text_of(report, "host"),
                            text_of(report, "write_error"));
            return;
        }
        if (!(seen >= (double)ranks)) {
            weir_doctor_add(findings, WEIR_DOCTOR_FAIL, "folder",
                            "a folder of that name is there but another one: use a file system "
                            "that all hosts share",
                            "rank %zu on %s sees the files of %.0f of %zu processes", rank,
                            text_of(report, "host"), seen, ranks);
            return;
        }
        slowest = fmax(slowest, written);
        latest = fmax(latest, number_of(report, "seen_seconds"));
    }
    weir_doctor_add(findings, WEIR_DOCTOR_OK, "folder", NULL,
                    "every process writes, renames and sees the files of all (%.1f ms to disk, "
                    "seen after %.1f ms)",
                    1e3 * slowest, 1e3 * latest);
}

static void judge_space(const json_t *reports, weir_doctor_findings_t *findings) {
    const json_t *zero = json_array_get(reports, 0);
    const char *system = text_of(zero, "file_system");
    double mib = number_of(zero, "free_mib");
    bool memory = strcmp(system, "tmpfs") == 0;
    if (!(mib >= 64.0)) {
        weir_doctor_add(findings, WEIR_DOCTOR_FAIL, "space",
                        "checkpoints need room for two of them", "%.0f MiB free on %s", mib,
                        system);
    } else if (mib < 1024.0 || memory) {
        weir_doctor_add(findings, WEIR_DOCTOR_WARN, "space",
                        memory
                            ? "a checkpoint in memory is gone with the host"
                            : "weir plan says what a checkpoint takes; there must be room for two",
                        "%.1f GiB free on %s", mib / 1024.0, system);
    } else {
        weir_doctor_add(findings, WEIR_DOCTOR_OK, "space", NULL, "%.1f GiB free on %s",
                        mib / 1024.0, system);
    }
}

static void judge_clocks(const json_t *reports, weir_doctor_findings_t *findings) {
    double worst = 0.0, trip = 0.0;
    size_t at = 0;
    for (size_t rank = 1; rank < json_array_size(reports); rank++) {
        const json_t *report = json_array_get(reports, rank);
        double skew = fabs(number_of(report, "skew_seconds"));
        trip = fmax(trip, number_of(report, "trip_seconds"));
        if (!(skew <= worst)) {
            worst = skew;
            at = rank;
        }
    }
    bool wrong = !(worst < 1.0);
    weir_doctor_add(findings, wrong ? WEIR_DOCTOR_WARN : WEIR_DOCTOR_OK, "clocks",
                    wrong ? "times in logs and timelines will not fit together: let chronyd or "
                            "ntpd set the clocks"
                          : NULL,
                    "%.3g s apart at the most (rank %zu on %s); a frame there and back takes up to "
                    "%.3g ms",
                    worst, at, text_of(json_array_get(reports, at), "host"), 1e3 * trip);
}

/* ---- each host ---- */

static void judge_memory(const json_t *report, weir_doctor_findings_t *findings) {
    double there = number_of(report, "memory_mib"), limit = number_of(report, "memory_limit_mib");
    const char *host = text_of(report, "host");
    if (limit > 0.0 && limit < there) {
        weir_doctor_add(findings, WEIR_DOCTOR_WARN, "memory",
                        "the control group ends a process that goes beyond: ask the scheduler for "
                        "more, or give tables a budget (sparse.memory_mib)",
                        "%s: %.1f GiB are free, but this job may take %.1f", host, there / 1024.0,
                        limit / 1024.0);
    } else {
        weir_doctor_add(findings, there >= 512.0 ? WEIR_DOCTOR_OK : WEIR_DOCTOR_WARN, "memory",
                        there >= 512.0 ? NULL : "weir plan says what a job needs",
                        "%s: %.1f GiB free", host, there / 1024.0);
    }
}

static void judge_processors(const json_t *report, size_t beside,
                             weir_doctor_findings_t *findings) {
    double processors = number_of(report, "processors");
    bool few = (double)beside > processors;
    weir_doctor_add(findings, few ? WEIR_DOCTOR_WARN : WEIR_DOCTOR_OK, "processors",
                    few ? "more processes than processors: fewer of them, or ask the scheduler for "
                          "more; mpirun's binding may be in the way"
                        : NULL,
                    "%s: %.0f for %zu processes of this job", text_of(report, "host"), processors,
                    beside);
}

static void judge_host(const json_t *report, size_t beside, weir_doctor_findings_t *findings) {
    const char *host = text_of(report, "host"), *pages = text_of(report, "huge_pages");
    const char *asked = text_of(report, "blas_core_asked"), *core = text_of(report, "blas");
    double files = number_of(report, "open_files");
    judge_memory(report, findings);
    judge_processors(report, beside, findings);
    if (strcmp(pages, "never") == 0) {
        weir_doctor_add(findings, WEIR_DOCTOR_WARN, "huge pages",
                        "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled: random rows "
                        "cost a page walk each without",
                        "%s: never", host);
    } else {
        weir_doctor_add(findings, WEIR_DOCTOR_OK, "huge pages", NULL, "%s: %s", host, pages);
    }
    if (strcmp(text_of(report, "level"), "v4") == 0 && strcmp(asked, "Haswell") == 0) {
        weir_doctor_add(findings, WEIR_DOCTOR_WARN, "blas",
                        "unset OPENBLAS_CORETYPE: OpenBLAS then takes AVX-512, about twice as fast",
                        "%s: OpenBLAS was told to be a %s", host, asked);
    } else {
        weir_doctor_add(findings, WEIR_DOCTOR_OK, "blas", NULL, "%s: OpenBLAS as %s, one thread",
                        host, core);
    }
    if (files >= 0.0 && files < 1024.0) {
        weir_doctor_add(findings, WEIR_DOCTOR_WARN, "open files", "ulimit -n 4096",
                        "%s: %.0f at the most", host, files);
    } else {
        weir_doctor_add(findings, WEIR_DOCTOR_OK, "open files", NULL, "%s: %.0f at the most", host,
                        files);
    }
    double taken = number_of(report, "ports_taken");
    if (!(taken == 0.0)) {
        weir_doctor_add(findings, WEIR_DOCTOR_FAIL, "ports",
                        "another program listens there: choose another range", "%s: %.0f taken",
                        host, taken);
    }
}

void weir_doctor_judge(const json_t *reports, size_t asked_hosts,
                       weir_doctor_findings_t *findings) {
    bool first = false;
    if (!json_is_array(reports) || json_array_size(reports) == 0) {
        weir_doctor_add(findings, WEIR_DOCTOR_FAIL, "launch", NULL,
                        "the processes reported nothing");
        return;
    }
    judge_hosts(reports, asked_hosts, findings);
    judge_same(reports, "version", "versions", "weir", WEIR_DOCTOR_FAIL,
               "all hosts must run one build: put it on the shared file system", findings);
    judge_folder(reports, findings);
    judge_space(reports, findings);
    if (json_array_size(reports) > 1) {
        judge_clocks(reports, findings);
    }
    judge_same(reports, "level", "kernels", "x86-64 level", WEIR_DOCTOR_WARN,
               "results differ in their last bits with the host a worker is on; WEIR_KERNELS "
               "chooses one level for all",
               findings);
    judge_same(reports, "bf16", "bfloat16", "bfloat16 by", WEIR_DOCTOR_WARN,
               "with train.compute: bf16 results differ in their last bits with the host a worker "
               "is on; WEIR_BF16 chooses one way for all",
               findings);
    for (size_t rank = 0; rank < json_array_size(reports); rank++) {
        size_t beside = ranks_beside(reports, rank, &first);
        if (first) {
            judge_host(json_array_get(reports, rank), beside, findings);
        }
    }
}
