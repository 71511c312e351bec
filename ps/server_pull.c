/* Pulls: read, answered now, ahead of their turn in part, or kept. */
#include "ps/server_internal.h"

#include "common/assert.h"

#include <stdlib.h>
#include <string.h>

size_t weir_server_keys_of(const weir_server_t *server, const weir_server_pull_t *pull) {
    size_t count = 0;
    for (uint32_t k = 0; k < server->table_count; k++) {
        count += pull->counts[k];
    }
    return count;
}

static size_t counts_bytes(const weir_server_t *server) {
    return ((size_t)server->table_count * sizeof(uint32_t) + 7) / 8 * 8;
}

/* The keys of a request by table: lengths that agree, an answer under the cap, own slots only. */
static weir_err_t read_pull(const weir_server_t *server, const weir_frame_t *frame,
                            weir_server_pull_t *pull, weir_error_t *error) {
    const weir_frame_header_t *header = &frame->header;
    static const weir_key_t no_keys[1];
    uint64_t sum = 0, answer = (uint64_t)header->count / 8 + 8;
    *pull = (weir_server_pull_t){.frame = *frame, .keys = no_keys};
    if (header->flags != WEIR_PULL_PLAIN &&
        (header->flags != WEIR_PULL_CACHED || header->count == 0)) {
        return weir_server_refuse(header, error, "has flags that mean nothing");
    }
    if (header->count == 0) {
        return header->payload_size == 0
                   ? WEIR_OK
                   : weir_server_refuse(header, error, "has another length than its keys");
    }
    uint64_t keys_end = counts_bytes(server) + (uint64_t)header->count * sizeof(weir_key_t);
    bool cached = header->flags == WEIR_PULL_CACHED;
    if (header->payload_size != keys_end + (cached ? weir_server_held_bytes(header->count) : 0)) {
        return weir_server_refuse(header, error, "has another length than its keys");
    }
    for (uint32_t k = 0; k < server->table_count; k++) {
        uint32_t count;
        memcpy(&count, (const char *)frame->payload + k * sizeof count, sizeof count);
        pull->counts[k] = count;
        sum += count;
        answer += (uint64_t)count * weir_table_layout(server->tables[k])->value_bytes;
    }
    if (sum != header->count) {
        return weir_server_refuse(header, error, "are not as many as its tables' parts");
    }
    if (cached) {
        const char *bits = (const char *)frame->payload + keys_end;
        weir_err_t err = weir_server_read_copies(server, (const uint64_t *)(const void *)bits, pull,
                                                 &answer, error);
        if (err != WEIR_OK) {
            return err;
        }
    }
    if (answer > WEIR_FRAME_MAX_PAYLOAD) {
        return weir_server_refuse(header, error, "asks for more than fits into one frame");
    }
    pull->keys =
        (const weir_key_t *)(const void *)((const char *)frame->payload + counts_bytes(server));
    return weir_server_check_keys(server, header, pull->keys, header->count, error);
}

static bool grow(void **array, size_t count, size_t size) {
    void *grown = realloc(*array, count * size);
    if (grown == NULL) {
        return false;
    }
    *array = grown;
    return true;
}

/* More than twice `count`: not NULL for a pull without keys, and never full of places. */
static weir_err_t reserve_scratch(weir_server_t *server, size_t count, weir_error_t *error) {
    if (2 * count < server->capacity) {
        return WEIR_OK;
    }
    size_t capacity = 2 * count + count / 2 + 1;
    void *handles = server->handles, *some_handles = server->some_handles,
         *some_keys = server->some_keys;
    bool grown = grow(&handles, capacity, sizeof *server->handles) &&
                 grow(&some_handles, capacity, sizeof *server->some_handles) &&
                 grow(&some_keys, capacity, sizeof *server->some_keys);
    server->handles = handles;
    server->some_handles = some_handles;
    server->some_keys = some_keys;
    if (!grown) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a pull of %zu keys", count);
    }
    server->capacity = capacity;
    return WEIR_OK;
}

/* ---- answers ---- */

static bool is_set(const uint64_t *bits, size_t i) {
    return (bits[i / 64] >> i % 64 & 1) != 0;
}

/* Send rows of a pull, whose handles are in server->handles: all (`first` NULL), or those whose bit
 * in `first` is `wanted`. */
