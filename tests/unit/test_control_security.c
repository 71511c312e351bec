/* The control socket with CURVE: strangers are not heard and hear nothing, a key speaks under its
 * own identity alone, and what passes on the wire cannot be read. */
#include "common/clock.h"
#include "coordinator/control_socket.h"
#include "tests/suite.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>

/* Long enough for any machine; nothing waits for it unless the test fails. */
#define PATIENCE 20.0
/* So long is waited for what must not come, after something else that came by the same way. */
#define QUIET 0.3

static weir_curve_keys_t server_keys, rank_keys, other_keys, ctl_keys;
static weir_control_socket_t *control_socket;
static char endpoint[128];
static void *context;

static void set_up(void) {
    weir_error_t error = {0};
    ck_assert_msg(weir_curve_make_keys(&server_keys, &error) == WEIR_OK, "%s", error.message);
    ck_assert_int_eq(weir_curve_make_keys(&rank_keys, NULL), WEIR_OK);
    ck_assert_int_eq(weir_curve_make_keys(&other_keys, NULL), WEIR_OK);
    ck_assert_int_eq(weir_curve_make_keys(&ctl_keys, NULL), WEIR_OK);
    ck_assert_int_eq(weir_control_socket_open("127.0.0.1", 0, &server_keys, endpoint,
                                              sizeof endpoint, &control_socket, NULL),
                     WEIR_OK);
    ck_assert_int_eq(weir_control_socket_admit(control_socket, rank_keys.public_key, 1, NULL),
                     WEIR_OK);
    ck_assert_int_eq(
        weir_control_socket_admit(control_socket, ctl_keys.public_key, WEIR_CONTROL_CTL, NULL),
        WEIR_OK);
    context = zmq_ctx_new();
}

static void tear_down(void) {
    (void)zmq_ctx_term(context);
    weir_control_socket_close(control_socket);
}

/* `keys` NULL: without CURVE. `identity` NULL: the ROUTER chooses. */
static void *open_peer(const char *identity, const weir_curve_keys_t *keys, const char *server_key,
                       const char *where) {
    int linger = 0;
    void *peer = zmq_socket(context, ZMQ_DEALER);
    ck_assert_ptr_nonnull(peer);
    ck_assert_int_eq(zmq_setsockopt(peer, ZMQ_LINGER, &linger, sizeof linger), 0);
    if (identity != NULL) {
        ck_assert_int_eq(zmq_setsockopt(peer, ZMQ_ROUTING_ID, identity, strlen(identity)), 0);
    }
    if (keys != NULL) {
        ck_assert_int_eq(weir_curve_connect(peer, server_key, keys, NULL), WEIR_OK);
    }
    ck_assert_int_eq(zmq_connect(peer, where), 0);
    return peer;
}

static void say(void *peer, const char *text) {
    ck_assert_int_eq(zmq_send(peer, text, strlen(text), 0), (int)strlen(text));
}

/* The next whole message, answered with itself; false after `seconds`. */
static bool hear(char *text, size_t capacity, double seconds) {
    double deadline = weir_clock_seconds() + seconds;
    while (weir_clock_seconds() < deadline) {
        weir_identity_t from;
        const void *bytes;
        size_t size;
        bool whole = false;
        weir_control_socket_wait(control_socket, -1, 0.01);
        while (weir_control_socket_receive(control_socket, &from, &bytes, &size, &whole)) {
            if (whole) {
                ck_assert_uint_lt(size, capacity);
                memcpy(text, bytes, size);
                text[size] = '\0';
                weir_control_socket_send(control_socket, &from, bytes, size);
                return true;
            }
        }
    }
    return false;
}

static void expect(const char *wanted) {
    char text[64] = "";
    ck_assert_msg(hear(text, sizeof text, PATIENCE), "\"%s\" did not come", wanted);
    ck_assert_str_eq(text, wanted);
}

static void expect_nothing(void) {
    char text[64] = "";
    ck_assert_msg(!hear(text, sizeof text, QUIET), "heard \"%s\"", text);
}

static bool is_answered(void *peer) {
    char text[64];
    return zmq_recv(peer, text, sizeof text, ZMQ_DONTWAIT) >= 0;
}

