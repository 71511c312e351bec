#include "coordinator/control_guard.h"

#include "proto/curve.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

enum { KEY_BYTES = 32, NAME_MAX_BYTES = 32, REQUEST_MAX = 256 };

typedef struct {
    uint8_t key[KEY_BYTES];
    char name[NAME_MAX_BYTES];
} admitted_t;

struct weir_control_guard {
    void *questions; /* ZMQ_REP at the address that RFC 27 fixes */
    admitted_t *admitted;
    size_t count, capacity;
};

weir_err_t weir_control_guard_open(void *context, weir_control_guard_t **guard,
                                   weir_error_t *error) {
    int linger = 0;
    weir_control_guard_t *opened = calloc(1, sizeof *opened);
    if (opened == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the control socket's guard");
    }
    opened->questions = zmq_socket(context, ZMQ_REP);
    if (opened->questions == NULL ||
        zmq_setsockopt(opened->questions, ZMQ_LINGER, &linger, sizeof linger) != 0 ||
        zmq_bind(opened->questions, "inproc://zeromq.zap.01") != 0) {
        weir_err_t err = weir_errorf(error, WEIR_ERR_IO, "cannot guard the control socket: %s",
                                     zmq_strerror(zmq_errno()));
        weir_control_guard_close(opened);
        return err;
    }
    *guard = opened;
    return WEIR_OK;
}

void weir_control_guard_close(weir_control_guard_t *guard) {
    if (guard == NULL) {
        return;
    }
    if (guard->questions != NULL) {
        (void)zmq_close(guard->questions);
    }
    free(guard->admitted);
    free(guard);
}

weir_err_t weir_control_guard_admit(weir_control_guard_t *guard, const char *public_key,
                                    const char *name, weir_error_t *error) {
    if (!weir_curve_is_key(public_key) || strlen(name) >= NAME_MAX_BYTES) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "the public key of %.31s for the control plane is no key", name);
    }
    if (guard->count == guard->capacity) {
        size_t capacity = guard->capacity == 0 ? 16 : 2 * guard->capacity;
        admitted_t *grown = realloc(guard->admitted, capacity * sizeof *grown);
        if (grown == NULL) {
            return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for %zu keys of ranks", capacity);
        }
        guard->admitted = grown;
        guard->capacity = capacity;
    }
    admitted_t *admitted = &guard->admitted[guard->count++];
    (void)zmq_z85_decode(admitted->key, public_key);
    (void)snprintf(admitted->name, sizeof admitted->name, "%s", name);
    return WEIR_OK;
}

void *weir_control_guard_socket(weir_control_guard_t *guard) {
    return guard->questions;
}

/* Parts of a question: version, number, domain, address, identity, mechanism, credentials. */
typedef struct {
    char number[REQUEST_MAX];
    size_t number_size;
    uint8_t credentials[KEY_BYTES];
    bool is_key; /* mechanism CURVE, and one credential of a key's size */
} question_t;

static bool take_question(weir_control_guard_t *guard, question_t *question) {
    char part[REQUEST_MAX];
    int more = 1, index = 0;
    size_t more_size = sizeof more;
    bool curve = false, key = false;
    *question = (question_t){.number_size = 0};
    for (; more != 0; index++) {
        int size = zmq_recv(guard->questions, part, sizeof part, ZMQ_DONTWAIT);
        if (size < 0) {
            return false;
        }
        if (index == 1 && (size_t)size <= sizeof part) {
            memcpy(question->number, part, (size_t)size);
            question->number_size = (size_t)size;
        }
        curve = index == 5 ? size == 5 && memcmp(part, "CURVE", 5) == 0 : curve;
        if (index == 6 && size == KEY_BYTES) {
            memcpy(question->credentials, part, KEY_BYTES);
            key = true;
        }
        if (zmq_getsockopt(guard->questions, ZMQ_RCVMORE, &more, &more_size) != 0) {
            return false;
        }
    }
    question->is_key = curve && key && index == 7;
    return true;
}

static const char *name_of(const weir_control_guard_t *guard, const question_t *question) {
    for (size_t i = 0; i < guard->count && question->is_key; i++) {
        if (memcmp(guard->admitted[i].key, question->credentials, KEY_BYTES) == 0) {
            return guard->admitted[i].name;
        }
    }
    return NULL;
}

static void answer(weir_control_guard_t *guard, const question_t *question, const char *name) {
    const char *status = name != NULL ? "200" : "400";
    const char *text = name != NULL ? "" : "not of this job";
    const char *user = name != NULL ? name : "";
    (void)zmq_send(guard->questions, "1.0", 3, ZMQ_SNDMORE);
    (void)zmq_send(guard->questions, question->number, question->number_size, ZMQ_SNDMORE);
    (void)zmq_send(guard->questions, status, 3, ZMQ_SNDMORE);
    (void)zmq_send(guard->questions, text, strlen(text), ZMQ_SNDMORE);
    (void)zmq_send(guard->questions, user, strlen(user), ZMQ_SNDMORE);
    (void)zmq_send(guard->questions, "", 0, 0); /* no metadata */
}

void weir_control_guard_serve(weir_control_guard_t *guard) {
    question_t question;
    while (take_question(guard, &question)) {
        const char *name = name_of(guard, &question);
        answer(guard, &question, name);
    }
}
