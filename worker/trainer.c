#include "worker/trainer.h"

#include "common/log.h"
#include "ps/model_tables.h"
#include "worker/trainer_internal.h"

#include <stdlib.h>
#include <string.h>

_Static_assert((int)WEIR_MODEL_RANKING == (int)WEIR_ENCODER_KINDS, "one choice a kind of encoder");

static weir_encoder_config_t model_of_config(const weir_config_t *config) {
    size_t length = (size_t)config->model.max_sequence_length;
    return (weir_encoder_config_t){
        .kind = (weir_encoder_kind_t)config->model.kind,
        .embedding_dim = (size_t)config->model.embedding_dim,
        .blocks = (size_t)config->model.blocks,
        .heads = (size_t)config->model.heads,
        .dqk = (size_t)config->model.dqk,
        .dv = (size_t)config->model.dv,
        .hidden_dim = (size_t)config->model.hidden_dim,
        .max_sequence_length = length,
        .attention_length = length + (size_t)config->model.output_length,
        .softmax = config->model.attention == WEIR_ATTENTION_SOFTMAX,
        .mask_probability = config->loss.mask_probability,
        .input_dropout = config->model.input_dropout,
        .layer_dropout = config->model.layer_dropout,
        .bf16 = config->train.compute == WEIR_COMPUTE_BF16,
        .position_bias = config->model.position_bias,
        .time_bias = config->model.time_bias,
    };
}

/* So many pulls of a worker may wait at a server that has not applied any step beyond those that
 * the rows in use must have (docs/files/ps-frames.md), less the one of the step after. */
enum { MAX_AHEAD = 9 };

uint32_t weir_trainer_ahead(const weir_config_t *config) {
    int64_t ahead = config->train.pull_ahead + config->train.staleness; /* 0 unless ssp */
    return (uint32_t)(ahead < MAX_AHEAD ? ahead : MAX_AHEAD);
}

static weir_err_t load_checkpoint(weir_trainer_t *trainer, weir_error_t *error) {
    size_t elements = trainer->parameters->elements;
    float *m = calloc(elements, sizeof *m), *v = calloc(elements, sizeof *v);
    weir_err_t err = m == NULL || v == NULL
                         ? weir_errorf(error, WEIR_ERR_MEMORY, "no memory to load a checkpoint")
                         : weir_dense_file_load(trainer->options.checkpoint, trainer->parameters,
                                                weir_dense_parameters(trainer->dense), m, v,
                                                &trainer->state, error);
    if (err == WEIR_OK) {
        weir_dense_restore_state(trainer->dense, m, v);
        trainer->checkpoint_step = trainer->state.step;
        uint64_t digest = weir_dataset_digest(trainer->options.dataset);
        if (trainer->state.dataset_digest != digest) {
            err = weir_errorf(error, WEIR_ERR_INVALID,
                              "the checkpoint %s was trained on other data than %s",
                              trainer->options.checkpoint, trainer->options.config->data.path);
            weir_error_hint(error, "data.path must name the same prepared data");
        }
    }
    free(m);
    free(v);
    return err;
}

static weir_mixture_config_t mixture_of_config(const weir_config_t *config) {
    return (weir_mixture_config_t){
        .dim = (size_t)config->model.embedding_dim,
        .query_parts = (size_t)config->mixture.query_parts,
        .item_parts = (size_t)config->mixture.item_parts,
        .width = (size_t)config->mixture.width,
        .hidden = (size_t)config->mixture.hidden,
        .gate_hidden = (size_t)config->mixture.gate_hidden,
        .dropout = config->mixture.dropout,
        .temperature = config->loss.temperature,
    };
}

/* The encoder's, then the mixture's. NULL: no memory. */
static weir_parameters_t *list_parameters(const weir_trainer_t *trainer) {
    size_t own = weir_encoder_parameter_count(&trainer->model);
    size_t mixed = trainer->mixture != NULL ? weir_mixture_parameter_count(trainer->mixture) : 0;
    weir_parameters_t *made =
        weir_parameters_new(weir_encoder_kind_name(trainer->model.kind), own + mixed);
    for (size_t i = 0; made != NULL && i < own + mixed; i++) {
        made->list[i] = i < own ? weir_encoder_parameter(&trainer->model, i)
                                : weir_mixture_parameter(trainer->mixture, i - own);
        made->list[i].offset = made->elements; /* in order, without gaps */
        made->elements += made->list[i].rows * made->list[i].cols;
    }
    return made;
}

