/* Users in the shuffled order of an epoch, cut into steps: the order is a pure function of (seed,
 * epoch) and of the users that are taken, so that every worker knows it. */
#ifndef WEIR_WORKER_SHUFFLE_H
#define WEIR_WORKER_SHUFFLE_H

#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct weir_shuffle weir_shuffle_t;

/* Whether there is something of a user to train on. */
typedef bool (*weir_shuffle_takes_t)(const void *argument, uint64_t user);

/* Of users 0 .. users - 1 those that `takes` takes, asked once, `step_users` a step; none is no
 * error. Errors: UNSUPPORTED (2^32 - 1 users and more), MEMORY. Call: local. */
WEIR_MUST_USE weir_err_t weir_shuffle_create(uint64_t seed, uint64_t users, size_t step_users,
                                             weir_shuffle_takes_t takes, const void *argument,
                                             weir_shuffle_t **shuffle, weir_error_t *error);
/* Accepts NULL. */
void weir_shuffle_destroy(weir_shuffle_t *shuffle);

uint64_t weir_shuffle_users(const weir_shuffle_t *shuffle); /* that were taken */
uint64_t weir_shuffle_steps(const weir_shuffle_t *shuffle); /* of an epoch; the last may be short */

/* The users of step `position` (from 0) of an epoch, *count of them: valid until the next call.
 * Orders anew where the epoch is another than last time. Call: local. Threads: owner. */
const uint32_t *weir_shuffle_step(weir_shuffle_t *shuffle, uint64_t epoch, uint64_t position,
                                  size_t *count);

#endif
