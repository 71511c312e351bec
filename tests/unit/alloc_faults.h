/* Allocations that fail on demand, in programs linked with -Wl,--wrap: malloc, calloc,
 * realloc and mmap as this tree's own code calls them (not what shared libraries do). */
#ifndef WEIR_TESTS_ALLOC_FAULTS_H
#define WEIR_TESTS_ALLOC_FAULTS_H

#include <stdbool.h>
#include <stddef.h>

/* The n-th allocation from now on fails (1 is the next), and the `more` after it. */
void alloc_faults_begin(size_t n, size_t more);

/* No more failures; whether there was one. */
bool alloc_faults_end(void);

#endif
