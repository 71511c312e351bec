#include "ps/cold_store_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* The file that makes a folder one whose other files may be removed. */
#define MARKER "weir-cold-rows"

enum {
    DEFAULT_WRITE_BUFFER = 64 << 20,
    FILE_BYTES = 64 << 20,
    BLOCK_BYTES = 4096,
    BACKGROUND_JOBS = 2,
    SYNC_BYTES = 1 << 20, /* written files go to the disk in pieces, not in one burst */
    CHECKSUM_XXH3 = 4     /* rocksdb/table.h */
};

/* Bits of a file's filter for each key: one look in a hundred misleads. */
#define FILTER_BITS 10.0

/* ---- the folder ---- */

/* Remove every file but the marker; without a marker (`ours` false) there must be none. */
static weir_err_t empty_folder(const char *path, bool ours, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    DIR *folder = opendir(path);
    if (folder == NULL) {
        return weir_error_from_errno(error, errno, "list '%s'", path);
    }
    const struct dirent *entry;
    while (err == WEIR_OK && (entry = readdir(folder)) != NULL) {
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, MARKER) == 0) {
            continue;
        }
        if (!ours) {
            err =
                weir_errorf(error, WEIR_ERR_EXISTS, "'%s' holds files that are no cold rows", path);
            weir_error_hint(error, "name a folder that is empty or not there yet");
        } else if (unlinkat(dirfd(folder), name, 0) != 0 && errno != ENOENT) {
            err = weir_error_from_errno(error, errno, "remove '%s/%.100s'", path, name);
        }
    }
    (void)closedir(folder);
    return err;
}

