#include "ps/admission.h"

#include "common/assert.h"
#include "common/rng.h"

#include <stdlib.h>
#include <string.h>

enum {
    CHUNK = 64, /* keys whose counters travel together */
    AHEAD = 16  /* keys between the fetch of counters and their use */
};

/* The window of a slot whose counters are all 0, after any other: they were never written, and take
 * no memory. */
#define NOTHING_COUNTED UINT64_MAX

struct weir_admission {
    weir_admission_options_t options;
    uint16_t *counters; /* slots x rows x counters; NULL: by probability */
    uint64_t *windows;  /* by slot: that its counters were last brought to, or NOTHING_COUNTED */
    uint64_t window;    /* of the last step that ended */
    uint64_t *noted;    /* hashes of keys: in their order a slot's counters are used together */
    size_t noted_count, noted_capacity;
    struct cut *cut; /* of a snapshot under way, or NULL; owned */
};

/* A slot's counters before their first change since the cut. */
typedef struct {
    uint64_t window;
    uint16_t counters[];
} copy_t;

struct cut {
    uint64_t window;  /* at the cut */
    weir_slot_t next; /* the first that has not been given */
    bool failed;      /* there was no memory for a copy */
    copy_t **copies;  /* by slot; owned */
    uint16_t *given;  /* the counters given last */
};

static weir_err_t check_options(const weir_admission_options_t *options, weir_error_t *error) {
    uint32_t counters = options->counters;
    if (options->kind != WEIR_ADMISSION_PROBABILITY && options->kind != WEIR_ADMISSION_FREQUENCY) {
        return weir_errorf(error, WEIR_ERR_INVALID, "no such way to admit keys");
    }
    if (options->first_slot >= options->end_slot || options->end_slot > WEIR_SLOT_COUNT) {
        return weir_errorf(error, WEIR_ERR_INVALID, "slots %u to %u are no range",
                           options->first_slot, options->end_slot);
    }
    if (options->kind == WEIR_ADMISSION_PROBABILITY) {
        return options->probability > 0.0 && options->probability <= 1.0
                   ? WEIR_OK
                   : weir_errorf(error, WEIR_ERR_INVALID,
                                 "a probability of admission is above 0 and at most 1, not %g",
                                 options->probability);
    }
    if (options->threshold < 1 || options->threshold > WEIR_ADMISSION_MAX_THRESHOLD) {
        weir_err_t err = weir_errorf(error, WEIR_ERR_INVALID,
                                     "a key cannot be admitted after %u steps: there are 1 to %d",
                                     options->threshold, WEIR_ADMISSION_MAX_THRESHOLD);
        weir_error_hint(error, "a counter has 16 bits");
        return err;
    }
    if (counters < 16 || counters > 1u << 20 || (counters & (counters - 1)) != 0) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "the counters of a slot are a power of two from 16 to 2^20, not %u",
                           counters);
    }
    return WEIR_OK;
}

static size_t slot_values(const weir_admission_t *admission) {
    return (size_t)admission->options.counters * WEIR_ADMISSION_ROWS;
}

static size_t slots_of(const weir_admission_t *admission) {
    return admission->options.end_slot - admission->options.first_slot;
}

weir_err_t weir_admission_create(const weir_admission_options_t *options,
                                 weir_admission_t **admission, weir_error_t *error) {
    weir_err_t err = check_options(options, error);
    if (err != WEIR_OK) {
        return err;
    }
    weir_admission_t *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory to count keys");
    }
    made->options = *options;
    if (options->kind == WEIR_ADMISSION_FREQUENCY) {
        /* At most 2^14 x 2^22 values of 2 bytes. */
        made->counters = calloc(slots_of(made) * slot_values(made), sizeof *made->counters);
        made->windows = malloc(slots_of(made) * sizeof *made->windows);
        if (made->counters == NULL || made->windows == NULL) {
            weir_admission_destroy(made);
            return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory to count keys");
        }
        for (size_t i = 0; i < slots_of(made); i++) {
            made->windows[i] = NOTHING_COUNTED;
        }
    }
    *admission = made;
    return WEIR_OK;
}

void weir_admission_destroy(weir_admission_t *admission) {
    if (admission != NULL) {
        weir_admission_end_cut(admission);
        free(admission->counters);
        free(admission->windows);
        free(admission->noted);
        free(admission);
    }
}

uint64_t weir_admission_bytes(const weir_admission_t *admission) {
    uint64_t bytes = sizeof *admission + admission->noted_capacity * sizeof *admission->noted;
    if (admission->counters != NULL) {
        bytes += slots_of(admission) *
                 (slot_values(admission) * sizeof *admission->counters + sizeof(uint64_t));
    }
    return bytes;
}

/* ---- counters ---- */

static uint64_t window_of(const weir_admission_t *admission, uint64_t step) {
    return admission->options.window == 0 ? 0 : step / admission->options.window;
}

