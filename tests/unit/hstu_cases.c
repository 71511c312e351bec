#include "tests/unit/hstu_cases.h"

#include <check.h>
#include <string.h>

static void draw_events(hstu_case_t *c, case_rng_t *rng) {
    for (size_t u = 0; u < c->batch.users; u++) {
        int64_t time = 1000000000;
        uint32_t row = case_below(rng, HSTU_CASE_ROWS);
        for (size_t t = c->offsets[u]; t < c->offsets[u + 1]; t++) {
            /* gaps from nothing to a year, also equal times */
            int64_t gap = (int64_t)case_below(rng, 2 + (1u << case_below(rng, 26))) - 1;
            c->times[t] = time;
            c->item_rows[t] = row;
            time += gap > 0 ? gap : 0;
            row = case_below(rng, HSTU_CASE_ROWS);
            c->next_times[t] = time;
            c->targets[t] = row;
        }
    }
    for (size_t t = 0; t < c->batch.tokens; t++) {
        c->global_tokens[t] = (uint32_t)(1000 + 3 * t);
        for (size_t r = 0; r < HSTU_CASE_NEGATIVES; r++) {
            c->negatives[t * HSTU_CASE_NEGATIVES + r] = case_below(rng, HSTU_CASE_ROWS);
        }
    }
    if (c->batch.tokens > 0) {
        c->negatives[1] = c->targets[0]; /* whatever the seed: one that is its target */
    }
}

static void allocate(hstu_case_t *c, size_t users, size_t tokens) {
    size_t dim = c->config.embedding_dim, real = sizeof(weir_real_t);
    size_t elements = weir_encoder_parameter_elements(&c->config);
    c->offsets = case_allocate(users + 1, sizeof *c->offsets);
    c->times = case_allocate(tokens, sizeof *c->times);
    c->next_times = case_allocate(tokens, sizeof *c->next_times);
    c->global_tokens = case_allocate(tokens, sizeof *c->global_tokens);
    c->item_rows = case_allocate(tokens, sizeof *c->item_rows);
    c->targets = case_allocate(tokens, sizeof *c->targets);
    c->negatives = case_allocate((tokens + 1) * HSTU_CASE_NEGATIVES, sizeof *c->negatives);
    c->parameters = case_allocate(elements, real);
    c->d_parameters = case_allocate(elements, real);
    c->table = case_allocate(HSTU_CASE_ROWS * dim, real);
    c->d_table = case_allocate(HSTU_CASE_ROWS * dim, real);
    c->user_rows = case_allocate(users * dim, real);
    c->d_user_rows = case_allocate(users * dim, real);
    c->items = case_allocate(tokens * dim, real);
    c->d_items = case_allocate(tokens * dim, real);
    c->encoded = case_allocate(tokens * dim, real);
    c->d_encoded = case_allocate(tokens * dim, real);
}

hstu_case_t *hstu_case_create(const weir_hstu_config_t *config, uint64_t seed,
                              const size_t *lengths, size_t users) {
    case_rng_t rng = {.seed = seed};
    hstu_case_t *c = case_allocate(1, sizeof *c);
    weir_error_t error = {0};
    size_t tokens = 0;
    c->config = *config;
    for (size_t u = 0; u < users; u++) {
        tokens += lengths[u];
    }
    allocate(c, users, tokens);
    for (size_t u = 0; u < users; u++) {
        c->offsets[u + 1] = c->offsets[u] + lengths[u];
    }
    c->batch = (weir_sequence_batch_t){.users = users,
                                       .tokens = tokens,
                                       .offsets = c->offsets,
                                       .times = c->times,
                                       .next_times = c->next_times,
                                       .global_tokens = c->global_tokens};
    c->mode = (weir_forward_mode_t){.train = true, .seed = seed, .step = 7};
    draw_events(c, &rng);
    /* Larger than initial values, so that no gradient is too small to test. */
    case_fill(&rng, c->parameters, weir_encoder_parameter_elements(config), 0.3);
    case_fill(&rng, c->table, HSTU_CASE_ROWS * config->embedding_dim, 0.3);
    case_fill(&rng, c->user_rows, users * config->embedding_dim, 0.3);
    c->loss_batch = (weir_loss_batch_t){.tokens = tokens,
                                        .rows = HSTU_CASE_ROWS,
                                        .dim = config->embedding_dim,
                                        .negatives = HSTU_CASE_NEGATIVES,
                                        .targets = c->targets,
                                        .negative_rows = c->negatives,
                                        .temperature = 0.05,
                                        .scale = 1.0 / (double)(tokens + 1)};
    ck_assert_msg(weir_encoder_create(config, &c->encoder, &error) == WEIR_OK, "%s", error.message);
    ck_assert_msg(weir_loss_create(&c->loss, &error) == WEIR_OK, "%s", error.message);
    return c;
}

void hstu_case_destroy(hstu_case_t *c) {
    void *blocks[] = {c->offsets,   c->times,      c->next_times, c->global_tokens, c->item_rows,
                      c->targets,   c->negatives,  c->parameters, c->table,         c->items,
                      c->encoded,   c->d_encoded,  c->d_items,    c->d_parameters,  c->d_table,
                      c->user_rows, c->d_user_rows};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        free(blocks[i]);
    }
    weir_encoder_destroy(c->encoder);
    weir_loss_destroy(c->loss);
    free(c);
}

void hstu_case_encode(hstu_case_t *c) {
    size_t dim = c->config.embedding_dim;
    weir_error_t error = {0};
    c->batch.user_rows = c->embeds_users ? c->user_rows : NULL;
    for (size_t t = 0; t < c->batch.tokens; t++) {
        memcpy(c->items + t * dim, c->table + c->item_rows[t] * dim, dim * sizeof(weir_real_t));
    }
    ck_assert_msg(weir_encoder_forward(c->encoder, c->parameters, &c->batch, c->items, c->mode,
                                       c->encoded, &error) == WEIR_OK,
                  "%s", error.message);
}

void hstu_case_step(hstu_case_t *c) {
    size_t dim = c->config.embedding_dim;
    weir_error_t error = {0};
    double sum = 0.0;
    hstu_case_encode(c);
    static weir_loss_form_t *const losses[] = {
        [WEIR_NEGATIVES_TOKEN] = weir_loss_per_token,
        [WEIR_NEGATIVES_BATCH] = weir_loss_shared,
        [WEIR_NEGATIVES_CATALOGUE] = weir_loss_catalogue,
    };
    weir_err_t err = losses[c->sharing](c->loss, &c->loss_batch, c->encoded, c->table, &sum,
                                        c->d_encoded, c->d_table, &error);
    ck_assert_msg(err == WEIR_OK, "%s", error.message);
    ck_assert_msg(weir_encoder_backward(c->encoder, c->parameters, c->d_encoded, c->d_items,
                                        c->d_parameters, NULL, NULL, &error) == WEIR_OK,
                  "%s", error.message);
    for (size_t t = 0; t < c->batch.tokens; t++) {
        for (size_t d = 0; d < dim; d++) {
            c->d_table[c->item_rows[t] * dim + d] += c->d_items[t * dim + d];
        }
    }
    weir_encoder_user_gradients(c->encoder, c->d_user_rows);
    c->value = sum * c->loss_batch.scale;
}
