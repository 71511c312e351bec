#include "common/checkpoint.h"
#include "common/hash.h"
#include "tests/fuzz/target.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What was accepted must be written again and read as the same. */
static void write_again(const weir_manifest_t *manifest) {
    char *text = NULL;
    size_t size = 0;
    weir_manifest_t again = {0};
    if (weir_manifest_format(manifest, &text, &size, NULL) != WEIR_OK ||
        weir_manifest_parse(text, size, "again", &again, NULL) != WEIR_OK ||
        again.step != manifest->step || again.job != manifest->job ||
        again.file_count != manifest->file_count) {
        abort();
    }
    weir_manifest_fini(&again);
    free(text);
}

static void try_text(const char *text, size_t size) {
    weir_manifest_t manifest = {0};
    weir_error_t error = {0};
    if (weir_manifest_parse(text, size, "input", &manifest, &error) == WEIR_OK) {
        write_again(&manifest);
        weir_manifest_fini(&manifest);
    } else if (error.message[0] == '\0') {
        abort(); /* a refusal must say why */
    }
}

/* As it is, and as the body of a manifest under a right checksum: no mutation would find that. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static const char seal[] = ",\n  \"self\": \"0123456789abcdef\"\n}\n";
    try_text((const char *)bytes, size);
    char *sealed = malloc(size + sizeof seal);
    if (sealed == NULL) {
        return 0;
    }
    memcpy(sealed, bytes, size);
    (void)snprintf(sealed + size, sizeof seal, ",\n  \"self\": \"%016llx\"\n}\n",
                   (unsigned long long)weir_checksum(bytes, size, 0));
    try_text(sealed, size + sizeof seal - 1);
    free(sealed);
    return 0;
}
