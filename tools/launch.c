#include "tools/launch.h"

#include "common/file.h"
#include "tools/launch_run.h"
#include "tools/placement.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Settings of the ranks, each worth a factor of 2 to 500 when it is forgotten on shared cores.
 *
 * Not among them: odls_base_sigkill_timeout, which would give ranks time to save after a SIGTERM.
 * mpirun sleeps it out twice whenever any rank fails, so that at 60 s a refused start takes two
 * minutes. A request to save comes as SIGUSR1 instead, which mpirun passes on and does not act on.
 */
static const char *const rank_environment[][2] = {
    {"OMPI_MCA_mpi_yield_when_idle", "0"}, /* docs/design/0005 */
    {"OMPI_MCA_hwloc_base_binding_policy", "none"},
    {"OMPI_MCA_rmaps_base_oversubscribe", "1"},
    {"OPENBLAS_NUM_THREADS", "1"},
    {"OMP_NUM_THREADS", "1"},
    {"GOMP_SPINCOUNT", "20000"}, /* some 20 us: a thread without a task must leave its core */
};
enum { RANK_ENVIRONMENT = sizeof rank_environment / sizeof rank_environment[0] };

/* What ranks on other hosts are told too, where it is set: how all of them compute. */
static const char *const passed_on[] = {"WEIR_TTY", "WEIR_KERNELS", "WEIR_BF16",
                                        "OPENBLAS_CORETYPE"};
enum { PASSED_ON = sizeof passed_on / sizeof passed_on[0] };

bool weir_launcher_parse(const char *text, weir_launcher_t *launcher) {
    static const char *const names[] = {[WEIR_LAUNCHER_AUTO] = "auto",
                                        [WEIR_LAUNCHER_MPIRUN] = "mpirun",
                                        [WEIR_LAUNCHER_SRUN] = "srun"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(text, names[i]) == 0) {
            *launcher = (weir_launcher_t)i;
            return true;
        }
    }
    return false;
}

#ifdef WEIR_MPICH_LAUNCHER
#define LAUNCHER WEIR_MPICH_LAUNCHER
#else
#define LAUNCHER "mpirun"
#endif

typedef struct {
    char **words; /* owned, NULL at the end */
    size_t count, capacity;
    bool failed;
} line_t;

static void add_word(line_t *line, const char *word) {
    if (line->count + 2 > line->capacity) {
        size_t capacity = line->capacity == 0 ? 64 : 2 * line->capacity;
        char **grown = realloc(line->words, capacity * sizeof *grown);
        if (grown == NULL) {
            line->failed = true;
            return;
        }
        line->words = grown;
        line->capacity = capacity;
    }
    line->words[line->count] = strdup(word);
    line->failed = line->failed || line->words[line->count] == NULL;
    line->words[++line->count] = NULL;
}

static void add_number(line_t *line, long number) {
    char text[32];
    (void)snprintf(text, sizeof text, "%ld", number);
    add_word(line, text);
}

static void release_line(line_t *line) {
    for (size_t i = 0; i < line->count; i++) {
        free(line->words[i]);
    }
    free(line->words);
}

/* The programs are where this one is. */
static weir_err_t program_path(const char *name, char *path, size_t capacity, weir_error_t *error) {
    char self[WEIR_PATH_MAX];
    ssize_t size = readlink("/proc/self/exe", self, sizeof self - 1);
    if (size < 0) {
        return weir_error_from_errno(error, errno, "cannot find this program");
    }
    self[size] = '\0';
    char *slash = strrchr(self, '/');
    *slash = '\0';
    weir_err_t err = weir_path_join(path, capacity, self, name, error);
    if (err == WEIR_OK && access(path, X_OK) != 0) {
        err = weir_error_from_errno(error, errno, "cannot run %s", path);
        weir_error_hint(error, "all weir-* programs belong beside weir");
    }
    return err;
}

static weir_err_t add_role(line_t *line, const weir_launch_t *launch, long ranks, const char *name,
                           weir_error_t *error) {
    char path[WEIR_PATH_MAX];
    weir_err_t err = program_path(name, path, sizeof path, error);
    if (err != WEIR_OK) {
        return err;
    }
    add_word(line, "-n");
    add_number(line, ranks);
    add_word(line, path);
    for (size_t i = 0; i < launch->argument_count; i++) {
        add_word(line, launch->arguments[i]);
    }
    return WEIR_OK;
}

#ifndef WEIR_MPICH_LAUNCHER
/* A role's ranks: one part of the line for each host. mpirun takes a list of hosts in one part as
 * well, but counts slots over all parts, and moves ranks when two roles share a host. */
