#include "worker/screen_pass.h"

#include "worker/parallel.h"
#include "worker/screen.h"

#include <stdlib.h>

#ifdef WEIR_REAL_F64

bool weir_screen_pass(const weir_score_work_t *work) {
    (void)work;
    return false;
}

#else

enum {
    TILE = WEIR_SCREEN_TILE,
    BLOCK = WEIR_SCREEN_BLOCK,
    GROUP = WEIR_SCREEN_GROUP,
    CHAINS = WEIR_SCREEN_CHAINS,
    TASK_USERS = WEIR_SCORE_TASK_USERS,
    ALIGNMENT = 64,
    FEWEST_USERS = 32, /* that packing the candidates pays for */
    MOST_WANTED = 6,   /* of a tile; with more, scoring all of it is cheaper */
    LONGEST_WAIT = 16  /* tiles */
};

/* What all tasks share. */
typedef struct {
    const weir_score_work_t *work;
    const weir_screen_kernels_t *kernels;
    size_t pairs; /* of a row */
    int32_t reach;
    weir_screen_pair_t *tiles; /* of all candidates */
    float *scales;             /* of their blocks */
    weir_screen_pair_t *rows;  /* for each thread TASK_USERS x pairs */
} screening_t;

/* One task: users of which each tile is screened or scored, and the scores still to come. */
typedef struct {
    const screening_t *shared;
    size_t first_user, users;
    weir_screen_pair_t *rows;      /* users x pairs */
    float scales[TASK_USERS];      /* of users; 0: cannot be screened */
    uint32_t waiting[TASK_USERS];  /* tiles to be scored before the next is screened */
    uint32_t patience[TASK_USERS]; /* the last wait */
    bool screened[TASK_USERS];     /* in this block */
    int32_t lows[TASK_USERS], highs[TASK_USERS];
    size_t wanted; /* in the following, less than CHAINS */
    size_t wanted_users[CHAINS];
    int64_t wanted_items[CHAINS];
    const float *encoded[CHAINS], *candidates[CHAINS];
} task_t;

static void pack_candidates(void *argument, size_t block, uint32_t thread) {
    const screening_t *shared = argument;
    const weir_score_work_t *work = shared->work;
    size_t first = block * BLOCK, width = work->similarity.item_width;
    size_t count = work->count - first < BLOCK ? work->count - first : BLOCK;
    (void)thread;
    shared->scales[block] = shared->kernels->pack_block(work->rows + first * width, count, width,
                                                        shared->tiles + first * shared->pairs);
}

/* Score what is wanted. */
static void settle(task_t *task) {
    const weir_score_work_t *work = task->shared->work;
    float scores[CHAINS];
    if (task->wanted == 0) {
        return;
    }
    for (size_t i = task->wanted; i < CHAINS; i++) {
        task->encoded[i] = task->encoded[0];
        task->candidates[i] = task->candidates[0];
    }
    task->shared->kernels->score(task->encoded, task->candidates, work->similarity.item_width,
                                 scores);
    for (size_t i = 0; i < task->wanted; i++) {
        work->screen->scored(work->argument, task->wanted_users[i], task->wanted_items[i],
                             scores[i]);
    }
    task->wanted = 0;
}

static void want(task_t *task, size_t user, size_t first, uint64_t wanted) {
    const weir_score_work_t *work = task->shared->work;
    size_t width = work->similarity.item_width;
    for (; wanted != 0; wanted &= wanted - 1) {
        size_t candidate = first + (size_t)__builtin_ctzll(wanted), at = task->wanted++;
        task->wanted_users[at] = user;
        task->wanted_items[at] = work->first_item + (int64_t)candidate;
        task->encoded[at] = work->encoded + user * width;
        task->candidates[at] = work->rows + candidate * width;
        if (task->wanted == CHAINS) {
            settle(task);
        }
    }
}

/* Thresholds of a block whose scale is `scale`, 0: it cannot be screened. */
static void begin_block(task_t *task, float scale) {
    const weir_score_work_t *work = task->shared->work;
    settle(task);
    for (size_t u = 0; u < task->users; u++) {
        weir_real_t threshold = 0;
        task->screened[u] =
            scale > 0.0f && task->scales[u] > 0.0f &&
            work->screen->threshold(work->argument, task->first_user + u, &threshold) &&
            threshold == threshold;
        if (task->screened[u]) {
            weir_screen_bounds((double)threshold, (double)task->scales[u] * (double)scale,
                               task->shared->reach, &task->lows[u], &task->highs[u]);
        }
    }
}

static bool too_open(uint64_t open) {
    for (int i = 0; i < MOST_WANTED; i++) {
        open &= open - 1; /* one less; of none, none */
    }
    return open != 0;
}

/* Screen up to GROUP users, numbers within the task, against the tile from `first` on. Users it
 * leaves too open are appended to `left`, whose new length is returned. */
