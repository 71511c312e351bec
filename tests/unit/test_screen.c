#include "tests/suite.h"
#include "tests/unit/model_cases.h"
#include "worker/kernels.h"
#include "worker/rank.h"
#include "worker/score_pass.h"
#include "worker/screen.h"
#include "worker/top_items.h"

#include <math.h>
#include <string.h>

enum { ITEMS = 1100, USERS = 70, DIM = 37, MOST_EXCLUDED = 30, LISTED = 9 };

/* Users with targets and excluded items, and a catalogue of items 1 .. ITEMS. */
typedef struct {
    weir_real_t rows[ITEMS * DIM], encoded[USERS * DIM], scores[USERS * ITEMS];
    weir_real_t targets_scores[USERS];
    int64_t targets[USERS], excluded[USERS * MOST_EXCLUDED];
    size_t offsets[USERS + 1];
} case_t;

typedef enum {
    RANDOM,     /* rows of length 1 */
    UNEQUAL,    /* rows of all lengths */
    TIED,       /* of three different rows */
    NEARLY,     /* all rows next to one, by the last bits */
    HUGE_ROWS,  /* no score is finite, or some */
    TINY_ROWS,  /* lengths of 2^-30 .. 2^-18 */
    VANISHING,  /* denormal numbers */
    ZERO,       /* rows of zeros among others, and users */
    NOT_FINITE, /* some numbers are infinite or none */
    KINDS
} kind_t;

