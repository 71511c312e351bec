/* Many schedules of a whole job, each to its end. SIM_SCHEDULES: how many (2,000); SIM_SEED: one,
 * the one that failed. */
#include "common/log.h"
#include "tests/scratch.h"
#include "tests/sim/world.h"
#include "tests/suite.h"

static uint64_t number_in(const char *name, uint64_t otherwise) {
    const char *text = getenv(name);
    return text != NULL ? strtoull(text, NULL, 10) : otherwise;
}

START_TEST(every_schedule_ends_as_if_nothing_had_happened) {
    weir_scratch_t scratch;
    uint64_t one = number_in("SIM_SEED", 0), count = number_in("SIM_SCHEDULES", 2000);
    uint64_t first = one != 0 ? one : 1, last = one != 0 ? one : count, restarts = 0;
    sim_outcome_t all = {0};
    weir_log_init("test", -1, WEIR_LOG_ERROR + 1);
    for (uint64_t seed = first; seed <= last; seed++) {
        weir_scratch_init(&scratch);
        sim_outcome_t outcome = sim_play(seed, scratch.path);
        weir_scratch_fini(&scratch);
        all.events += outcome.events;
        all.starts += outcome.starts;
        all.steps_repeated += outcome.steps_repeated;
        restarts += outcome.starts > 1 ? 1 : 0;
    }
    (void)printf("schedules: %llu, with restarts: %llu, restarts: %llu, steps repeated: %llu, "
                 "events: %llu\n",
                 (unsigned long long)(last - first + 1), (unsigned long long)restarts,
                 (unsigned long long)(all.starts - (last - first + 1)),
                 (unsigned long long)all.steps_repeated, (unsigned long long)all.events);
    if (one == 0) { /* the schedules are such as mean something */
        ck_assert_uint_gt(restarts, count / 4);
        ck_assert_uint_gt(all.steps_repeated, count / 4);
    }
}
END_TEST

START_TEST(a_seed_gives_the_same_schedule_again) {
    sim_outcome_t outcomes[2];
    weir_scratch_t scratch;
    for (size_t i = 0; i < 2; i++) {
        weir_scratch_init(&scratch);
        outcomes[i] = sim_play(12345, scratch.path);
        weir_scratch_fini(&scratch);
    }
    ck_assert_uint_eq(outcomes[0].events, outcomes[1].events);
    ck_assert_uint_eq(outcomes[0].starts, outcomes[1].starts);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("sim");
    TCase *t = tcase_create("sim");
    tcase_set_timeout(t, 3600);
    tcase_add_test(t, every_schedule_ends_as_if_nothing_had_happened);
    tcase_add_test(t, a_seed_gives_the_same_schedule_again);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
