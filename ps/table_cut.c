#include "ps/table_cut.h"

#include "ps/table_internal.h"

#include <stdlib.h>
#include <string.h>

enum {
    CHUNK_BYTES = 1 << 20,
    EVEN_AT_MOST = 2 * WEIR_INDEX_SUBTABLE_ENTRIES /* rows that are put in order by their shares */
};
#define NOTHING UINT32_MAX

/* A row that was changed before it was given: as it was. */
typedef struct {
    weir_key_t key;
    weir_row_metadata_t metadata;
    uint32_t next; /* of its slot, or free */
    uint32_t reserved;
    char record[];
} kept_t;

/* A row of the range that is given next. */
typedef struct {
    uint64_t hash;
    weir_key_t key;
    weir_row_metadata_t metadata;
    const char *value, *rest;
} found_t;

struct weir_table_cut {
    weir_table_t *table;
    uint64_t expiry, oldest_in_use; /* what had expired: as it was */
    uint64_t base, in_memory;       /* in_memory: rows, at the cut */
    weir_slot_t first_slot, end_slot;
    bool failed; /* there was no memory for a copy */

    uint64_t *changed; /* a bit for each place: what lies there is not what lay there */
    uint64_t places;   /* at the cut; those beyond it came later */

    char **chunks; /* of kept rows; owned */
    size_t chunk_count, chunk_capacity, stride, per_chunk;
    uint32_t kept_made; /* in the chunks */
    uint32_t free;
    uint32_t *heads; /* by slot */
    uint32_t given;  /* of the range given last; free at the next */

    bool last, ended;        /* the pass */
    uint64_t next;           /* the first hash that it has not given */
    found_t *found, *sorted; /* sorted: scratch of the same size */
    uint32_t starts[2 * EVEN_AT_MOST + 2];
    weir_table_row_t *rows;
    size_t count, capacity;

    weir_cold_iterator_t *iterators[2]; /* for the first pass and for the last */
    weir_cold_iterator_t *cold;         /* of this pass */
    bool has_cold;
    weir_key_t cold_key;
    const char *cold_record;
    char *records; /* of the cold rows of the range */
    size_t record_count, record_capacity;
};

static weir_err_t out_of_memory(const weir_table_t *table, weir_error_t *error) {
    return weir_errorf(error, WEIR_ERR_MEMORY, "table %s: out of memory to save its rows",
                       table->options.row.name);
}

/* As weir_table_is_expired, at the time of the cut. */
static bool had_expired(const weir_table_cut_t *cut, const weir_row_metadata_t *metadata) {
    uint64_t ttl = cut->table->options.ttl;
    return ttl != 0 && metadata->last_step < cut->oldest_in_use &&
           metadata->last_step != UINT32_MAX && metadata->last_step + ttl < cut->expiry;
}

/* ---- begin and end ---- */

static bool init(weir_table_cut_t *cut, weir_table_t *table) {
    size_t slots = (size_t)cut->end_slot - cut->first_slot;
    cut->changed = calloc((size_t)(cut->places / 64 + 1), sizeof *cut->changed);
    cut->heads = malloc(slots * sizeof *cut->heads);
    if (cut->changed == NULL || cut->heads == NULL) {
        return false;
    }
    memset(cut->heads, 0xFF, slots * sizeof *cut->heads); /* NOTHING */
    for (int i = 0; i < 2 && table->cold != NULL; i++) {
        cut->iterators[i] = weir_cold_store_iterate(table->cold, cut->first_slot, cut->end_slot);
        if (cut->iterators[i] == NULL) {
            return false;
        }
    }
    return table->admission == NULL || weir_admission_begin_cut(table->admission);
}

