/* Who is stuck, when a job stands still.
 *
 * Every rank says in its heartbeats for whom it waits. From a rank that has not moved the chain of
 * those waits leads to one that waits for nobody: it computes, or it is silent; or it comes back to
 * itself. That one is named, not those that wait for it. */
#include "coordinator/coordinator_internal.h"

#include "common/log.h"

#include <stdio.h>
#include <string.h>

enum { NAMED_WAITERS = 4 };

static void append(char *text, size_t capacity, const char *addition) {
    size_t used = strlen(text);
    if (used + 1 < capacity) {
        (void)snprintf(text + used, capacity - used, "%s", addition);
    }
}

void weir_coordinator_describe_wait(const weir_coordinator_t *coordinator,
                                    const weir_member_t *member, char *text, size_t capacity) {
    static const char *const names[WEIR_WAIT_KINDS] = {
        [WEIR_WAIT_PULL] = "rows",
        [WEIR_WAIT_PEEK] = "rows to evaluate",
        [WEIR_WAIT_REDUCE] = "dense gradients",
        [WEIR_WAIT_GATHER] = "dense parameters",
        [WEIR_WAIT_BARRIER] = "the agreement",
        [WEIR_WAIT_PUSH] = "gradients",
        [WEIR_WAIT_CUT] = "the cut for a checkpoint",
    };
    text[0] = '\0';
    if (member->wait.kind != WEIR_WAIT_NOTHING && member->wait.rank < coordinator->rank_count) {
        const weir_member_t *other = &coordinator->ranks[member->wait.rank];
        (void)snprintf(text, capacity, "%s from %s %u", names[member->wait.kind], other->role,
                       other->index);
    }
}

static bool is_silent(const weir_coordinator_t *coordinator, uint32_t rank, double now) {
    return now - coordinator->ranks[rank].heard > 0.5 * coordinator->options.hang_seconds;
}

static bool is_at_work(const weir_member_t *member) {
    return member->joined &&
           (member->phase == WEIR_PHASE_TRAINING || member->phase == WEIR_PHASE_EVALUATING);
}

/* Whom `rank` waits for; itself when for nobody. */
static uint32_t next_of(const weir_coordinator_t *coordinator, uint32_t rank, double now) {
    const weir_member_t *member = &coordinator->ranks[rank];
    bool waits = member->wait.kind != WEIR_WAIT_NOTHING && member->wait.rank > 0 &&
                 member->wait.rank < coordinator->rank_count;
    return waits && !is_silent(coordinator, rank, now) ? member->wait.rank : rank;
}

/* The end of the chain from `rank` on; `*circle` when it has none. */
static uint32_t end_of(const weir_coordinator_t *coordinator, uint32_t rank, double now,
                       bool *circle) {
    for (uint32_t length = 0; length < coordinator->rank_count; length++) {
        uint32_t next = next_of(coordinator, rank, now);
        if (next == rank) {
            *circle = false;
            return rank;
        }
        rank = next;
    }
    *circle = true;
    return rank;
}

/* "; worker 0 (rows), ps 1 wait for it" */
static void add_waiters(weir_coordinator_t *coordinator, uint32_t culprit, double now) {
    char *text = coordinator->culprit, one[64];
    size_t capacity = sizeof coordinator->culprit;
    uint32_t count = 0;
    bool circle;
    for (uint32_t rank = 1; rank < coordinator->rank_count; rank++) {
        const weir_member_t *member = &coordinator->ranks[rank];
        if (rank == culprit || end_of(coordinator, rank, now, &circle) != culprit || circle) {
            continue;
        }
        if (count++ < NAMED_WAITERS) {
            (void)snprintf(one, sizeof one, "%s%s %u", count == 1 ? "; " : ", ", member->role,
                           member->index);
            append(text, capacity, one);
        }
    }
    if (count > NAMED_WAITERS) {
        (void)snprintf(one, sizeof one, " and %u more", count - NAMED_WAITERS);
        append(text, capacity, one);
    }
    if (count > 0) {
        append(text, capacity, count == 1 ? " waits for it" : " wait for it");
    }
}