static int compare_items(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void scale_rows(case_rng_t *rng, weir_real_t *rows, size_t count, int lowest, int highest) {
    for (size_t r = 0; r < count; r++) {
        int power = lowest + (int)case_below(rng, (uint32_t)(highest - lowest) + 1);
        for (size_t d = 0; d < DIM; d++) {
            rows[r * DIM + d] = ldexpf(rows[r * DIM + d], power);
        }
    }
}

static void shape(case_t *c, kind_t kind, case_rng_t *rng) {
    static const weir_real_t odd[] = {(weir_real_t)NAN, (weir_real_t)INFINITY,
                                      -(weir_real_t)INFINITY};
    switch (kind) {
    case UNEQUAL:
        scale_rows(rng, c->rows, ITEMS, -12, 12);
        scale_rows(rng, c->encoded, USERS, -18, 30);
        break;
    case TIED:
    case NEARLY:
        for (size_t i = 3; i < ITEMS; i++) {
            size_t from = kind == TIED ? case_below(rng, 3) : 0;
            memcpy(c->rows + i * DIM, c->rows + from * DIM, DIM * sizeof *c->rows);
            size_t changed = i * DIM + case_below(rng, DIM);
            if (kind == NEARLY && i % 3 != 0) {
                c->rows[changed] *= 1.0f + ldexpf(1.0f, -(int)(5 + case_below(rng, 19)));
            }
        }
        break;
    case HUGE_ROWS:
        scale_rows(rng, c->rows, ITEMS, 50, 120);
        scale_rows(rng, c->encoded, USERS, 0, 100);
        break;
    case TINY_ROWS:
        scale_rows(rng, c->rows, ITEMS, -30, -18);
        scale_rows(rng, c->encoded, USERS, -21, -17);
        break;
    case VANISHING:
        scale_rows(rng, c->rows, ITEMS, -130, -120);
        break;
    case ZERO:
        memset(c->rows, 0, (size_t)200 * DIM * sizeof *c->rows);
        memset(c->rows + (size_t)512 * DIM, 0, (size_t)512 * DIM * sizeof *c->rows);
        memset(c->encoded, 0, (size_t)5 * DIM * sizeof *c->encoded);
        break;
    case NOT_FINITE:
        for (size_t i = 0; i < 6; i++) {
            c->encoded[(i * 11 + 2) * DIM + i] = odd[i % 3];
            c->rows[(600 + i) * DIM + i] = odd[i % 3];
        }
        break;
    default:
        break;
    }
}

static void keep_scores(void *argument, size_t user, const weir_real_t *scores, int64_t first_item,
                        size_t count) {
    case_t *c = argument;
    memcpy(c->scores + user * ITEMS + (size_t)(first_item - 1), scores, count * sizeof *scores);
}

/* Targets are near the top, as a trained model's, or anywhere. */
static case_t *make_case(kind_t kind, uint64_t seed) {
    case_rng_t rng = {.seed = seed};
    case_t *c = case_allocate(1, sizeof *c);
    case_fill(&rng, c->rows, ITEMS * DIM, 0.02);
    case_fill(&rng, c->encoded, USERS * DIM, 1.0);
    weir_rank_normalise(c->rows, ITEMS, DIM);
    shape(c, kind, &rng);
    ck_assert_int_eq(weir_score_pass(c->encoded, USERS, weir_similarity_dot(DIM), c->rows, 1, ITEMS,
                                     keep_scores, NULL, c, NULL),
                     WEIR_OK);
    for (size_t u = 0; u < USERS; u++) {
        size_t excluded = case_below(&rng, MOST_EXCLUDED + 1), target = case_below(&rng, ITEMS);
        for (size_t i = 0; u % 2 == 0 && i < 20; i++) {
            size_t other = case_below(&rng, ITEMS);
            target = c->scores[u * ITEMS + other] > c->scores[u * ITEMS + target] ? other : target;
        }
        c->targets[u] = 1 + (int64_t)target;
        c->targets_scores[u] = c->scores[u * ITEMS + target];
        c->offsets[u + 1] = c->offsets[u] + excluded;
        for (size_t i = c->offsets[u]; i < c->offsets[u + 1]; i++) {
            c->excluded[i] = i % 5 == 0 ? c->targets[u] : (int64_t)case_below(&rng, ITEMS + 40);
        }
        qsort(c->excluded + c->offsets[u], excluded, sizeof(int64_t), compare_items);
    }
    return c;
}

static bool is_excluded(const case_t *c, size_t user, int64_t item) {
    for (size_t i = c->offsets[user]; i < c->offsets[user + 1]; i++) {
        if (c->excluded[i] == item) {
            return true;
        }
    }
    return false;
}

static void check_ranks(const case_t *c, size_t piece, const char *what) {
    uint64_t counts[USERS] = {0};
    for (size_t first = 0; first < ITEMS; first += piece) {
        size_t count = ITEMS - first < piece ? ITEMS - first : piece;
        ck_assert_int_eq(weir_rank_count(c->encoded, USERS, weir_similarity_dot(DIM),
                                         c->rows + first * DIM, 1 + (int64_t)first, count,
                                         c->targets, c->targets_scores, c->offsets, c->excluded,
                                         counts, NULL),
                         WEIR_OK);
    }
    for (size_t u = 0; u < USERS; u++) {
        uint64_t wanted = 0;
        for (int64_t item = 1; item <= ITEMS; item++) {
            wanted += item != c->targets[u] && !is_excluded(c, u, item) &&
                      !(c->scores[u * ITEMS + (size_t)item - 1] < c->targets_scores[u]);
        }
        ck_assert_msg(counts[u] == wanted, "%s, user %zu: %llu, not %llu", what, u,
                      (unsigned long long)counts[u], (unsigned long long)wanted);
    }
}

/* The best of the user that are not in `taken`: higher score, then lower item; -1: none. */
static int64_t next_best(const case_t *c, size_t user, const bool *taken) {
    int64_t best = -1;
    for (int64_t i = 0; i < ITEMS; i++) {
        weir_real_t score = c->scores[user * ITEMS + (size_t)i];
        if (!taken[i] && !isnan(score) && !is_excluded(c, user, i + 1) &&
            (best < 0 || score > c->scores[user * ITEMS + (size_t)best])) {
            best = i;
        }
    }
    return best;
}

static void check_lists(const case_t *c, size_t piece, const char *what) {
    weir_top_items_t *top = NULL;
    ck_assert_int_eq(weir_top_items_create(USERS, LISTED, &top, NULL), WEIR_OK);
    for (size_t first = 0; first < ITEMS; first += piece) {
        size_t count = ITEMS - first < piece ? ITEMS - first : piece;
        ck_assert_int_eq(weir_top_items_offer(top, c->encoded, weir_similarity_dot(DIM),
                                              c->rows + first * DIM, 1 + (int64_t)first, count,
                                              c->offsets, c->excluded, NULL),
                         WEIR_OK);
    }
    for (size_t u = 0; u < USERS; u++) {
        bool taken[ITEMS] = {false};
        size_t count = 0;
        const weir_scored_item_t *list = weir_top_items_list(top, u, &count);
        for (size_t place = 0; place < LISTED; place++) {
            int64_t wanted = next_best(c, u, taken);
            if (wanted < 0) {
                ck_assert_uint_eq(count, place);
                break;
            }
            taken[wanted] = true;
            ck_assert_msg(place < count && list[place].item == wanted + 1,
                          "%s, user %zu, place %zu", what, u, place);
            ck_assert_int_eq(memcmp(&list[place].score, &c->scores[u * ITEMS + (size_t)wanted],
                                    sizeof list[place].score),
                             0);
        }
    }
    weir_top_items_destroy(top);
}

START_TEST(ranks_and_lists_are_those_of_all_scores) {
    static const char *const names[KINDS] = {"random", "unequal",   "tied", "nearly",    "huge",
                                             "tiny",   "vanishing", "zero", "not finite"};
    static const size_t pieces[] = {ITEMS, 513};
    for (kind_t kind = RANDOM; kind < KINDS; kind++) {
        case_t *c = make_case(kind, 7 + kind);
        for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
            check_ranks(c, pieces[i], names[kind]);
            check_lists(c, pieces[i], names[kind]);
        }
        free(c);
    }
}
END_TEST

