/* The HTTP end of the metrics: GET /metrics, over libmicrohttpd, driven by the coordinator's loop.
 *
 * DESIGN. No thread: the daemon has one epoll descriptor, which the loop waits for beside the
 * control socket; while nobody asks nothing runs. The page is made when it is asked for, and at
 * most four times a second however many ask. A client may hold one of MAX_CONNECTIONS connections,
 * a few KiB, and is dropped after TIMEOUT_SECONDS without a byte; it can slow other readers of the
 * page, never the control plane, for one turn of the loop serves each connection once. */
#ifndef WEIR_COORDINATOR_METRICS_HTTP_H
#define WEIR_COORDINATOR_METRICS_HTTP_H

#include "common/error.h"

#include <stddef.h>

typedef struct weir_metrics_http weir_metrics_http_t;

/* Makes the page: text in *page (malloc, taken over). */
typedef weir_err_t weir_metrics_page_t(void *argument, char **page, size_t *size,
                                       weir_error_t *error);

/* Listen at "HOST:PORT" or "[IPv6]:PORT"; port 0: any free one. `url` becomes what a client asks:
 * "http://127.0.0.1:41234/metrics". Errors: INVALID (not an address), EXISTS (in use).
 * Call: local. Threads: owner, also of all below. */
WEIR_MUST_USE weir_err_t weir_metrics_http_open(const char *address, weir_metrics_page_t *page,
                                                void *argument, char *url, size_t capacity,
                                                weir_metrics_http_t **http, weir_error_t *error);
void weir_metrics_http_close(weir_metrics_http_t *http);

/* Readable when somebody asks; -1 for NULL. */
int weir_metrics_http_fd(const weir_metrics_http_t *http);

/* Serve who asks, and drop who is late; returns at once. Accepts NULL. */
void weir_metrics_http_serve(weir_metrics_http_t *http);

#endif
