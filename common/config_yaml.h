/* The YAML text of a configuration: a map of sections, each a map of keys to plain values. Nothing
 * else of YAML is accepted: no lists, anchors, aliases, tags, second documents, repeated keys or
 * tabs. Private to common/config*.c. */
#ifndef WEIR_COMMON_CONFIG_YAML_H
#define WEIR_COMMON_CONFIG_YAML_H

#include "common/config.h"

/* Store every key of `yaml` in `config`. Errors: INVALID, with a sentence that begins "name:line:
 * ". On failure some keys may have been stored. */
WEIR_MUST_USE weir_err_t weir_config_yaml_apply(const char *yaml, size_t size, const char *name,
                                                weir_config_t *config, weir_error_t *error);

#endif
