#include "ps/arena.h"

#include "common/assert.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { HUGE_PAGE = 2 << 20, REGION_SIZE = 64 << 20, AHEAD = 2 * HUGE_PAGE };

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14; others say EINVAL */
#endif

typedef struct {
    size_t offset, size; /* bytes */
} extent_t;

struct weir_arena_region {
    weir_arena_region_t *next;
    char *start;
    size_t size;
    extent_t *free; /* ascending by offset, no two adjacent */
    size_t free_count, free_capacity;
    size_t blocks;  /* handed out */
    size_t most;    /* no free extent is larger */
    size_t touched; /* the highest end of a block so far */
    size_t ready;   /* bytes from the start that have been committed ahead, or are touched */
};

void *weir_arena_map(size_t size) {
    size_t padded = size + HUGE_PAGE;
    if (padded < size) {
        return NULL;
    }
    char *raw = mmap(NULL, padded, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (raw == MAP_FAILED) {
        return NULL;
    }
    size_t page = 4096;
    size_t head = (HUGE_PAGE - (uintptr_t)raw % HUGE_PAGE) % HUGE_PAGE;
    size_t kept = (size + page - 1) / page * page;
    if (head > 0) {
        (void)munmap(raw, head);
    }
    if (padded - head > kept) {
        (void)munmap(raw + head + kept, padded - head - kept);
    }
    (void)madvise(raw + head, kept, MADV_HUGEPAGE); /* a wish; without it all works, slower */
    return raw + head;
}

void weir_arena_unmap(void *mapping, size_t size) {
    if (mapping != NULL) {
        (void)munmap(mapping, (size + 4095) / 4096 * 4096);
    }
}

static size_t round_up(size_t size) {
    return (size + WEIR_ARENA_ALIGNMENT - 1) / WEIR_ARENA_ALIGNMENT * WEIR_ARENA_ALIGNMENT;
}

/* A region with b blocks has at most b + 1 free extents: room for them is made before a block is
 * handed out, so that its release cannot fail. */
static int reserve_extents(weir_arena_region_t *region) {
    if (region->blocks + 2 <= region->free_capacity) {
        return 0;
    }
    size_t capacity = region->free_capacity * 2 + 16;
    extent_t *extents = realloc(region->free, capacity * sizeof *extents);
    if (extents == NULL) {
        return -1;
    }
    region->free = extents;
    region->free_capacity = capacity;
    return 0;
}

static weir_arena_region_t *add_region(weir_arena_t *arena, size_t size) {
    weir_arena_region_t *region = calloc(1, sizeof *region);
    if (region == NULL) {
        return NULL;
    }
    region->size = size > REGION_SIZE ? size : REGION_SIZE;
    region->start = weir_arena_map(region->size);
    if (region->start == NULL || reserve_extents(region) != 0) {
        weir_arena_unmap(region->start, region->size);
        free(region);
        return NULL;
    }
    region->free[0] = (extent_t){.offset = 0, .size = region->size};
    region->free_count = 1;
    region->most = region->size;
    /* Last: the first ones are filled before this one is touched. */
    weir_arena_region_t **link = &arena->regions;
    while (*link != NULL) {
        link = &(*link)->next;
    }
    *link = region;
    arena->mapped += region->size;
    return region;
}

/* First fit; NULL when nothing fits. */
static void *cut_block(weir_arena_region_t *region, size_t size) {
    for (size_t i = 0; i < region->free_count; i++) {
        extent_t *extent = &region->free[i];
        if (extent->size < size) {
            continue;
        }
        void *block = region->start + extent->offset;
        extent->offset += size;
        extent->size -= size;
        if (extent->size == 0) {
            region->free_count--;
            memmove(extent, extent + 1, (region->free_count - i) * sizeof *extent);
        }
        region->blocks++;
        size_t end = (size_t)((char *)block - region->start) + size;
        region->touched = end > region->touched ? end : region->touched;
        return block;
    }
    region->most = size - 1;
    return NULL;
}

static void count_in(weir_arena_t *arena, size_t size) {
    arena->in_use += size;
    arena->peak = arena->in_use > arena->peak ? arena->in_use : arena->peak;
}

void *weir_arena_acquire(weir_arena_t *arena, size_t size) {
    if (size == 0 || size > SIZE_MAX / 2) {
        return NULL;
    }
    size = round_up(size);
    if (arena->limit != 0 &&
        (arena->in_use > arena->limit || size > arena->limit - arena->in_use)) {
        return NULL;
    }
    for (weir_arena_region_t *region = arena->regions; region != NULL; region = region->next) {
        void *block =
            size <= region->most && reserve_extents(region) == 0 ? cut_block(region, size) : NULL;
        if (block != NULL) {
            count_in(arena, size);
            return block;
        }
    }
    weir_arena_region_t *region = add_region(arena, size);
    if (region == NULL) {
        return NULL;
    }
    count_in(arena, size);
    return cut_block(region, size);
}

static void put_back(weir_arena_region_t *region, size_t offset, size_t size) {
    size_t low = 0, high = region->free_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (region->free[middle].offset < offset) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    extent_t *after = low < region->free_count ? &region->free[low] : NULL;
    extent_t *before = low > 0 ? &region->free[low - 1] : NULL;
    int joins_after = after != NULL && offset + size == after->offset;
    int joins_before = before != NULL && before->offset + before->size == offset;
    if (joins_before && joins_after) {
        size += before->size + after->size;
        before->size = size;
        region->free_count--;
        memmove(after, after + 1, (region->free_count - low) * sizeof *after);
    } else if (joins_before) {
        size += before->size;
        before->size = size;
    } else if (joins_after) {
        size += after->size;
        *after = (extent_t){.offset = offset, .size = size};
    } else {
        WEIR_ASSERT(region->free_count < region->free_capacity);
        memmove(&region->free[low + 1], &region->free[low],
                (region->free_count - low) * sizeof *region->free);
        region->free[low] = (extent_t){.offset = offset, .size = size};
        region->free_count++;
    }
    region->most = size > region->most ? size : region->most;
}

void weir_arena_release(weir_arena_t *arena, void *block, size_t size) {
    if (block == NULL) {
        return;
    }
    size = round_up(size);
    for (weir_arena_region_t **link = &arena->regions; *link != NULL; link = &(*link)->next) {
        weir_arena_region_t *region = *link;
        char *start = block;
        if (start < region->start || start >= region->start + region->size) {
            continue;
        }
        put_back(region, (size_t)(start - region->start), size);
        region->blocks--;
        arena->in_use -= size;
        if (region->blocks == 0) {
            *link = region->next;
            arena->mapped -= region->size;
            weir_arena_unmap(region->start, region->size);
            free(region->free);
            free(region);
        }
        return;
    }
    WEIR_ASSERT(0 && "a block of another arena");
}

void weir_arena_fini(weir_arena_t *arena) {
    while (arena->regions != NULL) {
        weir_arena_region_t *region = arena->regions;
        arena->regions = region->next;
        weir_arena_unmap(region->start, region->size);
        free(region->free);
        free(region);
    }
    *arena = (weir_arena_t){.regions = NULL};
}

size_t weir_arena_own_bytes(const weir_arena_t *arena) {
    size_t bytes = 0;
    for (const weir_arena_region_t *region = arena->regions; region != NULL;
         region = region->next) {
        bytes += sizeof *region + region->free_capacity * sizeof *region->free;
    }
    return bytes;
}

void weir_arena_commit(void *start, size_t size) {
    char *page = (char *)start - (uintptr_t)start % 4096;
    size_t length = (size_t)((char *)start + size - page);
    (void)madvise(page, (length + 4095) / 4096 * 4096, MADV_POPULATE_WRITE);
}

bool weir_arena_prepare(weir_arena_t *arena) {
    weir_arena_region_t *last = arena->regions;
    if (arena->in_use < REGION_SIZE / 2) {
        return false;
    }
    while (last->next != NULL) {
        last = last->next;
    }
    size_t front = last->touched > last->ready ? last->touched : last->ready;
    if (front >= last->touched + AHEAD) {
        return false;
    }
    if (front >= last->size) {
        return last->blocks > 0 && add_region(arena, REGION_SIZE) != NULL;
    }
    size_t end = (front / HUGE_PAGE + 1) * HUGE_PAGE;
    last->ready = end < last->size ? end : last->size;
    weir_arena_commit(last->start + front, last->ready - front);
    return true;
}
