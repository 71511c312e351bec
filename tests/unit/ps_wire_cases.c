#include "tests/unit/ps_wire_cases.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    uint32_t segments;
    struct {
        weir_precision_t precision;
        uint32_t dim;
    } segment[WEIR_ROW_MAX_SEGMENTS];
} shape_t;

static const shape_t shapes[WIRE_TABLES] = {
    {2, {{WEIR_PRECISION_F32, 5}, {WEIR_PRECISION_BF16, 3}}},
    {1, {{WEIR_PRECISION_F32, 4}}},
    {3, {{WEIR_PRECISION_INT8, 6}, {WEIR_PRECISION_F16, 3}, {WEIR_PRECISION_SPLIT_BF16, 2}}},
};

void wire_schemas(weir_row_schema_t schemas[WIRE_TABLES]) {
    static const char *const tables[WIRE_TABLES] = {"item", "user", "tag"};
    static const char *const names[WEIR_ROW_MAX_SEGMENTS] = {"", "b", "c", "d"};
    memset(schemas, 0, WIRE_TABLES * sizeof *schemas);
    for (uint32_t k = 0; k < WIRE_TABLES; k++) {
        memcpy(schemas[k].name, tables[k], strlen(tables[k]));
        schemas[k].table_id = k;
        schemas[k].segment_count = shapes[k].segments;
        for (uint32_t s = 0; s < shapes[k].segments; s++) {
            memcpy(schemas[k].segments[s].name, names[s], strlen(names[s]));
            schemas[k].segments[s].dim = shapes[k].segment[s].dim;
            schemas[k].segments[s].precision = shapes[k].segment[s].precision;
            schemas[k].segments[s].optimizer.kind = WEIR_OPTIMIZER_ADAGRAD;
        }
    }
}

uint32_t wire_dim(uint32_t table) {
    uint32_t dim = 0;
    for (uint32_t s = 0; s < shapes[table].segments; s++) {
        dim += shapes[table].segment[s].dim;
    }
    return dim;
}

static size_t segment_bytes(weir_precision_t precision, size_t dim) {
    size_t bytes = precision == WEIR_PRECISION_F32    ? 4 * dim
                   : precision == WEIR_PRECISION_INT8 ? 4 + dim
                                                      : 2 * dim;
    return (bytes + 3) / 4 * 4;
}

size_t wire_row_bytes(uint32_t table) {
    size_t bytes = 0;
    for (uint32_t s = 0; s < shapes[table].segments; s++) {
        bytes += segment_bytes(shapes[table].segment[s].precision, shapes[table].segment[s].dim);
    }
    return bytes;
}

/* -127 .. 127 */
static int number_of(uint32_t table, weir_key_t key, uint64_t step, uint32_t column) {
    return (int)(weir_hash64(key * 1000003 + step * 4096 + table * 64 + column) % 255) - 127;
}

float wire_value(uint32_t table, weir_key_t key, uint64_t step, uint32_t column) {
    for (uint32_t s = 0, end = 0; s < shapes[table].segments; s++) {
        end += shapes[table].segment[s].dim;
        if (column < end) {
            float scale = shapes[table].segment[s].precision == WEIR_PRECISION_INT8 ? 0.5f : 1.0f;
            return scale * (float)number_of(table, key, step, column);
        }
    }
    return 0.0f;
}

static uint16_t half_of(int number) {
    unsigned size = (unsigned)abs(number), exponent = 0;
    if (size == 0) {
        return 0;
    }
    while (size >> exponent > 1) {
        exponent++;
    }
    unsigned fraction = (size << (10 - exponent)) & 0x3ff;
    return (uint16_t)((number < 0 ? 0x8000u : 0u) | (exponent + 15) << 10 | fraction);
}

static void write_segment(weir_precision_t precision, const int *numbers, uint32_t dim,
                          uint8_t *bytes) {
    static const float half = 0.5f; /* the scale of int8 */
    if (precision == WEIR_PRECISION_INT8) {
        memcpy(bytes, &half, sizeof half);
    }
    for (uint32_t d = 0; d < dim; d++) {
        float value = (float)numbers[d];
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        uint16_t upper = (uint16_t)(bits >> 16);
        if (precision == WEIR_PRECISION_F32) {
            memcpy(bytes + 4 * d, &value, sizeof value);
        } else if (precision == WEIR_PRECISION_INT8) {
            bytes[4 + d] = (uint8_t)(int8_t)numbers[d];
        } else {
            upper = precision == WEIR_PRECISION_F16 ? half_of(numbers[d]) : upper;
            memcpy(bytes + 2 * d, &upper, sizeof upper);
        }
    }
}

