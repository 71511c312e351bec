/* Tickets: reads asked for ahead, done in pieces by the store's threads. The owner that waits for a
 * ticket reads its pieces too. A ticket that is not in use keeps its memory for the next. */
#include "ps/cold_store_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- pieces, under the mutex ---- */

static void enqueue(weir_cold_store_t *store, weir_cold_ticket_t *ticket) {
    ticket->next = NULL;
    ticket->queued = true;
    if (store->last == NULL) {
        store->first = ticket;
    } else {
        store->last->next = ticket;
    }
    store->last = ticket;
}

static void dequeue(weir_cold_store_t *store, weir_cold_ticket_t *ticket) {
    weir_cold_ticket_t **link = &store->first, *before = NULL;
    while (*link != ticket) {
        before = *link;
        link = &before->next;
    }
    *link = ticket->next;
    store->last = store->last == ticket ? before : store->last;
    ticket->queued = false;
}

/* Take a ticket's next piece; the last one takes the ticket off the queue. */
static size_t take_piece(weir_cold_store_t *store, weir_cold_ticket_t *ticket) {
    size_t piece = ticket->next_piece++;
    if (ticket->next_piece == ticket->pieces && ticket->queued) {
        dequeue(store, ticket);
    }
    return piece;
}

/* Read a piece; the mutex is free meanwhile. */
static void read_piece(weir_cold_store_t *store, weir_cold_ticket_t *ticket, size_t piece) {
    weir_error_t error = {0};
    size_t from = piece * WEIR_COLD_PIECE;
    size_t count = ticket->count - from < WEIR_COLD_PIECE ? ticket->count - from : WEIR_COLD_PIECE;
    weir_err_t err = ticket->err;
    if (err == WEIR_OK) {
        (void)pthread_mutex_unlock(&store->mutex);
        err = weir_cold_read(store, ticket->order + from, count, ticket->found, ticket->records,
                             &error);
        (void)pthread_mutex_lock(&store->mutex);
        if (err != WEIR_OK && ticket->err == WEIR_OK) {
            ticket->err = err;
            ticket->error = error;
        }
    }
    if (--ticket->pieces_left == 0) {
        (void)pthread_cond_broadcast(&store->done);
    }
}

static void *run_reader(void *argument) {
    weir_cold_store_t *store = argument;
    (void)pthread_mutex_lock(&store->mutex);
    while (!store->stopping) {
        weir_cold_ticket_t *ticket = store->first;
        if (ticket == NULL) {
            (void)pthread_cond_wait(&store->asked, &store->mutex);
        } else {
            size_t piece = take_piece(store, ticket);
            read_piece(store, ticket, piece);
        }
    }
    (void)pthread_mutex_unlock(&store->mutex);
    return NULL;
}

weir_err_t weir_cold_threads_start(weir_cold_store_t *store, weir_error_t *error) {
    (void)pthread_mutex_init(&store->mutex, NULL);
    (void)pthread_cond_init(&store->asked, NULL);
    (void)pthread_cond_init(&store->done, NULL);
    store->threads_ready = true;
    for (size_t i = 0; i < WEIR_COLD_THREADS; i++) {
        char name[16];
        int failure = pthread_create(&store->threads[i], NULL, run_reader, store);
        if (failure != 0) {
            return weir_error_from_errno(error, failure, "cannot start a thread for cold rows");
        }
        store->thread_count++;
        (void)snprintf(name, sizeof name, "weir-cold-%zu", i);
        (void)pthread_setname_np(store->threads[i], name);
    }
    return WEIR_OK;
}

static void release_ticket(weir_cold_ticket_t *ticket) {
    free(ticket->order);
    free(ticket->own_found);
    free(ticket->own_records);
    free(ticket);
}

void weir_cold_threads_stop(weir_cold_store_t *store) {
    if (!store->threads_ready) {
        return;
    }
    (void)pthread_mutex_lock(&store->mutex);
    store->stopping = true;
    (void)pthread_cond_broadcast(&store->asked);
    (void)pthread_mutex_unlock(&store->mutex);
    for (size_t i = 0; i < store->thread_count; i++) {
        (void)pthread_join(store->threads[i], NULL);
    }
    while (store->made != NULL) {
        weir_cold_ticket_t *next = store->made->next_made;
        release_ticket(store->made);
        store->made = next;
    }
    (void)pthread_cond_destroy(&store->asked);
    (void)pthread_cond_destroy(&store->done);
    (void)pthread_mutex_destroy(&store->mutex);
}

/* ---- tickets, by the owner ---- */

/* A ticket out of use; it stays in that list until `use_ticket`. */
static weir_cold_ticket_t *find_unused(weir_cold_store_t *store) {
    if (store->unused == NULL) {
        weir_cold_ticket_t *ticket = calloc(1, sizeof *ticket);
        if (ticket != NULL) {
            ticket->store = store;
            ticket->next_made = store->made;
            store->made = ticket;
            store->unused = ticket;
        }
    }
    return store->unused;
}

static bool reserve_order(weir_cold_ticket_t *ticket, size_t count) {
    if (count > ticket->capacity) {
        weir_cold_order_t *order = realloc(ticket->order, count * sizeof *order);
        if (order == NULL) {
            return false;
        }
        ticket->order = order;
        ticket->capacity = count;
    }
    return true;
}

