#include "worker/workspace.h"

#include "common/assert.h"

#include <stdint.h>
#include <stdlib.h>

enum { ALIGNMENT = 64 };

void weir_workspace_begin(weir_workspace_t *workspace) {
    workspace->used = 0;
    workspace->measuring = true;
    workspace->overflow = false;
}

void *weir_workspace_take(weir_workspace_t *workspace, size_t count, size_t size) {
    size_t bytes, begin = workspace->used;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > SIZE_MAX - ALIGNMENT ||
        __builtin_add_overflow(begin, (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT,
                               &workspace->used)) {
        workspace->overflow = true;
        workspace->used = begin;
    }
    if (workspace->measuring) {
        return NULL;
    }
    WEIR_ASSERT(!workspace->overflow && workspace->used <= workspace->capacity);
    return workspace->bytes + begin;
}

weir_err_t weir_workspace_reserve(weir_workspace_t *workspace, const char *what,
                                  weir_error_t *error) {
    size_t wanted = workspace->used;
    if (workspace->overflow || wanted > SIZE_MAX / 2) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "%s does not fit any memory", what);
    }
    if (wanted > workspace->capacity || workspace->bytes == NULL) {
        /* An eighth more, since batches differ by a little and the largest comes late. */
        size_t bytes = (wanted + wanted / 8 + ALIGNMENT) / ALIGNMENT * ALIGNMENT;
        void *grown = aligned_alloc(ALIGNMENT, bytes);
        if (grown == NULL) {
            return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for %zu bytes of %s", bytes,
                               what);
        }
        free(workspace->bytes);
        workspace->bytes = grown;
        workspace->capacity = bytes;
    }
    workspace->used = 0;
    workspace->measuring = false;
    return WEIR_OK;
}

void weir_workspace_fini(weir_workspace_t *workspace) {
    free(workspace->bytes);
    *workspace = (weir_workspace_t){0};
}
