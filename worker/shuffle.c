#include "worker/shuffle.h"

#include "common/rng.h"

#include <stdlib.h>

struct weir_shuffle {
    uint64_t seed, epoch; /* of `order`; UINT64_MAX: none yet */
    uint32_t *taken;      /* users */
    uint32_t *order;      /* permutation of places in `taken` */
    uint32_t *chosen;     /* of the step asked for last */
    size_t count, step_users;
};

weir_err_t weir_shuffle_create(uint64_t seed, uint64_t users, size_t step_users,
                               weir_shuffle_takes_t takes, const void *argument,
                               weir_shuffle_t **shuffle, weir_error_t *error) {
    if (users >= UINT32_MAX) {
        return weir_errorf(error, WEIR_ERR_UNSUPPORTED, "%llu users; at most %u can be shuffled",
                           (unsigned long long)users, UINT32_MAX - 1);
    }
    weir_shuffle_t *made = calloc(1, sizeof *made);
    if (made != NULL) {
        made->taken = malloc((size_t)users * sizeof *made->taken + 1);
        made->order = malloc((size_t)users * sizeof *made->order + 1);
        made->chosen = calloc(step_users, sizeof *made->chosen);
    }
    if (made == NULL || made->taken == NULL || made->order == NULL || made->chosen == NULL) {
        weir_shuffle_destroy(made);
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the order of %llu users",
                           (unsigned long long)users);
    }
    made->seed = seed;
    made->epoch = UINT64_MAX;
    made->step_users = step_users;
    for (uint64_t user = 0; user < users; user++) {
        if (takes(argument, user)) {
            made->taken[made->count++] = (uint32_t)user;
        }
    }
    *shuffle = made;
    return WEIR_OK;
}

void weir_shuffle_destroy(weir_shuffle_t *shuffle) {
    if (shuffle != NULL) {
        free(shuffle->taken);
        free(shuffle->order);
        free(shuffle->chosen);
        free(shuffle);
    }
}

uint64_t weir_shuffle_users(const weir_shuffle_t *shuffle) {
    return shuffle->count;
}

uint64_t weir_shuffle_steps(const weir_shuffle_t *shuffle) {
    return (shuffle->count + shuffle->step_users - 1) / shuffle->step_users;
}

const uint32_t *weir_shuffle_step(weir_shuffle_t *shuffle, uint64_t epoch, uint64_t position,
                                  size_t *count) {
    if (shuffle->epoch != epoch) {
        weir_rng_permutation(shuffle->seed, WEIR_STREAM_SHUFFLE, epoch, shuffle->order,
                             shuffle->count);
        shuffle->epoch = epoch;
    }
    size_t begin = (size_t)position * shuffle->step_users;
    size_t end = begin + shuffle->step_users;
    end = end < shuffle->count ? end : shuffle->count;
    for (size_t i = begin; i < end; i++) {
        shuffle->chosen[i - begin] = shuffle->taken[shuffle->order[i]];
    }
    *count = end > begin ? end - begin : 0;
    return shuffle->chosen;
}
