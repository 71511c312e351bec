/* weir verify: read every byte of a checkpoint and of what it builds on, or of all of a run's. */
#include "common/checkpoint.h"
#include "common/file.h"
#include "common/log.h"
#include "common/tensor_blocks.h"
#include "ps/snapshot_file.h"
#include "tools/human.h"
#include "tools/inspect.h"
#include "tools/survey.h"
#include "tools/verbs.h"

#include <argp.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OPTION_JSON = 256 };

typedef struct {
    const char *where;
    bool json;
} arguments_t;

/* What is found on the way. */
typedef struct {
    bool json;
    json_t *problems; /* owned */
    uint64_t step;    /* looked at */
    const char *file; /* of it; NULL: all of it */
    uint64_t bytes, checkpoints;
    uint64_t *seen; /* steps looked at; owned */
    size_t seen_count;
} verify_t;

static const struct argp_option options[] = {
    {"json", OPTION_JSON, NULL, 0, "print what is found as one JSON object", 0},
    {0},
};

static error_t parse_option(int option, char *value, struct argp_state *state) {
    arguments_t *arguments = state->input;
    switch (option) {
    case OPTION_JSON:
        arguments->json = true;
        return 0;
    case ARGP_KEY_ARG:
        if (arguments->where != NULL) {
            argp_error(state, "one checkpoint or run at a time, not also \"%s\"", value);
        }
        arguments->where = value;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "WHERE is missing: the folder of a checkpoint or of a run");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* One sentence; `place` (taken, may be NULL) says the same to a program. */
static void add_problem(verify_t *verify, const char *sentence, json_t *place) {
    json_t *entry = place == NULL ? json_object() : place;
    (void)json_object_set_new(entry, "step", json_integer((json_int_t)verify->step));
    (void)json_object_set_new(entry, "problem", json_string(sentence));
    if (verify->file != NULL) {
        (void)json_object_set_new(entry, "file", json_string(verify->file));
    }
    if (!verify->json) {
        (void)printf("step %" PRIu64 ": %s%s%s\n", verify->step,
                     verify->file == NULL ? "" : verify->file, verify->file == NULL ? "" : ": ",
                     sentence);
    }
    (void)json_array_append_new(verify->problems, entry);
}

typedef struct {
    verify_t *verify;
    const weir_tensor_file_t *file;
} blocks_t;

/* Bytes of a column are of rows, and these of keys in a range of the hash order. */
static void on_bad_block(void *argument, const weir_tensor_t *tensor, uint64_t begin,
                         uint64_t end) {
    const blocks_t *blocks = argument;
    const weir_tensor_t *keys = weir_tensor_file_find(blocks->file, "keys");
    char sentence[512], rows[256] = "";
    json_t *place = json_pack("{s:s, s:I, s:I}", "tensor", tensor->name, "begin", (json_int_t)begin,
                              "end", (json_int_t)end);
    if (keys != NULL && keys->dtype == WEIR_DTYPE_U64 && keys->rank == 1 && keys->shape[0] > 0 &&
        tensor->rank >= 1 && tensor->shape[0] == keys->shape[0] &&
        strcmp(tensor->name, "removed") != 0) {
        uint64_t width = tensor->bytes / tensor->shape[0], first = begin / width;
        uint64_t last = (end - 1) / width, from, to;
        memcpy(&from, (const char *)keys->values + first * sizeof from, sizeof from);
        memcpy(&to, (const char *)keys->values + last * sizeof to, sizeof to);
        (void)snprintf(rows, sizeof rows,
                       ": rows %" PRIu64 " to %" PRIu64 ", from key %" PRIu64 " to key %" PRIu64
                       " in the order of hashes, slots %u to %u",
                       first, last, from, to, weir_slot_of_hash(weir_hash64(from)),
                       weir_slot_of_hash(weir_hash64(to)));
        (void)json_object_set_new(place, "first_row", json_integer((json_int_t)first));
        (void)json_object_set_new(place, "last_row", json_integer((json_int_t)last));
        (void)json_object_set_new(place, "first_key", weir_inspect_json_number(from));
        (void)json_object_set_new(place, "last_key", weir_inspect_json_number(to));
    }
    (void)snprintf(sentence, sizeof sentence,
                   "bytes %" PRIu64 " to %" PRIu64 " of tensor %.64s are damaged%s", begin, end - 1,
                   tensor->name, rows);
    add_problem(blocks->verify, sentence, place);
}

/* The rows of a shard are in their places. */
static weir_err_t check_rows(const char *path, uint32_t index, uint32_t shards,
                             weir_error_t *error) {
    weir_snapshot_file_t file;
    weir_err_t err = weir_snapshot_file_open(path, index, shards, &file, error);
    if (err != WEIR_OK) {
        return err;
    }
    for (weir_slot_t slot = file.first_slot; slot < file.first_slot + file.slots && err == WEIR_OK;
         slot++) {
        err = weir_snapshot_file_check_slot(&file, slot, error);
    }
    weir_snapshot_file_close(&file);
    return err;
}

/* Every byte; each bad block is a problem. The caller has checked its size and header. */
static weir_err_t check_blocks(verify_t *verify, const char *path, bool *damaged,
                               weir_error_t *error) {
    weir_tensor_file_t *file = NULL;
    weir_err_t err = weir_tensor_file_open(path, &file, error);
    if (err != WEIR_OK) {
        return err;
    }
    blocks_t blocks = {verify, file};
    weir_error_t first = {0};
    weir_tensor_file_advise(file, true);
    err = weir_tensor_blocks_verify(file, on_bad_block, &blocks, &first);
    *damaged = err != WEIR_OK;
    weir_tensor_file_close(file);
    return WEIR_OK;
}

static weir_err_t check_file(verify_t *verify, const char *folder, weir_checkpoint_file_t *listed,
                             weir_error_t *error) {
    char path[WEIR_PATH_MAX], table[WEIR_SURVEY_TABLE_NAME];
    uint32_t index, shards;
    bool damaged = false;
    weir_manifest_t alone = {.files = listed, .file_count = 1};
    weir_err_t err = weir_path_join(path, sizeof path, folder, listed->name, error);
    if (err == WEIR_OK) {
        err = weir_manifest_check_files(folder, &alone, !listed->blocks, error);
    }
    if (err == WEIR_OK && listed->blocks) {
        err = check_blocks(verify, path, &damaged, error);
    }
    if (err == WEIR_OK && !damaged &&
        weir_survey_parse_shard(listed->name, table, &index, &shards)) {
        err = check_rows(path, index, shards, error);
    }
    verify->bytes += listed->size;
    return err;
}

/* Whether a failure is the checkpoint's, not the machine's. */
static bool is_damage(weir_err_t err) {
    return err != WEIR_ERR_IO && err != WEIR_ERR_MEMORY;
}

/* A problem unless it is the machine's. */
static weir_err_t judge(verify_t *verify, weir_err_t err, weir_error_t *why, weir_error_t *error) {
    if (err == WEIR_OK) {
        return WEIR_OK;
    }
    if (!is_damage(err)) {
        return weir_errorf(error, err, "%s", why->message);
    }
    add_problem(verify, why->message, NULL);
    return WEIR_OK;
}

/* True once for each step. */
static bool is_new(verify_t *verify, uint64_t step, weir_err_t *err, weir_error_t *error) {
    for (size_t i = 0; i < verify->seen_count; i++) {
        if (verify->seen[i] == step) {
            return false;
        }
    }
    uint64_t *grown = realloc(verify->seen, (verify->seen_count + 1) * sizeof *grown);
    if (grown == NULL) {
        *err = weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a list of checkpoints");
        return false;
    }
    verify->seen = grown;
    verify->seen[verify->seen_count++] = step;
    return true;
}

/* One checkpoint, and those below it that were not looked at yet. */
static weir_err_t check_chain(verify_t *verify, const char *top, uint64_t step,
                              weir_error_t *error) {
    char folder[WEIR_PATH_MAX];
    uint64_t expected = 0; /* of the manifest, by what builds on it */
    weir_err_t err = WEIR_OK;
    (void)snprintf(folder, sizeof folder, "%s", top);
    for (bool first = true; err == WEIR_OK; first = false) {
        weir_manifest_t manifest = {0};
        weir_error_t why = {0};
        verify->file = NULL;
        weir_err_t read = weir_manifest_load(folder, &manifest, &why);
        if (read == WEIR_OK && manifest.step != step) {
            read = weir_errorf(&why, WEIR_ERR_CORRUPT, "its manifest is of step %" PRIu64,
                               manifest.step);
        }
        if (read == WEIR_OK && !first && manifest.self != expected) {
            read = weir_errorf(&why, WEIR_ERR_CORRUPT,
                               "it was replaced after others were built on it");
        }
        bool looked = !is_new(verify, step, &err, error);
        verify->step = step;
        if (err == WEIR_OK) {
            err = judge(verify, read, &why, error);
        }
        verify->checkpoints += looked ? 0 : 1;
        for (size_t i = 0; i < manifest.file_count && err == WEIR_OK && !looked; i++) {
            weir_error_t problem = {0};
            verify->file = manifest.files[i].name;
            weir_err_t found = check_file(verify, folder, &manifest.files[i], &problem);
            err = judge(verify, found, &problem, error);
        }
        step = manifest.base;
        expected = manifest.base_self;
        weir_manifest_fini(&manifest);
        if (step == 0) {
            break;
        }
        if (err == WEIR_OK) {
            err = weir_checkpoint_beside(top, step, folder, sizeof folder, error);
        }
    }
    verify->file = NULL;
    return err;
}

/* All of a run, the newest first, or one. */
static weir_err_t check_all(verify_t *verify, const char *where, weir_error_t *error) {
    char folder[WEIR_PATH_MAX], path[WEIR_PATH_MAX], name[32];
    uint64_t *steps = NULL, step = 0;
    size_t count = 0;
    weir_err_t err = weir_path_join(path, sizeof path, where, "checkpoints", error);
    if (err == WEIR_OK && weir_file_exists(path)) {
        err = weir_checkpoint_list(where, &steps, &count, error);
        for (size_t i = count; i > 0 && err == WEIR_OK; i--) {
            weir_checkpoint_step_name(steps[i - 1], name);
            err = weir_path_join(folder, sizeof folder, path, name, error);
            if (err == WEIR_OK) {
                err = check_chain(verify, folder, steps[i - 1], error);
            }
        }
        free(steps);
        return err != WEIR_OK || count > 0
                   ? err
                   : weir_errorf(error, WEIR_ERR_NOT_FOUND, "run '%s' has no checkpoint", where);
    }
    if (err == WEIR_OK) {
        err = weir_checkpoint_resolve(where, folder, sizeof folder, error);
    }
    if (err == WEIR_OK && !weir_checkpoint_parse_step(strrchr(folder, '/') + 1, &step)) {
        weir_manifest_t manifest = {0}; /* renamed by somebody: its step is what it says */
        err = weir_manifest_load(folder, &manifest, error);
        step = manifest.step;
        weir_manifest_fini(&manifest);
    }
    return err == WEIR_OK ? check_chain(verify, folder, step, error) : err;
}

static double now(void) {
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void print_summary(verify_t *verify, double seconds) {
    char bytes[32], rate[32];
    size_t problems = json_array_size(verify->problems);
    if (verify->json) {
        json_t *all = json_pack("{s:I, s:I, s:f, s:O}", "checkpoints",
                                (json_int_t)verify->checkpoints, "bytes", (json_int_t)verify->bytes,
                                "seconds", seconds, "problems", verify->problems);
        (void)json_dumpf(all, stdout, JSON_INDENT(2));
        (void)putchar('\n');
        json_decref(all);
        return;
    }
    (void)printf("%" PRIu64 " checkpoints, %s, %s/s: ", verify->checkpoints,
                 weir_human_bytes((double)verify->bytes, bytes),
                 weir_human_bytes((double)verify->bytes / (seconds > 0 ? seconds : 1), rate));
    (void)(problems == 0 ? printf("all as it was written\n") : printf("%zu problems\n", problems));
}

int weir_verb_verify(int argc, char **argv) {
    static const struct argp argp = {
        options,
        parse_option,
        "WHERE",
        "Read every byte of a checkpoint, and of those that it builds on, or of all checkpoints of "
        "a run: manifests, checksums, the order of rows. Says which file is damaged and, of a "
        "table, which rows."
        "\vExit status: 0 when all is as it was written, 4 when anything is damaged, 8 when there "
        "is nothing to verify, 3 when it cannot be read.",
        NULL,
        NULL,
        NULL};
    weir_error_t error = {0};
    arguments_t arguments = {0};
    (void)argp_parse(&argp, argc, argv, 0, NULL, &arguments);
    verify_t verify = {.json = arguments.json, .problems = json_array()};
    double begun = now();
    weir_err_t err = check_all(&verify, arguments.where, &error);
    if (err == WEIR_OK) {
        print_summary(&verify, now() - begun);
    }
    bool bad = json_array_size(verify.problems) > 0;
    json_decref(verify.problems);
    free(verify.seen);
    if (err != WEIR_OK) {
        weir_fatal(&error);
    }
    return bad ? weir_exit_status(WEIR_ERR_CORRUPT) : 0;
}
