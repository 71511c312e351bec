/* A thread that does one thing after the other, in the order in which they were given: for writing
 * to disk beside a thread that must not wait. It sleeps while there is nothing to do. */
#ifndef WEIR_COMMON_BACKGROUND_H
#define WEIR_COMMON_BACKGROUND_H

#include "common/error.h"

typedef struct weir_background weir_background_t;

/* Errors: MEMORY, or the system gives no thread. */
WEIR_MUST_USE weir_err_t weir_background_create(weir_background_t **background,
                                                weir_error_t *error);
/* Everything that was given is done first. Accepts NULL. */
void weir_background_destroy(weir_background_t *background);

/* A thing to be done, owned by the caller until it has been: `run` may give it again, or free it.
 */
typedef struct weir_background_task {
    void (*run)(struct weir_background_task *task);
    struct weir_background_task *next; /* the queue's */
} weir_background_task_t;

/* Call: local. Threads: any. */
void weir_background_give(weir_background_t *background, weir_background_task_t *task);

#endif