/* Of a model that finds items: encoder, loss, batches. */
static weir_err_t create_encoder(weir_trainer_t *trainer, weir_error_t *error) {
    const weir_config_t *config = trainer->options.config;
    const weir_batch_reader_options_t options = {.dataset = trainer->options.dataset,
                                                 .worker = trainer->worker,
                                                 .workers = trainer->workers,
                                                 .alive = trainer->ahead + 2};
    weir_err_t err = weir_encoder_create(&trainer->model, &trainer->encoder, error);
    if (err == WEIR_OK) {
        weir_encoder_limit_activations(trainer->encoder,
                                       (size_t)config->train.activation_mib << 20);
        err = weir_loss_create(&trainer->loss, error);
    }
    if (err == WEIR_OK && config->model.similarity == WEIR_SIMILARITY_MIXTURE) {
        weir_mixture_config_t mixture = mixture_of_config(config);
        err = weir_mixture_create(&mixture, &trainer->mixture, error);
    }
    if (err == WEIR_OK) {
        trainer->parameters = list_parameters(trainer);
        trainer->mixture_offset = weir_encoder_parameter_elements(&trainer->model);
    }
    return err == WEIR_OK ? weir_batch_reader_create(config, &options, &trainer->reader, error)
                          : err;
}

static weir_err_t create_parts(weir_trainer_t *trainer, weir_error_t *error) {
    const weir_config_t *config = trainer->options.config;
    weir_dense_options_t adamw = {.learning_rate = config->dense.learning_rate,
                                  .beta1 = config->dense.beta1,
                                  .beta2 = config->dense.beta2,
                                  .epsilon = config->dense.epsilon,
                                  .weight_decay = config->dense.weight_decay};
    weir_err_t err = config->model.kind == WEIR_MODEL_RANKING
                         ? weir_trainer_create_ranking(trainer, error)
                         : create_encoder(trainer, error);
    if (err == WEIR_OK && trainer->parameters == NULL) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the list of parameters");
    }
    if (err == WEIR_OK) {
        err = weir_dense_create(trainer->parameters->elements, &adamw, trainer->options.exchange,
                                &trainer->dense, error);
    }
    return err;
}

static uint64_t steps_per_epoch(const weir_trainer_t *trainer) {
    return trainer->ranking_reader != NULL ? weir_ranking_steps_per_epoch(trainer->ranking_reader)
                                           : weir_batch_steps_per_epoch(trainer->reader);
}

static uint64_t users_per_epoch(const weir_trainer_t *trainer) {
    return trainer->ranking_reader != NULL ? weir_ranking_users_per_epoch(trainer->ranking_reader)
                                           : weir_batch_users_per_epoch(trainer->reader);
}

/* Where training ends by its configuration; train.epochs or train.max_steps of 0 is no limit. */
static uint64_t total_steps_of(const weir_config_t *config, uint64_t steps_per_epoch) {
    uint64_t by_epochs = UINT64_MAX, limit = (uint64_t)config->train.max_steps;
    if (config->train.order == WEIR_ORDER_STREAM) {
        by_epochs = steps_per_epoch; /* once */
    } else if (config->train.epochs > 0) {
        by_epochs = steps_per_epoch * (uint64_t)config->train.epochs; /* below 2^32 * 10^9 */
    }
    return limit > 0 && limit < by_epochs ? limit : by_epochs;
}

static weir_err_t read_events(void *reader, uint64_t step, const weir_train_batch_t **batch,
                              weir_error_t *error) {
    return weir_batch_read(reader, step, batch, error);
}

static weir_err_t read_sessions(void *reader, uint64_t step, const weir_train_batch_t **batch,
                                weir_error_t *error) {
    const weir_ranking_train_batch_t *ranking = NULL;
    weir_err_t err = weir_ranking_read(reader, step, &ranking, error);
    if (err == WEIR_OK) {
        *batch = &ranking->train;
    }
    return err;
}

static weir_err_t start_reading(weir_trainer_t *trainer, weir_error_t *error) {
    bool ranking = trainer->ranking_reader != NULL;
    void *reader = ranking ? (void *)trainer->ranking_reader : (void *)trainer->reader;
    return weir_read_ahead_create(ranking ? read_sessions : read_events, reader,
                                  trainer->total_steps, &trainer->read_ahead, error);
}

/* Values of another metric, or of another split, cannot be compared with what is to come. */
static void forget_foreign_best(weir_trainer_t *trainer) {
    char best_of[sizeof trainer->state.best_of];
    weir_trainer_state_t *state = &trainer->state;
    weir_trainer_name_best(trainer->options.config, best_of, sizeof best_of);
    if (state->best_step > 0 && strcmp(state->best_of, best_of) != 0) {
        if (trainer->worker == 0) {
            weir_log(WEIR_LOG_INFO, "trainer", "the best is sought anew, by %s and not by %s",
                     best_of, state->best_of);
        }
        state->best_step = state->evaluations_since_best = 0;
        state->best_value = 0.0;
    }
    memcpy(state->best_of, best_of, sizeof best_of);
}

