/* weir doctor: programs, launcher, and a small job whose processes say what they see. */
#include "tools/doctor.h"

#include "common/file.h"
#include "common/log.h"
#include "common/version.h"
#include "tools/launch.h"
#include "tools/placement.h"
#include "tools/verbs.h"

#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OPTION_HOSTS = 256, OPTION_INTERFACE, OPTION_PORTS, OPTION_LAUNCHER, OPTION_JSON };

typedef struct {
    const char *folder, *hosts, *interface, *ports;
    long processes; /* 0: not given */
    weir_launcher_t launcher;
    bool json;
} arguments_t;

static const struct argp_option options[] = {
    {"run", 'r', "DIR", 0,
     "where runs will be: a folder that is there, on a file system that all hosts share (default: "
     ".)",
     0},
    {"hosts", OPTION_HOSTS, "A,B", 0, "hosts to try, a process on each at least", 0},
    {"processes", 'n', "N", 0, "processes of the small job (default: 2, or two a host)", 0},
    {"interface", OPTION_INTERFACE, "NAMES", 0, "interfaces or networks, as for weir train", 0},
    {"ports", OPTION_PORTS, "FIRST-LAST", 0, "ports, as for weir train", 0},
    {"launcher", OPTION_LAUNCHER, "NAME", 0, "mpirun, srun or auto (default)", 0},
    {"json", OPTION_JSON, NULL, 0, "print the findings as JSON", 0},
    {0},
};

