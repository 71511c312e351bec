#include "tools/verbs.h"

#include "common/error.h"
#include "common/log.h"
#include "common/suggest.h"
#include "common/version.h"

#include <stdio.h>
#include <string.h>

const weir_verb_t weir_verbs[] = {
    {"config", "explain the configuration keys, or check a configuration and print it whole",
     weir_verb_config},
    {"train", "train a model: one job of coordinator, servers and workers", weir_verb_train},
    {"doctor", "what stands in the way of a job here, before it starts", weir_verb_doctor},
    {"eval", "evaluate a checkpoint of a run", weir_verb_eval},
    {"eval-diff", "whether two evaluations differ by more than chance", weir_verb_eval_diff},
    {"recommend", "the best items of the catalogue for users", weir_verb_recommend},
    {"rank", "score candidates for users by a ranking model", weir_verb_rank},
    {"inspect", "what a checkpoint holds: tables, parameters, metrics, configuration",
     weir_verb_inspect},
    {"verify", "read every byte of checkpoints: what is damaged, and which rows", weir_verb_verify},
    {"baseline", "evaluate a simple model by the same protocol", weir_verb_baseline},
    {"compare", "train a list of configurations: one page with their table and curves",
     weir_verb_compare},
    {"report", "one HTML page of a run: curves, evaluations, timing", weir_verb_report},
    {"ctl", "status of a running job; ask it for a checkpoint, or to stop", weir_verb_ctl},
    {"top", "a running job, live in the terminal", weir_verb_top},
    {"plan", "servers, memory, network and time that a model of a given size needs",
     weir_verb_plan},
    {"prepare", "turn a log of events into data to train on", weir_verb_prepare},
    {"synth", "make data with something to learn from a seed", weir_verb_synth},
    {NULL, NULL, NULL},
};

static void print_help(const weir_verb_t *table, const char *program, const char *about,
                       FILE *stream) {
    int width = 0;
    for (const weir_verb_t *verb = table; verb->name != NULL; verb++) {
        int size = (int)strlen(verb->name);
        width = size > width ? size : width;
    }
    (void)fprintf(stream, "Usage: %s VERB [OPTION...]\n%s\n\n", program, about);
    for (const weir_verb_t *verb = table; verb->name != NULL; verb++) {
        (void)fprintf(stream, "  %-*s  %s\n", width, verb->name, verb->summary);
    }
    (void)fprintf(stream,
                  "\n`%s VERB --help` explains a verb; `weir --version` prints the version.\n",
                  program);
}

static _Noreturn void refuse_verb(const weir_verb_t *table, const char *program, const char *word) {
    weir_error_t error = {0};
    weir_suggest_t suggest;
    weir_suggest_init(&suggest, word);
    for (const weir_verb_t *verb = table; verb->name != NULL; verb++) {
        weir_suggest_offer(&suggest, verb->name);
    }
    if (suggest.nearest != NULL) {
        (void)weir_errorf(&error, WEIR_ERR_INVALID, "unknown verb %.64s; did you mean %s?", word,
                          suggest.nearest);
    } else {
        (void)weir_errorf(&error, WEIR_ERR_INVALID, "unknown verb %.64s", word);
    }
    weir_error_hint(&error, "`%s --help` lists the verbs", program);
    weir_fatal(&error);
}

int weir_verbs_run(const weir_verb_t *table, const char *program, const char *about, int argc,
                   char **argv) {
    if (argc < 2) {
        print_help(table, program, about, stderr);
        return weir_exit_status(WEIR_ERR_INVALID);
    }
    const char *word = argv[1];
    if (strcmp(word, "--help") == 0 || strcmp(word, "-?") == 0 || strcmp(word, "-h") == 0 ||
        strcmp(word, "help") == 0 || strcmp(word, "--usage") == 0) {
        print_help(table, program, about, stdout);
        return 0;
    }
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
        (void)puts("weir " WEIR_VERSION);
        return 0;
    }
    for (const weir_verb_t *verb = table; verb->name != NULL; verb++) {
        if (strcmp(verb->name, word) == 0) {
            char name[64];
            (void)snprintf(name, sizeof name, "%s %s", program, verb->name);
            argv[1] = name;
            return verb->run(argc - 1, argv + 1);
        }
    }
    refuse_verb(table, program, word);
}
