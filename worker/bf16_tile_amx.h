/* Products of pairs by the tiles of AMX: eight of at most 16 rows of 64 bytes. For
 * worker/bf16_tile.h alone.
 *
 * A tile of A is 16 rows of 16 pairs, one of B 16 pairs deep and 16 columns wide, one of C 16 x 16
 * sums; TDPBF16PS adds the product of the first two to the third. Shapes of tiles are loaded from
 * memory and hold until others are, so that tails of rows, depth and columns are tiles of that
 * size: nothing beside the operands is read or written, and they need no padding.
 *
 *   tile    rows         columns           holds
 *   0       rows         16                C, first vector of two
 *   1       rows         lanes             C, last vector
 *   2       rows         16 pairs          A
 *   3, 4    16 pairs     16, lanes         B
 *   5       rows         tail of pairs     A, last of the depth
 *   6, 7    tail         16, lanes         B, last of the depth
 *
 * Without tails all eight are whole, and blocks of 32 x 32 take four of them as sums.
 *
 * Statements of the assembler, which say that memory is read: not all compilers' intrinsics do. */
#ifndef WEIR_WORKER_BF16_TILE_AMX_H
#define WEIR_WORKER_BF16_TILE_AMX_H

enum { PAIR_ROWS = 16 };

/* A lies row after row (a_step 1): a tile cannot be loaded any other way. */
enum { PAIRS_TAKE_COLUMNS = 0 };

