/* The state of a cold store, shared by cold_store.c (rows), cold_files.c (RocksDB's options, its
 * folder, its errors) and cold_prefetch.c (tickets and the threads that read). */
#ifndef WEIR_PS_COLD_STORE_INTERNAL_H
#define WEIR_PS_COLD_STORE_INTERNAL_H

#include "common/file.h"
#include "ps/cold_store.h"

#include <pthread.h>
#include <rocksdb/c.h>
#include <stdatomic.h>

enum {
    WEIR_COLD_THREADS = 16, /* that read ahead */
    WEIR_COLD_PIECE = 32,   /* keys of one read from RocksDB */
    WEIR_COLD_STAMP_BITS = 18
};

/* A key of a batch: its hash, and its place in the batch. */
typedef struct {
    uint64_t hash;
    size_t place;
} weir_cold_order_t;

struct weir_cold_ticket {
    weir_cold_store_t *store;
    weir_cold_ticket_t *next_made; /* of all that the store has, in use or not */
    weir_cold_ticket_t *next;      /* in the queue, or in the list of those not in use */
    weir_cold_order_t *order;      /* count, by hash */
    bool *found;                   /* count, by place */
    char *records;                 /* count x record_bytes, by place; NULL: not wanted */
    size_t count, capacity;        /* keys, and those that `order` has room for */
    size_t own_capacity;           /* of the next two, into which a prefetch reads */
    bool *own_found;
    char *own_records;
    uint64_t change; /* the store's when it began */
    /* Guarded by the store's mutex: */
    size_t next_piece, pieces, pieces_left; /* to be taken next, all, not read yet */
    bool queued;
    weir_err_t err; /* of the first piece that failed, with `error` */
    weir_error_t error;
};

struct weir_cold_store {
    char folder[WEIR_PATH_MAX];
    int marker_fd; /* locked as long as the store lives */
    size_t record_bytes;
    rocksdb_t *db;
    rocksdb_column_family_handle_t *family;
    rocksdb_readoptions_t *reading;
    rocksdb_writeoptions_t *writing;
    rocksdb_writebatch_t *batch; /* the owner's, empty between calls */
    _Atomic uint64_t rows;       /* written by the owner */

    weir_cold_order_t *order; /* the owner's, room for `capacity` keys */
    bool *present;
    size_t capacity;

    /* Each put and remove is a change and has a number. changed[low bits of the hash] is the last
     * change of any key with these bits: what a ticket read is as of now when that is not later.
     * The owner's. */
    uint64_t change, *changed;

    pthread_mutex_t mutex; /* guards the queue, and what a ticket says it does */
    pthread_cond_t asked, done;
    weir_cold_ticket_t *first, *last; /* with pieces that no thread has taken */
    bool stopping, threads_ready;
    weir_cold_ticket_t *made, *unused; /* the owner's */
    pthread_t threads[WEIR_COLD_THREADS];
    size_t thread_count;
};

/* ---- cold_files.c ---- */

/* Make and empty the store's folder, and take its lock. */
WEIR_MUST_USE weir_err_t weir_cold_files_take(weir_cold_store_t *store, weir_error_t *error);

/* Remove the files and the folder where the lock is held; what fails is left lying. */
void weir_cold_files_remove(weir_cold_store_t *store);

/* Open the database: fills db, family, reading, writing. */
WEIR_MUST_USE weir_err_t weir_cold_files_open(weir_cold_store_t *store,
                                              const weir_cold_store_options_t *options,
                                              weir_error_t *error);

/* Turn RocksDB's `sentence` (freed) into an error; `doing` is what was to be done. */
weir_err_t weir_cold_files_error(const weir_cold_store_t *store, const char *doing, char *sentence,
                                 weir_error_t *error);

/* ---- cold_store.c ---- */

/* hash64 of all keys, in order; of equal ones, by place. */
void weir_cold_order(const weir_key_t *keys, size_t count, weir_cold_order_t *order);

/* Read at most WEIR_COLD_PIECE keys, ordered; answers go to the keys' places. Threads: any. */
WEIR_MUST_USE weir_err_t weir_cold_read(const weir_cold_store_t *store,
                                        const weir_cold_order_t *order, size_t count, bool *found,
                                        char *records, weir_error_t *error);

/* ---- cold_prefetch.c ---- */

WEIR_MUST_USE weir_err_t weir_cold_threads_start(weir_cold_store_t *store, weir_error_t *error);

/* End the threads and release all tickets. */
void weir_cold_threads_stop(weir_cold_store_t *store);

#endif
