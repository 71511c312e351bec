#include "tools/synth_model.h"

#include "common/rng.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

enum { TASTES = 64, SUCCESSORS = 3, PURPOSE_USER = 0, PURPOSE_RELEASE = 1, PURPOSE_SUCCESSOR = 2 };

/* The constants of the process; none needs tuning by a user. */
static const double concentration = 2.0;     /* of the Chinese-restaurant process */
static const double taste_decay = 0.9;       /* of a cluster's weight, a session */
static const double session_end = 0.16;      /* chance that an event is the last of its session */
static const double stay_in_cluster = 0.9;   /* inside a session */
static const double follow_successor = 0.75; /* instead of a draw by popularity */
static const double come_back = 0.25;        /* a session begins with an item of an earlier one */
static const double successor_share[SUCCESSORS] = {0.6, 0.25, 0.15};
static const double released_at_begin = 0.6; /* share of the catalogue */
static const double length_sigma = 0.8;      /* of the log-normal length */
static const double longest_in_means = 20.0;
static const double pause_median = 20.0 * 3600.0, pause_sigma = 1.0; /* between sessions, seconds */
static const double gap_mean = 180.0;                                /* inside a session */
static const double cluster_skew = 0.6;                              /* popularity of clusters */
static const int64_t day = 86400;

struct weir_synth {
    weir_synth_options_t options;
    weir_rng_key_t key;
    size_t longest;
    int64_t *items, *times;
    float *actions;
};

/* One user's process. */
typedef struct {
    const weir_synth_t *synth;
    uint64_t user;
    uint32_t block; /* next counter */
    weir_philox_t words;
    unsigned left; /* unused ones of words */
    struct {
        uint64_t cluster;
        double weight;
    } tastes[TASTES];
    size_t taste_count;
    double total; /* of the weights */
    uint64_t cluster;
    int64_t time, zone; /* zone: seconds between the user's clock and UTC */
} walk_t;

static double draw(walk_t *walk) {
    if (walk->left == 0) {
        walk->words = weir_philox(walk->synth->key, (uint32_t)walk->user,
                                  (uint32_t)(walk->user >> 32), walk->block++, PURPOSE_USER);
        walk->left = 4;
    }
    return weir_uniform01(walk->words.word[--walk->left]);
}

static double draw_normal(walk_t *walk) {
    return weir_normal_quantile(draw(walk));
}

/* The uniform number `u` made to a rank in 0 .. count-1 with probability about (rank + 1)^-skew. */
static uint64_t power_law_rank(double u, uint64_t count, double skew) {
    double top = (double)count + 1.0, x = 0.0;
    if (fabs(skew - 1.0) < 1e-6) {
        x = exp(u * log(top));
    } else {
        double power = 1.0 - skew;
        x = pow((pow(top, power) - 1.0) * u + 1.0, 1.0 / power);
    }
    uint64_t rank = x >= 1.0 ? (uint64_t)(x - 1.0) : 0;
    return rank < count ? rank : count - 1;
}

/* ---- items: number 1 + cluster + clusters * rank ---- */

uint64_t weir_synth_cluster(const weir_synth_t *synth, int64_t item) {
    return ((uint64_t)item - 1) % synth->options.clusters;
}

uint64_t weir_synth_rank(const weir_synth_t *synth, int64_t item) {
    return ((uint64_t)item - 1) / synth->options.clusters;
}

static uint64_t cluster_size(const weir_synth_t *synth, uint64_t cluster) {
    return (synth->options.items - cluster - 1) / synth->options.clusters + 1;
}

static int64_t item_of(const weir_synth_t *synth, uint64_t cluster, uint64_t rank) {
    return (int64_t)(1 + cluster + synth->options.clusters * rank);
}

int64_t weir_synth_release(const weir_synth_t *synth, int64_t item) {
    weir_philox_t words = weir_philox(synth->key, (uint32_t)item, (uint32_t)((uint64_t)item >> 32),
                                      0, PURPOSE_RELEASE);
    double place = (weir_uniform01(words.word[0]) - released_at_begin) / (1.0 - released_at_begin);
    if (place <= 0.0 || weir_synth_rank(synth, item) == 0) { /* a cluster is never empty */
        return WEIR_SYNTH_BEGIN;
    }
    return WEIR_SYNTH_BEGIN + (int64_t)(place * synth->options.days * (double)day);
}

/* The item's successor number `which`: the first from anywhere in its cluster, others popular ones.
 */
