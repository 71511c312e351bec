#include "coordinator/metrics_http.h"

#include "common/clock.h"
#include "common/log.h"

#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_CONNECTIONS = 32, TIMEOUT_SECONDS = 3, CONNECTION_BYTES = 8192 };
static const double page_seconds = 0.25;

struct weir_metrics_http {
    struct MHD_Daemon *daemon;
    weir_metrics_page_t *page;
    void *argument;
    struct MHD_Response *made; /* the last page; NULL: none */
    double made_at;
    struct MHD_Response *missing, *forbidden;
    bool failed; /* said so in the log */
};

/* The page, made anew when it is old. NULL: it cannot be made. */
static struct MHD_Response *page_response(weir_metrics_http_t *http) {
    double now = weir_clock_seconds();
    char *text = NULL;
    size_t size = 0;
    weir_error_t error = {0};
    if (http->made != NULL && now - http->made_at < page_seconds) {
        return http->made;
    }
    weir_err_t err = http->page(http->argument, &text, &size, &error);
    struct MHD_Response *made =
        err == WEIR_OK ? MHD_create_response_from_buffer(size, text, MHD_RESPMEM_MUST_FREE) : NULL;
    if (made == NULL) {
        if (!http->failed) {
            weir_log(WEIR_LOG_WARN, "metrics_http", "no page of metrics: %s", error.message);
        }
        http->failed = true;
        return NULL;
    }
    (void)MHD_add_response_header(made, MHD_HTTP_HEADER_CONTENT_TYPE,
                                  "text/plain; version=0.0.4; charset=utf-8");
    if (http->made != NULL) {
        MHD_destroy_response(http->made); /* it lives until the last reader has it */
    }
    http->made = made;
    http->made_at = now;
    return made;
}

static enum MHD_Result answer(void *argument, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *upload,
                              size_t *upload_size, void **state) {
    weir_metrics_http_t *http = argument;
    static int seen;
    (void)version;
    (void)upload;
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0) {
        return MHD_queue_response(connection, MHD_HTTP_METHOD_NOT_ALLOWED, http->forbidden);
    }
    if (*state == NULL) { /* the header is here, a body may follow */
        *state = &seen;
        return MHD_YES;
    }
    if (*upload_size > 0) {
        return MHD_NO; /* nobody sends a body with a GET: the connection is closed */
    }
    if (strcmp(url, "/metrics") != 0) {
        return MHD_queue_response(connection, MHD_HTTP_NOT_FOUND, http->missing);
    }
    struct MHD_Response *response = page_response(http);
    return response != NULL ? MHD_queue_response(connection, MHD_HTTP_OK, response) : MHD_NO;
}

/* ---- the address ---- */

static weir_err_t split_address(const char *address, char *host, size_t capacity, const char **port,
                                weir_error_t *error) {
    const char *colon = strrchr(address, ':');
    size_t length = colon != NULL ? (size_t)(colon - address) : 0;
    char *end = NULL;
    long number = colon != NULL ? strtol(colon + 1, &end, 10) : -1;
    if (length >= 2 && address[0] == '[' && address[length - 1] == ']') {
        address++;
        length -= 2;
    }
    if (length == 0 || length >= capacity || end == colon + 1 || *end != '\0' || number < 0 ||
        number > 65535) {
        (void)weir_errorf(error, WEIR_ERR_INVALID, "cluster.metrics_address is not HOST:PORT");
        weir_error_hint(error, "127.0.0.1:0 takes any free port of this host; empty shows nothing");
        return WEIR_ERR_INVALID;
    }
    memcpy(host, address, length);
    host[length] = '\0';
    *port = colon + 1;
    return WEIR_OK;
}

