#include "common/config.h"

#include "common/config_keys.h"
#include "common/file.h"
#include "tests/suite.h"
#include "worker/rank.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static weir_error_t error;

static weir_err_t load(const char *yaml, weir_config_t *config) {
    error = (weir_error_t){0};
    return weir_config_load_text(yaml, strlen(yaml), "f.yaml", NULL, 0, config, &error);
}

static weir_err_t load_set(const char *set, weir_config_t *config) {
    error = (weir_error_t){0};
    return weir_config_load_text("", 0, "f.yaml", &set, 1, config, &error);
}

/* The sentence of a refused text must contain each of these. */
static void refuse(const char *yaml, const char *first, const char *second) {
    weir_config_t config;
    memset(&config, 7, sizeof config);
    weir_config_t before = config;
    ck_assert_msg(load(yaml, &config) == WEIR_ERR_INVALID, "accepted: %s", yaml);
    ck_assert_msg(strstr(error.message, first) != NULL, "%s: %s", first, error.message);
    ck_assert_msg(strstr(error.message, second) != NULL, "%s: %s", second, error.message);
    ck_assert_msg(memcmp(&config, &before, sizeof config) == 0, "failure left a trace");
}

START_TEST(defaults_are_the_published_hstu_on_ml_1m) {
    weir_config_t config;
    weir_config_defaults(&config);
    ck_assert_int_eq(config.model.embedding_dim, 50);
    ck_assert_int_eq(config.model.blocks, 2);
    ck_assert_int_eq(config.model.max_sequence_length + config.model.output_length, 211);
    ck_assert_double_eq(config.dense.beta2, 0.98);
    ck_assert_double_eq(config.sparse.epsilon, 1e-8);
    ck_assert_int_eq(config.sparse.optimizer, WEIR_OPTIMIZER_ADAMW);
    ck_assert_int_eq(config.loss.sharing, WEIR_NEGATIVES_TOKEN);
    ck_assert(config.model.position_bias && config.model.time_bias);
    ck_assert_str_eq(config.eval.metric, "ndcg@10");
    ck_assert_int_eq(config.train.epochs, 101);
    ck_assert_int_eq(config.train.consistency, WEIR_CONSISTENCY_BSP);
    ck_assert(!config.model.user_embedding);
}
END_TEST

START_TEST(every_default_is_a_value_of_its_key) {
    weir_config_t defaults;
    weir_config_defaults(&defaults);
    for (size_t i = 0; weir_config_key_name(i) != NULL; i++) {
        char value[WEIR_CONFIG_TEXT], set[WEIR_CONFIG_TEXT + 64];
        weir_config_t config;
        ck_assert(weir_config_get_text(&defaults, weir_config_key_name(i), value, sizeof value));
        (void)snprintf(set, sizeof set, "%s=%s", weir_config_key_name(i), value);
        ck_assert_msg(load_set(set, &config) == WEIR_OK, "%s: %s", set, error.message);
        ck_assert_mem_eq(&config, &defaults, sizeof config);
    }
}
END_TEST

START_TEST(bounded_staleness_is_taken) {
    weir_config_t config;
    const char *yaml = "train: {staleness: 62, consistency: ssp, pull_ahead: 8}\n";
    ck_assert_msg(load(yaml, &config) == WEIR_OK, "%s", error.message);
    ck_assert_int_eq(config.train.consistency, WEIR_CONSISTENCY_SSP);
    ck_assert_int_eq(config.train.staleness, 62);
    ck_assert_int_eq(config.train.pull_ahead, 8);
}
END_TEST

START_TEST(a_file_sets_values_of_every_type) {
    weir_config_t config;
    const char *yaml = "# comment\n"
                       "data:\n  path: \"a: b # \\\"c\\\"\"\n"
                       "model: {heads: 4, time_bias: false}\n"
                       "sparse:\n  optimizer: rowwise_adagrad\n  learning_rate: 2.5e-2\n"
                       "  schedule: inverse_sqrt\n  warmup_steps: 100\n  not_finite: fatal\n"
                       "eval:\n";
    ck_assert_msg(load(yaml, &config) == WEIR_OK, "%s", error.message);
    ck_assert_str_eq(config.data.path, "a: b # \"c\"");
    ck_assert_int_eq(config.model.heads, 4);
    ck_assert(!config.model.time_bias);
    ck_assert_int_eq(config.sparse.optimizer, WEIR_OPTIMIZER_ROWWISE_ADAGRAD);
    ck_assert_double_eq(config.sparse.learning_rate, 0.025);
    ck_assert_int_eq(config.sparse.schedule, WEIR_SCHEDULE_INVERSE_SQRT);
    ck_assert_int_eq(config.sparse.warmup_steps, 100);
    ck_assert_int_eq(config.sparse.not_finite, WEIR_NOT_FINITE_FATAL);
}
END_TEST

