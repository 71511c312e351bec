/* Whether this process may use the tiles of AMX. */
#ifndef WEIR_WORKER_AMX_H
#define WEIR_WORKER_AMX_H

#include <stdbool.h>

/* The processor multiplies tiles of bfloat16 and the kernel lets this process, which it must be
 * asked (Linux, arch/x86/xstate.rst: ARCH_REQ_XCOMP_PERM); asked once, for all threads. Alone in
 * its file so that tests put an emulation in its place. Call: local. Threads: any. */
bool weir_amx_permitted(void);

#endif
