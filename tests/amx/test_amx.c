/* The choice of the way to multiply in bfloat16, and what AMX's way adds to what test_product and
 * test_attention compare: operands at the very edge of readable memory. */
#include "tests/suite.h"
#include "worker/bf16.h"
#include "worker/product.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const weir_kernels_t *v4;

static void choose(const char *way) {
    ck_assert_int_eq(way != NULL ? setenv("WEIR_BF16", way, 1) : unsetenv("WEIR_BF16"), 0);
}

START_TEST(amx_is_chosen_first_and_whatever_is_asked_for) {
    choose(NULL);
    ck_assert_str_eq(weir_bf16_kernels(v4)->name, "amx");
    choose("avx512_bf16");
    ck_assert_str_eq(weir_bf16_kernels(v4)->name, "avx512_bf16");
    choose("rounded");
    ck_assert_ptr_null(weir_bf16_kernels(v4));
    ck_assert_int_eq(weir_bf16_check(v4, NULL), WEIR_OK);
    choose("amx");
    ck_assert_int_eq(weir_bf16_check(v4, NULL), WEIR_OK);
    const weir_kernels_t *v3 = NULL;
    ck_assert_int_eq(weir_kernels_find("v3", &v3, NULL), WEIR_OK);
    ck_assert_ptr_null(weir_bf16_kernels(v3));
    weir_error_t error = {0};
    ck_assert_int_eq(weir_bf16_check(v3, &error), WEIR_ERR_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(error.message, "amx"));
    choose("tiles");
    ck_assert_int_eq(weir_bf16_check(v4, &error), WEIR_ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "tiles"));
    choose(NULL);
}
END_TEST

/* `count` numbers that end where memory does. */
static weir_real_t *at_the_edge(size_t count, void **mapped, size_t *size) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = count * sizeof(weir_real_t);
    size_t pages = (bytes + page - 1) / page;
    *size = (pages + 1) * page;
    *mapped = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert(*mapped != MAP_FAILED);
    char *end = (char *)*mapped + pages * page;
    ck_assert_int_eq(mprotect(end, page, PROT_NONE), 0);
    weir_real_t *numbers = (weir_real_t *)(void *)(end - bytes);
    for (size_t i = 0; i < count; i++) {
        numbers[i] = (weir_real_t)(i % 7) - 3;
    }
    return numbers;
}

/* Small integers: bfloat16 holds them and their sums exactly, so that AMX and AVX512_BF16 agree to
 * the bit. */
static void compare_at_the_edge(size_t m, size_t n, size_t k, bool turned_a, bool turned_b) {
    void *mapped[3];
    size_t sizes[3];
    weir_real_t *a = at_the_edge(m * k, &mapped[0], &sizes[0]);
    weir_real_t *b = at_the_edge(k * n, &mapped[1], &sizes[1]);
    weir_real_t *c = at_the_edge(m * n, &mapped[2], &sizes[2]);
    weir_real_t *by_amx = malloc(m * n * sizeof *by_amx);
    ck_assert_ptr_nonnull(by_amx);
    const weir_product_t product = {.form_a = turned_a ? WEIR_BLAS_TRANSPOSED : WEIR_BLAS_PLAIN,
                                    .form_b = turned_b ? WEIR_BLAS_TRANSPOSED : WEIR_BLAS_PLAIN,
                                    .m = m,
                                    .n = n,
                                    .k = k,
                                    .a = a,
                                    .lda = turned_a ? m : k,
                                    .b = b,
                                    .ldb = turned_b ? k : n,
                                    .c = c,
                                    .ldc = n};
    choose("amx");
    weir_product_run(v4, true, &product);
    memcpy(by_amx, c, m * n * sizeof *c);
    memset(c, 0, m * n * sizeof *c);
    choose("avx512_bf16");
    weir_product_run(v4, true, &product);
    choose(NULL);
    ck_assert_mem_eq(by_amx, c, m * n * sizeof *c);
    free(by_amx);
    for (size_t i = 0; i < 3; i++) {
        (void)munmap(mapped[i], sizes[i]);
    }
}

START_TEST(nothing_is_read_or_written_behind_an_operand) {
    static const size_t sizes[][3] = {{1, 1, 1},    {16, 16, 32},  {32, 32, 32}, {33, 47, 31},
                                      {64, 96, 64}, {200, 50, 50}, {15, 17, 97}, {48, 32, 512}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const size_t *s = sizes[i];
        compare_at_the_edge(s[0], s[1], s[2], false, false);
        compare_at_the_edge(s[0], s[1], s[2], false, true);
        compare_at_the_edge(s[0], s[1], s[2], true, false);
    }
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("amx");
    TCase *t = tcase_create("amx");
    tcase_set_timeout(t, 120);
    if (weir_kernels_find("v4", &v4, NULL) != WEIR_OK || !__builtin_cpu_supports("avx512bf16")) {
        (void)fputs("amx: skipped: this processor lacks AVX512_BF16, which its kernels use too\n",
                    stderr);
        exit(77);
    }
    tcase_add_test(t, amx_is_chosen_first_and_whatever_is_asked_for);
    tcase_add_test(t, nothing_is_read_or_written_behind_an_operand);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
