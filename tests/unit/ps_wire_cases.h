/* Three tables of different widths and precisions for the tests of the client, and what a server
 * would send of them: the value of (table, key, column, step) is a small number that every
 * precision holds exactly. The bytes are written by hand, not by ps/precision.c. */
#ifndef WEIR_TESTS_PS_WIRE_CASES_H
#define WEIR_TESTS_PS_WIRE_CASES_H

#include "common/frame.h"
#include "common/hash.h"
#include "ps/row.h"

#include <stdbool.h>

enum { WIRE_TABLES = 3, WIRE_MAX_DIM = 16, WIRE_MAX_ROW = 64 };

void wire_schemas(weir_row_schema_t schemas[WIRE_TABLES]);
uint32_t wire_dim(uint32_t table);
size_t wire_row_bytes(uint32_t table); /* a multiple of 4 */

float wire_value(uint32_t table, weir_key_t key, uint64_t step, uint32_t column);
/* Writes wire_row_bytes; padding is not zero. */
void wire_row(uint32_t table, weir_key_t key, uint64_t step, uint8_t *row);
/* Rows of `keys` that are not what the values of (key, step) say. */
size_t wire_wrong_rows(uint32_t table, const weir_key_t *keys, size_t count, uint64_t step,
                       const float *values);

/* The keys of a pull, as one server got them. */
typedef struct {
    weir_frame_header_t header;
    size_t counts[WIRE_TABLES];
    size_t count;
    weir_key_t *keys; /* count, table after table; owned */
} wire_pull_t;

/* Read a pull_req (payload released): its length is exact and its padding zero, or false. */
bool wire_read_pull(weir_frame_t frame, wire_pull_t *pull);
void wire_release_pull(wire_pull_t *pull);

/* An answer to the pull: rows whose bit in `selected` is `set` (all: NULL), with the bits before
 * them when flags is 1. Bit i is of key i. */
weir_frame_t wire_answer(const wire_pull_t *pull, uint16_t flags, const uint64_t *selected,
                         bool set);

#endif
