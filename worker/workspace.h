/* One block of memory with named pieces, laid out anew for every batch and kept at its largest
 * size, so that the steady state allocates nothing.
 *
 * A layout is one function that takes the pieces in order. It runs twice: first to measure (the
 * pieces are NULL), then, after weir_workspace_reserve, to set the pointers. */
#ifndef WEIR_WORKER_WORKSPACE_H
#define WEIR_WORKER_WORKSPACE_H

#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct {
    unsigned char *bytes; /* NULL while nothing is reserved */
    size_t capacity;      /* bytes */
    size_t used;          /* bytes taken since begin */
    bool measuring;       /* pieces are counted, not handed out */
    bool overflow;        /* a size did not fit size_t */
} weir_workspace_t;

/* Start to measure a layout. */
void weir_workspace_begin(weir_workspace_t *workspace);

/* The next piece: `count` elements of `size` bytes, 64-byte aligned, contents undefined; NULL while
 * measuring. Call: local. */
void *weir_workspace_take(weir_workspace_t *workspace, size_t count, size_t size);

/* After measuring: make room for what was measured; the layout is then taken a second time. Pieces
 * of an earlier layout are lost when the block has to grow. Errors: out of memory. */
WEIR_MUST_USE weir_err_t weir_workspace_reserve(weir_workspace_t *workspace, const char *what,
                                                weir_error_t *error);

/* Free all; the workspace may be used again. */
void weir_workspace_fini(weir_workspace_t *workspace);

#endif
