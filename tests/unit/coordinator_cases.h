/* A coordinator without processes, sockets and disks: what it sends is kept, ranks and ctl are
 * messages, checkpoints are counted. */
#ifndef WEIR_TESTS_COORDINATOR_CASES_H
#define WEIR_TESTS_COORDINATOR_CASES_H

#include "coordinator/coordinator.h"
#include "proto/control_client.h"
#include "proto/envelope.h"

typedef Weir__Control__Envelope envelope_t;

enum { JOB = 77, PS = 2, WORKERS = 2, LEAD = 1 + PS, RANKS = 1 + PS + WORKERS, MAX_SENT = 256 };

/* What the coordinator sent, in order. */
typedef struct {
    weir_identity_t to;
    envelope_t *envelope;
} sent_t;

typedef struct {
    weir_coordinator_t *coordinator;
    sent_t sent[MAX_SENT];
    size_t count;
    size_t begun, published, abandoned;
    bool begin_fails, publish_fails, best;
    uint64_t published_step;
    size_t published_files;
    char first_file[WEIR_CHECKPOINT_NAME_MAX], metrics[64];
    double now;
} world_t;

extern world_t world;

/* Kinds of messages, for case_count_sent. */
enum {
    BEGIN = WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_BEGIN,
    DONE = WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_DONE,
    REQUEST = WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_REQUEST,
    STATUS = WEIR__CONTROL__ENVELOPE__BODY_STATUS,
    STOP = WEIR__CONTROL__ENVELOPE__BODY_STOP,
    REPLY = WEIR__CONTROL__ENVELOPE__BODY_REPLY
};

/* A fresh coordinator of PS servers and WORKERS workers, and its end. */
void coordinator_case_set_up(void);
void coordinator_case_tear_down(void);

weir_identity_t case_identity(const char *text);
/* A message from anyone, or from a rank of the job. */
void case_say_as(const char *who, uint64_t job, envelope_t *envelope);
void case_say(uint32_t rank, envelope_t *envelope);

void case_join(uint32_t rank);
void case_join_all(void);
void case_beat(uint32_t rank, uint64_t step, Weir__Control__Phase phase);
void case_request_as(const char *who, uint64_t job, uint64_t step, bool best, bool no_wait);
/* A request of worker 0. */
void case_request(uint64_t step, bool best);
/* What a rank wrote for a checkpoint, or why it failed (NULL: it did not). */
void case_report(uint32_t rank, uint64_t step, const char *failure);
void case_stop_as(const char *who, uint64_t job, bool save, bool done, const char *why);

/* How many messages of a kind went to a peer since the last forget; the last of them. */
size_t case_count_sent(const char *who, int body_case, const envelope_t **last);
void case_forget_sent(void);
/* Messages that were refused so far. */
uint64_t case_refused(void);

#endif
