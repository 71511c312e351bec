#include "tools/synth_music.h"

#include "common/rng.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    K = 8,
    GENRES = 24,
    CROWDS = 12,
    CANDIDATES = 3, /* of a listen that repeats none */
    RECENT = 2000,  /* listens that may be repeated */
    DAY = 86400,
    HOUR = 3600,
    BETWEEN = 1860, /* seconds between sessions at the least */
    FATIGUE = 2 * HOUR,
    DRAW_TRACK = 1,
    DRAW_ARTIST,
    DRAW_GENRE,
    DRAW_CROWD,
    DRAW_USER,
    DRAW_HOURS,
    DRAW_SESSION
};

/* Another stream than those of the other kinds of data. */
static const uint64_t music_seed = UINT64_C(0x3D051C);

static const double released_share = 0.6, artist_share = 0.9, genre_share = 0.7, crowd_share = 0.6;
static const double session_mean = 15.0, activity_spread = 0.9;
static const double logit_bias = -1.2, user_spread = 0.5, fit_weight = 1.3, appeal_weight = 0.5,
                    heard_weight = 0.45, heard_most = 4.0, fatigue = 1.8, organic_weight = 0.5,
                    hour_weight = 0.2;

/* Factors, and one number beside them. */
typedef struct {
    float factors[K];
    float extra; /* of a track: appeal; of an artist: popularity; of a user: bias */
} traits_t;

typedef struct {
    int64_t track; /* 0: free */
    uint32_t count;
    int64_t last;
} heard_t;

struct weir_synth_music {
    weir_synth_music_options_t options;
    uint64_t artists;
    uint32_t *artist_of; /* [tracks] */
    traits_t *tracks;    /* [tracks] */
    double *popularity;  /* [tracks]: running sums of the weights */
    double hours[24];    /* effect on the logit */
    /* of one user */
    size_t room, heard_room;
    weir_synth_listen_t *listens;
    heard_t *heard; /* a power of two of them */
    int64_t *starts;
};

/* ---- draws ---- */

typedef struct {
    weir_rng_key_t key;
    uint64_t number;
    uint32_t purpose;
    uint32_t next;
} draws_t;

static draws_t begin_draws(const weir_synth_music_t *music, uint32_t purpose, uint64_t number) {
    return (draws_t){.key = weir_rng_key(music->options.seed ^ music_seed, WEIR_STREAM_SYNTH),
                     .number = number,
                     .purpose = purpose};
}

static uint32_t draw(draws_t *draws) {
    weir_philox_t words =
        weir_philox(draws->key, (uint32_t)draws->number, (uint32_t)(draws->number >> 32),
                    draws->next / 4, draws->purpose);
    return words.word[draws->next++ % 4];
}

static double uniform(draws_t *draws) {
    return weir_uniform01(draw(draws));
}

static double normal(draws_t *draws) {
    return weir_normal_quantile(uniform(draws));
}

static traits_t draw_traits(const weir_synth_music_t *music, uint32_t purpose, uint64_t number) {
    draws_t draws = begin_draws(music, purpose, number);
    traits_t traits;
    for (size_t k = 0; k < K; k++) {
        traits.factors[k] = (float)normal(&draws);
    }
    traits.extra = (float)normal(&draws);
    return traits;
}

/* `share` of the group's factors, the rest its own, of variance 1 in all. */
static void mix(traits_t *own, const traits_t *group, double share) {
    double rest = sqrt(1.0 - share * share);
    for (size_t k = 0; k < K; k++) {
        own->factors[k] =
            (float)(share * (double)group->factors[k] + rest * (double)own->factors[k]);
    }
}

static double fit(const traits_t *a, const traits_t *b) {
    double sum = 0.0;
    for (size_t k = 0; k < K; k++) {
        sum += (double)a->factors[k] * (double)b->factors[k];
    }
    return sum / sqrt((double)K);
}

