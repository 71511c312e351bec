/* The reader. Order of checks: size and header length, JSON, each tensor by itself, then all of
 * them together: in order of offset they must cover the data exactly. Names and metadata stay in
 * the parsed header, which lives as long as the file. */
#include "common/tensor_file.h"

#include "common/file.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Room for a hundred thousand tensors. The reference implementation takes 100 MB; but parsed JSON
 * is up to twenty times its text, and a hostile file must not cost gigabytes. */
#define HEADER_MAX ((uint64_t)16 << 20)

enum { LENGTH_SIZE = 8, SHOWN_NAME = 100, SHOWN_SHAPE = 200 };

struct weir_tensor_file {
    char *path;
    const unsigned char *bytes; /* the whole file */
    size_t size;
    void *map;               /* the same, to unmap; NULL when the bytes are the caller's */
    json_t *header;          /* owns the names */
    const json_t *metadata;  /* in header; NULL when there is none */
    weir_tensor_t *tensors;  /* in order of offset */
    weir_tensor_t **by_name; /* sorted */
    size_t count;
};

static const struct {
    const char *name;
    size_t size;
} dtypes[WEIR_DTYPE_COUNT] = {
    [WEIR_DTYPE_U8] = {"U8", 1},   [WEIR_DTYPE_I8] = {"I8", 1},   [WEIR_DTYPE_U16] = {"U16", 2},
    [WEIR_DTYPE_I16] = {"I16", 2}, [WEIR_DTYPE_F16] = {"F16", 2}, [WEIR_DTYPE_BF16] = {"BF16", 2},
    [WEIR_DTYPE_U32] = {"U32", 4}, [WEIR_DTYPE_I32] = {"I32", 4}, [WEIR_DTYPE_F32] = {"F32", 4},
    [WEIR_DTYPE_U64] = {"U64", 8}, [WEIR_DTYPE_I64] = {"I64", 8}, [WEIR_DTYPE_F64] = {"F64", 8},
};

size_t weir_dtype_size(weir_dtype_t dtype) {
    return dtypes[dtype].size;
}

const char *weir_dtype_name(weir_dtype_t dtype) {
    return dtypes[dtype].name;
}

/* A failure about one tensor: "'FILE': tensor 'NAME' PROBLEM". */
static weir_err_t refuse_tensor(const weir_tensor_file_t *file, const char *name, weir_err_t code,
                                weir_error_t *error, const char *problem) {
    char shown[SHOWN_NAME];
    weir_file_printable(name, shown, sizeof shown);
    return weir_errorf(error, code, "'%s': tensor '%s' %s", file->path, shown, problem);
}

static weir_err_t parse_dtype(const weir_tensor_file_t *file, const json_t *entry,
                              weir_tensor_t *tensor, weir_error_t *error) {
    const char *text = json_string_value(json_object_get(entry, "dtype"));
    if (text == NULL) {
        return refuse_tensor(file, tensor->name, WEIR_ERR_CORRUPT, error, "has no dtype");
    }
    for (int i = 0; i < WEIR_DTYPE_COUNT; i++) {
        if (strcmp(text, dtypes[i].name) == 0) {
            tensor->dtype = (weir_dtype_t)i;
            return WEIR_OK;
        }
    }
    char shown[SHOWN_NAME], problem[SHOWN_NAME + 64];
    weir_file_printable(text, shown, sizeof shown);
    (void)snprintf(problem, sizeof problem, "has dtype '%s', which weir does not know", shown);
    return refuse_tensor(file, tensor->name, WEIR_ERR_UNSUPPORTED, error, problem);
}

