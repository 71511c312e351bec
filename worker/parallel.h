/* The threads of a worker: tasks that do not depend on each other, run by as many threads as the
 * process was given.
 *
 * What a task is never depends on the number of threads, and no two tasks add to the same number:
 * so results are the same bits for any number of threads. Threads flush denormals to zero. */
#ifndef WEIR_WORKER_PARALLEL_H
#define WEIR_WORKER_PARALLEL_H

#include <stddef.h>
#include <stdint.h>

/* For all later runs of the process; 1 before. A build without OpenMP has one thread in any case.
 */
void weir_parallel_set_threads(uint32_t threads);
/* Processors that this process may run on. */
uint32_t weir_parallel_processors(void);
uint32_t weir_parallel_threads(void);

/* `thread`: below weir_parallel_threads(), of the thread that runs the task. */
typedef void (*weir_parallel_task_t)(void *argument, size_t task, uint32_t thread);

/* Run tasks 0 .. tasks - 1, begun in this order; returns when all are done. Call: local, never from
 * within a task. Threads: one. */
void weir_parallel_run(size_t tasks, weir_parallel_task_t task, void *argument);

#endif
