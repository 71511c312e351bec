/* What the files of ps/server*.c share. */
#ifndef WEIR_PS_SERVER_INTERNAL_H
#define WEIR_PS_SERVER_INTERNAL_H

#include "ps/model_tables.h"
#include "ps/server.h"
#include "ps/step_rows.h"

/* Flags of a pull_rep. */
enum { WEIR_PULL_WHOLE = 0, WEIR_PULL_FIRST = 1, WEIR_PULL_REST = 2, WEIR_PULL_SOME = 4 };

/* Flags of a pull_req. */
enum { WEIR_PULL_PLAIN = 0, WEIR_PULL_CACHED = 1 };

/* A worker's part of one step. */
typedef struct {
    bool pulled, pushed;
    size_t counts[WEIR_MODEL_MAX_TABLES]; /* rows of its pull */
    uint32_t *numbers; /* owned: the rows of its pull, as numbers in the step's rows, table after
                          table in the pull's order */
    size_t capacity;
    void *gradients; /* payload of its push until it has been added up; owned */
} weir_server_part_t;

/* A step under way: pulled by some, not applied. */
typedef struct {
    weir_step_rows_t rows[WEIR_MODEL_MAX_TABLES];
    weir_server_part_t *parts; /* by worker of the group */
    uint32_t pulled;           /* parts that have pulled */
    uint32_t added;            /* parts whose pushes are in the sums, in worker order */
} weir_server_step_t;

/* A request, its keys by table. */
typedef struct {
    weir_frame_t frame; /* payload owned while it waits */
    size_t counts[WEIR_MODEL_MAX_TABLES];
    const weir_key_t *keys; /* in the payload, table after table */
    const uint64_t *held;   /* cached, in the payload: a bit for each key that its worker has had a
                               place for since its last pull of it; else NULL */
} weir_server_pull_t;

typedef struct {
    uint64_t pulled_step, pushed_step; /* the last ones asked for and pushed */
    /* Its pulls that wait for their turns, a ring: step after step. */
    weir_server_pull_t waiting[WEIR_SERVER_MAX_WAITING];
    uint32_t waiting_first, waiting_count;
    bool answered_whole; /* of the first that waits: all rows have been sent */
    uint64_t *first;   /* of the first that waits: a bit for each row that has been sent, or NULL */
    weir_frame_t push; /* its push of the first that waits, all of whose rows it has; owned */
    bool has_push;
    weir_frame_t peek; /* its peek that waits for its step; payload owned */
    bool has_peek;
    bool cuts; /* it waits for the cut after the step that it pushed last */
} weir_server_worker_t;

/* Workers whose pushes are summed: all of them, or in asp each by itself. */
typedef struct {
    uint32_t first, workers;   /* of the server's workers */
    uint64_t step;             /* applied */
    weir_server_step_t *steps; /* window of them: step t at t % window */
} weir_server_group_t;

struct weir_server {
    weir_server_options_t options;
    weir_table_t *tables[WEIR_MODEL_MAX_TABLES]; /* not owned */
    uint32_t table_count;
    weir_slot_t first_slot, end_slot; /* owned: [first, end) */
    uint32_t window;                  /* steps that may be under way in a group */
    weir_server_worker_t *workers;    /* options.workers of them */
    weir_server_group_t *groups;
    uint32_t group_count;
    uint64_t ended_step; /* the largest that ended on the tables */
    /* Scratch of one pull. */
    weir_row_handle_t *handles;
    weir_row_handle_t *some_handles; /* of the rows that are sent */
    weir_key_t *some_keys;
    size_t capacity;
    bool failed;
    weir_server_counters_t counters;
};

/* An error of the peer that sent `header`. */
weir_err_t weir_server_refuse(const weir_frame_header_t *header, weir_error_t *error,
                              const char *reason);

weir_server_group_t *weir_server_group_of(weir_server_t *server, uint32_t worker);

static inline weir_server_step_t *weir_server_step_of(weir_server_t *server,
                                                      weir_server_group_t *group, uint64_t step) {
    return &group->steps[step % server->window];
}

/* ---- ps/server_pull.c ---- */

/* Keys of all tables. */
size_t weir_server_keys_of(const weir_server_t *server, const weir_server_pull_t *pull);
WEIR_MUST_USE weir_err_t weir_server_on_pull(weir_server_t *server, uint32_t w, weir_frame_t *frame,
                                             weir_error_t *error);
/* Answer the pulls that waited for the step just applied. */
WEIR_MUST_USE weir_err_t weir_server_answer_waiting(weir_server_t *server,
                                                    weir_server_group_t *group,
                                                    weir_error_t *error);
/* Rows of waiting pulls whose values are known before their turn, once nobody has still to pull the
 * step under way (bsp). */
WEIR_MUST_USE weir_err_t weir_server_try_early(weir_server_t *server, weir_server_group_t *group,
                                               weir_error_t *error);
/* Keys of own slots only. */
WEIR_MUST_USE weir_err_t weir_server_check_keys(const weir_server_t *server,
                                                const weir_frame_header_t *header,
                                                const weir_key_t *keys, size_t count,
                                                weir_error_t *error);

/* ---- ps/server_cut.c ---- */

WEIR_MUST_USE weir_err_t weir_server_on_cut(weir_server_t *server, uint32_t w,
                                            const weir_frame_t *frame, weir_error_t *error);

/* ---- ps/server_copy.c ---- */

/* Bytes of the bits behind the keys of a cached pull; its answer has twice as many. */
size_t weir_server_held_bytes(size_t keys);
/* Check these bits, which are at `bits`, and note them; *answer: the most bytes that the answer may
 * have. */
WEIR_MUST_USE weir_err_t weir_server_read_copies(const weir_server_t *server, const uint64_t *bits,
                                                 weir_server_pull_t *pull, uint64_t *answer,
                                                 weir_error_t *error);
/* Answer a cached pull of worker `w` whose turn has come; the handles of its rows are in
 * server->handles, their numbers in `part`. */
WEIR_MUST_USE weir_err_t weir_server_send_some(weir_server_t *server, weir_server_step_t *step,
                                               const weir_server_part_t *part, uint32_t w,
                                               const weir_server_pull_t *pull, weir_error_t *error);

#endif
