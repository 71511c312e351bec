/* Answers to pulls: checked, kept until their pull's turn, and decoded to their places. */
#include "ps/client_internal.h"

#include <string.h>

size_t weir_ps_client_rows(const weir_ps_client_t *client, const weir_ps_client_pull_t *pull,
                           uint32_t server, size_t *count) {
    size_t bytes = 0;
    *count = 0;
    for (uint32_t k = 0; k < client->table_count; k++) {
        size_t rows = weir_split_count(&pull->splits[k], server);
        *count += rows;
        bytes += rows * client->tables[k].layout.value_bytes;
    }
    return bytes;
}

/* ---- bits: one for each key of a server's part of a pull, table after table ---- */

static size_t words_of(size_t bits) {
    return (bits + 63) / 64;
}

static bool bit_at(const uint64_t *words, size_t i) {
    return (words[i / 64] >> (i % 64) & 1) != 0;
}

/* Bits set in [begin, end). */
static size_t count_bits(const uint64_t *words, size_t begin, size_t end) {
    size_t count = 0;
    while (begin < end) {
        size_t next = (begin / 64 + 1) * 64 < end ? (begin / 64 + 1) * 64 : end;
        uint64_t word = words[begin / 64] >> (begin % 64);
        if (next - begin < 64) {
            word &= ((uint64_t)1 << (next - begin)) - 1;
        }
        count += (size_t)__builtin_popcountll(word);
        begin = next;
    }
    return count;
}

/* Bytes and number of the rows whose bits are set. */
static size_t measure_first(const weir_ps_client_t *client, const weir_ps_client_pull_t *pull,
                            uint32_t server, const uint64_t *words, size_t *count) {
    size_t begin = 0, bytes = 0;
    *count = 0;
    for (uint32_t k = 0; k < client->table_count; k++) {
        size_t end = begin + weir_split_count(&pull->splits[k], server);
        size_t rows = count_bits(words, begin, end);
        *count += rows;
        bytes += rows * client->tables[k].layout.value_bytes;
        begin = end;
    }
    return bytes;
}

/* ---- checks ---- */

static weir_err_t refuse(const weir_frame_header_t *header, weir_error_t *error,
                         const char *reason) {
    return weir_errorf(error, WEIR_ERR_PEER,
                       "rank %u answered the pull of step %llu with %u rows in %llu bytes: %s",
                       header->source, (unsigned long long)header->step, header->count,
                       (unsigned long long)header->payload_size, reason);
}

static weir_err_t check_first(const weir_ps_client_t *client, const weir_ps_client_pull_t *pull,
                              uint32_t server, const weir_frame_t *frame, weir_error_t *error) {
    const weir_frame_header_t *header = &frame->header;
    size_t keys, rows;
    (void)weir_ps_client_rows(client, pull, server, &keys);
    if (header->count == 0 || header->count >= keys) {
        return refuse(header, error, "a first part has some of the rows and not all");
    }
    size_t words = words_of(keys);
    if (header->payload_size < words * sizeof(uint64_t)) {
        return refuse(header, error, "it ends before its bits do");
    }
    size_t bytes = measure_first(client, pull, server, frame->payload, &rows);
    if (count_bits(frame->payload, keys, words * 64) != 0) {
        return refuse(header, error, "bits are set beyond the last key");
    }
    if (rows != header->count) {
        return refuse(header, error, "its bits name another number of rows");
    }
    if (header->payload_size != words * sizeof(uint64_t) + bytes) {
        return refuse(header, error, "its length does not fit its rows");
    }
    return WEIR_OK;
}

/* A whole answer, or the rest after a first part. */
static weir_err_t check_last(const weir_ps_client_t *client, const weir_ps_client_pull_t *pull,
                             uint32_t server, const weir_frame_t *frame, weir_error_t *error) {
    const weir_ps_client_answer_t *answer = &pull->answers[server];
    size_t keys, bytes = weir_ps_client_rows(client, pull, server, &keys);
    if (answer->has_first) {
        size_t rows;
        bytes -= measure_first(client, pull, server, answer->first.payload, &rows);
        keys -= rows;
    }
    if (frame->header.count != keys) {
        return refuse(&frame->header, error, "another number was asked for");
    }
    if (frame->header.payload_size != bytes) {
        return refuse(&frame->header, error, "its length does not fit its rows");
    }
    return WEIR_OK;
}

