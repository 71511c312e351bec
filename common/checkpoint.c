/* Order on disk. A checkpoint's folder is made as step-N.tmp; its files are synced by their
 * writers; the manifest follows, synced with the folder; the folder is renamed and its parent
 * synced; only then do the links move. Removal goes the other way: the folder loses its name first,
 * then its files. So a folder named step-N is whole at every moment, whatever stops. */
#include "common/checkpoint.h"

#include "common/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STEP_NAME = 32, TEMPORARY_NAME = 64 };

static const char temporary_suffix[] = ".tmp";

void weir_checkpoint_step_name(uint64_t step, char name[32]) {
    (void)snprintf(name, STEP_NAME, "step-%012" PRIu64, step);
}

bool weir_checkpoint_parse_step(const char *name, uint64_t *step) {
    uint64_t parsed = 0;
    char same[STEP_NAME];
    if (strncmp(name, "step-", 5) != 0) {
        return false;
    }
    for (const char *digit = name + 5; *digit != '\0'; digit++) {
        if (*digit < '0' || *digit > '9' || __builtin_mul_overflow(parsed, 10u, &parsed) ||
            __builtin_add_overflow(parsed, (uint64_t)(*digit - '0'), &parsed)) {
            return false;
        }
    }
    weir_checkpoint_step_name(parsed, same); /* one name a step: no more zeros, no fewer */
    if (strcmp(name, same) != 0) {
        return false;
    }
    *step = parsed;
    return true;
}

static weir_err_t checkpoints_path(const char *run, char path[WEIR_PATH_MAX], weir_error_t *error) {
    return weir_path_join(path, WEIR_PATH_MAX, run, "checkpoints", error);
}

/* PARENT/step-N SUFFIX */
static weir_err_t step_path(const char *parent, uint64_t step, const char *suffix,
                            char path[WEIR_PATH_MAX], weir_error_t *error) {
    char name[STEP_NAME], whole[TEMPORARY_NAME];
    weir_checkpoint_step_name(step, name);
    (void)snprintf(whole, sizeof whole, "%s%s", name, suffix);
    return weir_path_join(path, WEIR_PATH_MAX, parent, whole, error);
}

static bool holds_manifest(const char *folder) {
    char path[WEIR_PATH_MAX];
    return weir_path_join(path, sizeof path, folder, WEIR_MANIFEST_NAME, NULL) == WEIR_OK &&
           weir_file_exists(path);
}