/* The counter of a hash in one row of its slot. Every row sees other bits of the product. */
static size_t place_of(const weir_admission_t *admission, uint64_t hash, uint32_t row) {
    static const uint64_t factors[WEIR_ADMISSION_ROWS] = {
        0x9E3779B97F4A7C15ull, 0xC2B2AE3D27D4EB4Full, 0xD6E8FEB86659FD93ull, 0xA0761D6478BD642Full};
    size_t counters = admission->options.counters;
    return row * counters + (size_t)((hash * factors[row]) >> 40 & (counters - 1));
}

static uint16_t *counters_of(const weir_admission_t *admission, weir_slot_t slot) {
    WEIR_ASSERT(slot >= admission->options.first_slot && slot < admission->options.end_slot);
    return admission->counters + (slot - admission->options.first_slot) * slot_values(admission);
}

static uint32_t fade(uint32_t count, uint64_t windows) {
    return windows < 16 ? count >> windows : 0;
}

static uint32_t estimate(const weir_admission_t *admission, uint64_t hash, uint64_t step) {
    weir_slot_t slot = weir_slot_of_hash(hash);
    const uint16_t *counters = counters_of(admission, slot);
    uint32_t least = UINT16_MAX;
    for (uint32_t row = 0; row < WEIR_ADMISSION_ROWS; row++) {
        uint32_t count = counters[place_of(admission, hash, row)];
        least = count < least ? count : least;
    }
    uint64_t behind = admission->windows[slot - admission->options.first_slot];
    uint64_t now = window_of(admission, step);
    return fade(least, now > behind ? now - behind : 0);
}

/* Bring a slot's counters to `window`. */
static void bring_slot(weir_admission_t *admission, weir_slot_t slot, uint64_t window) {
    uint64_t *behind = &admission->windows[slot - admission->options.first_slot];
    if (*behind >= window) { /* or NOTHING_COUNTED */
        return;
    }
    uint16_t *counters = counters_of(admission, slot);
    for (size_t i = 0; i < slot_values(admission); i++) {
        counters[i] = (uint16_t)fade(counters[i], window - *behind);
    }
    *behind = window;
}

/* A slot's counters are about to change: copy them for the cut. */
static void keep_slot(weir_admission_t *admission, weir_slot_t slot) {
    struct cut *cut = admission->cut;
    size_t place = slot - admission->options.first_slot;
    size_t bytes = slot_values(admission) * sizeof(uint16_t);
    if (cut == NULL || slot < cut->next || cut->copies[place] != NULL) {
        return;
    }
    copy_t *copy = malloc(sizeof *copy + bytes);
    if (copy == NULL) {
        cut->failed = true;
        return;
    }
    copy->window = admission->windows[place];
    memcpy(copy->counters, counters_of(admission, slot), bytes);
    cut->copies[place] = copy;
}

/* Inlined by force: gcc takes a function that only prefetches for one without an effect, and drops
 * calls of it. */
static inline __attribute__((always_inline)) void
prefetch_counters(const weir_admission_t *admission, uint64_t hash) {
    const uint16_t *counters = counters_of(admission, weir_slot_of_hash(hash));
    for (uint32_t row = 0; row < WEIR_ADMISSION_ROWS; row++) {
        __builtin_prefetch(counters + place_of(admission, hash, row));
    }
}

/* ---- decisions ---- */

static bool draw(const weir_admission_t *admission, weir_key_t key, uint64_t step) {
    const weir_admission_options_t *options = &admission->options;
    weir_rng_key_t random = weir_rng_key(options->seed, WEIR_STREAM_ADMISSION);
    random.key[1] ^= options->table_id * 0x9E3779B9u;
    weir_philox_t word = weir_philox(random, (uint32_t)key, (uint32_t)(key >> 32), (uint32_t)step,
                                     (uint32_t)(step >> 32));
    return weir_uniform01(word.word[0]) < options->probability;
}

void weir_admission_decide_batch(const weir_admission_t *admission, const weir_key_t *keys,
                                 size_t count, uint64_t step, bool *admitted) {
    uint64_t hashes[CHUNK];
    if (admission->counters == NULL) {
        for (size_t i = 0; i < count; i++) {
            admitted[i] = draw(admission, keys[i], step);
        }
        return;
    }
    for (size_t begin = 0; begin < count; begin += CHUNK) {
        size_t now = count - begin < CHUNK ? count - begin : CHUNK;
        for (size_t i = 0; i < now; i++) {
            hashes[i] = weir_hash64(keys[begin + i]);
            prefetch_counters(admission, hashes[i]);
        }
        for (size_t i = 0; i < now; i++) {
            admitted[begin + i] =
                estimate(admission, hashes[i], step) + 1 >= admission->options.threshold;
        }
    }
}

bool weir_admission_note(weir_admission_t *admission, weir_key_t key) {
    if (admission->counters == NULL) {
        return true; /* chance has no memory */
    }
    if (admission->noted_count == admission->noted_capacity) {
        size_t capacity = admission->noted_capacity == 0 ? 1024 : 2 * admission->noted_capacity;
        uint64_t *grown = realloc(admission->noted, capacity * sizeof *grown);
        if (grown == NULL) {
            return false;
        }
        admission->noted = grown;
        admission->noted_capacity = capacity;
    }
    admission->noted[admission->noted_count++] = weir_hash64(key);
    return true;
}

