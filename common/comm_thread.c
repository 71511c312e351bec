#include "common/comm_thread.h"

#include "common/clock.h"
#include "common/doorbell.h"
#include "common/log.h"
#include "common/ring.h"
#include "common/trace.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

enum {
    RING_CAPACITY = 4096,
    MAX_KEPT = 1 << 17, /* frames of types that nobody takes: a protocol gone wrong */
    POLLS_A_TURN = 64,  /* frames received before posts and control get their turn */
    /* Turns without work before sleeping. Nothing yields in them: to Linux (6.6 and later) a thread
     * that yields has used up its time slice, and waits for those of all others. */
    SPINS = 5,
    TIMER_SLACK_NS = 1000,
    SHORTEST_SLEEP_NS = 20 * 1000,
    /* The longest sleep by how long nothing has moved: frames mostly come in bursts, and a turn of
     * the loop costs about 10 us, so that an idle rank uses less than 1% of a core. */
    BUSY_SLEEP_NS = 200 * 1000,
    CALM_SLEEP_NS = 1000 * 1000,
    QUIET_SLEEP_NS = 4000 * 1000
};

/* Seconds that stand for ever: what a time_t holds anywhere. */
#define LONGEST_WAIT 1e8

/* Seconds without traffic until calm, and until quiet. */
#define CALM_AFTER 0.05
#define QUIET_AFTER 1.0

typedef struct {
    weir_rank_t to;
    weir_frame_t frame;
} post_t;

struct weir_comm_thread {
    weir_comm_thread_options_t options;
    pthread_t thread;
    weir_doorbell_t *bell;     /* NULL: none; comm, as the two that follow */
    bool *unrung;              /* by rank: frames have been posted that may not have left yet */
    weir_rank_t *destinations; /* the unrung ones */
    size_t destination_count;
    weir_ring_t posts;    /* main -> comm: post_t */
    weir_ring_t received; /* comm -> main: weir_frame_t */
    int wake_fd;          /* eventfd: main wakes comm */
    atomic_bool sleeping; /* comm is in, or about to enter, its sleep */
    atomic_bool stopping;
    atomic_bool failed;
    _Atomic double stop_deadline;

    pthread_mutex_t mutex; /* guards waking the main thread: woken, and the cond */
    pthread_cond_t cond;
    atomic_bool waiting; /* main is in, or about to enter, its wait */
    bool woken;

    weir_error_t error; /* written by comm before `failed`, read by main after it */

    weir_frame_t *kept; /* main: taken from the ring, of types not asked for yet */
    size_t kept_count, kept_capacity;
};

/* ---- the comm thread ---- */

static void notify_main(weir_comm_thread_t *thread, bool wake) {
    /* The frame pushed before must be visible before `waiting` is read: else both sides could miss.
     */
    atomic_thread_fence(memory_order_seq_cst);
    if (wake || atomic_load(&thread->waiting)) {
        (void)pthread_mutex_lock(&thread->mutex);
        thread->woken = thread->woken || wake;
        (void)pthread_cond_signal(&thread->cond);
        (void)pthread_mutex_unlock(&thread->mutex);
    }
}

static bool send_posts(weir_comm_thread_t *thread, weir_err_t *err) {
    post_t post;
    bool moved = false;
    while (*err == WEIR_OK && weir_ring_pop(&thread->posts, &post)) {
        int64_t begun = weir_trace_begin();
        uint64_t step = post.frame.header.step;
        if (thread->bell != NULL && !thread->unrung[post.to]) {
            thread->unrung[post.to] = true;
            thread->destinations[thread->destination_count++] = post.to;
        }
        *err = weir_comm_send(thread->options.comm, post.to, post.frame, &thread->error);
        weir_trace_end(begun, "send", step, post.to);
        moved = true;
    }
    return moved;
}

/* Receive some frames; `held` keeps the one for which the ring had no room. Sends go on then. */
static bool receive_frames(weir_comm_thread_t *thread, weir_frame_t *held, bool *holding,
                           weir_err_t *err) {
    bool moved = false;
    for (int i = 0; i < POLLS_A_TURN && *err == WEIR_OK; i++) {
        bool received = false, progressed = false;
        if (*holding && weir_ring_push(&thread->received, held)) {
            *holding = false;
            moved = true;
            notify_main(thread, false);
        }
        int64_t begun = weir_trace_begin();
        *err = weir_comm_poll(thread->options.comm, *holding ? NULL : held, &received, &progressed,
                              &thread->error);
        if (*err == WEIR_OK && received) {
            weir_trace_frame_received(&held->header, thread->options.comm->rank);
            weir_trace_end(begun, "receive", held->header.step, held->header.source);
            *holding = !weir_ring_push(&thread->received, held);
            notify_main(thread, false);
        }
        moved = moved || progressed;
        if (!progressed) {
            break;
        }
    }
    return moved;
}