static int compare_steps(const void *left, const void *right) {
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

/* All complete checkpoints under an open folder, in any order. */
static weir_err_t collect_steps(DIR *folder, const char *path, uint64_t **steps, size_t *count,
                                weir_error_t *error) {
    size_t capacity = 0;
    for (;;) {
        char whole[WEIR_PATH_MAX];
        uint64_t step = 0;
        errno = 0;
        const struct dirent *entry = readdir(folder);
        if (entry == NULL) {
            return errno == 0 ? WEIR_OK : weir_error_from_errno(error, errno, "list '%s'", path);
        }
        if (!weir_checkpoint_parse_step(entry->d_name, &step) ||
            weir_path_join(whole, sizeof whole, path, entry->d_name, NULL) != WEIR_OK ||
            !holds_manifest(whole)) {
            continue;
        }
        if (*count == capacity) {
            capacity = capacity == 0 ? 16 : 2 * capacity;
            uint64_t *grown = realloc(*steps, capacity * sizeof *grown);
            if (grown == NULL) {
                return weir_errorf(error, WEIR_ERR_MEMORY, "no memory to list '%s'", path);
            }
            *steps = grown;
        }
        (*steps)[(*count)++] = step;
    }
}

weir_err_t weir_checkpoint_list(const char *run, uint64_t **steps, size_t *count,
                                weir_error_t *error) {
    char path[WEIR_PATH_MAX];
    uint64_t *found = NULL;
    size_t found_count = 0;
    weir_err_t status = checkpoints_path(run, path, error);
    if (status != WEIR_OK) {
        return status;
    }
    DIR *folder = opendir(path);
    if (folder == NULL) {
        if (errno != ENOENT || !weir_file_exists(run)) {
            return weir_error_from_errno(error, errno, "list checkpoints '%s'", path);
        }
        *steps = NULL; /* a run that has none yet */
        *count = 0;
        return WEIR_OK;
    }
    status = collect_steps(folder, path, &found, &found_count, error);
    (void)closedir(folder);
    if (status != WEIR_OK) {
        free(found);
        return status;
    }
    if (found_count > 0) {
        qsort(found, found_count, sizeof *found, compare_steps);
    }
    *steps = found;
    *count = found_count;
    return WEIR_OK;
}

/* The real path of `where` when it is a folder with a manifest. */
static bool resolve_folder(const char *where, char real[WEIR_PATH_MAX]) {
    _Static_assert((size_t)WEIR_PATH_MAX >= (size_t)PATH_MAX, "realpath writes up to PATH_MAX");
    return realpath(where, real) != NULL && holds_manifest(real);
}

/* The newest checkpoint of a run; `latest` may have been lost with a copy. */
static weir_err_t resolve_newest(const char *run, char real[WEIR_PATH_MAX], weir_error_t *error) {
    char parent[WEIR_PATH_MAX], path[WEIR_PATH_MAX];
    uint64_t *steps = NULL;
    size_t count = 0;
    weir_err_t status = weir_checkpoint_list(run, &steps, &count, error);
    if (status == WEIR_OK && count > 0) {
        status = checkpoints_path(run, parent, error);
    }
    if (status == WEIR_OK && count > 0) {
        status = step_path(parent, steps[count - 1], "", path, error);
    }
    if (status == WEIR_OK && (count == 0 || !resolve_folder(path, real))) {
        status = weir_errorf(error, WEIR_ERR_NOT_FOUND,
                             "'%s' is no complete checkpoint and no run that has one", run);
    }
    free(steps);
    return status;
}

weir_err_t weir_checkpoint_resolve(const char *where, char *folder, size_t capacity,
                                   weir_error_t *error) {
    char real[WEIR_PATH_MAX], latest[WEIR_PATH_MAX];
    if (!weir_file_exists(where)) {
        return weir_errorf(error, WEIR_ERR_NOT_FOUND, "there is no '%s'", where);
    }
    weir_err_t status = weir_path_join(latest, sizeof latest, where, "checkpoints/latest", error);
    if (status == WEIR_OK && !resolve_folder(where, real) && !resolve_folder(latest, real)) {
        status = resolve_newest(where, real, error);
    }
    if (status == WEIR_OK && strlen(real) >= capacity) {
        status = weir_errorf(error, WEIR_ERR_INVALID, "path too long: '%.100s...'", real);
    }
    if (status == WEIR_OK) {
        memcpy(folder, real, strlen(real) + 1);
    }
    return status;
}

static bool is_temporary(const char *name) {
    size_t length = strlen(name), suffix = sizeof temporary_suffix - 1;
    return strncmp(name, "step-", 5) == 0 && length > suffix &&
           strcmp(name + length - suffix, temporary_suffix) == 0;
}

/* latest.tmp.PID or best.tmp.PID: a link on its way to its name. */
static bool is_temporary_link(const char *name) {
    return strncmp(name, "latest.tmp.", 11) == 0 || strncmp(name, "best.tmp.", 9) == 0;
}

/* What crashes left: every step-*.tmp, and links that never got their names. One checkpoint is
 * written at a time, so none is in use. */
static weir_err_t remove_temporaries(const char *path, weir_error_t *error) {
    weir_err_t status = WEIR_OK;
    DIR *folder = opendir(path);
    if (folder == NULL) {
        return weir_error_from_errno(error, errno, "list '%s'", path);
    }
    while (status == WEIR_OK) {
        char whole[WEIR_PATH_MAX];
        errno = 0;
        const struct dirent *entry = readdir(folder);
        if (entry == NULL) {
            status = errno == 0 ? WEIR_OK : weir_error_from_errno(error, errno, "list '%s'", path);
            break;
        }
        if (is_temporary(entry->d_name)) {
            status = weir_path_join(whole, sizeof whole, path, entry->d_name, error);
            if (status == WEIR_OK) {
                status = weir_file_remove_directory(whole, error);
            }
        } else if (is_temporary_link(entry->d_name)) {
            (void)unlinkat(dirfd(folder), entry->d_name, 0); /* the next one tries again */
        }
    }
    (void)closedir(folder);
    return status;
}

weir_err_t weir_checkpoint_begin(const char *run, uint64_t step, char *folder, size_t capacity,
                                 weir_error_t *error) {
    char parent[WEIR_PATH_MAX], path[WEIR_PATH_MAX];
    weir_err_t status = checkpoints_path(run, parent, error);
    if (status == WEIR_OK) {
        status = step_path(parent, step, temporary_suffix, path, error);
    }
    if (status == WEIR_OK && strlen(path) >= capacity) {
        status = weir_errorf(error, WEIR_ERR_INVALID, "path too long: '%.100s...'", path);
    }
    if (status == WEIR_OK) {
        status = weir_file_make_directories(parent, error);
    }
    if (status == WEIR_OK) {
        status = remove_temporaries(parent, error);
    }
    if (status == WEIR_OK && mkdir(path, 0777) != 0) {
        status = weir_error_from_errno(error, errno, "create '%s'", path);
    }
    if (status == WEIR_OK) {
        status = weir_file_sync_directory(parent, error);
    }
    if (status == WEIR_OK) {
        memcpy(folder, path, strlen(path) + 1);
    }
    return status;
}

/* Give the finished folder its name. A checkpoint of the same step (from before a restart) is
 * replaced: in one exchange where the file system can, else the old one is moved aside first. */
static weir_err_t take_name(const char *parent, uint64_t step, const char *temporary,
                            weir_error_t *error) {
    char final[WEIR_PATH_MAX], old[WEIR_PATH_MAX];
    weir_err_t status = step_path(parent, step, "", final, error);
    if (status == WEIR_OK) {
        status = step_path(parent, step, ".old.tmp", old, error);
    }
    if (status != WEIR_OK) {
        return status;
    }
    if (!weir_file_exists(final)) {
        return rename(temporary, final) == 0
                   ? WEIR_OK
                   : weir_error_from_errno(error, errno, "rename '%s' to '%s'", temporary, final);
    }
    if (renameat2(AT_FDCWD, temporary, AT_FDCWD, final, RENAME_EXCHANGE) == 0) {
        return weir_file_remove_directory(temporary, error);
    }
    if (errno != EINVAL && errno != ENOSYS) {
        return weir_error_from_errno(error, errno, "exchange '%s' and '%s'", temporary, final);
    }
    if (rename(final, old) != 0 || rename(temporary, final) != 0) {
        return weir_error_from_errno(error, errno, "rename '%s' to '%s'", temporary, final);
    }
    return weir_file_remove_directory(old, error);
}

static weir_err_t move_link(const char *parent, const char *link, uint64_t step,
                            weir_error_t *error) {
    char path[WEIR_PATH_MAX], name[STEP_NAME];
    weir_err_t status = weir_path_join(path, sizeof path, parent, link, error);
    weir_checkpoint_step_name(step, name);
    return status != WEIR_OK ? status : weir_file_replace_link(path, name, error);
}

/* The base that its files have, which must be there, and what its manifest's checksum is. */
static weir_err_t find_base(const char *parent, weir_manifest_t *manifest, weir_error_t *error) {
    char path[WEIR_PATH_MAX];
    weir_manifest_t base = {0};
    for (size_t i = 0; i < manifest->file_count; i++) {
        uint64_t of_file = manifest->files[i].base;
        if (of_file != 0 && manifest->base != 0 && of_file != manifest->base) {
            return weir_errorf(error, WEIR_ERR_INVALID,
                               "'%s' builds on step %" PRIu64 ", another file on step %" PRIu64,
                               manifest->files[i].name, of_file, manifest->base);
        }
        manifest->base = of_file != 0 ? of_file : manifest->base;
    }
    if (manifest->base == 0) {
        return WEIR_OK;
    }
    weir_err_t status = step_path(parent, manifest->base, "", path, error);
    if (status == WEIR_OK) {
        status = weir_manifest_read_one(path, false, &base, error);
    }
    manifest->base_self = base.self;
    weir_manifest_fini(&base);
    return status;
}

weir_err_t weir_checkpoint_publish(const char *run, const weir_manifest_t *manifest, bool best,
                                   weir_error_t *error) {
    char parent[WEIR_PATH_MAX], temporary[WEIR_PATH_MAX], path[WEIR_PATH_MAX];
    char *text = NULL;
    size_t size = 0;
    weir_manifest_t made = *manifest; /* and its base */
    weir_err_t status = checkpoints_path(run, parent, error);
    if (status == WEIR_OK) {
        status = step_path(parent, manifest->step, temporary_suffix, temporary, error);
    }
    if (status == WEIR_OK) {
        status = weir_path_join(path, sizeof path, temporary, WEIR_MANIFEST_NAME, error);
    }
    if (status == WEIR_OK) {
        status = weir_manifest_check_files(temporary, manifest, false, error);
    }
    if (status == WEIR_OK) {
        status = find_base(parent, &made, error);
    }
    if (status == WEIR_OK) {
        status = weir_manifest_format(&made, &text, &size, error);
    }
    if (status == WEIR_OK) {
        status = weir_file_replace(path, text, size, error); /* syncs the folder too */
    }
    if (status == WEIR_OK) {
        status = take_name(parent, manifest->step, temporary, error);
    }
    if (status == WEIR_OK) {
        status = weir_file_sync_directory(parent, error);
    }
    if (status == WEIR_OK && best) {
        status = move_link(parent, "best", manifest->step, error);
    }
    if (status == WEIR_OK) {
        status = move_link(parent, "latest", manifest->step, error);
    }
    free(text);
    return status;
}

/* The step that a link points to; `*found` false when there is no link. One that points to none of
 * ours is damaged: what it meant is not known, and nothing is removed on a guess. */
static weir_err_t read_link(const char *parent, const char *link, bool *found, uint64_t *step,
                            weir_error_t *error) {
    char path[WEIR_PATH_MAX], real[WEIR_PATH_MAX];
    weir_err_t status = weir_path_join(path, sizeof path, parent, link, error);
    if (status != WEIR_OK) {
        return status;
    }
    *found = false;
    struct stat link_status;
    if (lstat(path, &link_status) != 0) {
        return errno == ENOENT ? WEIR_OK
                               : weir_error_from_errno(error, errno, "look at '%s'", path);
    }
    const char *slash = realpath(path, real) != NULL ? strrchr(real, '/') : NULL;
    *found = slash != NULL && weir_checkpoint_parse_step(slash + 1, step) && holds_manifest(real);
    if (!*found) {
        (void)weir_errorf(error, WEIR_ERR_CORRUPT,
                          "'%s' does not lead to a checkpoint: none is removed", path);
        weir_error_hint(error, "remove the link, or let it point to the checkpoint that it meant");
        return WEIR_ERR_CORRUPT;
    }
    return WEIR_OK;
}

/* Its name first, so that what a crash leaves does not look whole. */
static weir_err_t remove_step(const char *parent, uint64_t step, weir_error_t *error) {
    char path[WEIR_PATH_MAX], temporary[WEIR_PATH_MAX] = "";
    weir_err_t status = step_path(parent, step, "", path, error);
    if (status == WEIR_OK) {
        status = step_path(parent, step, ".old.tmp", temporary, error);
    }
    if (status == WEIR_OK) {
        status = weir_file_remove_directory(temporary, error);
    }
    if (status == WEIR_OK && rename(path, temporary) != 0) {
        status = weir_error_from_errno(error, errno, "rename '%s' to '%s'", path, temporary);
    }
    if (status == WEIR_OK) {
        status = weir_file_sync_directory(parent, error);
    }
    return status != WEIR_OK ? status : weir_file_remove_directory(temporary, error);
}

/* Mark the steps of the chain of `steps[i]`, which stays. One that cannot be read marks nothing
 * more: nothing can be built of it. */
static weir_err_t mark_chain(const char *parent, const uint64_t *steps, size_t count, size_t i,
                             bool *stays, weir_error_t *error) {
    char path[WEIR_PATH_MAX];
    stays[i] = true;
    for (;;) {
        weir_manifest_t manifest = {0};
        weir_err_t status = step_path(parent, steps[i], "", path, error);
        if (status != WEIR_OK) {
            return status;
        }
        status = weir_manifest_read_one(path, false, &manifest, error);
        if (status == WEIR_ERR_IO || status == WEIR_ERR_MEMORY) {
            return status; /* nothing is removed on a guess */
        }
        if (status != WEIR_OK) {
            return WEIR_OK;
        }
        uint64_t base = manifest.base;
        weir_manifest_fini(&manifest);
        const uint64_t *found =
            base == 0 ? NULL : bsearch(&base, steps, count, sizeof *steps, compare_steps);
        if (found == NULL || stays[found - steps]) {
            return WEIR_OK;
        }
        i = (size_t)(found - steps);
        stays[i] = true;
    }
}

/* Mark what stays: what is wanted, with its chain. */
static weir_err_t mark_staying(const char *parent, const uint64_t *steps, size_t count, size_t keep,
                               bool *stays, weir_error_t *error) {
    uint64_t latest = 0, best = 0;
    bool has_latest = false, has_best = false;
    weir_err_t status = read_link(parent, "latest", &has_latest, &latest, error);
    if (status == WEIR_OK) {
        status = read_link(parent, "best", &has_best, &best, error);
    }
    /* The newest stays in any case: it is what resolve falls back to. */
    size_t kept = keep == 0 ? 1 : keep;
    for (size_t i = 0; status == WEIR_OK && i < count; i++) {
        if (i + kept >= count || (has_latest && steps[i] == latest) ||
            (has_best && steps[i] == best)) {
            status = mark_chain(parent, steps, count, i, stays, error);
        }
    }
    return status;
}

weir_err_t weir_checkpoint_unneeded(const char *run, size_t keep, uint64_t **unneeded,
                                    size_t *unneeded_count, weir_error_t *error) {
    char parent[WEIR_PATH_MAX];
    uint64_t *steps = NULL;
    bool *stays = NULL;
    size_t count = 0, gone = 0;
    weir_err_t status = checkpoints_path(run, parent, error);
    if (status == WEIR_OK) {
        status = weir_checkpoint_list(run, &steps, &count, error);
    }
    if (status == WEIR_OK) {
        stays = calloc(count + 1, sizeof *stays);
        status = stays == NULL
                     ? weir_errorf(error, WEIR_ERR_MEMORY, "no memory to list '%s'", parent)
                     : mark_staying(parent, steps, count, keep, stays, error);
    }
    if (status == WEIR_OK) {
        for (size_t i = 0; i < count; i++) {
            if (!stays[i]) {
                steps[gone++] = steps[i];
            }
        }
        *unneeded = steps;
        *unneeded_count = gone;
        steps = NULL;
    }
    free(stays);
    free(steps);
    return status;
}

weir_err_t weir_checkpoint_prune(const char *run, size_t keep, weir_error_t *error) {
    char parent[WEIR_PATH_MAX];
    uint64_t *unneeded = NULL;
    size_t count = 0;
    weir_err_t status = checkpoints_path(run, parent, error);
    if (status == WEIR_OK) {
        status = weir_checkpoint_unneeded(run, keep, &unneeded, &count, error);
    }
    /* What builds on another goes first: no name is left without its base. */
    for (size_t i = count; i > 0 && status == WEIR_OK; i--) {
        status = remove_step(parent, unneeded[i - 1], error);
    }
    free(unneeded);
    return status;
}
