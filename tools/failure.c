#include "tools/failure.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The number right after `word` in `line`; false when there is none. */
static bool number_after(const char *line, const char *word, unsigned long *number) {
    const char *found = strstr(line, word);
    if (found == NULL) {
        return false;
    }
    found += strlen(word);
    found += strspn(found, " ");
    if (*found < '0' || *found > '9') {
        return false;
    }
    *number = strtoul(found, NULL, 10);
    return *number <= UINT32_MAX;
}

static void name_rank(weir_failure_t *failure, unsigned long rank) {
    failure->named = true;
    failure->rank = (uint32_t)rank;
}

/* mpirun: "mpirun noticed that process rank 2 with PID 0 on node a exited on signal 9 (Killed).",
 * or over two lines "  Process name: [[5,1],2]" and "  Exit code:    10"; "MPI_ABORT was invoked on
 * rank 2 in communicator MPI_COMM_WORLD". */
static void hear_mpirun(weir_failure_t *failure, const char *line) {
    unsigned long rank = 0, number = 0;
    const char *name = strstr(line, "Process name: [[");
    const char *comma = name != NULL ? strstr(name, "],") : NULL;
    if (failure->named) {
        if (failure->status == 0 && failure->signal == 0 &&
            number_after(line, "Exit code:", &number)) {
            failure->status = (int)(number & 0xff);
        }
    } else if (number_after(line, "process rank", &rank) &&
               number_after(line, "exited on signal", &number)) {
        name_rank(failure, rank);
        failure->signal = (int)(number & 0x7f);
    } else if (comma != NULL && number_after(comma, "],", &rank)) {
        name_rank(failure, rank);
    } else if (number_after(line, "MPI_ABORT was invoked on rank", &rank)) {
        name_rank(failure, rank);
    }
}

/* srun: "srun: error: host: task 2: Killed", "... task 2: Exited with exit code 6". */
static void hear_srun(weir_failure_t *failure, const char *line) {
    static const struct {
        const char *word;
        int signal;
    } words[] = {
        {"Killed", SIGKILL},       {"Segmentation fault", SIGSEGV}, {"Aborted", SIGABRT},
        {"Bus error", SIGBUS},     {"Illegal instruction", SIGILL}, {"Terminated", SIGTERM},
        {"Out Of Memory", SIGKILL}};
    unsigned long rank = 0, number = 0;
    if (failure->named || strncmp(line, "srun: error:", 12) != 0 ||
        !number_after(line, ": task", &rank)) {
        return;
    }
    name_rank(failure, rank);
    if (number_after(line, "exit code", &number)) {
        failure->status = (int)(number & 0xff);
    }
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        failure->signal = strstr(line, words[i].word) != NULL ? words[i].signal : failure->signal;
    }
}

/* weir_fatal: "weir-worker: rank 3 on host: sentence". */
static void hear_rank(weir_failure_t *failure, const char *line) {
    unsigned long rank = 0;
    const char *on = strstr(line, " on "), *colon = on != NULL ? strstr(on, ": ") : NULL;
    if (failure->spoke || strncmp(line, "weir-", 5) != 0 || colon == NULL ||
        !number_after(line, ": rank", &rank)) {
        return;
    }
    failure->spoke = true;
    failure->speaker = (uint32_t)rank;
    (void)snprintf(failure->sentence, sizeof failure->sentence, "%s", colon + 2);
}

void weir_failure_hear(weir_failure_t *failure, const char *line) {
    hear_mpirun(failure, line);
    hear_srun(failure, line);
    hear_rank(failure, line);
}

static void name_role(uint32_t rank, long ps, char *text, size_t capacity) {
    long number = (long)rank;
    if (rank == 0) {
        (void)snprintf(text, capacity, "rank 0 (coordinator)");
    } else if (number <= ps) {
        (void)snprintf(text, capacity, "rank %ld (ps %ld)", number, number - 1);
    } else {
        (void)snprintf(text, capacity, "rank %ld (worker %ld)", number, number - 1 - ps);
    }
}

void weir_failure_describe(const weir_failure_t *failure, long ps, int status, char *text,
                           size_t capacity) {
    char role[64];
    if (failure->named && failure->signal != 0) {
        name_role(failure->rank, ps, role, sizeof role);
        (void)snprintf(text, capacity, "%s was killed by signal %d", role, failure->signal);
    } else if (failure->spoke) {
        name_role(failure->speaker, ps, role, sizeof role);
        (void)snprintf(text, capacity, "%s: %s", role, failure->sentence);
    } else if (failure->named) {
        name_role(failure->rank, ps, role, sizeof role);
        (void)snprintf(text, capacity, "%s ended with status %d", role,
                       failure->status != 0 ? failure->status : status);
    } else if (status > 128) {
        (void)snprintf(text, capacity, "a process of the job was killed by signal %d",
                       status - 128);
    } else {
        (void)snprintf(text, capacity, "the job ended with status %d", status);
    }
}