static weir_err_t parse_shape(const weir_tensor_file_t *file, const json_t *entry,
                              weir_tensor_t *tensor, weir_error_t *error) {
    const json_t *shape = json_object_get(entry, "shape");
    if (!json_is_array(shape)) {
        return refuse_tensor(file, tensor->name, WEIR_ERR_CORRUPT, error, "has no shape");
    }
    if (json_array_size(shape) > WEIR_TENSOR_MAX_RANK) {
        return refuse_tensor(file, tensor->name, WEIR_ERR_UNSUPPORTED, error,
                             "has more dimensions than weir reads");
    }
    tensor->rank = (uint32_t)json_array_size(shape);
    tensor->elements = 1;
    for (uint32_t i = 0; i < tensor->rank; i++) {
        const json_t *dimension = json_array_get(shape, i);
        if (!json_is_integer(dimension) || json_integer_value(dimension) < 0) {
            return refuse_tensor(file, tensor->name, WEIR_ERR_CORRUPT, error,
                                 "has a dimension that is no count");
        }
        tensor->shape[i] = (uint64_t)json_integer_value(dimension);
        if (__builtin_mul_overflow(tensor->elements, tensor->shape[i], &tensor->elements)) {
            return refuse_tensor(file, tensor->name, WEIR_ERR_CORRUPT, error,
                                 "has a shape that overflows");
        }
    }
    if (__builtin_mul_overflow(tensor->elements, weir_dtype_size(tensor->dtype), &tensor->bytes)) {
        return refuse_tensor(file, tensor->name, WEIR_ERR_CORRUPT, error,
                             "has a shape that overflows");
    }
    return WEIR_OK;
}

/* Checks the offsets of one tensor against its shape and the `size` bytes of data. */
static weir_err_t parse_offsets(const weir_tensor_file_t *file, const json_t *entry,
                                const unsigned char *data, uint64_t size, weir_tensor_t *tensor,
                                weir_error_t *error) {
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *first = json_array_get(offsets, 0), *last = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(last) ||
        json_integer_value(first) < 0 || json_integer_value(last) < 0) {
        return refuse_tensor(file, tensor->name, WEIR_ERR_CORRUPT, error,
                             "has no pair of data_offsets");
    }
    uint64_t begin = (uint64_t)json_integer_value(first);
    uint64_t end = (uint64_t)json_integer_value(last);
    if (begin > end) {
        return refuse_tensor(file, tensor->name, WEIR_ERR_CORRUPT, error, "ends before it begins");
    }
    if (end > size) {
        return refuse_tensor(file, tensor->name, WEIR_ERR_CORRUPT, error,
                             "reaches past the end of the file: it was cut short or is damaged");
    }
    if (end - begin != tensor->bytes) {
        return refuse_tensor(file, tensor->name, WEIR_ERR_CORRUPT, error,
                             "has offsets that do not fit its shape and dtype");
    }
    tensor->values = data + begin;
    return WEIR_OK;
}

static int compare_offsets(const void *left, const void *right) {
    const weir_tensor_t *a = left, *b = right;
    if (a->values != b->values) {
        return (const char *)a->values < (const char *)b->values ? -1 : 1;
    }
    return (a->bytes > b->bytes) - (a->bytes < b->bytes);
}

static int compare_names(const void *left, const void *right) {
    const weir_tensor_t *const *a = left, *const *b = right;
    return strcmp((*a)->name, (*b)->name);
}

static int compare_key(const void *key, const void *element) {
    const weir_tensor_t *const *tensor = element;
    return strcmp(key, (*tensor)->name);
}

/* In order of offset, tensors must follow one another without overlap or hole, to the last byte. */
static weir_err_t check_layout(const weir_tensor_file_t *file, const unsigned char *data,
                               uint64_t size, weir_error_t *error) {
    const unsigned char *expected = data;
    for (size_t i = 0; i < file->count; i++) {
        const weir_tensor_t *tensor = &file->tensors[i];
        const unsigned char *begin = tensor->values;
        if (begin < expected) {
            return refuse_tensor(file, tensor->name, WEIR_ERR_CORRUPT, error,
                                 "overlaps another tensor");
        }
        if (begin > expected) {
            return refuse_tensor(file, tensor->name, WEIR_ERR_CORRUPT, error,
                                 "has a hole before it");
        }
        expected = begin + tensor->bytes;
    }
    if (expected != data + size) {
        return weir_errorf(error, WEIR_ERR_CORRUPT,
                           "'%s': %zu bytes after the last tensor belong to none", file->path,
                           (size_t)(data + size - expected));
    }
    return WEIR_OK;
}

