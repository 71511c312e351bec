#include "worker/read_ahead.h"

#include "common/background.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

struct weir_read_ahead {
    weir_background_task_t task; /* first: the task is the whole */
    weir_background_t *background;
    weir_read_batch_t read;
    void *reader;
    uint64_t last_step;
    pthread_mutex_t mutex;
    pthread_cond_t ended;
    /* Below: under the mutex. */
    bool reading;
    uint64_t step; /* that was read last, or is being read; 0: none */
    const weir_train_batch_t *batch;
    weir_err_t err;
    weir_error_t error;
};

static void run(weir_background_task_t *task) {
    weir_read_ahead_t *ahead = (weir_read_ahead_t *)(void *)task;
    const weir_train_batch_t *batch = NULL;
    weir_error_t error = {0};
    weir_err_t err = ahead->read(ahead->reader, ahead->step, &batch, &error);
    (void)pthread_mutex_lock(&ahead->mutex);
    ahead->batch = batch;
    ahead->err = err;
    ahead->error = error;
    ahead->reading = false;
    (void)pthread_cond_signal(&ahead->ended);
    (void)pthread_mutex_unlock(&ahead->mutex);
}

weir_err_t weir_read_ahead_create(weir_read_batch_t read, void *reader, uint64_t last_step,
                                  weir_read_ahead_t **ahead, weir_error_t *error) {
    weir_read_ahead_t *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory to read ahead");
    }
    made->task.run = run;
    made->read = read;
    made->reader = reader;
    made->last_step = last_step;
    (void)pthread_mutex_init(&made->mutex, NULL);
    (void)pthread_cond_init(&made->ended, NULL);
    weir_err_t err = weir_background_create(&made->background, error);
    if (err != WEIR_OK) {
        weir_read_ahead_destroy(made);
        return err;
    }
    *ahead = made;
    return WEIR_OK;
}

void weir_read_ahead_destroy(weir_read_ahead_t *ahead) {
    if (ahead != NULL) {
        weir_background_destroy(ahead->background);
        (void)pthread_cond_destroy(&ahead->ended);
        (void)pthread_mutex_destroy(&ahead->mutex);
        free(ahead);
    }
}

void weir_read_ahead_rest(weir_read_ahead_t *ahead) {
    (void)pthread_mutex_lock(&ahead->mutex);
    while (ahead->reading) {
        (void)pthread_cond_wait(&ahead->ended, &ahead->mutex);
    }
    (void)pthread_mutex_unlock(&ahead->mutex);
}

weir_err_t weir_read_ahead_take(weir_read_ahead_t *ahead, uint64_t step,
                                const weir_train_batch_t **batch, weir_error_t *error) {
    weir_read_ahead_rest(ahead);
    if (ahead->step != step) { /* the first, or not the one that was to come: nobody reads now */
        ahead->step = step;
        ahead->err = ahead->read(ahead->reader, step, &ahead->batch, &ahead->error);
    }
    weir_err_t err = ahead->err;
    if (err != WEIR_OK) {
        *error = ahead->error;
        ahead->step = 0;
        return err;
    }
    *batch = ahead->batch;
    if (step < ahead->last_step) {
        ahead->step = step + 1;
        ahead->reading = true;
        weir_background_give(ahead->background, &ahead->task);
    }
    return WEIR_OK;
}
