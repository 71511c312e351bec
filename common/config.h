/* Configuration: one table of keys (common/config_keys.def) makes the parser, the range checks,
 * `--help`, the reference page and the example file.
 *
 * Sources, later over earlier: default < YAML file < environment (WEIR_MODEL_HEADS for model.heads)
 * < `--set key=value`. An unknown key, a wrong type or a value out of range is refused with file
 * and line and what was expected. */
#ifndef WEIR_COMMON_CONFIG_H
#define WEIR_COMMON_CONFIG_H

#include "common/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { WEIR_CONFIG_TEXT = 1024 };

typedef enum {
    WEIR_NEGATIVES_TOKEN,
    WEIR_NEGATIVES_BATCH,
    WEIR_NEGATIVES_CATALOGUE
} weir_negative_sharing_t;
typedef enum {
    WEIR_OPTIMIZER_SGD,
    WEIR_OPTIMIZER_MOMENTUM,
    WEIR_OPTIMIZER_NESTEROV,
    WEIR_OPTIMIZER_ADAGRAD,
    WEIR_OPTIMIZER_ROWWISE_ADAGRAD,
    WEIR_OPTIMIZER_ADAM,
    WEIR_OPTIMIZER_ADAMW,
    WEIR_OPTIMIZER_ROWWISE_ADAMW,
    WEIR_OPTIMIZER_FTRL,
    WEIR_OPTIMIZER_GROUP_FTRL,
    WEIR_OPTIMIZER_GROUP_ADAGRAD,
    WEIR_OPTIMIZER_GROUP_ADAM,
    WEIR_OPTIMIZER_COUNT
} weir_optimizer_kind_t;
/* How the learning rate falls after its warm-up (ps/schedule.h). */
typedef enum {
    WEIR_SCHEDULE_CONSTANT,
    WEIR_SCHEDULE_COSINE,
    WEIR_SCHEDULE_INVERSE_SQRT,
    WEIR_SCHEDULE_EXPONENTIAL,
    WEIR_SCHEDULE_STEP,
    WEIR_SCHEDULE_COUNT
} weir_schedule_kind_t;
/* What a row's gradient with a NaN or an infinity does: nothing, or end the job. */
typedef enum { WEIR_NOT_FINITE_SKIP, WEIR_NOT_FINITE_FATAL } weir_not_finite_t;
typedef enum {
    WEIR_PRECISION_F32,
    WEIR_PRECISION_BF16,
    WEIR_PRECISION_F16,
    WEIR_PRECISION_INT8,
    WEIR_PRECISION_SPLIT_BF16,
    WEIR_PRECISION_COUNT
} weir_precision_t;
typedef enum {
    WEIR_ADMISSION_ALL,
    WEIR_ADMISSION_PROBABILITY,
    WEIR_ADMISSION_FREQUENCY,
    WEIR_ADMISSION_COUNT
} weir_admission_kind_t;
typedef enum {
    WEIR_INITIALIZER_TRUNCATED_NORMAL, /* at two sigma */
    WEIR_INITIALIZER_UNIFORM,          /* in [-scale, scale) */
    WEIR_INITIALIZER_CONSTANT,
    WEIR_INITIALIZER_COUNT
} weir_initializer_t;
typedef enum {
    WEIR_EVICTION_LRU, /* least recently used rows first */
    WEIR_EVICTION_LFU, /* least often updated rows first */
    WEIR_EVICTION_COUNT
} weir_eviction_kind_t;
/* What a pull may miss of the steps before it (docs/files/ps-frames.md). */
typedef enum {
    WEIR_CONSISTENCY_BSP,
    WEIR_CONSISTENCY_SSP,
    WEIR_CONSISTENCY_ASP,
    WEIR_CONSISTENCY_COUNT
} weir_consistency_t;

typedef enum { WEIR_ORDER_SHUFFLED, WEIR_ORDER_STREAM, WEIR_ORDER_COUNT } weir_order_t;

/* model.kind, in the order of its choices and of worker/encoder.h. */
typedef enum {
    WEIR_MODEL_HSTU,
    WEIR_MODEL_SASREC,
    WEIR_MODEL_GRU4REC,
    WEIR_MODEL_BERT4REC,
    WEIR_MODEL_RANKING, /* no encoder: last */
    WEIR_MODEL_COUNT
} weir_model_kind_t;

/* model.similarity, in the order of its choices. */
typedef enum {
    WEIR_SIMILARITY_DOT,
    WEIR_SIMILARITY_MIXTURE,
    WEIR_SIMILARITY_COUNT
} weir_similarity_choice_t;

/* ranking.tokens, in the order of its choices. */
typedef enum { WEIR_TOKENS_INTERLEAVED, WEIR_TOKENS_SUMMED, WEIR_TOKENS_COUNT } weir_tokens_t;

