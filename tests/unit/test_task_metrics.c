/* Metrics of tasks against their definitions: plain loops over all samples, over all pairs. */
#include "tests/suite.h"
#include "tests/unit/model_cases.h"
#include "worker/exact_sum.h"
#include "worker/task_metrics.h"

#include <float.h>
#include <string.h>

enum { SAMPLES = 1500, USERS = 40, TASKS = 3, PLENTY = 100000 };

static const weir_task_kind_t kinds[TASKS] = {WEIR_TASK_BINARY, WEIR_TASK_REGRESSION,
                                              WEIR_TASK_BINARY};

typedef struct {
    uint64_t group;
    float label, score;
} sample_t;

/* Scores of few values have ties; labels depend on scores; users 0 .. 4 have one label only. */
static sample_t *make_samples(uint64_t seed, size_t task) {
    case_rng_t rng = {.seed = seed};
    sample_t *samples = case_allocate(SAMPLES, sizeof *samples);
    for (size_t i = 0; i < SAMPLES; i++) {
        double z = weir_normal_quantile(weir_uniform01(case_word(&rng))) - 0.7;
        z = task == 2 ? round(4.0 * z) / 4.0 : z;
        samples[i].group = case_below(&rng, USERS);
        samples[i].score = (float)z;
        bool positive = weir_uniform01(case_word(&rng)) < 1.0 / (1.0 + exp(-z));
        samples[i].label = positive ? 1.0f : 0.0f;
        if (samples[i].group < 5) {
            samples[i].label = samples[i].group % 2 == 0 ? 1.0f : 0.0f;
        }
        if (task == 1) {
            samples[i].label = (float)(3.0 * z + 0.1 * (double)case_below(&rng, 10));
        }
    }
    return samples;
}

static weir_task_metrics_t *make_metrics(size_t max_samples) {
    weir_task_metrics_t *metrics = NULL;
    ck_assert_int_eq(weir_task_metrics_create(kinds, TASKS, max_samples, &metrics, NULL), WEIR_OK);
    return metrics;
}

static void add(weir_task_metrics_t *metrics, size_t task, const sample_t *sample) {
    ck_assert_int_eq(
        weir_task_metrics_add(metrics, task, sample->group, sample->label, sample->score, NULL),
        WEIR_OK);
}

static weir_task_result_t result_of(weir_task_metrics_t *metrics, size_t task) {
    weir_task_result_t result;
    ck_assert_int_eq(weir_task_metrics_result(metrics, task, &result, NULL), WEIR_OK);
    return result;
}

/* ---- the definitions ---- */

static double plain_auc(const sample_t *samples, const bool *in) {
    double won = 0.0, pairs = 0.0;
    for (size_t i = 0; i < SAMPLES; i++) {
        for (size_t j = 0; j < SAMPLES; j++) {
            if (in[i] && in[j] && samples[i].label > 0.5f && samples[j].label < 0.5f) {
                pairs += 1.0;
                won += samples[i].score > samples[j].score   ? 1.0
                       : samples[i].score < samples[j].score ? 0.0
                                                             : 0.5;
            }
        }
    }
    return pairs > 0.0 ? won / pairs : (double)NAN;
}

static double plain_grouped_auc(const sample_t *samples, uint64_t *groups) {
    double weighted = 0.0, weights = 0.0;
    *groups = 0;
    for (uint64_t user = 0; user < USERS; user++) {
        bool in[SAMPLES];
        double count = 0.0;
        for (size_t i = 0; i < SAMPLES; i++) {
            in[i] = samples[i].group == user;
            count += in[i] ? 1.0 : 0.0;
        }
        double auc = plain_auc(samples, in);
        if (!isnan(auc)) {
            weighted += count * auc;
            weights += count;
            (*groups)++;
        }
    }
    return weighted / weights;
}

