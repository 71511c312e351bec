#include "common/config_keys.h"

#include "common/suggest.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const kind_names[] = {"hstu", "sasrec", "gru4rec", "bert4rec", "ranking", NULL};
static const char *const attention_names[] = {"silu", "softmax", NULL};
static const char *const similarity_names[] = {"dot", "mixture", NULL};
static const char *const length_names[] = {"recent", "random", "time", NULL};
static const char *const tokens_names[] = {"interleaved", "summed", NULL};
static const char *const sharing_names[] = {"token", "batch", "catalogue", NULL};
static const char *const optimizer_names[] = {
    "sgd",           "momentum", "nesterov",   "adagrad",       "rowwise_adagrad", "adam", "adamw",
    "rowwise_adamw", "ftrl",     "group_ftrl", "group_adagrad", "group_adam",      NULL};
static const char *const schedule_names[] = {"constant",    "cosine", "inverse_sqrt",
                                             "exponential", "step",   NULL};
static const char *const not_finite_names[] = {"skip", "fatal", NULL};
static const char *const initializer_names[] = {"truncated_normal", "uniform", "constant", NULL};
static const char *const precision_names[] = {"float32", "bf16",       "fp16",
                                              "int8",    "split_bf16", NULL};
static const char *const rounding_names[] = {"stochastic", "nearest", NULL};
static const char *const eviction_names[] = {"lru", "lfu", NULL};
static const char *const admission_names[] = {"all", "probability", "frequency", NULL};
static const char *const order_names[] = {"shuffled", "stream", NULL};
static const char *const consistency_names[] = {"bsp", "ssp", "asp", NULL};
static const char *const compute_names[] = {"float32", "bf16", NULL};
/* The metrics of worker/rank.h. */
static const char *const metric_names[] = {"hr@1",    "hr@10",   "hr@50",    "hr@200", "ndcg@1",
                                           "ndcg@10", "ndcg@50", "ndcg@200", "mrr",    NULL};

#define INTEGER(section, key, initial, low, high, model, roles, help)                              \
    {#section "." #key,                                                                            \
     WEIR_KEY_INTEGER,                                                                             \
     offsetof(weir_config_t, section.key),                                                         \
     0,                                                                                            \
     initial,                                                                                      \
     low,                                                                                          \
     high,                                                                                         \
     false,                                                                                        \
     false,                                                                                        \
     model,                                                                                        \
     NULL,                                                                                         \
     roles,                                                                                        \
     help},
/* Bounds as an interval: '[' or ']' includes the bound, '(' or ')' leaves it out. */
#define REAL(section, key, initial, open, low, high, close, model, roles, help)                    \
    {#section "." #key,                                                                            \
     WEIR_KEY_REAL,                                                                                \
     offsetof(weir_config_t, section.key),                                                         \
     0,                                                                                            \
     initial,                                                                                      \
     low,                                                                                          \
     high,                                                                                         \
     (open) == '(',                                                                                \
     (close) == ')',                                                                               \
     model,                                                                                        \
     NULL,                                                                                         \
     roles,                                                                                        \
     help},
#define BOOLEAN(section, key, initial, model, roles, help)                                         \
    {#section "." #key,                                                                            \
     WEIR_KEY_BOOLEAN,                                                                             \
     offsetof(weir_config_t, section.key),                                                         \
     0,                                                                                            \
     initial,                                                                                      \
     0,                                                                                            \
     0,                                                                                            \
     false,                                                                                        \
     false,                                                                                        \
     model,                                                                                        \
     NULL,                                                                                         \
     roles,                                                                                        \
     help},
#define CHOICE(section, key, initial, choices, model, roles, help)                                 \
    {#section "." #key,                                                                            \
     WEIR_KEY_CHOICE,                                                                              \
     offsetof(weir_config_t, section.key),                                                         \
     0,                                                                                            \
     initial,                                                                                      \
     0,                                                                                            \
     0,                                                                                            \
     false,                                                                                        \
     false,                                                                                        \
     model,                                                                                        \
     choices,                                                                                      \
     roles,                                                                                        \
     help},
