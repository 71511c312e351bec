#include "tools/user_values.h"

#include <math.h>

enum { RECIPROCAL = 0 };

/* 1 / log2(rank + 1), or 1, up to `most`; RECIPROCAL: 1 / rank. */
static const struct {
    const char *name;
    uint64_t most;
    int discounted;
} values[WEIR_USER_VALUES] = {
    {"hr@1", 1, 0}, {"hr@10", 10, 0}, {"hr@50", 50, 0}, {"ndcg@10", 10, 1}, {"mrr", RECIPROCAL, 0}};

const char *weir_user_value_name(size_t number) {
    return values[number].name;
}

double weir_user_value(uint64_t rank, size_t number) {
    if (values[number].most == RECIPROCAL) {
        return 1.0 / (double)rank;
    }
    if (rank > values[number].most) {
        return 0.0;
    }
    return values[number].discounted ? 1.0 / log2((double)rank + 1.0) : 1.0;
}
