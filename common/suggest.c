#include "common/suggest.h"

#include <string.h>

enum { LONGEST_NAME = 127 };

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

/* Edit distance with swaps of neighbours ("optimal string alignment"), three rows at a time. */
static size_t edit_distance(const char *a, size_t a_size, const char *b, size_t b_size) {
    size_t rows[3][LONGEST_NAME + 1];
    size_t *before = rows[0], *previous = rows[1], *current = rows[2];
    for (size_t j = 0; j <= b_size; j++) {
        previous[j] = j;
        before[j] = j;
    }
    for (size_t i = 1; i <= a_size; i++) {
        current[0] = i;
        for (size_t j = 1; j <= b_size; j++) {
            size_t change = previous[j - 1] + (a[i - 1] != b[j - 1]);
            current[j] = smaller(change, smaller(previous[j], current[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
                current[j] = smaller(current[j], before[j - 2] + 1);
            }
        }
        size_t *spare = before;
        before = previous;
        previous = current;
        current = spare;
    }
    return previous[b_size];
}

void weir_suggest_init(weir_suggest_t *suggest, const char *word) {
    size_t size = strlen(word);
    size_t limit = size / 3 < 2 ? 2 : size / 3;
    *suggest = (weir_suggest_t){.word = word, .nearest = NULL, .distance = limit + 1};
}

void weir_suggest_offer(weir_suggest_t *suggest, const char *candidate) {
    size_t a_size = strlen(suggest->word), b_size = strlen(candidate);
    if (a_size > LONGEST_NAME || b_size > LONGEST_NAME) {
        return;
    }
    size_t distance = edit_distance(suggest->word, a_size, candidate, b_size);
    if (distance < suggest->distance) {
        suggest->distance = distance;
        suggest->nearest = candidate;
    }
}