weir_err_t weir_table_cut_begin(weir_table_t *table, uint64_t step, weir_table_cut_t **cut,
                                weir_error_t *error) {
    if (table->cut != NULL) {
        return weir_errorf(error, WEIR_ERR_INVALID, "table %s is being saved already",
                           table->options.row.name);
    }
    weir_table_cut_t *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return out_of_memory(table, error);
    }
    *made = (weir_table_cut_t){.table = table,
                               .expiry = step + 1,
                               .oldest_in_use = table->oldest_in_use,
                               .in_memory = weir_table_stats(table).rows,
                               .first_slot = table->options.first_slot,
                               .end_slot = table->options.end_slot,
                               .places = table->store.places,
                               .free = NOTHING,
                               .given = NOTHING,
                               .ended = true};
    made->stride = (sizeof(kept_t) + table->layout.record_bytes + 7) / 8 * 8;
    made->per_chunk = made->stride < CHUNK_BYTES ? CHUNK_BYTES / made->stride : 1;
    table->cut = made;
    if (!init(made, table)) {
        weir_table_cut_end(made);
        return out_of_memory(table, error);
    }
    *cut = made;
    return WEIR_OK;
}

void weir_table_cut_end(weir_table_cut_t *cut) {
    if (cut == NULL) {
        return;
    }
    if (cut->table->admission != NULL) {
        weir_admission_end_cut(cut->table->admission);
    }
    for (size_t i = 0; i < cut->chunk_count; i++) {
        free(cut->chunks[i]);
    }
    for (int i = 0; i < 2; i++) {
        weir_cold_iterator_destroy(cut->iterators[i]);
    }
    cut->table->cut = NULL;
    free(cut->chunks);
    free(cut->changed);
    free(cut->heads);
    free(cut->found);
    free(cut->sorted);
    free(cut->rows);
    free(cut->records);
    free(cut);
}

uint64_t weir_table_cut_bytes(const weir_table_cut_t *cut) {
    return sizeof *cut + cut->places / 8 +
           (uint64_t)(cut->end_slot - cut->first_slot) * sizeof *cut->heads +
           (uint64_t)cut->chunk_count * cut->per_chunk * cut->stride +
           cut->capacity * (2 * sizeof *cut->found + sizeof *cut->rows) +
           cut->record_capacity * weir_table_cold_bytes(cut->table);
}

bool weir_table_cut_count(const weir_table_cut_t *cut, uint64_t *rows) {
    *rows = cut->in_memory;
    return cut->table->options.ttl == 0 && cut->table->cold == NULL;
}

void weir_table_cut_since(weir_table_cut_t *cut, uint64_t base) {
    cut->base = base;
}

/* ---- rows as they were ---- */

static kept_t *kept_at(const weir_table_cut_t *cut, uint32_t number) {
    return (kept_t *)(void *)(cut->chunks[number / cut->per_chunk] +
                              number % cut->per_chunk * cut->stride);
}

static bool add_chunk(weir_table_cut_t *cut) {
    if (cut->chunk_count == cut->chunk_capacity) {
        size_t capacity = cut->chunk_capacity == 0 ? 64 : 2 * cut->chunk_capacity;
        char **grown = realloc(cut->chunks, capacity * sizeof *grown);
        if (grown == NULL) {
            return false;
        }
        cut->chunks = grown;
        cut->chunk_capacity = capacity;
    }
    char *chunk = malloc(cut->per_chunk * cut->stride);
    if (chunk == NULL) {
        return false;
    }
    cut->chunks[cut->chunk_count++] = chunk;
    return true;
}

/* A place for one more; NOTHING: no memory. */
static uint32_t take_kept(weir_table_cut_t *cut) {
    uint32_t number = cut->free;
    if (number != NOTHING) {
        cut->free = kept_at(cut, number)->next;
        return number;
    }
    if (cut->kept_made == cut->chunk_count * cut->per_chunk && !add_chunk(cut)) {
        return NOTHING;
    }
    return cut->kept_made++;
}

/* Set a place's bit; whether it was set before. */
static bool mark_changed(weir_table_cut_t *cut, weir_row_handle_t handle) {
    if (handle >= cut->places) {
        return true;
    }
    uint64_t bit = (uint64_t)1 << handle % 64, *word = &cut->changed[handle / 64];
    bool was = (*word & bit) != 0;
    *word |= bit;
    return was;
}

static bool is_changed(const weir_table_cut_t *cut, weir_row_handle_t handle) {
    return handle >= cut->places || (cut->changed[handle / 64] >> handle % 64 & 1) != 0;
}