START_TEST(a_score_alone_is_that_among_all) {
    case_t *c = make_case(UNEQUAL, 4);
    weir_real_t rows[USERS * DIM], scores[USERS];
    for (size_t u = 0; u < USERS; u++) {
        memcpy(rows + u * DIM, c->rows + (size_t)(c->targets[u] - 1) * DIM, DIM * sizeof *rows);
    }
    ck_assert_int_eq(
        weir_score_own(c->encoded, rows, USERS, weir_similarity_dot(DIM), scores, NULL), WEIR_OK);
    ck_assert_int_eq(memcmp(scores, c->targets_scores, sizeof scores), 0);
    free(c);
}
END_TEST

START_TEST(thresholds_may_be_anything) {
    case_t *c = make_case(RANDOM, 3);
    static const weir_real_t odd[] = {(weir_real_t)NAN,
                                      (weir_real_t)INFINITY,
                                      -(weir_real_t)INFINITY,
                                      3e38f,
                                      -3e38f,
                                      1e-45f,
                                      0.0f};
    for (size_t u = 0; u < USERS; u++) {
        c->targets_scores[u] = odd[u % (sizeof odd / sizeof *odd)];
    }
    check_ranks(c, ITEMS, "odd thresholds");
    free(c);
}
END_TEST

static int32_t column_of(const weir_screen_pair_t *pairs, size_t step, size_t d) {
    uint32_t pair = pairs[d / 2 * step];
    return (int16_t)(uint16_t)(d % 2 == 0 ? pair & 0xFFFFu : pair >> 16);
}

/* NULL: this build or processor has none. */
static const weir_screen_kernels_t *find_kernels(void) {
    const weir_kernels_t *kernels = NULL;
    ck_assert_int_eq(weir_kernels_select(&kernels, NULL), WEIR_OK);
    return weir_screen_kernels(kernels);
}

enum { WIDEST = 333, CANDIDATES = 100, PLACES = 128 };

typedef struct {
    weir_real_t row[WIDEST], candidates[CANDIDATES * WIDEST];
    weir_screen_pair_t pairs[WIDEST], tiles[PLACES * WIDEST];
} bound_case_t;

