#include "worker/parallel.h"

#include <sched.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

static uint32_t thread_count = 1;

void weir_parallel_set_threads(uint32_t threads) {
#ifdef _OPENMP
    thread_count = threads > 0 ? threads : 1;
#else
    (void)threads;
#endif
}

uint32_t weir_parallel_processors(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? (uint32_t)CPU_COUNT(&set) : 1;
}

uint32_t weir_parallel_threads(void) {
    return thread_count;
}

#ifdef _OPENMP
static void flush_denormals(void) {
#if defined(__x86_64__)
    _mm_setcsr(_mm_getcsr() | 0x8040u); /* results to zero, and denormals are zero */
#endif
}
#endif

void weir_parallel_run(size_t tasks, weir_parallel_task_t task, void *argument) {
    if (thread_count == 1 || tasks <= 1) {
        for (size_t i = 0; i < tasks; i++) {
            task(argument, i, 0);
        }
        return;
    }
#ifdef _OPENMP
#pragma omp parallel num_threads((int)thread_count) default(none) shared(tasks, task, argument)
    {
        if (omp_get_thread_num() > 0) {
            flush_denormals(); /* the caller's thread is as it wants to be */
        }
#pragma omp for schedule(dynamic, 1)
        for (size_t i = 0; i < tasks; i++) {
            task(argument, i, (uint32_t)omp_get_thread_num());
        }
    }
#endif
}
