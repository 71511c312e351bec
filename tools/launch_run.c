#include "tools/launch_run.h"

#include "common/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 4096, LOOK_MS = 50 };

/* Seconds that a job which was told to end has for it before it is killed: mpirun needs a few to
 * end ranks that do not react. */
#define END_SECONDS 20.0

/* Seconds between two requests to save and stop. */
#define ASK_SECONDS 1.0

/* Set before the handlers are; read by them. */
static volatile sig_atomic_t child;
static volatile sig_atomic_t signals_passed;
static volatile sig_atomic_t first_signal;
static volatile sig_atomic_t asked_by; /* what first_signal stood for */

static void pass_on(int signal_number) {
    int saved = errno;
    asked_by = asked_by != 0 ? asked_by : signal_number;
    signals_passed = signals_passed + 1;
    if (child > 0) { /* mpirun forwards SIGUSR1 to all ranks, and ends them on SIGTERM */
        (void)kill(signals_passed >= 3 ? -child : child, signals_passed == 1   ? first_signal
                                                         : signals_passed == 2 ? SIGTERM
                                                                               : SIGKILL);
    }
    errno = saved;
}

static const int passed_signals[] = {SIGINT, SIGTERM, SIGUSR1, SIGHUP};

/* A SIGHUP that the caller ignores (nohup) stays ignored. */
static void install_handlers(void) {
    struct sigaction action = {.sa_handler = pass_on}, old;
    (void)sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof passed_signals / sizeof passed_signals[0]; i++) {
        int number = passed_signals[i];
        if (number != SIGHUP || (sigaction(number, NULL, &old) == 0 && old.sa_handler != SIG_IGN)) {
            (void)sigaction(number, &action, NULL);
        }
    }
}

int weir_launch_asked_by(void) {
    return asked_by;
}

void weir_launch_pause(double seconds) {
    double end = weir_clock_seconds() + seconds;
    while (signals_passed == 0 && weir_clock_seconds() < end) {
        weir_clock_sleep(0.02);
    }
}

/* ---- what the job writes to standard error ---- */

typedef struct {
    const weir_launch_t *launch;
    int fd; /* read end; -1: nobody listens, or it has ended */
    char line[LINE_MAX_BYTES];
    size_t size;
} errors_t;

static void take_bytes(errors_t *errors, const char *bytes, size_t size) {
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != '\n' && errors->size + 1 < sizeof errors->line) {
            errors->line[errors->size++] = bytes[i];
        } else if (bytes[i] == '\n') {
            errors->line[errors->size] = '\0';
            errors->launch->hear(errors->launch->argument, errors->line);
            errors->size = 0;
        }
    }
}

static void pass_bytes(const char *bytes, size_t size) {
    while (size > 0) {
        ssize_t written = write(STDERR_FILENO, bytes, size);
        if (written < 0 && errno != EINTR) {
            return; /* nobody reads ours */
        }
        bytes += written > 0 ? written : 0;
        size -= written > 0 ? (size_t)written : 0;
    }
}

/* All that is there, waiting up to `milliseconds` for the first of it. */
static void read_errors(errors_t *errors, int milliseconds) {
    struct pollfd poll_fd = {.fd = errors->fd, .events = POLLIN};
    char bytes[8192];
    while (poll(&poll_fd, 1, milliseconds) > 0) {
        ssize_t size = read(errors->fd, bytes, sizeof bytes);
        if (size == 0 || (size < 0 && errno != EINTR && errno != EAGAIN)) {
            (void)close(errors->fd);
            errors->fd = poll_fd.fd = -1;
        } else if (size > 0) {
            pass_bytes(bytes, (size_t)size);
            take_bytes(errors, bytes, (size_t)size);
        }
        milliseconds = 0;
    }
}

/* ---- the job ---- */

