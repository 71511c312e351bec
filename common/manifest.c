/* manifest.json as text and as a struct, and the files that it names. The text ends in a fixed line
 * with the checksum of all that stands before it, so that a manifest cut short, damaged or edited
 * by hand is told from a whole one without trusting its JSON. */
#include "common/checkpoint.h"

#include "common/file.h"
#include "common/hash.h"
#include "common/tensor_blocks.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SELF_BEGIN ",\n  \"self\": \""
#define SELF_END "\"\n}\n"

enum {
    FORMAT = 2, /* 1: neither bases nor checksums of blocks */
    HEX_DIGITS = 16,
    SELF_SIZE = sizeof SELF_BEGIN - 1 + HEX_DIGITS + sizeof SELF_END - 1,
    MANIFEST_MAX = 64 * 1024 * 1024, /* bytes; at 150 a file, of four hundred thousand */
    SHOWN_NAME = 100
};

static weir_err_t refuse(const char *name, weir_error_t *error, const char *member,
                         const char *problem) {
    return weir_errorf(error, WEIR_ERR_CORRUPT, "'%s': '%s' %s", name, member, problem);
}

static bool is_hex_digit(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

/* Exactly 16 lower-case digits. */
static bool parse_hex(const char *text, size_t size, uint64_t *value) {
    if (size != HEX_DIGITS) {
        return false;
    }
    uint64_t parsed = 0;
    for (size_t i = 0; i < HEX_DIGITS; i++) {
        if (!is_hex_digit(text[i])) {
            return false;
        }
        parsed = parsed << 4 | (uint64_t)(text[i] <= '9' ? text[i] - '0' : text[i] - 'a' + 10);
    }
    *value = parsed;
    return true;
}

static weir_err_t get_count(const json_t *object, const char *member, uint64_t limit,
                            const char *name, uint64_t *value, weir_error_t *error) {
    const json_t *found = json_object_get(object, member);
    if (!json_is_integer(found) || json_integer_value(found) < 0 ||
        (uint64_t)json_integer_value(found) > limit) {
        return refuse(name, error, member, "is missing or no count");
    }
    *value = (uint64_t)json_integer_value(found);
    return WEIR_OK;
}

static weir_err_t get_hex(const json_t *object, const char *member, const char *name,
                          uint64_t *value, weir_error_t *error) {
    const json_t *found = json_object_get(object, member);
    if (!json_is_string(found) ||
        !parse_hex(json_string_value(found), json_string_length(found), value)) {
        return refuse(name, error, member, "is missing or not 16 hexadecimal digits");
    }
    return WEIR_OK;
}

/* A bare name that stays inside its folder on every file system. */
static bool is_file_name(const char *name) {
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz"
                                  "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t length = strlen(name);
    return length > 0 && length < WEIR_CHECKPOINT_NAME_MAX && name[0] != '.' &&
           strspn(name, allowed) == length && strcmp(name, WEIR_MANIFEST_NAME) != 0;
}

static weir_err_t parse_file(const json_t *entry, json_t *seen, const char *name,
                             weir_checkpoint_file_t *file, weir_error_t *error) {
    const char *text = json_string_value(json_object_get(entry, "name"));
    if (text == NULL) {
        return refuse(name, error, "files", "has an entry without a name");
    }
    if (!is_file_name(text)) {
        char shown[SHOWN_NAME];
        weir_file_printable(text, shown, sizeof shown);
        return weir_errorf(error, WEIR_ERR_CORRUPT,
                           "'%s' names a file '%s', which is no bare file name", name, shown);
    }
    if (json_object_get(seen, text) != NULL) {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "'%s' names file '%s' twice", name, text);
    }
    if (json_object_set_new(seen, text, json_true()) != 0) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory to read '%s'", name);
    }
    memcpy(file->name, text, strlen(text) + 1);
    weir_err_t status = get_count(entry, "size", INT64_MAX, name, &file->size, error);
    file->blocks = json_object_get(entry, "blocks_xxh3") != NULL;
    return status != WEIR_OK ? status
                             : get_hex(entry, file->blocks ? "blocks_xxh3" : "xxh3", name,
                                       &file->checksum, error);
}

