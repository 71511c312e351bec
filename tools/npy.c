#include "tools/npy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct {
    const char *code;
    weir_dtype_t dtype;
} dtypes[] = {{"<f4", WEIR_DTYPE_F32},
              {"<f8", WEIR_DTYPE_F64},
              {"<u8", WEIR_DTYPE_U64},
              {"<i8", WEIR_DTYPE_I64}};

enum { DTYPES = sizeof dtypes / sizeof dtypes[0] };

/* What follows `'key':` and spaces; NULL: it is not there. */
static const char *value_of(const char *text, const char *key) {
    const char *at = strstr(text, key);
    if (at == NULL) {
        return NULL;
    }
    at += strlen(key);
    return at + strspn(at, " ");
}

static bool parse_shape(const char *at, weir_npy_t *array) {
    if (*at++ != '(') {
        return false;
    }
    for (;;) {
        at += strspn(at, " ,");
        if (*at == ')') {
            return array->rank >= 1;
        }
        char *end;
        errno = 0;
        unsigned long long number = strtoull(at, &end, 10);
        if (*at < '0' || *at > '9' || errno != 0 || array->rank == WEIR_NPY_RANK) {
            return false;
        }
        array->shape[array->rank++] = number;
        at = end;
    }
}

static weir_err_t parse_header(const char *path, const char *text, weir_npy_t *array,
                               weir_error_t *error) {
    const char *descr = value_of(text, "'descr':"), *order = value_of(text, "'fortran_order':");
    const char *shape = value_of(text, "'shape':");
    if (descr == NULL || order == NULL || shape == NULL || *descr != '\'') {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "'%s' has no header of an array", path);
    }
    size_t kind = 0;
    while (kind < DTYPES && (strncmp(descr + 1, dtypes[kind].code, 3) != 0 || descr[4] != '\'')) {
        kind++;
    }
    if (kind == DTYPES || strncmp(order, "False", 5) != 0 || !parse_shape(shape, array)) {
        return weir_errorf(error, WEIR_ERR_UNSUPPORTED,
                           "'%s' is no row-major array of one or two dimensions of little-endian "
                           "f4, f8, u8 or i8",
                           path);
    }
    array->dtype = dtypes[kind].dtype;
    return WEIR_OK;
}

static weir_err_t parse(const char *path, const unsigned char *bytes, size_t size,
                        weir_npy_t *array, weir_error_t *error) {
    char text[1024];
    size_t begin = size >= 12 && bytes[6] >= 2 ? 12 : 10, length = 0;
    if (size < 12 || memcmp(bytes, "\x93NUMPY", 6) != 0 || bytes[6] < 1 || bytes[6] > 3) {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "'%s' is no .npy file", path);
    }
    for (size_t i = begin - 1; i >= 8; i--) {
        length = length << 8 | bytes[i];
    }
    if (length >= sizeof text || length > size - begin) {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "'%s' has a header of %zu bytes", path, length);
    }
    memcpy(text, bytes + begin, length);
    text[length] = '\0';
    weir_err_t err = parse_header(path, text, array, error);
    if (err != WEIR_OK) {
        return err;
    }
    uint64_t bytes_wanted = weir_dtype_size(array->dtype);
    bool over = false;
    for (uint32_t d = 0; d < array->rank; d++) {
        over = over || __builtin_mul_overflow(bytes_wanted, array->shape[d], &bytes_wanted);
    }
    if (over || bytes_wanted != size - begin - length) {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "'%s' is not as long as its shape says", path);
    }
    if ((begin + length) % weir_dtype_size(array->dtype) != 0) {
        return weir_errorf(error, WEIR_ERR_UNSUPPORTED, "'%s': its values are not aligned", path);
    }
    array->values = bytes + begin + length;
    return WEIR_OK;
}

weir_err_t weir_npy_open(const char *path, weir_npy_t *array, weir_error_t *error) {
    struct stat about;
    weir_npy_t made = {.map = MAP_FAILED};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &about) != 0) {
        weir_err_t err = weir_error_from_errno(error, errno, "open '%s'", path);
        if (fd >= 0) {
            (void)close(fd);
        }
        return err;
    }
    made.map_size = about.st_size > 0 ? (size_t)about.st_size : 1;
    made.map = mmap(NULL, made.map_size, PROT_READ, MAP_PRIVATE, fd, 0);
    weir_err_t err = made.map == MAP_FAILED
                         ? weir_error_from_errno(error, errno, "map '%s'", path)
                         : parse(path, made.map, (size_t)about.st_size, &made, error);
    (void)close(fd);
    if (err == WEIR_OK) {
        *array = made;
    } else if (made.map != MAP_FAILED) {
        (void)munmap(made.map, made.map_size);
    }
    return err;
}

void weir_npy_close(weir_npy_t *array) {
    if (array->map != NULL) {
        (void)munmap(array->map, array->map_size);
    }
    *array = (weir_npy_t){.map = NULL};
}

void weir_npy_header(weir_dtype_t dtype, uint64_t rows, uint64_t width,
                     char header[WEIR_NPY_HEADER]) {
    const char *code = "<f4";
    char shape[64];
    for (size_t i = 0; i < DTYPES; i++) {
        code = dtypes[i].dtype == dtype ? dtypes[i].code : code;
    }
    if (width == 0) {
        (void)snprintf(shape, sizeof shape, "(%llu,)", (unsigned long long)rows);
    } else {
        (void)snprintf(shape, sizeof shape, "(%llu, %llu)", (unsigned long long)rows,
                       (unsigned long long)width);
    }
    memset(header, ' ', WEIR_NPY_HEADER);
    memcpy(header, "\x93NUMPY\x01\x00\x76\x00", 10); /* version 1.0; 118 bytes follow */
    int length = snprintf(header + 10, WEIR_NPY_HEADER - 10,
                          "{'descr': '%s', 'fortran_order': False, 'shape': %s, }", code, shape);
    header[10 + length] = ' ';
    header[WEIR_NPY_HEADER - 1] = '\n';
}