static weir_err_t send_rows(weir_server_t *server, const weir_server_pull_t *pull,
                            const uint64_t *first, bool wanted, weir_error_t *error) {
    const weir_frame_header_t *request = &pull->frame.header;
    size_t keys = weir_server_keys_of(server, pull), bitmap = 0, rows = 0, size = 0;
    for (size_t k = 0, i = 0; k < server->table_count; k++) {
        for (size_t end = i + pull->counts[k]; i < end; i++) {
            if (first == NULL || is_set(first, i) == wanted) {
                rows++;
                size += weir_table_layout(server->tables[k])->value_bytes;
            }
        }
    }
    if (first != NULL && wanted) {
        bitmap = (keys + 63) / 64 * sizeof *first;
    }
    uint16_t flags = first == NULL ? WEIR_PULL_WHOLE : wanted ? WEIR_PULL_FIRST : WEIR_PULL_REST;
    weir_frame_t reply = {.header = {.type = WEIR_FRAME_PULL_REP,
                                     .flags = flags,
                                     .step = request->step,
                                     .sequence = request->sequence,
                                     .count = (uint32_t)rows,
                                     .payload_size = bitmap + size}};
    reply.payload = bitmap + size == 0 ? NULL : weir_buffer_acquire(bitmap + size);
    if (bitmap + size != 0 && reply.payload == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a reply of %zu bytes",
                           bitmap + size);
    }
    char *to = reply.payload;
    if (bitmap != 0) {
        memcpy(to, first, bitmap);
        to += bitmap;
    }
    for (size_t k = 0, i = 0; k < server->table_count; k++) {
        size_t some = 0;
        for (size_t end = i + pull->counts[k]; i < end; i++) {
            if (first == NULL || is_set(first, i) == wanted) {
                server->some_keys[some] = pull->keys[i];
                server->some_handles[some++] = server->handles[i];
            }
        }
        if (some > 0) {
            weir_table_gather(server->tables[k], server->some_keys, server->some_handles, some,
                              request->step, to);
            to += some * weir_table_layout(server->tables[k])->value_bytes;
        }
    }
    return server->options.send(server->options.argument, request->source, reply, error);
}

static weir_err_t reserve_part(weir_server_step_t *step, weir_server_part_t *part,
                               const weir_server_t *server, const weir_server_pull_t *pull,
                               weir_error_t *error) {
    size_t count = weir_server_keys_of(server, pull);
    bool enough = true;
    if (count >= part->capacity) { /* one more: not NULL for a pull without keys */
        size_t capacity = count + count / 2 + 1;
        void *numbers = part->numbers;
        enough = grow(&numbers, capacity, sizeof *part->numbers);
        part->numbers = numbers;
        part->capacity = enough ? capacity : part->capacity;
    }
    for (uint32_t k = 0; k < server->table_count && enough; k++) {
        enough = weir_step_rows_reserve(&step->rows[k], pull->counts[k]);
    }
    return enough
               ? WEIR_OK
               : weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a pull of %zu keys", count);
}

/* Whether a key without a row stands there twice (those with one show in the step's rows). */
static bool names_dropped_twice(weir_server_t *server, const weir_key_t *keys,
                                const weir_row_handle_t *handles, size_t count) {
    size_t dropped = 0;
    for (size_t i = 0; i < count; i++) {
        dropped += handles[i] == WEIR_ROW_NONE;
    }
    uint32_t *places = server->some_handles; /* of keys, by hash; open addressing */
    size_t size = 2 * dropped + 1;
    WEIR_ASSERT(size <= server->capacity && count < UINT32_MAX);
    memset(places, 0xFF, dropped == 0 ? 0 : size * sizeof *places);
    for (size_t i = 0; i < count && dropped > 0; i++) {
        if (handles[i] != WEIR_ROW_NONE) {
            continue;
        }
        size_t place = (size_t)((weir_hash64(keys[i]) & UINT32_MAX) * size >> 32);
        for (; places[place] != UINT32_MAX; place = place + 1 == size ? 0 : place + 1) {
            if (keys[places[place]] == keys[i]) {
                return true;
            }
        }
        places[place] = (uint32_t)i;
    }
    return false;
}