static int64_t successor_of(const weir_synth_t *synth, int64_t item, uint32_t which) {
    uint64_t cluster = weir_synth_cluster(synth, item);
    weir_philox_t words = weir_philox(synth->key, (uint32_t)item, (uint32_t)((uint64_t)item >> 32),
                                      which, PURPOSE_SUCCESSOR);
    double skew = which == 0 ? 0.0 : synth->options.skew;
    return item_of(
        synth, cluster,
        power_law_rank(weir_uniform01(words.word[0]), cluster_size(synth, cluster), skew));
}

/* ---- a user ---- */

/* The taste for a cluster, its weight raised by one; the weakest gives way when there are too many.
 */
static void strengthen_taste(walk_t *walk, uint64_t cluster) {
    size_t weakest = 0;
    for (size_t i = 0; i < walk->taste_count; i++) {
        if (walk->tastes[i].cluster == cluster) {
            walk->tastes[i].weight += 1.0;
            walk->total += 1.0;
            return;
        }
        weakest = walk->tastes[i].weight < walk->tastes[weakest].weight ? i : weakest;
    }
    if (walk->taste_count < TASTES) {
        weakest = walk->taste_count++;
        walk->tastes[weakest].weight = 0.0;
    }
    walk->total += 1.0 - walk->tastes[weakest].weight;
    walk->tastes[weakest].cluster = cluster;
    walk->tastes[weakest].weight = 1.0;
}

static double taste_share(const walk_t *walk, uint64_t cluster) {
    for (size_t i = 0; i < walk->taste_count; i++) {
        if (walk->tastes[i].cluster == cluster) {
            return walk->tastes[i].weight / walk->total;
        }
    }
    return 0.0;
}

/* The Chinese-restaurant process over decayed weights. */
static void choose_cluster(walk_t *walk) {
    double place = draw(walk) * (concentration + walk->total) - concentration;
    for (size_t i = 0; i < walk->taste_count && place >= 0.0; i++) {
        if (place < walk->tastes[i].weight) {
            walk->cluster = walk->tastes[i].cluster;
            return;
        }
        place -= walk->tastes[i].weight;
    }
    walk->cluster = power_law_rank(draw(walk), walk->synth->options.clusters, cluster_skew);
}

static bool is_released(const walk_t *walk, int64_t item) {
    return weir_synth_release(walk->synth, item) <= walk->time;
}

/* An item of the walk's cluster by popularity, released and other than `last`. */
static int64_t draw_item(walk_t *walk, int64_t last) {
    uint64_t size = cluster_size(walk->synth, walk->cluster);
    for (int tries = 0; tries < 32; tries++) {
        uint64_t rank = power_law_rank(draw(walk), size, walk->synth->options.skew);
        int64_t item = item_of(walk->synth, walk->cluster, rank);
        if (item != last && is_released(walk, item)) {
            return item;
        }
    }
    return item_of(walk->synth, walk->cluster, 0);
}

/* The next item inside a session. */
static int64_t continue_session(walk_t *walk, int64_t last) {
    if (draw(walk) >= stay_in_cluster) {
        choose_cluster(walk);
        return draw_item(walk, last);
    }
    if (draw(walk) < follow_successor) {
        double place = draw(walk);
        uint32_t which = 0;
        while (which + 1 < SUCCESSORS && place >= successor_share[which]) {
            place -= successor_share[which++];
        }
        int64_t item = successor_of(walk->synth, last, which);
        if (item != last && is_released(walk, item)) {
            return item;
        }
    }
    return draw_item(walk, last);
}

/* The first item of a session; `events` came before it. */
static int64_t begin_session(walk_t *walk, size_t events) {
    for (size_t i = 0; i < walk->taste_count; i++) {
        walk->tastes[i].weight *= taste_decay;
    }
    walk->total *= taste_decay;
    if (events > 0 && draw(walk) < come_back) {
        /* recent ones are likelier: the place falls off as a power law */
        uint64_t back = power_law_rank(draw(walk), events, 1.0);
        int64_t item = walk->synth->items[events - 1 - back];
        walk->cluster = weir_synth_cluster(walk->synth, item);
        return item;
    }
    choose_cluster(walk);
    return draw_item(walk, 0);
}

/* Hours later, and awake: nobody begins between one and seven at night. */
static void pass_pause(walk_t *walk) {
    walk->time += 1800 + (int64_t)(pause_median * exp(pause_sigma * draw_normal(walk)));
    int64_t clock = (walk->time + walk->zone) % day;
    if (clock >= 3600 && clock < 7 * 3600) {
        walk->time += 7 * 3600 - clock + (int64_t)(draw(walk) * 3600.0);
    }
}