/* The child: a group of its own, so that a Ctrl-C on the terminal reaches us alone. */
static _Noreturn void become_line(char *const *words, const sigset_t *mask, pid_t parent,
                                  int errors) {
    (void)setpgid(0, 0);
    /* When we are killed outright the job ends, rather than going on with nobody watching. */
    if (prctl(PR_SET_PDEATHSIG, SIGTERM) != 0 || getppid() != parent) {
        _exit(127);
    }
    int null = open("/dev/null", O_RDONLY);
    if (null >= 0) {
        (void)dup2(null, STDIN_FILENO);
    }
    if (errors >= 0) {
        (void)dup2(errors, STDERR_FILENO);
    }
    (void)sigprocmask(SIG_SETMASK, mask, NULL);
    (void)execvp(words[0], words);
    (void)fprintf(stderr, "weir: cannot run %s: %s\n", words[0], strerror(errno));
    _exit(127);
}

/* With the signals held back: a child to pass them on to and a handler that does. */
static weir_err_t start(char *const *words, errors_t *errors, const sigset_t *before,
                        weir_error_t *error) {
    pid_t own = getpid(), pid;
    int ends[2] = {-1, -1};
    if (errors->launch->hear != NULL && pipe2(ends, O_CLOEXEC) != 0) {
        return weir_error_from_errno(error, errno, "cannot make a pipe");
    }
    (void)fflush(NULL);
    pid = fork();
    if (pid == 0) {
        become_line(words, before, own, ends[1]);
    }
    weir_err_t err =
        pid < 0 ? weir_error_from_errno(error, errno, "cannot start a process") : WEIR_OK;
    if (ends[1] >= 0) {
        (void)close(ends[1]);
    }
    if (err != WEIR_OK && ends[0] >= 0) {
        (void)close(ends[0]);
        ends[0] = -1;
    }
    errors->fd = ends[0];
    if (err == WEIR_OK) {
        (void)setpgid(pid, pid);
        child = pid;
        install_handlers();
    }
    return err;
}

/* What tick wished becomes what a signal would have done. */
static void follow_wish(weir_launch_wish_t wish, weir_launch_end_t *end, double *ended) {
    double now = weir_clock_seconds();
    if (wish == WEIR_LAUNCH_END && *ended == 0.0) {
        (void)kill(child, SIGTERM);
        *ended = now;
    }
    if (*ended > 0.0 && now - *ended > END_SECONDS) {
        (void)kill(-child, SIGKILL);
    }
    end->wished = end->wished || wish != WEIR_LAUNCH_GO_ON;
}

/* A request to save and stop is lost when mpirun has no ranks yet to pass it on to: ask again until
 * the job ends. For ranks that know, it changes nothing. */
static void ask_again(const weir_launch_end_t *end, double *asked) {
    double now = weir_clock_seconds();
    if ((signals_passed == 1 || (signals_passed == 0 && end->wished)) &&
        now - *asked > ASK_SECONDS) {
        (void)kill(child, first_signal);
        *asked = now;
    }
}

weir_err_t weir_launch_run(char *const *words, const weir_launch_t *launch, weir_launch_end_t *end,
                           weir_error_t *error) {
    int status = 0;
    pid_t done = 0;
    double ended = 0.0, asked = 0.0;
    sigset_t passed, before;
    errors_t errors = {.launch = launch, .fd = -1};
    (void)sigemptyset(&passed);
    for (size_t i = 0; i < sizeof passed_signals / sizeof passed_signals[0]; i++) {
        (void)sigaddset(&passed, passed_signals[i]);
    }
    (void)sigprocmask(SIG_BLOCK, &passed, &before);
    *end = (weir_launch_end_t){.asked = signals_passed > 0, .begun = signals_passed == 0};
    first_signal = launch->saves ? SIGUSR1 : SIGTERM;
    weir_err_t err = !end->begun ? WEIR_OK : start(words, &errors, &before, error);
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    if (err != WEIR_OK || !end->begun) {
        return err;
    }
    while (done == 0 || (done < 0 && errno == EINTR)) {
        read_errors(&errors, LOOK_MS);
        if (launch->tick != NULL) {
            follow_wish(launch->tick(launch->argument), end, &ended);
        }
        if (launch->saves) {
            ask_again(end, &asked);
        }
        done = waitpid(child, &status, WNOHANG);
    }
    child = 0;
    read_errors(&errors, 0);
    if (errors.fd >= 0) {
        (void)close(errors.fd);
    }
    end->asked = signals_passed > 0;
    end->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return done > 0 ? WEIR_OK : weir_error_from_errno(error, errno, "cannot wait for the job");
}