/* Whether the last pass has gone past a hash. */
static bool is_past(const weir_table_cut_t *cut, uint64_t hash) {
    return cut->last && (cut->ended || hash < cut->next);
}

void weir_table_cut_born(weir_table_cut_t *cut, weir_row_handle_t handle) {
    (void)mark_changed(cut, handle);
}

void weir_table_cut_keep(weir_table_cut_t *cut, weir_key_t key, weir_row_handle_t handle) {
    const weir_row_store_t *store = &cut->table->store;
    uint64_t hash = weir_hash64(key);
    if (is_past(cut, hash) || mark_changed(cut, handle)) {
        return;
    }
    const weir_row_metadata_t *metadata = weir_row_store_metadata(store, handle);
    /* Of a key that is in memory the cold store's row does not count: that must be known. */
    bool unused = cut->base != 0 && metadata->last_step != 0 && metadata->last_step <= cut->base;
    if (cut->table->cold == NULL && (unused || had_expired(cut, metadata))) {
        return;
    }
    uint32_t number = take_kept(cut),
             *head = &cut->heads[weir_slot_of_hash(hash) - cut->first_slot];
    if (number == NOTHING) {
        cut->failed = true;
        return;
    }
    kept_t *kept = kept_at(cut, number);
    *kept = (kept_t){.key = key, .metadata = *metadata, .next = *head};
    memcpy(kept->record, weir_row_store_value(store, handle), store->value_bytes);
    memcpy(kept->record + store->value_bytes, weir_row_store_rest(store, handle),
           store->rest_bytes);
    *head = number;
}

bool weir_table_cut_has(const weir_table_cut_t *cut, weir_key_t key) {
    weir_row_handle_t handle;
    weir_slot_t slot = weir_slot_of_hash(weir_hash64(key));
    weir_index_find(&cut->table->index, &key, 1, &handle);
    if (handle != WEIR_ROW_NONE && !is_changed(cut, handle)) {
        return true;
    }
    for (uint32_t at = cut->heads[slot - cut->first_slot]; at != NOTHING;) {
        const kept_t *kept = kept_at(cut, at);
        if (kept->key == key) {
            return true;
        }
        at = kept->next;
    }
    return false;
}

/* ---- passes ---- */

static weir_err_t advance_cold(weir_table_cut_t *cut, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    const void *record = NULL;
    cut->has_cold = weir_cold_iterator_next(cut->cold, &cut->cold_key, &record, &err, error);
    cut->cold_record = record;
    return cut->has_cold ? WEIR_OK : err;
}

weir_err_t weir_table_cut_pass(weir_table_cut_t *cut, bool last, weir_error_t *error) {
    WEIR_ASSERT(!cut->last);
    cut->last = last;
    cut->ended = false;
    cut->next = (uint64_t)cut->first_slot << (64 - WEIR_SLOT_BITS);
    cut->cold = cut->iterators[last ? 1 : 0];
    cut->has_cold = false;
    return cut->cold == NULL ? WEIR_OK : advance_cold(cut, error);
}

static bool reserve(weir_table_cut_t *cut, size_t wanted) {
    if (wanted <= cut->capacity) {
        return true;
    }
    size_t capacity = wanted + wanted / 2;
    found_t *found = realloc(cut->found, capacity * sizeof *found);
    cut->found = found == NULL ? cut->found : found;
    found_t *sorted = realloc(cut->sorted, capacity * sizeof *sorted);
    cut->sorted = sorted == NULL ? cut->sorted : sorted;
    weir_table_row_t *rows = realloc(cut->rows, capacity * sizeof *rows);
    cut->rows = rows == NULL ? cut->rows : rows;
    if (found == NULL || sorted == NULL || rows == NULL) {
        return false;
    }
    cut->capacity = capacity;
    return true;
}

