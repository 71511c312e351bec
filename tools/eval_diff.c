/* weir eval-diff: two files of users' results, compared user by user. */
#include "common/log.h"
#include "tools/eval_bootstrap.h"
#include "tools/resample.h"
#include "tools/user_values.h"
#include "tools/verbs.h"

#include <argp.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { OPTION_JSON = 256, OPTION_SAMPLES, OPTION_SEED };

typedef struct {
    const char *files[2];
    size_t file_count, samples;
    uint64_t seed;
    bool json;
} arguments_t;

static const struct argp_option options[] = {
    {"samples", OPTION_SAMPLES, "N", 0, "drawings of signs and of users (default: 10000)", 0},
    {"seed", OPTION_SEED, "SEED", 0, "of the drawings (default: 1)", 0},
    {"json", OPTION_JSON, NULL, 0, "print JSON", 0},
    {0},
};

static error_t parse_option(int key, char *value, struct argp_state *state) {
    arguments_t *arguments = state->input;
    uint64_t number = 0;
    switch (key) {
    case OPTION_SAMPLES:
        if (!weir_eval_parse_whole(value, 1, WEIR_RESAMPLE_MOST, &number)) {
            argp_error(state, "--samples wants a number from 1 to %d, not \"%s\"",
                       WEIR_RESAMPLE_MOST, value);
        }
        arguments->samples = (size_t)number;
        return 0;
    case OPTION_SEED:
        if (!weir_eval_parse_whole(value, 0, UINT64_MAX, &arguments->seed)) {
            argp_error(state, "--seed wants a whole number, not \"%s\"", value);
        }
        return 0;
    case OPTION_JSON:
        arguments->json = true;
        return 0;
    case ARGP_KEY_ARG:
        if (arguments->file_count == 2) {
            argp_error(state, "unexpected argument \"%s\"", value);
        } else {
            arguments->files[arguments->file_count++] = value;
        }
        return 0;
    case ARGP_KEY_END:
        if (arguments->file_count < 2) {
            argp_error(state, "two files of `weir eval --per-user` are wanted");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

typedef struct {
    double means[2];
    weir_interval_t interval; /* of the difference */
    weir_paired_t test;
} comparison_t;

typedef struct {
    weir_user_result_t *results[2]; /* owned; after matching, the same users in both */
    size_t counts[2], users, alone[2];
    double *differences; /* owned: users x metrics, the second less the first */
    double *column;      /* owned: of one metric */
} pair_t;

/* Keep the users that both have. */
static weir_err_t match(pair_t *pair, const arguments_t *arguments, weir_error_t *error) {
    weir_user_result_t *a = pair->results[0], *b = pair->results[1];
    size_t i = 0, j = 0;
    while (i < pair->counts[0] && j < pair->counts[1]) {
        if (a[i].user != b[j].user) {
            size_t *behind = a[i].user < b[j].user ? &i : &j;
            (*behind)++;
            continue;
        }
        if (a[i].target != b[j].target) {
            weir_err_t err = weir_errorf(
                error, WEIR_ERR_INVALID, "%s and %s have different targets of user %llu",
                arguments->files[0], arguments->files[1], (unsigned long long)a[i].user);
            weir_error_hint(error, "both are to be evaluated on the same data and the same split");
            return err;
        }
        a[pair->users] = a[i++];
        b[pair->users++] = b[j++];
    }
    pair->alone[0] = pair->counts[0] - pair->users;
    pair->alone[1] = pair->counts[1] - pair->users;
    return pair->users > 0
               ? WEIR_OK
               : weir_errorf(error, WEIR_ERR_INVALID, "%s and %s have no user in common",
                             arguments->files[0], arguments->files[1]);
}

static weir_err_t compare(pair_t *pair, const arguments_t *arguments,
                          comparison_t comparisons[WEIR_USER_VALUES], weir_error_t *error) {
    weir_interval_t intervals[WEIR_USER_VALUES];
    size_t users = pair->users;
    pair->differences = malloc(users * WEIR_USER_VALUES * sizeof *pair->differences);
    pair->column = malloc(users * sizeof *pair->column);
    if (pair->differences == NULL || pair->column == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory to compare %zu users", users);
    }
    weir_err_t err = WEIR_OK;
    for (size_t k = 0; k < WEIR_USER_VALUES && err == WEIR_OK; k++) {
        comparisons[k] = (comparison_t){.means = {0.0, 0.0}};
        for (size_t i = 0; i < users; i++) {
            double a = weir_user_value(pair->results[0][i].rank, k);
            double b = weir_user_value(pair->results[1][i].rank, k);
            comparisons[k].means[0] += a;
            comparisons[k].means[1] += b;
            pair->column[i] = pair->differences[i * WEIR_USER_VALUES + k] = b - a;
        }
        comparisons[k].means[0] /= (double)users;
        comparisons[k].means[1] /= (double)users;
        err = weir_paired_test(pair->column, users, arguments->samples, arguments->seed,
                               &comparisons[k].test, error);
    }
    if (err == WEIR_OK) {
        err = weir_bootstrap(pair->differences, users, WEIR_USER_VALUES, arguments->samples,
                             arguments->seed, intervals, error);
    }
    for (size_t k = 0; k < WEIR_USER_VALUES && err == WEIR_OK; k++) {
        comparisons[k].interval = intervals[k];
    }
    return err;
}

static void print_chance(double chance) {
    if (isnan(chance)) {
        (void)printf("  %12s", "-");
    } else {
        (void)printf("  %12.3g", chance);
    }
}

static void print_table(const pair_t *pair, const comparison_t *comparisons) {
    (void)printf("users %zu", pair->users);
    if (pair->alone[0] + pair->alone[1] > 0) {
        (void)printf("; left out: %zu that only the first has, %zu that only the second has",
                     pair->alone[0], pair->alone[1]);
    }
    (void)printf("\n%-8s  %8s  %8s  %8s  %20s  %12s  %12s  %12s\n", "", "first", "second", "gain",
                 "95% interval", "p: t", "p: Wilcoxon", "p: sign flips");
    for (size_t k = 0; k < WEIR_USER_VALUES; k++) {
        const comparison_t *c = &comparisons[k];
        (void)printf("%-8s  %8.4f  %8.4f  %+8.4f  %+8.4f .. %+8.4f", weir_user_value_name(k),
                     c->means[0], c->means[1], c->test.mean, c->interval.low, c->interval.high);
        print_chance(c->test.t_p);
        print_chance(c->test.w_p);
        print_chance(c->test.flip_p);
        (void)putchar('\n');
    }
}

static void print_member(const char *name, double value) {
    if (isfinite(value)) {
        (void)printf(", \"%s\": %.17g", name, value);
    } else {
        (void)printf(", \"%s\": null", name);
    }
}

static void print_json(const pair_t *pair, const comparison_t *comparisons,
                       const arguments_t *arguments) {
    (void)printf("{\"users\": %zu, \"only_first\": %zu, \"only_second\": %zu, \"samples\": %zu, "
                 "\"seed\": %llu, \"metrics\": {",
                 pair->users, pair->alone[0], pair->alone[1], arguments->samples,
                 (unsigned long long)arguments->seed);
    for (size_t k = 0; k < WEIR_USER_VALUES; k++) {
        const comparison_t *c = &comparisons[k];
        (void)printf("%s\"%s\": {\"users_that_differ\": %zu", k > 0 ? ", " : "",
                     weir_user_value_name(k), c->test.nonzero);
        print_member("first", c->means[0]);
        print_member("second", c->means[1]);
        print_member("gain", c->test.mean);
        print_member("low", c->interval.low);
        print_member("high", c->interval.high);
        print_member("t", c->test.t);
        print_member("p_t", c->test.t_p);
        print_member("wilcoxon", c->test.w);
        print_member("p_wilcoxon", c->test.w_p);
        print_member("p_sign_flips", c->test.flip_p);
        (void)putchar('}');
    }
    (void)printf("}}\n");
}

int weir_verb_eval_diff(int argc, char **argv) {
    static const struct argp argp = {
        options,
        parse_option,
        "FIRST SECOND",
        "Compare two evaluations user by user: FIRST and SECOND are files of `weir eval "
        "--per-user`, of the same data and split. Prints the gain of the second over the first, "
        "its interval, and how likely a difference as large is where neither is better.",
        NULL,
        NULL,
        NULL};
    weir_error_t error = {0};
    arguments_t arguments = {.samples = 10000, .seed = 1};
    comparison_t comparisons[WEIR_USER_VALUES];
    pair_t pair = {.users = 0};
    (void)argp_parse(&argp, argc, argv, 0, NULL, &arguments);
    weir_err_t err = WEIR_OK;
    for (size_t i = 0; i < 2 && err == WEIR_OK; i++) {
        err = weir_user_results_read(arguments.files[i], &pair.results[i], &pair.counts[i], &error);
    }
    if (err == WEIR_OK) {
        err = match(&pair, &arguments, &error);
    }
    if (err == WEIR_OK) {
        err = compare(&pair, &arguments, comparisons, &error);
    }
    if (err == WEIR_OK && arguments.json) {
        print_json(&pair, comparisons, &arguments);
    } else if (err == WEIR_OK) {
        print_table(&pair, comparisons);
    }
    free(pair.results[0]);
    free(pair.results[1]);
    free(pair.differences);
    free(pair.column);
    if (err != WEIR_OK) {
        weir_fatal(&error);
    }
    return 0;
}
