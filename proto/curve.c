#include "proto/curve.h"

#include <stdint.h>
#include <string.h>
#include <zmq.h>

weir_err_t weir_curve_make_keys(weir_curve_keys_t *keys, weir_error_t *error) {
    if (zmq_has("curve") == 0 || zmq_curve_keypair(keys->public_key, keys->secret_key) != 0) {
        *keys = (weir_curve_keys_t){.public_key = ""};
        (void)weir_errorf(error, WEIR_ERR_UNSUPPORTED, "this ZeroMQ has no CURVE security");
        weir_error_hint(error, "install a libzmq with libsodium, or set cluster.curve=false: then "
                               "whoever reaches the coordinator's port can stop the job");
        return WEIR_ERR_UNSUPPORTED;
    }
    return WEIR_OK;
}

bool weir_curve_is_key(const char *text) {
    uint8_t bytes[32];
    return strnlen(text, WEIR_CURVE_KEY) == WEIR_CURVE_KEY - 1 &&
           zmq_z85_decode(bytes, text) != NULL;
}

weir_err_t weir_curve_connect(void *socket, const char *server_key, const weir_curve_keys_t *keys,
                              weir_error_t *error) {
    if (server_key[0] == '\0') {
        return WEIR_OK;
    }
    if (!weir_curve_is_key(server_key) || !weir_curve_is_key(keys->public_key) ||
        !weir_curve_is_key(keys->secret_key) ||
        zmq_setsockopt(socket, ZMQ_CURVE_SERVERKEY, server_key, WEIR_CURVE_KEY) != 0 ||
        zmq_setsockopt(socket, ZMQ_CURVE_PUBLICKEY, keys->public_key, WEIR_CURVE_KEY) != 0 ||
        zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, keys->secret_key, WEIR_CURVE_KEY) != 0) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "the keys of the control plane are not keys of CURVE");
    }
    return WEIR_OK;
}
