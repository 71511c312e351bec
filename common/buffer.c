/* Buffers of frames (declared in common/frame.h).
 *
 * A buffer has 64 bytes of head before it, which say its size class: a power of two from 4 KiB. A
 * released buffer goes to the free list of its class, so that a steady state allocates nothing;
 * what a list holds beyond MAX_FREE goes back to the system. Buffers of 1 MiB and more ask for
 * huge pages and take a multiple of 2 MiB. */
#include "common/frame.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { HEAD_SIZE = 64, MIN_CLASS = 12, MAX_CLASS = 40, MAX_FREE = 64, HUGE_PAGE = 2 << 20 };

typedef struct head {
    struct head *next;
    unsigned size_class;
} head_t;

/* Process-wide, because a frame's payload moves between threads and modules; the mutex guards both.
 */
static pthread_mutex_t free_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct {
    head_t *first;
    size_t count;
} free_lists[MAX_CLASS + 1];

/* Large ones in huge pages: transports that copy from process to process look up every page, and
 * rows that are gathered and scattered touch many. */
static void *allocate(size_t size) {
    if (size < HUGE_PAGE / 2) {
        return aligned_alloc(HEAD_SIZE, size);
    }
    size = (size + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    void *block = aligned_alloc(HUGE_PAGE, size);
    if (block != NULL) {
        (void)madvise(block, size, MADV_HUGEPAGE); /* small pages will do */
    }
    return block;
}

void *weir_buffer_acquire(size_t size) {
    unsigned size_class = MIN_CLASS;
    while (size_class <= MAX_CLASS && ((size_t)1 << size_class) < size) {
        size_class++;
    }
    if (size_class > MAX_CLASS) {
        return NULL;
    }
    (void)pthread_mutex_lock(&free_mutex);
    head_t *head = free_lists[size_class].first;
    if (head != NULL) {
        free_lists[size_class].first = head->next;
        free_lists[size_class].count--;
    }
    (void)pthread_mutex_unlock(&free_mutex);
    if (head == NULL) {
        head = allocate(HEAD_SIZE + ((size_t)1 << size_class));
        if (head == NULL) {
            return NULL;
        }
        head->size_class = size_class;
    }
    return (char *)head + HEAD_SIZE;
}

void weir_buffer_release(void *buffer) {
    if (buffer == NULL) {
        return;
    }
    head_t *head = (head_t *)(void *)((char *)buffer - HEAD_SIZE);
    (void)pthread_mutex_lock(&free_mutex);
    if (free_lists[head->size_class].count < MAX_FREE) {
        head->next = free_lists[head->size_class].first;
        free_lists[head->size_class].first = head;
        free_lists[head->size_class].count++;
        head = NULL;
    }
    (void)pthread_mutex_unlock(&free_mutex);
    free(head);
}

void weir_buffer_trim(void) {
    (void)pthread_mutex_lock(&free_mutex);
    for (unsigned size_class = 0; size_class <= MAX_CLASS; size_class++) {
        while (free_lists[size_class].first != NULL) {
            head_t *head = free_lists[size_class].first;
            free_lists[size_class].first = head->next;
            free(head);
        }
        free_lists[size_class].count = 0;
    }
    (void)pthread_mutex_unlock(&free_mutex);
}