static weir_err_t lock_marker(weir_cold_store_t *store, const char *marker, weir_error_t *error) {
    struct stat about;
    store->marker_fd = open(marker, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (store->marker_fd < 0) {
        weir_err_t err = weir_error_from_errno(error, errno, "create '%s'", marker);
        weir_error_hint(error, "cold rows need a folder on this machine that can be written to");
        return err;
    }
    /* Removed by its owner before the lock came: in use just now. */
    if (flock(store->marker_fd, LOCK_EX | LOCK_NB) != 0 || fstat(store->marker_fd, &about) != 0 ||
        about.st_nlink == 0) {
        (void)close(store->marker_fd);
        store->marker_fd = -1;
        weir_err_t err = weir_errorf(error, WEIR_ERR_EXISTS,
                                     "the cold rows in '%s' are in use by another", store->folder);
        weir_error_hint(error, "each server needs a folder of its own");
        return err;
    }
    return WEIR_OK;
}

weir_err_t weir_cold_files_take(weir_cold_store_t *store, weir_error_t *error) {
    char marker[WEIR_PATH_MAX];
    weir_err_t err = weir_file_make_directories(store->folder, error);
    if (err == WEIR_OK) {
        err = weir_path_join(marker, sizeof marker, store->folder, MARKER, error);
    }
    if (err == WEIR_OK && !weir_file_exists(marker)) {
        err = empty_folder(store->folder, false, error);
    }
    if (err == WEIR_OK) {
        err = lock_marker(store, marker, error);
    }
    return err == WEIR_OK ? empty_folder(store->folder, true, error) : err;
}

void weir_cold_files_remove(weir_cold_store_t *store) {
    if (store->marker_fd >= 0) {
        /* The marker last: a start after a crash in between still knows the folder. */
        if (empty_folder(store->folder, true, NULL) == WEIR_OK) {
            weir_err_t err = weir_file_remove_directory(store->folder, NULL);
            (void)err; /* nothing reads it again, and the next start empties it */
        }
        (void)close(store->marker_fd);
        store->marker_fd = -1;
    }
}

/* ---- errors ---- */

typedef struct {
    const char *words; /* in RocksDB's sentence */
    weir_err_t code;
    const char *hint;
} reason_t;

static const reason_t REASONS[] = {
    {"No space left", WEIR_ERR_DISK_FULL, "make room there, or name a folder on a larger disk"},
    {"Disk quota exceeded", WEIR_ERR_DISK_FULL,
     "name a folder on this machine's own disk, without a quota"},
    {"Corruption", WEIR_ERR_CORRUPT,
     "the disk or the memory may be failing; start again from the last checkpoint, with the "
     "folder on another disk"},
    {"checksum", WEIR_ERR_CORRUPT,
     "the disk or the memory may be failing; start again from the last checkpoint, with the "
     "folder on another disk"},
    {"Permission denied", WEIR_ERR_IO, "the folder must be one that this user may write to"},
    {"Read-only file system", WEIR_ERR_IO, "the folder must be on a disk that can be written to"},
    {"Too many open files", WEIR_ERR_IO, "raise the limit of open files (ulimit -n)"},
    {"irect I/O", WEIR_ERR_UNSUPPORTED,
     "this file system has no direct I/O: turn it off, or name a folder on a disk"},
    {"Cannot allocate memory", WEIR_ERR_MEMORY, "give tables or cold rows less memory"},
};

weir_err_t weir_cold_files_error(const weir_cold_store_t *store, const char *doing, char *sentence,
                                 weir_error_t *error) {
    const reason_t *reason = NULL;
    for (size_t i = 0; i < sizeof REASONS / sizeof *REASONS && reason == NULL; i++) {
        reason = strstr(sentence, REASONS[i].words) != NULL ? &REASONS[i] : NULL;
    }
    char plain[384];
    weir_file_printable(sentence, plain, sizeof plain);
    rocksdb_free(sentence);
    weir_err_t code = reason == NULL ? WEIR_ERR_IO : reason->code;
    code = weir_errorf(error, code, "cannot %s cold rows in '%s': %s", doing, store->folder, plain);
    if (reason != NULL) {
        weir_error_hint(error, "%s", reason->hint);
    }
    return code;
}

/* ---- opening ---- */

static rocksdb_block_based_table_options_t *choose_format(size_t cache_bytes) {
    rocksdb_block_based_table_options_t *format = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_block_size(format, BLOCK_BYTES);
    rocksdb_block_based_options_set_checksum(format, CHECKSUM_XXH3);
    rocksdb_block_based_options_set_format_version(format, 5);
    rocksdb_block_based_options_set_filter_policy(
        format, rocksdb_filterpolicy_create_bloom_full(FILTER_BITS));
    rocksdb_block_based_options_set_whole_key_filtering(format, 1);
    if (cache_bytes == 0) {
        rocksdb_block_based_options_set_no_block_cache(format, 1);
    } else {
        rocksdb_cache_t *cache = rocksdb_cache_create_lru(cache_bytes);
        rocksdb_block_based_options_set_block_cache(format, cache);
        rocksdb_cache_destroy(cache); /* the options keep it */
    }
    return format;
}

static rocksdb_options_t *choose_options(const weir_cold_store_options_t *wanted) {
    size_t write_buffer =
        wanted->write_buffer_bytes == 0 ? DEFAULT_WRITE_BUFFER : wanted->write_buffer_bytes;
    char *failure = NULL;
    rocksdb_options_t *base = rocksdb_options_create(), *options = rocksdb_options_create();
    /* What the C interface has no call for: what is not written when the store ends is not wanted.
     */
    rocksdb_get_options_from_string(base, "avoid_flush_during_shutdown=true", options, &failure);
    rocksdb_free(failure); /* without it the end takes longer */
    rocksdb_options_destroy(base);
    rocksdb_options_set_create_if_missing(options, 1);
    rocksdb_options_set_error_if_exists(options, 1);
    rocksdb_options_set_info_log_level(options, 4); /* fatal: errors reach us as values */
    rocksdb_options_set_stats_dump_period_sec(options, 0);
    rocksdb_options_set_compression(options, rocksdb_no_compression);
    rocksdb_options_set_write_buffer_size(options, write_buffer);
    rocksdb_options_set_max_write_buffer_number(options, 2);
    rocksdb_options_set_memtable_whole_key_filtering(options, 1);
    rocksdb_options_set_memtable_prefix_bloom_size_ratio(options, 0.02);
    rocksdb_options_set_max_background_jobs(options, BACKGROUND_JOBS);
    rocksdb_options_set_level_compaction_dynamic_level_bytes(options, 1);
    rocksdb_options_set_max_bytes_for_level_base(options, 4 * (uint64_t)write_buffer);
    rocksdb_options_set_target_file_size_base(options, FILE_BYTES);
    rocksdb_options_set_bytes_per_sync(options, SYNC_BYTES);
    rocksdb_options_set_max_open_files(options, -1); /* filters and indexes stay in memory */
    rocksdb_options_set_use_direct_reads(options, wanted->direct_io);
    rocksdb_options_set_use_direct_io_for_flush_and_compaction(options, wanted->direct_io);
    rocksdb_block_based_table_options_t *format = choose_format(wanted->cache_bytes);
    rocksdb_options_set_block_based_table_factory(options, format);
    rocksdb_block_based_options_destroy(format);
    return options;
}

weir_err_t weir_cold_files_open(weir_cold_store_t *store, const weir_cold_store_options_t *options,
                                weir_error_t *error) {
    char *failure = NULL;
    const char *name = "default";
    rocksdb_options_t *chosen = choose_options(options);
    const rocksdb_options_t *of_family = chosen;
    store->db = rocksdb_open_column_families(chosen, store->folder, 1, &name, &of_family,
                                             &store->family, &failure);
    rocksdb_options_destroy(chosen);
    if (failure != NULL) {
        store->db = NULL;
        return weir_cold_files_error(store, "make", failure, error);
    }
    store->reading = rocksdb_readoptions_create();
    rocksdb_readoptions_set_verify_checksums(store->reading, 1);
    store->writing = rocksdb_writeoptions_create();
    rocksdb_writeoptions_disable_WAL(store->writing, 1);
    return WEIR_OK;
}
