#include "common/config.h"
#include "tests/fuzz/target.h"

#include <stdlib.h>
#include <string.h>

/* What was accepted must be written as YAML and read as the same. */
static void write_again(const weir_config_t *config) {
    char *yaml = NULL;
    weir_config_t again;
    if (weir_config_to_yaml(config, &yaml, NULL) != WEIR_OK) {
        return; /* no memory */
    }
    if (weir_config_load_text(yaml, strlen(yaml), "again", NULL, 0, &again, NULL) != WEIR_OK ||
        memcmp(&again, config, sizeof again) != 0 ||
        weir_config_digest(&again, false) != weir_config_digest(config, false)) {
        abort();
    }
    free(yaml);
}

/* The text as a file, and its first line as a --set. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    weir_config_t config;
    weir_error_t error = {0};
    const char *text = (const char *)bytes;
    if (weir_config_load_text(text, size, "input", NULL, 0, &config, &error) == WEIR_OK) {
        write_again(&config);
    } else if (error.message[0] == '\0') {
        abort(); /* a refusal must say why */
    }
    size_t line = size;
    const char *newline = size > 0 ? memchr(text, '\n', size) : NULL;
    if (newline != NULL) {
        line = (size_t)(newline - text);
    }
    char *set = calloc(1, line + 1);
    if (set != NULL) {
        const char *sets[] = {set};
        if (line > 0) {
            memcpy(set, text, line);
        }
        if (weir_config_load_text("", 0, "input", sets, 1, &config, &error) == WEIR_OK) {
            write_again(&config);
        }
        free(set);
    }
    return 0;
}