static double sigmoid(double z) {
    return 1.0 / (1.0 + exp(-z));
}

/* ---- tracks ---- */

static void make_track(weir_synth_music_t *music, uint64_t track) {
    draws_t draws = begin_draws(music, DRAW_TRACK, track + (UINT64_C(1) << 40));
    double place = uniform(&draws);
    uint64_t artist = (uint64_t)((double)music->artists * place * place);
    artist = artist < music->artists ? artist : music->artists - 1;
    traits_t of_artist = draw_traits(music, DRAW_ARTIST, artist);
    draws_t of_genre = begin_draws(music, DRAW_ARTIST, artist + (UINT64_C(1) << 40));
    traits_t genre = draw_traits(music, DRAW_GENRE, weir_uniform_below(draw(&of_genre), GENRES));
    traits_t own = draw_traits(music, DRAW_TRACK, track);
    mix(&of_artist, &genre, genre_share);
    mix(&own, &of_artist, artist_share);
    double weight = exp((double)of_artist.extra + (double)own.extra) / sqrt(1.0 + (double)artist);
    music->artist_of[track] = (uint32_t)artist;
    music->tracks[track] = own;
    music->popularity[track] = weight + (track > 0 ? music->popularity[track - 1] : 0.0);
}

/* Tracks 0 .. this - 1 are there at `time`. */
static uint64_t released(const weir_synth_music_t *music, int64_t time) {
    double days = (double)time / DAY / music->options.days;
    double share = released_share + (1.0 - released_share) * fmin(days, 1.0);
    uint64_t count = (uint64_t)(share * (double)music->options.tracks);
    return count > 0 ? count : 1;
}

/* One of the first `count` tracks, in proportion to their weights. */
static uint64_t draw_track(const weir_synth_music_t *music, draws_t *draws, uint64_t count) {
    double at = uniform(draws) * music->popularity[count - 1];
    uint64_t first = 0, end = count - 1;
    while (first < end) {
        uint64_t middle = first + (end - first) / 2;
        if (music->popularity[middle] <= at) {
            first = middle + 1;
        } else {
            end = middle;
        }
    }
    return first;
}

/* ---- its life ---- */

void weir_synth_music_destroy(weir_synth_music_t *music) {
    if (music != NULL) {
        free(music->artist_of);
        free(music->tracks);
        free(music->popularity);
        free(music->listens);
        free(music->heard);
        free(music->starts);
        free(music);
    }
}

static weir_err_t check(const weir_synth_music_options_t *o, weir_error_t *error) {
    if (o->users == 0 || o->users >= UINT32_MAX || o->tracks == 0 ||
        o->tracks > UINT64_C(1) << 31) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "--users %" PRIu64 " --items %" PRIu64
                           ": 1 to 2^32 - 2 users, 1 to 2^31 tracks",
                           o->users, o->tracks);
    }
    if (!(o->listens_mean >= 2.0 && o->listens_mean <= 1e7) ||
        !(o->days > 0.0 && o->days <= 36500.0)) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "--events-mean %g --days %g: 2 to 10^7 listens a user, in more than 0 "
                           "and at most 36500 days",
                           o->listens_mean, o->days);
    }
    return WEIR_OK;
}

weir_err_t weir_synth_music_create(const weir_synth_music_options_t *options,
                                   weir_synth_music_t **music, weir_error_t *error) {
    weir_err_t err = check(options, error);
    if (err != WEIR_OK) {
        return err;
    }
    size_t tracks = (size_t)options->tracks;
    weir_synth_music_t *made = calloc(1, sizeof *made);
    if (made != NULL) {
        made->options = *options;
        made->artists = options->tracks / WEIR_SYNTH_MUSIC_TRACKS_OF_ARTIST + 1;
        made->artist_of = calloc(tracks, sizeof *made->artist_of);
        made->tracks = calloc(tracks, sizeof *made->tracks);
        made->popularity = calloc(tracks, sizeof *made->popularity);
    }
    if (made == NULL || made->artist_of == NULL || made->tracks == NULL ||
        made->popularity == NULL) {
        weir_synth_music_destroy(made);
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for %zu tracks", tracks);
    }
    draws_t hours = begin_draws(made, DRAW_HOURS, 0);
    for (size_t hour = 0; hour < 24; hour++) {
        made->hours[hour] = normal(&hours);
    }
    for (uint64_t track = 0; track < options->tracks; track++) {
        make_track(made, track);
    }
    *music = made;
    return WEIR_OK;
}