/* A socket that listens at `address`; the page's URL. */
static weir_err_t listen_at(const char *address, char *url, size_t capacity, int *listener,
                            weir_error_t *error) {
    char host[256] = "", shown[256], number[16];
    const char *port = NULL;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found = NULL;
    struct sockaddr_storage bound;
    socklen_t bound_size = sizeof bound;
    int reuse = 1;
    weir_err_t err = split_address(address, host, sizeof host, &port, error);
    if (err != WEIR_OK) {
        return err;
    }
    hints.ai_flags = AI_PASSIVE;
    int unknown = getaddrinfo(host, port, &hints, &found);
    if (unknown != 0) {
        return weir_errorf(error, WEIR_ERR_INVALID, "cluster.metrics_address: %s is unknown: %s",
                           host, gai_strerror(unknown));
    }
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool opened = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse) == 0 &&
                  bind(fd, found->ai_addr, found->ai_addrlen) == 0 && listen(fd, 16) == 0 &&
                  getsockname(fd, (struct sockaddr *)&bound, &bound_size) == 0 &&
                  getnameinfo((const struct sockaddr *)&bound, bound_size, shown, sizeof shown,
                              number, sizeof number, NI_NUMERICHOST | NI_NUMERICSERV) == 0;
    if (!opened) {
        int reason = errno;
        err = weir_errorf(error, reason == EADDRINUSE ? WEIR_ERR_EXISTS : WEIR_ERR_INVALID,
                          "metrics cannot be shown at %s: %s", address, strerror(reason));
        weir_error_hint(error, "cluster.metrics_address: port 0 takes any free one; empty shows "
                               "nothing");
        if (fd >= 0) {
            (void)close(fd);
        }
    } else {
        bool six = bound.ss_family == AF_INET6;
        (void)snprintf(url, capacity, "http://%s%s%s:%s/metrics", six ? "[" : "", shown,
                       six ? "]" : "", number);
        *listener = fd;
    }
    freeaddrinfo(found);
    return err;
}

/* ---- life ---- */

static struct MHD_Response *text_response(char *text) {
    return MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_COPY);
}

weir_err_t weir_metrics_http_open(const char *address, weir_metrics_page_t *page, void *argument,
                                  char *url, size_t capacity, weir_metrics_http_t **http,
                                  weir_error_t *error) {
    char missing[] = "weir shows its metrics at /metrics\n", forbidden[] = "GET only\n";
    int listener = -1;
    weir_metrics_http_t *created = calloc(1, sizeof *created);
    if (created == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the metrics");
    }
    created->page = page;
    created->argument = argument;
    weir_err_t err = listen_at(address, url, capacity, &listener, error);
    if (err != WEIR_OK) {
        free(created);
        return err;
    }
    created->missing = text_response(missing);
    created->forbidden = text_response(forbidden);
    if (created->missing != NULL && created->forbidden != NULL) {
        created->daemon = MHD_start_daemon(
            MHD_USE_EPOLL, 0, NULL, NULL, answer, created, MHD_OPTION_LISTEN_SOCKET, listener,
            MHD_OPTION_CONNECTION_LIMIT, (unsigned)MAX_CONNECTIONS, MHD_OPTION_CONNECTION_TIMEOUT,
            (unsigned)TIMEOUT_SECONDS, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES,
            MHD_OPTION_END);
    }
    if (created->daemon == NULL) {
        (void)close(listener);
        weir_metrics_http_close(created);
        return weir_errorf(error, WEIR_ERR_IO, "metrics cannot be shown at %s", address);
    }
    *http = created;
    return WEIR_OK;
}

void weir_metrics_http_close(weir_metrics_http_t *http) {
    if (http == NULL) {
        return;
    }
    if (http->daemon != NULL) {
        MHD_stop_daemon(http->daemon);
    }
    struct MHD_Response *const responses[] = {http->made, http->missing, http->forbidden};
    for (size_t i = 0; i < sizeof responses / sizeof responses[0]; i++) {
        if (responses[i] != NULL) {
            MHD_destroy_response(responses[i]);
        }
    }
    free(http);
}

int weir_metrics_http_fd(const weir_metrics_http_t *http) {
    const union MHD_DaemonInfo *daemon =
        http != NULL ? MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
    return daemon != NULL ? daemon->epoll_fd : -1;
}

void weir_metrics_http_serve(weir_metrics_http_t *http) {
    MHD_UNSIGNED_LONG_LONG wait = 0;
    if (http == NULL) {
        return;
    }
    /* A few turns, for what needs no more of the client; the rest can wait for the next call. */
    for (int turn = 0; turn < 4 && wait == 0; turn++) {
        if (MHD_run(http->daemon) != MHD_YES || MHD_get_timeout(http->daemon, &wait) != MHD_YES) {
            return;
        }
    }
}
