/* What a model of a given size needs: servers, memory, network and time, from what it is made of
 * and from constants measured on a machine. Arithmetic alone; all sizes in bytes, times in seconds.
 *
 * N rows of table `item`; W workers with B / W users of a global batch each, of L events on
 * average, and R negatives a token. A worker's keys of a step: the distinct ones of B L / W draws
 * by popularity (rank^-skew) and of B L R / W draws, uniform over the rows; of a full softmax all
 * N. A ranking model has no negatives: B (L + max_targets) (1 + F) / W draws by popularity, with
 * the rows of F features of each event, and B / W users. */
#ifndef WEIR_TOOLS_PLAN_MODEL_H
#define WEIR_TOOLS_PLAN_MODEL_H

#include "common/config.h"
#include "ps/row.h"

#include <stdint.h>

typedef struct {
    double pulled_rows;  /* rows a second that one core finds and copies out */
    double updated_rows; /* rows a second that one core adds gradients to and updates */
    double disk;         /* sequential write, synced */
    double network;      /* of one node, one way */
} weir_plan_constants_t;

typedef struct {
    double rows;
    double node_memory;
    double usable;           /* fraction of it that rows may take */
    double servers, workers; /* servers 0: as few as fit */
    double mean_length, skew;
    double features; /* F: rows beside the item's, of each event of a ranking model */
    weir_plan_constants_t constants;
} weir_plan_input_t;

typedef struct {
    double parameters, row_bytes, record_bytes;
    double memory;  /* of all rows, with index and metadata */
    double servers; /* as given, or as few as fit */
    bool fits;
    double server_memory, server_rows;
    double keys;         /* distinct keys of one worker in a step */
    double server_keys;  /* rows that one server answers in a step */
    double worker_bytes; /* that one worker sends and receives in a step, rows alone */
    double server_bytes; /* that one server does */
    double compute_seconds, network_seconds, step_seconds; /* of a server in a step; the floor of a
                                                              step that hides nothing */
    double checkpoint_bytes, checkpoint_seconds;           /* of all; all servers writing at once */
} weir_plan_t;

weir_plan_t weir_plan_make(const weir_config_t *config, const weir_row_schema_t *schema,
                           const weir_plan_input_t *input);

/* Expected number of distinct values in `draws` from 1 .. n where rank k has weight k^-skew. */
double weir_plan_distinct(double n, double skew, double draws);

#endif
