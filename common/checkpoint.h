/* Checkpoint layout on disk (docs/files/checkpoint.md).
 *
 *   RUN/checkpoints/step-000000012000/
 *       dense.safetensors trainer.safetensors item.ps-0000-of-0002.safetensors ... manifest.json
 *   RUN/checkpoints/latest -> step-000000012000      RUN/checkpoints/best -> ...
 *
 * A checkpoint is written as step-...tmp and renamed when its manifest, the last file, is on disk:
 * it exists when the folder has its name and the manifest in it. The manifest names every file with
 * size and checksum. This module reads and writes manifests and names; contents belong to ps/ and
 * worker/. */
#ifndef WEIR_COMMON_CHECKPOINT_H
#define WEIR_COMMON_CHECKPOINT_H

#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WEIR_CHECKPOINT_NAME_MAX = 128 };

#define WEIR_MANIFEST_NAME "manifest.json"

typedef struct {
    char name[WEIR_CHECKPOINT_NAME_MAX]; /* letters, digits, '.', '_', '-'; no leading '.' */
    uint64_t size;                       /* bytes */
    uint64_t checksum;                   /* XXH3-64 of the whole file, or, with */
    bool blocks;   /* that, of its header and the checksums of its blocks (common/tensor_blocks.h)
                    */
    uint64_t base; /* of a file being published: the step that it builds on; 0: none */
} weir_checkpoint_file_t;

typedef struct {
    uint64_t step;      /* optimiser steps done */
    uint64_t epoch;     /* epochs done */
    uint64_t job;       /* run identity that wrote it */
    uint64_t base;      /* step of the checkpoint that it builds on; 0: none, it is *full* */
    uint64_t base_self; /* checksum of that one's manifest; publish finds it out */
    uint64_t self;      /* checksum of this manifest's text, as parsed */
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

/* Resolve `where` (a checkpoint folder, a link to one, or a run folder whose latest is meant) into
 * the real folder. A run whose `latest` is lost gives its newest. Errors: NOT_FOUND. Call: blocks.
 */
WEIR_MUST_USE weir_err_t weir_checkpoint_resolve(const char *where, char *folder, size_t capacity,
                                                 weir_error_t *error);

/* Steps of all complete checkpoints of a run, ascending; caller frees (NULL where there are none).
 * Call: blocks. */
WEIR_MUST_USE weir_err_t weir_checkpoint_list(const char *run, uint64_t **steps, size_t *count,
                                              weir_error_t *error);

/* Read and check FOLDER/manifest.json: every file is there with its size (`verify`: and checksum),
 * and so for each checkpoint of its *chain*: the one that it builds on, and so on to a full one.
 * Errors: NOT_FOUND without a manifest, CORRUPT, VERSION or UNSUPPORTED when a later weir wrote it.
 * Ownership: caller calls fini. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_manifest_read(const char *folder, bool verify,
                                            weir_manifest_t *manifest, weir_error_t *error);
/* FOLDER/manifest.json as it stands, none of its files looked at; one that is a link or a pipe is
 * CORRUPT. Errors, ownership, call as weir_manifest_read. */
WEIR_MUST_USE weir_err_t weir_manifest_load(const char *folder, weir_manifest_t *manifest,
                                            weir_error_t *error);
/* As weir_manifest_read, of this folder alone. */
WEIR_MUST_USE weir_err_t weir_manifest_read_one(const char *folder, bool verify,
                                                weir_manifest_t *manifest, weir_error_t *error);
/* The chain of a checkpoint in FOLDER, whose manifest was read: the manifests of those below it,
 * the next first, and their number; `count` 0 of a full one. Each is checked as above, and that it
 * is the one that was built upon. Ownership: caller calls weir_checkpoint_chain_free. */
WEIR_MUST_USE weir_err_t weir_checkpoint_chain_read(const char *folder, bool verify,
                                                    const weir_manifest_t *top,
                                                    weir_manifest_t **below, size_t *count,
                                                    weir_error_t *error);
void weir_checkpoint_chain_free(weir_manifest_t *below, size_t count);
/* The folder of `step`, beside FOLDER. */
WEIR_MUST_USE weir_err_t weir_checkpoint_beside(const char *folder, uint64_t step, char *beside,
                                                size_t capacity, weir_error_t *error);

/* As text, with its own checksum at the end; caller frees. INVALID where a name, a count or a text
 * cannot be written. Call: local. */
WEIR_MUST_USE weir_err_t weir_manifest_format(const weir_manifest_t *manifest, char **text,
                                              size_t *size, weir_error_t *error);
/* Parse only; `name` stands for the file in errors. Call: local. */
WEIR_MUST_USE weir_err_t weir_manifest_parse(const char *json, size_t size, const char *name,
                                             weir_manifest_t *manifest, weir_error_t *error);
/* Only that the files are in FOLDER, with their sizes (`verify`: and checksums). Call: blocks. */
WEIR_MUST_USE weir_err_t weir_manifest_check_files(const char *folder,
                                                   const weir_manifest_t *manifest, bool verify,
                                                   weir_error_t *error);
/* Frees what it owns and zeroes it. */
void weir_manifest_fini(weir_manifest_t *manifest);

/* Publishing, all by the coordinator, one checkpoint at a time. begin creates
 * RUN/checkpoints/step-N.tmp (every older step-*.tmp is removed: a crash left it) and gives its
 * path. The ranks write and sync their files in it. publish checks that they are there, writes the
 * manifest, syncs, renames, and moves `best` when asked, then `latest`: a crash between leaves a
 * best that is not yet passed; a checkpoint of the same step is replaced. Of a file with a base the
 * manifest has the base, and of several the same. prune removes checkpoints beyond the newest
 * `keep` that are neither latest nor best, nor in the chain of one that stays; the newest always
 * stays. Where one of the two links leads to no checkpoint, none is removed: CORRUPT. Call: blocks.
 */
WEIR_MUST_USE weir_err_t weir_checkpoint_begin(const char *run, uint64_t step, char *folder,
                                               size_t capacity, weir_error_t *error);
WEIR_MUST_USE weir_err_t weir_checkpoint_publish(const char *run, const weir_manifest_t *manifest,
                                                 bool best, weir_error_t *error);
WEIR_MUST_USE weir_err_t weir_checkpoint_prune(const char *run, size_t keep, weir_error_t *error);
/* The steps that prune would remove, ascending; caller frees (NULL where there are no checkpoints).
 */
WEIR_MUST_USE weir_err_t weir_checkpoint_unneeded(const char *run, size_t keep, uint64_t **unneeded,
                                                  size_t *unneeded_count, weir_error_t *error);

#endif
