/* Checkpoint layout on disk (docs/files/checkpoint.md).
 *
 *   RUN/checkpoints/step-000000012000/
 *       dense.safetensors trainer.safetensors item.ps-0000-of-0002.safetensors ... manifest.json
 *   RUN/checkpoints/latest -> step-000000012000      RUN/checkpoints/best -> ...
 *
 * A checkpoint is written as step-...tmp and renamed when its manifest, the last file, is on disk: it
 * exists when the folder has its name and the manifest in it. The manifest names every file with size
 * and checksum. This module reads and writes manifests and names; contents belong to ps/ and worker/. */
#ifndef WEIR_COMMON_CHECKPOINT_H
#define WEIR_COMMON_CHECKPOINT_H

#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WEIR_CHECKPOINT_NAME_MAX = 128 };

typedef struct {
    char name[WEIR_CHECKPOINT_NAME_MAX]; /* a bare file name: no '/', no leading '.' */
    uint64_t size;                       /* bytes */
    uint64_t checksum;                   /* XXH3-64 of the whole file */
} weir_checkpoint_file_t;

typedef struct {
    uint64_t step;      /* optimiser steps done */
    uint64_t epoch;     /* epochs done */
    uint64_t job;       /* run identity that wrote it */
    uint32_t ps;        /* servers that wrote it */
    uint32_t workers;
    double created;     /* seconds since 1970 */
    char version[32];   /* of weir */
    char *config_yaml;  /* whole configuration, owned */
    char *metrics_json; /* metrics of the last evaluation (a JSON object) or NULL, owned */
    weir_checkpoint_file_t *files; /* owned */
    size_t file_count;
} weir_manifest_t;

/* Folder of a step: "step-000000012000". */
void weir_checkpoint_step_name(uint64_t step, char name[32]);

/* Parse "step-000000012000"; false for any other name (".tmp" included). */
bool weir_checkpoint_parse_step(const char *name, uint64_t *step);

/* Resolve `where` (a checkpoint folder, a link to one, or a run folder whose latest is meant) into the
 * real folder. */
WEIR_MUST_USE weir_err_t weir_checkpoint_resolve(const char *where, char *folder, size_t capacity,
                                                 weir_error_t *error);

/* Steps of all complete checkpoints of a run, ascending; caller frees. */
WEIR_MUST_USE weir_err_t weir_checkpoint_list(const char *run, uint64_t **steps, size_t *count,
                                              weir_error_t *error);

/* Read and check FOLDER/manifest.json: every file is there with its size (`verify`: and checksum). */
WEIR_MUST_USE weir_err_t weir_manifest_read(const char *folder, bool verify,
                                            weir_manifest_t *manifest, weir_error_t *error);
/* Parse only; for fuzzing. */
WEIR_MUST_USE weir_err_t weir_manifest_parse(const char *json, size_t size, const char *name,
                                             weir_manifest_t *manifest, weir_error_t *error);
void weir_manifest_fini(weir_manifest_t *manifest);

/* The four steps of publishing, all by the coordinator: begin creates RUN/checkpoints/step-N.tmp (an
 * old one is removed) and gives its path; the ranks write into it; publish writes the manifest, syncs,
 * renames, and moves `latest` (and `best` when asked); prune removes checkpoints beyond the newest
 * `keep` that are neither latest nor best. */
WEIR_MUST_USE weir_err_t weir_checkpoint_begin(const char *run, uint64_t step, char *folder,
                                               size_t capacity, weir_error_t *error);
WEIR_MUST_USE weir_err_t weir_checkpoint_publish(const char *run, const weir_manifest_t *manifest,
                                                 bool best, weir_error_t *error);
WEIR_MUST_USE weir_err_t weir_checkpoint_prune(const char *run, size_t keep, weir_error_t *error);

#endif
