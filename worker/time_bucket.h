/* Time buckets (docs/model.md): bucket(d) = clamp(trunc(ln(max(|d|, 1)) / 0.301), 0, 128), in
 * integers. weir_time_bucket itself is declared in worker/hstu.h. */
#ifndef WEIR_WORKER_TIME_BUCKET_H
#define WEIR_WORKER_TIME_BUCKET_H

#include <stdint.h>

/* |later - earlier| without overflow, whatever the two are. */
static inline uint64_t weir_time_distance(int64_t later, int64_t earlier) {
    return later >= earlier ? (uint64_t)later - (uint64_t)earlier
                            : (uint64_t)earlier - (uint64_t)later;
}

/* Bucket of a distance. 0 .. 128. Call: local. Threads: any. */
uint32_t weir_time_bucket_of_distance(uint64_t distance);

#endif
