#include "ps/row.h"

#include "common/rng.h"

static void add_field(weir_row_layout_t *layout, const char *name, uint32_t width) {
    layout->fields[layout->field_count++] =
        (weir_row_field_t){.name = name, .offset = layout->floats, .width = width};
    layout->floats += width;
}

weir_row_layout_t weir_row_layout(const weir_table_schema_t *schema) {
    weir_row_layout_t layout = {.field_count = 0};
    add_field(&layout, "value", schema->dim);
    switch (schema->optimizer) {
    case WEIR_OPTIMIZER_ADAGRAD:
        add_field(&layout, "s", schema->dim);
        break;
    case WEIR_OPTIMIZER_ROWWISE_ADAGRAD:
        add_field(&layout, "s", 1);
        break;
    case WEIR_OPTIMIZER_ADAMW:
        add_field(&layout, "m", schema->dim);
        add_field(&layout, "v", schema->dim);
        break;
    case WEIR_OPTIMIZER_ROWWISE_ADAMW:
        add_field(&layout, "m", schema->dim);
        add_field(&layout, "v", 1);
        break;
    case WEIR_OPTIMIZER_SGD:
    case WEIR_OPTIMIZER_COUNT:
        break;
    }
    return layout;
}

void weir_row_birth(const weir_table_schema_t *schema, uint64_t key, float *value) {
    weir_fill_truncated_normal(weir_rng_key(schema->seed, WEIR_STREAM_ROW), (uint32_t)key,
                               (uint32_t)(key >> 32), schema->table_id, schema->initial_sigma,
                               value, schema->dim);
}
