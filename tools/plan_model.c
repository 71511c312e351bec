#include "tools/plan_model.h"

#include "ps/table.h"

#include <math.h>

enum { KEY_BYTES = 8, SNAPSHOT_BYTES = 3 * 8 /* key, last step and count of a row on disk */ };

/* The integral of x^-s from a to b. */
static double power_integral(double s, double a, double b) {
    return fabs(s - 1.0) < 1e-9 ? log(b / a) : (pow(b, 1.0 - s) - pow(a, 1.0 - s)) / (1.0 - s);
}

double weir_plan_distinct(double n, double skew, double draws) {
    enum { STEPS = 20000, ALONE = 1000 /* ranks that are summed one by one */ };
    if (n < 1.0 || draws <= 0.0) {
        return 0.0;
    }
    double alone = fmin(floor(n), ALONE), low = alone + 0.5, high = n + 0.5;
    double total = low < high ? power_integral(skew, low, high) : 0.0, distinct = 0.0;
    for (double k = 1.0; k <= alone; k++) {
        total += pow(k, -skew);
    }
    for (double k = 1.0; k <= alone; k++) {
        distinct += -expm1(-draws * pow(k, -skew) / total);
    }
    /* Beyond, rank k stands for [k - 1/2, k + 1/2]. */
    double ratio = pow(high / low, 1.0 / STEPS);
    for (int i = 0; i < STEPS && low < high; i++) {
        double end = low * ratio, middle = sqrt(low * end);
        distinct += (end - low) * -expm1(-draws * pow(middle, -skew) / total);
        low = end;
    }
    return distinct;
}

static double keys_of_ranking(const weir_config_t *config, const weir_plan_input_t *input) {
    double users = (double)config->train.batch_users / input->workers;
    double events = users * (input->mean_length + (double)config->ranking.max_targets);
    double keys = weir_plan_distinct(input->rows, input->skew, events * (1.0 + input->features));
    return keys + (config->ranking.user_token ? users : 0.0);
}

static double keys_of_worker(const weir_config_t *config, const weir_plan_input_t *input) {
    double tokens = (double)config->train.batch_users * input->mean_length / input->workers;
    double negatives = (double)config->loss.negatives;
    if (config->loss.sharing == WEIR_NEGATIVES_TOKEN) {
        negatives *= tokens;
    }
    double popular = weir_plan_distinct(input->rows, input->skew, tokens);
    double uniform = -input->rows * expm1(-negatives / input->rows);
    if (config->loss.sharing == WEIR_NEGATIVES_CATALOGUE) {
        uniform = input->rows;
    }
    /* Of the popular ones some are among the uniform. */
    return uniform + popular * (1.0 - uniform / input->rows);
}

weir_plan_t weir_plan_make(const weir_config_t *config, const weir_row_schema_t *schema,
                           const weir_plan_input_t *input) {
    const weir_plan_constants_t *constants = &input->constants;
    weir_row_layout_t layout = weir_row_layout(schema);
    weir_plan_t plan = {.parameters = input->rows * layout.dim,
                        .row_bytes = weir_table_row_bytes(schema),
                        .record_bytes = layout.record_bytes};
    plan.memory = input->rows * plan.row_bytes;
    double room = input->node_memory * input->usable;
    plan.servers = input->servers > 0.0 ? input->servers : ceil(plan.memory / room);
    plan.servers = plan.servers < 1.0 ? 1.0 : plan.servers;
    plan.server_memory = plan.memory / plan.servers;
    plan.server_rows = input->rows / plan.servers;
    plan.fits = plan.server_memory <= room && plan.servers <= WEIR_SLOT_COUNT;
    plan.keys = config->model.kind == WEIR_MODEL_RANKING ? keys_of_ranking(config, input)
                                                         : keys_of_worker(config, input);
    plan.server_keys = plan.keys * input->workers / plan.servers;
    double row_traffic = KEY_BYTES + layout.value_bytes + layout.dim * 4.0;
    plan.worker_bytes = plan.keys * row_traffic;
    plan.server_bytes = plan.server_keys * row_traffic;
    plan.compute_seconds =
        plan.server_keys / constants->pulled_rows + plan.server_keys / constants->updated_rows;
    /* The larger way of the two: keys and gradients in, or rows out. */
    double in = KEY_BYTES + layout.dim * 4.0, out = layout.value_bytes;
    plan.network_seconds = plan.server_keys * (in > out ? in : out) / constants->network;
    plan.step_seconds = plan.compute_seconds + plan.network_seconds;
    plan.checkpoint_bytes = input->rows * (layout.record_bytes + SNAPSHOT_BYTES);
    plan.checkpoint_seconds = plan.checkpoint_bytes / plan.servers / constants->disk;
    return plan;
}
