/* Products of the levels that differ against plain float64 loops: all forms, sizes around every
 * block and every tail, leading dimensions wider than the operands, float32 and bfloat16. */
#include "tests/suite.h"
#include "tests/unit/model_cases.h"
#include "worker/bf16.h"
#include "worker/product.h"

#include <float.h>
#include <math.h>

static const char *const level_names[] = {"v4", "v3"};
enum { LEVELS = sizeof level_names / sizeof level_names[0] };

#ifdef WEIR_REAL_F64
static const double unit = DBL_EPSILON;
#else
static const double unit = (double)FLT_EPSILON;
#endif

/* To 8 significant bits, by arithmetic alone. */
static double nearest_bf16(double x) {
    int exponent;
    double part = frexp(x, &exponent);
    return x == 0.0 || fabs(x) < 0x1p-126 ? 0.0 : ldexp(rint(ldexp(part, 8)), exponent - 8);
}

/* op(A) or op(B) as float64. */
static double *operand(const weir_product_t *p, bool of_b, bool bf16) {
    const weir_real_t *values = of_b ? p->b : p->a;
    size_t stride = of_b ? p->ldb : p->lda;
    size_t rows = of_b ? p->k : p->m, columns = of_b ? p->n : p->k;
    bool turned = (of_b ? p->form_b : p->form_a) == WEIR_BLAS_TRANSPOSED;
    double *made = case_allocate(rows * columns, sizeof *made);
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < columns; c++) {
            double x = (double)values[turned ? c * stride + r : r * stride + c];
            made[r * columns + c] = bf16 ? nearest_bf16(x) : x;
        }
    }
    return made;
}

/* What C should be, and how far from it rounding may take a sum of k products in any order: k units
 * of the sum of their magnitudes. */
typedef struct {
    double *value, *allowed; /* m x n */
} expected_t;

static expected_t expect(const weir_product_t *p, const weir_real_t *before, bool bf16) {
    expected_t e = {case_allocate(p->m * p->n, sizeof(double)),
                    case_allocate(p->m * p->n, sizeof(double))};
    double *a = operand(p, false, bf16), *b = operand(p, true, bf16);
    for (size_t i = 0; i < p->m; i++) {
        double *value = e.value + i * p->n, *size = e.allowed + i * p->n;
        for (size_t j = 0; j < p->n; j++) {
            value[j] = p->add ? (double)before[i * p->ldc + j] : 0.0;
            size[j] = fabs(value[j]);
        }
        for (size_t k = 0; k < p->k; k++) {
            for (size_t j = 0; j < p->n; j++) {
                double term = a[i * p->k + k] * b[k * p->n + j];
                value[j] += term;
                size[j] += fabs(term);
            }
        }
        for (size_t j = 0; j < p->n; j++) {
            size[j] *= ((double)p->k + 2.0) * unit;
        }
    }
    free(a);
    free(b);
    return e;
}

/* What lies beside C stays as it was. */
static void check(const weir_product_t *p, const weir_real_t *before, const expected_t *expected,
                  const char *level, bool bf16) {
    for (size_t i = 0; i < p->m; i++) {
        for (size_t j = 0; j < p->ldc; j++) {
            double got = (double)p->c[i * p->ldc + j];
            double wanted =
                j < p->n ? expected->value[i * p->n + j] : (double)before[i * p->ldc + j];
            double allowed = j < p->n ? expected->allowed[i * p->n + j] : 0.0;
            if (!(fabs(got - wanted) <= allowed)) {
                ck_abort_msg("%s %s, %zu x %zu x %zu: (%zu, %zu) is %g, not %g", level,
                             bf16 ? "bf16" : "plain", p->m, p->n, p->k, i, j, got, wanted);
            }
        }
    }
}