/* model.attention, in the order of its choices. */
typedef enum {
    WEIR_ATTENTION_SILU,
    WEIR_ATTENTION_SOFTMAX,
    WEIR_ATTENTION_COUNT
} weir_attention_weights_t;

/* train.compute, in the order of its choices. */
typedef enum { WEIR_COMPUTE_FLOAT32, WEIR_COMPUTE_BF16, WEIR_COMPUTE_COUNT } weir_compute_t;

/* One table of rows. */
typedef struct {
    int64_t optimizer; /* weir_optimizer_kind_t */
    double learning_rate;
    double beta1;
    double beta2;
    double epsilon;
    double weight_decay;
    double l1;
    double l2;
    double group_l1; /* of the row as a whole */
    double beta;     /* FTRL */
    double clip_value;
    double clip_norm;
    int64_t schedule; /* weir_schedule_kind_t */
    int64_t warmup_steps;
    int64_t decay_steps;
    double schedule_floor;
    double schedule_rate;
    int64_t not_finite;  /* weir_not_finite_t */
    int64_t initializer; /* weir_initializer_t */
    double initial_sigma;
    int64_t precision; /* weir_precision_t */
    int64_t rounding;  /* 0: stochastic, 1: nearest */
    double memory_mib; /* over all servers; 0: no limit */
    int64_t eviction;  /* weir_eviction_kind_t */
    int64_t ttl;       /* steps; 0: never */
    int64_t admission; /* weir_admission_kind_t */
    double admission_probability;
    int64_t admission_threshold; /* steps */
    int64_t admission_window;    /* steps; 0: never */
    int64_t admission_counters;
    char cold_folder[WEIR_CONFIG_TEXT];
    double cold_cache_mib;
    int64_t worker_cache_rows; /* 0: none */
} weir_config_table_t;

/* Names match the keys: model.embedding_dim is model.embedding_dim. */
typedef struct {
    struct {
        char path[WEIR_CONFIG_TEXT]; /* folder that `weir prepare` or `weir synth` wrote */
    } data;
    struct {
        int64_t kind;          /* weir_model_kind_t */
        int64_t embedding_dim; /* D */
        int64_t blocks;
        int64_t heads;               /* H */
        int64_t dqk;                 /* per head */
        int64_t dv;                  /* per head */
        int64_t hidden_dim;          /* of feed-forward layers or states; 0: D */
        int64_t max_sequence_length; /* events of history */
        int64_t output_length;       /* N = max_sequence_length + output_length */
        int64_t attention;           /* weir_attention_weights_t, of hstu */
        double input_dropout;
        double layer_dropout;
        bool position_bias;  /* pos[] in the attention score */
        bool time_bias;      /* time[] in the attention score */
        bool user_embedding; /* a row for each user, added to the input of its tokens */
        bool item_bias;      /* a number for each item, added to its logit */
        int64_t similarity;  /* weir_similarity_choice_t */
    } model;
    struct { /* with model.similarity: mixture; worker/mixture.h */
        int64_t query_parts, item_parts, width, hidden, gate_hidden;
        double dropout;
    } mixture;
    struct {
        int64_t tokens; /* weir_tokens_t */
        int64_t hidden; /* width of the body of the heads */
        bool direct;    /* a linear path from the input to the heads */
        int64_t positions, time_buckets;
        bool user_token;
        int64_t window;      /* 0: none */
        int64_t max_targets; /* events of a session */
        int64_t session_gap; /* seconds */
        int64_t history_gap; /* seconds */
        int64_t test_from;   /* seconds since 1970; 0: the last session of each user */
        bool features;
        char tasks[1024];          /* "click, like=0.5"; empty: all actions */
        double stochastic_length;  /* alpha; 0: off */
        int64_t stochastic_choice; /* weir_length_choice_t */
        double positive;
    } ranking;
    struct {
        int64_t negatives;       /* R */
        int64_t sharing;         /* weir_negative_sharing_t */
        double mask_probability; /* of an event, with bert4rec */
        double temperature;
    } loss;
    struct { /* dense parameters: AdamW */
        double learning_rate;
        double beta1;
        double beta2;
        double epsilon;
        double weight_decay;
    } dense;
    weir_config_table_t sparse; /* of items */
    weir_config_table_t
        item_bias;            /* with model.item_bias: the keys of a segment alone, else zero */
    weir_config_table_t user; /* of users, with model.user_embedding */
    struct {
        int64_t seed;
        int64_t batch_users;   /* users a global batch, over all workers */
        int64_t order;         /* weir_order_t */
        int64_t stream_window; /* seconds */
        int64_t epochs;
        int64_t max_steps;        /* 0: no limit */
        int64_t log_every;        /* steps between lines */
        bool tensorboard;         /* event files beside metrics.jsonl */
        int64_t checkpoint_every; /* steps; 0: only at the end and on request */
        bool checkpoint_in_background;
        int64_t checkpoint_full_every; /* checkpoints of which one is full; 1: all */
        int64_t keep_checkpoints;      /* newest kept beside best and latest */
        int64_t consistency;           /* weir_consistency_t */
        int64_t compute;               /* weir_compute_t */
        int64_t staleness;             /* ssp: steps that a pull may miss; else 0 */
        int64_t pull_ahead;            /* pulls sent before their turn */
        int64_t threads;               /* of a worker; 0: as many as it may use processors */
        int64_t activation_mib;        /* of a worker's activations; 0: no limit */
        int64_t trace_steps;           /* whose timeline is recorded; 0: none */
    } train;
    struct {
        int64_t every_epochs; /* 0: not by epoch */
        bool rank_known;      /* items of the history are ranked too */
        int64_t every_steps;  /* 0: not by step */
        bool validation;      /* hold out the event before the target, choose the epoch on it */
        int64_t patience;     /* evaluations without gain before training stops; 0: never */
        char metric[32];      /* chooses the best checkpoint: "ndcg@10", "hr@10", "mrr", ... */
        int64_t batch_users;  /* users scored at a time on one worker */
        int64_t test_from;    /* seconds since 1970; 0: the last event of each user */
        bool full;            /* lists too, with `weir eval` */
        char cutoffs[128];    /* the k's of lists: "1,10,50,200" */
        bool users;           /* a file of each user's rank, with `weir eval` */
    } eval;
    struct {
        int64_t ps; /* servers */
        int64_t workers;
        char bind[128];            /* control socket: host or interface address, or "*" */
        int64_t port;              /* 0: any free one */
        char metrics_address[128]; /* "host:port" of the metrics page; empty: none */
        char ps_hosts[1024];       /* "a,b,c": where `weir train` places them; both or none */
        char worker_hosts[1024];
        char interface[256];  /* that MPI uses: "eth0", "10.1.0.0/16"; empty: all */
        char ports[32];       /* "FIRST-LAST" that MPI listens on; empty: any */
        bool curve;           /* the control plane is encrypted, and for ranks of the job alone */
        double timeout;       /* seconds that a wait for another rank may last */
        double hang_timeout;  /* seconds without progress until the job is ended; 0: see
                                 weir_config_hang_seconds */
        int64_t max_restarts; /* of a job that failed, without a new checkpoint */
        double heartbeat;     /* seconds between heartbeats */
    } cluster;
} weir_config_t;

