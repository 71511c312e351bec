/* Prepared data of the listens: columns and features as a ranking model reads them. */
#include "tools/dataset_writer.h"
#include "tools/progress.h"
#include "tools/synth_music.h"
#include "worker/task_metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ACTIONS = 3, WORDS = 4, EXACT_SAMPLES = 1 << 22 }; /* bits, played, hour, organic */

static const char *const action_names[ACTIONS] = {"half", "like", "dislike"};

typedef struct {
    const weir_synth_music_options_t *options;
    weir_synth_music_t *music;
    weir_dataset_writer_t *writer;
    weir_dataset_columns_t columns;
    uint32_t *artists, *albums; /* [tracks] */
    size_t room;
    int64_t *items, *times;
    float *ratings; /* 1: at least half was played, else 0 */
    uint32_t *words;
    weir_task_metrics_t *metrics; /* of the planted logits of `half` */
    uint64_t listens, counts[ACTIONS];
} writing_t;

static weir_err_t no_memory(weir_error_t *error) {
    return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for listens");
}

static void name_feature(weir_feature_t *feature, const char *name, uint64_t values,
                         const uint32_t *ids) {
    (void)snprintf(feature->name, sizeof feature->name, "%s", name);
    feature->size = (uint32_t)values + 1;
    feature->ids = ids;
}

static weir_err_t make_columns(writing_t *writing, weir_error_t *error) {
    weir_dataset_columns_t *columns = &writing->columns;
    size_t tracks = (size_t)writing->options->tracks;
    uint64_t artists = weir_synth_music_artists(writing->music);
    writing->artists = malloc(tracks * sizeof(uint32_t));
    writing->albums = malloc(tracks * sizeof(uint32_t));
    if (writing->artists == NULL || writing->albums == NULL) {
        return no_memory(error);
    }
    for (size_t i = 0; i < tracks; i++) {
        int64_t track = (int64_t)i + 1;
        writing->artists[i] = (uint32_t)weir_synth_music_artist(writing->music, track) + 1;
        writing->albums[i] = (uint32_t)weir_synth_music_album(writing->music, track) + 1;
    }
    columns->action_count = ACTIONS;
    for (size_t a = 0; a < ACTIONS; a++) {
        (void)snprintf(columns->actions[a], WEIR_DATASET_NAME, "%s", action_names[a]);
    }
    columns->number_count = 1;
    (void)snprintf(columns->numbers[0].name, WEIR_DATASET_NAME, "played");
    columns->context_count = columns->item_count = 2;
    name_feature(&columns->context[0], "hour", 24, NULL);
    name_feature(&columns->context[1], "organic", 2, NULL);
    name_feature(&columns->items[0], "artist", artists, writing->artists);
    name_feature(&columns->items[1], "album", artists * WEIR_SYNTH_MUSIC_ALBUMS, writing->albums);
    return weir_dataset_writer_extend(writing->writer, columns, error);
}

static weir_err_t reserve(writing_t *writing, size_t count, weir_error_t *error) {
    if (count <= writing->room) {
        return WEIR_OK;
    }
    free(writing->items);
    free(writing->times);
    free(writing->ratings);
    free(writing->words);
    writing->items = malloc(count * sizeof *writing->items);
    writing->times = malloc(count * sizeof *writing->times);
    writing->ratings = malloc(count * sizeof *writing->ratings);
    writing->words = malloc(count * WORDS * sizeof *writing->words);
    bool enough = writing->items != NULL && writing->times != NULL && writing->ratings != NULL &&
                  writing->words != NULL;
    writing->room = enough ? count : 0;
    return enough ? WEIR_OK : no_memory(error);
}

static weir_err_t write_user(writing_t *writing, uint64_t user, weir_error_t *error) {
    const weir_synth_listen_t *listens = NULL;
    size_t count = 0;
    weir_err_t err = weir_synth_music_user(writing->music, user, &listens, &count, error);
    if (err == WEIR_OK) {
        err = reserve(writing, count, error);
    }
    for (size_t i = 0; i < count && err == WEIR_OK; i++) {
        const weir_synth_listen_t *listen = &listens[i];
        const bool actions[ACTIONS] = {listen->half, listen->like, listen->dislike};
        uint32_t *words = writing->words + i * WORDS;
        memset(words, 0, WORDS * sizeof *words);
        for (size_t a = 0; a < ACTIONS; a++) {
            words[0] |= actions[a] ? UINT32_C(1) << a : 0;
            writing->counts[a] += actions[a] ? 1 : 0;
        }
        memcpy(&words[1], &listen->played, sizeof listen->played);
        words[2] = listen->hour;
        words[3] = listen->organic;
        writing->items[i] = listen->track;
        writing->times[i] = listen->time;
        writing->ratings[i] = listen->half ? 1.0f : 0.0f;
        err = weir_task_metrics_add(writing->metrics, 0, user, writing->ratings[i],
                                    (float)listen->logit, error);
    }
    writing->listens += count;
    if (err == WEIR_OK) {
        err = weir_dataset_writer_add_user(writing->writer, writing->items, writing->times,
                                           writing->ratings, count, error);
    }
    return err == WEIR_OK
               ? weir_dataset_writer_add_words(writing->writer, writing->words, count, error)
               : err;
}

