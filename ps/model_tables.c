#include "ps/model_tables.h"

#include <string.h>

uint32_t weir_model_tables(const weir_config_t *config,
                           weir_row_schema_t schemas[WEIR_MODEL_MAX_TABLES]) {
    weir_row_schema_t *item = &schemas[WEIR_MODEL_ITEM_TABLE];
    *item = (weir_row_schema_t){
        .name = "item",
        .table_id = WEIR_MODEL_ITEM_TABLE,
        .seed = (uint64_t)config->train.seed,
        .segment_count = 1,
        .segments = {{.dim = (uint32_t)config->model.embedding_dim,
                      .precision = WEIR_PRECISION_F32,
                      .initializer = WEIR_INITIALIZER_TRUNCATED_NORMAL,
                      .initial_scale = config->sparse.initial_sigma,
                      .optimizer = {.kind = (weir_optimizer_kind_t)config->sparse.optimizer,
                                    .learning_rate = config->sparse.learning_rate,
                                    .beta1 = config->sparse.beta1,
                                    .beta2 = config->sparse.beta2,
                                    .epsilon = config->sparse.epsilon,
                                    .weight_decay = config->sparse.weight_decay}}}};
    return 1;
}