#define NAME(section, key, initial, choices, roles, help)                                          \
    {#section "." #key,                                                                            \
     WEIR_KEY_NAME,                                                                                \
     offsetof(weir_config_t, section.key),                                                         \
     sizeof(((weir_config_t *)0)->section.key),                                                    \
     initial,                                                                                      \
     0,                                                                                            \
     0,                                                                                            \
     false,                                                                                        \
     false,                                                                                        \
     false,                                                                                        \
     choices,                                                                                      \
     roles,                                                                                        \
     help},
#define TEXT(section, key, initial, roles, help)                                                   \
    {#section "." #key,                                                                            \
     WEIR_KEY_TEXT,                                                                                \
     offsetof(weir_config_t, section.key),                                                         \
     sizeof(((weir_config_t *)0)->section.key),                                                    \
     initial,                                                                                      \
     0,                                                                                            \
     0,                                                                                            \
     false,                                                                                        \
     false,                                                                                        \
     false,                                                                                        \
     NULL,                                                                                         \
     roles,                                                                                        \
     help},

/* Rows of common/config_table_keys.def: the section is a macro, expanded before it is quoted. */
#define INTEGER_OF(section, ...) INTEGER(section, __VA_ARGS__)
#define REAL_OF(section, ...) REAL(section, __VA_ARGS__)
#define CHOICE_OF(section, ...) CHOICE(section, __VA_ARGS__)
#define TEXT_OF(section, ...) TEXT(section, __VA_ARGS__)

static const weir_config_key_t keys[] = {
#include "common/config_keys.def"
};

_Static_assert(sizeof keys / sizeof keys[0] <= WEIR_CONFIG_KEY_LIMIT, "raise the limit");
_Static_assert(sizeof optimizer_names / sizeof optimizer_names[0] == WEIR_OPTIMIZER_COUNT + 1,
               "one name an optimiser");
_Static_assert(sizeof kind_names / sizeof kind_names[0] == WEIR_MODEL_COUNT + 1,
               "one name a kind of model");
_Static_assert(sizeof similarity_names / sizeof similarity_names[0] == WEIR_SIMILARITY_COUNT + 1,
               "one name a similarity");
_Static_assert(sizeof tokens_names / sizeof tokens_names[0] == WEIR_TOKENS_COUNT + 1,
               "one name a way to make tokens");
_Static_assert(sizeof attention_names / sizeof attention_names[0] == WEIR_ATTENTION_COUNT + 1,
               "one name a way to weigh");
_Static_assert(sizeof compute_names / sizeof compute_names[0] == WEIR_COMPUTE_COUNT + 1,
               "one name a number type");
_Static_assert(sizeof order_names / sizeof order_names[0] == WEIR_ORDER_COUNT + 1,
               "one name an order");
_Static_assert(sizeof consistency_names / sizeof consistency_names[0] == WEIR_CONSISTENCY_COUNT + 1,
               "one name a consistency");
_Static_assert(sizeof schedule_names / sizeof schedule_names[0] == WEIR_SCHEDULE_COUNT + 1,
               "one name a schedule");

const weir_config_key_t *weir_config_keys(size_t *count) {
    *count = sizeof keys / sizeof keys[0];
    return keys;
}

const weir_config_key_t *weir_config_keys_find(const char *name) {
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (strcmp(keys[i].name, name) == 0) {
            return &keys[i];
        }
    }
    return NULL;
}

bool weir_config_keys_has_section(const char *section, size_t size) {
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (strncmp(keys[i].name, section, size) == 0 && keys[i].name[size] == '.') {
            return true;
        }
    }
    return false;
}

const char *weir_optimizer_name(weir_optimizer_kind_t kind) {
    return (unsigned)kind < WEIR_OPTIMIZER_COUNT ? optimizer_names[kind] : "unknown";
}

const char *weir_config_key_name(size_t index) {
    return index < sizeof keys / sizeof keys[0] ? keys[index].name : NULL;
}