static void name_culprit(weir_coordinator_t *coordinator, uint32_t from, double now) {
    char waits[96];
    bool circle;
    uint32_t culprit = end_of(coordinator, from, now, &circle);
    const weir_member_t *member = &coordinator->ranks[culprit];
    int length = snprintf(coordinator->culprit, sizeof coordinator->culprit,
                          "%s %u (rank %u on %s, process %llu) ", member->role, member->index,
                          culprit, member->host, (unsigned long long)member->pid);
    char *rest = coordinator->culprit + length;
    size_t capacity = sizeof coordinator->culprit - (size_t)length;
    bool worker = culprit >= weir_coordinator_lead(coordinator);
    unsigned long long step = member->step;
    if (circle) {
        weir_coordinator_describe_wait(coordinator, member, waits, sizeof waits);
        (void)snprintf(rest, capacity, "and others wait for each other for %.0f s: it for %s",
                       now - member->moved, waits);
        return;
    }
    if (is_silent(coordinator, culprit, now)) {
        (void)snprintf(rest, capacity, "has been silent for %.0f s, since step %llu",
                       now - member->heard, step);
    } else if (member->phase == WEIR_PHASE_EVALUATING) {
        (void)snprintf(rest, capacity, "has evaluated step %llu for %.0f s", step,
                       now - member->moved);
    } else {
        (void)snprintf(rest, capacity, "has %s step %llu for %.0f s",
                       worker ? "computed" : "worked on", step + 1, now - member->moved);
    }
    add_waiters(coordinator, culprit, now);
}

/* A rank to begin the chain with: a worker that is heard and has not moved for so long; or, when no
 * rank has moved, any that does not move. 0: the job does not stand still. */
static uint32_t find_stuck(const weir_coordinator_t *coordinator, double now) {
    double limit = coordinator->options.hang_seconds;
    uint32_t lead = weir_coordinator_lead(coordinator), stuck = 0;
    bool all = true;
    for (uint32_t rank = coordinator->rank_count - 1; rank > 0; rank--) {
        const weir_member_t *member = &coordinator->ranks[rank];
        if (now - member->moved <= limit) {
            all = false;
        } else if (rank >= lead && !is_silent(coordinator, rank, now)) {
            stuck = rank;
        }
    }
    return stuck > 0 ? stuck : all ? lead : 0;
}

/* During a start or a checkpoint ranks may well not move for long, but they are heard. Whoever is
 * not, while one that is heard waits for it, or the checkpoint does, is stuck all the same. 0:
 * none. */
static uint32_t find_silent(const weir_coordinator_t *coordinator, double now) {
    double limit = coordinator->options.hang_seconds;
    bool saving = coordinator->save.active && now - coordinator->save.started > limit, circle;
    for (uint32_t rank = 1; rank < coordinator->rank_count; rank++) {
        const weir_member_t *member = &coordinator->ranks[rank];
        bool owes = saving && rank <= weir_coordinator_lead(coordinator) && !member->written;
        if (owes && member->joined && now - member->heard > limit) {
            return rank;
        }
        uint32_t end = end_of(coordinator, rank, now, &circle);
        if (end != rank && !circle && now - member->moved > limit &&
            now - coordinator->ranks[end].heard > limit && coordinator->ranks[end].joined) {
            return rank;
        }
    }
    return 0;
}

void weir_coordinator_tick_hang(weir_coordinator_t *coordinator, double now) {
    double limit = coordinator->options.hang_seconds;
    bool watched = limit > 0.0 && !coordinator->save.active && !coordinator->hung, heard = false;
    for (uint32_t rank = 1; rank < coordinator->rank_count && watched; rank++) {
        watched = is_at_work(&coordinator->ranks[rank]);
        heard = heard || !is_silent(coordinator, rank, now);
    }
    if (!watched) {
        uint32_t waiting = limit > 0.0 && !coordinator->hung ? find_silent(coordinator, now) : 0;
        if (waiting > 0) {
            name_culprit(coordinator, waiting, now);
            coordinator->hung = true;
        }
        coordinator->calm_since = now; /* who is heard has limits of its own */
        return;
    }
    if (now - coordinator->calm_since <= limit) {
        return;
    }
    if (!heard) {
        if (!coordinator->cut_off) {
            coordinator->cut_off = true;
            weir_log(WEIR_LOG_WARN, "coordinator",
                     "no rank is heard: this process may be cut off; training goes on without it");
        }
        return;
    }
    coordinator->cut_off = false;
    uint32_t stuck = find_stuck(coordinator, now);
    if (stuck > 0) {
        name_culprit(coordinator, stuck, now);
        coordinator->hung = true;
    }
}

bool weir_coordinator_is_hung(const weir_coordinator_t *coordinator, const char **culprit) {
    *culprit = coordinator->culprit;
    return coordinator->hung;
}
