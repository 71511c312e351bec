/* weir config: the reference of keys, or a configuration checked and printed whole. */
#include "common/config.h"
#include "common/log.h"
#include "tools/verbs.h"

#include <argp.h>
#include <stdlib.h>

enum { OPTION_MARKDOWN = 256 };

typedef struct {
    const char *config;
    const char **sets; /* --set, in order */
    size_t set_count;
    bool markdown;
} arguments_t;

static const struct argp_option options[] = {
    {"config", 'c', "FILE", 0, "check FILE and print the whole resulting configuration", 0},
    {"set", 's', "KEY=VALUE", 0, "set a key over file and environment; may be repeated", 0},
    {"markdown", OPTION_MARKDOWN, NULL, 0, "print the reference as Markdown", 0},
    {0},
};

static error_t parse_option(int option, char *value, struct argp_state *state) {
    arguments_t *arguments = state->input;
    switch (option) {
    case 'c':
        arguments->config = value;
        return 0;
    case 's':
        arguments->sets[arguments->set_count++] = value; /* at most argc of them */
        return 0;
    case OPTION_MARKDOWN:
        arguments->markdown = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

int weir_verb_config(int argc, char **argv) {
    static const struct argp argp = {
        options,
        parse_option,
        NULL,
        "Explain all configuration keys; with --config or --set, check a configuration and print "
        "it whole as YAML.",
        NULL,
        NULL,
        NULL};
    weir_error_t error = {0};
    weir_config_t config;
    char *yaml = NULL;
    arguments_t arguments = {.sets = calloc((size_t)argc, sizeof *arguments.sets)};
    if (arguments.sets == NULL) {
        (void)weir_errorf(&error, WEIR_ERR_MEMORY, "out of memory");
        weir_fatal(&error);
    }
    (void)argp_parse(&argp, argc, argv, 0, NULL, &arguments);
    weir_err_t code = WEIR_OK;
    if (arguments.config == NULL && arguments.set_count == 0) {
        weir_config_print_reference(stdout, arguments.markdown);
    } else if (arguments.markdown) {
        code = weir_errorf(&error, WEIR_ERR_INVALID,
                           "--markdown prints the reference, without --config and --set");
    } else {
        code = weir_config_load(arguments.config, arguments.sets, arguments.set_count, &config,
                                &error);
        if (code == WEIR_OK) {
            code = weir_config_to_yaml(&config, &yaml, &error);
        }
        if (code == WEIR_OK) {
            (void)fputs(yaml, stdout);
        }
    }
    free(yaml);
    free(arguments.sets);
    if (code != WEIR_OK) {
        weir_fatal(&error);
    }
    if (fflush(stdout) != 0) {
        (void)weir_errorf(&error, WEIR_ERR_IO, "cannot write to standard output");
        weir_fatal(&error);
    }
    return 0;
}