static void check_binary(const weir_task_result_t *result, const sample_t *samples) {
    double loss = 0.0, right = 0.0, predicted = 0.0, positives = 0.0, n = SAMPLES;
    bool all[SAMPLES];
    uint64_t groups = 0;
    for (size_t i = 0; i < SAMPLES; i++) {
        double p = 1.0 / (1.0 + exp(-(double)samples[i].score));
        bool positive = samples[i].label > 0.5f;
        loss -= positive ? log(p) : log(1.0 - p);
        right += positive == (p > 0.5) ? 1.0 : 0.0;
        predicted += p;
        positives += positive ? 1.0 : 0.0;
        all[i] = true;
    }
    double rate = positives / n, entropy = -rate * log(rate) - (1.0 - rate) * log(1.0 - rate);
    double grouped = plain_grouped_auc(samples, &groups);
    ck_assert_uint_eq(result->samples, SAMPLES);
    ck_assert_uint_eq(result->groups, groups);
    ck_assert(groups > 20 && groups <= USERS - 5);
    ck_assert_double_eq_tol(result->log_loss, loss / n, 1e-12);
    ck_assert_double_eq_tol(result->ne, loss / n / entropy, 1e-12);
    ck_assert_double_eq_tol(result->accuracy, right / n, 1e-15);
    ck_assert_double_eq_tol(result->calibration, predicted / positives, 1e-12);
    ck_assert_double_eq_tol(result->label_mean, rate, 1e-15);
    ck_assert_double_eq_tol(result->score_mean, predicted / n, 1e-12);
    ck_assert_double_eq_tol(result->auc, plain_auc(samples, all), 1e-14);
    ck_assert_double_eq_tol(result->grouped_auc, grouped, 1e-12);
    ck_assert(fabs(result->auc - 0.5) > 0.05 && fabs(result->auc - grouped) > 1e-3);
    ck_assert(result->auc_error <= 0.0 && result->grouped_share >= 1.0);
    ck_assert(isnan(result->mse));
}

START_TEST(metrics_are_those_of_plain_loops) {
    weir_task_metrics_t *metrics = make_metrics(PLENTY);
    for (size_t task = 0; task < TASKS; task++) {
        sample_t *samples = make_samples(7 + task, task);
        double squares = 0.0, absolute = 0.0;
        for (size_t i = 0; i < SAMPLES; i++) {
            double difference = (double)samples[i].score - (double)samples[i].label;
            add(metrics, task, &samples[i]);
            squares += difference * difference;
            absolute += fabs(difference);
        }
        weir_task_result_t result = result_of(metrics, task);
        if (kinds[task] == WEIR_TASK_BINARY) {
            check_binary(&result, samples);
        } else {
            ck_assert_double_eq_tol(result.mse, squares / SAMPLES, 1e-12 * squares);
            ck_assert_double_eq_tol(result.mae, absolute / SAMPLES, 1e-12 * absolute);
            ck_assert(isnan(result.auc) && isnan(result.ne));
        }
        free(samples);
    }
    weir_task_metrics_destroy(metrics);
}
END_TEST

/* Samples dealt to `workers` in some way, their states saved and merged in some order. */
static void merge_dealt(size_t workers, size_t max_samples, weir_task_result_t results[TASKS]) {
    weir_task_metrics_t *parts[8], *sum = make_metrics(max_samples);
    for (size_t w = 0; w < workers; w++) {
        parts[w] = make_metrics(max_samples);
    }
    for (size_t task = 0; task < TASKS; task++) {
        sample_t *samples = make_samples(7 + task, task);
        for (size_t i = 0; i < SAMPLES; i++) {
            size_t k = workers % 2 == 0 ? SAMPLES - 1 - i : i;
            add(parts[(k * 7 + k / 100) % workers], task, &samples[k]);
        }
        free(samples);
    }
    for (size_t w = workers; w-- > 0;) {
        void *bytes = NULL;
        size_t size = 0;
        weir_error_t error = {0};
        ck_assert_int_eq(weir_task_metrics_save(parts[w], &bytes, &size, NULL), WEIR_OK);
        ck_assert_msg(weir_task_metrics_merge_saved(sum, bytes, size, &error) == WEIR_OK, "%s",
                      error.message);
        free(bytes);
        weir_task_metrics_destroy(parts[w]);
    }
    for (size_t task = 0; task < TASKS; task++) {
        memset(&results[task], 0, sizeof results[task]);
        results[task] = result_of(sum, task);
    }
    weir_task_metrics_destroy(sum);
}

