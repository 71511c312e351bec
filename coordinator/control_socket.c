#include "coordinator/control_socket.h"

#include "coordinator/control_guard.h"
#include "proto/envelope.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

struct weir_control_socket {
    void *context, *router;
    weir_control_guard_t *guard; /* NULL: without CURVE */
    zmq_msg_t body;              /* of the last message received */
    bool has_body;
};

static bool is_any(const char *host) {
    return strcmp(host, "*") == 0 || strcmp(host, "0.0.0.0") == 0;
}

/* ZeroMQ binds to numbers and interfaces; a host name becomes its number. What does not resolve is
 * left as it is: an interface, or wrong. */
static void resolve_host(const char *host, char *number, size_t capacity) {
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *found = NULL;
    (void)snprintf(number, capacity, "%s", host);
    if (is_any(host) || getaddrinfo(host, NULL, &hints, &found) != 0) {
        return;
    }
    const struct sockaddr_in *address = (const struct sockaddr_in *)(const void *)found->ai_addr;
    char text[INET_ADDRSTRLEN];
    if (inet_ntop(AF_INET, &address->sin_addr, text, sizeof text) != NULL) {
        (void)snprintf(number, capacity, "%s", text);
    }
    freeaddrinfo(found);
}

/* A peer that does not show its keys for so long is dropped, and its connection with it. */
enum { HANDSHAKE_MILLISECONDS = 10000 };

static weir_err_t set_options(void *router, weir_error_t *error) {
    int linger = 1000, handover = 1, unlimited = 0, handshake = HANDSHAKE_MILLISECONDS;
    int64_t most = WEIR_ENVELOPE_MAX;
    /* Handover: a rank that reconnects takes its identity back from its dead connection. */
    if (zmq_setsockopt(router, ZMQ_LINGER, &linger, sizeof linger) != 0 ||
        zmq_setsockopt(router, ZMQ_ROUTER_HANDOVER, &handover, sizeof handover) != 0 ||
        zmq_setsockopt(router, ZMQ_HANDSHAKE_IVL, &handshake, sizeof handshake) != 0 ||
        zmq_setsockopt(router, ZMQ_SNDHWM, &unlimited, sizeof unlimited) != 0 ||
        zmq_setsockopt(router, ZMQ_MAXMSGSIZE, &most, sizeof most) != 0) {
        return weir_errorf(error, WEIR_ERR_IO, "cannot make the control socket: %s",
                           zmq_strerror(zmq_errno()));
    }
    return WEIR_OK;
}

static weir_err_t set_guard(weir_control_socket_t *socket, const weir_curve_keys_t *keys,
                            weir_error_t *error) {
    int server = 1;
    if (keys == NULL) {
        return WEIR_OK;
    }
    weir_err_t err = weir_control_guard_open(socket->context, &socket->guard, error);
    if (err == WEIR_OK &&
        (zmq_setsockopt(socket->router, ZMQ_CURVE_SERVER, &server, sizeof server) != 0 ||
         zmq_setsockopt(socket->router, ZMQ_CURVE_SECRETKEY, keys->secret_key, WEIR_CURVE_KEY) !=
             0 ||
         zmq_setsockopt(socket->router, ZMQ_ZAP_DOMAIN, "weir", 4) != 0)) {
        err = weir_errorf(error, WEIR_ERR_IO, "cannot secure the control socket: %s",
                          zmq_strerror(zmq_errno()));
    }
    return err;
}

static weir_err_t bind_router(void *router, const char *host, int64_t port, weir_error_t *error) {
    char wanted[256], number[192], text[16] = "*";
    if (port > 0) {
        (void)snprintf(text, sizeof text, "%lld", (long long)port);
    }
    resolve_host(host, number, sizeof number);
    (void)snprintf(wanted, sizeof wanted, "tcp://%s:%s", number, text);
    if (zmq_bind(router, wanted) == 0) {
        return WEIR_OK;
    }
    int reason = zmq_errno();
    if (reason == EADDRINUSE) {
        (void)weir_errorf(error, WEIR_ERR_EXISTS,
                          "port %s of %s is in use; the control socket cannot bind to it", text,
                          is_any(host) ? "this host" : host);
        weir_error_hint(error, "cluster.port 0 takes any free port");
        return WEIR_ERR_EXISTS;
    }
    (void)weir_errorf(error, WEIR_ERR_INVALID, "the control socket cannot bind to %s: %s", wanted,
                      zmq_strerror(reason));
    weir_error_hint(error, "cluster.bind is an address or interface of the coordinator's host, or "
                           "* for all of them");
    return WEIR_ERR_INVALID;
}

/* What others connect to. */
static weir_err_t name_endpoint(void *router, const char *host, char *endpoint, size_t capacity,
                                weir_error_t *error) {
    char bound[256] = "", own[64] = "localhost";
    size_t size = sizeof bound;
    if (zmq_getsockopt(router, ZMQ_LAST_ENDPOINT, bound, &size) != 0 ||
        strrchr(bound, ':') == NULL) {
        return weir_errorf(error, WEIR_ERR_IO, "the control socket has no address");
    }
    (void)gethostname(own, sizeof own - 1);
    if (is_any(host)) {
        (void)snprintf(endpoint, capacity, "tcp://%s%s", own, strrchr(bound, ':'));
    } else {
        (void)snprintf(endpoint, capacity, "%s", bound);
    }
    return WEIR_OK;
}