static weir_err_t check_metadata(const weir_tensor_file_t *file, weir_error_t *error) {
    json_t *metadata = json_object_get(file->header, "__metadata__");
    const char *key = NULL;
    const json_t *value = NULL;
    if (metadata != NULL && !json_is_object(metadata)) {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "'%s': __metadata__ is no object", file->path);
    }
    json_object_foreach(metadata, key, value) {
        if (!json_is_string(value)) {
            char shown[SHOWN_NAME];
            weir_file_printable(key, shown, sizeof shown);
            return weir_errorf(error, WEIR_ERR_CORRUPT, "'%s': metadata '%s' is no string",
                               file->path, shown);
        }
    }
    return WEIR_OK;
}

/* All of the header's tensors into file->tensors, by offset, and file->by_name. */
static weir_err_t collect_tensors(weir_tensor_file_t *file, const unsigned char *data,
                                  uint64_t size, weir_error_t *error) {
    size_t room = json_object_size(file->header) + 1; /* never 0 */
    file->tensors = calloc(room, sizeof *file->tensors);
    file->by_name = calloc(room, sizeof *file->by_name);
    if (file->tensors == NULL || file->by_name == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the tensors of '%s'", file->path);
    }
    const char *name = NULL;
    json_t *entry = NULL;
    json_object_foreach(file->header, name, entry) {
        if (strcmp(name, "__metadata__") == 0) {
            continue;
        }
        weir_tensor_t *tensor = &file->tensors[file->count];
        tensor->name = name;
        weir_err_t status = WEIR_OK;
        if (!json_is_object(entry)) {
            status = refuse_tensor(file, name, WEIR_ERR_CORRUPT, error, "is no object");
        }
        if (status == WEIR_OK) {
            status = parse_dtype(file, entry, tensor, error);
        }
        if (status == WEIR_OK) {
            status = parse_shape(file, entry, tensor, error);
        }
        if (status == WEIR_OK) {
            status = parse_offsets(file, entry, data, size, tensor, error);
        }
        if (status != WEIR_OK) {
            return status;
        }
        file->count++;
    }
    qsort(file->tensors, file->count, sizeof *file->tensors, compare_offsets);
    for (size_t i = 0; i < file->count; i++) {
        file->by_name[i] = &file->tensors[i];
    }
    qsort(file->by_name, file->count, sizeof(weir_tensor_t *), compare_names);
    return WEIR_OK;
}

static uint64_t decode_length(const unsigned char bytes[LENGTH_SIZE]) {
    uint64_t length = 0;
    for (int i = LENGTH_SIZE - 1; i >= 0; i--) {
        length = length << 8 | bytes[i];
    }
    return length;
}