/* An entry of the index: its metadata is read later, when it has come into the cache. */
static void collect(void *argument, weir_key_t key, uint32_t handle) {
    weir_table_cut_t *cut = argument;
    uint64_t hash = weir_hash64(key);
    if (is_changed(cut, handle) || hash < cut->next) {
        return;
    }
    const weir_row_store_t *store = &cut->table->store;
    __builtin_prefetch(weir_row_store_metadata(store, handle));
    cut->found[cut->count++] = (found_t){.hash = hash,
                                         .key = key,
                                         .value = weir_row_store_value(store, handle),
                                         .rest = weir_row_store_rest(store, handle)};
}

/* Rows of the slot that were changed since, with hashes from `next` on and before `end` (0: all).
 * The last pass takes them out. */
static bool collect_kept(weir_table_cut_t *cut, weir_slot_t slot, uint64_t end) {
    uint32_t *link = &cut->heads[slot - cut->first_slot];
    while (*link != NOTHING) {
        uint32_t number = *link;
        kept_t *kept = kept_at(cut, number);
        uint64_t hash = weir_hash64(kept->key);
        if (hash < cut->next || (end != 0 && hash >= end)) {
            link = &kept->next;
            continue;
        }
        if (!reserve(cut, cut->count + 1)) {
            return false;
        }
        cut->found[cut->count++] = (found_t){.hash = hash,
                                             .key = kept->key,
                                             .metadata = kept->metadata,
                                             .value = kept->record,
                                             .rest = kept->record + cut->table->layout.value_bytes};
        if (cut->last) {
            *link = kept->next;
            kept->next = cut->given;
            cut->given = number;
        } else {
            link = &kept->next;
        }
    }
    return true;
}

static int compare_hashes(const void *left, const void *right) {
    uint64_t a = ((const found_t *)left)->hash, b = ((const found_t *)right)->hash;
    return (a > b) - (a < b);
}

/* Put what was found in order, of hashes from `next` to `end` (0: 2^64). Hashes are spread evenly
 * over the range: put where its share of the range lies, each is a few places from where it
 * belongs. */
static void order(weir_table_cut_t *cut, uint64_t end) {
    size_t count = cut->count;
    uint64_t last = end - 1 - cut->next;
    if (count < 2) {
        return;
    }
    if (count > EVEN_AT_MOST) { /* a sub-table of that size is not spread evenly */
        qsort(cut->found, count, sizeof *cut->found, compare_hashes);
        return;
    }
    int bits = 64 - __builtin_clzll(count), range_bits = 64 - __builtin_clzll(last | 1);
    int shift = range_bits > bits ? range_bits - bits : 0;
    size_t buckets = (size_t)(last >> shift) + 1;
    uint32_t *starts = cut->starts;
    found_t *found = cut->found, *sorted = cut->sorted;
    memset(starts, 0, (buckets + 1) * sizeof *starts);
    for (size_t i = 0; i < count; i++) {
        starts[((found[i].hash - cut->next) >> shift) + 1]++;
    }
    for (size_t i = 0; i < buckets; i++) {
        starts[i + 1] += starts[i];
    }
    for (size_t i = 0; i < count; i++) {
        sorted[starts[(found[i].hash - cut->next) >> shift]++] = found[i];
    }
    for (size_t i = 1; i < count; i++) {
        found_t moved = sorted[i];
        size_t at = i;
        for (; at > 0 && sorted[at - 1].hash > moved.hash; at--) {
            sorted[at] = sorted[at - 1];
        }
        sorted[at] = moved;
    }
    cut->found = sorted;
    cut->sorted = found;
}

/* Whether one of the first `count`, which are in order, has this hash. */
static bool is_found(const weir_table_cut_t *cut, size_t count, uint64_t hash) {
    found_t wanted = {.hash = hash};
    return count > 0 &&
           bsearch(&wanted, cut->found, count, sizeof *cut->found, compare_hashes) != NULL;
}

/* Cold rows of hashes before `end` whose keys had no row in memory. The first `in_memory` found are
 * those that had, in order. */