void wire_row(uint32_t table, weir_key_t key, uint64_t step, uint8_t *row) {
    uint32_t column = 0;
    memset(row, 0xEE, wire_row_bytes(table));
    for (uint32_t s = 0; s < shapes[table].segments; s++) {
        uint32_t dim = shapes[table].segment[s].dim;
        int numbers[WIRE_MAX_DIM];
        for (uint32_t d = 0; d < dim; d++) {
            numbers[d] = number_of(table, key, step, column++);
        }
        write_segment(shapes[table].segment[s].precision, numbers, dim, row);
        row += segment_bytes(shapes[table].segment[s].precision, dim);
    }
}

size_t wire_wrong_rows(uint32_t table, const weir_key_t *keys, size_t count, uint64_t step,
                       const float *values) {
    size_t wrong = 0;
    uint32_t dim = wire_dim(table);
    for (size_t i = 0; i < count; i++) {
        bool same = true;
        for (uint32_t d = 0; d < dim; d++) {
            float expected = wire_value(table, keys[i], step, d);
            same = same && !(values[i * dim + d] < expected) && !(values[i * dim + d] > expected);
        }
        wrong += !same;
    }
    return wrong;
}

/* ---- a server's side of a pull ---- */

bool wire_read_pull(weir_frame_t frame, wire_pull_t *pull) {
    enum { COUNTS = (WIRE_TABLES * 4 + 7) / 8 * 8 };
    bool good = true;
    *pull = (wire_pull_t){.header = frame.header, .count = frame.header.count};
    size_t size = pull->count == 0 ? 0 : COUNTS + pull->count * sizeof(weir_key_t);
    pull->keys = calloc(pull->count + 1, sizeof *pull->keys);
    good = pull->keys != NULL && frame.header.payload_size == size && frame.header.flags == 0 &&
           frame.header.sequence == 0;
    if (good && size > 0) {
        uint32_t counts[COUNTS / 4];
        size_t sum = 0;
        memcpy(counts, frame.payload, COUNTS);
        for (uint32_t k = 0; k < COUNTS / 4; k++) {
            if (k < WIRE_TABLES) {
                pull->counts[k] = counts[k];
                sum += counts[k];
            } else {
                good = good && counts[k] == 0;
            }
        }
        good = good && sum == pull->count;
        memcpy(pull->keys, (const uint8_t *)frame.payload + COUNTS, size - COUNTS);
    }
    weir_buffer_release(frame.payload);
    return good;
}

void wire_release_pull(wire_pull_t *pull) {
    free(pull->keys);
    pull->keys = NULL;
}

weir_frame_t wire_answer(const wire_pull_t *pull, uint16_t flags, const uint64_t *selected,
                         bool set) {
    weir_frame_t frame = {
        .header = {.type = WEIR_FRAME_PULL_REP, .flags = flags, .step = pull->header.step}};
    size_t words = flags == 1 ? (pull->count + 63) / 64 : 0;
    uint8_t *bytes = weir_buffer_acquire(words * 8 + pull->count * WIRE_MAX_ROW + 1);
    if (bytes == NULL) {
        abort();
    }
    uint8_t *next = bytes + words * 8;
    if (words > 0) {
        memcpy(bytes, selected, words * 8);
    }
    size_t i = 0;
    for (uint32_t k = 0; k < WIRE_TABLES; k++) {
        for (size_t end = i + pull->counts[k]; i < end; i++) {
            if (selected == NULL || (selected[i / 64] >> i % 64 & 1) == set) {
                wire_row(k, pull->keys[i], pull->header.step, next);
                next += wire_row_bytes(k);
                frame.header.count++;
            }
        }
    }
    frame.header.payload_size = (uint64_t)(next - bytes);
    frame.payload = bytes;
    if (frame.header.payload_size == 0) {
        weir_buffer_release(bytes);
        frame.payload = NULL;
    }
    return frame;
}
