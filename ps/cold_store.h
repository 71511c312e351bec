/* Cold rows: the records that a table put out of memory, on the machine's own disk.
 *
 * A record is `record_bytes` bytes under a 64-bit key; the store does not look into it. One store
 * serves one table of one server, in a folder of its own: a RocksDB whose keys are the big-endian
 * hash64(key), so that order on disk is slot order, the order of checkpoints. hash64 is a
 * bijection, so the key itself is not stored.
 *
 * The store lives as long as its process. It writes no log and survives no crash: the checkpoint is
 * the truth, and a job that starts again fills its tables from there
 * (docs/design/0006-cold-rows.md).
 *
 * Errors of every call that blocks: WEIR_ERR_DISK_FULL, WEIR_ERR_CORRUPT (a checksum does not hold:
 * checked on every read from a file), WEIR_ERR_IO, WEIR_ERR_MEMORY; the sentence names the folder.
 * After a failure the arrays to be filled hold anything; what the store holds is as before. A key
 * may stand in a batch more than once. */
#ifndef WEIR_PS_COLD_STORE_H
#define WEIR_PS_COLD_STORE_H

#include "common/error.h"
#include "common/hash.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct weir_cold_store weir_cold_store_t;
typedef struct weir_cold_ticket weir_cold_ticket_t;
typedef struct weir_cold_iterator weir_cold_iterator_t;

typedef struct {
    const char *folder; /* made, and emptied: what a crash left is of no use */
    size_t record_bytes;
    size_t cache_bytes;        /* blocks read from files and kept; 0: none */
    size_t write_buffer_bytes; /* records gathered before a file is written, of which there are two
                                  at times; 0: 64 MiB */
    bool direct_io; /* past the page cache: memory is what was asked for, and reads are of the disk
                     */
} weir_cold_store_options_t;

enum { WEIR_COLD_MAX_RECORD_BYTES = 1 << 22 };

/* An empty store. The folder's parents are made; a folder that holds anything but an old store is
 * refused (WEIR_ERR_EXISTS), so is one whose store is in use. Starts the threads that read ahead.
 * Besides the memory asked for, a row costs about 3 bytes (filters and indexes of the files), and
 * the store 2 MiB. Call: blocks. Threads: any; the caller becomes the store's owner. */
WEIR_MUST_USE weir_err_t weir_cold_store_create(const weir_cold_store_options_t *options,
                                                weir_cold_store_t **store, weir_error_t *error);

/* Release all, tickets included, and remove the files and the folder. Iterators must be destroyed
 * before. NULL is fine. Call: blocks. Threads: owner. */
void weir_cold_store_destroy(weir_cold_store_t *store);

/* Store `records` (count x record_bytes), replacing what is there: all or none. Of a key that
 * repeats the last record stays. Looks every key up, so that the number of rows is exact: a key
 * that is new costs a look into the filters, one that is there a read. Blocks for longer while the
 * disk is behind. Call: blocks. Threads: owner. */
WEIR_MUST_USE weir_err_t weir_cold_store_put(weir_cold_store_t *store, const weir_key_t *keys,
                                             const void *records, size_t count,
                                             weir_error_t *error);

/* As put, of keys that are all there, as the owner knows: none is looked up, which makes it several
 * times as fast. A key that is not there makes the number of rows wrong; checked builds assert that
 * there is none. Call: blocks. Threads: owner. */
WEIR_MUST_USE weir_err_t weir_cold_store_replace(weir_cold_store_t *store, const weir_key_t *keys,
                                                 const void *records, size_t count,
                                                 weir_error_t *error);

/* Fill `found` (count) and, where true, `records` (count x record_bytes; NULL: not wanted). Reads
 * with the caller's thread and those that read ahead. Call: blocks. Threads: owner. */
WEIR_MUST_USE weir_err_t weir_cold_store_get(weir_cold_store_t *store, const weir_key_t *keys,
                                             size_t count, bool *found, void *records,
                                             weir_error_t *error);

/* Remove what is there of `keys`: all or none. Call: blocks. Threads: owner. */
WEIR_MUST_USE weir_err_t weir_cold_store_remove(weir_cold_store_t *store, const weir_key_t *keys,
                                                size_t count, weir_error_t *error);

/* As remove, of keys that are all there, as the owner knows: none is looked up. Of a key that is
 * not, as replace. Call: blocks. Threads: owner. */
WEIR_MUST_USE weir_err_t weir_cold_store_discard(weir_cold_store_t *store, const weir_key_t *keys,
                                                 size_t count, weir_error_t *error);

/* Keys in the store, exact. Call: local. Threads: any. */
uint64_t weir_cold_store_rows(const weir_cold_store_t *store);

/* Bytes of the files that hold rows, without what is still in write buffers. Call: local.
 * Threads: any. */
uint64_t weir_cold_store_bytes(const weir_cold_store_t *store);

/* ---- reading ahead ---- */

/* Ask for rows that will be wanted soon; `keys` is copied. The reads are done by the store's own
 * threads, which sleep when there is nothing to do; tickets are served in the order they were asked
 * for. `*ticket` is the store's, and must be given to finish once. Call: local; allocates only when
 * a ticket is larger, or there are more at once, than ever before. Threads: owner. */
WEIR_MUST_USE weir_err_t weir_cold_store_prefetch_begin(weir_cold_store_t *store,
                                                        const weir_key_t *keys, size_t count,
                                                        weir_cold_ticket_t **ticket,
                                                        weir_error_t *error);

/* Wait for the ticket's rows: as if weir_cold_store_get were called now. Keys put or removed since
 * begin are read again, so that no answer is older than this call. `found` NULL: the rows are not
 * wanted any more. The ticket is gone afterwards, whatever is returned. Call: blocks. Threads:
 * owner. */
WEIR_MUST_USE weir_err_t weir_cold_store_prefetch_finish(weir_cold_ticket_t *ticket, bool *found,
                                                         void *records, weir_error_t *error);

/* ---- all rows, in order ---- */

/* The rows of slots [first_slot, end_slot) in order of hash64(key), as they are now: later puts and
 * removes are not seen. Files that it needs are kept until it is destroyed. NULL: out of memory.
 * Call: local. Threads: owner. */
weir_cold_iterator_t *weir_cold_store_iterate(weir_cold_store_t *store, weir_slot_t first_slot,
                                              weir_slot_t end_slot);

/* The next row: true, `*key` and `*record` (record_bytes, valid until the next call). False: `*err`
 * is WEIR_OK at the end, else why it cannot go on. Call: blocks. Threads: one at a time. */
WEIR_MUST_USE bool weir_cold_iterator_next(weir_cold_iterator_t *iterator, weir_key_t *key,
                                           const void **record, weir_err_t *err,
                                           weir_error_t *error);
void weir_cold_iterator_destroy(weir_cold_iterator_t *iterator);

#endif