START_TEST(the_result_is_the_same_bit_for_bit_for_any_number_of_workers) {
    const size_t limits[] = {PLENTY, SAMPLES, 400};
    for (size_t l = 0; l < sizeof limits / sizeof limits[0]; l++) {
        weir_task_result_t alone[TASKS], dealt[TASKS];
        merge_dealt(1, limits[l], alone);
        for (size_t workers = 2; workers <= 8; workers += 3) {
            merge_dealt(workers, limits[l], dealt);
            for (size_t task = 0; task < TASKS; task++) {
                char one[1024], other[1024];
                weir_task_result_to_json(&alone[task], one, sizeof one);
                weir_task_result_to_json(&dealt[task], other, sizeof other);
                ck_assert_str_eq(one, other);
                ck_assert_int_eq(memcmp(&alone[task].ne, &dealt[task].ne, sizeof(double)), 0);
                ck_assert_int_eq(memcmp(&alone[task].auc, &dealt[task].auc, sizeof(double)), 0);
            }
        }
    }
}
END_TEST

START_TEST(beyond_its_memory_auc_is_off_by_no_more_than_it_says) {
    weir_task_result_t exact[TASKS], binned[TASKS];
    merge_dealt(3, PLENTY, exact);
    merge_dealt(3, 300, binned);
    for (size_t task = 0; task < TASKS; task += 2) {
        ck_assert(binned[task].auc_error > 0.0);
        ck_assert_double_le(fabs(binned[task].auc - exact[task].auc),
                            binned[task].auc_error + 1e-15);
        ck_assert_double_le(binned[task].auc_error, task == 2 ? 0.1 : 1e-3);
        ck_assert_double_eq_tol(binned[task].ne, exact[task].ne, 1e-300);
        ck_assert(binned[task].grouped_share < 1.0 && binned[task].groups > 0 &&
                  binned[task].groups < exact[task].groups);
    }
}
END_TEST

START_TEST(what_is_not_defined_is_not_a_number) {
    weir_task_metrics_t *metrics = make_metrics(PLENTY);
    char text[1024];
    weir_task_result_t result = result_of(metrics, 0);
    ck_assert(isnan(result.ne) && isnan(result.auc) && isnan(result.accuracy));
    add(metrics, 0, &(sample_t){.group = 3, .label = 0.0f, .score = -1.0f});
    result = result_of(metrics, 0);
    ck_assert(isnan(result.ne) && isnan(result.auc) && isnan(result.calibration));
    ck_assert_double_eq_tol(result.log_loss, log1p(exp(-1.0)), 1e-15);
    weir_task_result_to_json(&result, text, sizeof text);
    ck_assert_ptr_nonnull(strstr(text, "\"ne\": null"));
    weir_task_metrics_destroy(metrics);
}
END_TEST

START_TEST(a_score_that_is_not_a_number_counts_as_the_most_wrong) {
    weir_task_metrics_t *metrics = make_metrics(PLENTY);
    const sample_t samples[] = {{1, 1.0f, NAN}, {1, 0.0f, NAN}, {1, 1.0f, 0.5f}, {1, 0.0f, -0.5f}};
    for (size_t i = 0; i < 4; i++) {
        add(metrics, 0, &samples[i]);
    }
    weir_task_result_t result = result_of(metrics, 0);
    ck_assert_uint_eq(result.broken, 2);
    ck_assert_double_eq_tol(result.accuracy, 0.5, 1e-300);
    ck_assert_double_eq_tol(result.auc, 0.25, 1e-15);
    ck_assert_double_gt(result.log_loss, 39.0);
    add(metrics, 1, &(sample_t){1, 1.0f, INFINITY});
    result = result_of(metrics, 1);
    ck_assert(result.broken == 1 && isnan(result.mse));
    weir_task_metrics_destroy(metrics);
}
END_TEST

START_TEST(labels_and_tasks_out_of_their_domain_are_refused) {
    weir_task_metrics_t *metrics = make_metrics(PLENTY), *none = NULL;
    ck_assert_int_eq(weir_task_metrics_add(metrics, 0, 1, 0.5f, 0.0f, NULL), WEIR_ERR_INVALID);
    ck_assert_int_eq(weir_task_metrics_add(metrics, 0, 1, 2.0f, 0.0f, NULL), WEIR_ERR_INVALID);
    ck_assert_int_eq(weir_task_metrics_add(metrics, 1, 1, NAN, 0.0f, NULL), WEIR_ERR_INVALID);
    ck_assert_int_eq(weir_task_metrics_add(metrics, TASKS, 1, 0.0f, 0.0f, NULL), WEIR_ERR_INVALID);
    ck_assert_int_eq(weir_task_metrics_create(kinds, 0, 1, &none, NULL), WEIR_ERR_INVALID);
    ck_assert_uint_eq(result_of(metrics, 0).samples, 0);
    weir_task_metrics_destroy(metrics);
}
END_TEST

