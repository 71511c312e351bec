/* Copies of rows that the client keeps, if it was asked to: pinned when a pull begins, read or
 * replaced when it is finished, followed by its own gradients when it is pushed. Which of them are
 * right, the servers say (ps/server_copy.c). */
#include "ps/client_internal.h"

#include <stdlib.h>
#include <string.h>

enum { FRESH = 1u << 30 }; /* beside a place: the pull was the first to have it */

static bool bit_at(const uint64_t *words, size_t i) {
    return (words[i / 64] >> (i % 64) & 1) != 0;
}

static size_t words_of(size_t bits) {
    return (bits + 63) / 64;
}

size_t weir_ps_client_copy_bytes(const weir_ps_client_table_t *table) {
    return table->layout.record_bytes + sizeof(uint64_t);
}

/* ---- a pull begins ---- */

static weir_err_t reserve(weir_ps_client_pull_t *pull, uint32_t k, size_t count,
                          weir_error_t *error) {
    if (count <= pull->capacities[k]) {
        return WEIR_OK;
    }
    size_t capacity = count + count / 2;
    weir_row_place_t *places = realloc(pull->places[k], capacity * sizeof *places);
    if (places == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a pull of %zu keys", count);
    }
    pull->places[k] = places;
    pull->capacities[k] = capacity;
    return WEIR_OK;
}

weir_err_t weir_ps_client_pin_rows(weir_ps_client_t *client, weir_ps_client_pull_t *pull,
                                   const weir_ps_keys_t *keys, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    for (uint32_t k = 0; k < client->table_count && err == WEIR_OK; k++) {
        err = client->tables[k].cache == NULL ? WEIR_OK : reserve(pull, k, keys[k].count, error);
    }
    for (uint32_t k = 0; k < client->table_count && err == WEIR_OK; k++) {
        weir_row_cache_t *cache = client->tables[k].cache;
        for (size_t i = 0; cache != NULL && i < keys[k].count; i++) {
            bool fresh;
            weir_row_place_t place = weir_row_cache_pin(cache, keys[k].keys[i], &fresh);
            pull->places[k][i] = fresh ? place | FRESH : place;
        }
    }
    return err;
}

static bool is_held(weir_row_place_t place) {
    return place != WEIR_ROW_CACHE_NONE && (place & FRESH) == 0;
}

/* The place of a key of the pull: with FRESH, or WEIR_ROW_CACHE_NONE. */
static weir_row_place_t place_of(const weir_ps_client_pull_t *pull, uint32_t k, size_t position) {
    return pull->places[k] == NULL ? WEIR_ROW_CACHE_NONE : pull->places[k][position];
}

size_t weir_ps_client_held_bytes(size_t keys) {
    return words_of(keys) * sizeof(uint64_t);
}

void weir_ps_client_write_held(const weir_ps_client_t *client, const weir_ps_client_pull_t *pull,
                               uint32_t server, size_t keys, uint64_t *held) {
    size_t bit = 0;
    memset(held, 0, weir_ps_client_held_bytes(keys));
    for (uint32_t k = 0; k < client->table_count; k++) {
        const uint32_t *positions = weir_split_part(&pull->splits[k], server);
        size_t count = weir_split_count(&pull->splits[k], server);
        for (size_t i = 0; i < count; i++, bit++) {
            if (is_held(place_of(pull, k, positions[i]))) {
                held[bit / 64] |= (uint64_t)1 << bit % 64;
            }
        }
    }
}

/* ---- an answer ---- */

/* The rows of one table in an answer. */
typedef struct {
    const weir_ps_client_table_t *table;
    const weir_row_place_t *places; /* by position; NULL: none has one */
    const uint32_t *positions;      /* count of them: what the server owns */
    size_t count;
    const uint64_t *sent, *copies;
    size_t bit; /* of the first, in both */
} rows_t;

static rows_t rows_of(const weir_ps_client_t *client, const weir_ps_client_pull_t *pull,
                      uint32_t server, uint32_t k, const uint64_t *bits) {
    size_t keys, before = 0;
    (void)weir_ps_client_rows(client, pull, server, &keys);
    for (uint32_t j = 0; j < k; j++) {
        before += weir_split_count(&pull->splits[j], server);
    }
    return (rows_t){.table = &client->tables[k],
                    .places = pull->places[k],
                    .positions = weir_split_part(&pull->splits[k], server),
                    .count = weir_split_count(&pull->splits[k], server),
                    .sent = bits,
                    .copies = bits + words_of(keys),
                    .bit = before};
}

static bool is_sent(const rows_t *rows, size_t i) {
    return bit_at(rows->sent, rows->bit + i);
}

static bool is_copy(const rows_t *rows, size_t i) {
    return bit_at(rows->copies, rows->bit + i);
}

static weir_row_place_t place_of_row(const rows_t *rows, size_t i) {
    return rows->places == NULL ? WEIR_ROW_CACHE_NONE : rows->places[rows->positions[i]];
}

/* Add up the rows that are sent; what is wrong with them, or NULL. */
static const char *measure(const rows_t *rows, size_t *count, size_t *bytes) {
    for (size_t i = 0; i < rows->count; i++) {
        weir_row_place_t place = place_of_row(rows, i);
        bool copy = is_copy(rows, i);
        if (copy && !(is_held(place) && is_sent(rows, i))) {
            return "a copy of a row that was not held";
        }
        if (is_sent(rows, i)) {
            (*count)++;
            *bytes +=
                copy ? weir_ps_client_copy_bytes(rows->table) : rows->table->layout.value_bytes;
        } else if (!is_held(place)) {
            return "a row is left out that was not held";
        }
    }
    return NULL;
}