static weir_err_t check_answer(const weir_ps_client_t *client, const weir_ps_client_pull_t *pull,
                               uint32_t server, const weir_frame_t *frame, weir_error_t *error) {
    const weir_ps_client_answer_t *answer = &pull->answers[server];
    if (answer->done) {
        return refuse(&frame->header, error, "it has been answered before");
    }
    if (frame->header.sequence != 0) {
        return refuse(&frame->header, error, "its sequence is not 0");
    }
    size_t keys;
    (void)weir_ps_client_rows(client, pull, server, &keys);
    if (client->cached && keys > 0) {
        const char *wrong = frame->header.flags == WEIR_PULL_REP_SOME
                                ? weir_ps_client_check_some(client, pull, server, frame)
                                : "a pull of copies is answered otherwise";
        return wrong == NULL ? WEIR_OK : refuse(&frame->header, error, wrong);
    }
    switch (frame->header.flags) {
    case WEIR_PULL_REP_WHOLE:
        return answer->has_first
                   ? refuse(&frame->header, error, "after a first part comes the rest")
                   : check_last(client, pull, server, frame, error);
    case WEIR_PULL_REP_FIRST:
        return answer->has_first ? refuse(&frame->header, error, "a second first part")
                                 : check_first(client, pull, server, frame, error);
    case WEIR_PULL_REP_REST:
        return answer->has_first ? check_last(client, pull, server, frame, error)
                                 : refuse(&frame->header, error, "a rest without a first part");
    default:
        return refuse(&frame->header, error, "its flags mean nothing");
    }
}

/* The number of the pull of `step`, of those that are not finished; there is one at least. */
static weir_err_t find_pull(weir_ps_client_t *client, const weir_frame_header_t *header,
                            uint64_t *number, weir_error_t *error) {
    uint64_t oldest = weir_ps_client_pull_of(client, client->finished)->step;
    if (header->step < oldest || header->step > client->last_step) {
        return weir_errorf(error, WEIR_ERR_PEER,
                           "rank %u answered a pull of step %llu, where answers are awaited to "
                           "those of %llu to %llu",
                           header->source, (unsigned long long)header->step,
                           (unsigned long long)oldest, (unsigned long long)client->last_step);
    }
    *number = client->finished + (header->step - oldest);
    return WEIR_OK;
}

weir_err_t weir_ps_client_accept(weir_ps_client_t *client, uint32_t server,
                                 const weir_frame_t *frame, uint64_t *number, weir_error_t *error) {
    weir_err_t err = find_pull(client, &frame->header, number, error);
    weir_ps_client_pull_t *pull = err == WEIR_OK ? weir_ps_client_pull_of(client, *number) : NULL;
    if (err == WEIR_OK) {
        err = check_answer(client, pull, server, frame, error);
    }
    if (err != WEIR_OK) {
        weir_buffer_release(frame->payload);
        return err;
    }
    weir_ps_client_answer_t *answer = &pull->answers[server];
    bool first = frame->header.flags == WEIR_PULL_REP_FIRST;
    if (first) {
        answer->first = *frame;
        answer->has_first = true;
    } else {
        answer->last = *frame;
        answer->done = true;
        pull->left--;
    }
    client->counters.bytes_pulled += frame->header.payload_size;
    /* A step is applied when this worker has pushed it, or later; the first pull waits for none. */
    client->counters.rows_early += first || *number > client->pushed ? frame->header.count : 0;
    return WEIR_OK;
}

/* ---- to their places ---- */

/* Rows of a server: all of them (`words` NULL), or those whose bits are `set`. */
static void place_rows(const weir_ps_client_t *client, const weir_ps_client_pull_t *pull,
                       uint32_t server, const uint64_t *words, bool set, const char *rows,
                       float *const *values) {
    size_t base = 0; /* the table's first bit */
    for (uint32_t k = 0; k < client->table_count; k++) {
        const weir_ps_client_table_t *table = &client->tables[k];
        const uint32_t *positions = weir_split_part(&pull->splits[k], server);
        size_t count = weir_split_count(&pull->splits[k], server);
        for (size_t i = 0; i < count; i++) {
            if (words == NULL || bit_at(words, base + i) == set) {
                weir_ps_client_decode(table, rows, values[k], positions[i]);
                rows += table->layout.value_bytes;
            }
        }
        base += count;
    }
}

weir_err_t weir_ps_client_place(weir_ps_client_t *client, weir_ps_client_pull_t *pull,
                                uint32_t server, float *const *values, weir_error_t *error) {
    weir_ps_client_answer_t *answer = &pull->answers[server];
    weir_err_t err = WEIR_OK;
    const uint64_t *words = answer->has_first ? answer->first.payload : NULL;
    if (answer->has_first && !answer->first_placed) {
        size_t keys;
        (void)weir_ps_client_rows(client, pull, server, &keys);
        place_rows(client, pull, server, words, true, (const char *)(words + words_of(keys)),
                   values);
        answer->first_placed = true;
    }
    if (answer->last.payload != NULL) {
        if (answer->last.header.flags == WEIR_PULL_REP_SOME) {
            err = weir_ps_client_place_some(client, pull, server, &answer->last, values, error);
        } else {
            place_rows(client, pull, server, words, false, answer->last.payload, values);
        }
        weir_buffer_release(answer->last.payload);
        answer->last.payload = NULL;
    }
    return err;
}

void weir_ps_client_clear(const weir_ps_client_t *client, weir_ps_client_pull_t *pull) {
    for (uint32_t server = 0; server < client->options.ps; server++) {
        weir_buffer_release(pull->answers[server].first.payload);
        weir_buffer_release(pull->answers[server].last.payload);
        pull->answers[server] = (weir_ps_client_answer_t){.done = false};
    }
}