/* Every byte changed, every length cut: an error or another state, nothing worse. */
START_TEST(damaged_states_are_refused_or_harmless) {
    weir_task_metrics_t *metrics = make_metrics(8), *sum = make_metrics(8);
    void *bytes = NULL;
    size_t size = 0, refused = 0;
    for (size_t i = 0; i < 20; i++) {
        add(metrics, 0, &(sample_t){i, i % 3 == 0 ? 1.0f : 0.0f, (float)i});
    }
    ck_assert_int_eq(weir_task_metrics_save(metrics, &bytes, &size, NULL), WEIR_OK);
    for (size_t cut = 0; cut < size; cut += cut < 200 ? 1 : 97) {
        uint8_t *part = case_allocate(cut, 1);
        memcpy(part, bytes, cut);
        ck_assert_int_eq(weir_task_metrics_merge_saved(sum, part, cut, NULL), WEIR_ERR_CORRUPT);
        free(part);
    }
    for (size_t at = 0; at < 200; at++) { /* the heads: all but magic may be another state */
        ((uint8_t *)bytes)[at] ^= 0x41;
        refused += weir_task_metrics_merge_saved(sum, bytes, size, NULL) != WEIR_OK;
        ((uint8_t *)bytes)[at] ^= 0x41;
    }
    ck_assert_uint_gt(refused, 60);
    free(bytes);
    weir_task_metrics_destroy(metrics);
    weir_task_metrics_destroy(sum);
}
END_TEST

START_TEST(exact_sums_do_not_depend_on_the_order_of_terms) {
    const double terms[] = {1e300, 1.0, -1e300, DBL_MIN / 8.0, 1e-30, -1.0, 0x1p-1074, -DBL_MAX};
    weir_exact_sum_t forth = {0}, back = {0}, half = {0};
    for (size_t i = 0; i < 8; i++) {
        weir_exact_sum_add(&forth, terms[i]);
        weir_exact_sum_add(i < 4 ? &back : &half, terms[7 - i]);
    }
    weir_exact_sum_merge(&back, &half);
    weir_exact_sum_settle(&forth);
    ck_assert_int_eq(memcmp(forth.digits, back.digits, sizeof forth.digits), 0);
    weir_exact_sum_add(&forth, DBL_MAX);
    ck_assert_double_eq_tol(weir_exact_sum_value(&forth), 1e-30, 1e-45);
    weir_exact_sum_add(&forth, -1e-30);
    ck_assert(weir_exact_sum_value(&forth) == DBL_MIN / 8.0 + 0x1p-1074);
    weir_exact_sum_add(&forth, -DBL_MIN);
    ck_assert(weir_exact_sum_value(&forth) == DBL_MIN / 8.0 + 0x1p-1074 - DBL_MIN);
}
END_TEST

START_TEST(exact_sums_are_those_of_wide_integers) {
    case_rng_t rng = {.seed = 3};
    weir_exact_sum_t sum = {0};
    int64_t whole = 0; /* of 2^-20 */
    for (size_t i = 0; i < 100000; i++) {
        int64_t term = (int64_t)case_word(&rng) - (int64_t)case_word(&rng);
        weir_exact_sum_add(&sum, ldexp((double)term, -20));
        whole += term;
    }
    ck_assert(weir_exact_sum_value(&sum) == ldexp((double)whole, -20));
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("task_metrics");
    TCase *t = tcase_create("task_metrics");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, metrics_are_those_of_plain_loops);
    tcase_add_test(t, the_result_is_the_same_bit_for_bit_for_any_number_of_workers);
    tcase_add_test(t, beyond_its_memory_auc_is_off_by_no_more_than_it_says);
    tcase_add_test(t, what_is_not_defined_is_not_a_number);
    tcase_add_test(t, a_score_that_is_not_a_number_counts_as_the_most_wrong);
    tcase_add_test(t, labels_and_tasks_out_of_their_domain_are_refused);
    tcase_add_test(t, damaged_states_are_refused_or_harmless);
    tcase_add_test(t, exact_sums_do_not_depend_on_the_order_of_terms);
    tcase_add_test(t, exact_sums_are_those_of_wide_integers);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