/* Tell those whom frames are sent to that some have left. */
static void ring_destinations(weir_comm_thread_t *thread) {
    bool all_sent = weir_comm_idle(thread->options.comm);
    for (size_t i = 0; i < thread->destination_count; i++) {
        weir_doorbell_ring(thread->bell, thread->destinations[i]);
        if (all_sent) {
            thread->unrung[thread->destinations[i]] = false;
        }
    }
    thread->destination_count = all_sent ? 0 : thread->destination_count;
}

/* Everybody who sends to this rank rings, and nothing is half done. */
static bool can_rely_on_bell(const weir_comm_thread_t *thread) {
    return thread->bell != NULL && weir_doorbell_heard(thread->bell) >= thread->options.callers &&
           weir_comm_idle(thread->options.comm) && !weir_comm_receiving(thread->options.comm);
}

/* True: the bell rang. */
static bool sleep_until_woken(weir_comm_thread_t *thread, long nanoseconds) {
    /* poll passes over descriptors below 0. */
    struct pollfd fds[3] = {
        {.fd = thread->wake_fd, .events = POLLIN},
        {.fd = thread->options.control_fd, .events = POLLIN},
        {.fd = thread->bell != NULL ? weir_doorbell_fd(thread->bell) : -1, .events = POLLIN}};
    struct timespec timeout = {.tv_sec = 0, .tv_nsec = nanoseconds};
    uint64_t count;
    atomic_store(&thread->sleeping, true);
    atomic_thread_fence(memory_order_seq_cst);
    /* Whoever posts from here on sees `sleeping` and writes to wake_fd. */
    if (weir_ring_empty(&thread->posts)) {
        (void)ppoll(fds, sizeof fds / sizeof fds[0], &timeout, NULL);
    }
    atomic_store(&thread->sleeping, false);
    if ((fds[0].revents & POLLIN) != 0) {
        ssize_t size = read(thread->wake_fd, &count, sizeof count);
        (void)size; /* non-blocking; only the wake-up matters */
    }
    bool rang = (fds[2].revents & POLLIN) != 0;
    if (rang) {
        weir_doorbell_listen(thread->bell);
    }
    return rang;
}

static void *run_comm(void *argument) {
    weir_comm_thread_t *thread = argument;
    weir_err_t err = WEIR_OK;
    weir_frame_t held = {0};
    bool holding = false;
    int idle_turns = 0;
    long sleep_ns = SHORTEST_SLEEP_NS;
    double last_traffic = 0.0;
    /* Else a sleep of 20 us takes 70: the kernel adds up to 50 to group wake-ups. */
    weir_trace_name_thread("comm");
    (void)prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS, 0, 0, 0);
    while (err == WEIR_OK) {
        bool moved = send_posts(thread, &err);
        moved = receive_frames(thread, &held, &holding, &err) || moved;
        if (moved) {
            last_traffic = weir_clock_seconds();
            ring_destinations(thread);
        }
        if (thread->options.poll_control != NULL &&
            thread->options.poll_control(thread->options.control)) {
            moved = true;
            notify_main(thread, true);
        }
        if (atomic_load(&thread->stopping) && weir_ring_empty(&thread->posts) &&
            (weir_comm_idle(thread->options.comm) ||
             weir_clock_seconds() > atomic_load(&thread->stop_deadline))) {
            break;
        }
        if (moved) {
            idle_turns = 0;
            sleep_ns = SHORTEST_SLEEP_NS;
        } else if (++idle_turns >= SPINS) {
            double now = weir_clock_seconds();
            last_traffic = weir_comm_idle(thread->options.comm) ? last_traffic : now;
            bool relies = can_rely_on_bell(thread);
            long longest = relies || now - last_traffic > QUIET_AFTER ? QUIET_SLEEP_NS
                           : now - last_traffic > CALM_AFTER          ? CALM_SLEEP_NS
                                                                      : BUSY_SLEEP_NS;
            bool rang = sleep_until_woken(thread, sleep_ns < longest ? sleep_ns : longest);
            sleep_ns = rang ? SHORTEST_SLEEP_NS : (relies ? 4 : 2) * sleep_ns;
            sleep_ns = sleep_ns < longest ? sleep_ns : longest;
            idle_turns = rang ? 0 : idle_turns;
        }
    }
    if (holding) {
        weir_buffer_release(held.payload);
    }
    if (err != WEIR_OK) {
        atomic_store(&thread->failed, true);
    }
    notify_main(thread, true);
    return NULL;
}

