/* A scratch folder for one test program: made under TMPDIR, removed with all that is in it. */
#ifndef WEIR_TESTS_SCRATCH_H
#define WEIR_TESTS_SCRATCH_H

#include <check.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct {
    char path[512];
    char joined[1024]; /* result of the last weir_scratch_path */
} weir_scratch_t;

static inline void weir_scratch_init(weir_scratch_t *scratch) {
    const char *parent = getenv("TMPDIR");
    (void)snprintf(scratch->path, sizeof scratch->path, "%s/weir-test-XXXXXX",
                   parent == NULL ? "/tmp" : parent);
    ck_assert_ptr_nonnull(mkdtemp(scratch->path));
}

/* "PATH/name", valid until the next call. */
static inline const char *weir_scratch_path(weir_scratch_t *scratch, const char *name) {
    (void)snprintf(scratch->joined, sizeof scratch->joined, "%s/%s", scratch->path, name);
    return scratch->joined;
}

static inline int weir_scratch_remove_entry(const char *path, const struct stat *about, int kind,
                                            struct FTW *level) {
    (void)about;
    (void)kind;
    (void)level;
    return remove(path);
}

static inline void weir_scratch_fini(weir_scratch_t *scratch) {
    (void)nftw(scratch->path, weir_scratch_remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

#endif
