/* AMX where there is none: tests that link this file run worker/bf16_*.c as they are compiled for
 * AMX, and each instruction that the processor refuses (SIGILL) is carried out here, with its
 * checks, as Intel's Software Developer's Manual, volume 2, describes it. Memory is read and
 * written by ordinary C, so that sanitizers see it.
 *
 * It stands in for worker/amx.c. Where that says that the processor has AMX, nothing is emulated.
 */
#include "worker/amx.h"

bool processor_permits_amx(void);
#define weir_amx_permitted processor_permits_amx
#include "worker/amx.c" /* NOLINT(bugprone-suspicious-include) */
#undef weir_amx_permitted

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

enum { TILES = 8, ROWS = 16, ROW_BYTES = 64 };

typedef struct {
    uint8_t bytes[ROWS][ROW_BYTES];
    size_t rows, row_bytes;
} amx_tile_t;

/* Of a thread; the handler runs on the one that trapped. */
static _Thread_local amx_tile_t tiles[TILES];
static _Thread_local bool configured;

typedef struct {
    unsigned prefix, opcode, reg, rm, v; /* prefix: 0 none, 1 66, 2 F3, 3 F2 */
    bool of_memory;
    uint8_t *base; /* of memory: base + displacement */
    int64_t stride;
    size_t size; /* of the instruction */
} instruction_t;

static void refuse(const char *why) {
    (void)fprintf(stderr, "AMX emulator: %s\n", why);
    abort();
}

static void demand(bool what, const char *why) {
    if (!what) {
        refuse(why);
    }
}

static int64_t general_register(const ucontext_t *context, unsigned number) {
    static const int order[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                REG_R12, REG_R13, REG_R14, REG_R15};
    return context->uc_mcontext.gregs[order[number]];
}

/* ModRM, SIB and displacement of an address. */
static void read_address(const ucontext_t *context, const uint8_t *at, unsigned index_high,
                         unsigned base_high, instruction_t *in) {
    unsigned mode = at[0] >> 6, rm = at[0] & 7u, base = rm;
    size_t used = 1;
    bool has_base = true;
    in->stride = 0;
    if (rm == 4) {
        unsigned scale = at[1] >> 6, index = (at[1] >> 3 & 7u) | index_high;
        base = at[1] & 7u;
        in->stride = index == 4 ? 0 : general_register(context, index) * (int64_t)(1u << scale);
        used = 2;
        has_base = !(base == 5 && mode == 0);
    } else if (rm == 5 && mode == 0) {
        has_base = false;
    }
    int32_t displacement = 0;
    if (mode == 1) {
        displacement = (int8_t)at[used];
        used += 1;
    } else if (mode == 2 || !has_base) {
        memcpy(&displacement, at + used, sizeof displacement);
        used += sizeof displacement;
    }
    in->size += used;
    int64_t from = has_base ? general_register(context, base | base_high) : 0;
    if (rm == 5 && mode == 0) { /* of the next instruction */
        from = context->uc_mcontext.gregs[REG_RIP] + (int64_t)in->size;
    }
    in->base = (uint8_t *)(uintptr_t)(from + displacement); /* NOLINT(performance-no-int-to-ptr) */
}

/* A three-byte VEX prefix, map 0F38, 128 bits, W0: all that AMX's instructions here have. */
static bool decode(const ucontext_t *context, instruction_t *in) {
    const uint8_t *at = (const uint8_t *)(uintptr_t) /* NOLINT(performance-no-int-to-ptr) */
                        context->uc_mcontext.gregs[REG_RIP];
    if (at[0] != 0xC4 || (at[1] & 0x1Fu) != 2 || (at[2] & 0x84u) != 0) {
        return false;
    }
    *in =
        (instruction_t){.prefix = at[2] & 3u, .opcode = at[3], .v = ~(at[2] >> 3) & 15u, .size = 4};
    unsigned high_index = (at[1] & 0x40u) == 0 ? 8 : 0, high_base = (at[1] & 0x20u) == 0 ? 8 : 0;
    in->reg = at[4] >> 3 & 7u;
    in->rm = at[4] & 7u;
    in->of_memory = at[4] >> 6 != 3;
    if (in->of_memory) {
        read_address(context, at + 4, high_index, high_base, in);
    } else {
        in->size++;
    }
    return in->opcode == 0x49 || in->opcode == 0x4B || in->opcode == 0x5C;
}

static void configure(const uint8_t *from) {
    demand(from[0] == 1, "a palette that is not 1");
    for (size_t i = 1; i < 16; i++) {
        demand(from[i] == 0, "a start row, or reserved bytes that are not zero");
    }
    for (size_t t = 0; t < 16; t++) {
        uint16_t row_bytes;
        memcpy(&row_bytes, from + 16 + 2 * t, sizeof row_bytes);
        uint8_t rows = from[48 + t];
        demand(t < TILES || (row_bytes == 0 && rows == 0), "a shape of no tile");
        demand(row_bytes <= ROW_BYTES && rows <= ROWS && (row_bytes == 0) == (rows == 0),
               "a shape that no tile can have");
        if (t < TILES) {
            tiles[t] = (amx_tile_t){.rows = rows, .row_bytes = row_bytes};
        }
    }
    configured = true;
}