static weir_err_t add_placed_role(line_t *line, const weir_launch_t *launch, long ranks,
                                  const char *name, const char *hosts, weir_error_t *error) {
    char host[256];
    long share = 1;
    weir_err_t err = hosts == NULL ? add_role(line, launch, ranks, name, error) : WEIR_OK;
    for (long i = 0; hosts != NULL && share > 0 && err == WEIR_OK; i++) {
        err = weir_placement_part(hosts, ranks, i, host, sizeof host, &share, error);
        if (err == WEIR_OK && share > 0) {
            if (i > 0) {
                add_word(line, ":");
            }
            add_word(line, "-host");
            add_word(line, host);
            err = add_role(line, launch, share, name, error);
        }
    }
    return err;
}

#endif

static bool is_in_path(const char *program) {
    const char *path = getenv("PATH");
    char copy[8192], candidate[WEIR_PATH_MAX], *rest = NULL;
    (void)snprintf(copy, sizeof copy, "%s", path != NULL ? path : "/usr/bin:/bin");
    for (char *folder = strtok_r(copy, ":", &rest); folder != NULL;
         folder = strtok_r(NULL, ":", &rest)) {
        if (weir_path_join(candidate, sizeof candidate, folder, program, NULL) == WEIR_OK &&
            access(candidate, X_OK) == 0) {
            return true;
        }
    }
    return false;
}

#ifndef WEIR_MPICH_LAUNCHER
static void add_parameter(line_t *line, const char *name, const char *value) {
    add_word(line, "--mca");
    add_word(line, name);
    add_word(line, value);
}

/* mpirun 4.1 listens on every port that its daemons may use, and leaves none of them to ranks. */
enum { DAEMON_PORTS = 4 };

/* Which interfaces and ports MPI and its daemons use. */
static weir_err_t add_network(line_t *line, const weir_launch_t *launch, weir_error_t *error) {
    long first = 0, last = 0;
    char number[64];
    weir_err_t err = WEIR_OK;
    if (launch->interface != NULL) {
        err = weir_placement_check_interface(launch->interface, error);
    }
    if (err == WEIR_OK && launch->ports != NULL) {
        err = weir_placement_ports(launch->ports, &first, &last, error);
    }
    if (err == WEIR_OK && launch->interface != NULL) {
        add_parameter(line, "btl_tcp_if_include", launch->interface);
        add_parameter(line, "oob_tcp_if_include", launch->interface);
    }
    if (err == WEIR_OK && launch->ports != NULL) {
        (void)snprintf(number, sizeof number, "%ld", first + DAEMON_PORTS);
        add_parameter(line, "btl_tcp_port_min_v4", number);
        (void)snprintf(number, sizeof number, "%ld", last - first + 1 - DAEMON_PORTS);
        add_parameter(line, "btl_tcp_port_range_v4", number);
        (void)snprintf(number, sizeof number, "%ld-%ld", first, first + DAEMON_PORTS - 1);
        add_parameter(line, "oob_tcp_dynamic_ipv4_ports", number);
    }
    return err;
}

/* What ranks on other hosts find in their environment. Not by -x, which holds for the first of
 * several programs alone (Open MPI 4.1). */
static void pass_environment(line_t *line) {
    char names[512] = "";
    size_t used = 0;
    for (size_t i = 0; i < RANK_ENVIRONMENT + PASSED_ON; i++) {
        const char *name =
            i < RANK_ENVIRONMENT ? rank_environment[i][0] : passed_on[i - RANK_ENVIRONMENT];
        bool wanted = i < RANK_ENVIRONMENT ? strncmp(name, "OMPI_", 5) != 0 : getenv(name) != NULL;
        if (wanted) {
            used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", used > 0 ? "," : "",
                                     name);
        }
    }
    add_parameter(line, "mca_base_env_list_delimiter", ",");
    add_parameter(line, "mca_base_env_list", names);
}

/* mpirun reads the settings from its own environment: `env A=1 B=2 mpirun ...` is the same by hand.
 */
