/* The parts of a folder of prepared data below its writer: metadata, and the files beside the
 * events. Private to tools/dataset_writer.c and tools/dataset_files.c. */
#ifndef WEIR_TOOLS_DATASET_FILES_H
#define WEIR_TOOLS_DATASET_FILES_H

#include "common/tensor_file.h"
#include "tools/dataset_writer.h"

/* Metadata that all files have. */
WEIR_MUST_USE weir_err_t weir_dataset_files_begin(weir_tensor_writer_t *file, uint64_t users,
                                                  const weir_dataset_names_t *names,
                                                  weir_error_t *error);

/* What further columns there are, in the metadata of the events. */
WEIR_MUST_USE weir_err_t weir_dataset_files_describe(weir_tensor_writer_t *file,
                                                     const weir_dataset_columns_t *columns,
                                                     weir_error_t *error);
/* The name and the type of further column `index` of the events. */
weir_dtype_t weir_dataset_files_name(const weir_dataset_columns_t *columns, size_t index,
                                     char name[WEIR_DATASET_NAME + 16]);

/* Features of items and users, written and not yet committed; no file (NULL as it was) when there
 * are none. `columns` may be NULL. */
WEIR_MUST_USE weir_err_t weir_dataset_files_features(const char *path, uint64_t users,
                                                     const weir_dataset_columns_t *columns,
                                                     const weir_dataset_names_t *names,
                                                     weir_tensor_writer_t **out,
                                                     weir_error_t *error);

/* The dictionary, written and not yet committed. `columns` may be NULL. */
WEIR_MUST_USE weir_err_t weir_dataset_files_dictionary(const char *path, uint64_t users,
                                                       const weir_dataset_columns_t *columns,
                                                       const weir_dataset_names_t *names,
                                                       weir_tensor_writer_t **out,
                                                       weir_error_t *error);

#endif
