#include "common/signals.h"

#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>

/* A handler can reach nothing but a global; this is the only one outside the mains. */
static atomic_int stop_signal;

static void on_stop(int number) {
    /* relaxed: the flag alone is read, nothing is published with it */
    atomic_store_explicit(&stop_signal, number, memory_order_relaxed);
}

void weir_signals_init(void) {
    static const int stops[] = {SIGINT, SIGTERM, SIGUSR1};
    struct sigaction action = {.sa_handler = on_stop, .sa_flags = SA_RESTART};
    (void)sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof stops / sizeof stops[0]; i++) {
        (void)sigaction(stops[i], &action, NULL);
    }
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    (void)sigemptyset(&ignore.sa_mask);
    (void)sigaction(SIGPIPE, &ignore, NULL);
}

int weir_signals_stop_requested(void) {
    return atomic_load_explicit(&stop_signal, memory_order_relaxed);
}
