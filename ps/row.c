#include "ps/row.h"

#include "common/assert.h"
#include "common/rng.h"
#include "ps/precision.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static weir_err_t refuse(const weir_row_schema_t *schema, weir_error_t *error,
                         const char *sentence) {
    return weir_errorf(error, WEIR_ERR_INVALID, "table %.31s: %s", schema->name, sentence);
}

static bool has_end(const char *text, size_t capacity) {
    return memchr(text, '\0', capacity) != NULL;
}

weir_err_t weir_row_schema_check(const weir_row_schema_t *schema, weir_error_t *error) {
    uint64_t dim = 0;
    if (!has_end(schema->name, sizeof schema->name) || schema->name[0] == '\0') {
        return weir_errorf(error, WEIR_ERR_INVALID, "a table needs a name of 1 to 31 bytes");
    }
    if (schema->segment_count < 1 || schema->segment_count > WEIR_ROW_MAX_SEGMENTS) {
        return refuse(schema, error, "a row has 1 to 4 segments");
    }
    for (uint32_t s = 0; s < schema->segment_count; s++) {
        const weir_segment_t *segment = &schema->segments[s];
        if (segment->dim < 1 || segment->dim > WEIR_ROW_MAX_DIM) {
            return weir_errorf(error, WEIR_ERR_INVALID,
                               "table %.31s: dimension %u is not in 1 .. %d", schema->name,
                               segment->dim, WEIR_ROW_MAX_DIM);
        }
        if ((unsigned)segment->precision >= WEIR_PRECISION_COUNT ||
            (unsigned)segment->initializer >= WEIR_INITIALIZER_COUNT) {
            return refuse(schema, error, "no such precision or initialiser");
        }
        if (!isfinite(segment->initial_scale) ||
            (segment->initializer != WEIR_INITIALIZER_CONSTANT && segment->initial_scale < 0.0)) {
            return refuse(schema, error, "the initial scale must be a finite number, not negative");
        }
        if (!has_end(segment->name, sizeof segment->name)) {
            return refuse(schema, error, "a segment's name has 15 bytes at most");
        }
        for (uint32_t other = 0; other < s; other++) {
            if (strcmp(segment->name, schema->segments[other].name) == 0) {
                return refuse(schema, error, "two segments have one name");
            }
        }
        dim += segment->dim;
    }
    return dim <= WEIR_ROW_MAX_DIM
               ? WEIR_OK
               : refuse(schema, error, "the segments together are wider than 65536 columns");
}

/* ---- layout ---- */

static uint32_t round_up(uint32_t bytes) {
    return (bytes + 3) / 4 * 4;
}

static void add_field(weir_row_layout_t *layout, const weir_segment_t *segment, const char *name,
                      weir_dtype_t dtype, uint32_t offset, uint32_t width) {
    WEIR_ASSERT(layout->field_count < WEIR_ROW_MAX_FIELDS);
    weir_row_field_t *field = &layout->fields[layout->field_count++];
    *field = (weir_row_field_t){.dtype = dtype, .offset = offset, .width = width};
    (void)snprintf(field->name, sizeof field->name, "%s%s%s", segment->name,
                   segment->name[0] == '\0' ? "" : ".", name);
}

/* The fields of a segment's value, which begins at `offset`. */
static void add_value_fields(weir_row_layout_t *layout, const weir_segment_t *segment,
                             uint32_t offset) {
    switch (segment->precision) {
    case WEIR_PRECISION_F32:
        add_field(layout, segment, "value", WEIR_DTYPE_F32, offset, segment->dim);
        break;
    case WEIR_PRECISION_F16:
        add_field(layout, segment, "value", WEIR_DTYPE_F16, offset, segment->dim);
        break;
    case WEIR_PRECISION_INT8:
        add_field(layout, segment, "scale", WEIR_DTYPE_F32, offset, 1);
        add_field(layout, segment, "value", WEIR_DTYPE_I8, offset + 4, segment->dim);
        break;
    case WEIR_PRECISION_BF16:
    case WEIR_PRECISION_SPLIT_BF16:
    case WEIR_PRECISION_COUNT:
        add_field(layout, segment, "value", WEIR_DTYPE_BF16, offset, segment->dim);
        break;
    }
}