uint64_t weir_synth_music_artists(const weir_synth_music_t *music) {
    return music->artists;
}

uint64_t weir_synth_music_artist(const weir_synth_music_t *music, int64_t track) {
    return music->artist_of[track - 1];
}

uint64_t weir_synth_music_album(const weir_synth_music_t *music, int64_t track) {
    return weir_synth_music_artist(music, track) * WEIR_SYNTH_MUSIC_ALBUMS +
           (uint64_t)track % WEIR_SYNTH_MUSIC_ALBUMS;
}

/* ---- a user ---- */

static weir_err_t reserve(weir_synth_music_t *music, size_t count, weir_error_t *error) {
    size_t heard = 16;
    while (heard < 2 * count) {
        heard *= 2;
    }
    if (count > music->room) {
        weir_synth_listen_t *listens = realloc(music->listens, count * sizeof *listens);
        music->listens = listens != NULL ? listens : music->listens;
        int64_t *starts = realloc(music->starts, count * sizeof *starts);
        music->starts = starts != NULL ? starts : music->starts;
        heard_t *table = realloc(music->heard, heard * sizeof *table);
        music->heard = table != NULL ? table : music->heard;
        if (listens == NULL || starts == NULL || table == NULL) {
            return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for %zu listens", count);
        }
        music->room = count;
    }
    music->heard_room = heard;
    memset(music->heard, 0, heard * sizeof *music->heard);
    return WEIR_OK;
}

static heard_t *find_heard(const weir_synth_music_t *music, int64_t track) {
    size_t mask = music->heard_room - 1;
    size_t at = (size_t)((uint64_t)track * UINT64_C(0x9E3779B97F4A7C15) >> 20) & mask;
    while (music->heard[at].track != 0 && music->heard[at].track != track) {
        at = (at + 1) & mask;
    }
    return &music->heard[at];
}