START_TEST(optimisers_go_by_the_names_of_their_definitions) {
    static const char *const names[WEIR_OPTIMIZER_COUNT] = {
        [WEIR_OPTIMIZER_SGD] = "sgd",
        [WEIR_OPTIMIZER_MOMENTUM] = "momentum",
        [WEIR_OPTIMIZER_NESTEROV] = "nesterov",
        [WEIR_OPTIMIZER_ADAGRAD] = "adagrad",
        [WEIR_OPTIMIZER_ROWWISE_ADAGRAD] = "rowwise_adagrad",
        [WEIR_OPTIMIZER_ADAM] = "adam",
        [WEIR_OPTIMIZER_ADAMW] = "adamw",
        [WEIR_OPTIMIZER_ROWWISE_ADAMW] = "rowwise_adamw",
        [WEIR_OPTIMIZER_FTRL] = "ftrl",
        [WEIR_OPTIMIZER_GROUP_FTRL] = "group_ftrl",
        [WEIR_OPTIMIZER_GROUP_ADAGRAD] = "group_adagrad",
        [WEIR_OPTIMIZER_GROUP_ADAM] = "group_adam"};
    for (int kind = 0; kind < WEIR_OPTIMIZER_COUNT; kind++) {
        ck_assert_str_eq(weir_optimizer_name((weir_optimizer_kind_t)kind), names[kind]);
    }
}
END_TEST

START_TEST(an_unknown_key_names_its_line_and_the_nearest_key) {
    refuse("model:\n  heads: 1\n  embeding_dim: 32\n", "f.yaml:3: unknown key model.embeding_dim",
           "did you mean model.embedding_dim?");
    refuse("train:\n  temperature: 1\n", "f.yaml:2", "did you mean loss.temperature?");
    refuse("modle:\n  heads: 1\n", "f.yaml:1: unknown section modle", "did you mean model?");
    refuse("\n\nbananas: 3\n", "f.yaml:3: unknown section bananas", "bananas");
    refuse("model.heads: 3\n", "f.yaml:1: unknown section model.heads", "model");
}
END_TEST

START_TEST(wrong_types_are_refused_with_what_was_expected) {
    refuse("model:\n  heads: two\n", "f.yaml:2: model.heads: two", "an integer from 1 to 256");
    refuse("model:\n  heads: \"2\"\n", "model.heads: \"2\"", "an integer");
    refuse("model:\n  heads: 2.0\n", "2.0", "an integer");
    refuse("model:\n  heads: 0x2\n", "0x2", "an integer");
    refuse("model:\n  heads: [2]\n", "f.yaml:2: model.heads is a list", "an integer");
    refuse("model:\n  heads: {a: 2}\n", "model.heads is a map", "an integer");
    refuse("model:\n  heads:\nloss:\n", "f.yaml:2: model.heads has no value", "an integer");
    refuse("model:\n  heads: ~\n", "has no value", "an integer");
    refuse("model:\n  time_bias: yes\n", "model.time_bias: yes", "true or false");
    refuse("model: 3\n", "section model must hold indented keys", "single value");
    refuse("- model\n", "f.yaml:1: expected sections", "a list");
    refuse("sparse:\n  optimizer: lion\n", "sparse.optimizer: lion", "rowwise_adamw");
    refuse("eval:\n  metric: hr@11\n", "eval.metric", "hr@10");
}
END_TEST

