/* A timeline of a process: what each thread did, from when to when, and which frames left and came.
 *
 * A span is a stretch of one thread's time; spans of a thread nest. A span's name is a string that
 * stays (a literal). Records go into a buffer of the thread's own while the step at hand is inside
 * the window that was opened, and are written as RUN/trace/rank-NNNN.json (docs/files/trace.md)
 * when the window has passed. Outside the window a span costs one load and one branch. A full
 * buffer takes no more; how many it turned away is in the file. */
#ifndef WEIR_COMMON_TRACE_H
#define WEIR_COMMON_TRACE_H

#include "common/error.h"
#include "common/frame.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* The steps before the window: they are of cold caches. */
enum { WEIR_TRACE_WARM_UP = 5 };

/* No rank at the other end of a span. */
enum { WEIR_TRACE_NOBODY = -1 };

typedef struct {
    const char *run;       /* folder of the run; copied */
    const char *role;      /* "ps", "worker"; copied */
    uint32_t rank, index;  /* in the job, in the role */
    uint64_t after, steps; /* the window: `steps` steps, from the one after `after` + warm-up on */
} weir_trace_options_t;

/* Begin to watch for the window; nothing is recorded yet. steps 0: nothing ever is. Makes
 * RUN/trace. Errors: IO. Call: blocks. Threads: main. */
WEIR_MUST_USE weir_err_t weir_trace_open(const weir_trace_options_t *options, weir_error_t *error);

/* The step at hand: opens the window, closes it and writes the file. A file that cannot be written
 * is logged. Threads: main. */
void weir_trace_set_step(uint64_t step);

/* Write what has been recorded, unless it has been; free the buffers. Every other thread that
 * recorded has ended. Threads: main. */
void weir_trace_close(void);

/* What the timeline calls the calling thread: a literal. Threads: any. */
void weir_trace_name_thread(const char *name);

/* The moment a span begins, in ns; 0 outside the window. Threads: any. */
extern atomic_bool weir_trace_recording;
int64_t weir_trace_now(void);
static inline int64_t weir_trace_begin(void) {
    /* Relaxed: a record more or less at the window's edges does not matter. */
    return atomic_load_explicit(&weir_trace_recording, memory_order_relaxed) ? weir_trace_now() : 0;
}

/* End the span that began at `begun` (0: none). `peer`: the rank it was about, or
 * WEIR_TRACE_NOBODY. Threads: any. */
void weir_trace_record(int64_t begun, const char *name, uint64_t step, int64_t peer);
static inline void weir_trace_end(int64_t begun, const char *name, uint64_t step, int64_t peer) {
    if (begun != 0) {
        weir_trace_record(begun, name, step, peer);
    }
}

/* A frame was handed over to be sent to `to`, by rank `from`; a frame has come to rank `to`.
 * Threads: any. */
void weir_trace_frame_posted(const weir_frame_header_t *header, uint32_t from, uint32_t to);
void weir_trace_frame_received(const weir_frame_header_t *header, uint32_t to);

#endif