/* Everything of one width: the largest error as a fraction of the reach. */
static double check_bound(const weir_screen_kernels_t *screen, bound_case_t *c, size_t width) {
    double worst = 0.0, a = (double)screen->pack_row(c->row, width, c->pairs);
    double b = (double)screen->pack_block(c->candidates, CANDIDATES, width, c->tiles);
    int32_t reach = weir_screen_reach(width);
    ck_assert(a > 0.0 && b > 0.0);
    for (size_t i = 0; i < CANDIDATES; i++) {
        const weir_screen_pair_t *tile =
            c->tiles + i / WEIR_SCREEN_TILE * WEIR_SCREEN_TILE * weir_screen_pairs(width) +
            i % WEIR_SCREEN_TILE;
        const weir_real_t *candidate = c->candidates + i * width;
        int64_t product = 0;
        double exact = 0.0;
        float score = 0.0f;
        for (size_t d = 0; d < width; d++) {
            product += (int64_t)column_of(c->pairs, 1, d) * column_of(tile, WEIR_SCREEN_TILE, d);
            exact += (double)c->row[d] * (double)candidate[d];
            score = fmaf(c->row[d], candidate[d], score);
        }
        ck_assert(product < (int64_t)1 << 30 && product > -((int64_t)1 << 30));
        ck_assert_double_le(fabs((double)product - a * b * exact), reach);
        ck_assert_double_le(fabs((double)product - a * b * (double)score), reach);
        worst = fmax(worst, fabs((double)product - a * b * (double)score) / reach);
    }
    return worst;
}

/* In the adversarial rows every number is rounded by nearly a half, all in one direction. */
START_TEST(no_product_is_farther_from_its_score_than_the_reach) {
    static const size_t widths[] = {1, 2, 15, 16, 31, 32, 33, 50, 64, 255, 256, WIDEST};
    const weir_screen_kernels_t *screen = find_kernels();
    case_rng_t rng = {.seed = 11};
    bound_case_t *c = case_allocate(1, sizeof *c);
    double worst = 0.0;
    for (size_t i = 0; screen != NULL && i < sizeof widths / sizeof *widths; i++) {
        size_t width = widths[i];
        for (int power = -12; power <= 54; power += 11) {
            case_fill(&rng, c->row, width, ldexp(1.0, power));
            case_fill(&rng, c->candidates, CANDIDATES * width, ldexp(1.0, -power / 4));
            (void)check_bound(screen, c, width);
        }
        double even = WEIR_SCREEN_LENGTH / sqrt((double)width);
        for (size_t d = 0; d < width; d++) { /* scaled: a half above an integer */
            c->row[d] = (weir_real_t)(floor(even) + 0.49);
        }
        for (size_t r = 0; r < CANDIDATES; r++) {
            memcpy(c->candidates + r * width, c->row, width * sizeof *c->row);
        }
        worst = fmax(worst, check_bound(screen, c, width));
    }
    ck_assert(screen == NULL || worst > 0.3); /* the bound is no exaggeration */
    free(c);
}
END_TEST

