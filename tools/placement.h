/* Where the ranks of a job go, as mpirun is told it: hosts, interfaces, ports. */
#ifndef WEIR_TOOLS_PLACEMENT_H
#define WEIR_TOOLS_PLACEMENT_H

#include "common/error.h"

#include <stddef.h>

/* The part of host number `index` when `ranks` are spread over `hosts` ("a,b,c") in blocks that
 * differ by one rank at most, the larger ones first. *share: its ranks, 0: there is no such host,
 * or none is left for it. WEIR_ERR_INVALID: a name that is none (letters, digits, '.', '-', '_'),
 * an empty or repeated one, or one longer than `host` has room for. Call: local. */
WEIR_MUST_USE weir_err_t weir_placement_part(const char *hosts, long ranks, long index, char *host,
                                             size_t capacity, long *share, weir_error_t *error);

/* Read "FIRST-LAST", ports of 1024 to 65535, at least 16 of them. WEIR_ERR_INVALID otherwise, with
 * *first and *last as they were. Call: local. */
WEIR_MUST_USE weir_err_t weir_placement_ports(const char *text, long *first, long *last,
                                              weir_error_t *error);

/* Refuse an interface list that is neither names nor networks. Call: local. */
WEIR_MUST_USE weir_err_t weir_placement_check_interface(const char *text, weir_error_t *error);

#endif