static size_t screen_group(task_t *task, const size_t *users, size_t count, size_t first,
                           size_t *left, size_t length) {
    const screening_t *shared = task->shared;
    const weir_score_work_t *work = shared->work;
    const weir_screen_pair_t *group[GROUP];
    int32_t lows[GROUP], highs[GROUP];
    weir_screen_answer_t answers[GROUP];
    size_t width = work->count - first < TILE ? work->count - first : TILE;
    uint64_t there = ~(uint64_t)0 >> (TILE - width);
    for (size_t g = 0; g < GROUP; g++) {
        size_t user = users[g < count ? g : count - 1];
        group[g] = task->rows + user * shared->pairs;
        lows[g] = task->lows[user];
        highs[g] = task->highs[user];
    }
    shared->kernels->compare(group, shared->tiles + first * shared->pairs, shared->pairs, lows,
                             highs, there, answers);
    for (size_t g = 0; g < count; g++) {
        size_t user = users[g], number = task->first_user + user;
        if ((answers[g].above | answers[g].open) == 0) {
            continue;
        }
        if (too_open(answers[g].open)) {
            uint32_t wait = 2 * task->patience[user] + 1;
            task->patience[user] = wait < LONGEST_WAIT ? wait : LONGEST_WAIT;
            task->waiting[user] = task->patience[user];
            left[length++] = number;
            continue;
        }
        want(task, number, first,
             work->screen->screened(work->argument, number, work->first_item + (int64_t)first,
                                    &answers[g]));
    }
    return length;
}

static void pass_tile(task_t *task, size_t first, weir_real_t *tile) {
    size_t left[TASK_USERS], group[GROUP], length = 0, count = 0;
    for (size_t u = 0; u < task->users; u++) {
        if (task->screened[u] && task->waiting[u] == 0) {
            group[count++] = u;
        } else {
            task->waiting[u] -= task->waiting[u] > 0 ? 1 : 0;
            left[length++] = task->first_user + u;
        }
        if (count == GROUP) {
            length = screen_group(task, group, count, first, left, length);
            count = 0;
        }
    }
    if (count > 0) {
        length = screen_group(task, group, count, first, left, length);
    }
    if (length > 0) {
        settle(task);
        weir_score_tile_of(task->shared->work, left, length, first, tile);
    }
}

static void screen_users(void *argument, size_t number, uint32_t thread) {
    const screening_t *shared = argument;
    const weir_score_work_t *work = shared->work;
    size_t begin = number * TASK_USERS, width = work->similarity.item_width;
    task_t task = {.shared = shared,
                   .first_user = begin,
                   .users = work->users - begin < TASK_USERS ? work->users - begin : TASK_USERS,
                   .rows = shared->rows + thread * TASK_USERS * shared->pairs};
    for (size_t u = 0; u < task.users; u++) {
        task.scales[u] = shared->kernels->pack_row(work->encoded + (begin + u) * width, width,
                                                   task.rows + u * shared->pairs);
    }
    for (size_t first = 0; first < work->count; first += TILE) {
        if (first % BLOCK == 0) {
            begin_block(&task, shared->scales[first / BLOCK]);
        }
        pass_tile(&task, first, work->tiles + thread * work->room);
    }
    settle(&task);
}

static void *allocate(size_t count, size_t size) {
    size_t bytes = 0;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > SIZE_MAX - ALIGNMENT) {
        return NULL;
    }
    return aligned_alloc(ALIGNMENT, (bytes / ALIGNMENT + 1) * ALIGNMENT);
}

bool weir_screen_pass(const weir_score_work_t *work) {
    screening_t shared = {.work = work,
                          .kernels = weir_screen_kernels(work->kernels),
                          .pairs = weir_screen_pairs(work->similarity.item_width)};
    size_t width = work->similarity.item_width, blocks = (work->count + BLOCK - 1) / BLOCK;
    if (work->screen == NULL || shared.kernels == NULL || work->similarity.mixture != NULL ||
        width == 0 || width > WEIR_SCREEN_WIDEST || work->users < FEWEST_USERS || blocks == 0) {
        return false;
    }
    size_t row = shared.pairs * sizeof(weir_screen_pair_t);
    shared.reach = weir_screen_reach(width);
    shared.tiles = allocate(work->count + TILE, row);
    shared.scales = allocate(blocks, sizeof *shared.scales);
    shared.rows = allocate((size_t)weir_parallel_threads() * TASK_USERS, row);
    bool can = shared.tiles != NULL && shared.scales != NULL && shared.rows != NULL;
    if (can) {
        weir_parallel_run(blocks, pack_candidates, &shared);
        weir_parallel_run((work->users + TASK_USERS - 1) / TASK_USERS, screen_users, &shared);
    }
    free(shared.rows);
    free(shared.scales);
    free(shared.tiles);
    return can;
}

#endif