#define AMX_LOAD(tile, from, apart)                                                                \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #tile : : "r"(from), "r"(apart) : "memory")
#define AMX_STORE(tile, to, apart)                                                                 \
    __asm__ volatile("tilestored %%tmm" #tile ", (%0,%1,1)" : : "r"(to), "r"(apart) : "memory")
#define AMX_ZERO(tile) __asm__ volatile("tilezero %%tmm" #tile : : : "memory")
/* c += a b */
#define AMX_MULTIPLY(c, a, b)                                                                      \
    __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #c : : : "memory")

/* What LDTILECFG reads. */
typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_shapes_t;
_Static_assert(sizeof(tile_shapes_t) == 64, "as the processor reads it");

/* Loaded by this thread; no rows: none. */
typedef struct {
    uint8_t rows, tail, lanes;
} loaded_shapes_t;
static _Thread_local loaded_shapes_t loaded_shapes;

/* Each from 1 to 16. */
static inline void load_shapes(size_t rows, size_t tail, size_t lanes) {
    if (loaded_shapes.rows == rows && loaded_shapes.tail == tail && loaded_shapes.lanes == lanes) {
        return;
    }
    uint8_t r = (uint8_t)rows, t = (uint8_t)tail;
    uint16_t last = (uint16_t)(4 * lanes), deep = (uint16_t)(4 * tail);
    const tile_shapes_t shapes = {.palette = 1,
                                  .row_bytes = {64, last, 64, 64, last, deep, 64, last},
                                  .rows = {r, r, r, 16, 16, r, t, t}};
    __asm__ volatile("ldtilecfg %0" : : "m"(shapes) : "memory");
    loaded_shapes = (loaded_shapes_t){r, t, (uint8_t)lanes};
}

/* After the last product of a task: a thread that holds no tiles is switched for less. */
static inline void end_pair_products(void) {
    __asm__ volatile("tilerelease" : : : "memory");
    loaded_shapes = (loaded_shapes_t){0};
}

/* 32 x 32 sums over `chunks` of 16 pairs; rows in bytes. */
WEIR_INLINE void multiply_whole_tiles(size_t chunks, const pair_t *a, size_t a_row, const pair_t *b,
                                      size_t b_row, weir_real_t *c, size_t c_row, bool add) {
    weir_real_t *c_low = c + 16 * (c_row / sizeof *c);
    const pair_t *a_low = a + 16 * (a_row / sizeof *a);
    if (add) {
        AMX_LOAD(0, c, c_row);
        AMX_LOAD(1, c + 16, c_row);
        AMX_LOAD(2, c_low, c_row);
        AMX_LOAD(3, c_low + 16, c_row);
    } else {
        AMX_ZERO(0);
        AMX_ZERO(1);
        AMX_ZERO(2);
        AMX_ZERO(3);
    }
    for (size_t i = 0; i < chunks; i++, a += 16, a_low += 16, b += 16 * (b_row / sizeof *b)) {
        AMX_LOAD(6, b, b_row);
        AMX_LOAD(4, a, a_row);
        AMX_MULTIPLY(0, 4, 6);
        AMX_LOAD(7, b + 16, b_row);
        AMX_MULTIPLY(1, 4, 7);
        AMX_LOAD(5, a_low, a_row);
        AMX_MULTIPLY(2, 5, 6);
        AMX_MULTIPLY(3, 5, 7);
    }
    AMX_STORE(0, c, c_row);
    AMX_STORE(1, c + 16, c_row);
    AMX_STORE(2, c_low, c_row);
    AMX_STORE(3, c_low + 16, c_row);
}

/* At most 16 rows and one or two vectors, as the shapes say; rows in bytes. */
WEIR_INLINE void multiply_tiles(size_t vectors, size_t chunks, size_t tail, const pair_t *a,
                                size_t a_row, const pair_t *b, size_t b_row, weir_real_t *c,
                                size_t c_row, bool add) {
    size_t last = vectors == 2 ? 16 : 0;
    if (add && vectors == 2) {
        AMX_LOAD(0, c, c_row);
    } else if (vectors == 2) {
        AMX_ZERO(0);
    }
    if (add) {
        AMX_LOAD(1, c + last, c_row);
    } else {
        AMX_ZERO(1);
    }
    for (size_t i = 0; i < chunks; i++, a += 16, b += 16 * (b_row / sizeof *b)) {
        AMX_LOAD(2, a, a_row);
        if (vectors == 2) {
            AMX_LOAD(3, b, b_row);
            AMX_MULTIPLY(0, 2, 3);
        }
        AMX_LOAD(4, b + last, b_row);
        AMX_MULTIPLY(1, 2, 4);
    }
    if (tail > 0) {
        AMX_LOAD(5, a, a_row);
        if (vectors == 2) {
            AMX_LOAD(6, b, b_row);
            AMX_MULTIPLY(0, 5, 6);
        }
        AMX_LOAD(7, b + last, b_row);
        AMX_MULTIPLY(1, 5, 7);
    }
    if (vectors == 2) {
        AMX_STORE(0, c, c_row);
    }
    AMX_STORE(1, c + last, c_row);
}

/* C (rows x vectors * LANES) = or += A B, `depth` in pairs. Rows of A, B and C are a_row, b_row and
 * c_row apart; a_step is 1. Of the last vector of C the lanes in `kept`, the lowest some, are read
 * and written when `masked`. */
WEIR_INLINE void multiply_pair_panel(size_t rows, size_t vectors, size_t depth, const pair_t *a,
                                     size_t a_row, size_t a_step, const pair_t *b, size_t b_row,
                                     weir_real_t *c, size_t c_row, bool add, bool masked,
                                     __mmask16 kept) {
    (void)a_step;
    size_t chunks = depth / 16, tail = depth % 16;
    size_t lanes = masked ? (size_t)__builtin_popcount(kept) : 16;
    size_t a_bytes = a_row * sizeof *a, b_bytes = b_row * sizeof *b, c_bytes = c_row * sizeof *c;
    if (vectors == 2 && tail == 0 && lanes == 16 && rows >= 32) {
        load_shapes(16, 16, 16);
        for (; rows >= 32; rows -= 32, a += 32 * a_row, c += 32 * c_row) {
            multiply_whole_tiles(chunks, a, a_bytes, b, b_bytes, c, c_bytes, add);
        }
    }
    while (rows > 0) {
        size_t height = rows < 16 ? rows : 16;
        load_shapes(height, tail > 0 ? tail : 16, lanes);
        multiply_tiles(vectors, chunks, tail, a, a_bytes, b, b_bytes, c, c_bytes, add);
        rows -= height;
        a += height * a_row;
        c += height * c_row;
    }
}

#endif
