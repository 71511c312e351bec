/* What tools/rewrite.c and tools/rewrite_shard.c share. */
#ifndef WEIR_TOOLS_REWRITE_INTERNAL_H
#define WEIR_TOOLS_REWRITE_INTERNAL_H

#include "ps/row.h"
#include "ps/snapshot_chain.h"
#include "tools/rewrite.h"

/* How the rows from elsewhere become rows of their table. */
typedef struct {
    weir_row_schema_t schema;
    weir_row_layout_t layout;
    const weir_rewrite_row_t *rows; /* in the order of hashes */
    size_t count;
    char *record;   /* of one; owned */
    float *scratch; /* 2 layout.dim; owned */
    uint64_t replaced;
} weir_rewrite_import_t;

/* One shard of one table, of all rows of its slots; fills `file`, adds to *rows. `import` may be
 * NULL. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_rewrite_shard(const char *source, const weir_manifest_t *manifest,
                                            const char *table, uint32_t index, uint32_t servers,
                                            weir_rewrite_import_t *import, const char *folder,
                                            weir_checkpoint_file_t *file, uint64_t *rows,
                                            weir_error_t *error);

#endif