static bool becomes_answered(void *peer) {
    double deadline = weir_clock_seconds() + PATIENCE;
    while (weir_clock_seconds() < deadline) {
        if (is_answered(peer)) {
            return true;
        }
        weir_clock_sleep(0.001);
    }
    return false;
}

START_TEST(ranks_and_ctl_are_heard_and_answered) {
    void *rank = open_peer("rank-1", &rank_keys, server_keys.public_key, endpoint);
    void *ctl = open_peer(NULL, &ctl_keys, server_keys.public_key, endpoint);
    say(rank, "as a rank");
    expect("as a rank");
    say(ctl, "as ctl");
    expect("as ctl");
    ck_assert(becomes_answered(rank));
    ck_assert(becomes_answered(ctl));
    (void)zmq_close(rank);
    (void)zmq_close(ctl);
}
END_TEST

START_TEST(strangers_are_not_heard) {
    void *plain = open_peer("rank-1", NULL, NULL, endpoint);
    void *unknown = open_peer("rank-1", &other_keys, server_keys.public_key, endpoint);
    /* Its own key is right, but it takes another server for ours. */
    void *misled = open_peer("rank-1", &rank_keys, other_keys.public_key, endpoint);
    void *rank = open_peer("rank-1", &rank_keys, server_keys.public_key, endpoint);
    say(plain, "plain");
    say(unknown, "unknown");
    say(misled, "misled");
    say(rank, "rank");
    expect("rank");
    expect_nothing();
    ck_assert(becomes_answered(rank));
    ck_assert(!is_answered(plain));
    ck_assert(!is_answered(unknown));
    ck_assert(!is_answered(misled));
    (void)zmq_close(plain);
    (void)zmq_close(unknown);
    (void)zmq_close(misled);
    (void)zmq_close(rank);
}
END_TEST

START_TEST(a_key_speaks_under_its_own_identity_alone) {
    void *as_other = open_peer("rank-2", &rank_keys, server_keys.public_key, endpoint);
    void *as_ctl = open_peer("anybody", &rank_keys, server_keys.public_key, endpoint);
    void *ctl = open_peer("rank-1", &ctl_keys, server_keys.public_key, endpoint);
    void *longer = open_peer("rank-12", &rank_keys, server_keys.public_key, endpoint);
    say(as_other, "rank 1 as rank 2");
    say(as_ctl, "rank 1 as ctl");
    say(ctl, "ctl as rank 1");
    say(longer, "rank 1 as rank 12");
    expect_nothing();
    void *rank = open_peer("rank-1", &rank_keys, server_keys.public_key, endpoint);
    say(rank, "rank 1 as itself");
    expect("rank 1 as itself");
    (void)zmq_close(as_other);
    (void)zmq_close(as_ctl);
    (void)zmq_close(ctl);
    (void)zmq_close(longer);
    (void)zmq_close(rank);
}
END_TEST

static int connect_raw(const char *where) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port =
                                      htons((uint16_t)strtoul(strrchr(where, ':') + 1, NULL, 10)),
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

START_TEST(garbage_on_many_connections_stops_nobody) {
    enum { MANY = 100 };
    int fds[MANY];
    char garbage[512];
    for (size_t i = 0; i < sizeof garbage; i++) {
        garbage[i] = (char)(i * 37 + 11);
    }
    for (int i = 0; i < MANY; i++) {
        fds[i] = connect_raw(endpoint);
        if (i % 2 == 0) { /* the others say nothing at all */
            (void)send(fds[i], garbage, sizeof garbage, MSG_NOSIGNAL);
        }
    }
    void *rank = open_peer("rank-1", &rank_keys, server_keys.public_key, endpoint);
    for (int i = 0; i < 20; i++) {
        say(rank, "here");
        expect("here");
    }
    (void)zmq_close(rank);
    for (int i = 0; i < MANY; i++) {
        (void)close(fds[i]);
    }
}
END_TEST

/* A listener between: passes bytes on both ways and keeps them. */
typedef struct {
    int listener, client, server;
    char kept[1 << 16];
    size_t count;
} relay_t;