START_TEST(values_out_of_range_are_refused) {
    refuse("model:\n  embedding_dim: 0\n", "f.yaml:2: model.embedding_dim: 0", "from 1 to 8192");
    refuse("model:\n  embedding_dim: -5\n", "-5", "from 1");
    refuse("model:\n  embedding_dim: 99999999999999999999\n", "9999", "from 1 to 8192");
    refuse("model:\n  input_dropout: 1\n", "model.input_dropout: 1", "[0, 1)");
    refuse("loss:\n  temperature: 0\n", "loss.temperature", "(0, 1000]");
    refuse("dense:\n  beta1: 1.0\n", "dense.beta1", "[0, 1)");
    refuse("dense:\n  learning_rate: .nan\n", "dense.learning_rate: .nan", "a number");
    refuse("dense:\n  learning_rate: nan\n", "nan", "a number");
    refuse("dense:\n  learning_rate: .inf\n", ".inf", "a number");
    refuse("dense:\n  learning_rate: 1e999\n", "1e999", "a number");
    refuse("cluster:\n  ps: 16385\n", "cluster.ps: 16385", "from 1 to 16384");
    refuse("cluster:\n  port: 65536\n", "cluster.port", "65535");
}
END_TEST

START_TEST(what_is_not_plain_yaml_is_refused_with_its_line) {
    refuse("model:\n\theads: 1\n", "f.yaml:2", "tab");
    refuse("model:\n  heads: &x 1\n", "f.yaml:2", "anchors");
    refuse("model:\n  heads: *x\n", "f.yaml:2", "aliases");
    refuse("model: &m\n  heads: 1\n", "f.yaml:1", "anchors");
    refuse("model:\n  heads: !!int 1\n", "f.yaml:2", "tags");
    refuse("model:\n  heads: 1\n  heads: 2\n", "f.yaml:3: model.heads was already set", "line 2");
    refuse("model:\n  heads: 1\nloss:\nmodel:\n  dv: 2\n", "f.yaml:4: section model already",
           "line 1");
    refuse("model:\n  heads: 1\n---\nloss:\n", "f.yaml:3", "second document");
    refuse("model:\n  heads: 1\n dv: 2\n", "f.yaml:3", "not YAML");
    refuse("model: {heads: 1\n", "f.yaml:", "not YAML");
    refuse("data:\n  path: \"a\\0b\"\n", "f.yaml:2: data.path", "NUL");
    refuse("data:\n  path: \"a\\nb\"\n", "f.yaml:2: data.path", "text");
    refuse("data:\n  path: \xff\xfe\n", "f.yaml", "not readable as text");
    refuse("model:\n  ? [a]\n  : 1\n", "f.yaml:2", "a list");
}
END_TEST

START_TEST(a_key_or_value_too_long_is_refused) {
    char *yaml = calloc(1, 70000);
    ck_assert_ptr_nonnull(yaml);
    memcpy(yaml, "data:\n  path: ", 14);
    memset(yaml + 14, 'x', 2000);
    refuse(yaml, "f.yaml:2", "too long");
    memset(yaml + 14, 0, 2000);
    memset(yaml + 14, 'x', 1023);
    weir_config_t config;
    ck_assert_int_eq(load(yaml, &config), WEIR_OK);
    ck_assert_uint_eq(strlen(config.data.path), 1023);
    memcpy(yaml, "model:\n  xxxxx", 14);
    memset(yaml + 14, 'x', 60000); /* longer than a key of YAML may be */
    refuse(yaml, "f.yaml:", "");
    memset(yaml + 14, 0, 60000);
    memset(yaml + 14, 'x', 200);
    memcpy(yaml + 214, ": 1", 3);
    refuse(yaml, "f.yaml:2", "too long");
    free(yaml);
}
END_TEST

START_TEST(checks_span_keys) {
    refuse("model:\n  heads: 256\n  dqk: 4096\n", "projection", "65536");
    refuse("train:\n  epochs: 0\n", "never end", "train.max_steps");
    refuse("eval:\n  patience: 3\n", "eval.validation", "eval.patience");
    refuse("eval:\n  patience: 3\n  validation: true\n  every_epochs: 0\n", "eval.every_steps",
           "nothing to wait for");
    refuse("cluster:\n  timeout: 1\n  heartbeat: 1\n", "cluster.heartbeat", "cluster.timeout");
    refuse("train: {consistency: ssp}\n", "ssp", "train.staleness");
    refuse("train: {staleness: 2}\n", "train.staleness", "ssp");
    refuse("train: {staleness: 1, consistency: asp}\n", "train.staleness", "ssp");
}
END_TEST

