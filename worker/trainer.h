/* The training loop of one worker: a step is
 *   pull rows -> forward -> loss -> backward (dense gradients leave bucket by bucket) -> push
 * gradients
 *   -> read and pull batches ahead -> finish the dense update -> agree.
 *
 * While step t is computed the pulls of the steps to t + ahead are under way. Evaluation,
 * checkpoints and the end are boundaries: no pull is under way there, so none is sent beyond one
 * that is known. All workers agree in every step on what was asked of any of them (stop,
 * checkpoint), so that they act at the same boundary: when the steps that have been pulled are
 * done. */
#ifndef WEIR_WORKER_TRAINER_H
#define WEIR_WORKER_TRAINER_H

#include "common/config.h"
#include "common/dataset.h"
#include "common/error.h"
#include "proto/control_client.h"
#include "ps/client.h"
#include "worker/dense_file.h"
#include "worker/exchange.h"

#include <stdbool.h>

typedef struct weir_trainer weir_trainer_t;

typedef struct {
    const weir_config_t *config;
    weir_dataset_t *dataset;
    weir_ps_client_t *client;
    weir_exchange_t *exchange;
    weir_control_client_t *control;
    const char *run;
    const char *checkpoint; /* folder to continue from; NULL: from the start */
    uint32_t ps;            /* servers, to show */
} weir_trainer_options_t;   /* nothing owned; all outlive the trainer */

/* Pulls that a trainer has under way beyond that of the step in work, at the most: the client must
 * take as many. ssp: the steps that may be missed and train.pull_ahead, at most 9. */
uint32_t weir_trainer_ahead(const weir_config_t *config);

/* Workspace, initial or loaded parameters. */
WEIR_MUST_USE weir_err_t weir_trainer_create(const weir_trainer_options_t *options,
                                             weir_trainer_t **trainer, weir_error_t *error);
void weir_trainer_destroy(weir_trainer_t *trainer);

/* Steps done, those of the loaded checkpoint included. */
uint64_t weir_trainer_step_done(const weir_trainer_t *trainer);

/* Train to the end or until asked to stop. `*reason` ("finished", "early_stop", "stopped") is
 * static. Call: collective(workers). Threads: compute. */
WEIR_MUST_USE weir_err_t weir_trainer_run(weir_trainer_t *trainer, const char **reason,
                                          weir_error_t *error);

/* Evaluate the loaded checkpoint, test and (with eval.validation) validation; worker 0 writes the
 * metrics as JSON to `path`. Call: collective(workers). */
WEIR_MUST_USE weir_err_t weir_trainer_evaluate_only(weir_trainer_t *trainer, const char *path,
                                                    weir_error_t *error);

/* Answer this worker's part of the requests in `folder` (worker/request_file.h). Errors: those of
 * the file; INVALID where the model is not of their kind. Call: collective(workers). */
WEIR_MUST_USE weir_err_t weir_trainer_serve(weir_trainer_t *trainer, const char *folder,
                                            weir_error_t *error);

#endif
