#include "common/frame.h"
#include "common/hash.h"
#include "tests/fuzz/target.h"

#include <stdlib.h>
#include <string.h>

/* What was accepted must be encoded again to the same bytes: a header has one spelling. */
static void encode_again(const uint8_t *bytes, const weir_frame_header_t *header) {
    uint8_t again[WEIR_FRAME_HEADER_SIZE];
    weir_frame_encode_header(header, again);
    if (memcmp(again, bytes, sizeof again) != 0 || header->payload_size > WEIR_FRAME_MAX_PAYLOAD ||
        strcmp(weir_frame_type_name((weir_frame_type_t)header->type), "unknown") == 0) {
        abort();
    }
}

static void try_header(const uint8_t *bytes, size_t size, uint64_t job) {
    weir_frame_header_t header = {0}, untouched = {0};
    weir_error_t error = {0};
    if (weir_frame_decode_header(bytes, size, job, &header, &error) == WEIR_OK) {
        if (size < WEIR_FRAME_HEADER_SIZE || (job != 0 && header.job != job)) {
            abort();
        }
        encode_again(bytes, &header);
    } else if (error.message[0] == '\0' || memcmp(&header, &untouched, sizeof header) != 0) {
        abort(); /* a refusal says why, and leaves no trace */
    }
}

/* As it is, and under a right checksum: no mutation would find that. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    uint8_t sealed[WEIR_FRAME_HEADER_SIZE];
    try_header(bytes, size, 0);
    try_header(bytes, size, 42);
    if (size >= sizeof sealed) {
        memcpy(sealed, bytes, sizeof sealed);
        uint64_t checksum = weir_checksum(sealed, sizeof sealed - 8, 0);
        for (size_t i = 0; i < 8; i++) {
            sealed[sizeof sealed - 8 + i] = (uint8_t)(checksum >> (8 * i));
        }
        try_header(sealed, sizeof sealed, 0);
        try_header(sealed, sizeof sealed, 42);
    }
    return 0;
}
