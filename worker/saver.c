#include "worker/saver.h"

#include "common/background.h"
#include "common/clock.h"
#include "common/file.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct weir_saver {
    weir_background_task_t task; /* first: the task is the saver */
    weir_background_t *background;
    weir_saver_options_t options;
    weir_parameters_t *model;
    float *parameters;
    char *metrics;
    double started, seconds;
    weir_error_t failure;
    atomic_bool ended;
};

/* Wait to be told where the checkpoint goes, or that it cannot be. */
static weir_err_t wait_for_folder(const weir_saver_t *saver, char *folder, size_t capacity,
                                  weir_error_t *error) {
    weir_control_client_t *control = saver->options.control;
    double deadline = weir_clock_seconds() + saver->options.timeout;
    uint64_t step = saver->options.state.step, begun = 0;
    for (;;) {
        weir_error_t failure = {0};
        if (weir_control_client_take_begin(control, &begun, folder, capacity) && begun == step) {
            return WEIR_OK;
        }
        weir_err_t refused = weir_control_client_wait_published(control, step, 0.001, &failure);
        if (refused != WEIR_OK && refused != WEIR_ERR_TIMEOUT) {
            return weir_errorf(error, refused, "%s", failure.message);
        }
        if (weir_clock_seconds() > deadline) {
            return weir_errorf(
                error, WEIR_ERR_TIMEOUT,
                "the coordinator did not begin the checkpoint of step %llu in %.0f s",
                (unsigned long long)step, saver->options.timeout);
        }
    }
}

static weir_err_t save(weir_saver_t *saver, weir_error_t *error) {
    const weir_saver_options_t *options = &saver->options;
    weir_checkpoint_file_t files[WEIR_DENSE_FILES] = {0};
    uint64_t step = options->state.step;
    char folder[WEIR_PATH_MAX];
    weir_error_t failure = {0};
    weir_err_t err = weir_control_client_request_checkpoint(options->control, step, options->epoch,
                                                            options->best, saver->metrics, error);
    if (err == WEIR_OK) {
        err = wait_for_folder(saver, folder, sizeof folder, error);
    }
    if (err != WEIR_OK) {
        return err;
    }
    err = weir_dense_file_write(folder, saver->model, saver->parameters, options->m, options->v,
                                &options->state, files, &failure);
    weir_err_t reported = weir_control_client_report_written(
        options->control, step, files, WEIR_DENSE_FILES, err == WEIR_OK ? NULL : &failure, error);
    return reported == WEIR_OK
               ? weir_control_client_wait_published(options->control, step, options->timeout, error)
               : reported;
}

static void run(weir_background_task_t *task) {
    weir_saver_t *saver = (weir_saver_t *)(void *)task;
    weir_error_t error = {0};
    if (save(saver, &error) != WEIR_OK) {
        saver->failure = error;
    }
    saver->seconds = weir_clock_seconds() - saver->started;
    /* Release: the failure is there before the flag is seen. */
    atomic_store_explicit(&saver->ended, true, memory_order_release);
}

static void destroy(weir_saver_t *saver) {
    weir_background_destroy(saver->background);
    free(saver->options.m);
    free(saver->options.v);
    free(saver->model);
    free(saver->parameters);
    free(saver->metrics);
    free(saver);
}

weir_err_t weir_saver_begin(const weir_saver_options_t *options, weir_saver_t **saver,
                            weir_error_t *error) {
    size_t bytes = options->model->elements * sizeof(float);
    weir_saver_t *made = calloc(1, sizeof *made);
    if (made == NULL) {
        free(options->m);
        free(options->v);
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory to save a checkpoint");
    }
    made->options = *options;
    made->model = weir_parameters_copy(options->model);
    made->started = weir_clock_seconds();
    made->parameters = malloc(bytes);
    made->metrics = strdup(options->metrics);
    weir_err_t err = made->model == NULL || made->parameters == NULL || made->metrics == NULL
                         ? weir_errorf(error, WEIR_ERR_MEMORY, "no memory to save a checkpoint")
                         : weir_background_create(&made->background, error);
    if (err != WEIR_OK) {
        destroy(made);
        return err;
    }
    memcpy(made->parameters, options->parameters, bytes);
    made->task.run = run;
    weir_background_give(made->background, &made->task);
    *saver = made;
    return WEIR_OK;
}

bool weir_saver_has_ended(const weir_saver_t *saver, bool *saved) {
    /* Acquire: pairs with the release in run. */
    bool ended = atomic_load_explicit(&saver->ended, memory_order_acquire);
    *saved = ended && saver->failure.code == WEIR_OK;
    return ended;
}

weir_saver_result_t weir_saver_result(const weir_saver_t *saver) {
    return (weir_saver_result_t){
        .step = saver->options.state.step, .best = saver->options.best, .seconds = saver->seconds};
}

weir_err_t weir_saver_finish(weir_saver_t *saver, weir_saver_result_t *result,
                             weir_error_t *error) {
    weir_background_destroy(saver->background);
    saver->background = NULL;
    *result = weir_saver_result(saver);
    weir_err_t err = saver->failure.code;
    if (err != WEIR_OK && error != NULL) {
        *error = saver->failure;
    }
    destroy(saver);
    return err;
}