static bool reserve_answers(weir_cold_ticket_t *ticket, size_t count) {
    if (count > ticket->own_capacity) {
        bool *found = malloc(count * sizeof *found);
        char *records = malloc(count * ticket->store->record_bytes);
        if (found == NULL || records == NULL) {
            free(found);
            free(records);
            return false;
        }
        free(ticket->own_found);
        free(ticket->own_records);
        ticket->own_found = found;
        ticket->own_records = records;
        ticket->own_capacity = count;
    }
    return true;
}

/* Order the keys, and let the threads begin where there is more than the owner's share. */
static void use_ticket(weir_cold_ticket_t *ticket, const weir_key_t *keys, size_t count,
                       bool *found, char *records, size_t owners_share) {
    weir_cold_store_t *store = ticket->store;
    weir_cold_order(keys, count, ticket->order);
    ticket->found = found;
    ticket->records = records;
    ticket->count = count;
    ticket->change = store->change;
    (void)pthread_mutex_lock(&store->mutex);
    store->unused = ticket->next;
    ticket->next_piece = 0;
    ticket->pieces = (count + WEIR_COLD_PIECE - 1) / WEIR_COLD_PIECE;
    ticket->pieces_left = ticket->pieces;
    ticket->err = WEIR_OK;
    if (ticket->pieces > owners_share) {
        enqueue(store, ticket);
        (void)pthread_cond_broadcast(&store->asked);
    }
    (void)pthread_mutex_unlock(&store->mutex);
}

/* Until all pieces are read, or, when they are not `wanted`, those that a thread has begun. */
static weir_err_t await_ticket(weir_cold_ticket_t *ticket, bool wanted, weir_error_t *error) {
    weir_cold_store_t *store = ticket->store;
    (void)pthread_mutex_lock(&store->mutex);
    while (ticket->next_piece < ticket->pieces) {
        size_t piece = take_piece(store, ticket);
        if (wanted) {
            read_piece(store, ticket, piece);
        } else {
            ticket->pieces_left--;
        }
    }
    while (ticket->pieces_left > 0) {
        (void)pthread_cond_wait(&store->done, &store->mutex);
    }
    weir_err_t err = wanted ? ticket->err : WEIR_OK;
    if (err != WEIR_OK && error != NULL) {
        *error = ticket->error;
    }
    (void)pthread_mutex_unlock(&store->mutex);
    return err;
}

static void give_back(weir_cold_ticket_t *ticket) {
    ticket->next = ticket->store->unused;
    ticket->store->unused = ticket;
}

weir_err_t weir_cold_store_get(weir_cold_store_t *store, const weir_key_t *keys, size_t count,
                               bool *found, void *records, weir_error_t *error) {
    weir_cold_ticket_t *ticket = find_unused(store);
    if (ticket == NULL || !reserve_order(ticket, count)) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory to read %zu cold rows", count);
    }
    use_ticket(ticket, keys, count, found, records, 1);
    weir_err_t err = await_ticket(ticket, true, error);
    give_back(ticket);
    return err;
}

weir_err_t weir_cold_store_prefetch_begin(weir_cold_store_t *store, const weir_key_t *keys,
                                          size_t count, weir_cold_ticket_t **ticket,
                                          weir_error_t *error) {
    weir_cold_ticket_t *used = find_unused(store);
    if (used == NULL || !reserve_order(used, count) || !reserve_answers(used, count)) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory to read %zu cold rows ahead", count);
    }
    use_ticket(used, keys, count, used->own_found, used->own_records, 0);
    *ticket = used;
    return WEIR_OK;
}

/* Read again what was put or removed since the ticket began. */
static weir_err_t read_changed(weir_cold_ticket_t *ticket, weir_error_t *error) {
    const weir_cold_store_t *store = ticket->store;
    weir_err_t err = WEIR_OK;
    size_t changed = 0;
    if (ticket->change == store->change) {
        return WEIR_OK;
    }
    for (size_t i = 0; i < ticket->count; i++) {
        uint64_t low = ticket->order[i].hash % ((uint64_t)1 << WEIR_COLD_STAMP_BITS);
        if (store->changed[low] > ticket->change) {
            ticket->order[changed++] = ticket->order[i];
        }
    }
    for (size_t from = 0; from < changed && err == WEIR_OK; from += WEIR_COLD_PIECE) {
        size_t piece = changed - from < WEIR_COLD_PIECE ? changed - from : WEIR_COLD_PIECE;
        err = weir_cold_read(store, ticket->order + from, piece, ticket->found, ticket->records,
                             error);
    }
    return err;
}

weir_err_t weir_cold_store_prefetch_finish(weir_cold_ticket_t *ticket, bool *found, void *records,
                                           weir_error_t *error) {
    const bool wanted = found != NULL;
    weir_err_t err = await_ticket(ticket, wanted, error);
    if (err == WEIR_OK && wanted) {
        err = read_changed(ticket, error);
    }
    if (err == WEIR_OK && wanted && ticket->count > 0) {
        memcpy(found, ticket->own_found, ticket->count * sizeof *found);
        if (records != NULL) {
            memcpy(records, ticket->own_records, ticket->count * ticket->store->record_bytes);
        }
    }
    give_back(ticket);
    return err;
}
