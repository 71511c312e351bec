/* weir plan: what a model of a given size needs. */
#include "common/file.h"
#include "common/log.h"
#include "ps/model_tables.h"
#include "tools/human.h"
#include "tools/plan_measure.h"
#include "tools/verbs.h"

#include <argp.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    OPTION_PARAMS = 256,
    OPTION_ROWS,
    OPTION_NODE_MEMORY,
    OPTION_USABLE,
    OPTION_SERVERS,
    OPTION_WORKERS,
    OPTION_LENGTH,
    OPTION_FEATURES,
    OPTION_SKEW,
    OPTION_NETWORK,
    OPTION_DISK,
    OPTION_SCRATCH,
    OPTION_SIMULATE,
    OPTION_JSON
};

typedef struct {
    const char *config;
    const char **sets; /* --set, in order */
    size_t set_count;
    const char *scratch;
    double parameters, scale;
    weir_plan_input_t input;
    bool json;
} arguments_t;

static const struct argp_option options[] = {
    {"config", 'c', "FILE", 0, "the configuration: width, optimiser, precision, batch", 0},
    {"set", 's', "KEY=VALUE", 0, "set a key over file and environment; may be repeated", 0},
    {"params", OPTION_PARAMS, "N", 0, "parameters in the item table: 1.5e12", 0},
    {"rows", OPTION_ROWS, "N", 0, "rows of the item table, instead of --params", 0},
    {"node-memory", OPTION_NODE_MEMORY, "SIZE", 0, "of one server's node: 512GiB", 0},
    {"usable", OPTION_USABLE, "X", 0, "part of a node's memory that rows may take; default 0.9", 0},
    {"servers", OPTION_SERVERS, "N", 0, "default: as few as fit", 0},
    {"workers", OPTION_WORKERS, "N", 0, "default: cluster.workers", 0},
    {"mean-length", OPTION_LENGTH, "X", 0,
     "events of a user in a batch; default: model.max_sequence_length", 0},
    {"features", OPTION_FEATURES, "N", 0,
     "of a ranking model: features whose rows stand beside the item's, an event; default 0", 0},
    {"skew", OPTION_SKEW, "X", 0, "exponent of the items' popularity; default 0.99", 0},
    {"network", OPTION_NETWORK, "SIZE", 0, "bytes a second of one node, one way; default 10GB", 0},
    {"disk", OPTION_DISK, "SIZE", 0, "bytes a second that a server writes; default: measured", 0},
    {"scratch", OPTION_SCRATCH, "FOLDER", 0,
     "where to measure the disk; default: the current folder", 0},
    {"simulate", OPTION_SIMULATE, "N", 0,
     "drive the real table with 1/N of the rows and compare its memory with the plan: fails when "
     "they differ by more than 3%",
     0},
    {"json", OPTION_JSON, NULL, 0, "print JSON", 0},
    {0},
};

static double parse_positive(const char *name, const char *text, struct argp_state *state) {
    char *end = NULL;
    double value = strtod(text, &end);
    if (text[0] == '\0' || *end != '\0' || !isfinite(value) || value <= 0.0) {
        argp_error(state, "--%s %s: expected a number above 0", name, text);
    }
    return value;
}

static double parse_size(const char *name, const char *text, struct argp_state *state) {
    static const struct {
        const char *unit;
        double bytes;
    } units[] = {{"", 1.0},       {"B", 1.0},  {"MiB", 0x1p20}, {"GiB", 0x1p30},
                 {"TiB", 0x1p40}, {"MB", 1e6}, {"GB", 1e9},     {"TB", 1e12}};
    char *end = NULL;
    double value = strtod(text, &end);
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (end != text && strcmp(end, units[i].unit) == 0 && isfinite(value) && value > 0.0) {
            return value * units[i].bytes;
        }
    }
    argp_error(state, "--%s %s: expected a size as 512GiB or 10GB", name, text);
    return 0.0;
}