/* Find the rows of a pull whose turn has come, give birth, and remember where they lie. */
static weir_err_t name_rows(weir_server_t *server, weir_server_step_t *step,
                            weir_server_part_t *part, uint32_t w, const weir_server_pull_t *pull,
                            weir_error_t *error) {
    size_t begin = 0;
    for (uint32_t k = 0; k < server->table_count; k++) {
        size_t count = pull->counts[k];
        const weir_key_t *keys = pull->keys + begin;
        weir_row_handle_t *handles = server->handles + begin;
        if (count == 0) {
            part->counts[k] = 0;
            continue;
        }
        weir_err_t err = weir_table_pull(server->tables[k], keys, count, pull->frame.header.step,
                                         handles, NULL, error);
        if (err != WEIR_OK) {
            return err;
        }
        if (weir_step_rows_name(&step->rows[k], keys, handles, count, w, part->numbers + begin) !=
                count ||
            names_dropped_twice(server, keys, handles, count)) {
            return weir_server_refuse(&pull->frame.header, error, "names a key twice");
        }
        part->counts[k] = count;
        begin += count;
    }
    return WEIR_OK;
}

/* The pull's turn has come. `first`: the rows that were sent ahead, or NULL. */
static weir_err_t answer_pull(weir_server_t *server, weir_server_group_t *group, uint32_t w,
                              const weir_server_pull_t *pull, bool answered, const uint64_t *first,
                              weir_error_t *error) {
    uint64_t number = pull->frame.header.step, behind = number - group->step - 1;
    weir_server_step_t *step = weir_server_step_of(server, group, number);
    weir_server_part_t *part = &step->parts[w - group->first];
    weir_err_t err = reserve_scratch(server, weir_server_keys_of(server, pull), error);
    if (err == WEIR_OK) {
        err = reserve_part(step, part, server, pull, error);
    }
    if (err == WEIR_OK) {
        err = name_rows(server, step, part, w, pull, error);
    }
    if (err == WEIR_OK && !answered) {
        err = pull->held == NULL ? send_rows(server, pull, first, false, error)
                                 : weir_server_send_some(server, step, part, w, pull, error);
    }
    if (err != WEIR_OK) {
        return err;
    }
    part->pulled = true;
    step->pulled++;
    server->counters.keys_pulled += weir_server_keys_of(server, pull);
    server->counters.pulls++;
    server->counters.staleness_sum += behind;
    if (behind > server->counters.staleness_max) {
        server->counters.staleness_max = behind;
    }
    return WEIR_OK;
}

/* The rows of a waiting pull that no gradient of the step under way is for: their values after that
 * step are known now. */
static weir_err_t try_early(weir_server_t *server, weir_server_group_t *group, uint32_t w,
                            weir_error_t *error) {
    weir_server_worker_t *worker = &server->workers[w];
    const weir_server_pull_t *pull = &worker->waiting[worker->waiting_first];
    const weir_server_step_t *current = weir_server_step_of(server, group, group->step + 1);
    size_t keys = weir_server_keys_of(server, pull), settled = 0;
    if (worker->answered_whole || worker->first != NULL || pull->held != NULL) {
        return WEIR_OK;
    }
    uint64_t *bits = calloc(keys / 64 + 1, sizeof *bits);
    weir_err_t err = reserve_scratch(server, keys, error);
    if (err == WEIR_OK && bits == NULL) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a pull of %zu keys", keys);
    }
    for (size_t k = 0, i = 0; k < server->table_count && err == WEIR_OK; k++) {
        weir_table_t *table = server->tables[k];
        size_t end = i + pull->counts[k];
        /* Nothing can be done before the step's pushes come: time to wait for the disk. */
        bool late = weir_table_ends_late(table);
        if (late) {
            err = weir_table_take_in(table, pull->keys + i, end - i, pull->frame.header.step,
                                     server->handles + i, error);
        } else {
            weir_table_find(table, pull->keys + i, end - i, server->handles + i);
        }
        for (; i < end && err == WEIR_OK; i++) {
            weir_row_handle_t handle = server->handles[i];
            bool changes = handle != WEIR_ROW_NONE && weir_step_rows_has(&current->rows[k], handle);
            if (!changes && (late || weir_table_is_settled(table, pull->keys[i], handle))) {
                bits[i / 64] |= (uint64_t)1 << i % 64;
                settled++;
            }
        }
    }
    if (err == WEIR_OK && settled == keys) {
        worker->answered_whole = true;
        err = send_rows(server, pull, NULL, true, error);
    } else if (err == WEIR_OK && settled > 0) {
        worker->first = bits;
        err = send_rows(server, pull, bits, true, error);
        bits = NULL;
    }
    server->counters.rows_early += err == WEIR_OK ? settled : 0;
    free(bits);
    return err;
}

