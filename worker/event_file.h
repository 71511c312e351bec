/* Scalars in TensorBoard's event files, RUN/tensorboard/events.out.tfevents.*
 * (docs/files/events.md): a file a start. A start at step s first says that what other files have
 * of later steps does not count, so that a resumed run is one curve. */
#ifndef WEIR_WORKER_EVENT_FILE_H
#define WEIR_WORKER_EVENT_FILE_H

#include "common/error.h"

#include <stddef.h>
#include <stdint.h>

typedef struct weir_event_file weir_event_file_t;

typedef struct {
    const char *tag; /* "train/loss" */
    double value;    /* written as float32; not finite: left out */
} weir_event_scalar_t;

enum { WEIR_EVENT_SCALARS = 64 }; /* of one call, at the most */

/* A new file in RUN/tensorboard, training being at `step`. Errors: the file system's. Call: blocks.
 * Threads: owner, also of all below. */
WEIR_MUST_USE weir_err_t weir_event_file_open(const char *run, uint64_t step,
                                              weir_event_file_t **file, weir_error_t *error);
void weir_event_file_close(weir_event_file_t *file); /* accepts NULL */

/* Add scalars of a step; on disk for other readers when it returns. A failure is logged once and
 * stops nothing. Accepts NULL: no file. */
void weir_event_file_add(weir_event_file_t *file, uint64_t step, const weir_event_scalar_t *scalars,
                         size_t count);

/* CRC-32C (Castagnoli). Call: local. */
uint32_t weir_event_file_crc32c(const void *bytes, size_t size);

#endif
