/* Results within a budget of activations against those without one; the budgets kept; and the table
 * of docs/performance.md against the layout. */
#include "common/file.h"
#include "tests/suite.h"
#include "tests/unit/hstu_cases.h"
#include "worker/hstu_memory.h"

#include <stdio.h>
#include <string.h>

static const weir_hstu_config_t small = {.embedding_dim = 18,
                                         .blocks = 4,
                                         .heads = 2,
                                         .dqk = 5,
                                         .dv = 7,
                                         .max_sequence_length = 40,
                                         .attention_length = 45,
                                         .input_dropout = 0.2,
                                         .layer_dropout = 0.3,
                                         .position_bias = true,
                                         .time_bias = true};
static const size_t ragged[] = {11, 1, 40, 2, 17};
enum { USERS = 5, TOKENS = 71, LONGEST = 40, DIM = 18 };

static const double rounding = sizeof(weir_real_t) == 8 ? 1e-12 : 1e-4;

static hstu_case_t *create_case(uint64_t seed) {
    hstu_case_t *c = hstu_case_create(&small, seed, ragged, USERS);
    c->embeds_users = true;
    return c;
}

static hstu_case_t *create_limited(uint64_t seed, size_t budget) {
    hstu_case_t *c = create_case(seed);
    weir_encoder_limit_activations(c->encoder, budget);
    return c;
}

static void check_same_bits(const hstu_case_t *a, const hstu_case_t *b) {
    size_t real = sizeof(weir_real_t), elements = weir_hstu_parameter_elements(&small);
    ck_assert_double_eq(a->value, b->value);
    ck_assert_mem_eq(a->encoded, b->encoded, TOKENS * DIM * real);
    ck_assert_mem_eq(a->d_items, b->d_items, TOKENS * DIM * real);
    ck_assert_mem_eq(a->d_parameters, b->d_parameters, elements * real);
    ck_assert_mem_eq(a->d_user_rows, b->d_user_rows, USERS * DIM * real);
}

static void check_same_to_rounding(const hstu_case_t *a, const hstu_case_t *b) {
    ck_assert_double_eq_tol(a->value, b->value, rounding);
    ck_assert_double_le(case_error(a->encoded, b->encoded, TOKENS * DIM), rounding);
    ck_assert_double_le(case_error(a->d_items, b->d_items, TOKENS * DIM), rounding);
    ck_assert_double_le(case_error(a->d_user_rows, b->d_user_rows, USERS * DIM), rounding);
    for (size_t i = 0; i < weir_hstu_parameter_count(&small); i++) { /* each by its own size */
        weir_parameter_t p = weir_hstu_parameter(&small, i);
        ck_assert_msg(case_error(a->d_parameters + p.offset, b->d_parameters + p.offset,
                                 p.rows * p.cols) <= rounding,
                      "%s", p.name);
    }
}

START_TEST(layers_that_are_recomputed_give_the_same_bits) {
    hstu_case_t *all = create_case(1);
    hstu_case_step(all);
    ck_assert_uint_eq(weir_encoder_activations(all->encoder).kept_layers, small.blocks);
    for (size_t kept = 1; kept <= small.blocks; kept++) {
        size_t budget = weir_hstu_memory_bytes(&small, TOKENS, kept);
        hstu_case_t *c = create_limited(1, budget);
        hstu_case_step(c);
        weir_hstu_activations_t activations = weir_encoder_activations(c->encoder);
        ck_assert_uint_eq(activations.groups, 1);
        ck_assert_uint_eq(activations.kept_layers, kept);
        ck_assert_uint_eq(activations.bytes, budget);
        check_same_bits(c, all);
        hstu_case_destroy(c);
    }
    hstu_case_destroy(all);
}
END_TEST

START_TEST(groups_of_users_give_the_same_to_rounding) {
    const size_t budgets[] = {weir_hstu_memory_bytes(&small, TOKENS, 1) - 1,
                              weir_hstu_memory_bytes(&small, LONGEST, small.blocks),
                              weir_hstu_memory_bytes(&small, LONGEST, 2),
                              weir_hstu_memory_bytes(&small, LONGEST, 1)};
    hstu_case_t *all = create_case(2);
    hstu_case_step(all);
    for (size_t i = 0; i < sizeof budgets / sizeof *budgets; i++) {
        hstu_case_t *c = create_limited(2, budgets[i]);
        hstu_case_step(c);
        weir_hstu_activations_t activations = weir_encoder_activations(c->encoder);
        ck_assert_uint_gt(activations.groups, 1);
        ck_assert_uint_le(activations.bytes, budgets[i]);
        check_same_to_rounding(c, all);
        hstu_case_destroy(c);
    }
    hstu_case_destroy(all);
}
END_TEST

