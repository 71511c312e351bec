#include "ps/snapshot_chain.h"

#include "common/file.h"

#include <stdlib.h>
#include <string.h>

/* One checkpoint of the chain. */
typedef struct {
    uint64_t step, base;
    uint32_t shards, first_shard; /* of the table; the first that is wanted */
    uint32_t file_count;
    weir_snapshot_file_t *files; /* the wanted ones; owned */
    uint64_t keep_from;          /* rows last used before that step have expired */
    /* In the slot entered: what is left of its rows and removed keys. */
    const weir_snapshot_file_t *file;
    uint64_t row, row_end, gone, gone_end;
} level_t;

struct weir_snapshot_chain {
    weir_slot_t first, end;
    level_t *levels; /* the newest first */
    size_t level_count;
    uint64_t bytes_read;
};

/* How many shards of the table the manifest names: each once, all of one number of servers, none
 * missing. `seen`: WEIR_SLOT_COUNT zeros. */
static weir_err_t mark_shards(const char *table, const weir_manifest_t *manifest, bool *seen,
                              uint32_t *shards, weir_error_t *error) {
    uint32_t found = 0, total = 0, index, ps;
    for (size_t i = 0; i < manifest->file_count; i++) {
        if (!weir_snapshot_parse_name(table, manifest->files[i].name, &index, &ps)) {
            continue;
        }
        if (total != 0 && ps != total) {
            return weir_errorf(error, WEIR_ERR_CORRUPT,
                               "the manifest names shards of table %s of both %u and %u servers",
                               table, total, ps);
        }
        if (seen[index]) {
            return weir_errorf(error, WEIR_ERR_CORRUPT, "the manifest names %s twice",
                               manifest->files[i].name);
        }
        seen[index] = true;
        total = ps;
        found++;
    }
    if (found == 0) {
        return weir_errorf(error, WEIR_ERR_NOT_FOUND, "the checkpoint has no files of table %s",
                           table);
    }
    if (found != total) {
        return weir_errorf(error, WEIR_ERR_CORRUPT,
                           "the manifest names %u of the %u shards of table %s", found, total,
                           table);
    }
    *shards = total;
    return WEIR_OK;
}

/* A file must be of its checkpoint: same step; a delta of the same base, and not without one. */
static weir_err_t check_file(const level_t *level, const weir_snapshot_file_t *file,
                             weir_error_t *error) {
    const char *path = weir_tensor_file_path(file->file);
    if (file->step != level->step) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "%s: step of the saved table is %llu, but %llu is expected", path,
                           (unsigned long long)file->step, (unsigned long long)level->step);
    }
    if (file->base != 0 && file->base != level->base) {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "%s: builds on step %llu, its manifest on %llu",
                           path, (unsigned long long)file->base, (unsigned long long)level->base);
    }
    return WEIR_OK;
}

/* The columns of two files of a table are the same, in the same order. */
static weir_err_t check_columns(const weir_snapshot_file_t *a, const weir_snapshot_file_t *b,
                                weir_error_t *error) {
    bool same = a->column_count == b->column_count;
    for (uint32_t c = 0; same && c < a->column_count; c++) {
        same = a->columns[c].dtype == b->columns[c].dtype &&
               a->columns[c].width == b->columns[c].width &&
               strcmp(a->columns[c].name, b->columns[c].name) == 0;
    }
    static const char *const texts[] = {"table", "dim", "schema"};
    for (size_t t = 0; same && t < 3; t++) {
        const char *left = weir_tensor_file_metadata(a->file, texts[t]);
        const char *right = weir_tensor_file_metadata(b->file, texts[t]);
        same = left != NULL && right != NULL && strcmp(left, right) == 0;
    }
    return same || a == b
               ? WEIR_OK
               : weir_errorf(error, WEIR_ERR_CORRUPT, "%s is of another table than %s",
                             weir_tensor_file_path(b->file), weir_tensor_file_path(a->file));
}

