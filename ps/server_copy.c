/* Answers to workers that keep copies of rows.
 *
 * A worker that is alone in updating a row can follow it: it has the gradient, the arithmetic is
 * the same, so its copy goes on being the row, bit for bit, until somebody else updates it too. The
 * server knows when that holds (weir_row_owner_t): the row's last update was this worker's alone,
 * and its pull of that step was answered with a copy, or left out because it had one that was
 * right. The row is then left out again, if the worker has had a place for it all the time (held).
 * Where the chain is broken, a copy begins a new one if the worker has held the place and the row
 * has been its own for so long that the copy would have paid already; else the value goes, as to
 * anybody. */
#include "ps/server_internal.h"

#include <stdlib.h>
#include <string.h>

static size_t words_of(size_t keys) {
    return (keys + 63) / 64;
}

static bool is_set(const uint64_t *bits, size_t i) {
    return (bits[i / 64] >> i % 64 & 1) != 0;
}

static void set(uint64_t *bits, size_t i) {
    bits[i / 64] |= (uint64_t)1 << i % 64;
}

size_t weir_server_held_bytes(size_t keys) {
    return words_of(keys) * sizeof(uint64_t);
}

weir_err_t weir_server_read_copies(const weir_server_t *server, const uint64_t *bits,
                                   weir_server_pull_t *pull, uint64_t *answer,
                                   weir_error_t *error) {
    const weir_frame_header_t *header = &pull->frame.header;
    size_t keys = header->count, words = words_of(keys);
    if (server->options.consistency != WEIR_CONSISTENCY_BSP) {
        return weir_server_refuse(header, error, "may not be kept: the job is not bsp");
    }
    if (keys % 64 != 0 && bits[words - 1] >> keys % 64 != 0) {
        return weir_server_refuse(header, error, "are fewer than its bits");
    }
    *answer = 2 * weir_server_held_bytes(keys);
    for (uint32_t k = 0; k < server->table_count; k++) {
        *answer += (uint64_t)pull->counts[k] * weir_table_copy_bytes(server->tables[k]);
    }
    pull->held = bits;
    return WEIR_OK;
}

/* Updates that a copy would have saved, after which it pays. */
static uint32_t long_run(const weir_table_t *table) {
    size_t value = weir_table_layout(table)->value_bytes;
    size_t run = (weir_table_copy_bytes(table) - value) / value;
    return run < 1 ? 1 : run > UINT8_MAX ? UINT8_MAX : (uint32_t)run;
}

/* What an answer has of a pull's rows. */
typedef struct {
    uint64_t *sent;   /* bits: in the answer */
    uint64_t *copies; /* bits: of these, as copies */
    size_t values_of[WEIR_MODEL_MAX_TABLES], copies_of[WEIR_MODEL_MAX_TABLES];
    size_t rows, bytes; /* in the answer */
} choice_t;

static void choose(weir_server_t *server, weir_server_step_t *step, const weir_server_part_t *part,
                   uint32_t w, const weir_server_pull_t *pull, choice_t *choice) {
    for (size_t k = 0, i = 0; k < server->table_count; k++) {
        const weir_table_t *table = server->tables[k];
        uint32_t run = long_run(table);
        for (size_t end = i + pull->counts[k]; i < end; i++) {
            weir_row_owner_t owner = weir_table_owner(table, server->handles[i]);
            bool own = owner.worker == w + 1, held = is_set(pull->held, i);
            bool left_out = own && held && owner.copied != 0;
            bool copy = own && held && !left_out && owner.run + 1u >= run;
            if (held && part->numbers[i] != WEIR_STEP_ROWS_DROPPED) {
                weir_step_rows_set_kept(&step->rows[k], part->numbers[i],
                                        left_out || copy ? WEIR_ROW_COPIED : WEIR_ROW_HELD);
            }
            if (left_out) {
                continue;
            }
            set(choice->sent, i);
            if (copy) {
                set(choice->copies, i);
                choice->copies_of[k]++;
            } else {
                choice->values_of[k]++;
            }
        }
        choice->rows += choice->values_of[k] + choice->copies_of[k];
        choice->bytes += choice->values_of[k] * weir_table_layout(table)->value_bytes +
                         choice->copies_of[k] * weir_table_copy_bytes(table);
    }
}

/* Of each table first the values, then the copies. */
static void write_rows(weir_server_t *server, const weir_server_pull_t *pull,
                       const choice_t *choice, char *to) {
    for (size_t k = 0, i = 0; k < server->table_count; k++) {
        const weir_table_t *table = server->tables[k];
        size_t values = 0, copies = 0, begin = i;
        for (size_t end = i + pull->counts[k]; i < end; i++) {
            if (is_set(choice->sent, i) && !is_set(choice->copies, i)) {
                server->some_keys[values] = pull->keys[i];
                server->some_handles[values++] = server->handles[i];
            }
        }
        weir_table_gather(table, server->some_keys, server->some_handles, values,
                          pull->frame.header.step, to);
        to += values * weir_table_layout(table)->value_bytes;
        for (i = begin; i < begin + pull->counts[k]; i++) {
            if (is_set(choice->copies, i)) {
                server->some_handles[copies++] = server->handles[i];
            }
        }
        weir_table_copy(table, server->some_handles, copies, to);
        to += copies * weir_table_copy_bytes(table);
        server->counters.rows_copied += copies;
    }
}

weir_err_t weir_server_send_some(weir_server_t *server, weir_server_step_t *step,
                                 const weir_server_part_t *part, uint32_t w,
                                 const weir_server_pull_t *pull, weir_error_t *error) {
    const weir_frame_header_t *request = &pull->frame.header;
    size_t keys = request->count, words = words_of(keys);
    uint64_t *bits = calloc(2 * words, sizeof *bits);
    if (bits == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a pull of %zu keys", keys);
    }
    choice_t choice = {.sent = bits, .copies = bits + words};
    choose(server, step, part, w, pull, &choice);
    size_t bits_bytes = 2 * weir_server_held_bytes(keys), size = bits_bytes + choice.bytes;
    weir_frame_t reply = {.header = {.type = WEIR_FRAME_PULL_REP,
                                     .flags = WEIR_PULL_SOME,
                                     .step = request->step,
                                     .sequence = request->sequence,
                                     .count = (uint32_t)choice.rows,
                                     .payload_size = size},
                          .payload = weir_buffer_acquire(size)};
    if (reply.payload == NULL) {
        free(bits);
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a reply of %zu bytes", size);
    }
    memcpy(reply.payload, bits, bits_bytes);
    write_rows(server, pull, &choice, (char *)reply.payload + bits_bytes);
    free(bits);
    server->counters.rows_left_out += keys - choice.rows;
    return server->options.send(server->options.argument, request->source, reply, error);
}
