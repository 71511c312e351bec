#include "tools/synth_actions.h"

#include "common/rng.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    K = 8,
    CROWDS = 6, /* kinds of users */
    DRAW_USER = 1,
    DRAW_ITEM,
    DRAW_CLUSTER,
    DRAW_HOUR,
    DRAW_EVENT,
    DRAW_CROWD,
    DRAW_CROWD_OF_USER,
    DAY = 86400
};

static const double click_bias = -0.8, click_appeal = 0.6, click_fit = 2.0, hour_effect = 0.3;
static const double like_bias = -1.5, like_fit = 2.0;
/* of an item's and of a user's factors; the rest, to unit variance, is its own */
static const double cluster_share = 0.8, crowd_share = 0.9;
static const double watched_mean = 20.0, watched_slope = 6.0, watched_noise = 8.0;
/* Another stream than that of the events. */
static const uint64_t actions_seed = UINT64_C(0xAC710250);

static weir_philox_t draw(uint64_t seed, uint32_t purpose, uint64_t number, uint32_t block) {
    return weir_philox(weir_rng_key(seed ^ actions_seed, WEIR_STREAM_SYNTH), (uint32_t)number,
                       (uint32_t)(number >> 32), block, purpose);
}

/* `count` standard normals, a multiple of 4. */
static void fill_normals(uint64_t seed, uint32_t purpose, uint64_t number, double *out,
                         size_t count) {
    for (size_t i = 0; i < count; i++) {
        weir_philox_t words = draw(seed, purpose, number, (uint32_t)(i / 4));
        out[i] = weir_normal_quantile(weir_uniform01(words.word[i % 4]));
    }
}

/* K factors of the click, K of the like, and the appeal. */
typedef struct {
    double factors[2 * K + 4];
} traits_t;

/* Own traits, and a share of those of the group that it belongs to. */
static traits_t mix_traits(uint64_t seed, uint32_t purpose, uint64_t number, uint32_t of_group,
                           uint64_t group, double share) {
    traits_t own, common;
    double rest = sqrt(1.0 - share * share);
    fill_normals(seed, purpose, number, own.factors, 2 * K + 4);
    fill_normals(seed, of_group, group, common.factors, 2 * K + 4);
    for (size_t i = 0; i < 2 * K + 4; i++) {
        own.factors[i] = share * common.factors[i] + rest * own.factors[i];
    }
    return own;
}

static double fit(const double *a, const double *b) {
    double sum = 0.0;
    for (size_t i = 0; i < K; i++) {
        sum += a[i] * b[i];
    }
    return sum / sqrt((double)K);
}

static double sigmoid(double z) {
    return 1.0 / (1.0 + exp(-z));
}

weir_synth_action_t weir_synth_action_of(const weir_synth_t *synth, uint64_t seed, uint64_t user,
                                         uint64_t number, int64_t item, int64_t time) {
    weir_synth_action_t made = {0};
    uint32_t word = draw(seed, DRAW_CROWD_OF_USER, user, 0).word[0];
    traits_t of_user = mix_traits(seed, DRAW_USER, user, DRAW_CROWD,
                                  weir_uniform_below(word, CROWDS), crowd_share);
    traits_t of_item = mix_traits(seed, DRAW_ITEM, (uint64_t)item, DRAW_CLUSTER,
                                  weir_synth_cluster(synth, item), cluster_share);
    double hours[24];
    fill_normals(seed, DRAW_HOUR, 0, hours, 24);
    made.hour = 1 + (uint32_t)((time % DAY + DAY) % DAY / 3600);
    double click = click_bias + click_appeal * of_item.factors[2 * K] +
                   click_fit * fit(of_user.factors, of_item.factors) +
                   hour_effect * hours[made.hour - 1];
    double like = like_bias + like_fit * fit(of_user.factors + K, of_item.factors + K);
    double both = sigmoid(click) * sigmoid(like);
    weir_philox_t words = draw(seed, DRAW_EVENT, user, (uint32_t)number);
    made.logits[0] = click;
    made.logits[1] = log(both) - log1p(-both);
    made.actions[0] = weir_uniform01(words.word[0]) < sigmoid(click);
    made.actions[1] = made.actions[0] && weir_uniform01(words.word[1]) < sigmoid(like);
    double noise = weir_normal_quantile(weir_uniform01(words.word[2]));
    made.watched = (float)fmax(watched_mean + watched_slope * click + watched_noise * noise, 0.0);
    return made;
}

void weir_synth_action_columns(uint64_t cluster_count, const uint32_t *clusters,
                               weir_dataset_columns_t *columns) {
    memset(columns, 0, sizeof *columns);
    columns->action_count = WEIR_SYNTH_ACTIONS;
    (void)snprintf(columns->actions[0], WEIR_DATASET_NAME, "click");
    (void)snprintf(columns->actions[1], WEIR_DATASET_NAME, "like");
    columns->number_count = columns->context_count = columns->item_count = 1;
    (void)snprintf(columns->numbers[0].name, WEIR_DATASET_NAME, "watched");
    (void)snprintf(columns->context[0].name, WEIR_DATASET_NAME, "hour");
    columns->context[0].size = 25;
    (void)snprintf(columns->items[0].name, WEIR_DATASET_NAME, "cluster");
    columns->items[0].size = (uint32_t)cluster_count + 1;
    columns->items[0].ids = clusters;
}

void weir_synth_action_words(const weir_synth_action_t *action, uint32_t words[WEIR_SYNTH_WORDS]) {
    words[0] = (action->actions[0] ? 1u : 0u) | (action->actions[1] ? 2u : 0u);
    memcpy(&words[1], &action->watched, sizeof action->watched);
    words[2] = action->hour;
}
