#include "common/config.h"

#include "common/config_keys.h"
#include "common/config_yaml.h"
#include "common/file.h"
#include "common/hash.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_LIMIT = 1 << 20, VARIABLE_LIMIT = 128 };

extern char **environ;

void weir_config_defaults(weir_config_t *config) {
    size_t count = 0;
    const weir_config_key_t *keys = weir_config_keys(&count);
    memset(config, 0, sizeof *config);
    for (size_t i = 0; i < count; i++) {
        /* a default is a value of its key: test_config checks every row */
        weir_err_t code = weir_config_keys_store(&keys[i], keys[i].initial, false, config, NULL);
        (void)code;
    }
}

/* "key=value" from the command line. */
static weir_err_t apply_set(const char *set, weir_config_t *config, weir_error_t *error) {
    char name[VARIABLE_LIMIT];
    const char *equals = strchr(set, '=');
    if (equals == NULL || equals == set || (size_t)(equals - set) >= sizeof name) {
        return weir_errorf(error, WEIR_ERR_INVALID, "--set %.80s: expected section.key=value", set);
    }
    memcpy(name, set, (size_t)(equals - set));
    name[equals - set] = '\0';
    const weir_config_key_t *key = weir_config_keys_find(name);
    weir_err_t code = key == NULL ? weir_config_keys_unknown(name, error)
                                  : weir_config_keys_store(key, equals + 1, false, config, error);
    if (code != WEIR_OK) {
        weir_error_prefix(error, "--set");
    }
    return code;
}

/* WEIR_MODEL_HEADS for model.heads. */
static void name_variable(const weir_config_key_t *key, char variable[VARIABLE_LIMIT]) {
    (void)snprintf(variable, VARIABLE_LIMIT, "WEIR_%s", key->name);
    for (char *c = variable; *c != '\0'; c++) {
        *c = *c == '.' ? '_' : (char)toupper((unsigned char)*c);
    }
}

static const weir_config_key_t *find_variable(const char *name, size_t size) {
    char variable[VARIABLE_LIMIT];
    size_t count = 0;
    const weir_config_key_t *keys = weir_config_keys(&count);
    for (size_t i = 0; i < count; i++) {
        name_variable(&keys[i], variable);
        if (strlen(variable) == size && memcmp(variable, name, size) == 0) {
            return &keys[i];
        }
    }
    return NULL;
}

/* WEIR_SECTION_REST with a known section but no such key: most likely a slip of the pen. Other
 * variables that begin with WEIR_ belong to others. */
static weir_err_t refuse_variable(const char *name, size_t size, weir_error_t *error) {
    char dotted[VARIABLE_LIMIT];
    if (size >= sizeof dotted) {
        return WEIR_OK;
    }
    for (size_t i = 0; i < size; i++) {
        dotted[i] = (char)tolower((unsigned char)name[i]);
    }
    dotted[size] = '\0';
    const char *rest = dotted + strlen("WEIR_");
    size_t section = strcspn(rest, "_");
    if (rest[section] == '\0' || !weir_config_keys_has_section(rest, section)) {
        return WEIR_OK;
    }
    dotted[strlen("WEIR_") + section] = '.';
    weir_err_t code = weir_config_keys_unknown(rest, error);
    weir_error_prefix(error, "environment variable %.*s", (int)size, name);
    return code;
}

static weir_err_t apply_environment(weir_config_t *config, weir_error_t *error) {
    for (char **entry = environ; entry != NULL && *entry != NULL; entry++) {
        const char *equals = strchr(*entry, '=');
        if (strncmp(*entry, "WEIR_", 5) != 0 || equals == NULL) {
            continue;
        }
        size_t size = (size_t)(equals - *entry);
        const weir_config_key_t *key = find_variable(*entry, size);
        weir_err_t code = WEIR_OK;
        if (key != NULL) {
            code = weir_config_keys_store(key, equals + 1, false, config, error);
            if (code != WEIR_OK) {
                weir_error_prefix(error, "environment variable %.*s", (int)size, *entry);
            }
        } else {
            code = refuse_variable(*entry, size, error);
        }
        if (code != WEIR_OK) {
            return code;
        }
    }
    return WEIR_OK;
}

/* A stream is measured on the window that comes, and by models that predict the next event. */
static weir_err_t check_mixture(const weir_config_t *config, weir_error_t *error) {
    if (config->model.kind == WEIR_MODEL_RANKING || config->model.item_bias) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "model.similarity is mixture, which %s has no use for",
                           config->model.item_bias ? "model.item_bias" : "model.kind: ranking");
    }
    if (config->loss.sharing == WEIR_NEGATIVES_CATALOGUE) {
        weir_err_t err =
            weir_errorf(error, WEIR_ERR_INVALID,
                        "loss.sharing is catalogue, which a mixture of logits has not");
        weir_error_hint(error, "its loss takes negatives of every token's own, or of the batch");
        return err;
    }
    if (config->mixture.query_parts * config->mixture.width > 65536 ||
        config->mixture.item_parts * config->mixture.width > 65536) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "mixture.width %lld makes a side wider than 65536",
                           (long long)config->mixture.width);
    }
    return WEIR_OK;
}

