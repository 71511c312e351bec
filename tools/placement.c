#include "tools/placement.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_LETTERS                                                                               \
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"                               \
    ".-_"

enum { PORTS_AT_LEAST = 16 };

/* Whether the name at `name` stood in the list before. */
static bool is_repeated(const char *hosts, const char *name, size_t size) {
    for (const char *other = hosts; other < name;) {
        size_t length = strcspn(other, ",");
        if (length == size && strncmp(other, name, size) == 0) {
            return true;
        }
        other += length + 1;
    }
    return false;
}

static weir_err_t count_hosts(const char *hosts, long *count, weir_error_t *error) {
    *count = 0;
    for (const char *name = hosts;; name++) {
        size_t size = strcspn(name, ",");
        if (size == 0 || strspn(name, NAME_LETTERS) != size || *name == '-') {
            weir_err_t err =
                weir_errorf(error, WEIR_ERR_INVALID, "\"%.200s\" is no list of host names", hosts);
            weir_error_hint(error, "names with commas between them and no spaces: node1,node2");
            return err;
        }
        if (is_repeated(hosts, name, size)) {
            return weir_errorf(error, WEIR_ERR_INVALID, "the host %.*s stands twice in the list",
                               (int)(size < 200 ? size : 200), name);
        }
        (*count)++;
        name += size;
        if (*name == '\0') {
            return WEIR_OK;
        }
    }
}

weir_err_t weir_placement_part(const char *hosts, long ranks, long index, char *host,
                               size_t capacity, long *share, weir_error_t *error) {
    long count = 0;
    const char *name = hosts;
    weir_err_t err = count_hosts(hosts, &count, error);
    if (err != WEIR_OK) {
        return err;
    }
    if (index >= count) {
        *share = 0;
        return WEIR_OK;
    }
    for (long i = 0; i < index; i++) {
        name += strcspn(name, ",") + 1;
    }
    int length = snprintf(host, capacity, "%.*s", (int)strcspn(name, ","), name);
    if (length < 0 || (size_t)length >= capacity) {
        return weir_errorf(error, WEIR_ERR_INVALID, "a host name of %d letters is too long",
                           length);
    }
    *share = ranks / count + (index < ranks % count ? 1 : 0);
    return WEIR_OK;
}

weir_err_t weir_placement_ports(const char *text, long *first, long *last, weir_error_t *error) {
    char *end = NULL, *rest = NULL;
    long low = strtol(text, &end, 10);
    long high = *end == '-' ? strtol(end + 1, &rest, 10) : -1;
    if (strspn(text, "0123456789-") != strlen(text) || rest == NULL || *rest != '\0' ||
        low < 1024 || high > 65535 || high - low + 1 < PORTS_AT_LEAST) {
        weir_err_t err =
            weir_errorf(error, WEIR_ERR_INVALID, "\"%.100s\" is no range of ports", text);
        weir_error_hint(error,
                        "FIRST-LAST, of 1024 to 65535, %d or more: 30000-30999. Each rank "
                        "takes one on its host",
                        PORTS_AT_LEAST);
        return err;
    }
    *first = low;
    *last = high;
    return WEIR_OK;
}

weir_err_t weir_placement_check_interface(const char *text, weir_error_t *error) {
    bool empty = text[0] == '\0' || text[0] == ',' || text[0] == '-';
    for (const char *c = text; *c != '\0'; c++) {
        empty = empty || (c[0] == ',' && (c[1] == ',' || c[1] == '\0'));
    }
    if (empty || strspn(text, NAME_LETTERS ",:/") != strlen(text)) {
        weir_err_t err =
            weir_errorf(error, WEIR_ERR_INVALID, "\"%.100s\" is no list of interfaces", text);
        weir_error_hint(error, "names or networks with commas between them: eth0, 10.1.0.0/16");
        return err;
    }
    return WEIR_OK;
}