static size_t draw_length(walk_t *walk) {
    const weir_synth_t *synth = walk->synth;
    double mean =
        synth->options.events_mean - WEIR_SYNTH_FEWEST + 0.5; /* of what is rounded down */
    double centre = log(mean) - 0.5 * length_sigma * length_sigma;
    double length = WEIR_SYNTH_FEWEST + exp(centre + length_sigma * draw_normal(walk));
    return length < (double)synth->longest ? (size_t)length : synth->longest;
}

weir_synth_events_t weir_synth_user(weir_synth_t *synth, uint64_t user) {
    walk_t walk = {.synth = synth, .user = user};
    size_t count = draw_length(&walk);
    double span = synth->options.days * (double)day;
    walk.zone = (int64_t)(draw(&walk) * 24.0) * 3600;
    walk.time = WEIR_SYNTH_BEGIN + (int64_t)(0.9 * span * draw(&walk));
    int64_t last = 0;
    for (size_t i = 0; i < count; i++) {
        bool visit = true; /* of a cluster: it counts once, however long it lasts */
        if (i == 0 || draw(&walk) < session_end) {
            pass_pause(&walk);
            last = begin_session(&walk, i);
        } else {
            walk.time += 1 - (int64_t)(gap_mean * log(draw(&walk)));
            uint64_t before = walk.cluster;
            last = continue_session(&walk, last);
            visit = walk.cluster != before;
        }
        if (visit) {
            strengthen_taste(&walk, walk.cluster);
        }
        double rating = 3.0 + 2.0 * taste_share(&walk, walk.cluster) + 0.7 * draw_normal(&walk);
        synth->items[i] = last;
        synth->times[i] = walk.time;
        synth->actions[i] = (float)fmin(5.0, fmax(1.0, rint(rating)));
    }
    return (weir_synth_events_t){
        .items = synth->items, .times = synth->times, .actions = synth->actions, .count = count};
}

/* ---- lifecycle ---- */

static weir_err_t check_options(const weir_synth_options_t *options, weir_error_t *error) {
    const uint64_t most = UINT64_C(1) << 40, cluster_most = UINT64_C(1) << 31;
    if (options->users < 1 || options->users > most || options->items < 1 ||
        options->items > most) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "users and items must be between 1 and 2^40, not %llu and %llu",
                           (unsigned long long)options->users, (unsigned long long)options->items);
    }
    if (options->clusters < 1 || options->clusters > options->items ||
        options->items / options->clusters > cluster_most) {
        return weir_errorf(
            error, WEIR_ERR_INVALID,
            "clusters must be between 1 and the number of items, and of at most 2^31 "
            "items each: %llu clusters of %llu items",
            (unsigned long long)options->clusters, (unsigned long long)options->items);
    }
    if (!(options->events_mean >= WEIR_SYNTH_FEWEST + 1 && options->events_mean <= 1e6)) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "the mean number of events must be between %d and 1000000, not %g",
                           WEIR_SYNTH_FEWEST + 1, options->events_mean);
    }
    if (!(options->skew >= 0.0 && options->skew <= 4.0)) {
        return weir_errorf(error, WEIR_ERR_INVALID, "the skew must be between 0 and 4, not %g",
                           options->skew);
    }
    if (!(options->days >= 1.0 && options->days <= 36500.0)) {
        return weir_errorf(error, WEIR_ERR_INVALID, "days must be between 1 and 36500, not %g",
                           options->days);
    }
    return WEIR_OK;
}

weir_err_t weir_synth_create(const weir_synth_options_t *options, weir_synth_t **synth,
                             weir_error_t *error) {
    weir_err_t code = check_options(options, error);
    if (code != WEIR_OK) {
        return code;
    }
    weir_synth_t *made = calloc(1, sizeof *made);
    if (made != NULL) {
        made->options = *options;
        made->key = weir_rng_key(options->seed, WEIR_STREAM_SYNTH);
        made->longest = (size_t)(longest_in_means * options->events_mean);
        made->items = malloc(made->longest * sizeof *made->items);
        made->times = malloc(made->longest * sizeof *made->times);
        made->actions = malloc(made->longest * sizeof *made->actions);
    }
    if (made == NULL || made->items == NULL || made->times == NULL || made->actions == NULL) {
        weir_synth_destroy(made);
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a user's events");
    }
    *synth = made;
    return WEIR_OK;
}

void weir_synth_destroy(weir_synth_t *synth) {
    if (synth != NULL) {
        free(synth->items);
        free(synth->times);
        free(synth->actions);
        free(synth);
    }
}
