/* A small model of any kind with its batch, and one step of it: encode, loss, backward. For the
 * tests of the encoder. */
#ifndef WEIR_TESTS_HSTU_CASES_H
#define WEIR_TESTS_HSTU_CASES_H

#include "common/config.h"
#include "tests/unit/model_cases.h"
#include "worker/hstu.h"
#include "worker/loss.h"

enum { HSTU_CASE_ROWS = 12, HSTU_CASE_NEGATIVES = 5 };

typedef struct {
    weir_hstu_config_t config;
    weir_sequence_batch_t batch;
    weir_forward_mode_t mode;
    weir_loss_batch_t loss_batch;
    weir_negative_sharing_t sharing;
    bool embeds_users;

    size_t *offsets;
    int64_t *times, *next_times;
    uint32_t *global_tokens, *item_rows, *targets, *negatives;
    weir_real_t *parameters, *table; /* table: HSTU_CASE_ROWS x D */
    weir_real_t *user_rows;          /* B x D, in use when embeds_users */

    weir_encoder_t *encoder;
    weir_loss_t *loss;
    double value;                                       /* scale * loss_sum */
    weir_real_t *items, *encoded, *d_encoded, *d_items; /* T x D */
    weir_real_t *d_parameters, *d_table, *d_user_rows;
} hstu_case_t;

/* Users with `lengths` events each (`users` of them). Ends the test when something fails. */
hstu_case_t *hstu_case_create(const weir_hstu_config_t *config, uint64_t seed,
                              const size_t *lengths, size_t users);
void hstu_case_destroy(hstu_case_t *c);

/* Sets `encoded`. */
void hstu_case_encode(hstu_case_t *c);
/* Encode, loss and gradients at the present parameters and table: value, d_parameters, d_table and
 * d_user_rows. */
void hstu_case_step(hstu_case_t *c);

#endif