static int compare_hashes(const void *left, const void *right) {
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

void weir_admission_end_step(weir_admission_t *admission, uint64_t step) {
    uint64_t window = window_of(admission, step);
    admission->window = window > admission->window ? window : admission->window;
    if (admission->noted_count > 1) {
        qsort(admission->noted, admission->noted_count, sizeof *admission->noted, compare_hashes);
    }
    for (size_t i = 0; i < admission->noted_count; i++) {
        if (admission->noted_count - i > AHEAD) {
            prefetch_counters(admission, admission->noted[i + AHEAD]);
        }
        if (i > 0 && admission->noted[i] == admission->noted[i - 1]) {
            continue;
        }
        uint64_t hash = admission->noted[i];
        weir_slot_t slot = weir_slot_of_hash(hash);
        keep_slot(admission, slot);
        bring_slot(admission, slot, admission->window);
        admission->windows[slot - admission->options.first_slot] = admission->window;
        uint16_t *counters = counters_of(admission, slot);
        for (uint32_t row = 0; row < WEIR_ADMISSION_ROWS; row++) {
            uint16_t *counter = &counters[place_of(admission, hash, row)];
            *counter = (uint16_t)(*counter + (*counter < UINT16_MAX ? 1 : 0));
        }
    }
    admission->noted_count = 0;
}

/* ---- to save and restore ---- */

size_t weir_admission_counters(const weir_admission_t *admission) {
    return admission->counters == NULL ? 0 : slot_values(admission);
}

bool weir_admission_begin_cut(weir_admission_t *admission) {
    if (admission->counters == NULL) {
        return true;
    }
    struct cut *cut = calloc(1, sizeof *cut);
    if (cut == NULL) {
        return false;
    }
    *cut = (struct cut){.window = admission->window,
                        .next = admission->options.first_slot,
                        .copies = calloc(slots_of(admission), sizeof(copy_t *)),
                        .given = malloc(slot_values(admission) * sizeof(uint16_t))};
    admission->cut = cut;
    if (cut->copies == NULL || cut->given == NULL) {
        weir_admission_end_cut(admission);
        return false;
    }
    return true;
}

void weir_admission_end_cut(weir_admission_t *admission) {
    struct cut *cut = admission->cut;
    if (cut == NULL) {
        return;
    }
    for (size_t i = 0; cut->copies != NULL && i < slots_of(admission); i++) {
        free(cut->copies[i]);
    }
    free(cut->copies);
    free(cut->given);
    free(cut);
    admission->cut = NULL;
}

/* A slot's counters as they were at the cut. */
static const uint16_t *slot_of_cut(const weir_admission_t *admission, weir_slot_t slot) {
    struct cut *cut = admission->cut;
    size_t place = slot - admission->options.first_slot, values = slot_values(admission);
    const copy_t *copy = cut->copies[place];
    const uint16_t *counters = copy != NULL ? copy->counters : counters_of(admission, slot);
    uint64_t behind = copy != NULL ? copy->window : admission->windows[place];
    for (size_t i = 0; i < values; i++) { /* behind NOTHING_COUNTED: all are 0 */
        cut->given[i] =
            (uint16_t)fade(counters[i], cut->window > behind ? cut->window - behind : 0);
    }
    free(cut->copies[place]);
    cut->copies[place] = NULL;
    cut->next = slot + 1;
    return cut->failed ? NULL : cut->given;
}

void weir_admission_slot(weir_admission_t *admission, weir_slot_t slot, const uint16_t **values,
                         size_t *count) {
    *values = NULL;
    *count = 0;
    if (admission->counters == NULL) {
        return;
    }
    *count = slot_values(admission);
    if (admission->cut != NULL) {
        *values = slot_of_cut(admission, slot);
    } else {
        bring_slot(admission, slot, admission->window);
        *values = counters_of(admission, slot);
    }
}

void weir_admission_set_step(weir_admission_t *admission, uint64_t step) {
    admission->window = window_of(admission, step);
}

static bool is_nothing(const uint16_t *values, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (values[i] != 0) {
            return false;
        }
    }
    return true;
}

weir_err_t weir_admission_restore_slot(weir_admission_t *admission, weir_slot_t slot,
                                       const uint16_t *values, size_t count, weir_error_t *error) {
    if (admission->counters == NULL) {
        return WEIR_OK;
    }
    if (count != slot_values(admission)) {
        weir_err_t err = weir_errorf(error, WEIR_ERR_INVALID,
                                     "a slot's saved counters are %zu, not the %zu of this table",
                                     count, slot_values(admission));
        weir_error_hint(error, "admission_counters must be as it was");
        return err;
    }
    if (slot < admission->options.first_slot || slot >= admission->options.end_slot) {
        return weir_errorf(error, WEIR_ERR_INVALID, "slot %u is another server's", slot);
    }
    uint64_t *window = &admission->windows[slot - admission->options.first_slot];
    if (*window == NOTHING_COUNTED && is_nothing(values, count)) {
        return WEIR_OK;
    }
    memcpy(counters_of(admission, slot), values, count * sizeof *values);
    *window = admission->window;
    return WEIR_OK;
}
