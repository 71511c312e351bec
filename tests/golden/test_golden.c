/* Every *.safetensors in $WEIR_GOLDEN_DIR (default: the repository's own) through the model. A file
 * of another model is skipped and counted as skipped. No file that ran, a file that cannot be read
 * or is not what it claims, or a difference over the tolerance: failure. WEIR_GOLDEN_COMPUTE=bf16:
 * in bfloat16. */
#include "tests/golden/golden_run.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_SIZE = 4096 };

typedef enum { PASSED, SKIPPED, FAILED } outcome_t;

static int is_golden(const struct dirent *entry) {
    static const char ending[] = ".safetensors";
    size_t length = strlen(entry->d_name), end = sizeof ending - 1;
    return length > end && strcmp(entry->d_name + length - end, ending) == 0;
}

static outcome_t run_file(const char *path, bool bf16) {
    weir_tensor_file_t *file = NULL;
    golden_case_t golden = {0};
    golden_report_t report = {0};
    weir_error_t error = {0};
    outcome_t outcome = FAILED;
    const char *model;
    if (weir_tensor_file_open(path, &file, &error) != WEIR_OK) {
        goto out;
    }
    model = golden_model(file);
    if (model == NULL) {
        (void)weir_errorf(&error, WEIR_ERR_CORRUPT, "'%s' does not say which model it is of", path);
        goto out;
    }
    if (strcmp(model, "stu_layer") == 0) {
        if (golden_run_stu(file, bf16, &report, &error) != WEIR_OK) {
            goto out;
        }
    } else if (strcmp(model, "hstu") == 0 || strcmp(model, "sasrec") == 0) {
        if (golden_load(file, &golden, &error) != WEIR_OK) {
            goto out;
        }
        golden.config.bf16 = bf16;
        if (golden_run(&golden, &report, &error) != WEIR_OK) {
            goto out;
        }
    } else {
        (void)printf("%s: skipped: model %.64s\n", path, model);
        outcome = SKIPPED;
        goto out;
    }
    outcome = report.failed == 0 && report.compared > 0 ? PASSED : FAILED;
    (void)printf("%s: %s: %zu of %zu tensors differ; largest error %.3g, of %s\n", path,
                 outcome == PASSED ? "passed" : "FAILED", report.failed, report.compared,
                 report.worst, report.worst_name);
out:
    if (error.code != WEIR_OK) {
        (void)printf("%s: FAILED: %s\n", path, error.message);
    }
    golden_fini(&golden);
    weir_tensor_file_close(file);
    return outcome;
}

int main(void) {
    const char *chosen = getenv("WEIR_GOLDEN_DIR");
    const char *folder = chosen != NULL && chosen[0] != '\0' ? chosen : WEIR_GOLDEN_DEFAULT;
    const char *compute = getenv("WEIR_GOLDEN_COMPUTE");
    bool bf16 = compute != NULL && strcmp(compute, "bf16") == 0;
    struct dirent **entries = NULL;
    size_t outcomes[FAILED + 1] = {0};
    int count = scandir(folder, &entries, is_golden, alphasort);
    if (count < 0) {
        (void)printf("cannot read the folder %s\n", folder);
        return EXIT_FAILURE;
    }
    for (int i = 0; i < count; i++) {
        char path[PATH_SIZE];
        int length = snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
        if (length < 0 || (size_t)length >= sizeof path) {
            (void)printf("%s: FAILED: the path is too long\n", entries[i]->d_name);
            outcomes[FAILED]++;
        } else {
            outcomes[run_file(path, bf16)]++;
        }
        free(entries[i]);
    }
    free(entries);
    (void)printf("golden %s: %zu passed, %zu skipped, %zu failed\n", bf16 ? "bf16" : WEIR_REAL_NAME,
                 outcomes[PASSED], outcomes[SKIPPED], outcomes[FAILED]);
    return outcomes[FAILED] == 0 && outcomes[PASSED] > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
