/* The production layer: its mask against the rule it was published with, its gradients against
 * central differences. Against the authors' numbers: tests/golden. */
#include "tests/suite.h"
#include "worker/stu.h"

#include <math.h>
#include <string.h>

enum { USERS = 3, MOST = 24 };

static uint64_t random_state = 7;

static double draw(void) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (double)(random_state >> 40) / (1 << 23) - 1.0;
}

static weir_real_t *draw_numbers(size_t count) {
    weir_real_t *numbers = calloc(count, sizeof *numbers);
    ck_assert_ptr_nonnull(numbers);
    for (size_t i = 0; i < count; i++) {
        numbers[i] = (weir_real_t)draw();
    }
    return numbers;
}

/* ---- the mask ---- */

typedef struct {
    int contextual, window, full, length, targets;
} mask_case_t;

/* The rule by ids: contextual tokens have id 0, targets the highest. */
static int id_of(const mask_case_t *c, int p) {
    int highest = c->length - c->targets - (c->contextual > 0 ? c->contextual - 1 : 0);
    int id = c->contextual > 0 ? (p - c->contextual + 1 > 0 ? p - c->contextual + 1 : 0) : p;
    return id < highest ? id : highest;
}

static bool rule_sees(const mask_case_t *c, int row, int column) {
    int highest = c->length - c->targets - (c->contextual > 0 ? c->contextual - 1 : 0);
    int r = id_of(c, row), s = id_of(c, column);
    if (row == column) {
        return true;
    }
    if (r > s &&
        (c->window == 0 || r - s <= c->window || (c->full > 0 && r >= highest - c->full))) {
        return true;
    }
    return c->contextual > 0 && r == 0 && s < highest;
}

START_TEST(a_token_sees_what_the_published_rule_says) {
    weir_visible_t visible[MOST];
    for (int code = 0; code < 5 * 4 * 3 * 4 * MOST; code++) {
        mask_case_t c = {.contextual = code % 5,
                         .window = code / 5 % 4 * 3,
                         .full = code / 20 % 3 * 4,
                         .targets = code / 60 % 4 * 2,
                         .length = code / 240 + 1};
        if (c.length < c.contextual + c.targets) {
            continue;
        }
        const weir_stu_config_t config = {.contextual = (size_t)c.contextual,
                                          .window = (size_t)c.window,
                                          .full_at_end = (size_t)c.full};
        weir_stu_visible(&config, (size_t)c.length, (size_t)c.targets, visible);
        for (int row = 0; row < c.length; row++) {
            for (int column = 0; column < c.length; column++) {
                bool sees = row == column ||
                            (column >= (int)visible[row].first && column < (int)visible[row].end);
                if (sees != rule_sees(&c, row, column)) { /* an assertion each would take long */
                    ck_abort_msg("%d contextual, window %d, full %d, %d tokens, %d targets: row %d "
                                 "column %d",
                                 c.contextual, c.window, c.full, c.length, c.targets, row, column);
                }
            }
        }
    }
}
END_TEST

/* ---- the layers ---- */

static const weir_stu_config_t small = {.embedding_dim = 5,
                                        .blocks = 2,
                                        .heads = 2,
                                        .dqk = 3,
                                        .dv = 2,
                                        .max_tokens = 12,
                                        .contextual = 2,
                                        .window = 3,
                                        .full_at_end = 1,
                                        .dropout = 0.3};

typedef struct {
    weir_stu_t *stu;
    weir_stu_batch_t batch;
    size_t offsets[USERS + 1];
    uint32_t targets[USERS];
    size_t elements, cells;
    weir_real_t *parameters, *d_parameters, *x, *d_x, *out, *weights; /* loss: sum(out * weights) */
} layers_t;

static void make_layers(layers_t *l, const weir_stu_config_t *config) {
    static const size_t lengths[USERS] = {12, 4, 7};
    static const uint32_t targets[USERS] = {3, 0, 2};
    weir_error_t error = {0};
    memset(l, 0, sizeof *l);
    for (size_t u = 0; u < USERS; u++) {
        l->offsets[u + 1] = l->offsets[u] + lengths[u];
        l->targets[u] = targets[u];
    }
    l->batch = (weir_stu_batch_t){
        .users = USERS, .tokens = l->offsets[USERS], .offsets = l->offsets, .targets = l->targets};
    l->elements = weir_stu_parameter_elements(config);
    l->cells = l->batch.tokens * config->embedding_dim;
    l->parameters = draw_numbers(l->elements);
    l->d_parameters = draw_numbers(l->elements);
    l->x = draw_numbers(l->cells);
    l->d_x = draw_numbers(l->cells);
    l->out = draw_numbers(l->cells);
    l->weights = draw_numbers(l->cells);
    ck_assert_msg(weir_stu_create(config, &l->stu, &error) == WEIR_OK, "%s", error.message);
}

static void free_layers(layers_t *l) {
    weir_real_t *blocks[] = {l->parameters, l->d_parameters, l->x, l->d_x, l->out, l->weights};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        free(blocks[i]);
    }
    weir_stu_destroy(l->stu);
}

