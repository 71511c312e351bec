#include "common/run_dir.h"

#include "common/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { OWNER_MAX = 256 };

/* Whom to name: the text that the owner wrote into RUN/lock. */
static weir_err_t refuse_locked(int fd, const char *run, weir_error_t *error) {
    char text[OWNER_MAX], owner[OWNER_MAX];
    ssize_t length = pread(fd, text, sizeof text - 1, 0);
    text[length < 0 ? 0 : length] = '\0';
    text[strcspn(text, "\n")] = '\0';
    weir_file_printable(text, owner, sizeof owner);
    (void)weir_errorf(error, WEIR_ERR_EXISTS, "run '%s' belongs to a job that is running (%s)", run,
                      owner[0] == '\0' ? "it has not said which" : owner);
    weir_error_hint(
        error, "wait for it, stop it with `weir ctl --run %s stop`, or give another --run", run);
    return WEIR_ERR_EXISTS;
}

static weir_err_t write_owner(int fd, const char *path, weir_error_t *error) {
    char host[64], started[32], text[OWNER_MAX];
    struct tm utc;
    time_t now = time(NULL);
    if (gethostname(host, sizeof host) != 0) {
        (void)snprintf(host, sizeof host, "unknown");
    }
    host[sizeof host - 1] = '\0';
    if (gmtime_r(&now, &utc) == NULL ||
        strftime(started, sizeof started, "%Y-%m-%dT%H:%M:%SZ", &utc) == 0) {
        (void)snprintf(started, sizeof started, "unknown");
    }
    int length =
        snprintf(text, sizeof text, "host %s pid %ld since %s\n", host, (long)getpid(), started);
    if (ftruncate(fd, 0) != 0) {
        return weir_error_from_errno(error, errno, "write '%s'", path);
    }
    return weir_file_write_all(fd, text, (size_t)length, path, error);
}

static weir_err_t take_lock(int fd, const char *run, const char *path, weir_error_t *error) {
    /* Of the open file, not of the process: a second acquire in one process is refused too, and an
     * unrelated close of the file does not give the lock away. */
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_OFD_SETLK, &whole) == 0) {
        return WEIR_OK;
    }
    if (errno == EAGAIN || errno == EACCES) {
        return refuse_locked(fd, run, error);
    }
    return weir_error_from_errno(error, errno, "lock '%s'", path);
}

static bool holds(const char *run, const char *name) {
    char path[WEIR_PATH_MAX];
    return weir_path_join(path, sizeof path, run, name, NULL) == WEIR_OK && weir_file_exists(path);
}

weir_err_t weir_run_dir_acquire(const char *run, bool resume, weir_run_lock_t *lock,
                                weir_error_t *error) {
    char path[WEIR_PATH_MAX];
    int fd = -1;
    weir_err_t status = weir_path_join(path, sizeof path, run, "lock", error);
    if (status == WEIR_OK) {
        status = weir_file_make_directories(run, error);
    }
    if (status != WEIR_OK) {
        return status;
    }
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0) {
        return weir_error_from_errno(error, errno, "open '%s'", path);
    }
    status = take_lock(fd, run, path, error);
    /* Under the lock, so that of two jobs that start at once only one finds the folder empty. */
    if (status == WEIR_OK && !resume && (holds(run, "config.yaml") || holds(run, "checkpoints"))) {
        status = weir_errorf(error, WEIR_ERR_EXISTS, "'%s' holds a run already", run);
        weir_error_hint(error, "--resume continues it; another --run starts a new one");
    }
    if (status == WEIR_OK) {
        status = write_owner(fd, path, error);
    }
    if (status != WEIR_OK) {
        (void)close(fd);
        return status;
    }
    lock->fd = fd;
    return WEIR_OK;
}

bool weir_run_dir_is_free(const char *run) {
    char path[WEIR_PATH_MAX];
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd = weir_path_join(path, sizeof path, run, "lock", NULL) == WEIR_OK
                 ? open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW)
                 : -1;
    if (fd < 0) {
        return false;
    }
    bool free_now = fcntl(fd, F_OFD_GETLK, &whole) == 0 && whole.l_type == F_UNLCK;
    (void)close(fd);
    return free_now;
}

void weir_run_dir_release(const char *run, weir_run_lock_t *lock) {
    (void)run;
    if (lock->fd >= 0) {
        /* The file stays, empty: removing it would let two jobs lock two files of one name. */
        (void)!ftruncate(lock->fd, 0);
        (void)close(lock->fd);
        lock->fd = -1;
    }
}