weir_err_t weir_control_socket_open(const char *host, int64_t port, const weir_curve_keys_t *keys,
                                    char *endpoint, size_t capacity, weir_control_socket_t **socket,
                                    weir_error_t *error) {
    weir_control_socket_t *opened = calloc(1, sizeof *opened);
    if (opened == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the control socket");
    }
    opened->context = zmq_ctx_new();
    opened->router = opened->context != NULL ? zmq_socket(opened->context, ZMQ_ROUTER) : NULL;
    weir_err_t err = opened->router == NULL
                         ? weir_errorf(error, WEIR_ERR_IO, "cannot make the control socket: %s",
                                       zmq_strerror(zmq_errno()))
                         : set_options(opened->router, error);
    if (err == WEIR_OK) {
        err = set_guard(opened, keys, error);
    }
    if (err == WEIR_OK) {
        err = bind_router(opened->router, host, port, error);
    }
    if (err == WEIR_OK) {
        err = name_endpoint(opened->router, host, endpoint, capacity, error);
    }
    if (err != WEIR_OK) {
        weir_control_socket_close(opened);
        return err;
    }
    *socket = opened;
    return WEIR_OK;
}

static void drop_body(weir_control_socket_t *socket) {
    if (socket->has_body) {
        (void)zmq_msg_close(&socket->body);
        socket->has_body = false;
    }
}

void weir_control_socket_close(weir_control_socket_t *socket) {
    if (socket == NULL) {
        return;
    }
    drop_body(socket);
    if (socket->router != NULL) {
        (void)zmq_close(socket->router);
    }
    weir_control_guard_close(socket->guard);
    if (socket->context != NULL) {
        (void)zmq_ctx_term(socket->context);
    }
    free(socket);
}

/* Names of the guard: identities of ranks, and one for all ctl, which choose theirs. */
static const char ctl_name[] = "ctl", rank_prefix[] = "rank-";

weir_err_t weir_control_socket_admit(weir_control_socket_t *socket, const char *public_key,
                                     uint32_t rank, weir_error_t *error) {
    char name[32];
    if (socket->guard == NULL) {
        return WEIR_OK;
    }
    (void)snprintf(name, sizeof name, "%s%u", rank_prefix, rank);
    return weir_control_guard_admit(socket->guard, public_key,
                                    rank == WEIR_CONTROL_CTL ? ctl_name : name, error);
}

void weir_control_socket_wait(weir_control_socket_t *socket, int other, double seconds) {
    zmq_pollitem_t items[3] = {{.socket = socket->router, .events = ZMQ_POLLIN}};
    int count = 1;
    if (socket->guard != NULL) {
        items[count++] = (zmq_pollitem_t){.socket = weir_control_guard_socket(socket->guard),
                                          .events = ZMQ_POLLIN};
    }
    if (other >= 0) {
        items[count++] = (zmq_pollitem_t){.fd = other, .events = ZMQ_POLLIN};
    }
    (void)zmq_poll(items, count, (long)(seconds * 1000.0));
    if (socket->guard != NULL) {
        weir_control_guard_serve(socket->guard);
    }
}

/* Whether the sender of a message may speak under its identity: a rank's key under that rank's
 * alone, a ctl's under none of a rank. */
static bool is_own_identity(const weir_control_socket_t *socket, const weir_identity_t *sender,
                            zmq_msg_t *body) {
    if (socket->guard == NULL) {
        return true;
    }
    const char *name = zmq_msg_gets(body, "User-Id");
    size_t prefix = sizeof rank_prefix - 1;
    bool as_rank = sender->size >= prefix && memcmp(sender->bytes, rank_prefix, prefix) == 0;
    if (name == NULL || !as_rank) {
        return name != NULL && strcmp(name, ctl_name) == 0;
    }
    return strlen(name) == sender->size && memcmp(name, sender->bytes, sender->size) == 0;
}

bool weir_control_socket_receive(weir_control_socket_t *socket, weir_identity_t *from,
                                 const void **bytes, size_t *size, bool *whole) {
    weir_identity_t sender = {.size = 0};
    int length = zmq_recv(socket->router, sender.bytes, sizeof sender.bytes, ZMQ_DONTWAIT);
    if (length < 0) {
        return false;
    }
    int more = 1, bodies = 0;
    size_t more_size = sizeof more;
    drop_body(socket);
    (void)zmq_msg_init(&socket->body);
    socket->has_body = true;
    /* All parts of a message are there when its first is: none is waited for. */
    while (zmq_getsockopt(socket->router, ZMQ_RCVMORE, &more, &more_size) == 0 && more != 0 &&
           zmq_msg_recv(&socket->body, socket->router, ZMQ_DONTWAIT) >= 0) {
        bodies++;
    }
    *whole = bodies == 1 && (size_t)length <= sizeof sender.bytes;
    sender.size = *whole ? (size_t)length : 0;
    *whole = *whole && is_own_identity(socket, &sender, &socket->body);
    if (*whole) {
        *from = sender;
        *bytes = zmq_msg_data(&socket->body);
        *size = zmq_msg_size(&socket->body);
    }
    return true;
}

void weir_control_socket_send(weir_control_socket_t *socket, const weir_identity_t *to,
                              const void *bytes, size_t size) {
    if (zmq_send(socket->router, to->bytes, to->size, ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0) {
        (void)zmq_send(socket->router, bytes, size, ZMQ_DONTWAIT);
    }
}
