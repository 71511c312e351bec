#include "tests/unit/ps_cases.h"

#include "common/rng.h"
#include "tests/unit/table_cases.h"

#include <check.h>
#include <string.h>

weir_table_options_t case_options(void) {
    weir_table_options_t options = table_case(WEIR_OPTIMIZER_ADAMW, CASE_DIM, 0.01, 7);
    options.row.table_id = 1;
    return options;
}

weir_table_t *case_table(void) {
    weir_table_options_t options = case_options();
    return table_case_create(&options);
}

weir_key_t case_key(size_t i) {
    return i % 2 == 0 ? i + 1 : (uint64_t)i << 33;
}

static weir_philox_t draw(uint32_t worker, uint64_t step, uint64_t key, uint32_t what) {
    return weir_philox(weir_rng_key(key, WEIR_STREAM_TEST), worker, (uint32_t)step,
                       (uint32_t)(key >> 32), what);
}

size_t case_pull(uint32_t worker, uint64_t step, weir_key_t keys[CASE_UNIVERSE]) {
    size_t count = 0;
    for (size_t i = 0; i < CASE_UNIVERSE && (worker + step) % 5 != 2; i++) {
        size_t turned = (i * 13 + worker) % CASE_UNIVERSE; /* not every worker in one order */
        if (draw(worker, step, case_key(turned), 1000).word[0] % 3 != 0) {
            keys[count++] = case_key(turned);
        }
    }
    return count;
}

void case_gradients(uint32_t worker, uint64_t step, const weir_key_t *keys, size_t count,
                    float *gradients) {
    for (size_t i = 0; i < count; i++) {
        for (uint32_t d = 0; d < CASE_DIM; d++) {
            weir_philox_t random = draw(worker, step, keys[i], d);
            float scale = random.word[1] % 2 == 0 ? 1.0F : 1e-5F;
            gradients[i * CASE_DIM + d] = scale * (float)(weir_uniform01(random.word[0]) - 0.5);
        }
    }
}

static size_t find_key(weir_key_t key) {
    size_t i = 0;
    while (case_key(i) != key) {
        i++;
    }
    return i;
}

void case_expected(uint32_t workers, uint64_t steps, bool backwards, float *values) {
    weir_table_t *table = case_table();
    weir_key_t all[CASE_UNIVERSE];
    for (size_t i = 0; i < CASE_UNIVERSE; i++) {
        all[i] = case_key(i);
    }
    for (uint64_t step = 1; step <= steps; step++) {
        float sums[CASE_UNIVERSE][CASE_DIM];
        bool touched[CASE_UNIVERSE] = {false};
        for (uint32_t turn = 0; turn < workers; turn++) {
            uint32_t worker = backwards ? workers - 1 - turn : turn;
            weir_key_t keys[CASE_UNIVERSE];
            float gradients[CASE_UNIVERSE * CASE_DIM];
            size_t count = case_pull(worker, step, keys);
            case_gradients(worker, step, keys, count, gradients);
            for (size_t i = 0; i < count; i++) {
                size_t row = find_key(keys[i]);
                for (size_t d = 0; d < CASE_DIM; d++) {
                    float g = gradients[i * CASE_DIM + d];
                    sums[row][d] = touched[row] ? sums[row][d] + g : g;
                }
                touched[row] = true;
            }
        }
        for (size_t row = 0; row < CASE_UNIVERSE; row++) {
            if (touched[row]) {
                ck_assert(table_case_train(table, all[row], sums[row], step));
            }
        }
    }
    table_case_peek(table, all, CASE_UNIVERSE, values);
    weir_table_destroy(table);
}