/* ---- the main thread ---- */

static weir_err_t report_failure(const weir_comm_thread_t *thread, weir_error_t *error) {
    if (error != NULL) {
        *error = thread->error;
    }
    return thread->error.code;
}

static void release_thread(weir_comm_thread_t *thread) {
    if (thread == NULL) {
        return;
    }
    post_t post;
    weir_frame_t frame;
    while (thread->posts.elements != NULL && weir_ring_pop(&thread->posts, &post)) {
        weir_buffer_release(post.frame.payload);
    }
    while (thread->received.elements != NULL && weir_ring_pop(&thread->received, &frame)) {
        weir_buffer_release(frame.payload);
    }
    for (size_t i = 0; i < thread->kept_count; i++) {
        weir_buffer_release(thread->kept[i].payload);
    }
    weir_ring_fini(&thread->posts);
    weir_ring_fini(&thread->received);
    weir_doorbell_destroy(thread->bell);
    free(thread->unrung);
    free(thread->destinations);
    if (thread->wake_fd >= 0) {
        (void)close(thread->wake_fd);
    }
    (void)pthread_cond_destroy(&thread->cond);
    (void)pthread_mutex_destroy(&thread->mutex);
    free(thread->kept);
    free(thread);
}

/* Without a bell it looks more often. */
static void hang_up_bell(weir_comm_thread_t *thread) {
    const weir_comm_t *comm = thread->options.comm;
    weir_error_t error = {0};
    if (thread->options.callers == 0) {
        return;
    }
    thread->unrung = calloc(comm->size, sizeof *thread->unrung);
    thread->destinations = calloc(comm->size, sizeof *thread->destinations);
    if (thread->unrung == NULL || thread->destinations == NULL ||
        weir_doorbell_create(comm->job, comm->rank, comm->size, &thread->bell, &error) != WEIR_OK) {
        weir_log(WEIR_LOG_INFO, "comm_thread", "no doorbell|reason=\"%s\"", error.message);
    }
}

weir_err_t weir_comm_thread_start(const weir_comm_thread_options_t *options,
                                  weir_comm_thread_t **thread, weir_error_t *error) {
    pthread_condattr_t monotonic;
    weir_comm_thread_t *created = aligned_alloc(64, (sizeof *created + 63) / 64 * 64);
    if (created == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the comm thread");
    }
    memset(created, 0, sizeof *created);
    created->options = *options;
    (void)pthread_mutex_init(&created->mutex, NULL);
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&created->cond, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    hang_up_bell(created);
    created->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    weir_err_t err = WEIR_OK;
    if (created->wake_fd < 0) {
        err = weir_error_from_errno(error, errno, "cannot make an eventfd");
    } else if (!weir_ring_init(&created->posts, RING_CAPACITY, sizeof(post_t)) ||
               !weir_ring_init(&created->received, RING_CAPACITY, sizeof(weir_frame_t))) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the comm thread");
    } else {
        int failure = pthread_create(&created->thread, NULL, run_comm, created);
        if (failure != 0) {
            err = weir_error_from_errno(error, failure, "cannot start the comm thread");
        }
    }
    if (err != WEIR_OK) {
        release_thread(created);
        return err;
    }
    *thread = created;
    return WEIR_OK;
}

static void wake_comm(weir_comm_thread_t *thread) {
    atomic_thread_fence(memory_order_seq_cst); /* the post before must be visible first */
    if (atomic_load(&thread->sleeping)) {
        uint64_t one = 1;
        ssize_t size = write(thread->wake_fd, &one, sizeof one);
        (void)size; /* full means that it will wake anyway */
    }
}

weir_err_t weir_comm_thread_post(weir_comm_thread_t *thread, weir_rank_t to, weir_frame_t frame,
                                 weir_error_t *error) {
    post_t post = {.to = to, .frame = frame};
    weir_trace_frame_posted(&frame.header, thread->options.comm->rank, to);
    while (!atomic_load(&thread->failed)) {
        if (weir_ring_push(&thread->posts, &post)) {
            wake_comm(thread);
            return WEIR_OK;
        }
        wake_comm(thread);
        weir_clock_sleep(50e-6);
    }
    weir_buffer_release(frame.payload);
    return report_failure(thread, error);
}