static weir_err_t write_users(writing_t *writing, weir_error_t *error) {
    weir_progress_t progress;
    weir_err_t err = WEIR_OK;
    weir_progress_begin(&progress, "making", "users", writing->options->users);
    for (uint64_t user = 0; user < writing->options->users && err == WEIR_OK; user++) {
        err = write_user(writing, user, error);
        if (user % 64 == 63) {
            weir_progress_update(&progress, user + 1, user + 1);
        }
    }
    weir_progress_clear(&progress);
    return err;
}

/* ---- ids: "a7-t120": track 120, of artist 7 ---- */

static void get_track_id(void *list, uint64_t index, const char **bytes, size_t *size) {
    static char text[64];
    const weir_synth_music_t *music = list;
    int64_t track = (int64_t)index + 1;
    *size = (size_t)snprintf(text, sizeof text, "a%" PRIu64 "-t%" PRIu64,
                             weir_synth_music_artist(music, track), index);
    *bytes = text;
}

static void get_user_id(void *list, uint64_t index, const char **bytes, size_t *size) {
    static char text[32];
    (void)list;
    *size = (size_t)snprintf(text, sizeof text, "u%" PRIu64, index);
    *bytes = text;
}

static weir_err_t finish(writing_t *writing, weir_error_t *error) {
    const weir_synth_music_options_t *o = writing->options;
    char source[256];
    (void)snprintf(source, sizeof source,
                   "weir synth --music --users %" PRIu64 " --items %" PRIu64
                   " --events-mean %g --days %g --seed %" PRIu64,
                   o->users, o->tracks, o->listens_mean, o->days, o->seed);
    weir_dataset_names_t names = {.items = o->tracks,
                                  .item_ids = {get_track_id, writing->music},
                                  .user_ids = {get_user_id, NULL},
                                  .source = source};
    return weir_dataset_writer_finish(writing->writer, &names, error);
}

static weir_err_t print_summary(const writing_t *writing, const char *folder, bool json,
                                weir_error_t *error) {
    const weir_synth_music_options_t *o = writing->options;
    uint64_t artists = weir_synth_music_artists(writing->music);
    double all = (double)writing->listens;
    weir_task_result_t best;
    weir_err_t err = weir_task_metrics_result(writing->metrics, 0, &best, error);
    if (err != WEIR_OK) {
        return err;
    }
    if (json) {
        char text[1024];
        weir_task_result_to_json(&best, text, sizeof text);
        (void)printf("{\"users\": %" PRIu64 ", \"items\": %" PRIu64 ", \"artists\": %" PRIu64
                     ", \"events\": %" PRIu64
                     ", \"half\": %.6f, \"like\": %.6f, \"dislike\": %.6f, \"best\": %s}\n",
                     o->users, o->tracks, artists, writing->listens,
                     (double)writing->counts[0] / all, (double)writing->counts[1] / all,
                     (double)writing->counts[2] / all, text);
        return WEIR_OK;
    }
    (void)printf("%s\n  users     %" PRIu64 "\n  tracks    %" PRIu64 " of %" PRIu64
                 " artists\n  listens   %" PRIu64 ", %.1f a user, in %g days\n",
                 folder, o->users, o->tracks, artists, writing->listens, all / (double)o->users,
                 o->days);
    (void)printf("  half      %.4f of them; planted: NE %.4f, AUC %.4f, by user %.4f\n"
                 "  like      %.4f, dislike %.4f\n",
                 (double)writing->counts[0] / all, best.ne, best.auc, best.grouped_auc,
                 (double)writing->counts[1] / all, (double)writing->counts[2] / all);
    return WEIR_OK;
}

weir_err_t weir_synth_music_write(const weir_synth_music_options_t *options, const char *folder,
                                  bool force, bool json, weir_error_t *error) {
    static const weir_task_kind_t kind = WEIR_TASK_BINARY;
    writing_t writing = {.options = options};
    weir_err_t err = weir_synth_music_create(options, &writing.music, error);
    if (err == WEIR_OK) {
        err = weir_task_metrics_create(&kind, 1, EXACT_SAMPLES, &writing.metrics, error);
    }
    if (err == WEIR_OK) {
        err = weir_dataset_writer_create(folder, force, &writing.writer, error);
    }
    if (err == WEIR_OK) {
        err = make_columns(&writing, error);
    }
    if (err == WEIR_OK) {
        err = write_users(&writing, error);
    }
    if (err == WEIR_OK) {
        err = finish(&writing, error);
    }
    if (err == WEIR_OK) {
        err = print_summary(&writing, folder, json, error);
    }
    weir_dataset_writer_destroy(writing.writer);
    weir_task_metrics_destroy(writing.metrics);
    weir_synth_music_destroy(writing.music);
    free(writing.artists);
    free(writing.albums);
    free(writing.items);
    free(writing.times);
    free(writing.ratings);
    free(writing.words);
    return err;
}
