/* The tables of a model, as its configuration says: the same on servers and workers. */
#ifndef WEIR_PS_MODEL_TABLES_H
#define WEIR_PS_MODEL_TABLES_H

#include "common/config.h"
#include "ps/row.h"

enum { WEIR_MODEL_MAX_TABLES = 8, WEIR_MODEL_ITEM_TABLE = 0, WEIR_MODEL_USER_TABLE = 1 };

/* Fill `schemas` in the order of their numbers; returns how many. Table 0 holds the items, with
 * model.item_bias each with a second segment of one column, "bias"; with model.user_embedding,
 * table 1 holds the users, by their numbers in the data. */
uint32_t weir_model_tables(const weir_config_t *config,
                           weir_row_schema_t schemas[WEIR_MODEL_MAX_TABLES]);

/* The configuration's section of a table. */
const weir_config_table_t *weir_model_table_config(const weir_config_t *config, uint32_t number);

#endif
