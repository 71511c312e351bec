/* weir inspect: what a checkpoint holds. A verb of its own is a row of the table below; a word that
 * is none of them is the checkpoint to show. */
#include "tools/inspect.h"
#include "analysis/spectrum_options.h"
#include "common/log.h"
#include "tools/analysis_job.h"
#include "tools/survey.h"
#include "tools/verbs.h"

#include <argp.h>
#include <string.h>

enum { OPTION_JSON = 256, OPTION_VERIFY, OPTION_ALL };

typedef struct {
    const char *where;
    bool json, verify, all;
} arguments_t;

static const struct argp_option options[] = {
    {"json", OPTION_JSON, NULL, 0, "print everything as one JSON object", 0},
    {"verify", OPTION_VERIFY, NULL, 0,
     "read all bytes: compare every checksum, and the order of rows", 0},
    {"all", OPTION_ALL, NULL, 0, "print every configuration key, not only those changed", 0},
    {0},
};

static error_t parse_option(int option, char *value, struct argp_state *state) {
    arguments_t *arguments = state->input;
    switch (option) {
    case OPTION_JSON:
        arguments->json = true;
        return 0;
    case OPTION_VERIFY:
        arguments->verify = true;
        return 0;
    case OPTION_ALL:
        arguments->all = true;
        return 0;
    case ARGP_KEY_ARG:
        if (arguments->where != NULL) {
            argp_error(state, "one checkpoint at a time, not also \"%s\"", value);
        }
        arguments->where = value;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "WHERE is missing: the folder of a checkpoint or of a run");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static int show(int argc, char **argv) {
    static const struct argp argp = {
        options,
        parse_option,
        "WHERE",
        "What a checkpoint holds: step and metrics, tables and dense parameters with the sizes of "
        "their numbers, configuration, files. WHERE is the folder of a checkpoint, a link to one, "
        "or the folder of a run, whose latest is meant."
        "\vA damaged checkpoint is said to be so, with exit status 4.",
        NULL,
        NULL,
        NULL};
    weir_error_t error = {0};
    weir_survey_t survey = {0};
    arguments_t arguments = {0};
    (void)argp_parse(&argp, argc, argv, 0, NULL, &arguments);
    weir_err_t err = weir_survey_make(arguments.where, arguments.verify, &survey, &error);
    if (err == WEIR_OK && arguments.json) {
        err = weir_survey_print_json(&survey, &error);
    } else if (err == WEIR_OK) {
        err = weir_survey_print(&survey, arguments.all, &error);
    }
    weir_survey_fini(&survey);
    if (err != WEIR_OK) {
        weir_fatal(&error);
    }
    return 0;
}

static int show_spectrum(int argc, char **argv) {
    weir_spectrum_options_t own;
    weir_spectrum_options_init(&own);
    weir_analysis_job_t job = {
        .about = "Singular values of an embedding table, and what they say of its dimensions: "
                 "effective rank, condition, energy; computed by a job of N processes, each of "
                 "which reads its share of the rows. WHERE is as for `weir inspect`.",
        .program = "weir-spectrum",
        .argp = weir_spectrum_argp(),
        .input = &own,
        .words = own.words,
        .word_count = &own.word_count,
        .json = &own.json};
    int status = weir_analysis_job_run(&job, argc, argv);
    weir_spectrum_options_fini(&own);
    return status;
}

int weir_verb_inspect(int argc, char **argv) {
    static const weir_verb_t table[] = {
        {"show", "what a checkpoint holds, its numbers measured; so does WHERE alone", show},
        {"info", "what manifests and headers say, however large it is", weir_inspect_info},
        {"ls", "the checkpoints of a run", weir_inspect_ls},
        {"tables", "the tables of a checkpoint and their columns", weir_inspect_tables},
        {"get", "rows by their keys", weir_inspect_get},
        {"grep", "rows by what the dictionary calls them", weir_inspect_grep},
        {"stats", "norms, ages and counts of the rows of a table", weir_inspect_stats},
        {"top", "the nearest rows to a key", weir_inspect_top},
        {"diff", "what is different between two checkpoints", weir_inspect_diff},
        {"export", "rows of a table as safetensors, .npy or CSV", weir_inspect_export},
        {"prune", "remove old checkpoints of a run", weir_inspect_prune},
        {"fold", "write a checkpoint that builds on others as a full one", weir_inspect_fold},
        {"reshard", "write a checkpoint with the files of another number of servers",
         weir_inspect_reshard},
        {"import", "write a checkpoint with rows trained elsewhere in it", weir_inspect_import},
        {"spectrum", "singular values of a table: whether it uses its dimensions", show_spectrum},
        {NULL, NULL, NULL},
    };
    bool verbs = argc > 1 && strcmp(argv[1], "--help") == 0;
    /* A first word of several that names no file is a verb, be it one that there is not. */
    verbs = verbs || (argc > 2 && argv[1][0] != '-' && argv[2][0] != '-' &&
                      strchr(argv[1], '/') == NULL && !weir_file_exists(argv[1]));
    for (const weir_verb_t *verb = table; argc > 1 && verb->name != NULL; verb++) {
        if (verbs || strcmp(argv[1], verb->name) == 0) {
            return weir_verbs_run(table, "weir inspect",
                                  "Look into checkpoints. `weir inspect WHERE` is `weir inspect "
                                  "show WHERE`.",
                                  argc, argv);
        }
    }
    return show(argc, argv);
}