void weir_config_keys_expect(const weir_config_key_t *key, char *out, size_t capacity) {
    size_t used = 0;
    switch (key->type) {
    case WEIR_KEY_INTEGER:
        (void)snprintf(out, capacity, "an integer from %.0f to %.0f", key->low, key->high);
        break;
    case WEIR_KEY_REAL:
        (void)snprintf(out, capacity, "a number in %c%g, %g%c", key->low_open ? '(' : '[', key->low,
                       key->high, key->high_open ? ')' : ']');
        break;
    case WEIR_KEY_BOOLEAN:
        (void)snprintf(out, capacity, "true or false");
        break;
    case WEIR_KEY_CHOICE:
    case WEIR_KEY_NAME:
        for (size_t i = 0; key->choices[i] != NULL && used < capacity; i++) {
            int more = snprintf(out + used, capacity - used, "%s%s", i == 0 ? "one of: " : ", ",
                                key->choices[i]);
            used += more > 0 ? (size_t)more : 0;
        }
        break;
    case WEIR_KEY_TEXT:
        (void)snprintf(out, capacity, "text of at most %zu bytes", key->capacity - 1);
        break;
    }
}

static bool parse_integer(const char *text, int64_t *value) {
    const char *digits = text + (text[0] == '-' || text[0] == '+');
    if (digits[0] == '\0' || digits[strspn(digits, "0123456789")] != '\0') {
        return false;
    }
    errno = 0;
    long long parsed = strtoll(text, NULL, 10);
    *value = parsed;
    return errno == 0;
}

/* Decimal only: no hexadecimal, no inf, no nan. */
static bool parse_real(const char *text, double *value) {
    char *end = NULL;
    if (text[0] == '\0' || text[strspn(text, "0123456789+-.eE")] != '\0') {
        return false;
    }
    double parsed = strtod(text, &end);
    *value = parsed == 0.0 ? 0.0 : parsed; /* no negative zero: equal values, equal digests */
    return *end == '\0' && isfinite(parsed);
}

static bool within(const weir_config_key_t *key, double value) {
    bool above = key->low_open ? value > key->low : value >= key->low;
    bool below = key->high_open ? value < key->high : value <= key->high;
    return above && below;
}

/* Index of `text` in the choices, or -1. */
static int64_t find_choice(const weir_config_key_t *key, const char *text) {
    for (int64_t i = 0; key->choices[i] != NULL; i++) {
        if (strcmp(key->choices[i], text) == 0) {
            return i;
        }
    }
    return -1;
}

/* Bytes of the UTF-8 sequence at `s`, or 0 for a byte that begins none and for control characters.
 */
