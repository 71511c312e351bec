#include "analysis/spectrum_options.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPTION_JSON = 256, OPTION_PCA, OPTION_BLOCK, OPTION_CENTERED, OPTION_PLOT, OPTION_MEMORY };

static const struct argp_option options[] = {
    {"table", 't', "NAME", 0, "the table to measure (default: item)", 0},
    {"centered", OPTION_CENTERED, NULL, 0, "of the rows less their mean", 0},
    {"plot", OPTION_PLOT, "FILE", 0, "draw the singular values as SVG", 0},
    {"pca", OPTION_PCA, "K", 0, "with --output: rows on their first K principal directions", 0},
    {"output", 'o', "FILE", 0, "write them as safetensors", 0},
    {"block", OPTION_BLOCK, "N", 0, "rows of a block of the matrix (default: 32)", 0},
    {"memory", OPTION_MEMORY, "GIB", 0,
     "refuse what takes more of a host (default: the memory it has available)", 0},
    {"json", OPTION_JSON, NULL, 0, "print everything as one JSON object", 0},
    {0},
};

void weir_spectrum_options_init(weir_spectrum_options_t *made) {
    *made = (weir_spectrum_options_t){.table = "item", .block = 32};
}

void weir_spectrum_options_fini(weir_spectrum_options_t *made) {
    for (size_t i = 0; i < made->word_count; i++) {
        free(made->words[i]);
    }
    made->word_count = 0;
}

static size_t parse_count(const char *name, const char *value, struct argp_state *state) {
    errno = 0;
    unsigned long long count = strtoull(value, NULL, 10);
    if (value[0] == '\0' || value[strspn(value, "0123456789")] != '\0' || errno != 0 || count < 1 ||
        count > INT_MAX / 2) {
        argp_error(state, "--%s wants a whole number from 1, not \"%s\"", name, value);
    }
    return (size_t)count;
}

static double parse_memory(const char *value, struct argp_state *state) {
    char *end = NULL;
    double gib = strtod(value, &end);
    if (end == value || *end != '\0' || !isfinite(gib) || gib <= 0.0) {
        argp_error(state, "--memory wants GiB above 0, not \"%s\"", value);
    }
    return gib;
}

/* Keep a word for the command line of the processes. `name` NULL: the word is no option. */
static void keep(weir_spectrum_options_t *made, const char *name, const char *value,
                 struct argp_state *state) {
    size_t size = (name != NULL ? strlen(name) : 0) + (value != NULL ? strlen(value) : 0) + 4;
    char *word = made->word_count < WEIR_SPECTRUM_WORDS ? malloc(size) : NULL;
    if (word == NULL) {
        argp_error(state, "too many options");
        return;
    }
    (void)snprintf(word, size, "%s%s%s%s", name != NULL ? "--" : "", name != NULL ? name : "",
                   name != NULL && value != NULL ? "=" : "", value != NULL ? value : "");
    made->words[made->word_count++] = word;
}

static error_t parse_end(const weir_spectrum_options_t *made, struct argp_state *state) {
    if (made->where == NULL) {
        argp_error(state, "WHERE is missing: the folder of a checkpoint or of a run");
    } else if ((made->components > 0) != (made->output != NULL)) {
        argp_error(state, "--pca K and --output FILE go together");
    }
    return 0;
}

static error_t parse_key(int key, char *value, struct argp_state *state,
                         weir_spectrum_options_t *made) {
    switch (key) {
    case 't':
        made->table = value;
        return 0;
    case 'o':
        made->output = value;
        return 0;
    case OPTION_PLOT:
        made->plot = value;
        return 0;
    case OPTION_CENTERED:
        made->centered = true;
        return 0;
    case OPTION_JSON:
        made->json = true;
        return 0;
    case OPTION_PCA:
        made->components = parse_count("pca", value, state);
        return 0;
    case OPTION_BLOCK:
        made->block = parse_count("block", value, state);
        return 0;
    case OPTION_MEMORY:
        made->memory_gib = parse_memory(value, state);
        return 0;
    case ARGP_KEY_ARG:
        if (made->where != NULL) {
            argp_error(state, "one checkpoint at a time, not also \"%s\"", value);
        }
        made->where = value;
        keep(made, NULL, value, state);
        return 0;
    case ARGP_KEY_END:
        return parse_end(made, state);
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse_option(int key, char *value, struct argp_state *state) {
    weir_spectrum_options_t *made = state->input;
    error_t answer = parse_key(key, value, state, made);
    for (const struct argp_option *o = options; answer == 0 && o->name != NULL; o++) {
        if (o->key == key) {
            keep(made, o->name, value, state);
        }
    }
    return answer;
}

const struct argp *weir_spectrum_argp(void) {
    static const struct argp parser = {options, parse_option, "WHERE", NULL, NULL, NULL, NULL};
    return &parser;
}