static weir_err_t parse_files(const json_t *root, const char *name, weir_manifest_t *manifest,
                              weir_error_t *error) {
    const json_t *files = json_object_get(root, "files");
    if (!json_is_array(files)) {
        return refuse(name, error, "files", "is missing or no array");
    }
    size_t count = json_array_size(files);
    json_t *seen = json_object();
    weir_err_t status = WEIR_OK;
    manifest->files = calloc(count + 1, sizeof *manifest->files);
    if (manifest->files == NULL || seen == NULL) {
        status = weir_errorf(error, WEIR_ERR_MEMORY, "no memory to read '%s'", name);
    }
    for (size_t i = 0; i < count && status == WEIR_OK; i++) {
        status = parse_file(json_array_get(files, i), seen, name, &manifest->files[i], error);
    }
    manifest->file_count = status == WEIR_OK ? count : 0;
    json_decref(seen);
    return status;
}

static weir_err_t parse_texts(const json_t *root, const char *name, weir_manifest_t *manifest,
                              weir_error_t *error) {
    const char *version = json_string_value(json_object_get(root, "weir"));
    const char *yaml = json_string_value(json_object_get(root, "config"));
    const json_t *metrics = json_object_get(root, "metrics");
    if (version == NULL || strlen(version) >= sizeof manifest->version) {
        return refuse(name, error, "weir", "is missing or no version");
    }
    if (yaml == NULL) {
        return refuse(name, error, "config", "is missing or no text");
    }
    if (!json_is_object(metrics) && !json_is_null(metrics)) {
        return refuse(name, error, "metrics", "is neither an object nor null");
    }
    memcpy(manifest->version, version, strlen(version) + 1);
    manifest->config_yaml = strdup(yaml);
    if (json_is_object(metrics)) {
        manifest->metrics_json = json_dumps(metrics, JSON_COMPACT);
    }
    if (manifest->config_yaml == NULL ||
        (json_is_object(metrics) && manifest->metrics_json == NULL)) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory to read '%s'", name);
    }
    return WEIR_OK;
}

/* Whether this version reads such a manifest at all. */
static weir_err_t check_format(const json_t *root, const char *name, weir_error_t *error) {
    uint64_t format = 0;
    weir_err_t status = get_count(root, "format", INT64_MAX, name, &format, error);
    if (status != WEIR_OK) {
        return status;
    }
    return format >= 1 && format <= FORMAT
               ? WEIR_OK
               : weir_errorf(error, WEIR_ERR_VERSION,
                             "'%s' is of format %" PRIu64
                             ", this version of weir reads formats up to %d",
                             name, format, FORMAT);
}

/* base: null, or a step before this one. */
static weir_err_t parse_base(const json_t *root, const char *name, weir_manifest_t *manifest,
                             weir_error_t *error) {
    const json_t *base = json_object_get(root, "base");
    if (base == NULL || json_is_null(base)) {
        return WEIR_OK;
    }
    weir_err_t status = get_count(root, "base", INT64_MAX, name, &manifest->base, error);
    if (status == WEIR_OK && (manifest->base == 0 || manifest->base >= manifest->step)) {
        status = refuse(name, error, "base", "is not a step before this one");
    }
    return status == WEIR_OK ? get_hex(root, "base_self", name, &manifest->base_self, error)
                             : status;
}

