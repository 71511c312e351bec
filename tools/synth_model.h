/* A synthetic log with something to learn, for demos, tests and benches without data.
 *
 * Items belong to clusters; in a cluster popularity falls as a power of the rank. A user has
 * *sessions* of events minutes apart, hours or days between them. At a session's begin the user
 * picks a cluster by a Chinese-restaurant process: one visited before, in proportion to how often
 * and how recently, or, with the rest of the probability, a fresh one from the prior, so that new
 * clusters and items keep appearing; or comes back to an item of an earlier session. Inside a
 * session the user mostly stays in the cluster and mostly takes one of the last item's few fixed
 * successors. So the time that passes tells what comes. Items are released over time; nobody
 * touches one before.
 *
 * Every number comes from a counter-based generator: user u's events are a pure function of
 * (options, u), whatever the number of users, and items are described without a table. */
#ifndef WEIR_TOOLS_SYNTH_MODEL_H
#define WEIR_TOOLS_SYNTH_MODEL_H

#include "common/error.h"

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint64_t users, items, clusters;
    double events_mean; /* events a user, log-normal */
    double skew;        /* exponent of popularity inside a cluster; 0: uniform */
    double days;        /* in which users come and items are released */
    uint64_t seed;
} weir_synth_options_t;

enum { WEIR_SYNTH_FEWEST = 3 }; /* events of a user */
/* 2020-01-01: the first day. */
#define WEIR_SYNTH_BEGIN INT64_C(1577836800)

typedef struct weir_synth weir_synth_t;

/* Errors: INVALID for options out of range (users and items 1 .. 2^40, clusters 1 .. items and at
 * least items / 2^31, mean 4 .. 1e6, skew 0 .. 4, days 1 .. 36500). */
WEIR_MUST_USE weir_err_t weir_synth_create(const weir_synth_options_t *options,
                                           weir_synth_t **synth, weir_error_t *error);
void weir_synth_destroy(weir_synth_t *synth);

typedef struct {
    const int64_t *items, *times; /* items from 1; seconds, not falling */
    const float *actions;         /* 1 .. 5: how well the cluster fits the user */
    size_t count;
} weir_synth_events_t;

/* All events of a user; valid until the next call. Call: local. Threads: owner. */
weir_synth_events_t weir_synth_user(weir_synth_t *synth, uint64_t user);

/* Cluster of an item 1 .. items, its rank in it (0: the most popular), and when it is released. */
uint64_t weir_synth_cluster(const weir_synth_t *synth, int64_t item);
uint64_t weir_synth_rank(const weir_synth_t *synth, int64_t item);
int64_t weir_synth_release(const weir_synth_t *synth, int64_t item);

#endif