static int compare_times(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* When the user's sessions begin, ascending: `count` of them. */
static void draw_starts(weir_synth_music_t *music, uint64_t user, size_t count) {
    draws_t draws = begin_draws(music, DRAW_SESSION, user);
    double begin = uniform(&draws) < 0.3 ? 0.5 * uniform(&draws) : 0.0;
    for (size_t i = 0; i < count; i++) {
        double at = (begin + (1.0 - begin) * uniform(&draws)) * music->options.days;
        /* The hour: the sum of two draws, around eight in the evening. */
        double hour = fmod(12.0 * (uniform(&draws) + uniform(&draws)) + 8.0, 24.0);
        music->starts[i] = (int64_t)(floor(at) * DAY + hour * HOUR);
    }
    qsort(music->starts, count, sizeof *music->starts, compare_times);
}

/* What is listened to as number n. */
static int64_t choose_track(const weir_synth_music_t *music, const traits_t *user, draws_t *draws,
                            size_t n, int64_t time, bool repeats) {
    if (repeats && n > 0) {
        size_t recent = n < RECENT ? n : RECENT;
        size_t back = (size_t)(exp(uniform(draws) * log((double)recent + 1.0)) - 1.0);
        back = back < n ? back : n - 1;
        return music->listens[n - 1 - back].track;
    }
    uint64_t count = released(music, time), best = 0;
    double highest = -INFINITY;
    for (size_t i = 0; i < CANDIDATES; i++) {
        uint64_t track = draw_track(music, draws, count);
        double score = fit(user, &music->tracks[track]) + 0.5 * normal(draws);
        if (score > highest) {
            highest = score;
            best = track;
        }
    }
    return (int64_t)best + 1;
}

/* Listen n, at `time`. */
static void listen(weir_synth_music_t *music, const traits_t *user, double repeats, draws_t *draws,
                   size_t n, int64_t time) {
    bool again = uniform(draws) < repeats;
    weir_synth_listen_t *made = &music->listens[n];
    *made = (weir_synth_listen_t){.time = time,
                                  .hour = 1 + (uint32_t)(time % DAY / HOUR),
                                  .track = choose_track(music, user, draws, n, time, again)};
    made->organic = uniform(draws) < (again ? 0.7 : 0.3) ? 1 : 2;
    const traits_t *track = &music->tracks[made->track - 1];
    heard_t *heard = find_heard(music, made->track);
    bool tired = heard->track != 0 && time - heard->last < FATIGUE;
    made->logit = logit_bias + user_spread * (double)user->extra + fit_weight * fit(user, track) +
                  appeal_weight * (double)track->extra +
                  heard_weight * fmin(log2(1.0 + heard->count), heard_most) -
                  (tired ? fatigue : 0.0) + (made->organic == 1 ? organic_weight : 0.0) +
                  hour_weight * music->hours[made->hour - 1];
    made->half = uniform(draws) < sigmoid(made->logit);
    double share = uniform(draws);
    made->played = (float)(made->half ? 50.0 + 50.0 * sqrt(share) : 49.9 * share);
    double opinion = uniform(draws);
    made->like = made->half && opinion < sigmoid(made->logit - 5.0);
    made->dislike = !made->half && opinion < sigmoid(-made->logit - 4.0);
    *heard = (heard_t){made->track, heard->count + 1, time};
}

weir_err_t weir_synth_music_user(weir_synth_music_t *music, uint64_t user,
                                 const weir_synth_listen_t **listens, size_t *count,
                                 weir_error_t *error) {
    traits_t traits = draw_traits(music, DRAW_USER, user);
    draws_t draws = begin_draws(music, DRAW_USER, user + (UINT64_C(1) << 40));
    traits_t crowd = draw_traits(music, DRAW_CROWD, weir_uniform_below(draw(&draws), CROWDS));
    double repeats = 0.2 + 0.6 * uniform(&draws);
    double activity = exp(activity_spread * normal(&draws) - activity_spread * activity_spread / 2);
    double wanted = fmin(music->options.listens_mean * activity, 5e7);
    size_t all = wanted < 2.0 ? 2 : (size_t)wanted, sessions = 1;
    int64_t free_from = 0;
    mix(&traits, &crowd, crowd_share);
    weir_err_t err = reserve(music, all, error);
    if (err != WEIR_OK) {
        return err;
    }
    draws_t ends = begin_draws(music, DRAW_SESSION, user + (UINT64_C(1) << 40));
    for (size_t n = 1; n < all; n++) { /* the same draws as below */
        sessions += uniform(&ends) * session_mean < 1.0 ? 1 : 0;
    }
    draw_starts(music, user, sessions);
    ends.next = 0;
    for (size_t n = 0, session = 0; n < all; n++) {
        bool begins = n == 0 || uniform(&ends) * session_mean < 1.0;
        if (begins) {
            int64_t start = music->starts[session++];
            free_from = n == 0 || start > free_from + BETWEEN ? start : free_from + BETWEEN;
        }
        if (n >= 2 && (double)free_from >= music->options.days * DAY) {
            all = n; /* there is no more time */
            break;
        }
        listen(music, &traits, repeats, &draws, n, free_from);
        double seconds = 120.0 + 180.0 * uniform(&draws);
        free_from += 5 + (int64_t)(seconds * (double)music->listens[n].played / 100.0);
    }
    *listens = music->listens;
    *count = all;
    return WEIR_OK;
}
