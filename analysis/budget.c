#include "analysis/budget.h"

#include <stdio.h>
#include <stdlib.h>

static const double gib = 1024.0 * 1024.0 * 1024.0;

int weir_budget_local_ranks(int ranks) {
    static const char *const names[] = {"OMPI_COMM_WORLD_LOCAL_SIZE", "SLURM_NTASKS_PER_NODE"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *text = getenv(names[i]);
        long count = text == NULL ? 0 : strtol(text, NULL, 10);
        if (count > 0 && count <= ranks) {
            return (int)count;
        }
    }
    return ranks;
}

/* Bytes; 0: not known. */
static double available(void) {
    char line[256];
    double found = 0.0;
    FILE *file = fopen("/proc/meminfo", "r");
    while (file != NULL && found <= 0.0 && fgets(line, sizeof line, file) != NULL) {
        unsigned long long kib = 0;
        if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1) {
            found = 1024.0 * (double)kib;
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return found;
}

weir_err_t weir_budget_check(const char *what, double bytes, int local_ranks, double limit_gib,
                             const char *hint, weir_error_t *error) {
    double limit = limit_gib > 0.0 ? limit_gib * gib : available();
    double needed = bytes * (double)local_ranks;
    if (limit <= 0.0 || needed <= limit) {
        return WEIR_OK;
    }
    (void)weir_errorf(
        error, WEIR_ERR_MEMORY,
        "%s: that takes %.3g GiB of this host, %.3g of each of %d processes, and it has %.3g", what,
        needed / gib, bytes / gib, local_ranks, limit / gib);
    weir_error_hint(error, "%s", hint);
    return WEIR_ERR_MEMORY;
}