weir_row_layout_t weir_row_layout(const weir_row_schema_t *schema) {
    weir_row_layout_t layout = {.dim = 0};
    for (uint32_t s = 0; s < schema->segment_count; s++) {
        const weir_segment_t *segment = &schema->segments[s];
        layout.parts[s].column = layout.dim;
        layout.parts[s].value = layout.value_bytes;
        add_value_fields(&layout, segment, layout.value_bytes);
        layout.dim += segment->dim;
        layout.value_bytes +=
            round_up((uint32_t)weir_precision_value_bytes(segment->precision, segment->dim));
    }
    layout.record_bytes = layout.value_bytes;
    for (uint32_t s = 0; s < schema->segment_count; s++) {
        const weir_segment_t *segment = &schema->segments[s];
        layout.parts[s].hidden = layout.record_bytes;
        uint32_t hidden = (uint32_t)weir_precision_hidden_bytes(segment->precision, segment->dim);
        if (hidden > 0) {
            add_field(&layout, segment, "low", WEIR_DTYPE_U16, layout.record_bytes, segment->dim);
        }
        layout.record_bytes += round_up(hidden);
        layout.parts[s].state = layout.record_bytes;
        weir_optimizer_state_t state = weir_optimizer_state(segment->optimizer.kind, segment->dim);
        for (uint32_t r = 0; r < state.run_count; r++) {
            add_field(&layout, segment, state.runs[r].name, WEIR_DTYPE_F32, layout.record_bytes,
                      state.runs[r].width);
            layout.record_bytes += state.runs[r].width * (uint32_t)sizeof(float);
        }
    }
    return layout;
}

/* ---- birth ---- */

static void fill_uniform(weir_rng_key_t key, uint32_t c0, uint32_t c1, uint32_t c3, double scale,
                         float *values, uint32_t count) {
    for (uint32_t i = 0; i < count; i += 4) {
        weir_philox_t random = weir_philox(key, c0, c1, i / 4, c3);
        for (uint32_t j = 0; j < 4 && i + j < count; j++) {
            values[i + j] = (float)(scale * (2.0 * weir_uniform01(random.word[j]) - 1.0));
        }
    }
}

static void fill_segment(const weir_row_schema_t *schema, uint32_t s, uint64_t key, float *values) {
    const weir_segment_t *segment = &schema->segments[s];
    weir_rng_key_t random = weir_rng_key(schema->seed, WEIR_STREAM_ROW);
    uint32_t low = (uint32_t)key, high = (uint32_t)(key >> 32);
    uint32_t place = schema->table_id | s << 24; /* table ids stay far below */
    switch (segment->initializer) {
    case WEIR_INITIALIZER_TRUNCATED_NORMAL:
        weir_fill_truncated_normal(random, low, high, place, segment->initial_scale, values,
                                   segment->dim);
        break;
    case WEIR_INITIALIZER_UNIFORM:
        fill_uniform(random, low, high, place, segment->initial_scale, values, segment->dim);
        break;
    case WEIR_INITIALIZER_CONSTANT:
    case WEIR_INITIALIZER_COUNT:
        for (uint32_t i = 0; i < segment->dim; i++) {
            values[i] = (float)segment->initial_scale;
        }
        break;
    }
}

static void bear_value(const weir_row_schema_t *schema, const weir_row_layout_t *layout,
                       uint64_t key, uint32_t s, char *record, void *hidden, float *scratch) {
    const weir_segment_t *segment = &schema->segments[s];
    char *value = record + layout->parts[s].value;
    fill_segment(schema, s, key, scratch);
    weir_precision_store(segment->precision, scratch, segment->dim, NULL, value, hidden);
}

void weir_row_birth(const weir_row_schema_t *schema, const weir_row_layout_t *layout, uint64_t key,
                    void *value, void *rest, float *scratch) {
    memset(value, 0, layout->value_bytes);
    memset(rest, 0, layout->record_bytes - layout->value_bytes);
    for (uint32_t s = 0; s < schema->segment_count; s++) {
        uint32_t hidden = layout->parts[s].hidden - layout->value_bytes;
        bear_value(schema, layout, key, s, value, (char *)rest + hidden, scratch);
    }
}

void weir_row_birth_value(const weir_row_schema_t *schema, const weir_row_layout_t *layout,
                          uint64_t key, void *value, float *scratch) {
    memset(value, 0, layout->value_bytes);
    for (uint32_t s = 0; s < schema->segment_count; s++) {
        /* The low halves go behind the floats that they come from. */
        bear_value(schema, layout, key, s, value, scratch + layout->dim, scratch);
    }
}

void weir_row_decode(const weir_row_schema_t *schema, const weir_row_layout_t *layout,
                     const void *wire, size_t count, float *values) {
    for (uint32_t s = 0; s < schema->segment_count; s++) {
        const weir_segment_t *segment = &schema->segments[s];
        weir_precision_decode(segment->precision, (const char *)wire + layout->parts[s].value,
                              layout->value_bytes, count, segment->dim,
                              values + layout->parts[s].column, layout->dim);
    }
}
