/* weir doctor: what stands in the way of a job, found before it starts. A *finding* is one line. */
#ifndef WEIR_TOOLS_DOCTOR_H
#define WEIR_TOOLS_DOCTOR_H

#include "common/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

typedef enum { WEIR_DOCTOR_OK, WEIR_DOCTOR_WARN, WEIR_DOCTOR_FAIL } weir_doctor_level_t;

enum { WEIR_DOCTOR_MOST = 64 };

typedef struct {
    weir_doctor_level_t level;
    char name[24];
    char text[512];
    char hint[512]; /* what to change; empty: nothing */
} weir_doctor_finding_t;

typedef struct {
    weir_doctor_finding_t list[WEIR_DOCTOR_MOST];
    size_t count;
} weir_doctor_findings_t;

/* Add one; beyond WEIR_DOCTOR_MOST nothing is added. `hint` NULL: none. */
__attribute__((format(printf, 5, 6))) void weir_doctor_add(weir_doctor_findings_t *findings,
                                                           weir_doctor_level_t level,
                                                           const char *name, const char *hint,
                                                           const char *format, ...);

/* What the reports of weir-probe say (an array of an object for each rank), `asked_hosts` of them
 * or 0: whatever the launcher chose. A report that lacks what is expected is a failure. Call:
 * local. */
void weir_doctor_judge(const json_t *reports, size_t asked_hosts, weir_doctor_findings_t *findings);

#endif