static weir_err_t open_shards(weir_snapshot_chain_t *chain, level_t *level, const char *folder,
                              const char *table, weir_error_t *error) {
    uint32_t last = weir_slot_owner(chain->end - 1, level->shards);
    level->first_shard = weir_slot_owner(chain->first, level->shards);
    level->files = calloc(last - level->first_shard + 1, sizeof *level->files);
    if (level->files == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory to load a table");
    }
    for (uint32_t shard = level->first_shard; shard <= last; shard++) {
        char name[WEIR_CHECKPOINT_NAME_MAX], path[WEIR_PATH_MAX];
        weir_snapshot_file_t *file = &level->files[level->file_count];
        const void *header;
        weir_snapshot_name(table, shard, level->shards, name);
        weir_err_t err = weir_path_join(path, sizeof path, folder, name, error);
        if (err == WEIR_OK) {
            err = weir_snapshot_file_open(path, shard, level->shards, file, error);
        }
        if (err != WEIR_OK) {
            return err;
        }
        level->file_count++;
        weir_tensor_file_advise(file->file, true);
        chain->bytes_read += weir_tensor_file_header(file->file, &header) +
                             ((uint64_t)file->slots + 1) * sizeof(uint64_t);
        err = check_file(level, file, error);
        if (err == WEIR_OK) {
            err = check_columns(&chain->levels[0].files[0], file, error);
        }
        if (err != WEIR_OK) {
            return err;
        }
    }
    return WEIR_OK;
}

static weir_err_t open_level(weir_snapshot_chain_t *chain, const char *folder,
                             const weir_manifest_t *manifest, const char *table,
                             weir_error_t *error) {
    level_t *grown = realloc(chain->levels, (chain->level_count + 1) * sizeof *grown);
    bool *seen = calloc(WEIR_SLOT_COUNT, sizeof *seen);
    chain->levels = grown == NULL ? chain->levels : grown;
    if (grown == NULL || seen == NULL) {
        free(seen);
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory to load a table");
    }
    level_t *level = &grown[chain->level_count++];
    *level = (level_t){.step = manifest->step, .base = manifest->base};
    weir_err_t err = mark_shards(table, manifest, seen, &level->shards, error);
    free(seen);
    return err == WEIR_OK ? open_shards(chain, level, folder, table, error) : err;
}

/* Whether any of a level's files needs those below it. */
static bool needs_base(const level_t *level) {
    for (uint32_t f = 0; f < level->file_count; f++) {
        if (level->files[f].base != 0) {
            return true;
        }
    }
    return false;
}

/* A newer file's ttl counts for all below it. */
static void find_expiry(weir_snapshot_chain_t *chain) {
    uint64_t keep_from = 0;
    for (size_t l = 0; l < chain->level_count; l++) {
        level_t *level = &chain->levels[l];
        uint64_t ttl = level->files[0].ttl;
        if (ttl != 0 && level->step + 1 > ttl && level->step + 1 - ttl > keep_from) {
            keep_from = level->step + 1 - ttl;
        }
        level->keep_from = keep_from;
    }
}

weir_err_t weir_snapshot_chain_open(const char *folder, const weir_manifest_t *manifest,
                                    const char *table, weir_slot_t first, weir_slot_t end,
                                    weir_snapshot_chain_t **chain, weir_error_t *error) {
    weir_manifest_t *below = NULL;
    size_t count = 0;
    weir_snapshot_chain_t *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory to load a table");
    }
    made->first = first;
    made->end = end;
    weir_err_t err = open_level(made, folder, manifest, table, error);
    if (err == WEIR_OK && needs_base(&made->levels[0])) {
        err = weir_checkpoint_chain_read(folder, false, manifest, &below, &count, error);
    }
    for (size_t i = 0; i < count && err == WEIR_OK && needs_base(&made->levels[i]); i++) {
        char path[WEIR_PATH_MAX];
        err = weir_checkpoint_beside(folder, below[i].step, path, sizeof path, error);
        if (err == WEIR_OK) {
            err = open_level(made, path, &below[i], table, error);
        }
    }
    if (err == WEIR_OK && needs_base(&made->levels[made->level_count - 1])) {
        err = weir_errorf(error, WEIR_ERR_CORRUPT, "table %s of '%s' builds on what is not there",
                          table, folder);
    }
    weir_checkpoint_chain_free(below, count);
    if (err != WEIR_OK) {
        weir_snapshot_chain_close(made);
        return err;
    }
    find_expiry(made);
    *chain = made;
    return WEIR_OK;
}

