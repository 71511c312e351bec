/* A bounded ring between one producing and one consuming thread, of elements of one size. */
#ifndef WEIR_COMMON_RING_H
#define WEIR_COMMON_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    char *elements;
    size_t element_size;
    size_t mask; /* capacity - 1; the capacity is a power of two */
    /* On lines of their own, since each is written by another thread. */
    _Alignas(64) atomic_size_t head; /* next to read; written by the consumer */
    _Alignas(64) atomic_size_t tail; /* next to write; written by the producer */
} weir_ring_t;

/* capacity: a power of two. False: out of memory. */
static inline bool weir_ring_init(weir_ring_t *ring, size_t capacity, size_t element_size) {
    ring->elements = calloc(capacity, element_size);
    ring->element_size = element_size;
    ring->mask = capacity - 1;
    atomic_init(&ring->head, 0);
    atomic_init(&ring->tail, 0);
    return ring->elements != NULL;
}

static inline void weir_ring_fini(weir_ring_t *ring) {
    free(ring->elements);
    ring->elements = NULL;
}

/* False: full. Threads: the producer. */
static inline bool weir_ring_push(weir_ring_t *ring, const void *element) {
    size_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed); /* our own */
    /* Acquire: the slot was read before the consumer let it go. */
    if (tail - atomic_load_explicit(&ring->head, memory_order_acquire) > ring->mask) {
        return false;
    }
    memcpy(ring->elements + (tail & ring->mask) * ring->element_size, element, ring->element_size);
    /* Release: the element is there before the consumer sees the new tail. */
    atomic_store_explicit(&ring->tail, tail + 1, memory_order_release);
    return true;
}

/* False: empty. Threads: the consumer. */
static inline bool weir_ring_pop(weir_ring_t *ring, void *element) {
    size_t head = atomic_load_explicit(&ring->head, memory_order_relaxed); /* our own */
    /* Acquire: pairs with the release in push. */
    if (atomic_load_explicit(&ring->tail, memory_order_acquire) == head) {
        return false;
    }
    memcpy(element, ring->elements + (head & ring->mask) * ring->element_size, ring->element_size);
    /* Release: the slot was read before the producer may write it again. */
    atomic_store_explicit(&ring->head, head + 1, memory_order_release);
    return true;
}

/* Elements in it. Threads: any; a moment's truth. */
static inline size_t weir_ring_count(weir_ring_t *ring) {
    size_t head = atomic_load(&ring->head); /* first: it does not pass the tail read after it */
    return atomic_load(&ring->tail) - head;
}

/* Threads: any; a moment's truth. */
static inline bool weir_ring_empty(weir_ring_t *ring) {
    return atomic_load(&ring->head) == atomic_load(&ring->tail);
}

#endif
