/* What the files of ps/client*.c share. */
#ifndef WEIR_PS_CLIENT_INTERNAL_H
#define WEIR_PS_CLIENT_INTERNAL_H

#include "ps/client.h"
#include "ps/model_tables.h"
#include "ps/row_cache.h"
#include "ps/split.h"

#include <stdbool.h>
#include <string.h>

enum { WEIR_PS_CLIENT_MAX_AHEAD = 64 };

/* Flags of a pull_rep (docs/files/ps-frames.md). */
enum {
    WEIR_PULL_REP_WHOLE = 0,
    WEIR_PULL_REP_FIRST = 1,
    WEIR_PULL_REP_REST = 2,
    WEIR_PULL_REP_SOME = 4
};

/* Flags of a pull_req. */
enum { WEIR_PULL_REQ_PLAIN = 0, WEIR_PULL_REQ_CACHED = 1 };

/* What one server has answered to one pull. */
typedef struct {
    bool done;          /* whole, or first and rest, have come */
    bool has_first;     /* the first part has come */
    bool first_placed;  /* its rows are at their places */
    weir_frame_t first; /* its payload is kept until the pull is finished: which rows it had says
                           which ones the rest has */
    weir_frame_t last;  /* whole or rest; its payload is kept until its rows are at their places */
} weir_ps_client_answer_t;

/* A pull under way: sent, not pushed. */
typedef struct {
    uint64_t step;
    uint32_t left;                    /* servers that are not done */
    weir_split_t *splits;             /* by table */
    weir_ps_client_answer_t *answers; /* by server */
    /* Of tables whose rows are copied, by position: where the copy has its place. */
    weir_row_place_t *places[WEIR_MODEL_MAX_TABLES];
    size_t capacities[WEIR_MODEL_MAX_TABLES]; /* of places */
} weir_ps_client_pull_t;

typedef struct {
    weir_row_schema_t schema;
    weir_row_layout_t layout;
    bool plain;              /* a row on the wire is its floats */
    weir_row_cache_t *cache; /* NULL: no copies are kept; owned */
} weir_ps_client_table_t;

/* A peek is sent in pieces, to each server one after the other. */
typedef struct {
    uint32_t number; /* calls so far: the sequence of their frames */
    weir_split_t split;
    size_t *sent;    /* by server: keys that were asked for */
    size_t *arrived; /* by server: keys that were answered */
} weir_ps_client_peek_t;

struct weir_ps_client {
    weir_ps_client_options_t options; /* its tables are NULL */
    weir_ps_client_table_t *tables;
    uint32_t table_count;
    bool cached;                  /* copies of some table's rows are kept */
    weir_ps_client_pull_t *pulls; /* the ring: pull n at n % ring */
    uint32_t ring;                /* ahead + 1 */
    /* Pulls so far. pushed <= finished <= begun <= pushed + ring. */
    uint64_t begun, finished, pushed;
    uint64_t last_step, pushed_step; /* of the last pull and the last push; 0: none */
    weir_ps_client_peek_t peek;
    weir_ps_client_counters_t counters;
};

static inline weir_ps_client_pull_t *weir_ps_client_pull_of(weir_ps_client_t *client,
                                                            uint64_t number) {
    return &client->pulls[number % client->ring];
}

/* A row of the wire to its place in the caller's array. */
static inline void weir_ps_client_decode(const weir_ps_client_table_t *table, const char *row,
                                         float *values, uint32_t position) {
    float *place = values + position * (size_t)table->layout.dim;
    if (table->plain) {
        memcpy(place, row, table->layout.value_bytes);
    } else {
        weir_row_decode(&table->schema, &table->layout, row, 1, place);
    }
}

/* ---- ps/client.c ---- */

/* A payload of `size` bytes; none when it is 0. */
WEIR_MUST_USE weir_err_t weir_ps_client_acquire(weir_frame_t *frame, size_t size,
                                                weir_error_t *error);
WEIR_MUST_USE weir_err_t weir_ps_client_post(weir_ps_client_t *client, uint32_t server,
                                             weir_frame_t frame, weir_error_t *error);
/* The next frame of `type`, from a server; the caller owns its payload. *received false: none came
 * in time. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_ps_client_take(weir_ps_client_t *client, weir_frame_type_t type,
                                             weir_frame_t *frame, bool *received, uint32_t *server,
                                             weir_error_t *error);
/* The error of a server that did not send its `what` ("answer to the pull of step 3"). */
WEIR_MUST_USE weir_err_t weir_ps_client_report_silence(const weir_ps_client_t *client,
                                                       uint32_t server, const char *what,
                                                       weir_error_t *error);

/* ---- ps/client_answer.c ---- */

/* Bytes of all rows of the pull that a server owns, on the wire; *count: how many. */
size_t weir_ps_client_rows(const weir_ps_client_t *client, const weir_ps_client_pull_t *pull,
                           uint32_t server, size_t *count);
/* Check a pull_rep and note it in the pull that it belongs to, whose number it gives. The payload
 * has moved there, or has been released after an error. */
WEIR_MUST_USE weir_err_t weir_ps_client_accept(weir_ps_client_t *client, uint32_t server,
                                               const weir_frame_t *frame, uint64_t *number,
                                               weir_error_t *error);
/* Decode the rows that a server has sent for the pull and that are still in their frames to their
 * places. Errors: PEER, a row was left out whose copy is not here. */
WEIR_MUST_USE weir_err_t weir_ps_client_place(weir_ps_client_t *client, weir_ps_client_pull_t *pull,
                                              uint32_t server, float *const *values,
                                              weir_error_t *error);
/* Forget the answers and release what they hold. */
void weir_ps_client_clear(const weir_ps_client_t *client, weir_ps_client_pull_t *pull);

/* ---- ps/client_cache.c ---- */

/* A copy on the wire: a record and its number of updates. */
size_t weir_ps_client_copy_bytes(const weir_ps_client_table_t *table);
/* Places for the copies of the pull's rows, as far as they get one. */
WEIR_MUST_USE weir_err_t weir_ps_client_pin_rows(weir_ps_client_t *client,
                                                 weir_ps_client_pull_t *pull,
                                                 const weir_ps_keys_t *keys, weir_error_t *error);
/* The bits behind the `keys` keys of a cached pull_req; its answer begins with twice as many. */
size_t weir_ps_client_held_bytes(size_t keys);
void weir_ps_client_write_held(const weir_ps_client_t *client, const weir_ps_client_pull_t *pull,
                               uint32_t server, size_t keys, uint64_t *held);
/* What is wrong with the answer to a cached pull_req, or NULL. */
const char *weir_ps_client_check_some(const weir_ps_client_t *client,
                                      const weir_ps_client_pull_t *pull, uint32_t server,
                                      const weir_frame_t *frame);
/* The rows of such an answer, sent or left out, to their places in `values` and in the cache. */
WEIR_MUST_USE weir_err_t weir_ps_client_place_some(weir_ps_client_t *client,
                                                   const weir_ps_client_pull_t *pull,
                                                   uint32_t server, const weir_frame_t *frame,
                                                   float *const *values, weir_error_t *error);
/* Apply the gradients of a pull to the copies of its rows, which lose their pins. */
void weir_ps_client_follow(weir_ps_client_t *client, const weir_ps_client_pull_t *pull,
                           const float *const *gradients);

#endif
