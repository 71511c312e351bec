/* checkpoint_digest FOLDER: one line a tensor, "name rows checksum", over all files of a
 * checkpoint; a table's shards count as one tensor in slot order. Two checkpoints hold the same
 * state, whatever the number of servers, when their lines are equal. Metadata (times) does not
 * count. */
#include "common/checkpoint.h"
#include "common/file.h"
#include "common/hash.h"
#include "common/log.h"
#include "common/tensor_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LINES = 4096 };

typedef struct {
    char name[192];
    uint64_t rows, checksum;
} line_t;

static line_t lines[MAX_LINES];
static size_t line_count;

static line_t *line_of(const char *name) {
    for (size_t i = 0; i < line_count; i++) {
        if (strcmp(lines[i].name, name) == 0) {
            return &lines[i];
        }
    }
    if (line_count == MAX_LINES) {
        (void)fprintf(stderr, "too many tensors\n");
        exit(1);
    }
    (void)snprintf(lines[line_count].name, sizeof lines[line_count].name, "%s", name);
    return &lines[line_count++];
}

/* Row by row, so that the sum over shards is that of the whole. */
static void add_tensor(const char *prefix, const weir_tensor_t *tensor) {
    char name[192];
    (void)snprintf(name, sizeof name, "%s%s", prefix, tensor->name);
    line_t *line = line_of(name);
    uint64_t rows = tensor->rank > 0 ? tensor->shape[0] : 1;
    size_t row_bytes = rows > 0 ? (size_t)(tensor->bytes / rows) : 0;
    for (uint64_t row = 0; row < rows; row++) {
        line->checksum = weir_checksum((const char *)tensor->values + row * row_bytes, row_bytes,
                                       line->checksum);
    }
    line->rows += rows;
}

static weir_err_t add_file(const char *folder, const char *name, weir_error_t *error) {
    char path[WEIR_PATH_MAX], prefix[WEIR_CHECKPOINT_NAME_MAX];
    weir_tensor_file_t *file = NULL;
    weir_err_t err = weir_path_join(path, sizeof path, folder, name, error);
    if (err == WEIR_OK) {
        err = weir_tensor_file_open(path, &file, error);
    }
    if (err != WEIR_OK) {
        return err;
    }
    (void)snprintf(prefix, sizeof prefix, "%s", name);
    char *dot = strchr(prefix, '.'); /* item.ps-0000-of-0002.safetensors: the table's name */
    if (dot != NULL) {
        (void)snprintf(dot, sizeof prefix - (size_t)(dot - prefix), "/");
    }
    for (size_t i = 0; i < weir_tensor_file_count(file); i++) {
        const weir_tensor_t *tensor = weir_tensor_file_at(file, i);
        /* These differ with the number of servers. */
        if (strcmp(tensor->name, "slot_offsets") != 0 &&
            strcmp(tensor->name, "block_checksums") != 0) {
            add_tensor(prefix, tensor);
        }
    }
    weir_tensor_file_close(file);
    return WEIR_OK;
}

static int compare_files(const void *a, const void *b) {
    return strcmp(((const weir_checkpoint_file_t *)a)->name,
                  ((const weir_checkpoint_file_t *)b)->name);
}

static int compare_lines(const void *a, const void *b) {
    return strcmp(((const line_t *)a)->name, ((const line_t *)b)->name);
}

int main(int argc, char **argv) {
    weir_error_t error = {0};
    weir_manifest_t manifest = {0};
    char folder[WEIR_PATH_MAX];
    weir_log_init("checkpoint_digest", -1, WEIR_LOG_WARN);
    if (argc != 2) {
        (void)fprintf(stderr, "usage: checkpoint_digest FOLDER\n");
        return 2;
    }
    if (weir_checkpoint_resolve(argv[1], folder, sizeof folder, &error) != WEIR_OK ||
        weir_manifest_read(folder, true, &manifest, &error) != WEIR_OK) {
        weir_fatal(&error);
    }
    qsort(manifest.files, manifest.file_count, sizeof *manifest.files, compare_files);
    for (size_t i = 0; i < manifest.file_count; i++) {
        if (add_file(folder, manifest.files[i].name, &error) != WEIR_OK) {
            weir_fatal(&error);
        }
    }
    qsort(lines, line_count, sizeof *lines, compare_lines);
    (void)printf("step %llu\n", (unsigned long long)manifest.step);
    for (size_t i = 0; i < line_count; i++) {
        (void)printf("%s %llu %016llx\n", lines[i].name, (unsigned long long)lines[i].rows,
                     (unsigned long long)lines[i].checksum);
    }
    weir_manifest_fini(&manifest);
    return 0;
}
