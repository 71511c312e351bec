#include "worker/hstu_memory.h"

#include "worker/hstu_internal.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Columns of a buffer. */
typedef enum { ONE, WIDTH, GATED, PROJECTED } columns_t; /* 1, D, H dv, P */

typedef struct {
    const char *name;
    weir_hstu_per_t per;
    columns_t columns;
    size_t place; /* of the pointer: in weir_hstu_layer_t, or of a step's in weir_hstu */
} piece_t;

#define KEPT(member, columns)                                                                      \
    { #member, WEIR_HSTU_PER_KEPT_LAYER, columns, offsetof(weir_hstu_layer_t, member) }
#define RECOMPUTED(member, columns)                                                                \
    { #member, WEIR_HSTU_PER_RECOMPUTED_LAYER, columns, offsetof(weir_hstu_layer_t, member) }
#define STEP(member, columns)                                                                      \
    { #member, WEIR_HSTU_PER_STEP, columns, offsetof(struct weir_hstu, member) }

/* The layout follows it, and so does all that is said about it. */
static const piece_t pieces[] = {
    KEPT(normalised, WIDTH),    KEPT(inverses, ONE),          KEPT(projected, PROJECTED),
    KEPT(attended, GATED),      KEPT(attended_inverses, ONE), KEPT(gated, GATED),
    RECOMPUTED(input, WIDTH),   STEP(stream, WIDTH),          STEP(norms, ONE),
    STEP(activated, PROJECTED), STEP(d_stream, WIDTH),        STEP(d_activated, PROJECTED),
    STEP(d_normalised, WIDTH),  STEP(d_gated, GATED),
};
enum { PIECES = sizeof pieces / sizeof *pieces };

static size_t columns_of(const weir_hstu_config_t *config, columns_t columns) {
    switch (columns) {
    case WIDTH:
        return config->embedding_dim;
    case GATED:
        return config->heads * config->dv;
    case PROJECTED:
        return weir_hstu_projection_width(config);
    case ONE:
    default:
        return 1;
    }
}

size_t weir_hstu_memory_buffers(void) {
    return PIECES;
}

weir_hstu_buffer_t weir_hstu_memory_buffer(const weir_hstu_config_t *config, size_t index) {
    const piece_t *piece = &pieces[index];
    return (weir_hstu_buffer_t){.name = piece->name,
                                .per = piece->per,
                                .token_bytes =
                                    columns_of(config, piece->columns) * sizeof(weir_real_t)};
}

/* Take the pieces of one `per`, and set their pointers in `owner` (NULL: only count). */
static void take(weir_workspace_t *workspace, const weir_hstu_config_t *config, size_t tokens,
                 weir_hstu_per_t per, void *owner) {
    for (size_t i = 0; i < PIECES; i++) {
        if (pieces[i].per != per) {
            continue;
        }
        weir_hstu_buffer_t buffer = weir_hstu_memory_buffer(config, i);
        weir_real_t *piece = weir_workspace_take(workspace, tokens, buffer.token_bytes);
        if (owner != NULL) {
            memcpy((unsigned char *)owner + pieces[i].place, &piece, sizeof piece);
        }
    }
}

/* `hstu` NULL: only count. */
static void lay_out(weir_workspace_t *workspace, const weir_hstu_config_t *config, size_t tokens,
                    size_t kept, weir_hstu_t *hstu) {
    size_t first_kept = config->blocks - kept;
    for (size_t l = first_kept; l < config->blocks; l++) {
        weir_hstu_layer_t *layer = hstu != NULL ? &hstu->layers[l] : NULL;
        take(workspace, config, tokens, WEIR_HSTU_PER_KEPT_LAYER, layer);
        if (layer != NULL) {
            layer->input = NULL;
        }
    }
    for (size_t l = 0; l < first_kept; l++) {
        weir_hstu_layer_t *layer = hstu != NULL ? &hstu->layers[l] : NULL;
        if (layer != NULL) {
            *layer = hstu->layers[first_kept];
        }
        take(workspace, config, tokens, WEIR_HSTU_PER_RECOMPUTED_LAYER, layer);
    }
    take(workspace, config, tokens, WEIR_HSTU_PER_STEP, hstu);
}

size_t weir_hstu_memory_bytes(const weir_hstu_config_t *config, size_t tokens, size_t kept) {
    weir_workspace_t measure = {0};
    weir_workspace_begin(&measure);
    lay_out(&measure, config, tokens, kept, NULL);
    return measure.overflow ? SIZE_MAX : measure.used;
}

weir_err_t weir_hstu_memory_reserve(weir_hstu_t *hstu, size_t tokens, size_t kept,
                                    weir_error_t *error) {
    weir_workspace_begin(&hstu->workspace);
    lay_out(&hstu->workspace, &hstu->config, tokens, kept, NULL);
    weir_err_t err = weir_workspace_reserve(&hstu->workspace, "the encoder's activations", error);
    if (err == WEIR_OK) {
        lay_out(&hstu->workspace, &hstu->config, tokens, kept, hstu);
    }
    return err;
}

/* The most layers that fit; 1 when none does. */
static size_t layers_that_fit(const weir_hstu_config_t *config, size_t budget, size_t tokens) {
    size_t kept = config->blocks;
    while (kept > 1 && weir_hstu_memory_bytes(config, tokens, kept) > budget) {
        kept--;
    }
    return kept;
}

size_t weir_hstu_memory_plan(const weir_hstu_config_t *config, size_t budget,
                             const weir_sequence_batch_t *batch, weir_hstu_group_t *groups) {
    size_t count = 0, blocks = config->blocks;
    if (batch->users == 0) {
        return 0;
    }
    if (budget == 0 || weir_hstu_memory_bytes(config, batch->tokens, 1) <= budget) {
        size_t kept = budget == 0 ? blocks : layers_that_fit(config, budget, batch->tokens);
        groups[0] = (weir_hstu_group_t){.first = 0, .end = batch->users, .kept = kept};
        return 1;
    }
    for (size_t first = 0, end; first < batch->users; first = end) {
        size_t begin = batch->offsets[first];
        for (end = first + 1; end < batch->users; end++) {
            size_t tokens = batch->offsets[end + 1] - begin;
            if (weir_hstu_memory_bytes(config, tokens, blocks) > budget) {
                break;
            }
        }
        size_t kept = layers_that_fit(config, budget, batch->offsets[end] - begin);
        groups[count++] = (weir_hstu_group_t){.first = first, .end = end, .kept = kept};
    }
    return count;
}