static weir_err_t collect_cold(weir_table_cut_t *cut, uint64_t end, size_t in_memory,
                               weir_error_t *error) {
    size_t bytes = weir_table_cold_bytes(cut->table);
    cut->record_count = 0;
    while (cut->has_cold) {
        uint64_t hash = weir_hash64(cut->cold_key);
        if (end != 0 && hash >= end) {
            break;
        }
        if (!is_found(cut, in_memory, hash)) {
            if (cut->record_count == cut->record_capacity) {
                size_t capacity = cut->record_capacity == 0 ? 1024 : 2 * cut->record_capacity;
                char *grown = realloc(cut->records, capacity * bytes);
                if (grown == NULL) {
                    return out_of_memory(cut->table, error);
                }
                cut->records = grown;
                cut->record_capacity = capacity;
            }
            if (!reserve(cut, cut->count + 1)) {
                return out_of_memory(cut->table, error);
            }
            memcpy(cut->records + cut->record_count++ * bytes, cut->cold_record, bytes);
            cut->found[cut->count++] = (found_t){.hash = hash, .key = cut->cold_key};
        }
        weir_err_t err = advance_cold(cut, error);
        if (err != WEIR_OK) {
            return err;
        }
    }
    /* The records lie still now. */
    for (size_t i = 0; i < cut->record_count; i++) {
        found_t *found = &cut->found[cut->count - cut->record_count + i];
        found->value = cut->records + i * bytes;
        found->rest = found->value + cut->table->layout.value_bytes;
        memcpy(&found->metadata, found->value + cut->table->layout.record_bytes,
               sizeof found->metadata);
    }
    return WEIR_OK;
}

/* Rows that had expired take no part. */
static size_t show(weir_table_cut_t *cut) {
    size_t shown = 0;
    for (size_t i = 0; i < cut->count; i++) {
        const found_t *found = &cut->found[i];
        if (!had_expired(cut, &found->metadata)) {
            cut->rows[shown++] = (weir_table_row_t){.key = found->key,
                                                    .value = found->value,
                                                    .rest = found->rest,
                                                    .last_step = found->metadata.last_step,
                                                    .count = found->metadata.count};
        }
    }
    return shown;
}

/* The rows of the next sub-table; `end`: where it ends, 0: at the end of all. */
static weir_err_t find_rows(weir_table_cut_t *cut, uint64_t *end, weir_error_t *error) {
    const weir_index_t *index = &cut->table->index;
    weir_slot_t slot = weir_slot_of_hash(cut->next);
    cut->count = 0;
    if (!reserve(cut, weir_index_entries_from(index, cut->next))) {
        return out_of_memory(cut->table, error);
    }
    *end = weir_index_visit_from(index, cut->next, collect, cut);
    for (size_t i = 0; i < cut->count; i++) {
        memcpy(&cut->found[i].metadata, cut->found[i].rest - sizeof(weir_row_metadata_t),
               sizeof(weir_row_metadata_t));
    }
    if (!collect_kept(cut, slot, *end)) {
        return out_of_memory(cut->table, error);
    }
    size_t in_memory = cut->count;
    if (cut->last || cut->has_cold) {
        order(cut, *end);
    }
    weir_err_t err = cut->cold == NULL ? WEIR_OK : collect_cold(cut, *end, in_memory, error);
    if (err == WEIR_OK && cut->last && cut->count > in_memory) {
        order(cut, *end);
    }
    return err;
}

static void free_given(weir_table_cut_t *cut) {
    while (cut->given != NOTHING) {
        uint32_t number = cut->given;
        kept_t *kept = kept_at(cut, number);
        cut->given = kept->next;
        kept->next = cut->free;
        cut->free = number;
    }
}

weir_err_t weir_table_cut_next(weir_table_cut_t *cut, const weir_table_row_t **rows, size_t *count,
                               weir_error_t *error) {
    *count = 0;
    free_given(cut);
    while (!cut->ended && *count == 0) {
        uint64_t end = 0;
        weir_err_t err =
            cut->failed ? out_of_memory(cut->table, error) : find_rows(cut, &end, error);
        if (err != WEIR_OK) {
            return err;
        }
        *count = show(cut);
        *rows = cut->rows;
        cut->ended = end == 0;
        cut->next = end;
    }
    return WEIR_OK;
}