void weir_snapshot_chain_close(weir_snapshot_chain_t *chain) {
    if (chain == NULL) {
        return;
    }
    for (size_t l = 0; l < chain->level_count; l++) {
        for (uint32_t f = 0; f < chain->levels[l].file_count; f++) {
            weir_snapshot_file_close(&chain->levels[l].files[f]);
        }
        free(chain->levels[l].files);
    }
    free(chain->levels);
    free(chain);
}

const weir_snapshot_file_t *weir_snapshot_chain_first(const weir_snapshot_chain_t *chain) {
    return &chain->levels[0].files[0];
}

size_t weir_snapshot_chain_depth(const weir_snapshot_chain_t *chain) {
    return chain->level_count;
}

size_t weir_snapshot_chain_levels(const weir_snapshot_chain_t *chain, weir_slot_t slot,
                                  weir_snapshot_level_t *levels) {
    size_t count = 0;
    for (size_t l = 0; l < chain->level_count; l++) {
        const level_t *level = &chain->levels[l];
        levels[count++] = (weir_snapshot_level_t){
            &level->files[weir_slot_owner(slot, level->shards) - level->first_shard],
            level->keep_from};
        if (levels[l].file->base == 0) {
            break;
        }
    }
    return count;
}

weir_err_t weir_snapshot_chain_enter(weir_snapshot_chain_t *chain, weir_slot_t slot,
                                     const weir_snapshot_file_t **newest, weir_error_t *error) {
    bool whole = false; /* a full file ends the chain of this slot */
    for (size_t l = 0; l < chain->level_count; l++) {
        level_t *level = &chain->levels[l];
        level->row = level->row_end = level->gone = level->gone_end = 0;
        if (whole) {
            continue;
        }
        level->file = &level->files[weir_slot_owner(slot, level->shards) - level->first_shard];
        weir_err_t err = weir_snapshot_file_check_slot(level->file, slot, error);
        if (err != WEIR_OK) {
            return err;
        }
        weir_snapshot_file_slot(level->file, slot, &level->row, &level->row_end, &level->gone,
                                &level->gone_end);
        chain->bytes_read += (level->row_end - level->row) * level->file->row_bytes +
                             (level->gone_end - level->gone) * sizeof(uint64_t) +
                             level->file->counters * sizeof(uint16_t);
        whole = level->file->base == 0;
    }
    *newest = chain->levels[0].file;
    return WEIR_OK;
}

/* The least hash that any level has left; false: none has any. */
static bool find_least(const weir_snapshot_chain_t *chain, uint64_t *least) {
    bool any = false;
    for (size_t l = 0; l < chain->level_count; l++) {
        const level_t *level = &chain->levels[l];
        if (level->row < level->row_end) {
            uint64_t hash = weir_hash64(level->file->keys[level->row]);
            *least = !any || hash < *least ? hash : *least;
            any = true;
        }
        if (level->gone < level->gone_end) {
            uint64_t hash = weir_hash64(level->file->removed[level->gone]);
            *least = !any || hash < *least ? hash : *least;
            any = true;
        }
    }
    return any;
}

bool weir_snapshot_chain_next(weir_snapshot_chain_t *chain, weir_snapshot_place_t *place) {
    uint64_t hash = 0;
    while (find_least(chain, &hash)) {
        bool decided = false, found = false;
        for (size_t l = 0; l < chain->level_count; l++) {
            level_t *level = &chain->levels[l];
            if (level->gone < level->gone_end &&
                weir_hash64(level->file->removed[level->gone]) == hash) {
                level->gone++;
                decided = true;
            }
            if (level->row < level->row_end && weir_hash64(level->file->keys[level->row]) == hash) {
                if (!decided && level->file->last_steps[level->row] >= level->keep_from) {
                    *place = (weir_snapshot_place_t){level->file, level->row};
                    found = true;
                }
                level->row++;
                decided = true;
            }
        }
        if (found) {
            return true;
        }
    }
    return false;
}

uint64_t weir_snapshot_chain_bytes_read(const weir_snapshot_chain_t *chain) {
    return chain->bytes_read;
}
