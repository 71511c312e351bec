/* Requests to end, from signals: SIGINT, SIGTERM and SIGUSR1 ask for "save and stop"; SIGPIPE is
 * ignored. Handlers only set a flag. */
#ifndef WEIR_COMMON_SIGNALS_H
#define WEIR_COMMON_SIGNALS_H

#include <stdbool.h>

/* Install handlers; once, in main, before threads. */
void weir_signals_init(void);
/* The signal that asked to stop, or 0. Threads: any. */
int weir_signals_stop_requested(void);

#endif
