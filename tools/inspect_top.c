/* weir inspect top: the nearest rows to a key's, exactly, in one pass. */
#include "common/log.h"
#include "tools/inspect.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    double score;
    uint64_t key;
} near_t;

typedef struct {
    uint32_t dim;
    uint64_t self;
    float *query; /* owned */
    double norm;  /* of query; 1 where scores are dot products */
    bool cosine;
    near_t *heap; /* the worst first; owned */
    size_t count, capacity;
} top_t;

/* Whether a is the worse of the two: a lower score, or the same of a greater key. */
static bool is_worse(const near_t *a, const near_t *b) {
    return a->score < b->score || (a->score == b->score && a->key > b->key);
}

static void sift_down(near_t *heap, size_t count) {
    for (size_t i = 0; 2 * i + 1 < count;) {
        size_t child = 2 * i + 1;
        if (child + 1 < count && is_worse(&heap[child + 1], &heap[child])) {
            child++;
        }
        if (!is_worse(&heap[child], &heap[i])) {
            return;
        }
        near_t swapped = heap[i];
        heap[i] = heap[child];
        heap[child] = swapped;
        i = child;
    }
}

static void sift_up(near_t *heap, size_t i) {
    while (i > 0 && is_worse(&heap[i], &heap[(i - 1) / 2])) {
        near_t swapped = heap[i];
        heap[i] = heap[(i - 1) / 2];
        heap[(i - 1) / 2] = swapped;
        i = (i - 1) / 2;
    }
}

static bool offer(void *argument, const weir_reader_row_t *row, const float *values) {
    top_t *top = argument;
    double dot = 0, squares = 0;
    for (uint32_t i = 0; i < top->dim; i++) {
        dot += (double)values[i] * (double)top->query[i];
        squares += (double)values[i] * (double)values[i];
    }
    double scale = top->cosine ? sqrt(squares) * top->norm : 1;
    near_t found = {scale > 0 ? dot / scale : 0, row->key};
    if (row->key == top->self || isnan(found.score)) {
        return true;
    }
    if (top->count < top->capacity) {
        top->heap[top->count] = found;
        sift_up(top->heap, top->count++);
    } else if (is_worse(&top->heap[0], &found)) {
        top->heap[0] = found;
        sift_down(top->heap, top->count);
    }
    return true;
}

static int best_first(const void *left, const void *right) {
    const near_t *a = left, *b = right;
    return is_worse(a, b) ? 1 : -1;
}

static void print_top(const top_t *top, weir_dataset_t *names, bool json) {
    json_t *all = json_array();
    for (size_t i = 0; i < top->count; i++) {
        char id[WEIR_INSPECT_NAME], name[WEIR_INSPECT_NAME];
        weir_inspect_item_id(names, top->heap[i].key, id);
        weir_inspect_item_name(names, top->heap[i].key, name);
        if (json) {
            (void)json_array_append_new(all, json_pack("{s:o, s:f, s:s, s:s}", "key",
                                                       weir_inspect_json_number(top->heap[i].key),
                                                       "score", top->heap[i].score, "id", id,
                                                       "name", name));
        } else {
            (void)printf("%3zu  %8.5f  %" PRIu64 "%s%s%s%s\n", i + 1, top->heap[i].score,
                         top->heap[i].key, id[0] == '\0' ? "" : "  ", id,
                         name[0] == '\0' ? "" : "  ", name);
        }
    }
    if (json) {
        weir_inspect_print_json(
            json_pack("{s:o, s:O}", "key", weir_inspect_json_number(top->self), "nearest", all));
    }
    json_decref(all);
}

int weir_inspect_top(int argc, char **argv) {
    static const struct argp_option options[] = {
        WEIR_INSPECT_OPTION_JSON,
        WEIR_INSPECT_OPTION_TABLE,
        WEIR_INSPECT_OPTION_DATA,
        {"limit", WEIR_INSPECT_LIMIT, "N", 0, "the N nearest (default 10, at most 100000)", 0},
        {"metric", WEIR_INSPECT_METRIC, "NAME", 0, "cosine (default) or dot", 0},
        {0}};
    weir_inspect_t arguments;
    const weir_reader_table_t *table = NULL;
    weir_reader_row_t row;
    weir_reader_error_t problem = {0};
    weir_error_t error = {0};
    weir_inspect_parse(argc, argv, options, "WHERE KEY",
                       "The nearest rows to that of KEY, with their names. Exact: every row is "
                       "compared, in double precision, in one pass.",
                       2, 2, &arguments);
    const char *metric = arguments.metric == NULL ? "cosine" : arguments.metric;
    if ((strcmp(metric, "cosine") != 0 && strcmp(metric, "dot") != 0) || arguments.limit > 100000) {
        (void)weir_errorf(&error, WEIR_ERR_INVALID,
                          "--metric is cosine or dot, --limit at most 100000");
        weir_fatal(&error);
    }
    weir_reader_t *reader = weir_inspect_open(arguments.words[0], arguments.table, &table);
    top_t top = {.dim = table->dim,
                 .self = weir_inspect_key(arguments.words[1]),
                 .cosine = strcmp(metric, "cosine") == 0,
                 .capacity = arguments.limit == 0 ? 10 : (size_t)arguments.limit};
    weir_inspect_check(weir_reader_get(reader, table, top.self, &row, &problem), &problem);
    top.query = calloc(table->dim, sizeof *top.query);
    top.heap = calloc(top.capacity, sizeof *top.heap);
    if (top.query == NULL || top.heap == NULL) {
        (void)weir_errorf(&error, WEIR_ERR_MEMORY, "out of memory");
        weir_fatal(&error);
    }
    weir_reader_values(table, &row, top.query);
    for (uint32_t i = 0; i < top.dim; i++) {
        top.norm += (double)top.query[i] * (double)top.query[i];
    }
    top.norm = sqrt(top.norm);
    weir_inspect_each(reader, table, 0, WEIR_READER_SLOTS, offer, &top);
    qsort(top.heap, top.count, sizeof *top.heap, best_first);
    weir_dataset_t *names = weir_inspect_names(&arguments, reader);
    print_top(&top, names, arguments.json);
    weir_dataset_close(names);
    free(top.query);
    free(top.heap);
    weir_reader_close(reader);
    return 0;
}