static weir_err_t check_stream(const weir_config_t *config, weir_error_t *error) {
    if (config->model.kind == WEIR_MODEL_BERT4REC) {
        weir_err_t code = weir_errorf(error, WEIR_ERR_INVALID,
                                      "train.order is stream, which this model.kind has not");
        weir_error_hint(error, "hstu, sasrec, gru4rec and ranking are trained on streams");
        return code;
    }
    if (config->eval.validation) {
        weir_err_t code = weir_errorf(error, WEIR_ERR_INVALID,
                                      "eval.validation is true but train.order is stream: every "
                                      "window is held out until it has been measured");
        weir_error_hint(error, "--set eval.validation=false");
        return code;
    }
    if (config->model.kind == WEIR_MODEL_RANKING && config->ranking.test_from != 0) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "ranking.test_from is set but train.order is stream: the last window is "
                           "the test");
    }
    if (config->eval.full || config->eval.test_from != 0) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "eval.full and eval.test_from are of users whose last events are held "
                           "out: train.order is stream");
    }
    return WEIR_OK;
}

static weir_err_t check_consistency(const weir_config_t *config, weir_error_t *error) {
    bool ssp = config->train.consistency == WEIR_CONSISTENCY_SSP;
    long long staleness = (long long)config->train.staleness;
    if (ssp && staleness == 0) {
        weir_err_t code = weir_errorf(error, WEIR_ERR_INVALID,
                                      "train.consistency is ssp but train.staleness is 0");
        weir_error_hint(error, "ssp with no step missed is bsp");
        return code;
    }
    if (!ssp && staleness > 0) {
        weir_err_t code =
            weir_errorf(error, WEIR_ERR_INVALID,
                        "train.staleness is %lld but train.consistency is not ssp", staleness);
        weir_error_hint(error, "bsp misses no step, asp has no bound");
        return code;
    }
    return WEIR_OK;
}

static weir_err_t check_copies(const weir_config_t *config, const weir_config_table_t *table,
                               const char *section, weir_error_t *error) {
    if (table->worker_cache_rows > 0 && config->train.consistency != WEIR_CONSISTENCY_BSP) {
        weir_err_t code = weir_errorf(error, WEIR_ERR_INVALID,
                                      "%s.worker_cache_rows is %lld but train.consistency is not "
                                      "bsp",
                                      section, (long long)table->worker_cache_rows);
        weir_error_hint(error, "copies of rows are exact in bsp alone");
        return code;
    }
    return WEIR_OK;
}

/* What a single row of the table cannot say. */
static weir_err_t check_table(const weir_config_table_t *table, const char *section,
                              weir_error_t *error) {
    int64_t counters = table->admission_counters;
    if (table->cold_folder[0] != '\0' && table->memory_mib == 0.0) {
        weir_err_t err =
            weir_errorf(error, WEIR_ERR_INVALID, "%s.cold_folder is set but %s.memory_mib is 0",
                        section, section);
        weir_error_hint(error, "rows go to disk when they need more memory than that key allows");
        return err;
    }
    if ((counters & (counters - 1)) != 0) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "%s.admission_counters: %lld is not a power of two", section,
                           (long long)counters);
    }
    return WEIR_OK;
}