static void compare(size_t m, size_t n, size_t k, weir_blas_form_t form_a, weir_blas_form_t form_b,
                    bool add, size_t beside) {
    case_rng_t rng = {.seed = m * 1000003 + n * 1009 + k};
    bool turned_a = form_a == WEIR_BLAS_TRANSPOSED, turned_b = form_b == WEIR_BLAS_TRANSPOSED;
    weir_product_t p = {.form_a = form_a, .form_b = form_b, .m = m, .n = n, .k = k, .add = add};
    p.lda = (turned_a ? m : k) + beside;
    p.ldb = (turned_b ? k : n) + beside;
    p.ldc = n + beside;
    size_t a_count = (turned_a ? k : m) * p.lda, b_count = (turned_b ? n : k) * p.ldb;
    weir_real_t *a = case_allocate(a_count, sizeof *a), *b = case_allocate(b_count, sizeof *b);
    weir_real_t *before = case_allocate(m * p.ldc, sizeof *before);
    p.c = case_allocate(m * p.ldc, sizeof *p.c);
    case_fill(&rng, a, a_count, 1.0);
    case_fill(&rng, b, b_count, 1.0);
    case_fill(&rng, before, m * p.ldc, 1.0);
    p.a = a;
    p.b = b;
    for (int bf16 = 0; bf16 <= (case_is_f64 ? 0 : 1); bf16++) {
        expected_t expected = expect(&p, before, bf16 != 0);
        for (size_t i = 0; i < LEVELS; i++) {
            const weir_kernels_t *kernels = NULL;
            if (weir_kernels_find(level_names[i], &kernels, NULL) != WEIR_OK) {
                continue; /* not on this processor */
            }
            memcpy(p.c, before, m * p.ldc * sizeof *p.c);
            weir_product_run(kernels, bf16 != 0, &p);
            check(&p, before, &expected, level_names[i], bf16 != 0);
        }
        free(expected.value);
        free(expected.allowed);
    }
    free(a);
    free(b);
    free(before);
    free(p.c);
}

static void compare_forms(size_t m, size_t n, size_t k) {
    for (int add = 0; add < 2; add++) {
        size_t beside = add ? 3 : 0;
        compare(m, n, k, WEIR_BLAS_PLAIN, WEIR_BLAS_PLAIN, add, beside);
        compare(m, n, k, WEIR_BLAS_PLAIN, WEIR_BLAS_TRANSPOSED, add, beside);
        compare(m, n, k, WEIR_BLAS_TRANSPOSED, WEIR_BLAS_PLAIN, add, beside);
    }
}

START_TEST(every_tail_agrees_with_plain_loops) {
    static const size_t depths[] = {1, 2, 7, 50};
    for (size_t d = 0; d < sizeof depths / sizeof depths[0]; d++) {
        for (size_t n = 1; n <= 35; n++) {
            compare_forms(5, n, depths[d]);
        }
        for (size_t m = 1; m <= 30; m++) {
            compare_forms(m, 18, depths[d]);
        }
    }
}
END_TEST

START_TEST(sizes_around_blocks_agree_with_plain_loops) {
    static const size_t sizes[][3] = {{512, 50, 50}, {100, 200, 50}, {193, 33, 513},
                                      {13, 513, 31}, {50, 32, 1100}, {257, 50, 200},
                                      {50, 50, 515}, {200, 18, 257}, {26, 97, 300}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        compare_forms(sizes[i][0], sizes[i][1], sizes[i][2]);
    }
}
END_TEST

START_TEST(an_empty_sum_is_zero_or_what_there_was) {
    weir_real_t c[4] = {1, 2, 3, 4}, none = 0;
    const weir_kernels_t *kernels = NULL;
    ck_assert_int_eq(weir_kernels_select(&kernels, NULL), WEIR_OK);
    for (int bf16 = 0; bf16 <= (case_is_f64 ? 0 : 1); bf16++) {
        weir_product_t p = {.m = 2,
                            .n = 2,
                            .a = &none,
                            .lda = 1,
                            .b = &none,
                            .ldb = 2,
                            .add = true,
                            .c = c,
                            .ldc = 2};
        weir_product_run(kernels, bf16 != 0, &p);
        ck_assert(c[0] == 1 && c[3] == 4);
    }
}
END_TEST

START_TEST(numbers_round_to_the_nearest_bfloat16) {
    case_rng_t rng = {.seed = 3};
    for (int i = 0; i < 20000; i++) {
        uint32_t bits = case_word(&rng);
        float x;
        memcpy(&x, &bits, sizeof x);
        if (!isfinite(x) || fabsf(x) > 3e38f) {
            continue;
        }
        ck_assert(weir_bf16_round(x) == (float)nearest_bf16((double)x));
    }
    ck_assert(weir_bf16_round(1.00390625f) == 1.0f); /* a tie goes to the even one */
    ck_assert(weir_bf16_round(1.01171875f) == 1.015625f);
    ck_assert(isnan(weir_bf16_round(NAN)));
    ck_assert(isinf(weir_bf16_round(INFINITY)));
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("product " WEIR_REAL_NAME);
    TCase *t = tcase_create("product");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, every_tail_agrees_with_plain_loops);
    tcase_add_test(t, sizes_around_blocks_agree_with_plain_loops);
    tcase_add_test(t, an_empty_sum_is_zero_or_what_there_was);
    tcase_add_test(t, numbers_round_to_the_nearest_bfloat16);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