weir_err_t weir_trainer_create(const weir_trainer_options_t *options, weir_trainer_t **trainer,
                               weir_error_t *error) {
    weir_trainer_t *created = calloc(1, sizeof *created);
    if (created == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for a trainer");
    }
    created->options = *options;
    created->model = model_of_config(options->config);
    created->worker = weir_exchange_worker(options->exchange);
    created->workers = weir_exchange_workers(options->exchange);
    created->checkpoint_step = created->saving_step = UINT64_MAX;
    created->ahead = weir_trainer_ahead(options->config);
    created->agreements = calloc(created->workers, sizeof(agreement_t));
    created->pulls = calloc(created->ahead + 1, sizeof(pull_t));
    weir_err_t err = created->agreements == NULL || created->pulls == NULL
                         ? weir_errorf(error, WEIR_ERR_MEMORY, "no memory for a trainer")
                         : create_parts(created, error);
    if (err == WEIR_OK && options->checkpoint != NULL) {
        err = load_checkpoint(created, error);
    } else if (err == WEIR_OK) {
        weir_parameters_initialise(created->parameters, (uint64_t)options->config->train.seed,
                                   weir_dense_parameters(created->dense));
        created->state.dataset_digest = weir_dataset_digest(options->dataset);
    }
    if (err != WEIR_OK) {
        weir_trainer_destroy(created);
        return err;
    }
    created->begun = created->state.step;
    forget_foreign_best(created);
    created->steps_per_epoch = steps_per_epoch(created);
    created->total_steps = total_steps_of(options->config, created->steps_per_epoch);
    err = start_reading(created, error);
    if (err != WEIR_OK) {
        weir_trainer_destroy(created);
        return err;
    }
    *trainer = created;
    return WEIR_OK;
}

void weir_trainer_destroy(weir_trainer_t *trainer) {
    if (trainer != NULL) {
        weir_encoder_destroy(trainer->encoder);
        weir_mixture_destroy(trainer->mixture);
        weir_loss_destroy(trainer->loss);
        weir_dense_destroy(trainer->dense);
        weir_read_ahead_destroy(trainer->read_ahead);
        weir_batch_reader_destroy(trainer->reader);
        weir_ranking_destroy(trainer->ranking);
        weir_ranking_reader_destroy(trainer->ranking_reader);
        free(trainer->logits);
        free(trainer->parameters);
        weir_run_log_close(trainer->log);
        free(trainer->rows);
        free(trainer->d_rows);
        free(trainer->user_rows);
        free(trainer->d_user_rows);
        free(trainer->items);
        free(trainer->encoded);
        free(trainer->d_encoded);
        free(trainer->d_items);
        free(trainer->scored_rows);
        free(trainer->agreements);
        free(trainer->pulls);
        free(trainer);
    }
}

uint64_t weir_trainer_step_done(const weir_trainer_t *trainer) {
    return trainer->state.step;
}

static weir_err_t open_log(weir_trainer_t *trainer, weir_error_t *error) {
    bool resumed = trainer->options.checkpoint != NULL;
    weir_err_t err = weir_run_log_open(trainer->options.run, trainer->state.step,
                                       trainer->state.seconds, &trainer->log, error);
    if (err == WEIR_OK && trainer->options.config->train.tensorboard) {
        err = weir_run_log_open_events(trainer->log, trainer->options.run, trainer->state.step,
                                       error);
    }
    if (err == WEIR_OK) {
        weir_run_start_t start = {
            .ps = trainer->options.ps,
            .workers = trainer->workers,
            .step = trainer->state.step,
            .total_steps = trainer->total_steps,
            .steps_per_epoch = trainer->steps_per_epoch,
            .parameters = trainer->parameters->elements,
            .users = users_per_epoch(trainer),
            .items = weir_dataset_items(trainer->options.dataset),
            .events = weir_dataset_events(trainer->options.dataset),
            .resumed = resumed,
        };
        weir_run_log_start(trainer->log, &start);
    }
    return err;
}

weir_err_t weir_trainer_run(weir_trainer_t *trainer, const char **reason, weir_error_t *error) {
    weir_err_t err = trainer->worker == 0 ? open_log(trainer, error) : WEIR_OK;
    const char *ended = weir_trainer_reason_to_end(trainer); /* a run that had ended stays so */
    uint64_t every = (uint64_t)trainer->options.config->train.log_every;
    weir_trainer_publish(trainer, WEIR_PHASE_TRAINING, 0.0, 0.0);
    weir_trainer_begin_interval(trainer);
    while (err == WEIR_OK && ended == NULL) {
        bool boundary = false;
        err = weir_trainer_step(trainer, &boundary, error);
        if (err == WEIR_OK) {
            weir_control_client_publish_step(trainer->options.control, trainer->state.step);
            weir_trainer_publish_metrics(trainer);
        }
        if (err == WEIR_OK && trainer->log != NULL) {
            weir_run_log_progress(trainer->log, trainer->state.step);
        }
        if (err == WEIR_OK && boundary) {
            err = weir_trainer_handle_boundary(trainer, &ended, error);
        } else if (err == WEIR_OK && weir_trainer_is_multiple(trainer->state.step, every)) {
            weir_trainer_end_interval(trainer);
        }
    }
    if (err == WEIR_OK && trainer->log != NULL) {
        weir_run_log_end(trainer->log, trainer->state.step, ended);
    }
    if (err == WEIR_OK) {
        *reason = ended;
    }
    return err;
}
