/* Listens to music with something to learn, in the shape of large listening logs (Yambda: tracks
 * with artist and album, how much of a track was played, likes and dislikes, whether the listener
 * chose it): what `weir synth --music` makes.
 *
 * Tracks belong to artists, of whom the first have most of them, and to one of four albums of their
 * artist. Six tenths are there from the beginning, the others come one after the other. Tracks and
 * users have factors of K numbers: a track's are mostly its artist's, an artist's partly its
 * genre's, a user's partly those of one of few crowds that no column names. A user's listens come
 * in sessions of 15 on average, in the evening more than at night; a listen repeats an earlier one
 * of the user (recent ones more) or is the best of three popular tracks by taste and chance.
 *
 * The logit of *half*, that at least half of the track is played: a constant, the user's own, the
 * fit of both factors, the track's appeal, how often the user has heard it before, a loss where
 * that was within two hours, the hour, and whether the listener chose it. A *like* comes of a
 * track played, a *dislike* of one that was not. What a user heard before tells all but chance.
 *
 * What would come after the last day is left out. A user is a function of (options, user), and of
 * nothing else. */
#ifndef WEIR_TOOLS_SYNTH_MUSIC_H
#define WEIR_TOOLS_SYNTH_MUSIC_H

#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint64_t users, tracks, seed;
    double listens_mean; /* of a user */
    double days;
} weir_synth_music_options_t;

enum { WEIR_SYNTH_MUSIC_ALBUMS = 4, WEIR_SYNTH_MUSIC_TRACKS_OF_ARTIST = 12 /* on average */ };

typedef struct {
    int64_t track; /* 1 .. tracks */
    int64_t time;  /* seconds since the beginning, rising */
    float played;  /* per cent */
    bool half, like, dislike;
    uint32_t hour;    /* 1 .. 24 */
    uint32_t organic; /* 1: chosen by the listener, 2: not */
    double logit;     /* of half */
} weir_synth_listen_t;

typedef struct weir_synth_music weir_synth_music_t;

/* Errors: INVALID for options out of range: users 1 .. 2^32 - 1, tracks 1 .. 2^31, mean 2 .. 10^7,
 * days above 0, at most 36500; out of memory. */
WEIR_MUST_USE weir_err_t weir_synth_music_create(const weir_synth_music_options_t *options,
                                                 weir_synth_music_t **music, weir_error_t *error);
void weir_synth_music_destroy(weir_synth_music_t *music); /* accepts NULL */

uint64_t weir_synth_music_artists(const weir_synth_music_t *music);
/* Of a track, from 0: the artist, and the album among those of all artists. */
uint64_t weir_synth_music_artist(const weir_synth_music_t *music, int64_t track);
uint64_t weir_synth_music_album(const weir_synth_music_t *music, int64_t track);

/* The listens of a user, 2 or more; valid until the next. Errors: out of memory. */
WEIR_MUST_USE weir_err_t weir_synth_music_user(weir_synth_music_t *music, uint64_t user,
                                               const weir_synth_listen_t **listens, size_t *count,
                                               weir_error_t *error);

/* Write prepared data of it to `folder` and print a summary. */
WEIR_MUST_USE weir_err_t weir_synth_music_write(const weir_synth_music_options_t *options,
                                                const char *folder, bool force, bool json,
                                                weir_error_t *error);

#endif
