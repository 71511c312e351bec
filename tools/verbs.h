/* The verbs of the command `weir`: one table makes the dispatch and `weir --help`. A verb is a main
 * of its own: argv[0] is "weir VERB" (for usage lines), options follow; what it returns is the exit
 * status. A verb parses its options with argp and ends failures with weir_fatal. */
#ifndef WEIR_TOOLS_VERBS_H
#define WEIR_TOOLS_VERBS_H

#include <stddef.h>

typedef struct {
    const char *name;
    const char *summary; /* one line for `weir --help` */
    int (*run)(int argc, char **argv);
} weir_verb_t;

/* The verbs, in the order of `weir --help`; ends with a NULL name. */
extern const weir_verb_t weir_verbs[];

/* Run argv[1] of `table`, whose lines are shown by --help; `program` is what stands before the verb
 * ("weir", "weir prepare"), `about` one sentence. For `weir` and for verbs with verbs of their own.
 * An unknown verb is refused with the nearest known one. Returns the verb's exit status. */
int weir_verbs_run(const weir_verb_t *table, const char *program, const char *about, int argc,
                   char **argv);

int weir_verb_baseline(int argc, char **argv);
int weir_verb_compare(int argc, char **argv);
int weir_verb_config(int argc, char **argv);
int weir_verb_ctl(int argc, char **argv);
int weir_verb_doctor(int argc, char **argv);
int weir_verb_eval(int argc, char **argv);
int weir_verb_inspect(int argc, char **argv);
int weir_verb_plan(int argc, char **argv);
int weir_verb_verify(int argc, char **argv);
int weir_verb_train(int argc, char **argv);
int weir_verb_prepare(int argc, char **argv);
int weir_verb_rank(int argc, char **argv);
int weir_verb_eval_diff(int argc, char **argv);
int weir_verb_recommend(int argc, char **argv);
int weir_verb_report(int argc, char **argv);
int weir_verb_synth(int argc, char **argv);
int weir_verb_top(int argc, char **argv);

/* Verbs of `weir baseline` (tools/baseline_tasks_verb.c). */
int weir_baseline_run_logistic(int argc, char **argv);
int weir_baseline_run_rates(int argc, char **argv);

#endif
