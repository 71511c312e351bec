/* What a table's schema says of its columns, and a row's values as floats by it. */
#include "reader/reader_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    weir_dtype_t dtype; /* of column value */
} precisions[PRECISIONS] = {{"float32", WEIR_DTYPE_F32},
                            {"bf16", WEIR_DTYPE_BF16},
                            {"fp16", WEIR_DTYPE_F16},
                            {"int8", WEIR_DTYPE_I8},
                            {"split_bf16", WEIR_DTYPE_BF16}};

/* ---- the schema ---- */

/* The column SEGMENT.NAME, or NAME of a segment without one. */
static bool find_column(const weir_snapshot_file_t *file, const char *segment, const char *name,
                        weir_dtype_t dtype, uint64_t width, uint32_t *column) {
    char whole[64];
    (void)snprintf(whole, sizeof whole, "%s%s%s", segment, segment[0] == '\0' ? "" : ".", name);
    for (uint32_t c = 0; c < file->column_count; c++) {
        if (strcmp(file->columns[c].name, whole) == 0) {
            *column = c;
            return file->columns[c].dtype == dtype && file->columns[c].width == width;
        }
    }
    return false;
}

/* One "NAME:DIM:PRECISION:OPTIMIZER", which is taken apart. */
static bool parse_segment(const weir_snapshot_file_t *file, char *text,
                          weir_reader_segment_t *segment) {
    char *dim_text = strchr(text, ':'), *end;
    char *precision_text = dim_text == NULL ? NULL : strchr(dim_text + 1, ':');
    char *optimizer = precision_text == NULL ? NULL : strchr(precision_text + 1, ':');
    if (optimizer == NULL) {
        return false;
    }
    *dim_text++ = *precision_text++ = *optimizer = '\0';
    unsigned long dim = strtoul(dim_text, &end, 10);
    if (*end != '\0' || dim < 1 || dim > WEIR_ROW_MAX_DIM) {
        return false;
    }
    segment->dim = (uint32_t)dim;
    int precision = 0;
    while (precision < PRECISIONS && strcmp(precisions[precision].name, precision_text) != 0) {
        precision++;
    }
    if (precision == PRECISIONS) {
        return false;
    }
    segment->precision = (enum weir_reader_precision)precision;
    return find_column(file, text, "value", precisions[precision].dtype, dim, &segment->value) &&
           (precision != INT8 ||
            find_column(file, text, "scale", WEIR_DTYPE_F32, 1, &segment->scale)) &&
           (precision != SPLIT_BF16 ||
            find_column(file, text, "low", WEIR_DTYPE_U16, dim, &segment->low));
}

static bool parse_schema(const weir_snapshot_file_t *file, const char *schema,
                         weir_reader_table_own_t *table) {
    char text[256], *at = text;
    if (strlen(schema) >= sizeof text) {
        return false;
    }
    (void)snprintf(text, sizeof text, "%s", schema);
    for (char *next = text; next != NULL; at = next) {
        next = strchr(at, ',');
        if (next != NULL) {
            *next++ = '\0';
        }
        if (table->segment_count == WEIR_ROW_MAX_SEGMENTS ||
            !parse_segment(file, at, &table->segments[table->segment_count])) {
            return false;
        }
        table->about.dim += table->segments[table->segment_count++].dim;
        if (next == NULL) {
            break;
        }
    }
    return true;
}

/* Rows of all files that a slot's content is in, over all slots. */
static void count_rows(weir_reader_table_own_t *table) {
    weir_reader_chain_t *chain = &table->chain;
    for (weir_slot_t slot = 0; slot < WEIR_SLOT_COUNT; slot++) {
        size_t levels = weir_snapshot_chain_levels(chain->chain, slot, chain->levels);
        for (size_t l = 0; l < levels; l++) {
            const weir_snapshot_file_t *file = chain->levels[l].file;
            const uint64_t *offsets = file->slot_offsets + (slot - file->first_slot);
            table->about.rows += offsets[1] - offsets[0];
            table->about.chained = table->about.chained || l > 0;
        }
    }
}

weir_err_t weir_reader_describe(weir_reader_table_own_t *table, weir_error_t *error) {
    const weir_snapshot_file_t *file = weir_snapshot_chain_first(table->chain.chain);
    const char *schema = weir_tensor_file_metadata(file->file, "schema");
    const char *optimizer = weir_tensor_file_metadata(file->file, "optimizer");
    table->about.name = table->name;
    table->about.schema = schema;
    table->about.optimizer = optimizer == NULL ? "" : optimizer;
    table->about.ttl = file->ttl;
    _Static_assert((int)WEIR_READER_COLUMNS == (int)WEIR_ROW_MAX_FIELDS, "of every column");
    for (uint32_t c = 0; c < file->column_count; c++) {
        const weir_snapshot_column_t *column = &file->columns[c];
        table->about.columns[table->about.column_count++] =
            (weir_reader_column_t){.name = column->name,
                                   .dtype = weir_dtype_name(column->dtype),
                                   .width = column->width,
                                   .bytes = column->bytes};
    }
    if (schema == NULL || !parse_schema(file, schema, table)) {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "%s: its schema is not that of its columns",
                           weir_tensor_file_path(file->file));
    }
    count_rows(table);
    return WEIR_OK;
}

/* ---- values ---- */

static float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint16_t half_at(const void *halves, uint32_t i) {
    uint16_t bits;
    memcpy(&bits, (const char *)halves + i * sizeof bits, sizeof bits);
    return bits;
}

/* IEEE binary16. */
static float float_of_half(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16, exponent = half >> 10 & 31u;
    uint32_t fraction = half & 0x3FFu;
    if (exponent == 0) {
        return float_of(sign | 0x33800000u) * (float)fraction; /* 2^-24 each */
    }
    return float_of(sign | (exponent == 31 ? 255u : exponent + 112u) << 23 | fraction << 13);
}

static void decode(const weir_reader_segment_t *segment, const weir_reader_row_t *row,
                   float *values) {
    const void *value = row->columns[segment->value];
    const int8_t *bytes = value;
    float scale = 0;
    switch (segment->precision) {
    case BF16:
        for (uint32_t i = 0; i < segment->dim; i++) {
            values[i] = float_of((uint32_t)half_at(value, i) << 16);
        }
        break;
    case FP16:
        for (uint32_t i = 0; i < segment->dim; i++) {
            values[i] = float_of_half(half_at(value, i));
        }
        break;
    case INT8:
        memcpy(&scale, row->columns[segment->scale], sizeof scale);
        for (uint32_t i = 0; i < segment->dim; i++) {
            values[i] = (float)bytes[i] * scale;
        }
        break;
    case SPLIT_BF16:
        for (uint32_t i = 0; i < segment->dim; i++) {
            values[i] = float_of((uint32_t)half_at(value, i) << 16 |
                                 half_at(row->columns[segment->low], i));
        }
        break;
    case FLOAT32:
    case PRECISIONS:
    default:
        memcpy(values, value, segment->dim * sizeof *values);
    }
}

void weir_reader_values(const weir_reader_table_t *table, const weir_reader_row_t *row,
                        float *values) {
    const weir_reader_table_own_t *own =
        (const weir_reader_table_own_t *)(const void *)table; /* its first member */
    for (uint32_t s = 0; s < own->segment_count; s++) {
        decode(&own->segments[s], row, values);
        values += own->segments[s].dim;
    }
}