START_TEST(answers_are_those_of_the_products) {
    const weir_screen_kernels_t *screen = find_kernels();
    case_rng_t rng = {.seed = 12};
    enum { WIDTH = 21 };
    size_t pairs = weir_screen_pairs(WIDTH);
    bound_case_t *c = case_allocate(1, sizeof *c);
    case_fill(&rng, c->row, WIDTH, 1.0);
    case_fill(&rng, c->candidates, CANDIDATES * WIDTH, 1.0);
    const weir_screen_pair_t *group[WEIR_SCREEN_GROUP];
    int32_t lows[WEIR_SCREEN_GROUP], highs[WEIR_SCREEN_GROUP], products[WEIR_SCREEN_TILE] = {0};
    weir_screen_answer_t answers[WEIR_SCREEN_GROUP];
    if (screen == NULL) {
        free(c);
        return;
    }
    ck_assert(screen->pack_row(c->row, WIDTH, c->pairs) > 0.0f);
    ck_assert(screen->pack_block(c->candidates, CANDIDATES, WIDTH, c->tiles) > 0.0f);
    for (size_t i = 0; i < WEIR_SCREEN_TILE; i++) {
        for (size_t d = 0; d < WIDTH; d++) {
            products[i] += column_of(c->pairs, 1, d) * column_of(c->tiles + i, WEIR_SCREEN_TILE, d);
        }
    }
    for (size_t g = 0; g < WEIR_SCREEN_GROUP; g++) {
        group[g] = c->pairs;
        lows[g] = products[3 * g]; /* the bounds themselves are open */
        highs[g] = products[3 * g + 1];
    }
    uint64_t there = ~(uint64_t)0 >> 5;
    screen->compare(group, c->tiles, pairs, lows, highs, there, answers);
    for (size_t g = 0; g < WEIR_SCREEN_GROUP; g++) {
        uint64_t above = 0, open = 0, count = 0;
        for (size_t i = 0; i < WEIR_SCREEN_TILE - 5; i++) {
            bool is_above = products[i] > highs[g];
            above |= (uint64_t)is_above << i;
            count += is_above ? 1 : 0;
            open |= (uint64_t)(!is_above && products[i] >= lows[g]) << i;
        }
        ck_assert_uint_eq(answers[g].above, above);
        ck_assert_uint_eq(answers[g].open, open);
        ck_assert_uint_eq(answers[g].count, count);
    }
    free(c);
}
END_TEST

START_TEST(bounds_stay_within_the_numbers) {
    int32_t low, high, reach = weir_screen_reach(WEIR_SCREEN_WIDEST);
    weir_screen_bounds((double)INFINITY, 1e9, reach, &low, &high);
    ck_assert_int_gt(low, 1 << 30);
    weir_screen_bounds(-1e300, 1e9, reach, &low, &high);
    ck_assert_int_lt(high, -(1 << 30));
    weir_screen_bounds(0.5, 1000.0, 100, &low, &high);
    ck_assert_int_eq(low, 400);
    ck_assert_int_eq(high, 600);
}
END_TEST

static uint64_t none_wanted(void *argument, size_t user, int64_t first_item,
                            const weir_screen_answer_t *answer) {
    (void)user;
    (void)first_item;
    *(uint64_t *)argument += answer->count;
    return 0;
}

static bool threshold_zero(void *argument, size_t user, weir_real_t *threshold) {
    (void)argument;
    (void)user;
    *threshold = 0;
    return true;
}

static void never_scored(void *argument, size_t user, int64_t item, weir_real_t score) {
    (void)argument;
    (void)user;
    (void)item;
    (void)score;
    ck_abort_msg("none was wanted");
}

static void count_tile(void *argument, size_t user, const weir_real_t *scores, int64_t first_item,
                       size_t count) {
    (void)argument;
    (void)user;
    (void)scores;
    (void)first_item;
    (void)count;
    ck_abort_msg("a tile was not screened");
}

START_TEST(rows_of_equal_length_are_screened) {
    static const weir_score_screen_t screen = {threshold_zero, none_wanted, never_scored};
    uint64_t above = 0;
    case_t *c = make_case(RANDOM, 5);
    if (find_kernels() != NULL) {
        ck_assert_int_eq(weir_score_pass(c->encoded, USERS, weir_similarity_dot(DIM), c->rows, 1,
                                         ITEMS, count_tile, &screen, &above, NULL),
                         WEIR_OK);
        ck_assert_uint_gt(above, (uint64_t)USERS * ITEMS * 2 / 5);
        ck_assert_uint_lt(above, (uint64_t)USERS * ITEMS * 3 / 5);
    }
    free(c);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("screen");
    TCase *t = tcase_create("screen");
    tcase_add_test(t, ranks_and_lists_are_those_of_all_scores);
    tcase_add_test(t, a_score_alone_is_that_among_all);
    tcase_add_test(t, thresholds_may_be_anything);
    tcase_add_test(t, no_product_is_farther_from_its_score_than_the_reach);
    tcase_add_test(t, answers_are_those_of_the_products);
    tcase_add_test(t, bounds_stay_within_the_numbers);
    tcase_add_test(t, rows_of_equal_length_are_screened);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