static error_t parse_option(int key, char *value, struct argp_state *state) {
    arguments_t *arguments = state->input;
    char *end = NULL;
    switch (key) {
    case 'r':
        arguments->folder = value;
        return 0;
    case 'n':
        arguments->processes = strtol(value, &end, 10);
        if (end == value || *end != '\0' || arguments->processes < 1 ||
            arguments->processes > 65536) {
            argp_error(state, "--processes wants a whole number from 1, not \"%s\"", value);
        }
        return 0;
    case OPTION_HOSTS:
        arguments->hosts = value;
        return 0;
    case OPTION_INTERFACE:
        arguments->interface = value;
        return 0;
    case OPTION_PORTS:
        arguments->ports = value;
        return 0;
    case OPTION_LAUNCHER:
        if (!weir_launcher_parse(value, &arguments->launcher)) {
            argp_error(state, "--launcher is mpirun, srun or auto, not \"%s\"", value);
        }
        return 0;
    case OPTION_JSON:
        arguments->json = true;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected argument \"%s\"", value);
        return ARGP_ERR_UNKNOWN;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ---- before anything starts ---- */

/* The first line that a command prints, without its newline; empty: it does not run. */
static void first_line(const char *command, char *line, size_t capacity) {
    FILE *pipe = popen(command, "r");
    line[0] = '\0';
    if (pipe != NULL) {
        if (fgets(line, (int)capacity, pipe) == NULL) {
            line[0] = '\0';
        }
        line[strcspn(line, "\n")] = '\0';
        (void)pclose(pipe);
    }
}

static void examine_programs(weir_doctor_findings_t *findings) {
    static const char *const names[] = {"weir-coordinator", "weir-ps", "weir-worker", "weir-probe"};
    char self[WEIR_PATH_MAX], command[2 * WEIR_PATH_MAX], line[256], expected[64];
    ssize_t size = readlink("/proc/self/exe", self, sizeof self - 1);
    self[size > 0 ? size : 0] = '\0';
    char *slash = strrchr(self, '/');
    if (slash != NULL) {
        *slash = '\0';
    }
    for (size_t i = 0; i < 4; i++) {
        (void)snprintf(command, sizeof command, "%s/%s", self, names[i]);
        if (access(command, X_OK) != 0) {
            weir_doctor_add(findings, WEIR_DOCTOR_FAIL, "programs",
                            "all weir-* programs belong beside weir: install them together",
                            "%s cannot be run: %s", command, strerror(errno));
            return;
        }
        if (i == 3 || strchr(self, '\'') != NULL) { /* the probe speaks for itself */
            continue;
        }
        (void)snprintf(command, sizeof command, "'%s/%s' --version 2>&1", self, names[i]);
        (void)snprintf(expected, sizeof expected, "%s %s", names[i], WEIR_VERSION);
        first_line(command, line, sizeof line);
        if (strcmp(line, expected) != 0) {
            weir_doctor_add(findings, WEIR_DOCTOR_FAIL, "programs",
                            "install all programs of one build together",
                            "%s/%s says \"%s\" and not \"%s\"", self, names[i], line, expected);
            return;
        }
    }
    weir_doctor_add(findings, WEIR_DOCTOR_OK, "programs", NULL, "weir %s, all roles in %s",
                    WEIR_VERSION, self);
}

static void examine_launcher(const arguments_t *arguments, weir_doctor_findings_t *findings) {
    char line[256];
    if (arguments->launcher == WEIR_LAUNCHER_SRUN) {
        first_line("srun --version 2>/dev/null", line, sizeof line);
        weir_doctor_add(findings, line[0] != '\0' ? WEIR_DOCTOR_OK : WEIR_DOCTOR_FAIL, "launcher",
                        line[0] != '\0' ? NULL : "srun is Slurm's: run this inside an allocation",
                        "%s", line[0] != '\0' ? line : "there is no srun");
        return;
    }
#ifdef WEIR_MPICH_LAUNCHER
    const char *known = "HYDRA", *install = "install MPICH (Debian: mpich), or load its module";
    first_line(WEIR_MPICH_LAUNCHER " --version 2>/dev/null", line, sizeof line);
#else
    const char *known = "Open MPI) 4.", *install =
                                            "install Open MPI (Debian: openmpi-bin), or load "
                                            "its module";
    first_line("mpirun --version 2>/dev/null", line, sizeof line);
#endif
    bool tested = strstr(line, known) != NULL;
    if (line[0] == '\0') {
        weir_doctor_add(findings, WEIR_DOCTOR_FAIL, "launcher", install,
                        "there is no launcher of this build's MPI in PATH");
    } else {
        weir_doctor_add(findings, tested ? WEIR_DOCTOR_OK : WEIR_DOCTOR_WARN, "launcher",
                        tested ? NULL : "weir is tested with Open MPI 4.1 and MPICH 4.0", "%s",
                        line);
    }
}

/* ---- the small job ---- */

static size_t count_hosts(const char *hosts) {
    size_t count = hosts != NULL ? 1 : 0;
    for (const char *c = hosts; c != NULL && *c != '\0'; c++) {
        count += *c == ',' ? 1 : 0;
    }
    return count;
}

static weir_err_t read_reports(const char *folder, json_t **reports, weir_error_t *error) {
    char path[WEIR_PATH_MAX], *text = NULL;
    size_t size = 0;
    json_error_t bad;
    weir_err_t err = weir_path_join(path, sizeof path, folder, "report.json", error);
    if (err == WEIR_OK) {
        err = weir_file_read(path, 1 << 26, &text, &size, error);
    }
    *reports = err == WEIR_OK ? json_loadb(text, size, 0, &bad) : NULL;
    free(text);
    return err;
}

static weir_err_t run_probe(const arguments_t *arguments, const char *folder,
                            weir_doctor_findings_t *findings, weir_error_t *error) {
    const char *words[2] = {folder, arguments->ports};
    size_t hosts = count_hosts(arguments->hosts);
    weir_launch_end_t end = {.status = 0};
    weir_launch_t launch = {.launcher = arguments->launcher,
                            .program = "weir-probe",
                            .ranks = arguments->processes > 0 ? arguments->processes
                                     : hosts > 0              ? (long)(2 * hosts)
                                                              : 2,
                            .ps_hosts = arguments->hosts,
                            .interface = arguments->interface,
                            .ports = arguments->ports,
                            .arguments = words,
                            .argument_count = arguments->ports != NULL ? 2 : 1,
                            .quiet = true};
    json_t *reports = NULL;
    weir_err_t err = weir_launch(&launch, &end, error);
    if (err == WEIR_ERR_NOT_FOUND) { /* it has been found out already */
        return WEIR_OK;
    }
    if (err == WEIR_OK && end.asked) {
        return weir_errorf(error, WEIR_ERR_STOPPED, "stopped on request");
    }
    if (err == WEIR_OK && end.status != 0) {
        weir_doctor_add(findings, WEIR_DOCTOR_FAIL, "launch",
                        "what the launcher printed says why; on several hosts: can you ssh to each "
                        "without a password, is the build there, may they reach each other's ports "
                        "(docs/cluster.md)?",
                        "a job of %ld processes ended with status %d", launch.ranks, end.status);
        return WEIR_OK;
    }
    if (err == WEIR_OK) {
        err = read_reports(folder, &reports, error);
    }
    if (err == WEIR_OK) {
        weir_doctor_judge(reports, hosts, findings);
    }
    json_decref(reports);
    return err;
}

static weir_err_t examine_job(const arguments_t *arguments, weir_doctor_findings_t *findings,
                              weir_error_t *error) {
    char absolute[WEIR_PATH_MAX], folder[WEIR_PATH_MAX];
    weir_error_t removing = {0};
    if (realpath(arguments->folder, absolute) == NULL) {
        weir_doctor_add(findings, WEIR_DOCTOR_FAIL, "folder", "make it first", "'%s': %s",
                        arguments->folder, strerror(errno));
        return WEIR_OK;
    }
    weir_err_t err = weir_path_join(folder, sizeof folder, absolute, "weir-doctor-XXXXXX", error);
    if (err == WEIR_OK && mkdtemp(folder) == NULL) {
        weir_doctor_add(findings, WEIR_DOCTOR_FAIL, "folder",
                        "the folder of runs must be writable for you", "cannot write in '%s': %s",
                        absolute, strerror(errno));
        return WEIR_OK;
    }
    if (err == WEIR_OK) {
        err = run_probe(arguments, folder, findings, error);
        if (weir_file_remove_directory(folder, &removing) != WEIR_OK) {
            weir_doctor_add(findings, WEIR_DOCTOR_WARN, "folder", NULL, "'%s' stays behind: %s",
                            folder, removing.message);
        }
    }
    return err;
}

/* ---- what is shown ---- */

static const char *const levels[] = {"ok", "warn", "fail"};

static void print_json(const weir_doctor_findings_t *findings) {
    json_t *array = json_array();
    for (size_t i = 0; i < findings->count; i++) {
        const weir_doctor_finding_t *finding = &findings->list[i];
        json_t *object = json_pack("{s:s, s:s, s:s}", "level", levels[finding->level], "name",
                                   finding->name, "text", finding->text);
        if (finding->hint[0] != '\0') {
            (void)json_object_set_new(object, "hint", json_string(finding->hint));
        }
        (void)json_array_append_new(array, object);
    }
    (void)json_dumpf(array, stdout, JSON_INDENT(2));
    (void)fputc('\n', stdout);
    json_decref(array);
}

static void print_text(const weir_doctor_findings_t *findings) {
    size_t counts[3] = {0};
    for (size_t i = 0; i < findings->count; i++) {
        const weir_doctor_finding_t *finding = &findings->list[i];
        counts[finding->level]++;
        (void)printf("%-4s  %-10s  %s\n", levels[finding->level], finding->name, finding->text);
        if (finding->hint[0] != '\0') {
            (void)printf("      %-10s  -> %s\n", "", finding->hint);
        }
    }
    (void)printf("%zu in order, %zu to look at, %zu in the way\n", counts[WEIR_DOCTOR_OK],
                 counts[WEIR_DOCTOR_WARN], counts[WEIR_DOCTOR_FAIL]);
}

int weir_verb_doctor(int argc, char **argv) {
    static const struct argp argp = {
        options,
        parse_option,
        NULL,
        "Look for what stands in the way of a job, before it starts: programs, launcher, hosts, "
        "the "
        "shared folder, space, clocks, memory, processors, BLAS.\vThe exit status is 1 when "
        "something must change, 0 when it need not.",
        NULL,
        NULL,
        NULL};
    weir_error_t error = {0};
    arguments_t arguments = {.folder = "."};
    weir_doctor_findings_t *findings = calloc(1, sizeof *findings);
    long first = 0, last = 0;
    bool failed = false;
    weir_err_t err =
        findings != NULL ? WEIR_OK : weir_errorf(&error, WEIR_ERR_MEMORY, "out of memory");
    (void)argp_parse(&argp, argc, argv, 0, NULL, &arguments);
    if (err == WEIR_OK && arguments.ports != NULL) {
        err = weir_placement_ports(arguments.ports, &first, &last, &error);
    }
    if (err == WEIR_OK) {
        examine_programs(findings);
        examine_launcher(&arguments, findings);
        err = examine_job(&arguments, findings, &error);
    }
    if (err != WEIR_OK) {
        free(findings);
        weir_fatal(&error);
    }
    if (arguments.json) {
        print_json(findings);
    } else {
        print_text(findings);
    }
    for (size_t i = 0; i < findings->count; i++) {
        failed = failed || findings->list[i].level == WEIR_DOCTOR_FAIL;
    }
    free(findings);
    return failed ? 1 : 0;
}