START_TEST(the_command_line_beats_the_environment_beats_the_file) {
    char path[] = "test_config_XXXXXX";
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    const char *yaml = "model:\n  heads: 2\n  blocks: 3\n  dqk: 4\n";
    ck_assert_int_eq(weir_file_write_all(fd, yaml, strlen(yaml), path, NULL), WEIR_OK);
    (void)close(fd);
    weir_config_t config;
    const char *sets[] = {"model.heads=8", "data.path=x=y"};
    ck_assert_int_eq(setenv("WEIR_MODEL_HEADS", "6", 1), 0);
    ck_assert_int_eq(setenv("WEIR_MODEL_BLOCKS", "7", 1), 0);
    ck_assert_msg(weir_config_load(path, sets, 2, &config, &error) == WEIR_OK, "%s", error.message);
    ck_assert_int_eq(config.model.heads, 8);
    ck_assert_int_eq(config.model.blocks, 7);
    ck_assert_int_eq(config.model.dqk, 4);
    ck_assert_str_eq(config.data.path, "x=y");

    ck_assert_int_eq(setenv("WEIR_MODEL_BLOCKS", "many", 1), 0);
    ck_assert_int_eq(weir_config_load(path, NULL, 0, &config, &error), WEIR_ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "environment variable WEIR_MODEL_BLOCKS"));
    ck_assert_int_eq(unsetenv("WEIR_MODEL_BLOCKS"), 0);
    ck_assert_int_eq(setenv("WEIR_MODEL_HEDS", "1", 1), 0);
    ck_assert_int_eq(weir_config_load(path, NULL, 0, &config, &error), WEIR_ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "did you mean model.heads?"));
    ck_assert_int_eq(load("", &config), WEIR_OK); /* load_text does not look there */
    ck_assert_int_eq(config.model.heads, 1);
    ck_assert_int_eq(unsetenv("WEIR_MODEL_HEDS"), 0);
    ck_assert_int_eq(unsetenv("WEIR_MODEL_HEADS"), 0);
    (void)unlink(path);
}
END_TEST

START_TEST(a_bad_set_is_refused) {
    weir_config_t config;
    const char *bad[] = {"", "=", "=3", "model.heads", "model.heads=", "heads=2", "model.heads=0"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_msg(load_set(bad[i], &config) == WEIR_ERR_INVALID, "accepted: %s", bad[i]);
        ck_assert_msg(strncmp(error.message, "--set", 5) == 0, "%s", error.message);
    }
    ck_assert_int_eq(load_set("heads=2", &config), WEIR_ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "model.heads"));
    ck_assert_int_eq(load_set("data.path=\xc3", &config), WEIR_ERR_INVALID);
    ck_assert_int_eq(load_set("data.path=a\tb", &config), WEIR_ERR_INVALID);
}
END_TEST

START_TEST(a_missing_file_is_named) {
    weir_config_t config;
    ck_assert_int_eq(weir_config_load("no/such.yaml", NULL, 0, &config, &error),
                     WEIR_ERR_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(error.message, "no/such.yaml"));
}
END_TEST

START_TEST(yaml_of_a_configuration_reads_back_to_the_same) {
    weir_config_t config, again;
    const char *sets[] = {"data.path=a \"quoted\" \\ # path: \xc3\xa9", "loss.sharing=batch",
                          "dense.learning_rate=0.1234567890123456",
                          "train.seed=4611686018427387904", "eval.metric=hr@200"};
    ck_assert_int_eq(weir_config_load_text("", 0, "f", sets, 5, &config, &error), WEIR_OK);
    char *yaml = NULL;
    ck_assert_int_eq(weir_config_to_yaml(&config, &yaml, &error), WEIR_OK);
    ck_assert_msg(load(yaml, &again) == WEIR_OK, "%s", error.message);
    ck_assert_mem_eq(&config, &again, sizeof config);
    ck_assert_uint_eq(weir_config_digest(&config, false), weir_config_digest(&again, false));
    free(yaml);
}
END_TEST