static weir_err_t check_together(const weir_config_t *config, weir_error_t *error) {
    weir_err_t err = check_table(&config->sparse, "sparse", error);
    if (err == WEIR_OK) {
        err = check_table(&config->user, "user", error);
    }
    if (err == WEIR_OK) {
        err = check_copies(config, &config->sparse, "sparse", error);
    }
    if (err == WEIR_OK) {
        err = check_copies(config, &config->user, "user", error);
    }
    if (err != WEIR_OK) {
        return err;
    }
    int64_t wide = config->model.heads * 2 * (config->model.dqk + config->model.dv);
    if (wide > 65536) {
        return weir_errorf(
            error, WEIR_ERR_INVALID,
            "model.heads %lld with dqk %lld and dv %lld makes a projection %lld wide; "
            "the limit is 65536",
            (long long)config->model.heads, (long long)config->model.dqk,
            (long long)config->model.dv, (long long)wide);
    }
    if (config->train.epochs == 0 && config->train.max_steps == 0) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "train.epochs and train.max_steps are both 0: training would never end");
    }
    if (config->model.kind == WEIR_MODEL_RANKING &&
        (config->model.user_embedding || config->model.item_bias)) {
        weir_err_t code = weir_errorf(error, WEIR_ERR_INVALID,
                                      "model.kind: ranking has neither model.user_embedding nor "
                                      "model.item_bias");
        weir_error_hint(error, "ranking.user_token puts the user among the tokens");
        return code;
    }
    if (config->model.similarity == WEIR_SIMILARITY_MIXTURE) {
        err = check_mixture(config, error);
        if (err != WEIR_OK) {
            return err;
        }
    }
    if (config->ranking.stochastic_length > 0.0 && config->ranking.stochastic_length <= 1.0) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "ranking.stochastic_length is %g; it is 0 or above 1, at most 2",
                           config->ranking.stochastic_length);
    }
    if (config->eval.patience > 0 && !config->eval.validation) {
        weir_err_t code = weir_errorf(error, WEIR_ERR_INVALID,
                                      "eval.patience is %lld but eval.validation is false",
                                      (long long)config->eval.patience);
        weir_error_hint(error, "stopping by the test event would choose the model by the answer; "
                               "set eval.validation to true");
        return code;
    }
    if (config->eval.patience > 0 && config->eval.every_epochs == 0 &&
        config->eval.every_steps == 0) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "eval.patience is %lld but eval.every_epochs and eval.every_steps are "
                           "both 0: there would be nothing to wait for",
                           (long long)config->eval.patience);
    }
    if (config->cluster.heartbeat * 2 > config->cluster.timeout) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "cluster.heartbeat %g must be at most half of cluster.timeout %g",
                           config->cluster.heartbeat, config->cluster.timeout);
    }
    if (config->train.order == WEIR_ORDER_STREAM) {
        weir_err_t code = check_stream(config, error);
        if (code != WEIR_OK) {
            return code;
        }
    }
    return check_consistency(config, error);
}

double weir_config_hang_seconds(const weir_config_t *config) {
    /* Before the waits themselves end, which know only whom they wait for. */
    return config->cluster.hang_timeout > 0.0 ? config->cluster.hang_timeout
                                              : 0.8 * config->cluster.timeout;
}

/* The sources after the file, then the checks; `config` is replaced when all is well. */
static weir_err_t finish_load(weir_config_t *loaded, bool environment, const char *const *sets,
                              size_t set_count, weir_config_t *config, weir_error_t *error) {
    weir_err_t code = environment ? apply_environment(loaded, error) : WEIR_OK;
    for (size_t i = 0; code == WEIR_OK && i < set_count; i++) {
        code = apply_set(sets[i], loaded, error);
    }
    if (code == WEIR_OK) {
        code = check_together(loaded, error);
    }
    if (code == WEIR_OK) {
        *config = *loaded;
    }
    return code;
}

weir_err_t weir_config_load(const char *path, const char *const *sets, size_t set_count,
                            weir_config_t *config, weir_error_t *error) {
    weir_config_t loaded;
    weir_config_defaults(&loaded);
    if (path != NULL) {
        char *yaml = NULL;
        size_t size = 0;
        weir_err_t code = weir_file_read(path, FILE_LIMIT, &yaml, &size, error);
        if (code == WEIR_OK) {
            code = weir_config_yaml_apply(yaml, size, path, &loaded, error);
        }
        free(yaml);
        if (code != WEIR_OK) {
            return code;
        }
    }
    return finish_load(&loaded, true, sets, set_count, config, error);
}

weir_err_t weir_config_load_text(const char *yaml, size_t size, const char *name,
                                 const char *const *sets, size_t set_count, weir_config_t *config,
                                 weir_error_t *error) {
    weir_config_t loaded;
    weir_config_defaults(&loaded);
    weir_err_t code = weir_config_yaml_apply(yaml, size, name, &loaded, error);
    if (code != WEIR_OK) {
        return code;
    }
    return finish_load(&loaded, false, sets, set_count, config, error);
}

uint64_t weir_config_digest(const weir_config_t *config, bool model_only) {
    uint64_t digest = 0;
    size_t count = 0;
    const weir_config_key_t *keys = weir_config_keys(&count);
    for (size_t i = 0; i < count; i++) {
        if (!model_only || keys[i].model) {
            char value[WEIR_CONFIG_TEXT];
            weir_config_keys_format(&keys[i], config, value, sizeof value);
            /* the terminating NULs keep name and value apart */
            digest = weir_checksum(keys[i].name, strlen(keys[i].name) + 1, digest);
            digest = weir_checksum(value, strlen(value) + 1, digest);
        }
    }
    return digest;
}

bool weir_config_get_text(const weir_config_t *config, const char *name, char *out,
                          size_t capacity) {
    const weir_config_key_t *key = weir_config_keys_find(name);
    if (key == NULL) {
        return false;
    }
    weir_config_keys_format(key, config, out, capacity);
    return true;
}
