#include "worker/dense_file.h"

#include "common/file.h"
#include "common/tensor_file.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char dense_name[] = "dense.safetensors";
static const char trainer_name[] = "trainer.safetensors";
static const char first_kind[] = "hstu"; /* of files from before there were others */

/* One group of tensors in a file: every parameter, under a prefix, from a flat buffer. */
typedef struct {
    const char *prefix;
    const float *values;
} group_t;

static weir_err_t declare_group(weir_tensor_writer_t *writer, const weir_parameters_t *parameters,
                                const char *prefix, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    for (size_t i = 0; i < parameters->count && err == WEIR_OK; i++) {
        char name[64];
        weir_parameter_t parameter = parameters->list[i];
        uint64_t shape[2] = {parameter.rows, parameter.cols};
        (void)snprintf(name, sizeof name, "%s%s", prefix, parameter.name);
        err = weir_tensor_writer_declare(writer, name, WEIR_DTYPE_F32, parameter.cols == 1 ? 1 : 2,
                                         shape, error);
    }
    return err;
}

static bool all_finite(const float *values, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(values[i])) {
            return false;
        }
    }
    return true;
}

static weir_err_t append_group(weir_tensor_writer_t *writer, const weir_parameters_t *parameters,
                               const group_t *group, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    for (size_t i = 0; i < parameters->count && err == WEIR_OK; i++) {
        weir_parameter_t parameter = parameters->list[i];
        size_t count = parameter.rows * parameter.cols;
        if (!all_finite(group->values + parameter.offset, count)) {
            return weir_errorf(error, WEIR_ERR_INVALID,
                               "tensor %s%s holds NaN or infinity: training has diverged",
                               group->prefix, parameter.name);
        }
        err = weir_tensor_writer_append(writer, group->values + parameter.offset,
                                        count * sizeof(float), error);
    }
    return err;
}

static weir_err_t put_text(weir_tensor_writer_t *writer, const char *key, weir_error_t *error,
                           const char *format, ...) __attribute__((format(printf, 4, 5)));

static weir_err_t put_text(weir_tensor_writer_t *writer, const char *key, weir_error_t *error,
                           const char *format, ...) {
    char text[64];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return weir_tensor_writer_metadata(writer, key, text, error);
}

static weir_err_t put_state(weir_tensor_writer_t *writer, const weir_trainer_state_t *state,
                            weir_error_t *error) {
    weir_err_t err = put_text(writer, "step", error, "%" PRIu64, state->step);
    if (err == WEIR_OK) {
        err = put_text(writer, "best_step", error, "%" PRIu64, state->best_step);
    }
    if (err == WEIR_OK) {
        err = put_text(writer, "best_value", error, "%.17g", state->best_value);
    }
    if (err == WEIR_OK) {
        err = put_text(writer, "best_of", error, "%s", state->best_of);
    }
    if (err == WEIR_OK) {
        err = put_text(writer, "evaluations_since_best", error, "%" PRIu64,
                       state->evaluations_since_best);
    }
    if (err == WEIR_OK) {
        err = put_text(writer, "seconds", error, "%.17g", state->seconds);
    }
    if (err == WEIR_OK) {
        err = put_text(writer, "dataset_digest", error, "%" PRIu64, state->dataset_digest);
    }
    return err;
}

static weir_err_t write_file(const char *folder, const char *name,
                             const weir_parameters_t *parameters, const group_t *groups,
                             size_t group_count, const weir_trainer_state_t *state,
                             weir_checkpoint_file_t *file, weir_error_t *error) {
    char path[WEIR_PATH_MAX];
    weir_tensor_writer_t *writer = NULL;
    weir_err_t err = weir_path_join(path, sizeof path, folder, name, error);
    if (err == WEIR_OK) {
        err = weir_tensor_writer_create(path, &writer, error);
    }
    if (err == WEIR_OK) {
        err = weir_tensor_writer_metadata(writer, "model", parameters->kind, error);
    }
    if (err == WEIR_OK) {
        err = put_state(writer, state, error);
    }
    for (size_t i = 0; i < group_count && err == WEIR_OK; i++) {
        err = declare_group(writer, parameters, groups[i].prefix, error);
    }
    if (err == WEIR_OK) {
        err = weir_tensor_writer_begin(writer, error);
    }
    for (size_t i = 0; i < group_count && err == WEIR_OK; i++) {
        err = append_group(writer, parameters, &groups[i], error);
    }
    if (err == WEIR_OK) {
        (void)snprintf(file->name, sizeof file->name, "%s", name);
        err = weir_tensor_writer_commit(writer, &file->checksum, &file->size, error);
    }
    weir_tensor_writer_destroy(writer);
    return err;
}

weir_err_t weir_dense_file_write(const char *folder, const weir_parameters_t *parameters,
                                 const float *values, const float *m, const float *v,
                                 const weir_trainer_state_t *state,
                                 weir_checkpoint_file_t files[WEIR_DENSE_FILES],
                                 weir_error_t *error) {
    const group_t dense[] = {{"", values}};
    const group_t trainer[] = {{"m/", m}, {"v/", v}};
    weir_err_t err = write_file(folder, dense_name, parameters, dense, 1, state, &files[0], error);
    if (err == WEIR_OK) {
        err = write_file(folder, trainer_name, parameters, trainer, 2, state, &files[1], error);
    }
    return err;
}

