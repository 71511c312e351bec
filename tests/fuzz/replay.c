/* Stands in for libFuzzer where the compiler is not clang: replays every file of a corpus, then a
 * fixed number of mutations of them, the same on every run.
 *
 *     fuzz_NAME CORPUS [MUTATIONS]     all files, then MUTATIONS in all (default 20000)
 *     fuzz_NAME FILE                   one input, to look at a failure
 *
 * Each input is left in NAME.last before it is tried, so that after a crash it is there. */
#include "tests/fuzz/target.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { INPUT_MAX = 64 * 1024, FILES_MAX = 4096, MUTATIONS = 20000, CHANGES_MAX = 4 };

typedef struct {
    uint8_t bytes[INPUT_MAX];
    size_t size;
} input_t;

static void stop(const char *what, const char *name) {
    (void)fprintf(stderr, "replay: %s '%s'\n", what, name);
    exit(EXIT_FAILURE);
}

/* Marsaglia's xorshift64. */
static uint64_t draw(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static size_t draw_below(uint64_t *state, size_t bound) {
    return (size_t)(draw(state) >> 11) % bound;
}

/* The target gets its own block of exactly `size` bytes, so that a sanitizer sees a read past it.
 */
static void try_input(int last, const input_t *input) {
    if (pwrite(last, input->bytes, input->size, 0) != (ssize_t)input->size ||
        ftruncate(last, (off_t)input->size) != 0) {
        stop("cannot keep the input of", "this run");
    }
    uint8_t *copy = malloc(input->size + (input->size == 0));
    if (copy == NULL) {
        stop("no memory for", "an input");
    }
    memcpy(copy, input->bytes, input->size);
    (void)LLVMFuzzerTestOneInput(copy, input->size);
    free(copy);
}

static void replace_range(input_t *input, size_t at, size_t removed, const void *bytes,
                          size_t size) {
    if (input->size - removed + size > INPUT_MAX) {
        return;
    }
    memmove(input->bytes + at + size, input->bytes + at + removed, input->size - at - removed);
    memcpy(input->bytes + at, bytes, size);
    input->size += size - removed;
}

/* One change: what breaks decoders, in text and in binary. */
static void change(input_t *input, uint64_t *state) {
    static const char *const words[] = {"-1",
                                        "0",
                                        "9223372036854775807",
                                        "18446744073709551616",
                                        "1e99",
                                        "{",
                                        "}",
                                        "[",
                                        "]",
                                        "\"",
                                        ",",
                                        "\n",
                                        "\r\n",
                                        ":",
                                        "null",
                                        "..",
                                        "/",
                                        "\\u0000"};
    static const uint8_t extremes[] = {0, 1, 0x7f, 0x80, 0xff, ' ', '"', '\n'};
    uint8_t copied[64];
    size_t at = draw_below(state, input->size + 1);
    size_t rest = input->size - at;
    size_t length = rest == 0 ? 0 : 1 + draw_below(state, rest < 32 ? rest : 32);
    const char *word = words[draw_below(state, sizeof words / sizeof words[0])];
    switch (draw_below(state, 8)) {
    case 0: /* flip a bit */
        if (rest > 0) {
            input->bytes[at] ^= (uint8_t)(1u << draw_below(state, 8));
        }
        break;
    case 1: /* an extreme byte */
        if (rest > 0) {
            input->bytes[at] = extremes[draw_below(state, sizeof extremes)];
        }
        break;
    case 2: /* a run of extremes: counts and lengths */
        memset(input->bytes + at, extremes[draw_below(state, 5)], length < 8 ? length : 8);
        break;
    case 3: /* remove */
        replace_range(input, at, length, "", 0);
        break;
    case 4: /* repeat */
        memcpy(copied, input->bytes + at, length);
        replace_range(input, draw_below(state, input->size + 1), 0, copied, length);
        break;
    case 5: /* insert a word */
        replace_range(input, at, 0, word, strlen(word));
        break;
    case 6: /* put a word in place of something */
        replace_range(input, at, length, word, strlen(word));
        break;
    default: /* cut short */
        input->size = at;
        break;
    }
}

static void load(const char *path, input_t *input) {
    FILE *stream = fopen(path, "rb");
    if (stream == NULL) {
        stop("cannot open", path);
    }
    input->size = fread(input->bytes, 1, INPUT_MAX, stream);
    if (ferror(stream) || fgetc(stream) != EOF) {
        stop("cannot read, or larger than 64 KiB:", path);
    }
    (void)fclose(stream);
}

static int is_visible(const struct dirent *entry) {
    return entry->d_name[0] != '.';
}

static void replay_corpus(int last, const char *folder, size_t mutations) {
    struct dirent **entries = NULL;
    input_t *original = malloc(sizeof *original), *input = malloc(sizeof *input);
    int count = scandir(folder, &entries, is_visible, alphasort);
    if (count <= 0 || count > FILES_MAX || original == NULL || input == NULL) {
        stop("no corpus in", folder);
    }
    uint64_t state = 0x9E3779B97F4A7C15ull;
    for (int i = 0; i < count; i++) {
        char path[4096];
        (void)snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
        load(path, original);
        try_input(last, original);
        for (size_t m = 0; m < mutations / (size_t)count; m++) {
            input->size = original->size;
            memcpy(input->bytes, original->bytes, original->size);
            for (size_t changes = 1 + draw_below(&state, CHANGES_MAX); changes > 0; changes--) {
                change(input, &state);
            }
            try_input(last, input);
        }
        free(entries[i]);
    }
    free(entries);
    free(original);
    free(input);
    (void)printf("%d files, %zu mutations of each\n", count, mutations / (size_t)count);
}

int main(int argc, char **argv) {
    struct stat about;
    char kept[4096];
    if (argc < 2 || stat(argv[1], &about) != 0) {
        stop("a folder or a file is needed, not", argc < 2 ? "nothing" : argv[1]);
    }
    if (S_ISREG(about.st_mode)) {
        static input_t input;
        load(argv[1], &input);
        return LLVMFuzzerTestOneInput(input.bytes, input.size);
    }
    const char *slash = strrchr(argv[0], '/');
    (void)snprintf(kept, sizeof kept, "%s.last", slash == NULL ? argv[0] : slash + 1);
    int last = open(kept, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (last < 0) {
        stop("cannot write", kept);
    }
    replay_corpus(last, argv[1], argc > 2 ? strtoul(argv[2], NULL, 10) : MUTATIONS);
    (void)close(last);
    (void)unlink(kept);
    return EXIT_SUCCESS;
}
