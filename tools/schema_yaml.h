/* A schema's YAML as a list of entries: SECTION: {KEY: VALUE} and SECTION: {KEY: {PART: VALUE}}.
 * Nothing else of YAML is accepted: no lists, anchors, tags, second documents, nothing deeper. */
#ifndef WEIR_TOOLS_SCHEMA_YAML_H
#define WEIR_TOOLS_SCHEMA_YAML_H

#include "common/error.h"

#include <stddef.h>

typedef struct {
    const char *section, *key;
    const char *part;  /* empty: the value is the key's own */
    const char *value; /* all of them end with the call */
    size_t line;
} weir_schema_entry_t;

/* Call `take` for every entry, in order, until one fails. Errors: INVALID ("name:line: ..."), and
 * those of `take`. Repeated keys are left to `take`. Call: local. */
WEIR_MUST_USE weir_err_t weir_schema_yaml_read(const char *text, size_t size, const char *name,
                                               weir_err_t (*take)(void *argument,
                                                                  const weir_schema_entry_t *entry,
                                                                  weir_error_t *error),
                                               void *argument, weir_error_t *error);

#endif