static weir_err_t parse_root(const json_t *root, const char *name, weir_manifest_t *manifest,
                             weir_error_t *error) {
    uint64_t ps = 0, workers = 0;
    const json_t *created = json_object_get(root, "created");
    weir_err_t status = check_format(root, name, error);
    if (status == WEIR_OK) {
        status = get_count(root, "step", INT64_MAX, name, &manifest->step, error);
    }
    if (status == WEIR_OK) {
        status = parse_base(root, name, manifest, error);
    }
    if (status == WEIR_OK) {
        status = get_count(root, "epoch", INT64_MAX, name, &manifest->epoch, error);
    }
    if (status == WEIR_OK) {
        status = get_hex(root, "job", name, &manifest->job, error);
    }
    if (status == WEIR_OK) {
        status = get_count(root, "ps", UINT32_MAX, name, &ps, error);
    }
    if (status == WEIR_OK) {
        status = get_count(root, "workers", UINT32_MAX, name, &workers, error);
    }
    if (status == WEIR_OK && !json_is_number(created)) {
        status = refuse(name, error, "created", "is missing or no time");
    }
    if (status == WEIR_OK) {
        status = parse_texts(root, name, manifest, error);
    }
    if (status == WEIR_OK) {
        status = parse_files(root, name, manifest, error);
    }
    manifest->ps = (uint32_t)ps;
    manifest->workers = (uint32_t)workers;
    manifest->created = json_number_value(created);
    return status;
}

/* The last line must hold the checksum of everything before it. */
static weir_err_t check_self(const char *json, size_t size, const char *name, uint64_t *checksum,
                             weir_error_t *error) {
    uint64_t expected = 0;
    const char *self = size < SELF_SIZE ? NULL : json + size - SELF_SIZE;
    if (self == NULL || memcmp(self, SELF_BEGIN, sizeof SELF_BEGIN - 1) != 0 ||
        memcmp(json + size - (sizeof SELF_END - 1), SELF_END, sizeof SELF_END - 1) != 0 ||
        !parse_hex(self + sizeof SELF_BEGIN - 1, HEX_DIGITS, &expected)) {
        return weir_errorf(error, WEIR_ERR_CORRUPT,
                           "'%s' does not end in its own checksum: cut short, or no manifest",
                           name);
    }
    if (weir_checksum(json, size - SELF_SIZE, 0) != expected) {
        return weir_errorf(error, WEIR_ERR_CORRUPT,
                           "'%s' does not match its own checksum: damaged, or edited by hand",
                           name);
    }
    *checksum = expected;
    return WEIR_OK;
}

weir_err_t weir_manifest_parse(const char *json, size_t size, const char *name,
                               weir_manifest_t *manifest, weir_error_t *error) {
    weir_manifest_t parsed = {0};
    json_error_t problem;
    weir_err_t status = check_self(json, size, name, &parsed.self, error);
    if (status != WEIR_OK) {
        return status;
    }
    json_t *root = json_loadb(json, size, JSON_REJECT_DUPLICATES, &problem);
    if (root == NULL) {
        char shown[sizeof problem.text];
        weir_file_printable(problem.text, shown, sizeof shown);
        status =
            weir_errorf(error, WEIR_ERR_CORRUPT, "'%s': line %d: %s", name, problem.line, shown);
        goto out;
    }
    status = parse_root(root, name, &parsed, error);
    if (status == WEIR_OK) {
        *manifest = parsed;
        parsed = (weir_manifest_t){0};
    }
out:
    weir_manifest_fini(&parsed);
    json_decref(root);
    return status;
}

void weir_manifest_fini(weir_manifest_t *manifest) {
    free(manifest->config_yaml);
    free(manifest->metrics_json);
    free(manifest->files);
    *manifest = (weir_manifest_t){0};
}

static json_t *hex_json(uint64_t value) {
    char text[HEX_DIGITS + 1];
    (void)snprintf(text, sizeof text, "%016" PRIx64, value);
    return json_string(text);
}