START_TEST(digests_tell_configurations_apart) {
    weir_config_t a, b;
    weir_config_defaults(&a);
    ck_assert_int_eq(load_set("train.seed=43", &b), WEIR_OK);
    ck_assert_uint_ne(weir_config_digest(&a, false), weir_config_digest(&b, false));
    ck_assert_uint_eq(weir_config_digest(&a, true), weir_config_digest(&b, true));
    ck_assert_int_eq(load_set("sparse.optimizer=sgd", &b), WEIR_OK);
    ck_assert_uint_ne(weir_config_digest(&a, true), weir_config_digest(&b, true));
    ck_assert_int_eq(load_set("model.heads=2", &b), WEIR_OK);
    ck_assert_uint_ne(weir_config_digest(&a, true), weir_config_digest(&b, true));
}
END_TEST

START_TEST(every_file_of_configs_loads) {
    DIR *folder = opendir(WEIR_SOURCE_DIR "/configs");
    ck_assert_ptr_nonnull(folder);
    size_t count = 0;
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        /* schemas of data are read by tests/unit/test_tables.c */
        if (entry->d_name[0] != '.' && strstr(entry->d_name, ".schema.yaml") == NULL) {
            char path[WEIR_PATH_MAX];
            weir_config_t config;
            ck_assert_int_eq(weir_path_join(path, sizeof path, WEIR_SOURCE_DIR "/configs",
                                            entry->d_name, &error),
                             WEIR_OK);
            ck_assert_msg(weir_config_load(path, NULL, 0, &config, &error) == WEIR_OK, "%s",
                          error.message);
            count++;
        }
    }
    (void)closedir(folder);
    ck_assert_uint_ge(count, 3);
}
END_TEST

START_TEST(the_configuration_page_is_fresh) {
    char *page = NULL, *made = NULL;
    size_t page_size = 0, made_size = 0;
    ck_assert_msg(weir_file_read(WEIR_SOURCE_DIR "/docs/configuration.md", 1 << 20, &page,
                                 &page_size, &error) == WEIR_OK,
                  "%s", error.message);
    FILE *stream = open_memstream(&made, &made_size);
    ck_assert_ptr_nonnull(stream);
    weir_config_print_reference(stream, true);
    (void)fclose(stream);
    ck_assert_msg(page_size == made_size && memcmp(page, made, made_size) == 0,
                  "stale: run build/bin/weir config --markdown > docs/configuration.md");
    free(made);
    free(page);
}
END_TEST

START_TEST(every_metric_of_the_table_is_one_that_evaluation_knows) {
    const weir_config_key_t *key = weir_config_keys_find("eval.metric");
    weir_metrics_t metrics = {.users = 1};
    ck_assert_ptr_nonnull(key);
    for (size_t i = 0; key->choices[i] != NULL; i++) {
        double value = -1.0;
        ck_assert_msg(weir_metrics_value(&metrics, key->choices[i], &value, &error) == WEIR_OK,
                      "%s", error.message);
    }
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("config");
    TCase *t = tcase_create("config");
    tcase_add_test(t, defaults_are_the_published_hstu_on_ml_1m);
    tcase_add_test(t, every_default_is_a_value_of_its_key);
    tcase_add_test(t, bounded_staleness_is_taken);
    tcase_add_test(t, a_file_sets_values_of_every_type);
    tcase_add_test(t, optimisers_go_by_the_names_of_their_definitions);
    tcase_add_test(t, an_unknown_key_names_its_line_and_the_nearest_key);
    tcase_add_test(t, wrong_types_are_refused_with_what_was_expected);
    tcase_add_test(t, values_out_of_range_are_refused);
    tcase_add_test(t, what_is_not_plain_yaml_is_refused_with_its_line);
    tcase_add_test(t, a_key_or_value_too_long_is_refused);
    tcase_add_test(t, checks_span_keys);
    tcase_add_test(t, the_command_line_beats_the_environment_beats_the_file);
    tcase_add_test(t, a_bad_set_is_refused);
    tcase_add_test(t, a_missing_file_is_named);
    tcase_add_test(t, yaml_of_a_configuration_reads_back_to_the_same);
    tcase_add_test(t, digests_tell_configurations_apart);
    tcase_add_test(t, every_file_of_configs_loads);
    tcase_add_test(t, the_configuration_page_is_fresh);
    tcase_add_test(t, every_metric_of_the_table_is_one_that_evaluation_knows);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