static error_t parse_option(int option, char *value, struct argp_state *state) {
    arguments_t *arguments = state->input;
    weir_plan_input_t *input = &arguments->input;
    switch (option) {
    case 'c':
        arguments->config = value;
        return 0;
    case 's':
        arguments->sets[arguments->set_count++] = value; /* at most argc of them */
        return 0;
    case OPTION_PARAMS:
        arguments->parameters = parse_positive("params", value, state);
        return 0;
    case OPTION_ROWS:
        input->rows = parse_positive("rows", value, state);
        return 0;
    case OPTION_NODE_MEMORY:
        input->node_memory = parse_size("node-memory", value, state);
        return 0;
    case OPTION_USABLE:
        input->usable = parse_positive("usable", value, state);
        return 0;
    case OPTION_SERVERS:
        input->servers = floor(parse_positive("servers", value, state));
        return 0;
    case OPTION_WORKERS:
        input->workers = floor(parse_positive("workers", value, state));
        return 0;
    case OPTION_LENGTH:
        input->mean_length = parse_positive("mean-length", value, state);
        return 0;
    case OPTION_FEATURES:
        input->features = floor(parse_positive("features", value, state));
        return 0;
    case OPTION_SKEW:
        input->skew = parse_positive("skew", value, state);
        return 0;
    case OPTION_NETWORK:
        input->constants.network = parse_size("network", value, state);
        return 0;
    case OPTION_DISK:
        input->constants.disk = parse_size("disk", value, state);
        return 0;
    case OPTION_SCRATCH:
        arguments->scratch = value;
        return 0;
    case OPTION_SIMULATE:
        arguments->scale = parse_positive("simulate", value, state);
        return 0;
    case OPTION_JSON:
        arguments->json = true;
        return 0;
    case ARGP_KEY_END:
        if ((arguments->parameters > 0.0) == (input->rows > 0.0)) {
            argp_error(state, "one of --params N and --rows N is needed");
        }
        if (input->node_memory == 0.0) {
            argp_error(state, "--node-memory is missing: of one server's node, as 512GiB");
        }
        if (input->usable > 1.0) {
            argp_error(state, "--usable %g: a part of the memory is at most 1", input->usable);
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ---- what is shown ---- */

static void print_json(const weir_plan_input_t *input, const weir_plan_t *plan) {
    const weir_plan_constants_t *constants = &input->constants;
    (void)printf("{\"parameters\": %.17g, \"rows\": %.17g, \"row_bytes\": %.17g, "
                 "\"record_bytes\": %.17g, \"memory\": %.17g, \"servers\": %.17g, \"fits\": %s, "
                 "\"server_memory\": %.17g, \"server_rows\": %.17g, \"workers\": %.17g, "
                 "\"worker_keys_per_step\": %.6g, \"server_rows_per_step\": %.6g, "
                 "\"worker_bytes_per_step\": %.6g, \"server_bytes_per_step\": %.6g, "
                 "\"server_compute_seconds_per_step\": %.4g, "
                 "\"server_network_seconds_per_step\": %.4g, \"checkpoint_bytes\": %.17g, "
                 "\"checkpoint_seconds\": %.4g, \"constants\": {\"pulled_rows_per_second\": %.4g, "
                 "\"updated_rows_per_second\": %.4g, \"disk_bytes_per_second\": %.4g, "
                 "\"network_bytes_per_second\": %.4g}",
                 plan->parameters, input->rows, plan->row_bytes, plan->record_bytes, plan->memory,
                 plan->servers, plan->fits ? "true" : "false", plan->server_memory,
                 plan->server_rows, input->workers, plan->keys, plan->server_keys,
                 plan->worker_bytes, plan->server_bytes, plan->compute_seconds,
                 plan->network_seconds, plan->checkpoint_bytes, plan->checkpoint_seconds,
                 constants->pulled_rows, constants->updated_rows, constants->disk,
                 constants->network);
}

static void print_plan(const weir_plan_input_t *input, const weir_plan_t *plan) {
    char a[32], b[32], c[32];
    (void)printf("table        %s rows, %s parameters\n", weir_human_count(input->rows, a),
                 weir_human_count(plan->parameters, b));
    (void)printf("row          %.0f bytes: record %.0f, the rest index, metadata and padding\n",
                 plan->row_bytes, plan->record_bytes);
    (void)printf("memory       %s in all\n", weir_human_bytes(plan->memory, a));
    (void)printf("servers      %.0f, of %s each with %s of rows%s\n", plan->servers,
                 weir_human_bytes(input->node_memory, a), weir_human_bytes(plan->server_memory, b),
                 plan->fits ? "" : "  ** does not fit **");
    (void)printf("a step       %s distinct rows for each of %.0f workers, %s from each server\n",
                 weir_human_count(round(plan->keys), a), input->workers,
                 weir_human_count(round(plan->server_keys), b));
    (void)printf("network      %s a step for a worker, %s for a server\n",
                 weir_human_bytes(plan->worker_bytes, a), weir_human_bytes(plan->server_bytes, b));
    (void)printf(
        "a server     %.2f ms a step to pull and update on one core, %.2f ms on the wire\n",
        1e3 * plan->compute_seconds, 1e3 * plan->network_seconds);
    (void)printf("checkpoint   %s, written in %s by all servers at once\n",
                 weir_human_bytes(plan->checkpoint_bytes, a),
                 weir_human_seconds(plan->checkpoint_seconds, b));
    (void)printf("measured     %s rows a second pulled, %s updated, a core",
                 weir_human_count(round(input->constants.pulled_rows), a),
                 weir_human_count(round(input->constants.updated_rows), b));
    (void)printf("; disk %s a second", weir_human_bytes(input->constants.disk, c));
    (void)printf("; network %s a second (as told)\n",
                 weir_human_bytes(input->constants.network, c));
}

static double error_of(const weir_plan_simulation_t *simulation) {
    double accounted = fabs(simulation->accounted / simulation->planned - 1.0);
    double resident = fabs(simulation->resident / simulation->planned - 1.0);
    return accounted > resident ? accounted : resident;
}

static void print_simulation(const weir_plan_simulation_t *s, bool json) {
    char a[32], b[32], c[32], d[32];
    if (json) {
        (void)printf(
            ", \"simulation\": {\"rows\": %llu, \"draws\": %llu, \"planned_bytes\": %.17g, "
            "\"accounted_bytes\": %.17g, \"resident_bytes\": %.17g, \"error\": %.4f, "
            "\"seconds\": %.4g}",
            (unsigned long long)s->rows, (unsigned long long)s->draws, s->planned, s->accounted,
            s->resident, error_of(s), s->seconds);
        return;
    }
    (void)printf("simulated    %s rows after %s draws: planned %s, by the table's count %s",
                 weir_human_count((double)s->rows, a), weir_human_count((double)s->draws, b),
                 weir_human_bytes(s->planned, c), weir_human_bytes(s->accounted, d));
    (void)printf(", resident %s (%.1f%% off at most)\n", weir_human_bytes(s->resident, a),
                 100.0 * error_of(s));
}

static weir_err_t run(arguments_t *arguments, weir_error_t *error) {
    weir_config_t config;
    weir_row_schema_t schemas[WEIR_MODEL_MAX_TABLES];
    weir_plan_input_t *input = &arguments->input;
    weir_plan_simulation_t simulation = {.rows = 0};
    weir_err_t err =
        weir_config_load(arguments->config, arguments->sets, arguments->set_count, &config, error);
    if (err != WEIR_OK) {
        return err;
    }
    (void)weir_model_tables(&config, schemas);
    const weir_row_schema_t *item = &schemas[WEIR_MODEL_ITEM_TABLE];
    if (arguments->parameters > 0.0) {
        input->rows = ceil(arguments->parameters / weir_row_layout(item).dim);
    }
    input->workers = input->workers > 0.0 ? input->workers : (double)config.cluster.workers;
    if (input->mean_length == 0.0) {
        input->mean_length = (double)config.model.max_sequence_length;
    }
    err = weir_plan_measure(item, arguments->scratch, &input->constants, error);
    if (err == WEIR_OK && arguments->scale > 0.0) {
        err =
            weir_plan_simulate(item, input->rows, input->skew,
                               (uint64_t)ceil(input->rows / arguments->scale), &simulation, error);
    }
    if (err != WEIR_OK) {
        return err;
    }
    weir_plan_t plan = weir_plan_make(&config, item, input);
    if (arguments->json) {
        print_json(input, &plan);
    } else {
        print_plan(input, &plan);
    }
    if (simulation.rows > 0) {
        print_simulation(&simulation, arguments->json);
    }
    (void)fputs(arguments->json ? "}\n" : "", stdout);
    if (simulation.rows > 0 && error_of(&simulation) > 0.03) {
        err = weir_errorf(error, WEIR_ERR_INVALID,
                          "the plan's memory is %.1f%% away from the table's",
                          100.0 * error_of(&simulation));
        if (simulation.rows < 1e6) {
            weir_error_hint(error, "of so few rows the index is mostly room to grow: --simulate "
                                   "a smaller number drives more");
        }
        return err;
    }
    if (!plan.fits) {
        err = weir_errorf(error, WEIR_ERR_INVALID, "%.0f servers do not hold the table",
                          plan.servers);
        weir_error_hint(error, "leave --servers out to see how many do");
    }
    return err;
}

int weir_verb_plan(int argc, char **argv) {
    static const struct argp argp = {
        options,
        parse_option,
        NULL,
        "Say how many servers a model needs, how much memory, network and time a step and a "
        "checkpoint take, from its configuration and from what this machine measures.",
        NULL,
        NULL,
        NULL};
    weir_error_t error = {0};
    arguments_t arguments = {.scratch = ".",
                             .input = {.usable = 0.9, .skew = 0.99, .constants.network = 10e9},
                             .sets = calloc((size_t)argc, sizeof *arguments.sets)};
    if (arguments.sets == NULL) {
        (void)weir_errorf(&error, WEIR_ERR_MEMORY, "out of memory");
        weir_fatal(&error);
    }
    (void)argp_parse(&argp, argc, argv, 0, NULL, &arguments);
    weir_err_t err = run(&arguments, &error);
    free(arguments.sets);
    if (fflush(stdout) != 0 && err == WEIR_OK) {
        err = weir_errorf(&error, WEIR_ERR_IO, "cannot write to standard output");
    }
    if (err != WEIR_OK) {
        weir_fatal(&error);
    }
    return 0;
}
