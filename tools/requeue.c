#include "tools/requeue.h"

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

weir_err_t weir_requeue_check(weir_error_t *error) {
    const char *job = getenv("SLURM_JOB_ID");
    if (job == NULL || job[0] == '\0' || strspn(job, "0123456789") != strlen(job)) {
        weir_err_t err = weir_errorf(error, WEIR_ERR_INVALID, "--requeue is for a job of Slurm");
        weir_error_hint(error, "SLURM_JOB_ID is not set here: submit a script of slurm/ by sbatch");
        return err;
    }
    return WEIR_OK;
}

/* The word after " NAME=", cut at `capacity`; "" where there is none. */
static void find_word(const char *text, const char *name, char *word, size_t capacity) {
    char pattern[64];
    size_t size = 0;
    (void)snprintf(pattern, sizeof pattern, " %s=", name);
    const char *found = strstr(text, pattern);
    if (found != NULL) {
        found += strlen(pattern);
        while (size + 1 < capacity && found[size] != '\0' && !isspace((unsigned char)found[size])) {
            word[size] = found[size];
            size++;
        }
    }
    word[size] = '\0';
}

bool weir_requeue_was_preempted(const char *text) {
    char preempted[32], started[32];
    find_word(text, "PreemptTime", preempted, sizeof preempted);
    find_word(text, "StartTime", started, sizeof started);
    /* 2026-01-31T12:00:00: the order of the text is that of time. */
    return isdigit((unsigned char)preempted[0]) && strcmp(preempted, started) >= 0;
}

/* Run `scontrol VERB ID` and keep what it prints. */
static weir_err_t call_scontrol(const char *verb, char *text, size_t capacity,
                                weir_error_t *error) {
    char line[128];
    size_t size = 0, got;
    (void)snprintf(line, sizeof line, "scontrol %s %.20s", verb, getenv("SLURM_JOB_ID"));
    FILE *stream = popen(line, "r");
    if (stream == NULL) {
        return weir_error_from_errno(error, errno, "cannot run scontrol");
    }
    while ((got = fread(text + size, 1, capacity - 1 - size, stream)) > 0) {
        size += got;
    }
    text[size] = '\0';
    int status = pclose(stream);
    if (status != 0) {
        return weir_errorf(error, WEIR_ERR_IO, "`%s` ended with %d", line,
                           WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    }
    return WEIR_OK;
}

weir_err_t weir_requeue(int signal, bool limited, weir_error_t *error) {
    char text[16384];
    weir_err_t err = WEIR_OK;
    bool wanted = limited || signal == SIGUSR1;
    if (!wanted && signal != SIGINT) {
        err = call_scontrol("show job --oneliner", text, sizeof text, error);
        wanted = err == WEIR_OK && weir_requeue_was_preempted(text);
    }
    if (wanted) {
        (void)puts("the scheduler wants the nodes: back into the queue");
        (void)fflush(stdout);
        err = call_scontrol("requeue", text, sizeof text, error);
    }
    return err;
}
