/* Boundaries that are known beforehand, against a search step by step. */
#include "tests/suite.h"
#include "worker/trainer_internal.h"

static const uint64_t every[] = {0, 1, 3, 7, 20};
enum { CHOICES = sizeof every / sizeof *every, LAST = 50 };

static weir_config_t config;
static weir_trainer_t trainer = {
    .options = {.config = &config}, .total_steps = 41, .steps_per_epoch = 6};

static uint64_t search(uint64_t step) {
    while (step < trainer.total_steps && !weir_trainer_evaluates_after(&trainer, step) &&
           !weir_trainer_is_multiple(step, (uint64_t)config.train.checkpoint_every)) {
        step++;
    }
    return step;
}

START_TEST(the_next_boundary_is_the_first_one_a_search_finds) {
    for (size_t i = 0; i < (size_t)CHOICES * CHOICES * CHOICES; i++) {
        config.eval.every_steps = (int64_t)every[i % CHOICES];
        config.eval.every_epochs = (int64_t)every[i / CHOICES % CHOICES];
        config.train.checkpoint_every = (int64_t)every[i / CHOICES / CHOICES];
        for (uint64_t step = 1; step <= LAST; step++) {
            ck_assert_uint_eq(weir_trainer_next_boundary(&trainer, step), search(step));
        }
    }
}
END_TEST

START_TEST(a_run_without_an_end_has_boundaries_too) {
    uint64_t total = trainer.total_steps;
    config.eval.every_steps = config.eval.every_epochs = 0;
    trainer.total_steps = UINT64_MAX;
    config.train.checkpoint_every = 1000;
    ck_assert_uint_eq(weir_trainer_next_boundary(&trainer, 4001), 5000);
    ck_assert_uint_eq(weir_trainer_next_boundary(&trainer, 5000), 5000);
    config.train.checkpoint_every = 0;
    ck_assert_uint_eq(weir_trainer_next_boundary(&trainer, 4001), UINT64_MAX);
    trainer.total_steps = total;
}
END_TEST

START_TEST(pulls_ahead_are_those_of_the_configuration_as_far_as_servers_keep_them) {
    weir_config_defaults(&config);
    ck_assert_uint_eq(weir_trainer_ahead(&config), 1);
    config.train.pull_ahead = 8;
    ck_assert_uint_eq(weir_trainer_ahead(&config), 8);
    config.train.consistency = WEIR_CONSISTENCY_SSP;
    config.train.staleness = 3;
    config.train.pull_ahead = 2;
    ck_assert_uint_eq(weir_trainer_ahead(&config), 5);
    config.train.staleness = 62;
    ck_assert_uint_eq(weir_trainer_ahead(&config), 9);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("trainer_boundary");
    TCase *t = tcase_create("trainer_boundary");
    tcase_add_test(t, the_next_boundary_is_the_first_one_a_search_finds);
    tcase_add_test(t, a_run_without_an_end_has_boundaries_too);
    tcase_add_test(t, pulls_ahead_are_those_of_the_configuration_as_far_as_servers_keep_them);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
