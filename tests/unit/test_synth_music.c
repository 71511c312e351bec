#include "tests/suite.h"
#include "tools/synth_music.h"

#include <math.h>
#include <string.h>

enum { USERS = 60, TRACKS = 3000, DAY = 86400 };

static const weir_synth_music_options_t options = {
    .users = USERS, .tracks = TRACKS, .seed = 3, .listens_mean = 900.0, .days = 100.0};

static weir_synth_music_t *create(void) {
    weir_error_t error = {0};
    weir_synth_music_t *music = NULL;
    ck_assert_msg(weir_synth_music_create(&options, &music, &error) == WEIR_OK, "%s",
                  error.message);
    return music;
}

static const weir_synth_listen_t *listens_of(weir_synth_music_t *music, uint64_t user,
                                             size_t *count) {
    weir_error_t error = {0};
    const weir_synth_listen_t *listens = NULL;
    ck_assert_int_eq(weir_synth_music_user(music, user, &listens, count, &error), WEIR_OK);
    return listens;
}

START_TEST(a_user_is_the_same_whoever_was_made_before) {
    weir_synth_music_t *one = create(), *other = create();
    size_t count = 0, again = 0;
    (void)listens_of(other, 17, &again);
    const weir_synth_listen_t *a = listens_of(one, 5, &count), *b = listens_of(other, 5, &again);
    ck_assert_uint_eq(count, again);
    for (size_t i = 0; i < count; i++) {
        ck_assert(a[i].track == b[i].track && a[i].time == b[i].time && a[i].half == b[i].half &&
                  a[i].played == b[i].played && a[i].logit == b[i].logit);
    }
    weir_synth_music_destroy(one);
    weir_synth_music_destroy(other);
}
END_TEST

START_TEST(listens_are_what_they_say) {
    weir_synth_music_t *music = create();
    for (uint64_t user = 0; user < USERS; user++) {
        size_t count = 0;
        const weir_synth_listen_t *listens = listens_of(music, user, &count);
        ck_assert_uint_ge(count, 2);
        for (size_t i = 0; i < count; i++) {
            const weir_synth_listen_t *listen = &listens[i];
            ck_assert(i == 0 || listen->time > listens[i - 1].time);
            ck_assert(listen->track >= 1 && listen->track <= TRACKS && listen->time >= 0);
            /* Six tenths are there from the beginning, the rest one after the other. */
            ck_assert_double_le((double)listen->track,
                                TRACKS * fmin(1.0, 0.6 + 0.4 * (double)listen->time / DAY / 100) +
                                    1);
            ck_assert(listen->half == (listen->played >= 50.0f) && listen->played <= 100.0f &&
                      listen->played >= 0.0f);
            ck_assert(!(listen->like && !listen->half) && !(listen->dislike && listen->half));
            ck_assert_uint_eq(listen->hour, 1 + (uint32_t)(listen->time % DAY / 3600));
            ck_assert(listen->organic == 1 || listen->organic == 2);
            ck_assert_uint_lt(weir_synth_music_album(music, listen->track),
                              weir_synth_music_artists(music) * WEIR_SYNTH_MUSIC_ALBUMS);
            ck_assert_uint_eq(weir_synth_music_album(music, listen->track) /
                                  WEIR_SYNTH_MUSIC_ALBUMS,
                              weir_synth_music_artist(music, listen->track));
        }
    }
    weir_synth_music_destroy(music);
}
END_TEST

/* Against what the law says: rates of half within bins of its logit, how long sessions are, how
 * many tracks the first quarter of the artists has (the root of a quarter). */
START_TEST(frequencies_are_those_of_the_law) {
    enum { BINS = 12 };
    weir_synth_music_t *music = create();
    double expected[BINS] = {0}, variance[BINS] = {0};
    uint64_t half[BINS] = {0}, sessions = 0, listens_in_all = 0, repeats = 0, first = 0;
    for (uint64_t user = 0; user < USERS; user++) {
        size_t count = 0;
        uint8_t seen[TRACKS + 1] = {0};
        const weir_synth_listen_t *listens = listens_of(music, user, &count);
        for (size_t i = 0; i < count; i++) {
            double p = 1.0 / (1.0 + exp(-listens[i].logit));
            size_t bin = (size_t)(p * BINS);
            bin = bin < BINS ? bin : BINS - 1;
            expected[bin] += p;
            variance[bin] += p * (1.0 - p);
            half[bin] += listens[i].half ? 1 : 0;
            sessions += i == 0 || listens[i].time - listens[i - 1].time >= 1800 ? 1 : 0;
            repeats += seen[listens[i].track];
            seen[listens[i].track] = 1;
        }
        listens_in_all += count;
    }
    for (size_t bin = 0; bin < BINS; bin++) {
        ck_assert_double_eq_tol((double)half[bin], expected[bin], 4.5 * sqrt(variance[bin]) + 1);
    }
    double length = (double)listens_in_all / (double)sessions;
    ck_assert_double_eq_tol(length, 15.0, 15.0 * 4.5 / sqrt((double)sessions));
    double repeated = (double)repeats / (double)listens_in_all; /* half by intent, more by chance */
    ck_assert(repeated > 0.4 && repeated < 0.9);
    for (int64_t track = 1; track <= TRACKS; track++) {
        first +=
            4 * weir_synth_music_artist(music, track) < weir_synth_music_artists(music) ? 1 : 0;
    }
    ck_assert_double_eq_tol((double)first, TRACKS * 0.5, 4.5 * sqrt(TRACKS * 0.25) + 10);
    weir_synth_music_destroy(music);
}
END_TEST

START_TEST(what_cannot_be_is_refused) {
    weir_error_t error = {0};
    weir_synth_music_t *music = NULL;
    weir_synth_music_options_t wrong = options;
    wrong.users = 0;
    ck_assert_int_eq(weir_synth_music_create(&wrong, &music, &error), WEIR_ERR_INVALID);
    wrong = options;
    wrong.listens_mean = NAN;
    ck_assert_int_eq(weir_synth_music_create(&wrong, &music, &error), WEIR_ERR_INVALID);
    wrong = options;
    wrong.days = 0.0;
    ck_assert_int_eq(weir_synth_music_create(&wrong, &music, &error), WEIR_ERR_INVALID);
    wrong = options;
    wrong.tracks = 0;
    ck_assert_int_eq(weir_synth_music_create(&wrong, &music, &error), WEIR_ERR_INVALID);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("synth music");
    TCase *t = tcase_create("synth music");
    tcase_add_test(t, a_user_is_the_same_whoever_was_made_before);
    tcase_add_test(t, listens_are_what_they_say);
    tcase_add_test(t, frequencies_are_those_of_the_law);
    tcase_add_test(t, what_cannot_be_is_refused);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