static double forward(layers_t *l) {
    const weir_forward_mode_t mode = {.train = true, .seed = 5, .step = 9};
    weir_error_t error = {0};
    ck_assert_msg(weir_stu_forward(l->stu, l->parameters, &l->batch, l->x, mode, l->out, &error) ==
                      WEIR_OK,
                  "%s", error.message);
    double sum = 0.0;
    for (size_t i = 0; i < l->cells; i++) {
        sum += (double)l->out[i] * (double)l->weights[i];
    }
    return sum;
}

#ifdef WEIR_REAL_F64

static void check_slopes(layers_t *l, weir_real_t *values, const weir_real_t *gradient,
                         size_t count, const char *what) {
    const double h = 1e-6;
    for (size_t i = 0; i < count; i++) {
        double kept = values[i];
        values[i] = kept + h;
        double above = forward(l);
        values[i] = kept - h;
        double below = forward(l);
        values[i] = kept;
        double slope = (above - below) / (2.0 * h);
        ck_assert_msg(fabs(slope - gradient[i]) <= 1e-6 * fmax(1.0, fabs(slope)),
                      "%s[%zu]: slope %.12g, gradient %.12g", what, i, slope, gradient[i]);
    }
}

START_TEST(gradients_are_slopes) {
    layers_t l;
    make_layers(&l, &small);
    (void)forward(&l);
    ck_assert_int_eq(weir_stu_backward(l.stu, l.weights, l.d_x, l.d_parameters, NULL, NULL, NULL),
                     WEIR_OK);
    check_slopes(&l, l.parameters, l.d_parameters, l.elements, "parameter");
    check_slopes(&l, l.x, l.d_x, l.cells, "x");
    free_layers(&l);
}
END_TEST

#endif

START_TEST(a_target_does_not_depend_on_the_other_targets) {
    layers_t l;
    weir_stu_config_t config = small;
    config.dropout = 0.0;
    make_layers(&l, &config);
    (void)forward(&l);
    weir_real_t *before = draw_numbers(l.cells);
    memcpy(before, l.out, l.cells * sizeof *before);
    l.x[10 * config.embedding_dim] +=
        1; /* the second target of the first user, of tokens 9 to 11 */
    (void)forward(&l);
    for (size_t i = 0; i < l.cells; i++) {
        bool own = i / config.embedding_dim == 10;
        ck_assert_msg(own == (memcmp(&before[i], &l.out[i], sizeof before[i]) != 0), "element %zu",
                      i);
    }
    free(before);
    free_layers(&l);
}
END_TEST

static void note(void *argument, size_t begin, size_t end) {
    size_t *last = argument;
    ck_assert_uint_eq(end, *last); /* from the end of the buffer to its beginning, without a gap */
    *last = begin;
}

START_TEST(gradients_are_announced_when_they_are_final) {
    layers_t l;
    make_layers(&l, &small);
    (void)forward(&l);
    size_t last = l.elements;
    ck_assert_int_eq(weir_stu_backward(l.stu, l.weights, l.d_x, l.d_parameters, note, &last, NULL),
                     WEIR_OK);
    ck_assert_uint_eq(last, 0);
    free_layers(&l);
}
END_TEST

START_TEST(what_cannot_be_is_refused) {
    layers_t l;
    weir_error_t error = {0};
    make_layers(&l, &small);
    const weir_forward_mode_t mode = {0};
    l.targets[1] = 3; /* of 4 tokens 2 are contextual */
    ck_assert_int_eq(weir_stu_forward(l.stu, l.parameters, &l.batch, l.x, mode, l.out, &error),
                     WEIR_ERR_INVALID);
    ck_assert_int_eq(weir_stu_backward(l.stu, l.weights, l.d_x, l.d_parameters, NULL, NULL, &error),
                     WEIR_ERR_INVALID);
    free_layers(&l);
    weir_stu_t *none = NULL;
    weir_stu_config_t wrong = small;
    wrong.dropout = 1.0;
    ck_assert_int_eq(weir_stu_create(&wrong, &none, &error), WEIR_ERR_INVALID);
    wrong = small;
    wrong.heads = 0;
    ck_assert_int_eq(weir_stu_create(&wrong, &none, &error), WEIR_ERR_INVALID);
    wrong = small;
    wrong.divisor = (double)NAN;
    ck_assert_int_eq(weir_stu_create(&wrong, &none, &error), WEIR_ERR_INVALID);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("stu " WEIR_REAL_NAME);
    TCase *t = tcase_create("layers");
    tcase_add_test(t, a_token_sees_what_the_published_rule_says);
#ifdef WEIR_REAL_F64
    tcase_add_test(t, gradients_are_slopes);
#endif
    tcase_add_test(t, a_target_does_not_depend_on_the_other_targets);
    tcase_add_test(t, gradients_are_announced_when_they_are_final);
    tcase_add_test(t, what_cannot_be_is_refused);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