static weir_err_t load_group(const weir_tensor_file_t *file, const weir_parameters_t *parameters,
                             const char *prefix, float *values, weir_error_t *error) {
    for (size_t i = 0; i < parameters->count; i++) {
        char name[64];
        const weir_tensor_t *tensor = NULL;
        weir_parameter_t parameter = parameters->list[i];
        uint64_t shape[2] = {parameter.rows, parameter.cols};
        (void)snprintf(name, sizeof name, "%s%s", prefix, parameter.name);
        weir_err_t err = weir_tensor_file_require(
            file, name, WEIR_DTYPE_F32, parameter.cols == 1 ? 1 : 2, shape, &tensor, error);
        if (err != WEIR_OK) {
            return err;
        }
        memcpy(values + parameter.offset, tensor->values, (size_t)tensor->bytes);
        if (!all_finite(values + parameter.offset, parameter.rows * parameter.cols)) {
            return weir_errorf(error, WEIR_ERR_CORRUPT, "%s: tensor %s holds NaN or infinity",
                               weir_tensor_file_path(file), name);
        }
    }
    return WEIR_OK;
}

static weir_err_t get_count(const weir_tensor_file_t *file, const char *key, uint64_t *value,
                            weir_error_t *error) {
    const char *text = weir_tensor_file_metadata(file, key);
    char *end = NULL;
    errno = 0;
    unsigned long long parsed = text != NULL ? strtoull(text, &end, 10) : 0;
    if (text == NULL || text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0) {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "%s: metadata \"%s\" is not a whole number",
                           weir_tensor_file_path(file), key);
    }
    *value = parsed;
    return WEIR_OK;
}

static weir_err_t get_real(const weir_tensor_file_t *file, const char *key, double *value,
                           weir_error_t *error) {
    const char *text = weir_tensor_file_metadata(file, key);
    char *end = NULL;
    double parsed = text != NULL ? strtod(text, &end) : 0.0;
    if (text == NULL || end == text || *end != '\0' || isnan(parsed)) {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "%s: metadata \"%s\" is not a number",
                           weir_tensor_file_path(file), key);
    }
    *value = parsed;
    return WEIR_OK;
}

/* An older file lacks it: their best is then not compared with any. */
static weir_err_t get_best_of(const weir_tensor_file_t *file, weir_trainer_state_t *state,
                              weir_error_t *error) {
    const char *text = weir_tensor_file_metadata(file, "best_of");
    size_t size = text != NULL ? strlen(text) : 0;
    if (size >= sizeof state->best_of) {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "%s: metadata \"best_of\" is too long",
                           weir_tensor_file_path(file));
    }
    memcpy(state->best_of, text != NULL ? text : "", size + 1);
    return WEIR_OK;
}

static weir_err_t get_state(const weir_tensor_file_t *file, weir_trainer_state_t *state,
                            weir_error_t *error) {
    weir_err_t err = get_count(file, "step", &state->step, error);
    if (err == WEIR_OK) {
        err = get_count(file, "best_step", &state->best_step, error);
    }
    if (err == WEIR_OK) {
        err = get_real(file, "best_value", &state->best_value, error);
    }
    if (err == WEIR_OK) {
        err = get_best_of(file, state, error);
    }
    if (err == WEIR_OK) {
        err = get_count(file, "evaluations_since_best", &state->evaluations_since_best, error);
    }
    if (err == WEIR_OK) {
        err = get_real(file, "seconds", &state->seconds, error);
    }
    if (err == WEIR_OK) {
        err = get_count(file, "dataset_digest", &state->dataset_digest, error);
    }
    return err;
}

/* A file that does not say is of HSTU. */
static weir_err_t check_kind(const weir_tensor_file_t *file, const weir_parameters_t *parameters,
                             weir_error_t *error) {
    const char *kind = weir_tensor_file_metadata(file, "model");
    kind = kind != NULL ? kind : first_kind;
    if (strcmp(kind, parameters->kind) != 0) {
        return weir_errorf(error, WEIR_ERR_INVALID, "%s is of a model of kind %.32s, not %s",
                           weir_tensor_file_path(file), kind, parameters->kind);
    }
    return WEIR_OK;
}

static weir_err_t open_in(const char *folder, const char *name, weir_tensor_file_t **file,
                          weir_error_t *error) {
    char path[WEIR_PATH_MAX];
    weir_err_t err = weir_path_join(path, sizeof path, folder, name, error);
    if (err == WEIR_OK) {
        err = weir_tensor_file_open(path, file, error);
    }
    return err;
}

weir_err_t weir_dense_file_load(const char *folder, const weir_parameters_t *parameters,
                                float *values, float *m, float *v, weir_trainer_state_t *state,
                                weir_error_t *error) {
    weir_tensor_file_t *dense = NULL, *trainer = NULL;
    weir_trainer_state_t loaded = {0};
    weir_err_t err = open_in(folder, dense_name, &dense, error);
    if (err == WEIR_OK) {
        err = open_in(folder, trainer_name, &trainer, error);
    }
    if (err == WEIR_OK) {
        err = check_kind(dense, parameters, error);
    }
    if (err == WEIR_OK) {
        err = load_group(dense, parameters, "", values, error);
    }
    if (err == WEIR_OK) {
        err = load_group(trainer, parameters, "m/", m, error);
    }
    if (err == WEIR_OK) {
        err = load_group(trainer, parameters, "v/", v, error);
    }
    if (err == WEIR_OK) {
        err = get_state(trainer, &loaded, error);
    }
    if (err == WEIR_OK) {
        *state = loaded;
    }
    weir_tensor_file_close(dense);
    weir_tensor_file_close(trainer);
    return err;
}