/* The array of files; NULL when a name is none, or there is no memory. */
static json_t *files_json(const weir_manifest_t *manifest) {
    json_t *files = json_array();
    for (size_t i = 0; i < manifest->file_count && files != NULL; i++) {
        const weir_checkpoint_file_t *file = &manifest->files[i];
        json_t *entry =
            !is_file_name(file->name) || file->size > INT64_MAX
                ? NULL
                : json_pack("{s:s, s:I, s:o}", "name", file->name, "size", (json_int_t)file->size,
                            file->blocks ? "blocks_xxh3" : "xxh3", hex_json(file->checksum));
        if (json_array_append_new(files, entry) != 0) {
            json_decref(files);
            files = NULL;
        }
    }
    return files;
}

weir_err_t weir_manifest_format(const weir_manifest_t *manifest, char **text, size_t *size,
                                weir_error_t *error) {
    weir_err_t status = WEIR_OK;
    char *body = NULL, *whole = NULL;
    const char *metrics_text = manifest->metrics_json == NULL ? "null" : manifest->metrics_json;
    json_t *metrics = json_loads(metrics_text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
    json_t *files = files_json(manifest), *root = NULL;
    bool known = json_is_object(metrics) || json_is_null(metrics);
    if (!known || files == NULL || manifest->step > INT64_MAX || manifest->epoch > INT64_MAX ||
        (manifest->base != 0 && manifest->base >= manifest->step) ||
        manifest->config_yaml == NULL) {
        status =
            weir_errorf(error, WEIR_ERR_INVALID,
                        "the manifest of step %" PRIu64 " cannot be written: %s", manifest->step,
                        !known          ? "its metrics are no JSON object"
                        : files == NULL ? "a file's name or size is none"
                                        : "its configuration is missing or a count overflows");
        goto out;
    }
    bool delta = manifest->base != 0;
    root = json_pack("{s:i, s:o, s:o*, s:s, s:I, s:I, s:o, s:I, s:I, s:f, s:O, s:O, s:s}", "format",
                     FORMAT, "base", delta ? json_integer((json_int_t)manifest->base) : json_null(),
                     "base_self", delta ? hex_json(manifest->base_self) : NULL, "weir",
                     manifest->version, "step", (json_int_t)manifest->step, "epoch",
                     (json_int_t)manifest->epoch, "job", hex_json(manifest->job), "ps",
                     (json_int_t)manifest->ps, "workers", (json_int_t)manifest->workers, "created",
                     manifest->created, "metrics", metrics, "files", files, "config",
                     manifest->config_yaml);
    body = root == NULL ? NULL : json_dumps(root, JSON_INDENT(2));
    if (body == NULL) {
        status = weir_errorf(error, WEIR_ERR_INVALID,
                             "the manifest of step %" PRIu64
                             " cannot be written: a text is not UTF-8, or there is no memory",
                             manifest->step);
        goto out;
    }
    size_t length = strlen(body) - 2; /* without "\n}" */
    whole = malloc(length + SELF_SIZE + 1);
    if (whole == NULL) {
        status = weir_errorf(error, WEIR_ERR_MEMORY, "no memory to write a manifest");
        goto out;
    }
    memcpy(whole, body, length);
    (void)snprintf(whole + length, SELF_SIZE + 1, SELF_BEGIN "%016" PRIx64 SELF_END,
                   weir_checksum(whole, length, 0));
    *text = whole;
    *size = length + SELF_SIZE;
out:
    json_decref(root);
    json_decref(files);
    json_decref(metrics);
    free(body);
    return status;
}

static weir_err_t check_file(const char *folder, const weir_checkpoint_file_t *file, bool verify,
                             weir_error_t *error) {
    char path[WEIR_PATH_MAX];
    struct stat about;
    weir_err_t status = weir_path_join(path, sizeof path, folder, file->name, error);
    if (status != WEIR_OK) {
        return status;
    }
    /* lstat: a link could lead out of the checkpoint. */
    if (lstat(path, &about) != 0) {
        return errno == ENOENT ? weir_errorf(error, WEIR_ERR_CORRUPT,
                                             "checkpoint '%s' lacks '%s', which its manifest names",
                                             folder, file->name)
                               : weir_error_from_errno(error, errno, "look at '%s'", path);
    }
    if (!S_ISREG(about.st_mode)) {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "'%s' is no regular file", path);
    }
    if ((uint64_t)about.st_size != file->size) {
        return weir_errorf(error, WEIR_ERR_CORRUPT,
                           "'%s' has %lld bytes, its manifest says %" PRIu64, path,
                           (long long)about.st_size, file->size);
    }
    uint64_t checksum = file->checksum, size = file->size;
    if (file->blocks) { /* cheap without verify: of the header and what the file ends in */
        status = weir_tensor_blocks_check_path(path, verify, &checksum, &size, error);
    } else if (verify) {
        status = weir_file_checksum(path, &checksum, &size, error);
    }
    if (status == WEIR_OK && (checksum != file->checksum || size != file->size)) {
        status =
            weir_errorf(error, WEIR_ERR_CORRUPT,
                        "'%s' is damaged: checksum %016" PRIx64 ", its manifest says %016" PRIx64,
                        path, checksum, file->checksum);
    }
    return status;
}