/* cluster.hang_timeout, or what its 0 stands for. Call: local. */
double weir_config_hang_seconds(const weir_config_t *config);

/* All defaults. */
void weir_config_defaults(weir_config_t *config);

/* Defaults, then `path` (NULL: none), then the environment, then `sets` ("key=value", count of
 * them); then the checks that span keys. Call: blocks. Threads: any. */
WEIR_MUST_USE weir_err_t weir_config_load(const char *path, const char *const *sets,
                                          size_t set_count, weir_config_t *config,
                                          weir_error_t *error);

/* As load, with the YAML in memory and without the environment; `name` stands for the file in
 * errors. For tests, fuzzing and checkpoints, whose configuration must not change with who reads
 * it. */
WEIR_MUST_USE weir_err_t weir_config_load_text(const char *yaml, size_t size, const char *name,
                                               const char *const *sets, size_t set_count,
                                               weir_config_t *config, weir_error_t *error);

/* The whole configuration as YAML that load reads back to the same values. Caller frees. */
WEIR_MUST_USE weir_err_t weir_config_to_yaml(const weir_config_t *config, char **yaml,
                                             weir_error_t *error);

/* Equal configurations have equal digests. `model_only`: only what a checkpoint must agree with
 * (model.*, optimisers and precisions of tables): a resume may change the rest. */
uint64_t weir_config_digest(const weir_config_t *config, bool model_only);

/* One value as text by its dotted key, into `out`; false when there is no such key. */
bool weir_config_get_text(const weir_config_t *config, const char *key, char *out, size_t capacity);

/* The dotted name of the key at `index` in the order of the reference; NULL past the last. */
const char *weir_config_key_name(size_t index);

/* "adamw", "rowwise_adagrad", ...; "unknown" for a value that is none. */
const char *weir_optimizer_name(weir_optimizer_kind_t kind);

/* The reference, one row a key: key, type, default, range, meaning. As plain text for `--help`, as
 * Markdown for docs/configuration.md. */
void weir_config_print_reference(FILE *stream, bool markdown);

#endif
