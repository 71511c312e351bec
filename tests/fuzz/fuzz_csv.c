#include "tests/fuzz/target.h"
#include "tools/csv.h"
#include "tools/number.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static uint64_t count_lines(const char *text, size_t size) {
    uint64_t lines = size > 0 && text[size - 1] != '\n';
    for (size_t i = 0; i < size; i++) {
        lines += text[i] == '\n';
    }
    return lines;
}

/* Touch every byte, so that a sanitizer sees fields that reach outside. */
static void use_field(const weir_csv_field_t *field) {
    int64_t time = 0;
    float value = 0.0f;
    uint64_t sum = 0;
    for (size_t i = 0; i < field->size; i++) {
        sum += (unsigned char)field->bytes[i];
    }
    bool timed = weir_number_parse_time(field->bytes, field->size, 1000, &time);
    bool valued = weir_number_parse_real(field->bytes, field->size, &value);
    if ((timed || valued) && (sum == 0 || value != value)) {
        abort();
    }
}

/* Records come in the order of their lines, and in the end every line was taken. */
static void read_all(weir_input_t *input, char delimiter, size_t wanted, uint64_t lines) {
    weir_csv_t csv;
    weir_csv_record_t record;
    bool more = true;
    uint64_t before = 0;
    if (weir_csv_init(&csv, input, delimiter, NULL) != WEIR_OK) {
        return;
    }
    csv.wanted = wanted;
    while (weir_csv_read(&csv, &record, &more, NULL) == WEIR_OK && more) {
        if (record.line <= before || record.line > lines ||
            (record.bad != NULL) != (record.count == 0) || (wanted > 0 && record.count > wanted)) {
            abort();
        }
        before = record.line;
        for (size_t i = 0; i < record.count; i++) {
            use_field(&record.fields[i]);
        }
    }
    if (more || input->line != lines + 1) {
        abort();
    }
    weir_csv_fini(&csv);
}

/* The first byte chooses the delimiter and how many fields are wanted. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static const char delimiters[] = {',', ';', '\t', ' '};
    weir_input_t input;
    if (size == 0) {
        return 0;
    }
    const char *text = (const char *)bytes + 1;
    if (weir_input_open_memory(text, size - 1, "input", &input, NULL) == WEIR_OK) {
        read_all(&input, delimiters[bytes[0] % 4], (bytes[0] / 4) % 4,
                 count_lines(input.buffer + input.begin, input.end - input.begin));
        weir_input_close(&input);
    }
    return 0;
}