weir_err_t weir_manifest_check_files(const char *folder, const weir_manifest_t *manifest,
                                     bool verify, weir_error_t *error) {
    for (size_t i = 0; i < manifest->file_count; i++) {
        weir_err_t status = check_file(folder, &manifest->files[i], verify, error);
        if (status != WEIR_OK) {
            return status;
        }
    }
    return WEIR_OK;
}

/* A folder that is named after a step must hold that step. */
static weir_err_t check_step(const char *folder, const weir_manifest_t *manifest,
                             weir_error_t *error) {
    const char *slash = strrchr(folder, '/');
    uint64_t step = 0;
    if (weir_checkpoint_parse_step(slash == NULL ? folder : slash + 1, &step) &&
        step != manifest->step) {
        return weir_errorf(error, WEIR_ERR_CORRUPT,
                           "checkpoint '%s' holds step %" PRIu64 ": it was renamed or overwritten",
                           folder, manifest->step);
    }
    return WEIR_OK;
}

weir_err_t weir_manifest_load(const char *folder, weir_manifest_t *manifest, weir_error_t *error) {
    char path[WEIR_PATH_MAX];
    char *text = NULL;
    size_t size = 0;
    struct stat about;
    weir_err_t status = weir_path_join(path, sizeof path, folder, WEIR_MANIFEST_NAME, error);
    if (status != WEIR_OK) {
        return status;
    }
    /* lstat: a link could lead out of the checkpoint, and a pipe would keep its reader. */
    if (lstat(path, &about) == 0 && !S_ISREG(about.st_mode)) {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "'%s' is no regular file", path);
    }
    status = weir_file_read(path, MANIFEST_MAX, &text, &size, error);
    if (status == WEIR_ERR_NOT_FOUND) {
        return weir_errorf(error, status, "'%s' is no complete checkpoint: it has no manifest",
                           folder);
    }
    if (status == WEIR_OK) {
        status = weir_manifest_parse(text, size, path, manifest, error);
    }
    free(text);
    return status;
}

weir_err_t weir_manifest_read_one(const char *folder, bool verify, weir_manifest_t *manifest,
                                  weir_error_t *error) {
    weir_manifest_t parsed = {0};
    weir_err_t status = weir_manifest_load(folder, &parsed, error);
    if (status == WEIR_OK) {
        status = check_step(folder, &parsed, error);
    }
    if (status == WEIR_OK) {
        status = weir_manifest_check_files(folder, &parsed, verify, error);
    }
    if (status == WEIR_OK) {
        *manifest = parsed;
        parsed = (weir_manifest_t){0};
    }
    weir_manifest_fini(&parsed);
    return status;
}