static weir_err_t build_mpirun(const weir_launch_t *launch, line_t *line, weir_error_t *error) {
    if (!is_in_path("mpirun")) {
        weir_err_t err = weir_errorf(error, WEIR_ERR_NOT_FOUND, "there is no mpirun in PATH");
        weir_error_hint(error, "install Open MPI (Debian: openmpi-bin)");
        return err;
    }
    add_word(line, "env");
    for (size_t i = 0; i < RANK_ENVIRONMENT; i++) {
        char setting[128];
        (void)snprintf(setting, sizeof setting, "%s=%s", rank_environment[i][0],
                       rank_environment[i][1]);
        add_word(line, setting);
    }
    add_word(line, "mpirun");
    if (geteuid() == 0) {
        add_word(line, "--allow-run-as-root");
    }
    pass_environment(line);
    weir_err_t err = add_network(line, launch, error);
    if (err != WEIR_OK) {
        return err;
    }
    if (launch->program != NULL) {
        return add_placed_role(line, launch, launch->ranks, launch->program, launch->ps_hosts,
                               error);
    }
    err = add_placed_role(line, launch, 1, "weir-coordinator", launch->ps_hosts, error);
    if (err == WEIR_OK) {
        add_word(line, ":");
        err = add_placed_role(line, launch, launch->ps, "weir-ps", launch->ps_hosts, error);
    }
    if (err == WEIR_OK) {
        add_word(line, ":");
        err = add_placed_role(line, launch, launch->workers, "weir-worker", launch->worker_hosts,
                              error);
    }
    return err;
}

#else
/* Hydra, MPICH's launcher: the environment goes to all ranks by itself. */
static weir_err_t build_mpirun(const weir_launch_t *launch, line_t *line, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    if (!is_in_path(WEIR_MPICH_LAUNCHER)) {
        err = weir_errorf(error, WEIR_ERR_NOT_FOUND, "there is no " WEIR_MPICH_LAUNCHER " in PATH");
        weir_error_hint(error, "this build is for MPICH: install it (Debian: mpich)");
        return err;
    }
    if (launch->ps_hosts != NULL || launch->interface != NULL || launch->ports != NULL) {
        err = weir_errorf(error, WEIR_ERR_UNSUPPORTED,
                          "a build for MPICH cannot be told hosts and networks");
        weir_error_hint(error, "HYDRA_HOST_FILE and HYDRA_IFACE tell its launcher");
        return err;
    }
    add_word(line, "env");
    for (size_t i = 0; i < RANK_ENVIRONMENT; i++) {
        char setting[128];
        if (strncmp(rank_environment[i][0], "OMPI_", 5) != 0) {
            (void)snprintf(setting, sizeof setting, "%s=%s", rank_environment[i][0],
                           rank_environment[i][1]);
            add_word(line, setting);
        }
    }
    add_word(line, WEIR_MPICH_LAUNCHER);
    if (launch->program != NULL) {
        return add_role(line, launch, launch->ranks, launch->program, error);
    }
    err = add_role(line, launch, 1, "weir-coordinator", error);
    if (err == WEIR_OK) {
        add_word(line, ":");
        err = add_role(line, launch, launch->ps, "weir-ps", error);
    }
    if (err == WEIR_OK) {
        add_word(line, ":");
        err = add_role(line, launch, launch->workers, "weir-worker", error);
    }
    return err;
}
#endif

static void append_text(char *text, size_t capacity, const char *addition, bool *fits) {
    size_t used = strlen(text);
    *fits = *fits && used + strlen(addition) + 1 < capacity;
    if (*fits) {
        memcpy(text + used, addition, strlen(addition) + 1);
    }
}

/* srun splits the file's lines at white space, knows no quotes, and replaces %t and %o. */
static weir_err_t check_srun_words(const weir_launch_t *launch, weir_error_t *error) {
    for (size_t i = 0; i < launch->argument_count; i++) {
        const char *word = launch->arguments[i];
        if (word[0] == '\0' || strpbrk(word, " \t\n\r'\"\\%#") != NULL) {
            (void)weir_errorf(error, WEIR_ERR_UNSUPPORTED,
                              "srun cannot be given the argument \"%.200s\"", word);
            weir_error_hint(error, "names without spaces, quotes, %% and #; or --launcher mpirun");
            return WEIR_ERR_UNSUPPORTED;
        }
    }
    return WEIR_OK;
}

