#include "common/frame.h"

#include "common/hash.h"

#include <string.h>

/* Header on the wire, little-endian: magic 4, version 2, type 2, flags 2, number 2, source 4, job
 * 8, step 8, sequence 4, count 4, payload_size 8, payload_checksum 8, header_checksum 8 (of the 56
 * bytes before it). Magic and version come first and never move, so that another version is named.
 */
static const uint8_t frame_magic[4] = {'W', 'E', 'I', 'R'};

enum { CHECKSUM_OFFSET = 56 };

static void put(uint8_t *bytes, uint64_t value, size_t size) {
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (uint8_t)(value >> (8 * i));
    }
}

static uint64_t get(const uint8_t *bytes, size_t size) {
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++) {
        value |= (uint64_t)bytes[i] << (8 * i);
    }
    return value;
}

void weir_frame_encode_header(const weir_frame_header_t *header,
                              uint8_t bytes[WEIR_FRAME_HEADER_SIZE]) {
    memcpy(bytes, frame_magic, sizeof frame_magic);
    put(bytes + 4, WEIR_FRAME_VERSION, 2);
    put(bytes + 6, header->type, 2);
    put(bytes + 8, header->flags, 2);
    put(bytes + 10, header->number, 2);
    put(bytes + 12, header->source, 4);
    put(bytes + 16, header->job, 8);
    put(bytes + 24, header->step, 8);
    put(bytes + 32, header->sequence, 4);
    put(bytes + 36, header->count, 4);
    put(bytes + 40, header->payload_size, 8);
    put(bytes + 48, header->payload_checksum, 8);
    put(bytes + CHECKSUM_OFFSET, weir_checksum(bytes, CHECKSUM_OFFSET, 0), 8);
}

static weir_err_t check_header(const uint8_t *bytes, uint64_t job,
                               const weir_frame_header_t *header, weir_error_t *error) {
    if (memcmp(bytes, frame_magic, sizeof frame_magic) != 0) {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "a frame does not begin with its magic");
    }
    if (get(bytes + 4, 2) != WEIR_FRAME_VERSION) {
        return weir_errorf(error, WEIR_ERR_VERSION, "a frame is of version %llu, expected %d",
                           (unsigned long long)get(bytes + 4, 2), WEIR_FRAME_VERSION);
    }
    if (get(bytes + CHECKSUM_OFFSET, 8) != weir_checksum(bytes, CHECKSUM_OFFSET, 0)) {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "the header of a frame fails its checksum");
    }
    if (header->type == 0 || header->type >= WEIR_FRAME_TYPE_COUNT) {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "a frame is of the unknown type %u",
                           header->type);
    }
    if (job != 0 && header->job != job) {
        return weir_errorf(error, WEIR_ERR_PEER, "a frame belongs to job %llx, not to %llx",
                           (unsigned long long)header->job, (unsigned long long)job);
    }
    if (header->payload_size > WEIR_FRAME_MAX_PAYLOAD) {
        return weir_errorf(
            error, WEIR_ERR_CORRUPT, "a frame announces %llu bytes, the most is %llu",
            (unsigned long long)header->payload_size, (unsigned long long)WEIR_FRAME_MAX_PAYLOAD);
    }
    return WEIR_OK;
}

weir_err_t weir_frame_decode_header(const uint8_t *bytes, size_t size, uint64_t job,
                                    weir_frame_header_t *header, weir_error_t *error) {
    if (size < WEIR_FRAME_HEADER_SIZE) {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "a frame header of %zu bytes, expected %d",
                           size, WEIR_FRAME_HEADER_SIZE);
    }
    weir_frame_header_t decoded = {.type = (uint16_t)get(bytes + 6, 2),
                                   .flags = (uint16_t)get(bytes + 8, 2),
                                   .number = (uint16_t)get(bytes + 10, 2),
                                   .source = (uint32_t)get(bytes + 12, 4),
                                   .job = get(bytes + 16, 8),
                                   .step = get(bytes + 24, 8),
                                   .sequence = (uint32_t)get(bytes + 32, 4),
                                   .count = (uint32_t)get(bytes + 36, 4),
                                   .payload_size = get(bytes + 40, 8),
                                   .payload_checksum = get(bytes + 48, 8)};
    weir_err_t err = check_header(bytes, job, &decoded, error);
    if (err == WEIR_OK) {
        *header = decoded;
    }
    return err;
}

uint64_t weir_frame_checksum(const void *payload, size_t size) {
    uint64_t checksum = 0;
    for (size_t begin = 0; begin < size; begin += WEIR_FRAME_PIECE) {
        size_t piece = size - begin < WEIR_FRAME_PIECE ? size - begin : WEIR_FRAME_PIECE;
        checksum = weir_checksum((const char *)payload + begin, piece, checksum);
    }
    return checksum;
}

const char *weir_frame_type_name(weir_frame_type_t type) {
    static const char *const names[WEIR_FRAME_TYPE_COUNT] = {
        [WEIR_FRAME_PULL_REQ] = "pull_req", [WEIR_FRAME_PULL_REP] = "pull_rep",
        [WEIR_FRAME_PUSH_REQ] = "push_req", [WEIR_FRAME_PEEK_REQ] = "peek_req",
        [WEIR_FRAME_PEEK_REP] = "peek_rep", [WEIR_FRAME_REDUCE] = "reduce",
        [WEIR_FRAME_GATHER] = "gather",     [WEIR_FRAME_BARRIER] = "barrier",
        [WEIR_FRAME_CUT_REQ] = "cut_req",   [WEIR_FRAME_CUT_REP] = "cut_rep",
    };
    return type > 0 && type < WEIR_FRAME_TYPE_COUNT ? names[type] : "unknown";
}