static bool is_wanted(const weir_frame_t *frame, uint32_t types) {
    return (types >> frame->header.type & 1u) != 0;
}

static bool take_kept(weir_comm_thread_t *thread, uint32_t types, weir_frame_t *frame) {
    for (size_t i = 0; i < thread->kept_count; i++) {
        if (is_wanted(&thread->kept[i], types)) {
            *frame = thread->kept[i];
            thread->kept_count--;
            memmove(&thread->kept[i], &thread->kept[i + 1],
                    (thread->kept_count - i) * sizeof *frame);
            return true;
        }
    }
    return false;
}

static weir_err_t keep(weir_comm_thread_t *thread, weir_frame_t frame, weir_error_t *error) {
    if (thread->kept_count == thread->kept_capacity) {
        size_t capacity = thread->kept_capacity == 0 ? 64 : 2 * thread->kept_capacity;
        weir_frame_t *grown =
            capacity > MAX_KEPT ? NULL : realloc(thread->kept, capacity * sizeof *grown);
        if (grown == NULL) {
            weir_buffer_release(frame.payload);
            return weir_errorf(
                error, WEIR_ERR_PEER,
                "rank %u sends %s frames that nobody waits for (%zu are kept)", frame.header.source,
                weir_frame_type_name((weir_frame_type_t)frame.header.type), thread->kept_count);
        }
        thread->kept = grown;
        thread->kept_capacity = capacity;
    }
    thread->kept[thread->kept_count++] = frame;
    return WEIR_OK;
}

/* Wait for the comm thread to have something, or to be woken. */
static void wait_for_comm(weir_comm_thread_t *thread, double deadline, bool *woken) {
    struct timespec until = {.tv_sec = (time_t)deadline,
                             .tv_nsec = (long)((deadline - (double)(time_t)deadline) * 1e9)};
    (void)pthread_mutex_lock(&thread->mutex);
    atomic_store(&thread->waiting, true);
    atomic_thread_fence(memory_order_seq_cst);
    /* Whatever arrives from here on signals the cond under the mutex. */
    if (!thread->woken && weir_ring_empty(&thread->received) && !atomic_load(&thread->failed)) {
        (void)pthread_cond_timedwait(&thread->cond, &thread->mutex, &until);
    }
    atomic_store(&thread->waiting, false);
    *woken = thread->woken;
    thread->woken = false;
    (void)pthread_mutex_unlock(&thread->mutex);
}

weir_err_t weir_comm_thread_take(weir_comm_thread_t *thread, uint32_t types, double timeout_seconds,
                                 weir_frame_t *frame, bool *received, weir_error_t *error) {
    double deadline = weir_clock_seconds() + fmin(timeout_seconds, LONGEST_WAIT);
    bool woken = false;
    *received = take_kept(thread, types, frame);
    while (!*received) {
        weir_frame_t next;
        while (!*received && weir_ring_pop(&thread->received, &next)) {
            if (is_wanted(&next, types)) {
                *frame = next;
                *received = true;
            } else {
                weir_err_t err = keep(thread, next, error);
                if (err != WEIR_OK) {
                    return err;
                }
            }
        }
        if (*received) {
            break;
        }
        if (atomic_load(&thread->failed)) {
            return report_failure(thread, error);
        }
        if (woken || weir_clock_seconds() >= deadline) {
            break;
        }
        wait_for_comm(thread, deadline, &woken);
    }
    return WEIR_OK;
}

void weir_comm_thread_depths(weir_comm_thread_t *thread, size_t *posted, size_t *received) {
    *posted = weir_ring_count(&thread->posts);
    *received = weir_ring_count(&thread->received);
}

weir_err_t weir_comm_thread_stop(weir_comm_thread_t *thread, double timeout_seconds,
                                 weir_error_t *error) {
    if (thread == NULL) {
        return WEIR_OK;
    }
    atomic_store(&thread->stop_deadline, weir_clock_seconds() + timeout_seconds);
    atomic_store(&thread->stopping, true);
    wake_comm(thread);
    (void)pthread_join(thread->thread, NULL);
    weir_err_t err = WEIR_OK;
    if (atomic_load(&thread->failed)) {
        err = report_failure(thread, error);
    } else if (!weir_comm_idle(thread->options.comm)) {
        err = weir_errorf(error, WEIR_ERR_TIMEOUT, "frames were not sent within %.0f s",
                          timeout_seconds);
    }
    release_thread(thread);
    return err;
}