/* srun takes roles from a file: "0 program args", "1-2 program args". */
static weir_err_t write_multi_prog(const weir_launch_t *launch, char *path, size_t capacity,
                                   weir_error_t *error) {
    static const char *const names[] = {"weir-coordinator", "weir-ps", "weir-worker"};
    long first[4] = {0, 1, 1 + launch->ps, 1 + launch->ps + launch->workers};
    char text[65536] = "", line[WEIR_PATH_MAX + 64], program[WEIR_PATH_MAX];
    bool fits = true;
    weir_err_t err = WEIR_OK;
    for (int role = 0; role < 3 && err == WEIR_OK; role++) {
        err = program_path(names[role], program, sizeof program, error);
        (void)snprintf(line, sizeof line, "%ld-%ld %s", first[role], first[role + 1] - 1, program);
        append_text(text, sizeof text, line, &fits);
        for (size_t i = 0; i < launch->argument_count; i++) {
            append_text(text, sizeof text, " ", &fits);
            append_text(text, sizeof text, launch->arguments[i], &fits);
        }
        append_text(text, sizeof text, "\n", &fits);
    }
    if (err == WEIR_OK && !fits) {
        err = weir_errorf(error, WEIR_ERR_INVALID, "the command line is too long for srun");
    }
    size_t size = strlen(launch->run); /* beside the run's folder, which is not there yet */
    while (size > 1 && launch->run[size - 1] == '/') {
        size--;
    }
    int length = snprintf(path, capacity, "%.*s.srun", (int)size, launch->run);
    if (err == WEIR_OK && (length < 0 || (size_t)length >= capacity)) {
        err = weir_errorf(error, WEIR_ERR_INVALID, "the run folder's name is too long");
    }
    if (err == WEIR_OK) {
        err = weir_file_replace(path, text, strlen(text), error);
    }
    return err;
}

static weir_err_t build_srun(const weir_launch_t *launch, line_t *line, weir_error_t *error) {
    char path[WEIR_PATH_MAX];
    weir_err_t err = WEIR_OK;
    if (launch->ps_hosts != NULL || launch->interface != NULL || launch->ports != NULL) {
        err = weir_errorf(error, WEIR_ERR_UNSUPPORTED, "srun cannot be told hosts and networks");
        weir_error_hint(error, "Slurm places the ranks (docs/slurm.md); or --launcher mpirun");
        return err;
    }
    err = launch->program != NULL ? WEIR_OK : check_srun_words(launch, error);
    if (err == WEIR_OK && launch->program == NULL) {
        err = write_multi_prog(launch, path, sizeof path, error);
    }
    if (err != WEIR_OK) {
        return err;
    }
    add_word(line, "env");
    for (size_t i = 0; i < RANK_ENVIRONMENT; i++) {
        char setting[128];
        (void)snprintf(setting, sizeof setting, "%s=%s", rank_environment[i][0],
                       rank_environment[i][1]);
        add_word(line, setting);
    }
    /* Slurm's other fence lets a rank leave MPI_Init while one is still in it, which then is sent
     * what it cannot take yet, and dies: one start of seven with Slurm 22.05 and btl tcp. */
    if (getenv("SLURM_PMIX_FENCE") == NULL) {
        add_word(line, "SLURM_PMIX_FENCE=ring");
    }
    add_word(line, "srun");
    add_word(line, "--mpi=pmix");
    add_word(line, "--kill-on-bad-exit=1");
    if (launch->program != NULL) {
        return add_role(line, launch, launch->ranks, launch->program, error);
    }
    add_word(line, "-n");
    add_number(line, 1 + launch->ps + launch->workers);
    add_word(line, "--multi-prog");
    add_word(line, path);
    return WEIR_OK;
}

/* As a shell would need it. */
static void show_line(const line_t *line) {
    for (size_t i = 0; i < line->count; i++) {
        const char *word = line->words[i];
        bool plain = word[0] != '\0' &&
                     strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                  "_-+=:,./@%") == strlen(word);
        (void)fputs(i > 0 ? " " : "", stdout);
        if (plain) {
            (void)fputs(word, stdout);
            continue;
        }
        (void)fputc('\'', stdout);
        for (const char *c = word; *c != '\0'; c++) {
            (void)fputs(*c == '\'' ? "'\\''" : (char[]){*c, '\0'}, stdout);
        }
        (void)fputc('\'', stdout);
    }
    (void)fputc('\n', stdout);
    (void)fflush(stdout);
}

weir_err_t weir_launch(const weir_launch_t *launch, weir_launch_end_t *end, weir_error_t *error) {
    line_t line = {.words = NULL};
    bool srun = launch->launcher == WEIR_LAUNCHER_SRUN ||
                (launch->launcher == WEIR_LAUNCHER_AUTO && getenv("SLURM_JOB_ID") != NULL &&
                 !is_in_path(LAUNCHER));
    weir_err_t err = srun ? build_srun(launch, &line, error) : build_mpirun(launch, &line, error);
    if (err == WEIR_OK && line.failed) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the command line");
    }
    if (err == WEIR_OK && (!launch->quiet || launch->dry_run)) {
        show_line(&line);
    }
    *end = (weir_launch_end_t){.status = 0};
    if (err == WEIR_OK && !launch->dry_run) {
        err = weir_launch_run(line.words, launch, end, error);
    }
    release_line(&line);
    return err;
}
