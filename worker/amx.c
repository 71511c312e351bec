/* Compiled on every platform; false where the kernel or the compiler knows nothing of AMX. */
#include "worker/amx.h"

#if defined(__x86_64__) && defined(__linux__)

#include <cpuid.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Of Linux 5.16 on; asm/prctl.h of older headers lacks it. */
enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };

static bool permitted;

static void ask(void) {
    enum { BF16 = 1 << 22, TILE = 1 << 24 };
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & BF16) == 0 || (d & TILE) == 0) {
        return;
    }
    permitted = syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}

bool weir_amx_permitted(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, ask);
    return permitted;
}

#else

bool weir_amx_permitted(void) {
    return false;
}

#endif