static weir_err_t parse_file(weir_tensor_file_t *file, weir_error_t *error) {
    if (file->size < LENGTH_SIZE) {
        return weir_errorf(error, WEIR_ERR_CORRUPT,
                           "'%s' has %zu bytes: too short for a safetensors file", file->path,
                           file->size);
    }
    uint64_t length = decode_length(file->bytes);
    if (length > HEADER_MAX) {
        return weir_errorf(error, WEIR_ERR_CORRUPT,
                           "'%s' claims a header of %llu bytes: not a safetensors file, or damaged",
                           file->path, (unsigned long long)length);
    }
    if (length > file->size - LENGTH_SIZE) {
        return weir_errorf(error, WEIR_ERR_CORRUPT,
                           "'%s' ends inside its header of %llu bytes: it was cut short",
                           file->path, (unsigned long long)length);
    }
    json_error_t problem;
    const char *text = (const char *)file->bytes + LENGTH_SIZE;
    file->header = json_loadb(text, (size_t)length, JSON_REJECT_DUPLICATES, &problem);
    if (file->header == NULL) {
        char shown[sizeof problem.text];
        weir_file_printable(problem.text, shown, sizeof shown);
        return weir_errorf(error, WEIR_ERR_CORRUPT, "'%s': bad header at byte %d: %s", file->path,
                           problem.position, shown);
    }
    if (!json_is_object(file->header)) {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "'%s': the header is no object", file->path);
    }
    const unsigned char *data = file->bytes + LENGTH_SIZE + length;
    uint64_t size = file->size - LENGTH_SIZE - length;
    weir_err_t status = check_metadata(file, error);
    if (status == WEIR_OK) {
        file->metadata = json_object_get(file->header, "__metadata__");
        status = collect_tensors(file, data, size, error);
    }
    return status != WEIR_OK ? status : check_layout(file, data, size, error);
}

weir_err_t weir_tensor_file_open_memory(const void *bytes, size_t size, const char *name,
                                        weir_tensor_file_t **file, weir_error_t *error) {
    weir_tensor_file_t *opened = calloc(1, sizeof *opened);
    if (opened == NULL || (opened->path = strdup(name)) == NULL) {
        free(opened);
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory to open '%s'", name);
    }
    opened->bytes = bytes;
    opened->size = size;
    weir_err_t status = parse_file(opened, error);
    if (status != WEIR_OK) {
        weir_tensor_file_close(opened);
        return status;
    }
    *file = opened;
    return WEIR_OK;
}

