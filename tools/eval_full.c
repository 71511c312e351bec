#include "tools/eval_full.h"

#include "worker/list_metrics.h"

#include <stdio.h>
#include <string.h>

static void print_value(const json_t *value) {
    if (json_is_number(value)) {
        double number = json_number_value(value);
        (void)printf(number >= 100.0 ? "  %8.1f" : "  %8.4f", number);
    } else {
        (void)printf("  %8s", "-"); /* of nothing */
    }
}

/* The k's, from the names of recall; valid as long as `lists`. */
static size_t find_cutoffs(json_t *lists, const char **cutoffs, size_t most) {
    static const char prefix[] = "recall@";
    const char *name;
    json_t *value;
    size_t count = 0;
    json_object_foreach(lists, name, value) {
        if (strncmp(name, prefix, sizeof prefix - 1) == 0 && count < most) {
            cutoffs[count++] = name + sizeof prefix - 1;
        }
    }
    return count;
}

static void print_lists(const char *split, json_t *metrics) {
    json_t *lists = json_object_get(metrics, "lists");
    const char *cutoffs[WEIR_LIST_CUTOFFS];
    size_t count = find_cutoffs(lists, cutoffs, WEIR_LIST_CUTOFFS);
    (void)printf("\n%-18s", split);
    for (size_t i = 0; i < count; i++) {
        char title[24];
        (void)snprintf(title, sizeof title, "@%s", cutoffs[i]);
        (void)printf("  %8s", title);
    }
    (void)putchar('\n');
    for (int kind = 0; kind < WEIR_LIST_KINDS; kind++) {
        const char *name = weir_list_kind_name((weir_list_kind_t)kind);
        (void)printf("%-18s", name);
        for (size_t i = 0; i < count; i++) {
            char key[64];
            (void)snprintf(key, sizeof key, "%s@%s", name, cutoffs[i]);
            print_value(json_object_get(lists, key));
        }
        (void)putchar('\n');
    }
    (void)printf("r_precision %.4f", json_number_value(json_object_get(lists, "r_precision")));
    (void)printf(", popularity opportunity");
    print_value(json_object_get(metrics, "popularity_opportunity"));
    (void)putchar('\n');
}

static void print_part(const char *title, const json_t *part) {
    double users = json_number_value(json_object_get(part, "users"));
    if (users > 0.0) {
        (void)printf("targets %-22s HR@10 %.4f, NDCG@10 %.4f, MRR %.4f: %.0f users\n", title,
                     json_number_value(json_object_get(part, "hr@10")),
                     json_number_value(json_object_get(part, "ndcg@10")),
                     json_number_value(json_object_get(part, "mrr")), users);
    } else {
        (void)printf("targets %-22s none\n", title);
    }
}

void weir_eval_print_full(const char *split, json_t *metrics) {
    const json_t *catalogue = json_object_get(metrics, "catalogue");
    if (json_object_get(metrics, "lists") == NULL) {
        return;
    }
    print_lists(split, metrics);
    print_part("that training has:", json_object_get(metrics, "warm_items"));
    print_part("cold (not in training):", json_object_get(metrics, "cold_items"));
    (void)printf("items %lld, in training %lld\n",
                 (long long)json_integer_value(json_object_get(catalogue, "items")),
                 (long long)json_integer_value(json_object_get(catalogue, "in_training")));
}
