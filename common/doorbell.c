#include "common/doorbell.h"

#include "common/hash.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* What is known of a rank. */
typedef struct {
    bool heard;   /* it has rung */
    bool greeted; /* a ring has reached it */
} caller_t;

struct weir_doorbell {
    int fd;
    uint64_t job;
    uint32_t rank, size, heard;
    caller_t *callers; /* size */
};

/* A name beginning with a zero byte is in no file system. All users of the host see it, so that it
 * does not give the job's number away, which a message must know: half of its hash does. */
static socklen_t name_bell(uint64_t job, uint32_t rank, struct sockaddr_un *address) {
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    int length = snprintf(address->sun_path + 1, sizeof address->sun_path - 1,
                          "weir-%08" PRIx32 "-%" PRIu32, (uint32_t)weir_hash64(job), rank);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
}

static bool send_ring(weir_doorbell_t *bell, uint32_t to) {
    struct sockaddr_un address;
    socklen_t length = name_bell(bell->job, to, &address);
    /* A full queue (EAGAIN) has rings enough to wake it; but who rang was not heard. */
    return sendto(bell->fd, &bell->rank, sizeof bell->rank, MSG_DONTWAIT,
                  (struct sockaddr *)&address, length) == (ssize_t)sizeof bell->rank;
}

weir_err_t weir_doorbell_create(uint64_t job, uint32_t rank, uint32_t size, weir_doorbell_t **bell,
                                weir_error_t *error) {
    struct sockaddr_un address;
    weir_doorbell_t *created = calloc(1, sizeof *created);
    weir_err_t err = WEIR_OK;
    if (created == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for a doorbell");
    }
    *created = (weir_doorbell_t){.fd = -1, .job = job, .rank = rank, .size = size};
    created->callers = calloc(size, sizeof *created->callers);
    socklen_t length = name_bell(job, rank, &address);
    if (created->callers == NULL) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "no memory for a doorbell");
        goto out;
    }
    created->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (created->fd < 0 || bind(created->fd, (struct sockaddr *)&address, length) != 0) {
        err = weir_error_from_errno(error, errno, "cannot hang up the doorbell of rank %u", rank);
        goto out;
    }
    for (uint32_t other = 0; other < size; other++) {
        if (other != rank) { /* whoever is not there yet will greet us */
            created->callers[other].greeted = send_ring(created, other);
        }
    }
    *bell = created;
    created = NULL;
out:
    weir_doorbell_destroy(created);
    return err;
}

void weir_doorbell_destroy(weir_doorbell_t *bell) {
    if (bell != NULL) {
        if (bell->fd >= 0) {
            (void)close(bell->fd);
        }
        free(bell->callers);
        free(bell);
    }
}

int weir_doorbell_fd(const weir_doorbell_t *bell) {
    return bell->fd;
}

void weir_doorbell_ring(weir_doorbell_t *bell, uint32_t to) {
    caller_t *caller = &bell->callers[to];
    if (caller->greeted || caller->heard) { /* else it is elsewhere, or will greet us */
        caller->greeted = send_ring(bell, to) || caller->greeted;
    }
}

void weir_doorbell_listen(weir_doorbell_t *bell) {
    uint32_t from;
    ssize_t size;
    while ((size = recv(bell->fd, &from, sizeof from, MSG_DONTWAIT)) >= 0) {
        if (size != (ssize_t)sizeof from || from >= bell->size || from == bell->rank) {
            continue; /* not from one of us */
        }
        caller_t *caller = &bell->callers[from];
        bell->heard += caller->heard ? 0 : 1;
        caller->heard = true;
        if (!caller->greeted) {
            caller->greeted = send_ring(bell, from);
        }
    }
}

uint32_t weir_doorbell_heard(const weir_doorbell_t *bell) {
    return bell->heard;
}
