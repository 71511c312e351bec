#include "tools/control_call.h"

#include "common/file.h"
#include "common/run_dir.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

static void take_key(const json_t *object, const char *name, char key[WEIR_CURVE_KEY]) {
    const char *text = json_string_value(json_object_get(object, name));
    (void)snprintf(key, WEIR_CURVE_KEY, "%s", text != NULL ? text : "");
}

weir_err_t weir_control_address_read(const char *run, weir_control_address_t *address,
                                     weir_error_t *error) {
    char path[WEIR_PATH_MAX], *text = NULL, own[64] = "";
    size_t size = 0;
    json_error_t ignored;
    weir_err_t err = weir_path_join(path, sizeof path, run, "control.json", error);
    if (err != WEIR_OK) {
        return err;
    }
    if (!weir_file_exists(run)) {
        return weir_errorf(error, WEIR_ERR_NOT_FOUND, "there is no folder %s", run);
    }
    if (!weir_file_exists(path)) {
        return weir_errorf(error, WEIR_ERR_NOT_FOUND, "no job is running in %s", run);
    }
    err = weir_file_read(path, 65536, &text, &size, error);
    json_t *object = err == WEIR_OK ? json_loadb(text, size, 0, &ignored) : NULL;
    const char *value = json_string_value(json_object_get(object, "endpoint"));
    const char *host = json_string_value(json_object_get(object, "host"));
    const char *port = value != NULL ? strrchr(value, ':') : NULL;
    (void)gethostname(own, sizeof own - 1);
    if (err == WEIR_OK && (value == NULL || host == NULL || port == NULL)) {
        err = weir_errorf(error, WEIR_ERR_CORRUPT, "%s does not say where the job listens", path);
    } else if (err == WEIR_OK && weir_run_dir_is_free(run)) {
        err = weir_errorf(error, WEIR_ERR_NOT_FOUND, "no job is running in %s", run);
        weir_error_hint(error,
                        "the last one was killed; `weir train --run %s --resume` continues "
                        "from its last checkpoint",
                        run);
    } else if (err == WEIR_OK && strcmp(host, own) == 0 && strstr(value, own) != NULL) {
        (void)snprintf(address->endpoint, sizeof address->endpoint, "tcp://127.0.0.1%s", port);
    } else if (err == WEIR_OK) {
        (void)snprintf(address->endpoint, sizeof address->endpoint, "%s", value);
    }
    take_key(object, "server_key", address->server_key);
    take_key(object, "public_key", address->keys.public_key);
    take_key(object, "secret_key", address->keys.secret_key);
    json_decref(object);
    free(text);
    return err;
}

weir_err_t weir_control_call(const weir_control_address_t *address,
                             const Weir__Control__Envelope *question, double timeout,
                             Weir__Control__Envelope **answer, weir_error_t *error) {
    const char *endpoint = address->endpoint;
    int linger = 0, wait_ms = (int)(timeout * 1000.0);
    int64_t most = WEIR_ENVELOPE_MAX;
    zmq_msg_t message;
    weir_packed_t packed = {.bytes = NULL};
    void *context = zmq_ctx_new();
    void *socket = context != NULL ? zmq_socket(context, ZMQ_DEALER) : NULL;
    (void)zmq_msg_init(&message);
    weir_err_t err = weir_envelope_pack(question, &packed, error);
    if (err == WEIR_OK && socket != NULL) {
        err = weir_curve_connect(socket, address->server_key, &address->keys, error);
    }
    if (err == WEIR_OK &&
        (socket == NULL || zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof linger) != 0 ||
         zmq_setsockopt(socket, ZMQ_RCVTIMEO, &wait_ms, sizeof wait_ms) != 0 ||
         zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &most, sizeof most) != 0 ||
         zmq_connect(socket, endpoint) != 0 ||
         zmq_send(socket, packed.bytes, packed.size, 0) < 0)) {
        err = weir_errorf(error, WEIR_ERR_PEER, "cannot reach the coordinator at %s: %s", endpoint,
                          zmq_strerror(zmq_errno()));
    }
    if (err == WEIR_OK && zmq_msg_recv(&message, socket, 0) < 0) {
        err = weir_errorf(error, WEIR_ERR_TIMEOUT, "the coordinator at %s did not answer in %.0f s",
                          endpoint, timeout);
        weir_error_hint(error,
                        "a job that was killed leaves control.json behind; is it still running on "
                        "that host?");
    }
    if (err == WEIR_OK) {
        err = weir_envelope_unpack(zmq_msg_data(&message), zmq_msg_size(&message), answer, error);
    }
    free(packed.bytes);
    (void)zmq_msg_close(&message);
    if (socket != NULL) {
        (void)zmq_close(socket);
    }
    if (context != NULL) {
        (void)zmq_ctx_term(context);
    }
    return err;
}
