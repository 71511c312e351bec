#include "ps/row_update.h"

#include "ps/precision.h"

#include <stdlib.h>

weir_err_t weir_row_update_init(weir_row_update_t *update, const weir_row_schema_t *schema,
                                const weir_row_layout_t *layout, weir_error_t *error) {
    weir_row_update_t made = {.schema = schema, .layout = layout};
    weir_err_t err = WEIR_OK;
    made.scratch = malloc(layout->dim * sizeof *made.scratch);
    if (made.scratch == NULL) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "table %.31s: out of memory for an optimiser",
                          schema->name);
    }
    for (uint32_t s = 0; s < schema->segment_count && err == WEIR_OK; s++) {
        err = weir_optimizer_init(&made.optimizers[s], &schema->segments[s].optimizer,
                                  schema->segments[s].dim, schema->name, error);
    }
    if (err != WEIR_OK) {
        weir_row_update_fini(&made);
        return err;
    }
    *update = made;
    return WEIR_OK;
}

void weir_row_update_fini(weir_row_update_t *update) {
    for (uint32_t s = 0; s < WEIR_ROW_MAX_SEGMENTS; s++) {
        weir_optimizer_fini(&update->optimizers[s]);
    }
    free(update->scratch);
    update->scratch = NULL;
}

void weir_row_update_begin_step(weir_row_update_t *update, uint64_t step) {
    for (uint32_t s = 0; s < update->schema->segment_count; s++) {
        weir_optimizer_begin_step(&update->optimizers[s], step);
    }
}

bool weir_row_update_is_finite(const weir_row_update_t *update, const float *gradient) {
    return update->optimizers[0].finite(gradient, update->layout->dim);
}

static void apply_segment(weir_row_update_t *update, uint32_t s, uint64_t key, char *values,
                          char *rest, const float *gradient, uint64_t count, uint64_t step) {
    const weir_segment_t *segment = &update->schema->segments[s];
    const weir_row_part_t *part = &update->layout->parts[s];
    const weir_optimizer_t *optimizer = &update->optimizers[s];
    weir_bias_correction_t correction = weir_optimizer_correction(optimizer, count);
    uint32_t offset = update->layout->value_bytes;
    float *state = (float *)(void *)(rest + part->state - offset);
    if (segment->precision == WEIR_PRECISION_F32) {
        optimizer->update(optimizer, (float *)(void *)(values + part->value), state,
                          gradient + part->column, correction);
        return;
    }
    char *value = values + part->value, *hidden = rest + part->hidden - offset;
    uint64_t seed = 0;
    const uint64_t *rounding = NULL;
    if (segment->precision != WEIR_PRECISION_SPLIT_BF16 && !segment->plain_rounding) {
        seed = weir_precision_seed(update->schema->seed, update->schema->table_id, s, key, step);
        rounding = &seed;
    }
    weir_precision_load(segment->precision, value, hidden, segment->dim, update->scratch);
    optimizer->update(optimizer, update->scratch, state, gradient + part->column, correction);
    weir_precision_store(segment->precision, update->scratch, segment->dim, rounding, value,
                         hidden);
}

void weir_row_update_apply(weir_row_update_t *update, uint64_t key, void *value, void *rest,
                           const float *gradient, uint64_t count, uint64_t step) {
    for (uint32_t s = 0; s < update->schema->segment_count; s++) {
        apply_segment(update, s, key, value, rest, gradient, count, step);
    }
}

size_t weir_row_update_bytes(const weir_row_update_t *update) {
    size_t bytes = update->layout->dim * sizeof *update->scratch;
    for (uint32_t s = 0; s < update->schema->segment_count; s++) {
        bytes += update->optimizers[s].correction_count * sizeof *update->optimizers[s].corrections;
    }
    return bytes;
}
