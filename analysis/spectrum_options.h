/* The command line of `weir inspect spectrum` and of weir-spectrum, which it runs. */
#ifndef WEIR_ANALYSIS_SPECTRUM_OPTIONS_H
#define WEIR_ANALYSIS_SPECTRUM_OPTIONS_H

#include <argp.h>
#include <stdbool.h>
#include <stddef.h>

enum { WEIR_SPECTRUM_WORDS = 64 };

typedef struct {
    const char *where, *table; /* checkpoint or run; "item" */
    const char *output, *plot; /* NULL: none */
    size_t components;         /* of output; 0: none */
    size_t block;
    double memory_gib; /* of a host; 0: what it has */
    bool centered, json;
    char *words[WEIR_SPECTRUM_WORDS]; /* owned: the options, as they were given */
    size_t word_count;
} weir_spectrum_options_t;

void weir_spectrum_options_init(weir_spectrum_options_t *options);
void weir_spectrum_options_fini(weir_spectrum_options_t *options);

/* A parser, whose input is a weir_spectrum_options_t; by itself or as a child. It ends the process
 * at what it does not understand, as argp does. */
const struct argp *weir_spectrum_argp(void);

#endif
