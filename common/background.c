#include "common/background.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>

struct weir_background {
    pthread_t thread;
    pthread_mutex_t mutex; /* guards all that follows */
    pthread_cond_t given;
    weir_background_task_t *first, **last; /* *last: where the next one goes */
    bool ends;
};

static void *run(void *argument) {
    weir_background_t *background = argument;
    (void)pthread_mutex_lock(&background->mutex);
    for (;;) {
        weir_background_task_t *task = background->first;
        if (task == NULL && background->ends) {
            break;
        }
        if (task == NULL) {
            (void)pthread_cond_wait(&background->given, &background->mutex);
            continue;
        }
        background->first = task->next;
        if (background->first == NULL) {
            background->last = &background->first;
        }
        (void)pthread_mutex_unlock(&background->mutex);
        task->run(task);
        (void)pthread_mutex_lock(&background->mutex);
    }
    (void)pthread_mutex_unlock(&background->mutex);
    return NULL;
}

weir_err_t weir_background_create(weir_background_t **background, weir_error_t *error) {
    weir_background_t *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for a thread");
    }
    (void)pthread_mutex_init(&made->mutex, NULL);
    (void)pthread_cond_init(&made->given, NULL);
    made->last = &made->first;
    sigset_t all, old; /* signals are for the process's first thread */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    int failed = pthread_create(&made->thread, NULL, run, made);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (failed != 0) {
        (void)pthread_cond_destroy(&made->given);
        (void)pthread_mutex_destroy(&made->mutex);
        free(made);
        return weir_error_from_errno(error, failed, "start a thread");
    }
    *background = made;
    return WEIR_OK;
}

void weir_background_destroy(weir_background_t *background) {
    if (background == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&background->mutex);
    background->ends = true;
    (void)pthread_cond_signal(&background->given);
    (void)pthread_mutex_unlock(&background->mutex);
    (void)pthread_join(background->thread, NULL);
    (void)pthread_cond_destroy(&background->given);
    (void)pthread_mutex_destroy(&background->mutex);
    free(background);
}

void weir_background_give(weir_background_t *background, weir_background_task_t *task) {
    task->next = NULL;
    (void)pthread_mutex_lock(&background->mutex);
    *background->last = task;
    background->last = &task->next;
    (void)pthread_cond_signal(&background->given);
    (void)pthread_mutex_unlock(&background->mutex);
}
