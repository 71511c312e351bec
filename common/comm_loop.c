/* Ranks inside one process: each has a mailbox that the others append to. Frames go through the
 * same encoding, decoding and checks as over MPI. */
#include "common/comm.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

typedef struct letter {
    struct letter *next;
    uint8_t header[WEIR_FRAME_HEADER_SIZE];
    void *payload;
} letter_t;

typedef struct {
    pthread_mutex_t mutex; /* guards the list */
    letter_t *first, **last;
} mailbox_t;

typedef struct {
    mailbox_t *mailboxes; /* one a rank */
    weir_rank_t size;
    atomic_uint users; /* ranks not destroyed yet */
} loop_t;

typedef struct {
    weir_comm_t base;
    loop_t *loop;
} loop_comm_t;

static loop_comm_t *loop_comm(weir_comm_t *comm) {
    return (loop_comm_t *)(void *)comm; /* base is the first member */
}

static weir_err_t send_frame(weir_comm_t *comm, weir_rank_t to, weir_frame_t frame,
                             weir_error_t *error) {
    mailbox_t *mailbox = &loop_comm(comm)->loop->mailboxes[to];
    letter_t *letter = calloc(1, sizeof *letter);
    if (letter == NULL) {
        weir_buffer_release(frame.payload);
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory to send a frame");
    }
    frame.header.payload_checksum =
        weir_frame_checksum(frame.payload, (size_t)frame.header.payload_size);
    weir_frame_encode_header(&frame.header, letter->header);
    letter->payload = frame.payload;
    (void)pthread_mutex_lock(&mailbox->mutex);
    *mailbox->last = letter;
    mailbox->last = &letter->next;
    (void)pthread_mutex_unlock(&mailbox->mutex);
    return WEIR_OK;
}

static letter_t *take_letter(mailbox_t *mailbox) {
    (void)pthread_mutex_lock(&mailbox->mutex);
    letter_t *letter = mailbox->first;
    if (letter != NULL) {
        mailbox->first = letter->next;
        if (mailbox->first == NULL) {
            mailbox->last = &mailbox->first;
        }
    }
    (void)pthread_mutex_unlock(&mailbox->mutex);
    return letter;
}

static weir_err_t poll_frame(weir_comm_t *comm, weir_frame_t *frame, bool *received,
                             bool *progressed, weir_error_t *error) {
    if (frame == NULL) {
        return WEIR_OK; /* sends are done when send returns */
    }
    letter_t *letter = take_letter(&loop_comm(comm)->loop->mailboxes[comm->rank]);
    if (letter == NULL) {
        return WEIR_OK;
    }
    weir_frame_header_t header;
    weir_err_t err =
        weir_frame_decode_header(letter->header, sizeof letter->header, comm->job, &header, error);
    if (err == WEIR_OK && weir_frame_checksum(letter->payload, (size_t)header.payload_size) !=
                              header.payload_checksum) {
        err = weir_errorf(error, WEIR_ERR_CORRUPT, "a %s frame from rank %u fails its checksum",
                          weir_frame_type_name((weir_frame_type_t)header.type), header.source);
    }
    if (err == WEIR_OK) {
        *frame = (weir_frame_t){.header = header, .payload = letter->payload};
        *received = *progressed = true;
    } else {
        weir_buffer_release(letter->payload);
    }
    free(letter);
    return err;
}

static bool is_idle(const weir_comm_t *comm) {
    (void)comm; /* a frame is in the mailbox when send returns */
    return true;
}

static bool is_receiving(const weir_comm_t *comm) {
    (void)comm; /* a letter is whole */
    return false;
}

static void destroy_loop(loop_t *loop) {
    for (weir_rank_t rank = 0; rank < loop->size; rank++) {
        letter_t *letter;
        while ((letter = take_letter(&loop->mailboxes[rank])) != NULL) {
            weir_buffer_release(letter->payload);
            free(letter);
        }
        (void)pthread_mutex_destroy(&loop->mailboxes[rank].mutex);
    }
    free(loop->mailboxes);
    free(loop);
}

static void destroy_comm(weir_comm_t *comm) {
    loop_t *loop = loop_comm(comm)->loop;
    free(comm);
    if (atomic_fetch_sub(&loop->users, 1) == 1) {
        destroy_loop(loop);
    }
}

static const weir_comm_operations_t loop_operations = {.destroy = destroy_comm,
                                                       .send = send_frame,
                                                       .poll = poll_frame,
                                                       .idle = is_idle,
                                                       .receiving = is_receiving};

weir_err_t weir_comm_loop_create(weir_rank_t size, weir_comm_t **comms, weir_error_t *error) {
    weir_rank_t made = 0;
    loop_t *loop = calloc(1, sizeof *loop);
    loop_comm_t **created = calloc(size, sizeof *created);
    mailbox_t *mailboxes = calloc(size, sizeof *mailboxes);
    if (loop == NULL || created == NULL || mailboxes == NULL) {
        goto out_of_memory;
    }
    for (made = 0; made < size; made++) {
        created[made] = calloc(1, sizeof **created);
        if (created[made] == NULL) {
            goto out_of_memory;
        }
    }
    *loop = (loop_t){.mailboxes = mailboxes, .size = size};
    atomic_store(&loop->users, size);
    for (weir_rank_t rank = 0; rank < size; rank++) {
        (void)pthread_mutex_init(&mailboxes[rank].mutex, NULL);
        mailboxes[rank].last = &mailboxes[rank].first;
        created[rank]->loop = loop;
        created[rank]->base =
            (weir_comm_t){.operations = &loop_operations, .rank = rank, .size = size, .job = 1};
        comms[rank] = &created[rank]->base;
    }
    free(created);
    return WEIR_OK;

out_of_memory:
    for (weir_rank_t rank = 0; rank < made; rank++) {
        free(created[rank]);
    }
    free(created);
    free(mailboxes);
    free(loop);
    return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for %u ranks in one process", size);
}