START_TEST(a_budget_that_no_user_fits_leaves_every_user_alone_with_one_layer) {
    hstu_case_t *all = create_case(3), *c = create_limited(3, 1);
    hstu_case_step(all);
    hstu_case_step(c);
    weir_hstu_activations_t activations = weir_encoder_activations(c->encoder);
    ck_assert_uint_eq(activations.groups, USERS);
    ck_assert_uint_eq(activations.kept_layers, 1);
    ck_assert_uint_eq(activations.bytes, weir_hstu_memory_bytes(&small, LONGEST, 1));
    check_same_to_rounding(c, all);
    hstu_case_destroy(all);
    hstu_case_destroy(c);
}
END_TEST

START_TEST(the_same_budget_gives_the_same_bits_and_so_does_a_second_backward) {
    const size_t budgets[] = {weir_hstu_memory_bytes(&small, TOKENS, 2),
                              weir_hstu_memory_bytes(&small, LONGEST, 2)};
    for (size_t i = 0; i < sizeof budgets / sizeof *budgets; i++) {
        hstu_case_t *a = create_limited(4, budgets[i]), *b = create_limited(4, budgets[i]);
        hstu_case_step(a);
        hstu_case_step(b);
        hstu_case_step(b);
        check_same_bits(a, b);
        ck_assert_int_eq(weir_encoder_backward(b->encoder, b->parameters, b->d_encoded, b->d_items,
                                               b->d_parameters, NULL, NULL, NULL),
                         WEIR_OK);
        weir_encoder_user_gradients(b->encoder, b->d_user_rows);
        check_same_bits(a, b);
        hstu_case_destroy(a);
        hstu_case_destroy(b);
    }
}
END_TEST

/* The whole buffer, from its end to its beginning, each part once. */
typedef struct {
    const weir_real_t *gradient;
    weir_real_t *seen;
    size_t begin; /* of what was announced last */
} announced_t;

static void on_ready(void *argument, size_t begin, size_t end) {
    announced_t *announced = argument;
    ck_assert_uint_eq(end, announced->begin);
    announced->begin = begin;
    memcpy(announced->seen + begin, announced->gradient + begin,
           (end - begin) * sizeof(weir_real_t));
}

START_TEST(gradients_of_groups_are_announced_once_when_final) {
    hstu_case_t *c = create_limited(5, 1);
    size_t elements = weir_hstu_parameter_elements(&small);
    announced_t announced = {.gradient = c->d_parameters,
                             .seen = case_allocate(elements, sizeof(weir_real_t)),
                             .begin = elements};
    hstu_case_step(c);
    ck_assert_int_eq(weir_encoder_backward(c->encoder, c->parameters, c->d_encoded, c->d_items,
                                           c->d_parameters, on_ready, &announced, NULL),
                     WEIR_OK);
    ck_assert_uint_eq(announced.begin, 0);
    ck_assert_mem_eq(announced.seen, c->d_parameters, elements * sizeof(weir_real_t));
    free(announced.seen);
    hstu_case_destroy(c);
}
END_TEST

START_TEST(a_plan_covers_the_batch_within_its_budget) {
    hstu_case_t *c = create_case(6);
    weir_hstu_group_t groups[USERS];
    size_t floor = weir_hstu_memory_bytes(&small, LONGEST, 1);
    size_t most = weir_hstu_memory_bytes(&small, TOKENS, small.blocks), before = USERS;
    for (size_t budget = floor; budget <= most; budget += 256) {
        size_t count = weir_hstu_memory_plan(&small, budget, &c->batch, groups), next = 0;
        for (size_t g = 0; g < count; g++) {
            ck_assert_uint_eq(groups[g].first, next);
            ck_assert_uint_gt(groups[g].end, groups[g].first);
            size_t tokens = c->offsets[groups[g].end] - c->offsets[groups[g].first];
            ck_assert_uint_le(weir_hstu_memory_bytes(&small, tokens, groups[g].kept), budget);
            next = groups[g].end;
        }
        ck_assert_uint_eq(next, USERS);
        ck_assert_uint_le(count, before); /* more memory, fewer groups */
        before = count;
    }
    ck_assert_uint_eq(before, 1);
    hstu_case_destroy(c);
}
END_TEST