static amx_tile_t *tile_of(unsigned number) {
    demand(configured, "no shapes are loaded");
    demand(number < TILES && tiles[number].rows > 0, "a tile without a shape");
    return &tiles[number];
}

static void load(const instruction_t *in) {
    amx_tile_t *tile = tile_of(in->reg);
    memset(tile->bytes, 0, sizeof tile->bytes);
    for (size_t r = 0; r < tile->rows; r++) {
        memcpy(tile->bytes[r], in->base + (int64_t)r * in->stride, tile->row_bytes);
    }
}

static void store(const instruction_t *in) {
    const amx_tile_t *tile = tile_of(in->reg);
    for (size_t r = 0; r < tile->rows; r++) {
        memcpy(in->base + (int64_t)r * in->stride, tile->bytes[r], tile->row_bytes);
    }
}

static float flushed(float x) {
    return fpclassify(x) == FP_SUBNORMAL ? 0.0F : x;
}

/* Number `which` of pair `pair`. */
static float number_of(const amx_tile_t *tile, size_t row, size_t pair, size_t which) {
    uint16_t half;
    memcpy(&half, &tile->bytes[row][4 * pair + 2 * which], sizeof half);
    uint32_t bits = (uint32_t)half << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return flushed(x);
}

/* TDPBF16PS: the sums of even and of odd depth apart, then one to the other, then both to C. */
static void multiply(const instruction_t *in) {
    amx_tile_t *c = tile_of(in->reg);
    const amx_tile_t *a = tile_of(in->rm), *b = tile_of(in->v);
    demand(c != a && c != b && a != b, "one tile twice");
    demand(c->rows == a->rows && c->row_bytes == b->row_bytes && a->row_bytes / 4 == b->rows &&
               a->row_bytes % 4 == 0 && b->row_bytes % 4 == 0,
           "shapes that do not fit");
    for (size_t m = 0; m < c->rows; m++) {
        for (size_t n = 0; n < c->row_bytes / 4; n++) {
            float even = 0.0F, odd = 0.0F, sum;
            for (size_t k = 0; k < b->rows; k++) {
                even = flushed(fmaf(number_of(a, m, k, 0), number_of(b, k, n, 0), even));
                odd = flushed(fmaf(number_of(a, m, k, 1), number_of(b, k, n, 1), odd));
            }
            memcpy(&sum, &c->bytes[m][4 * n], sizeof sum);
            sum = flushed(flushed(sum) + flushed(even + odd));
            memcpy(&c->bytes[m][4 * n], &sum, sizeof sum);
        }
    }
}

static void release(void) {
    memset(tiles, 0, sizeof tiles);
    configured = false;
}

static bool carry_out(const instruction_t *in) {
    enum { NONE, P66, PF3, PF2 };
    if (in->opcode == 0x49 && in->prefix == NONE && in->of_memory) {
        configure(in->base);
    } else if (in->opcode == 0x49 && in->prefix == NONE) {
        release();
    } else if (in->opcode == 0x49 && in->prefix == PF2 && !in->of_memory) {
        memset(tile_of(in->reg)->bytes, 0, ROWS * ROW_BYTES);
    } else if (in->opcode == 0x4B && in->prefix == PF2 && in->of_memory) {
        load(in);
    } else if (in->opcode == 0x4B && in->prefix == PF3 && in->of_memory) {
        store(in);
    } else if (in->opcode == 0x5C && in->prefix == PF3 && !in->of_memory) {
        multiply(in);
    } else {
        return false;
    }
    return true;
}

static void on_illegal(int signal, siginfo_t *info, void *argument) {
    (void)signal;
    (void)info;
    ucontext_t *context = argument;
    instruction_t in;
    if (!decode(context, &in) || !carry_out(&in)) {
        refuse("an instruction that it does not know");
    }
    context->uc_mcontext.gregs[REG_RIP] += (greg_t)in.size;
}

static void check_released(void) {
    demand(!configured, "the program ends with tiles in use");
}

static void install(void) {
    if (processor_permits_amx()) {
        return;
    }
    struct sigaction action = {.sa_flags = SA_SIGINFO | SA_NODEFER};
    action.sa_sigaction = on_illegal;
    (void)sigemptyset(&action.sa_mask);
    demand(sigaction(SIGILL, &action, NULL) == 0, "no handler of SIGILL");
    demand(atexit(check_released) == 0, "no handler at the end");
}

bool weir_amx_permitted(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, install);
    return true;
}