static size_t text_step(const unsigned char *s) {
    size_t more = s[0] < 0x80 ? 0 : s[0] < 0xC2 ? 9 : s[0] < 0xE0 ? 1 : s[0] < 0xF0 ? 2 : 3;
    if (s[0] < 0x20 || s[0] == 0x7F || more == 9 || s[0] > 0xF4) {
        return 0;
    }
    for (size_t i = 1; i <= more; i++) {
        if ((s[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    /* overlong forms, surrogates, beyond U+10FFFF, and the C1 control characters */
    bool bad = (s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F) ||
               (s[0] == 0xF0 && s[1] < 0x90) || (s[0] == 0xF4 && s[1] > 0x8F) ||
               (s[0] == 0xC2 && s[1] < 0xA0);
    return bad ? 0 : more + 1;
}

static bool plain_text(const char *text) {
    const unsigned char *s = (const unsigned char *)text;
    while (*s != '\0') {
        size_t step = text_step(s);
        if (step == 0) {
            return false;
        }
        s += step;
    }
    return true;
}

/* True when `text` is a value of the key; it is then stored at `place`. */
static bool store_value(const weir_config_key_t *key, const char *text, bool quoted, void *place) {
    int64_t integer = 0;
    double real = 0.0;
    switch (key->type) {
    case WEIR_KEY_INTEGER:
        if (quoted || !parse_integer(text, &integer) || !within(key, (double)integer)) {
            return false;
        }
        *(int64_t *)place = integer;
        return true;
    case WEIR_KEY_REAL:
        if (quoted || !parse_real(text, &real) || !within(key, real)) {
            return false;
        }
        *(double *)place = real;
        return true;
    case WEIR_KEY_BOOLEAN:
        if (quoted || (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)) {
            return false;
        }
        *(bool *)place = text[0] == 't';
        return true;
    case WEIR_KEY_CHOICE:
        integer = find_choice(key, text);
        if (integer < 0) {
            return false;
        }
        *(int64_t *)place = integer;
        return true;
    case WEIR_KEY_NAME:
        if (find_choice(key, text) < 0) {
            return false;
        }
        break;
    case WEIR_KEY_TEXT:
        if (!plain_text(text)) {
            return false;
        }
        break;
    }
    if (strlen(text) >= key->capacity) {
        return false;
    }
    memset(place, 0, key->capacity); /* whole arrays compare equal */
    memcpy(place, text, strlen(text));
    return true;
}

weir_err_t weir_config_keys_store(const weir_config_key_t *key, const char *text, bool quoted,
                                  weir_config_t *config, weir_error_t *error) {
    if (store_value(key, text, quoted, (char *)config + key->offset)) {
        return WEIR_OK;
    }
    char expected[256];
    weir_config_keys_expect(key, expected, sizeof expected);
    if (text[0] == '\0') {
        return weir_errorf(error, WEIR_ERR_INVALID, "%s has no value; expected %s", key->name,
                           expected);
    }
    const char *quote = quoted ? "\"" : "";
    return weir_errorf(error, WEIR_ERR_INVALID, "%s: %s%.64s%s%s is not %s", key->name, quote, text,
                       strlen(text) > 64 ? "..." : "", quote, expected);
}

void weir_config_keys_format(const weir_config_key_t *key, const weir_config_t *config, char *out,
                             size_t capacity) {
    const char *place = (const char *)config + key->offset;
    int64_t integer = 0;
    double real = 0.0;
    bool boolean = false;
    switch (key->type) {
    case WEIR_KEY_INTEGER:
        memcpy(&integer, place, sizeof integer);
        (void)snprintf(out, capacity, "%" PRId64, integer);
        break;
    case WEIR_KEY_REAL:
        memcpy(&real, place, sizeof real);
        for (int digits = 6; digits <= 17; digits++) { /* 30, not 3e+01 */
            char text[40];
            (void)snprintf(text, sizeof text, "%.*g", digits, real);
            if (digits == 17 || strtod(text, NULL) == real) {
                (void)snprintf(out, capacity, "%s", text);
                break;
            }
        }
        break;
    case WEIR_KEY_BOOLEAN:
        memcpy(&boolean, place, sizeof boolean);
        (void)snprintf(out, capacity, "%s", boolean ? "true" : "false");
        break;
    case WEIR_KEY_CHOICE:
        memcpy(&integer, place, sizeof integer);
        (void)snprintf(out, capacity, "%s", key->choices[integer]);
        break;
    case WEIR_KEY_NAME:
    case WEIR_KEY_TEXT:
        (void)snprintf(out, capacity, "%s", place);
        break;
    }
}

weir_err_t weir_config_keys_unknown(const char *name, weir_error_t *error) {
    weir_suggest_t suggest;
    weir_suggest_init(&suggest, name);
    const char *last = strrchr(name, '.');
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        weir_suggest_offer(&suggest, keys[i].name);
    }
    /* the right word in the wrong section, or without one */
    for (size_t i = 0; suggest.nearest == NULL && i < sizeof keys / sizeof keys[0]; i++) {
        if (strcmp(strchr(keys[i].name, '.') + 1, last != NULL ? last + 1 : name) == 0) {
            suggest.nearest = keys[i].name;
        }
    }
    weir_err_t code =
        suggest.nearest != NULL
            ? weir_errorf(error, WEIR_ERR_INVALID, "unknown key %.80s; did you mean %s?", name,
                          suggest.nearest)
            : weir_errorf(error, WEIR_ERR_INVALID, "unknown key %.80s", name);
    weir_error_hint(error, "`weir config` lists all keys");
    return code;
}