weir_err_t weir_server_try_early(weir_server_t *server, weir_server_group_t *group,
                                 weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    if (server->window != 1 ||
        weir_server_step_of(server, group, group->step + 1)->pulled != group->workers) {
        return WEIR_OK;
    }
    for (uint32_t w = group->first; w < group->first + group->workers && err == WEIR_OK; w++) {
        if (server->workers[w].waiting_count > 0) {
            err = try_early(server, group, w, error);
        }
    }
    return err;
}

weir_err_t weir_server_answer_waiting(weir_server_t *server, weir_server_group_t *group,
                                      weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    for (uint32_t w = group->first; w < group->first + group->workers && err == WEIR_OK; w++) {
        weir_server_worker_t *worker = &server->workers[w];
        weir_server_pull_t *waiting = &worker->waiting[worker->waiting_first];
        if (worker->waiting_count == 0 ||
            waiting->frame.header.step > group->step + server->window) {
            continue;
        }
        weir_server_pull_t pull = *waiting;
        uint64_t *first = worker->first;
        bool answered = worker->answered_whole;
        worker->waiting_first = (worker->waiting_first + 1) % WEIR_SERVER_MAX_WAITING;
        worker->waiting_count--;
        worker->answered_whole = false;
        worker->first = NULL;
        waiting->frame.payload = NULL;
        err = answer_pull(server, group, w, &pull, answered, first, error);
        weir_buffer_release(pull.frame.payload);
        free(first);
    }
    return err;
}

static weir_err_t prefetch(weir_server_t *server, const weir_server_pull_t *pull,
                           weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    for (size_t k = 0, i = 0; k < server->table_count && err == WEIR_OK; k++) {
        err = weir_table_prefetch(server->tables[k], pull->keys + i, pull->counts[k],
                                  pull->frame.header.step, error);
        i += pull->counts[k];
    }
    return err;
}

static weir_err_t refuse_turn(const weir_server_t *server, const weir_server_group_t *group,
                              const weir_server_worker_t *worker, const weir_frame_header_t *header,
                              weir_error_t *error) {
    (void)weir_server_refuse(header, error, "is not the step's turn");
    weir_error_hint(error,
                    "server %u of %u has applied step %llu; rank %u has pulled step %llu and "
                    "pushed step %llu",
                    server->options.index, server->options.ps, (unsigned long long)group->step,
                    header->source, (unsigned long long)worker->pulled_step,
                    (unsigned long long)worker->pushed_step);
    return WEIR_ERR_PEER;
}

weir_err_t weir_server_on_pull(weir_server_t *server, uint32_t w, weir_frame_t *frame,
                               weir_error_t *error) {
    weir_server_worker_t *worker = &server->workers[w];
    weir_server_group_t *group = weir_server_group_of(server, w);
    uint64_t number = frame->header.step;
    weir_server_pull_t pull;
    weir_err_t err = read_pull(server, frame, &pull, error);
    if (err != WEIR_OK) {
        return err;
    }
    if (number != worker->pulled_step + 1 || worker->cuts ||
        worker->waiting_count == WEIR_SERVER_MAX_WAITING) {
        return refuse_turn(server, group, worker, &frame->header, error);
    }
    worker->pulled_step = number;
    if (number <= group->step + server->window) {
        err = answer_pull(server, group, w, &pull, false, NULL, error);
        return err == WEIR_OK ? weir_server_try_early(server, group, error) : err;
    }
    worker->waiting[(worker->waiting_first + worker->waiting_count++) % WEIR_SERVER_MAX_WAITING] =
        pull;
    frame->payload = NULL;
    err = prefetch(server, &pull, error);
    return err == WEIR_OK ? weir_server_try_early(server, group, error) : err;
}