/* One user of 8,192 events, four layers, in the memory of little more than one. */
START_TEST(a_long_history_gives_the_same_bits_within_a_budget) {
    const weir_hstu_config_t config = {.embedding_dim = 8,
                                       .blocks = 4,
                                       .heads = 1,
                                       .dqk = 4,
                                       .dv = 4,
                                       .max_sequence_length = 8192,
                                       .attention_length = 8192,
                                       .input_dropout = 0.1,
                                       .layer_dropout = 0.1,
                                       .position_bias = true,
                                       .time_bias = true};
    const size_t length = 8192, elements = weir_hstu_parameter_elements(&config);
    hstu_case_t *all = hstu_case_create(&config, 7, &length, 1);
    hstu_case_t *c = hstu_case_create(&config, 7, &length, 1);
    size_t budget = weir_hstu_memory_bytes(&config, length, 1);
    weir_encoder_limit_activations(c->encoder, budget);
    hstu_case_step(all);
    hstu_case_step(c);
    ck_assert_uint_eq(weir_encoder_activations(c->encoder).bytes, budget);
    ck_assert_uint_ge(weir_encoder_activations(all->encoder).bytes, budget * 3 / 2);
    ck_assert_mem_eq(c->d_parameters, all->d_parameters, elements * sizeof(weir_real_t));
    ck_assert_mem_eq(c->d_items, all->d_items, length * 8 * sizeof(weir_real_t));
    hstu_case_destroy(all);
    hstu_case_destroy(c);
}
END_TEST

START_TEST(bytes_are_those_of_the_buffers) {
    size_t tokens = 640; /* whole cache lines of one column */
    for (size_t kept = 1; kept <= small.blocks; kept++) {
        size_t sum = 0;
        for (size_t i = 0; i < weir_hstu_memory_buffers(); i++) {
            weir_hstu_buffer_t buffer = weir_hstu_memory_buffer(&small, i);
            size_t times = buffer.per == WEIR_HSTU_PER_KEPT_LAYER         ? kept
                           : buffer.per == WEIR_HSTU_PER_RECOMPUTED_LAYER ? small.blocks - kept
                                                                          : 1;
            sum += times * buffer.token_bytes * tokens;
        }
        ck_assert_uint_eq(weir_hstu_memory_bytes(&small, tokens, kept), sum);
    }
    ck_assert_uint_eq(weir_hstu_memory_bytes(&small, SIZE_MAX / 8, 1), SIZE_MAX);
}
END_TEST

/* "| `name` | kept layer | 4 P |" for every buffer, in order, in float32. */
START_TEST(the_table_of_the_documentation_is_that_of_the_layout) {
    static const char *const owners[] = {"kept layer", "recomputed layer", "step"};
    /* Bytes of float32 that name their columns: no width is another's. */
    const weir_hstu_config_t config = {.embedding_dim = 1000, .heads = 1, .dqk = 300, .dv = 7};
    const size_t f32 = sizeof(float);
    const struct {
        size_t columns;
        const char *bytes;
    } widths[] = {{1, "4"}, {1000, "4 D"}, {7, "4 V"}, {614, "4 P"}};
    char *page = NULL;
    size_t size = 0;
    weir_error_t error = {0};
    ck_assert_msg(weir_file_read(WEIR_SOURCE_DIR "/docs/performance.md", 1 << 20, &page, &size,
                                 &error) == WEIR_OK,
                  "%s", error.message);
    const char *at = strstr(page, "## Memory of a step");
    ck_assert_ptr_nonnull(at);
    for (size_t i = 0; i < weir_hstu_memory_buffers(); i++) {
        weir_hstu_buffer_t buffer = weir_hstu_memory_buffer(&config, i);
        size_t bytes = buffer.token_bytes / sizeof(weir_real_t) * f32;
        const char *formula = NULL;
        for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
            formula = bytes == widths[w].columns * f32 ? widths[w].bytes : formula;
        }
        ck_assert_ptr_nonnull(formula);
        char row[128];
        (void)snprintf(row, sizeof row, "\n| `%s` | %s | %s |", buffer.name, owners[buffer.per],
                       formula);
        at = strstr(at, row);
        ck_assert_msg(at != NULL, "docs/performance.md lacks, or has not in order:%s", row);
    }
    free(page);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("hstu memory " WEIR_REAL_NAME);
    TCase *t = tcase_create("hstu_memory");
    tcase_set_timeout(t, 240);
    tcase_add_test(t, layers_that_are_recomputed_give_the_same_bits);
    tcase_add_test(t, groups_of_users_give_the_same_to_rounding);
    tcase_add_test(t, a_budget_that_no_user_fits_leaves_every_user_alone_with_one_layer);
    tcase_add_test(t, the_same_budget_gives_the_same_bits_and_so_does_a_second_backward);
    tcase_add_test(t, gradients_of_groups_are_announced_once_when_final);
    tcase_add_test(t, a_plan_covers_the_batch_within_its_budget);
    tcase_add_test(t, a_long_history_gives_the_same_bits_within_a_budget);
    tcase_add_test(t, bytes_are_those_of_the_buffers);
    tcase_add_test(t, the_table_of_the_documentation_is_that_of_the_layout);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
