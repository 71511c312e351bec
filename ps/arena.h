/* Memory of a table: blocks of any size cut from large regions, so that the index lies in huge
 * pages though its sub-tables are small and grow one by one.
 *
 * A region is a mapping of 64 MiB (or of one larger block), aligned to a huge page, of which the
 * kernel commits what is touched. Free extents are merged; a region all free is unmapped. */
#ifndef WEIR_PS_ARENA_H
#define WEIR_PS_ARENA_H

#include <stdbool.h>
#include <stddef.h>

typedef struct weir_arena_region weir_arena_region_t;

typedef struct {
    weir_arena_region_t *regions; /* list, owned */
    size_t in_use;                /* bytes handed out */
    size_t peak;                  /* the largest in_use so far */
    size_t mapped;                /* bytes of all regions; an upper bound of what is committed */
    size_t limit;                 /* in_use never passes it; 0: none */
} weir_arena_t;

enum { WEIR_ARENA_ALIGNMENT = 64 };

/* A zeroed arena is empty and valid. Frees everything; blocks die with it. */
void weir_arena_fini(weir_arena_t *arena);

/* A block of `size` > 0 bytes, aligned to 64, content undefined; NULL when memory is out
 * or the limit reached. * Call: local. Threads: owner. */
void *weir_arena_acquire(weir_arena_t *arena, size_t size);

/* Return a block with the size it was acquired with. NULL does nothing. */
void weir_arena_release(weir_arena_t *arena, void *block, size_t size);

/* Bytes that the arena takes for itself, outside its regions. Call: local. */
size_t weir_arena_own_bytes(const weir_arena_t *arena);

/* A zeroed mapping of its own, aligned to 2 MiB, in huge pages where the kernel gives them; NULL
 * when address space is out. Memory is committed on first touch. */
void *weir_arena_map(size_t size);
void weir_arena_unmap(void *mapping, size_t size);

/* Have the kernel commit [start, start + size) of a mapping now, so that its first touch does not
 * wait; content stays. Where the kernel cannot, nothing happens. */
void weir_arena_commit(void *start, size_t size);

/* Commit a huge page of what the blocks handed out next will lie in, ahead of them by two at most;
 * in a small arena nothing. False: there is nothing to do. Call: local; a piece takes 0.1 ms, where
 * a hypervisor has to find the memory several. */
bool weir_arena_prepare(weir_arena_t *arena);

#endif
