/* The encoder's activations: which buffers there are, what they take, and how a batch is cut when
 * that is more than it may be (docs/performance.md, "Memory of a step").
 *
 * A *kept* layer has buffers of its own for what its backward reads. A *recomputed* one keeps its
 * input alone: its forward runs again, just before its backward, in the buffers of the first kept
 * layer, which are free by then. The last layers are the kept ones, one at least. When even one is
 * too many, the batch is encoded in *groups* of users, one after the other, and each group is
 * encoded again before its backward (but the last, which is the first to go backward). */
#ifndef WEIR_WORKER_HSTU_MEMORY_H
#define WEIR_WORKER_HSTU_MEMORY_H

#include "worker/hstu.h"

/* What there is one of. */
typedef enum {
    WEIR_HSTU_PER_KEPT_LAYER,
    WEIR_HSTU_PER_RECOMPUTED_LAYER,
    WEIR_HSTU_PER_STEP
} weir_hstu_per_t;

typedef struct {
    const char *name; /* the member of weir_hstu_layer_t or weir_hstu */
    weir_hstu_per_t per;
    size_t token_bytes; /* bytes a token */
} weir_hstu_buffer_t;

size_t weir_hstu_memory_buffers(void); /* how many */
/* index < weir_hstu_memory_buffers. */
weir_hstu_buffer_t weir_hstu_memory_buffer(const weir_hstu_config_t *config, size_t index);

/* Bytes of all buffers, each rounded up to 64, for `tokens` with the last `kept` layers (1 to
 * blocks) kept; SIZE_MAX: more than fit. It is what the encoder lays out for them. */
size_t weir_hstu_memory_bytes(const weir_hstu_config_t *config, size_t tokens, size_t kept);

/* Users of a batch that are encoded together. */
typedef struct {
    size_t first, end; /* users */
    size_t kept;       /* layers */
} weir_hstu_group_t;

/* The groups of a batch within `budget` bytes (0: one group with every layer kept), in order:
 * the whole batch with as many layers kept as fit; else groups with all layers kept, as many
 * users in each as fit; a user for whom that is too much is a group alone, with as many layers kept
 * as fit and one at least, even over the budget: a history is never cut. `groups`: room for
 * batch->users. Returns how many; 0 of an empty batch. */
size_t weir_hstu_memory_plan(const weir_hstu_config_t *config, size_t budget,
                             const weir_sequence_batch_t *batch, weir_hstu_group_t *groups);

#endif