static void open_relay(relay_t *relay, char *where, size_t capacity) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    *relay = (relay_t){.client = -1, .server = -1};
    relay->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    ck_assert_int_eq(bind(relay->listener, (const struct sockaddr *)&address, size), 0);
    ck_assert_int_eq(listen(relay->listener, 1), 0);
    ck_assert_int_eq(getsockname(relay->listener, (struct sockaddr *)&address, &size), 0);
    (void)snprintf(where, capacity, "tcp://127.0.0.1:%u", ntohs(address.sin_port));
}

static void pass_on(relay_t *relay, int from, int to) {
    char bytes[4096];
    ssize_t size = recv(from, bytes, sizeof bytes, MSG_DONTWAIT);
    if (size > 0 && relay->count + (size_t)size <= sizeof relay->kept) {
        memcpy(relay->kept + relay->count, bytes, (size_t)size);
        relay->count += (size_t)size;
        ck_assert_int_eq(send(to, bytes, (size_t)size, MSG_NOSIGNAL), size);
    }
}

static void turn_relay(relay_t *relay) {
    if (relay->client < 0) {
        relay->client = accept(relay->listener, NULL, NULL);
        relay->server = relay->client >= 0 ? connect_raw(endpoint) : -1;
    }
    if (relay->client >= 0) {
        pass_on(relay, relay->client, relay->server);
        pass_on(relay, relay->server, relay->client);
    }
}

/* Say `text` through a relay and wait until it is heard; whether it could be read between. */
static bool is_read_between(const weir_curve_keys_t *keys, const char *text) {
    static relay_t relay;
    char where[64], heard[64];
    bool came = false;
    double deadline = weir_clock_seconds() + PATIENCE;
    open_relay(&relay, where, sizeof where);
    void *peer = open_peer("rank-1", keys, server_keys.public_key, where);
    say(peer, text);
    while (!came && weir_clock_seconds() < deadline) {
        turn_relay(&relay);
        came = hear(heard, sizeof heard, 0.002);
    }
    ck_assert(came);
    ck_assert_str_eq(heard, text);
    (void)zmq_close(peer);
    (void)close(relay.listener);
    (void)close(relay.client);
    (void)close(relay.server);
    ck_assert_uint_gt(relay.count, strlen(text));
    return memmem(relay.kept, relay.count, text, strlen(text)) != NULL;
}

START_TEST(what_passes_cannot_be_read) {
    ck_assert(!is_read_between(&rank_keys, "the loss is 3.14"));
    /* Without CURVE the same relay does read it: the test can fail. */
    weir_control_socket_close(control_socket);
    ck_assert_int_eq(weir_control_socket_open("127.0.0.1", 0, NULL, endpoint, sizeof endpoint,
                                              &control_socket, NULL),
                     WEIR_OK);
    ck_assert(is_read_between(NULL, "the loss is 3.14"));
}
END_TEST

START_TEST(keys_that_are_none_are_refused) {
    weir_curve_keys_t broken = rank_keys;
    void *peer = zmq_socket(context, ZMQ_DEALER);
    weir_error_t error = {0};
    broken.secret_key[7] = '\0';
    ck_assert(weir_curve_is_key(rank_keys.public_key));
    ck_assert(!weir_curve_is_key(""));
    ck_assert(!weir_curve_is_key("too short"));
    ck_assert_int_eq(weir_curve_connect(peer, server_keys.public_key, &broken, &error),
                     WEIR_ERR_INVALID);
    ck_assert_int_eq(weir_curve_connect(peer, "no key at all", &rank_keys, &error),
                     WEIR_ERR_INVALID);
    ck_assert_int_eq(weir_control_socket_admit(control_socket, "no key", 1, &error),
                     WEIR_ERR_INVALID);
    (void)zmq_close(peer);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("control_security");
    TCase *t = tcase_create("control_security");
    tcase_set_timeout(t, 4 * PATIENCE);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, ranks_and_ctl_are_heard_and_answered);
    tcase_add_test(t, strangers_are_not_heard);
    tcase_add_test(t, a_key_speaks_under_its_own_identity_alone);
    tcase_add_test(t, garbage_on_many_connections_stops_nobody);
    tcase_add_test(t, what_passes_cannot_be_read);
    tcase_add_test(t, keys_that_are_none_are_refused);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