const char *weir_ps_client_check_some(const weir_ps_client_t *client,
                                      const weir_ps_client_pull_t *pull, uint32_t server,
                                      const weir_frame_t *frame) {
    size_t keys, count = 0, bytes = 0;
    (void)weir_ps_client_rows(client, pull, server, &keys);
    size_t words = words_of(keys), bits_bytes = 2 * weir_ps_client_held_bytes(keys);
    if (frame->header.payload_size < bits_bytes) {
        return "it ends before its bits do";
    }
    const uint64_t *bits = frame->payload;
    if (keys % 64 != 0 && (bits[words - 1] | bits[2 * words - 1]) >> keys % 64 != 0) {
        return "bits are set beyond the last key";
    }
    for (uint32_t k = 0; k < client->table_count; k++) {
        rows_t rows = rows_of(client, pull, server, k, bits);
        const char *wrong = measure(&rows, &count, &bytes);
        if (wrong != NULL) {
            return wrong;
        }
    }
    if (count != frame->header.count) {
        return "its bits name another number of rows";
    }
    return frame->header.payload_size == bits_bytes + bytes ? NULL
                                                            : "its length does not fit its rows";
}

static void keep_copy(const weir_ps_client_table_t *table, weir_row_place_t place,
                      const char *copy) {
    uint64_t updates;
    memcpy(&updates, copy + table->layout.record_bytes, sizeof updates);
    weir_row_cache_store(table->cache, place, copy, updates);
}

/* Place the rows of a table, first its values and then its copies from `next` on; returns their
 * end. *left_out: rows that are not in the answer; *lost: of these, without a copy here. */
static const char *place_rows(const rows_t *rows, const char *next, float *values, uint64_t *copied,
                              uint64_t *left_out, uint64_t *lost) {
    const weir_ps_client_table_t *table = rows->table;
    const char *copy = next;
    for (size_t i = 0; i < rows->count; i++) {
        copy += is_sent(rows, i) && !is_copy(rows, i) ? table->layout.value_bytes : 0;
    }
    for (size_t i = 0; i < rows->count; i++) {
        weir_row_place_t place = place_of_row(rows, i);
        bool has_place = place != WEIR_ROW_CACHE_NONE;
        const char *row = next;
        place &= ~(weir_row_place_t)FRESH;
        if (!is_sent(rows, i)) {
            row = weir_row_cache_read(table->cache, place);
            (*left_out)++;
        } else if (is_copy(rows, i)) {
            row = copy;
            keep_copy(table, place, copy);
            copy += weir_ps_client_copy_bytes(table);
            (*copied)++;
        } else {
            next += table->layout.value_bytes;
            if (has_place) {
                weir_row_cache_forget(table->cache, place);
            }
        }
        if (row == NULL) {
            (*lost)++;
        } else {
            weir_ps_client_decode(table, row, values, rows->positions[i]);
        }
    }
    return copy;
}

weir_err_t weir_ps_client_place_some(weir_ps_client_t *client, const weir_ps_client_pull_t *pull,
                                     uint32_t server, const weir_frame_t *frame,
                                     float *const *values, weir_error_t *error) {
    size_t keys, whole = weir_ps_client_rows(client, pull, server, &keys);
    const char *next = (const char *)frame->payload + 2 * weir_ps_client_held_bytes(keys);
    uint64_t lost = 0;
    for (uint32_t k = 0; k < client->table_count; k++) {
        rows_t rows = rows_of(client, pull, server, k, frame->payload);
        next = place_rows(&rows, next, values[k], &client->counters.rows_copied,
                          &client->counters.rows_left_out, &lost);
    }
    client->counters.bytes_saved += (int64_t)whole - (int64_t)frame->header.payload_size;
    if (lost > 0) {
        return weir_errorf(error, WEIR_ERR_PEER,
                           "rank %u left %llu rows out of its answer to the pull of step %llu "
                           "that this worker does not have",
                           frame->header.source, (unsigned long long)lost,
                           (unsigned long long)frame->header.step);
    }
    return WEIR_OK;
}

/* ---- a push ---- */

void weir_ps_client_follow(weir_ps_client_t *client, const weir_ps_client_pull_t *pull,
                           const float *const *gradients) {
    for (uint32_t k = 0; k < client->table_count; k++) {
        weir_row_cache_t *cache = client->tables[k].cache;
        size_t count = 0, dim = client->tables[k].layout.dim;
        for (uint32_t server = 0; server < client->options.ps; server++) {
            count += weir_split_count(&pull->splits[k], server);
        }
        if (cache != NULL) {
            weir_row_cache_begin_step(cache, pull->step);
        }
        for (size_t i = 0; cache != NULL && i < count; i++) {
            weir_row_place_t place = pull->places[k][i];
            if (place != WEIR_ROW_CACHE_NONE) {
                place &= ~(weir_row_place_t)FRESH;
                weir_row_cache_update(cache, place, gradients[k] + i * dim);
                weir_row_cache_unpin(cache, place);
            }
        }
    }
}
