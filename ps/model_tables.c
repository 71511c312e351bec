#include "ps/model_tables.h"

#include <stdio.h>

static weir_schedule_t schedule_of(const weir_config_table_t *table) {
    return (weir_schedule_t){.kind = (weir_schedule_kind_t)table->schedule,
                             .warmup_steps = (uint64_t)table->warmup_steps,
                             .decay_steps = (uint64_t)table->decay_steps,
                             .floor = table->schedule_floor,
                             .rate = table->schedule_rate};
}

static weir_segment_t segment_of(const weir_config_table_t *table, uint32_t dim) {
    return (weir_segment_t){.dim = dim,
                            .precision = (weir_precision_t)table->precision,
                            .plain_rounding = table->rounding != 0,
                            .initializer = (weir_initializer_t)table->initializer,
                            .initial_scale = table->initial_sigma,
                            .optimizer = {.kind = (weir_optimizer_kind_t)table->optimizer,
                                          .learning_rate = table->learning_rate,
                                          .beta1 = table->beta1,
                                          .beta2 = table->beta2,
                                          .epsilon = table->epsilon,
                                          .weight_decay = table->weight_decay,
                                          .l1 = table->l1,
                                          .l2 = table->l2,
                                          .group_l1 = table->group_l1,
                                          .beta = table->beta,
                                          .clip_value = table->clip_value,
                                          .clip_norm = table->clip_norm,
                                          .schedule = schedule_of(table)}};
}

static weir_row_schema_t schema_of(const weir_config_t *config, const weir_config_table_t *table,
                                   const char *name, uint32_t number) {
    weir_row_schema_t schema = {
        .table_id = number,
        .seed = (uint64_t)config->train.seed,
        .segment_count = 1,
        .segments = {segment_of(table, (uint32_t)config->model.embedding_dim)}};
    (void)snprintf(schema.name, sizeof schema.name, "%s", name);
    return schema;
}

/* Born zero: a new item is as likely as it was without a bias. */
static void add_bias(const weir_config_t *config, weir_row_schema_t *schema) {
    weir_segment_t *bias = &schema->segments[schema->segment_count++];
    *bias = segment_of(&config->item_bias, 1);
    bias->initializer = WEIR_INITIALIZER_CONSTANT;
    bias->initial_scale = 0.0;
    (void)snprintf(bias->name, sizeof bias->name, "bias");
}

uint32_t weir_model_tables(const weir_config_t *config,
                           weir_row_schema_t schemas[WEIR_MODEL_MAX_TABLES]) {
    schemas[WEIR_MODEL_ITEM_TABLE] =
        schema_of(config, &config->sparse, "item", WEIR_MODEL_ITEM_TABLE);
    if (config->model.item_bias) {
        add_bias(config, &schemas[WEIR_MODEL_ITEM_TABLE]);
    }
    if (!config->model.user_embedding) {
        return 1;
    }
    schemas[WEIR_MODEL_USER_TABLE] =
        schema_of(config, &config->user, "user", WEIR_MODEL_USER_TABLE);
    return 2;
}

const weir_config_table_t *weir_model_table_config(const weir_config_t *config, uint32_t number) {
    return number == WEIR_MODEL_ITEM_TABLE ? &config->sparse : &config->user;
}