/* The whole of a regular file, read-only; an empty one gives no map (NULL). */
static weir_err_t map_file(const char *path, void **map, size_t *size, weir_error_t *error) {
    weir_err_t status = WEIR_OK;
    /* O_NONBLOCK: opening a FIFO must not wait for its writer. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return weir_error_from_errno(error, errno, "open '%s'", path);
    }
    struct stat about;
    if (fstat(fd, &about) != 0) {
        status = weir_error_from_errno(error, errno, "stat '%s'", path);
    } else if (!S_ISREG(about.st_mode)) {
        status = weir_errorf(error, WEIR_ERR_INVALID, "'%s' is no regular file", path);
    } else if (about.st_size > 0) {
        void *mapped = mmap(NULL, (size_t)about.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (mapped == MAP_FAILED) {
            status = weir_error_from_errno(error, errno, "map '%s'", path);
        } else {
            *map = mapped;
            *size = (size_t)about.st_size;
        }
    }
    (void)close(fd);
    return status;
}

weir_err_t weir_tensor_file_open(const char *path, weir_tensor_file_t **file, weir_error_t *error) {
    void *map = NULL;
    size_t size = 0;
    weir_tensor_file_t *opened = NULL;
    weir_err_t status = map_file(path, &map, &size, error);
    if (status != WEIR_OK) {
        return status;
    }
    status = weir_tensor_file_open_memory(map, size, path, &opened, error);
    if (status != WEIR_OK) {
        if (map != NULL) {
            (void)munmap(map, size);
        }
        return status;
    }
    opened->map = map;
    *file = opened;
    return WEIR_OK;
}

void weir_tensor_file_close(weir_tensor_file_t *file) {
    if (file == NULL) {
        return;
    }
    if (file->map != NULL) {
        (void)munmap(file->map, file->size);
    }
    json_decref(file->header);
    free(file->tensors);
    free(file->by_name);
    free(file->path);
    free(file);
}

const char *weir_tensor_file_path(const weir_tensor_file_t *file) {
    return file->path;
}

uint64_t weir_tensor_file_size(const weir_tensor_file_t *file) {
    return file->size;
}

size_t weir_tensor_file_header(const weir_tensor_file_t *file, const void **bytes) {
    *bytes = file->bytes;
    return LENGTH_SIZE + (size_t)decode_length(file->bytes);
}

size_t weir_tensor_file_count(const weir_tensor_file_t *file) {
    return file->count;
}

const weir_tensor_t *weir_tensor_file_at(const weir_tensor_file_t *file, size_t index) {
    return index < file->count ? &file->tensors[index] : NULL;
}

const weir_tensor_t *weir_tensor_file_find(const weir_tensor_file_t *file, const char *name) {
    weir_tensor_t *const *found =
        bsearch(name, file->by_name, file->count, sizeof(weir_tensor_t *), compare_key);
    return found == NULL ? NULL : *found;
}

/* "[3, *, 4]" for a shape; UINT64_MAX is any. */
static void format_shape(const uint64_t *shape, uint32_t rank, char out[SHOWN_SHAPE]) {
    size_t used = 1;
    out[0] = '[';
    for (uint32_t i = 0; i < rank && i < WEIR_TENSOR_MAX_RANK; i++) {
        const char *separator = i == 0 ? "" : ", ";
        int length = shape[i] == UINT64_MAX
                         ? snprintf(out + used, SHOWN_SHAPE - used, "%s*", separator)
                         : snprintf(out + used, SHOWN_SHAPE - used, "%s%llu", separator,
                                    (unsigned long long)shape[i]);
        used += (size_t)length; /* 8 dimensions of at most 22 characters always fit */
    }
    (void)snprintf(out + used, SHOWN_SHAPE - used, "]");
}

weir_err_t weir_tensor_file_require(const weir_tensor_file_t *file, const char *name,
                                    weir_dtype_t dtype, uint32_t rank, const uint64_t *shape,
                                    const weir_tensor_t **out, weir_error_t *error) {
    const weir_tensor_t *tensor = weir_tensor_file_find(file, name);
    if (tensor == NULL) {
        return weir_errorf(error, WEIR_ERR_NOT_FOUND, "'%s' has no tensor '%s'", file->path, name);
    }
    bool same = tensor->dtype == dtype && tensor->rank == rank;
    for (uint32_t i = 0; same && i < rank; i++) {
        same = shape[i] == UINT64_MAX || shape[i] == tensor->shape[i];
    }
    if (!same) {
        char expected[SHOWN_SHAPE], found[SHOWN_SHAPE];
        format_shape(shape, rank, expected);
        format_shape(tensor->shape, tensor->rank, found);
        return weir_errorf(error, WEIR_ERR_CORRUPT, "'%s': tensor '%s' is %s %s, expected %s %s",
                           file->path, name, weir_dtype_name(tensor->dtype), found,
                           weir_dtype_name(dtype), expected);
    }
    if (tensor->bytes > 0 && (uintptr_t)tensor->values % weir_dtype_size(dtype) != 0) {
        return refuse_tensor(file, name, WEIR_ERR_UNSUPPORTED, error,
                             "does not lie at a multiple of its element's size");
    }
    *out = tensor;
    return WEIR_OK;
}

const char *weir_tensor_file_metadata(const weir_tensor_file_t *file, const char *key) {
    return json_string_value(json_object_get(file->metadata, key));
}

bool weir_tensor_file_metadata_at(const weir_tensor_file_t *file, size_t index, const char **key,
                                  const char **value) {
    json_t *metadata = json_object_get(file->header, "__metadata__");
    void *entry = json_object_iter(metadata);
    for (size_t i = 0; i < index && entry != NULL; i++) {
        entry = json_object_iter_next(metadata, entry);
    }
    if (entry == NULL) {
        return false;
    }
    *key = json_object_iter_key(entry);
    *value = json_string_value(json_object_iter_value(entry));
    return true;
}

void weir_tensor_file_advise(const weir_tensor_file_t *file, bool sequential) {
    if (file->map != NULL) {
        (void)madvise(file->map, file->size, sequential ? MADV_SEQUENTIAL : MADV_RANDOM);
    }
}
