#include "ps/table_saver.h"

#include "common/clock.h"
#include "common/file.h"
#include "ps/table_removed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { COPIES_LEAST = 24 << 20, COPIES_PART = 100 };

struct weir_table_saver {
    weir_table_saver_options_t options;
    weir_background_t *background;
    weir_snapshot_t *snapshots[WEIR_MODEL_MAX_TABLES]; /* of the cut; NULL: none, or written */
    weir_checkpoint_file_t files[WEIR_MODEL_MAX_TABLES];
    bool cut, opened;
    uint32_t current; /* the table that is being written */
    uint64_t base;
    char folder[WEIR_PATH_MAX];
    uint64_t limit; /* of copies, bytes */
    double started;
    weir_table_save_t now, last;
};

weir_err_t weir_table_saver_create(const weir_table_saver_options_t *options,
                                   weir_table_saver_t **saver, weir_error_t *error) {
    weir_table_saver_t *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory to save tables");
    }
    made->options = *options;
    weir_err_t err = weir_background_create(&made->background, error);
    if (err != WEIR_OK) {
        free(made);
        return err;
    }
    *saver = made;
    return WEIR_OK;
}

static void end_save(weir_table_saver_t *saver) {
    for (uint32_t k = 0; k < saver->options.table_count; k++) {
        weir_snapshot_destroy(saver->snapshots[k]);
        saver->snapshots[k] = NULL;
    }
    saver->cut = saver->opened = false;
}

void weir_table_saver_destroy(weir_table_saver_t *saver) {
    if (saver != NULL) {
        end_save(saver);
        weir_background_destroy(saver->background);
        free(saver);
    }
}

weir_err_t weir_table_saver_cut(weir_table_saver_t *saver, uint64_t step, weir_error_t *error) {
    const weir_table_saver_options_t *options = &saver->options;
    if (saver->opened) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "step %llu is to be saved while step %llu is being written",
                           (unsigned long long)step, (unsigned long long)saver->now.step);
    }
    end_save(saver);
    saver->now = (weir_table_save_t){.step = step};
    saver->started = weir_clock_seconds();
    saver->limit = COPIES_LEAST;
    saver->current = 0;
    for (uint32_t k = 0; k < options->table_count; k++) {
        weir_err_t err = weir_snapshot_begin(options->tables[k], options->index, options->ps, step,
                                             &saver->snapshots[k], error);
        if (err != WEIR_OK) {
            end_save(saver);
            return err;
        }
        if (options->deltas) {
            weir_table_hold_removed(options->tables[k], step);
        }
        saver->limit += weir_table_stats(options->tables[k]).bytes / COPIES_PART;
    }
    saver->cut = true;
    return WEIR_OK;
}

static weir_err_t open_current(weir_table_saver_t *saver, weir_error_t *error) {
    return weir_snapshot_open(saver->snapshots[saver->current], saver->base, saver->folder,
                              saver->background, error);
}

weir_err_t weir_table_saver_open(weir_table_saver_t *saver, uint64_t step, uint64_t base,
                                 const char *folder, weir_error_t *error) {
    if (!saver->cut || saver->opened || saver->now.step != step) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "the tables were not cut after step %llu, which is to be saved",
                           (unsigned long long)step);
    }
    saver->base = base;
    (void)snprintf(saver->folder, sizeof saver->folder, "%s", folder);
    saver->opened = true;
    weir_err_t err = open_current(saver, error);
    if (err != WEIR_OK) {
        end_save(saver);
    }
    return err;
}

bool weir_table_saver_writes(const weir_table_saver_t *saver) {
    return saver->opened;
}

static uint64_t copies(const weir_table_saver_t *saver) {
    uint64_t bytes = 0;
    for (uint32_t k = saver->current; k < saver->options.table_count; k++) {
        bytes += weir_snapshot_copies(saver->snapshots[k]);
    }
    return bytes;
}

/* The table under way is written: on to the next. */
static weir_err_t take_written(weir_table_saver_t *saver, weir_snapshot_state_t *state,
                               weir_error_t *error) {
    uint32_t k = saver->current;
    saver->files[k] = *weir_snapshot_file(saver->snapshots[k]);
    weir_snapshot_destroy(saver->snapshots[k]);
    saver->snapshots[k] = NULL;
    if (saver->options.deltas) {
        weir_table_mark_removed(saver->options.tables[k], saver->now.step);
    }
    if (++saver->current < saver->options.table_count) {
        *state = WEIR_SNAPSHOT_GOES_ON;
        return open_current(saver, error);
    }
    return WEIR_OK;
}

static void sleep_a_little(void) {
    const struct timespec millisecond = {.tv_nsec = 1000000};
    (void)nanosleep(&millisecond, NULL);
}

weir_err_t weir_table_saver_advance(weir_table_saver_t *saver, weir_snapshot_state_t *state,
                                    weir_checkpoint_file_t *files, weir_error_t *error) {
    bool full = false;
    double began = weir_clock_seconds();
    weir_err_t err;
    do {
        err = weir_snapshot_advance(saver->snapshots[saver->current], state, error);
        if (err == WEIR_OK && *state == WEIR_SNAPSHOT_WRITTEN) {
            err = take_written(saver, state, error);
        }
        uint64_t taken = copies(saver);
        saver->now.most_copies = taken > saver->now.most_copies ? taken : saver->now.most_copies;
        full = taken > saver->limit && *state != WEIR_SNAPSHOT_WRITTEN;
        if (full && *state == WEIR_SNAPSHOT_WAITS) {
            sleep_a_little();
        }
    } while (full && err == WEIR_OK);
    double ended = weir_clock_seconds();
    saver->now.stalled += ended - began > 0.01 ? ended - began : 0.0;
    if (err == WEIR_OK && *state != WEIR_SNAPSHOT_WRITTEN) {
        return WEIR_OK;
    }
    saver->now.seconds = ended - saver->started;
    saver->last = saver->now;
    memcpy(files, saver->files, saver->options.table_count * sizeof *files);
    end_save(saver);
    return err;
}

weir_table_save_t weir_table_saver_last(const weir_table_saver_t *saver) {
    return saver->last;
}
